# Everything a newcomer needs: `make demo`, `make test`. Both install what they need by package name.

CARGO ?= cargo

BOARD ?= qemu-aarch64

.PHONY: help demo test unit lint setup plugins plugins-test no-compiler capacity bench fuzz cross cross-check \
	firmware qemu qemu-test clean

help:
	@echo "make demo      two synthetic cameras, a gateway, players, live figures (DEMO_SECONDS=10 to end by itself)"
	@echo "make test      everything that must pass: lints, unit, simulation, real peers, both boards in QEMU"
	@echo "make cross     the program for both ARM targets, static; sizes in target/cross/sizes.txt"
	@echo "make cross-check  the same in containers, as cross does it, where an engine and rustup answer"
	@echo "make firmware  image, signed boot image and signed update for BOARD=qemu-aarch64 or qemu-armv7"
	@echo "make qemu      boots it: rtsp://127.0.0.1:8554"
	@echo "make qemu-test the part of it with the boards: builds for both, boots them, cuts their power"
	@echo "make unit      the part of it that needs no peer"
	@echo "make plugins   the guests under plugins/ as components in target/plugins/"
	@echo "make plugins-test  their own tests, without a gateway"
	@echo "make no-compiler   a build that takes plugins compiled with the image only: lints and its test"
	@echo "make bench     what a relayed packet costs, beside bare loops and peers; BENCH=\"bursts --runs 9\" for a part"
	@echo "make fuzz      each parser, the session, the store and the relay for FUZZ_SECONDS=60 under libFuzzer"
	@echo "make capacity  memory, descriptors and loss at 1000 sessions, in full"

demo:
	tests/demo.sh

test: setup lint plugins plugins-test
	$(CARGO) test --locked
	$(MAKE) no-compiler
	$(MAKE) qemu-test

unit: lint
	$(CARGO) test --locked --lib --test transcripts --test splits --test session_sim --test pipe_sim \
		--test session_cases --test mutations --test allocations --test config_cut \
		--test block_replay --test flash_run --test tidy

lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet

setup:
	tests/setup.sh

plugins:
	plugins/build.sh

plugins-test:
	plugins/test.sh

# The code is made by a build with compiler, which the other one would replace.
no-compiler: plugins
	$(CARGO) build --locked
	cp target/debug/edgeweir target/edgeweir-compiler
	$(CARGO) clippy --locked --all-targets --no-default-features --features plugins -- -D warnings
	EDGEWEIR_COMPILER=$(CURDIR)/target/edgeweir-compiler $(CARGO) test --locked \
		--no-default-features --features plugins --test plugins_image

capacity: plugins
	EDGEWEIR_CAPACITY=full $(CARGO) test --locked --release --no-default-features --test capacity \
		-- --nocapture sessions_
	EDGEWEIR_CAPACITY=full $(CARGO) test --locked --release --test capacity -- --nocapture swaps_

bench: setup
	benches/setup.sh
	$(CARGO) bench --locked --profile release --bench relay -- --write $(BENCH)

# The first build takes some ten minutes.
fuzz:
	fuzz/run

cross:
	cross/build aarch64-unknown-linux-gnu
	cross/build armv7-unknown-linux-gnueabihf
	cat target/cross/sizes.txt

cross-check:
	cross/check

firmware:
	board/build $(BOARD)

qemu:
	board/build $(BOARD)
	board/qemu $(BOARD)

qemu-test: setup plugins
	$(CARGO) clippy --locked --test qemu -- -D warnings
	tests/qemu/run

clean:
	$(CARGO) clean
