//! The user's ssh_config: what it says about a host.
//!
//! Understood: Host, Match (host, originalhost, user, localuser, all, canonical, final; exec on request), Include, and
//! the options that matter for reaching a host. Other options are passed over. The first value found wins.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use fancy_regex::Regex;
use sha1::{Digest, Sha1};

use super::auth::AgentSocket;
use super::known_hosts::HostKeyPolicy;
use super::pattern;
use crate::error::{Error, Result};

/// Includes within includes that are followed.
const MAX_DEPTH: usize = 16;

/// The parsed configuration files, in order of precedence.
#[derive(Debug, Clone, Default)]
pub struct SshConfig {
    files: Vec<Vec<Item>>,
    me: Me,
    exec_allowed: bool,
}

/// What the configuration says about one host. An option nobody set is None or empty, except the known_hosts files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOptions {
    /// The name or address to connect to, in lower case.
    pub host_name: String,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity_files: Vec<PathBuf>,
    /// No IdentityFile was set (not even `none`): the usual key files are to be tried.
    pub default_identities: bool,
    pub identities_only: bool,
    pub identity_agent: AgentSocket,
    pub certificate_files: Vec<PathBuf>,
    /// Jump hosts, the one to connect to first coming first.
    pub proxy_jump: Vec<Hop>,
    pub proxy_command: Option<String>,
    pub user_known_hosts: Vec<PathBuf>,
    pub global_known_hosts: Vec<PathBuf>,
    pub host_key_policy: Option<HostKeyPolicy>,
    pub host_key_alias: Option<String>,
    pub connect_timeout: Option<Duration>,
    pub server_alive_interval: Option<Duration>,
    pub server_alive_count_max: Option<u32>,
}

/// A jump host as ProxyJump names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
}

/// Values given elsewhere, which come before those of the files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    pub user: Option<&'a str>,
    pub port: Option<u16>,
}

/// Who runs this, on which machine.
#[derive(Debug, Clone, Default)]
struct Me {
    user: String,
    uid: String,
    home: PathBuf,
    machine: String,
}

#[derive(Debug, Clone)]
enum Item {
    Host(Vec<String>),
    Match(Vec<Criterion>),
    Set(Setting, Place),
    Include(Vec<Item>),
}

#[derive(Debug, Clone)]
struct Criterion {
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    All,
    /// `final` and `canonical`: true in the second pass.
    Final {
        asks_for_it: bool,
    },
    Host(String),
    OriginalHost(String),
    User(String),
    LocalUser(String),
    Exec(String),
    /// Known to OpenSSH, not to us: the whole Match does not apply.
    Unsupported,
}

#[derive(Debug, Clone)]
enum Setting {
    HostName(String),
    User(String),
    Port(u16),
    IdentityFile(String),
    IdentitiesOnly(bool),
    IdentityAgent(String),
    CertificateFile(String),
    ProxyJump(String),
    ProxyCommand(String),
    UserKnownHosts(Vec<String>),
    GlobalKnownHosts(Vec<String>),
    Policy(HostKeyPolicy),
    HostKeyAlias(String),
    ConnectTimeout(Option<Duration>),
    ServerAliveInterval(Duration),
    ServerAliveCountMax(u32),
}

#[derive(Debug, Clone, Default)]
struct Place {
    file: PathBuf,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// The values selected for a host, tokens not yet expanded, each with its place.
#[derive(Debug, Default)]
struct Selected {
    host_name: Option<(String, Place)>,
    user: Option<String>,
    port: Option<u16>,
    identity_files: Vec<(String, Place)>,
    identities_only: Option<bool>,
    identity_agent: Option<(String, Place)>,
    certificate_files: Vec<(String, Place)>,
    proxy: Option<(Proxy, Place)>,
    user_known_hosts: Option<(Vec<String>, Place)>,
    global_known_hosts: Option<(Vec<String>, Place)>,
    policy: Option<HostKeyPolicy>,
    host_key_alias: Option<String>,
    connect_timeout: Option<Option<Duration>>,
    server_alive_interval: Option<Duration>,
    server_alive_count_max: Option<u32>,
}

#[derive(Debug, Clone)]
enum Proxy {
    Jump(String),
    Command(String),
}

impl SshConfig {
    /// Reads the files in the order given; the first value found wins. Every file must exist. Errors name file:line.
    pub fn load(files: &[PathBuf]) -> Result<SshConfig> {
        SshConfig::load_for(files, Me::from_system())
    }

    /// Reads `~/.ssh/config` and `/etc/ssh/ssh_config`, those that exist.
    pub fn load_default() -> Result<SshConfig> {
        let me = Me::from_system();
        let files = [me.home.join(".ssh/config"), PathBuf::from("/etc/ssh/ssh_config")];
        let present: Vec<_> = files.into_iter().filter(|f| f.exists()).collect();
        SshConfig::load_for(&present, me)
    }

    /// No configuration: OpenSSH's defaults for every host.
    pub fn empty() -> SshConfig {
        SshConfig { me: Me::from_system(), ..SshConfig::default() }
    }

    fn load_for(files: &[PathBuf], me: Me) -> Result<SshConfig> {
        let mut parsed = Vec::new();
        for file in files {
            let text = fs::read_to_string(file)
                .map_err(|e| Error::input(format!("cannot read {}", file.display())).because(e))?;
            parsed.push(Parser { file, me: &me, depth: 0 }.parse(&text)?);
        }
        Ok(SshConfig { files: parsed, me, exec_allowed: false })
    }

