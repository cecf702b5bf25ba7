//! Several hosts that mind each other: delegation, what is done once, budgets, batches, questions before a run.

use crate::kit::Case;

tests!(
    delegation,
    facts_of_others,
    rolling_restart,
    a_member_that_stays_away,
    a_place_that_is_lost_for_all_stages,
    evidence,
    questions,
    rescue_after_a_kill,
    made_in_the_run,
    background,
    taken_in
);

fn delegation() {
    let c = Case::nodes(2, "delegation").tasks(
        "
        - name: once
          shell: echo t-$(date +%s%N)
          register: token
          run_once: true
          changed_when: false
          check_mode: false
        - name: elsewhere
          copy: {content: '{{token.stdout}}', dest: '/srv/delegated-{{inventory_hostname}}'}
          delegate_to: node1
        - name: a block elsewhere
          delegate_to: node1
          block:
            - {name: in it, copy: {content: x, dest: '/srv/delegated-block-{{inventory_hostname}}'}}
        - name: looked at
          stat: {path: /srv/delegated-node1}
        - name: here
          command: uname -n
          delegate_to: localhost
          changed_when: false
          register: controller
          become: false
        - name: own
          debug: {msg: '{{controller.stdout}}'}
        ",
    );
    c.on(1, "rm -f /srv/delegated-*").succeeds();
    c.on(2, "rm -f /srv/delegated-*").succeeds();
    let ran = c.apply().changed(4);
    c.on(1, "ls /srv/delegated-block-*").prints("/srv/delegated-block-node1\n/srv/delegated-block-node2");
    assert_eq!(ran.steps("once").len(), 1, "{}", ran.text());
    let one = c.on(1, "cat /srv/delegated-node1").stdout();
    assert_eq!(one, c.on(1, "cat /srv/delegated-node2").stdout());
    c.on(2, "ls /srv/delegated-* 2>/dev/null | wc -l").prints("0");
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    for step in ran.steps("own") {
        assert_eq!(step["parts"][0]["say"], here.trim(), "{}", ran.text());
    }
}

/// Each host writes down what all the others are, as templates from Ansible do.
fn facts_of_others() {
    let c = Case::nodes(2, "facts-of-others")
        .file(
            "templates/peers.j2",
            "{% for h in groups['all'] | sort %}\n{{ hostvars[h]['ansible_hostname'] }} \
             {{ hostvars[h].ansible_facts.default_ipv4.address }}\n{% endfor %}\n",
        )
        .playbook(
            "
            - phase: begin
              hosts: node2
              tasks:
                - wait_for_connection:
                - debug: {msg: '{{hostvars.node1.facts.hostname}}'}
            - phase: members
              hosts: all
              become: true
              serial: 1
              tasks:
                - name: peers
                  template: {src: peers.j2, dest: /srv/peers}
            ",
        );
    for n in [1, 2] {
        c.on(n, "rm -f /srv/peers").succeeds();
    }
    c.plan().exits(2);
    c.apply().changed(2);
    c.is_satisfied();
    let names: Vec<String> = (1..=2).map(|n| c.on(n, "uname -n").stdout()).collect();
    for n in [1, 2] {
        c.on(n, "cat /srv/peers").mentions(&format!("{} ", names[0])).mentions(&format!("{} ", names[1]));
    }
    assert_eq!(c.on(1, "cat /srv/peers").stdout(), c.on(2, "cat /srv/peers").stdout());
    // One host alone reads nothing of the other: that is said before any host is contacted.
    let c = c.playbook("- {phase: x, hosts: node1, tasks: [{debug: {msg: '{{hostvars.node2.facts.hostname}}'}}]}");
    c.apply().exits(3).says("the host has no part in this run");
}

