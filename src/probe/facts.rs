//! What a host is, from what a few small files and commands print.

use super::unescaped;
use crate::template::Shape;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// What is asked of a host that facts are wanted of; it goes over only then.
pub const SCRIPT: &str = include_str!("facts.sh");

/// Builds the facts from the named pieces of a reply.
pub fn read(piece: &dyn Fn(&str) -> String) -> Value {
    let os = key_values(&piece("os"));
    let get = |k: &str| os.get(k).and_then(Value::as_str).unwrap_or_default().to_string();
    let kernel = piece("kernel");
    let mut lines = kernel.lines();
    let words: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let word = |i: usize| words.get(i).copied().unwrap_or_default();
    let (node, release, machine) = (word(1), word(2), word(3));
    let memory = |key: &str| {
        let all = piece("memory");
        let kb = all.lines().find_map(|l| {
            l.strip_prefix(key)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        });
        kb.map_or(0, |kb| kb / 1024)
    };
    let cpus = piece("cpus").trim().parse::<u64>().unwrap_or(1);
    let (interfaces, default, default6) = network(piece);
    let ipv4: Vec<Value> = addresses_of(&interfaces, "ipv4");
    let ipv6: Vec<Value> = addresses_of(&interfaces, "ipv6");
    let version = get("VERSION_ID");
    let board = piece("board").trim().to_string();
    let named = piece("named");
    let full = named.split_whitespace().skip(1).find(|n| n.starts_with(&format!("{node}."))).unwrap_or(node);
    let mut facts = json!({
        "os": {
            "id": get("ID"),
            "name": get("NAME"),
            "like": get("ID_LIKE"),
            "family": family(&get("ID"), &get("ID_LIKE")),
            "version": version,
            "major": version.split('.').next().unwrap_or_default(),
            "codename": get("VERSION_CODENAME"),
            "release": piece("debian").trim(),
        },
        "hostname": node.split('.').next().unwrap_or_default(),
        "fqdn": full,
        "nodename": node,
        "kernel": release,
        "kernel_version": lines.next().unwrap_or_default(),
        "arch": machine,
        "cpus": cpus,
        "cpu": cpu(&piece("cpuinfo"), cpus),
        "memory_mb": memory("MemTotal"),
        "swap_mb": memory("SwapTotal"),
        "memory": {
            "total_mb": memory("MemTotal"),
            "free_mb": memory("MemFree"),
            "available_mb": memory("MemAvailable"),
            "cached_mb": memory("Cached"),
            "swap_total_mb": memory("SwapTotal"),
            "swap_free_mb": memory("SwapFree"),
        },
        "disks": disks(&piece("disks")),
        "mounts": mounts(&piece("mountinfo"), &piece("df")),
        "interfaces": interfaces,
        "default_ipv4": default,
        "default_ipv6": default6,
        "ipv4_addresses": ipv4,
        "ipv6_addresses": ipv6,
        "dns": dns(&piece("dns")),
        "board": {"model": board, "raspberry_pi": board.contains("Raspberry Pi")},
        "virtualization": virtualization(&piece("virt"), &piece("kvm")),
        "init": init(&piece("init")),
        "cgroup_version": if piece("cgroup").trim() == "cgroup2fs" { 2 } else { 1 },
        "package_manager": manager(&piece("managers"), &get("ID"), &get("ID_LIKE")),
        "user": user(&piece("user")),
        "env": key_values(&piece("env")),
        "date_time": date(&piece("date")),
        "machine_id": piece("machine").trim(),
        "hardware": key_values(&piece("dmi")),
        "uptime_seconds": piece("uptime").split('.').next().and_then(|s| s.trim().parse::<u64>().ok()).unwrap_or(0),
        "selinux": match piece("security").lines().find_map(|l| l.strip_prefix("selinux ")) {
            Some("1") => "enforcing",
            Some(_) => "permissive",
            None => "disabled",
        },
        "lsb": !piece("lsb").trim().is_empty(),
        "apparmor": piece("security").lines().any(|l| l == "apparmor"),
    });
    let python = piece("python");
    if let (Some(path), Some(version)) = (python.lines().next(), python.lines().nth(1)) {
        facts["python"] = json!({"path": path, "version": version.trim_start_matches("Python ").trim()});
    }
    facts
}

