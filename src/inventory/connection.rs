//! How a host is reached: its resolved variables as typed settings.

use super::words;
use crate::source::{Diagnostic, Diagnostics, Span, nearest};
use secrecy::SecretString;
use serde_json::Value;
use std::path::PathBuf;

/// The names of variables that mean something for a connection, ours and those taken over from Ansible.
const KNOWN: [&str; 32] = [
    "ansible_host",
    "ansible_ssh_host",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
    "ansible_connection",
    "ansible_become",
    "ansible_become_user",
    "ansible_become_method",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_become_flags",
    "ansible_become_exe",
    "ansible_sudo_pass",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_args",
    "ansible_ssh_pipelining",
    "ansible_pipelining",
    "ansible_host_key_checking",
    "ansible_timeout",
    "ansible_ssh_timeout",
    "ansible_python_interpreter",
    "ansible_group_priority",
    "ansible_shell_type",
    "ansible_remote_tmp",
];

/// The names of the variables that say how a host is reached.
pub fn setting_names() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter()
}

/// The settings that are passwords.
pub const PASSWORDS: [&str; 6] = [
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
];

/// SSH options that tune how OpenSSH works and say nothing about whom to reach or trust.
const TUNING: [&str; 18] = [
    "controlmaster",
    "controlpersist",
    "controlpath",
    "serveraliveinterval",
    "serveralivecountmax",
    "tcpkeepalive",
    "connecttimeout",
    "connectionattempts",
    "compression",
    "loglevel",
    "batchmode",
    "requesttty",
    "preferredauthentications",
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "gssapiauthentication",
    "pubkeyauthentication",
    "updatehostkeys",
];

/// The known setting a mistyped `ansible_…` variable nearly is.
pub(super) fn near_miss(name: &str) -> Option<&'static str> {
    let bare = name.strip_prefix("ansible_")?;
    if KNOWN.contains(&name) {
        return None;
    }
    let known = || KNOWN.iter().filter_map(|k| k.strip_prefix("ansible_"));
    let near = nearest(bare, known())
        .or_else(|| known().find(|k| k.strip_prefix(bare).is_some_and(|r| r.starts_with('_') && bare.contains('_'))))?;
    KNOWN.iter().find(|k| k.strip_prefix("ansible_") == Some(near)).copied()
}

/// Which way commands reach the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Ssh,
    /// This machine itself.
    Local,
}

/// What to do about a host key that is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeys {
    /// Only known keys are accepted.
    Strict,
    /// A first key is accepted and remembered; a changed one is refused.
    AcceptNew,
    /// Whatever key the host shows.
    Off,
}

/// How to become another user, as far as the inventory says so.
#[derive(Debug, Clone, Default)]
pub struct Become {
    /// `ansible_become`; a playbook may say otherwise.
    pub enabled: Option<bool>,
    pub user: Option<String>,
    pub password: Option<SecretString>,
}

/// How one host is reached. What is `None` is for `ssh_config` and the defaults to say.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The host's name in the inventory.
    pub name: String,
    pub via: Via,
    /// The address to connect to: `ansible_host`, or the name.
    pub host: String,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub private_key_file: Option<PathBuf>,
    pub password: Option<SecretString>,
    pub becomes: Become,
    /// Hosts to go through, as `ssh -J` takes them; `none` turns off what `ssh_config` says.
    pub proxy_jump: Option<String>,
    pub host_keys: Option<HostKeys>,
    /// `UserKnownHostsFile`: where known keys are read from.
    pub user_known_hosts: Vec<PathBuf>,
    /// `windlass_known_hosts`: a file of known keys that belongs to the project.
    pub known_hosts: Option<PathBuf>,
    /// `IdentitiesOnly`: offer no other keys than the one given.
    pub identities_only: bool,
}

