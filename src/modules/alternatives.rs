//! `alternatives`: which of several programs a common name leads to.

use super::args::Text;
use super::copy::absolute;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Observed, Probe, Touches};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Chooses which program a common name (`iptables`, `editor`) leads to, with update-alternatives.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternatives {
    /// The common name.
    name: Text,
    /// The program it is to lead to.
    path: Option<Text>,
    /// The common name's own path; needed where the host does not know the name yet.
    link: Option<Text>,
    /// The higher, the sooner it is taken where nobody has chosen.
    priority: Option<i64>,
    /// `selected`: known, and chosen; `present`: known; `auto`: the one of the highest priority; `absent`: not known any more.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Selected,
    Present,
    Auto,
    Absent,
}

impl Module for Alternatives {
    const NAME: &'static str = "alternatives";
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("name", "The common name."), ("path", "What it leads to.")];
    const EXAMPLE: &'static str = r#"- name: iptables by nf_tables
  alternatives: {name: iptables, path: /usr/sbin/iptables-nft}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let plain = |c: char| c.is_ascii_graphic() && c != '/';
        if self.name.is_empty() || self.name.starts_with('-') || !self.name.chars().all(plain) {
            return Err(ArgError::new("name", format!("`{}` is not a name of update-alternatives", self.name.0)));
        }
        for (name, p) in [("path", &self.path), ("link", &self.link)] {
            p.as_deref().map_or(Ok(()), |p| absolute(name, p))?;
        }
        match (&self.path, self.state) {
            (None, s) if s != State::Auto => {
                Err(ArgError::new("path", "`alternatives` needs a `path` with this `state`"))
            }
            _ => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script(&self.look())?;
        if out.rc == 127 {
            return Err(Stop::fail("there is no update-alternatives on the host"));
        }
        let text = if out.rc == 0 { out.stdout.as_str() } else { "" };
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).map(str::trim);
        let path = self.path.as_deref();
        let priority = path.and_then(|p| {
            let block = text.split("\n\n").find(|b| b.lines().any(|l| l.strip_prefix("Alternative: ") == Some(p)))?;
            block.lines().find_map(|l| l.strip_prefix("Priority: ")?.trim().parse::<i64>().ok())
        });
        let tool = |words: &[&str]| Action::Script(format!("LC_ALL=C update-alternatives {}", shell_join(words)));
        let (mut actions, mut summary) = (vec![], vec![]);
        let known = priority.is_some() && self.priority.is_none_or(|p| Some(p) == priority);
        if let (Some(p), false) = (path, self.state == State::Absent || known) {
            let Some(link) = self.link.as_deref().or(field("Link")) else {
                return Err(Stop::fail_hint(
                    format!("the host does not know the alternative {}", self.name.0),
                    "give its `link`, or install the package that brings it",
                ));
            };
            let n = self.priority.unwrap_or(50).to_string();
            actions.push(tool(&["--install", link, &self.name, p, &n]));
            summary.push(format!("{p} known, priority {n}"));
        }
        match (self.state, path) {
            (State::Selected, Some(p)) if field("Value") != Some(p) => {
                actions.push(tool(&["--set", &self.name, p]));
                summary.push(format!("{} -> {p}", field("Value").unwrap_or("none")));
            }
            (State::Auto, _) if field("Status") == Some("manual") => {
                actions.push(tool(&["--auto", &self.name]));
                summary.push("chosen by priority".into());
            }
            (State::Absent, Some(p)) if priority.is_some() => {
                actions.push(tool(&["--remove", &self.name, p]));
                summary.push(format!("{p} not known any more"));
            }
            _ => {}
        }
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name.0));
        result.insert("path".into(), json!(path));
        if actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        Ok(Decision::Change(Change {
            actions,
            // Links anywhere, its companions' among them.
            touches: Touches::everything(),
            summary: summary.join(", "),
            result,
            ..Default::default()
        }))
    }
}

impl Alternatives {
    fn look(&self) -> String {
        format!(
            "command -v update-alternatives >/dev/null 2>&1 || exit 127\nLC_ALL=C update-alternatives --query {}",
            shell_quote(&self.name)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, Output};

    const HOST: &str = "Name: ed\nLink: /usr/bin/ed\nStatus: auto\nBest: /bin/b\nValue: /bin/b\n\n\
                        Alternative: /bin/a\nPriority: 10\n\nAlternative: /bin/b\nPriority: 20\n";

    fn done(params: &str, rc: i32, host: &str) -> Vec<String> {
        let m: Alternatives = bind(&format!("{{name: ed, {params}}}"));
        let out = Output { rc, stdout: host.into(), ..Default::default() };
        match m.decide(&seen([(Probe::Script(m.look()), Answer::Script(out))]), &ctx()) {
            Ok(Decision::Change(c)) => {
                let script = |a: &Action| match a {
                    Action::Script(s) => s.trim_start_matches("LC_ALL=C update-alternatives ").to_string(),
                    other => panic!("{other:?}"),
                };
                c.actions.iter().map(script).collect()
            }
            Ok(Decision::Satisfied(_)) => vec![],
            Err(Stop::Fail(f)) => vec![f.message],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_one_that_is_wanted_is_chosen() {
        assert_eq!(done("path: /bin/a", 0, HOST), ["--set ed /bin/a"]);
        assert!(done("path: /bin/b", 0, HOST).is_empty());
        assert_eq!(done("path: /bin/c", 0, HOST), ["--install /usr/bin/ed ed /bin/c 50", "--set ed /bin/c"]);
        assert!(done("path: /bin/a, state: present", 0, HOST).is_empty());
        assert_eq!(done("path: /bin/a, state: present, priority: 9", 0, HOST), ["--install /usr/bin/ed ed /bin/a 9"]);
        assert_eq!(done("path: /bin/a, state: absent", 0, HOST), ["--remove ed /bin/a"]);
        assert!(done("path: /bin/c, state: absent", 0, HOST).is_empty());
        assert_eq!(done("state: auto", 0, &HOST.replace("auto", "manual")), ["--auto ed"]);
        assert!(done("state: auto", 0, HOST).is_empty());
    }

    #[test]
    fn a_name_the_host_does_not_know() {
        assert!(done("path: /bin/a", 2, "")[0].contains("does not know"));
        assert_eq!(done("path: /bin/a, link: /usr/bin/ed", 2, "")[0], "--install /usr/bin/ed ed /bin/a 50");
        assert!(done("path: /bin/a", 127, "")[0].contains("no update-alternatives"));
        assert!(try_bind::<Alternatives>("{name: ed}").is_err());
        assert!(try_bind::<Alternatives>("{name: '-x', path: /a}").is_err());
    }
}
