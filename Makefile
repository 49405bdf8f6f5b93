# Two commands for a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A tenth of the time that pip takes; pip where uv does not know the machine's package index.
INSTALL := $(BIN)/python -m uv pip install --quiet --python $(BIN)/python
INSTALL_ELSE := $(BIN)/python -m pip install --quiet
OUT ?= demo-output
# What all tests need: extras and dependency groups of pyproject.toml.
EXTRAS ?= bai,s3,landsat,job-service
GROUPS_NEEDED ?= dev benchmarks
NEEDED = $(addprefix --group ,$(GROUPS_NEEDED)) --editable '.[$(EXTRAS)]'
# Tests wait more than they compute: several times as many at once as there are cores.
WORKERS ?= $(shell expr 3 '*' $$(nproc))
# Or only these.
TESTS ?=
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup
# Toil and Calrissian, each in an environment of its own, are installed once.
export CLAIM_TEST_ENVIRONMENTS ?= $(abspath $(VENV))/runners

.PHONY: demo test test-deep test-fast test-lowest lint docs package clean

demo: $(VENV)/.installed-bai
	$(BIN)/python -m bai_example.sample $(OUT)/sample
	$(BIN)/dask-claim -- $(BIN)/python -m bai_example \
	    --pre-event $(OUT)/sample/pre.json --post-event $(OUT)/sample/post.json \
	    --output-dir $(OUT) --overwrite
	@echo
	@echo "The map:       $(OUT)/bai.tif"
	@echo "The severity:  $(OUT)/bai-severity.tif"
	@echo "The quicklook: $(OUT)/bai.png"

test: lint
	$(PYTEST) -m "not deep" $(TESTS)

# And many rounds of what those do once: stress, more examples of each property, each combination.
test-deep: lint
	$(PYTEST) --hypothesis-profile deep $(TESTS)

# Without real gateways, clusters, runners and terminals, and with fewer packages.
test-fast: $(or $(wildcard $(VENV)/.installed-test),$(VENV)/.installed-fast)
	$(PYTEST) -m "not slow and not deep" $(TESTS)

# With the lowest versions that pyproject.toml allows, in an environment of their own: what needs
# nothing but the base install.
LOWEST := $(addprefix tests/test_,claim.py names.py nothing_lost.py settings.py share_lease.py units.py)
LOWEST_PYTHON := $(VENV)/lowest/bin/python
test-lowest: | $(VENV)/.created
	$(BIN)/python -m venv $(VENV)/lowest
	$(BIN)/python -m uv pip install --quiet --python $(LOWEST_PYTHON) --editable . \
	    --resolution lowest-direct 'pytest>=8,<9.2' 'hypothesis>=6.100'
	$(LOWEST_PYTHON) -m pytest -m "not slow" $(or $(TESTS),$(LOWEST))

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(or $(wildcard $(VENV)/.installed-test),$(VENV)/.installed-docs)
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "The site: build/docs/index.html"

# What is released, in dist/, and what others' checkers say of it.
CHECK := $(VENV)/package/bin
package: | $(VENV)/.created
	rm -rf dist
	$(BIN)/python -m venv $(VENV)/package
	$(CHECK)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(CHECK)/python -m pip install --quiet --group package
	$(CHECK)/validate-pyproject pyproject.toml
	$(CHECK)/cffconvert --validate
	$(CHECK)/python -m build --outdir dist
	$(CHECK)/twine check --strict dist/*
	$(CHECK)/check-wheel-contents dist/*.whl
	$(CHECK)/pyroma --min 8 dist/*.tar.gz
	$(CHECK)/sp-repo-review .

clean:
	rm -rf $(VENV) $(OUT) dist

$(VENV)/.installed-bai: pyproject.toml | $(VENV)/.created
	$(INSTALL) --editable '.[bai]' || $(INSTALL_ELSE) --editable '.[bai]'
	@touch $@

$(VENV)/.installed-fast: EXTRAS := bai,s3
$(VENV)/.installed-fast: GROUPS_NEEDED := dev
$(VENV)/.installed-fast $(VENV)/.installed-test: pyproject.toml | $(VENV)/.created
	$(INSTALL) $(NEEDED) || { $(INSTALL_ELSE) --upgrade 'pip>=25.1' && $(INSTALL_ELSE) $(NEEDED); }
	@touch $@ $(VENV)/.installed-bai

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.created
	$(INSTALL) --group docs --editable . || \
	    { $(INSTALL_ELSE) --upgrade 'pip>=25.1' && $(INSTALL_ELSE) --group docs --editable .; }
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "dask-claim needs Python 3.10 or newer: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	@touch $@
