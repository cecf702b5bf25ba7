//! `wait_for`: until a port, a file or what is in it is as it should be.

use super::args::{List, Text};
use super::copy::absolute;
use super::regex::text_regex;
use super::whole::Whole;
use super::{ArgError, Ctx, Decision, Local, Module, Stop, Wait};
use crate::probe::{Observed, Probe};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// Waits until a port answers (or no longer does), or a file is there (or gone); with neither, for `timeout` seconds.
///
/// Registers `elapsed`, `state`, `port`, `path`, `search_regex`, `match_groups` and `match_groupdict`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    /// The port's host, a name or an address, as the target sees it.
    #[serde(default = "here")]
    host: Text,
    /// The TCP port.
    port: Option<Whole>,
    /// A path on the target, instead of a port.
    path: Option<Text>,
    /// A regular expression that must match in the file (of a large one the last MiB is looked at) or in what the port
    /// says by itself. `^` and `$` match at lines.
    search_regex: Option<Text>,
    /// `started` and `present`: the port answers, the file is there; `stopped` and `absent`: it does not, it is gone;
    /// `drained`: the port has no connections any more.
    #[serde(default)]
    state: State,
    /// Seconds to wait in all, `delay` included.
    #[serde(default = "five_minutes")]
    timeout: Whole,
    /// Seconds to wait before the first look.
    #[serde(default)]
    delay: Whole,
    /// Seconds between two looks.
    #[serde(default = "one")]
    sleep: Whole,
    /// Seconds one attempt to connect may take.
    #[serde(default = "five")]
    connect_timeout: Whole,
    /// What to say when time is up.
    msg: Option<Text>,
    /// With `drained`, the TCP states that count as a connection.
    #[serde(default = "active", deserialize_with = "states")]
    active_connection_states: Vec<TcpState>,
    /// With `drained`, hosts whose connections do not count.
    exclude_hosts: Option<List>,
    #[serde(skip)]
    #[schemars(skip)]
    regex: Option<fancy_regex::Regex>,
}

fn here() -> Text {
    "127.0.0.1".into()
}
fn five_minutes() -> Whole {
    Whole(300)
}
fn one() -> Whole {
    Whole(1)
}
fn five() -> Whole {
    Whole(5)
}
/// A list, or one text with commas.
fn states<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<TcpState>, D::Error> {
    let v = match Value::deserialize(d)? {
        Value::String(s) => s.split(',').map(|w| json!(w.trim())).collect(),
        v => v,
    };
    serde_json::from_value(v).map_err(serde::de::Error::custom)
}
fn active() -> Vec<TcpState> {
    use TcpState::*;
    vec![Established, FinWait1, FinWait2, SynRecv, SynSent, TimeWait]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Started,
    Stopped,
    Present,
    Absent,
    Drained,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum TcpState {
    #[serde(rename = "ESTABLISHED")]
    Established = 1,
    #[serde(rename = "SYN_SENT")]
    SynSent = 2,
    #[serde(rename = "SYN_RECV")]
    SynRecv = 3,
    #[serde(rename = "FIN_WAIT1")]
    FinWait1 = 4,
    #[serde(rename = "FIN_WAIT2")]
    FinWait2 = 5,
    #[serde(rename = "TIME_WAIT")]
    TimeWait = 6,
}

const LISTEN: u8 = 10;

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Started => "started",
            State::Stopped => "stopped",
            State::Present => "present",
            State::Absent => "absent",
            State::Drained => "drained",
        }
    }
    fn is_gone(self) -> bool {
        matches!(self, State::Stopped | State::Absent)
    }
}

