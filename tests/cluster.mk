# A Kubernetes cluster on loopback, of real parts, and the tests that need it. See tests/cluster/README.md.

# Where it runs; MOONTIDE_CLUSTER in the environment says the same to the tests.
CLUSTER ?= $(or $(MOONTIDE_CLUSTER),$(BUILD)/cluster)
export MOONTIDE_CLUSTER := $(abspath $(CLUSTER))
CLUSTER_LUA := $(OUT)/moontide exec tests/cluster.lua

DEPS_CLUSTER := etcd-server containerd runc containernetworking-plugins iptables iproute2 socat catatonit \
                openssl unzip npm=npm golang-go=go

.PHONY: deps-cluster cluster-build cluster-up cluster-down cluster-status test-cluster
deps-cluster: ## install what the cluster needs (Debian packages; only what is missing)
	@tests/deps.sh cluster $(DEPS_CLUSTER)

cluster-build: deps-build deps-cluster ## build its programs into the cache; the first time takes minutes
	@$(MAKE) -s -j$(JOBS) all
	@$(CLUSTER_LUA) build

cluster-up: cluster-build ## bring up a Kubernetes cluster on loopback (CLUSTER=DIR)
	@mkdir -p $(MOONTIDE_CLUSTER)
	@$(CLUSTER_LUA) status $(MOONTIDE_CLUSTER) || { \
	  setsid -f $(CLUSTER_LUA) serve $(MOONTIDE_CLUSTER) >$(MOONTIDE_CLUSTER)/up.log 2>&1 </dev/null; \
	  $(CLUSTER_LUA) wait $(MOONTIDE_CLUSTER); }

cluster-down: ## end it and remove its folder
	@$(MAKE) -s -j$(JOBS) all
	@$(CLUSTER_LUA) down $(MOONTIDE_CLUSTER)

cluster-status: ## say whether it is up, and where
	@$(CLUSTER_LUA) status $(MOONTIDE_CLUSTER)

# One that runs already is used and left running. When a test fails, the last words of the cluster's parts follow.
test-cluster: deps cluster-build ## the tests that need the cluster (T="cluster/lab ..." for some)
	@up=; $(CLUSTER_LUA) status $(MOONTIDE_CLUSTER) >/dev/null || up=yes; \
	trap '[ -z "$$up" ] || $(CLUSTER_LUA) down $(MOONTIDE_CLUSTER) >/dev/null' EXIT; trap 'exit 130' INT TERM HUP; \
	[ -z "$$up" ] || $(MAKE) -s cluster-up || exit 1; \
	$(OUT)/moontide exec tests/run.lua $(or $(T),cluster/) && exit 0; status=$$?; \
	$(CLUSTER_LUA) logs $(MOONTIDE_CLUSTER) >&2; exit $$status