impl Connection {
    /// Reads a host's settings. `get` gives rendered variables, `place` where they were written.
    ///
    /// `implicit_local` is for `localhost` that is not in the inventory: it is reached without SSH.
    pub fn read(
        name: &str,
        implicit_local: bool,
        get: &dyn Fn(&str) -> Option<Value>,
        place: &dyn Fn(&str) -> Option<Span>,
    ) -> (Connection, Diagnostics) {
        let mut r = Reader { name, get, place, found: Diagnostics::default() };
        let mut c = Connection {
            name: name.to_string(),
            via: r.via(implicit_local),
            host: r.text(&["ansible_host", "ansible_ssh_host"]).unwrap_or_else(|| name.to_string()),
            port: r.port(),
            user: r.text(&["ansible_user", "ansible_ssh_user"]),
            private_key_file: r.path(&["ansible_private_key_file", "ansible_ssh_private_key_file"]),
            password: r.secret(&["ansible_password", "ansible_ssh_pass", "ansible_ssh_password"]),
            becomes: r.becomes(),
            proxy_jump: None,
            host_keys: None,
            user_known_hosts: vec![],
            known_hosts: r.path(&["windlass_known_hosts"]),
            identities_only: false,
        };
        for var in ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            r.arguments(var, &mut c);
        }
        (c, r.found)
    }
}

struct Reader<'a> {
    name: &'a str,
    get: &'a dyn Fn(&str) -> Option<Value>,
    place: &'a dyn Fn(&str) -> Option<Span>,
    found: Diagnostics,
}

