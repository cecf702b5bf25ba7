//! The shipped clusters on real nodes: brought up, applied again, disturbed, failed over while a client writes.
//!
//! `cargo test --test clusters [FILTER]`. It needs root and Linux. Each test has a lab of its own.

#[macro_use]
#[path = "../runner/mod.rs"]
mod runner;

mod amqp;
mod data;
mod k3s;
mod kit;
mod postgres;
mod rabbitmq;
mod redis;

use std::process::ExitCode;

fn main() -> ExitCode {
    runner::run(vec![data::all(), k3s::all(), postgres::all(), rabbitmq::all(), redis::all()], 2, kit::tear_down)
}
