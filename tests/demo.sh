#!/usr/bin/env bash
# Two synthetic cameras, a gateway before them, players of our own through it, live figures. First with
# the program that is quickly built; then, when the one with plugins is ready, a plugin chooses the
# camera of each session, and half-way another one takes its place while media flow.
#
#   DEMO_SECONDS=10   end by itself after so long with plugins; without it: until Ctrl-C
#   DEMO_LISTEN=0.0.0.0   be reachable from other machines [127.0.0.1]
#
# Ends with 0 only if media flowed over UDP and over TCP in every round, and not a packet was lost over
# TCP.
set -euo pipefail
cd "$(dirname "$0")/.."

listen=${DEMO_LISTEN:-127.0.0.1}
limit=${DEMO_SECONDS:-0}
cargo=${CARGO:-cargo}
built=${CARGO_TARGET_DIR:-target}/demo/edgeweir
guests=${CARGO_TARGET_DIR:-target}/plugins

step() { printf 'demo: [%3d s] %s\n' "$SECONDS" "$*"; }
fail() {
    echo "demo: $*" >&2
    exit 1
}

if ! [[ $limit =~ ^[0-9]{1,6}$ ]]; then
    echo "demo: DEMO_SECONDS is '$limit'; it takes whole seconds" >&2
    exit 2
fi
command -v "$cargo" >/dev/null || fail "cargo is missing; install Rust from https://rustup.rs"
if ! command -v cc >/dev/null; then
    # The linker is all that a machine with Rust may lack.
    step "a C compiler is missing (the linker); installing gcc"
    sudo=; [[ $(id -u) == 0 ]] || sudo=sudo
    $sudo apt-get update -q && $sudo apt-get install -qy gcc libc6-dev
fi

