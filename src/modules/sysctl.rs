//! `sysctl`: settings of the running kernel, and the file it gets them from.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::place::Wanted;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Content, EntryKind, Observed, Output, Probe, SysctlState, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Keeps a kernel setting in a file and brings it into the running kernel.
///
/// Registers `name` and `value`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// The setting (`net.ipv4.ip_forward`).
    #[serde(alias = "key")]
    #[schemars(extend("x-aliases" = ["key"]))]
    name: Text,
    /// Its value; `yes` and `no` are 1 and 0.
    #[serde(alias = "val")]
    #[schemars(extend("x-aliases" = ["val"]))]
    value: Option<Text>,
    /// Whether the file is to hold it. `absent` leaves the running value as it is.
    #[serde(default)]
    state: State,
    /// The file.
    #[serde(default = "conf")]
    sysctl_file: Text,
    /// Set the running value too, whether or not the file changes.
    #[serde(default)]
    sysctl_set: Bool,
    /// Have the kernel read the whole file after it changed, and where the running value differs from it.
    #[serde(default = "yes")]
    reload: Bool,
    /// Go on where the kernel does not know a setting or does not take it.
    #[serde(default)]
    ignoreerrors: Bool,
}

fn conf() -> Text {
    "/etc/sysctl.conf".into()
}
fn yes() -> Bool {
    Bool(true)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

impl Module for Sysctl {
    const NAME: &'static str = "sysctl";
    const EXAMPLE: &'static str = r#"- sysctl: {name: net.ipv4.ip_forward, value: "1"}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        self.name.0 = self.name.trim().to_string();
        let plain = |c: char| c.is_ascii_graphic() && !"=#;'\"`$\\".contains(c);
        let levels = |mut p: std::str::Split<'_, [char; 2]>| p.all(|l| !l.is_empty());
        if !self.name.chars().all(plain) || !levels(self.name.split(['.', '/'])) {
            return Err(ArgError::new("name", format!("`{}` is not a kernel setting", self.name.0)));
        }
        absolute("sysctl_file", &self.sysctl_file)?;
        if let Some(v) = &mut self.value {
            v.0 = normal(v);
        }
        match (&self.value, self.state) {
            (Some(v), State::Present) if v.is_empty() => Err(ArgError::new("value", "the value is empty")),
            (Some(v), _) if v.contains('\n') => Err(ArgError::new("value", "the value has more than one line")),
            (None, State::Present) => Err(ArgError::new("value", "`sysctl` needs a `value` unless `state` is absent")),
            _ => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let file = || self.sysctl_file.0.clone();
        let mut p = vec![Probe::Path(file()), Probe::Sha256(file()), Probe::Content(file())];
        if self.minds_running() {
            p.push(Probe::Sysctl(dotted(&self.name)));
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let key = dotted(&self.name);
        let value = self.value.as_deref().unwrap_or_default();
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name.0));
        if self.state == State::Present {
            result.insert("value".into(), json!(value));
        }

        // A link is followed: what it leads to changes.
        let at = seen.path(&self.sysctl_file)?;
        let file = match &at.entry {
            Some(e) if e.kind == EntryKind::Link => at.canonical.as_str(),
            _ => &self.sysctl_file,
        };
        let old = match seen.content(file)? {
            Content::Absent => "",
            Content::Bytes(b) => {
                std::str::from_utf8(b).map_err(|_| Stop::fail(format!("{file} is not text (UTF-8)")))?
            }
            Content::Unavailable | Content::Denied => {
                return Err(Stop::fail(format!("{file} cannot be read, or is no file")));
            }
        };
        let new = edited(old, &self.name, (self.state == State::Present).then_some(value));

        let running = match self.minds_running() {
            true => Some(seen.sysctl(&key)?),
            false => None,
        };
        if running == Some(&SysctlState::Absent) && !self.ignoreerrors.0 {
            return Err(Stop::fail_hint(
                format!("the kernel of this host has no setting {}", self.name.0),
                "the kernel module that brings it may not be loaded yet (`modprobe`); `ignoreerrors: true` goes on without it",
            ));
        }
        let was = match running {
            Some(SysctlState::Value(r)) => Some(folded(r)),
            _ => None,
        };
        let differs = match &was {
            Some(r) => !same(r, value),
            // What cannot be read is there to be written: it is, where that is asked for.
            None => running == Some(&SysctlState::Unreadable) && self.sysctl_set.0,
        };
        if new.is_none() && !differs {
            return Ok(Decision::satisfied(result));
        }

        let mut change = Change::default();
        let mut says = vec![];
        let text_after = new.clone().unwrap_or_else(|| old.to_string());
        let set = self.sysctl_set.0 && differs;
        let reload = self.reload.0 && (new.is_some() || (differs && !set));
        if differs {
            says.push(was.as_ref().map_or(format!("sets {value}"), |was| format!("{was} -> {value}")));
            change.touches.sysctls = true;
        }
        let was = was.filter(|_| differs);
        // The kernel may write a value in its own way: only afterwards is it known whether it is another.
        change.verdict = (differs && new.is_none()).then_some(moved);
        let proc_file = shell_quote(&format!("/proc/sys/{}", levels(&key)));
        let go_on = if self.ignoreerrors.0 { " || :" } else { " || exit" };
        if set {
            change.actions.push(Action::Script(format!(
                "export LC_ALL=C\n{{ printf '%s\\n' {} >{proc_file}; }}{go_on}\n{}",
                shell_quote(value),
                self.kept(was.as_deref(), value, &proc_file)
            )));
        }
        if let Some(new) = new {
            says.push(match self.state {
                State::Present => format!("{value} in {file}"),
                State::Absent => format!("no longer in {file}"),
            });
            let wanted = Wanted {
                path: file,
                body: new.into_bytes().into(),
                mode: None,
                owner: None,
                group: None,
                validate: None,
                backup: false,
            };
            if let Decision::Change(c) = wanted.decide(seen, ctx)? {
                change.actions.extend(c.actions);
                change.after.extend(c.after);
                change.diff = c.diff;
                change.touches = change.touches.and(c.touches);
            }
        }
        if reload {
            let lenient = if self.ignoreerrors.0 { "-e " } else { "" };
            let f = shell_quote(&self.sysctl_file);
            let by_hand = match self.state {
                State::Present => format!("printf '%s\\n' {} >{proc_file}", shell_quote(value)),
                State::Absent => ":".into(),
            };
            change.actions.push(Action::Script(format!(
                "export LC_ALL=C\nif command -v sysctl >/dev/null 2>&1; then\n  sysctl {lenient}-p {f}\nelif [ -x /lib/systemd/systemd-sysctl ]; then\n  /lib/systemd/systemd-sysctl {f}\nelse\n  {by_hand}\nfi{go_on}\n{}",
                self.kept(was.as_deref(), value, &proc_file)
            )));
            // The file may hold other settings too.
            change.touches.sysctls = true;
        }
        if set || reload {
            let known = self.state == State::Present && matches!(running, Some(SysctlState::Value(_)));
            let own = known.then(|| (key.clone(), value.to_string()));
            let written = if reload { settings(&text_after) } else { vec![] };
            change.after.extend(others_after(seen, written.into_iter().chain(own).collect()));
        }
        if change.touches.sysctls && self.name.contains("hostname") {
            change.touches = change.touches.and(Touches::path("/etc/hostname"));
        }
        change.summary = says.join(", ");
        change.result = result;
        Ok(Decision::Change(change))
    }
}

