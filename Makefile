# Everything a person or CI does here. A new machine needs Python 3.11 or later, gcc and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install devnet test test-long test-torch lint types imports format bench vectors sim sim-long mutants clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

devnet: install
	@$(BIN)/aitbc devnet $(ARGS)

test: install lint types imports
	$(BIN)/python -m pytest -m 'not long' -n 2 --dist worksteal -rs

test-long: install lint types imports
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What needs torch, in an environment of its own. TORCH and TORCH_PIP choose the build: where the package index has no
# build for processors alone, name PyTorch's own index of those in TORCH_PIP='--extra-index-url …'.
TORCH ?= torch>=2.6
TORCH_PIP ?=
TORCH_BIN := .venv-torch/bin
test-torch: .venv-torch/.installed
	@$(TORCH_BIN)/python -c 'import torch; print("torch", torch.__version__, "on", "a GPU" if torch.cuda.is_available() else "the processor")'
	HF_HUB_OFFLINE=1 $(TORCH_BIN)/python -m pytest tests/torch tests/contracts/test_engine.py -rs
	HF_HUB_OFFLINE=1 $(TORCH_BIN)/python bench/gpu/stable_diffusion.py --small

.venv-torch/.installed: pyproject.toml
	@test -x $(TORCH_BIN)/python || $(PYTHON) -m venv .venv-torch
	@echo "installing torch and its libraries into .venv-torch, 1 to 6 GB …"
	@$(TORCH_BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_PIP) '$(TORCH)'
	@$(TORCH_BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_PIP) --editable '.[diffusers,sentence-transformers,test]'
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

vectors: install
	$(BIN)/python tools/vectors/make_vectors.py

# SEEDS of agreement under virtual time, from SEED on: make sim SEEDS=1000; WHOLE_SEEDS of them with whole nodes,
# NETWORK_SEEDS of the network alone
SEED ?= 0
SEEDS ?= 100
WHOLE_SEEDS ?= 20
NETWORK_SEEDS ?= 5
sim: install
	$(BIN)/aitbc sim --seed $(SEED) --count $(SEEDS) $(ARGS)
	$(BIN)/aitbc sim --seed $(SEED) --count $(WHOLE_SEEDS) --whole $(ARGS)
	$(BIN)/aitbc sim --seed $(SEED) --count $(NETWORK_SEEDS) --network $(ARGS)

# as many seeds as so many MINUTES of all cores allow: make sim-long MINUTES=60
MINUTES ?= 60
sim-long: install
	$(BIN)/python tools/sim_long.py $(MINUTES)

# every mistake that is planted in the rules must be found, and by which seed; in the real host, by which story
mutants: install
	$(BIN)/python tests/simulation/mutants.py
	PYTHONPATH=tests $(BIN)/python tests/node/mutants.py

bench: install
	$(BIN)/python bench/run_all.py

clean:
	rm -rf $(VENV) .venv-torch build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
