# make demo | test | check | fuzz | conformance | bench | native | clean
# Each installs what it needs: Debian packages as root or with sudo, Python packages in .venv.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/ready
NATIVE := src/knarr/_native/knarr-native

ROOT := $(filter 0,$(shell id -u))
# To build; a user who has a compiler needs no headers of ours to be told about.
BUILDS := python3-venv $(if $(ROOT),gcc libc6-dev musl-tools)
# To run containers, and the demo's registry.
RUNS := $(BUILDS) uidmap slirp4netns busybox-static docker-registry curl ca-certificates $(if $(ROOT),iproute2 nftables)
# What tests start besides, and peers they compare with.
TESTS := $(sort $(RUNS) strace strace iproute2 nftables util-linux procps passt fuse-overlayfs attr crun runc runsc)
# Judges nobody here wrote.
JUDGES := podman conmon crun runc skopeo umoci buildah docker.io containerd iptables

TEST := tests/unit tests/native tests/contract tests/e2e
JOBS := 2

.PHONY: demo test check fuzz conformance bench native clean packages-build packages-run packages-test

demo: packages-run $(READY)
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" demo/demo

test: packages-test $(READY)
	@$(PY) -m pytest -n $(JOBS) --dist loadgroup $(TEST)

check: packages-test $(READY)
	@$(PY) -m ruff format --check
	@$(PY) -m ruff check
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/unit/test_layers.py
	@$(PY) native/build.py --strict build/knarr-native
	@$(PY) native/build.py --strict --compiler cc build/knarr-native-cc
	@$(PY) native/build.py --strict --sanitize build/knarr-native-sanitized
	@$(PY) native/build.py --strict --launcher build/knarr-launcher

# For SECONDS; what it finds is in build/fuzz. clang's runtime library has its version in its name.
SECONDS := 60
fuzz: packages-test $(READY)
	@tools/prepare packages clang
	@tools/prepare packages libclang-rt-$$(clang -dumpversion | cut -d. -f1)-dev
	@PYTHONPATH=src $(PY) tests/fuzz/run.py $(SECONDS)

conformance: packages-test $(READY)
	@tools/prepare packages $(JUDGES) $(if $(shell command -v go),,golang-go)
	@for module in . runtime_tools; do cd $(CURDIR)/tests/conformance/$$module && GOMODCACHE=$(CURDIR)/build/go \
		GOFLAGS=-modcacherw go mod download -json >/dev/null || exit 1; done
	@$(PY) -m pytest tests/conformance

bench: packages-test $(READY)
	@$(PY) bench/all.py

native:
	@"$$(tools/prepare python)" native/build.py --strict $(NATIVE)

packages-build:
	@tools/prepare packages $(BUILDS)

packages-run:
	@tools/prepare packages $(RUNS)

packages-test:
	@tools/prepare packages $(TESTS)

# The build hook compiles native/ into src/knarr/_native. The first command writes knarr's own bytecode, which
# PYTHONDONTWRITEBYTECODE would forbid: every start would then compile all modules.
$(READY): pyproject.toml hatch_build.py $(wildcard bin/*) $(wildcard native/*.* native/launcher/*) | packages-build
	@tools/prepare venv $(VENV) '[dev]'
	@$(PY) -m compileall -q src
	@env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/knarr --version >/dev/null
	@touch $@

clean:
	rm -rf $(VENV) build dist src/knarr/_native .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests bench demo -name __pycache__ -type d -prune -exec rm -rf {} +