/// Processors: cores and sockets count once, however many threads they have.
fn cpu(text: &str, vcpus: u64) -> Value {
    let field = |l: &str, key: &str| l.strip_prefix(key)?.trim_start().strip_prefix(':').map(|v| v.trim().to_string());
    let first = |key: &str| text.lines().find_map(|l| field(l, key)).unwrap_or_default();
    let threads = text.lines().filter(|l| field(l, "processor").is_some()).count() as u64;
    let mut sockets: HashSet<String> = HashSet::new();
    let mut cores: HashSet<(String, String)> = HashSet::new();
    let mut socket = String::new();
    for l in text.lines() {
        if let Some(s) = field(l, "physical id") {
            sockets.insert(s.clone());
            socket = s;
        }
        if let Some(c) = field(l, "core id") {
            cores.insert((socket.clone(), c));
        }
    }
    let threads = if threads == 0 { vcpus } else { threads };
    // ARM tells of neither: each thread is a core there.
    let (sockets, cores) = (sockets.len().max(1) as u64, if cores.is_empty() { threads } else { cores.len() as u64 });
    let model = Some(first("model name")).filter(|m| !m.is_empty()).unwrap_or_else(|| first("Model"));
    json!({
        "model": model,
        "vendor": first("vendor_id"),
        "threads": threads,
        "cores": cores,
        "sockets": sockets,
    })
}

fn after<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().position(|w| *w == key).and_then(|i| words.get(i + 1)).copied()
}

/// Interfaces by name, and the addresses that the default routes leave from.
fn network(piece: &dyn Fn(&str) -> String) -> (Value, Value, Value) {
    let mut all = Map::new();
    for l in piece("links").lines() {
        let w: Vec<&str> = l.split_whitespace().collect();
        let Some(name) = w.get(1).map(|n| n.trim_end_matches(':').split('@').next().unwrap_or_default()) else {
            continue;
        };
        let kind = w.iter().find_map(|x| x.strip_prefix("link/")).unwrap_or_default();
        let mac = after(&w, &format!("link/{kind}")).filter(|m| m.contains(':') && kind != "loopback");
        all.insert(
            name.to_string(),
            json!({
                "mac": mac.unwrap_or_default(),
                "mtu": after(&w, "mtu").and_then(|m| m.parse::<u64>().ok()),
                "up": w.get(2).is_some_and(|f| f.trim_matches(['<', '>']).split(',').any(|f| f == "UP")),
                "type": kind,
                "ipv4": [],
                "ipv6": [],
            }),
        );
    }
    for l in piece("addresses").lines() {
        let w: Vec<&str> = l.split_whitespace().collect();
        let [_, name, kind, cidr, ..] = w.as_slice() else { continue };
        let name = name.trim_end_matches(':').split('@').next().unwrap_or_default();
        let (address, prefix) = cidr.split_once('/').unwrap_or((cidr, if *kind == "inet" { "32" } else { "128" }));
        let entry = match *kind {
            "inet" => {
                let bits = prefix.parse::<u32>().unwrap_or(32).min(32);
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                let network = address.parse::<Ipv4Addr>().map(|a| Ipv4Addr::from(u32::from(a) & mask).to_string());
                json!({
                    "address": address,
                    "prefix": bits,
                    "netmask": Ipv4Addr::from(mask).to_string(),
                    "network": network.unwrap_or_default(),
                    "broadcast": after(&w, "brd").unwrap_or_default(),
                })
            }
            "inet6" => json!({
                "address": address,
                "prefix": prefix.parse::<u32>().unwrap_or(128),
                "scope": after(&w, "scope").unwrap_or_default(),
            }),
            _ => continue,
        };
        let key = if *kind == "inet" { "ipv4" } else { "ipv6" };
        let of = all.entry(name).or_insert_with(|| json!({"ipv4": [], "ipv6": []}));
        if let Some(list) = of[key].as_array_mut() {
            list.push(entry);
        }
    }
    let default = |route: &str, key: &str| {
        let route = piece(route);
        let w: Vec<&str> = route.lines().next().unwrap_or_default().split_whitespace().collect();
        let named = after(&w, "dev").unwrap_or_default();
        let usable = |a: &&Value| key == "ipv4" || a["scope"] == "global";
        let of = |name: &str| all.get(name).and_then(|i| i[key].as_array()?.iter().find(usable).cloned());
        // A host with several addresses may be told which of them it speaks with.
        let from = after(&w, "src");
        let chosen = |name: &str| {
            all.get(name).and_then(|i| i[key].as_array()?.iter().find(|a| a["address"].as_str() == from).cloned())
        };
        // Without a default route, the first address that is not the loopback's.
        let other = || all.keys().filter(|n| *n != "lo").find_map(|n| Some((n.as_str(), of(n)?)));
        let (name, address) = match chosen(named).or_else(|| of(named)) {
            Some(a) => (named, a),
            None if key == "ipv4" => other().unwrap_or(("", json!({"address": ""}))),
            None => ("", json!({"address": ""})),
        };
        let mut out = address;
        out["interface"] = json!(name);
        out["gateway"] = json!(after(&w, "via").unwrap_or_default());
        if let Some(i) = all.get(name) {
            out["mac"] = i["mac"].clone();
            out["mtu"] = i["mtu"].clone();
        }
        out
    };
    let (four, six) = (default("route", "ipv4"), default("route6", "ipv6"));
    (Value::Object(all), four, six)
}

