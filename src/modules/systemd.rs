//! `systemd` and `service`: units of the system's manager.

use super::args::{Bool, Text};
use super::openrc::OpenRc;
use super::{ArgError, Change, Ctx, Decision, Failure, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches, UnitState};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Starts, stops, enables and masks units of systemd.
///
/// Registers `name`, `state`, `enabled` and `status` (the unit's properties as they were before).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Systemd {
    /// The unit; without a suffix a service.
    #[serde(alias = "service", alias = "unit")]
    #[schemars(extend("x-aliases" = ["service", "unit"]))]
    name: Option<Text>,
    /// `started` and `stopped` do nothing where it is so; `restarted` always restarts; `reloaded` always reloads, and
    /// starts what does not run.
    state: Option<State>,
    /// Whether the unit starts with the system.
    enabled: Option<Bool>,
    /// Whether the unit is masked: it cannot be started at all.
    masked: Option<Bool>,
    /// Make systemd read its unit files again first. Where a unit's file is newer than what systemd knows, this is done
    /// without being asked for.
    #[serde(default, alias = "daemon-reload")]
    #[schemars(extend("x-aliases" = ["daemon-reload"]))]
    daemon_reload: Bool,
    /// Make systemd start itself anew first.
    #[serde(default, alias = "daemon-reexec")]
    #[schemars(extend("x-aliases" = ["daemon-reexec"]))]
    daemon_reexec: Bool,
    /// Do not wait until the unit is up or down.
    #[serde(default)]
    no_block: Bool,
    /// Replace links of the unit that are in the way.
    #[serde(default)]
    force: Bool,
    /// Whose manager. Only `system` is supported yet.
    #[serde(default)]
    scope: Scope,
}

/// Starts, stops and enables a service, of systemd or of OpenRC.
///
/// OpenRC is tested with the one Debian has. Registers `name`, `state`, `enabled` and, of systemd,
/// `status` (the service's properties as they were before).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service.
    name: Text,
    /// `started` and `stopped` do nothing where it is so; `restarted` always restarts; `reloaded` always reloads, and
    /// starts what does not run.
    state: Option<State>,
    /// Whether the service starts with the system.
    enabled: Option<Bool>,
    /// The service manager: `auto`, `systemd` or `openrc`.
    #[serde(rename = "use")]
    manager: Option<Text>,
    /// Not supported yet.
    #[serde(alias = "args")]
    #[schemars(extend("x-aliases" = ["args"]))]
    arguments: Option<Value>,
    /// Not supported yet.
    pattern: Option<Value>,
    /// With OpenRC: the runlevel that `enabled` is about.
    #[serde(default = "default_level")]
    runlevel: Text,
    /// With OpenRC: seconds between the stop and the start of a restart.
    #[serde(default)]
    sleep: super::whole::Whole,
    #[serde(skip)]
    #[schemars(skip)]
    unit: Systemd,
    #[serde(skip)]
    #[schemars(skip)]
    openrc: OpenRc,
}

