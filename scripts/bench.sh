#!/usr/bin/env bash
# Prints the figures of SPECIFICATION.md as tables. Nothing is asserted; machines differ.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --workspace --bins
for bench in clawstaff-cage:start clawstaff-cage:crowd clawstaff-cage:neighbours clawstaff-gateway:line clawstaff-audit:append clawstaff-policy:decide clawstaff:revoke; do
    echo "== ${bench%%:*}: ${bench##*:}"
    cargo bench --quiet -p "${bench%%:*}" --bench "${bench##*:}"
done