/// The addresses of all interfaces but the loopback.
fn addresses_of(interfaces: &Value, key: &str) -> Vec<Value> {
    let all = interfaces.as_object().into_iter().flatten().filter(|(n, _)| *n != "lo");
    all.filter_map(|(_, i)| i[key].as_array()).flatten().map(|a| a["address"].clone()).collect()
}

/// A line a disk, and one that begins with a tab for each part of it. Sizes are in sectors of 512 bytes.
fn disks(text: &str) -> Value {
    let bytes = |sectors: &str| sectors.parse::<u64>().map_or(0, |s| s * 512);
    let mut all = Map::new();
    let mut last = String::new();
    for l in text.lines() {
        let f: Vec<&str> = l.split('\t').collect();
        match f.as_slice() {
            ["", name, sectors] => {
                if let Some(d) = all.get_mut(&last) {
                    d["partitions"][*name] = json!({"size_bytes": bytes(sectors)});
                }
            }
            [name, sectors, ro, removable, rotational, vendor, model] => {
                last = name.to_string();
                let disk = json!({
                    "size_bytes": bytes(sectors),
                    "read_only": *ro == "1",
                    "removable": *removable == "1",
                    "rotational": *rotational == "1",
                    "vendor": vendor.trim(),
                    "model": model.trim(),
                    "partitions": {},
                });
                all.insert(last.clone(), disk);
            }
            _ => {}
        }
    }
    Value::Object(all)
}

/// What is mounted of disks and of servers; sizes of what is on this machine.
fn mounts(mountinfo: &str, df: &str) -> Vec<Value> {
    let sizes = |path: &str| {
        df.lines().skip(1).find_map(|l| {
            let w: Vec<&str> = l.split_whitespace().collect();
            let (numbers, mount) = (w.get(1..5)?, w.get(5..)?.join(" "));
            let kb = |i: usize| numbers[i].parse::<u64>().ok().map(|k| k * 1024);
            (mount == path).then(|| (kb(0), kb(1), kb(2)))
        })
    };
    let mut all = vec![];
    for l in mountinfo.lines() {
        let Some((here, there)) = l.split_once(" - ") else { continue };
        let here: Vec<&str> = here.split(' ').collect();
        let there: Vec<&str> = there.splitn(3, ' ').collect();
        let ([_, _, _, _, path, options, ..], [fstype, source, ..]) = (here.as_slice(), there.as_slice()) else {
            continue;
        };
        if !source.starts_with('/') && !source.contains(":/") {
            continue;
        }
        let path = unescaped(path);
        let (total, used, free) = sizes(&path).unwrap_or_default();
        all.push(json!({
            "mount": path,
            "device": unescaped(source),
            "fstype": fstype,
            "options": options,
            "size_total": total,
            "size_used": used,
            "size_available": free,
        }));
    }
    all
}