impl Reader<'_> {
    fn finding(&mut self, var: &str, d: Diagnostic, hint: impl Into<String>) {
        let d = match (self.place)(var) {
            Some(s) => d.at(&s),
            None => d,
        };
        self.found.push(d.hint(hint));
    }
    fn wrong(&mut self, var: &str, what: &str, hint: impl Into<String>) {
        let d = Diagnostic::error(format!("{var} of host `{}` {what}", self.name));
        self.finding(var, d, hint);
    }

    /// The first of several names of one setting that has a value.
    fn first<'v>(&self, vars: &[&'v str]) -> Option<(&'v str, Value)> {
        vars.iter().find_map(|v| (self.get)(v).filter(|x| !x.is_null()).map(|x| (*v, x)))
    }

    fn text(&mut self, vars: &[&str]) -> Option<String> {
        let (var, value) = self.first(vars)?;
        match value {
            Value::String(s) if s.trim().is_empty() => None,
            Value::String(s) => Some(s),
            Value::Number(n) => Some(n.to_string()),
            _ => {
                self.wrong(var, "is not text", "write one value, in quotes where it looks like something else");
                None
            }
        }
    }

    fn path(&mut self, vars: &[&str]) -> Option<PathBuf> {
        self.text(vars).map(|t| expand_home(&t))
    }

    fn secret(&mut self, vars: &[&str]) -> Option<SecretString> {
        self.text(vars).map(SecretString::from)
    }

    fn port(&mut self) -> Option<u16> {
        let (var, value) = self.first(&["ansible_port", "ansible_ssh_port"])?;
        let port = match &value {
            Value::Number(n) => n.as_u64().and_then(|n| u16::try_from(n).ok()),
            Value::String(s) => s.trim().parse().ok(),
            _ => None,
        };
        let port = port.filter(|p| *p > 0);
        if port.is_none() {
            self.wrong(var, &format!("is not a port: {value}"), "a port is a number from 1 to 65535");
        }
        port
    }

    fn via(&mut self, implicit_local: bool) -> Via {
        let default = if implicit_local { Via::Local } else { Via::Ssh };
        match self.text(&["ansible_connection"]).as_deref() {
            None => default,
            Some("ssh" | "paramiko" | "paramiko_ssh" | "smart") => Via::Ssh,
            Some("local") => Via::Local,
            Some(other) => {
                let hint = match nearest(other, ["ssh", "local"]) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None => "Windlass knows `ssh` and `local`".into(),
                };
                self.wrong("ansible_connection", &format!("is `{other}`, which is not supported"), hint);
                default
            }
        }
    }

    fn becomes(&mut self) -> Become {
        let enabled = self.first(&["ansible_become"]).and_then(|(var, value)| {
            let b = truth(&value);
            if b.is_none() {
                self.wrong(var, &format!("is neither true nor false: {value}"), "write true or false");
            }
            b
        });
        if let Some(method) = self.text(&["ansible_become_method"])
            && method.rsplit('.').next() != Some("sudo")
        {
            self.wrong(
                "ansible_become_method",
                &format!("is `{method}`, which is not supported"),
                "Windlass becomes another user through sudo only",
            );
        }
        for var in ["ansible_become_flags", "ansible_become_exe"] {
            if self.text(&[var]).is_some() {
                let d = Diagnostic::warning(format!("{var} of host `{}` is not used", self.name));
                self.finding(var, d, "Windlass calls `sudo` with flags of its own");
            }
        }
        Become {
            enabled,
            user: self.text(&["ansible_become_user"]),
            password: self.secret(&["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"]),
        }
    }

    /// Takes from a string of `ssh` arguments what Windlass can honour, and says what it cannot.
    fn arguments(&mut self, var: &str, c: &mut Connection) {
        let Some(text) = self.text(&[var]) else { return };
        let Ok(line) = words::split(&text, false) else {
            self.wrong(var, "has a quote that is not closed", "close it");
            return;
        };
        let mut words = line.words.into_iter().map(|w| w.text);
        while let Some(word) = words.next() {
            // `-oX=y` and `-Jhost` as well as `-o X=y` and `-J host`.
            let flag: String = word.chars().take(2).collect();
            let takes_value = matches!(flag.as_str(), "-o" | "-J" | "-p" | "-i" | "-l" | "-F");
            let value = match word.get(2..).filter(|v| !v.is_empty()) {
                Some(v) => Some(v.to_string()),
                None if takes_value => words.next(),
                None => None,
            };
            match (flag.as_str(), value) {
                ("-o", Some(option)) => self.option(var, &option, c),
                ("-J", Some(hosts)) => c.proxy_jump = Some(hosts),
                ("-p", Some(p)) => self.option(var, &format!("Port={p}"), c),
                ("-i", Some(file)) => c.private_key_file = Some(expand_home(&file)),
                ("-l", Some(user)) => c.user = c.user.take().or(Some(user)),
                ("-C" | "-q" | "-T" | "-t", None) => {}
                (flag, None) if takes_value => {
                    self.wrong(var, &format!("ends in `{flag}`, which needs a value"), "add it, or take it out")
                }
                _ => self.unused(var, &word),
            }
        }
    }

    fn unused(&mut self, var: &str, argument: &str) {
        let d = Diagnostic::warning(format!("{var} of host `{}`: Windlass does not use `{argument}`", self.name));
        self.finding(
            var,
            d,
            "it understands -J, -p, -i, -l and -o with ProxyJump, StrictHostKeyChecking, UserKnownHostsFile, Port, User, IdentityFile, IdentitiesOnly",
        );
    }

    fn option(&mut self, var: &str, option: &str, c: &mut Connection) {
        let (key, value) = match option.split_once(['=', ' ']) {
            Some((k, v)) => (k.trim(), v.trim().trim_start_matches('=').trim()),
            None => (option, ""),
        };
        match (key.to_ascii_lowercase().as_str(), value) {
            (k, "") => {
                self.wrong(var, &format!("has the option `{k}` without a value"), format!("write -o {key}=value"))
            }
            ("proxyjump", v) => c.proxy_jump = Some(v.into()),
            ("proxycommand", v) if v.eq_ignore_ascii_case("none") => c.proxy_jump = Some("none".into()),
            ("proxycommand", v) => match jump_of(v) {
                Some(jump) => c.proxy_jump = Some(jump),
                None => {
                    let d =
                        Diagnostic::error(format!("{var} of host `{}`: this ProxyCommand cannot be run", self.name));
                    self.finding(var, d, "write the host to go through: -o ProxyJump=user@host:port");
                }
            },
            ("stricthostkeychecking", v) => match v.to_ascii_lowercase().as_str() {
                "yes" | "ask" | "true" => c.host_keys = Some(HostKeys::Strict),
                "accept-new" => c.host_keys = Some(HostKeys::AcceptNew),
                "no" | "off" | "false" => c.host_keys = Some(HostKeys::Off),
                _ => self.wrong(var, &format!("has StrictHostKeyChecking={v}"), "write yes, accept-new or no"),
            },
            ("userknownhostsfile", v) => c.user_known_hosts = v.split_whitespace().map(expand_home).collect(),
            ("port", v) => match v.parse::<u16>().ok().filter(|p| *p > 0) {
                Some(p) => c.port = c.port.or(Some(p)),
                None => self.wrong(var, &format!("has the port `{v}`"), "a port is a number from 1 to 65535"),
            },
            ("user", v) => c.user = c.user.take().or(Some(v.into())),
            ("identityfile", v) => c.private_key_file = Some(expand_home(v)),
            ("identitiesonly", v) => c.identities_only = v.eq_ignore_ascii_case("yes"),
            (k, _) if TUNING.contains(&k) => {}
            _ => self.unused(var, &format!("-o {option}")),
        }
    }
}

