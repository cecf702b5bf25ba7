//! No secret in anything a run writes: awkward ones, in every text parameter of every module, planned with this machine as
//! the host (nothing is changed).

use super::due::Due;
use super::executor::Shared;
use super::tests::HOSTS;
use super::{Emit, Event, LinkOptions};
use crate::graph::{self, Options, Program};
use crate::inventory::{Connection, Inventory};
use crate::modules::{MODULES, ModuleDef, hostile_tests};
use crate::report::{Json, LogFile, Reader, Terminal, View};
use crate::source::{Diagnostics, Source, Span};
use crate::ssh::SshConfig;
use crate::template::Templates;
use crate::vars::{NoSecrets, Var};
use crate::vault::{Redactor, Secrets};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);
impl std::io::Write for Sink {
    fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where the secret goes: alone, and behind what keeps a parameter from being refused at once.
const SHAPES: [&str; 3] = ["{{s}}", "/srv/windlass-none/{{s}}", "a={{s}}"];

/// A value of a parameter's type with `text` wherever text goes; nothing where none does.
fn filled(schema: &Value, root: &Value, text: &str, depth: u8) -> Option<Value> {
    if depth > 6 {
        return None;
    }
    let again = |s: &Value| filled(s, root, text, depth + 1);
    if let Some(at) = schema["$ref"].as_str() {
        return again(root.pointer(at.trim_start_matches('#'))?);
    }
    if schema.get("enum").is_some() || schema.get("const").is_some() {
        return None;
    }
    if let Some(all) = schema.get("anyOf").or(schema.get("oneOf")).and_then(Value::as_array) {
        return all.iter().find_map(again);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(s) => vec![s],
        Value::Array(a) => a.iter().filter_map(Value::as_str).collect(),
        // Any value.
        _ => vec!["string"],
    };
    if kinds.contains(&"string") {
        return Some(json!(text));
    }
    if kinds.contains(&"array") {
        return Some(json!([again(&schema["items"])?]));
    }
    if kinds.contains(&"object") {
        let mut map = Map::new();
        for (k, s) in schema["properties"].as_object().into_iter().flatten() {
            again(s).into_iter().for_each(|v| drop(map.insert(k.clone(), v)));
        }
        if map.is_empty() {
            map.insert("k".into(), again(schema.get("additionalProperties").unwrap_or(&Value::Null))?);
        }
        return Some(Value::Object(map));
    }
    None
}

/// Something for a parameter that must be there.
fn needed(schema: &Value, root: &Value, text: &str) -> Value {
    let known = |s: &Value| s["enum"].get(0).or(s.get("const")).cloned();
    let inner = schema["$ref"].as_str().and_then(|at| root.pointer(at.trim_start_matches('#'))).unwrap_or(schema);
    let first = inner["oneOf"].get(0).or(inner["anyOf"].get(0));
    filled(schema, root, text, 0)
        .or_else(|| known(inner))
        .or_else(|| first.and_then(known))
        .unwrap_or_else(|| if inner["type"] == "boolean" { json!(false) } else { json!(1) })
}

/// Sets of parameters for a module: each text parameter beside those that must be there, and all at once.
fn parameters(module: &ModuleDef) -> Vec<Value> {
    let schema = (module.schema)();
    let mut all = vec![];
    for text in SHAPES {
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // Where a name is wanted that no secret can be, as well.
        for text_of_needed in [text, "/srv/windlass-none"] {
            let base: Map<String, Value> =
                required.iter().map(|r| (r.to_string(), needed(&properties[*r], &schema, text_of_needed))).collect();
            let mut every = base.clone();
            for (name, s) in &properties {
                if let Some(v) = filled(s, &schema, text, 0) {
                    every.insert(name.clone(), v.clone());
                    let mut one = base.clone();
                    one.insert(name.clone(), v);
                    all.push(Value::Object(one));
                }
            }
            all.push(Value::Object(every));
        }
        if properties.is_empty() {
            all.push(json!({"k": text}));
        }
        if module.free_form.is_some() {
            all.push(json!(text));
        }
    }
    // What is known to be right, with the secret in each of its texts in turn.
    let known = hostile_tests::table().into_iter().filter(|(name, _)| *name == module.name);
    all.extend(known.flat_map(|(_, args)| hostile_tests::with(&args, "{{s}}")));
    for args in &mut all {
        // Nothing leaves this machine.
        let text = args
            .to_string()
            .replace("https://host/", "http://127.0.0.1:9/")
            .replace("http://h/", "http://127.0.0.1:9/");
        *args = serde_json::from_str(&text).unwrap();
        let Some(o) = args.as_object_mut() else { continue };
        // Expressions are looked up, not rendered.
        module.expressions.iter().for_each(|e| drop(o.insert(e.to_string(), json!(["eq s \"x\""]))));
        if let Some(v) = o.get_mut("url").filter(|v| !v.to_string().contains("127.0.0.1")) {
            *v = json!("http://127.0.0.1:9/{{s}}?q={{s}}");
        }
        if let Some(v) = o.get_mut("host") {
            *v = json!("127.0.0.1");
        }
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|a| seen.insert(a.to_string()));
    all
}

/// A task for each set of parameters, as YAML.
fn tasks() -> Vec<(&'static str, String)> {
    let mut all = vec![];
    // `include_vars` is no step: it would read this very playbook as a file of variables.
    for m in MODULES.iter().filter(|m| m.name != "include_vars") {
        for args in parameters(m) {
            let name = format!("{} of {{{{s}}}}", m.name);
            let task = json!({"name": name, m.name: args, "ignore_errors": true, "register": "r"});
            let show = json!({"debug": {"var": "r"}, "ignore_errors": true});
            all.push((m.name, format!("  - {task}\n  - {show}\n")));
        }
    }
    all
}

fn compiled(dir: &Path, tasks: &str, secret: &str, redactor: &Redactor) -> (Program, Diagnostics) {
    let path = dir.join("site.yml");
    std::fs::write(dir.join("t"), "it is {{s}}\n").unwrap();
    std::fs::write(&path, format!("- phase: p\n  hosts: a\n  tasks:\n{tasks}")).unwrap();
    let templates = Templates::new();
    let (book, mut found) = crate::playbook::load(&path, &templates, &NoSecrets);
    let (inv, d) = Inventory::parse(&Source::new("hosts.yml", HOSTS), &NoSecrets);
    found.extend(d);
    let span = Span::new(&Source::secret("v.yml.age", ""), 0..0);
    let extra = [("s".to_string(), Var { value: json!(secret), span })].into_iter().collect();
    let options = Options { extra, check_mode: true, redactor: redactor.clone(), ..Options::default() };
    let program = graph::compile(book.expect("a playbook").into(), inv, templates.into(), &options, &mut found);
    graph::check(&program, &mut found);
    (program, found)
}

/// Everything readers write of these events, as loud as it gets.
fn shown(events: Vec<Event>) -> String {
    let sink = Sink::default();
    let dir = tempfile::tempdir().unwrap();
    let view = View { verbose: 4, diff: true, live: false };
    let mut log = LogFile::create(dir.path(), "log").unwrap();
    let log_path = log.path.clone();
    let mut terminal = Terminal::new(view, Box::new(sink.clone()));
    let mut to_json = Json::new(Box::new(sink.clone()));
    for e in &events {
        terminal.event(e);
        to_json.event(e);
        log.event(e);
    }
    drop((terminal, to_json, log));
    let written = String::from_utf8_lossy(&sink.0.lock().unwrap()).into_owned();
    written + &std::fs::read_to_string(log_path).unwrap()
}

fn planned(program: Program, redactor: &Redactor) -> Vec<Event> {
    let dir = tempfile::tempdir().unwrap();
    let (to, mut events) = tokio::sync::mpsc::unbounded_channel();
    let reached = |name: &str| Connection::read(name, true, &|_| None, &|_| None).0;
    let shared = Arc::new(Shared {
        settings: program.hosts.iter().map(|h| reached(&h.name)).collect(),
        delegates: Default::default(),
        fatal: program.playbook.phases.iter().map(|_| AtomicBool::new(false)).collect(),
        holds: Default::default(),
        stood_down: Default::default(),
        asker: super::ask::kit::asker(&[], false),
        options: LinkOptions::default(),
        ssh_config: SshConfig::empty(),
        connector: Arc::default(),
        emit: Emit::new(redactor.clone(), to),
        due: Due::open(dir.path().join("due")).unwrap().into(),
        diff: true,
        wants_facts: false,
        stop: Arc::default(),
        leave: Arc::new(tokio::sync::watch::Sender::new(false)),
        again: super::Again { given: "windlass plan".into(), bare: "windlass plan".into(), ..Default::default() },
        program,
    });
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(async {
        let work = super::run(shared, "r".into(), 8, false, Default::default());
        tokio::time::timeout(std::time::Duration::from_secs(120), work).await.expect("the plan hangs");
    });
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

/// The forms a secret may take.
fn forms(secret: &str) -> Vec<String> {
    let core = secret.trim();
    let json = serde_json::to_string(core).unwrap();
    let url = |keep: &str| {
        let byte = |b: u8| match b {
            b if b.is_ascii_alphanumeric() || keep.as_bytes().contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        };
        core.bytes().map(byte).collect::<String>()
    };
    let mut all = vec![
        core.to_string(),
        json[1..json.len() - 1].to_string(),
        core.replace('\'', "'\\''"),
        format!("{core:?}").trim_matches('"').to_string(),
        url("-_.~"),
        url("-_.!~*'()"),
        BASE64_STANDARD.encode(core).trim_end_matches('=').to_string(),
        BASE64_URL_SAFE_NO_PAD.encode(core),
        core.to_lowercase(),
    ];
    // The last character of base64 holds bits of what follows.
    let base64 = all[6].len() - 1;
    all.push(all[6][..base64].to_string());
    all.extend(core.lines().map(str::trim).filter(|l| l.chars().count() >= 8).map(str::to_string));
    // PEM's borders are public.
    let is_border = |f: &str| f.starts_with("-----BEGIN") && f.len() < 40 || f.starts_with("-----END");
    all.retain(|f| f.chars().count() >= 6 && !is_border(f));
    all
}

fn knowing(secret: &str) -> Redactor {
    let mut secrets = Secrets::new();
    secrets.add("s", secret);
    assert!(secrets.unredactable().is_empty());
    let redactor = Redactor::new();
    redactor.add(&secrets);
    redactor
}

fn is_hidden(secret: &str, written: &str, at: &str) {
    for form in forms(secret) {
        if let Some(i) = written.find(&form) {
            let from = written[..i].rfind('\n').map_or(0, |n| n + 1);
            let end = written[i..].find('\n').map_or(written.len(), |n| i + n);
            panic!("{at}: {form:?} of {secret:?} in {}", &written[from..end]);
        }
    }
}

/// Every module is planned with a secret, as far as its parameters let it.
fn tried(secret: &str) {
    let redactor = knowing(secret);
    let dir = tempfile::tempdir().unwrap();
    let mut all = tasks();
    let program = loop {
        let text: String = all.iter().map(|(_, t)| t.as_str()).collect();
        let (program, found) = compiled(dir.path(), &text, secret, &redactor);
        // As the command line shows findings.
        is_hidden(secret, &redactor.redact(&found.render(false)), "a check");
        let errors = found.iter().filter(|d| d.severity == crate::source::Severity::Error);
        // Two lines a task, behind three of the phase.
        let wrong: Vec<usize> = errors
            .map(|d| {
                let line = d.span.as_ref().map_or(0, |s| s.source.line_column(s.range.start).0);
                assert!(line >= 4, "not of a task: {} {:?}", d.message, d.span.as_ref().map(|s| s.place()));
                (line - 4) / 2
            })
            .collect();
        if wrong.is_empty() {
            break program;
        }
        let mut i = 0..;
        all.retain(|_| !wrong.contains(&i.next().unwrap()));
    };
    // Others take no text that a secret could be: a group's name, a state.
    let modules: std::collections::HashSet<&str> = all.iter().map(|(name, _)| *name).collect();
    assert!(modules.len() >= 30, "only {modules:?} were planned with {secret:?}");
    let written = shown(planned(program, &redactor));
    is_hidden(secret, &written, "a plan");
    assert!(written.matches("[redacted]").count() > 500);
    eprintln!(
        "{} {:?}",
        modules.len(),
        MODULES.iter().map(|m| m.name).filter(|m| !modules.contains(m)).collect::<Vec<_>>()
    );
    eprintln!("PLANNED {} {}", all.len(), written.matches("[redacted]").count());
}

#[test]
fn a_secret_that_nobody_knows_of_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Redactor::new();
    let task = "  - {name: \"of {{s}}\", template: {src: t, dest: /srv/windlass-none/f}}\n";
    let (program, found) = compiled(dir.path(), task, "Tr0ub4dor&3", &nobody);
    assert!(!found.has_errors(), "{}", found.render(false));
    assert!(shown(planned(program, &nobody)).matches("Tr0ub4dor&3").count() > 3);
}

#[test]
fn awkward_secrets_are_hidden_whatever_module_has_them() {
    let secrets = [
        "Tr0ub4dor&3",
        "it's \"quoted\" `and` $HOME\\n",
        "-----BEGIN KEY-----\nAAAAbbbbCCCCddddEEEE\nffffGGGG1111\n-----END KEY-----\n",
        "pässwörd €uro 😀 #1 %41+/=",
    ];
    for s in secrets {
        tried(s);
    }
}

/// Anything printable, some of it awkward, of 8 to 200 characters.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9]{8,40}",
        "[!-~][ -~]{8,198}[!-~]",
        "[a-zü€😀'\"\\\\$%&+/= ]{8,60}",
        "[!-~]{8,70}\n[ -~]{8,90}\n[!-~]{8,30}",
    ]
    // Braces would be a template in a variable's value.
    .prop_filter("long enough", |s: &String| s.trim().chars().count() >= 8 && !s.contains("{{"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn no_secret_survives_a_plan(secret in secret()) {
        tried(&secret);
    }
}