fn dns(text: &str) -> Value {
    let words = |key: &str| {
        let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
        lines
            .filter(|w| w.first() == Some(&key))
            .flat_map(|w| w[1..].iter().map(|s| s.to_string()).collect::<Vec<_>>())
            .collect()
    };
    let (nameservers, search): (Vec<String>, Vec<String>) = (words("nameserver"), words("search"));
    json!({"nameservers": nameservers, "search": search})
}

fn virtualization(detected: &str, kvm: &str) -> Value {
    let kinds: Vec<&str> = detected.lines().map(str::trim).filter(|l| !l.is_empty() && *l != "none").collect();
    let (kind, role) = match kinds.last() {
        Some(k) => (*k, "guest"),
        None if kvm.contains("host") => ("kvm", "host"),
        None => ("none", "none"),
    };
    json!({"type": kind, "role": role})
}

/// What starts services: what says so of itself, else the name of the first process.
fn init(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let known = lines.iter().skip(1).find(|l| matches!(**l, "systemd" | "openrc"));
    known.or(lines.first()).map(|s| s.to_string()).unwrap_or_default()
}

/// The host's own package manager, of those whose programs are there: others may be installed beside it.
fn manager(text: &str, id: &str, like: &str) -> &'static str {
    let there: Vec<&str> = text.lines().collect();
    let own = own_manager(id, like);
    let own = there.iter().find(|m| **m == own || (own == "dnf" && matches!(**m, "dnf5" | "yum")));
    match own.or(there.first()).copied().unwrap_or_default() {
        "apt-get" => "apt",
        "dnf5" => "dnf5",
        "dnf" => "dnf",
        "yum" => "yum",
        "pacman" => "pacman",
        "zypper" => "zypper",
        "apk" => "apk",
        _ => "unknown",
    }
}

/// The program of the package manager that a system comes with, by `ID` and `ID_LIKE` of its os-release.
pub(crate) fn own_manager(id: &str, like: &str) -> &'static str {
    std::iter::once(id)
        .chain(like.split_whitespace())
        .find_map(|word| match word {
            "debian" | "ubuntu" => Some("apt-get"),
            "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "ol" | "amzn" => Some("dnf"),
            "arch" | "archlinux" | "manjaro" => Some("pacman"),
            "alpine" => Some("apk"),
            w if w.contains("suse") || w.starts_with("sle") => Some("zypper"),
            _ => None,
        })
        .unwrap_or_default()
}

fn user(text: &str) -> Value {
    let mut lines = text.lines();
    let mut number = || lines.next().and_then(|l| l.trim().parse::<u64>().ok());
    let (uid, gid) = (number(), number());
    let account: Vec<&str> = lines.next().unwrap_or_default().split(':').collect();
    let field = |i: usize| account.get(i).copied().unwrap_or_default();
    json!({"name": field(0), "uid": uid, "gid": gid, "comment": field(4), "home": field(5), "shell": field(6)})
}

/// From seconds, offset and name of the zone.
fn date(text: &str) -> Value {
    let w: Vec<&str> = text.split_whitespace().collect();
    let epoch = w.first().and_then(|s| s.parse::<i64>().ok()).unwrap_or(0);
    let offset = w.get(1).copied().unwrap_or("+0000");
    let minutes = {
        let digits = |r: std::ops::Range<usize>| offset.get(r).and_then(|d| d.parse::<i64>().ok()).unwrap_or(0);
        let all = digits(1..3) * 60 + digits(3..5);
        if offset.starts_with('-') { -all } else { all }
    };
    let utc = chrono::DateTime::from_timestamp(epoch, 0).unwrap_or_default();
    let here = chrono::DateTime::from_timestamp(epoch + minutes * 60, 0).unwrap_or_default();
    let f = |p: &str| here.format(p).to_string();
    json!({
        "epoch": epoch.to_string(),
        "iso8601": utc.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "date": f("%Y-%m-%d"),
        "time": f("%H:%M:%S"),
        "year": f("%Y"),
        "month": f("%m"),
        "day": f("%d"),
        "hour": f("%H"),
        "minute": f("%M"),
        "second": f("%S"),
        "weekday": f("%A"),
        "tz": w.get(2).copied().unwrap_or_default(),
        "tz_offset": offset,
    })
}

