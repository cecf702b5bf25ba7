//! The table itself: every example gives what it says.

use super::*;
use crate::template::{Found, Lookup, Templates, Trouble};

struct Nothing;

impl Lookup for Nothing {
    fn get(&self, _: &str, _: &[String]) -> Found {
        Found::Undefined
    }
    fn known(&self) -> Vec<String> {
        vec![]
    }
}

fn eval(t: &str) -> Result<Value, Trouble> {
    let e = Templates::new();
    let c = e.compile(t).map_err(Trouble::Error)?;
    e.value(&c, &Nothing)
}

#[test]
fn every_example_gives_what_it_says() {
    let mut wrong = vec![];
    for d in all() {
        let got = eval(d.example.0);
        let want: Value = serde_json::from_str(d.example.1).unwrap();
        if got != Ok(want) {
            wrong.push(format!("{}: {} gives {got:?}, not {}", d.name, d.example.0, d.example.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_are_used_once() {
    let mut names: Vec<&str> = names().collect();
    names.sort();
    let n = names.len();
    names.dedup();
    assert_eq!(names.len(), n);
}

#[test]
fn documentation_is_one_line_each() {
    for d in all() {
        assert!(d.doc.ends_with('.') && !d.doc.contains('\n') && d.doc.len() < 260, "{}: {}", d.name, d.doc.len());
    }
}

/// Where the result is another than Ansible's, and why.
const BY_DESIGN: &[(&str, &str)] = &[];

struct Given(Value);

impl Lookup for Given {
    fn get(&self, name: &str, _: &[String]) -> Found {
        self.0.get(name).cloned().map_or(Found::Undefined, Found::Value)
    }
    fn known(&self) -> Vec<String> {
        vec![]
    }
}

/// Ansible's own results (`oracle/make.py` renders them), case by case.
#[test]
fn results_are_those_of_ansible() {
    let oracle: Value = serde_json::from_str(include_str!("oracle/results.json")).unwrap();
    let given = Given(serde_json::from_str(include_str!("oracle/vars.json")).unwrap());
    let engine = Templates::new();
    let (mut wrong, mut used, mut same) = (vec![], std::collections::HashSet::new(), 0);
    for case in oracle["results"].as_array().unwrap() {
        let ours = case["windlass"].as_str().unwrap();
        let got =
            engine.compile(&format!("{{{{{ours}}}}}")).map_err(Trouble::Error).and_then(|c| engine.value(&c, &given));
        let agrees = match (&got, case.get("gives")) {
            (Ok(v), Some(want)) => args::equal(v, want),
            (Err(_), None) => true,
            _ => false,
        };
        let excuse = BY_DESIGN.iter().find(|(start, _)| ours.starts_with(start));
        match (agrees, excuse) {
            (true, _) => same += 1,
            (false, Some((start, _))) => {
                used.insert(*start);
            }
            (false, None) => wrong.push(format!("{ours}\n  ours    {got:?}\n  Ansible {case}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ, {same} do not\n{}", wrong.len(), wrong.join("\n"));
    let idle: Vec<&str> = BY_DESIGN.iter().map(|(s, _)| *s).filter(|s| !used.contains(s)).collect();
    assert!(idle.is_empty(), "these agree: {idle:?}");
    assert!(same > 1000);
}
