//! Blocks, batches, what is done once or elsewhere, locks and budgets: whole runs on this machine.

use super::tests::{FAILURES, HOSTS, INTERRUPT, PERSON, outcome, perform, position, project, run};
use super::{Outcome, Recap};
use crate::graph::Options;
use proptest::prelude::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

type Ended = Vec<(String, String, Outcome)>;

/// Runs files of a project on hosts that are all this machine. `DIR` in them is a folder of the test's own.
fn run_here(files: &[(&str, &str)]) -> (Ended, Recap, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let own: Vec<(String, String)> =
        files.iter().map(|(n, t)| (n.to_string(), t.replace("DIR", &dir.path().display().to_string()))).collect();
    let files: Vec<(&str, &str)> = own.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let (program, found) = project(&files, HOSTS, &Options::default());
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, recap) = perform(program, 8, false, true, dir.path());
    (ended, recap, dir)
}

fn read(dir: &tempfile::TempDir, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_string).collect()
}

fn errors(files: &[(&str, &str)]) -> Vec<String> {
    let (_, found) = project(files, HOSTS, &Options::default());
    found.iter().map(|d| d.message.clone()).collect()
}

#[test]
fn a_rescue_makes_good_what_failed_and_knows_what_it_was() {
    let (ended, recap) = run(r#"
- phase: one
  hosts: a
  tasks:
  - name: guarded
    block:
    - {name: fine, debug: {msg: x}}
    - {name: broken, assert: {that: [false], fail_msg: oh dear}}
    - {name: never, debug: {msg: x}}
    rescue:
    - {name: mend, assert: {that: [eq failed_task.name "broken", eq failed_result.msg "oh dear"]}}
    always:
    - {name: sweep, debug: {msg: x}}
  - {name: goes on, debug: {msg: x}}
"#);
    let names: Vec<&str> = ended.iter().map(|(_, t, _)| t.as_str()).collect();
    assert_eq!(names, ["fine", "broken", "mend", "sweep", "goes on"]);
    assert_eq!(outcome(&ended, "a", "broken"), Outcome::Rescued);
    let c = &recap.hosts[0].1;
    assert_eq!((c.failed, c.rescued, c.blocked, c.skipped), (0, 1, 0, 1));
}

#[test]
fn always_is_done_also_after_a_failure_that_stays_one() {
    let (ended, _) = run(r#"
- phase: one
  hosts: a
  tasks:
  - block:
    - {name: broken, assert: {that: [false]}}
    always:
    - {name: sweep, debug: {msg: x}}
  - {name: blocked, debug: {msg: x}}
"#);
    assert_eq!(outcome(&ended, "a", "broken"), Outcome::Failed);
    assert_eq!(outcome(&ended, "a", "sweep"), Outcome::Satisfied);
    assert_eq!(outcome(&ended, "a", "blocked"), Outcome::Blocked);
}

#[test]
fn nothing_of_a_block_is_done_that_was_never_begun() {
    let (ended, _) = run(r#"
- phase: one
  hosts: a
  tasks:
  - {name: broken, assert: {that: [false]}}
  - block: [{name: inside, debug: {msg: x}}]
    rescue: [{name: rescue, debug: {msg: x}}]
    always: [{name: always, debug: {msg: x}}]
"#);
    for t in ["rescue", "always"] {
        assert_eq!(outcome(&ended, "a", t), Outcome::Blocked, "{t}");
    }
}

#[test]
fn keys_of_a_block_hold_for_what_is_inside() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  tasks:
  - name: outer
    when: ne inventory_hostname "c"
    vars: {x: outer, y: outer}
    block:
    - vars: {x: inner}
      ignore_errors: true
      block:
      - {name: sees, assert: {that: [eq x "inner", eq y "outer"]}}
      - {name: ignored, assert: {that: [false]}}
    - {name: after, debug: {msg: x}}
"#);
    assert_eq!(outcome(&ended, "a", "sees"), Outcome::Satisfied);
    assert_eq!(outcome(&ended, "a", "ignored"), Outcome::Ignored);
    assert_eq!(outcome(&ended, "b", "after"), Outcome::Satisfied);
    assert_eq!(outcome(&ended, "c", "sees"), Outcome::Skipped);
}

#[test]
fn what_is_done_once_is_known_to_all() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  tasks:
  - {name: once, run_once: true, set_fact: {token: "from-{{inventory_hostname}}"}}
  - {name: all, assert: {that: [eq token "from-a"]}}
"#);
    assert_eq!(ended.iter().filter(|(_, t, _)| t == "once").count(), 1);
    for h in ["a", "b", "c"] {
        assert_eq!(outcome(&ended, h, "all"), Outcome::Satisfied, "{h}");
        assert!(position(&ended, h, "all") > position(&ended, "a", "once"));
    }
}

#[test]
fn a_task_is_done_on_the_host_it_is_delegated_to_with_its_own_variables() {
    let (ended, _, dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: [a, b]
  vars: {leader: c}
  tasks:
  - {name: there, shell: "echo {{inventory_hostname}} >> DIR/out", delegate_to: "{{leader}}", register: r}
  - {name: knows, assert: {that: [eq r.rc 0]}}
"#,
    )]);
    let mut lines = read(&dir, "out");
    lines.sort();
    assert_eq!(lines, ["a", "b"]);
    assert_eq!(outcome(&ended, "b", "knows"), Outcome::Satisfied);
    let text = "- {phase: p, hosts: a, tasks: [{debug: {msg: x}, delegate_to: nobody}]}";
    assert_eq!(errors(&[("site.yml", text)]), ["`delegate_to`: there is no host `nobody`"]);
}

#[test]
fn batches_come_one_after_the_other_and_a_failed_one_is_the_last() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  serial: [1, 2]
  tasks:
  - {name: t1, debug: {msg: x}}
  - {name: t2, debug: {msg: x}}
"#);
    for h in ["b", "c"] {
        assert!(position(&ended, h, "t1") > position(&ended, "a", "t2"), "{ended:?}");
    }
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  serial: 1
  tasks:
  - {name: t1, debug: {msg: x}, failed_when: eq inventory_hostname "b"}
- phase: two
  hosts: all
  tasks: [{name: t2, debug: {msg: x}}]
"#);
    assert_eq!(outcome(&ended, "a", "t1"), Outcome::Satisfied);
    assert_eq!((outcome(&ended, "b", "t1"), outcome(&ended, "c", "t1")), (Outcome::Failed, Outcome::Blocked));
    assert_eq!((outcome(&ended, "a", "t2"), outcome(&ended, "c", "t2")), (Outcome::Satisfied, Outcome::Blocked));
}

#[test]
fn a_limit_of_failures_ends_the_phase_for_all() {
    let book = |limit: &str| {
        format!(
            r#"
- phase: one
  hosts: all
  {limit}
  tasks:
  - {{name: t1, id: t1, debug: {{msg: x}}, failed_when: eq inventory_hostname "b"}}
  - {{name: t2, needs: [{{task: t1, hosts: b}}, t1], debug: {{msg: x}}, when: [eq inventory_hostname "b"]}}
  - {{name: t3, debug: {{msg: x}}}}
- phase: two
  hosts: all
  tasks: [{{name: t4, debug: {{msg: x}}}}]
"#
        )
    };
    let (ended, _) = run(&book("any_errors_fatal: true"));
    for h in ["a", "b", "c"] {
        assert_eq!(outcome(&ended, h, "t4"), Outcome::Blocked, "{h}");
    }
    let (ended, _) = run(&book("max_fail_percentage: 34").replace("{task: t1, hosts: b}, ", ""));
    assert_eq!(outcome(&ended, "a", "t4"), Outcome::Satisfied);
}

#[test]
fn handlers_are_flushed_where_it_says_so_and_not_again() {
    let (ended, _) = run(r#"
- phase: one
  hosts: a
  tasks:
  - {name: change, debug: {msg: x}, changed_when: true, notify: h}
  - meta: flush_handlers
  - {name: after, debug: {msg: x}}
  handlers:
  - {name: h, debug: {msg: x}}
"#);
    let names: Vec<&str> = ended.iter().map(|(_, t, _)| t.as_str()).collect();
    assert_eq!(names, ["change", "h", "after"]);
}

/// What was done on a host, in order.
fn done<'e>(ended: &'e [(String, String, Outcome)], host: &str) -> Vec<&'e str> {
    let done = |o: &Outcome| !matches!(o, Outcome::Skipped | Outcome::Blocked | Outcome::Silent);
    ended.iter().filter(|(h, _, o)| h == host && done(o)).map(|(_, t, _)| t.as_str()).collect()
}

