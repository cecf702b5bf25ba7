//! A lock on a directory that may be removed by whoever holds it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::tool;
use crate::error::{Error, Result};

/// Held as long as this value lives, or a command that was given it.
pub struct Locked {
    file: File,
}

impl Locked {
    /// Has a command hold the lock too, as its stdin: if this process is killed, the next holder waits for the command.
    pub fn hold(&self, command: &mut Command) -> Result<()> {
        let held = self.file.try_clone().map_err(|e| Error::environment("cannot pass a lock on").because(e))?;
        command.stdin(held);
        Ok(())
    }

    /// Locks a directory, creating it if need be. `waiting` is called once if somebody else holds it.
    pub fn directory(path: &Path, waiting: impl FnOnce()) -> Result<Locked> {
        let mut waiting = Some(waiting);
        loop {
            fs::create_dir_all(path).map_err(tool::at("create", path))?;
            let Ok(file) = File::open(path) else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    file.lock().map_err(tool::at("lock", path))?;
                }
                Err(TryLockError::Error(e)) => return Err(tool::at("lock", path)(e)),
            }
            // The last holder may have removed the directory and somebody else made it anew.
            let held = file.metadata().map_err(tool::at("read", path))?;
            match fs::metadata(path) {
                Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => return Ok(Locked { file }),
                _ => continue,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_directory_is_made_anew_for_the_next() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("lab");
        let first = Locked::directory(&path, || panic!("nobody else is here")).unwrap();
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let path = &path;
            let second = scope.spawn(move || Locked::directory(path, || tell.send(()).unwrap()).is_ok());
            told.recv().unwrap();
            fs::remove_dir(path).unwrap();
            drop(first);
            assert!(second.join().unwrap());
        });
        assert!(path.is_dir());
    }
}
