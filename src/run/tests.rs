//! Whole runs without a host: tasks that need no probe, on hosts that are never connected to.

use super::due::Due;
use super::executor::Shared;
use super::{Emit, Event, LinkOptions, Outcome, Recap};
use crate::graph::{self, Node, Options, Program};
use crate::inventory::{Connection, Inventory};
use crate::source::{Diagnostics, Source};
use crate::ssh::SshConfig;
use crate::template::Templates;
use crate::vars::NoSecrets;
use crate::vault::Redactor;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(super) fn program(playbook: &str, inventory: &str) -> (Program, Diagnostics) {
    program_with(playbook, inventory, &Options::default())
}

fn program_with(playbook: &str, inventory: &str, options: &Options) -> (Program, Diagnostics) {
    project(&[("site.yml", playbook)], inventory, options)
}

/// A project of these files; the first is the playbook.
pub(super) fn project(files: &[(&str, &str)], inventory: &str, options: &Options) -> (Program, Diagnostics) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let path = dir.path().join(files[0].0);
    let templates = Arc::new(Templates::new());
    let (book, mut found) = crate::playbook::load(&path, &templates, &NoSecrets);
    let (inv, d) = Inventory::parse(&Source::new("hosts.yml", inventory), &NoSecrets);
    found.extend(d);
    let mut book = book.expect("a playbook");
    graph::settle(&mut book, &inv, &templates, options, &mut found);
    let program = graph::compile(Arc::new(book), inv, templates, options, &mut found);
    graph::check(&program, &mut found);
    found.sort();
    (program, found)
}

fn messages(playbook: &str) -> Vec<String> {
    let (_, found) = program(playbook, HOSTS);
    found.iter().map(|d| d.message.clone()).collect()
}

pub(super) const HOSTS: &str = "all: {hosts: {a: , b: , c: }}";

/// Runs it, and gives back what ended, in order: (host, task, outcome).
pub(super) fn run(playbook: &str) -> (Vec<(String, String, Outcome)>, Recap) {
    let (program, found) = program(playbook, HOSTS);
    assert!(!found.has_errors(), "{}", found.render(false));
    execute(program, 64, false)
}

pub(super) fn execute(program: Program, forks: usize, fail_fast: bool) -> (Vec<(String, String, Outcome)>, Recap) {
    let dir = tempfile::tempdir().unwrap();
    perform(program, forks, fail_fast, false, dir.path())
}

/// The same with hosts that are all this machine; `dir` is the project's folder.
pub(super) fn perform(
    program: Program,
    forks: usize,
    fail_fast: bool,
    here: bool,
    dir: &std::path::Path,
) -> (Vec<(String, String, Outcome)>, Recap) {
    let (to, mut events) = tokio::sync::mpsc::unbounded_channel();
    let reached = |name: &str| Connection::read(name, here, &|_| None, &|_| None).0;
    let settings = program.hosts.iter().map(|h| reached(&h.name)).collect();
    let delegates = program.inventory.hosts.keys().map(|h| (h.clone(), reached(h))).collect();
    let fatal = program.playbook.phases.iter().map(|_| AtomicBool::new(false)).collect();
    let shared = Arc::new(Shared {
        program,
        settings,
        delegates,
        fatal,
        holds: Default::default(),
        stood_down: Default::default(),
        asker: PERSON.with_borrow(|(answers, every_step)| super::ask::kit::asker(answers, *every_step)),
        options: LinkOptions::default(),
        ssh_config: SshConfig::empty(),
        connector: Arc::default(),
        emit: Emit::new(Redactor::new(), to),
        due: Arc::new(Due::open(dir.join("due")).unwrap()),
        diff: false,
        wants_facts: false,
        stop: Arc::default(),
        leave: Arc::new(tokio::sync::watch::Sender::new(false)),
        again: super::Again {
            given: "windlass".into(),
            bare: "windlass".into(),
            hosts: Arc::new(["a", "b", "c"].map(str::to_string).into()),
        },
    });
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let recap = rt.block_on(async {
        if let Some((after, leaves)) = INTERRUPT.get() {
            let shared = shared.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                shared.stop.store(true, std::sync::atomic::Ordering::Relaxed);
                if leaves {
                    shared.leave.send_replace(true);
                }
            });
        }
        let work = super::run(shared, "r".into(), forks, fail_fast, Default::default());
        tokio::time::timeout(std::time::Duration::from_secs(30), work).await.expect("the run hangs").0
    });
    let mut ended = vec![];
    while let Ok(e) = events.try_recv() {
        if let Event::StepEnded(e) = e {
            if let Some(f) = e.parts.iter().find_map(|p| p.failure.clone()) {
                FAILURES.with_borrow_mut(|all| all.push((e.host.clone(), f)));
            }
            ended.push((e.host, e.task, e.outcome));
        }
    }
    (ended, recap)
}

