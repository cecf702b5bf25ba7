//! Where to connect and how: everything one connection needs to know, hops included.

use std::path::PathBuf;
use std::time::Duration;

use super::auth::Credentials;
use super::known_hosts::{HostKeyPolicy, HostKeys};

/// One host to connect to. [`Target::new`] fills in OpenSSH's defaults.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name people know it by; for messages and for looking up its host key.
    pub name: String,
    /// The address or name that is dialled.
    pub host: String,
    pub port: u16,
    pub credentials: Credentials,
    /// The host it is reached through; that one may have its own.
    pub jump: Option<Box<Target>>,
    /// A command whose pipes are used instead of TCP; tokens are expanded already. `jump` goes before it.
    pub proxy_command: Option<String>,
    /// The name its host key is looked up by, without a port, instead of `host`.
    pub host_key_alias: Option<String>,
    pub known_hosts: Vec<PathBuf>,
    pub global_known_hosts: Vec<PathBuf>,
    pub host_key_policy: HostKeyPolicy,
    /// For reaching the host, the handshake and authentication together; time spent asking a person not counted.
    pub connect_timeout: Duration,
    /// After this much silence the host is asked for a sign of life; zero switches it off.
    pub keepalive_interval: Duration,
    /// Unanswered questions after which the connection counts as lost.
    pub keepalive_max: u32,
    /// Output of one command, in bytes, that may wait to be read before its channel is closed.
    pub unread_limit: usize,
}

/// See [`Target::connect_timeout`].
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// See [`Target::unread_limit`].
pub const UNREAD_LIMIT: usize = 64 * 1024 * 1024;

impl Target {
    /// `host:port` with the defaults of OpenSSH and without any key.
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>) -> Target {
        let host = host.into();
        Target {
            name: host.clone(),
            host,
            port,
            credentials: Credentials { user: user.into(), ..Credentials::default() },
            jump: None,
            proxy_command: None,
            host_key_alias: None,
            known_hosts: Vec::new(),
            global_known_hosts: Vec::new(),
            host_key_policy: HostKeyPolicy::Strict,
            connect_timeout: CONNECT_TIMEOUT,
            keepalive_interval: Duration::from_secs(15),
            keepalive_max: 3,
            unread_limit: UNREAD_LIMIT,
        }
    }

    /// `host:port`, and the hops it is reached through; for messages.
    pub fn place(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match &self.jump {
            Some(jump) => format!("{host}:{} through {}", self.port, jump.place()),
            None => format!("{host}:{}", self.port),
        }
    }

    pub(super) fn host_keys(&self) -> HostKeys {
        let (name, port) = match &self.host_key_alias {
            Some(alias) => (alias.as_str(), 22),
            None => (self.host.as_str(), self.port),
        };
        HostKeys::new(name, port, self.known_hosts.clone(), self.global_known_hosts.clone(), self.host_key_policy)
    }
}
