//! `group_by` and `add_host`: groups and hosts for the phases that come after. Nothing on the host.

use super::args::{List, Text};
use super::{ArgError, Ctx, Decision, Local, Module, Report, Stop};
use crate::inventory::Made;
use crate::probe::Observed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Puts the host into a group that is named after something it has; the phases that come after can name the group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupBy {
    /// The group's name; blanks in it become `-`.
    key: Text,
    /// The groups above it.
    #[serde(default)]
    parents: List,
}

impl Module for GroupBy {
    const NAME: &'static str = "group_by";
    const HARMLESS: bool = true;

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let name = self.key.0.replace(' ', "-");
        let parents: Vec<String> = self.parents.0.iter().map(|p| p.replace(' ', "-")).collect();
        let made = Made::Group { name: name.clone(), parents: parents.clone() };
        let mut result = Map::new();
        result.insert("add_group".into(), json!(name));
        result.insert("parent_groups".into(), json!(parents));
        Ok(Decision::Satisfied(Report { result, facts: made.as_fact(), ..Default::default() }))
    }
}

/// Adds a host, with variables, for the phases that come after.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(transparent)]
pub struct AddHost(#[schemars(with = "std::collections::BTreeMap<String, Value>")] Map<String, Value>);

const NAMES: [&str; 3] = ["name", "host", "hostname"];
const GROUPS: [&str; 3] = ["groups", "group", "groupname"];

impl Module for AddHost {
    const NAME: &'static str = "add_host";
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let Some(name) = NAMES.iter().find_map(|n| self.0.get(*n)) else {
            return Err(ArgError::new("", "missing field `name`"));
        };
        let text = crate::template::text(name);
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || ":,&![]{}*?~'\"=#/".contains(c)) {
            return Err(
                ArgError::new("name", format!("`{text}` cannot be a host's name")).hint("one word, without `:`")
            );
        }
        let names = self.0.keys().filter(|k| !NAMES.contains(&k.as_str()) && !GROUPS.contains(&k.as_str()));
        match names.into_iter().find(|k| !crate::vars::is_name(k)) {
            Some(k) => Err(ArgError::new(k, format!("`{k}` cannot be a variable's name"))),
            None => Ok(()),
        }
    }

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let mut vars = self.0.clone();
        let mut take = |names: [&str; 3]| names.into_iter().filter_map(|n| vars.shift_remove(n)).next();
        let name = take(NAMES).as_ref().map(crate::template::text).unwrap_or_default();
        let groups = match take(GROUPS) {
            Some(Value::Array(a)) => a.iter().map(crate::template::text).collect(),
            Some(v) => crate::template::text(&v).split(',').map(|g| g.trim().to_string()).collect(),
            None => vec![],
        };
        let groups: Vec<String> = groups.into_iter().filter(|g| !g.is_empty()).collect();
        let mut result = Map::new();
        result.insert(
            "add_host".into(),
            json!({"host_name": name.clone(), "groups": groups.clone(), "host_vars": vars.clone()}),
        );
        let made = Made::Host { name, groups, vars };
        Ok(Decision::Satisfied(Report { result, facts: made.as_fact(), ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    #[test]
    fn a_group_is_named_after_a_key() {
        let m: GroupBy = bind("{key: os Debian 12, parents: [all systems]}");
        let r = satisfied(m.decide(&seen([]), &ctx()));
        assert_eq!(r.result["add_group"], json!("os-Debian-12"));
        let made = Made::from_facts(&r.facts);
        assert_eq!(made, [Made::Group { name: "os-Debian-12".into(), parents: vec!["all-systems".into()] }]);
    }

    #[test]
    fn a_host_has_groups_and_variables() {
        for groups in ["[web, db]", "'web, db'"] {
            let m: AddHost = bind(&format!("{{hostname: n1, groups: {groups}, ansible_host: 10.0.0.9}}"));
            let made = Made::from_facts(&satisfied(m.decide(&seen([]), &ctx())).facts);
            let vars = Map::from_iter([("ansible_host".to_string(), json!("10.0.0.9"))]);
            assert_eq!(made, [Made::Host { name: "n1".into(), groups: vec!["web".into(), "db".into()], vars }]);
        }
        assert!(try_bind::<AddHost>("{groups: x}").is_err() && try_bind::<AddHost>("{name: 'a b'}").is_err());
    }
}
