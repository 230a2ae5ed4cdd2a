.PHONY: help run test sanitize fuzz bench check install screenshots clean

help:           ## what there is
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

install:        ## a .venv with the gateway in it
	@scripts/install.sh

run: install    ## install, show the main job once, then serve on the embedded defaults
	@.venv/bin/python -m scripts.demo
	@.venv/bin/python -m scripts.demo --serve

check:          ## lint, types, import arrows
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache

test:           ## install what the tests need, then lint, types and every test
	@scripts/install.sh softphone test
	@scripts/install_peers.sh
	@$(MAKE) --no-print-directory check
	@.venv/bin/python -m pytest -n 2 --dist loadfile
	@$(MAKE) --no-print-directory sanitize

sanitize:       ## the native parts built with sanitizers, under their tests and the packet fuzzer
	@scripts/sanitize_relay.sh
	@scripts/sanitize_relay.sh thread

fuzz:           ## search for inputs that break messages, SDP, streams, digest: FUZZ_SECONDS (300) for each
	@scripts/install.sh softphone test
	@mkdir -p artifacts/fuzz
	@for target in message sdp stream digest agent; do \
		.venv/bin/python -m tests.fuzz.run $$target --seconds $(or $(FUZZ_SECONDS),300) --found artifacts/fuzz || exit 1; \
	done

bench:          ## install what the benchmarks need, run them beside their peers
	@scripts/install.sh softphone test bench
	@scripts/install_peers.sh
	@.venv/bin/python -m scripts.bench

screenshots:    ## make the pictures of the page in README anew
	@scripts/install.sh softphone test
	@scripts/install_peers.sh
	@.venv/bin/python -m pytest tests/page/test_pictures.py
	@mkdir -p scripts/screenshots
	@cp artifacts/page/readme-settings.png scripts/screenshots/settings.png
	@cp artifacts/page/readme-recording.png scripts/screenshots/recording.png

clean:          ## what was built or recorded here
	rm -rf build .venv *.egg-info var artifacts media/*.so media/relay.c media/records.c
