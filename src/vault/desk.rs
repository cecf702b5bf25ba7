//! Where plaintext is edited: a private folder in memory, wiped whatever happens but the death of this process.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

pub(super) const EDIT_PREFIX: &str = "windlass-edit.";

/// How long an editor may take to end when it is told to.
const GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the editor and listens to signals meanwhile, so that this process is never ended with plaintext lying about.
pub(super) struct Watch {
    runtime: tokio::runtime::Runtime,
    signals: Vec<(&'static str, Signal)>,
}

impl Watch {
    /// From here on a signal no longer ends this process.
    pub(super) fn new() -> Result<Watch> {
        let failed = |e: std::io::Error| Error::environment("cannot listen to signals").because(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let kinds = [
            ("SIGINT", SignalKind::interrupt()),
            ("SIGTERM", SignalKind::terminate()),
            ("SIGHUP", SignalKind::hangup()),
            ("SIGQUIT", SignalKind::quit()),
        ];
        let listen = || kinds.into_iter().map(|(name, kind)| Ok((name, signal(kind)?))).collect::<std::io::Result<_>>();
        let signals = {
            let _inside = runtime.enter();
            listen().map_err(failed)?
        };
        Ok(Watch { runtime, signals })
    }

    /// Runs the editor on a file, to its end.
    pub(super) fn edit(&mut self, editor: Option<&str>, file: &Path) -> Result<()> {
        let set = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let editor = editor
            .map(str::to_string)
            .or_else(|| set("VISUAL"))
            .or_else(|| set("EDITOR"))
            .unwrap_or_else(|| "vi".into());
        let hint = "Set $VISUAL or $EDITOR to an editor that waits until the file is closed.";
        let mut command = tokio::process::Command::new("sh");
        // Through sh, since people write arguments into $EDITOR.
        command
            .arg("-c")
            .arg(format!("{}{} \"$1\"", editor, discreet(&editor, &std::env::var_os("PATH").unwrap_or_default())))
            .arg("sh")
            .arg(file);
        command.env_remove(super::identity::ENV_KEY);
        let Watch { runtime, signals } = self;
        let status = runtime.block_on(async {
            let failed = |e| Error::environment(format!("cannot run the editor `{editor}`")).because(e).hint(hint);
            let mut child = command.spawn().map_err(failed)?;
            loop {
                let name = tokio::select! {
                    status = child.wait() => return status.map_err(failed),
                    name = any(signals) => name,
                };
                // At a terminal Ctrl-C is for the editor, which got it too.
                if matches!(name, "SIGINT" | "SIGQUIT") && console::user_attended() {
                    continue;
                }
                end(&mut child).await;
                return Err(Error::environment(format!(
                    "the edit was ended by {name}; nothing was changed, and the plain text was wiped"
                )));
            }
        })?;
        check(status, &editor, hint)
    }
}

fn check(status: ExitStatus, editor: &str, hint: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Error::environment(format!("the editor `{editor}` failed ({status}); nothing was changed")).hint(hint))
}

/// The name of the first signal that comes.
async fn any(signals: &mut [(&'static str, Signal)]) -> &'static str {
    std::future::poll_fn(|cx| {
        let came = signals.iter_mut().find_map(|(name, s)| s.poll_recv(cx).is_ready().then_some(*name));
        came.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

/// Ends the shell and what it runs.
async fn end(child: &mut tokio::process::Child) {
    if let Some(pid) = child.id() {
        let send = |pid: &str, signal| {
            if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        };
        let shell = pid.to_string();
        // While it stands still, it starts nothing that would be left over.
        send(&shell, rustix::process::Signal::STOP);
        for _ in 0..100 {
            if fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |s| s.contains(") T ") || s.contains(") Z "))
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let below = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        below.split_whitespace().chain([shell.as_str()]).for_each(|p| send(p, rustix::process::Signal::TERM));
        send(&shell, rustix::process::Signal::CONT);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// What keeps an editor from writing copies elsewhere: vim's swap, undo, backup and history files.
fn discreet(editor: &str, path: &OsStr) -> &'static str {
    let program = editor.split_whitespace().find(|w| !w.contains('=')).unwrap_or_default();
    // `vi` and many others are links to it.
    let file = match program.contains('/') {
        true => Some(PathBuf::from(program)),
        false => std::env::split_paths(path).map(|dir| dir.join(program)).find(|p| p.is_file()),
    };
    let file = file.and_then(|p| p.canonicalize().ok());
    let names = [file.as_deref().unwrap_or(Path::new("")), Path::new(program)];
    let is_vim = |p: &&Path| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        ["vim", "nvim", "gvim", "rvim", "vimx"].contains(&name.as_ref()) || name.starts_with("vim.")
    };
    match names.iter().any(is_vim) {
        true => " -n -i NONE -c 'set nobackup nowritebackup noundofile'",
        false => "",
    }
}

/// A private directory for plaintext. Everything in it is wiped and removed when it is dropped.
pub(super) struct Desk(pub(super) PathBuf);

impl Desk {
    pub(super) fn new(memory: Option<PathBuf>, allow_disk: bool) -> Result<Desk> {
        let base = match memory {
            Some(dir) => dir,
            None if allow_disk => std::env::temp_dir(),
            None => {
                return Err(Error::environment("there is no memory-backed directory to edit secrets in")
                    .hint("Make /dev/shm or $XDG_RUNTIME_DIR a tmpfs, or allow the disk with --allow-disk."));
            }
        };
        sweep(&base);
        let prefix = format!("{EDIT_PREFIX}{}.", std::process::id());
        for _ in 0..16 {
            let dir = base.join(format!("{prefix}{:08x}", fresh()));
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Desk(dir)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    return Err(Error::environment(format!("cannot make a directory in {}", base.display()))
                        .because(e)
                        .hint("Check its mode and free space."));
                }
            }
        }
        Err(Error::environment(format!("cannot make a directory in {}", base.display())).hint("Clear it out."))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        wipe(&self.0);
    }
}

/// A number for a name; the directory's mode is what protects it.
fn fresh() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0u8) & u64::from(u32::MAX)) as u32
}

/// Overwrites and removes everything under `dir`, as far as possible, without following links.
fn wipe(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            wipe(&path);
        } else if kind.is_file() {
            let length = entry.metadata().map(|m| m.len()).unwrap_or(0);
            if let Ok(mut file) = OpenOptions::new().write(true).open(&path) {
                let _ = std::io::copy(&mut std::io::Read::take(std::io::repeat(0), length), &mut file);
                let _ = file.sync_data();
            }
        }
    }
    let _ = fs::remove_dir_all(dir);
}

