//! `group`: a group of the host.

use super::args::{Bool, Text};
use super::place::{UNKNOWN_ID, unchanged_folders};
use super::user::{account_files, account_name, other_accounts};
use super::whole::Whole;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, GroupState, Observed, Output, Probe};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Makes, changes and removes groups.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The group's name.
    name: Text,
    /// Its number.
    gid: Option<Whole>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// A new group is a system group.
    #[serde(default)]
    system: Bool,
    /// The gid may be another group's already.
    #[serde(default)]
    non_unique: Bool,
    /// With `absent`: even if it is a user's primary group.
    #[serde(default)]
    force: Bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

impl Module for Group {
    const NAME: &'static str = "group";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("name", "The group."),
        ("gid", "Its number."),
        ("state", "`present` or `absent`."),
        ("system", "Whether it is one of the system's."),
    ];
    const EXAMPLE: &'static str = r#"- group: {name: app, system: true}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        account_name("name", &self.name)?;
        if self.non_unique.0 && self.gid.is_none() {
            return Err(ArgError::new("non_unique", "`non_unique` needs `gid`"));
        }
        if self.gid.is_some_and(|g| g.0 >= u64::from(UNKNOWN_ID)) {
            return Err(ArgError::new("gid", "a group's number is at most 4294967294"));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Groups]
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let groups = seen.groups()?;
        let now = groups.iter().find(|g| g.name == *self.name);
        let name = shell_quote(&self.name);
        let mut after = groups.to_vec();
        let mut words: Vec<String> = vec![];
        let (summary, script) = match (self.state, now) {
            (State::Absent, None) => return Ok(Decision::satisfied(self.result(None))),
            (State::Absent, Some(_)) => {
                words.push("groupdel".into());
                if self.force.0 {
                    words.push("-f".into());
                }
                words.extend(["--".to_string(), self.name.0.clone()]);
                after.retain(|g| g.name != *self.name);
                let script = format!("if getent group {name} >/dev/null; then {}; fi", shell_join(&words));
                ("removes the group".to_string(), script)
            }
            (State::Present, Some(g)) if self.gid().is_none_or(|n| n == g.gid) => {
                return Ok(Decision::satisfied(self.result(Some(g.gid))));
            }
            (State::Present, _) => {
                words.push(if now.is_some() { "groupmod" } else { "groupadd" }.into());
                if let Some(gid) = self.gid() {
                    let other = groups.iter().find(|g| g.gid == gid);
                    if let Some(o) = other.filter(|_| !self.non_unique.0) {
                        return Err(Stop::fail_hint(
                            format!("the gid {gid} is the group {}'s", o.name),
                            "`non_unique: true` lets two groups have it",
                        ));
                    }
                    words.extend(["-g".to_string(), gid.to_string()]);
                    if self.non_unique.0 {
                        words.push("-o".into());
                    }
                }
                if now.is_none() && self.system.0 {
                    words.push("-r".into());
                }
                words.extend(["--".to_string(), self.name.0.clone()]);
                let gid = self.gid().unwrap_or(UNKNOWN_ID);
                match after.iter_mut().find(|g| g.name == *self.name) {
                    Some(g) => g.gid = gid,
                    None => after.push(GroupState { name: self.name.0.clone(), gid, members: vec![] }),
                }
                match now {
                    Some(g) => {
                        let old = if g.gid == UNKNOWN_ID { "?".into() } else { g.gid.to_string() };
                        (format!("gid {old} -> {gid}"), shell_join(&words))
                    }
                    None => {
                        ("new group".to_string(), format!("getent group {name} >/dev/null || {}", shell_join(&words)))
                    }
                }
            }
        };
        let touches = account_files();
        let mut all: Vec<(Probe, Answer)> = unchanged_folders("/etc/group", seen);
        // The users stay as they are, but that a new number of a group becomes their own too.
        let renumbers = now.is_some() && self.state == State::Present;
        all.extend(other_accounts(seen, "").into_iter().filter(|(p, _)| !renumbers || matches!(p, Probe::Shadow(_))));
        all.push((Probe::Groups, Answer::Groups(after)));
        let mut actions = vec![Action::Script(script)];
        // The number the host has chosen for a new group.
        let chosen = self.state == State::Present && self.gid.is_none();
        if chosen {
            actions.push(Action::Script(shell_join(["getent", "group", &self.name])));
        }
        Ok(Decision::Change(Change {
            actions,
            adds: chosen.then_some(number),
            touches,
            after: all,
            summary,
            result: self.result(self.gid()),
            ..Default::default()
        }))
    }
}