/// The jump host of `ssh -W %h:%p user@host`; `None` for any other command.
fn jump_of(command: &str) -> Option<String> {
    let line = words::split(command, false).ok()?;
    let mut words = line.words.into_iter().map(|w| w.text);
    if words.next()?.rsplit('/').next()? != "ssh" {
        return None;
    }
    let (mut host, mut port, mut user, mut forwards) = (None, None, None, false);
    while let Some(w) = words.next() {
        match w.as_str() {
            "-W" => forwards = words.next()? == "%h:%p",
            "-q" | "-T" | "-C" => {}
            "-p" => port = Some(words.next()?.parse::<u16>().ok()?),
            "-l" => user = Some(words.next()?),
            "-o" => {
                let option = words.next()?.to_ascii_lowercase();
                let key = option.split('=').next()?;
                if !TUNING.contains(&key) {
                    return None;
                }
            }
            _ if w.starts_with('-') || host.is_some() => return None,
            _ => host = Some(w),
        }
    }
    let mut jump = host.filter(|_| forwards)?;
    if let Some(u) = user {
        jump = format!("{u}@{jump}");
    }
    if let Some(p) = port {
        jump = format!("{jump}:{p}");
    }
    Some(jump)
}

/// `~/x` with the home directory in it.
pub fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// True or false in any of the spellings inventories use.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::Number(n) => match n.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "t" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "f" | "0" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Severity;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    fn read(vars: Value) -> (Connection, Diagnostics) {
        Connection::read("n1", false, &|k| vars.get(k).cloned(), &|_| None)
    }

    #[test]
    fn the_usual_settings() {
        let (c, found) = read(json!({
            "ansible_host": "10.0.0.1", "ansible_port": "2222", "ansible_user": "pi",
            "ansible_ssh_private_key_file": "/k", "ansible_ssh_pass": 1234, "ansible_become": "yes",
            "ansible_become_user": "root", "ansible_become_method": "sudo", "ansible_become_pass": "p",
            "ansible_host_key_checking": false, "ansible_timeout": 3, "ansible_python_interpreter": "/usr/bin/python3",
            "windlass_known_hosts": "kh",
        }));
        assert!(found.is_empty(), "{}", found.render(false));
        assert_eq!((c.host.as_str(), c.port, c.user.as_deref()), ("10.0.0.1", Some(2222), Some("pi")));
        assert_eq!(c.private_key_file, Some("/k".into()));
        assert_eq!(c.password.as_ref().map(|p| p.expose_secret()), Some("1234"));
        assert_eq!((c.becomes.enabled, c.becomes.user.as_deref()), (Some(true), Some("root")));
        assert_eq!(c.becomes.password.as_ref().map(|p| p.expose_secret()), Some("p"));
        assert_eq!((c.via, c.known_hosts.clone()), (Via::Ssh, Some("kh".into())));
        assert!(!format!("{c:?}").contains("1234"), "{c:?}");
    }

    #[test]
    fn defaults_and_localhost() {
        let (c, _) = read(json!({}));
        assert_eq!((c.host.as_str(), c.port, c.via), ("n1", None, Via::Ssh));
        let (c, _) = Connection::read("localhost", true, &|_| None, &|_| None);
        assert_eq!(c.via, Via::Local);
        assert_eq!(read(json!({"ansible_connection": "smart"})).0.via, Via::Ssh);
        assert_eq!(read(json!({"ansible_connection": "local"})).0.via, Via::Local);
    }

    #[test]
    fn ssh_arguments() {
        let (c, found) = read(json!({
            "ansible_ssh_common_args": "-o ProxyJump=pi@bastion:22 -oStrictHostKeyChecking=accept-new -o 'UserKnownHostsFile=/a /b' -C",
            "ansible_ssh_extra_args": "-p 2200 -o ControlMaster=auto -o ServerAliveInterval=30 -o IdentitiesOnly=yes -o \"User me\"",
        }));
        assert!(found.is_empty(), "{}", found.render(false));
        assert_eq!(c.proxy_jump.as_deref(), Some("pi@bastion:22"));
        assert_eq!((c.host_keys, c.port, c.identities_only), (Some(HostKeys::AcceptNew), Some(2200), true));
        assert_eq!(c.user_known_hosts, [PathBuf::from("/a"), "/b".into()]);
        assert_eq!(c.user.as_deref(), Some("me"));
        for (args, jump) in [
            ("-J a,b", "a,b"),
            ("-Ja", "a"),
            ("-o ProxyCommand=\"ssh -W %h:%p -q pi@bastion\"", "pi@bastion"),
            ("-o 'ProxyCommand ssh -p 2222 -l me -W %h:%p bastion'", "me@bastion:2222"),
            ("-o ProxyCommand=none", "none"),
        ] {
            let (c, found) = read(json!({"ansible_ssh_common_args": args}));
            assert!(found.is_empty(), "{args}: {}", found.render(false));
            assert_eq!(c.proxy_jump.as_deref(), Some(jump), "{args}");
        }
    }

    #[test]
    fn findings() {
        for (vars, message, severity) in [
            (json!({"ansible_port": 0}), "not a port", Severity::Error),
            (json!({"ansible_port": "ssh"}), "not a port", Severity::Error),
            (json!({"ansible_user": ["a"]}), "is not text", Severity::Error),
            (json!({"ansible_become": "maybe"}), "neither true nor false", Severity::Error),
            (json!({"ansible_become_method": "su"}), "`su`, which is not supported", Severity::Error),
            (json!({"ansible_connection": "winrm"}), "`winrm`, which is not supported", Severity::Error),
            (json!({"ansible_ssh_common_args": "-o"}), "ends in `-o`", Severity::Error),
            (json!({"ansible_ssh_common_args": "-o 'x"}), "not closed", Severity::Error),
            (
                json!({"ansible_ssh_common_args": "-o ProxyCommand='nc -x p %h %p'"}),
                "ProxyCommand cannot",
                Severity::Error,
            ),
            (
                json!({"ansible_ssh_common_args": "-o StrictHostKeyChecking=maybe"}),
                "StrictHostKeyChecking=maybe",
                Severity::Error,
            ),
            (json!({"ansible_ssh_common_args": "-p 0"}), "has the port `0`", Severity::Error),
            (json!({"ansible_ssh_extra_args": "-L 1:2:3"}), "does not use `-L`", Severity::Warning),
            (json!({"ansible_ssh_extra_args": "-o Ciphers=x"}), "does not use `-o Ciphers=x`", Severity::Warning),
            (json!({"ansible_become_flags": "-H"}), "is not used", Severity::Warning),
        ] {
            let (_, found) = read(vars.clone());
            let d = found.iter().next().unwrap_or_else(|| panic!("{vars}"));
            assert!(d.message.contains(message), "{vars}: {}", d.message);
            assert_eq!(d.severity, severity, "{vars}");
            assert!(d.hint.is_some(), "{vars}");
        }
    }

    #[test]
    fn mistyped_names() {
        assert_eq!(near_miss("ansible_hots"), Some("ansible_host"));
        assert_eq!(near_miss("ansible_usr"), Some("ansible_user"));
        assert_eq!(near_miss("ansible_become_pasword"), Some("ansible_become_password"));
        assert_eq!(near_miss("ansible_ssh_private_key"), Some("ansible_ssh_private_key_file"));
        for fine in ["ansible_host", "ansible_winrm_scheme", "ansible_distribution", "ansible_arch", "hots"] {
            assert_eq!(near_miss(fine), None, "{fine}");
        }
    }
}
