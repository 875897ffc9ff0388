# `make demo` and `make test` need nothing but Python 3.11 or later and make: the first run sets up .venv, later ones
# start at once, and a change of setup.py or constraints.txt installs what changed.
PYTHON ?= python3
VENV ?= .venv
# Where torch is taken from, if not from pip's own index. On Linux that one gives a CUDA build of several gigabytes; the
# index of CPU builds, which pytorch.org's "Get started" names, one of 200 MB.
TORCH_INDEX ?=

INSTALLED := $(VENV)/.installed
# Written once ManiSkill has a Vulkan device; without one the robot tasks are left out.
VULKAN := $(VENV)/.vulkan
# Written once there is a Chromium; without one the web demo is not clicked through.
CHROMIUM := $(VENV)/.chromium
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip install --quiet --constraint constraints.txt
# One core each: two processes of pytest on two cores, with torch's threads, would get into each other's way.
ONE_THREAD := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup demo space test lowest lerobot peers release quality style evaluate benchmarks figures clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## the environment alone, in .venv

demo: $(INSTALLED) $(VULKAN)  ## a robot policy of a shape never trained on, scored and filmed into demo/
	$(VENV)/bin/python examples/demo_robot.py

space: $(INSTALLED)  ## the web demo, at http://127.0.0.1:7860
	$(VENV)/bin/python space/app.py

test: quality $(VULKAN) $(CHROMIUM)  ## everything that CI runs: `make quality`, then the test suite
	$(ONE_THREAD) $(RUN) pytest --numprocesses 2 --dist worksteal

lowest:  ## the test suite on the oldest versions that setup.py claims, in .venv/lowest
	$(PYTHON) scripts/test_lowest.py --venv $(VENV)/lowest $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

peers:  ## networks in RSL-RL, Stable-Baselines3 and LEAPP, in .venv/peers
	$(PYTHON) scripts/test_peers.py --venv $(VENV)/peers $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

lerobot:  ## the plugin beside LeRobot itself, in .venv/lerobot; needs PYTHON=python3.12 or later
	$(PYTHON) scripts/test_lerobot.py --venv $(VENV)/lerobot $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

release: $(INSTALLED)  ## sdist and wheel into dist/, checked, and the wheel used in a clean environment
	TORCH_INDEX=$(TORCH_INDEX) scripts/check_release.sh $(VENV)/bin/python

quality: $(INSTALLED)  ## lint, format, types, the direction of imports, prose, and sizes
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python scripts/check_prose.py
	$(VENV)/bin/python scripts/check_sizes.py

style: $(INSTALLED)  ## fix what lint and format can fix
	$(RUN) ruff check --fix
	$(RUN) ruff format

evaluate: $(INSTALLED)  ## what nnit/digits reaches; parts that nnit/digits/evaluation.json has are not measured again
	$(VENV)/bin/python examples/evaluate_nnit.py

benchmarks: $(INSTALLED)  ## time and memory of generating a network, beside training one
	$(VENV)/bin/python benchmarks/benchmark_generation.py

figures: $(INSTALLED)  ## draw the pictures of every committed evaluation and docs/images/weights.png, write docs/results.md
	for path in nnit/*/evaluation.json; do \
		$(VENV)/bin/python examples/figures/plot_evaluation.py --evaluation_path $$path || exit 1; done
	$(VENV)/bin/python examples/figures/plot_weights.py --output_dir docs/images
	$(VENV)/bin/python scripts/write_results.py --output_path docs/results.md

clean:  ## remove the environment and the caches, nothing else
	rm -rf $(VENV) .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# torch comes first and by itself, so that whatever asks for torch afterwards finds the build that was wanted.
$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) --editable .[dev]
	touch $@

$(VULKAN): $(INSTALLED)
	if scripts/install_vulkan.sh $(VENV)/bin/python; then touch $@; fi

$(CHROMIUM): $(INSTALLED)
	if scripts/install_chromium.sh; then touch $@; fi