thread_local! {
    /// What failed in the runs of this test, with the reports.
    pub(super) static FAILURES: std::cell::RefCell<Vec<(String, super::event::FailureReport)>> = const { std::cell::RefCell::new(vec![]) };
    /// After so long the run is stopped; `true`: and left.
    pub(super) static INTERRUPT: std::cell::Cell<Option<(std::time::Duration, bool)>> = const { std::cell::Cell::new(None) };
    /// What the person at the terminal answers, and whether every step is asked for.
    pub(super) static PERSON: std::cell::RefCell<(Vec<&'static str>, bool)> = const { std::cell::RefCell::new((vec![], false)) };
}

pub(super) fn position(ended: &[(String, String, Outcome)], host: &str, task: &str) -> usize {
    ended.iter().position(|(h, t, _)| h == host && t == task).unwrap_or_else(|| panic!("{host} {task} in {ended:?}"))
}

pub(super) fn outcome(ended: &[(String, String, Outcome)], host: &str, task: &str) -> Outcome {
    ended[position(ended, host, task)].2
}

#[test]
fn what_fails_for_sure_is_told_before_the_run() {
    let book = |task: &str| format!("- phase: one\n  hosts: all\n  vars: {{n: 2, kind: bare}}\n  tasks:\n  - {task}\n");
    let told = |task: &str, checks_only: bool| {
        let (_, found) = program_with(&book(task), HOSTS, &Options { checks_only, ..Default::default() });
        let all = found.iter().map(|d| (d.message.clone(), d.severity == crate::source::Severity::Error));
        all.collect::<Vec<_>>()
    };
    let odd = "assert: {that: [eq (mod n 2) 1], fail_msg: an odd number is needed}";
    let message = "an odd number is needed: `eq (mod n 2) 1` is not true".to_string();
    assert_eq!(told(odd, false), [(message.clone(), true)]);
    // A plain check is no run: perhaps that one is given what is asked for.
    assert_eq!(told(odd, true), [(message, false)]);
    let kind = "{fail: {msg: \"{{kind}} is no kind\"}, when: ne kind \"full\"}";
    assert_eq!(told(kind, false), [("bare is no kind".to_string(), true)]);
    let hidden = kind.replace("}, when", "}, no_log: true, when");
    assert_eq!(told(&hidden, false)[0].0, "this task is going to fail; what it says is not shown (no_log)");
    for fine in [
        "{assert: {that: [eq n 1]}, ignore_errors: true}",
        "{assert: {that: [eq n 1]}, failed_when: false}",
        "{assert: {that: [eq n 1]}, when: eq facts.os.id \"x\"}",
        "{assert: {that: [eq n 2, eq facts.os.id \"x\"]}}",
        "{fail: {}}",
        "{block: [{assert: {that: [eq n 1]}}], rescue: [{debug: {msg: x}}]}",
    ] {
        assert_eq!(told(fine, false), [], "{fine}");
    }
}

#[test]
fn a_name_of_the_command_line_that_stands_nowhere_is_told() {
    let book = "- phase: one\n  hosts: all\n  vars: {http_port: 80}\n  tasks:\n  - {debug: {msg: \"{{http_port}}\"}}\n  - {template: {src: t.j2, dest: /t}}\n";
    let told = |name: &str| {
        let mut options = Options::default();
        let source = Source::new("-e", name);
        let span = crate::source::Span::new(&source, 0..name.len());
        options.extra.insert(name.into(), crate::vars::Var { value: 1.into(), span });
        let files = [("site.yml", book), ("templates/t.j2", "{{ htt_port | default('') }}")];
        let (_, found) = project(&files, HOSTS, &options);
        found.iter().map(|d| format!("{}; {}", d.message, d.hint.clone().unwrap_or_default())).collect::<Vec<_>>()
    };
    assert_eq!(told("htpp_port"), ["-e htpp_port: nothing in this playbook asks for it; did you mean `http_port`?"]);
    assert_eq!(told("http_port"), [""; 0]);
    // A template asks for it.
    assert_eq!(told("htt_port"), [""; 0]);
    // Nothing has a name like it: perhaps another playbook of the same command does.
    assert_eq!(told("colour"), [""; 0]);
}

#[test]
fn a_failure_blocks_what_comes_after_it_on_that_host_only() {
    let (ended, recap) = run(
        "- phase: one\n  hosts: all\n  tasks:\n  - {name: t1, debug: {msg: x}}\n  - {name: t2, debug: {msg: x}, failed_when: eq inventory_hostname \"b\"}\n  - {name: t3, debug: {msg: x}}\n- phase: two\n  hosts: all\n  tasks:\n  - {name: t4, debug: {msg: x}}\n",
    );
    for h in ["a", "c"] {
        assert_eq!(outcome(&ended, h, "t4"), Outcome::Satisfied);
    }
    assert_eq!(outcome(&ended, "b", "t2"), Outcome::Failed);
    assert_eq!((outcome(&ended, "b", "t3"), outcome(&ended, "b", "t4")), (Outcome::Blocked, Outcome::Blocked));
    let b = &recap.hosts.iter().find(|(h, _)| h == "b").unwrap().1;
    assert_eq!((b.satisfied, b.failed, b.blocked), (1, 1, 2));
    assert_eq!(recap.again.as_deref(), Some("windlass --limit b"));
}

#[test]
fn a_phase_that_needs_another_is_blocked_on_all_hosts_when_one_fails_there() {
    let (ended, _) = run(
        "- phase: one\n  hosts: all\n  tasks:\n  - {name: t1, debug: {msg: x}, failed_when: eq inventory_hostname \"b\"}\n- phase: two\n  hosts: all\n  needs: [one]\n  tasks:\n  - {name: t2, debug: {msg: x}}\n- phase: three\n  hosts: all\n  needs: [{phase: one, scope: host}]\n  tasks:\n  - {name: t3, debug: {msg: x}}\n- phase: free\n  hosts: all\n  needs: []\n  tasks:\n  - {name: t4, debug: {msg: x}}\n",
    );
    for h in ["a", "b", "c"] {
        assert_eq!(outcome(&ended, h, "t2"), Outcome::Blocked, "{h}");
        assert_eq!(outcome(&ended, h, "t3"), if h == "b" { Outcome::Blocked } else { Outcome::Satisfied }, "{h}");
        assert_eq!(outcome(&ended, h, "t4"), Outcome::Satisfied, "{h}");
    }
}

#[test]
fn a_task_waits_for_others_where_it_says_so() {
    let (ended, _) = run(
        "- phase: one\n  hosts: all\n  tasks:\n  - {name: first, id: first, debug: {msg: x}}\n  - {name: second, needs: [{task: first, hosts: all}], debug: {msg: x}}\n  - {name: free, needs: [], debug: {msg: x}}\n",
    );
    let last_first = ["a", "b", "c"].map(|h| position(&ended, h, "first")).into_iter().max().unwrap();
    for h in ["a", "b", "c"] {
        assert!(position(&ended, h, "second") > last_first);
    }
}

#[test]
fn a_wait_ends_with_its_time_and_not_before() {
    let (program, found) = program(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: w, wait_for: {path: /nothing/here, timeout: 3, sleep: 2}}\n",
        HOSTS,
    );
    assert!(!found.has_errors(), "{}", found.render(false));
    let (dir, began) = (tempfile::tempdir().unwrap(), std::time::Instant::now());
    let (ended, _) = perform(program, 4, false, true, dir.path());
    assert_eq!(ended[0].2, Outcome::Failed);
    assert!(began.elapsed().as_millis() >= 3000, "{:?}", began.elapsed());
}

