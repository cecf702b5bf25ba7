//! Redis with Sentinels on three nodes, with clients that write all the while.

use super::kit::{CHANGES, Lab, Node, REFUSED, Written};
use std::time::Duration;

tests!(a_cluster_holds);

const PLAYBOOK: &str = "playbooks/redis.yml";
const CLI: &str = "REDISCLI_AUTH=r-7Kd9qLmW timeout 3 redis-cli -e";

/// The numbers of the keys that begin with this, of what [`Cluster::found`] found.
fn of_prefix(found: &str, prefix: char) -> String {
    found.lines().filter_map(|l| Some(format!("{}\n", l.strip_prefix(prefix)?))).collect()
}

struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn new() -> Self {
        let lab = Lab::new("redis", 3);
        lab.write("groups.yml", "all: {children: {redis: {hosts: {node1: , node2: , node3: }}}}\n");
        lab.write(
            "group_vars/all/main.yml",
            "redis_ha_users:\n  - {name: app, password: \"{{app_password}}\", rules: '~app:* +@all -@dangerous'}\n",
        );
        lab.secrets(
            "redis_ha_password: r-7Kd9qLmW\nredis_ha_sentinel_password: s-0zXcVbN2\napp_password: app-Q1w2E3\n",
        );
        Cluster { lab }
    }

    fn primary(&self, on: &Node) -> Node<'_> {
        let address = on.run("redis-ha primary");
        self.lab.nodes().find(|n| n.address.to_string() == address).expect("a primary")
    }

    /// Another node than these.
    fn other(&self, than: &[&str]) -> Node<'_> {
        self.lab.nodes().find(|n| !than.contains(&n.name)).expect("another node")
    }

    /// Shell for a client on a node: finds the primary, and does this there.
    fn at_primary(&self, script: &str) -> String {
        format!("p=$(redis-ha primary) && {script} | {CLI} -h $p")
    }

    /// The numbers in the list of what was written.
    #[track_caller]
    fn found(&self, on: &Node) -> String {
        on.until(60, "redis-ha healthy");
        on.run(&format!("{CLI} -h $(redis-ha primary) --scan --pattern 'k*' | tr -d k"))
    }

    #[track_caller]
    fn tell(&self, what: &str, on: &Node, written: &Written) -> usize {
        let lost = written.lost(&self.found(on));
        let gap = written.longest_gap.as_secs_f64();
        println!("{what}: {} acknowledged, longest gap {gap:.1} s, lost: {}", written.numbers.len(), lost.len());
        assert!(written.numbers.len() > 20, "{what}: only {} writes", written.numbers.len());
        on.run(&self.at_primary("echo FLUSHALL"));
        lost.len()
    }
}

