//! No text makes the readers panic.

use proptest::prelude::*;
use std::path::Path;
use windlass::graph;
use windlass::inventory::Inventory;
use windlass::playbook;
use windlass::source::{Diagnostics, Source, yaml};
use windlass::template::Templates;
use windlass::vars::NoSecrets;

/// A playbook with a bit of everything, to be mutated.
const VALID: &str = r#"- phase: prepare
  hosts: "web*:&all:!db*"
  become: true
  vars: {port: 80, url: "http://{{inventory_hostname}}:{{port}}", list: [1, "zwölf", ~]}
  environment: {PATH: /bin}
  pre_tasks:
    - {debug: {msg: "{{upper url}}"}, tags: [a, b]}
  tasks:
    - name: Write {{port}}
      id: write
      copy: {dest: /etc/x, content: "{{#each list}}{{this}},{{/each}}", mode: "0644"}
      loop: "{{list}}"
      loop_control: {loop_var: it, label: "{{it}}"}
      when: [eq port 80, "not (defined nothing)"]
      register: written
      notify: restart
    - command: systemctl is-active x
      needs: [{task: write, hosts: all}]
      changed_when: false
      retries: 3
      register: r
      until: eq r.rc 0
  handlers:
    - name: restart
      systemd: {name: x, state: restarted}
- phase: after
  hosts: all
  needs: [{phase: prepare, scope: host}]
  tasks:
    - set_fact:
        text: |
          a
           b
        other: >-
          folded
    - assert: {that: [eq 1 1]}
"#;

/// Loads a playbook, checks it as far as it goes, and shows every finding: a bad span would show here.
fn load(text: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.yml");
    std::fs::write(&path, text).unwrap();
    let templates = Templates::new();
    let (book, mut found) = playbook::load(Path::new(&path), &templates, &NoSecrets);
    if let Some(book) = book {
        let (inventory, _) = Inventory::load(&["web1,web2,".into()], &NoSecrets, &[], &[]);
        let program = graph::compile(book.into(), inventory, templates.into(), &graph::Options::default(), &mut found);
        graph::check(&program, &mut found);
    }
    found.sort();
    let _ = found.render(false);
}

fn read(text: &str) {
    if let Err(d) = yaml::parse_all(&Source::new("t.yml", text)) {
        let mut found = Diagnostics::default();
        found.push(d);
        let _ = found.render(false);
    }
}

/// Text made of what YAML and templates are made of.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "- ", ": ", "\n", "  ", "    ", "[", "]", "{", "}", ", ", "\"", "'", "|", ">", "&a ", "*a", "!age ", "<<: ",
            "? ", "#", "\t", "---\n", "...\n", "%", "@", "`", "~", "{{", "}}", "{{#if x}}", "{{/if}}", "{{{", "\\",
            "\u{feff}", "\r\n", "ü", "\u{1f600}",
        ]).prop_map(str::to_string),
        4 => prop::sample::select(vec![
            "phase", "hosts", "tasks", "roles", "needs", "when", "loop", "copy", "command", "vars", "handlers", "name",
            "register", "all", "src", "dest", "mode", "0644", "true", "x", "loop_control", "args", "notify", "id",
        ]).prop_map(str::to_string),
        1 => "[a-z0-9 ]{0,6}",
        1 => any::<char>().prop_map(|c| c.to_string()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|p| p.concat())
}

/// A tree of YAML in flow style, with the words of playbooks as keys.
fn tree() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("~".to_string()),
        Just("true".to_string()),
        Just("all".to_string()),
        "-?[0-9]{1,20}",
        "\"[a-z{} .#/]{0,12}\"",
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let key = prop::sample::select(vec![
            "phase",
            "hosts",
            "tasks",
            "roles",
            "role",
            "needs",
            "when",
            "loop",
            "copy",
            "command",
            "vars",
            "handlers",
            "name",
            "register",
            "task",
            "scope",
            "src",
            "dest",
            "mode",
            "loop_control",
            "label",
            "args",
            "notify",
            "id",
            "tags",
            "environment",
            "until",
            "retries",
            "listen",
            "become",
            "vars_files",
            "debug",
            "file",
            "apt",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|v| format!("[{}]", v.join(", "))),
            prop::collection::btree_map(key, inner, 0..6).prop_map(|m| {
                let entries: Vec<String> = m.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

/// The valid playbook with a few cuts, doubles and insertions.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0usize..12, yamlish(), 0u8..4);
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text = VALID.as_bytes().to_vec();
        for (at, len, insert, how) in edits {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + len).min(text.len());
            match how {
                0 => drop(text.drain(at..end)),
                1 => drop(text.splice(at..end, insert.bytes())),
                2 => drop(text.splice(at..at, insert.bytes())),
                _ => {
                    let twice: Vec<u8> = text[at..end].to_vec();
                    text.splice(at..at, twice);
                }
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_never_panic_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load(&bytes);
    }

    #[test]
    fn yamlish_text_never_panics(text in yamlish()) {
        read(&text);
        load(text.as_bytes());
    }

    #[test]
    fn trees_never_panic_the_loader(text in prop::collection::vec(tree(), 0..3)) {
        load(format!("[{}]", text.join(",\n")).as_bytes());
    }

    #[test]
    fn mutations_never_panic_the_loader(text in mutated()) {
        load(&text);
    }

    #[test]
    fn templates_never_panic(text in "([a-z .|#/^~>!&@\"'()=ü0-9\\[\\]-]|\\{\\{|\\}\\}|\\{|\\}|\n){0,40}") {
        let t = Templates::new();
        let _ = t.compile(&text);
        let _ = t.compile_expression(&text);
    }
}

#[test]
fn the_playbook_to_mutate_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.yml");
    std::fs::write(&path, VALID).unwrap();
    let templates = Templates::new();
    let (book, mut found) = playbook::load(&path, &templates, &NoSecrets);
    let (inventory, _) = Inventory::load(&["web1,web2,".into()], &NoSecrets, &[], &[]);
    let options = graph::Options::default();
    let program = graph::compile(book.unwrap().into(), inventory, templates.into(), &options, &mut found);
    graph::check(&program, &mut found);
    assert!(found.is_empty(), "{}", found.render(false));
}
