//! An expression or template with some variables. The first letter says which: `e` an expression, `v` a value with
//! templates in it, `h` a Handlebars file, `j` a Jinja file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::OnceLock;
use windlass::template::{Found, Lookup, Templates, Trouble, text};

/// What a template may write: more is a finding.
const LARGEST: usize = 64 << 20;

struct Names(Value);

impl Lookup for Names {
    fn get(&self, name: &str, _words: &[String]) -> Found {
        match self.0.get(name) {
            Some(v) => Found::Value(v.clone()),
            None if name == "later" => Found::Unknown("it is known later".into()),
            None => Found::Undefined,
        }
    }
    fn known(&self) -> Vec<String> {
        self.0.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect()
    }
}

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| {
        Names(json!({
            // Nothing is written: a password stays a promise.
            "ansible_check_mode": true,
            "playbook_dir": "/nowhere", "role_path": "/nowhere/roles/x", "inventory_hostname": "web1",
            "n": 3, "f": 1.5, "t": true, "nothing": null, "s": "a text, größer", "empty": "",
            "list": [3, 1, 2, 3], "words": ["b", "a", "C"], "address": "192.168.1.10/24", "version": "1.28.3+k3s1",
            "people": [{"name": "anna", "age": 30, "tags": ["a", "b"]}, {"name": "ben", "age": 4}],
            "map": {"a": 1, "b": {"c": [1, 2]}, "ä": "ö"}, "yaml": "a: [1, 2]\nb: {c: d}\n", "b64": "aGVsbG8=",
            "groups": {"all": ["web1", "web2"]}, "hostvars": {"web1": {"n": 1}, "web2": {"n": 2}}
        }))
    })
}

fn seen(result: Result<String, Trouble>) {
    match result {
        Ok(out) => assert!(out.len() <= LARGEST, "{} bytes", out.len()),
        Err(Trouble::Error(e)) => assert!(!e.message.is_empty()),
        Err(Trouble::Unknown(_)) => {}
    }
}

fuzz_target!(|input: &str| {
    let mut letters = input.chars();
    let (kind, body) = (letters.next(), letters.as_str());
    let templates = Templates::new();
    let file = |name: &str| seen(templates.render_file(Path::new(name), body, names()));
    match kind {
        Some('e') => {
            if let Ok(c) = templates.compile_expression(body) {
                seen(templates.value(&c, names()).map(|v| text(&v)));
            }
        }
        Some('v') => seen(templates.render_deep(&json!({"a": [body]}), names()).map(|v| text(&v))),
        Some('h') => file("/nowhere/a.hbs"),
        Some('j') => file("/nowhere/a.j2"),
        _ => {}
    }
});
