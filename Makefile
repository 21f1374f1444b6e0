# The first command in a fresh clone may be any of these; each sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help setup install uninstall run test lint bench bench-linear bench-live bench-loss scale fuzz kills soak clean

python := .venv/bin/python

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-13s %s\n", $$1, $$2 }'

setup:  ## .venv with the compiled package (installs what is missing)
	@PYTHON="$(PYTHON)" sh ops/setup.sh run

install: setup  ## into PREFIX=/usr/local, below DESTDIR=; with units; EXTRAS=parquet,forward
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" EXTRAS="$(EXTRAS)" sh ops/install.sh install

uninstall:  ## away again; a changed configuration stays
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" sh ops/install.sh uninstall

run: setup  ## the appliance on a sample capture; SOURCE=eth0 captures live
	@$(python) ops/demo.py $(SOURCE)

test: test-setup  ## every test
	@$(python) -m pytest -q

lint: test-setup  ## ruff, mypy --strict, cython-lint
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	PATH="$(CURDIR)/.venv/bin:$$PATH" cython-lint appliance workers

bench: test-setup  ## speed and memory beside libpcap, dpkt and the peers that are installed
	@$(python) ops/bench/bench.py

bench-linear: test-setup  ## is the work linear in bytes, for every element of the grammar of HTTP
	@$(python) ops/bench/linear.py

bench-loss: test-setup  ## transactions that come out right of damaged captures, beside their truth
	@$(python) ops/bench/loss.py

bench-live: test-setup  ## the highest rate on a wire without loss, and the latency (root); LIVE="--shape api …"
	@$(python) ops/bench/live.py --latency $(LIVE)

fuzz: test-setup  ## the compiled rooms under sanitizers, for FUZZ_SECONDS=3600
	@$(python) ops/fuzz/fuzz.py

kills: test-setup  ## KILLS=200 random kills and stops under load on a wire (root), the ledger closed to the frame
	@APPLIANCE_KILLS=$(or $(KILLS),200) $(python) -m pytest -q -rP tests/live/test_kills.py -k random

soak: test-setup  ## SECONDS=7200 of traffic on a wire (root) with a fault a minute: the ledger closed, memory flat
	@$(python) ops/soak/soak.py --seconds $(or $(SECONDS),7200) $(SOAK)

scale: test-setup  ## a thousand to a million connections, an idle one's memory, a SYN flood
	@$(python) ops/bench/scale.py

clean:  ## everything that was made here, .venv too
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f appliance/*.so appliance/*.c workers/*.so workers/*.c
	find appliance workers tests ops -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: test-setup
test-setup:
	@PYTHON="$(PYTHON)" sh ops/setup.sh test
