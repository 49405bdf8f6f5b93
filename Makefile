# Two commands for a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo-output

.PHONY: demo test test-fast lint clean

demo: $(VENV)/.installed-bai
	$(BIN)/python -m bai_example.sample $(OUT)/sample
	$(BIN)/dask-claim -- $(BIN)/python -m bai_example \
	    --pre-event $(OUT)/sample/pre.json --post-event $(OUT)/sample/post.json --output-dir $(OUT)
	@echo
	@echo "The map:       $(OUT)/bai.tif"
	@echo "The quicklook: $(OUT)/bai.png"

test: lint
	$(BIN)/python -m pytest

# Without real gateways, clusters, runners and terminals.
test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OUT)

$(VENV)/.installed-bai: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable '.[bai]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable '.[bai,cwl,test,dev]'
	@touch $@ $(VENV)/.installed-bai

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "dask-claim needs Python 3.10 or newer: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
