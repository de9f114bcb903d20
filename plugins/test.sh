#!/bin/sh
# The guests' own tests, with the ordinary compilers and without a gateway: formatting, lints, the lock
# file, the logic of each guest, and the interface (read and resolved as a whole).
set -eu

cd "$(dirname "$0")"
cargo=${CARGO:-cargo}
work=${CARGO_TARGET_DIR:-$(cd .. && pwd)/target}/guests
export CARGO_TARGET_DIR="$work/test"

$cargo fmt --all --check
# --locked: Cargo.lock is as the manifests want it.
$cargo clippy -q --locked --workspace --exclude componentize --all-targets -- -D warnings
$cargo test -q --locked --workspace --exclude componentize --lib

mkdir -p "$work/test/c"
${CC:-cc} -std=c11 -O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all \
    -o "$work/test/c/c-smooth" c-smooth/test.c c-smooth/pick.c
"$work/test/c/c-smooth"
