# make demo      everything masc does, on one example: at most ten minutes once the packages are in
# make test      lint, types and the whole test suite
# make generated all that follows from declarations: pages and tables of the documents, words of editors (also: make docs)
# make goldens   the plans in tests/goldens, as they are compiled now
# make site     the documents as a site, build/site (then: python -m http.server -d build/site)
# make editors   the extension for VS Code, as a .vsix (needs node)
# The environment .venv is made on first use, with the versions that were tested (constraints.txt).

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
MODEL := smollm2-135m

.PHONY: demo test tests lint types bench docs generated goldens site editors clean
.DELETE_ON_ERROR:
# Whatever the environment says: tests start many interpreters, and what one has compiled the others need not.
unexport PYTHONDONTWRITEBYTECODE

demo: $(READY)
	@$(BIN)/python examples/demo.py

test: lint
	@$(MAKE) --no-print-directory -j 2 types tests

tests: $(READY)
	@echo "== tests"
	@$(BIN)/masc models fetch $(MODEL)
	@$(BIN)/pytest -n 2 --dist worksteal

lint: $(READY)
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# mypy cannot follow the mapping of folders to packages, so it reads what an install makes of them.
types: $(READY)
	@echo "== types"
	@rm -rf build
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --target build/types .
	@cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p masc

bench: $(READY)
	@$(BIN)/python benchmarks/check.py
	@$(BIN)/python benchmarks/relay.py
	@$(BIN)/python benchmarks/speed.py

generated docs: $(READY)
	@$(BIN)/python docs/errors.py
	@$(BIN)/python docs/commands.py
	@$(BIN)/python docs/map.py
	@$(BIN)/python docs/generate.py

goldens: $(READY)
	@$(BIN)/python tests/helpers/goldens.py

site: $(READY)
	@$(BIN)/python -c 'import material, mkdocstrings_handlers.python' 2>/dev/null || \
		$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[site]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

editors:
	@cd editors/vscode && npm ci --no-fund --no-audit && npm test && npm run package

clean:
	@rm -rf editors/vscode/node_modules editors/vscode/*.vsix
	@rm -rf build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/*/*.masc examples/*/*.compare examples/diffmas/*/*.masc
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "masc needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "== installing into .venv (the first time this downloads torch)"
	@# Most of what the packages hold is never imported; what is, is compiled then, once.
	@$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