#[test]
fn handlers_run_in_spite_of_a_failure_where_that_is_asked_for() {
    let book = |keys: &str| {
        format!(
            r#"
- phase: one
  hosts: all
{keys}
  tasks:
  - {{name: change, debug: {{msg: x}}, changed_when: true, notify: h}}
  - {{name: fails, debug: {{msg: x}}, failed_when: eq inventory_hostname "b"}}
  - {{name: change too, debug: {{msg: x}}, changed_when: true, notify: i}}
  handlers:
  - {{name: i, debug: {{msg: x}}}}
  - {{name: h, debug: {{msg: x}}}}
- phase: two
  hosts: all
  tasks: [{{name: later, debug: {{msg: x}}}}]
"#
        )
    };
    let (ended, _) = run(&book(""));
    assert_eq!(done(&ended, "b"), ["change", "fails"]);
    let (ended, recap) = run(&book("  force_handlers: true"));
    assert_eq!(done(&ended, "a"), ["change", "fails", "change too", "i", "h", "later"]);
    assert_eq!(done(&ended, "b"), ["change", "fails", "h"]);
    assert_eq!(recap.hosts[1].1.failed, 1);
    // Not where the whole phase ends, either.
    let (ended, _) = run(&book("  force_handlers: true\n  any_errors_fatal: true"));
    assert_eq!(done(&ended, "b"), ["change", "fails", "h"]);
    assert!(done(&ended, "a").contains(&"h") && !done(&ended, "a").contains(&"later"), "{:?}", done(&ended, "a"));
}

