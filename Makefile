# Every target calls tools/memepool.py, which needs nothing but Python and sets up the rest.

PYTHON ?= python3
MEMEPOOL = $(PYTHON) tools/memepool.py

# Options count only when given on the command line: a PORT in the environment is not ours.
given = $(if $(filter command,$(origin $1)),$2 '$(subst ','\'',$($1))')
RUN_OPTIONS = $(call given,PORT,--port) $(call given,BLOCK_SECONDS,--block-seconds) \
	$(call given,PLAYERS,--players) $(call given,DATA,--data)

.DEFAULT_GOAL := help
.PHONY: help setup run demo up-local down-local up down test soak lint types contracts kubernetes lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: python ## make the virtual environment (every other target does so by itself)
	@$(MEMEPOOL) setup

run: python ## run everything on this machine [PORT=8000 BLOCK_SECONDS=60 PLAYERS=n DATA=.memepool]
	@exec $(MEMEPOOL) run $(RUN_OPTIONS)

demo: python ## play one whole round and account for every satoshi
	@exec $(MEMEPOOL) demo

up-local: python ## run everything as processes, with RabbitMQ and Redis, in the background [PORT= DATA=]
	@$(MEMEPOOL) up-local $(RUN_OPTIONS)

down-local: python ## end what up-local started; data stay [DATA=]
	@$(MEMEPOOL) down-local $(call given,DATA,--data)

up: python ## run everything in containers (Docker Compose) [PORT=8000 BLOCK_SECONDS=60]
	@$(MEMEPOOL) up $(call given,PORT,--port) $(call given,BLOCK_SECONDS,--block-seconds)

down: python ## stop the containers; data stay [ARGS=--volumes]
	@$(MEMEPOOL) down $(ARGS)

test: python ## run the whole test suite [ARGS="-k name"]
	@$(MEMEPOOL) test $(ARGS)

soak: python ## run the long tests that `make test` leaves out
	@$(MEMEPOOL) test -m soak

lint: python ## check style, types, imports and the project's own rules
	@$(MEMEPOOL) lint

types: python ## check the types only
	@$(MEMEPOOL) types

contracts: python ## write contracts/ anew from the code
	@$(MEMEPOOL) contracts

kubernetes: python ## render deploy/k8s anew (kubectl 1.27 or later)
	@$(MEMEPOOL) kubernetes

lock: python ## resolve requirements.lock anew [ARGS="--upgrade"]
	@$(MEMEPOOL) lock $(ARGS)

clean: python ## remove the virtual environment and caches; .memepool stays
	@$(MEMEPOOL) clean

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "memepool: $(PYTHON) not found: install Python 3.11 to 3.13" \
	    "(Debian, Ubuntu: apt install python3 python3-venv)" >&2; exit 2; }