#[test]
fn a_wait_for_other_hosts_comes_on_top_of_the_row() {
    let (ended, _) = run(
        "- phase: one\n  hosts: all\n  tasks:\n  - {name: first, id: first, debug: {msg: x}}\n  - {name: sets, set_fact: {y: 1}}\n  - {name: uses, needs: [{task: first, hosts: all}], assert: {that: [eq y 1]}}\n",
    );
    for h in ["a", "b", "c"] {
        assert_eq!(outcome(&ended, h, "uses"), Outcome::Satisfied);
    }
}

#[test]
fn a_registered_value_of_another_host_is_waited_for() {
    let (ended, _) = run(
        "- phase: one\n  hosts: all\n  tasks:\n  - {name: say, when: [eq inventory_hostname \"a\"], set_fact: {token: \"t-{{inventory_hostname}}\"}}\n  - {name: use, when: [ne inventory_hostname \"a\"], assert: {that: [eq hostvars.a.token \"t-a\"]}}\n",
    );
    assert_eq!((outcome(&ended, "b", "use"), outcome(&ended, "c", "use")), (Outcome::Satisfied, Outcome::Satisfied));
}

#[test]
fn a_later_value_never_comes_from_a_lower_layer() {
    let (ended, _) = run(
        "- phase: one\n  hosts: a\n  vars: {x: 1}\n  tasks:\n  - {name: one, assert: {that: [eq x 1]}}\n  - {name: set, set_fact: {x: 2}}\n  - {name: two, assert: {that: [eq x 2]}}\n  - {name: look, debug: {msg: \"{{x}}\"}, register: out}\n  - {name: three, assert: {that: [eq out.msg 2]}}\n",
    );
    assert!(ended.iter().all(|(_, _, o)| *o == Outcome::Satisfied), "{ended:?}");
}

