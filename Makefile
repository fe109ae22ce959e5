# Each verb does all of its set-up: Debian packages (tools/setup), and in .venv/ a virtual environment for each Python.
#
#   make test PYTHONS="3.9 3.13"        only these Pythons, the last of which runs all that needs but one
#   make image BASE=debian:12           another base image than the Dockerfile's
#   make bench BENCH=quick              README=1 puts tables and charts into README.md
#   make soak SOAK=2h                   so long, ten minutes by default; README=1 puts the figures into README.md
#   make mutants MUTANTS=50 SEED=1
#   make pyz INTERPRETER=/usr/local/bin/python3     where it is not to be looked for in PATH

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench soak coverage mutants pyz image clean
MAKEFLAGS += --no-print-directory
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(firstword $(MAKEFILE_LIST))

ifneq ($(origin VERSIONS), command line)
# One of the packages may be Python itself, so only a second make can know which versions there are.

demo test lint bench soak coverage mutants pyz:
	@tools/setup packages $(if $(filter coverage mutants,$@),test,$@)
	@versions="$(or $(PYTHONS),$$(tools/setup versions))" && $(MAKE) --keep-going VERSIONS="$$versions" $@

else
WORKERS = $$(( 2 * $$(nproc) )) # most of the time they wait
NEWEST := $(lastword $(VERSIONS))
BIN := .venv/$(NEWEST)/bin
SOURCES := pyproject.toml setup.py $(wildcard launcher/tinyinit* tinyinit/*.py tinyinit/report.*) tinyinit/py.typed
# With other Pythons than the newest the zipapp has but its own tests; the peers, which have no Python, and what is heavy
# with any, none.
NOT_NEWEST = --form installed -m 'not peers and not heavy'
UNIT_TESTS := $(VERSIONS:%=unit-tests-%)
INSTALLED := $(VERSIONS:%=.venv/%/installed)
INTERPRETERS := $(VERSIONS:%=.venv/%/bin/python)
.PHONY: $(UNIT_TESTS) integration-tests

demo: .venv/$(NEWEST)/installed ## the article's scenario for real: without tinyinit, and with it
	@$(BIN)/python demo/run.py

test: $(UNIT_TESTS) integration-tests ## unit tests on every Python from 3.9 on, then integration tests in real containers

$(UNIT_TESTS): unit-tests-%: .venv/%/installed
	@.venv/$*/bin/pytest -n $(WORKERS) $(if $(filter $*,$(NEWEST)),,$(NOT_NEWEST)) tests

integration-tests: .venv/$(NEWEST)/integration .venv/$(NEWEST)/bench
	@$(BIN)/pytest -n 3 --dist loadfile integration

lint: .venv/$(NEWEST)/linters ## ruff, mypy --strict, shellcheck, bandit, pip-audit
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/mypy demo
	@$(BIN)/mypy integration
	@shellcheck tools/setup demo/*.sh .ci/run
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive tinyinit launcher tools demo setup.py
	@$(BIN)/python tools/audit.py

bench: .venv/$(NEWEST)/bench ## what it costs, beside its peers: tables, and in dist/bench charts and raw figures
	@$(BIN)/python integration/bench/run.py --out dist/bench $(if $(README),--readme)

soak: .venv/$(NEWEST)/integration ## ten minutes of orphans, signals, stops, kills and nested inits, or SOAK=2h of them
	@$(BIN)/python integration/soak/soak.py $(if $(README),--readme)

# Those that look at memory, imports and times fail under measurement; what the tests run is what counts.
coverage: .venv/$(NEWEST)/coverage ## which lines and branches of tinyinit/ the unit tests run: 95 % at least
	@rm -rf .venv/$(NEWEST)/installed dist/coverage # that copy is not what it was
	@$(BIN)/python tools/cover.py dist/coverage
	-@$(BIN)/pytest -q -n $(WORKERS) --form installed tests
	@$(BIN)/coverage combine -q dist/coverage
	@$(BIN)/coverage report

mutants: .venv/$(NEWEST)/installed ## break init.py at random, again and again: the tests are to notice 9 of 10
	@rm .venv/$(NEWEST)/installed
	@$(BIN)/python tools/mutate.py --number $(or $(MUTANTS),50) --seed $(or $(SEED),1) -n $(WORKERS)

pyz: .venv/$(NEWEST)/bin/python ## one file to copy: dist/tinyinit.pyz, which needs nothing but a Python
	@$(BIN)/python tools/pyz.py $(INTERPRETER:%=--interpreter %) dist/tinyinit.pyz \
	    $(foreach version,$(VERSIONS),"$$(tools/setup python $(version))")

# A link that leads nowhere, because its Python is gone, does not exist for make either.
$(INTERPRETERS): .venv/%/bin/python:
	@rm -rf .venv/$*
	@"$$(tools/setup python $*)" -m venv .venv/$*

$(INSTALLED): .venv/%/installed: .venv/%/bin/python $(SOURCES)
	@echo "tinyinit is installed in .venv/$*" >&2
	@rm -rf build
	@.venv/$*/bin/python -m pip install -qq '.[test]'
	@touch $@

.venv/$(NEWEST)/integration: pyproject.toml | .venv/$(NEWEST)/installed
	@$(BIN)/python -m pip install -qq '.[integration]'
	@touch $@

.venv/$(NEWEST)/bench: pyproject.toml | .venv/$(NEWEST)/integration
	@$(BIN)/python -m pip install -qq '.[bench]'
	@touch $@

.venv/$(NEWEST)/coverage: pyproject.toml | .venv/$(NEWEST)/installed
	@$(BIN)/python -m pip install -qq '.[coverage]'
	@touch $@

.venv/$(NEWEST)/linters: pyproject.toml | .venv/$(NEWEST)/installed
	@$(BIN)/python -m pip install -qq '.[lint]'
	@touch $@
endif

image: ## build the Dockerfile's image, and call it tinyinit
	@tools/setup packages image
	docker build --tag tinyinit $(if $(BASE),--build-arg BASE=$(BASE)) .

clean: ## remove all that was made here
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -r {} +
