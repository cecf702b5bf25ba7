//! Windlass turns bare machines into a running cluster.
//!
//! Data flows one way: [`inventory`] and playbook files are compiled into a graph of steps, a scheduler hands
//! steps to host sessions ([`ssh`]), [`modules`] decide from what probes saw, and everything a run says leaves it
//! as one stream of events.

pub mod action;
pub mod cli;
pub mod error;
pub mod fetch;
mod glob;
pub mod graph;
pub mod host;
pub mod inventory;
pub mod lab;
pub mod modules;
pub mod playbook;
pub mod probe;
pub mod quote;
pub mod report;
pub mod run;
pub mod schema;
pub mod source;
pub mod ssh;
pub mod template;
#[cfg(test)]
mod testing;
pub mod vars;
pub mod vault;