#[test]
fn ignored_failures_and_failed_when_let_the_run_go_on() {
    let (ended, recap) = run(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: ignored, assert: {that: [false]}, ignore_errors: true, register: r}\n  - {name: told, assert: {that: [r.failed]}}\n  - {name: fine, assert: {that: [false]}, failed_when: false}\n  - {name: bad, debug: {msg: x}, failed_when: [true]}\n",
    );
    assert_eq!(outcome(&ended, "a", "ignored"), Outcome::Ignored);
    assert_eq!((outcome(&ended, "a", "told"), outcome(&ended, "a", "fine")), (Outcome::Satisfied, Outcome::Satisfied));
    assert_eq!(outcome(&ended, "a", "bad"), Outcome::Failed);
    assert_eq!(recap.hosts[0].1.failed, 1);
}

#[test]
fn loops_give_results_and_handlers_run_once_at_the_end() {
    let (ended, _) = run(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: each, debug: {msg: \"{{i}}-{{n}}\"}, loop: [x, y, z], loop_control: {loop_var: i, index_var: n}, when: [ne i \"y\"], register: r, changed_when: true, notify: [h, twice]}\n  - {name: count, assert: {that: [eq (length r.results) 3, eq r.results.2.msg \"z-2\", r.results.1.skipped]}}\n  handlers:\n  - {name: h, debug: {msg: h}}\n  - {name: other, listen: twice, debug: {msg: o}}\n  - {name: silent, debug: {msg: s}}\n",
    );
    let names: Vec<&str> = ended.iter().map(|(_, t, _)| t.as_str()).collect();
    assert_eq!(names, ["each", "count", "h", "other"]);
    assert_eq!(ended[0].2, Outcome::Changed);
}

#[test]
fn fail_fast_stops_everything() {
    let (program, _) = program(
        "- phase: one\n  hosts: all\n  tasks:\n  - {name: t1, assert: {that: [false]}}\n- phase: two\n  hosts: all\n  needs: []\n  tasks:\n  - {name: t2, debug: {msg: x}}\n",
        HOSTS,
    );
    let (_, recap) = execute(program, 1, true);
    assert_eq!(recap.hosts.iter().map(|(_, c)| c.failed).sum::<usize>(), 1);
    assert!(!recap.interrupted);
}

#[test]
fn cycles_are_shown() {
    let m = messages(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: x, id: conf, needs: [check], debug: {msg: x}}\n  - {name: y, id: svc, needs: [conf], debug: {msg: x}}\n  - {name: z, id: check, needs: [svc], debug: {msg: x}}\n",
    );
    assert_eq!(m.len(), 1);
    assert!(m[0].starts_with("tasks wait for each other: "), "{m:?}");
    for id in ["conf on a", "svc on a", "check on a"] {
        assert!(m[0].contains(id), "{m:?}");
    }
}