/// A unit that notes when it goes and when it is back; three nodes; a budget that lets one go at a time.
fn member(after: &str) -> String {
    format!(
        "
        - phase: members
          hosts: all
          budgets:
            members:
              hosts: all
              size: quorum
              before: test ! -e /srv/member-before-fails
              after: {after}
              timeout: 3
              every: 1
              evidence: {{state: systemctl is-active member-test}}
          tasks:
            - name: unit
              copy:
                dest: /etc/systemd/system/member-test.service
                content: |
                  # {{{{generation}}}}
                  [Service]
                  ExecStart=/bin/sleep infinity
                  ExecStartPost=/bin/sh -c 'sleep 0.5; date +%%s%%N >> /srv/member-up'
                  ExecStop=/bin/sh -c 'date +%%s%%N >> /srv/member-down'
              notify: restart
            - systemd: {{name: member-test, state: started, daemon_reload: true}}
          handlers:
            - name: restart
              systemd: {{name: member-test, state: restarted}}
              budget: members
        "
    )
}

fn rolling_restart() {
    let c =
        Case::nodes(3, "rolling").inventory("generation: 1").playbook(&member("systemctl -q is-active member-test"));
    for n in 1..=3 {
        c.on(n, "rm -f /srv/member-*").succeeds();
    }
    c.apply().exits(0);
    c.apply().changed(0);
    for n in 1..=3 {
        c.on(n, "rm -f /srv/member-*").succeeds();
    }
    let c = c.args(&["-e", "generation=2"]);
    c.apply().changed(6);
    let mut away: Vec<(u128, u128)> = (1..=3)
        .map(|n| {
            let at =
                |file: &str| c.on(n, &format!("cat /srv/member-{file}")).stdout().trim().parse().expect("one time");
            (at("down"), at("up"))
        })
        .collect();
    away.sort_unstable();
    for two in away.windows(2) {
        assert!(two[0].1 < two[1].0, "two members were away at once: {away:?}");
    }
    c.apply().changed(0);
    for n in 1..=3 {
        c.on(n, "wc -l < /srv/member-down").prints("1");
        c.on(n, "systemctl stop member-test; rm /etc/systemd/system/member-test.service; systemctl daemon-reload")
            .succeeds();
    }
}

fn a_member_that_stays_away() {
    let c = Case::nodes(3, "stays-away").inventory("generation: 1").playbook(&member("'false'"));
    for n in 1..=3 {
        c.on(n, "rm -f /srv/member-*").succeeds();
    }
    let ran = c.apply().exits(1);
    ran.says("this host is not back: not within 3 s").says("is used up: ").says("active");
    let restarted = (1..=3).filter(|n| c.on(*n, "cat /srv/member-down 2>/dev/null").stdout().trim() != "").count();
    assert_eq!(restarted, 1, "{}", c.traces());
    for n in 1..=3 {
        c.on(n, "systemctl stop member-test; rm /etc/systemd/system/member-test.service; systemctl daemon-reload")
            .succeeds();
    }
}

/// What is laid out behind a `group_by` has the same budgets.
fn a_place_that_is_lost_for_all_stages() {
    let phase = |name: &str, hosts: &str, task: &str| {
        format!(
            "
            - phase: {name}
              hosts: {hosts}
              budgets: {{members: {{hosts: all, size: 1, after: 'false', timeout: 1, every: 1}}}}
              tasks:
                - group_by: {{key: 'is_{{{{inventory_hostname}}}}'}}
                - {{name: {task}, command: touch /srv/lost-{task}, budget: members}}
            "
        )
    };
    let c = Case::nodes(2, "lost-place").playbook(
        &(phase("one", "node1", "first")
            + "
            - {phase: rest, hosts: node2, tasks: [{group_by: {key: 'is_{{inventory_hostname}}'}}]}
            "
            + &phase("two", "is_node2", "second")),
    );
    c.on(2, "rm -f /srv/lost-*").succeeds();
    c.apply().exits(1).says("this host is not back").says("is used up: node1 is not back");
    c.on(2, "test ! -e /srv/lost-second").succeeds();
}

fn evidence() {
    let c = Case::anywhere("evidence").tasks(
        "
        - name: waits
          command: test -e /srv/never-there
          retries: 1
          delay: 0
          changed_when: false
          evidence: {clock: date +%Y, who: id -un}
          diagnosis:
            - {match: '^root$', in: who, say: 'the user is {{inventory_hostname}}-root'}
        ",
    );
    c.apply().exits(1).says("2 times").says("the user is node1-root").says("who");
}

