# The first command in a fresh clone may be any of these; each sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help setup install rollback uninstall dist lock run test test-quick test-dist lint bench bench-linear bench-live bench-loss scale fuzz kills soak clean

python := .venv/bin/python

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-13s %s\n", $$1, $$2 }'

setup:  ## .venv with the compiled package (installs what is missing); EXTRAS=parquet,forward
	@PYTHON="$(PYTHON)" EXTRAS="$(EXTRAS)" sh ops/setup.sh run

install: use  ## into PREFIX=/usr/local, below DESTDIR=; with units; EXTRAS=parquet,forward
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" EXTRAS="$(EXTRAS)" RELEASE="$(RELEASE)" RESTART="$(RESTART)" sh ops/install.sh install

rollback:  ## the version before the installed one is current again
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" sh ops/install.sh rollback

uninstall:  ## away again; a changed configuration stays
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" sh ops/install.sh uninstall

dist:  ## wheels, a .deb and an OCI image into dist, with checksums and a bill of materials
	@sh ops/dist/dist.sh

lock:  ## resolve the dependencies anew: ops/dist/{requirements,build}.lock
	@sh ops/dist/lock.sh

run: use  ## the appliance on a sample capture; SOURCE=eth0 captures live; RELEASE=folder takes its wheel
	@$(python) ops/demo.py $(SOURCE)

test-quick:  ## the tests that need no root, no server and no long wait: about two minutes on two cores
	@PYTHON="$(PYTHON)" sh ops/setup.sh quick
	@HYPOTHESIS_PROFILE=quick $(python) -m pytest -q -n auto -m "not root and not peer and not slow"

test: test-tell test-setup  ## every test: some 20 minutes; says first what it installs
	@sh ops/test.sh

lint: test-setup  ## ruff, mypy --strict, stubtest, cython-lint
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(python) -m mypy.stubtest --concise --ignore-missing-stub --ignore-disjoint-bases --ignore-unused-allowlist \
		--allowlist ops/stubtest.txt $$(find appliance workers -name '*.pyi' | sed 's,/,.,g; s,\.pyi$$,,')
	PATH="$(CURDIR)/.venv/bin:$$PATH" cython-lint appliance workers

bench: test-setup  ## speed and memory beside libpcap, dpkt and the peers that are installed
	@$(python) ops/bench/bench.py

bench-linear: test-setup  ## is the work linear in bytes, for every element of the grammar of HTTP
	@$(python) ops/bench/linear.py

bench-loss: test-setup  ## transactions that come out right of damaged captures, beside their truth
	@$(python) ops/bench/loss.py
	@$(python) ops/bench/loss_http2.py

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

test-dist: test-setup  ## the artefacts of make dist on bare and booted roots, killed upgrades, two builds alike (root; long)
	@# Two builds take longer on a busy machine than any other test may.
	@APPLIANCE_DIST=1 $(python) -m pytest -q -rP -o timeout=21600 -o faulthandler_timeout=0 tests/ops/test_artefacts.py
	@sh ops/dist/bare.sh
	@sh ops/dist/booted.sh

clean:  ## everything that was made here, .venv too
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find appliance workers -name "*.so" -o -name "*.c" | xargs rm -f
	find appliance workers tests ops -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: use test-tell test-setup
use:
	@PYTHON="$(PYTHON)" EXTRAS="$(EXTRAS)" RELEASE="$(RELEASE)" sh ops/setup.sh use

test-tell:
	@sh ops/setup.sh tell

test-setup:
	@PYTHON="$(PYTHON)" sh ops/setup.sh test
