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
