#!/usr/bin/env bash
# Sets up everything the tests need and runs them all. CI runs exactly this.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
engine=$(scripts/docker-engine.sh)
export "${engine?}" # DOCKER_HOST=unix://…

cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
cargo deny --log-level error check bans licenses sources
cargo build --workspace --bins
cargo test --workspace --doc
cargo nextest run --workspace --no-fail-fast
# The same isolation suite where there is nothing but cgroup v2.
VM_SECONDS=1200 scripts/vm-cgroup2.sh
