//! Files from elsewhere, fetched on this side once for all hosts that want them.

mod http;
mod store;
mod sums;

pub use store::{Downloads, Fetched};
pub use sums::{Algorithm, Sum, find as find_sum};

use std::path::PathBuf;

/// A file to be fetched: an `http:`, `https:` or `file:` URL, or an absolute path on this side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Download {
    pub url: String,
    /// What its content must be.
    pub sum: Option<Sum>,
    pub headers: Vec<(String, String)>,
    /// User and password for the server.
    pub login: Option<(String, String)>,
    /// The server's certificate may be anybody's.
    pub any_certificate: bool,
    /// Seconds of silence after which a transfer is given up; 0: the usual.
    pub timeout: u64,
}

impl Download {
    /// A download of no particular content.
    pub fn new(url: &str) -> Self {
        Download { url: url.to_string(), ..Default::default() }
    }

    /// The file on this side, if that is where it is.
    pub fn local(&self) -> Option<PathBuf> {
        let path = match self.url.strip_prefix("file://") {
            Some(rest) => decoded(rest.strip_prefix("localhost").unwrap_or(rest)),
            None if self.url.starts_with('/') => self.url.clone(),
            None => return None,
        };
        Some(PathBuf::from(path))
    }

    /// The URL without a user's name and password.
    pub fn shown(&self) -> String {
        match self.parts() {
            Some((scheme, Some(_), rest)) => format!("{scheme}://{rest}"),
            _ => self.url.clone(),
        }
    }

    /// The last part of the URL's path: what a file of it would be called.
    pub fn file_name(&self) -> Option<String> {
        let path = match self.parts() {
            Some((_, _, rest)) => rest.split_once('/').map_or("", |(_, p)| p).split(['?', '#']).next()?,
            None => &self.url,
        };
        let name = decoded(path.rsplit('/').next()?);
        (!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])).then_some(name)
    }

    /// Why this is no URL that can be fetched.
    pub fn mistake(&self) -> Option<String> {
        if self.url.contains(|c: char| c.is_control()) {
            return Some("a URL has no line ends or other control characters".into());
        }
        if let Some(p) = self.local() {
            return (!p.is_absolute()).then(|| format!("`{}` does not name an absolute path", self.url));
        }
        match self.parts() {
            Some(("http" | "https", _, rest)) if !rest.is_empty() && !rest.starts_with('/') => None,
            Some(("http" | "https", ..)) => Some(format!("`{}` names no server", self.shown())),
            Some((other, ..)) => Some(format!("`{other}:` cannot be fetched; http, https and file can")),
            None => Some(format!("`{}` is neither a URL nor an absolute path", self.url)),
        }
    }

    /// Scheme, user part, and the rest of a URL.
    fn parts(&self) -> Option<(&str, Option<&str>, &str)> {
        let (scheme, rest) = self.url.split_once("://")?;
        let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Some(match server.rfind('@') {
            Some(at) => (scheme, Some(&rest[..at]), &rest[at + 1..]),
            None => (scheme, None, rest),
        })
    }

    /// Who logs in at the server: as given, or as the URL says.
    fn who(&self) -> Option<(String, String)> {
        self.login.clone().or_else(|| {
            let (_, user, _) = self.parts()?;
            let (name, password) = user?.split_once(':').unwrap_or((user?, ""));
            Some((decoded(name), decoded(password)))
        })
    }
}

/// Why something could not be fetched, and what to do about it.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchError {
    pub message: String,
    pub hint: Option<String>,
}

impl FetchError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        FetchError { message: message.into(), hint: Some(hint.into()) }
    }
}

impl From<&FetchError> for crate::modules::Stop {
    fn from(e: &FetchError) -> Self {
        crate::modules::Stop::Fail(crate::modules::Failure {
            message: e.message.clone(),
            hint: e.hint.clone(),
            ..Default::default()
        })
    }
}

/// Text with `%20` and the like taken for what they stand for.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.filter(|_| bytes[i] == b'%').and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_says() {
        let d = Download::new("https://me:p%40ss@host:8443/a/b%20c.tar.gz?x=/y#z");
        assert_eq!(d.shown(), "https://host:8443/a/b%20c.tar.gz?x=/y#z");
        assert_eq!(d.file_name().as_deref(), Some("b c.tar.gz"));
        assert_eq!(d.who(), Some(("me".into(), "p@ss".into())));
        assert_eq!(d.mistake(), None);
        assert_eq!(Download::new("https://host/x?y=a@b").who(), None);
        assert_eq!(Download::new("https://host/a/").file_name(), None);
        assert_eq!(Download::new("https://host/..%2f").file_name(), None);
        assert_eq!(Download::new("file:///a%20b/c").local(), Some("/a b/c".into()));
        assert_eq!(Download::new("/a b/c").file_name().as_deref(), Some("c"));
        for bad in ["ftp://host/x", "host/x", "https:///x", "http://", "file://x", "https://h/\n"] {
            assert!(Download::new(bad).mistake().is_some(), "{bad}");
        }
    }
}
