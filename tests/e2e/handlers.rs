//! Handlers: once, in order, only after a change, and never lost.

use crate::kit::Case;

tests!(once_and_in_order, not_without_a_change, after_a_failed_run, after_a_kill, roles_and_listen);

const PLAYBOOK: &str = "
- phase: main
  hosts: all
  tasks:
    - name: two
      copy: {content: '{{text}}', dest: /srv/h/two}
      notify: second
    - name: one
      copy: {content: '{{text}}', dest: /srv/h/one}
      notify: [first, second]
    - name: breaks
      command: test ! -e /srv/h/broken
      changed_when: false
  handlers:
    - name: first
      shell: echo first >> /srv/h/log
    - name: second
      shell: echo second >> /srv/h/log
    - name: never
      shell: echo never >> /srv/h/log
";

fn case(title: &str) -> Case {
    let c = Case::anywhere(title).playbook(PLAYBOOK).args(&["-e", "text=a"]);
    c.on_node("rm -rf /srv/h; mkdir -p /srv/h").succeeds();
    c
}

fn once_and_in_order() {
    let c = case("once");
    c.plan().exits(2);
    c.apply().changed(4);
    c.on_node("cat /srv/h/log").prints("first\nsecond");
    c.apply().changed(0);
    c.on_node("echo x > /srv/h/two").succeeds();
    c.apply().changed(2);
    c.on_node("cat /srv/h/log").prints("first\nsecond\nsecond");
}

fn not_without_a_change() {
    let c = case("unchanged");
    c.on_node("printf a > /srv/h/one; printf a > /srv/h/two").succeeds();
    c.plan().changes(0);
    c.apply().changed(0);
    c.on_node("test ! -e /srv/h/log").succeeds();
    assert!(c.apply().order("changed").is_empty());
}

fn after_a_failed_run() {
    let c = case("failed");
    c.on_node("touch /srv/h/broken").succeeds();
    let ran = c.apply().exits(1).has(2, "changed").has(1, "failed");
    assert!(ran.stdout.contains("\"due\":["), "{}", ran.text());
    c.on_node("test ! -e /srv/h/log && rm /srv/h/broken").succeeds();
    // Nothing changes any more, and still the handlers run.
    c.apply().changed(2).says("due from a run before");
    c.on_node("cat /srv/h/log").prints("first\nsecond");
    c.apply().changed(0).lacks("due from a run before");
    c.on_node("cat /srv/h/log").prints("first\nsecond");
}

fn after_a_kill() {
    let c = case("killed").file("files/x", "x").playbook(
        "
        - phase: main
          hosts: all
          tasks:
            - name: change
              copy: {content: a, dest: /srv/h/one}
              notify: first
            - name: slow
              shell: touch /srv/h/begun; while [ -e /srv/h/begun ]; do sleep 0.1; done
              changed_when: false
          handlers:
            - name: first
              shell: echo first >> /srv/h/log
        ",
    );
    let mut child = c.spawn("apply", &[]);
    c.until("test -e /srv/h/begun");
    child.kill().expect("a running apply");
    child.wait().expect("a dead apply");
    c.on_node("rm /srv/h/begun").succeeds();
    c.until("flock -n /run/windlass.lock true");
    let c = c.playbook(
        "
        - phase: main
          hosts: all
          tasks:
            - name: change
              copy: {content: a, dest: /srv/h/one}
              notify: first
          handlers:
            - name: first
              shell: echo first >> /srv/h/log
        ",
    );
    c.apply().changed(1).ended("change", "satisfied").ended("first", "changed");
    c.on_node("cat /srv/h/log").prints("first");
    c.apply().changed(0);
}

fn roles_and_listen() {
    let c = Case::anywhere("roles")
        .file("roles/web/tasks/main.yml", "- copy: {src: page, dest: /srv/h/page}\n  notify: restart\n")
        .file("roles/web/files/page", "page\n")
        .file(
            "roles/web/handlers/main.yml",
            "- name: one\n  shell: echo one >> /srv/h/log\n  listen: restart\n- name: two\n  shell: echo two {{word}} >> /srv/h/log\n  listen: restart\n",
        )
        .file("roles/web/defaults/main.yml", "word: default\n")
        .playbook("- {phase: main, hosts: all, roles: [{role: web, word: given}]}\n");
    c.on_node("rm -rf /srv/h; mkdir -p /srv/h").succeeds();
    c.apply().changed(3);
    c.on_node("cat /srv/h/log /srv/h/page").prints("one\ntwo given\npage");
    c.is_satisfied();
}
