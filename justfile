# Every task of this repository; CI runs the same recipes. `just` alone lists them.

_default:
    @just --list

# Install what building and testing need (Debian): says what it installs
setup:
    scripts/setup.sh

# The whole story on this machine
demo *ARGS:
    scripts/demo.sh {{ARGS}}

# Everything CI checks
test:
    scripts/test.sh

# Format, lints, tidy, licences
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask tidy
    cargo deny check bans licenses sources

# The native conformance suite on a machine that has nothing but cgroup v2 (QEMU, no KVM)
vm *ARGS:
    scripts/vm-cgroup2.sh {{ARGS}}

# Figures as tables; nothing is asserted
bench:
    scripts/bench.sh

# 10,000 native cages one after the other, 200 at once, 1,000 idle side by side (root): ends with an error if one fails or leaves anything
crowd *JOBS="cycles 10000 parallel 200 idle 1000":
    cargo build --release -p claw -p clawstaff-launcher --bins
    cargo bench -p clawstaff-cage --bench crowd -- {{JOBS}}

# Regenerate what is generated and committed
generate:
    UPDATE_OPENAPI=1 cargo nextest run -p clawstaff-control-plane openapi matrix

# Run the isolation suite on every back end of this host and write docs/isolation-matrix.md (root, a Docker engine)
isolation-matrix:
    cargo build -p claw -p clawstaff-launcher --bins
    UPDATE_MATRIX={{justfile_directory()}}/docs/isolation-matrix.md cargo nextest run -p clawstaff-cage --test native --test docker -j1 back_end_conforms

# See which row of seccomp/cage.json real software uses in a cage, and write seccomp/coverage.md (root)
seccomp-coverage:
    cargo build -p claw -p clawstaff-launcher --bins
    UPDATE_COVERAGE=1 cargo nextest run -p clawstaff-cage --test seccomp
