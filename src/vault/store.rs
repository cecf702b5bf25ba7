//! Files on this machine, read whole and written all or nothing.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The largest file read whole, in bytes.
const LIMIT: u64 = 256 << 20;

/// Reads a whole file into memory that is wiped when dropped. What is no regular file is not even opened: a pipe would keep
/// the reader waiting, and a device is not to be taken for a file that could be replaced.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    if let Ok(meta) = path.metadata()
        && !meta.is_file()
    {
        return Err(Error::input(format!("{} is {}, not a file", path.display(), kind(meta.file_type())))
            .hint("Name a regular file."));
    }
    read_stream(path)
}

/// Reads a key, a password or a list, which a shell may give through a pipe: `<(…)`.
pub(super) fn read_stream(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |e: io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::NotFound => "Check the path.",
            io::ErrorKind::PermissionDenied => "Check the file's owner and mode.",
            _ => "Check that it is a readable file.",
        };
        Error::input(format!("cannot read {}", path.display())).because(e).hint(hint)
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > LIMIT {
        return Err(Error::input(format!("{} is larger than {} MiB", path.display(), LIMIT >> 20))
            .hint("Secrets are read whole into memory; keep large data elsewhere."));
    }
    // One byte to spare, so that reading to the end never moves the secret to a larger buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    file.take(LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// What kind of thing a path leads to.
fn kind(of: fs::FileType) -> &'static str {
    match of {
        t if t.is_dir() => "a folder",
        t if t.is_fifo() => "a pipe",
        t if t.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Held from reading a file until it is written anew: no other Windlass writes in its folder meanwhile. It lies on the
/// folder itself, so nothing is left behind.
pub(super) struct Lock(#[allow(dead_code)] Option<File>);

/// Waits until nobody else writes beside `path`. A folder that cannot be locked (one on some network file systems) is
/// written to as it is.
pub(super) fn lock(path: &Path) -> Lock {
    Lock(File::open(parent(&super::rules::real(path))).ok().filter(|folder| folder.lock().is_ok()))
}

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    /// The permission bits.
    pub(super) mode: u32,
    owner: Option<(u32, u32)>,
}

impl Access {
    /// As the file at `path` has it; of one that is not there, for its owner alone.
    pub(super) fn of(path: &Path) -> Access {
        let meta = path.metadata().ok();
        Access {
            mode: meta.as_ref().map_or(0o600, |m| m.permissions().mode() & 0o777),
            owner: meta.map(|m| (m.uid(), m.gid())),
        }
    }

    /// Of a new file.
    pub(super) fn new(mode: u32) -> Access {
        Access { mode, owner: None }
    }

    /// The same owner with another mode.
    pub(super) fn with_mode(self, mode: u32) -> Access {
        Access { mode, ..self }
    }

    /// Gives it to a file. Nobody but root can give a file away; then it is the writer's.
    fn apply(self, file: &File) -> io::Result<()> {
        if let Some((user, group)) = self.owner {
            use std::os::unix::fs::fchown;
            if fchown(file, Some(user), Some(group)).is_err() {
                let _ = fchown(file, None, Some(group));
            }
        }
        // Afterwards: a change of the owner takes bits away.
        file.set_permissions(Permissions::from_mode(self.mode))
    }
}

/// Writes `bytes` to `path` so that it is either whole and durable or not there: a temporary file beside it, synced,
/// renamed, and the directory synced. Its owner and mode are set before the rename. Without `overwrite` an existing file is
/// an error.
pub(super) fn write(path: &Path, bytes: &[u8], access: Access, overwrite: bool) -> Result<()> {
    let failed = |e: io::Error| {
        if e.kind() == io::ErrorKind::AlreadyExists {
            return exists(path);
        }
        Error::environment(format!("cannot write {}", path.display()))
            .because(e)
            .hint("Check the directory's owner and mode, and the free space.")
    };
    if !overwrite {
        refuse_existing(path)?;
    }
    let parent = parent(path);
    let mut temp = tempfile::Builder::new().prefix(".windlass-").suffix(".tmp").tempfile_in(&parent).map_err(failed)?;
    temp.write_all(bytes).map_err(failed)?;
    access.apply(temp.as_file()).map_err(failed)?;
    temp.as_file().sync_all().map_err(failed)?;
    let kept = if overwrite { temp.persist(path) } else { temp.persist_noclobber(path) };
    kept.map_err(|e| failed(e.error))?;
    sync(&parent).map_err(failed)
}

/// Removes a file and makes the removal durable.
pub(super) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).and_then(|()| sync(&parent(path))).map_err(|e| {
        Error::environment(format!("cannot remove {}", path.display())).because(e).hint("Remove it by hand.")
    })
}

/// Whether a file can be written beside `path`.
///
/// # Errors
/// It cannot.
pub(super) fn can_write(path: &Path) -> Result<()> {
    let parent = parent(path);
    use rustix::fs::{Access, access};
    access(&parent, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| {
        Error::environment(format!("nothing can be written in {}", parent.display()))
            .because(io::Error::from(e))
            .hint("Check the directory's owner and mode.")
    })
}

/// The directory `path` lies in.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether nothing is there.
///
/// # Errors
/// Something is.
pub(super) fn refuse_existing(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

fn exists(path: &Path) -> Error {
    Error::input(format!("{} already exists", path.display())).hint("Move it away, or choose another name.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_no_file_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // It does not wait for someone to write.
        let e = read(&pipe).unwrap_err();
        assert!(e.message.ends_with("is a pipe, not a file") && e.hint.is_some(), "{e}");
        assert!(read(dir.path()).unwrap_err().message.ends_with("is a folder, not a file"));
        assert!(read(&dir.path().join("none")).unwrap_err().message.starts_with("cannot read"));
        let writer = pipe.clone();
        let writing = std::thread::spawn(move || fs::write(writer, "key").unwrap());
        assert_eq!(**read_stream(&pipe).unwrap(), *b"key");
        writing.join().unwrap();
    }

    #[test]
    fn a_file_keeps_its_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.yml");
        fs::write(&path, "a: 1\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&path, Some(12345), Some(23456)).unwrap();
        }
        let before = path.metadata().unwrap();
        write(&path, b"a: 2\n", Access::of(&path), true).unwrap();
        let after = path.metadata().unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert!(after.ino() != before.ino() && (!is_root || after.uid() == 12345));
    }

    #[test]
    fn only_one_writes_in_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        fs::write(&path, "0").unwrap();
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..5 {
                        let _lock = lock(&path);
                        let n: u32 = fs::read_to_string(&path).unwrap().parse().unwrap();
                        write(&path, (n + 1).to_string().as_bytes(), Access::of(&path), true).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "40");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