fn default_level() -> Text {
    "default".into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Started,
    Stopped,
    Restarted,
    Reloaded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Scope {
    #[default]
    System,
    User,
    Global,
}

const SUFFIXES: [&str; 12] = [
    ".service",
    ".socket",
    ".target",
    ".timer",
    ".mount",
    ".automount",
    ".swap",
    ".path",
    ".slice",
    ".scope",
    ".device",
    ".snapshot",
];

impl Module for Systemd {
    const NAME: &'static str = "systemd";
    const EXAMPLE: &'static str = r#"- systemd:
    name: app
    state: restarted
    enabled: true
    daemon_reload: true"#;
    const ALIASES: &'static [&'static str] = &["systemd_service"];

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.scope != Scope::System {
            return Err(ArgError::new("scope", "only `system` is supported yet"));
        }
        let wants =
            [("state", self.state.is_some()), ("enabled", self.enabled.is_some()), ("masked", self.masked.is_some())];
        match &self.name {
            None => {
                if let Some((p, _)) = wants.iter().find(|w| w.1) {
                    return Err(ArgError::new(p, format!("`{p}` needs a `name`")));
                }
                if !self.daemon_reload.0 && !self.daemon_reexec.0 {
                    return Err(ArgError::new("", "`systemd` needs a `name`, `daemon_reload` or `daemon_reexec`"));
                }
            }
            Some(n) => {
                if n.contains(['*', '?', '[']) {
                    return Err(ArgError::new("name", format!("`{}` has wildcards; one unit must be named", n.0)));
                }
                if n.is_empty()
                    || n.starts_with(['-', '@', '.'])
                    || !n.chars().all(|c| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c))
                {
                    return Err(ArgError::new("name", format!("`{}` is not a unit's name", n.0)));
                }
                if self.masked.is_some_and(|m| m.0) {
                    let at_odds = [
                        ("enabled", self.enabled.is_some_and(|e| e.0)),
                        ("state", !matches!(self.state, None | Some(State::Stopped))),
                    ];
                    if let Some((p, _)) = at_odds.iter().find(|a| a.1) {
                        return Err(ArgError::new(p, "a masked unit can be neither enabled nor started"));
                    }
                }
            }
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.unit_name().map(Probe::Unit).into_iter().collect()
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let Some(unit) = self.unit_name() else { return Ok(self.manager_only()) };
        let now = seen.unit(&unit)?;
        let mut todo = Todo { unit: &unit, says: vec![], script: vec![], starts: false, enables: false };
        let mut next = now.clone();

        if now.load.is_empty() && now.active.is_empty() {
            return Err(Stop::fail_hint(
                format!("systemd says nothing about {unit}"),
                "does systemd run on this host? `ps -p 1 -o comm=` names its first process",
            ));
        }
        let missing = now.load == "not-found";
        // A file that came after systemd last looked is found by the reload that was asked for.
        let acts = self.state.is_some() || self.enabled.is_some();
        if missing && acts && !self.daemon_reload.0 && !self.daemon_reexec.0 {
            return Err(self.not_found(&unit, now));
        }
        let is_masked = now.load == "masked" || now.file.starts_with("masked");
        let mut still_masked = is_masked;
        if let Some(Bool(wanted)) = self.masked
            && wanted != is_masked
        {
            todo.systemctl(if wanted { "mask" } else { "unmask" }, self.force);
            still_masked = wanted;
            next.load = if wanted { "masked" } else { "loaded" }.into();
            next.file = if wanted { "masked" } else { "disabled" }.into();
        }
        if let Some(Bool(wanted)) = self.enabled {
            if wanted && still_masked {
                return Err(self.masked(&unit, "enabled", now));
            }
            let is = self.is_enabled(&unit, now, seen)?;
            // Behind a mask that goes away may be either.
            if wanted != is || (wanted && is_masked) {
                todo.enables = true;
                todo.systemctl(if wanted { "enable" } else { "disable" }, self.force);
                next.file = if wanted { "enabled" } else { "disabled" }.into();
            }
        }
        let runs = matches!(now.active.as_str(), "active" | "activating" | "reloading" | "refreshing");
        let verb = match self.state {
            None => None,
            Some(State::Started) => (!runs).then_some("start"),
            Some(State::Stopped) => (runs || now.active == "deactivating").then_some("stop"),
            Some(State::Restarted) => Some(if runs { "restart" } else { "start" }),
            Some(State::Reloaded) => Some(if runs { "reload" } else { "start" }),
        };
        if let Some(v) = verb {
            if v != "stop" && still_masked {
                return Err(self.masked(&unit, "started", now));
            }
            todo.run(v, self.no_block, self.force);
            next.active = if v == "stop" { "inactive" } else { "active" }.into();
            next.sub = if v == "stop" { "dead" } else { "running" }.into();
        }

        let result = self.result(&unit, now, &next);
        // A reload that nothing needs is left out.
        let stale = now.needs_reload || (missing && acts);
        let reload =
            (verb.is_some() && now.needs_reload) || (self.daemon_reload.0 && (stale || !todo.script.is_empty()));
        if todo.script.is_empty() && !reload && !self.daemon_reexec.0 {
            return Ok(Decision::satisfied(result));
        }
        let only_manager = todo.script.is_empty();
        let only_enables = todo.enables && todo.script.len() == 1;
        if next.load == "not-found" {
            next.load = "loaded".into();
        }
        next.needs_reload = false;
        let mut script = vec!["export LC_ALL=C SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0".to_string()];
        if self.daemon_reexec.0 {
            script.push("systemctl daemon-reexec </dev/null || exit".into());
            todo.says.push("reexecutes systemd".into());
        }
        if reload && !self.daemon_reexec.0 {
            script.push("systemctl daemon-reload </dev/null || exit".into());
            todo.says.push("reloads unit files".into());
        }
        script.append(&mut todo.script);
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script.join("\n"))],
            touches: if todo.starts { Touches::everything() } else { unit_files() },
            after: vec![(Probe::Unit(unit.clone()), Answer::Unit(next))],
            summary: todo.says.join(", "),
            result,
            uncounted: only_manager,
            verdict: (only_enables && now.file == "indirect").then_some(links_changed),
            ..Default::default()
        }))
    }
}

