//! What a host is, from what a few small files and commands print.

use serde_json::{Map, Value, json};

/// Builds the facts from the named pieces of a reply.
pub fn read(piece: &dyn Fn(&str) -> String) -> Value {
    let os = key_values(&piece("os"));
    let get = |k: &str| os.get(k).and_then(Value::as_str).unwrap_or_default().to_string();
    let kernel = piece("kernel");
    let mut words = kernel.split_whitespace();
    let (_, node, release, machine) = (words.next(), words.next(), words.next(), words.next());
    let memory = |key: &str| {
        piece("memory")
            .lines()
            .find_map(|l| {
                l.strip_prefix(key)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
            })
            .map_or(0, |kb| kb / 1024)
    };
    let interface =
        piece("route").split_whitespace().skip_while(|w| *w != "dev").nth(1).unwrap_or_default().to_string();
    let mut addresses: Vec<(String, String)> = vec![];
    for line in piece("addresses").lines() {
        let w: Vec<&str> = line.split_whitespace().collect();
        if let [_, name, "inet", addr, ..] = w.as_slice() {
            addresses.push((name.to_string(), addr.split('/').next().unwrap_or_default().to_string()));
        }
    }
    let default = addresses
        .iter()
        .find(|(n, _)| *n == interface)
        .or_else(|| addresses.iter().find(|(n, _)| n != "lo"))
        .cloned()
        .unwrap_or_default();
    let version = get("VERSION_ID");
    let board = piece("board").trim().to_string();
    json!({
        "os": {
            "id": get("ID"),
            "name": get("NAME"),
            "like": get("ID_LIKE"),
            "family": family(&get("ID"), &get("ID_LIKE")),
            "version": version,
            "major": version.split('.').next().unwrap_or_default(),
            "codename": get("VERSION_CODENAME"),
        },
        "hostname": node.unwrap_or_default().split('.').next().unwrap_or_default(),
        "fqdn": node.unwrap_or_default(),
        "kernel": release.unwrap_or_default(),
        "arch": machine.unwrap_or_default(),
        "cpus": piece("cpus").trim().parse::<u64>().unwrap_or(1),
        "memory_mb": memory("MemTotal"),
        "swap_mb": memory("SwapTotal"),
        "default_ipv4": {"address": default.1, "interface": default.0},
        "ipv4_addresses": addresses.iter().filter(|(n, _)| n != "lo").map(|(_, a)| a).collect::<Vec<_>>(),
        "board": {"model": board, "raspberry_pi": board.contains("Raspberry Pi")},
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debian_host() {
        let piece = |name: &str| {
            match name {
                "os" => "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nNAME=\"Debian GNU/Linux\"\n",
                "kernel" => "Linux node1 6.1.0 x86_64\n",
                "memory" => "MemTotal:        2048000 kB\nSwapTotal:             0 kB\n",
                "cpus" => "2\n",
                "route" => "default via 10.0.0.1 dev host0 proto static\n",
                "addresses" => {
                    "1: lo    inet 127.0.0.1/8 scope host lo\n2: host0    inet 10.0.0.11/24 scope global host0\n"
                }
                _ => "",
            }
            .to_string()
        };
        let f = read(&piece);
        assert_eq!(f["os"]["family"], "Debian");
        assert_eq!(f["default_ipv4"]["address"], "10.0.0.11");
        assert_eq!((f["memory_mb"].as_u64(), f["arch"].as_str()), (Some(2000), Some("x86_64")));
        assert_eq!(f["board"]["raspberry_pi"], false);
    }
}