fn family(id: &str, like: &str) -> &'static str {
    let all = format!("{id} {like}");
    let has = |w: &str| all.split_whitespace().any(|x| x == w);
    if has("debian") || has("ubuntu") {
        "Debian"
    } else if has("rhel") || has("fedora") || has("centos") {
        "RedHat"
    } else if has("suse") || has("opensuse") {
        "Suse"
    } else if has("arch") {
        "Archlinux"
    } else if has("alpine") {
        "Alpine"
    } else {
        "Unknown"
    }
}

fn key_values(text: &str) -> Map<String, Value> {
    let mut found = Map::new();
    for l in text.lines() {
        if let Some((k, v)) = l.split_once('=')
            && !found.contains_key(k)
        {
            found.insert(k.to_string(), json!(v.trim_matches(['"', '\''])));
        }
    }
    found
}

/// What facts can have. What is called as the host has it (interfaces, disks) is not known by name.
pub fn shape() -> Shape {
    let Shape::Fields { fields, .. } = Shape::of(&sample()) else { return Shape::Any };
    let mut fields = (*fields).clone();
    for by_name in ["interfaces", "disks"] {
        let one = fields.get(by_name).and_then(|all| match all {
            Shape::Fields { fields, .. } => fields.values().cloned().reduce(Shape::or),
            _ => None,
        });
        fields.insert(by_name.into(), one.unwrap_or(Shape::Any).each());
    }
    for free in ["env", "hardware"] {
        fields.insert(free.into(), Shape::Any);
    }
    let six = ["address", "prefix", "scope", "interface", "gateway", "mac", "mtu"];
    fields.insert("default_ipv6".into(), Shape::names(six));
    Shape::fields(fields)
}

