//! What goes wrong on the way: Windlass killed in the middle, hosts that cannot be reached or die, disks that are full.
//! On a lab of its own.
//!
//! `cargo test --test faults [FILTER]`. It needs root and Linux. `WINDLASS_TEST_SEED=N` repeats a kill test's moments.

#[macro_use]
#[path = "../runner/mod.rs"]
mod runner;

mod connection;
mod disk;
mod kill;
mod kit;
mod lost;
mod sudo;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tables = vec![kill::all(), lost::all(), connection::all(), disk::all(), sudo::all()];
    runner::run(tables, kit::NODES, kit::tear_down)
}
