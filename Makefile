# make demo: set up .venv and run the main job on procedurally made shapes
# make test: set up .venv, check the style and run the tests
# make hostile: thousands of damaged files, and programs that are killed (15 minutes)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test hostile

demo: $(INSTALLED)
	$(BIN)/python -m loopdraw.demo.tour

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2

hostile: $(INSTALLED)
	$(BIN)/python tests/hostile

# Made anew only when the requirements change. The package itself is installed as a link to here, so
# that `import loopdraw` works from any folder.
$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	touch $(INSTALLED)
