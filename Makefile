# Needs Python 3.11 or later and make; everything else comes into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Tests mostly wait for services, so a few more run side by side than a small machine has cores. A file's tests stay together, since they share what they start.
TEST_WORKERS ?= 3

.PHONY: help setup frameworks demo check test soak bench fuzz peers lock clean

help:  ## Say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## Make .venv with everything pinned, and nothing else
	@$(PYTHON) tools/bootstrap.py

frameworks:  ## Add torch, jax, tensorflow and ray to .venv for tests/frameworks (about 3.8 GB to download)
	@$(PYTHON) tools/bootstrap.py --frameworks

demo: setup  ## Start the embedded stack, train a model on it, show what was recorded
	@$(BIN)/runstream demo

check: setup  ## Lint, format, types (strict), layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@$(BIN)/python -m pytest -q tests/layers

test: check  ## Check, then run every test
	@$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile

bench: setup  ## Run all benchmarks (about three quarters of an hour) and publish what they say in docs/benchmarks.md
	@$(BIN)/python -m benchmarks.publish

EXECUTIONS ?= 20000
fuzz: setup  ## Search for inputs that break a promise, EXECUTIONS of each target (Linux; adds atheris to .venv)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.txt
	@$(BIN)/python -m tests.fuzz --executions $(EXECUTIONS)

FAULT_SEEDS ?= 100
soak: setup  ## Live through FAULT_SEEDS seeds of faults (100 take about 40 minutes); fails where anything is lost, doubled or wrong
	@$(BIN)/python -m benchmarks faults --seeds $(FAULT_SEEDS) --check

peers: setup  ## Measure W&B, MLflow, TensorBoard, Trackio and Aim beside ours (adds .venv-peers, 640 MB on disk), and write docs/peers.md
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.txt
	@$(BIN)/python -m benchmarks.peers

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate
lock: setup  ## Pin requirements*.in anew (needs uv; names no download host)
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) --constraints requirements.txt requirements-frameworks.in -o requirements-frameworks.txt
	$(LOCK) requirements-fuzz.in -o requirements-fuzz.txt
	$(LOCK) requirements-peers.in -o requirements-peers.txt

clean:  ## Remove .venv and caches
	rm -rf .venv .venv-peers .pytest_cache .ruff_cache .hypothesis
