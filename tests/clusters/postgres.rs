//! PostgreSQL with automatic failover on three nodes.

use super::kit::Lab;

tests!(holds);

fn holds() {
    let lab = Lab::new("pg", 3);
    for node in lab.nodes() {
        assert_eq!(node.run("hostname"), node.name);
    }
}
