#!/bin/sh
# Builds every guest under plugins/ and tests/guests/ to a component: target/plugins/NAME.wasm and
# target/plugins/hostile/NAME.wasm. Sets up what is missing and prints how; quick when nothing changed.
#
#   plugins/build.sh              all of them
#   plugins/build.sh NAME         one guest, by the name of its folder
#
# EDGEWEIR_WASM=active|debian|rustup takes one way to the compiler instead of the first that works.
set -eu

cd "$(dirname "$0")"
case "${CARGO_TARGET_DIR:-}" in
"") target=$(cd .. && pwd)/target ;;
/*) target=$CARGO_TARGET_DIR ;;
*) target=$(cd .. && pwd)/$CARGO_TARGET_DIR ;;
esac
out=$target/plugins
work=$target/guests
triple=wasm32-unknown-unknown
cargo=${CARGO:-cargo}

say() { echo "plugins/build.sh: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
    say "installing $* (Debian packages)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" >&2
}

# The linker for WebAssembly: rustc's own, or that of the newest LLVM that is installed.
find_linker() {
    for found in "$(rustc --print sysroot 2>/dev/null)"/lib/rustlib/*/bin/rust-lld \
        /usr/lib/llvm-2[0-9]/bin/wasm-ld /usr/lib/llvm-19/bin/wasm-ld ${1:-}; do
        [ -x "$found" ] && echo "$found" && return 0
    done
    return 1
}

find_clang() {
    for found in /usr/lib/llvm-2[0-9]/bin/clang /usr/lib/llvm-19/bin/clang $(command -v clang); do
        [ -x "$found" ] && echo "$found" && return 0
    done
    return 1
}

way_active() {
    libdir=$(rustc --print target-libdir --target $triple 2>/dev/null) && [ -d "$libdir" ]
}

# Debian's compiler with its sources: rustc-web is the one that keeps up with browsers.
debian_has() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] &&
        [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] &&
        minor=$(/usr/bin/rustc --version | sed -n 's/^rustc 1\.\([0-9]*\).*/\1/p') &&
        [ "${minor:-0}" -ge 95 ] && find_linker >/dev/null
}

way_debian() {
    debian_has && return 0
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || return 1
    apt-cache policy rustc-web 2>/dev/null | grep -Eq 'Candidate: 1\.(9[5-9]|[1-9][0-9]{2})' ||
        as_root apt-get -q update >&2 || return 1
    apt-cache policy rustc-web 2>/dev/null | grep -Eq 'Candidate: 1\.(9[5-9]|[1-9][0-9]{2})' ||
        return 1
    apt_install rustc-web cargo-web rust-web-src libstd-rust-web-dev || return 1
    find_linker >/dev/null || apt_install lld-22 || apt_install lld-19 || return 1
    debian_has
}

way_rustup() {
    command -v rustup >/dev/null && rustup target add $triple >&2
}

choose_way() {
    for way in ${EDGEWEIR_WASM:-active debian rustup}; do
        "way_$way" && echo "$way" && return 0
    done
    return 1
}

# The tool that runs here: made by the ordinary compiler. Not --locked: a copy of the template is a new
# member, and plugins-test tells of a lock file that drifts.
tool=$work/host/release/componentize
CARGO_TARGET_DIR=$work/host $cargo build -q --release -p componentize

way=$(choose_way) || fail "no way to $triple: \`rustup target add $triple\`, or Debian's rustc-web and rust-web-src"
only=${1:-}
[ -z "$only" ] || [ -f "$only/Cargo.toml" ] || [ "$only" = c-smooth ] || [ -f "../tests/guests/$only/Cargo.toml" ] ||
    fail "no guest $only here"
