//! Keys of tasks and phases with templates in them, and what loops tell: whole runs on this machine.

use super::tests::{FAILURES, HOSTS, outcome, perform, position, project};
use super::{Outcome, Recap};
use crate::graph::Options;
use crate::source::Source;
use crate::vars::Var;

type Ended = Vec<(String, String, Outcome)>;

fn options(extra: &[(&str, &str)]) -> Options {
    let source = Source::new("-e", "");
    let span = crate::source::Span::new(&source, 0..0);
    let var = |v: &str| Var { value: serde_json::json!(v), span: span.clone() };
    Options { extra: extra.iter().map(|(n, v)| (n.to_string(), var(v))).collect(), ..Default::default() }
}

/// Runs a playbook on hosts that are all this machine. `DIR` in it is a folder of the test's own.
fn run_with(book: &str, options: &Options) -> (Ended, Recap, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let book = book.replace("DIR", &dir.path().display().to_string());
    let (program, found) = project(&[("site.yml", &book)], HOSTS, options);
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, recap) = perform(program, 8, false, true, dir.path());
    (ended, recap, dir)
}

fn run(book: &str) -> (Ended, Recap, tempfile::TempDir) {
    run_with(book, &Options::default())
}

/// What is wrong, with the line it is said of.
fn errors(book: &str, options: &Options) -> Vec<String> {
    let (_, found) = project(&[("site.yml", book)], HOSTS, options);
    let line = |d: &crate::source::Diagnostic| d.span.as_ref().map(|s| s.text().to_string()).unwrap_or_default();
    found.iter().map(|d| format!("{} | {}", d.message, line(d))).collect()
}

fn lines(dir: &tempfile::TempDir, name: &str) -> usize {
    std::fs::read_to_string(dir.path().join(name)).unwrap_or_default().lines().count()
}