    /// Lets `Match exec` run its commands on this machine; without this such a Match never applies.
    pub fn allow_exec(mut self) -> SshConfig {
        self.exec_allowed = true;
        self
    }

    /// The name of the user who runs this.
    pub fn local_user(&self) -> &str {
        &self.me.user
    }

    /// The home directory of the user who runs this.
    pub fn home(&self) -> &Path {
        &self.me.home
    }

    /// What applies to a host called `alias`; a user given elsewhere counts for `Match user` and `%r`.
    pub fn resolve(&self, alias: &str, user: Option<&str>) -> Result<HostOptions> {
        self.resolve_given(alias, Given { user, port: None })
    }

    /// As [`SshConfig::resolve`], with a port given elsewhere too.
    pub fn resolve_given(&self, alias: &str, given: Given<'_>) -> Result<HostOptions> {
        let selected = self.select(alias, given)?;
        self.expand(alias, selected)
    }

    fn select(&self, alias: &str, given: Given<'_>) -> Result<Selected> {
        let mut selected = Selected { user: given.user.map(str::to_owned), port: given.port, ..Selected::default() };
        let mut pass = Pass { config: self, alias, wants_second: false, host: None };
        for file in &self.files {
            pass.apply(file, &mut true, true, &mut selected)?;
        }
        if pass.wants_second {
            // The second pass is for the name the first one found, and cannot change that.
            let host = host_name(alias, &selected)?.to_ascii_lowercase();
            let place = selected.host_name.map_or_else(Place::default, |(_, place)| place);
            selected.host_name = Some((host.replace('%', "%%"), place));
            let mut again = Pass { host: Some(host), ..pass };
            for file in &self.files {
                again.apply(file, &mut true, true, &mut selected)?;
            }
        }
        Ok(selected)
    }

    fn expand(&self, alias: &str, s: Selected) -> Result<HostOptions> {
        let host = host_name(alias, &s)?.to_ascii_lowercase();
        let user = s.user.clone().unwrap_or_else(|| self.me.user.clone());
        let host_key_alias = s.host_key_alias.map(|a| a.to_ascii_lowercase());
        let tokens = Tokens {
            me: &self.me,
            host: &host,
            alias,
            port: s.port.unwrap_or(22),
            user: &user,
            host_key_alias: host_key_alias.as_deref().unwrap_or(&host),
            jump: match &s.proxy {
                Some((Proxy::Jump(jump), _)) if !is_none(jump) => jump,
                _ => "",
            },
        };
        let paths = |files: &[(String, Place)]| -> Result<Vec<PathBuf>> {
            let mut paths = Vec::new();
            for (text, place) in files.iter().filter(|(text, _)| !is_none(text)) {
                let path = tokens.path(text).map_err(|e| bad(place, e))?;
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
            Ok(paths)
        };
        let known_hosts = |files: Option<(Vec<String>, Place)>, default: [PathBuf; 2]| match files {
            None => Ok(Vec::from(default)),
            Some((files, place)) => {
                let files: Vec<_> = files.into_iter().map(|f| (f, place.clone())).collect();
                paths(&files)
            }
        };
        let identity_agent = match &s.identity_agent {
            None => AgentSocket::Environment,
            Some((text, _)) if is_none(text) => AgentSocket::None,
            Some((text, _)) if text == "SSH_AUTH_SOCK" => AgentSocket::Environment,
            Some((text, place)) => match text.strip_prefix('$').filter(|v| !v.starts_with('{')) {
                Some(variable) => AgentSocket::Path(environment(variable).map_err(|e| bad(place, e))?.into()),
                None => AgentSocket::Path(tokens.path(text).map_err(|e| bad(place, e))?),
            },
        };
        let (mut proxy_jump, mut proxy_command) = (Vec::new(), None);
        match &s.proxy {
            Some((Proxy::Jump(text), place)) => proxy_jump = parse_jump(text).map_err(|e| bad(place, e))?,
            Some((Proxy::Command(text), place)) if !is_none(text) => {
                proxy_command = Some(tokens.expand(text).map_err(|e| bad(place, e))?);
            }
            _ => {}
        }
        let ssh = self.me.home.join(".ssh");
        Ok(HostOptions {
            user: s.user.clone(),
            port: s.port,
            identity_files: paths(&s.identity_files)?,
            default_identities: s.identity_files.is_empty(),
            identities_only: s.identities_only.unwrap_or(false),
            identity_agent,
            certificate_files: paths(&s.certificate_files)?,
            proxy_jump,
            proxy_command,
            user_known_hosts: known_hosts(s.user_known_hosts, [ssh.join("known_hosts"), ssh.join("known_hosts2")])?,
            global_known_hosts: known_hosts(
                s.global_known_hosts,
                ["/etc/ssh/ssh_known_hosts".into(), "/etc/ssh/ssh_known_hosts2".into()],
            )?,
            host_key_policy: s.policy,
            connect_timeout: s.connect_timeout.flatten(),
            server_alive_interval: s.server_alive_interval,
            server_alive_count_max: s.server_alive_count_max,
            host_key_alias,
            host_name: host.clone(),
        })
    }
}

/// One walk through the files for one host.
struct Pass<'a> {
    config: &'a SshConfig,
    alias: &'a str,
    wants_second: bool,
    /// In the second pass, the name found by the first.
    host: Option<String>,
}

impl Pass<'_> {
    /// `active` is whether the lines at this point apply; `may` is false below an Include that does not apply.
    fn apply(&mut self, items: &[Item], active: &mut bool, may: bool, selected: &mut Selected) -> Result<()> {
        for item in items {
            match item {
                Item::Host(patterns) => {
                    *active = may
                        && pattern::list_matches(
                            patterns.iter().map(String::as_str),
                            self.host.as_deref().unwrap_or(self.alias),
                        );
                }
                Item::Match(criteria) => *active = self.matches(criteria, selected)? && may,
                Item::Include(items) => {
                    let mut inner = *active;
                    self.apply(items, &mut inner, *active, selected)?;
                }
                Item::Set(setting, place) if *active => selected.set(setting, place),
                Item::Set(..) => {}
            }
        }
        Ok(())
    }

