//! iptables, ufw, firewalld: in the node's own network namespace.

use crate::kit::Case;

tests!(iptables, ufw, firewalld);

fn iptables() {
    let c = Case::new("iptables").tasks("- iptables: {chain: INPUT, jump: ACCEPT}");
    c.apply().exits(1).says("no iptables");
    c.on_node("apt-get -qq update; apt-get install -qqy iptables >/dev/null 2>&1; iptables -w -S >/dev/null")
        .succeeds();
    let c = c.tasks(
        "
        - name: chain
          iptables: {chain: MINE, chain_management: true}
        - name: web
          iptables: {chain: MINE, protocol: tcp, destination_ports: ['80', '443'], ctstate: NEW, jump: ACCEPT, comment: the web}
        - name: first
          iptables: {chain: MINE, action: insert, source: '!10.0.0.0/8', in_interface: eth9, jump: DROP, ip_version: ipv4}
        - name: both
          iptables: {chain: INPUT, protocol: tcp, destination_port: 9999, jump: REJECT, reject_with: tcp-reset, ip_version: both}
        - name: nat
          iptables: {table: nat, chain: POSTROUTING, out_interface: eth9, jump: MASQUERADE}
        - name: policy
          iptables: {chain: FORWARD, policy: DROP}
        ",
    );
    c.plan().exits(2);
    c.apply().changed(6);
    c.is_satisfied();
    c.on_node("iptables -S MINE; iptables -t nat -S POSTROUTING; iptables -S FORWARD; ip6tables -S INPUT").prints(
        "-N MINE\n-A MINE ! -s 10.0.0.0/8 -i eth9 -j DROP\n-A MINE -p tcp -m multiport --dports 80,443 -m conntrack --ctstate NEW -m comment --comment \"the web\" -j ACCEPT\n\
         -P POSTROUTING ACCEPT\n-A POSTROUTING -o eth9 -j MASQUERADE\n-P FORWARD DROP\n-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 9999 -j REJECT --reject-with tcp-reset",
    );
    c.mends("iptables -F MINE", 2);
    c.mends("iptables -P FORWARD ACCEPT; ip6tables -F INPUT", 2);
    c.ignores("iptables -A MINE -s 1.2.3.4 -j DROP");
    let c = c.tasks(
        "
        - name: web
          iptables: {chain: MINE, protocol: tcp, destination_ports: ['80', '443'], ctstate: NEW, jump: ACCEPT, comment: the web, state: absent}
        - name: flush
          iptables: {chain: MINE, flush: true}
        - name: gone
          iptables: {chain: MINE, chain_management: true, state: absent}
        ",
    );
    c.plan().exits(2);
    c.apply().changed(3);
    c.is_satisfied();
    // Rules with counters of their own, and for fragments.
    let c = c.tasks(
        "
        - name: counted
          iptables: {chain: OUTPUT, protocol: tcp, destination_port: 9998, jump: ACCEPT, set_counters: '5 10'}
        - name: fragments
          iptables: {chain: OUTPUT, destination: 10.99.0.0/16, fragment: true, jump: ACCEPT}
        ",
    );
    c.apply().changed(2);
    c.is_satisfied();
    c.on_node("iptables -S OUTPUT -v | grep -e 9998 -e ' -f '").mentions("--dport 9998 -c 5 10").mentions(" -f ");
    // A rule for a chain that is gone, gone with it.
    let c = c.tasks(
        "
        - iptables: {chain: GONE, protocol: tcp, jump: ACCEPT, state: absent}
        - iptables: {chain: INPUT, protocol: tcp, jump: GONE, state: absent, ip_version: both}
        ",
    );
    c.is_satisfied();
    let c =
        c.tasks("- iptables: {chain: INPUT, protocol: tcp, tcp_flags: {flags: NONSENSE, flags_set: NONE}, jump: DROP}");
    c.plan().exits(1).says("refuses the rule");
}

