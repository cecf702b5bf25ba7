//! Facts under the names Ansible has for them: `ansible_facts.distribution`, or `ansible_distribution`.

use crate::template::Shape;
use serde_json::{Map, Value, json};

/// The names, without `ansible_` in front. Interfaces come besides ([`is_fact`]).
pub const NAMES: &[&str] = &[
    "all_ipv4_addresses",
    "all_ipv6_addresses",
    "apparmor",
    "architecture",
    "bios_vendor",
    "bios_version",
    "board_name",
    "date_time",
    "default_ipv4",
    "default_ipv6",
    "devices",
    "distribution",
    "distribution_major_version",
    "distribution_release",
    "distribution_version",
    "dns",
    "domain",
    "effective_group_id",
    "effective_user_id",
    "env",
    "fqdn",
    "hostname",
    "interfaces",
    "kernel",
    "kernel_version",
    "lsb",
    "machine",
    "machine_id",
    "memfree_mb",
    "memory_mb",
    "memtotal_mb",
    "mounts",
    "nodename",
    "os_family",
    "pkg_mgr",
    "processor",
    "processor_cores",
    "processor_count",
    "processor_nproc",
    "processor_threads_per_core",
    "processor_vcpus",
    "product_name",
    "product_serial",
    "product_uuid",
    "product_version",
    "python",
    "python_version",
    "real_group_id",
    "real_user_id",
    "selinux",
    "service_mgr",
    "swapfree_mb",
    "swaptotal_mb",
    "system",
    "system_vendor",
    "uptime_seconds",
    "user_dir",
    "user_gecos",
    "user_gid",
    "user_id",
    "user_shell",
    "user_uid",
    "virtualization_role",
    "virtualization_type",
];

/// What names of network interfaces begin with: a number follows, or (`enp3s0`) more with a number in it.
const NUMBERED: &[&str] = &["eth", "wlan", "bond", "br", "host", "usb", "ib"];
const PLACED: &[&str] = &["en", "wl"];

/// Whether `ansible_NAME` is a fact; of an interface, whether it could be one.
pub fn is_fact(name: &str) -> bool {
    let Some(bare) = name.strip_prefix("ansible_") else { return false };
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    let placed = |rest: &str| {
        rest.len() < 16
            && rest.starts_with(['o', 's', 'p', 'x', 'd'])
            && rest.ends_with(|c: char| c.is_ascii_hexdigit())
            && rest.bytes().any(|b| b.is_ascii_digit())
    };
    NAMES.contains(&bare)
        || bare == "lo"
        || NUMBERED.iter().filter_map(|i| bare.strip_prefix(i)).any(digits)
        || PLACED.iter().filter_map(|i| bare.strip_prefix(i)).any(placed)
}

/// `ansible_facts`: our own facts, and all of Ansible's names over them.
pub fn ansible_facts(facts: &Value) -> Value {
    let mut all = facts.as_object().cloned().unwrap_or_default();
    all.extend(named(facts));
    Value::Object(all)
}

/// What `ansible_facts` can have.
pub fn shape() -> Shape {
    let sample = super::facts::sample();
    let own = super::facts::shape();
    let Shape::Fields { fields: theirs, .. } = Shape::of(&Value::Object(named(&sample))) else { return Shape::Any };
    let mut fields = (*theirs).clone();
    fields.retain(|name, _| NAMES.contains(&name.as_str()));
    for free in ["env", "devices"] {
        fields.insert(free.into(), Shape::Any);
    }
    let like = |name: &str| {
        ["alias", "macaddress", "type"].iter().fold(own.at(name), |s, more| s.map(|s| s.or(Shape::names([*more]))))
    };
    for name in ["default_ipv4", "default_ipv6"] {
        fields.insert(name.into(), like(name).unwrap_or(Shape::Any));
    }
    // Ours stand beside them.
    if let Shape::Fields { fields: ours, .. } = own {
        for (name, shape) in ours.iter() {
            fields.entry(name.clone()).or_insert_with(|| shape.clone());
        }
    }
    Shape::fields(fields)
}

