//! Windlass against real nodes: every module and everything a run promises, on a lab of its own.
//!
//! `cargo test --test e2e [FILTER]`. It needs root and Linux; elsewhere every test is reported as ignored, in CI
//! (`CI=true`) as failed.

/// The tests of a file, for the runner's table.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub fn all() -> Vec<(String, fn())> {
            let room = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$((format!("{room}::{}", stringify!($name)), $name as fn())),*]
        }
    };
}

mod accounts;
mod apt;
mod commands;
mod files;
mod flow;
mod handlers;
mod hosts;
mod kit;
mod logins;
mod odd;
mod secrets;
mod sessions;
mod system;

use libtest_mimic::{Arguments, Completion, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(kit::NODES));
    let tables = [
        apt::all(),
        hosts::all(),
        system::all(),
        handlers::all(),
        accounts::all(),
        files::all(),
        commands::all(),
        flow::all(),
        logins::all(),
        odd::all(),
        secrets::all(),
        sessions::all(),
    ];
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
