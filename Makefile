# Every target sets up what it needs: a .venv with the versions that constraints.txt pins.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format bench docs clean

demo: .venv/ready
	$(BIN)/swath demo --out demo

# what is compiled once is read by every process that the tests start
unexport PYTHONDONTWRITEBYTECODE

# the nightly size: $(BIN)/python -m pytest -m slow
test: .venv/ready
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not serial"
	$(BIN)/python -m pytest -m "serial and not slow" tests/detection/runtime

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs/licences.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Some minutes; the model is the demo's, or `make bench MODEL=mine.onnx`. More benchmarks stand in scripts/.
MODEL ?= demo/model.onnx
bench: .venv/ready $(MODEL)
	$(BIN)/swath bench $(MODEL)
	$(BIN)/python scripts/bench/letterbox.py
	$(BIN)/python scripts/bench/evaluate.py --images 1000 --rounds 1

# The site, in build/site: strict, and without a network.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

demo/model.onnx: | .venv/ready
	$(BIN)/swath demo --out demo

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[train,dev]"
	touch $@

clean:
	rm -rf .venv build dist demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