    fn matches(&mut self, criteria: &[Criterion], selected: &Selected) -> Result<bool> {
        let lower_list = |list: &str, text: &str| {
            let list = list.to_ascii_lowercase();
            pattern::list_matches(list.split(','), &text.to_ascii_lowercase())
        };
        let mut all = true;
        for Criterion { negated, test } in criteria {
            let holds = match test {
                Test::All => true,
                Test::Final { asks_for_it } => {
                    self.wants_second |= asks_for_it;
                    self.host.is_some()
                }
                Test::Host(list) => {
                    let host = match &self.host {
                        Some(host) => host.clone(),
                        None => host_name(self.alias, selected)?,
                    };
                    lower_list(list, &host)
                }
                Test::OriginalHost(list) => lower_list(list, self.alias),
                Test::User(list) => {
                    let user = selected.user.as_deref().unwrap_or(&self.config.me.user);
                    pattern::list_matches(list.split(','), user)
                }
                Test::LocalUser(list) => pattern::list_matches(list.split(','), &self.config.me.user),
                Test::Unsupported => {
                    all = false;
                    continue;
                }
                Test::Exec(_) if !self.config.exec_allowed => {
                    all = false;
                    continue;
                }
                // A command is not run for a Match that fails already.
                Test::Exec(_) if !all => continue,
                Test::Exec(command) => self.exec(command, selected)?,
            };
            all &= holds != *negated;
        }
        Ok(all)
    }

    fn exec(&self, command: &str, selected: &Selected) -> Result<bool> {
        let host = host_name(self.alias, selected)?;
        let me = &self.config.me;
        let tokens = Tokens {
            me,
            host: &host,
            alias: self.alias,
            port: selected.port.unwrap_or(22),
            user: selected.user.as_deref().unwrap_or(&me.user),
            host_key_alias: selected.host_key_alias.as_deref().unwrap_or(&host),
            jump: "",
        };
        let command = tokens.expand(command).map_err(|e| Error::input(format!("Match exec {command:?}: {e}")))?;
        let shell = std::env::var_os("SHELL").filter(|s| !s.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let status = std::process::Command::new(shell)
            .arg("-c")
            .arg(&command)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .map_err(|e| Error::environment(format!("Match exec {command:?} cannot be run")).because(e))?;
        Ok(status.success())
    }
}

impl Selected {
    fn set(&mut self, setting: &Setting, place: &Place) {
        let with_place = |text: &String| (text.clone(), place.clone());
        match setting {
            Setting::HostName(v) => _ = self.host_name.get_or_insert_with(|| with_place(v)),
            Setting::User(v) => _ = self.user.get_or_insert_with(|| v.clone()),
            Setting::Port(v) => _ = self.port.get_or_insert(*v),
            Setting::IdentityFile(v) => push_new(&mut self.identity_files, with_place(v)),
            Setting::IdentitiesOnly(v) => _ = self.identities_only.get_or_insert(*v),
            Setting::IdentityAgent(v) => _ = self.identity_agent.get_or_insert_with(|| with_place(v)),
            Setting::CertificateFile(v) => push_new(&mut self.certificate_files, with_place(v)),
            Setting::ProxyJump(v) => _ = self.proxy.get_or_insert_with(|| (Proxy::Jump(v.clone()), place.clone())),
            Setting::ProxyCommand(v) => {
                _ = self.proxy.get_or_insert_with(|| (Proxy::Command(v.clone()), place.clone()));
            }
            Setting::UserKnownHosts(v) => _ = self.user_known_hosts.get_or_insert_with(|| (v.clone(), place.clone())),
            Setting::GlobalKnownHosts(v) => {
                _ = self.global_known_hosts.get_or_insert_with(|| (v.clone(), place.clone()));
            }
            Setting::Policy(v) => _ = self.policy.get_or_insert(*v),
            Setting::HostKeyAlias(v) => _ = self.host_key_alias.get_or_insert_with(|| v.clone()),
            Setting::ConnectTimeout(v) => _ = self.connect_timeout.get_or_insert(*v),
            Setting::ServerAliveInterval(v) => _ = self.server_alive_interval.get_or_insert(*v),
            Setting::ServerAliveCountMax(v) => _ = self.server_alive_count_max.get_or_insert(*v),
        }
    }
}

fn push_new(list: &mut Vec<(String, Place)>, value: (String, Place)) {
    if !list.iter().any(|(text, _)| *text == value.0) {
        list.push(value);
    }
}

/// HostName with its `%h` and `%%` expanded, or the alias.
fn host_name(alias: &str, selected: &Selected) -> Result<String> {
    match &selected.host_name {
        None => Ok(alias.to_owned()),
        Some((text, place)) => {
            expand_with(text, |token| (token == 'h').then(|| alias.to_owned())).map_err(|e| bad(place, e))
        }
    }
}

fn is_none(text: &str) -> bool {
    text.eq_ignore_ascii_case("none")
}

fn bad(place: &Place, what: impl fmt::Display) -> Error {
    Error::input(format!("{place}: {what}"))
}

/// What the tokens of an option stand for.
struct Tokens<'a> {
    me: &'a Me,
    host: &'a str,
    alias: &'a str,
    port: u16,
    user: &'a str,
    host_key_alias: &'a str,
    jump: &'a str,
}