dir=$(mktemp -d)
children=()
cleanup() {
    trap - EXIT INT TERM
    # A build that is under way has a compiler below it.
    for pid in $(pgrep -P "${building:-0}" || true); do kill "$pid" 2>/dev/null || true; done
    for pid in "${children[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${children[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap cleanup EXIT

rounds=0
verdict() {
    if ((rounds > 0)); then
        echo "media flowed in $rounds round(s)"
        exit 0
    fi
    echo "demo: stopped before media was seen" >&2
    exit 1
}
trap 'echo; verdict' INT TERM

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first port from $1 on where nothing answers.
free_port() {
    local port=$1
    while answers "$port"; do port=$((port + 1)); done
    echo "$port"
}

await() { # name, pid, port
    for _ in $(seq 100); do
        answers "$3" && return
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    echo "demo: $1 does not answer on port $3; its log:" >&2
    tail -n 20 "$dir/$1.log" >&2
    exit 1
}

background() { # name, command...
    local name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 &
    children+=($!)
}

# Builds something for the demo; its output is shown only when it fails.
build() {
    "$@" >"$dir/build.log" 2>&1 || {
        cat "$dir/build.log" >&2
        fail "the build failed"
    }
}
program() { build "$cargo" build --profile demo --locked --quiet "$@"; }
with_plugins() {
    program
    for guest in least-loaded sticky-hash; do
        [[ -f $guests/$guest.wasm ]] || build plugins/build.sh "$guest"
    done
}

step "building the gateway; the first time this takes about a minute"
program --no-default-features
edgeweir=$dir/edgeweir
cp "$built" "$edgeweir"
# What else there is to build takes longer: it goes on while pictures flow.
step "building it with plugins meanwhile, and two plugins"
with_plugins &
building=$!
children+=("$building")

port_a=$(free_port 8561)
background camera-a "$edgeweir" camera --listen "127.0.0.1:$port_a" --name "camera A" --audio
await camera-a "${children[-1]}" "$port_a"
port_b=$(free_port $((port_a + 1)))
background camera-b "$edgeweir" camera --listen "127.0.0.1:$port_b" --name "camera B" --audio
await camera-b "${children[-1]}" "$port_b"

port=$(free_port 8554)
configure() { # how the camera of a session is chosen
    cat <<TOML
[gateway]
listen = ["$listen:$port"]

[[origin]]
name = "camera-a"
url = "rtsp://127.0.0.1:$port_a"

[[origin]]
name = "camera-b"
url = "rtsp://127.0.0.1:$port_b"

[[route]]
path = "/cam/*"
origins = ["camera-a", "camera-b"]
policy = "$1"
auth = "none"
TOML
}
export EDGEWEIR_CONTROL=$dir/edgeweir.sock
start_gateway() {
    background gateway "$edgeweir" run --config "$dir/gateway.toml"
    gateway=${children[-1]}
    await gateway "$gateway" "$port"
}
configure round-robin >"$dir/gateway.toml"
start_gateway

host=$listen
[[ $host == 0.0.0.0 ]] && host=$(hostname -I 2>/dev/null | cut -d' ' -f1)
url=rtsp://${host:-127.0.0.1}:$port/cam/1
cat <<TEXT

  two cameras  127.0.0.1:$port_a and :$port_b, behind one gateway
  your player  $url
               e.g.  ffplay $url    or  mpv $url
               over TCP: ffplay -rtsp_transport tcp $url

TEXT
step "the gateway serves"

# least-loaded brings a client back to the camera that it had; sticky-hash bounds the share of each
# camera, so that one of the later players goes to the other one: see the table of sessions.
policy=sticky-hash
next_policy() {
    if [[ $policy == least-loaded ]]; then policy=sticky-hash; else policy=least-loaded; fi
    step "policy: $policy"
    "$edgeweir" plugin install "$guests/$policy.wasm" --slot balancer
}

# One player over UDP and one over TCP for so many seconds, and figures meanwhile; half-way, where there
# are plugins, another policy and two players more.
play() {
    local seconds=$1 half=$(($1 / 2)) failed=0 transport pid swapped=$without_plugins
    local kept=${#children[@]}
    local -A players=()
    for transport in udp tcp; do
        background "$transport" "$edgeweir" probe "rtsp://127.0.0.1:$port/cam/1" \
            --transport "$transport" --seconds "$seconds"
        players[$transport]=${children[-1]}
    done
    for ((second = 2; second < seconds; second += 2)); do
        sleep 2
        if [[ -z $swapped ]] && ((second >= half)) && ((seconds - second >= 2)); then
            swapped=1
            next_policy || failed=1
            for transport in udp tcp; do
                background "$transport-later" "$edgeweir" probe "rtsp://127.0.0.1:$port/cam/1" \
                    --transport "$transport" --seconds "$((seconds - second))"
                players[$transport-later]=${children[-1]}
            done
            sleep 1
        fi
        "$edgeweir" status || failed=1
    done
    for transport in udp tcp udp-later tcp-later; do
        [[ -n ${players[$transport]:-} ]] || continue
        pid=${players[$transport]}
        wait "$pid" || failed=1
        echo "--- what the player over $transport saw"
        cat "$dir/$transport.log"
        # Behind the track's number, kind and codec: packets, bytes, rate, packets lost.
        if [[ $transport == tcp* ]] && awk '/^[0-9]+ / && $7 != 0 { lost = 1 } END { exit !lost }' \
            "$dir/$transport.log"; then
            echo "demo: packets were lost over $transport" >&2
            failed=1
        fi
    done
    # The two players are gone; their numbers must not be used again.
    children=("${children[@]:0:kept}")
    if ((failed)); then
        echo "demo: no media, or not all of it; the gateway's log:" >&2
        tail -n 20 "$dir/gateway.log" >&2
        exit 1
    fi
    rounds=$((rounds + 1))
}

# Until the program with plugins is there; where it was built before, at once.
sleep 1
without_plugins=yes
while kill -0 "$building" 2>/dev/null; do play 6; done
wait "$building" || fail "the build with plugins failed"

step "the same with plugins: the gateway starts anew"
kill "$gateway"
wait "$gateway" || true
children=("${children[@]:1:2}") # the cameras stay
without_plugins=
cp "$built" "$dir/edgeweir-plugins"
edgeweir=$dir/edgeweir-plugins
{
    configure plugin:balancer
    printf '\n[[plugin]]\nslot = "balancer"\n'
} >"$dir/gateway.toml"
start_gateway
next_policy
if ((limit > 0)); then
    play "$limit"
    verdict
fi
step "Ctrl-C ends it"
while true; do play 10; done
