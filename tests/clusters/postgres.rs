//! PostgreSQL with automatic failover on three nodes: etcd, Patroni, HAProxy with a VIP, pgbouncer on each.

use super::kit::{CHANGES, Lab, Node, REFUSED};
use std::time::Duration;

tests!(a_cluster_holds);

const PLAYBOOK: &str = "playbooks/postgres.yml";

struct Cluster {
    lab: Lab,
    vip: String,
}

impl Cluster {
    fn new() -> Self {
        let lab = Lab::new("pg", 3);
        let vip = lab.free_address(240).to_string();
        let three = "{hosts: {node1: , node2: , node3: }}";
        lab.write(
            "groups.yml",
            &format!(
                "all: {{children: {{etcd: {three}, postgres: {three}, loadbalancers: {three}, pgbouncer: {three}}}}}\n"
            ),
        );
        lab.write(
            "group_vars/all/main.yml",
            &format!(
                "keepalived_vip: {vip}/24\n\
                 patroni_backup_recipients: []\n\
                 patroni_users:\n  - {{name: app, password: \"{{{{app_password}}}}\", settings: {{statement_timeout: 30s}}}}\n\
                 patroni_databases:\n  - {{name: app, owner: app, extensions: [pg_trgm]}}\n"
            ),
        );
        lab.secrets(
            "patroni_superuser_password: s-7Kd9qLmW\npatroni_replication_password: r-0zXcVbN2\n\
             patroni_restapi_password: 'a-\"quote\"-4tG'\npatroni_pgbouncer_password: b-Yh6Tr5Ee\n\
             keepalived_password: k-3fGh7J\napp_password: app-Q1w2E3\n",
        );
        Cluster { lab, vip }
    }

    /// Shell that does SQL as the application, through the VIP and pgbouncer.
    fn sql(&self, sql: &str) -> String {
        self.psql(6432, sql)
    }

    fn psql(&self, port: u16, sql: &str) -> String {
        let vip = &self.vip;
        format!(
            "PGPASSWORD=app-Q1w2E3 PGCONNECT_TIMEOUT=2 timeout 4 psql -XAtq -v ON_ERROR_STOP=1 -h {vip} -p {port} -U app app -c \"{sql}\""
        )
    }

    fn leader(&self, on: &str) -> String {
        self.lab.node(on).run("postgres-cluster leader")
    }

    /// Another node than these.
    fn other(&self, than: &[&str]) -> Node<'_> {
        self.lab.nodes().find(|n| !than.contains(&n.name)).expect("another node")
    }

    /// All that was written and acknowledged is there; the next one's numbers begin anew.
    #[track_caller]
    fn nothing_lost(&self, what: &str, client: Node, written: super::kit::Written, at_most: u64) {
        client.until(30, &self.sql("select 1"));
        let lost = written.lost(&client.run(&self.sql("select n from w")));
        println!(
            "{what}: {} writes, longest gap {:.1} s, lost: {}",
            written.numbers.len(),
            written.longest_gap.as_secs_f64(),
            lost.len()
        );
        assert!(written.numbers.len() > 20, "only {} writes", written.numbers.len());
        assert!(lost.is_empty(), "{what}: acknowledged and lost: {lost:?}");
        assert!(written.longest_gap < Duration::from_secs(at_most), "{what}: no write for {:?}", written.longest_gap);
        client.run(&self.sql("truncate w"));
    }
}

