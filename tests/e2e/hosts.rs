//! Several hosts: phases, who waits for whom, what a failure stops, ways through other hosts.

use crate::kit::{Case, Ran};

tests!(
    failure_stays_on_its_host,
    phases_and_needs,
    limit,
    hostvars,
    needs_of_other_hosts,
    unreachable_host,
    one_apply_at_a_time,
    through_another_host,
    through_ssh_config,
    local_connection,
    unknown_host_key,
);

fn failure_stays_on_its_host() {
    let c = Case::nodes(2, "branches").playbook(
        "
        - phase: first
          hosts: all
          tasks:
            - name: breaks
              command: 'false'
              when: eq inventory_hostname \"node1\"
            - {name: after, command: 'true'}
        - phase: second
          hosts: all
          needs: [{phase: first, scope: host}]
          tasks:
            - {name: next, command: 'true'}
        - phase: third
          hosts: all
          needs: [first]
          tasks:
            - {name: together, command: 'true'}
        - phase: apart
          hosts: all
          needs: []
          tasks:
            - {name: free, command: 'true'}
        ",
    );
    let ran = c.apply().exits(1).has(1, "failed");
    let on = |task: &str| -> Vec<String> {
        let mut v: Vec<String> =
            ran.steps(task).iter().map(|e| format!("{} {}", text(&e["host"]), text(&e["outcome"]))).collect();
        v.sort();
        v
    };
    assert_eq!(on("after"), ["node1 blocked", "node2 changed"], "{}", ran.text());
    assert_eq!(on("next"), ["node1 blocked", "node2 changed"], "{}", ran.text());
    assert_eq!(on("together"), ["node1 blocked", "node2 blocked"], "{}", ran.text());
    assert_eq!(on("free"), ["node1 changed", "node2 changed"], "{}", ran.text());
    let again = text(&ran.events.last().unwrap()["again"]);
    assert!(again.starts_with("windlass apply site.yml -i hosts.yml"), "{again}");
}