impl Module for WaitFor {
    const NAME: &'static str = "wait_for";
    const EXAMPLE: &'static str = r#"- wait_for: {host: 127.0.0.1, port: 5432, timeout: 60}"#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if let Some(n) = self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            self.host = n.into();
        }
        let plain = |h: &str| {
            h.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
                && h.chars().all(|c| c.is_ascii_alphanumeric() || "._:%-".contains(c))
        };
        if !plain(&self.host) {
            return Err(ArgError::new("host", format!("`{}` is neither a host's name nor an address", self.host.0)));
        }
        match (&self.port, &self.path) {
            (Some(_), Some(_)) => return Err(ArgError::new("path", "`port` and `path` exclude each other")),
            (Some(Whole(p)), None) if !(1..=65535).contains(p) => {
                return Err(ArgError::new("port", format!("{p} is not a port: 1 to 65535")));
            }
            (None, Some(p)) => absolute("path", p)?,
            _ => {}
        }
        if self.state == State::Drained && self.port.is_none() {
            return Err(ArgError::new("state", "`drained` needs a `port`"));
        }
        if let Some(r) = &self.search_regex {
            if self.port.is_none() && self.path.is_none() {
                return Err(ArgError::new("search_regex", "`search_regex` needs a `port` or a `path`"));
            }
            if !matches!(self.state, State::Started | State::Present) {
                return Err(ArgError::new("search_regex", "`search_regex` goes with `started` and `present` only"));
            }
            self.regex = Some(text_regex("search_regex", "m", r)?);
        }
        if let Some(hosts) = &self.exclude_hosts {
            if self.state != State::Drained {
                return Err(ArgError::new("exclude_hosts", "`exclude_hosts` goes with `drained` only"));
            }
            if let Some(h) = hosts.iter().find(|h| !plain(h)) {
                return Err(ArgError::new("exclude_hosts", format!("`{h}` is neither a host's name nor an address")));
            }
        }
        Ok(())
    }

    fn probes(&self, ctx: &Ctx) -> Vec<Probe> {
        if ctx.waited < self.delay() {
            return vec![];
        }
        self.look().map(Probe::Script).into_iter().collect()
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let Some(look) = self.look() else {
            let timeout = Duration::from_secs(self.timeout.0);
            return Ok(match ctx.waited >= timeout {
                true => Decision::satisfied(self.result(ctx)),
                false => Decision::Wait(Wait {
                    delay: timeout,
                    limit: timeout.saturating_add(Duration::from_secs(60)),
                    evidence: vec![],
                    ..self.wait()
                }),
            });
        };
        // What is so before the delay is over does not count: it may be about to change.
        if ctx.waited < self.delay() {
            return Ok(Decision::Wait(self.wait()));
        }
        let out = &seen.script(&look)?.stdout;
        let (head, rest) = out.split_once('\n').unwrap_or((out, ""));
        let so = match (head, self.state) {
            ("sockets", State::Drained) => self.connections(rest) == 0,
            ("sockets", s) => self.listens(rest)? != s.is_gone(),
            ("open" | "there", s) => !s.is_gone(),
            ("closed" | "gone", s) => s.is_gone(),
            _ => false,
        };
        let mut result = self.result(ctx);
        if so && let Some(r) = &self.regex {
            match r.captures(rest) {
                Ok(Some(c)) => {
                    let text = |m: Option<fancy_regex::Match<'_>>| m.map_or(Value::Null, |m| json!(m.as_str()));
                    let groups: Vec<Value> = c.iter().skip(1).map(text).collect();
                    let named: Map<String, Value> =
                        r.capture_names().flatten().map(|n| (n.to_string(), text(c.name(n)))).collect();
                    result.insert("match_groups".into(), json!(groups));
                    result.insert("match_groupdict".into(), Value::Object(named));
                }
                Ok(None) => return Ok(Decision::Wait(self.wait())),
                Err(e) => return Err(Stop::fail(format!("search_regex: {e}"))),
            }
        }
        Ok(if so { Decision::satisfied(result) } else { Decision::Wait(self.wait()) })
    }
}

impl WaitFor {
    fn delay(&self) -> Duration {
        Duration::from_secs(self.delay.0)
    }

