//! A lab's bridge, its way out, and choosing a subnet nobody uses.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::state::{State, Subnet};
use super::{paths, tool};
use crate::error::{Error, Result};

/// A network in use: address and prefix length.
type Net = (Ipv4Addr, u8);

/// What a lab's rules and bridge are tagged with.
fn tag(name: &str) -> String {
    format!("windlass-lab-{name}")
}

/// A number that depends on nothing but the lab's name.
fn number(name: &str) -> u32 {
    let hash = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// Subnets in the order a lab tries them: the same name starts at the same one. None is Kubernetes's or Docker's default.
fn candidates(name: &str) -> impl Iterator<Item = Subnet> {
    let start = number(name);
    let third = move |i: u32| (start.wrapping_add(i) % 256) as u8;
    let ten = (0..256).map(move |i| Subnet::new(10, 213, third(i)));
    let twelve = (0..256).map(move |i| Subnet::new(172, 29, third(i)));
    let sixteen = (0..128).map(move |i| Subnet::new(192, 168, 128 + third(i) % 128));
    ten.chain(twelve).chain(sixteen)
}

fn first_free(name: &str, used: &[Net]) -> Option<Subnet> {
    candidates(name).find(|subnet| !used.iter().any(|(address, prefix)| subnet.overlaps(*address, *prefix)))
}

/// A subnet that no address, route, name server or other lab of this machine is in.
pub fn choose_subnet(name: &str) -> Result<Subnet> {
    let routes = tool::run(tool::command("ip").args(["-j", "-4", "route", "show", "table", "all"]))?;
    let mut used = routes_in(&routes);
    used.extend(resolvers(&resolv_conf()));
    for other in super::names()? {
        if let Ok(Some(state)) = State::load(&paths::lab(&other)) {
            used.push((state.subnet.gateway(), 24));
        }
    }
    first_free(name, &used).ok_or_else(|| Error::environment("all private networks a lab could use are taken"))
}

/// The destinations of `ip -j route`, without the default route.
fn routes_in(json: &str) -> Vec<Net> {
    let routes: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
    let destinations = routes.iter().filter_map(|route| route.get("dst")?.as_str());
    destinations
        .filter_map(|dst| {
            let (address, prefix) = dst.split_once('/').unwrap_or((dst, "32"));
            Some((address.parse().ok()?, prefix.parse().ok()?))
        })
        .filter(|(_, prefix)| *prefix > 0)
        .collect()
}

fn resolvers(resolv_conf: &str) -> Vec<Net> {
    let servers = resolv_conf.lines().filter_map(|l| l.trim().strip_prefix("nameserver"));
    servers.filter_map(|s| Some((s.trim().parse().ok()?, 32))).collect()
}

/// The machine's resolv.conf as it is for a node: servers on this machine's loopback cannot be reached from there.
pub fn resolv_conf() -> String {
    let read = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let local = |l: &str| l.trim().strip_prefix("nameserver").is_some_and(|s| s.trim().starts_with("127."));
        text.lines().filter(|l| !local(l)).map(|l| format!("{l}\n")).collect::<String>()
    };
    let first = read("/etc/resolv.conf");
    if resolvers(&first).is_empty() { read("/run/systemd/resolve/resolv.conf") } else { first }
}

/// The packet size, in bytes, of this machine's way out: larger packets of nodes would get lost behind it.
pub fn mtu() -> u32 {
    let default = tool::run(tool::command("ip").args(["-j", "-4", "route", "show", "default"])).unwrap_or_default();
    let routes: Vec<Value> = serde_json::from_str(&default).unwrap_or_default();
    let devices = routes.iter().filter_map(|route| route.get("dev")?.as_str());
    let sizes = devices.filter_map(|device| {
        fs::read_to_string(Path::new("/sys/class/net").join(device).join("mtu")).ok()?.trim().parse::<u32>().ok()
    });
    sizes.min().unwrap_or(1500).clamp(576, 1500)
}

/// A bridge name that no link has.
pub fn choose_bridge(name: &str) -> Result<String> {
    let start = number(name);
    let names = (0..1000).map(|i| format!("wl-{:08x}", start.wrapping_add(i)));
    names
        .into_iter()
        .find(|n| !Path::new("/sys/class/net").join(n).exists())
        .ok_or_else(|| Error::environment("no free bridge name"))
}

/// Makes the bridge, forwarding and rules; what is there already stays.
pub fn ensure(state: &State) -> Result<()> {
    let bridge = state.bridge.as_str();
    if !Path::new("/sys/class/net").join(bridge).exists() {
        ip(&["link", "add", bridge, "type", "bridge"])?;
    }
    ip(&["link", "set", bridge, "alias", &tag(&state.name)])?;
    ip(&["address", "replace", &format!("{}/24", state.subnet.gateway()), "dev", bridge])?;
    ip(&["link", "set", bridge, "up"])?;
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    fs::write(forward, "1\n").map_err(tool::at("write", forward))?;

    let subnet = state.subnet.to_string();
    let present = rules(&state.name)?;
    let tag = tag(&state.name);
    let comment = ["-m", "comment", "--comment", &tag];
    // Each goes to the top of its chain (another program's rules may refuse forwarding), so the last stands first: nodes
    // reach everything, answers reach them, and nobody beyond this machine can begin anything with them.
    let wanted: [(&str, &str, &[&str], &str); 4] = [
        ("nat", "POSTROUTING", &["-s", &subnet, "!", "-d", &subnet], "MASQUERADE"),
        ("filter", "FORWARD", &["-o", bridge], "DROP"),
        ("filter", "FORWARD", &["-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"], "ACCEPT"),
        ("filter", "FORWARD", &["-i", bridge], "ACCEPT"),
    ];
    // A half-made set is made anew as a whole.
    if present.len() != wanted.len() {
        remove_rules(&present)?;
        for (table, chain, matches, target) in wanted {
            let mut command = tool::command("iptables");
            command.args(["-w", "-t", table, "-I", chain]).args(matches).args(comment).args(["-j", target]);
            tool::run(&mut command)?;
        }
    }
    Ok(())
}