/// Runs it on this machine, in a folder that the playbook calls `DIR`.
fn run_here(playbook: &str, dir: &std::path::Path) -> (Vec<(String, String, Outcome)>, Recap) {
    run_here_with(playbook, dir, &Options::default())
}

fn run_here_with(playbook: &str, dir: &std::path::Path, options: &Options) -> (Vec<(String, String, Outcome)>, Recap) {
    let (program, found) = program_with(&playbook.replace("DIR", dir.to_str().unwrap()), HOSTS, options);
    assert!(!found.has_errors(), "{}", found.render(false));
    perform(program, 64, false, true, dir)
}

#[test]
fn a_command_that_changes_nothing_notifies_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, recap) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: look, command: 'true', changed_when: false, notify: h}\n  - {name: quiet, command: 'false', ignore_errors: true, notify: h}\n  handlers:\n  - {name: h, debug: {msg: h}}\n",
        dir.path(),
    );
    let names: Vec<&str> = ended.iter().map(|(_, t, _)| t.as_str()).collect();
    assert_eq!(names, ["look", "quiet"], "{recap:?}");
    assert!(recap.due.is_empty());
}

#[test]
fn a_handler_stays_due_when_a_later_step_that_notifies_it_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: do, command: 'true', notify: h}\n  - {name: look, command: 'true', changed_when: false, notify: h}\n  handlers:\n  - {name: h, debug: {msg: h}}\n",
        dir.path(),
    );
    assert_eq!(ended.len(), 3, "{ended:?}");
}

#[test]
fn conditions_on_a_result_know_whether_it_changed_or_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, command: 'true', register: r, until: [not r.failed], retries: 1, delay: 0}\n  - {name: t2, command: 'true', register: r, changed_when: [not r.failed]}\n  - {name: t3, command: 'false', register: r, failed_when: [r.failed, eq r.rc 2]}\n  - {name: t4, command: 'true', register: r, failed_when: [not r.changed]}\n",
        dir.path(),
    );
    assert!(ended.iter().all(|(_, _, o)| *o == Outcome::Changed), "{ended:?}");
}

#[test]
fn a_change_whose_answer_was_lost_is_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: put, copy: {content: x, dest: DIR/f, validate: 'sh -c ''cp \"$1\" DIR/f && kill -9 $(cut -d\" \" -f4 /proc/$PPID/stat)'' x %s'}, register: r, notify: h}\n  - {name: then, when: [r.changed], debug: {msg: x}}\n  handlers:\n  - {name: h, debug: {msg: h}}\n",
        dir.path(),
    );
    assert_eq!(outcome(&ended, "a", "put"), Outcome::Changed, "{ended:?}");
    assert_eq!((outcome(&ended, "a", "then"), outcome(&ended, "a", "h")), (Outcome::Satisfied, Outcome::Satisfied));
}

#[test]
fn what_another_host_changed_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, stat: {path: DIR/f}}\n- phase: two\n  hosts: b\n  tasks:\n  - {name: t2, command: touch DIR/f}\n- phase: three\n  hosts: a\n  tasks:\n  - {name: t3, stat: {path: DIR/f}, register: r}\n  - {name: t4, assert: {that: [r.stat.exists]}}\n",
        dir.path(),
    );
    assert_eq!(outcome(&ended, "a", "t4"), Outcome::Satisfied, "{ended:?}");
}

#[test]
fn a_plan_keeps_what_a_planned_change_makes_certain() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here_with(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, copy: {content: x, dest: DIR/f}}\n  - {name: look, command: 'true', check_mode: false, changed_when: false}\n  - {name: t2, copy: {content: x, dest: DIR/f}}\n",
        dir.path(),
        &Options { check_mode: true, ..Options::default() },
    );
    assert_eq!((outcome(&ended, "a", "t1"), outcome(&ended, "a", "t2")), (Outcome::Changed, Outcome::Satisfied));
}