/// Facts of a made-up host that has all of them.
pub(crate) fn sample() -> Value {
    read(&|name: &str| {
        match name {
            "os" => "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nNAME=\"Debian GNU/Linux\"\n",
            "debian" => "12.11\n",
            "kernel" => "Linux node1 6.1.0 x86_64\n#1 SMP\n",
            "memory" => "MemTotal:        2048000 kB\nMemFree: 1024000 kB\nSwapTotal:             0 kB\n",
            "cpus" => "2\n",
            "cpuinfo" => {
                "processor\t: 0\nvendor_id\t: X\nmodel name\t: Y\nphysical id\t: 0\ncore id\t\t: 0\nprocessor\t: 1\n\
                 physical id\t: 0\ncore id\t\t: 1\nprocessor\t: 2\nphysical id\t: 0\ncore id\t\t: 0\nprocessor\t: 3\n\
                 physical id\t: 0\ncore id\t\t: 1\n"
            }
            "route" => "default via 10.0.0.1 dev host0 proto static\n",
            "links" => {
                "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN\\    link/loopback 00:00:00:00:00:00\n\
                 2: host0@if9: <BROADCAST,UP> mtu 1500 qdisc noqueue state UP\\    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff\n"
            }
            "addresses" => {
                "1: lo    inet 127.0.0.1/8 scope host lo\n2: host0    inet 10.0.0.11/24 brd 10.0.0.255 scope global host0\n\
                 2: host0    inet6 fe80::1/64 scope link\n"
            }
            "mountinfo" => {
                "27 1 254:0 / / rw,relatime - ext4 /dev/sda1 rw\n28 27 0:5 / /proc rw - proc proc rw\n\
                 29 27 0:6 / /srv/a\\040b rw - nfs4 nas:/a rw\n"
            }
            "df" => "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 60 40 60% /\n",
            "disks" => "sda\t200\t0\t0\t1\tATA     \tDisk One\n\tsda1\t100\n",
            "virt" => "systemd-nspawn\n",
            "init" => "systemd\nsystemd\n",
            "cgroup" => "cgroup2fs\n",
            "python" => "/usr/bin/python3\nPython 3.11.2\n",
            "managers" => "apt-get\n",
            "user" => "0\n0\nroot:x:0:0:root:/root:/bin/bash\n",
            "env" => "HOME=/root\nLANG=C\n",
            "date" => "1795243963 +0100 CET\n",
            "dns" => "search lan\nnameserver 10.0.0.1\n",
            "named" => "10.0.0.11 node1.lan node1\n",
            "lsb" => "/usr/bin/lsb_release\n",
            _ => "",
        }
        .to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_package_manager() {
        let all = "apt-get\ndnf5\ndnf\npacman\nzypper\n";
        assert_eq!(manager(all, "debian", ""), "apt");
        assert_eq!(manager(all, "fedora", ""), "dnf5");
        assert_eq!(manager("apt-get\ndnf\n", "rocky", "rhel centos fedora"), "dnf");
        assert_eq!(manager(all, "opensuse-leap", "suse opensuse"), "zypper");
        assert_eq!(manager(all, "endeavouros", "arch"), "pacman");
        assert_eq!(manager("yum\n", "centos", "rhel"), "yum");
        assert_eq!(manager("dnf\n", "else", ""), "dnf");
        assert_eq!(manager("", "debian", ""), "unknown");
    }

    #[test]
    fn a_debian_host() {
        let f = sample();
        assert_eq!(f["os"]["family"], "Debian");
        assert_eq!(f["default_ipv4"]["address"], "10.0.0.11");
        assert_eq!((f["memory_mb"].as_u64(), f["arch"].as_str()), (Some(2000), Some("x86_64")));
        assert_eq!(f["board"]["raspberry_pi"], false);
        assert_eq!(f["cpu"], json!({"model": "Y", "vendor": "X", "threads": 4, "cores": 2, "sockets": 1}));
        assert_eq!(f["interfaces"]["host0"]["ipv4"][0]["network"], "10.0.0.0");
        assert_eq!(f["interfaces"]["host0"]["mac"], "02:00:00:00:00:01");
        assert_eq!((f["mounts"][1]["mount"].as_str(), f["mounts"].as_array().unwrap().len()), (Some("/srv/a b"), 2));
        assert_eq!(f["disks"]["sda"]["size_bytes"], 200 * 512);
        assert_eq!((f["fqdn"].as_str(), f["hostname"].as_str()), (Some("node1.lan"), Some("node1")));
        assert_eq!(f["dns"]["nameservers"], json!(["10.0.0.1"]));
        assert_eq!(f["date_time"]["tz"], "CET");
    }

    #[test]
    fn the_address_that_the_default_route_speaks_with() {
        let four = |route: &'static str| {
            let f = read(&|name: &str| {
                match name {
                    "route" => route,
                    "links" => "2: eth0: <BROADCAST,UP> mtu 1500 state UP\\    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff\n",
                    "addresses" => {
                        "2: eth0    inet 10.0.0.100/32 scope global eth0\n2: eth0    inet 10.0.0.11/24 brd 10.0.0.255 scope global eth0\n"
                    }
                    _ => "",
                }
                .to_string()
            });
            (f["default_ipv4"]["address"].clone(), f["default_ipv4"]["prefix"].clone())
        };
        assert_eq!(
            four("default via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.11 metric 100\n"),
            (json!("10.0.0.11"), json!(24))
        );
        assert_eq!(four("default via 10.0.0.1 dev eth0 src 10.9.9.9\n").0, "10.0.0.100");
        assert_eq!(four("default via 10.0.0.1 dev eth0\n").0, "10.0.0.100");
    }

    #[test]
    fn a_host_that_tells_nothing_has_facts_all_the_same() {
        let f = read(&|_| String::new());
        assert_eq!((f["cpus"].as_u64(), f["default_ipv4"]["address"].as_str()), (Some(1), Some("")));
        assert!(f.get("python").is_none());
    }

    #[test]
    fn every_shell_takes_the_script_and_each_piece_is_read() {
        crate::modules::kit::sh_accepts(SCRIPT);
        let asked: Vec<&str> = SCRIPT.lines().filter_map(|l| l.strip_prefix("w_m ")).collect();
        let named: Vec<&str> = asked.iter().map(|l| l.split([';', ' ']).next().unwrap()).collect();
        let read_of = std::cell::RefCell::new(vec![]);
        read(&|n| {
            read_of.borrow_mut().push(n.to_string());
            String::new()
        });
        for n in &named {
            assert!(read_of.borrow().iter().any(|r| r == n), "{n} is asked for and not read");
        }
        for r in read_of.borrow().iter() {
            assert!(named.contains(&r.as_str()), "{r} is read and not asked for");
        }
    }
}
