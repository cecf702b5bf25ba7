//! An inventory's text: the first line is its file's name (`hosts.yml`, `hosts.ini`, `hosts.json`, `hosts`); a line
//! `%%` ends it, and each line behind that is a pattern.
#![no_main]

use libfuzzer_sys::fuzz_target;
use windlass::inventory::{Connection, Inventory, select, select_limit};
use windlass::source::Source;
use windlass::vars::NoSecrets;

fuzz_target!(|text: &str| {
    let Some((name, rest)) = text.split_once('\n') else { return };
    if name.contains(['/', '\0']) || name.len() > 20 {
        return;
    }
    let (body, patterns) = rest.split_once("\n%%\n").unwrap_or((rest, "all"));
    let (inventory, found) = Inventory::parse(&Source::new(name, body), &NoSecrets);
    let _ = found.render(false);
    found.iter().for_each(|d| assert!(d.to_json().is_object()));
    for pattern in patterns.lines().take(8) {
        let chosen = select(&inventory, pattern);
        if let Ok(hosts) = &chosen {
            assert!(hosts.iter().all(|h| inventory.hosts.contains_key(*h) || inventory.is_implicit_localhost(h)));
        }
        let _ = select_limit(&inventory, pattern);
    }
    for (name, host) in inventory.hosts.iter().take(50) {
        let get = |v: &str| host.vars.get(v).map(|v| v.value.clone());
        let place = |v: &str| host.vars.get(v).map(|v| v.span.clone());
        let (_, found) = Connection::read(name, false, &get, &place);
        let _ = found.render(false);
        inventory.host_json(name);
    }
    if inventory.hosts.len() <= 500 {
        inventory.to_json();
        inventory.graph(true);
    }
});
