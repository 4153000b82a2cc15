# The project's commands; 'make' alone lists them.
PYTHON ?= python3
VENV := .venv
LAB := .lab
SECRETS ?= docker/secrets
READY := $(VENV)/ready
LOCK := $(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.13 \
	--generate-hashes --no-header
# Tests mostly wait for servers, so that more of them run than there are cores; each process has
# servers of its own.
SIDE_BY_SIDE := --numprocesses 4 --dist loadfile --no-loadscope-reorder
BUILD_BACKEND := hatchling>=1.27

.DEFAULT_GOAL := help
.PHONY: help demo docs image lock release-check secrets test test-containers test-drivers test-mutants test-newest test-unit trial trial-outage \
	check format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-16s %s\n", $$1, $$2}'

demo: $(READY) ## watch it work: two replicas, 30 requests, a broker restart, a kill
	@$(VENV)/bin/lab demo

secrets: ## create the passwords that 'docker compose up' needs, once
	@$(PYTHON) docker/make_secrets.py $(SECRETS)

image: ## build the image, labelled with version and commit
	@docker build --file docker/Dockerfile --tag turnwise \
		--build-arg VERSION="$$(git describe --tags --always --dirty)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" .

lock: $(READY) ## update the image's libraries to their newest releases: docker/*requirements.txt
	@$(VENV)/bin/pip install --quiet uv
	@$(LOCK) --extra http --extra metrics --extra page pyproject.toml --output-file docker/requirements.txt
	@echo "$(BUILD_BACKEND)" | $(LOCK) - --output-file docker/build-requirements.txt

test: $(READY) ## run all tests on private servers
	@$(VENV)/bin/pytest $(SIDE_BY_SIDE)

test-unit: $(READY) ## run the tests that need no server, in seconds
	@$(VENV)/bin/pytest tests/unit

test-newest: $(READY) ## the same on RabbitMQ 4.3 and MySQL 9.7, in Docker containers
	@$(VENV)/bin/pytest --containers

test-mutants: $(READY) ## break one promise at a time, and check that it is caught
	@$(VENV)/bin/pytest tests/mutants

trial: $(READY) ## two minutes of faults of all kinds, then account for every request
	@$(VENV)/bin/lab trial --seed 1 --duration 100s

trial-outage: $(READY) ## outages of each server and of both, longer than a liveness probe waits
	@$(VENV)/bin/lab trial --seed 2 --count 4 --faults outage

test-drivers: $(READY) ## test the newest pika and PyMySQL, whose internals are used
	@$(VENV)/bin/pip install --quiet --upgrade --no-deps --target $(LAB)/newest pika pymysql
	@ls -d $(LAB)/newest/*.dist-info
	@PYTHONPATH=$(LAB)/newest $(VENV)/bin/pytest -k "needs or private_name or prepared" \
		tests/integration/test_pika_insides.py tests/integration/test_driver.py tests/integration/test_prepared.py

test-containers: $(READY) ## build the image, run all of docker/compose.yaml, and kill each part
	@$(VENV)/bin/pytest tests/containers

release-check: $(READY) ## build the packages, install them in an empty environment, build the image
	@$(VENV)/bin/pytest tests/release
	@if docker info >/dev/null 2>&1; then $(MAKE) image; else echo "no Docker here: no image built"; fi

docs: $(READY) ## build the documentation into .lab/site; a broken link is an error
	@$(VENV)/bin/python -c 'import mkdocs_click, mkdocstrings, material' 2>/dev/null \
		|| $(VENV)/bin/pip install --quiet --disable-pip-version-check --editable 'lab[docs]'
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet
	@echo "see .lab/site/index.html"

check: $(READY) ## format, lint, types, Kubernetes manifests
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/pytest --quiet --durations=0 --durations-min=10 tests/kubernetes

format: $(READY) ## format the code, and fix what the linter can
	@$(VENV)/bin/ruff format
	@$(VENV)/bin/ruff check --fix

clean: ## remove everything that was created here, including the lab's servers and data
	@if [ -x $(VENV)/bin/lab ]; then $(VENV)/bin/lab down --purge; fi
	@rm -rf $(VENV) $(LAB) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml lab/pyproject.toml
	@$(PYTHON) -m lab.venv $(VENV) $(LAB)/packages
	@touch $@