impl Sysctl {
    /// Whether the running value plays a part.
    fn minds_running(&self) -> bool {
        self.state == State::Present && (self.sysctl_set.0 || self.reload.0)
    }

    /// Shell for a kernel that still has the old value: it may be read-only, or refuse without an error, which writing
    /// the value shows. A value that it takes and writes as it did before is the same value.
    fn kept(&self, was: Option<&str>, value: &str, proc_file: &str) -> String {
        let Some(was) = was else { return String::new() };
        let q = shell_quote(was);
        let refused = match self.ignoreerrors.0 {
            true => String::new(),
            false => format!(
                "{{ printf '%s\\n' {} >{proc_file}; }} 2>/dev/null || {{ printf '%s\\n' {} >&2; exit 1; }}\n",
                shell_quote(value),
                shell_quote(&format!(
                    "the kernel did not take {value} for {} and keeps {was}; it may be read-only",
                    self.name.0
                ))
            ),
        };
        format!(
            "set -f\nif [ \"$(echo $(cat {proc_file}))\" = {q} ]; then\n{refused}[ \"$(echo $(cat {proc_file}))\" != {q} ] || echo '{KEPT}'\nfi"
        )
    }
}

const KEPT: &str = "windlass: the kernel has it so already";

fn moved(outputs: &[Output]) -> bool {
    !outputs.iter().any(|o| o.stdout.lines().any(|l| l == KEPT))
}

