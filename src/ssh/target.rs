//! Where to connect and how: everything one connection needs to know, hops included.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::auth::{self, AgentSocket, Credentials};
use super::config::{Given, Hop, SshConfig};
use super::known_hosts::{HostKeyPolicy, HostKeys};
use crate::error::{Error, Result};

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

/// Values given by the inventory or on the command line. They come before those of ssh_config.
///
/// The host key policy, the known_hosts files and the time limit hold for jump hosts too, and the keys are offered to
/// jump hosts after their own. User, port, password and the rest are the target's alone.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The name for messages; the alias if None.
    pub name: Option<String>,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub keys: Vec<PathBuf>,
    pub password: Option<SecretString>,
    /// Jump hosts, the first to connect to first. An empty list means a direct connection, whatever ssh_config says.
    pub jumps: Option<Vec<Hop>>,
    pub agent: Option<AgentSocket>,
    pub identities_only: Option<bool>,
    /// Files used instead of the user's and the system's.
    pub known_hosts: Option<Vec<PathBuf>>,
    pub host_key_policy: Option<HostKeyPolicy>,
    pub connect_timeout: Option<Duration>,
}

/// Jump hosts behind each other that are followed.
const MAX_HOPS: usize = 16;

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

    /// What ssh_config says about `alias`, with what is given elsewhere put before it. Jump hosts are looked up in
    /// ssh_config as well.
    pub fn resolve(config: &SshConfig, alias: &str, overrides: &Overrides) -> Result<Target> {
        Target::resolve_within(config, alias, overrides, &mut Vec::new())
    }

    fn resolve_within(
        config: &SshConfig,
        alias: &str,
        overrides: &Overrides,
        seen: &mut Vec<String>,
    ) -> Result<Target> {
        if seen.iter().any(|s| s == alias) || seen.len() > MAX_HOPS {
            let chain = seen.join(" through ");
            return Err(Error::input(format!("the jump hosts form a loop: {chain} through {alias}"))
                .hint("set ProxyJump none for the first of them"));
        }
        seen.push(alias.to_owned());
        let given = Given { user: overrides.user.as_deref(), port: overrides.port };
        let options = config.resolve_given(alias, given)?;

        let (jumps, proxy_command) = match &overrides.jumps {
            Some(jumps) => (jumps.clone(), None),
            None => (options.proxy_jump, options.proxy_command),
        };
        // The last hop is the one next to the target; those before it are how that one is reached.
        let jump = match jumps.split_last() {
            None => None,
            Some((last, before)) => {
                let hop = Overrides {
                    user: last.user.clone(),
                    port: last.port,
                    keys: overrides.keys.clone(),
                    jumps: (!before.is_empty()).then(|| before.to_vec()),
                    known_hosts: overrides.known_hosts.clone(),
                    host_key_policy: overrides.host_key_policy,
                    connect_timeout: overrides.connect_timeout,
                    ..Overrides::default()
                };
                let mut target = Target::resolve_within(config, &last.host, &hop, seen)?;
                target.prefer_own_keys(overrides.keys.len(), config);
                Some(Box::new(target))
            }
        };
        seen.pop();

        let mut keys = overrides.keys.clone();
        keys.extend(options.identity_files.into_iter().filter(|k| !overrides.keys.contains(k)));
        let default_keys = if options.default_identities { auth::default_keys(config.home()) } else { Vec::new() };
        let (known_hosts, global_known_hosts) = match &overrides.known_hosts {
            Some(files) => (files.clone(), Vec::new()),
            None => (options.user_known_hosts, options.global_known_hosts),
        };
        let user = options.user.unwrap_or_else(|| config.local_user().to_owned());
        let mut target = Target::new(options.host_name, options.port.unwrap_or(22), user);
        target.name = overrides.name.clone().unwrap_or_else(|| alias.to_owned());
        target.credentials = Credentials {
            keys,
            default_keys,
            certificates: options.certificate_files,
            identities_only: overrides.identities_only.unwrap_or(options.identities_only),
            agent: overrides.agent.clone().unwrap_or(options.identity_agent),
            password: overrides.password.clone(),
            ..target.credentials
        };
        target.jump = jump;
        target.proxy_command = proxy_command;
        target.host_key_alias = options.host_key_alias;
        target.known_hosts = known_hosts;
        target.global_known_hosts = global_known_hosts;
        let policy = overrides.host_key_policy.or(options.host_key_policy);
        target.host_key_policy = policy.unwrap_or_default();
        if let Some(limit) = overrides.connect_timeout.or(options.connect_timeout.filter(|t| !t.is_zero())) {
            target.connect_timeout = limit;
        }
        // Zero is OpenSSH's default and rarely meant; a lost host must be noticed.
        if let Some(interval) = options.server_alive_interval.filter(|i| !i.is_zero()) {
            target.keepalive_interval = interval;
        }
        target.keepalive_max = options.server_alive_count_max.unwrap_or(target.keepalive_max);
        Ok(target)
    }

    /// On a jump host the keys given for the target come after its own, the usual ones included.
    fn prefer_own_keys(&mut self, given: usize, config: &SshConfig) {
        if self.credentials.keys.len() == given && !self.credentials.default_keys.is_empty() {
            let usual = auth::default_keys(config.home());
            self.credentials.keys.splice(0..0, usual.into_iter().filter(|k| k.exists()));
        } else {
            self.credentials.keys.rotate_left(given);
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
