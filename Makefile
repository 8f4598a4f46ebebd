# make deploy   everything, from a bare machine to the site's URL
# make test     the tests, the short form of every promise
# make help     the rest
SHELL := /bin/bash -eu -o pipefail
PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH
# macOS ends a forked process that begins to use Objective-C, as Python does when it looks up the system's proxies;
# Ansible forks for each task, and its documentation names this way out. It has to be there before Python starts.
export OBJC_DISABLE_INITIALIZE_FORK_SAFETY := YES
PYTHON ?= python3

.PHONY: help deploy test test-all survive lint docs destroy lock
.DEFAULT_GOAL := help

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deploy: .venv/.installed ## Start a cluster if none runs, build the images, deploy the site
	@ansible-playbook site.yml

destroy: .venv/.installed ## Take minikube and all that was installed for it away; data and caches are kept
	@ansible-playbook playbooks/destroy.yml

test: ## Run the tests, the short form of every promise
	@scripts/test lint unit servers webapp molecule release survive

test-all: ## Run the long tests as well; goes on where it was stopped
	@scripts/test --go-on lint unit servers servers_long webapp webapp_long molecule release release_long survive \
		survive_long storage backup_restore rotate upgrade external_db project collection takeover hardening check ingress clouds \
		registry engines docker judges docs

survive: ## Break things on purpose, the cluster's own among them, and print what each cost
	@scripts/test survive survive_long

lint: ## Look at the text of everything
	@scripts/test lint

docs: .venv/.installed .venv-docs/.installed ## Make the docs a site, in .run/docs
	@.venv-docs/bin/python scripts/build-docs

lock: ## Pin the newest versions that requirements.in and its likes allow, with hashes
	@scripts/lock

# The tools, exactly those of requirements.txt; made anew when it changes.
.venv/.installed: requirements.txt scripts/check-host
	@PYTHON=$(PYTHON) scripts/check-host
	@echo "-- Installing the tools into .venv (about a minute)"
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --require-hashes --requirement requirements.txt
	@touch $@

# What only the tests need, away from the tools: every library that kubernetes.core finds, it imports.
TEST_REQUIREMENTS := webapp/requirements.txt webapp/requirements-test.txt tests/requirements.txt
.venv-test/.installed: $(TEST_REQUIREMENTS) scripts/check-host
	@PYTHON=$(PYTHON) scripts/check-host
	@echo "-- Installing the tests' tools into .venv-test"
	@rm -rf .venv-test && $(PYTHON) -m venv .venv-test
	@.venv-test/bin/pip install --quiet --require-hashes $(TEST_REQUIREMENTS:%=--requirement %)
	@touch $@

# checkov brings a hundred packages of its own; kube-score is built with Go.
JUDGES_REQUIREMENTS := tests/judges/requirements.txt roles/minikube/files/go/requirements.txt
.venv-judges/.installed: $(JUDGES_REQUIREMENTS)
	@rm -rf .venv-judges && $(PYTHON) -m venv .venv-judges
	@.venv-judges/bin/pip install --quiet --require-hashes $(JUDGES_REQUIREMENTS:%=--requirement %)
	@touch $@

# Galaxy's judge, and wheels of what ansible-test installs for each of its tests.
SANITY_REQUIREMENTS := tests/sanity/requirements.txt tests/sanity/ansible-test.txt
.venv-sanity/.installed: $(SANITY_REQUIREMENTS)
	@rm -rf .venv-sanity && $(PYTHON) -m venv .venv-sanity
	@.venv-sanity/bin/pip install --quiet --require-hashes --requirement tests/sanity/requirements.txt
	@.venv-sanity/bin/pip wheel --quiet --no-deps --require-hashes --requirement tests/sanity/ansible-test.txt \
		--wheel-dir .venv-sanity/wheels
	@touch $@

# Sphinx, and what makes pages of the roles and plugins.
.venv-docs/.installed: docs/requirements.txt
	@rm -rf .venv-docs && $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/pip install --quiet --require-hashes --requirement docs/requirements.txt
	@touch $@
