//! `getent`: entries of the host's name service. It changes nothing.

use super::args::{Bool, Text};
use super::{ArgError, Ctx, Decision, Local, Module, Report, Stop};
use crate::probe::{Observed, Probe};
use crate::quote::shell_join;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Looks an entry up in a database of the host's name service, or all of them.
///
/// Sets the variable `getent_DATABASE` (`getent_passwd`): a mapping from each entry's name to the list of its other fields; of
/// several entries of one name, to the list of these lists.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Getent {
    /// `passwd`, `group`, `hosts`, `services`, …
    database: Text,
    /// The entry; without it, all.
    key: Option<Text>,
    /// What parts an entry's fields; without it, `:` or blanks, as the database has it.
    split: Option<Text>,
    /// The service to ask, instead of those the host is set to.
    service: Option<Text>,
    /// Fail where there is no such entry; else it is set to nothing.
    #[serde(default = "yes")]
    fail_key: Bool,
}

fn yes() -> Bool {
    Bool(true)
}

impl Module for Getent {
    const NAME: &'static str = "getent";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("ansible_facts", "The variable.")];
    const EXAMPLE: &'static str = r#"- getent: {database: passwd, key: root}
- debug: {msg: "root's home is {{getent_passwd.root.[4]}}"}"#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let plain = |t: &Text| !t.is_empty() && t.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain(&self.database) {
            return Err(ArgError::new("database", format!("`{}` is not a database's name", self.database.0)));
        }
        match &self.service {
            Some(s) if !plain(s) => Err(ArgError::new("service", format!("`{}` is not a service's name", s.0))),
            _ => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script(&self.look())?;
        let mut found = Map::new();
        match (out.rc, &self.key) {
            (0, _) => {
                let mut twice = std::collections::HashSet::new();
                for l in out.stdout.lines().filter(|l| !l.trim().is_empty()) {
                    let mut fields = self.fields(l).into_iter();
                    let Some(name) = fields.next() else { continue };
                    let fields = json!(fields.collect::<Vec<_>>());
                    match found.get_mut(&name) {
                        None => drop(found.insert(name, fields)),
                        Some(Value::Array(all)) if twice.contains(&name) => all.push(fields),
                        Some(first) => {
                            *first = json!([first.take(), fields]);
                            twice.insert(name);
                        }
                    }
                }
            }
            (2, Some(k)) if !self.fail_key.0 => {
                found.insert(k.0.clone(), Value::Null);
            }
            (2, Some(k)) => {
                return Err(Stop::fail_hint(
                    format!("there is no `{}` in the database {}", k.0, self.database.0),
                    "`fail_key: false` goes on without it",
                ));
            }
            (3, _) => {
                return Err(Stop::fail(format!("the database {} cannot be listed; give a `key`", self.database.0)));
            }
            (rc, _) => {
                let said = out.stderr.lines().next().unwrap_or("it said nothing");
                return Err(Stop::fail(format!("getent {} ended with exit code {rc}: {said}", self.database.0)));
            }
        }
        let facts = Map::from_iter([(format!("getent_{}", self.database.0), Value::Object(found))]);
        let mut result = Map::new();
        result.insert("ansible_facts".into(), Value::Object(facts.clone()));
        Ok(Decision::Satisfied(Report { result, facts, ..Default::default() }))
    }
}

impl Getent {
    fn look(&self) -> String {
        let mut words = vec!["getent"];
        if let Some(s) = &self.service {
            words.extend(["-s", s]);
        }
        words.extend(["--", &self.database]);
        words.extend(self.key.as_deref());
        shell_join(words)
    }

    fn fields(&self, line: &str) -> Vec<String> {
        let colon = matches!(&*self.database, "passwd" | "shadow" | "group" | "gshadow");
        match self.split.as_deref().or(colon.then_some(":")) {
            Some(s) if !s.is_empty() => line.split(s).map(str::to_string).collect(),
            _ => line.split_whitespace().map(str::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, Output};

    fn decide(params: &str, rc: i32, stdout: &str) -> Result<Decision, Stop> {
        let m: Getent = bind(params);
        let out = Output { rc, stdout: stdout.into(), ..Default::default() };
        m.decide(&seen([(Probe::Script(m.look()), Answer::Script(out))]), &ctx())
    }

    #[test]
    fn entries_and_their_fields() {
        let r = satisfied(decide("{database: passwd, key: root}", 0, "root:x:0:0:root:/root:/bin/sh\n"));
        assert_eq!(r.facts["getent_passwd"], json!({"root": ["x", "0", "0", "root", "/root", "/bin/sh"]}));
        let r = satisfied(decide("{database: hosts}", 0, "127.0.0.1   localhost\n10.0.0.1 a b\n"));
        assert_eq!(r.result["ansible_facts"]["getent_hosts"]["10.0.0.1"], json!(["a", "b"]));
        let twice = "discard 9/tcp sink null\ndiscard 9/udp sink null\necho 7/tcp\ndiscard 9/sctp\n";
        let r = satisfied(decide("{database: services}", 0, twice));
        assert_eq!(
            r.facts["getent_services"],
            json!({"discard": [["9/tcp", "sink", "null"], ["9/udp", "sink", "null"], ["9/sctp"]], "echo": ["7/tcp"]})
        );
        let m: Getent = bind("{database: passwd, key: root}");
        let r = satisfied(m.decide(&look(m.probes(&ctx())), &ctx()));
        assert_eq!(r.facts["getent_passwd"]["root"][1], "0");
    }

    #[test]
    fn an_entry_that_is_not_there() {
        let Err(Stop::Fail(f)) = decide("{database: passwd, key: nobody9}", 2, "") else { panic!() };
        assert!(f.message.contains("no `nobody9`"));
        let r = satisfied(decide("{database: passwd, key: nobody9, fail_key: no}", 2, ""));
        assert_eq!(r.facts["getent_passwd"]["nobody9"], Value::Null);
        let Err(Stop::Fail(f)) = decide("{database: nothing}", 1, "") else { panic!() };
        assert!(f.message.contains("exit code 1"));
        assert!(try_bind::<Getent>("{database: '-s x'}").is_err());
    }

    #[test]
    fn a_service_and_a_separator_of_ones_own() {
        let r = satisfied(decide("{database: hosts, key: a, split: '-'}", 0, "a-b-c d\n"));
        assert_eq!(r.facts["getent_hosts"], json!({"a": ["b", "c d"]}));
        let look = |p: &str| bind::<Getent>(p).look();
        assert!(look("{database: passwd, key: root, service: files}").contains("-s files "));
        assert!(!look("{database: passwd, key: root}").contains("-s "));
    }
}
