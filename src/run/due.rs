//! Handlers that were notified and have not run: kept on disk, so that a run that is killed or fails in between
//! does not lose a restart. Written before the change that notifies, taken back after the handler.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
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
        let due = match File::open(&path) {
            Ok(f) => read(&f)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(e) => return Err(e),
        };
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
        if s.due.contains(&key) == due {
            return Ok(());
        }
        let line = serde_json::to_string(&Line { host: host.to_string(), handler: handler.to_string(), due })?;
        let mut f = match s.file.take() {
            Some(f) => f,
            None => self.file()?,
        };
        lock(&f);
        // A run on other hosts may have tidied the file away in between.
        while f.metadata()?.nlink() == 0 {
            f = self.file()?;
            lock(&f);
        }
        // A line that was cut off must not take this one with it.
        let mut last = *b"\n";
        if f.metadata()?.len() > 0 {
            f.seek(SeekFrom::End(-1))?;
            f.read_exact(&mut last)?;
        }
        let begin = if last == *b"\n" { "" } else { "\n" };
        f.write_all(format!("{begin}{line}\n").as_bytes())?;
        f.sync_data()?;
        let _ = f.unlock();
        s.file = Some(f);
        if due {
            s.due.insert(key)
        } else {
            s.due.remove(&key)
        };
        Ok(())
    }

    fn file(&self) -> io::Result<File> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        OpenOptions::new().create(true).read(true).append(true).open(&self.path)
    }

    /// At the end of a run: nothing due, no file. What counts is what the file says: another run, on other hosts, may
    /// have written to it.
    pub fn tidy(&self) {
        if let Ok(f) = File::open(&self.path) {
            lock(&f);
            if read(&f).is_ok_and(|due| due.is_empty()) {
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }
}

/// Where a file system knows no locks, runs at the same time must do without.
fn lock(f: &File) {
    let _ = f.lock();
}

fn read(f: &File) -> io::Result<BTreeSet<(String, String)>> {
    let mut due = BTreeSet::new();
    for line in BufReader::new(f).split(b'\n') {
        if let Ok(l) = serde_json::from_slice::<Line>(&line?) {
            let key = (l.host, l.handler);
            if l.due {
                due.insert(key)
            } else {
                due.remove(&key)
            };
        }
    }
    Ok(due)
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
    fn a_line_cut_off_does_not_take_the_next_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.jsonl");
        std::fs::write(&path, b"{\"host\":\"n3\",\"ha").unwrap();
        Due::open(path.clone()).unwrap().set("n1", "restart", true).unwrap();
        assert_eq!(Due::open(path).unwrap().all(), [("n1".to_string(), "restart".to_string())]);
    }

    #[test]
    fn a_run_on_other_hosts_does_not_tidy_away_what_is_due_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.jsonl");
        let (one, two) = (Due::open(path.clone()).unwrap(), Due::open(path.clone()).unwrap());
        one.set("n1", "restart", true).unwrap();
        two.set("n2", "restart", true).unwrap();
        one.set("n1", "restart", false).unwrap();
        one.tidy();
        assert_eq!(Due::open(path.clone()).unwrap().all(), [("n2".to_string(), "restart".to_string())]);
        // And the other way round: what is written after the file went is not written into nothing.
        two.set("n2", "restart", false).unwrap();
        one.tidy();
        assert!(!path.exists());
        two.set("n2", "again", true).unwrap();
        assert_eq!(Due::open(path).unwrap().all(), [("n2".to_string(), "again".to_string())]);
    }

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