    /// The read-only script that looks; none where only time is to pass.
    fn look(&self) -> Option<String> {
        if let Some(p) = &self.path {
            let p = shell_quote(p);
            let body = if self.regex.is_some() { format!("; tail -c 1048576 {p}") } else { String::new() };
            return Some(format!("if [ -e {p} ]; then echo there{body}; else echo gone; fi"));
        }
        let port = self.port?.0;
        let rows =
            format!("echo sockets\ncat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -i ':{port:04X} '\nexit 0");
        if self.state == State::Drained {
            let names = |word: &str, hosts: Vec<&str>| match hosts.is_empty() {
                true => String::new(),
                false => format!(
                    "for h in {}; do getent ahosts \"$h\" 2>/dev/null | sed 's/^/{word} /'; done\n",
                    shell_join(hosts)
                ),
            };
            let is_name = |h: &&str| address(h).is_none();
            let host = Some(&*self.host).into_iter().filter(is_name).collect();
            let excluded =
                self.exclude_hosts.iter().flat_map(|l| l.iter()).map(String::as_str).filter(is_name).collect();
            // The addresses come after the first line, which says what this is.
            let rows = rows.replace("echo sockets\n", "");
            return Some(format!("echo sockets\n{}{}{rows}", names("counts", host), names("excluded", excluded)));
        }
        let read = self.regex.is_some();
        let t = self.connect_timeout.0.max(1);
        // What comes first is waited for; what follows within a second belongs to it.
        let bash = match read {
            true => {
                "exec 3<>\"/dev/tcp/$1/$2\" && echo open && dd bs=65536 count=1 <&3 2>/dev/null && timeout 1 dd bs=4096 count=16 <&3 2>/dev/null"
            }
            false => "exec 3<>\"/dev/tcp/$1/$2\" && echo open",
        };
        let nc = match read {
            true => {
                "out=$(nc -w \"$t\" \"$h\" \"$p\" 2>/dev/null </dev/null | head -c 65536)\n  if [ -n \"$out\" ]; then printf 'open\\n%s\\n' \"$out\"; else echo closed; fi"
            }
            false => {
                "if nc -z -w \"$t\" \"$h\" \"$p\" >/dev/null 2>&1 </dev/null; then echo open; else echo closed; fi"
            }
        };
        Some(format!(
            "export LC_ALL=C\nh={} p={port} t={t}\nif command -v bash >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1; then\n  out=$(timeout \"$t\" bash -c '{bash}' - \"$h\" \"$p\" 2>&1 </dev/null)\n  case $out in\n    open*) printf '%s\\n' \"$out\"; exit 0 ;;\n    *'No such file or directory'*) ;;\n    *) echo closed; exit 0 ;;\n  esac\nfi\nif command -v nc >/dev/null 2>&1; then\n  {nc}\n  exit 0\nfi\n{rows}",
            shell_quote(&self.host)
        ))
    }

    fn wait(&self) -> Wait {
        let timeout = self.timeout.0;
        let what = match (&self.path, &self.port) {
            (Some(p), _) => p.0.clone(),
            (None, Some(Whole(port))) if self.host.contains(':') => format!("[{}]:{port}", self.host.0),
            (None, Some(Whole(port))) => format!("{}:{port}", self.host.0),
            (None, None) => String::new(),
        };
        let wish = match (self.state, self.path.is_some(), &self.search_regex) {
            (_, true, Some(r)) => format!("{what} to hold a match of `{}`", r.0),
            (_, false, Some(r)) => format!("{what} to say a match of `{}`", r.0),
            (State::Started | State::Present, true, None) => format!("{what} to appear"),
            (State::Started | State::Present, false, None) => format!("{what} to answer"),
            (State::Drained, ..) => format!("the connections of {what} to end"),
            (_, true, None) => format!("{what} to go away"),
            (_, false, None) => format!("{what} to stop answering"),
        };
        Wait {
            delay: self.delay(),
            every: Duration::from_secs(self.sleep.0).max(Duration::from_millis(200)),
            limit: Duration::from_secs(timeout),
            message: match &self.msg {
                Some(m) => m.0.clone(),
                None => format!("waited {timeout} s in vain for {wish}"),
            },
            evidence: self.evidence(),
        }
    }