fn a_cluster_holds() {
    let c = Cluster::new();
    let lab = &c.lab;

    // Nothing is there: a plan tells, and fails over nothing.
    lab.plan(PLAYBOOK, &[]).exits(CHANGES);

    // Killed in the middle, then left alone.
    let killed = lab.start("apply", PLAYBOOK, &[]).kill_after(Duration::from_secs(20));
    println!("kill -9 after 20 s: {}", if killed { "still at work" } else { "had ended" });
    let first = lab.apply(PLAYBOOK, &[]).done();
    println!("first apply, the rest of it: {:.0} s", first.took.as_secs_f64());
    let again = lab.apply(PLAYBOOK, &[]).done().changes(&[]);
    println!("second apply: {:.1} s", again.took.as_secs_f64());
    lab.apply("playbooks/postgres_verify.yml", &[]).done().changes(&[]);
    for node in lab.nodes() {
        let open = "find /etc/patroni /etc/pgbouncer /etc/keepalived /var/backups/postgres /var/lib/postgresql/15/patroni \
                    -perm /o+r -type f -exec grep -lE 's-7Kd|r-0zX|a-.quote|b-Yh6|k-3fG|app-Q1w' {} +";
        assert_eq!(node.attempt(open).stdout, b"", "everybody on {} can read a password", node.name);
        let said = node.attempt("journalctl | grep -cE 's-7Kd|r-0zX|b-Yh6|app-Q1w'").stdout;
        assert_eq!(String::from_utf8_lossy(&said).trim(), "0", "passwords in the journal of {}", node.name);
    }

    // Disturbed by hand: exactly that is put right.
    let leader = c.leader("node1");
    lab.node("node2").run("echo '# by hand' >> /etc/haproxy/haproxy.cfg");
    lab.node("node3").run("systemctl stop pgbouncer");
    lab.node("node1").run("patronictl -c /etc/patroni/config.yml edit-config --force -q -s ttl=33");
    lab.node(&leader).run("runuser -u postgres -- psql -qc \"ALTER ROLE app PASSWORD 'guessed'\"");
    lab.plan(PLAYBOOK, &[]).exits(CHANGES);
    lab.apply(PLAYBOOK, &[]).done().changes(&[
        "node2: haproxy_keepalived : HAProxy's settings",
        "node2: haproxy_keepalived : Reload HAProxy",
        "node3: pgbouncer : pgbouncer runs",
        &format!("{leader}: patroni : The cluster's settings"),
        &format!("{leader}: patroni : Users and databases"),
    ]);
    lab.apply(PLAYBOOK, &[]).done().changes(&[]);

    // Planned: to another node, and the client is on the third.
    let client = c.other(&[&leader, "node1"]);
    client.run(&c.sql("create table w (n bigint primary key)"));
    let next = c.other(&[&leader, client.name]);
    let promote = format!("promote={}", next.name);
    lab.plan("playbooks/postgres_failover.yml", &["-e", &promote]).exits(CHANGES);
    assert_eq!(c.leader("node1"), leader, "a plan changes nothing");
    let writer = client.writer(&c.sql("insert into w values ($n)"));
    std::thread::sleep(Duration::from_secs(2));
    lab.apply("playbooks/postgres_failover.yml", &["-e", &promote]).done();
    std::thread::sleep(Duration::from_secs(2));
    let written = writer.stop();
    assert_eq!(c.leader("node1"), next.name);
    c.nothing_lost("planned switchover", client, written, 20);
    lab.apply("playbooks/postgres_failover.yml", &["-e", &promote]).done().changes(&[]);

    // A backup, and everything in the database destroyed.
    client.run(
        &c.sql("insert into w select generate_series(1, 5000); create table v as select n, md5(n::text) as m from w"),
    );
    let before = client.run(&c.psql(5000, "select n, m from v order by n"));
    lab.apply("playbooks/postgres_backup.yml", &[]).done();
    client.run(&c.sql("drop table v; delete from w where n % 3 = 0; create table rubbish ()"));
    lab.apply("playbooks/postgres_restore.yml", &["-e", "confirm=other"]).exits(REFUSED).says("confirm=main");
    lab.apply("playbooks/postgres_restore.yml", &["-e", "confirm=main"]).done();
    assert_eq!(client.run(&c.psql(5000, "select n, m from v order by n")), before, "rows after the restore");
    assert_eq!(client.run(&c.psql(5000, "select count(*) from w")), "5000");
    client.run(&c.psql(5000, "truncate w"));
    lab.apply("playbooks/postgres_verify.yml", &[]).done();

    // The leader's node, which has the VIP as well, loses its power.
    for node in lab.nodes().filter(|n| n.name != next.name) {
        node.run("systemctl stop keepalived");
    }
    next.until(10, &format!("ip -4 address show | grep -q ' {}/'", c.vip));
    for node in lab.nodes().filter(|n| n.name != next.name) {
        node.run("systemctl start keepalived");
    }
    client.until(10, &c.sql("select 1"));
    let writer = client.writer(&c.sql("insert into w values ($n)"));
    std::thread::sleep(Duration::from_secs(2));
    next.die();
    client.until(60, &c.sql("insert into w values (-1)"));
    std::thread::sleep(Duration::from_secs(2));
    let written = writer.stop();
    c.nothing_lost("power cut of the leader's node, which had the VIP", client, written, 60);
    assert_ne!(c.leader(client.name), next.name);

    // It comes back as a replica, by itself.
    next.start();
    let took = next.until(60, "postgres-cluster well");
    println!("a member again {:.0} s after its start", took.as_secs_f64());
    lab.apply(PLAYBOOK, &[]).done().changes(&[]);
    lab.apply("playbooks/postgres_verify.yml", &[]).done();
}