#[test]
fn a_plan_knows_a_name_again_when_it_is_set_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here_with(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, command: 'true', register: r}\n  - {name: t2, stat: {path: /}, register: r}\n  - {name: t3, assert: {that: [r.stat.exists]}}\n",
        dir.path(),
        &Options { check_mode: true, ..Options::default() },
    );
    // The command may have changed everything, so that only what is sure after it is asked for.
    assert_ne!(outcome(&ended, "a", "t3"), Outcome::Failed, "{ended:?}");
    let (ended, _) = run_here_with(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, command: 'true', register: r, changed_when: false}\n  - {name: t2, stat: {path: /}, register: r}\n  - {name: t3, assert: {that: [r.stat.exists]}}\n",
        dir.path(),
        &Options { check_mode: true, ..Options::default() },
    );
    assert_eq!(outcome(&ended, "a", "t3"), Outcome::Satisfied, "{ended:?}");
}

#[test]
fn reading_a_value_of_a_host_does_not_weaken_the_need_of_it() {
    let (ended, _) = run(
        "- phase: one\n  hosts: all\n  tasks:\n  - {name: first, id: first, debug: {msg: x}, failed_when: eq inventory_hostname \"a\", register: r}\n  - {name: second, needs: [{task: first, hosts: all}], debug: {msg: \"{{hostvars.b.r.failed}}\"}}\n",
    );
    for h in ["a", "b", "c"] {
        assert_eq!(outcome(&ended, h, "second"), Outcome::Blocked, "{ended:?}");
    }
}

#[test]
fn a_home_is_meant_by_a_tilde_in_creates_too() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, command: {cmd: 'false', creates: '~'}}\n  - {name: t2, command: {cmd: 'false', creates: '~/.'}}\n  - {name: t3, command: {cmd: 'false', creates: ., chdir: '~'}}\n",
        dir.path(),
    );
    assert!(ended.iter().all(|(_, _, o)| *o == Outcome::Satisfied), "{ended:?}");
}

#[test]
fn a_role_left_out_in_one_place_is_done_in_the_other() {
    let files = [
        (
            "site.yml",
            "- phase: one\n  hosts: all\n  roles:\n  - {role: r, when: eq inventory_hostname \"a\"}\n  - {role: r, when: eq inventory_hostname \"b\"}\n- phase: two\n  hosts: all\n  roles: [{role: x, when: eq inventory_hostname \"a\"}, y, y]\n",
        ),
        ("roles/r/tasks/main.yml", "- {name: t, debug: {msg: x}}\n"),
        ("roles/base/tasks/main.yml", "- {name: b, debug: {msg: x}}\n"),
        ("roles/x/meta/main.yml", "dependencies: [base]\n"),
        ("roles/x/tasks/main.yml", "- {name: x, debug: {msg: x}}\n"),
        ("roles/y/meta/main.yml", "dependencies: [base]\n"),
        ("roles/y/tasks/main.yml", "- {name: y, debug: {msg: x}}\n"),
    ];
    let (program, found) = project(&files, HOSTS, &Options::default());
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, _) = execute(program, 64, false);
    let done = |h: &str, t: &str| ended.iter().filter(|(a, b, o)| a == h && b == t && *o == Outcome::Satisfied).count();
    assert_eq!(["a", "b", "c"].map(|h| done(h, "r : t")), [1, 1, 0], "{ended:?}");
    assert_eq!(["a", "b", "c"].map(|h| done(h, "base : b") > 0), [true, true, true], "{ended:?}");
    assert_eq!(["a", "b", "c"].map(|h| done(h, "y : y")), [1, 1, 1], "{ended:?}");
}

#[test]
fn a_dependency_of_a_role_that_tags_leave_out_is_done_for_another() {
    let files = [
        ("site.yml", "- phase: one\n  hosts: a\n  roles: [{role: x, tags: [x]}, {role: y, tags: [y]}]\n"),
        ("roles/base/tasks/main.yml", "- {name: b, debug: {msg: x}}\n"),
        ("roles/x/meta/main.yml", "dependencies: [base]\n"),
        ("roles/x/tasks/main.yml", "- {name: x, debug: {msg: x}}\n"),
        ("roles/y/meta/main.yml", "dependencies: [base]\n"),
        ("roles/y/tasks/main.yml", "- {name: y, debug: {msg: x}}\n"),
    ];
    let names = |tags: &[&str]| -> Vec<String> {
        let tags = tags.iter().map(|t| t.to_string()).collect();
        let (program, _) = project(&files, HOSTS, &Options { tags, ..Options::default() });
        execute(program, 64, false).0.into_iter().map(|(_, t, _)| t).collect()
    };
    assert_eq!(names(&["y"]), ["base : b", "y : y"]);
    assert_eq!(names(&["x"]), ["base : b", "x : x"]);
    assert_eq!(names(&[]), ["base : b", "x : x", "y : y"]);
}

