//! What goes away or hangs in the middle of a task.

use crate::kit::{DONE, FAILED, Project, UNREACHABLE, take};
use std::time::Duration;

tests!(
    a_host_that_dies,
    a_session_that_is_cut,
    a_cut_that_is_survived,
    a_command_that_hangs,
    an_interrupt_ends_what_hangs,
    a_module_that_takes_too_long,
);

/// A long task on the first host alone, and work behind it on both.
const LONG: &str = "tasks:\n- name: before\n  copy: {content: '1', dest: /run/begun}\n- name: long\n  command: {cmd: sleep 300}\n  when: defined long\n- name: after\n  stat: {path: /}\n";

fn a_host_that_dies() {
    let [n, m] = take();
    let p = Project::new(&(n.host("long=true") + &m.host("")), LONG);
    // Without this it takes a minute.
    p.write(".ssh/config", "ServerAliveInterval 2\nServerAliveCountMax 3\n");
    let running = p.spawn(&[]);
    n.until("pgrep -f '[s]leep 300'");
    n.die();
    running
        .wait()
        .exits(UNREACHABLE)
        .says(&[n.name(), "long", "site.yml:6", "lost", "help", "again", "--limit"])
        .counts(n.name(), [0, 1, 0, 2, 0])
        .counts(m.name(), [1, 1, 0, 0, 1])
        .within(20);
    n.start();
    n.run("rm -f /run/begun");
    m.run("rm -f /run/begun");
}

fn a_session_that_is_cut() {
    let [n, m] = take();
    let p = Project::new(&(n.host("long=true") + &m.host("")), LONG);
    let running = p.spawn(&[]);
    n.until("pgrep -f '[s]leep 300'");
    n.run("pkill -KILL -f 'sshd: root@[n]otty'");
    running
        .wait()
        .exits(UNREACHABLE)
        .says(&[n.name(), "long", "site.yml:6", "lost while the command ran", "whether it ran to its end", "--limit"])
        .counts(n.name(), [0, 1, 0, 2, 0])
        .counts(m.name(), [1, 1, 0, 0, 1])
        .within(15);
    n.run("pkill -f '[s]leep 300'; rm -f /run/begun");
    m.run("rm -f /run/begun");
}

/// Between commands a lost connection is made anew, and nobody has to know.
fn a_cut_that_is_survived() {
    let [n] = take();
    let tasks = "tasks:\n- name: begun\n  copy: {content: '1', dest: /run/begun}\n- name: wait\n  wait_for: {path: /run/go, timeout: 60}\n- name: after\n  copy: {content: '2', dest: /run/after}\n";
    let p = Project::new(&n.host(""), tasks);
    let running = p.spawn(&[]);
    n.until("[ -e /run/begun ]");
    std::thread::sleep(Duration::from_millis(500));
    n.run("pkill -KILL -f 'sshd: root@[n]otty'");
    std::thread::sleep(Duration::from_millis(500));
    n.run("touch /run/go");
    running.wait().exits(DONE).counts(n.name(), [1, 2, 0, 0, 0]).within(20);
    n.run("rm -f /run/begun /run/go /run/after");
}

fn a_command_that_hangs() {
    let [n, m] = take();
    let tasks = "tasks:\n- name: hang\n  shell: sleep 301; echo over\n  timeout: 2\n  when: defined hang\n- name: after\n  stat: {path: /}\n";
    let p = Project::new(&(n.host("hang=true") + &m.host("")), tasks);
    p.apply(&[])
        .exits(FAILED)
        .says(&[n.name(), "hang (shell, site.yml:4)", "did not end within 2 s and was stopped", "again", "--limit"])
        .counts(n.name(), [0, 0, 1, 1, 0])
        .counts(m.name(), [1, 0, 0, 0, 1])
        .within(10);
    assert!(!n.attempt("pgrep -f '[s]leep 301'").status.success(), "what was started still runs");
}

fn a_module_that_takes_too_long() {
    let [n] = take();
    let slow = "- name: slow\n  copy: {content: x, dest: /etc/slow, validate: 'sh -c \"sleep 5\" x %s'}\n  timeout: 2\n  ignore_errors: true\n";
    let tasks = format!("tasks:\n{slow}- name: after\n  copy: {{content: x, dest: /etc/after}}\n");
    // The step fails in time; the host goes on when what it had begun is over.
    Project::new(&n.host(""), &tasks)
        .apply(&["-v"])
        .exits(DONE)
        .says(&["slow (copy, site.yml:4)", "did not end within 2 s", "may still be running", "ignored"])
        .counts(n.name(), [0, 1, 0, 0, 0, 1])
        .within(15);
}

/// The first signal lets a command go on; the second ends it, with all it has started, and nothing on the host is held.
fn an_interrupt_ends_what_hangs() {
    let [n] = take();
    n.run("id hanger >/dev/null 2>&1 || useradd -m hanger");
    let cases = [
        ("command: {cmd: sleep 302}", ""),
        // It does not go when it is asked to.
        ("shell: |\n    trap '' TERM\n    sleep 302 & wait; wait", "become: true\n  become_user: hanger"),
    ];
    for (task, keys) in cases {
        let tasks = format!(
            "tasks:\n- name: begun\n  stat: {{path: /}}\n- name: hang\n  {task}\n  {keys}\n- name: after\n  stat: {{path: /etc}}\n"
        );
        let p = Project::new(&n.host(""), &tasks);
        let running = p.spawn(&[]);
        n.until("pgrep -f '[s]leep 302'");
        running.signal("TERM");
        std::thread::sleep(Duration::from_secs(1));
        assert!(n.attempt("pgrep -f '[s]leep 302'").status.success(), "the first signal ends nothing");
        running.signal("INT");
        let ran = running.wait().exits(130).says(&["Ctrl-C again ends it", "what was at work here was ended", "hang"]);
        ran.lacks("UNREACHED").counts(n.name(), [1, 0, 1, 1, 0]).within(12);
        assert!(!n.attempt("pgrep -f '[s]leep 302'").status.success(), "what was started still runs: {task}");
        assert_eq!(n.run("ls -d /dev/shm/.windlass.* 2>/dev/null || true"), "", "{task}: a scratch folder is left");
        p.write("site.yml", "- phase: p\n  hosts: all\n  tasks: [{stat: {path: /}}, {command: \"true\"}]\n");
        p.apply(&[]).exits(DONE).within(3);
    }
    n.run("userdel -r hanger 2>/dev/null || true");
}
