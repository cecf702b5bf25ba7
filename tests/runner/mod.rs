//! Runs tables of tests against a lab: what the end-to-end and the fault tests have in common.

use libtest_mimic::{Arguments, Completion, Trial};
use std::process::{Child, ExitCode, Output};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use windlass::lab;

/// The tests of a file, for the runner's table.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub fn all() -> $crate::runner::Table {
            let room = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$((format!("{room}::{}", stringify!($name)), $name as fn())),*]
        }
    };
}

/// A file's tests and their names.
pub type Table = Vec<(String, fn())>;

/// Runs the tests, `threads` side by side, and takes the lab down whatever becomes of them. Where no lab can be made,
/// every test is ignored with the reason; in CI (`CI=true`) it fails.
pub fn run(tables: Vec<Table>, threads: usize, tear_down: fn() -> Result<(), String>) -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(threads));
    let cannot = if args.list { None } else { cannot_run() };
    let trials = tables.into_iter().flatten().map(|(name, test)| {
        let cannot = cannot.clone();
        Trial::ignorable_test(name, move || match cannot {
            Some(why) if must_run() => Err(why.into()),
            Some(why) => Ok(Completion::ignored_with(why)),
            None => {
                test();
                Ok(Completion::Completed)
            }
        })
    });
    on_signals(tear_down);
    let conclusion = libtest_mimic::run(&args, trials.collect());
    let left = tear_down();
    if let Err(e) = &left {
        eprintln!("the lab could not be taken down: {e}");
    }
    if conclusion.has_failed() || left.is_err() { ExitCode::from(101) } else { ExitCode::SUCCESS }
}

/// Waits for a command's end, and kills it after `patience`: one that hangs is a failed test, not a hung test run.
pub fn output_within(patience: Duration, child: Child) -> Output {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    let (ended, watch) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watch.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            eprintln!("a command hangs for {} s: killed", patience.as_secs());
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let out = child.wait_with_output().expect("a command's output");
    drop(ended);
    let _ = watchdog.join();
    out
}

/// Why no lab can be made here. What it needs is installed first, with a word about it.
fn cannot_run() -> Option<String> {
    lab::get_ready(&mut |line| eprintln!("lab: {line}")).err().map(|e| match e.hint.clone() {
        Some(h) => format!("{e} ({h})"),
        None => e.to_string(),
    })
}

/// Where tests are expected to run, not being able to is a failure.
fn must_run() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true" || v == "1")
}

/// Takes the lab down when the tests are told to stop.
fn on_signals(tear_down: fn() -> Result<(), String>) {
    std::thread::spawn(move || {
        let Ok(rt) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let signal = rt.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
                return None;
            };
            tokio::select! { _ = int.recv() => Some(2), _ = term.recv() => Some(15) }
        });
        if let Some(s) = signal {
            eprintln!("stopping: the lab is taken down");
            if let Err(e) = tear_down() {
                eprintln!("the lab could not be taken down: {e}");
            }
            std::process::exit(128 + s);
        }
    });
}
