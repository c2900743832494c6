#!/usr/bin/env bash
# Prints the figures of SPECIFICATION.md as tables. Nothing is asserted; machines differ.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in bwrap:bubblewrap crun:crun; do
    command -v "${tool%%:*}" >/dev/null && continue
    echo "installing from Debian, to compare with: ${tool##*:}"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${tool##*:}"
done
cargo build --release --workspace --bins
for bench in clawstaff-cage:start clawstaff-cage:crowd clawstaff-cage:neighbours clawstaff-gateway:line clawstaff-gateway:streams clawstaff-audit:append clawstaff-policy:decide clawstaff:revoke; do
    echo "== ${bench%%:*}: ${bench##*:}"
    cargo bench --quiet -p "${bench%%:*}" --bench "${bench##*:}"
done
