# genie_robot: `make demo` shows what it does, `make test` shows that it works. `make help` lists the rest.
#
# Each target makes what it needs (venv, packages, ROS 2 interfaces) and leaves a stamp, so the second time is quick.
# Nothing here needs a GPU, a screen, a system ROS or an account. Debian packages, where Python comes from Debian:
#   python3-venv          makes the virtual environment; without it nothing can be installed
#   g++ and python3-dev   compile the ROS 2 message types (rosidl writes C and a CPython module for each)
#                         Without them all else still runs: `make demo` and `make test` leave the ROS 2 parts out and say so.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
PIP_INSTALL = $(PY) -m pip install -qq --disable-pip-version-check --constraint constraints.txt
ARGS ?=

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)

ROS_SOURCES := $(shell find ros2_ws/src -type f -not -path "*/__pycache__/*" -not -path "*.egg-info/*" 2>/dev/null) \
  $(wildcard ros2_ws/build.sh ros2_ws/fix_wheels.py ros2_ws/requirements-ros.txt)

.PHONY: help demo test check format bench ros ros-if-possible weights weights-manipulation clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

demo: $(STAMPS)/packages ros-if-possible  ## the whole loop on real parts; writes outputs/demo/report.html (ARGS="--force" redoes it)
	@$(PY) -m genie_robot.cli demo $(ARGS)

test: $(STAMPS)/packages ros-if-possible  ## the test suite (ARGS="-k cache" narrows it)
	@$(PY) -m pytest $(ARGS)

check: $(STAMPS)/packages  ## style and types: ruff check, ruff format, pyright
	@echo "[check] ruff check"
	@$(VENV)/bin/ruff check
	@echo "[check] ruff format"
	@$(VENV)/bin/ruff format --check
	@echo "[check] pyright"
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright --level error

format: $(STAMPS)/packages  ## let ruff mend what it can
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

bench: $(STAMPS)/packages  ## speed of this machine: generation with and without the cache, training step, loader
	@$(PY) -m genie_robot.cli benchmark $(ARGS)

ros: $(STAMPS)/ros  ## ROS 2 Jazzy from wheels, and our message types built by colcon

weights: $(STAMPS)/packages  ## train weights/tabletop-tiny again by its committed recipe (up to 3 h on 2 cores)
	@$(PY) weights/recipe.py $(ARGS)

weights-manipulation: $(STAMPS)/packages  ## train weights/manipulation-* (some hours on 2 cores)
	@$(PY) weights/manipulation.py $(ARGS)

clean:  ## remove the venv, the colcon build, caches and outputs/demo (other outputs stay)
	@rm -rf $(VENV) ros2_ws/build ros2_ws/install ros2_ws/log outputs/demo build *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@[ -n "$(PYTHON)" ] || { echo "make: no Python 3.11 to 3.13 with the venv module found;" \
	  "install one (Debian: apt-get install python3 python3-venv) or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "[install 1/3] virtual environment in $(VENV) ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/packages: pyproject.toml constraints.txt | $(STAMPS)/venv
	@echo "[install 2/3] Python packages of constraints.txt (1-4 minutes)"
	@$(PIP_INSTALL) --editable '.[data,formats,sim,robots,player,perceptual,dev]'
	@touch $@

# The build stands behind its own stamp; build.sh installs requirements-ros.txt, mends the wheels' CMake paths and runs colcon.
$(STAMPS)/ros: constraints.txt $(ROS_SOURCES) | $(STAMPS)/packages
	@echo "[install 3/3] ROS 2 Jazzy wheels and our message types (2-4 minutes)"
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" PIP_CONSTRAINT="$(CURDIR)/constraints.txt" bash ros2_ws/build.sh
	@touch $@

# demo and test want ROS 2 but do without it where it cannot be: the reason is printed, the rest goes on.
ros-if-possible: | $(STAMPS)/packages
	@why=""; \
	if [ "$$(uname -s)-$$(uname -m)" != Linux-x86_64 ]; then why="ROS 2 wheels exist for Linux x86_64 only; elsewhere use a system ROS 2 (docs/ros2.md)"; \
	elif ! command -v g++ >/dev/null; then why="g++ is missing (Debian: apt-get install g++ python3-dev)"; \
	elif ! $(PY) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; then \
	  why="Python.h is missing (Debian: apt-get install python3-dev)"; fi; \
	if [ -n "$$why" ]; then echo "[ros] left out: $$why"; else $(MAKE) ros; fi
