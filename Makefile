# The two commands are `make demo` and `make test`; both set up what they need and do it only once.
# Everything that is made lies in .venv, and interpreters in the user's cache directory.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamps, so that what was interrupted is not taken for done.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
TESTS ?=
FUZZ ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test install newest pythons lint format types imports unit integration sanitize fuzz bench pictures clean

help: ## show the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: install newest ## start a contended program and look at it (a text report without a terminal)
	@$(BIN)/python -m tools.demo

test: install ## all checks and all tests
	@$(BIN)/python -m tools.checks $(TESTS)

install: $(INSTALLED) ## the virtual environment with ftdiag and the development tools

# Interpreters are made sure of each time: they are run, so that a broken one is noticed here.
newest: install
	@$(BIN)/python -m tools.provision ensure > /dev/null

pythons: install ## find or get a free-threaded interpreter of each version that tests run on
	@$(BIN)/python -m tools.provision ensure --all > /dev/null

lint: install ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## mypy --strict
	$(BIN)/mypy --strict

imports: install ## the table of layers
	$(BIN)/lint-imports --no-logo

unit: install ## the tests that need no free-threaded interpreter
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not integration" $(TESTS)

integration: install pythons ## the tests on real processes
	$(BIN)/python -m pytest -n auto --dist worksteal -m integration $(TESTS)

sanitize: install ## the tests of the compiled sampler under AddressSanitizer and UndefinedBehaviorSanitizer
	$(BIN)/python -m tools.sanitize $(TESTS)

fuzz: install pythons ## ten minutes of mutants of every input, and of targets that die; FUZZ="--seed 7" for others
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: atheris \
	    || echo "note: there is no wheel of atheris for this Python; no mutants by coverage"
	PYTHONPATH=tests:. $(BIN)/python -m fuzz $(FUZZ)
	PYTHONPATH=tests:. $(BIN)/python -m fuzz --guided --seconds 40
	$(BIN)/python -m tests.campaign.dying 100 90
	$(BIN)/python -m tests.campaign.killed 200 110

bench: install pythons ## measure the cost of looking
	$(BIN)/python -m bench

pictures: install ## draw the cockpit's panes for README and docs, from the demo's recording
	$(BIN)/python -m tools.cockpit_pictures

clean: ## remove what was made here; interpreters in the cache stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests tools samples -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@command -v $(PYTHON) > /dev/null || { \
	    echo "error: $(PYTHON) is not there. Debian, Ubuntu: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || { \
	    echo "error: $(PYTHON) cannot make virtual environments. Debian, Ubuntu: sudo apt-get install python3-venv" >&2; \
	    exit 1; }
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(INSTALLED): pyproject.toml src/ftdiag/__init__.py hatch_build.py $(wildcard src/ftdiag/sources/tick/*.[ch]) | $(MADE)
	@echo "installing ftdiag and its development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
# Where PYTHONDONTWRITEBYTECODE is set each start would compile what it imports: half a second of a core.
	@$(BIN)/python -m compileall -q src
	@touch $@

# --- for who joins, and for releases

.PHONY: docs man lowest lock changelog

docs: install ## the documentation as a site, in build/site; a link that leads nowhere is an error
	@$(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

man: install ## manual pages, in build/man
	@$(BIN)/python -m tools.manpages build/man

# Pictures are drawn a little differently by each version of Textual; what is on the screen is tested all the same.
lowest: ## unit tests with the lowest versions of all dependencies, in build/lowest
	@$(PYTHON) -m venv --clear build/lowest
	@build/lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	@build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	build/lowest/bin/python -m pytest -n auto -m "not integration" --ignore tests/tui/test_pictures.py $(TESTS)

changelog: install ## what changed since the last release, of changelog.d
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check towncrier
	@$(BIN)/towncrier build --draft 2> /dev/null

lock: install ## the versions and hashes of all development dependencies, in requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --extra dev pyproject.toml --output-file requirements-dev.lock