#[test]
fn a_phase_ends_early_on_a_host() {
    let (ended, recap) = run(r#"
- phase: one
  hosts: all
  tasks:
  - {name: t1, debug: {msg: x}, changed_when: true, notify: h}
  - block:
    - meta: end_host
      when: eq inventory_hostname "b"
    - {name: t2, debug: {msg: x}}
    always:
    - {name: t3, debug: {msg: x}}
  - {name: t4, debug: {msg: x}}
  handlers: [{name: h, debug: {msg: x}}]
- phase: two
  hosts: all
  tasks: [{name: t5, debug: {msg: x}}]
"#);
    for h in ["a", "c"] {
        assert_eq!(done(&ended, h), ["t1", "t2", "t3", "t4", "h", "t5"]);
    }
    assert_eq!(done(&ended, "b"), ["t1", "meta", "t5"]);
    assert!(recap.hosts.iter().all(|(_, c)| c.failed + c.blocked == 0));
}

#[test]
fn who_is_out_does_not_do_what_is_done_once() {
    for out in ["{meta: end_host}", "{name: out, assert: {that: [false]}}"] {
        let (ended, recap) = run(&format!(
            r#"
- phase: one
  hosts: all
  tasks:
  - block: [{out}]
    when: eq inventory_hostname "a"
  - {{name: once, run_once: true, set_fact: {{x: 1}}}}
  - {{name: t, assert: {{that: [eq x 1]}}}}
"#
        ));
        assert_eq!(done(&ended, "a").len(), 1, "{ended:?}");
        assert_eq!((done(&ended, "b"), done(&ended, "c")), (vec!["once", "t"], vec!["t"]), "{ended:?}");
        let others = &recap.hosts[1..];
        assert!(others.iter().all(|(_, c)| c.failed + c.blocked == 0), "{:?}", recap.hosts);
    }
}

#[test]
fn what_fails_once_has_failed_for_all() {
    let (ended, recap) = run(r#"
- phase: one
  hosts: all
  tasks:
  - {name: once, run_once: true, assert: {that: [false]}}
  - {name: t, debug: {msg: x}}
"#);
    assert_eq!((done(&ended, "a"), done(&ended, "b"), done(&ended, "c")), (vec!["once"], vec![], vec![]));
    assert_eq!(recap.hosts.iter().map(|(_, c)| c.blocked).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_rescue_is_done_once_where_it_is_called() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  tasks:
  - block: [{name: main, assert: {that: [eq inventory_hostname "a"]}}]
    rescue: [{name: once, run_once: true, set_fact: {x: 1}}, {name: t, assert: {that: [eq x 1]}}]
"#);
    assert_eq!(done(&ended, "a"), ["main"]);
    assert_eq!((done(&ended, "b"), done(&ended, "c")), (vec!["main", "once", "t"], vec!["main", "t"]));
}

#[test]
fn a_handler_that_is_done_once_is_done_by_the_first_that_was_notified() {
    let (ended, recap) = run(r#"
- phase: one
  hosts: all
  tasks:
  - {name: t, debug: {msg: x}, changed_when: ne inventory_hostname "a", notify: h}
  - meta: flush_handlers
  - {name: u, debug: {msg: x}}
  handlers:
  - {name: h, debug: {msg: x}, run_once: true}
"#);
    assert_eq!(
        (done(&ended, "a"), done(&ended, "b"), done(&ended, "c")),
        (vec!["t", "u"], vec!["t", "h", "u"], vec!["t", "u"])
    );
    assert!(recap.due.is_empty());
}

#[test]
fn a_handler_that_is_done_once_is_due_on_no_host() {
    let (ended, recap, dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: all
  tasks:
  - {name: t, shell: echo t >> DIR/out, notify: h}
  handlers:
  - {name: h, shell: echo h >> DIR/out, run_once: true}
"#,
    )]);
    assert_eq!(read(&dir, "out"), ["t", "t", "t", "h"], "{ended:?}");
    assert_eq!(recap.due, [""; 0]);
}

#[test]
fn a_phase_or_a_batch_ends_early_for_all() {
    let book = |kind: &str| {
        format!(
            r#"
- phase: one
  hosts: all
  serial: 2
  tasks:
  - {{name: t1, debug: {{msg: x}}}}
  - {{meta: {kind}, when: eq inventory_hostname "a"}}
  - {{name: t2, debug: {{msg: x}}}}
- phase: two
  hosts: all
  tasks: [{{name: t3, debug: {{msg: x}}}}]
"#
        )
    };
    let (ended, _) = run(&book("end_play"));
    assert_eq!(done(&ended, "a"), ["t1", "meta", "t3"]);
    assert_eq!((done(&ended, "b"), done(&ended, "c")), (vec!["t1", "t3"], vec!["t3"]));
    let (ended, _) = run(&book("end_batch"));
    assert_eq!((done(&ended, "b"), done(&ended, "c")), (vec!["t1", "t3"], vec!["t1", "t2", "t3"]));
}

#[test]
fn what_is_taken_in_again_and_again_ends_early_too() {
    let (ended, _, _) = run_here(&[
        (
            "site.yml",
            "- phase: p\n  hosts: a\n  tasks:\n  - {command: \"true\", register: r}\n  - include_tasks: part.yml\n    loop: \"{{list r.rc 1 2}}\"\n  - {name: behind, debug: {msg: x}}\n",
        ),
        (
            "part.yml",
            "- {name: \"before {{item}}\", debug: {msg: x}}\n- {meta: end_host, when: eq item 1}\n- {name: \"after {{item}}\", debug: {msg: x}}\n",
        ),
    ]);
    let names: Vec<&str> = done(&ended, "a").into_iter().filter(|n| n.contains(' ') && !n.contains(':')).collect();
    assert_eq!(names, ["before 0", "after 0", "before 1"]);
    assert!(!done(&ended, "a").contains(&"behind"));
}

#[test]
fn facts_are_asked_for_anew() {
    let (ended, _, dir) = run_here(&[(
        "site.yml",
        "- phase: p\n  hosts: a\n  tasks:\n  - {ping: {}, register: p}\n  - {setup: {filter: ansible_kernel}, register: s}\n  - {shell: \"echo {{p.ping}} {{eq s.ansible_facts.ansible_kernel facts.kernel}} >> DIR/out\"}\n  - {meta: clear_facts}\n  - {meta: reset_connection}\n  - {shell: \"echo {{defined facts.kernel}} >> DIR/out\"}\n",
    )]);
    assert!(ended.iter().all(|(_, _, o)| *o != Outcome::Failed), "{ended:?}");
    assert_eq!(read(&dir, "out"), ["pong true", "true"]);
}

/// Runs it with somebody at the terminal who answers this.
fn answered(
    answers: &[&'static str],
    every_step: bool,
    files: &[(&str, &str)],
) -> (Vec<(String, String, Outcome)>, Vec<String>) {
    PERSON.set((answers.to_vec(), every_step));
    let (ended, _, dir) = run_here(files);
    PERSON.set((vec![], false));
    let done = std::fs::read_to_string(dir.path().join("out")).unwrap_or_default();
    (ended, done.lines().map(str::to_string).collect())
}

#[test]
fn every_change_is_asked_for() {
    let book = "- phase: p\n  hosts: a\n  tasks:\n  - {name: t1, shell: echo 1 >> DIR/out}\n  - {name: t2, shell: echo 2 >> DIR/out, register: r}\n  - {name: seen, command: \"true\", changed_when: false}\n  - {name: t3, shell: echo 3 >> DIR/out}\n  - {name: t4, assert: {that: [r.skipped]}}\n  - {name: t5, shell: echo 5 >> DIR/out}\n";
    let files = [("site.yml", book)];
    let (ended, done) = answered(&["y", "n", "what?", "c"], true, &files);
    assert_eq!(done, ["1", "3", "5"]);
    assert_eq!(outcome(&ended, "a", "t2"), Outcome::Skipped);
    let (_, done) = answered(&["yes", "", "q"], true, &files);
    assert_eq!(done, ["1"]);
    // Nobody is there any more.
    assert_eq!(answered(&["y"], true, &files).1, ["1"]);
}

#[test]
fn somebody_answers_for_all() {
    let book = "- phase: p\n  hosts: all\n  tasks:\n  - {pause: {prompt: who?}, register: p}\n  - {shell: \"echo {{p.user_input}} >> DIR/out\"}\n";
    assert_eq!(answered(&["me"], false, &[("site.yml", book)]).1, ["me", "me", "me"]);
    let (ended, done) = answered(&[], false, &[("site.yml", book)]);
    assert_eq!((outcome(&ended, "a", "pause"), done.len()), (Outcome::Failed, 0));
    let given = book.replace("who?", "who?, answer: you");
    assert_eq!(answered(&[], false, &[("site.yml", &given)]).1, ["you", "you", "you"]);
}

#[test]
fn files_roles_and_playbooks_are_taken_in() {
    let (ended, _, dir) = run_here(&[
        ("site.yml", "- {import_playbook: sub/more.yml, vars: {who: site}, when: ne inventory_hostname \"c\"}\n"),
        (
            "sub/more.yml",
            "- phase: p\n  hosts: all\n  tasks:\n  - include_tasks: part.yml\n    vars: {x: 1}\n  - include_role: {name: r, tasks_from: other}\n    vars: {y: 2}\n",
        ),
        ("sub/part.yml", "- {name: part, assert: {that: [eq x 1, eq who \"site\"]}}\n"),
        (
            "roles/r/tasks/other.yml",
            "- include_tasks: deep.yml\n- {name: other, shell: \"echo {{z}}{{y}} >> DIR/out\", notify: h}\n",
        ),
        ("roles/r/tasks/deep.yml", "- {name: deep, debug: {msg: x}}\n"),
        ("roles/r/defaults/main.yml", "z: 7\n"),
        ("roles/r/handlers/main.yml", "- {name: h, debug: {msg: \"{{z}}\"}}\n"),
    ]);
    assert_eq!(outcome(&ended, "a", "part"), Outcome::Satisfied);
    assert_eq!(outcome(&ended, "a", "r : deep"), Outcome::Satisfied);
    assert_eq!(outcome(&ended, "a", "r : h"), Outcome::Satisfied);
    assert_eq!(outcome(&ended, "c", "part"), Outcome::Skipped);
    assert_eq!(read(&dir, "out"), ["72", "72"]);
}

#[test]
fn what_cannot_be_taken_in_is_said() {
    let book = |tasks: &str| format!("- {{phase: p, hosts: a, tasks: [{tasks}]}}");
    let of =
        |tasks: &str| errors(&[("site.yml", &book(tasks)), ("self.yml", "- include_tasks: self.yml\n")]).join("; ");
    assert!(of("{include_tasks: selv.yml}").starts_with("there is no file "));
    assert!(of("{include_tasks: self.yml}").ends_with("self.yml takes itself in"));
    assert_eq!(of("{include_role: {name: nope}}"), "there is no role `nope`");
    assert_eq!(of("{rescue: [{debug: {msg: x}}]}"), "`rescue` and `always` stand beside a `block`");
    assert_eq!(of("{block: [{debug: {msg: x}}], budgett: x}"), "unknown key `budgett` in a block");
    assert_eq!(of("{debug: {msg: x}, budget: etcd}"), "there is no budget `etcd` in this phase");
    assert_eq!(of("{block: [{debug: {msg: x}}], register: r}"), "`register` is not supported on a block");
    assert_eq!(of("{meta: end_hots}"), "`end_hots` is not a choice of `meta`");
    assert_eq!(
        of("{meta: flush_handlers, when: true}"),
        "`meta: flush_handlers` has no conditions here: it is laid out for all hosts before the run"
    );
}

/// Whether no two of these spans of time overlap, each written as `begin` and `end` lines.
fn overlap(lines: &[String]) -> usize {
    let mut now = 0usize;
    let mut most = 0;
    for l in lines {
        if l.starts_with("begin") {
            now += 1
        } else {
            now -= 1
        }
        most = most.max(now);
    }
    most
}

#[test]
fn a_lock_is_held_through_a_block_and_a_throttle_lets_some_through() {
    let (ended, _, dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: all
  tasks:
  - lock: one-at-a-time
    block:
    - {name: begin, shell: "echo begin >> DIR/out; sleep 0.1"}
    - {name: end, shell: "echo end >> DIR/out"}
  - {name: two, throttle: 2, shell: "echo begin >> DIR/two; sleep 0.2; echo end >> DIR/two"}
"#,
    )]);
    assert!(ended.iter().all(|(_, _, o)| *o == Outcome::Changed), "{ended:?}");
    assert_eq!((read(&dir, "out").len(), overlap(&read(&dir, "out"))), (6, 1));
    assert_eq!((read(&dir, "two").len(), overlap(&read(&dir, "two"))), (6, 2));
}

#[test]
fn whoever_has_a_lock_finds_room_and_a_circle_is_given_up() {
    // One fork: a host that waits for the lock must not keep the one that has it from going on.
    let dir = tempfile::tempdir().unwrap();
    let text = r#"
- phase: one
  hosts: all
  tasks:
  - lock: l
    block:
    - {name: first, command: "true"}
    - block: [{name: broken, assert: {that: [false]}}]
      rescue: [{name: mended, command: "true"}]
    - {name: last, command: "true"}
"#;
    let (program, found) = project(&[("site.yml", text)], HOSTS, &Options::default());
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, _) = perform(program, 1, false, true, dir.path());
    assert_eq!(ended.iter().filter(|(_, t, o)| t == "last" && *o == Outcome::Changed).count(), 3, "{ended:?}");
    // What has the lock waits for a step that wants it.
    let (ended, recap, _dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: [a, b]
  tasks:
  - name: has it
    when: eq inventory_hostname "a"
    lock: l
    block:
    - {name: takes, command: "true"}
    - {name: waits, command: "true", needs: [takes, {task: wants, hosts: b}]}
  - {name: pause, command: sleep 0.3, changed_when: false, needs: []}
  - {name: wants, id: wants, lock: l, command: "true", when: eq inventory_hostname "b"}
"#
        .replace("{name: takes,", "{name: takes, id: takes,")
        .as_str(),
    )]);
    assert_eq!(outcome(&ended, "b", "wants"), Outcome::Failed, "{ended:?}");
    assert_eq!(outcome(&ended, "a", "waits"), Outcome::Blocked);
    assert_eq!(recap.hosts[1].1.failed, 1);
}

