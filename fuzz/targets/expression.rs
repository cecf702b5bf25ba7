//! An expression or template with some variables. The first letter says which: `e` an expression, `v` a value with
//! templates in it, `h` a Handlebars file, `j` a Jinja file, `s` a Jinja file behind its settings (lines `name=value`,
//! an empty line).
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::OnceLock;
use windlass::template::{Found, Lookup, Settings, Templates, Trouble, text};

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
            "playbook_dir": folder(), "role_path": folder().join("roles/x"), "inventory_hostname": "web1",
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

/// Where the file stands that a template can take in.
fn folder() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Renders a file; behind a line `%%` stands another that it can take in by the name `b`.
fn file(body: &str, ending: &str, settings: &Settings) {
    let (body, other) = body.split_once("\n%%\n").map_or((body, None), |(b, o)| (b, Some(o)));
    let beside = folder().join(format!("b.{ending}"));
    if let Some(other) = other {
        std::fs::write(&beside, other).unwrap();
    }
    let path = folder().join(format!("a.{ending}"));
    seen(Templates::new().render_file(&path, body, settings, names()));
    if other.is_some() {
        std::fs::remove_file(&beside).unwrap();
    }
}

fuzz_target!(|input: &str| {
    let mut letters = input.chars();
    let (kind, body) = (letters.next(), letters.as_str());
    match kind {
        Some('e') => {
            let templates = Templates::new();
            if let Ok(c) = templates.compile_expression(body) {
                seen(templates.value(&c, names()).map(|v| text(&v)));
            }
        }
        Some('v') => seen(Templates::new().render_deep(&json!({"a": [body]}), names()).map(|v| text(&v))),
        Some('h') => file(body, "hbs", &vec![]),
        Some('j') => file(body, "j2", &vec![]),
        Some('s') => {
            let Some((settings, body)) = body.split_once("\n\n") else { return };
            let pairs = settings.lines().filter_map(|l| l.split_once('='));
            file(body, "j2", &pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect());
        }
        _ => {}
    }
});
