# Every command sets itself up: the first run makes a virtual environment, later runs reuse it.
PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
PIP_FLAGS ?= --quiet --disable-pip-version-check
BIN := $(VENV)/bin
DEMO_BIN := $(DEMO_VENV)/bin
TORCH_TESTS := $(wildcard tests/unit/test_model*.py tests/unit/test_train*.py tests/integration/test_training*.py)
SETUP_FILES := setup.py pyproject.toml constraints.txt

.PHONY: demo test check lint train clean help

help:
	@echo "make demo    an INT8 engine from the demo bundle, a picture in out/demo.png, a benchmark table"
	@echo "make test    set up the development environment and run the tests"
	@echo "make check   ruff, mypy, then make test"
	@echo "make train   train a small model on rooms (python train/train.py) in the development environment"

demo: $(DEMO_VENV)/.ready
	$(DEMO_BIN)/edge-mtl demo --out out/demo.png

# Tests that train run in a process of their own, as training does in use.
test: $(VENV)/.ready
	$(BIN)/python -m pytest tests $(addprefix --ignore=,$(TORCH_TESTS))
	$(BIN)/python -m pytest $(TORCH_TESTS)

check: $(VENV)/.ready lint test

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train: $(VENV)/.ready
	$(BIN)/python train/train.py

$(VENV)/.ready: $(SETUP_FILES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	touch $@

$(DEMO_VENV)/.ready: $(SETUP_FILES)
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_BIN)/python -m pip install $(PIP_FLAGS) -e ".[demo]"
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_VENV) out .mypy_cache .ruff_cache
