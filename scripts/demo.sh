#!/usr/bin/env bash
# Builds ClawStaff and runs its demo: the whole story on this machine, offline once built.
# Installs nothing. Needs Rust and a C compiler. Arguments go to `clawstaff demo`.
# PROFILE=dev uses the unoptimized build.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${PROFILE:-release}
cargo build --profile "$profile" --workspace --bins
[ "$profile" = dev ] && dir=debug || dir=$profile
host=$(rustc -vV | sed -n 's/^host: //p')
exec "${CARGO_TARGET_DIR:-target}/$host/$dir/clawstaff" demo "$@"
