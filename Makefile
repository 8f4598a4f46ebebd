# make deploy   everything, from a bare machine to the site's URL
# make test     the tests, the short form of every promise
# make help     the rest
SHELL := /bin/bash -eu -o pipefail
PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH
PYTHON ?= python3

.PHONY: help deploy test test-all lint destroy lock
.DEFAULT_GOAL := help

help: ## Show the commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

deploy: .venv/.installed ## Start a cluster if none runs, build the images, deploy the site
	@ansible-playbook site.yml

destroy: .venv/.installed ## Take minikube and all that was installed for it away; data and caches are kept
	@ansible-playbook playbooks/destroy.yml

test: ## Run the tests, the short form of every promise
	@scripts/test lint unit webapp molecule

test-all: ## Run the long tests as well
	@scripts/test lint unit webapp browser molecule

lint: ## Look at the text of everything
	@scripts/test lint

lock: ## Pin the newest versions that requirements.in and its likes allow, with hashes
	@scripts/lock

# The tools, exactly those of requirements.txt; made anew when it changes.
.venv/.installed: requirements.txt scripts/check-host
	@PYTHON=$(PYTHON) scripts/check-host
	@echo "-- Installing the tools into .venv (about a minute)"
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --require-hashes --requirement requirements.txt
	@touch $@

.venv-webapp/.installed: webapp/requirements.txt webapp/requirements-test.txt scripts/check-host
	@PYTHON=$(PYTHON) scripts/check-host
	@echo "-- Installing the web app's tools into .venv-webapp"
	@rm -rf .venv-webapp && $(PYTHON) -m venv .venv-webapp
	@.venv-webapp/bin/pip install --quiet --require-hashes --requirement webapp/requirements.txt --requirement webapp/requirements-test.txt
	@touch $@
