//! `etcd-snapshot`: save, ls, delete and prune, on a server.

use crate::config::Config;
use crate::http::ask;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub fn run(words: &[String]) -> i32 {
    let (command, rest) = match words.split_first() {
        Some((c, r)) => (c.as_str(), r),
        None => ("save", words),
    };
    match go(command, rest) {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(e) => {
            crate::log("fatal", &e);
            1
        }
    }
}

fn go(command: &str, rest: &[String]) -> Result<String, String> {
    // Names to delete stand without a dash.
    let (flags, names): (Vec<String>, Vec<String>) = match command {
        "delete" => rest.iter().cloned().partition(|w| w.starts_with("--")),
        _ => (rest.to_vec(), vec![]),
    };
    let config = Config::of("etcd-snapshot", &flags);
    let directory = config
        .get("etcd-snapshot-dir")
        .or(config.get("dir"))
        .map_or_else(|| config.data().join("server/db/snapshots"), PathBuf::from);
    let list = || {
        let mut all: Vec<PathBuf> =
            std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|e| e.path()).collect();
        all.sort_by_key(|p| p.metadata().and_then(|m| m.modified()).ok());
        all
    };
    let said = |e: std::io::Error| format!("{}: {e}", directory.display());
    match command {
        "save" => {
            let admin = std::fs::read_to_string("/etc/rancher/k3s/k3s.yaml").map_err(|e| e.to_string())?;
            let admin = admin.lines().find_map(|l| l.trim().strip_prefix("token: ")).unwrap_or_default();
            let server = format!("127.0.0.1:{}", config.port());
            let r = ask("GET", &server, "/snapshot", &format!("Bearer {admin}"), "", Duration::from_secs(5))?;
            if r.status != 200 {
                return Err(r.body);
            }
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let name = config.get("name").or(config.get("snapshot-name")).unwrap_or("on-demand");
            let name = format!("{name}-{}-{now}", config.node());
            std::fs::create_dir_all(&directory).map_err(said)?;
            std::fs::write(directory.join(&name), r.body).map_err(said)?;
            Ok(format!("Snapshot {name} saved.\n"))
        }
        "ls" | "list" => {
            let mut text = String::from("Name Location Size Created\n");
            for path in list() {
                let size = path.metadata().map_or(0, |m| m.len());
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                text += &format!("{name} file://{} {size} 2026-01-01T00:00:00Z\n", path.display());
            }
            Ok(text)
        }
        "prune" => {
            let keep = config.get("snapshot-retention").or(config.get("etcd-snapshot-retention"));
            let keep: usize = keep.and_then(|k| k.parse().ok()).unwrap_or(5);
            let all = list();
            for path in &all[..all.len().saturating_sub(keep)] {
                std::fs::remove_file(path).map_err(said)?;
            }
            Ok(String::new())
        }
        "delete" => {
            for name in names {
                std::fs::remove_file(directory.join(name)).map_err(said)?;
            }
            Ok(String::new())
        }
        other => Err(format!("the stand-in does not know `etcd-snapshot {other}`")),
    }
}
