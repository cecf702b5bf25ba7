//! The schemas for editors take what lies in this repository, and refuse what the loader refuses.

use serde_json::Value;
use std::path::{Path, PathBuf};
use windlass::source::{Source, yaml};

fn validator(kind: &str) -> jsonschema::Validator {
    let schema = windlass::schema::of(kind).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn value(text: &str) -> Value {
    yaml::parse(&Source::new("t.yml", text)).unwrap().to_value()
}

fn errors(v: &jsonschema::Validator, value: &Value) -> Vec<String> {
    v.iter_errors(value).map(|e| format!("{} at {}", e, e.instance_path())).collect()
}

fn files(pattern: &[&str]) -> Vec<PathBuf> {
    let mut dirs = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    for p in pattern {
        let mut next = vec![];
        for d in dirs {
            if *p == "*" {
                next.extend(std::fs::read_dir(d).into_iter().flatten().map(|e| e.unwrap().path()));
            } else {
                next.push(d.join(p));
            }
        }
        dirs = next;
    }
    let yaml = |p: &Path| p.is_file() && p.extension().is_some_and(|e| e == "yml");
    dirs.into_iter().filter(|p| yaml(p)).collect()
}

#[test]
fn it_takes_all_that_is_shipped() {
    for (kind, patterns, least) in [
        ("playbook", vec![vec!["playbooks", "*"]], 40),
        ("tasks", vec![vec!["roles", "*", "tasks", "*"], vec!["roles", "*", "handlers", "*"]], 60),
        ("role-meta", vec![vec!["roles", "*", "meta", "*"]], 5),
        ("inventory", vec![vec!["inventories", "*", "*"]], 4),
    ] {
        let v = validator(kind);
        let all: Vec<PathBuf> = patterns.iter().flat_map(|p| files(p)).collect();
        assert!(all.len() >= least, "{kind}: {}", all.len());
        for f in all {
            let wrong = errors(&v, &value(&std::fs::read_to_string(&f).unwrap()));
            assert!(wrong.is_empty(), "{}:\n{}", f.display(), wrong.join("\n"));
        }
    }
}

/// The projects that must pass the check pass here as well.
#[test]
fn it_takes_what_the_check_takes() {
    let text = include_str!("broken/cases/fine.txt");
    let (playbook, tasks, inventory) = (validator("playbook"), validator("tasks"), validator("inventory"));
    let mut seen = 0;
    for part in text.split("--- ").skip(1) {
        let (name, body) = part.split_once('\n').unwrap();
        let body = body.split("\n=== ").next().unwrap();
        let v = match name {
            "site.yml" => &playbook,
            "cloud.yml" => &inventory,
            n if n.ends_with("tasks/main.yml") => &tasks,
            _ => continue,
        };
        let wrong = errors(v, &value(body));
        assert!(wrong.is_empty(), "{name}:\n{body}\n{}", wrong.join("\n"));
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn it_refuses_what_is_wrong() {
    for (kind, text) in [
        ("playbook", "hosts: all"),
        ("playbook", "- {phase: a, tasks: []}"),
        ("playbook", "- {hosts: all, taks: []}"),
        ("playbook", "- {hosts: all, become: maybe}"),
        ("playbook", "- {hosts: all, serial: many}"),
        ("playbook", "- {hosts: all, needs: [{phase: a, scope: everywhere}]}"),
        ("playbook", "- {hosts: all, connection: winrm}"),
        ("playbook", "- {hosts: all, vars: [a]}"),
        ("playbook", "- {hosts: all, vars: {a-b: 1}}"),
        ("playbook", "- {hosts: all, budgets: {b: {size: 1}}}"),
        ("playbook", "- {hosts: all, roles: [{vars: {a: 1}}]}"),
        ("playbook", "- {hosts: all, vars_prompt: [{prompt: who?}]}"),
        ("playbook", "- {hosts: all, tasks: [{name: x}]}"),
        ("playbook", "- {hosts: all, roles: [{role: r1, wehn: true}]}"),
        ("playbook", "- {hosts: all, serial: [\"0%\", 1]}"),
        ("tasks", "- {debug: {msg: x}, command: ls}"),
        ("tasks", "- {debug: {msg: x}, ansible.builtin.command: ls}"),
        ("tasks", "- {debug: {msg: x}, register: 1a}"),
        ("tasks", "- {debug: {msg: x}, loop: l}"),
        ("tasks", "- {debug: {msg: x}, loop: [1], loop_control: {loop_var: a-b}}"),
        ("tasks", "- {include_tasks: {file: t.yml, aply: {tags: [x]}}}"),
        ("tasks", "- {copy: {content: a, dest: /a, mode: {a: 1}}}"),
        ("tasks", "- {name: nothing}"),
        ("tasks", "- {tempalte: {src: a, dest: /a}}"),
        ("tasks", "- {copy: {src: a}}"),
        ("tasks", "- {copy: {source: a, dest: /a}}"),
        ("tasks", "- {copy: [a]}"),
        ("tasks", "- {apt: {name: a, state: instaled}}"),
        ("tasks", "- {apt: {name: {a: b}}}"),
        ("tasks", "- {file: {path: /a}, when: {a: b}}"),
        ("tasks", "- {file: {path: /a}, retries: some}"),
        ("tasks", "- {file: {path: /a}, loop: {a: b}}"),
        ("tasks", "- {file: {path: /a}, loop: [a], loop_control: {lable: x}}"),
        ("tasks", "- {stat: {}}"),
        ("tasks", "- {wait_for: {port: 1}, asynch: 5}"),
        ("tasks", "- {rescue: []}"),
        ("tasks", "- {block: [{debug: {mesg: x}}]}"),
        ("tasks", "- {include_role: {tasks_from: x}}"),
        ("tasks", "- {meta: flush_handler}"),
        ("tasks", "- {ansible.builtin.copy: {dets: /a, src: a}}"),
        ("role-meta", "{dependancies: [a]}"),
        ("role-meta", "{arguments: [{type: int}]}"),
        ("role-meta", "{arguments: {a: {type: itn}}}"),
        ("argument-specs", "{main: {options: {}}}"),
        ("inventory", "{all: {host: {a: {}}}}"),
        ("inventory", "{all: {hosts: [a]}}"),
        ("inventory", "{terraform: {state: a.tfstate, hosts: [{type: t, adress: ip}]}}"),
        ("inventory", "{web: {hosts: {a: 10.0.0.1}}}"),
    ] {
        assert!(!errors(&validator(kind), &value(text)).is_empty(), "{kind}: {text}");
    }
}

#[test]
fn it_takes_what_the_loader_takes() {
    for (kind, text) in [
        ("tasks", "- {copy: {content: a, dest: /a, mode: 0644}}"),
        ("tasks", "- {copy: {content: 1, dest: /a}}"),
        ("tasks", "- {copy: {content: {a: 1}, dest: /a}}"),
        ("tasks", "- {copy: {content: [1], dest: /a}}"),
        ("tasks", "- {include_tasks: {file: t.yml, apply: {tags: [x]}}}"),
        ("tasks", "- {include_tasks: count.yml, loop: [1, 2]}"),
        ("tasks", "- {community.general.ini_file: {path: /a}}"),
        ("tasks", "- {debug: {msg: x}, loop: '{{l}}', register: a1}"),
        ("playbook", "- {hosts: all, roles: [{role: r1, port: 80, of: x}]}"),
        ("playbook", "- {hosts: all, serial: [1, \"25%\", \"100%\", '{{n}}']}"),
    ] {
        let wrong = errors(&validator(kind), &value(text));
        assert!(wrong.is_empty(), "{kind}: {text}\n{}", wrong.join("\n"));
    }
    // An editor reads `0644` as a number.
    let task = serde_json::json!([{"file": {"path": "/a", "mode": 644}}]);
    assert!(errors(&validator("tasks"), &task).is_empty());
}

#[test]
fn what_an_editor_shows_is_there() {
    let s = windlass::schema::of("playbook").unwrap();
    let missing: Vec<String> = s["$defs"]["task"]["properties"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, v)| {
            let of = v["$ref"].as_str().and_then(|r| s.pointer(r.trim_start_matches('#'))).unwrap_or(v);
            v["description"].is_null() && of["description"].is_null()
        })
        .map(|(k, _)| k.clone())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let state = &s["$defs"]["module_apt"]["anyOf"][0]["properties"]["state"];
    assert_eq!(state["default"], "present");
    assert!(state["description"].as_str().unwrap().starts_with("What becomes of them"), "{state}");
}