impl Tokens<'_> {
    fn token(&self, token: char) -> Option<String> {
        Some(match token {
            'h' => self.host.to_owned(),
            'n' => self.alias.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.user.to_owned(),
            'u' => self.me.user.clone(),
            'd' => self.me.home.display().to_string(),
            'i' => self.me.uid.clone(),
            'k' => self.host_key_alias.to_owned(),
            'l' => self.me.machine.clone(),
            'L' => self.me.machine.split('.').next().unwrap_or_default().to_owned(),
            'j' => self.jump.to_owned(),
            'C' => {
                let Tokens { me, host, port, user, jump, .. } = self;
                let digest = Sha1::digest(format!("{}{host}{port}{user}{jump}", me.machine));
                digest.iter().map(|b| format!("{b:02x}")).collect()
            }
            _ => return None,
        })
    }

    fn expand(&self, text: &str) -> Result<String, String> {
        expand_with(text, |t| self.token(t))
    }

    /// A path with `~`, `${NAME}` and tokens expanded.
    fn path(&self, text: &str) -> Result<PathBuf, String> {
        let text = expand_environment(text)?;
        Ok(PathBuf::from(self.expand(&expand_home(&text, &self.me.home)?)?))
    }
}

fn expand_with(text: &str, token: impl Fn(char) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(t) => out.push_str(&token(t).ok_or_else(|| format!("the token %{t} is not known here, in {text:?}"))?),
            None => return Err(format!("a lone % ends {text:?}")),
        }
    }
    Ok(out)
}

fn environment(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
}

fn expand_environment(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or_else(|| format!("${{ without }} in {text:?}"))?;
        out.push_str(before);
        out.push_str(&environment(name)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn expand_home(text: &str, home: &Path) -> Result<String, String> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_owned()) };
    if rest.is_empty() || rest.starts_with('/') {
        return Ok(format!("{}{rest}", home.display()));
    }
    let (user, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let home = passwd(|fields| fields.first() == Some(&user)).and_then(|fields| fields.get(5).cloned());
    home.map(|home| format!("{home}{rest}")).ok_or_else(|| format!("no user {user:?}, in {text:?}"))
}

/// The fields of the first line in /etc/passwd that fits.
fn passwd(fits: impl Fn(&[&str]) -> bool) -> Option<Vec<String>> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fits(fields))
        .map(|fields| fields.into_iter().map(str::to_owned).collect())
}

impl Me {
    fn from_system() -> Me {
        let uid = rustix::process::getuid().as_raw().to_string();
        let entry = passwd(|fields| fields.get(2) == Some(&uid.as_str())).unwrap_or_default();
        let user = entry.first().cloned().or_else(|| std::env::var("USER").ok()).unwrap_or_default();
        let home = std::env::home_dir().or_else(|| entry.get(5).map(PathBuf::from)).unwrap_or_else(|| "/".into());
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Me { user, uid, home, machine }
    }
}

/// `[user@]host[:port]`, also as `ssh://…`, separated by commas; `none` is the empty list.
fn parse_jump(text: &str) -> Result<Vec<Hop>, String> {
    if is_none(text) {
        return Ok(Vec::new());
    }
    text.split(',').map(|hop| Hop::parse(hop.trim())).collect()
}

impl Hop {
    /// Reads `[user@]host[:port]` or `ssh://[user@]host[:port]`; an IPv6 address with a port stands in brackets.
    pub fn parse(text: &str) -> Result<Hop, String> {
        let wrong = || format!("{text:?} is not [user@]host[:port]");
        let rest = text.strip_prefix("ssh://").map_or(text, |t| t.trim_end_matches('/'));
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()).filter(|u| !u.is_empty()), rest),
            None => (None, rest),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None if rest.matches(':').count() == 1 => {
                let (host, port) = rest.split_once(':').ok_or_else(wrong)?;
                (host, Some(port))
            }
            None => (rest, None),
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let port = port.map(|p| parse_port(p).map_err(|_| wrong())).transpose()?;
        Ok(Hop { user, host: host.to_owned(), port })
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|p| *p > 0).ok_or_else(|| format!("{text:?} is not a port"))
}

/// Seconds, or numbers with units: `90`, `1m30s`, `2h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time");
    let mut seconds: u64 = 0;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let n: u64 = number.parse().map_err(|_| wrong())?;
        seconds = n.checked_mul(unit).and_then(|n| seconds.checked_add(n)).ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() {
        seconds = number.parse().ok().and_then(|n: u64| seconds.checked_add(n)).ok_or_else(wrong)?;
    } else if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

fn parse_flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("{text:?} is neither yes nor no")),
    }
}

struct Parser<'a> {
    file: &'a Path,
    me: &'a Me,
    depth: usize,
}

