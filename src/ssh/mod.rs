//! Connections to hosts.

pub mod auth;
pub mod channel;
pub mod config;
pub mod connection;
pub mod keys;
pub mod known_hosts;
mod patience;
mod pattern;
mod stream;
pub mod target;

pub use auth::AgentSocket;
pub use channel::{Exec, ExitStatus};
pub use config::{HostOptions, SshConfig};
pub use connection::{Connection, Connector, Output, connect};
pub use keys::{NoPrompts, Prompts};
pub use known_hosts::HostKeyPolicy;
pub use target::{Overrides, Target};

#[cfg(test)]
mod tests;