/// The settings of a file, in order.
fn settings(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';']));
    lines
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| (dotted(k.trim().trim_start_matches('-').trim()), v.trim().to_string()))
        .collect()
}

/// What is certain of the settings that were looked at, once these have been written one after the other. The kernel
/// changes some settings along with others: of those nothing is said.
fn others_after(seen: &Observed, written: Vec<(String, String)>) -> Vec<(Probe, Answer)> {
    let is = |key: &str, value: &str| matches!(seen.sysctl(key), Ok(SysctlState::Value(now)) if same(now, value));
    // Writing what is there already moves nothing.
    let moved: Vec<&String> = written.iter().filter(|(k, v)| !is(k, v)).map(|(k, _)| k).collect();
    let mut after = vec![];
    for (probe, answer) in seen.iter() {
        let (Probe::Sysctl(key), Answer::Sysctl(SysctlState::Value(was))) = (probe, answer) else { continue };
        if moved.iter().any(|m| *m != key && move_together(m, key)) {
            continue;
        }
        let value = written.iter().rev().find(|(k, _)| k == key).map_or(was, |(_, v)| v);
        after.push((probe.clone(), Answer::Sysctl(SysctlState::Value(value.clone()))));
    }
    after
}

/// Whether the kernel may change one of these when the other is written.
fn move_together(a: &str, b: &str) -> bool {
    const FAMILIES: [&[&str]; 6] = [
        // Forwarding and what is set for `all` or `default` interfaces spread to the rest.
        &["net.ipv4.ip_forward", "net.ipv4.conf."],
        &["net.ipv6.conf."],
        &["net.ipv4.neigh.", "net.ipv6.neigh."],
        // The same limit as a ratio and in bytes.
        &["vm.dirty_"],
        &["vm.overcommit_"],
        &["fs.mqueue.", "kernel.shm", "kernel.msg", "kernel.threads-max"],
    ];
    let of = |k: &str| FAMILIES.iter().position(|f| f.iter().any(|p| k.starts_with(p)));
    // A name with wildcards may be anything.
    a.contains('*') || of(a).is_some_and(|f| of(b) == Some(f))
}

/// The value as it is written.
fn normal(value: &str) -> String {
    match value.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" | "true" | "t" => "1".into(),
        "n" | "no" | "off" | "false" | "f" => "0".into(),
        _ => value.trim().to_string(),
    }
}

/// White space between values does not matter.
fn folded(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the kernel takes both for the same value: it writes numbers, lists of ranges and IPv6 addresses in its own way.
fn same(a: &str, b: &str) -> bool {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
    let alike = |(a, b): (&&str, &&str)| {
        let both = |a: Option<i128>, b: Option<i128>| a.is_some() && a == b;
        let listed = |t: &str| t.contains([',', '-']);
        let ipv6 = |t: &str| t.parse::<std::net::Ipv6Addr>().ok();
        a == b
            || both(number(a), number(b))
            || ((listed(a) || listed(b)) && ranges(a).is_some_and(|r| Some(r) == ranges(b)))
            || ipv6(a).is_some_and(|x| Some(x) == ipv6(b))
    };
    a.len() == b.len() && a.iter().zip(&b).all(alike)
}

/// A number as the kernel reads it: hexadecimal after `0x`, octal after `0`.
fn number(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |d| (-1, d));
    let (digits, base) = match (digits.strip_prefix("0x").or(digits.strip_prefix("0X")), digits.strip_prefix('0')) {
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (digits, 10),
    };
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
    plain.then(|| i128::from_str_radix(digits, base).ok().map(|n| sign * n))?
}

/// `8080,30000-32767`, in order and with what touches joined. Words of a bit mask have leading zeros and are none.
fn ranges(text: &str) -> Option<Vec<(u64, u64)>> {
    let one = |n: &str| {
        let plain = n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || !n.starts_with('0'));
        plain.then(|| n.parse::<u64>().ok())?
    };
    let parts = text.split(',').map(|p| {
        let (from, to) = p.split_once('-').unwrap_or((p, p));
        Some((one(from)?, one(to)?))
    });
    let mut parts = parts.collect::<Option<Vec<_>>>()?;
    parts.sort_unstable();
    let mut joined: Vec<(u64, u64)> = vec![];
    for (from, to) in parts {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    Some(joined)
}