impl Parser<'_> {
    fn parse(&self, text: &str) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let place = Place { file: self.file.to_owned(), line: n + 1 };
            if let Some(item) = self.line(line, &place).map_err(|e| match e {
                Trouble::Here(what) => bad(&place, what),
                Trouble::Inside(e) => e,
            })? {
                items.push(item);
            }
        }
        Ok(items)
    }

    fn line(&self, line: &str, place: &Place) -> Result<Option<Item>, Trouble> {
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{c}');
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
        let (keyword, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        let lower = keyword.to_ascii_lowercase();
        let nothing = || format!("no argument after {keyword}");

        // These take the rest of the line as it is.
        if let "proxycommand" | "proxyjump" = lower.as_str() {
            if rest.is_empty() {
                return Err(nothing().into());
            }
            let setting = if lower == "proxycommand" {
                Setting::ProxyCommand(rest.to_owned())
            } else {
                let word = words(rest)?.into_iter().next().ok_or_else(nothing)?;
                parse_jump(&word)?;
                Setting::ProxyJump(word)
            };
            return Ok(Some(Item::Set(setting, place.clone())));
        }
        if !KNOWN.contains(&lower.as_str()) {
            return Ok(None);
        }
        let args = words(rest)?;
        if args.is_empty() || args.iter().all(String::is_empty) {
            return Err(nothing().into());
        }
        match lower.as_str() {
            "host" => return Ok(Some(Item::Host(args))),
            "match" => return Ok(Some(Item::Match(parse_match(args)?))),
            "include" => return Ok(Some(Item::Include(self.include(&args)?))),
            "userknownhostsfile" => return Ok(Some(Item::Set(Setting::UserKnownHosts(args), place.clone()))),
            "globalknownhostsfile" => return Ok(Some(Item::Set(Setting::GlobalKnownHosts(args), place.clone()))),
            _ => {}
        }
        let [arg] = <[String; 1]>::try_from(args).map_err(|_| format!("more than one argument after {keyword}"))?;
        let setting = match lower.as_str() {
            "hostname" => Setting::HostName(arg),
            "user" => Setting::User(arg),
            "port" => Setting::Port(parse_port(&arg)?),
            "identityfile" => Setting::IdentityFile(arg),
            "identitiesonly" => Setting::IdentitiesOnly(parse_flag(&arg)?),
            "identityagent" => Setting::IdentityAgent(arg),
            "certificatefile" => Setting::CertificateFile(arg),
            "hostkeyalias" => Setting::HostKeyAlias(arg),
            "connecttimeout" if is_none(&arg) => Setting::ConnectTimeout(None),
            "connecttimeout" => Setting::ConnectTimeout(Some(parse_time(&arg)?)),
            "serveraliveinterval" => Setting::ServerAliveInterval(parse_time(&arg)?),
            "serveralivecountmax" => {
                Setting::ServerAliveCountMax(arg.parse().map_err(|_| format!("{arg:?} is not a number"))?)
            }
            _ => Setting::Policy(match arg.to_ascii_lowercase().as_str() {
                "yes" | "true" | "ask" => HostKeyPolicy::Strict,
                "accept-new" => HostKeyPolicy::AcceptNew,
                "no" | "false" | "off" => HostKeyPolicy::Off,
                _ => return Err(format!("{arg:?} is none of yes, accept-new, no, off, ask").into()),
            }),
        };
        Ok(Some(Item::Set(setting, place.clone())))
    }

    fn include(&self, patterns: &[String]) -> Result<Vec<Item>, Trouble> {
        if self.depth >= MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} includes within each other").into());
        }
        let mut items = Vec::new();
        for text in patterns {
            let text = expand_home(&expand_environment(text)?, &self.me.home)?;
            let system = self.file.starts_with("/etc/ssh");
            let base = if system { PathBuf::from("/etc/ssh") } else { self.me.home.join(".ssh") };
            for file in glob(&base.join(text))? {
                let text = match fs::read_to_string(&file) {
                    Ok(text) => text,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(format!("cannot read {}: {e}", file.display()).into()),
                };
                let inner = Parser { file: &file, me: self.me, depth: self.depth + 1 };
                // Each file's lines stay together: a Host in one must not reach into the next.
                items.push(Item::Include(inner.parse(&text).map_err(Trouble::Inside)?));
            }
        }
        Ok(items)
    }
}

/// Options that are read; ProxyCommand and ProxyJump besides.
const KNOWN: [&str; 17] = [
    "host",
    "match",
    "include",
    "userknownhostsfile",
    "globalknownhostsfile",
    "hostname",
    "user",
    "port",
    "identityfile",
    "identitiesonly",
    "identityagent",
    "certificatefile",
    "hostkeyalias",
    "connecttimeout",
    "serveraliveinterval",
    "serveralivecountmax",
    "stricthostkeychecking",
];

/// What is wrong with a line, or with a line of a file it includes.
enum Trouble {
    Here(String),
    Inside(Error),
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Trouble::Here(what)
    }
}

/// Splits arguments: quotes group, a backslash protects quotes, backslashes and spaces, `#` starts a comment.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\\', _) => match chars.peek() {
                    Some(&next) if matches!(next, '"' | '\'' | '\\') || (next == ' ' && quote.is_none()) => {
                        word.push(next);
                        chars.next();
                    }
                    _ => word.push('\\'),
                },
                (c, Some(q)) if c == q => quote = None,
                ('"' | '\'', None) => quote = Some(c),
                (c, None) if c.is_whitespace() => break,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed".into());
        }
        words.push(word);
    }
}

