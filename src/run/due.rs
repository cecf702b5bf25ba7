//! Handlers that were notified and have not run: kept on disk, so that a run that is killed or fails in between
//! does not lose a restart. Written before the change that notifies, taken back after the handler.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

#[derive(Serialize, Deserialize)]
struct Line {
    host: String,
    handler: String,
    due: bool,
}

/// The list of handlers that are due, of one playbook and inventory.
pub struct Due {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: Option<File>,
    due: BTreeSet<(String, String)>,
}

impl Due {
    /// Reads the list a run before this one left. A last line that was cut off in the middle is dropped: what it
    /// announced had not begun.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let mut due = BTreeSet::new();
        match File::open(&path) {
            Ok(f) => {
                for line in BufReader::new(f).lines() {
                    if let Ok(l) = serde_json::from_str::<Line>(&line?) {
                        let key = (l.host, l.handler);
                        if l.due {
                            due.insert(key)
                        } else {
                            due.remove(&key)
                        };
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        Ok(Due { path, state: Mutex::new(State { file: None, due }) })
    }

    pub fn is_due(&self, host: &str, handler: &str) -> bool {
        self.state.lock().is_ok_and(|s| s.due.contains(&(host.to_string(), handler.to_string())))
    }

    /// Everything that is due.
    pub fn all(&self) -> Vec<(String, String)> {
        self.state.lock().map(|s| s.due.iter().cloned().collect()).unwrap_or_default()
    }

    /// Puts a handler on the list or takes it off; on disk when this returns.
    pub fn set(&self, host: &str, handler: &str, due: bool) -> io::Result<()> {
        let Ok(mut s) = self.state.lock() else { return Ok(()) };
        let key = (host.to_string(), handler.to_string());
        let changed = if due { s.due.insert(key) } else { s.due.remove(&key) };
        if !changed {
            return Ok(());
        }
        if s.file.is_none() {
            if let Some(dir) = self.path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            s.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
        }
        let line = serde_json::to_string(&Line { host: host.to_string(), handler: handler.to_string(), due })?;
        if let Some(f) = &mut s.file {
            f.write_all(format!("{line}\n").as_bytes())?;
            f.sync_data()?;
        }
        Ok(())
    }

    /// At the end of a run: nothing due, no file.
    pub fn tidy(&self) {
        if let Ok(s) = self.state.lock()
            && s.due.is_empty()
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where the list of a playbook and its inventory lies.
pub fn path_for(project: &Path, playbook: &Path, inventories: &[PathBuf]) -> PathBuf {
    use sha2::{Digest, Sha256};
    let mut h = Sha256::new();
    for p in std::iter::once(playbook).chain(inventories.iter().map(PathBuf::as_path)) {
        h.update(std::path::absolute(p).unwrap_or_else(|_| p.to_path_buf()).as_os_str().as_encoded_bytes());
        h.update([0]);
    }
    let stem = playbook.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    project.join(".windlass").join("due").join(format!("{stem}-{}.jsonl", &crate::modules::hex(&h.finalize())[..12]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_survives_and_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.jsonl");
        let d = Due::open(path.clone()).unwrap();
        d.set("n1", "restart", true).unwrap();
        d.set("n2", "restart", true).unwrap();
        d.set("n2", "restart", false).unwrap();
        drop(d);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"host\":\"n3\",\"ha").unwrap();
        let d = Due::open(path.clone()).unwrap();
        assert_eq!(d.all(), [("n1".to_string(), "restart".to_string())]);
        d.tidy();
        assert!(path.exists());
        d.set("n1", "restart", false).unwrap();
        d.tidy();
        assert!(!path.exists());
    }
}
