#!/bin/sh
# A Docker Engine for the tests, in a network namespace of its own so that the host's network stays as it is.
#
#   scripts/docker-engine.sh          install it if missing, start it if it is not running, print DOCKER_HOST
#   scripts/docker-engine.sh stop     end it and remove what it made
#
# It needs root. Nothing listens but the socket below, and only root may open it.
set -eu

dir=${CLAWSTAFF_TEST_ENGINE:-/run/clawstaff-test}
data=${CLAWSTAFF_TEST_ENGINE_DATA:-/var/lib/clawstaff-test-engine}
netns=clawstaff-test
socket=$dir/docker.sock
pidfile=$dir/docker.pid

say() { echo "docker-engine: $*" >&2; }

answers() {
    [ -S "$socket" ] && curl --silent --fail --max-time 5 --unix-socket "$socket" http://engine/_ping >/dev/null
}

running() {
    [ -f "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2>/dev/null
}

install_engine() {
    missing=
    command -v dockerd >/dev/null || missing="$missing docker.io"
    command -v iptables >/dev/null || missing="$missing iptables"
    command -v ip >/dev/null || missing="$missing iproute2"
    command -v curl >/dev/null || missing="$missing curl"
    [ -z "$missing" ] && return
    say "installing$missing"
    apt-get update -q >&2
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
}

start() {
    [ "$(id -u)" = 0 ] || { say "needs root"; exit 1; }
    if ! answers; then
        install_engine
        mkdir -p "$dir" "$data"
        [ -e "/run/netns/$netns" ] || ip netns add "$netns"
        ip -n "$netns" link set lo up
        running || rm -f "$pidfile"
        # nsenter and not `ip netns exec`: the latter remounts /sys and hides the cgroups.
        setsid nsenter --net="/run/netns/$netns" dockerd --data-root "$data" --exec-root "$dir/exec" \
            --pidfile "$pidfile" -H "unix://$socket" >"$dir/docker.log" 2>&1 </dev/null &
        tries=0
        until answers; do
            tries=$((tries + 1))
            if [ "$tries" -gt 300 ]; then
                say "the engine does not answer; the end of $dir/docker.log:"
                tail -n 20 "$dir/docker.log" >&2
                exit 1
            fi
            sleep 0.1
        done
    fi
    echo "DOCKER_HOST=unix://$socket"
}

stop() {
    if running; then
        pid=$(cat "$pidfile")
        kill "$pid"
        tries=0
        while kill -0 "$pid" 2>/dev/null; do
            tries=$((tries + 1))
            [ "$tries" -gt 300 ] && { say "process $pid does not end"; exit 1; }
            sleep 0.1
        done
    fi
    [ ! -e "/run/netns/$netns" ] || ip netns delete "$netns"
    rm -rf "$dir"
    say "stopped; images and containers are kept in $data"
}

case ${1:-start} in
    start) start ;;
    stop) stop ;;
    *) say "usage: $0 [start|stop]"; exit 2 ;;
esac
