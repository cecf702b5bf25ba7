//! Services where OpenRC is the manager (Alpine, Gentoo): what `service` does there.

use super::{Change, Decision, Diff, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_quote;
use serde_json::{Map, json};

/// A service of OpenRC as it should be.
#[derive(Debug, Clone, Default)]
pub struct OpenRc {
    pub name: String,
    /// `started`, `stopped`, `restarted`, `reloaded`.
    pub state: Option<&'static str>,
    pub enabled: Option<bool>,
    pub runlevel: String,
    /// Seconds between the stop and the start of a restart.
    pub sleep: u64,
}

/// What `status` answers when a service was started and its process is gone. Until it is zapped, `start` takes it for
/// started and does nothing.
const CRASHED: i32 = 32;

impl OpenRc {
    /// A read-only script: whether there is such a service, whether it runs and in which runlevel.
    pub fn look(&self) -> String {
        let (name, level) = (shell_quote(&self.name), shell_quote(&self.runlevel));
        format!(
            "command -v rc-service >/dev/null 2>&1 || exit 127\nrc-service --exists {name} || exit 3\n\
             rc-service {name} status >/dev/null 2>&1 </dev/null; echo \"status $?\"\n\
             [ -L /etc/runlevels/{level}/{name} ]; echo \"enabled $?\"\nexit 0"
        )
    }

    pub fn decide(&self, seen: &Observed) -> Result<Decision, Stop> {
        let out = seen.script(&self.look())?;
        match out.rc {
            0 => {}
            127 => return Err(Stop::fail("the host has neither systemd nor OpenRC")),
            _ => {
                return Err(Stop::fail_hint(
                    format!("there is no service {} on the host", self.name),
                    "install its package first",
                ));
            }
        }
        let is = |k: &str| out.stdout.lines().any(|l| l == format!("{k} 0"));
        let (running, enabled) = (is("status"), is("enabled"));
        let crashed = out.stdout.lines().any(|l| l == format!("status {CRASHED}"));
        let (name, level) = (shell_quote(&self.name), shell_quote(&self.runlevel));
        let (mut lines, mut says) = (vec![], vec![]);
        match self.enabled {
            Some(true) if !enabled => {
                lines.push(format!("rc-update -q add {name} {level}"));
                says.push("enables");
            }
            Some(false) if enabled => {
                lines.push(format!("rc-update -q del {name} {level}"));
                says.push("disables");
            }
            _ => {}
        }
        let service = |verb: &str| format!("rc-service {name} {verb}");
        match self.state {
            Some("started") if !running => {
                if crashed {
                    lines.push(service("zap"));
                }
                lines.push(service("start"));
                says.push("starts");
            }
            Some("stopped") if running => {
                lines.push(service("stop"));
                says.push("stops");
            }
            Some("restarted") => {
                if self.sleep > 0 && running {
                    lines.extend([service("stop"), format!("sleep {}", self.sleep), service("start")]);
                } else {
                    lines.push(service("restart"));
                }
                says.push("restarts");
            }
            Some("reloaded") => {
                lines.push(service(if running { "reload" } else { "start" }));
                says.push(if running { "reloads" } else { "starts" });
            }
            _ => {}
        }
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name));
        if let Some(s) = self.state {
            result.insert("state".into(), json!(if s == "stopped" { "stopped" } else { "started" }));
        }
        if let Some(e) = self.enabled {
            result.insert("enabled".into(), json!(e));
        }
        if lines.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let (then_running, then_enabled) =
            (self.state.map_or(running, |s| s != "stopped"), self.enabled.unwrap_or(enabled));
        let code = |b: bool| i32::from(!b);
        let stdout = format!("status {}\nenabled {}\n", code(then_running), code(then_enabled));
        let text = |running: bool, enabled: bool| {
            let word = |b: bool, yes: &str, no: &str| if b { yes.to_string() } else { no.to_string() };
            format!("{}\n{}\n", word(running, "started", "stopped"), word(enabled, "enabled", "disabled"))
        };
        let diff = Diff {
            what: self.name.clone(),
            before: Some(text(running, enabled)),
            after: Some(text(then_running, then_enabled)),
        };
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(
                lines.iter().map(|l| format!("{l} </dev/null || exit")).collect::<Vec<_>>().join("\n"),
            )],
            touches: Touches::everything(),
            after: vec![(Probe::Script(self.look()), Answer::Script(Output { stdout, ..Default::default() }))],
            diff: if diff.before == diff.after { vec![] } else { vec![diff] },
            summary: says.join(", "),
            result,
            ..Default::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn done(state: Option<&'static str>, enabled: Option<bool>, sleep: u64, said: &str, rc: i32) -> Vec<String> {
        let s = OpenRc { name: "sshd".into(), state, enabled, runlevel: "default".into(), sleep };
        sh_accepts(&s.look());
        let out = Output { rc, stdout: said.into(), ..Default::default() };
        match s.decide(&seen([(Probe::Script(s.look()), Answer::Script(out))])) {
            Ok(Decision::Change(c)) => {
                let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
                sh_accepts(s);
                s.lines().map(|l| l.trim_end_matches(" </dev/null || exit").to_string()).collect()
            }
            Ok(Decision::Satisfied(_)) => vec![],
            Err(Stop::Fail(f)) => vec![f.message],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn services_start_stop_and_are_enabled() {
        let off = "status 3\nenabled 1\n";
        let on = "status 0\nenabled 0\n";
        assert_eq!(
            done(Some("started"), Some(true), 0, off, 0),
            ["rc-update -q add sshd default", "rc-service sshd start"]
        );
        assert!(done(Some("started"), Some(true), 0, on, 0).is_empty());
        assert_eq!(
            done(Some("started"), None, 0, "status 32\nenabled 0\n", 0),
            ["rc-service sshd zap", "rc-service sshd start"]
        );
        assert_eq!(
            done(Some("stopped"), Some(false), 0, on, 0),
            ["rc-update -q del sshd default", "rc-service sshd stop"]
        );
        assert!(done(Some("stopped"), Some(false), 0, off, 0).is_empty());
        assert_eq!(done(Some("restarted"), None, 0, on, 0), ["rc-service sshd restart"]);
        assert_eq!(
            done(Some("restarted"), None, 2, on, 0),
            ["rc-service sshd stop", "sleep 2", "rc-service sshd start"]
        );
        assert_eq!(done(Some("reloaded"), None, 0, off, 0), ["rc-service sshd start"]);
        assert!(done(Some("started"), None, 0, "", 3)[0].contains("no service sshd"));
        assert!(done(Some("started"), None, 0, "", 127)[0].contains("neither systemd nor OpenRC"));
    }
}