fn parse_match(args: Vec<String>) -> Result<Vec<Criterion>, String> {
    let mut criteria = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (negated, name) = match arg.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, arg.as_str()),
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name.to_ascii_lowercase(), Some(value.to_owned())),
            None => (name.to_ascii_lowercase(), None),
        };
        let test = match name.as_str() {
            "all" => Test::All,
            "final" => Test::Final { asks_for_it: true },
            "canonical" => Test::Final { asks_for_it: false },
            other => {
                let make: fn(String) -> Test = match other {
                    "host" => Test::Host,
                    "originalhost" => Test::OriginalHost,
                    "user" => Test::User,
                    "localuser" => Test::LocalUser,
                    "exec" => Test::Exec,
                    "localnetwork" | "tagged" | "command" | "sessiontype" | "version" => |_| Test::Unsupported,
                    _ => return Err(format!("Match does not know {other:?}")),
                };
                let value = value.or_else(|| args.next()).filter(|v| !v.is_empty());
                make(value.ok_or_else(|| format!("Match {other} needs a value"))?)
            }
        };
        criteria.push(Criterion { negated, test });
    }
    Ok(criteria)
}

/// The files a pattern names, sorted; `*`, `?` and `[…]` in any component, never for a leading dot.
fn glob(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|p| p.push(component));
            continue;
        };
        let name = name.to_string_lossy();
        if !name.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|p| p.push(&*name));
            continue;
        }
        let regex = glob_regex(&name).ok_or_else(|| format!("{:?} is not a pattern", pattern.display()))?;
        let mut next = Vec::new();
        for dir in found {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let entry_name = entry.file_name();
                let text = entry_name.to_string_lossy();
                if text.starts_with('.') == name.starts_with('.') && regex.is_match(&*text).unwrap_or(false) {
                    next.push(dir.join(&entry_name));
                }
            }
        }
        found = next;
    }
    found.retain(|p| p.is_file());
    found.sort();
    Ok(found)
}