fn text(v: &serde_json::Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

fn phases_and_needs() {
    let c = Case::nodes(2, "phases").playbook(
        "
        - phase: base
          hosts: all
          tasks:
            - {name: base, shell: date +%s%N, register: base}
        - phase: servers
          hosts: node1
          tasks:
            - {name: server, shell: date +%s%N, register: server}
        - phase: agents
          hosts: node2
          tasks:
            - {name: agent, shell: date +%s%N, register: agent}
        ",
    );
    let ran = c.apply().changed(4);
    let at = |task: &str| -> Vec<u64> {
        let out = |e: &&serde_json::Value| text(&e["parts"][0]["output"]["stdout"]).trim().parse().unwrap();
        ran.steps(task).iter().map(out).collect()
    };
    assert!(at("base").iter().all(|t| *t < at("server")[0]), "{}", ran.text());
    assert!(at("server")[0] < at("agent")[0], "{}", ran.text());
}

fn limit() {
    let c = Case::nodes(3, "limit").tasks("- {name: here, command: 'true'}");
    let hosts = |ran: Ran| -> String {
        let mut h: Vec<String> = ran.steps("here").iter().map(|e| text(&e["host"])).collect();
        h.sort();
        h.join(" ")
    };
    assert_eq!(hosts(c.apply().changed(3)), "node1 node2 node3");
    assert_eq!(hosts(c.apply_with(&["-l", "node2"]).changed(1)), "node2");
    assert_eq!(hosts(c.apply_with(&["--limit", "all:!node2"]).changed(2)), "node1 node3");
    assert_eq!(hosts(c.apply_with(&["--limit", "node1,node2"]).changed(2)), "node1 node2");
    assert_eq!(hosts(c.apply_with(&["--forks", "1"]).changed(3)), "node1 node2 node3");
    c.apply_with(&["-l", "nobody"]).exits(3).says("nobody");
}

fn hostvars() {
    let c = Case::nodes(2, "hostvars").playbook(
        "
        - phase: server
          hosts: node1
          tasks:
            - {name: token, shell: sleep 1; cat /etc/machine-id, register: token, changed_when: false}
            - set_fact: {url: 'https://{{ansible_host}}:6443'}
        - phase: agents
          hosts: node2
          needs: []
          tasks:
            - name: join
              copy: {content: '{{hostvars.node1.token.stdout}} {{hostvars.node1.url}}', dest: /srv/join}
        ",
    );
    c.on(2, "mkdir -p /srv; rm -f /srv/join").succeeds();
    c.apply().changed(1);
    let id = c.on(1, "cat /etc/machine-id").stdout();
    c.on(2, "cat /srv/join").prints(&format!("{id} https://{}:6443", c.address(1)));
    c.apply().changed(0);
}

fn needs_of_other_hosts() {
    let c = Case::nodes(3, "needs").tasks(
        "
        - name: ready
          shell: '[ {{inventory_hostname}} != node3 ] || sleep 1; date +%s%N'
          id: ready
        - name: quorum
          shell: date +%s%N
          needs: {task: ready, hosts: all}
        - name: free
          shell: date +%s%N
          needs: []
        ",
    );
    let ran = c.apply().changed(9);
    let at = |task: &str| -> Vec<u64> {
        ran.steps(task).iter().map(|e| text(&e["parts"][0]["output"]["stdout"]).trim().parse().unwrap()).collect()
    };
    assert!(at("ready").iter().max() < at("quorum").iter().min(), "{}", ran.text());
}

fn unreachable_host() {
    let c = Case::anywhere("unreachable");
    let hosts = std::fs::read_to_string(c.path().join("hosts.yml")).unwrap();
    // Nothing listens on port 4.
    let lost = format!("{hosts}    lost: {{ansible_host: {}, ansible_port: 4}}\n", c.address(1));
    let c = c.file("hosts.yml", lost).tasks("- {name: one, command: 'true'}\n- {name: two, command: 'true'}");
    let ran = c.apply().exits(4).has(2, "changed").has(2, "blocked").says("refused");
    assert!(text(&ran.events.last().unwrap()["again"]).ends_with("--limit lost"), "{}", ran.text());
    c.windlass(&["ping", "all", "-i", "hosts.yml"]).exits(4).says("node1").says("lost");
}

fn one_apply_at_a_time() {
    let c = Case::anywhere("twice").tasks(
        "
        - name: slow
          shell: touch /srv/twice; while [ -e /srv/twice ]; do sleep 0.1; done
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/twice").succeeds();
    let first = c.spawn("apply", &[]);
    c.until("test -e /srv/twice");
    c.apply().exits(4).says("another apply is at work on this host");
    c.apply_with(&["-u", "deploy", "-b"]).exits(4).says("another apply is at work on this host");
    // Looking is allowed meanwhile.
    c.plan().exits(2);
    c.on_node("rm /srv/twice").succeeds();
    Ran::of(c.wait(first), "first apply".into()).changed(1);
    let c = c.tasks("- {name: after, command: 'true'}");
    c.apply().changed(1);
}

fn through_another_host() {
    let c = Case::nodes(2, "jump");
    let (one, two) = (c.address(1), c.address(2));
    let vars = format!("ansible_ssh_common_args: '-o ProxyJump=deploy@{one}'");
    let c = c.inventory(&vars).tasks("- {name: from, shell: 'echo $SSH_CLIENT', register: from, changed_when: false}");
    // Node2 lets nobody in but node1.
    let ran = c.apply_with(&["-l", "node2"]).changed(0);
    assert_eq!(
        text(&ran.step("from")["parts"][0]["output"]["stdout"]).split(' ').next(),
        Some(one.to_string().as_str())
    );
    c.windlass(&["ping", "node2", "-i", "hosts.yml"]).exits(0).says("node2");
    let _ = two;
}

fn through_ssh_config() {
    let c = Case::nodes(2, "sshconfig");
    let (one, two) = (c.address(1), c.address(2));
    let config = format!(
        "Host inner\n  HostName {two}\n  ProxyJump deploy@bastion\nHost bastion\n  HostName {one}\nHost *\n  User root\n  \
         IdentityFile {}\n  UserKnownHostsFile {}\n",
        c.key().display(),
        c.known_hosts().display()
    );
    let home = c.path().join("home");
    let c = c
        .file("home/.ssh/config", config)
        .file("hosts.yml", "all: {hosts: {inner: {}}}\n")
        .env("HOME", &home.display().to_string())
        .tasks("- {name: from, shell: 'echo $SSH_CLIENT', register: from, changed_when: false}");
    let ran = c.apply().changed(0);
    assert_eq!(
        text(&ran.step("from")["parts"][0]["output"]["stdout"]).split(' ').next(),
        Some(one.to_string().as_str())
    );
}

fn local_connection() {
    let c = Case::anywhere("local");
    let here = c.path().join("made here");
    let c = c.file("hosts.yml", "all: {hosts: {here: {ansible_connection: local}}}\n").tasks(&format!(
        "
        - name: file
          copy: {{content: x, dest: '{0}', mode: '0600'}}
        - name: look
          command: cat '{0}'
          register: look
          changed_when: false
        - name: tell
          debug: {{msg: '{{{{look.stdout}}}}'}}
        ",
        here.display()
    ));
    c.plan().exits(2);
    c.apply().changed(1).said("tell", "x");
    c.apply().changed(0);
    assert_eq!(std::fs::read_to_string(here).unwrap(), "x");
}

fn unknown_host_key() {
    let c = Case::anywhere("hostkey");
    let hosts = std::fs::read_to_string(c.path().join("hosts.yml")).unwrap();
    let own = c.path().join("known");
    let hosts: String = hosts
        .lines()
        .map(|l| {
            if l.contains("windlass_known_hosts") {
                format!("    windlass_known_hosts: {}\n", own.display())
            } else {
                format!("{l}\n")
            }
        })
        .collect();
    let home = c.path().display().to_string();
    let c = c.file("hosts.yml", hosts).env("HOME", &home).tasks("- {name: one, command: 'true'}");
    c.apply().exits(4).says("host key").has(1, "blocked");
    c.apply_with(&["--accept-new-host-keys"]).changed(1);
    c.apply().changed(1);
    // Another key than the known one is never accepted.
    let known = std::fs::read_to_string(&own).unwrap();
    let other = "AAAAC3NzaC1lZDI1NTE5AAAAIEaQ5nUyrNpPBJqFSSLrWRUj5oNkrWcxG2nGXHOPJ5nY";
    let forged: String =
        known.lines().map(|l| format!("{} {other}\n", l.rsplit_once(' ').map_or(l, |(a, _)| a))).collect();
    let c = c.file("known", forged);
    c.apply_with(&["--accept-new-host-keys"]).exits(4).says("host key");
}