#[test]
fn a_phase_that_ends_for_all_begins_nothing_more_and_tidies_up() {
    let (ended, _, dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: all
  any_errors_fatal: true
  tasks:
  - lock: l
    block:
    - {name: begins, shell: "echo x >> DIR/out; sleep 0.2"}
    - {name: fails, command: "false"}
    always:
    - {name: tidies, command: "true"}
"#,
    )]);
    assert_eq!(read(&dir, "out").len(), 1, "{ended:?}");
    // Whoever began tidies up; whoever did not has nothing to tidy up.
    for h in ["a", "b", "c"] {
        let begun = outcome(&ended, h, "begins") != Outcome::Blocked;
        assert_eq!(outcome(&ended, h, "tidies") == Outcome::Changed, begun, "{ended:?}");
    }
}

const BUDGET: &str = r#"
- phase: one
  hosts: all
  budgets:
    members:
      hosts: all
      size: quorum
      before: "echo before-{{inventory_hostname}} >> DIR/out"
      after: "echo after-{{inventory_hostname}} >> DIR/out; AFTER"
      timeout: 2
      every: 1
      evidence: {who: "echo it is {{inventory_hostname}}"}
      diagnosis: [{match: "it is a", in: who, say: "a is never well"}]
  tasks:
  - {name: asks, budget: members, shell: "true", changed_when: false}
  - {name: restart, budget: members, shell: "echo restart-{{inventory_hostname}} >> DIR/out"}
"#;

#[test]
fn a_budget_is_given_on_only_when_its_probe_passes() {
    let (ended, _, dir) = run_here(&[("site.yml", &BUDGET.replace("AFTER", "true"))]);
    assert!(ended.iter().all(|(_, t, o)| *o == if t == "asks" { Outcome::Satisfied } else { Outcome::Changed }));
    let lines = read(&dir, "out");
    assert_eq!(lines.len(), 9, "{lines:?}");
    for three in lines.chunks(3) {
        let host = three[0].strip_prefix("before-").unwrap();
        assert_eq!(three, [format!("before-{host}"), format!("restart-{host}"), format!("after-{host}")]);
    }
}

#[test]
fn a_budget_that_does_not_come_back_stops_the_others() {
    let (ended, _, dir) = run_here(&[("site.yml", &BUDGET.replace("AFTER", "false"))]);
    let failed = ended.iter().filter(|(_, t, o)| t == "restart" && *o == Outcome::Failed).count();
    assert_eq!(failed, 3, "{ended:?}");
    let restarts = read(&dir, "out").iter().filter(|l| l.starts_with("restart")).count();
    assert_eq!(restarts, 1, "one host was restarted and never came back; the others were left alone");
    let told: Vec<String> = FAILURES.with_borrow(|f| f.iter().map(|(_, f)| f.message.clone()).collect());
    let gone = "budget members: this host is not back: not within 2 s: `echo after-";
    assert_eq!(told.iter().filter(|m| m.starts_with(gone)).count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|m| m.starts_with("budget members is used up: ")).count(), 2, "{told:?}");
}

#[test]
fn a_failure_comes_with_its_evidence_and_what_it_means() {
    let (_, _, _dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: a
  tasks:
  - name: waits
    command: "false"
    retries: 2
    delay: 0
    evidence: {clock: echo it is 1970, mood: "echo {{inventory_hostname}} is fine"}
    diagnosis:
    - {match: "19[0-9][0-9]", in: clock, say: "the clock of {{inventory_hostname}} is wrong"}
    - {match: "is fine", in: clock, say: not this one}
"#,
    )]);
    let f = FAILURES.with_borrow(|f| f[0].1.clone());
    assert_eq!(f.message, "the command ended with exit code 1, 3 times");
    assert_eq!(f.evidence, [("clock".into(), "it is 1970".into()), ("mood".into(), "a is fine".to_string())]);
    assert_eq!(f.hint.as_deref(), Some("the clock of a is wrong"));
}

#[test]
fn tags_that_leave_no_rescue_leave_the_failure() {
    let text = r#"
- phase: one
  hosts: a
  tasks:
  - block:
    - {name: broken, tags: x, assert: {that: [false]}}
    rescue:
    - {name: mend, debug: {msg: x}}
  - {name: next, tags: x, debug: {msg: x}}
"#;
    let options = Options { tags: vec!["x".into()], ..Default::default() };
    let (program, found) = project(&[("site.yml", text)], HOSTS, &options);
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, recap) = super::tests::execute(program, 8, false);
    assert_eq!(outcome(&ended, "a", "broken"), Outcome::Failed, "{ended:?}");
    assert_eq!(outcome(&ended, "a", "next"), Outcome::Blocked, "{ended:?}");
    assert_eq!(recap.hosts[0].1.failed, 1);
}

#[test]
fn a_failure_before_a_block_calls_no_rescue_though_tags_leave_its_tasks_out() {
    let text = r#"
- phase: one
  hosts: a
  tasks:
  - {name: broken, tags: x, assert: {that: [false]}}
  - block:
    - {name: left out, debug: {msg: x}}
    rescue:
    - {name: mend, tags: x, debug: {msg: x}}
  - {name: next, tags: x, debug: {msg: x}}
"#;
    let options = Options { tags: vec!["x".into()], ..Default::default() };
    let (program, _) = project(&[("site.yml", text)], HOSTS, &options);
    let (ended, _) = super::tests::execute(program, 8, false);
    for t in ["mend", "next"] {
        assert_eq!(outcome(&ended, "a", t), Outcome::Blocked, "{t}: {ended:?}");
    }
}

#[test]
fn what_is_done_once_and_fails_calls_the_rescue_of_every_host() {
    for rest in ["", "    - {name: more, debug: {msg: x}}\n"] {
        let (ended, _) = run(&format!(
            r#"
- phase: one
  hosts: all
  tasks:
  - block:
    - {{name: once, run_once: true, assert: {{that: [false]}}}}
{rest}    rescue:
    - {{name: mend, debug: {{msg: x}}}}
  - {{name: next, debug: {{msg: x}}}}
"#
        ));
        for h in ["a", "b", "c"] {
            assert_eq!(outcome(&ended, h, "mend"), Outcome::Satisfied, "{h}: {ended:?}");
            assert_eq!(outcome(&ended, h, "next"), Outcome::Satisfied, "{h}: {ended:?}");
        }
    }
}

#[test]
fn a_host_that_failed_before_a_block_whose_tasks_are_done_once_is_not_rescued() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  tasks:
  - {name: broken, debug: {msg: x}, failed_when: eq inventory_hostname "b"}
  - block:
    - {name: once, run_once: true, debug: {msg: x}}
    rescue:
    - {name: mend, debug: {msg: x}}
  - {name: next, debug: {msg: x}}
"#);
    assert_eq!(outcome(&ended, "b", "mend"), Outcome::Blocked, "{ended:?}");
    assert_eq!(outcome(&ended, "b", "next"), Outcome::Blocked, "{ended:?}");
    assert_eq!(outcome(&ended, "c", "next"), Outcome::Satisfied, "{ended:?}");
}

#[test]
fn a_phase_that_ends_for_all_ends_what_comes_after_a_phase_of_few() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  any_errors_fatal: true
  tasks:
  - {name: t1, id: t1, debug: {msg: x}, failed_when: eq inventory_hostname "a"}
- {phase: two, hosts: a, tasks: [{name: t2, debug: {msg: x}}]}
- {phase: three, hosts: all, tasks: [{name: t3, debug: {msg: x}}]}
"#);
    for h in ["a", "b", "c"] {
        assert_eq!(outcome(&ended, h, "t3"), Outcome::Blocked, "{h}: {ended:?}");
    }
}

#[test]
fn a_phase_needs_all_batches_of_another() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  serial: 2
  tasks:
  - {name: t1, debug: {msg: x}, failed_when: eq inventory_hostname "a"}
- {phase: two, hosts: all, needs: [one], tasks: [{name: t2, debug: {msg: x}}]}
"#);
    assert_eq!(outcome(&ended, "c", "t1"), Outcome::Satisfied, "{ended:?}");
    assert_eq!(outcome(&ended, "c", "t2"), Outcome::Blocked, "{ended:?}");
}

