# The two commands that everybody needs: `make demo` and `make test`. Everything is installed into .venv from here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/tools/bin/uv)
# a mirror behind the site's own certificate authority is trusted as the system trusts it
export UV_SYSTEM_CERTS := 1
export UV_NATIVE_TLS := 1
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: setup demo test test-all check up down bench chaos clean lock

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@command -v uv >/dev/null 2>&1 || test -x $(VENV)/tools/bin/uv || \
	  { $(PYTHON) -m venv $(VENV)/tools && $(VENV)/tools/bin/pip install --quiet uv; }
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) --allow-existing $(VENV)
	@echo "installing the locked packages into $(VENV)"
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --editable .
	@touch $@

demo: setup
	@$(BIN)/sluice demo

test: setup
	$(BIN)/python -m pytest -n 3 --no-loadscope-reorder -m "not slow"

test-all: setup
	$(BIN)/python -m pytest -n 3 --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

up: setup
	@$(BIN)/sluice up

down: setup
	@$(BIN)/sluice down

bench: setup
	@$(BIN)/sluice bench

# KILLS, SEED: how many, and which ones; the seed that was taken is printed
chaos: setup
	@$(BIN)/python -m infra.chaos --kills $(or $(KILLS),200) $(if $(SEED),--seed $(SEED))

lock:
	$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --group dev pyproject.toml -o requirements.lock

clean:
	@test ! -x $(BIN)/sluice || $(BIN)/sluice down
	rm -rf .sluice $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