#[test]
fn a_role_used_twice_has_handlers_of_its_own_names() {
    let files = [
        ("site.yml", "- phase: one\n  hosts: a\n  roles: [{role: r, vars: {n: 1}}, {role: r, vars: {n: 2}}]\n"),
        ("roles/r/tasks/main.yml", "- {name: t, debug: {msg: x}, changed_when: true, notify: h}\n"),
        ("roles/r/handlers/main.yml", "- {name: h, listen: topic, debug: {msg: x}}\n"),
    ];
    let (program, _) = project(&files, HOSTS, &Options::default());
    let keys: std::collections::HashSet<String> =
        program.tasks.iter().filter(|t| t.handler).map(|t| program.handler_key(t)).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
}

#[test]
fn a_long_loop_looks_no_further_ahead_than_is_of_use() {
    let dir = tempfile::tempdir().unwrap();
    let copies = "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, copy: {content: x, dest: 'DIR/f-{{item}}'}, loop: \"{{range 0 300}}\"}\n";
    assert_eq!(run_here(copies, dir.path()).0[0].2, Outcome::Changed);
    let (ended, recap) = run_here(copies, dir.path());
    assert_eq!((ended[0].2, recap.hosts[0].1.round_trips), (Outcome::Satisfied, 1));
    // A command may touch everything: what is asked behind it is asked again behind the next.
    let (ended, recap) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, command: 'true'}\n  - {name: t2, command: {cmd: 'false', creates: 'DIR/f-{{item}}'}, loop: \"{{range 0 300}}\"}\n",
        dir.path(),
    );
    assert_eq!(ended[1].2, Outcome::Satisfied);
    assert_eq!(recap.hosts[0].1.round_trips, 2, "the first 256 with the command, the rest at once");
}

#[test]
fn what_many_hosts_learn_is_not_copied_for_each_of_them() {
    let big = "x".repeat(20_000);
    let mut text = String::new();
    for i in 0..4 {
        text.push_str(&format!("- phase: p{i}\n  hosts: all\n  vars: {{big: {big}}}\n  tasks:\n"));
        for t in 0..5 {
            text.push_str(&format!("  - {{name: t{t}, debug: {{msg: \"{{{{big}}}}\"}}, register: r{i}{t}}}\n"));
        }
    }
    text.push_str("  - {name: last, assert: {that: [eq (length hostvars.h001.r00.msg) 20000]}}\n");
    let (program, found) = program(&text, "all: {hosts: {'h[001:060]': }}");
    assert!(!found.has_errors(), "{}", found.render(false));
    let peak = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let before = peak();
    let (ended, _) = execute(program, 5, false);
    assert_eq!(outcome(&ended, "h060", "last"), Outcome::Satisfied);
    // 24 MB have been learned; each host holds its own part, and all of them hold one of all parts.
    let more = (peak() - before) / 1024;
    assert!(more < 600, "{more} MB");
}

#[test]
fn a_plan_counts_no_change_where_an_apply_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here_with(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, systemd: {daemon_reload: true}, notify: h}\n  handlers:\n  - {name: h, debug: {msg: h}}\n",
        dir.path(),
        &Options { check_mode: true, ..Options::default() },
    );
    assert_eq!((ended.len(), outcome(&ended, "a", "t1")), (1, Outcome::Satisfied), "{ended:?}");
}

#[test]
fn any_time_limit_can_be_said() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, command: 'true', timeout: 31536000}\n  - {name: t2, wait_for: {path: /, timeout: 18446744073709551615, delay: 0, sleep: 18446744073709551615}}\n",
        dir.path(),
    );
    assert_eq!((outcome(&ended, "a", "t1"), outcome(&ended, "a", "t2")), (Outcome::Changed, Outcome::Satisfied));
}