#[test]
fn a_handler_is_itself_also_where_a_block_flushes_it() {
    let (ended, _) = run(r#"
- phase: one
  hosts: a
  vars: {x: phase}
  tasks:
  - {name: change, debug: {msg: x}, changed_when: true, notify: h}
  - vars: {x: block}
    ignore_errors: true
    block:
    - meta: flush_handlers
  handlers:
  - {name: h, assert: {that: [eq x "phase"]}}
"#);
    assert_eq!(outcome(&ended, "a", "h"), Outcome::Satisfied, "{ended:?}");
}

#[test]
fn a_circle_is_given_up_also_when_who_waits_has_more_to_do() {
    // b waits for the lock of a, and meanwhile another row of it becomes free.
    let (ended, _, _dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: all
  tasks:
  - lock: l
    when: eq inventory_hostname "a"
    block:
    - {name: takes, id: takes, command: "true"}
    - {name: waits, command: "true", needs: [takes, {task: wants, hosts: b}]}
  - {name: slow, id: slow, needs: [], command: sleep 1, changed_when: false, when: eq inventory_hostname "c"}
  - {name: pause, needs: [], command: sleep 0.3, changed_when: false, when: eq inventory_hostname "b"}
  - {name: wants, id: wants, lock: l, command: "true", when: eq inventory_hostname "b"}
  - {name: other row, needs: [takes, {task: slow, hosts: c}], debug: {msg: x}}
"#,
    )]);
    assert_eq!(outcome(&ended, "b", "wants"), Outcome::Failed, "{ended:?}");
    assert_eq!(outcome(&ended, "b", "other row"), Outcome::Satisfied, "{ended:?}");
}

#[test]
fn a_budget_of_the_block_is_not_asked_for_again_inside() {
    let (ended, _, dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: a
  budgets:
    m: {hosts: all, size: 1, before: "echo before >> DIR/out", after: "echo after >> DIR/out", timeout: 2, every: 1}
  tasks:
  - budget: m
    block:
    - {name: stop, command: "true"}
    - {name: start, budget: m, command: "true"}
    - {name: last, shell: "echo last >> DIR/out"}
"#,
    )]);
    assert!(ended.iter().all(|(_, _, o)| matches!(o, Outcome::Changed | Outcome::Satisfied)), "{ended:?}");
    assert_eq!(read(&dir, "out"), ["before", "last", "after"]);
}

#[test]
fn a_loop_from_host_to_host_has_one_of_them_away_at_a_time() {
    let (ended, _, dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: a
  budgets:
    m: {hosts: all, size: 1, before: "echo before >> DIR/out", after: "echo after >> DIR/out", timeout: 2, every: 1}
  tasks:
  - {name: work, budget: m, loop: [b, c], delegate_to: "{{item}}", shell: "echo {{item}} >> DIR/out"}
"#,
    )]);
    assert_eq!(outcome(&ended, "a", "work"), Outcome::Changed);
    assert_eq!(read(&dir, "out"), ["before", "b", "after", "before", "c", "after"]);
}

#[test]
fn a_block_that_is_no_log_keeps_what_its_budget_says() {
    let (_, _, _dir) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: a
  budgets:
    m: {hosts: all, size: 1, after: "echo open sesame now; false", timeout: 1, every: 1, evidence: {e: echo open sesame now}}
  tasks:
  - budget: m
    no_log: true
    block: [{name: stop, command: "true"}]
"#,
    )]);
    let f = FAILURES.with_borrow(|f| f[0].1.clone());
    assert!(f.stdout.is_empty() && f.evidence.is_empty() && !f.message.contains("sesame"), "{f:?}");
}

/// A task or a block, and what becomes of it when each task does what it is told.
#[derive(Debug, Clone)]
enum Item {
    /// By host, whether it fails there.
    Task {
        fails: [bool; 3],
    },
    /// Done by the first host that comes to it; only outside of blocks.
    Once {
        fails: bool,
    },
    Block {
        main: Vec<Item>,
        rescue: Option<Vec<Item>>,
        always: Option<Vec<Item>>,
        locked: bool,
    },
}

const THREE: [&str; 3] = ["a", "b", "c"];

fn items() -> impl Strategy<Value = Vec<Item>> {
    let fails = || proptest::bool::weighted(0.2);
    let task = [fails(), fails(), fails()].prop_map(|fails| Item::Task { fails });
    let item = task.prop_recursive(3, 24, 4, |inner| {
        let list = || proptest::collection::vec(inner.clone(), 1..4);
        (list(), proptest::option::of(list()), proptest::option::of(list()), any::<bool>())
            .prop_map(|(main, rescue, always, locked)| Item::Block { main, rescue, always, locked })
    });
    let once = fails().prop_map(|fails| Item::Once { fails });
    proptest::collection::vec(prop_oneof![4 => item, 1 => once], 1..5)
}

fn write(items: &[Item], indent: usize, next: &mut usize, out: &mut String) {
    let pad = " ".repeat(indent);
    for i in items {
        match i {
            Item::Task { fails } => {
                let here = THREE.iter().zip(fails).filter(|(_, f)| **f);
                let that: Vec<String> = here.map(|(h, _)| format!("ne inventory_hostname \"{h}\"")).collect();
                let what = match that.is_empty() {
                    true => "debug: {msg: x}".to_string(),
                    false => {
                        let all: Vec<String> = that.iter().map(|t| format!("({t})")).collect();
                        format!("debug: {{msg: x}}, failed_when: 'not (and true {})'", all.join(" "))
                    }
                };
                out.push_str(&format!("{pad}- {{name: t{next}, {what}}}\n"));
                *next += 1;
            }
            Item::Once { fails } => {
                out.push_str(&format!("{pad}- {{name: t{next}, run_once: true, assert: {{that: [{}]}}}}\n", !fails));
                *next += 1;
            }
            Item::Block { main, rescue, always, locked } => {
                out.push_str(&format!("{pad}- block:\n"));
                write(main, indent + 2, next, out);
                for (key, list) in [("rescue", rescue), ("always", always)] {
                    if let Some(l) = list {
                        out.push_str(&format!("{pad}  {key}:\n"));
                        write(l, indent + 2, next, out);
                    }
                }
                if *locked {
                    out.push_str(&format!("{pad}  lock: l\n"));
                }
            }
        }
    }
}

/// What Ansible does on one host: the names of the tasks that are run, in order; whether all went well. `once` is what
/// hosts before it have done for all.
fn expect(
    items: &[Item],
    host: usize,
    once: &mut HashSet<String>,
    runs: bool,
    next: &mut usize,
    ran: &mut Vec<String>,
) -> bool {
    let mut ok = runs;
    for i in items {
        match i {
            Item::Task { fails } => {
                if ok {
                    ran.push(format!("t{next}"));
                    ok = !fails[host];
                }
                *next += 1;
            }
            Item::Once { fails } => {
                let name = format!("t{next}");
                if ok {
                    if once.insert(name.clone()) {
                        ran.push(name);
                    }
                    ok = !fails;
                }
                *next += 1;
            }
            Item::Block { main, rescue, always, .. } => {
                let begun = ok;
                let mut well = expect(main, host, once, begun, next, ran);
                if let Some(r) = rescue {
                    let called = begun && !well;
                    let mended = expect(r, host, once, called, next, ran);
                    well = well || (called && mended);
                }
                if let Some(a) = always {
                    well = expect(a, host, once, begun, next, ran) && well;
                }
                ok = begun && well;
            }
        }
    }
    ok && runs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..Default::default() })]
    #[test]
    fn blocks_run_what_ansible_runs(items in items(), forks in 1..4usize) {
        let mut text = String::from("- phase: p\n  hosts: all\n  tasks:\n");
        write(&items, 2, &mut 0, &mut text);
        let (program, found) = super::tests::program(&text, HOSTS);
        prop_assert!(!found.has_errors(), "{}", found.render(false));
        let (ended, recap) = super::tests::execute(program, forks, false);
        let mut once = HashSet::new();
        for (i, host) in THREE.iter().enumerate() {
            let mut ran = vec![];
            let well = expect(&items, i, &mut once, true, &mut 0, &mut ran);
            let was_run = |o: &Outcome| !matches!(o, Outcome::Blocked | Outcome::Skipped);
            let done: Vec<&String> =
                ended.iter().filter(|(h, _, o)| h == host && was_run(o)).map(|(_, t, _)| t).collect();
            prop_assert_eq!(done, ran.iter().collect::<Vec<_>>(), "{}\n{}", host, text);
            let open = recap.hosts[i].1.failed + recap.hosts[i].1.blocked;
            // A host with nothing behind what is done once for it has nothing that is blocked.
            prop_assert!(!well || open == 0, "{}\n{}", host, text);
            prop_assert!(i > 0 || well || open > 0, "{}\n{}", host, text);
        }
    }
}