fn glob_regex(pattern: &str) -> Option<Regex> {
    let mut regex = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                let (set, _) = chars.as_str().split_once(']')?;
                chars.by_ref().take(set.chars().count() + 1).for_each(drop);
                regex.push('[');
                let set = match set.strip_prefix('!') {
                    Some(set) => {
                        regex.push('^');
                        set
                    }
                    None => set,
                };
                regex.push_str(&set.replace('\\', "\\\\").replace('[', "\\["));
                regex.push(']');
            }
            c => regex.push_str(&fancy_regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    Regex::new(&regex).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Me {
        Me { user: "ann".into(), uid: "1000".into(), home: "/home/ann".into(), machine: "desk.lan".into() }
    }

    fn parse_in(dir: &Path, text: &str) -> Result<SshConfig> {
        let file = dir.join("config");
        fs::write(&file, text).unwrap();
        SshConfig::load_for(&[file], me())
    }

    fn parse(text: &str) -> SshConfig {
        parse_in(tempfile::tempdir().unwrap().path(), text).unwrap()
    }

    fn resolve(text: &str, alias: &str) -> HostOptions {
        parse(text).resolve(alias, None).unwrap()
    }

    fn fails(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        parse_in(dir.path(), text).unwrap_err().to_string()
    }

    #[test]
    fn first_value_wins_and_lists_add_up() {
        let o = resolve(
            "User top\nHost web*\n User late\n Port 2222\n IdentityFile ~/a\nHost *\n Port 22\n IdentityFile /b\n",
            "web1",
        );
        assert_eq!((o.user.as_deref(), o.port), (Some("top"), Some(2222)));
        assert_eq!(o.identity_files, [PathBuf::from("/home/ann/a"), "/b".into()]);
        assert!(!o.default_identities);
    }

    #[test]
    fn host_patterns() {
        let text = "Host *.lan !db.lan 10.0.?.1\n User u\n";
        assert_eq!(resolve(text, "web.lan").user.as_deref(), Some("u"));
        assert_eq!(resolve(text, "10.0.3.1").user.as_deref(), Some("u"));
        assert_eq!(resolve(text, "db.lan").user, None);
        assert_eq!(resolve(text, "web").user, None);
    }

    #[test]
    fn quotes_equal_signs_case_and_unknown_options() {
        let o = resolve(
            "hOsTnAmE=Example.ORG\nUser = \"bob smith\" # hers\nFooBar whatever \"unclosed\nIdentityFile '/x y'\n",
            "w",
        );
        assert_eq!(o.host_name, "example.org");
        assert_eq!(o.user.as_deref(), Some("bob smith"));
        assert_eq!(o.identity_files, [PathBuf::from("/x y")]);
    }

    #[test]
    fn tokens() {
        let o = resolve(
            "HostName %h.example.org\nPort 99\nUser root\nIdentityFile ~/%u-%r-%h-%n-%p-%i-%%\n\
             CertificateFile %d/c\nProxyCommand nc %h %p # not a comment\nUserKnownHostsFile ~/k1 \"/k 2\"\n",
            "w",
        );
        assert_eq!(o.host_name, "w.example.org");
        assert_eq!(o.identity_files, [PathBuf::from("/home/ann/ann-root-w.example.org-w-99-1000-%")]);
        assert_eq!(o.certificate_files, [PathBuf::from("/home/ann/c")]);
        assert_eq!(o.proxy_command.as_deref(), Some("nc w.example.org 99 # not a comment"));
        assert_eq!(o.user_known_hosts, [PathBuf::from("/home/ann/k1"), "/k 2".into()]);
    }

    #[test]
    fn environment_variables() {
        // PATH is set wherever tests run.
        let path = std::env::var("PATH").unwrap();
        let o = resolve("IdentityFile /x/${PATH}/y\nIdentityAgent $PATH\n", "w");
        assert_eq!(o.identity_files, [PathBuf::from(format!("/x/{path}/y"))]);
        assert_eq!(o.identity_agent, AgentSocket::Path(path.into()));
        let e = parse("IdentityFile ${WINDLASS_UNSET}\n").resolve("w", None).unwrap_err().to_string();
        assert!(e.contains("config:1: the environment variable WINDLASS_UNSET is not set"), "{e}");
    }

    #[test]
    fn none_values() {
        let o = resolve("IdentityFile none\nIdentityAgent none\nProxyJump none\nUserKnownHostsFile none\n", "w");
        assert!(o.identity_files.is_empty() && !o.default_identities && o.proxy_jump.is_empty());
        assert_eq!(o.identity_agent, AgentSocket::None);
        assert!(o.user_known_hosts.is_empty());
    }

    #[test]
    fn jump_and_command_compete() {
        let o = resolve("ProxyJump none\nProxyCommand x\n", "w");
        assert!(o.proxy_jump.is_empty() && o.proxy_command.is_none());
        let o = resolve("ProxyJump u@a:2222,[::1]:23,ssh://b\nProxyCommand x\n", "w");
        let hop = |user: Option<&str>, host: &str, port| Hop { user: user.map(Into::into), host: host.into(), port };
        assert_eq!(o.proxy_jump, [hop(Some("u"), "a", Some(2222)), hop(None, "::1", Some(23)), hop(None, "b", None)]);
    }

    #[test]
    fn match_criteria() {
        let text = "Host w\n HostName web.example.org\nMatch host *.example.org,!x\n Port 1\n\
                    Match originalhost w user ann\n ConnectTimeout 1m30s\nMatch !localuser ann\n User no\n\
                    Match all\n HostKeyAlias K\nMatch host other\n User no\nMatch exec true\n User no\n\
                    Match tagged x\n User no\n";
        let o = resolve(text, "w");
        assert_eq!((o.port, o.user), (Some(1), None));
        assert_eq!(o.connect_timeout, Some(Duration::from_secs(90)));
        assert_eq!(o.host_key_alias.as_deref(), Some("k"));
        let o = parse(text).resolve("w", Some("root")).unwrap();
        assert_eq!((o.user.as_deref(), o.connect_timeout), (Some("root"), None));
    }

    #[test]
    fn match_exec_only_on_request() {
        let config = parse("Match host w exec \"test %h = w\"\n Port 7\nMatch host x exec true\n Port 8\n");
        assert_eq!(config.resolve("w", None).unwrap().port, None);
        assert_eq!(config.allow_exec().resolve("w", None).unwrap().port, Some(7));
    }

    #[test]
    fn match_final_sees_the_first_pass() {
        let o = resolve("Match final host web.lan\n User late\nHost w\n HostName web.lan\n", "w");
        assert_eq!(o.user.as_deref(), Some("late"));
        let o = resolve("Match !final\n Port 5\nMatch final\n Port 6\n", "w");
        assert_eq!(o.port, Some(5));
    }

    #[test]
    fn includes() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/10.conf"), "Host other\n User no\n").unwrap();
        fs::write(dir.path().join("d/20.conf"), "User yes\nHost *\n Port 5\n").unwrap();
        fs::write(dir.path().join("d/.hidden.conf"), "User no\n").unwrap();
        let config = parse_in(
            dir.path(),
            &format!(
                "Host never\n Include {d}/d/*.conf\nHost w\n Include {d}/missing {d}/d/[0-9]?.conf\n ConnectTimeout 9\n"
            ),
        )
        .unwrap();
        let o = config.resolve("w", None).unwrap();
        assert_eq!((o.user.as_deref(), o.port), (Some("yes"), Some(5)));
        assert_eq!(o.connect_timeout, Some(Duration::from_secs(9)), "an Include does not end the Host around it");
        assert_eq!(config.resolve("never2", None).unwrap().port, None);
    }

    #[test]
    fn include_loops_end() {
        let dir = tempfile::tempdir().unwrap();
        let e = parse_in(dir.path(), &format!("Include {}/config\n", dir.path().display())).unwrap_err().to_string();
        assert!(e.contains("more than 16 includes"), "{e}");
    }

    #[test]
    fn errors_name_the_line() {
        for (text, expected) in [
            ("User a\nPort x\n", "config:2: \"x\" is not a port"),
            ("User \"a\n", "config:1: a quote is not closed"),
            ("User\n", "config:1: no argument after User"),
            ("User a b\n", "config:1: more than one argument after User"),
            ("Match hots x\n", "config:1: Match does not know \"hots\""),
            ("StrictHostKeyChecking maybe\n", "config:1: \"maybe\" is none of"),
            ("ConnectTimeout soon\n", "config:1: \"soon\" is not a time"),
            ("ProxyJump a:b:c,x@\n", "config:1: \"x@\" is not [user@]host[:port]"),
        ] {
            let e = fails(text);
            assert!(e.contains(expected), "{text:?}: {e}");
        }
        let e = parse("User a\nHostName %q\n").resolve("w", None).unwrap_err().to_string();
        assert!(e.contains("config:2: the token %q"), "{e}");
    }

    /// What `ssh -G` prints for the options we read, in our own words.
    fn as_ssh_prints(config: &SshConfig, alias: &str) -> Vec<String> {
        let s = config.select(alias, Given::default()).unwrap();
        let o = config.resolve(alias, None).unwrap();
        let mut lines = vec![
            format!("hostname {}", o.host_name),
            format!("user {}", o.user.as_deref().unwrap_or(&config.me.user)),
            format!("port {}", o.port.unwrap_or(22)),
            format!("identitiesonly {}", if o.identities_only { "yes" } else { "no" }),
            format!("serveralivecountmax {}", o.server_alive_count_max.unwrap_or(3)),
            format!("serveraliveinterval {}", o.server_alive_interval.unwrap_or_default().as_secs()),
            format!("connecttimeout {}", o.connect_timeout.map_or("none".into(), |t| t.as_secs().to_string())),
        ];
        let list = |files: &[PathBuf]| files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" ");
        lines.push(match &o.user_known_hosts[..] {
            [] => "userknownhostsfile none".to_owned(),
            files => format!("userknownhostsfile {}", list(files)),
        });
        lines.push(format!("globalknownhostsfile {}", list(&o.global_known_hosts)));
        lines.extend(o.host_key_alias.map(|a| format!("hostkeyalias {a}")));
        lines.push(format!(
            "stricthostkeychecking {}",
            match s.policy {
                None => "ask",
                Some(HostKeyPolicy::Strict) => "true",
                Some(HostKeyPolicy::AcceptNew) => "accept-new",
                Some(HostKeyPolicy::Off) => "false",
            }
        ));
        // ssh shows these before their tokens are expanded.
        lines.extend(s.identity_files.iter().map(|(f, _)| format!("identityfile {f}")));
        lines.extend(s.certificate_files.iter().map(|(f, _)| format!("certificatefile {f}")));
        match &s.proxy {
            Some((Proxy::Jump(jump), _)) if !is_none(jump) => lines.push(format!("proxyjump {jump}")),
            Some((Proxy::Command(command), _)) if !is_none(command) => lines.push(format!("proxycommand {command}")),
            _ => {}
        }
        lines.sort();
        lines
    }

    fn ssh_prints(file: &Path, alias: &str) -> Option<Vec<String>> {
        let output = std::process::Command::new("ssh").arg("-G").arg("-F").arg(file).arg(alias).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        const OURS: [&str; 15] = [
            "hostname",
            "user",
            "port",
            "identitiesonly",
            "serveralivecountmax",
            "serveraliveinterval",
            "connecttimeout",
            "userknownhostsfile",
            "globalknownhostsfile",
            "hostkeyalias",
            "stricthostkeychecking",
            "identityfile",
            "certificatefile",
            "proxyjump",
            "proxycommand",
        ];
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|l| OURS.contains(&l.split(' ').next().unwrap_or_default()))
            .map(str::to_owned)
            .collect();
        lines.sort();
        Some(lines)
    }

    #[test]
    fn agrees_with_ssh() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        fs::write(dir.path().join("inc.conf"), "Host inc*\n User included\nMatch final\n ServerAliveCountMax 8\n")
            .unwrap();
        let file = dir.path().join("config");
        fs::write(
            &file,
            format!(
                r#"# a bit of everything
ServerAliveInterval 5m
IgnoreUnknown Fancy*
FancyOption yes
Include {d}/inc.conf
Host web* !web9
  HostName %h.example.org
  User "bob smith"
  IdentityFile ~/.ssh/a_%h_%r
  IdentityFile "/tmp/x y"
  IdentitiesOnly = yes
  UserKnownHostsFile ~/.ssh/kh1 "/tmp/k 2"
  Include {d}/none.conf
  HostKeyAlias Web%%
Host web1 db
	ProxyJump u@a:2222,b # two
	ProxyCommand nc %h %p
Host DB.lan db
  HostName=10.0.0.7
  port 2222
  ProxyCommand ssh -W %h:%p "gate" # kept
  ProxyJump c
  StrictHostKeyChecking accept-new
  GlobalKnownHostsFile /etc/gk
Match host 10.0.0.* user root,{user}
  ConnectTimeout 1m30
Match originalhost web2,web3 !host web3*
  StrictHostKeyChecking no
  CertificateFile ~/c-cert.pub
Match !final host db
  ServerAliveCountMax 9
Match final originalhost web2 host web2.example.org
  Port 77
Match user nobody
  Port 1
Match canonical
  ConnectTimeout 3
Match all
  IdentityFile /last
  UserKnownHostsFile /dev/null
Host none
  ProxyJump none
  IdentityFile none
"#,
                user = Me::from_system().user
            ),
        )
        .unwrap();
        let config = SshConfig::load(std::slice::from_ref(&file)).unwrap();
        for alias in ["web1", "web2", "web3", "web9", "WEB1", "db", "DB.lan", "db.lan", "inc1", "none", "10.0.0.9", "x"]
        {
            let Some(expected) = ssh_prints(&file, alias) else {
                println!("skipped: ssh is not installed");
                return;
            };
            assert_eq!(as_ssh_prints(&config, alias), expected, "for {alias}");
        }
    }
}