/// Removes a lab's rules, its bridge and what hangs on it. Returns whether there was anything.
pub fn remove(name: &str) -> Result<bool> {
    let rules = rules(name)?;
    remove_rules(&rules)?;
    let bridges = bridges(name);
    for bridge in &bridges {
        for port in names_in(&Path::new("/sys/class/net").join(bridge).join("brif")) {
            // It may go by itself at this moment, with its node.
            let _ = ip(&["link", "delete", &port]);
        }
        ip(&["link", "delete", bridge])?;
    }
    Ok(!rules.is_empty() || !bridges.is_empty())
}

/// A rule as (table, words for `iptables -D`).
type Rule = (&'static str, Vec<String>);

fn rules(name: &str) -> Result<Vec<Rule>> {
    let mut all = Vec::new();
    if tool::find("iptables").is_some() {
        for table in ["nat", "filter"] {
            let listing = tool::run(tool::command("iptables").args(["-w", "-t", table, "-S"]))?;
            all.extend(tagged(&listing, &tag(name)).map(|words| (table, words)));
        }
    }
    Ok(all)
}

/// The rules of `iptables -S` with exactly this comment, without their leading `-A`.
fn tagged(listing: &str, tag: &str) -> impl Iterator<Item = Vec<String>> {
    listing.lines().filter_map(move |line| {
        let words: Vec<&str> = line.strip_prefix("-A ")?.split_whitespace().collect();
        let ours = words.windows(2).any(|pair| pair[0] == "--comment" && pair[1].trim_matches('"') == tag);
        ours.then(|| words.iter().map(|w| w.trim_matches('"').to_string()).collect())
    })
}

fn remove_rules(rules: &[Rule]) -> Result<()> {
    for (table, words) in rules {
        tool::run(tool::command("iptables").args(["-w", "-t", table, "-D"]).args(words))?;
    }
    Ok(())
}

/// Links with the lab's tag as their alias.
fn bridges(name: &str) -> Vec<String> {
    let net = Path::new("/sys/class/net");
    let ours = |link: &String| fs::read_to_string(net.join(link).join("ifalias")).is_ok_and(|a| a.trim() == tag(name));
    names_in(net).into_iter().filter(ours).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()
}

fn ip(arguments: &[&str]) -> Result<()> {
    tool::run(tool::command("ip").args(arguments)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    #[test]
    fn a_name_always_starts_at_the_same_subnet() {
        assert_eq!(first_free("lab", &[]), first_free("lab", &[]));
        assert_ne!(first_free("lab", &[]), first_free("other", &[]));
    }

    #[test]
    fn taken_subnets_are_passed_over() {
        let first = first_free("lab", &[]).unwrap();
        let second = first_free("lab", &[(first.node(1), 32)]).unwrap();
        assert_ne!(first, second);
        let elsewhere = first_free("lab", &[net("10.0.0.0/8")]).unwrap();
        assert!(elsewhere.to_string().starts_with("172.29."), "{elsewhere}");
        let last = first_free("lab", &[net("10.0.0.0/8"), net("172.16.0.0/12")]).unwrap();
        assert!(last.to_string().starts_with("192.168."), "{last}");
        assert_eq!(first_free("lab", &[net("10.0.0.0/8"), net("172.16.0.0/12"), net("192.168.0.0/16")]), None);
    }

    #[test]
    fn routes() {
        let json =
            r#"[{"dst":"default","gateway":"192.0.2.1"},{"dst":"192.0.2.0/24"},{"type":"local","dst":"127.0.0.1"}]"#;
        assert_eq!(routes_in(json), [net("192.0.2.0/24"), net("127.0.0.1/32")]);
        assert_eq!(resolvers("search x\nnameserver 10.1.2.3\nnameserver ::1\n"), [net("10.1.2.3/32")]);
    }

    #[test]
    fn only_this_labs_rules() {
        let listing = "-P FORWARD ACCEPT\n\
            -A FORWARD -i wl-1 -m comment --comment windlass-lab-a -j ACCEPT\n\
            -A FORWARD -i wl-2 -m comment --comment windlass-lab-ab -j ACCEPT\n\
            -A FORWARD -i wl-3 -m comment --comment \"windlass-lab-a\" -j ACCEPT\n";
        let found: Vec<_> = tagged(listing, "windlass-lab-a").map(|words| words[2].clone()).collect();
        assert_eq!(found, ["wl-1", "wl-3"]);
    }
}