#[test]
fn a_template_says_whether_a_failure_is_ignored() {
    let (ended, recap, _) = run(r#"
- phase: one
  hosts: all
  vars: {soft: [a, b]}
  tasks:
  - {name: fails, assert: {that: [false]}, ignore_errors: "{{contains soft inventory_hostname}}"}
  - {name: after, debug: {msg: x}}
"#);
    assert_eq!(
        [Outcome::Ignored, Outcome::Ignored, Outcome::Failed],
        ["a", "b", "c"].map(|h| outcome(&ended, h, "fails"))
    );
    let c = |i: usize| &recap.hosts[i].1;
    assert_eq!((c(0).ignored, c(0).satisfied, c(0).failed), (1, 1, 0));
    assert_eq!((c(2).ignored, c(2).satisfied, c(2).failed, c(2).blocked), (0, 0, 1, 1));
}

#[test]
fn a_loop_is_ignored_where_all_that_failed_is() {
    let book = |that: &str| {
        format!(
            "- phase: p\n  hosts: a\n  tasks:\n  - {{name: each, debug: {{msg: x}}, failed_when: 'not ({that})', loop: [1, 2, 3], ignore_errors: \"{{{{ne item 3}}}}\"}}\n"
        )
    };
    assert_eq!(outcome(&run(&book("eq item 3")).0, "a", "each"), Outcome::Ignored);
    assert_eq!(outcome(&run(&book("eq item 1")).0, "a", "each"), Outcome::Failed);
}

#[test]
fn what_only_looks_changes_nothing_in_an_apply_either() {
    let (ended, recap, dir) = run(r#"
- hosts: a
  tasks:
  - {name: file, copy: {dest: DIR/f, content: x}, check_mode: true, register: f, notify: told}
  - {name: shell, shell: touch DIR/g, check_mode: true, register: g}
  - block:
    - {name: really, copy: {dest: DIR/f, content: y}, check_mode: false}
    - {name: looked at again, copy: {dest: DIR/f, content: y}}
    - {name: waits, wait_for: {path: DIR/never, timeout: 60}}
    check_mode: true
  - {name: said, copy: {dest: DIR/said, content: "{{f.changed}} {{g.skipped}} {{g.changed}}"}}
  handlers:
  - {name: told, shell: touch DIR/told}
"#);
    let of = |t: &str| outcome(&ended, "a", t);
    assert_eq!(["file", "really", "said", "told"].map(of), [Outcome::Changed; 4]);
    assert_eq!(
        (of("shell"), of("waits"), of("looked at again")),
        (Outcome::Skipped, Outcome::Skipped, Outcome::Satisfied)
    );
    assert_eq!(recap.hosts[0].1.changed, 4);
    let read = |n: &str| std::fs::read_to_string(dir.path().join(n)).ok();
    assert_eq!((read("f").as_deref(), read("g")), (Some("y"), None));
    assert_eq!(read("said").as_deref(), Some("true true false"));
}

#[test]
fn numbers_and_flags_may_be_templates() {
    let (ended, _, dir) = run(r#"
- phase: one
  hosts: [a]
  become: "{{no}}"
  vars: {no: "no", one: "1", none: 0, me: nobody}
  tasks:
  - {name: tries, shell: "echo x >> DIR/tries; false", retries: "{{one}}", delay: "{{none}}", ignore_errors: true}
  - {name: slow, shell: sleep 20, timeout: "{{one}}", ignore_errors: true, register: slow}
  - {name: limit, assert: {that: [slow.failed, contains slow.msg "within 1 s"]}}
  - {name: behind, shell: "sleep 1; echo x", async: "{{add one 20}}", poll: "{{none}}", register: job}
  - {name: is behind, assert: {that: [eq job.started 1, defined job.ansible_job_id]}}
  - {name: in front, shell: echo x, async: "{{none}}", register: front}
  - {name: is in front, assert: {that: [eq front.stdout "x"]}}
  - {name: locked, shell: "true", throttle: "{{one}}", become_user: "{{me}}"}
"#);
    assert_eq!(lines(&dir, "tries"), 2);
    for t in ["limit", "is behind", "is in front"] {
        assert_eq!(outcome(&ended, "a", t), Outcome::Satisfied, "{t}: {:?}", FAILURES.take());
    }
    assert_eq!(outcome(&ended, "a", "locked"), Outcome::Changed);
}

#[test]
fn what_a_template_hides_is_hidden_item_by_item() {
    let dir = tempfile::tempdir().unwrap();
    let book = |hide: &str| {
        format!(
            "- phase: p\n  hosts: a\n  tasks:\n  - {{name: t, assert: {{that: [false], fail_msg: \"word-{{{{item}}}}\"}}, loop: [open, closed], no_log: \"{{{{{hide}}}}}\"}}\n"
        )
    };
    let said = |hide: &str| {
        FAILURES.take();
        let (program, found) = project(&[("site.yml", &book(hide))], HOSTS, &Options::default());
        assert!(!found.has_errors(), "{}", found.render(false));
        perform(program, 8, false, true, dir.path());
        format!("{:?}", FAILURES.take())
    };
    assert!(said("eq item 'neither'").contains("word-"), "nothing says so");
    assert!(!said("eq item 'closed'").contains("word-"));
}

#[test]
fn a_plan_may_act_where_a_template_says_so() {
    let book = r#"
- phase: p
  hosts: a
  vars: {look: false}
  tasks:
  - {name: looks, shell: "echo x >> DIR/looked", check_mode: "{{look}}"}
  - {name: acts, shell: "echo x >> DIR/acted", check_mode: "{{not look}}"}
"#;
    let (_, _, dir) = run_with(book, &Options { check_mode: true, ..Default::default() });
    assert_eq!((lines(&dir, "looked"), lines(&dir, "acted")), (1, 0));
}

#[test]
fn what_is_done_once_can_be_said_by_a_template() {
    let book = |once: &str| {
        format!(
            "- phase: p\n  hosts: all\n  vars: {{yes_once: true}}\n  tasks:\n  - {{name: t, debug: {{msg: x}}, run_once: \"{{{{{once}}}}}\"}}\n"
        )
    };
    let ran = |once: &str| run(&book(once)).0.iter().filter(|(_, t, _)| t == "t").count();
    assert_eq!((ran("yes_once"), ran("not yes_once")), (1, 3));
    let wrong = errors(&book("eq inventory_hostname 'a'"), &Options::default());
    assert_eq!(wrong, ["`run_once` is not the same for all hosts | \"{{eq inventory_hostname 'a'}}\""]);
}

#[test]
fn phases_take_their_hosts_and_batches_from_templates() {
    let book = r#"
- hosts: "{{default target 'all'}}"
  vars: {size: 1, of_phase: "{{size}}"}
  serial: "{{of_phase}}"
  tasks:
  - {name: t1, debug: {msg: x}}
  - {name: t2, debug: {msg: x}}
"#;
    let (ended, recap, _) = run(book);
    assert_eq!(recap.hosts.len(), 3);
    assert!(position(&ended, "b", "t1") > position(&ended, "a", "t2"), "{ended:?}");
    let (ended, ..) = run_with(book, &options(&[("target", "c:b"), ("size", "100%")]));
    let first: Vec<&str> = ended.iter().filter(|(_, t, _)| t == "t1").map(|(h, ..)| h.as_str()).collect();
    assert_eq!((ended.len(), first.contains(&"a")), (4, false));
    let lists = "- hosts: [\"{{target}}\", c]\n  vars: {sizes: [1, \"50%\"]}\n  serial: \"{{sizes}}\"\n  tasks: [{name: t, debug: {msg: x}}]\n";
    assert_eq!(run_with(lists, &options(&[("target", "b")])).0.len(), 2);
}

#[test]
fn a_phase_without_a_name_is_called_after_its_hosts() {
    let book = "- hosts: \"{{t}}\"\n  tasks: [{debug: {msg: x}}]\n- hosts: a\n  tasks: [{debug: {msg: x}}]\n";
    let (program, _) = project(&[("site.yml", book)], HOSTS, &options(&[("t", "a")]));
    let names: Vec<&str> = program.playbook.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["a (2)", "a"]);
}

#[test]
fn templates_say_how_many_failures_end_a_phase() {
    let book = |key: &str, value: &str| {
        format!(
            r#"
- phase: one
  hosts: all
  {key}: "{{{{limit}}}}"
  vars: {{limit: {value}}}
  tasks:
  - {{name: t1, debug: {{msg: x}}, failed_when: eq inventory_hostname "b"}}
- phase: two
  hosts: all
  tasks: [{{name: t2, debug: {{msg: x}}}}]
"#
        )
    };
    let goes_on = |key: &str, value: &str| outcome(&run(&book(key, value)).0, "a", "t2") == Outcome::Satisfied;
    assert!(goes_on("max_fail_percentage", "34") && goes_on("max_fail_percentage", "\"50%\""));
    assert!(!goes_on("max_fail_percentage", "33"));
    assert!(goes_on("any_errors_fatal", "\"no\"") && !goes_on("any_errors_fatal", "true"));
}

#[test]
fn a_template_of_the_wrong_kind_is_found_before_the_run() {
    let of_task = |key: &str, value: &str| {
        let book = format!(
            "- phase: p\n  hosts: a\n  vars: {{v: {value}}}\n  tasks:\n  - {{shell: ls, {key}: \"{{{{v}}}}\"}}\n"
        );
        errors(&book, &Options::default()).join("; ")
    };
    let flag = |key: &str| format!("`{key}` must be true or false, not `maybe` | \"{{{{v}}}}\"");
    for key in ["ignore_errors", "no_log", "check_mode", "become", "run_once"] {
        assert_eq!(of_task(key, "maybe"), flag(key));
    }
    let number = |key: &str| format!("`{key}` must be a whole number, 0 or more, not `many` | \"{{{{v}}}}\"");
    for key in ["timeout", "async", "throttle", "retries"] {
        assert_eq!(of_task(key, "many"), number(key));
    }
    let of_phase = |key: &str, value: &str| {
        let hosts = if key == "hosts" { "" } else { "hosts: a, " };
        let book = format!("- {{{hosts}{key}: \"{{{{v}}}}\", vars: {{v: {value}}}, tasks: [{{debug: {{msg: x}}}}]}}\n");
        errors(&book, &Options::default()).join("; ")
    };
    let cases = [
        ("hosts", "{x: y}", "`hosts` is a pattern or a list of them, not a mapping"),
        ("hosts", "nobody", "`nobody` is neither a host nor a group of the inventory"),
        ("serial", "half", "`serial` is a number of hosts or a share of them, not `half`"),
        ("max_fail_percentage", "few", "`max_fail_percentage` must be a number, 0 or more, not `few`"),
        ("any_errors_fatal", "perhaps", "`any_errors_fatal` must be true or false, not `perhaps`"),
        ("force_handlers", "[]", "`force_handlers` must be true or false, not a list"),
    ];
    for (key, value, said) in cases {
        assert_eq!(of_phase(key, value), format!("{said} | \"{{{{v}}}}\""));
    }
    let book = "- {phase: p, hosts: \"{{targte}}\", vars: {target: a}, tasks: [{debug: {msg: x}}]}";
    assert_eq!(errors(book, &Options::default()), ["undefined variable `targte` | {{targte}}\""]);
}

#[test]
fn items_know_where_in_the_loop_they_are() {
    let (ended, ..) = run(r#"
- phase: one
  hosts: a
  tasks:
  - name: each
    debug: {msg: "{{w}}{{i}} {{ansible_loop.index}}/{{ansible_loop.length}} {{ansible_loop.revindex0}} {{default ansible_loop.previtem '-'}}{{default ansible_loop.nextitem '-'}} {{join ansible_loop.allitems ''}}"}
    loop: [x, y, z]
    loop_control: {loop_var: w, index_var: i, label: "{{w}}", extended: true}
    when: ne w "y"
    register: r
  - name: told
    assert:
      that:
      - eq r.results.0.msg "x0 1/3 2 -y xyz"
      - eq r.results.2.msg "z2 3/3 0 y- xyz"
      - and r.results.0.ansible_loop.first (not r.results.2.ansible_loop.first)
      - and r.results.2.ansible_loop.last (eq r.results.1.ansible_loop.index0 1)
      - eq r.results.1.ansible_index_var "i"
      - eq r.results.1.ansible_loop_var "w"
      - eq r.results.1.skip_reason "Conditional result was False"
      - eq r.results.1.false_condition "ne w \"y\""
      - eq r.msg "All items completed"
  - name: short
    debug: {msg: "{{default ansible_loop.allitems 'none'}}"}
    loop: [x]
    loop_control: {extended: true, extended_allitems: false}
    register: s
  - {name: shorter, assert: {that: [eq s.results.0.msg "none"]}}
"#);
    for t in ["told", "shorter"] {
        assert_eq!(outcome(&ended, "a", t), Outcome::Satisfied, "{:?}", FAILURES.take());
    }
    let book = "- {phase: p, hosts: a, tasks: [{debug: {msg: \"{{ansible_loop.index}}\"}, loop: [1]}]}";
    assert_eq!(errors(book, &Options::default()), ["undefined variable `ansible_loop` | {{ansible_loop.index}}\""]);
    // Also of a list that is known only in the run.
    let book = "- {phase: p, hosts: a, tasks: [{command: ls, register: r}, {debug: {msg: \"{{ansible_loop.index}}\"}, loop: \"{{r.stdout_lines}}\", loop_control: {extended: true}}]}";
    assert_eq!(errors(book, &Options::default()), [""; 0]);
}

#[test]
fn a_loop_pauses_between_items_that_do_something() {
    let took = |command: &str, when: &str| {
        let begun = std::time::Instant::now();
        let (ended, ..) = run(&format!(
            "- phase: p\n  hosts: a\n  vars: {{wait: 0.6}}\n  tasks:\n  - {{name: t, {command}, loop: [1, 2, 3], loop_control: {{pause: \"{{{{wait}}}}\"}}, when: {when}}}\n"
        ));
        assert_ne!(outcome(&ended, "a", "t"), Outcome::Failed);
        begun.elapsed().as_secs_f64()
    };
    let acts = took("shell: \"true\"", "true");
    assert!((1.2..10.0).contains(&acts), "{acts} s");
    let once = took("shell: \"true\"", "eq item 2");
    assert!(once < 0.6, "{once} s");
    let looks = took("stat: {path: /}", "true");
    assert!(looks < 0.6, "{looks} s");
}

#[test]
fn what_loops_give_back_is_as_in_ansible() {
    let (ended, recap, _) = run(r#"
- phase: one
  hosts: a
  vars: {never: false, nothing: []}
  tasks:
  - {name: all, debug: {msg: x}, loop: [1, 2], when: eq item 3, register: all}
  - {name: whole, debug: {msg: x}, loop: [1, 2], when: never, register: whole}
  - {name: empty, debug: {msg: x}, loop: "{{nothing}}", register: empty}
  - {name: some, assert: {that: [eq item 1]}, loop: [1, 2], ignore_errors: true, register: some}
  - {name: one, debug: {msg: x}, when: never, register: one}
  - name: told
    assert:
      that:
      - and all.skipped (eq all.msg "All items skipped") (eq (length all.results) 2)
      - and whole.skipped (eq whole.msg "All items skipped") (eq whole.results.1.item 2) whole.results.1.skipped
      - and empty.skipped (eq empty.skipped_reason "No items in the list") (eq (length empty.results) 0)
      - and some.failed (not some.skipped) (eq some.msg "One or more items failed") some.results.1.failed
      - and one.skipped (eq one.skip_reason "Conditional result was False") (eq one.false_condition "never")
"#);
    assert_eq!(outcome(&ended, "a", "told"), Outcome::Satisfied, "{:?}", FAILURES.take());
    let c = &recap.hosts[0].1;
    assert_eq!((c.skipped, c.ignored, c.satisfied), (4, 1, 1));
}

#[test]
fn a_probe_of_a_budget_that_hangs_has_its_time_and_no_more() {
    let begun = std::time::Instant::now();
    let (ended, _, dir) = run(r#"
- phase: p
  hosts: a
  budgets:
    members: {hosts: all, before: "echo x >> DIR/before", after: "echo $$ >> DIR/after; sleep 305", timeout: 2, every: 1}
  tasks:
  - {name: t, shell: "true", budget: members}
"#);
    assert_eq!(outcome(&ended, "a", "t"), Outcome::Failed);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    let said = FAILURES.take();
    assert!(said[0].1.message.contains("this host is not back: not within 2 s"), "{said:?}");
    assert_eq!((lines(&dir, "before"), lines(&dir, "after")), (1, 1));
}

#[test]
fn a_value_that_is_wrong_only_then_fails_the_step_at_its_place() {
    FAILURES.take();
    let (ended, ..) = run(r#"
- phase: p
  hosts: a
  tasks:
  - {name: says, shell: echo soon, register: said}
  - {name: waits, shell: echo x, timeout: "{{said.stdout}}"}
"#);
    assert_eq!(outcome(&ended, "a", "waits"), Outcome::Failed);
    let (_, failure) = FAILURES.take().remove(0);
    assert_eq!(failure.message, "`timeout` must be a whole number, 0 or more, not `soon`");
    assert!(failure.source.is_some_and(|s| s.contains("site.yml:6")));
}

#[test]
fn what_is_taken_in_knows_where_in_the_loop_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let book = |list: &str| {
        format!(
            "- phase: p\n  hosts: a\n  tasks:\n  - {{name: list, set_fact: {{later: [x, y]}}}}\n  - {{include_tasks: one.yml, loop: {list}, loop_control: {{extended: true}}}}\n"
        )
    };
    let one = "- {name: one, assert: {that: [eq ansible_loop.length 2, eq (eq item 'x') ansible_loop.first]}}\n";
    for list in ["[x, y]", "\"{{later}}\""] {
        let (program, found) = project(&[("site.yml", &book(list)), ("one.yml", one)], HOSTS, &Options::default());
        assert!(!found.has_errors(), "{}", found.render(false));
        let (ended, _) = perform(program, 8, false, true, dir.path());
        let ones: Vec<Outcome> = ended.iter().filter(|(_, t, _)| t == "one").map(|(.., o)| *o).collect();
        assert_eq!(ones, [Outcome::Satisfied, Outcome::Satisfied], "{list}: {:?}", FAILURES.take());
    }
}

#[test]
fn whoever_is_asked_for_the_hosts_is_asked_in_the_run() {
    let book =
        "- hosts: \"{{target}}\"\n  vars_prompt: [{name: target}]\n  tasks: [{command: \"{{nothing_there_is}}\"}]\n";
    let asked = Options { asked_later: vec!["target".into()], ..Default::default() };
    let (program, found) = project(&[("site.yml", book)], HOSTS, &asked);
    assert!(!found.has_errors() && program.hosts.is_empty(), "{}", found.render(false));
    assert_eq!(found.iter().count(), 1);
}

/// The words that were written, in order.
fn words(dir: &tempfile::TempDir, name: &str) -> String {
    let text = std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn run_files(files: &[(&str, &str)], options: &Options) -> (Ended, Recap, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let own: Vec<(String, String)> =
        files.iter().map(|(n, t)| (n.to_string(), t.replace("DIR", &dir.path().display().to_string()))).collect();
    let files: Vec<(&str, &str)> = own.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let (program, found) = project(&files, HOSTS, options);
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, recap) = perform(program, 8, false, true, dir.path());
    (ended, recap, dir)
}

#[test]
fn a_phase_is_done_part_by_part() {
    let book = "
- phase: p
  hosts: a
  handlers: [{name: told, shell: echo handler >> DIR/out}]
  post_tasks: [{shell: echo post >> DIR/out}]
  tasks: [{shell: echo tasks >> DIR/out}]
  roles: [r]
  pre_tasks: [{shell: echo pre >> DIR/out, notify: told}]
";
    let role = ("roles/r/tasks/main.yml", "- shell: echo role >> DIR/out\n");
    let (_, _, dir) = run_files(&[("site.yml", book), role], &Options::default());
    assert_eq!(words(&dir, "out"), "pre handler role tasks post");
}

#[test]
fn variables_and_the_environment_of_phases_blocks_and_tasks() {
    let book = r#"
- phase: p
  hosts: a
  vars: {x: phase, y: phase, z: phase, file: phase}
  vars_files: more.yml
  environment: {A: phase, B: phase, C: phase}
  tasks:
  - vars: {y: block, z: block}
    environment: {B: block, C: block}
    block:
    - shell: "echo {{x}} {{y}} {{z}} {{file}} $A $B $C >> DIR/out"
      vars: {z: task}
      environment: {C: task}
    - {shell: "echo {{z}} $C >> DIR/out"}
"#;
    let (_, _, dir) = run_files(&[("site.yml", book), ("more.yml", "file: more\n")], &Options::default());
    assert_eq!(words(&dir, "out"), "phase block task more phase block task block block");
}

#[test]
fn conditions_of_a_phase_and_of_a_role() {
    let book = "
- phase: p
  hosts: all
  when: ne inventory_hostname 'c'
  roles: [{role: r, when: eq inventory_hostname 'a'}]
  tasks: [{name: task, debug: {msg: x}}]
";
    let role = ("roles/r/tasks/main.yml", "- {name: in it, debug: {msg: x}}\n");
    let (ended, _, _) = run_files(&[("site.yml", book), role], &Options::default());
    let of = |t: &str| ["a", "b", "c"].map(|h| outcome(&ended, h, t));
    assert_eq!(of("task"), [Outcome::Satisfied, Outcome::Satisfied, Outcome::Skipped]);
    assert_eq!(of("r : in it"), [Outcome::Satisfied, Outcome::Skipped, Outcome::Skipped]);
}

#[test]
fn tags_of_phases_blocks_roles_and_imports() {
    let site = "
- {import_playbook: more.yml, tags: import}
- phase: p
  hosts: a
  tags: phase
  roles: [{role: r, tags: role}]
  tasks:
  - {tags: block, block: [{name: in block, tags: task, shell: echo block >> DIR/out}]}
  - {name: alone, shell: echo alone >> DIR/out}
";
    let files = [
        ("site.yml", site),
        ("more.yml", "- {phase: m, hosts: a, tasks: [{shell: echo more >> DIR/out}]}\n"),
        ("roles/r/tasks/main.yml", "- shell: echo role >> DIR/out\n"),
    ];
    for (tag, done) in [
        ("import", "more"),
        ("phase", "role block alone"),
        ("role", "role"),
        ("block", "block"),
        ("task", "block"),
        ("all", "more role block alone"),
    ] {
        let (_, _, dir) = run_files(&files, &Options { tags: vec![tag.into()], ..Default::default() });
        assert_eq!(words(&dir, "out"), done, "{tag}");
        let skip = Options { skip_tags: vec![tag.into()], ..Default::default() };
        let (_, _, dir) = run_files(&files, &skip);
        let left: Vec<&str> = ["more", "role", "block", "alone"].into_iter().filter(|w| !done.contains(w)).collect();
        assert_eq!(words(&dir, "out"), left.join(" "), "without {tag}");
    }
}

#[test]
fn tries_are_counted_and_there_is_time_between_them() {
    let book = |more: &str| {
        format!(
            "- phase: p\n  hosts: a\n  tasks:\n  - {{name: t, shell: echo x >> DIR/out, register: r, until: eq r.rc 9{more}}}\n"
        )
    };
    let begun = std::time::Instant::now();
    let (ended, _, dir) = run(&book(", retries: 2, delay: 1"));
    let took = begun.elapsed().as_secs_f64();
    assert_eq!((outcome(&ended, "a", "t"), lines(&dir, "out")), (Outcome::Failed, 3));
    assert!((2.0..9.0).contains(&took), "{took}");
    // Without a number there are three tries more.
    assert_eq!(lines(&run(&book(", delay: 0")).2, "out"), 4);
    let fine = book(", delay: 0").replace("eq r.rc 9", "eq r.rc 0");
    let (ended, _, dir) = run(&fine);
    assert_eq!((outcome(&ended, "a", "t"), lines(&dir, "out")), (Outcome::Changed, 1));
}

#[test]
fn more_parameters_stand_in_args() {
    let (ended, _, dir) = run(r#"
- phase: p
  hosts: a
  tasks:
  - {name: t, shell: "cat; pwd", args: {stdin: in, chdir: /}, register: r}
  - {name: seen, assert: {that: ['eq (join r.stdout_lines ",") "in,/"']}}
  - {name: there, shell: "echo x >> DIR/out", args: {creates: DIR}}
"#);
    assert_eq!(outcome(&ended, "a", "seen"), Outcome::Satisfied, "{:?}", FAILURES.take());
    assert_eq!((outcome(&ended, "a", "there"), lines(&dir, "out")), (Outcome::Satisfied, 0));
}

#[test]
fn what_a_block_says_of_where_how_many_and_whether() {
    let book = r#"
- phase: p
  hosts: all
  tasks:
  - {check_mode: false, block: [{name: acts, shell: echo x >> DIR/acted}]}
  - {shell: echo x >> DIR/planned}
"#;
    let (_, _, dir) = run_with(book, &Options { check_mode: true, ..Default::default() });
    assert_eq!((lines(&dir, "acted"), lines(&dir, "planned")), (3, 0));
    let (_, _, dir) = run(r#"
- phase: p
  hosts: all
  tasks:
  - throttle: 1
    block:
    - {shell: "echo begin >> DIR/one; sleep 0.2; echo end >> DIR/one"}
"#);
    assert_eq!(words(&dir, "one"), "begin end begin end begin end");
    let (_, _, _dir) = run(r#"
- phase: p
  hosts: a
  tasks:
  - evidence: {look: echo it is broken}
    diagnosis: [{match: broken, say: mend it}]
    block: [{name: fails, command: 'false'}]
"#);
    let said = format!("{:?}", FAILURES.take());
    assert!(said.contains("it is broken") && said.contains("mend it"), "{said}");
    let nowhere = "- {hosts: a, tasks: [{delegate_to: nobody, block: [{command: 'true'}]}]}";
    let said = errors(nowhere, &Options::default()).remove(0);
    assert!(said.starts_with("`delegate_to`: there is no host `nobody`"), "{said}");
}

#[test]
fn a_role_is_done_again_where_its_meta_says_so_and_brings_its_budgets() {
    let book = "- {phase: p, hosts: all, roles: [r, r]}\n";
    let task = "- {name: t, budget: few, shell: echo begin >> DIR/out; sleep 0.1; echo end >> DIR/out}\n";
    let meta = |more: &str| format!("budgets: {{few: {{hosts: all, size: 1}}}}\n{more}");
    for (more, times) in [("", 3), ("allow_duplicates: true\n", 6)] {
        let files = [("site.yml", book), ("roles/r/tasks/main.yml", task), ("roles/r/meta/main.yml", &meta(more))];
        let (_, _, dir) = run_files(&files, &Options::default());
        assert_eq!(words(&dir, "out"), ["begin end"; 6][..times].join(" "), "{more}");
    }
}