impl Module for Service {
    const NAME: &'static str = "service";
    const EXAMPLE: &'static str = r#"- service: {name: nginx, state: started, enabled: true}"#;

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        let missing = [("arguments", &self.arguments), ("pattern", &self.pattern)];
        if let Some((p, _)) = missing.iter().find(|(_, v)| v.is_some()) {
            return Err(ArgError::new(p, format!("`{p}` is not supported yet")));
        }
        if let Some(m) = self.manager.as_ref().filter(|m| !matches!(&***m, "auto" | "systemd" | "openrc")) {
            return Err(ArgError::new("use", format!("`{}` is not supported, only `systemd` and `openrc`", m.0)));
        }
        if self.state.is_none() && self.enabled.is_none() {
            return Err(ArgError::new("", "`service` needs `state` or `enabled`"));
        }
        self.unit =
            Systemd { name: Some(self.name.clone()), state: self.state, enabled: self.enabled, ..Default::default() };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if self.runlevel.is_empty() || self.runlevel.starts_with(['.', '-']) || !self.runlevel.chars().all(plain) {
            return Err(ArgError::new("runlevel", format!("`{}` is not a runlevel", self.runlevel.0)));
        }
        self.openrc = OpenRc {
            name: self.name.strip_suffix(".service").unwrap_or(&self.name).to_string(),
            state: self.state.map(|s| match s {
                State::Started => "started",
                State::Stopped => "stopped",
                State::Restarted => "restarted",
                State::Reloaded => "reloaded",
            }),
            enabled: self.enabled.map(|e| e.0),
            runlevel: self.runlevel.0.clone(),
            sleep: self.sleep.0,
        };
        self.unit.prepare(local)
    }
    fn probes(&self, ctx: &Ctx) -> Vec<Probe> {
        match self.manager.as_deref() {
            Some("openrc") => vec![Probe::Script(self.openrc.look())],
            _ => Module::probes(&self.unit, ctx),
        }
    }
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let manager = self.manager.as_deref().unwrap_or("auto");
        let silent = |u: &UnitState| u.load.is_empty() && u.active.is_empty();
        let openrc = match (manager, self.unit.unit_name()) {
            ("auto", Some(u)) => silent(seen.unit(&u)?),
            (m, _) => m == "openrc",
        };
        match openrc {
            true => self.openrc.decide(seen),
            false => Module::decide(&self.unit, seen, ctx),
        }
    }
}

/// What is to be done with a unit, as words and as a script.
struct Todo<'a> {
    unit: &'a str,
    says: Vec<String>,
    script: Vec<String>,
    starts: bool,
    enables: bool,
}

impl Todo<'_> {
    fn systemctl(&mut self, verb: &str, force: Bool) {
        let force = if force.0 { "--force " } else { "" };
        self.script.push(format!("systemctl {force}{verb} -- {} </dev/null || exit", shell_quote(self.unit)));
        self.says.push(format!("{verb}s"));
    }

    /// Starts or stops; when that fails, the error output says what the unit itself said.
    fn run(&mut self, verb: &str, no_block: Bool, force: Bool) {
        let no_block = if no_block.0 { "--no-block " } else { "" };
        let force = if force.0 { "--force " } else { "" };
        let u = shell_quote(self.unit);
        self.script.push(format!(
            "systemctl --no-ask-password {no_block}{force}{verb} -- {u} </dev/null || {{\n  rc=$?\n  {{\n    systemctl status --no-pager -l -n 0 -- {u}\n    journalctl --no-pager -q -o short-iso -n 20 -u {u}\n  }} </dev/null >&2\n  exit \"$rc\"\n}}"
        ));
        let says = match verb {
            "stop" => "stops",
            "restart" => "restarts",
            "reload" => "reloads",
            _ => "starts",
        };
        self.says.insert(0, says.into());
        self.starts = true;
    }
}