// ------------------------------------------------------------------------------------------------------- taking in

/// What a run of these files wrote into `out`, line by line.
pub(super) fn wrote(files: &[(&str, &str)]) -> Vec<String> {
    let (ended, recap, dir) = run_here(files);
    assert!(recap.hosts.iter().all(|(_, c)| c.failed + c.blocked == 0), "{ended:?}");
    read(&dir, "out")
}

#[test]
fn a_file_is_taken_in_for_each_item() {
    let say = (
        "say.yml",
        "- {name: \"say {{item}}\", shell: \"echo {{n}}{{item}} >> DIR/out\"}\n- shell: echo - >> DIR/out\n",
    );
    // The list is known before the run, or only in it.
    for list in ["{{things}}", "{{r.stdout_lines}}"] {
        let site = format!(
            r#"
- phase: one
  hosts: a
  vars: {{things: [x, y, z]}}
  tasks:
  - {{shell: printf 'x\ny\nz\n', register: r, changed_when: false}}
  - include_tasks: say.yml
    loop: "{list}"
    loop_control: {{index_var: n}}
    when: ne item "y"
  - shell: echo end >> DIR/out
"#
        );
        assert_eq!(wrote(&[("site.yml", &site), say]), ["0x", "-", "2z", "-", "end"], "{list}");
    }
}

#[test]
fn each_host_has_its_own_turns() {
    let site = r#"
- phase: one
  hosts: [a, b, c]
  vars: {of: {a: [1, 2], b: [], c: [3]}}
  tasks:
  - {include_tasks: say.yml, loop: "{{get of inventory_hostname}}"}
  - {set_fact: {mine: "{{get of inventory_hostname}}"}}
  - {include_tasks: say.yml, loop: "{{mine}}"}
"#;
    let mut out =
        wrote(&[("site.yml", site), ("say.yml", "- shell: echo {{inventory_hostname}}{{item}} >> DIR/out\n")]);
    out.sort();
    assert_eq!(out, ["a1", "a1", "a2", "a2", "c3", "c3"]);
}

#[test]
fn a_template_names_what_is_taken_in() {
    let files = [("one.yml", "- shell: echo 1 {{x}} >> DIR/out\n"), ("two.yml", "- shell: echo 2 {{x}} >> DIR/out\n")];
    for (set, at) in [("{}", "vars: {which: two, x: y}"), ("{which: two, x: y}", "vars: {}")] {
        let site = format!(
            r#"
- phase: one
  hosts: a
  {at}
  tasks:
  - set_fact: {set}
  - include_tasks: "{{{{which}}}}.yml"
  - {{include_tasks: "{{{{item}}}}.yml", loop: [one, two]}}
"#
        );
        let mut all = vec![("site.yml", site.as_str())];
        all.extend(files);
        assert_eq!(wrote(&all), ["2 y", "1 y", "2 y"], "{at}");
    }
}

#[test]
fn turns_inside_turns() {
    let site = r#"
- phase: one
  hosts: a
  tasks:
  - {shell: echo p q, register: r, changed_when: false}
  - {include_tasks: outer.yml, loop: "{{split r.stdout}}", loop_control: {loop_var: o}}
  - {include_tasks: outer.yml, loop: [s], loop_control: {loop_var: o}}
"#;
    let outer = r#"
- {shell: "echo {{o}}1 {{o}}2", register: s, changed_when: false}
- include_tasks: inner.yml
  loop: "{{split s.stdout}}"
- name: guarded
  block:
  - {shell: "test {{o}} != q"}
  rescue:
  - shell: echo rescued {{o}} >> DIR/out
"#;
    let files = [("site.yml", site), ("outer.yml", outer), ("inner.yml", "- shell: echo {{o}}{{item}} >> DIR/out\n")];
    assert_eq!(wrote(&files), ["pp1", "pp2", "qq1", "qq2", "rescued q", "ss1", "ss2"]);
}

#[test]
fn a_failure_ends_the_turns_and_a_rescue_around_them_sees_it() {
    let site = r#"
- phase: one
  hosts: a
  tasks:
  - {shell: echo 1 2 3, register: r, changed_when: false}
  - block:
    - {include_tasks: say.yml, loop: "{{split r.stdout}}"}
    - shell: echo never >> DIR/out
    rescue:
    - shell: echo mended >> DIR/out
  - {include_tasks: say.yml, loop: "{{split r.stdout}}"}
  - {name: after, shell: echo never >> DIR/out}
"#;
    let say = "- shell: echo {{item}} >> DIR/out && test {{item}} != 2\n- shell: echo done {{item}} >> DIR/out\n";
    let (ended, recap, dir) = run_here(&[("site.yml", site), ("say.yml", say)]);
    assert_eq!(read(&dir, "out"), ["1", "done 1", "2", "mended", "1", "done 1", "2"]);
    assert_eq!(outcome(&ended, "a", "after"), Outcome::Blocked);
    assert_eq!((recap.hosts[0].1.failed, recap.hosts[0].1.rescued), (1, 1));
}

#[test]
fn a_condition_is_asked_once_where_the_tasks_change_its_answer() {
    let site = r#"
- phase: one
  hosts: a
  tasks:
  - {set_fact: {there: false}}
  - {include_tasks: make.yml, when: not there}
  - {include_tasks: make.yml, when: not there}
"#;
    let make = "- {set_fact: {there: true}}\n- shell: echo made >> DIR/out\n";
    assert_eq!(wrote(&[("site.yml", site), ("make.yml", make)]), ["made"]);
}

#[test]
fn roles_are_taken_in_by_a_template_and_a_loop() {
    let site = r#"
- phase: one
  hosts: a
  tasks:
  - {shell: echo big small, register: r, changed_when: false}
  - {include_role: {name: "app_{{item}}"}, loop: "{{split r.stdout}}", vars: {size: "{{item}}"}}
  - {include_role: {name: "app_{{item}}"}, loop: [small], vars: {size: "{{item}}"}}
"#;
    let files = [
        ("site.yml", site),
        ("roles/app_big/tasks/main.yml", "- shell: echo B {{size}} >> DIR/out\n  notify: after\n"),
        ("roles/app_big/handlers/main.yml", "- {name: after, shell: echo after >> DIR/out}\n"),
        ("roles/app_small/tasks/main.yml", "- shell: echo S {{size}} >> DIR/out\n"),
    ];
    assert_eq!(wrote(&files), ["B big", "S small", "S small", "after"]);
}

#[test]
fn what_waits_for_a_step_in_turns_waits_for_the_last() {
    let site = r#"
- phase: one
  hosts: [a, b]
  tasks:
  - {shell: echo 1 2 3, register: r, changed_when: false}
  - {include_tasks: say.yml, loop: "{{split r.stdout}}", when: eq inventory_hostname "a"}
  - {shell: "echo b saw {{hostvars.a.got}} >> DIR/out", when: eq inventory_hostname "b"}
"#;
    let say = "- {set_fact: {got: \"{{item}}\"}}\n- shell: sleep 0.1\n";
    assert_eq!(wrote(&[("site.yml", site), ("say.yml", say)]), ["b saw 3"]);
}

#[test]
fn once_for_all_in_many_turns() {
    let site = r#"
- phase: one
  hosts: [a, b]
  tasks:
  - {shell: echo 1 2, register: r, changed_when: false}
  - {include_tasks: say.yml, loop: "{{split r.stdout}}", run_once: true}
  - {shell: "echo end >> DIR/out"}
"#;
    let say = "- shell: echo {{inventory_hostname}}{{item}} >> DIR/out\n";
    assert_eq!(wrote(&[("site.yml", site), ("say.yml", say)]), ["a1", "a2", "end", "end"]);
    let inner = "- {run_once: true, shell: echo x}\n";
    let wrong = site.replace(", run_once: true}", "}");
    assert_eq!(
        errors(&[("site.yml", &wrong), ("say.yml", inner)]),
        ["`run_once` inside what is taken in as often as is known only in the run"]
    );
}

