# The image of Moontide itself, out of this machine's own Debian packages: nothing is fetched, no engine is needed.

IMAGE    ?= moontide:$(subst +,-,$(VERSION))
ROOT     := $(BUILD)/image
# Further programs inside, such as buildctl: WITH="/usr/bin/buildctl".
WITH     ?=
# Where the image goes: docker, podman, none, or what answers.
ENGINE   ?= auto

.PHONY: image
image: deps-build deps-image ## make the image (IMAGE=name:tag) and load it into docker or podman when one answers
	@$(MAKE) -s -j$(JOBS) V=release all
	@$(BUILD)/release/moontide exec config/image.lua $(WITH:%=--with %) $(ROOT)
	@$(BUILD)/release/moontide exec tests/image/archive.lua $(ROOT) $(IMAGE) $$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	  $(VERSION) $$(git log -1 --format=%ct 2>/dev/null || echo 0)
	@case "$(ENGINE)" in \
	  auto) if docker version >/dev/null 2>&1; then docker load -q -i $(ROOT)/image.tar; \
	    elif podman load -q -i $(ROOT)/image.tar 2>/dev/null; then :; \
	    else echo "$(ROOT)/image.tar: for docker load, podman load, skopeo copy or ctr images import"; fi ;; \
	  none) echo "$(ROOT)/image.tar: for docker load, podman load, skopeo copy or ctr images import" ;; \
	  *) $(ENGINE) load -q -i $(ROOT)/image.tar ;; \
	esac
