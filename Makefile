# make demo    a real answer from a real model, from nothing
# make test    every fast test, C++ and Python
# make lint    formatting, lint and types
# make clean   forget what was built here (downloads and models stay)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := build/native

SOURCES := pyproject.toml CMakeLists.txt README.md $(shell find src csrc -type f -not -name '*.pyc')
QUESTION := What is the capital of France, and why is it famous?

.PHONY: demo test test-native test-python lint format clean

demo: $(VENV)/.installed
	$(BIN)/fastslm run demo "$(QUESTION)" --temperature 0 --max-tokens 64

test: test-native test-python

test-native: $(VENV)/.test
	@$(BIN)/cmake -S . -B $(NATIVE) -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DFASTSLM_TESTS=ON >build/configure.log \
	    || { cat build/configure.log; exit 1; }
	$(BIN)/cmake --build $(NATIVE)
	$(BIN)/ctest --test-dir $(NATIVE) --output-on-failure -j 2

test-python: $(VENV)/.test
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find csrc tests/native -name '*.cpp' -o -name '*.hpp')

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find csrc tests/native -name '*.cpp' -o -name '*.hpp')

clean:
	rm -rf build $(VENV)

$(VENV)/.created: .ci/prerequisites.sh
	@sh .ci/prerequisites.sh $(PYTHON)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	@echo "building and installing fastslm and its libraries (a minute or two)"
	@$(BIN)/python -m pip install --quiet .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	@mkdir -p build
	@$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@$(BIN)/python -m pip install --quiet --group lint
	@touch $@
