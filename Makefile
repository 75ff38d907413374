# `make demo` and `make test` do everything on a fresh machine that has Python 3.11 or newer.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test slow attacks fuzz kills ray lowest beside lint site lock

# A minute with a tiny model, then two samples with the default reference; `audit demo --quick` leaves those out.
demo: $(VENV)/core
	$(BIN)/audit demo

# Every test computes on one thread, so each core takes some of them.
test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The tests that need the default reference (a download of 90 MB).
slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# Attacks on the gate, each carried out by processes (tests/attacks), in about four minutes of two cores.
attacks: $(VENV)/installed
	$(BIN)/python -m pytest tests/attacks -m attack -n auto --maxprocesses 4

# A thousand hostile inputs and more, in about two minutes of two cores; FUZZ_CASES=20000 runs more of them, and
# FUZZ_SEED=1 others.
fuzz: $(VENV)/installed
	$(BIN)/python -m pytest -m fuzz tests/fuzz -n auto --maxprocesses 4 --dist worksteal

# Commands that are killed at fifty moments and run again (tests/kill), some minutes.
kills: $(VENV)/installed
	$(BIN)/python -m pytest -m kill tests/kill -n auto --maxprocesses 4

# The same work on a Ray cluster of this machine, in about two minutes of two cores.
ray: $(VENV)/ray
	$(BIN)/python -m pytest -m ray tests/engine

# The tests with the oldest dependencies that pyproject.toml allows, but for torch, in an environment of its own. For the
# oldest Python: the old versions have no wheels for newer ones.
lowest: $(VENV)-lowest/installed
	$(VENV)-lowest/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# Whether the requirements resolve beside current trainers, as docs/choosing.md shows it; only metadata is fetched.
beside: $(VENV)-lock/installed
	$(VENV)-lock/bin/python runs/beside_trainers.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site of docs/, in build/site; broken links are errors.
site: $(VENV)/installed
	$(BIN)/mkdocs build --strict --quiet

# The packages that the action and the container install, with their hashes. The head of the file stays as it is. No
# setting of this machine takes part, such as another index or a folder of wheels, so that the hashes are the public ones.
lock: $(VENV)-lock/installed
	{ sed -n '/^#/!q;p' requirements.lock; \
	  env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	    $(VENV)-lock/bin/uv pip compile --quiet --no-config --no-header --no-annotate --generate-hashes \
	    --only-binary :all: --python-version 3.12 --python-platform x86_64-manylinux_2_28 \
	    --constraint constraints.txt --extra junit --extra llm $(LOCK_OPTIONS) pyproject.toml; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

# A stamp is written last, so that an installation that was cut short is done again.
$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e .
	touch $@

# With what tests, linters and the site need besides.
$(VENV)/installed: $(VENV)/core
	$(BIN)/pip install -c constraints.txt -e '.[dev,docs]'
	touch $@

$(VENV)/ray: $(VENV)/installed
	$(BIN)/pip install -c constraints.txt -e '.[ray]'
	touch $@

# pip chooses torch as above, and uv keeps what is installed.
$(VENV)-lowest/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install -c constraints.txt uv
	$(VENV)-lowest/bin/pip install -c constraints.txt --no-deps torch
	$(VENV)-lowest/bin/uv pip install --python $(VENV)-lowest --resolution lowest-direct -c constraints.txt -e '.[dev,docs]'
	touch $@

$(VENV)-lock/installed:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install uv
	touch $@
