#!/bin/sh
# Installs the relays that the benchmarks compare with: Debian packages by name. Those that the
# tests need too (go2rtc) come from tests/setup.sh. Does nothing when nothing is missing.
set -eu

packages="
rtpengine-daemon
nginx
libnginx-mod-stream
socat
"

missing=
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
echo "benches/setup.sh: installing$missing" >&2
$as_root apt-get -q update
# The packages would start services of their own.
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -q install -y --no-install-recommends $missing