if [ -n "$only" ]; then what="-p $only"; else what="--workspace --exclude componentize"; fi
export CARGO_TARGET_DIR="$work/$way"
if [ "$only" != c-smooth ]; then
    case $way in
    debian)
        linker=$(find_linker)
        say "Rust guests with Debian's $(/usr/bin/rustc --version | cut -d' ' -f1,2), standard library from source, $linker"
        # A panic is a trap, whose text nobody sees: without it a guest is a sixth smaller. The flags
        # of .cargo/config.toml do not count beside these.
        PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc \
            RUSTFLAGS="-Zunstable-options -Cpanic=immediate-abort -Clink-arg=-zstack-size=131072" \
            CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker \
            /usr/bin/cargo build -q --release -Zbuild-std=std,panic_abort \
            -Zbuild-std-features=optimize_for_size --target $triple --lib $what
        ;;
    *)
        say "Rust guests with $(rustc --version | cut -d' ' -f1,2), target $triple ($way)"
        $cargo build -q --release --target $triple --lib $what
        ;;
    esac
fi
built=$CARGO_TARGET_DIR/$triple/release

# A guest in Rust is a folder whose crate is a cdylib.
for folder in * ../tests/guests/*; do
    name=${folder##*/}
    [ -f "$folder/Cargo.toml" ] && grep -q cdylib "$folder/Cargo.toml" || continue
    [ -z "$only" ] || [ "$only" = "$name" ] || continue
    case $folder in ../*) to=$out/hostile/$name.wasm ;; *) to=$out/$name.wasm ;; esac
    "$tool" "$built/$(echo "$name" | tr - _).wasm" "$to"
done

# The guest in C: the newest clang that is installed, and the same linker.
if [ -z "$only" ] || [ "$only" = c-smooth ]; then
    clang=$(find_clang) || { apt_install clang && clang=$(find_clang); } ||
        fail "no clang that knows wasm32; install one (Debian: clang)"
    linker=$(find_linker /usr/bin/wasm-ld) || { apt_install lld && linker=$(find_linker /usr/bin/wasm-ld); } ||
        fail "no linker for WebAssembly; install one (Debian: lld)"
    say "C guest with $clang, $linker"
    mkdir -p "$work/c"
    for source in pick guest; do
        "$clang" --target=wasm32-unknown-unknown -std=c11 -Oz -Wall -Wextra -Werror -ffreestanding \
            -fvisibility=hidden -c "c-smooth/$source.c" -o "$work/c/$source.o"
    done
    flavor=
    case $linker in *rust-lld) flavor="-flavor wasm" ;; esac
    "$linker" $flavor --no-entry --strip-all --gc-sections -z stack-size=16384 \
        -o "$work/c/c-smooth.wasm" "$work/c/pick.o" "$work/c/guest.o"
    "$tool" "$work/c/c-smooth.wasm" "$out/c-smooth.wasm" --wit wit --world balancer-plugin
fi

[ -z "$only" ] || exit 0

# Components of the wrong shape, from one text with lines switched on and off by name.
guests=../tests/guests
shape() {
    name=$1 world=$2 version=${3:-1.0.0}
    wit=$work/shapes/$name.wit
    text=$work/shapes/$name.wat
    rm -rf "$wit"
    mkdir -p "$wit/deps/wasi-filesystem"
    cp wit/*.wit "$guests/shapes.wit" "$wit"
    cp "$guests/preopens.wit" "$wit/deps/wasi-filesystem"
    case $name in
    mistyped-export) sed -i '/pick-upstream: func/s/option<u32>/option<string>/' "$wit/balancer.wit" ;;
    missing-function) sed -i '/pick-worker: func/d' "$wit/balancer.wit" ;;
    newer-import) version=1.1.0 ;;
    esac
    sed -i "s/@1\.0\.0/@$version/" "$wit/package.wit"
    sed -e "s/;;?$name //" -e "/;;!$name\b/d" -e "s/@1\.0\.0/@$version/" "$guests/minimal.wat" >"$text"
    "$tool" "$text" "$out/hostile/$name.wasm" --wit "$wit" --world "$world"
}
for name in minimal big-memory big-table mistyped-export start-loop start-trap missing-function; do
    shape $name balancer-plugin
done
for name in forbidden-import missing-lifecycle no-hook; do
    shape $name $name
done
shape newer-import newer-import
shape wrong-version balancer-plugin 2.0.0
"$tool" "$guests/minimal.wat" "$out/hostile/core-module.wasm" --core
say "$(ls "$out"/*.wasm | wc -l) guests in $out, $(ls "$out"/hostile/*.wasm | wc -l) for tests in $out/hostile"
