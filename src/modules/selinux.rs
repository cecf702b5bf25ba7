//! `selinux` and `seboolean`.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::edit::{Edit, utf8};
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// SELinux's state and policy, now and at each start. What needs a restart of the host is said in `reboot_required`;
/// the host is not restarted.
///
/// Tested on a host whose kernel has SELinux switched off; `setenforce` was not run. Registers `msg`, `policy`, `state`, `configfile` and
/// `reboot_required`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selinux {
    /// `enforcing`, `permissive` or `disabled`.
    state: State,
    /// The policy (`targeted`); needed unless `disabled`.
    policy: Option<Text>,
    /// Where it is configured. Also `conf`, `file`.
    #[serde(default = "config", alias = "conf", alias = "file")]
    #[schemars(extend("x-aliases" = ["conf", "file"]))]
    configfile: Text,
}

fn config() -> Text {
    "/etc/selinux/config".into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Enforcing,
    Permissive,
    Disabled,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Enforcing => "enforcing",
            State::Permissive => "permissive",
            State::Disabled => "disabled",
        }
    }
}

const LOOK: &str = "command -v getenforce >/dev/null 2>&1 || exit 127\ngetenforce";

impl Module for Selinux {
    const NAME: &'static str = "selinux";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("configfile", &self.configfile)?;
        if self.policy.is_none() && self.state != State::Disabled {
            return Err(ArgError::new("policy", format!("`{}` needs a `policy`", self.state.word())));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        match self.policy.as_deref() {
            Some(p) if p.is_empty() || !p.chars().all(plain) => {
                Err(ArgError::new("policy", format!("`{p}` is not a policy's name")))
            }
            _ => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::Script(LOOK.into())];
        p.extend(self.edit().probes());
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script(LOOK)?;
        if out.rc == 127 {
            return Err(Stop::fail("there is no SELinux on the host"));
        }
        let Some(old) = self.edit().old(seen)? else {
            return Err(Stop::fail(format!("there is no {} on the host", self.configfile.0)));
        };
        let new = self.text(utf8(&self.configfile, old)?);
        let now = out.stdout.trim().to_ascii_lowercase();
        // A running kernel switches between enforcing and permissive, no further.
        let then = match (self.state, now.as_str()) {
            (_, "disabled") => "disabled",
            (State::Enforcing, _) => "enforcing",
            _ => "permissive",
        };
        let reboot = then != self.state.word();
        let mut says = vec![];
        let mut c = match self.edit().decide(seen, ctx, new.into_bytes(), "", Map::new())? {
            Decision::Change(c) => {
                says.push(format!("{} at each start", self.state.word()));
                c
            }
            _ => Change::default(),
        };
        if now != then {
            let n = if then == "enforcing" { "1" } else { "0" };
            c.actions.push(Action::Script(format!("setenforce {n}")));
            says.push(format!("now {now} -> {then}"));
        }
        let mut result = Map::new();
        let msg = if reboot { "it holds after a restart of the host" } else { "" };
        result.insert("msg".into(), json!(msg));
        result.insert("policy".into(), json!(self.policy.as_ref().map(|p| &p.0)));
        result.insert("state".into(), json!(self.state.word()));
        result.insert("configfile".into(), json!(self.configfile.0));
        result.insert("reboot_required".into(), json!(reboot));
        if c.actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let mut shown = then.to_string();
        shown[..1].make_ascii_uppercase();
        c.after.push((
            Probe::Script(LOOK.into()),
            Answer::Script(Output { stdout: format!("{shown}\n"), ..Default::default() }),
        ));
        if reboot {
            says.push("the rest after a restart of the host".into());
        }
        c.summary = says.join(", ");
        c.result = result;
        Ok(Decision::Change(c))
    }
}

impl Selinux {
    fn edit(&self) -> Edit<'_> {
        let path = &self.configfile;
        Edit { path, create: false, mode: None, owner: None, group: None, validate: None, backup: false }
    }
    fn text(&self, old: &str) -> String {
        let policy = self.policy.as_deref();
        let wanted = [("SELINUX", Some(self.state.word())), ("SELINUXTYPE", policy)];
        let mut lines: Vec<String> = old.lines().map(str::to_string).collect();
        for (key, value) in wanted.into_iter().filter_map(|(k, v)| Some((k, v?))) {
            let is = |l: &&mut String| l.split_once('=').is_some_and(|(k, _)| k.trim() == key);
            let value = format!("{key}={value}");
            match lines.iter_mut().find(is) {
                Some(l) if l.trim() == value => {}
                Some(l) => *l = value,
                None => lines.push(value),
            }
        }
        lines.iter().map(|l| format!("{l}\n")).collect()
    }
}

