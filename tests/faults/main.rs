//! What goes wrong on the way: Windlass killed in the middle, hosts that cannot be reached or die, disks that are full.
//! On a lab of its own.
//!
//! `cargo test --test faults [FILTER]`. It needs root and Linux; elsewhere every test is reported as ignored, in CI
//! (`CI=true`) as failed. `WINDLASS_TEST_SEED=N` repeats a kill test's moments.

/// The tests of a file, for the runner's table.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub fn all() -> Vec<(String, fn())> {
            let room = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$((format!("{room}::{}", stringify!($name)), $name as fn())),*]
        }
    };
}

mod connection;
mod disk;
mod kill;
mod kit;
mod lost;
mod sudo;

use libtest_mimic::{Arguments, Completion, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(kit::NODES));
    let tables = [kill::all(), lost::all(), connection::all(), disk::all(), sudo::all()];
    let cannot = kit::cannot_run();
    let trials = tables.into_iter().flatten().map(|(name, test)| {
        let cannot = cannot.clone();
        Trial::ignorable_test(name, move || match cannot {
            Some(why) if kit::must_run() => Err(why.into()),
            Some(why) => Ok(Completion::ignored_with(why)),
            None => {
                test();
                Ok(Completion::Completed)
            }
        })
    });
    kit::on_signals();
    let conclusion = libtest_mimic::run(&args, trials.collect());
    let left = kit::tear_down();
    if let Err(e) = &left {
        eprintln!("the lab could not be taken down: {e}");
    }
    if conclusion.has_failed() || left.is_err() { ExitCode::from(101) } else { ExitCode::SUCCESS }
}
