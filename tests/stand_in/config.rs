//! The configuration: `/etc/rancher/k3s/config.yaml`, the files beside it, and arguments on top.

use std::collections::BTreeMap;
use std::path::PathBuf;

pub const ETC: &str = "/etc/rancher/k3s";

pub struct Config {
    values: BTreeMap<String, Vec<String>>,
}

impl Config {
    pub fn of(role: &str, words: &[String]) -> Self {
        let mut values = BTreeMap::new();
        let mut files = vec![PathBuf::from(format!("{ETC}/config.yaml"))];
        let mut more: Vec<PathBuf> = std::fs::read_dir(format!("{ETC}/config.yaml.d"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        more.sort();
        files.extend(more);
        for file in files {
            read(&std::fs::read_to_string(file).unwrap_or_default(), &mut values);
        }
        let mut at = 0;
        while at < words.len() {
            let Some(word) = words[at].strip_prefix("--") else {
                crate::fatal(&format!("the stand-in does not know the argument `{}`", words[at]))
            };
            let (key, value) = match word.split_once('=') {
                Some((k, v)) => (k, v.to_string()),
                None if words.get(at + 1).is_some_and(|w| !w.starts_with("--")) => {
                    at += 1;
                    (word, words[at].clone())
                }
                None => (word, "true".to_string()),
            };
            values.insert(key.to_string(), vec![value]);
            at += 1;
        }
        for (variable, key) in [("K3S_TOKEN", "token"), ("K3S_URL", "server"), ("K3S_TOKEN_FILE", "token-file")] {
            if let Ok(v) = std::env::var(variable) {
                values.entry(key.into()).or_insert(vec![v]);
            }
        }
        let config = Config { values };
        crate::log("info", &format!("Starting the stand-in {} {} (not K3s)", role, crate::version()));
        if crate::version().contains("broken") {
            crate::fatal("this version of the stand-in never starts");
        }
        config
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(|v| v.first()).map(String::as_str)
    }
    pub fn is(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }
    pub fn data(&self) -> PathBuf {
        PathBuf::from(self.get("data-dir").unwrap_or("/var/lib/rancher/k3s"))
    }
    pub fn node(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string();
        self.get("node-name").map_or_else(host, str::to_string)
    }
    pub fn port(&self) -> u16 {
        self.get("https-listen-port").and_then(|p| p.parse().ok()).unwrap_or(6443)
    }
    /// The address other nodes reach this one at.
    pub fn address(&self) -> String {
        if let Some(ip) = self.get("node-ip") {
            return ip.split(',').next().unwrap_or(ip).to_string();
        }
        let found = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| {
            s.connect("203.0.113.1:9")?;
            s.local_addr()
        });
        found.map_or("127.0.0.1".into(), |a| a.ip().to_string())
    }
    pub fn token(&self) -> Option<String> {
        let file = self.get("token-file").map(|f| match std::fs::read_to_string(f) {
            Ok(t) => t,
            Err(e) => crate::fatal(&format!("{f}: {e}")),
        });
        self.get("token").map(str::to_string).or(file).map(|t| t.trim().to_string()).filter(|t| !t.is_empty())
    }
}

/// `key: value`, `key: [a, b]` and lists below a key; what else YAML has is not needed here.
fn read(text: &str, values: &mut BTreeMap<String, Vec<String>>) {
    let bare = |v: &str| v.trim().trim_matches(['"', '\'']).to_string();
    let mut current = String::new();
    for line in text.lines() {
        let line = line.trim_end();
        if line.trim().is_empty() || line.trim_start().starts_with('#') || line == "---" {
            continue;
        }
        if let Some(item) = line.trim_start().strip_prefix("- ") {
            values.entry(current.clone()).or_default().push(bare(item));
        } else if let Some((key, value)) = line.split_once(':').filter(|_| !line.starts_with(' ')) {
            current = bare(key);
            let value = value.trim();
            let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
            let found = match (list, value) {
                (Some(items), _) => items.split(',').map(bare).filter(|v| !v.is_empty()).collect(),
                (None, "") => vec![],
                _ => vec![bare(value)],
            };
            values.insert(current.clone(), found);
        }
    }
}

/// Whether a token says which cluster it is for, and the password in it.
pub fn token_parts(token: &str) -> (Option<&str>, &str) {
    match token.strip_prefix("K10").and_then(|t| t.split_once("::")) {
        Some((ca, rest)) => (Some(ca), rest.split_once(':').map_or(rest, |(_, p)| p)),
        None => (None, token.split_once(':').map_or(token, |(_, p)| p)),
    }
}
