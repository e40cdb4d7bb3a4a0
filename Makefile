# Two commands for a newcomer: `make demo` and `make test`. Both set up what they need in .venv and
# do again only what has changed.

PYTHON ?= python3
VENV   ?= .venv
BENCH  ?= .venv-bench
BIN    := $(VENV)/bin
PORT   ?= 8080
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# What the installed package is built from; Python files are read in place (an editable install).
BUILD_INPUTS := pyproject.toml constraints.txt $(shell find native -type f)

.PHONY: help demo test lint services clean

help:
	@echo "make demo          import a model, train a router on English, score it in every language, serve it"
	@echo "make test          everything that must hold before a change lands"
	@echo "make test-integrations   what needs others' packages: $(INTEGRATIONS); -SUITE for one"
	@echo "make services      what tests start for themselves (Redis, ...), from Debian's packages; root"
	@echo "make lint          style, types and floors alone"
	@echo "make clean         remove what the other targets made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(BUILD_INPUTS)
	@echo "installing xlmr (the native engine is compiled once, about a minute)"
	$(PIP) --editable '.[fit]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "installing what the tests need"
	$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/python examples/support/demo.py --port $(PORT) $(if $(DEMO_EXIT),--exit)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: services lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# `make test` calls it: a moment where all is there. Without root it says what to install.
services:
	@bash tests/services.sh

clean:
	rm -rf build .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)

# Ours beside the peers, in one run; writes docs/performance.md. Give it a quiet machine.
.PHONY: bench
$(BENCH)/.installed: $(BUILD_INPUTS)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt '.[peers,bench,servers]'
	@touch $@
bench: $(BENCH)/.installed
	$(BENCH)/bin/python benchmarks/engine.py $(BENCH_OPTIONS)

# Our server beside infinity and a plain FastAPI one; writes docs/serving-performance.md.
.PHONY: bench-serve
$(BENCH)-infinity/.installed: benchmarks/servers/infinity.txt
	$(PYTHON) -m venv $(BENCH)-infinity
	$(BENCH)-infinity/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@
bench-serve: $(BENCH)/.installed $(BENCH)-infinity/.installed
	$(BENCH)/bin/python benchmarks/serve.py --infinity $(BENCH)-infinity/bin/infinity_emb $(BENCH_OPTIONS)

# For work on the engine: rebuilds it in place; its own tests under sanitizers; the same on Arm, which
# needs `apt-get install g++-aarch64-linux-gnu qemu-user`.
.PHONY: native native-test native-arm
native-test: $(VENV)/.dev
	$(BIN)/python -m pytest tests/native
native-arm: $(VENV)/.dev
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S native -B build/native-tests/aarch64 -DXLMR_NATIVE_TESTS=ON \
	  -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/native/toolchains/aarch64-linux-gnu.cmake
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/native-tests/aarch64 --parallel 2
	PATH="$(CURDIR)/$(BIN):$$PATH" ctest --test-dir build/native-tests/aarch64 --output-on-failure
native: $(VENV)/.dev
	$(PIP) --no-build-isolation --no-deps --editable .

# The gRPC contracts as the server reads them; a test holds them against the sources.
.PHONY: protos
PROTO := src/xlmr/serving/grpc/proto
protos: $(VENV)/.dev
	$(BIN)/python -m grpc_tools.protoc -I $(PROTO) --descriptor_set_out=$(PROTO)/descriptors.binpb $(PROTO)/*.proto

# What needs other people's packages: a suite for each, in a virtual environment of its own with the
# versions of its requirements.txt, against the package as it would be installed.
.PHONY: test-integrations
APART        := build/integrations
INTEGRATIONS := $(patsubst tests/integrations/%/requirements.txt,%,$(wildcard tests/integrations/*/requirements.txt))

test-integrations: $(INTEGRATIONS:%=test-integrations-%)

$(APART)/wheel/.built: $(VENV)/.dev $(BUILD_INPUTS) $(shell find src -name '*.py')
	rm -rf $(APART)/wheel
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation \
	  --config-settings build-dir=$(APART)/native --wheel-dir $(APART)/wheel .
	@touch $@

.SECONDARY:
$(APART)/%/.installed: tests/integrations/%/requirements.txt
	rm -rf $(APART)/$*
	$(PYTHON) -m venv $(APART)/$*
	$(APART)/$*/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

test-integrations-%: $(APART)/%/.installed $(APART)/wheel/.built
	@echo "integration: $*"
	$(APART)/$*/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --force-reinstall \
	  $(APART)/wheel/xlmr-*.whl
	$(APART)/$*/bin/python -m pytest tests/integrations/$* -o filterwarnings=default