#[test]
fn a_file_that_is_not_there_is_said_before_the_run_where_its_name_is_known() {
    let site = "- phase: one\n  hosts: a\n  vars: {os: debain}\n  tasks:\n  - include_tasks: \"{{os}}.yml\"\n";
    let files = [("site.yml", site), ("debian.yml", "- shell: echo x\n")];
    assert_eq!(errors(&files), ["there is no `debain.yml` to take in"]);
    let wrong = [("site.yml", &*site.replace("debain", "debian")), ("debian.yml", "- shell: echo {{nobody}}\n")];
    assert_eq!(errors(&wrong), ["undefined variable `nobody`"]);
}

#[test]
fn variables_come_from_files_named_by_facts_and_see_each_other() {
    let site = r#"
- phase: one
  hosts: a
  vars: {where: here, what: low}
  roles: [r]
  tasks:
  - {assert: {that: [eq size "big of here", eq what "high"]}}
  - {include_vars: extra/more.yml}
  - {include_vars: {dir: extra, name: all, files_matching: "^m"}}
  - {assert: {that: [eq deep.x 1, eq all.deep.x 1, not (defined all.other)]}}
"#;
    let files = [
        ("site.yml", site),
        (
            "roles/r/tasks/main.yml",
            "- {set_fact: {os: debian}}\n- include_vars: \"{{os}}.yml\"\n- {assert: {that: [eq size \"big of here\"]}}\n",
        ),
        ("roles/r/vars/debian.yml", "base: big\nsize: \"{{base}} of {{where}}\"\nwhat: high\n"),
        ("roles/r/vars/redhat.yml", "size: small\n"),
        ("extra/more.yml", "deep: {x: 1}\n"),
        ("extra/other.yml", "other: 1\n"),
    ];
    assert_eq!(wrote(&files), Vec::<String>::new());
    let wrong = |task: &str| {
        let site = format!("- phase: one\n  hosts: a\n  vars: {{os: debain}}\n  tasks: [{task}]\n");
        errors(&[("site.yml", &site), ("vars/debian.yml", "a: 1\n"), ("vars/bad.yml", "b: \"{{c}}\"\n")]).join("; ")
    };
    assert_eq!(wrong("{include_vars: debain.yml}"), "there is no file `debain.yml`");
    assert_eq!(wrong("{include_vars: \"{{os}}.yml\"}"), "there is no file `debain.yml`");
    assert_eq!(wrong("{include_vars: bad.yml}"), "undefined variable `c` (in the variable `b`)");
    assert_eq!(wrong("{include_vars: {name: x}}"), "`include_vars` needs `file` or `dir`");
}

#[test]
fn facts_of_other_hosts_are_told_before_they_are_read() {
    let book = r#"
- phase: one
  hosts: a
  tasks:
  - {name: other, assert: {that: [eq hostvars.b.facts.kernel facts.kernel, eq hostvars.b.ansible_kernel facts.kernel]}}
  - {name: through, assert: {that: [eq theirs facts.kernel]}}
  - name: each
    assert: {that: ["eq (lookup (lookup (lookup hostvars item) 'facts') 'kernel') facts.kernel"]}
    loop: "{{groups.all}}"
- phase: two
  hosts: b:c
  serial: 1
  tasks:
  - {name: later, assert: {that: [eq hostvars.c.facts.kernel facts.kernel]}}
"#;
    let dir = tempfile::tempdir().unwrap();
    let hosts =
        "all: {hosts: {a: , b: , c: }, vars: {theirs: \"{{between}}\", between: \"{{hostvars.c.facts.kernel}}\"}}";
    let (program, found) = project(&[("site.yml", book)], hosts, &Options::default());
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, recap) = perform(program, 8, false, true, dir.path());
    assert!(!recap.any(|c| c.failed + c.blocked > 0), "{ended:?}");
    assert_eq!(recap.hosts.iter().map(|(_, c)| c.satisfied).collect::<Vec<_>>(), [3, 1, 1]);
}

#[test]
fn facts_of_a_host_that_failed_before_it_told_them_are_missed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let book = r#"
- phase: one
  hosts: all
  tasks:
  - {name: gone, wait_for_connection: {timeout: 1}, when: false}
  - {name: broken, assert: {that: [false]}, delegate_to: localhost, when: eq inventory_hostname "b"}
  - {name: theirs, debug: {msg: "{{hostvars.b.facts.kernel}}"}, when: eq inventory_hostname "a"}
  - {name: others, debug: {msg: "{{hostvars.a.facts.kernel}}"}, when: eq inventory_hostname "c"}
"#;
    let (program, found) = project(&[("site.yml", book)], HOSTS, &Options::default());
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, _) = perform(program, 8, false, true, dir.path());
    assert_eq!(outcome(&ended, "b", "broken"), Outcome::Failed);
    assert_eq!(outcome(&ended, "a", "theirs"), Outcome::Failed);
    assert_eq!(outcome(&ended, "c", "others"), Outcome::Satisfied);
}

#[test]
fn what_an_item_sets_the_next_one_sees() {
    let (ended, _) = run(r#"
- phase: one
  hosts: a
  tasks:
  - set_fact: {row: "{{append (default row (list)) item}}", last: "{{item}}"}
    loop: [1, 2, 3]
    when: ne item 2
  - {name: all, assert: {that: [eq row (list 1 3), eq last 3]}}
"#);
    assert_eq!(outcome(&ended, "a", "all"), Outcome::Satisfied);
}

#[test]
fn an_item_notifies_the_handler_that_is_named_after_it() {
    let (ended, _, _) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: a
  tasks:
  - {command: "echo {{item}}", loop: [x, y, z], changed_when: ne item "y", notify: "restart {{item}}"}
  handlers:
  - {name: restart x, debug: {msg: x}}
  - {name: restart y, debug: {msg: y}}
  - {name: restart z, debug: {msg: z}}
"#,
    )]);
    let done = done(&ended, "a");
    assert!(done.contains(&"restart x") && done.contains(&"restart z") && !done.contains(&"restart y"), "{done:?}");
}

#[test]
fn what_is_done_once_is_known_of_all_at_once() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  tasks:
  - {set_fact: {x: 1}, run_once: true}
  - {name: sees, assert: {that: [eq hostvars.a.x 1, eq hostvars.b.x 1, eq hostvars.c.x 1]}}
"#);
    for host in ["a", "b", "c"] {
        assert_eq!(outcome(&ended, host, "sees"), Outcome::Satisfied);
    }
}

#[test]
fn a_task_with_tries_left_tells_how_many_it_took() {
    let (ended, _, _) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: a
  tasks:
  - {command: echo x, register: r, until: eq r.rc 0}
  - {name: told, assert: {that: eq r.attempts 1}}
"#,
    )]);
    assert_eq!(outcome(&ended, "a", "told"), Outcome::Satisfied);
}

/// Runs a playbook on these hosts, all without a connection.
fn run_on(hosts: &[&str], book: &str) -> Ended {
    let inventory =
        format!("all: {{hosts: {{{}}}}}", hosts.iter().map(|h| format!("{h}: ")).collect::<Vec<_>>().join(", "));
    let (program, found) = super::tests::program(book, &inventory);
    assert!(!found.has_errors(), "{}", found.render(false));
    super::tests::execute(program, 8, false).0
}

#[test]
fn no_batch_is_begun_after_one_that_failed() {
    let hosts = ["a", "b", "c", "d"];
    let all_fail = "{name: t, assert: {that: [false]}}";
    let first_fails = "{name: t, debug: {msg: x}, failed_when: eq inventory_hostname \"a\"}";
    let once_fails = "{name: t, run_once: true, assert: {that: [false]}}";
    let flushed = "{name: t, debug: {msg: x}, changed_when: true, notify: h}\n  - meta: flush_handlers";
    for (tasks, failed) in [(all_fail, "t"), (first_fails, "t"), (once_fails, "t"), (flushed, "h")] {
        let ended = run_on(
            &hosts,
            &format!(
                "- phase: p\n  hosts: all\n  serial: 1\n  tasks:\n  - {tasks}\n  - {{name: u, debug: {{msg: x}}}}\n  handlers: [{{name: h, assert: {{that: [false]}}}}]\n- phase: q\n  hosts: all\n  tasks: [{{name: v, debug: {{msg: x}}}}]\n"
            ),
        );
        assert_eq!(outcome(&ended, "a", failed), Outcome::Failed, "{tasks}");
        for h in &hosts[1..] {
            assert_eq!(done(&ended, h), [""; 0], "{h}: {tasks}");
        }
    }
}

