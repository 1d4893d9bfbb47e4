# GNU make 3.81 and any POSIX shell will do. `make` alone lists what there is.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-dev demo test bench bench-quick chaos serve lint format lock clean

# Another Python's settings would shadow the packages of .venv.
unexport PYTHONHOME
unexport PYTHONPATH

python := .venv/bin/python
in_backend := cd apps/backend && ../../.venv/bin
uv_version := 0.13.9
uv_compile := ../../.venv/uv/bin/python -m uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --group build

help:  ## this list
	@echo 'Tribi. First: make demo'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup:  ## .venv with what runs Tribi; PYTHON=python3.12 chooses the Python
	@scripts/setup.sh runtime

setup-dev:  ## the same and what tests it
	@scripts/setup.sh dev

demo: setup  ## one paid order becomes one eSIM, on this machine, without an account or money
	@$(python) -m app.demo $(ARGS)

test: lint  ## lint, all tests, and those of the database once more through PgBouncer; ARGS="-k connected_you" chooses
	@scripts/system_packages.sh
	@scripts/test.sh $(ARGS)

bench: setup-dev  ## measures every target of performance beside its yardstick, and writes docs/performance.md: ten minutes on a quiet machine
	@scripts/system_packages.sh bench
	@$(in_backend)/python -m tests.bench $(ARGS)

bench-quick: setup-dev  ## some of it within two minutes: what got worse since docs/performance.md
	@scripts/system_packages.sh bench
	@$(in_backend)/python -m tests.bench --quick $(ARGS)

chaos: setup-dev  ## the proof of the promise, for hours; alone it lists the runs; RUN=G2 N=100 SEED=7
	@$(in_backend)/python -m tests.chaos $(RUN) $(if $(N),--n $(N)) $(if $(SEED),--seed $(SEED)) $(if $(FIRST),--first $(FIRST))

serve: setup  ## API, pages and background jobs; ARGS="--port 8001"
	@.venv/bin/tribi serve $(ARGS)

lint: setup-dev  ## ruff, mypy, import rules
	@echo '==> ruff check'
	@$(in_backend)/python -m ruff check . ../../scripts
	@echo '==> ruff format --check'
	@$(in_backend)/python -m ruff format --check . ../../scripts
	@echo '==> mypy'
	@$(in_backend)/python -m mypy
	@echo '==> lint-imports'
	@$(in_backend)/lint-imports

format: setup-dev  ## what ruff can put right by itself
	@$(in_backend)/python -m ruff check --fix-only . ../../scripts
	@$(in_backend)/python -m ruff format . ../../scripts

lock: setup  ## make requirements/*.txt from pyproject.toml; ARGS=--upgrade takes newer versions
	@test -x .venv/uv/bin/uv || { $(python) -m venv .venv/uv && .venv/uv/bin/python -m pip install --quiet uv==$(uv_version); }
	@echo '==> requirements/runtime.txt'
	@cd apps/backend && $(uv_compile) --output-file requirements/runtime.txt $(ARGS)
	@echo '==> requirements/dev.txt'
	@cd apps/backend && $(uv_compile) --group dev --constraint requirements/runtime.txt --output-file requirements/dev.txt $(ARGS)

clean:  ## remove .venv and caches; the embedded database (apps/backend/.data) stays
	@rm -rf .venv
	@find . \( -name .git -o -name .data \) -prune -o -type d \( -name __pycache__ -o -name .mypy_cache -o -name .pytest_cache \
		-o -name .ruff_cache -o -name .hypothesis -o -name .import_linter_cache \) -prune -exec rm -rf {} +
