//! Hosts that cannot be reached, or that are not who they should be.

use crate::kit::{Project, Ran, UNREACHABLE, take};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

tests!(a_closed_port, packets_that_vanish, a_silent_port, a_changed_host_key, an_unknown_host_key);

const TASKS: &str = "tasks:\n- name: first\n  stat: {path: /}\n- name: second\n  command: {cmd: 'true'}\n";

/// One host that works and one that does not; the other one finishes, and the message says all there is to say.
#[track_caller]
fn fails(p: &Project, host: &str, good: &str, says: &[&str]) -> Ran {
    let r = p.apply(&["-T", "2"]).exits(UNREACHABLE).says(&[host, "first", "site.yml:4", "help", "again", "--limit"]);
    r.says(says).counts(good, [1, 1, 0, 0, 0]).counts(host, [0, 0, 0, 2, 0]).within(10)
}

fn a_closed_port() {
    let [n] = take();
    let bad = format!("bad ansible_host={} ansible_port=9\n", n.address());
    let p = Project::new(&(n.host("") + &bad), TASKS);
    fails(&p, "bad", n.name(), &["refused", ":9"]);
}

/// A rule of this machine's firewall, gone when dropped.
struct Swallow(Ipv4Addr);

impl Swallow {
    const PORT: &str = "10022";
    fn rule(&self, verb: &str) -> bool {
        let address = self.0.to_string();
        let mut c = Command::new("iptables");
        c.args(["-w", verb, "OUTPUT", "-d", &address, "-p", "tcp", "--dport", Self::PORT, "-j", "DROP"]);
        c.status().is_ok_and(|s| s.success())
    }
}

impl Drop for Swallow {
    fn drop(&mut self) {
        self.rule("-D");
    }
}

fn packets_that_vanish() {
    let [n] = take();
    let rule = Swallow(n.address());
    assert!(rule.rule("-I"), "iptables");
    let bad = format!("bad ansible_host={} ansible_port={}\n", n.address(), Swallow::PORT);
    let p = Project::new(&(n.host("") + &bad), TASKS);
    fails(&p, "bad", n.name(), &["2 s"]);
}

/// Somebody listens and never says a word.
fn a_silent_port() {
    let [n] = take();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let p = Project::new(&(n.host("") + &format!("bad ansible_host=127.0.0.1 ansible_port={port}\n")), TASKS);
    fails(&p, "bad", n.name(), &["2 s"]);
    drop(listener);
}

fn a_changed_host_key() {
    let [n, m] = take();
    let p = Project::new(&(n.host("") + &m.host("windlass_known_hosts=changed")), TASKS);
    // The key of the one under the name of the other.
    let keys = p.lab_known_hosts();
    let line = keys.lines().find(|l| l.starts_with(&n.address().to_string())).expect("its key");
    let key = line.split_once(' ').expect("a key").1;
    p.write("changed", &format!("{} {key}\n", m.address()));
    fails(&p, m.name(), n.name(), &["has changed", "ssh-keygen -R"]);
}

fn an_unknown_host_key() {
    let [n, m] = take();
    let p = Project::new(&(n.host("") + &m.host("windlass_known_hosts=empty")), TASKS);
    p.write("empty", "");
    fails(&p, m.name(), n.name(), &["SHA256:", "--accept-new-host-keys"]);
}
