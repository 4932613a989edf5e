# Packages, in sets, so that a machine that only builds need not carry container engines.

DEPS_BUILD := gcc binutils make pkg-config libc6-dev git ca-certificates liblua5.4-dev lua-cjson-dev \
              libcurl4-openssl-dev libuv1-dev libsqlite3-dev libyaml-dev libmicrohttpd-dev libssl-dev zlib1g-dev libpcre2-dev \
              tzdata
DEPS_TEST  := docker.io docker-registry podman buildah runc catatonit lighttpd apache2-utils openssl openssh-client \
              busybox-static git-lfs rsync strace util-linux procps nodejs=node npm=npm python3=python3
DEPS_LINT  := clang-format clang-tidy cppcheck lua-check
DEPS_BENCH := curl nodejs=node lua5.4 lua-cjson
DEPS_COV   := lcov
DEPS_IMAGE := binutils openssh-client dpkg tar gzip
DEPS_FUZZ  := clang libclang-rt-14-dev


.PHONY: deps deps-build deps-test deps-lint deps-bench deps-cov deps-fuzz deps-image
deps: ## install what building and testing need (Debian packages; only what is missing)
	@tests/deps.sh build+test $(DEPS_BUILD) $(DEPS_TEST)

deps-build deps-test deps-lint deps-bench deps-cov deps-fuzz deps-image: deps-%:
	@tests/deps.sh $* $(DEPS_$(shell echo $* | tr a-z A-Z))