/// The facts by Ansible's names, in its shapes.
pub fn named(f: &Value) -> Map<String, Value> {
    let text = |v: &Value| crate::template::text(v);
    let na = |v: &Value| if v.as_str().is_none_or(str::is_empty) { json!("NA") } else { v.clone() };
    let hardware = |key: &str| na(&f["hardware"][key]);
    let address = |v: &Value| {
        if v["address"].as_str().is_none_or(str::is_empty) {
            return json!({});
        }
        let mut out = v.clone();
        out["macaddress"] = v["mac"].clone();
        out["alias"] = v["interface"].clone();
        out["prefix"] = json!(text(&v["prefix"]));
        out["type"] = json!("ether");
        out
    };
    let cpu = |key: &str| f["cpu"][key].as_u64().unwrap_or(1);
    let (threads, cores, sockets) = (cpu("threads"), cpu("cores"), cpu("sockets").max(1));
    let memory = |key: &str| f["memory"][key].as_u64().unwrap_or(0);
    let release = f["os"]["release"].as_str().unwrap_or_default();
    // Debian's own file has the minor version; that of an unfinished release has none.
    let debian = f["os"]["id"] == "debian" && release.starts_with(|c: char| c.is_ascii_digit());
    let version = if debian { json!(release) } else { f["os"]["version"].clone() };
    let family = match f["os"]["family"].as_str() {
        Some("Unknown") | None => distribution(f),
        Some(known) => known.to_string(),
    };
    let fqdn = f["fqdn"].as_str().unwrap_or_default();
    let mut epochs = f["date_time"].clone();
    epochs["epoch_int"] = epochs["epoch"].clone();
    let mut out = Map::new();
    for (key, value) in [
        ("all_ipv4_addresses", f["ipv4_addresses"].clone()),
        ("all_ipv6_addresses", f["ipv6_addresses"].clone()),
        ("apparmor", json!({"status": if f["apparmor"] == true { "enabled" } else { "disabled" }})),
        ("architecture", f["arch"].clone()),
        ("bios_vendor", hardware("bios_vendor")),
        ("bios_version", hardware("bios_version")),
        ("board_name", hardware("board_name")),
        ("date_time", epochs),
        ("default_ipv4", address(&f["default_ipv4"])),
        ("default_ipv6", address(&f["default_ipv6"])),
        ("devices", devices(&f["disks"])),
        ("distribution", json!(distribution(f))),
        ("distribution_major_version", f["os"]["major"].clone()),
        ("distribution_release", na(&f["os"]["codename"])),
        ("distribution_version", version),
        ("dns", f["dns"].clone()),
        ("domain", json!(fqdn.split_once('.').map_or("", |(_, d)| d))),
        ("effective_group_id", f["user"]["gid"].clone()),
        ("effective_user_id", f["user"]["uid"].clone()),
        ("env", f["env"].clone()),
        ("fqdn", f["fqdn"].clone()),
        ("hostname", f["hostname"].clone()),
        ("interfaces", f["interfaces"].as_object().into_iter().flatten().map(|(n, _)| json!(n)).collect()),
        ("kernel", f["kernel"].clone()),
        ("kernel_version", f["kernel_version"].clone()),
        (
            "lsb",
            // Ansible reads it only where there is something to read.
            if f["lsb"] == true {
                json!({
                    "id": distribution(f), "release": f["os"]["version"], "major_release": f["os"]["major"],
                    "codename": f["os"]["codename"],
                })
            } else {
                json!({})
            },
        ),
        ("machine", f["arch"].clone()),
        ("machine_id", f["machine_id"].clone()),
        ("memfree_mb", json!(memory("free_mb"))),
        (
            "memory_mb",
            json!({
                "real": {
                    "total": memory("total_mb"), "free": memory("free_mb"),
                    "used": memory("total_mb").saturating_sub(memory("free_mb")),
                },
                "nocache": {
                    "free": memory("available_mb"),
                    "used": memory("total_mb").saturating_sub(memory("available_mb")),
                },
                "swap": {
                    "total": memory("swap_total_mb"), "free": memory("swap_free_mb"),
                    "used": memory("swap_total_mb").saturating_sub(memory("swap_free_mb")), "cached": 0,
                },
            }),
        ),
        ("memtotal_mb", json!(memory("total_mb"))),
        ("mounts", f["mounts"].clone()),
        ("nodename", f["nodename"].clone()),
        ("os_family", json!(family)),
        ("pkg_mgr", f["package_manager"].clone()),
        (
            "processor",
            (0..threads)
                .flat_map(|i| [json!(i.to_string()), f["cpu"]["vendor"].clone(), f["cpu"]["model"].clone()])
                .collect(),
        ),
        ("processor_cores", json!((cores / sockets).max(1))),
        ("processor_count", json!(sockets)),
        ("processor_nproc", f["cpus"].clone()),
        ("processor_threads_per_core", json!((threads / cores.max(1)).max(1))),
        ("processor_vcpus", json!(threads)),
        ("product_name", hardware("product_name")),
        ("product_serial", hardware("product_serial")),
        ("product_uuid", hardware("product_uuid")),
        ("product_version", hardware("product_version")),
        ("real_group_id", f["user"]["gid"].clone()),
        ("real_user_id", f["user"]["uid"].clone()),
        (
            "selinux",
            match f["selinux"].as_str() {
                Some(mode @ ("enforcing" | "permissive")) => json!({"status": "enabled", "mode": mode}),
                _ => json!({"status": "disabled"}),
            },
        ),
        ("service_mgr", f["init"].clone()),
        ("swapfree_mb", json!(memory("swap_free_mb"))),
        ("swaptotal_mb", json!(memory("swap_total_mb"))),
        ("system", json!("Linux")),
        ("system_vendor", hardware("sys_vendor")),
        ("uptime_seconds", f["uptime_seconds"].clone()),
        ("user_dir", f["user"]["home"].clone()),
        ("user_gecos", f["user"]["comment"].clone()),
        ("user_gid", f["user"]["gid"].clone()),
        ("user_id", f["user"]["name"].clone()),
        ("user_shell", f["user"]["shell"].clone()),
        ("user_uid", f["user"]["uid"].clone()),
        ("virtualization_role", json!(text(&f["virtualization"]["role"]).replace("none", "NA"))),
        ("virtualization_type", json!(virtualization(&text(&f["virtualization"]["type"])))),
    ] {
        out.insert(key.into(), value);
    }
    if let Some(version) = f["python"]["version"].as_str() {
        let numbers: Vec<u64> = version.split('.').map(|n| n.parse().unwrap_or(0)).collect();
        let number = |i: usize| numbers.get(i).copied().unwrap_or(0);
        out.insert("python_version".into(), json!(version));
        out.insert(
            "python".into(),
            json!({
                "executable": f["python"]["path"], "path": f["python"]["path"],
                "version": {"major": number(0), "minor": number(1), "micro": number(2)},
                "version_info": [number(0), number(1), number(2)],
            }),
        );
    }
    for (name, i) in f["interfaces"].as_object().into_iter().flatten() {
        let four = i["ipv4"].as_array().and_then(|a| a.first()).cloned();
        let mut one = json!({
            "device": name, "active": i["up"], "mtu": i["mtu"], "macaddress": i["mac"], "type": i["type"], "ipv6": i["ipv6"],
        });
        if let Some(four) = four {
            one["ipv4"] = four;
        }
        out.insert(name.replace(['-', '.', ':'], "_"), one);
    }
    out
}