/// Removes what edits that were killed have left.
pub(super) fn sweep(base: &Path) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(EDIT_PREFIX)).and_then(|n| n.split('.').next());
        let Some(pid) = pid.and_then(|p| p.parse().ok()).and_then(rustix::process::Pid::from_raw) else { continue };
        let is_mine = entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == me);
        if is_mine && rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            wipe(&entry.path());
        }
    }
}

/// A directory that lives in memory and can be written to.
pub(super) fn memory_dir() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    [Some(PathBuf::from("/dev/shm")), runtime]
        .into_iter()
        .flatten()
        .find(|dir| is_memory(dir) && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok())
}

#[cfg(target_os = "linux")]
pub(super) fn is_memory(dir: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    // The field's type differs between machines; its low 32 bits are the kind.
    rustix::fs::statfs(dir).is_ok_and(|s| matches!(s.f_type as u64 & 0xffff_ffff, TMPFS | RAMFS))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_memory(_dir: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn vim_keeps_no_copies_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for real in ["vim.basic", "nvim", "nano"] {
            fs::write(at(real), "").unwrap();
        }
        symlink(at("vim.basic"), at("alternative")).unwrap();
        for (name, to) in [("vi", "alternative"), ("view", "vim.basic"), ("rvim", "vim.basic"), ("editor", "nano")] {
            symlink(at(to), at(name)).unwrap();
        }
        let quiet = |editor: &str| !discreet(editor, dir.path().as_os_str()).is_empty();
        for editor in ["vi", "view -X", "rvim", "vim", "nvim", "TERM=vt100 vi", &at("vi").display().to_string()] {
            assert!(quiet(editor), "{editor}");
        }
        for editor in ["nano", "editor", "none", "", "vimdiff-like"] {
            assert!(!quiet(editor), "{editor}");
        }
    }
}
