//! A sudo that does not let us in.

use crate::kit::{DONE, Node, Project, UNREACHABLE, take};

tests!(a_wrong_password, no_password, the_right_password);

const TASKS: &str = "become: true\ntasks:\n- name: first\n  copy: {content: x, dest: /opt/by-sudo, owner: root}\n- name: second\n  command: {cmd: id -u}\n";

/// How often sudo was given a password that was wrong.
fn refusals(n: &Node) -> usize {
    n.run("journalctl -q --no-pager -o cat -t sudo | grep -c 'authentication failure;' || :")
        .trim()
        .parse()
        .expect("a count")
}

fn a_wrong_password() {
    let [n, m] = take();
    let before = refusals(&n);
    let p = Project::new(&(n.host("ansible_user=sudoer ansible_become_password=wrong") + &m.host("")), TASKS);
    p.apply(&[])
        .exits(UNREACHABLE)
        .says(&[n.name(), "sudo refused the password for becoming root", "not again", "first", "site.yml:5", "--limit"])
        .lacks("wrong")
        .counts(n.name(), [0, 0, 0, 2, 0])
        .counts(m.name(), [0, 2, 0, 0, 0])
        .within(30);
    n.until(&format!(
        "[ $(journalctl -q --no-pager -o cat -t sudo | grep -c 'authentication failure;') -gt {before} ]"
    ));
    assert_eq!(refusals(&n) - before, 1, "tries");
    m.run("rm -f /opt/by-sudo");
}

fn no_password() {
    let [n, m] = take();
    let p = Project::new(&(n.host("ansible_user=sudoer") + &m.host("")), TASKS);
    p.apply(&[])
        .exits(UNREACHABLE)
        .says(&[n.name(), "sudo wants a password for becoming root", "-K", "first", "site.yml:5", "--limit"])
        .counts(n.name(), [0, 0, 0, 2, 0])
        .counts(m.name(), [0, 2, 0, 0, 0])
        .within(10);
    m.run("rm -f /opt/by-sudo");
}

fn the_right_password() {
    let [n] = take();
    let password = windlass::lab::SUDO_PASSWORD;
    let p = Project::new(&n.host(&format!("ansible_user=sudoer ansible_become_password={password}")), TASKS);
    p.apply(&[]).exits(DONE).lacks(password);
    n.run("rm -f /opt/by-sudo");
}
