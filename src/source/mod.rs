//! Project files as text with places in it, and what is wrong with them.

mod diagnostic;
mod node;
pub mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Severity, nearest};
pub use node::{Entry, Kind, Node};

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file that was read: its path as the user would write it, and its text.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
    /// The text came out of an encrypted file: no line of it is ever shown.
    pub secret: bool,
    line_starts: Vec<usize>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

impl Source {
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Self::build(path.into(), text.into(), false)
    }
    /// A source whose text must never be shown.
    pub fn secret(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Self::build(path.into(), text.into(), true)
    }
    fn build(path: PathBuf, text: String, secret: bool) -> Arc<Self> {
        let mut line_starts = vec![0];
        line_starts.extend(text.match_indices('\n').map(|(i, _)| i + 1));
        Arc::new(Source { path, text, secret, line_starts })
    }
    /// Reads a file; what cannot be read, or is not UTF-8, is a diagnostic without a place in it.
    pub fn read(path: &Path) -> Result<Arc<Self>, Diagnostic> {
        let shown = display_path(path);
        let bytes = std::fs::read(path).map_err(|e| unreadable(&shown, &e))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(shown, text)),
            Err(e) => {
                let good = e.utf8_error().valid_up_to();
                let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
                Err(Diagnostic::error(format!("{}:{line}: the file is not UTF-8 text", shown.display()))
                    .hint("save it as UTF-8; binary content belongs into a role's files/"))
            }
        }
    }
    /// Line and column of a byte offset, both counted from 1; columns count characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|s| *s <= offset);
        let start = self.line_starts[line - 1];
        (line, self.text.get(start..offset).map_or(1, |s| s.chars().count() + 1))
    }
    /// Byte offset of a line and a column, both counted from 1 (the column in characters).
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let rest = &self.text[start..];
        start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(i, _)| i)
    }
}

/// Reads a file, and nothing that may give no end: a pipe that nobody writes to, a device.
pub(crate) fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?.file_type();
    match kind.is_file() || kind.is_dir() {
        true => std::fs::read(path),
        false => Err(std::io::Error::other("it is a pipe, a socket or a device, not a file")),
    }
}

/// Why a file cannot be read, without the system's own numbers.
pub(crate) fn unreadable(shown: &Path, e: &std::io::Error) -> Diagnostic {
    use std::io::ErrorKind;
    let path = shown.display();
    match e.kind() {
        ErrorKind::NotFound => {
            let d = Diagnostic::error(format!("there is no file {path}"));
            let dir = shown.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let here: Vec<String> = std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect();
            let name = shown.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let sealed = format!("{name}.age");
            if here.contains(&sealed) {
                return d.hint(format!("it is there encrypted: write `{}`", shown.with_file_name(sealed).display()));
            }
            // Of short names with one ending, everything is nearly something.
            let stem = |n: &str| n.split('.').next().unwrap_or_default().to_string();
            let near = here
                .iter()
                .map(String::as_str)
                .filter(|h| stem(h) == stem(&name) || nearest(&stem(&name), [stem(h).as_str()]).is_some());
            match nearest(&name, near) {
                Some(n) => d.hint(format!("did you mean `{}`?", shown.with_file_name(n).display())),
                None if !dir.is_dir() => d.hint(format!("there is no folder {} either", dir.display())),
                None => d.hint("check the path; it is taken from the folder you are in"),
            }
        }
        ErrorKind::IsADirectory => {
            Diagnostic::error(format!("{path} is a folder, not a file")).hint("name a file in it")
        }
        ErrorKind::PermissionDenied => {
            Diagnostic::error(format!("{path} may not be read")).hint("see who owns it, and its mode: ls -l")
        }
        _ => Diagnostic::error(format!("cannot read {path}: {e}")).hint("check the path"),
    }
}

/// The path as it is shown: relative to the working directory where it lies below it.
pub fn display_path(path: &Path) -> PathBuf {
    let path = path.strip_prefix("./").unwrap_or(path);
    match std::env::current_dir() {
        Ok(cwd) => path.strip_prefix(&cwd).map_or_else(|_| path.to_path_buf(), Path::to_path_buf),
        Err(_) => path.to_path_buf(),
    }
}

/// A range of bytes in a source.
#[derive(Clone, Debug)]
pub struct Span {
    pub source: Arc<Source>,
    pub range: Range<usize>,
}

impl Span {
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        Span { source: source.clone(), range }
    }
    /// `path:line` of the start, as errors and logs name a task.
    pub fn line(&self) -> String {
        format!("{}:{}", self.source.path.display(), self.source.line_column(self.range.start).0)
    }
    /// `path:line:column` of the start.
    pub fn place(&self) -> String {
        let (l, c) = self.source.line_column(self.range.start);
        format!("{}:{l}:{c}", self.source.path.display())
    }
    /// The text the span covers.
    pub fn text(&self) -> &str {
        self.source.text.get(self.range.clone()).unwrap_or("")
    }
}

impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.range == other.range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_without_an_end_is_read() {
        let t = tempfile::tempdir().unwrap();
        let pipe = t.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read_regular(&pipe).unwrap_err().to_string().contains("a pipe"));
        let file = t.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(read_regular(&file).unwrap(), b"x");
        assert_eq!(read_regular(t.path()).unwrap_err().kind(), std::io::ErrorKind::IsADirectory);
    }
}