fn distribution(f: &Value) -> String {
    match f["os"]["id"].as_str().unwrap_or_default() {
        "debian" | "raspbian" => "Debian",
        "ubuntu" => "Ubuntu",
        "linuxmint" => "Linux Mint",
        "rhel" => "RedHat",
        "centos" => "CentOS",
        "fedora" => "Fedora",
        "rocky" => "Rocky",
        "almalinux" => "AlmaLinux",
        "ol" => "OracleLinux",
        "amzn" => "Amazon",
        "opensuse-leap" => "openSUSE Leap",
        "opensuse-tumbleweed" => "openSUSE Tumbleweed",
        "sles" => "SLES",
        "arch" => "Archlinux",
        "alpine" => "Alpine",
        _ => return f["os"]["name"].as_str().unwrap_or_default().to_string(),
    }
    .to_string()
}

/// systemd's words in Ansible's.
fn virtualization(kind: &str) -> &str {
    match kind {
        "none" => "NA",
        "oracle" => "virtualbox",
        "microsoft" => "VirtualPC",
        "lxc-libvirt" => "lxc",
        "systemd-nspawn" | "rkt" | "container-other" => "container",
        "qemu" => "kvm",
        other => other,
    }
}

fn devices(disks: &Value) -> Value {
    let flag = |v: &Value| json!(if *v == true { "1" } else { "0" });
    let of = |d: &Value| {
        let sectors = d["size_bytes"].as_u64().unwrap_or(0) / 512;
        let parts = d["partitions"].as_object().into_iter().flatten();
        let parts: Map<String, Value> = parts
            .map(|(n, p)| {
                (n.clone(), json!({"sectors": p["size_bytes"].as_u64().unwrap_or(0) / 512, "sectorsize": 512}))
            })
            .collect();
        json!({
            "sectors": sectors, "sectorsize": "512", "model": d["model"], "vendor": d["vendor"],
            "removable": flag(&d["removable"]), "rotational": flag(&d["rotational"]), "partitions": parts,
        })
    };
    disks.as_object().into_iter().flatten().map(|(n, d)| (n.clone(), of(d))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_value_and_every_value_a_name() {
        let facts = crate::probe::facts::sample();
        let all = named(&facts);
        for n in NAMES {
            assert!(all.contains_key(*n), "{n}");
        }
        for k in all.keys() {
            assert!(is_fact(&format!("ansible_{k}")), "{k}");
        }
    }

    #[test]
    fn names_that_are_no_facts() {
        for no in [
            "ansible_host",
            "ansible_user",
            "ansible_distributio",
            "ansible_env_x",
            "distribution",
            "ansible_enabled",
            "ansible_hostname1",
            "ansible_env1",
        ] {
            assert!(!is_fact(no), "{no}");
        }
        assert!(is_fact("ansible_eth0") && is_fact("ansible_enp3s0") && is_fact("ansible_default_ipv4"));
    }

    #[test]
    fn shapes_are_those_people_use() {
        let f = ansible_facts(&crate::probe::facts::sample());
        for (path, wanted) in [
            ("/distribution", json!("Debian")),
            ("/distribution_version", json!("12.11")),
            ("/os_family", json!("Debian")),
            ("/architecture", json!("x86_64")),
            ("/default_ipv4/address", json!("10.0.0.11")),
            ("/default_ipv4/gateway", json!("10.0.0.1")),
            ("/default_ipv4/prefix", json!("24")),
            ("/host0/ipv4/address", json!("10.0.0.11")),
            ("/host0/ipv6/0/scope", json!("link")),
            ("/interfaces", json!(["lo", "host0"])),
            ("/memtotal_mb", json!(2000)),
            ("/processor_vcpus", json!(4)),
            ("/processor_cores", json!(2)),
            ("/processor_threads_per_core", json!(2)),
            ("/mounts/0/mount", json!("/")),
            ("/mounts/0/size_available", json!(40_960)),
            ("/devices/sda/partitions/sda1/sectors", json!(100)),
            ("/date_time/iso8601", json!("2026-11-21T06:52:43Z")),
            ("/date_time/hour", json!("07")),
            ("/env/HOME", json!("/root")),
            ("/user_id", json!("root")),
            ("/python_version", json!("3.11.2")),
            ("/python/version/minor", json!(11)),
            ("/pkg_mgr", json!("apt")),
            ("/service_mgr", json!("systemd")),
            ("/virtualization_type", json!("container")),
            ("/virtualization_role", json!("guest")),
            ("/selinux/status", json!("disabled")),
            ("/fqdn", json!("node1.lan")),
            ("/domain", json!("lan")),
            ("/nodename", json!("node1")),
            ("/lsb/codename", json!("bookworm")),
            // Ours stay beside them.
            ("/os/id", json!("debian")),
            ("/cgroup_version", json!(2)),
        ] {
            assert_eq!(f.pointer(path), Some(&wanted), "{path}");
        }
        let bare = crate::probe::facts::read(&|_| String::new());
        assert_eq!(named(&bare)["lsb"], json!({}));
    }
}