/// The group's number, as `getent` prints it.
fn number(outputs: &[Output]) -> Map<String, serde_json::Value> {
    let line = outputs.last().map(|o| o.stdout.trim()).unwrap_or_default();
    let gid = line.split(':').nth(2).and_then(|n| n.parse::<u32>().ok());
    gid.map(|g| ("gid".to_string(), json!(g))).into_iter().collect()
}

impl Group {
    fn gid(&self) -> Option<u32> {
        self.gid.and_then(|g| u32::try_from(g.0).ok())
    }

    fn result(&self, gid: Option<u32>) -> Map<String, serde_json::Value> {
        let mut r = Map::new();
        r.insert("name".into(), json!(&*self.name));
        r.insert("state".into(), json!(if self.state == State::Present { "present" } else { "absent" }));
        r.insert("system".into(), json!(self.system.0));
        if let Some(g) = gid.filter(|g| *g != UNKNOWN_ID) {
            r.insert("gid".into(), json!(g));
        }
        r
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn m(yaml: &str) -> Group {
        bind(yaml)
    }
    fn some() -> Observed {
        let g = |name: &str, gid| GroupState { name: name.into(), gid, members: vec!["bob".into()] };
        seen([(Probe::Groups, Answer::Groups(vec![g("docker", 998), g("www", 33)]))])
    }
    fn script(c: &Change) -> &str {
        match c.actions.as_slice() {
            [Action::Script(s)] => s,
            [Action::Script(s), Action::Script(asks)] if asks.starts_with("getent ") => s,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_group_is_added() {
        let yaml = "{name: etcd, gid: 500, system: true}";
        let c = change(m(yaml).decide(&some(), &ctx()));
        assert_eq!(script(&c), "getent group etcd >/dev/null || groupadd -g 500 -r -- etcd");
        assert_eq!((c.summary.as_str(), &c.result["gid"]), ("new group", &json!(500)));
        satisfied(m(yaml).decide(&then(some(), &c), &ctx()));
        let c = change(m("{name: etcd}").decide(&some(), &ctx()));
        assert!(!c.result.contains_key("gid"));
        satisfied(m("{name: etcd}").decide(&then(some(), &c), &ctx()));
    }

    #[test]
    fn the_gid_is_put_right() {
        satisfied(m("{name: www, gid: 33}").decide(&some(), &ctx()));
        satisfied(m("{name: www, gid: '33'}").decide(&some(), &ctx()));
        assert!(try_bind::<Group>("{name: www, gid: 4294967295}").is_err());
        assert_eq!(satisfied(m("{name: www}").decide(&some(), &ctx())).result["gid"], 33);
        let c = change(m("{name: www, gid: 34}").decide(&some(), &ctx()));
        assert_eq!((script(&c), c.summary.as_str()), ("groupmod -g 34 -- www", "gid 33 -> 34"));
        let after = then(some(), &c);
        satisfied(m("{name: www, gid: 34}").decide(&after, &ctx()));
        assert_eq!(after.groups().unwrap()[1].members, ["bob"]);
    }

    #[test]
    fn a_gid_in_use_is_refused_unless_it_may_be_shared() {
        let d = m("{name: a, gid: 33}").decide(&some(), &ctx());
        assert!(matches!(d, Err(Stop::Fail(f)) if f.message.contains("www")));
        let c = change(m("{name: a, gid: 33, non_unique: true}").decide(&some(), &ctx()));
        assert!(script(&c).ends_with("groupadd -g 33 -o -- a"));
    }

    #[test]
    fn absent() {
        let c = change(m("{name: www, state: absent}").decide(&some(), &ctx()));
        assert_eq!(script(&c), "if getent group www >/dev/null; then groupdel -- www; fi");
        satisfied(m("{name: www, state: absent}").decide(&then(some(), &c), &ctx()));
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Group>("{name: '-g'}").is_err());
        assert!(try_bind::<Group>("{name: a, non_unique: true}").is_err());
        assert!(try_bind::<Group>("{name: a, gid: x}").is_err());
        assert!(try_bind::<Group>("{}").is_err());
    }
}
