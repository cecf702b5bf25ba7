//! Files on this machine, read whole and written all or nothing.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The largest file read whole, in bytes.
const LIMIT: u64 = 256 << 20;

/// Reads a whole file into memory that is wiped when dropped.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
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

/// Writes `bytes` to `path` so that it is either whole and durable or not there: a temporary file beside it, synced,
/// renamed, and the directory synced. `mode` is set before the rename. Without `overwrite` an existing file is an error.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32, overwrite: bool) -> Result<()> {
    let failed = |e: io::Error| {
        if e.kind() == io::ErrorKind::AlreadyExists {
            return exists(path);
        }
        Error::environment(format!("cannot write {}", path.display()))
            .because(e)
            .hint("Check the directory's owner and mode, and the free space.")
    };
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    let parent = parent(path);
    let mut temp = tempfile::Builder::new().prefix(".windlass-").suffix(".tmp").tempfile_in(&parent).map_err(failed)?;
    temp.write_all(bytes).map_err(failed)?;
    temp.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
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

fn exists(path: &Path) -> Error {
    Error::input(format!("{} already exists", path.display())).hint("Move it away, or choose another name.")
}
