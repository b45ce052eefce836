# Every target does all of its own set-up; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs faults lock clean

PYTHON := .venv/bin/python
TESTS ?= tests
# Most tests wait for servers, so three files at once keep two cores busy.
AT_ONCE ?= 3
ARGS ?=

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

.venv/.ready: pyproject.toml requirements.lock scripts/bootstrap
	@scripts/bootstrap
	@touch $@

demo: .venv/.ready ## Run the reference work on an embedded Redis and show what happens (ARGS=--keep keeps it up)
	@$(PYTHON) -m demo $(ARGS)

test: .venv/.ready ## Install what tests need, then run them all on real servers
	@scripts/install-test-servers
	@$(PYTHON) -m pytest $(TESTS) -n $(AT_ONCE) --dist loadfile $(ARGS)

lint: .venv/.ready ## Format, lint, types and floors
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

faults: .venv/.ready ## Break things on purpose: one file a promise; N=5000 runs the long form
	@scripts/install-test-servers
	@$(if $(N),N=$(N)) $(PYTHON) -m pytest tests/faults --timeout=1800 $(ARGS)

bench: .venv/.ready ## Measure against plain Celery in the same run
	@scripts/install-test-servers
	@$(PYTHON) -m benchmarks $(ARGS)

docs: .venv/.ready ## Build the documentation
	@.venv/bin/zensical build

lock: .venv/.ready ## Resolve the dependencies again
	@.venv/bin/uv pip compile -q pyproject.toml --all-extras --group dev --group docs --universal \
		--generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements.lock $(ARGS)
	@.venv/bin/uv pip compile -q pyproject.toml --extra beat --extra flower --extra sentry --group image --universal \
		--constraint requirements.lock --generate-hashes --no-header --no-emit-index-url --no-annotate \
		-o requirements.image.lock

clean: ## Remove everything that was built or installed here
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .celery-platform site dist