    fn evidence(&self) -> Vec<(String, String)> {
        let mut e = vec![];
        let mut add = |title: &str, script: String| e.push((title.to_string(), script));
        if let Some(p) = &self.path {
            let dir = p.trim_end_matches('/').rsplit_once('/').map_or("/", |(d, _)| if d.is_empty() { "/" } else { d });
            add(&format!("the folder {dir}"), format!("ls -la {} 2>&1", shell_quote(dir)));
            if self.search_regex.is_some() {
                add(&format!("the end of {}", p.0), format!("tail -n 20 {} 2>&1", shell_quote(p)));
            }
        }
        if let Some(Whole(port)) = self.port {
            let h = shell_quote(&self.host);
            if !self.is_local() {
                add(
                    &format!("the way to {}", self.host.0),
                    format!(
                        "getent ahosts {h} | head -n 4\nip route get \"$(getent ahosts {h} | head -n 1 | cut -d ' ' -f 1)\" 2>&1"
                    ),
                );
            }
            add(
                "listening sockets",
                "ss -lntp 2>/dev/null || cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -E ' 0A |st'".into(),
            );
            if self.state == State::Drained {
                add(
                    &format!("connections of port {port}"),
                    format!("ss -ntap 'sport = :{port}' 2>/dev/null | head -n 30"),
                );
            }
        }
        add("failed units", "systemctl --failed --no-legend --no-pager --plain 2>/dev/null | head -n 20".into());
        add("clock", "date -u '+%Y-%m-%d %H:%M:%S UTC'\ntimedatectl show -p NTPSynchronized 2>/dev/null || :".into());
        add("disk", "df -h 2>/dev/null".into());
        add("memory", "grep -E '^(MemTotal|MemAvailable|SwapTotal|SwapFree):' /proc/meminfo".into());
        e
    }

    fn result(&self, ctx: &Ctx) -> Map<String, Value> {
        let mut r = Map::new();
        r.insert("elapsed".into(), json!(ctx.waited.as_secs()));
        r.insert("state".into(), json!(self.state.name()));
        r.insert("port".into(), json!(self.port.map(|p| p.0)));
        r.insert("path".into(), json!(self.path.as_deref()));
        r.insert("search_regex".into(), json!(self.search_regex.as_deref()));
        r.insert("match_groups".into(), json!([]));
        r.insert("match_groupdict".into(), json!({}));
        r
    }

    fn is_local(&self) -> bool {
        &*self.host == "localhost" || address(&self.host).is_some_and(|a| a.is_loopback() || a.is_unspecified())
    }

    /// Whether the port is listened on, from the rows of /proc/net/tcp: for a host without bash and nc.
    fn listens(&self, rows: &str) -> Result<bool, Stop> {
        if !self.is_local() || self.regex.is_some() {
            return Err(Stop::fail_hint(
                "this host has neither bash nor nc: no connection can be tried from it",
                "install bash or netcat-openbsd on it",
            ));
        }
        let port = self.port.map_or(0, |p| p.0);
        let wanted = address(&self.host);
        Ok(sockets(rows).any(|s| {
            let fits = s.local.is_unspecified() || wanted.is_none_or(|w| w.is_unspecified() || w == s.local);
            s.state == LISTEN
                && u64::from(s.port) == port
                && (fits && (s.local.is_loopback() || s.local.is_unspecified()))
        }))
    }

    /// The connections of the port that count.
    fn connections(&self, text: &str) -> usize {
        let named = |word: &'static str| {
            text.lines().filter_map(move |l| l.strip_prefix(word)?.split_whitespace().next()?.parse::<IpAddr>().ok())
        };
        let mut hosts: Vec<IpAddr> = named("counts ").map(|a| a.to_canonical()).collect();
        hosts.extend(address(&self.host));
        let mut excluded: Vec<IpAddr> = named("excluded ").map(|a| a.to_canonical()).collect();
        excluded.extend(self.exclude_hosts.iter().flat_map(|l| l.iter()).filter_map(|h| address(h)));
        let any = hosts.iter().any(|h| h.is_unspecified());
        let port = self.port.map_or(0, |p| p.0);
        sockets(text)
            .filter(|s| u64::from(s.port) == port && (any || hosts.contains(&s.local)) && !excluded.contains(&s.remote))
            .filter(|s| self.active_connection_states.iter().any(|a| *a as u8 == s.state))
            .count()
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.split('%').next()?.parse::<IpAddr>().ok().map(|a| a.to_canonical())
}

/// One row of /proc/net/tcp or tcp6.
struct Socket {
    local: IpAddr,
    port: u16,
    remote: IpAddr,
    state: u8,
}

fn sockets(rows: &str) -> impl Iterator<Item = Socket> + '_ {
    rows.lines().filter_map(|l| {
        let f: Vec<&str> = l.split_whitespace().collect();
        let [slot, local, remote, state, ..] = f.as_slice() else { return None };
        slot.strip_suffix(':')?.parse::<u64>().ok()?;
        let (local, port) = local.split_once(':')?;
        Some(Socket {
            local: hex_address(local)?,
            port: u16::from_str_radix(port, 16).ok()?,
            remote: hex_address(remote.split(':').next()?)?,
            state: u8::from_str_radix(state, 16).ok()?,
        })
    })
}