impl Systemd {
    /// The unit's name with its suffix.
    fn unit_name(&self) -> Option<String> {
        let n = self.name.as_ref()?;
        let has_suffix = SUFFIXES.iter().any(|s| n.ends_with(s));
        Some(if has_suffix { n.0.clone() } else { format!("{}.service", n.0) })
    }

    /// No unit is named: it is about systemd itself. As with Ansible this does not count as a change.
    fn manager_only(&self) -> Decision {
        let (verb, says) = match self.daemon_reexec.0 {
            true => ("daemon-reexec", "reexecutes systemd"),
            false => ("daemon-reload", "reloads unit files"),
        };
        Decision::Change(Change {
            actions: vec![Action::Script(format!("LC_ALL=C systemctl {verb} </dev/null"))],
            touches: Touches { units: true, ..Default::default() },
            summary: says.into(),
            uncounted: true,
            ..Default::default()
        })
    }

    fn is_enabled(&self, unit: &str, now: &UnitState, seen: &Observed) -> Result<bool, Stop> {
        Ok(match now.file.as_str() {
            // Nothing can enable or disable these: they are as much as they can be what was asked for.
            "static" => self.enabled.is_some_and(|e| e.0),
            "enabled" | "enabled-runtime" | "alias" => true,
            // A service of the old kind: only systemctl itself can tell.
            "generated" => {
                seen.script(&format!("LC_ALL=C systemctl is-enabled -- {} </dev/null", shell_quote(unit)))?.rc == 0
            }
            _ => false,
        })
    }

    fn not_found(&self, unit: &str, now: &UnitState) -> Stop {
        let similar = format!("systemctl list-unit-files '*{}*'", unit.split(['.', '@']).next().unwrap_or(unit));
        Stop::Fail(Failure {
            message: format!("there is no unit {unit} on this host"),
            hint: Some(format!("is its package installed, its file in place? `{similar}` lists what is there")),
            result: self.result(unit, now, now),
        })
    }

    fn masked(&self, unit: &str, what: &str, now: &UnitState) -> Stop {
        Stop::Fail(Failure {
            message: format!("{unit} is masked and cannot be {what}"),
            hint: Some("add `masked: false` to unmask it".into()),
            result: self.result(unit, now, now),
        })
    }

    fn result(&self, unit: &str, now: &UnitState, next: &UnitState) -> Map<String, Value> {
        let mut r = Map::new();
        r.insert("name".into(), json!(self.name.as_deref().unwrap_or(unit)));
        if self.state.is_some() {
            let runs = matches!(next.active.as_str(), "active" | "activating" | "reloading" | "refreshing");
            r.insert("state".into(), json!(if runs { "started" } else { "stopped" }));
        }
        if let Some(e) = self.enabled {
            r.insert("enabled".into(), json!(e.0));
        }
        r.insert(
            "status".into(),
            json!({
                "Id": unit,
                "LoadState": now.load,
                "ActiveState": now.active,
                "SubState": now.sub,
                "UnitFileState": now.file,
                "NeedDaemonReload": if now.needs_reload { "yes" } else { "no" },
                "MainPID": now.main_pid.to_string(),
                "FragmentPath": now.fragment,
            }),
        );
        r
    }
}

/// What enabling and masking alter: links beside the unit files, and those of the old kind.
fn unit_files() -> Touches {
    let old = (0..7).map(|n| format!("/etc/rc{n}.d")).chain(["/etc/rcS.d".to_string()]);
    let mut t = Touches::path("/etc/systemd/system");
    t.paths.extend(old);
    t.units = true;
    t
}