fn questions() {
    let c = Case::anywhere("questions").playbook(
        "
        - phase: ask
          hosts: all
          vars_prompt: [{name: confirm, prompt: the name of the cluster, private: false}]
          tasks:
            - assert: {that: [eq confirm \"lab\"]}
        ",
    );
    c.apply().exits(3).says("answer it with -e confirm=VALUE").says("\n1 error; no host was contacted");
    c.apply_with(&["-e", "confirm=lab"]).exits(0);
    c.apply_with(&["-e", "confirm=other"]).exits(3).says("no host was contacted");
}

/// A run that is killed inside a block is gone on with by the next.
fn rescue_after_a_kill() {
    let c = Case::anywhere("killed-block").tasks(
        "
        - name: guarded
          block:
            - {name: first, copy: {content: a, dest: /srv/killed-first}}
            - {name: slow, command: sleep 20, when: defined slow}
            - {name: second, copy: {content: b, dest: /srv/killed-second}}
          always:
            - {name: swept, file: {path: /srv/killed-mark, state: absent}}
        ",
    );
    c.on_node("rm -f /srv/killed-*; touch /srv/killed-mark").succeeds();
    let mut child = c.spawn("apply", &["-e", "slow=1"]);
    c.until("test -e /srv/killed-first && pgrep -x sleep >/dev/null");
    child.kill().expect("it runs");
    let _ = c.wait(child);
    c.on_node("pkill -x sleep; test -e /srv/killed-mark && test ! -e /srv/killed-second").succeeds();
    c.apply().changed(2);
    c.on_node("test -e /srv/killed-second && test ! -e /srv/killed-mark").succeeds();
    c.apply().changed(0);
}

/// Groups and hosts that the run itself makes: what comes behind is laid out when they are known.
fn made_in_the_run() {
    let c = Case::nodes(2, "made");
    let second = c.address(2);
    let hosts = std::fs::read_to_string(c.path().join("hosts.yml")).unwrap();
    let one: Vec<&str> = hosts.lines().filter(|l| !l.contains("node2:")).collect();
    let c = c
        .file("hosts.yml", one.join("\n"))
        .file("group_vars/os_debian.yml", "color: blue\n")
        .file("group_vars/os_redhat.yml", "color: red\n")
        .file("group_vars/fresh.yml", "color: green\n")
        .playbook(&format!(
            "
            - phase: look
              hosts: all
              tasks:
                - group_by: {{key: 'os_{{{{facts.os.id}}}}'}}
                - {{add_host: {{name: later, groups: fresh, ansible_host: {second}, number: 7}}}}
                - {{set_fact: {{kept: 'of {{{{inventory_hostname}}}}'}}}}
            - phase: systems
              hosts: os_debian
              tasks:
                - {{name: color, copy: {{content: '{{{{color}}}}', dest: /srv/made}}}}
            - phase: others
              hosts: os_redhat
              tasks:
                - {{name: never, copy: {{content: no, dest: /srv/made}}}}
            - phase: new
              hosts: fresh
              tasks:
                - name: number
                  copy: {{content: '{{{{color}}}} {{{{number}}}} {{{{hostvars.node1.kept}}}}', dest: /srv/made}}
            "
        ));
    c.on(1, "rm -f /srv/made").succeeds();
    c.on(2, "rm -f /srv/made").succeeds();
    assert_eq!(c.windlass(&["check", "site.yml", "-i", "hosts.yml"]).code, 0);
    c.plan().changes(2);
    c.apply().changed(2).ended("color", "changed").ended("number", "changed");
    c.on(1, "cat /srv/made").prints("blue");
    c.on(2, "cat /srv/made").prints("green 7 of node1");
    c.apply().changed(0);
    // A host that failed has no part in what comes behind; the others have.
    let book = std::fs::read_to_string(c.path().join("site.yml")).unwrap();
    let c = c.playbook(
        &book
            .replace("- phase: systems", "- {phase: end, hosts: node1, tasks: [{command: 'false'}]}\n- phase: systems"),
    );
    let ran = c.apply().exits(1);
    assert!(ran.steps("color").iter().all(|s| s["outcome"] == "blocked"), "{}", ran.text());
    assert!(ran.steps("number").iter().all(|s| s["outcome"] == "satisfied"), "{}", ran.text());
}

/// Files taken in by facts and by what a command says.
fn taken_in() {
    let c = Case::nodes(2, "taken")
        .file("debian.yml", "- {name: os, copy: {content: '{{facts.os.codename}}', dest: /srv/taken-os}}\n")
        .file("redhat.yml", "- {name: os, copy: {content: no, dest: /srv/taken-os}}\n")
        .file(
            "each.yml",
            "- {name: each, copy: {content: '{{n}} {{item}}', dest: '/srv/taken-{{item}}'}, notify: told}\n",
        )
        .file("vars/debian.yml", "things: ls /srv/things\n")
        .playbook(
            "
            - phase: main
              hosts: all
              tasks:
                - include_vars: '{{facts.os.id}}.yml'
                - {shell: '{{things}}', register: r, changed_when: false, check_mode: false}
                - include_tasks: '{{facts.os.id}}.yml'
                - {include_tasks: each.yml, loop: '{{r.stdout_lines}}', loop_control: {index_var: n}}
              handlers:
                - {name: told, shell: echo told >> /srv/taken-told}
            ",
        );
    c.on(1, "rm -rf /srv/taken-* /srv/things; mkdir /srv/things; touch /srv/things/a /srv/things/b").succeeds();
    c.on(2, "rm -rf /srv/taken-* /srv/things; mkdir /srv/things; touch /srv/things/c").succeeds();
    c.plan().changes(7);
    c.apply().changed(7);
    c.on(1, "cat /srv/taken-a /srv/taken-b /srv/taken-told").prints("0 a1 btold");
    c.on(2, "cat /srv/taken-c /srv/taken-told").prints("0 ctold");
    let again = c.apply().changed(0);
    assert!(again.steps("os").iter().all(|s| s["outcome"] == "satisfied"), "{}", again.text());
    c.on(1, "echo other > /srv/taken-b").succeeds();
    c.apply().changed(2);
}

/// Commands that run on by themselves, waited for by their task, by a later one, or by nobody.
fn background() {
    let c = Case::anywhere("background").tasks(
        "
        - name: waited for
          shell: sleep 2; echo $WHO; cat; echo said >&2
          args: {stdin: 'from stdin'}
          environment: {WHO: me}
          async: 30
          poll: 1
          register: here
        - name: seen
          assert:
            that:
              - eq here.stdout_lines.[0] \"me\"
              - eq here.stdout_lines.[1] \"from stdin\"
              - eq here.stderr \"said\"
        - name: started
          command: sh -c 'sleep 3; touch /srv/background-done; echo $HOME'
          async: 30
          poll: 0
          register: job
        - {name: not yet, stat: {path: /srv/background-done}, register: s}
        - {name: still at it, assert: {that: [not s.stat.exists, eq job.finished 0]}}
        - name: over
          async_status: {jid: '{{job.ansible_job_id}}'}
          register: r
          until: eq r.finished 1
          retries: 20
          delay: 1
        - {name: has said, assert: {that: ['eq r.stdout \"/root\"', eq r.rc 0]}}
        - name: away with it
          async_status: {jid: '{{job.ansible_job_id}}', mode: cleanup}
        ",
    );
    c.on_node("rm -rf /srv/background-done /root/.windlass_async").succeeds();
    c.plan().exits(2);
    c.on_node("test ! -e /root/.windlass_async").succeeds();
    c.apply().changed(3).ended("has said", "satisfied").ended("seen", "satisfied");
    c.on_node("test -e /srv/background-done && test -z \"$(ls /root/.windlass_async)\"").succeeds();
    let c = c.tasks("- {name: slow, command: sleep 60, async: 2, poll: 1}");
    c.apply().exits(1).says("did not end within 2 s and was stopped");
    let c = c.tasks("- {name: fails, shell: 'echo oh no >&2; exit 4', async: 9, poll: 1}");
    c.apply().exits(1).says("exit code 4").says("oh no");
    let c = c.tasks("- {name: unknown, async_status: {jid: '1.2'}}");
    c.apply().exits(1).says("the host knows no job 1.2");
}