/// An address as the kernel prints it: words of 32 bits, each with its lowest byte first.
fn hex_address(text: &str) -> Option<IpAddr> {
    let word = |i: usize| u32::from_str_radix(text.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_le_bytes);
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut bytes = [0u8; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
            }
            Some(IpAddr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, Output};

    fn decide(m: &WaitFor, stdout: &str, ctx: &Ctx) -> Result<Decision, Stop> {
        let look = m.look().unwrap();
        sh_accepts(&look);
        let out = Output { stdout: stdout.into(), ..Default::default() };
        m.decide(&seen([(Probe::Script(look), Answer::Script(out))]), ctx)
    }
    fn waits(d: Result<Decision, Stop>) -> Wait {
        match d {
            Ok(Decision::Wait(w)) => {
                w.evidence.iter().for_each(|(_, s)| sh_accepts(s));
                w
            }
            other => panic!("{other:?}"),
        }
    }
    fn later(seconds: u64) -> Ctx {
        Ctx { waited: Duration::from_secs(seconds), ..ctx() }
    }
    /// The script, run here.
    fn run(m: &WaitFor) -> String {
        let out = std::process::Command::new("sh").arg("-c").arg(m.look().unwrap()).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    #[test]
    fn a_port_that_answers() {
        let m: WaitFor = bind("{port: 80, timeout: '20', sleep: 2}");
        assert_eq!(m.probes(&ctx()).len(), 1);
        let w = waits(decide(&m, "closed\n", &ctx()));
        assert_eq!((w.limit.as_secs(), w.every.as_secs(), w.delay.as_secs()), (20, 2, 0));
        assert_eq!(w.message, "waited 20 s in vain for 127.0.0.1:80 to answer");
        assert!(w.evidence.iter().any(|(t, s)| t == "listening sockets" && s.contains("ss -lntp")));
        assert_eq!(satisfied(decide(&m, "open\n", &later(7))).result["elapsed"], json!(7));
        let m: WaitFor = bind("{host: '[::1]', port: 80, state: stopped}");
        satisfied(decide(&m, "closed\n", &ctx()));
        assert!(waits(decide(&m, "open\n", &ctx())).message.contains("[::1]:80 to stop answering"));
    }

    #[test]
    fn a_port_here_is_really_looked_at() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let m: WaitFor = bind(&format!("{{port: {port}, connect_timeout: 2}}"));
        satisfied(decide(&m, &run(&m), &ctx()));
        drop(listener.accept());
        let talks: WaitFor = bind(&format!("{{port: {port}, search_regex: '^SSH-(?P<v>\\S+)'}}"));
        let says = std::thread::spawn(move || {
            let (mut s, _) = listener.accept().unwrap();
            s.write_all(b"hello\nSSH-2.0 x\n").unwrap();
        });
        let r = satisfied(decide(&talks, &run(&talks), &ctx()));
        says.join().unwrap();
        assert_eq!((&r.result["match_groups"], &r.result["match_groupdict"]["v"]), (&json!(["2.0"]), &json!("2.0")));
        // Another test may be given the port that has just been closed: nobody is given this one.
        let m: WaitFor = bind("{port: 1, connect_timeout: 2}");
        waits(decide(&m, &run(&m), &ctx()));
    }

    #[test]
    fn what_is_so_before_the_delay_does_not_count() {
        let m: WaitFor = bind("{port: 80, delay: 10}");
        assert_eq!(m.probes(&ctx()), []);
        assert_eq!(waits(m.decide(&seen([]), &ctx())).delay.as_secs(), 10);
        assert_eq!(m.probes(&later(10)).len(), 1);
        satisfied(decide(&m, "open\n", &later(10)));
    }

    #[test]
    fn paths_and_what_is_in_them() {
        let m: WaitFor = bind("{path: /run/x y}");
        satisfied(decide(&m, "there\n", &ctx()));
        let w = waits(decide(&m, "gone\n", &ctx()));
        assert!(w.evidence.iter().any(|(t, s)| t == "the folder /run" && s.contains("ls -la /run")));
        let m: WaitFor = bind("{path: /run/x, state: absent, msg: still there}");
        satisfied(decide(&m, "gone\n", &ctx()));
        assert_eq!(waits(decide(&m, "there\n", &ctx())).message, "still there");
        let m: WaitFor = bind("{path: /run/x, search_regex: '^done (\\d+)$'}");
        waits(decide(&m, "there\nnot done 1\n", &ctx()));
        assert_eq!(satisfied(decide(&m, "there\na\ndone 12\nb", &ctx())).result["match_groups"], json!(["12"]));
        // As Python reads it: the end of all, and no bounds of words.
        let m: WaitFor = bind(r"{path: /run/x, search_regex: '\<done\>\Z'}");
        waits(decide(&m, "there\n<done>\nb", &ctx()));
        satisfied(decide(&m, "there\na\n<done>", &ctx()));
    }

    #[test]
    fn without_bash_and_nc_the_kernels_table_tells() {
        let m: WaitFor = bind("{port: 80, host: localhost}");
        let row = |local: &str| format!("sockets\n   0: {local} 00000000:0000 0A 00000000:00000000 00:00000000 0\n");
        satisfied(decide(&m, &row("0100007F:0050"), &ctx()));
        satisfied(decide(&m, &row("00000000000000000000000000000000:0050"), &ctx()));
        waits(decide(&m, &row("0100007F:0051"), &ctx()));
        let m: WaitFor = bind("{port: 80, host: db.lan}");
        assert!(matches!(decide(&m, "sockets\n", &ctx()), Err(Stop::Fail(f)) if f.message.contains("nc")));
    }

    #[test]
    fn drained() {
        let m: WaitFor = bind("{port: 80, host: 0.0.0.0, state: drained, exclude_hosts: [10.0.0.9, lb]}");
        let row = |remote: &str, st: &str| format!("   1: 0100000A:0050 {remote}:C001 {st} 00000000:00000000\n");
        satisfied(decide(&m, "sockets\n", &ctx()));
        satisfied(decide(&m, &format!("sockets\n{}", row("0500000A", "0A")), &ctx()));
        waits(decide(&m, &format!("sockets\n{}", row("0500000A", "01")), &ctx()));
        satisfied(decide(&m, &format!("sockets\n{}", row("0900000A", "01")), &ctx()));
        satisfied(decide(&m, &format!("sockets\nexcluded 10.0.0.5 STREAM lb\n{}", row("0500000A", "01")), &ctx()));
        let m: WaitFor = bind("{port: 80, host: web, state: drained, active_connection_states: [TIME_WAIT]}");
        let text = |st| format!("sockets\ncounts 10.0.0.1 STREAM web\n{}", row("0500000A", st));
        satisfied(decide(&m, &text("01"), &ctx()));
        waits(decide(&m, &text("06"), &ctx()));
        let states = |s: &str| {
            let m: WaitFor = bind(&format!("{{port: 80, state: drained, active_connection_states: '{s}'}}"));
            m.active_connection_states
        };
        assert_eq!(states("ESTABLISHED"), [TcpState::Established]);
        assert_eq!(states("TIME_WAIT, SYN_SENT"), [TcpState::TimeWait, TcpState::SynSent]);
        assert!(try_bind::<WaitFor>("{port: 80, state: drained, active_connection_states: OPEN}").is_err());
    }

    #[test]
    fn with_nothing_to_look_at_time_passes() {
        let m: WaitFor = bind("{timeout: 5}");
        assert_eq!(m.probes(&ctx()), []);
        let w = waits(m.decide(&seen([]), &ctx()));
        assert!(w.delay.as_secs() == 5 && w.limit > w.delay);
        satisfied(m.decide(&seen([]), &later(5)));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<WaitFor>(y).unwrap_err().message;
        assert!(err("{port: 80, path: /x}").contains("exclude each other"));
        assert!(err("{port: 70000}").contains("65535"));
        assert!(err("{path: x}").contains("absolute"));
        assert!(err("{path: /x, state: drained}").contains("needs a `port`"));
        assert!(err("{path: /x, search_regex: '('}").contains("Parsing"), "{}", err("{path: /x, search_regex: '('}"));
        assert!(err("{path: /x, search_regex: a, state: absent}").contains("only"));
        assert!(err("{port: 80, host: '$(id)'}").contains("neither"));
        assert!(err("{port: 80, exclude_hosts: [a]}").contains("`drained` only"));
    }
}
