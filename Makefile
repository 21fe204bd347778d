# The commands that README and CI call. Everything is installed into $(VENV), made from $(PYTHON).
PYTHON ?= python3
VENV ?= .venv
ENVIRONMENTS ?= build/environments
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: docs demo test stress check bench bench-release bench-long encoder reader test-integrations test-versions test-oldest

# Index the docstrings of Python's standard library and ask them questions.
demo: $(VENV)/base.installed
	$(BIN)/dpr-lance demo

# Run the whole test suite on real tables, sessions and tokenizers, in two processes.
test: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The tests that take minutes: killed processes, crowds of writers, damaged files, thousands of random operations.
stress: $(VENV)/dev.installed
	$(BIN)/python -m pytest -m stress tests/stress

# The wheel and the sdist with several versions of Python, and with the oldest and the newest packages that pyproject allows.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
test-versions: $(VENV)/dev.installed
	$(BIN)/python -m tests.versions.run $(PYTHONS)

# A walk through the library with the oldest packages that pyproject names, in an environment of its own.
test-oldest:
	test -x $(ENVIRONMENTS)/oldest/bin/python || $(PYTHON) -m venv $(ENVIRONMENTS)/oldest
	$(ENVIRONMENTS)/oldest/bin/python -m pip install --quiet --disable-pip-version-check -e . $$($(PYTHON) tests/versions/oldest.py)
	rm -rf $(ENVIRONMENTS)/walk
	$(ENVIRONMENTS)/oldest/bin/python tests/versions/walk.py $(ENVIRONMENTS)/walk

# The tests of each framework, in an environment of its own with that extra and what its tests need.
FRAMEWORKS := langchain llamaindex haystack
SUITE_langchain := langchain-tests
SUITE_haystack := pytest-asyncio
OPTIONS_haystack := -o asyncio_default_fixture_loop_scope=function
OPTIONS_langchain := -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function
test-integrations: $(FRAMEWORKS:%=test-%)

$(FRAMEWORKS:%=test-%): test-%:
	test -x $(ENVIRONMENTS)/$*/bin/python || $(PYTHON) -m venv $(ENVIRONMENTS)/$*
	$(ENVIRONMENTS)/$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]' pytest $(SUITE_$*)
	$(ENVIRONMENTS)/$*/bin/python -m pytest $(OPTIONS_$*) tests/integrations/$*

# Check format, lint and types, and build the documentation; its warnings are errors.
check: $(VENV)/dev.installed docs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# Build the documentation as a site in build/site.
docs: $(VENV)/dev.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Measured numbers: see benchmarks/README.md. Every case in a small form, in about 10 minutes; nothing is kept.
bench: $(VENV)/dev.installed
	$(PIP) "sentence-transformers[train]"
	$(BIN)/python -m benchmarks quick

# What changes with most releases, from committed code, in about 25 minutes on two idle cores.
bench-release: $(VENV)/dev.installed
	$(PIP) "sentence-transformers[train]"
	$(BIN)/python -m benchmarks release

# Everything, from committed code: most of a day.
bench-long: $(VENV)/dev.installed
	$(PIP) "sentence-transformers[train]"
	$(BIN)/python -m benchmarks long

# Make the packaged default encoder again from its published weights.
encoder: $(VENV)/dev.installed
	$(BIN)/python -m dpr_lance.trainer.bundles.packaged

# Train the packaged reader from public weights and the question sets in the folder DATA; takes hours, and can be resumed.
reader: $(VENV)/dev.installed
	$(BIN)/python -m dpr_lance.trainer.reader.packaged $(DATA)

$(VENV)/base.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[train,eval,docs,dev]'
	touch $@