/// A switch of SELinux's policy.
///
/// Tested on a host whose kernel has SELinux switched off; what holds now was not switched there. Registers `name`, `state` and `persistent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seboolean {
    /// The switch: `httpd_can_network_connect`.
    name: Text,
    /// On or off.
    state: Bool,
    /// It holds at each start, too.
    #[serde(default)]
    persistent: Bool,
    /// Where SELinux is disabled, do not fail; what is `persistent` is kept for the day it is on.
    #[serde(default)]
    ignore_selinux_state: Bool,
}

impl Module for Seboolean {
    const NAME: &'static str = "seboolean";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        match self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            true => Err(ArgError::new("name", format!("`{}` is not a switch's name", self.name.0))),
            false => Ok(()),
        }
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script(&self.look())?;
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name.0));
        result.insert("state".into(), json!(self.state.0));
        result.insert("persistent".into(), json!(self.persistent.0));
        let off = out.rc == 127 || out.stderr.contains("SELinux is disabled");
        if off && !self.ignore_selinux_state.0 {
            return Err(Stop::fail_hint("SELinux is not on", "`ignore_selinux_state: true` takes it as it is"));
        }
        let word = if self.state.0 { "on" } else { "off" };
        // What was ever set is noted as `x=1`; all else semanage knows: `x   (on   ,  off)   what it is`, now and at each
        // start.
        let noted = out.stdout.lines().find_map(|l| l.strip_prefix("noted ")?.split_once('='));
        let noted = noted.map(|(_, v)| if v.trim() == "1" { "on" } else { "off" });
        let kept = out.stdout.lines().find_map(|l| l.strip_prefix("kept ")?.split_once('(')?.1.split_once(')'));
        let kept = noted.or_else(|| Some(kept?.0.split_once(',')?.1.trim()));
        if off {
            return Ok(match self.persistent.0 && out.rc != 127 && kept != Some(word) {
                true => Decision::Change(self.keeps(word, "-P -N ", result)),
                false => Decision::satisfied(result),
            });
        }
        let Some(now) = out.stdout.lines().find_map(|l| l.split_once("--> ")).map(|(_, v)| v.trim()) else {
            return Err(Stop::fail(format!("SELinux has no switch `{}`: {}", self.name.0, out.stderr.trim())));
        };
        if now == word && (!self.persistent.0 || kept == Some(word)) {
            return Ok(Decision::satisfied(result));
        }
        let mut c = self.keeps(word, if self.persistent.0 { "-P " } else { "" }, result);
        if now != word {
            c.summary = format!("{} {now} -> {word}", self.name.0);
        }
        Ok(Decision::Change(c))
    }
}

impl Seboolean {
    fn keeps(&self, word: &str, how: &str, result: Map<String, serde_json::Value>) -> Change {
        let name = shell_quote(&self.name);
        let noted = format!("noted {}={}\n", self.name.0, u8::from(self.state.0));
        let said = format!("{} --> {word}\n{}", self.name.0, if self.persistent.0 { noted } else { String::new() });
        Change {
            actions: vec![Action::Script(format!("setsebool {how}{name} {word}"))],
            touches: Touches::path("/var/lib/selinux"),
            after: vec![(Probe::Script(self.look()), Answer::Script(Output { stdout: said, ..Default::default() }))],
            summary: format!("{} {word} at each start", self.name.0),
            result,
            ..Default::default()
        }
    }
    fn look(&self) -> String {
        let name = shell_quote(&self.name);
        let kept = match self.persistent.0 {
            true => format!(
                "w_t=$(sed -n 's/^SELINUXTYPE=//p' /etc/selinux/config 2>/dev/null)\n\
                 w_n=$(sed -n 's/^{n}=/noted &/p' \"/var/lib/selinux/$w_t/active/booleans.local\" 2>/dev/null)\n\
                 [ -z \"$w_n\" ] && semanage boolean -l -n 2>/dev/null </dev/null | sed -n 's/^{n}[[:blank:]]/kept &/p'\n\
                 printf '%s\\n' \"$w_n\"\n",
                n = self.name.0
            ),
            false => String::new(),
        };
        format!("command -v getsebool >/dev/null 2>&1 || exit 127\nexport LC_ALL=C\ngetsebool {name}\n{kept}exit 0")
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Content, EntryKind};

    const CONFIG: &str = "# SELINUX= can be\nSELINUX=enforcing\nSELINUXTYPE=targeted\n";

