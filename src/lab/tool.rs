//! Running this machine's programs, and what went wrong with them or with files.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::error::{Error, Result};

/// Where administration programs live, also when the caller's PATH lacks them.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

fn path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SBIN}"),
        _ => SBIN.into(),
    }
}

/// A program's full path, if this machine has it.
pub fn find(program: &str) -> Option<PathBuf> {
    path()
        .split(':')
        .map(|dir| Path::new(dir).join(program))
        .find(|at| fs::metadata(at).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

/// A command in the C locale.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    command.env("PATH", path()).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Runs a command to its end and returns what it printed on stdout. The error shows the command, its exit and the end
/// of what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output =
        command.output().map_err(|e| Error::environment(format!("cannot run {}", shown(command))).because(e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::environment(format!("{} failed ({}){}", shown(command), output.status, last_words(&output))))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_words(output: &Output) -> String {
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let said = tail(&String::from_utf8_lossy(said), 8);
    if said.is_empty() { said } else { format!(": {said}") }
}

/// The last lines of a text, without empty ones.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Turns a file's error into ours: `fs::read(p).map_err(at("read", p))`.
pub fn at(what: &str, path: &Path) -> impl Fn(io::Error) -> Error {
    let message = format!("cannot {what} {}", path.display());
    move |e| Error::environment(message.clone()).because(e)
}

/// Writes a file with its mode, in place of what was there, creating its directory.
pub fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at("create", parent))?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let _ = fs::remove_file(&fresh);
    let write = || -> io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(content.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        drop(file);
        fs::rename(&fresh, path)
    };
    write().map_err(at("write", path))
}

/// A string as one word of `sh`.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
