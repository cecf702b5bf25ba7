//! `setup`: a host's facts, asked for anew. It changes nothing.

use super::args::List;
use super::whole::Whole;
use super::{Ctx, Decision, Module, Stop};
use crate::probe::{Observed, Probe, ansible_names};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Asks the host for its facts anew. Without it they are asked for once in a run, when something needs them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Which facts are given back: patterns of names, as `ansible_mem*`. `facts` has all of them in any case.
    #[serde(default)]
    filter: List,
    /// Taken and not needed: all facts come with one question.
    #[allow(dead_code)]
    #[serde(default)]
    gather_subset: List,
    /// Taken and not needed.
    #[allow(dead_code)]
    gather_timeout: Option<Whole>,
}

impl Module for Setup {
    const NAME: &'static str = "setup";
    const ALIASES: &'static [&'static str] = &["gather_facts"];
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("ansible_facts", "The facts under Ansible's names, `ansible_` in front of them.")];
    const EXAMPLE: &'static str = r#"- setup: {filter: "ansible_mem*"}
  register: now
- debug: {msg: "{{now.ansible_facts.ansible_memfree_mb}} MB"}"#;
    const HARMLESS: bool = true;
    const ANEW: bool = true;

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Facts]
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let all = ansible_names::named(seen.facts()?);
        let wanted = |name: &str| self.filter.0.is_empty() || self.filter.0.iter().any(|p| matches(p, name));
        let mut facts: Map<String, Value> =
            all.into_iter().map(|(k, v)| (format!("ansible_{k}"), v)).filter(|(k, _)| wanted(k)).collect();
        facts.sort_keys();
        Ok(Decision::satisfied(Map::from_iter([("ansible_facts".into(), Value::Object(facts))])))
    }
}

/// A shell's pattern of a name; `ansible_` in front of it does not matter.
fn matches(pattern: &str, name: &str) -> bool {
    let long = format!("ansible_{}", pattern.strip_prefix("ansible_").unwrap_or(pattern));
    crate::glob::matches(&long, name)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::Answer;

    #[test]
    fn facts_by_pattern() {
        let known = seen([(Probe::Facts, Answer::Facts(crate::probe::facts::sample()))]);
        let names = |args: &str| {
            let r = satisfied(bind::<Setup>(args).decide(&known, &ctx()));
            r.result["ansible_facts"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert!(names("{gather_subset: [all]}").len() > 20);
        assert_eq!(names("{filter: [ansible_memtotal_mb, kernel]}"), ["ansible_kernel", "ansible_memtotal_mb"]);
        assert_eq!(names("{filter: \"ansible_memt*\"}"), ["ansible_memtotal_mb"]);
        assert!(matches!(bind::<Setup>("{}").decide(&seen([]), &ctx()), Err(Stop::Need(_))));
    }
}