#[test]
fn a_host_lost_in_a_handler_counts_as_one_that_failed() {
    for limit in ["any_errors_fatal: true", "max_fail_percentage: 33", "max_fail_percentage: 33.3"] {
        let site = format!(
            r#"
- phase: one
  hosts: all
  {limit}
  tasks:
  - {{name: t, shell: "true", notify: h}}
  handlers:
  - {{name: h, shell: "kill -9 $PPID", when: eq inventory_hostname "b"}}
- phase: two
  hosts: all
  tasks: [{{name: u, debug: {{msg: x}}}}]
"#
        );
        let (ended, recap, _) = run_here(&[("site.yml", &site)]);
        assert!(recap.hosts[1].1.unreachable, "{ended:?}");
        assert_eq!(outcome(&ended, "a", "u"), Outcome::Blocked, "{limit}");
        let (ended, ..) = run_here(&[("site.yml", &site.replace(limit, "max_fail_percentage: 33.4"))]);
        assert_eq!(outcome(&ended, "a", "u"), Outcome::Satisfied);
    }
}

#[test]
fn who_stops_a_run_that_fails_fast_has_stopped_it() {
    let book = "- phase: p\n  hosts: a\n  tasks:\n  - {name: t1, shell: \"true\"}\n  - {name: t2, debug: {msg: x}}\n";
    let (program, _) = project(&[("site.yml", book)], HOSTS, &Options::default());
    let dir = tempfile::tempdir().unwrap();
    PERSON.set((vec!["q"], true));
    let (_, recap) = perform(program, 8, true, true, dir.path());
    PERSON.set((vec![], false));
    assert!(recap.interrupted);
    let (program, _) = project(
        &[("site.yml", &book.replace("shell: \"true\"", "assert: {that: [false]}"))],
        HOSTS,
        &Options::default(),
    );
    assert!(!perform(program, 8, true, true, dir.path()).1.interrupted);
}

#[test]
fn a_command_that_failed_notifies_nobody() {
    let task = |keys: &str| {
        let site = format!(
            r#"
- phase: one
  hosts: a
  tasks:
  - block:
    - {{name: t, {keys}, notify: h}}
    rescue:
    - {{name: mended, debug: {{msg: x}}}}
  handlers: [{{name: h, debug: {{msg: x}}}}]
"#
        );
        let (ended, recap, _) = run_here(&[("site.yml", &site)]);
        assert_eq!(recap.due, [""; 0]);
        assert_eq!(outcome(&ended, "a", "mended"), Outcome::Satisfied, "{keys}");
        done(&ended, "a").contains(&"h")
    };
    assert!(!task("shell: \"false\""));
    assert!(!task("shell: \"true\", changed_when: false, failed_when: true"));
    assert!(!task("file: {path: DIR/x, state: touch}, changed_when: false, failed_when: true"));
    // Some of it was done.
    assert!(task("shell: \"test {{item}} = 1\", loop: [1, 2]"));
    assert!(task("file: {path: DIR/x, state: touch}, failed_when: true"));
    assert!(task("shell: sleep 9, timeout: 1"));
    let site = "- phase: p\n  hosts: a\n  tasks: [{name: t, shell: \"false\", notify: h}]\n  handlers: [{name: h, debug: {msg: x}}]\n";
    assert_eq!(run_here(&[("site.yml", site)]).1.due, [""; 0]);
}

#[test]
fn a_handler_notifies_those_above_it_and_below() {
    let site = r#"
- phase: p
  hosts: a
  tasks:
  - {name: t, shell: echo t >> DIR/out, notify: [c, a]}
  handlers:
  - {name: a, shell: echo a >> DIR/out}
  - {name: b, shell: echo b >> DIR/out, listen: topic}
  - {name: c, shell: echo c >> DIR/out, notify: [a, topic, d]}
  - {name: d, shell: echo d >> DIR/out}
"#;
    let (_, recap, dir) = run_here(&[("site.yml", site)]);
    assert_eq!(read(&dir, "out"), ["t", "a", "c", "d", "a", "b"]);
    assert_eq!(recap.due, [""; 0]);
    // As far up as it goes; itself it does not call.
    let site = r#"
- phase: p
  hosts: a
  tasks:
  - {name: t, shell: echo t >> DIR/out, notify: z}
  handlers:
  - {name: x, shell: echo x >> DIR/out, notify: x}
  - {name: y, shell: echo y >> DIR/out, notify: x}
  - {name: z, shell: echo z >> DIR/out, notify: "{{both}}"}
  vars: {both: [y, x]}
"#;
    let (_, recap, dir) = run_here(&[("site.yml", site)]);
    assert_eq!(read(&dir, "out"), ["t", "z", "x", "y", "x"]);
    assert_eq!(recap.due, [""; 0]);
    let wrong = site.replace("[y, x]", "[y, w]");
    assert_eq!(errors(&[("site.yml", &wrong)]), ["no handler `w` in this phase"]);
}

#[test]
fn a_time_limit_holds_for_what_waits() {
    for (task, begins) in [
        ("wait_for: {path: DIR/never, timeout: 12}, timeout: 1", "did not end within 1 s"),
        ("pause: {seconds: 12}, timeout: 1", "did not end within 1 s"),
        ("shell: sleep 12, async: 60, poll: 1, timeout: 1", "did not end within 1 s"),
        ("wait_for: {path: DIR/never, timeout: 1, sleep: 1}, timeout: 12", "waited 1 s in vain"),
    ] {
        let begun = Instant::now();
        FAILURES.set(vec![]);
        run_here(&[("site.yml", &format!("- phase: p\n  hosts: a\n  tasks: [{{{task}}}]\n"))]);
        let said = FAILURES.with_borrow(|f| f[0].1.message.clone());
        assert!(said.starts_with(begins), "{task}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{task}");
    }
}

#[test]
fn who_stops_a_wait_is_told_the_truth() {
    let site = "- phase: p\n  hosts: a\n  tasks: [{name: t, wait_for: {path: DIR/never, timeout: 600, sleep: 1}, register: r, ignore_errors: true}]\n";
    FAILURES.set(vec![]);
    INTERRUPT.set(Some((Duration::from_millis(1200), false)));
    run_here(&[("site.yml", site)]);
    INTERRUPT.set(None);
    let said = FAILURES.with_borrow(|f| f[0].1.message.clone());
    assert!(said.starts_with("the run was stopped after 1 s"), "{said}");
}

#[test]
fn who_leaves_a_run_leaves_no_job() {
    let site =
        "- phase: p\n  hosts: a\n  tasks: [{name: t, shell: \"sleep 3; touch DIR/went_on\", async: 60, poll: 1}]\n";
    INTERRUPT.set(Some((Duration::from_millis(1300), true)));
    let begun = Instant::now();
    let (_, recap, dir) = run_here(&[("site.yml", site)]);
    INTERRUPT.set(None);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(recap.interrupted);
    std::thread::sleep(Duration::from_secs(4).saturating_sub(begun.elapsed()));
    assert!(!dir.path().join("went_on").exists());
}

#[test]
fn those_who_are_left_in_a_phase() {
    let (ended, _) = run(r#"
- phase: one
  hosts: all
  tasks:
  - {name: t, id: t, debug: {msg: x}, failed_when: eq inventory_hostname "b"}
  - {name: u, needs: [{task: t, hosts: "a:c"}], debug: {msg: x}, when: eq inventory_hostname "a"}
- phase: two
  hosts: all
  tasks:
  - name: left
    assert:
      that:
      - eq (join ansible_play_hosts "") "ac"
      - eq (join play_hosts "") "ac"
      - eq (join ansible_play_hosts_all "") "abc"
"#);
    assert_eq!(outcome(&ended, "a", "left"), Outcome::Satisfied);
}

#[test]
fn the_tries_are_counted_as_ansible_does() {
    let (ended, _, _) = run_here(&[(
        "site.yml",
        r#"
- phase: one
  hosts: a
  tasks:
  - {command: echo x, register: r, until: eq r.rc 1, retries: 2, delay: 0, ignore_errors: true}
  - {name: told, assert: {that: eq r.attempts 2}}
"#,
    )]);
    assert_eq!(outcome(&ended, "a", "told"), Outcome::Satisfied);
}
