#!/bin/sh
# Measures Windlass against other tools and against a script written by hand, on three fresh nodes of a lab of its own.
#
#   sudo bench/run.sh [--repeat N] [--first N] [--tools a,b,…] [--out FILE] [--keep]
#
# Needs root on Linux (the lab), cargo, python3 with venv, and a way to PyPI and to Debian's packages.
# See bench/README.md for what is measured, and bench/RESULTS.md for the last figures.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd)
work=${BENCH_WORK:-/tmp/windlass-bench}
mkdir -p "$work"

cargo build --release --quiet --manifest-path "$here/../Cargo.toml"
target=${CARGO_TARGET_DIR:-$here/../target}

if [ ! -x "$work/venv/bin/ansible-playbook" ] || [ ! -x "$work/venv/bin/pyinfra" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet pyinfra ansible-core mitogen
fi
exec python3 "$here/measure.py" --windlass "$target/release/windlass" --work "$work" "$@"
