//! The roles that ready machines for a cluster: preflight, base, firewall, k3s_hardening.

use crate::kit::Case;

tests!(
    bad_ground_is_refused_with_all_findings,
    a_node_is_readied_and_put_right,
    nftables_keeps_a_way_in,
    ufw_keeps_its_own_rules_and_no_others,
    hardening_is_kept,
);

/// Nodes of a cluster, the first a server, and the repository's roles.
fn case(title: &str, nodes: usize, roles: &str) -> Case {
    let agents: String = (2..=nodes).map(|n| format!("node{n}: , ")).collect();
    let groups = format!(
        "all: {{children: {{k3s_cluster: {{children: {{k3s_server: {{hosts: {{node1: }}}}, k3s_agent: {{hosts: {{{agents}}}}}}}}}}}}}\n"
    );
    let c = Case::nodes(nodes, title)
        .file("groups.yml", groups)
        .playbook(&format!("- phase: ready\n  hosts: all\n  become: true\n  roles: [{roles}]\n"))
        // What a machine with the first version of control groups is, here or elsewhere, is none of this test's business.
        .args(&["-i", "groups.yml", "-e", r#"{"preflight_ignore": ["cgroup_v1"]}"#]);
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/roles"), c.path().join("roles")).unwrap();
    c
}

fn bad_ground_is_refused_with_all_findings() {
    let c = case("ground", 2, "preflight");
    c.plan().changes(0);
    c.apply().changed(0);

    let id = c.on(1, "cat /etc/machine-id").stdout();
    c.on(2, &format!("cp /etc/machine-id /root/machine-id && echo {} > /etc/machine-id", id.trim())).succeeds();
    c.on(2, "printf '#!/bin/sh\\necho $(($(/usr/bin/date +%%s) - 500))\\n' > /usr/local/bin/date; chmod 755 /usr/local/bin/date")
        .succeeds();
    c.on(1, "systemd-run -q --unit=hog --socket-property=ListenStream=6443 --socket-property=ListenDatagram=8472 cat")
        .succeeds();
    let vars = r#"{"k3s_version": "v1.30.1+k3s1", "preflight_agent_memory": 99999999, "preflight_min_kernel": "99",
        "k3s_server_config": {"cluster-cidr": "10.0.0.0/8", "service-cidr": "10.96.0.0/12"}, "k3s_vip": "192.0.2.1"}"#;
    let ran = c.apply_with(&["-e", vars]).exits(1);
    for finding in [
        "[machine_id] the same machine-id as node2",
        "[machine_id] the same machine-id as node1",
        "[ports] port 6443/tcp is held by systemd",
        "[ports] port 8472/udp is held by systemd",
        "[clock] the clock is 500 seconds behind the others",
        "[kernel]",
        "[memory]",
        "[networks] the network of pods (10.0.0.0/8) overlaps the network of services (10.96.0.0/12)",
        "[networks] the network of pods (10.0.0.0/8) overlaps the network of host0",
        "[vip] the address 192.0.2.1 is in none of this server's networks",
    ] {
        assert!(ran.text().contains(finding), "expected `{finding}` in:\n{}", ran.text());
    }
    c.plan_with(&["-e", vars]).exits(1);

    let known = r#"{"preflight_ignore": ["cgroup_v1", "machine_id", "clock", "ports"]}"#;
    c.apply_with(&["-e", known]).changed(0);
    c.on(2, "mv /root/machine-id /etc/machine-id; rm /usr/local/bin/date").succeeds();
    c.on(1, "systemctl stop hog.socket").succeeds();
    c.apply().changed(0);
}

fn a_node_is_readied_and_put_right() {
    let c = case("readied", 1, "{role: base, vars: {base_cluster_node: true, base_packages: []}}");
    c.on_node("rm -f /etc/sysctl.d/60-windlass.conf; sysctl -qw net.ipv4.ip_forward=0").succeeds();
    c.apply().exits(0);
    c.is_satisfied();
    c.on_node("cat /proc/sys/net/ipv4/ip_forward").prints("1");
    c.repairs("sysctl -qw net.ipv4.ip_forward=0", 1);
    // Settings of the machine's kernel are not a container's to make.
    c.on_node("grep -c inotify /etc/sysctl.d/60-windlass.conf").prints("0");
}

fn nftables_keeps_a_way_in() {
    let c = case("nftables", 1, "{role: firewall, vars: {firewall_backend: nftables}}");
    c.on_node("rm -f /etc/nftables.d/windlass.nft").succeeds();
    c.apply().exits(0);
    c.is_satisfied();
    // One rule gone, all of them gone: the table is loaded again, and no other is touched.
    c.on_node("nft add table inet other").succeeds();
    let rule = "nft -a list chain inet windlass input | sed -n '/windlass api/s/.*handle //p'";
    c.mends(&format!("nft delete rule inet windlass input handle $({rule})"), 2);
    c.mends("nft delete table inet windlass", 2);
    c.mends("echo '# more' >> /etc/nftables.d/windlass.nft", 3);
    c.on_node("nft delete table inet other").succeeds();

    // Rules that let nobody in are taken back.
    let nobody = r#"{"firewall_ssh_from": ["192.0.2.9"], "firewall_rollback": 14}"#;
    let ran = c.apply_with(&["-e", nobody]).exits(1);
    assert!(ran.text().contains("New connections get in"), "{}", ran.text());
    c.until("! nft list table inet windlass 2>/dev/null");
    c.on_node("systemctl is-enabled windlass-firewall || true").prints("disabled");
    c.apply().exits(0);
    c.is_satisfied();
    c.on_node("systemctl list-timers --all | grep -c windlass").prints("0");
    c.on_node(
        "systemctl -q disable --now windlass-firewall; nft delete table inet windlass; rm /etc/nftables.d/windlass.nft",
    );
}

fn ufw_keeps_its_own_rules_and_no_others() {
    let c = case("ufw", 1, "firewall");
    // Where no firewall is at work, none is set up.
    c.apply().changed(0);
    c.apply_with(&["-e", "firewall_backend=ufw"]).exits(0);
    c.is_satisfied();
    c.on_node("ufw allow 9999/tcp").succeeds();
    c.mends("ufw delete allow 6443/tcp; ufw allow 7777/tcp comment 'windlass old'", 1);
    c.on_node("ufw show added | grep -cE '(6443|9999)/tcp'").prints("2");
    c.on_node("ufw show added | grep -c 7777").prints("0");
    c.on_node("ufw --force reset").succeeds();
}

fn hardening_is_kept() {
    let c = case("hardening", 2, "k3s_hardening");
    for n in [1, 2] {
        c.on(n, "rm -rf /etc/rancher /var/lib/rancher/k3s/server").succeeds();
    }
    c.apply().exits(0);
    c.is_satisfied();
    c.on(1, "stat -c '%a %n' /etc/rancher/k3s/config.yaml.d /etc/rancher/k3s/config.yaml.d/90-hardening.yaml /var/lib/rancher/k3s/server/psa.yaml")
        .prints("700 /etc/rancher/k3s/config.yaml.d\n600 /etc/rancher/k3s/config.yaml.d/90-hardening.yaml\n600 /var/lib/rancher/k3s/server/psa.yaml");
    c.on(2, "test ! -e /var/lib/rancher/k3s/server").succeeds();
    c.repairs("echo x >> /var/lib/rancher/k3s/server/psa.yaml", 1);
    c.repairs("chmod 644 /etc/rancher/k3s/config.yaml.d/90-hardening.yaml", 1);
    // What the cluster's own settings say is left to them; rules that a file holds show in the settings.
    let own = r#"{"k3s_server_config": {"secrets-encryption": false}}"#;
    c.apply_with(&["-e", own]).changed(1);
    c.on(1, "grep -c secrets-encryption /etc/rancher/k3s/config.yaml.d/90-hardening.yaml").prints("0");
    c.apply_with(&["-e", r#"{"k3s_hardening_pod_security": "baseline"}"#]).changed(2);
    for n in [1, 2] {
        c.on(n, "rm -rf /etc/rancher /var/lib/rancher/k3s/server").succeeds();
    }
}
