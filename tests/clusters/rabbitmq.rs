//! RabbitMQ on three nodes, with a client that publishes to a quorum queue and waits for each confirm.

use super::amqp::{Client, Login, Publisher};
use super::kit::{CHANGES, FAILED, Lab, Node, REFUSED};
use std::collections::HashSet;
use std::time::{Duration, Instant};

tests!(a_cluster_holds);

const PLAYBOOK: &str = "playbooks/rabbitmq.yml";
const APP: Login = Login { user: "app", password: "app-Q1 w2\"$E3", vhost: "app" };

struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn new() -> Self {
        let lab = Lab::new("mq", 3);
        lab.write("groups.yml", "all: {children: {rabbitmq: {hosts: {node1: , node2: , node3: }}}}\n");
        lab.write(
            "group_vars/all/main.yml",
            "rabbitmq_users:\n\
             - {name: app, password: \"{{app_password}}\"}\n\
             - {name: boss, password: \"{{boss_password}}\", tags: [administrator]}\n\
             rabbitmq_vhosts: [{name: app, default_queue_type: quorum}]\n\
             rabbitmq_permissions: [{user: app, vhost: app, configure: '.*', write: '.*', read: '.*'}]\n\
             rabbitmq_policies: [{vhost: app, name: limit, pattern: '^jobs$', apply-to: queues, definition: {max-length: 1000000}}]\n\
             rabbitmq_queues: [{vhost: app, name: jobs}]\n\
             rabbitmq_exchanges: [{vhost: app, name: events, type: topic}]\n\
             rabbitmq_bindings: [{vhost: app, source: events, destination: jobs, routing_key: 'job.#'}]\n",
        );
        lab.secrets(
            "rabbitmq_cookie: c-7Kd9qLmWxYz0zXcVbN2\napp_password: 'app-Q1 w2\"$E3'\nboss_password: boss-5Tg6Yh\n",
        );
        Cluster { lab }
    }

    fn publisher(&self) -> Publisher {
        Publisher::start(self.lab.nodes().map(|n| n.address).collect(), APP, "jobs")
    }

    /// The node with the queue's leader.
    fn leader(&self, on: &Node) -> Node<'_> {
        let leader = on.run("rabbitmqctl -q list_queues -p app --no-table-headers leader");
        self.lab.node(leader.trim_start_matches("rabbit@"))
    }

    /// All that was confirmed is in the queue, which is empty afterwards.
    #[track_caller]
    fn nothing_lost(&self, what: &str, publisher: Publisher, at_most: u64) {
        let (confirmed, longest) = publisher.stop();
        let found = self.everything();
        let lost: Vec<u64> = confirmed.iter().copied().filter(|n| !found.contains(n)).collect();
        let gap = longest.as_secs_f64();
        println!("{what}: {} confirmed, longest gap {gap:.1} s, lost: {}", confirmed.len(), lost.len());
        assert!(confirmed.len() > 50, "{what}: only {} confirmed", confirmed.len());
        assert!(lost.is_empty(), "{what}: confirmed and lost: {lost:?}");
        assert!(longest < Duration::from_secs(at_most), "{what}: nothing confirmed for {longest:?}");
    }

    fn everything(&self) -> HashSet<u64> {
        let mut found = HashSet::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            for node in self.lab.nodes() {
                let Ok(mut client) = Client::connect(node.address, &APP) else { continue };
                loop {
                    match client.get("jobs") {
                        Ok(Some(n)) => drop(found.insert(n.parse().expect("a number"))),
                        Ok(None) => return found,
                        Err(_) => break,
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the queue could not be read");
    }

    fn definitions(&self) -> String {
        self.lab.node("node2").run(
            "rabbitmqctl -q export_definitions - </dev/null |
             jq -S 'del(.global_parameters, .users[].password_hash) | map_values(if type == \"array\" then sort_by(tostring) else . end)'",
        )
    }
}

fn a_cluster_holds() {
    let c = Cluster::new();
    let lab = &c.lab;

    // Nothing is there: a plan tells, and fails over nothing.
    lab.plan(PLAYBOOK, &[]).exits(CHANGES);

    // Killed in the middle, then left alone.
    let killed = lab.start("apply", PLAYBOOK, &[]).kill_after(Duration::from_secs(35));
    println!("kill -9 after 35 s: {}", if killed { "still at work" } else { "had ended" });
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
    lab.apply("playbooks/rabbitmq_verify.yml", &[]).done().changes(&[]);
    for node in lab.nodes() {
        let open = "find /etc/rabbitmq /var/lib/rabbitmq /var/backups/rabbitmq -perm /o+r -type f \
                    -exec grep -lE 'c-7Kd9|app-Q1|boss-5T' {} +";
        assert_eq!(node.attempt(open).stdout, b"", "everybody on {} can read a password", node.name);
        let said = node.attempt("journalctl | grep -cE 'c-7Kd9|app-Q1|boss-5T'").stdout;
        assert_eq!(String::from_utf8_lossy(&said).trim(), "0", "passwords in the journal of {}", node.name);
    }

    // Disturbed by hand: exactly that is put right.
    lab.node("node2").run("systemctl stop rabbitmq-server");
    lab.node("node3").run("echo '# by hand' >> /usr/local/sbin/rabbitmq-backup");
    lab.node("node1")
        .run("rabbitmqctl -q clear_policy -p app limit; echo guessed | rabbitmqctl -q change_password app");
    lab.apply(PLAYBOOK, &[]).done().changes(&[
        "node1: rabbitmq : Definitions",
        "node1: rabbitmq : Users",
        "node2: rabbitmq : RabbitMQ runs",
        "node3: rabbitmq : The backup's script",
    ]);

    // Planned: the node of the queue's leader is drained, and taken back.
    let leader = c.leader(&lab.node("node1")).name;
    let demote = format!("demote={leader}");
    lab.plan("playbooks/rabbitmq_failover.yml", &["-e", &demote]).exits(CHANGES);
    assert_eq!(c.leader(&lab.node("node1")).name, leader, "a plan changes nothing");
    let publisher = c.publisher();
    std::thread::sleep(Duration::from_secs(1));
    lab.apply("playbooks/rabbitmq_failover.yml", &["-e", &demote]).done();
    assert_ne!(c.leader(&lab.node("node1")).name, leader, "the leader moved");
    lab.apply("playbooks/rabbitmq_failover.yml", &["-e", &demote]).done().changes(&[]);
    lab.apply("playbooks/rabbitmq_verify.yml", &[]).exits(FAILED).says("drained");
    lab.apply("playbooks/rabbitmq_failback.yml", &["-e", &format!("promote={leader}")]).done();
    std::thread::sleep(Duration::from_secs(1));
    c.nothing_lost("planned switchover", publisher, 15);

    // One after the other restarts, and the queue is there all the while.
    let publisher = c.publisher();
    let restart = lab.apply("playbooks/rabbitmq_restart.yml", &[]).done();
    println!("rolling restart: {:.0} s", restart.took.as_secs_f64());
    c.nothing_lost("rolling restart", publisher, 15);

    // The power of the leader's node is cut.
    let leader = c.leader(&lab.node("node1")).name;
    let publisher = c.publisher();
    std::thread::sleep(Duration::from_secs(2));
    lab.node(leader).die();
    std::thread::sleep(Duration::from_secs(8));
    c.nothing_lost("power cut of the leader's node", publisher, 15);
    lab.node(leader).start();
    lab.apply(PLAYBOOK, &[]).done();

    // A backup, and what it holds destroyed.
    let before = c.definitions();
    lab.apply("playbooks/rabbitmq_backup.yml", &[]).done();
    lab.node("node3").run("rabbitmqctl -q delete_vhost app; rabbitmqctl -q delete_user boss");
    lab.apply("playbooks/rabbitmq_restore.yml", &["-e", "confirm=other"]).exits(REFUSED).says("confirm=rabbitmq");
    lab.apply("playbooks/rabbitmq_restore.yml", &["-e", "confirm=rabbitmq"]).done();
    assert_eq!(c.definitions(), before, "definitions after the restore");

    // A member leaves; its machine, new again, is taken in by a plain apply, and gets a copy of the queue.
    lab.apply("playbooks/rabbitmq_remove_member.yml", &["-e", "member=node1"]).done();
    let members = "rabbitmqctl -q list_queues -p app --no-table-headers members | tr -cd @ | wc -c";
    assert_eq!(lab.node("node2").run(members), "2", "copies without node1");
    lab.apply(PLAYBOOK, &[]).done();
    assert_eq!(lab.node("node2").run(members), "3", "copies with node1 again");
    lab.apply("playbooks/rabbitmq_verify.yml", &[]).done();
}