/// The name with dots between its levels, whichever of `.` and `/` it was written with.
fn dotted(name: &str) -> String {
    if name.find(['.', '/']).is_some_and(|i| name.as_bytes()[i] == b'/') { levels(name) } else { name.to_string() }
}

/// Dots for slashes and slashes for dots.
fn levels(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    name.chars().map(swap).collect()
}

/// The file's text with the setting as wanted (`None`: not there); nothing if it is so already. The first line of the
/// setting is changed where it stands, further ones go; all other lines stay byte for byte.
fn edited(old: &str, name: &str, value: Option<&str>) -> Option<String> {
    let key = dotted(name);
    let is_ours = |line: &str| {
        let l = line.trim();
        if l.starts_with(['#', ';']) {
            return None;
        }
        let (k, v) = l.split_once('=')?;
        (dotted(k.trim().trim_start_matches('-').trim()) == key).then(|| v.trim().to_string())
    };
    // Of several lines the last one counts.
    let now = old.lines().filter_map(is_ours).next_back();
    match (&now, value) {
        (None, None) => return None,
        (Some(n), Some(v)) if folded(n) == folded(v) => return None,
        _ => {}
    }
    let mut new = String::with_capacity(old.len() + 80);
    let mut written = false;
    for line in old.split_inclusive('\n') {
        if is_ours(line).is_none() {
            new.push_str(line);
        } else if let Some(v) = value.filter(|_| !written) {
            let left = line.split('=').next().unwrap_or(name).trim();
            new.push_str(&format!("{left}={v}\n"));
            written = true;
        }
    }
    if let Some(v) = value.filter(|_| !written) {
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(&format!("{name}={v}\n"));
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::modules::hex;
    use sha2::{Digest, Sha256};

    #[test]
    fn others_stay_known_unless_the_kernel_moves_them() {
        let run = |k: &str, v: &str| (Probe::Sysctl(k.into()), Answer::Sysctl(SysctlState::Value(v.into())));
        let all = [
            run("net.ipv4.ip_forward", "0"),
            run("net.ipv4.conf.all.accept_redirects", "1"),
            run("vm.swappiness", "60"),
            run("kernel.pid_max", "10"),
        ];
        let pairs = |p: &[(&str, &str)]| p.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<_>>();
        let after = |w: &[(&str, &str)]| {
            let mut a: Vec<(String, String)> = others_after(&seen(all.clone()), pairs(w))
                .into_iter()
                .map(|(p, a)| match (p, a) {
                    (Probe::Sysctl(k), Answer::Sysctl(SysctlState::Value(v))) => (k, v),
                    other => panic!("{other:?}"),
                })
                .collect();
            a.sort();
            a
        };
        assert_eq!(
            after(&[("net.ipv4.ip_forward", "1"), ("vm.swappiness", "10")]),
            pairs(&[("kernel.pid_max", "10"), ("net.ipv4.ip_forward", "1"), ("vm.swappiness", "10")])
        );
        assert_eq!(after(&[("net.ipv4.ip_forward", "0")]).len(), 4);
        assert!(after(&[("net.*", "0")]).is_empty());
        assert_eq!(settings("# a=1\n-b/c = 2\n;x=1\nd\n"), pairs(&[("b.c", "2")]));
    }

    const F: &str = "/etc/sysctl.d/k8s.conf";
    const K: &str = "net.ipv4.ip_forward";

    fn is(body: Option<&str>, running: Option<&str>) -> Observed {
        let content = body.map_or(Content::Absent, |b| Content::Bytes(b.into()));
        seen([
            at(F, body.map(|_| entry(EntryKind::File, 0o644))),
            (Probe::Sha256(F.into()), Answer::Sha256(body.map(|b| hex(&Sha256::digest(b))))),
            (Probe::Content(F.into()), Answer::Content(content)),
            (
                Probe::Sysctl(K.into()),
                Answer::Sysctl(running.map_or(SysctlState::Absent, |r| SysctlState::Value(r.into()))),
            ),
        ])
    }
    fn module(more: &str) -> Sysctl {
        bind(&format!("{{name: {K}, sysctl_file: {F}, {more}}}"))
    }
    fn scripts(c: &Change) -> Vec<&str> {
        let of = |a: &'_ Action| matches!(a, Action::Script(_));
        let text: Vec<&str> = c
            .actions
            .iter()
            .filter(|a| of(a))
            .map(|a| if let Action::Script(s) = a { s.as_str() } else { "" })
            .collect();
        text.iter().for_each(|s| sh_accepts(s));
        text
    }
    fn put(c: &Change) -> String {
        let put = c.actions.iter().find_map(|a| if let Action::Put(p) = a { Some(p.body.to_vec()) } else { None });
        String::from_utf8(put.unwrap()).unwrap()
    }

    #[test]
    fn file_and_kernel_right_is_satisfied() {
        let m = module("value: yes");
        assert_eq!(m.probes(&ctx()).len(), 4);
        satisfied(m.decide(&is(Some("net.ipv4.ip_forward = 1\n"), Some("1")), &ctx()));
        satisfied(m.decide(&is(Some("net/ipv4/ip_forward=0\n-net.ipv4.ip_forward=1"), Some("1")), &ctx()));
    }

    #[test]
    fn a_new_setting_is_written_and_read() {
        let m = module("value: 1");
        let c = change(m.decide(&is(None, Some("0")), &ctx()));
        assert_eq!(put(&c), "net.ipv4.ip_forward=1\n");
        assert_eq!(c.summary, format!("0 -> 1, 1 in {F}"));
        assert!(scripts(&c)[0].contains(&format!("sysctl -p {F}")));
        assert!(matches!(c.actions.as_slice(), [Action::Put(_), Action::Script(_)]));
        assert!(c.touches.sysctls && !c.touches.everything);
        satisfied(m.decide(&seen(c.after), &ctx()));
    }

    #[test]
    fn its_line_changes_in_place_and_no_other() {
        let old = "# a\r\n\n net.ipv4.ip_forward = 0  \nvm.x =  1\nnet.ipv4.ip_forward=2\n; b";
        let c = change(module("value: 1").decide(&is(Some(old), Some("1")), &ctx()));
        assert_eq!(put(&c), "# a\r\n\nnet.ipv4.ip_forward=1\nvm.x =  1\n; b");
        assert_eq!(edited("a=1", "b", Some("2")).unwrap(), "a=1\nb=2\n");
        assert_eq!(edited("x.y=1 \t 2\n", "x.y", Some("1 2")), None);
        let c = change(module("state: absent").decide(&is(Some(old), None), &ctx()));
        assert_eq!(put(&c), "# a\r\n\nvm.x =  1\n; b");
        satisfied(module("state: absent").decide(&is(Some("a=1\n"), None), &ctx()));
        satisfied(module("state: absent").decide(&is(None, None), &ctx()));
    }

    #[test]
    fn a_running_value_that_differs() {
        let o = || is(Some("net.ipv4.ip_forward=1\n"), Some("0"));
        // `reload` reads the file again, `sysctl_set` sets it, neither leaves it.
        let c = change(module("value: 1").decide(&o(), &ctx()));
        assert!(scripts(&c)[0].contains("sysctl -p") && c.actions.len() == 1);
        let c = change(module("value: 1, sysctl_set: true").decide(&o(), &ctx()));
        assert!(scripts(&c)[0].contains(">/proc/sys/net/ipv4/ip_forward") && c.actions.len() == 1);
        let m = module("value: 1, reload: false");
        assert_eq!(m.probes(&ctx()).len(), 3);
        satisfied(m.decide(&o(), &ctx()));
        let c = change(module("value: 1, sysctl_set: true").decide(&is(None, Some("0")), &ctx()));
        assert_eq!(scripts(&c).len(), 2);
        assert!(scripts(&c)[1].contains("keeps 0"));
    }

    #[test]
    fn a_setting_the_kernel_does_not_have() {
        let Err(Stop::Fail(f)) = module("value: 1").decide(&is(None, None), &ctx()) else { panic!() };
        assert!(f.message.contains(K) && f.hint.unwrap().contains("modprobe"));
        let m = module("value: 1, ignoreerrors: true");
        let c = change(m.decide(&is(None, None), &ctx()));
        assert!(scripts(&c)[0].contains("sysctl -e -p"));
        satisfied(m.decide(&is(Some("net.ipv4.ip_forward=1\n"), None), &ctx()));
        change(module("value: 1, reload: false").decide(&is(None, None), &ctx()));
    }

    #[test]
    fn a_value_the_kernel_writes_in_its_own_way() {
        for (a, b) in [
            ("2", "02"),
            ("8", "010"),
            ("255", "0xff"),
            ("1 2", "1\t02"),
            ("8080,30000-32767", "30000-32767,8080"),
            ("1-3", "3,1,2"),
            ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
            ("-1", "-1"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("1", "2"),
            ("1 2", "1"),
            ("00000000,00000003", "00000003,00000000"),
            ("1-3", "1-4"),
            ("a", "b"),
            ("-", ""),
        ] {
            assert!(!same(a, b) && !same(b, a), "{a} {b}");
        }
        satisfied(module("value: '02'").decide(&is(Some("net.ipv4.ip_forward=02\n"), Some("2")), &ctx()));
        // Where nothing tells beforehand, the kernel is asked: written and as before, it is the same.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "one\n").unwrap();
        let run = |proc_file: &str, was: &str| {
            let m = module("value: ONE");
            let s = m.kept(Some(was), "ONE", proc_file);
            sh_accepts(&s);
            let o = std::process::Command::new("sh").arg("-c").arg(s).output().unwrap();
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            Output { rc: o.status.code().unwrap(), stdout: text(&o.stdout), stderr: text(&o.stderr) }
        };
        let path = file.path().to_str().unwrap();
        assert!(moved(&[run(path, "two")]));
        let it = tempfile::tempdir().unwrap();
        let refused = run(&format!("{}/", it.path().display()), "");
        assert!(refused.rc == 1 && refused.stderr.contains("did not take ONE"), "{refused:?}");
        std::fs::write(&file, "ONE\n").unwrap();
        let same = run(path, "ONE");
        assert!(same.rc == 0 && !moved(&[same]));
        let c = change(module("value: 1").decide(&is(Some("net.ipv4.ip_forward=1\n"), Some("0")), &ctx()));
        assert!(c.verdict.is_some());
        assert!(change(module("value: 1").decide(&is(None, Some("0")), &ctx())).verdict.is_none());
    }

    #[test]
    fn a_setting_that_can_only_be_written() {
        let o = |body| {
            let mut o = is(body, None);
            o.insert(Probe::Sysctl(K.into()), Answer::Sysctl(SysctlState::Unreadable));
            o
        };
        let c = change(
            module("value: 1, sysctl_set: true, reload: false").decide(&o(Some("net.ipv4.ip_forward=1\n")), &ctx()),
        );
        assert_eq!(c.summary, "sets 1");
        assert!(!scripts(&c)[0].contains("cat "));
        satisfied(module("value: 1").decide(&o(Some("net.ipv4.ip_forward=1\n")), &ctx()));
        change(module("value: 1").decide(&o(None), &ctx()));
    }

    #[test]
    fn names_with_slashes() {
        assert_eq!(dotted("net/ipv4/conf/eth0.1/forwarding"), "net.ipv4.conf.eth0/1.forwarding");
        assert_eq!(levels("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn a_link_is_followed() {
        let state = crate::probe::PathState {
            entry: Some(entry(EntryKind::Link, 0o777)),
            canonical: "/etc/real.conf".into(),
            ..Default::default()
        };
        let mut o = is(None, Some("1"));
        o.insert(Probe::Path(F.into()), Answer::Path(state));
        let Err(Stop::Need(n)) = module("value: 1").decide(&o, &ctx()) else { panic!() };
        assert_eq!(n, [Probe::Content("/etc/real.conf".into())]);
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Sysctl>(y).unwrap_err().message;
        assert!(err("{name: a.b}").contains("needs a `value`"));
        assert!(err("{name: a.b, value: ''}").contains("empty"));
        assert!(err("{name: 'a b', value: 1}").contains("not a kernel setting"));
        assert!(err("{name: a/../b, value: 1}").contains("not a kernel setting"));
        assert!(err("{name: a.b, value: 1, sysctl_file: x}").contains("absolute"));
        assert!(err("{name: a.b, value: 1, state: here}").contains("unknown variant"));
    }
}
