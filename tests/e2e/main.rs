//! Windlass against real nodes: every module and everything a run promises, on a lab of its own.
//!
//! `cargo test --test e2e [FILTER]`. It needs root and Linux.

#[macro_use]
#[path = "../runner/mod.rs"]
mod runner;

mod accounts;
mod apt;
mod cluster;
mod commands;
mod fetch;
mod files;
mod filters;
mod flow;
mod handlers;
mod hosts;
mod kit;
mod logins;
mod managers;
mod more;
mod odd;
mod ready;
mod rough;
mod scripts;
mod secrets;
mod sessions;
mod software;
mod system;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tables = vec![
        apt::all(),
        cluster::all(),
        hosts::all(),
        system::all(),
        handlers::all(),
        accounts::all(),
        fetch::all(),
        files::all(),
        filters::all(),
        commands::all(),
        flow::all(),
        logins::all(),
        managers::all(),
        more::all(),
        odd::all(),
        ready::all(),
        rough::all(),
        secrets::all(),
        sessions::all(),
        scripts::all(),
        software::all(),
    ];
    runner::run(tables, kit::NODES, kit::tear_down)
}
