# Everything a newcomer needs: `make demo`, `make test`. Both install what they need by package name.

CARGO ?= cargo

.PHONY: help demo test unit lint setup plugins plugins-test capacity clean

help:
	@echo "make demo      two synthetic cameras, a gateway, players, live figures (DEMO_SECONDS=10 to end by itself)"
	@echo "make test      everything that must pass: lints, unit, simulation, real peers"
	@echo "make unit      the part of it that needs no peer"
	@echo "make plugins   the guests under plugins/ as components in target/plugins/"
	@echo "make plugins-test  their own tests, without a gateway"
	@echo "make capacity  memory, descriptors and loss at 1000 sessions, in full"

demo:
	tests/demo.sh

test: setup lint plugins
	$(CARGO) test --locked

unit: lint
	$(CARGO) test --locked --lib --test transcripts --test splits --test session_sim --test pipe_sim \
		--test allocations --test config_cut --test tidy

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet

setup:
	tests/setup.sh

plugins:
	plugins/build.sh

plugins-test:
	plugins/test.sh

capacity:
	EDGEWEIR_CAPACITY=full $(CARGO) test --locked --release --test capacity -- --nocapture

clean:
	$(CARGO) clean