fn ufw() {
    let c = Case::new("ufw").tasks("- ufw: {state: enabled}");
    c.apply().exits(1).says("no ufw");
    c.on_node("apt-get -qq update; apt-get install -qqy ufw >/dev/null 2>&1; command -v ufw").succeeds();
    let c = c.tasks(
        "
        - name: ssh
          ufw: {rule: allow, to_port: 22, proto: tcp}
        - name: db
          ufw: {rule: allow, from_ip: 10.0.0.0/8, port: '5432', proto: tcp, comment: only here}
        - name: app
          ufw: {rule: allow, name: OpenSSH}
        - name: routed
          ufw: {rule: allow, route: true, interface_in: eth8, interface_out: eth9}
        - name: out
          ufw: {default: reject, direction: routed}
        - name: gone
          ufw: {rule: deny, port: 99, delete: true}
        - name: up
          ufw: {state: enabled, policy: deny, logging: medium}
        ",
    );
    c.plan().exits(2);
    c.apply().changed(6);
    c.is_satisfied();
    c.on_node("ufw status verbose | grep -c 'deny (incoming), allow (outgoing), reject (routed)'; ufw status | grep -c 'only here'; systemctl is-enabled ufw")
        .prints("1\n1\nenabled");
    c.mends("ufw delete allow 22/tcp", 1);
    c.mends("ufw disable", 1);
    c.mends("ufw deny 99", 1);
    c.ignores("ufw allow 1234/udp");
    c.on_node("ufw status | grep -c '^99 '; true").prints("0");
    let c = c.tasks("- ufw: {rule: allow, to_port: 99999}");
    c.plan().exits(1).says("Bad port");
    let c = c.tasks("- name: r\n  ufw: {state: reloaded}");
    c.apply().changed(0);
    let c = c.tasks("- ufw: {state: reset}");
    c.plan().changes(1);
    c.apply().changed(1);
    c.is_satisfied();
}

fn firewalld() {
    let c = Case::new("firewalld").tasks("- firewalld: {service: https, state: enabled}");
    c.apply().exits(1).says("no firewalld");
    c.on_node("apt-get -qq update; apt-get install -qqy firewalld >/dev/null 2>&1; systemctl start firewalld; firewall-cmd -q --add-service=ssh; firewall-cmd --state")
        .succeeds();
    let c = c.tasks(
        "
        - name: zone
          firewalld: {zone: mine, state: present, permanent: true}
        - name: target
          firewalld: {zone: mine, state: present, permanent: true, target: DROP}
        - name: service
          firewalld: {service: https, state: enabled, permanent: true, immediate: true}
        - name: port
          firewalld: {port: 8000-8010/tcp, state: enabled}
        - name: rich
          firewalld: {rich_rule: 'rule family=\"ipv4\" source address=\"10.0.0.0/8\" accept', state: enabled, permanent: true, zone: public}
        - name: source
          firewalld: {source: 10.9.0.0/16, zone: trusted, state: enabled, permanent: true}
        - name: forward
          firewalld: {port_forward: [{port: 80, proto: tcp, toport: 8080}], state: enabled}
        - name: masquerade
          firewalld: {masquerade: true, state: enabled, zone: public, permanent: true}
        - name: dhcp
          firewalld: {service: dhcpv6-client, state: disabled, permanent: true}
        ",
    );
    c.plan().exits(2);
    c.apply().changed(9);
    c.is_satisfied();
    c.on_node("firewall-cmd --permanent --zone=public --list-services; firewall-cmd --list-ports; firewall-cmd --permanent --zone=mine --get-target; firewall-cmd --list-forward-ports")
        .prints("https ssh\n8000-8010/tcp\nDROP\nport=80:proto=tcp:toport=8080:toaddr=");
    c.mends("firewall-cmd -q --remove-service=https; firewall-cmd -q --permanent --zone=public --remove-masquerade", 2);
    c.ignores("firewall-cmd -q --add-port=1/tcp");
    let c = c.tasks("- firewalld: {service: nonsense, state: enabled}");
    c.plan().exits(1).says("INVALID_SERVICE");
    let c = c.tasks("- firewalld: {service: nonsense, state: enabled, permanent: true}");
    c.plan().exits(1).says("INVALID_SERVICE").says("--get-services");
    // What goes wrong only when it is done says why.
    let c =
        c.tasks("- firewalld: {rich_rule: 'rule family=\"ipv4\" service name=\"nonsense\" accept', state: enabled}");
    c.apply().exits(1).says("INVALID_SERVICE");
    // Off, it is still there at the next start.
    c.on_node("systemctl stop firewalld").succeeds();
    let c = c.tasks("- name: s\n  firewalld: {service: http, state: enabled, permanent: true}");
    c.plan().changes(1);
    c.apply().changed(1);
    c.is_satisfied();
    c.on_node("firewall-offline-cmd --list-services").prints("http https ssh");
    c.tasks("- firewalld: {service: http, state: enabled}").plan().exits(1).says("not running");
}
