# The project's commands; 'make' alone lists them.
PYTHON ?= python3
VENV := .venv
LAB := .lab
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-newest test-mutants trial check format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-16s %s\n", $$1, $$2}'

demo: $(READY) ## watch it work: two replicas, 30 requests, a broker restart, a kill
	@$(VENV)/bin/lab demo

test: $(READY) ## run all tests on private servers
	@$(VENV)/bin/pytest

test-newest: $(READY) ## the same on RabbitMQ 4.3 and MySQL 9.7, in Docker containers
	@$(VENV)/bin/pytest --containers

test-mutants: $(READY) ## break a promise at a time, and see that it is caught
	@$(VENV)/bin/pytest -m mutants

trial: $(READY) ## two minutes of faults of all kinds, then account for every request
	@$(VENV)/bin/lab trial --seed 1 --duration 100s

check: $(READY) ## format, lint, types
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/mypy

format: $(READY) ## put the code into its form
	@$(VENV)/bin/ruff format
	@$(VENV)/bin/ruff check --fix

clean: ## remove what was made here, the lab's servers and data included
	@if [ -x $(VENV)/bin/lab ]; then $(VENV)/bin/lab down --purge; fi
	@rm -rf $(VENV) $(LAB) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@$(PYTHON) -m lab.venv $(VENV) $(LAB)/packages
	@touch $@
