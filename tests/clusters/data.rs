//! The playbooks over all data services, with Redis alone wanted: the others' groups are empty.

use super::kit::{CHANGES, FAILED, Lab, REFUSED};

tests!(one_service_of_all);

fn one_service_of_all() {
    let lab = Lab::new("data", 3);
    let empty = ["etcd", "postgres", "loadbalancers", "pgbouncer", "rabbitmq"].map(|g| format!("{g}: {{hosts: {{}}}}"));
    let redis = "redis: {hosts: {node1: , node2: , node3: }}";
    lab.write("groups.yml", &format!("all: {{children: {{{redis}, {}}}}}\n", empty.join(", ")));
    lab.secrets("redis_ha_password: r-7Kd9qLmW\nredis_ha_sentinel_password: s-0zXcVbN2\n");
    lab.apply("playbooks/data.yml", &[]).done();
    lab.apply("playbooks/data.yml", &[]).done().changes(&[]);

    let (failover, failback, chaos) = ("playbooks/failover.yml", "playbooks/failback.yml", "playbooks/chaos.yml");
    let to = |node: &str| format!(r#"{{"service": "redis", "to": "{node}"}}"#);
    let primary = || lab.node("node1").run("redis-ha primary");
    lab.plan(failover, &["-e", &to("node2")]).exits(CHANGES).says("node1 leads now, node2 afterwards");
    assert_eq!(primary(), lab.node("node1").address.to_string(), "a plan changes nothing");
    lab.apply(failover, &["-e", &to("node2")]).done();
    assert_eq!(primary(), lab.node("node2").address.to_string());
    lab.apply(failover, &["-e", &to("node2")]).done().changes(&[]);
    lab.plan(failback, &["-e", &to("node1")]).exits(CHANGES).says("node2 leads now, node1 afterwards");

    // A name that is none of its hosts, and a member that is not well.
    lab.plan(failover, &["-e", &to("node9")]).exits(REFUSED).says("to=one of its hosts");
    lab.node("node3").run("systemctl stop redis-server");
    lab.plan(failover, &["-e", &to("node3")]).exits(FAILED).says("redis is not well, nothing was changed");
    lab.apply("playbooks/data.yml", &[]).done();

    // Harm is judged by the limit that was given, and undone either way.
    let name = lab.start("plan", chaos, &["-e", r#"{"service": "redis", "confirm": "another"}"#]).wait();
    name.exits(REFUSED).says("nothing was harmed");
    let inventory = lab.inventory();
    let harm = |more: &str| format!(r#"{{"service": "redis", "confirm": "{inventory}", {more}}}"#);
    let late = harm(r#""chaos_kind": "partition", "chaos_seconds": 5, "chaos_limit": 0"#);
    lab.apply(chaos, &["-e", &late]).exits(FAILED).says("partition of redis on node2").says("(limit 0 s)");
    for node in lab.nodes() {
        node.run("! nft list table inet windlass_chaos 2>/dev/null && [ ! -e /run/windlass-chaos ]");
        node.until(30, "redis-ha healthy");
    }
}