fn a_cluster_holds() {
    let c = Cluster::new();
    let lab = &c.lab;
    let set = c.at_primary("echo SET k$n $n") + " | grep -qx OK";
    // Also waits until a replica has it.
    let set_wait = c.at_primary("printf 'SET k%s 1\\nWAIT 1 2000\\n' $n") + " | tail -n 1 | grep -q '[12]'";

    // Nothing is there: a plan tells, and fails over nothing.
    lab.plan(PLAYBOOK, &[]).exits(CHANGES);

    // Killed in the middle, then left alone.
    let killed = lab.start("apply", PLAYBOOK, &[]).kill_after(Duration::from_secs(10));
    println!("kill -9 after 10 s: {}", if killed { "still at work" } else { "had ended" });
    // What it had begun on the nodes ends by itself; on a slow machine that takes longer than an apply waits.
    for node in lab.nodes() {
        node.until(
            180,
            "for l in /run/windlass.lock /run/lock/windlass-*.lock; do [ ! -e $l ] || flock -n $l true || exit 1; done",
        );
    }
    let first = lab.apply(PLAYBOOK, &[]).done();
    println!("first apply, the rest of it: {:.0} s", first.took.as_secs_f64());
    let again = lab.apply(PLAYBOOK, &[]).done().changes(&[]);
    println!("second apply: {:.1} s", again.took.as_secs_f64());
    lab.apply("playbooks/redis_verify.yml", &[]).done().changes(&[]);
    for node in lab.nodes() {
        let open = "find /etc/redis /etc/systemd/system /usr/local/sbin /var/backups/redis -perm /o+r -type f \
                    -exec grep -lE 'r-7Kd9|s-0zXc|app-Q1' {} +";
        assert_eq!(node.attempt(open).stdout, b"", "everybody on {} can read a password", node.name);
        let said = node.attempt("journalctl | grep -cE 'r-7Kd9|s-0zXc|app-Q1'").stdout;
        assert_eq!(String::from_utf8_lossy(&said).trim(), "0", "passwords in the journal of {}", node.name);
    }

    // The user may what was said, and no more.
    let app = |command: &str| format!("REDISCLI_AUTH=app-Q1w2E3 redis-cli --user app -h $(redis-ha primary) {command}");
    assert_eq!(lab.node("node2").run(&app("SET app:x 1")), "OK");
    assert!(lab.node("node2").run(&app("SET other:x 1")).contains("NOPERM"));
    assert!(lab.node("node2").run(&app("FLUSHALL")).contains("NOPERM"));

    // Disturbed by hand: exactly that is put right.
    lab.node("node2").run("systemctl stop redis-server");
    lab.node("node3").run("sed -i 's/^user app .*/user app off/' /etc/redis/users_ha.acl");
    lab.node("node1").run("systemctl stop redis-ha-backup.timer");
    lab.node("node1").run(&format!("{CLI} CONFIG SET save ''"));
    lab.apply(PLAYBOOK, &[]).done().changes(&[
        "node1: redis_ha : Backups are made regularly",
        "node1: redis_ha : Redis's settings",
        "node2: redis_ha : Redis runs",
        "node3: redis_ha : Read the users again",
        "node3: redis_ha : Users",
    ]);
    lab.node("node1").until(60, "redis-ha healthy");

    // Planned: to another node, and the client is on the third.
    let primary = c.primary(&lab.node("node1")).name;
    let next = c.other(&[primary]).name;
    let client = c.other(&[primary, next]);
    let promote = format!("promote={next}");
    lab.plan("playbooks/redis_failover.yml", &["-e", &promote]).exits(CHANGES);
    assert_eq!(c.primary(&client).name, primary, "a plan changes nothing");
    let writer = client.writer(&set);
    lab.apply("playbooks/redis_failover.yml", &["-e", &promote]).done();
    std::thread::sleep(Duration::from_secs(1));
    let written = writer.stop();
    assert_eq!(c.primary(&client).name, next);
    lab.apply("playbooks/redis_failover.yml", &["-e", &promote]).done().changes(&[]);
    assert_eq!(c.tell("planned switchover, plain SET", &client, &written), 0);
    assert!(written.longest_gap < Duration::from_secs(10), "{:?}", written.longest_gap);

    // All restart, the primary last.
    let writer = client.writer(&format!("p=$(redis-ha primary || true); {set}"));
    let restart = lab.apply("playbooks/redis_restart.yml", &[]).done();
    println!("rolling restart: {:.0} s", restart.took.as_secs_f64());
    let written = writer.stop();
    assert_eq!(c.tell("rolling restart, plain SET", &client, &written), 0);

    // A replica that has just copied all data refuses to stop while it writes them down, here for some five seconds.
    let primary = c.primary(&client);
    let replica = c.other(&[primary.name]);
    let at = format!("{CLI} -h {}", replica.address);
    replica.run(&format!("for i in $(seq 100); do echo SET kr$i $i; done | {CLI} -h {}", primary.address));
    replica.run(&format!("{at} CONFIG SET rdb-key-save-delay 50000; {at} REPLICAOF NO ONE"));
    replica.run(&format!("{at} REPLICAOF {} 6379", primary.address));
    replica.until(30, &format!("{at} INFO persistence | grep -q aof_rewrite_in_progress:1"));
    let began = std::time::Instant::now();
    replica.run("timeout 60 systemctl restart redis-server");
    println!("restart of a replica that has just copied all data: {:.1} s", began.elapsed().as_secs_f64());
    replica.run("grep -q \"can't exit\" /var/log/redis/redis-server.log");
    replica.until(60, "redis-ha healthy");

    // The power of the primary's node is cut. What WAIT confirmed is on a replica; the one with most becomes the primary.
    let primary = c.primary(&client).name;
    let client = c.other(&[primary]);
    let (plain, waiting) = (client.writer(&set.replace("SET k$n", "SET kp$n")), client.writer(&set_wait));
    std::thread::sleep(Duration::from_secs(3));
    lab.node(primary).die();
    std::thread::sleep(Duration::from_secs(11));
    let (plain, waiting) = (plain.stop(), waiting.stop());
    lab.node(primary).start();
    let found = c.found(&client);
    let own = of_prefix(&found, 'p');
    println!(
        "power cut of the primary's node, plain SET: {} acknowledged, longest gap {:.1} s, lost: {}",
        plain.numbers.len(),
        plain.longest_gap.as_secs_f64(),
        plain.lost(&own).len()
    );
    assert_eq!(c.tell("power cut of the primary's node, SET and WAIT 1", &client, &waiting), 0);
    assert!(waiting.longest_gap < Duration::from_secs(14), "{:?}", waiting.longest_gap);
    lab.apply(PLAYBOOK, &[]).done();

    // What min-replicas-to-write does not promise: a primary that is cut off takes writes until its replicas' last word is
    // older than max-lag; then it refuses. What it took goes when it follows the new primary.
    let cut_off = c.primary(&client);
    let others: Vec<String> = lab.nodes().filter(|n| n.name != cut_off.name).map(|n| n.address.to_string()).collect();
    let writer = cut_off.writer(&format!("echo SET kq$n $n | {CLI} | grep -qx OK"));
    std::thread::sleep(Duration::from_secs(1));
    others.iter().for_each(|o| drop(cut_off.run(&format!("ip route add blackhole {o}"))));
    std::thread::sleep(Duration::from_secs(16));
    let written = writer.stop();
    others.iter().for_each(|o| drop(cut_off.run(&format!("ip route del blackhole {o}"))));
    let refused = written.longest_gap;
    println!("a primary that is cut off for 16 s refused writes for the last {:.1} s of it", refused.as_secs_f64());
    assert!(refused > Duration::from_secs(3), "it took writes to the end");
    let client = c.other(&[cut_off.name]);
    client.until(60, &format!("[ \"$(redis-ha primary)\" != {} ] && redis-ha healthy", cut_off.address));
    let lost = written.lost(&of_prefix(&c.found(&client), 'q')).len();
    println!("a primary that is cut off, plain SET: {} acknowledged, lost: {lost}", written.numbers.len());
    assert!(lost > 0, "it was not cut off at all");
    client.run(&c.at_primary("echo FLUSHALL"));

    // A backup, and everything destroyed.
    client.run(&c.at_primary("seq 1 5000 | sed 's/.*/SET row& value&/'").replace(CLI, &format!("{CLI} --pipe")));
    let all = format!(
        "p=$(redis-ha primary); {CLI} -h $p --scan | sort | sed 's/^/GET /' | {CLI} -h $p | sort | sha256sum; {CLI} -h $p DBSIZE"
    );
    let before = client.run(&all);
    lab.apply("playbooks/redis_backup.yml", &[]).done();
    client.run(&c.at_primary("printf 'FLUSHALL\\nSET rubbish 1\\n'"));
    lab.apply("playbooks/redis_restore.yml", &["-e", "confirm=other"]).exits(REFUSED).says("confirm=main");
    lab.apply("playbooks/redis_restore.yml", &["-e", "confirm=main"]).done();
    assert_eq!(client.run(&all), before, "the data after the restore");
    assert!(before.contains("5000"), "{before}");

    // A member leaves, and comes back by a plain apply.
    lab.apply("playbooks/redis_remove_member.yml", &["-e", "member=node1"]).done();
    assert!(lab.node("node2").run("redis-ha healthy || true; redis-cli -p 26379 PING").contains("NOAUTH"));
    lab.apply(PLAYBOOK, &[]).done();
    lab.node("node1").until(60, "redis-ha healthy");
    lab.apply("playbooks/redis_verify.yml", &[]).done();
    assert_eq!(client.run(&all), before, "the data with the member back");
}