fn links_changed(outputs: &[Output]) -> bool {
    let said =
        |o: &Output| [&o.stdout, &o.stderr].iter().any(|t| t.contains("Created symlink") || t.contains("Removed"));
    outputs.iter().any(said)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn unit(name: &str, active: &str, file: &str) -> (Probe, Answer) {
        let load = match file {
            "" => "not-found",
            "masked" => "masked",
            _ => "loaded",
        };
        let u = UnitState { load: load.into(), active: active.into(), file: file.into(), ..Default::default() };
        (Probe::Unit(name.into()), Answer::Unit(u))
    }
    fn cron(active: &str, file: &str) -> Observed {
        seen([unit("cron.service", active, file)])
    }
    fn stale() -> Observed {
        let (p, a) = unit("cron.service", "active", "enabled");
        let Answer::Unit(u) = a else { panic!() };
        seen([(p, Answer::Unit(UnitState { needs_reload: true, ..u }))])
    }
    fn decide(yaml: &str, o: &Observed) -> Result<Decision, Stop> {
        bind::<Systemd>(yaml).decide(o, &ctx())
    }
    /// The verbs of the script, in order.
    fn verbs(c: &Change) -> Vec<String> {
        let [Action::Script(s)] = c.actions.as_slice() else { panic!("{c:?}") };
        sh_accepts(s);
        let line = |l: &str| l.strip_prefix("systemctl ").map(str::to_string);
        s.lines()
            .filter_map(line)
            .flat_map(|l| l.split(' ').find(|w| !w.starts_with("--")).map(str::to_string))
            .collect()
    }
    fn fails(d: Result<Decision, Stop>) -> Failure {
        match d {
            Err(Stop::Fail(f)) => f,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_service_that_runs_and_is_enabled_is_left_alone() {
        let m: Systemd = bind("{name: cron, state: started, enabled: yes, daemon_reload: yes}");
        assert_eq!(m.probes(&ctx()), [Probe::Unit("cron.service".into())]);
        let r = satisfied(m.decide(&cron("active", "enabled"), &ctx()));
        assert_eq!((&r.result["state"], &r.result["status"]["ActiveState"]), (&json!("started"), &json!("active")));
        satisfied(m.decide(&cron("activating", "static"), &ctx()));
    }

    #[test]
    fn exactly_what_is_wrong_is_put_right() {
        let y = "{name: cron, state: started, enabled: yes}";
        let c = change(decide(y, &cron("inactive", "disabled")));
        assert_eq!((c.summary.as_str(), verbs(&c)), ("starts, enables", vec!["enable".into(), "start".to_string()]));
        assert!(c.touches.everything);
        satisfied(decide(y, &seen(c.after)));
        let c = change(decide(y, &cron("active", "disabled")));
        assert_eq!(verbs(&c), ["enable"]);
        assert!(!c.touches.everything && c.touches.units);
        assert_eq!(verbs(&change(decide(y, &cron("failed", "enabled")))), ["start"]);
        let c = change(decide("{name: cron, state: stopped, enabled: no}", &cron("active", "enabled")));
        assert_eq!(c.summary, "stops, disables");
        satisfied(decide("{name: cron, state: stopped, enabled: no}", &seen(c.after)));
    }

    #[test]
    fn restarts_and_reloads_always() {
        let v = |state: &str, active: &str| {
            verbs(&change(decide(&format!("{{name: cron, state: {state}}}"), &cron(active, "enabled"))))
        };
        assert_eq!(v("restarted", "active"), ["restart"]);
        assert_eq!(v("restarted", "inactive"), ["start"]);
        assert_eq!(v("reloaded", "active"), ["reload"]);
        assert_eq!(v("reloaded", "inactive"), ["start"]);
        assert_eq!(v("stopped", "deactivating"), ["stop"]);
    }

    #[test]
    fn unit_files_are_read_again_where_it_matters() {
        assert_eq!(verbs(&change(decide("{name: cron, state: restarted}", &stale()))), ["daemon-reload", "restart"]);
        satisfied(decide("{name: cron, state: started}", &stale()));
        let c = change(decide("{name: cron, state: started, daemon_reload: true}", &stale()));
        assert_eq!((verbs(&c), c.uncounted), (vec!["daemon-reload".to_string()], true));
        let c = change(decide("{daemon_reload: true}", &seen([])));
        assert!(c.touches.units && !c.touches.everything);
        assert_eq!(verbs(&change(decide("{name: cron, daemon_reexec: true}", &stale()))), ["daemon-reexec"]);
    }

    #[test]
    fn a_missing_unit_fails_unless_a_reload_may_bring_it() {
        let f = fails(decide("{name: cron, state: started}", &cron("inactive", "")));
        assert!(f.message.contains("no unit cron.service") && f.hint.unwrap().contains("'*cron*'"));
        let y = "{name: cron, state: started, enabled: true, daemon_reload: true}";
        let c = change(decide(y, &cron("inactive", "")));
        assert_eq!(verbs(&c), ["daemon-reload", "enable", "start"]);
        satisfied(decide(y, &seen(c.after)));
        assert_eq!(verbs(&change(decide("{name: cron, masked: true}", &cron("inactive", "")))), ["mask"]);
        let none = seen([(Probe::Unit("cron.service".into()), Answer::Unit(UnitState::default()))]);
        assert!(fails(decide("{name: cron, state: started}", &none)).message.contains("says nothing"));
    }

    #[test]
    fn masks() {
        satisfied(decide("{name: cron, masked: yes, state: stopped, enabled: no}", &cron("inactive", "masked")));
        let c = change(decide("{name: cron, masked: yes, state: stopped}", &cron("active", "enabled")));
        assert_eq!(verbs(&c), ["mask", "stop"]);
        assert!(
            fails(decide("{name: cron, state: started}", &cron("inactive", "masked")))
                .hint
                .unwrap()
                .contains("masked: false")
        );
        assert!(fails(decide("{name: cron, enabled: yes}", &cron("inactive", "masked"))).message.contains("masked"));
        let y = "{name: cron, masked: no, enabled: yes, state: started}";
        let c = change(decide(y, &cron("inactive", "masked")));
        assert_eq!(verbs(&c), ["unmask", "enable", "start"]);
        satisfied(decide(y, &seen(c.after)));
    }

    #[test]
    fn units_that_cannot_be_enabled_or_are_of_the_old_kind() {
        satisfied(decide("{name: cron, enabled: no}", &cron("inactive", "static")));
        let mut o = cron("active", "generated");
        let Err(Stop::Need(n)) = decide("{name: cron, enabled: yes}", &o) else { panic!() };
        o.insert(n[0].clone(), Answer::Script(Output::default()));
        satisfied(decide("{name: cron, enabled: yes}", &o));
        let c = change(decide("{name: cron, enabled: yes}", &cron("active", "indirect")));
        assert!(!(c.verdict.unwrap())(&[Output::default()]));
    }

    #[test]
    fn names_and_options() {
        let name = |y: &str| bind::<Systemd>(y).unit_name().unwrap();
        assert_eq!(name("{name: a@b, state: started}"), "a@b.service");
        assert_eq!(name("{unit: a.timer, state: started}"), "a.timer");
        assert_eq!(name("{service: a.b, state: started}"), "a.b.service");
        let c =
            change(decide("{name: cron, state: restarted, no_block: true, force: true}", &cron("active", "enabled")));
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        assert!(s.contains("--no-block --force restart -- cron.service"));
        assert!(s.contains("journalctl --no-pager -q -o short-iso -n 20 -u cron.service"));
    }

    #[test]
    fn service_is_the_same_with_less() {
        let m: Service = bind("{name: cron, state: started, enabled: true}");
        assert_eq!(Module::probes(&m, &ctx()), [Probe::Unit("cron.service".into())]);
        assert_eq!(change(m.decide(&cron("inactive", "disabled"), &ctx())).summary, "starts, enables");
        let err = |y: &str| try_bind::<Service>(y).unwrap_err().message;
        assert!(err("{name: cron, state: started, pattern: x}").contains("not supported yet"));
        assert!(err("{name: cron}").contains("`state` or `enabled`"));
        assert!(err("{name: cron, state: started, use: runit}").contains("not supported"));
        assert!(err("{name: cron, state: started, runlevel: ../x}").contains("not a runlevel"));
        // Where systemd says nothing at all, OpenRC is asked.
        let silent = seen([(Probe::Unit("cron.service".into()), Answer::Unit(UnitState::default()))]);
        let Err(Stop::Need(p)) = m.decide(&silent, &ctx()) else { panic!() };
        assert!(matches!(&p[..], [Probe::Script(s)] if s.contains("rc-service cron status")));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Systemd>(y).unwrap_err().message;
        assert!(err("{}").contains("needs a `name`"));
        assert!(err("{state: started}").contains("needs a `name`"));
        assert!(err("{name: 'a*', state: started}").contains("wildcards"));
        for bad in ["a b", "@", "@a.service"] {
            assert!(err(&format!("{{name: '{bad}', state: started}}")).contains("not a unit's name"), "{bad}");
        }
        assert!(err("{name: a, state: running}").contains("unknown variant"));
        assert!(err("{name: a, state: started, scope: user}").contains("only `system`"));
        assert!(err("{name: a, masked: true, enabled: true}").contains("masked"));
        assert!(err("{name: a, stat: started}").contains("unknown field"));
    }

    #[test]
    fn what_service_cannot_do_is_said() {
        for bad in ["arguments: -x", "pattern: x"] {
            let e = try_bind::<Service>(&format!("{{name: a, state: started, {bad}}}")).unwrap_err();
            assert!(e.message.contains("is not supported"), "{bad}: {}", e.message);
        }
    }
}