#[test]
fn a_file_made_here_is_copied_as_it_is_by_then() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("src"), "old").unwrap();
    std::fs::write(dir.path().join("src.hbs"), "old").unwrap();
    let (ended, _) = run_here(
        "- phase: one\n  hosts: a\n  tasks:\n  - {name: t1, shell: printf new >DIR/src; printf new >DIR/src.hbs}\n  - {name: t2, copy: {src: DIR/src, dest: DIR/d1}}\n  - {name: t3, template: {src: DIR/src.hbs, dest: DIR/d2}}\n",
        dir.path(),
    );
    assert!(ended.iter().all(|(_, _, o)| *o == Outcome::Changed), "{ended:?}");
    for d in ["d1", "d2"] {
        assert_eq!(std::fs::read_to_string(dir.path().join(d)).unwrap(), "new", "{d}");
    }
}

#[test]
fn what_a_role_sets_for_good_is_seen_by_the_whole_phase() {
    let files = [
        (
            "site.yml",
            "- phase: one\n  hosts: a\n  vars: {port: 1}\n  roles: [r, s]\n  tasks:\n  - {name: t, assert: {that: [eq port 2, eq own \"s\"]}}\n",
        ),
        ("roles/r/vars/main.yml", "{port: 2, own: r}\n"),
        ("roles/r/tasks/main.yml", "- {name: r, assert: {that: [eq own \"r\"]}}\n"),
        ("roles/s/vars/main.yml", "{own: s}\n"),
        ("roles/s/tasks/main.yml", "- {name: s, assert: {that: [eq port 2, eq own \"s\"]}}\n"),
    ];
    let (program, found) = project(&files, HOSTS, &Options::default());
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, _) = execute(program, 64, false);
    assert!(ended.iter().all(|(_, _, o)| *o == Outcome::Satisfied), "{ended:?}");
}

/// A random playbook of debug tasks: for each task, whether it has `needs`, and which of the tasks above it.
fn tasks() -> impl Strategy<Value = Vec<Option<Vec<(usize, bool)>>>> {
    let needs = proptest::collection::vec((0usize..20, any::<bool>()), 0..3);
    proptest::collection::vec(proptest::option::of(needs), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn every_step_is_done_once_and_after_all_it_needs(tasks in tasks(), fails in proptest::option::of(0usize..20), forks in 1usize..4) {
        let mut text = String::from("- phase: p\n  hosts: all\n  tasks:\n");
        for (i, needs) in tasks.iter().enumerate() {
            let what = if fails == Some(i) { "debug: {msg: x}, failed_when: eq inventory_hostname \"b\"" } else { "debug: {msg: x}" };
            let needs = needs.as_ref().map(|n| {
                let list: Vec<String> = n.iter().filter(|(t, _)| *t < i)
                    .map(|(t, all)| if *all { format!("{{task: t{t}, hosts: all}}") } else { format!("t{t}") }).collect();
                format!("needs: [{}], ", list.join(", "))
            }).unwrap_or_default();
            text.push_str(&format!("  - {{name: t{i}, id: t{i}, {needs}{what}}}\n"));
        }
        let (program, found) = program(&text, HOSTS);
        prop_assert!(!found.has_errors(), "{}", found.render(false));
        let names: Vec<Option<(String, String)>> = program.graph.node_weights().map(|n| match *n {
            Node::Step { task, host } => Some((program.hosts[host].name.clone(), program.tasks[task].title())),
            _ => None,
        }).collect();
        let edges: Vec<(usize, usize)> = program.graph.raw_edges().iter().map(|e| (e.source().index(), e.target().index())).collect();
        let (ended, recap) = execute(program, forks, false);
        let steps = names.iter().flatten().count();
        prop_assert_eq!(ended.len(), steps);
        let at: HashMap<(String, String), (usize, Outcome)> =
            ended.iter().enumerate().map(|(i, (h, t, o))| ((h.clone(), t.clone()), (i, *o))).collect();
        prop_assert_eq!(at.len(), steps);
        for (from, to) in edges {
            if let (Some(f), Some(t)) = (&names[from], &names[to]) {
                let ((fi, fo), (ti, to)) = (at[f], at[t]);
                prop_assert!(fi < ti, "{:?} before {:?}", f, t);
                if matches!(fo, Outcome::Failed | Outcome::Blocked) {
                    prop_assert_eq!(to, Outcome::Blocked);
                }
            }
        }
        let total: usize = recap.hosts.iter().map(|(_, c)| c.satisfied + c.failed + c.blocked).sum();
        prop_assert_eq!(total, steps);
    }
}
