# Two commands: `make demo` and `make test`. Each sets up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test golden perf lint generate clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	@# Where PYTHONDONTWRITEBYTECODE is set, every start would compile everything again.
	$(BIN)/python -m compileall -q opticstream_smk snakemake_logger_plugin_optic
	$(BIN)/python -m opticstream_smk.psoct.warm_up
	touch $(STAMP)

demo: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

test: setup
	$(BIN)/python -m pytest

golden: setup
	$(BIN)/python tests/psoct/golden_table.py
	$(BIN)/python tests/registration/golden_table.py

perf: setup
	@for script in tests/perf/*.py; do \
	  echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	OPTIC_CONFIG=config/demo.yaml $(BIN)/snakemake --lint

generate: setup
	$(BIN)/optic-trigger config default > config/config.default.yaml
	$(BIN)/optic-trigger config schema > config/schema.json

clean:
	rm -rf $(VENV) demo build dist