    fn host(now: &str, file: &str) -> Observed {
        seen([
            (Probe::Script(LOOK.into()), Answer::Script(Output { stdout: format!("{now}\n"), ..Default::default() })),
            at("/etc/selinux/config", Some(entry(EntryKind::File, 0o644))),
            (Probe::Content("/etc/selinux/config".into()), Answer::Content(Content::Bytes(file.into()))),
        ])
    }
    fn done(params: &str, now: &str) -> (String, usize) {
        let m: Selinux = bind(params);
        match m.decide(&host(now, CONFIG), &ctx()) {
            Ok(Decision::Change(c)) => {
                satisfied(m.decide(&then(host(now, CONFIG), &c), &ctx()));
                (c.summary, c.actions.len())
            }
            d => (format!("{}", satisfied(d).result["reboot_required"]), 0),
        }
    }

    #[test]
    fn now_and_at_each_start() {
        let p = |s: &str| format!("{{state: {s}, policy: targeted}}");
        assert_eq!(done(&p("enforcing"), "Enforcing"), ("false".into(), 0));
        assert_eq!(done(&p("enforcing"), "Permissive"), ("now permissive -> enforcing".into(), 1));
        assert_eq!(
            done(&p("permissive"), "Enforcing"),
            ("permissive at each start, now enforcing -> permissive".into(), 2)
        );
        assert_eq!(done(&p("enforcing"), "Disabled"), ("true".into(), 0));
        let off = done("{state: disabled}", "Enforcing");
        assert_eq!(
            off,
            ("disabled at each start, now enforcing -> permissive, the rest after a restart of the host".into(), 2)
        );
        let m: Selinux = bind("{state: permissive, policy: mls}");
        assert_eq!(m.text(CONFIG), "# SELINUX= can be\nSELINUX=permissive\nSELINUXTYPE=mls\n");
    }

    #[test]
    fn switches() {
        let said = |m: &Seboolean, now: &str, kept: &str, rc: i32| {
            let kept = if kept.is_empty() { String::new() } else { format!("kept x   ({now}   ,   {kept})  Allow\n") };
            let stdout = if rc == 0 { format!("x --> {now}\n{kept}") } else { String::new() };
            seen([(Probe::Script(m.look()), Answer::Script(Output { rc, stdout, ..Default::default() }))])
        };
        let m: Seboolean = bind("{name: x, state: yes, persistent: yes}");
        sh_accepts(&m.look());
        satisfied(m.decide(&said(&m, "on", "on", 0), &ctx()));
        let c = change(m.decide(&said(&m, "on", "", 0), &ctx()));
        satisfied(m.decide(&then(said(&m, "on", "", 0), &c), &ctx()));
        let c = change(m.decide(&said(&m, "on", "off", 0), &ctx()));
        assert_eq!(c.summary, "x on at each start");
        let c = change(m.decide(&said(&m, "off", "off", 0), &ctx()));
        assert!(matches!(&c.actions[0], Action::Script(s) if s == "setsebool -P x on"));
        satisfied(m.decide(&then(said(&m, "off", "off", 0), &c), &ctx()));
        assert!(m.decide(&said(&m, "", "", 127), &ctx()).is_err());
        let m: Seboolean = bind("{name: x, state: no, ignore_selinux_state: yes}");
        satisfied(m.decide(&said(&m, "", "", 127), &ctx()));
        let m: Seboolean = bind("{name: x, state: no, persistent: yes, ignore_selinux_state: yes}");
        let off = |stdout: &str| {
            let stderr = "getsebool:  SELinux is disabled\n".to_string();
            let out = Output { rc: 0, stdout: stdout.into(), stderr };
            seen([(Probe::Script(m.look()), Answer::Script(out))])
        };
        satisfied(m.decide(&off("noted x=0\n"), &ctx()));
        satisfied(m.decide(&off("kept x   (off   ,  off)  Allow\n"), &ctx()));
        let c = change(m.decide(&off("noted x=1\n"), &ctx()));
        assert!(matches!(&c.actions[0], Action::Script(s) if s == "setsebool -P -N x off"));
        satisfied(m.decide(&then(off("noted x=1\n"), &c), &ctx()));
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Selinux>("{state: enforcing}").unwrap_err().message.contains("`policy`"));
        assert!(try_bind::<Selinux>("{state: disabled, policy: 'a b'}").is_err());
        assert!(try_bind::<Seboolean>("{name: 'a;b', state: on}").is_err());
    }
}
