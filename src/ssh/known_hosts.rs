//! Host keys: what known_hosts files say of the key a server shows, and what we do about it.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};
use sha1::Sha1;

use super::pattern;
use crate::error::Error;

/// What to do with a host whose key no file knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKeyPolicy {
    /// Refuse it.
    #[default]
    Strict,
    /// Record it and go on. A key that differs from a recorded one is still refused.
    AcceptNew,
    /// Go on without recording, even when the key differs from the recorded one (then no password is sent, as
    /// OpenSSH does). Revoked keys are still refused.
    Off,
}

/// A host key that passed the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The key is recorded for this host, or a trusted authority signed it.
    Known,
    /// Nothing is recorded for this host and the policy lets it pass.
    New,
    /// It differs from what is recorded and the policy is [`HostKeyPolicy::Off`]: no password may be sent.
    Unproved,
}

/// The files and the names under which one host's key is looked up.
#[derive(Debug, Clone)]
pub struct HostKeys {
    host: String,
    port: u16,
    /// The file new keys go to is the first one.
    user_files: Vec<PathBuf>,
    global_files: Vec<PathBuf>,
    policy: HostKeyPolicy,
}

/// Why a host key was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The host as known_hosts names it: `host` or `[host]:port`.
    pub host: String,
    /// The offered key's type, e.g. `ssh-ed25519`.
    pub key_type: String,
    /// The offered key's fingerprint, `SHA256:…`.
    pub fingerprint: String,
    pub reason: Reason,
}

/// The ways a host key can be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No file knows the host.
    Unknown { searched: Vec<PathBuf> },
    /// Another key of the same type is recorded.
    Changed { entry: Place },
    /// The host is recorded with keys of other types only.
    OtherType { entry: Place, recorded: String },
    /// The key, or the authority that signed it, is marked `@revoked`.
    Revoked { entry: Place },
    /// The host shows a certificate that does not hold; the text says why.
    Certificate(String),
    /// A known_hosts file could not be read or written.
    File { path: PathBuf, error: String },
}

/// A line of a known_hosts file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rejection { host, key_type, fingerprint, reason } = self;
        match reason {
            Reason::Unknown { .. } => write!(f, "host key of {host} is not known ({key_type} {fingerprint})"),
            Reason::Changed { entry } => write!(
                f,
                "host key of {host} has changed: it offers {key_type} {fingerprint}, but {entry} records another key; \
                 the host was reinstalled, or someone is in between"
            ),
            Reason::OtherType { entry, recorded } => write!(
                f,
                "host key of {host} is of a type not recorded: it offers {key_type} {fingerprint}, but {entry} records \
                 {recorded}"
            ),
            Reason::Revoked { entry } => {
                write!(f, "host key of {host} is revoked by {entry} ({key_type} {fingerprint})")
            }
            Reason::Certificate(why) => {
                write!(f, "host certificate of {host} does not hold: {why} ({key_type} {fingerprint})")
            }
            Reason::File { path, error } => write!(f, "cannot use known_hosts file {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Rejection {}

impl Rejection {
    /// What the reader should do next.
    pub fn hint(&self) -> String {
        match &self.reason {
            Reason::Unknown { .. } => {
                "compare the fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then \
                 connect once with ssh, or use --accept-new-host-keys"
                    .into()
            }
            Reason::Changed { entry } | Reason::OtherType { entry, .. } => format!(
                "if the host was reinstalled, check the fingerprint and remove the old key: ssh-keygen -R '{}' -f '{}'",
                self.host,
                entry.file.display()
            ),
            Reason::Revoked { .. } => "give the host a new key; a revoked one is never accepted".into(),
            Reason::Certificate(_) => "have the host's certificate issued anew by the authority in known_hosts".into(),
            Reason::File { .. } => "check the file's owner and mode, or name another known_hosts file".into(),
        }
    }
}

impl From<Rejection> for Error {
    fn from(r: Rejection) -> Error {
        Error::unreachable(r.to_string()).hint(r.hint())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Authority,
    Revoked,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    names: String,
    key: PublicKey,
    place: Place,
}

/// Reads the lines a file holds; what cannot be parsed (other key types, comments) is passed over, as OpenSSH does.
fn parse(text: &str, file: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let Some(mut word) = words.next() else { continue };
        let mark = match word {
            "@cert-authority" => Mark::Authority,
            "@revoked" => Mark::Revoked,
            _ if word.starts_with('@') => continue,
            _ => Mark::None,
        };
        if mark != Mark::None {
            let Some(next) = words.next() else { continue };
            word = next;
        }
        let (Some(kind), Some(blob)) = (words.next(), words.next()) else { continue };
        let Ok(key) = PublicKey::from_openssh(&format!("{kind} {blob}")) else { continue };
        let place = Place { file: file.to_owned(), line: n + 1 };
        entries.push(Entry { mark, names: word.to_owned(), key, place });
    }
    entries
}

fn read(file: &Path) -> Result<String, Reason> {
    match fs::read(file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Reason::File { path: file.to_owned(), error: e.to_string() }),
    }
}

/// Whether an entry's host field is about `name` (lower case).
fn names_match(names: &str, name: &str) -> bool {
    match names.strip_prefix("|1|") {
        Some(hashed) => hashed_match(hashed, name).unwrap_or(false),
        None => {
            let names = names.to_ascii_lowercase();
            pattern::list_matches(names.split(','), name)
        }
    }
}

fn hashed_match(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&BASE64.decode(salt).ok()?).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&BASE64.decode(hash).ok()?).is_ok())
}

fn is_rsa(a: &Algorithm) -> bool {
    matches!(a, Algorithm::Rsa { .. })
}

/// The key types two algorithms stand for; RSA counts once, whatever hash signs with it.
fn same_type(a: &Algorithm, b: &Algorithm) -> bool {
    a == b || (is_rsa(a) && is_rsa(b))
}

impl HostKeys {
    /// Keys of `host` as reached on `port`. An alias given by HostKeyAlias is looked up without a port: pass 22.
    pub fn new(
        host: &str,
        port: u16,
        user_files: Vec<PathBuf>,
        global_files: Vec<PathBuf>,
        policy: HostKeyPolicy,
    ) -> Self {
        HostKeys { host: host.to_ascii_lowercase(), port, user_files, global_files, policy }
    }

    /// The host as known_hosts writes it: `host`, or `[host]:port` when the port is not 22.
    pub fn name(&self) -> String {
        if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }

    fn entries(&self) -> Result<Vec<Entry>, Reason> {
        let name = self.name();
        let mut entries = Vec::new();
        for file in self.user_files.iter().chain(&self.global_files) {
            let all = parse(&read(file)?, file);
            entries.extend(all.into_iter().filter(|e| names_match(&e.names, &name)));
        }
        Ok(entries)
    }

    /// The key algorithms to ask the server for: those with a recorded key first, so that a host known by one type is
    /// not refused for showing another. The second list holds those for which a host certificate is wanted: empty
    /// unless an authority is recorded for this host.
    pub fn preferred(&self, algorithms: &[Algorithm]) -> (Vec<Algorithm>, Vec<Algorithm>) {
        let entries = self.entries().unwrap_or_default();
        let recorded = |a: &Algorithm| entries.iter().any(|e| e.mark == Mark::None && same_type(&e.key.algorithm(), a));
        let (mut first, rest): (Vec<_>, Vec<_>) = algorithms.iter().cloned().partition(recorded);
        first.extend(rest);
        let authority = entries.iter().any(|e| e.mark == Mark::Authority);
        let certificates = if authority { first.clone() } else { Vec::new() };
        (first, certificates)
    }

    /// Judges the key or certificate a server shows; records it if the policy says so. Reads and writes files.
    pub fn check(&self, offered: &PublicKeyOrCertificate) -> Result<Verdict, Rejection> {
        let key = offered.public_key();
        self.judge(offered, &key).map_err(|reason| Rejection {
            host: self.name(),
            key_type: key.algorithm().to_string(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            reason,
        })
    }

    fn judge(&self, offered: &PublicKeyOrCertificate, key: &PublicKey) -> Result<Verdict, Reason> {
        let entries = self.entries()?;
        let signer = offered.certificate().map(|c| c.signature_key());
        if let Some(e) = entries.iter().find(|e| {
            e.mark == Mark::Revoked && (e.key.key_data() == key.key_data() || Some(e.key.key_data()) == signer)
        }) {
            return Err(Reason::Revoked { entry: e.place.clone() });
        }
        if let Some(certificate) = offered.certificate() {
            return self.judge_certificate(certificate, &entries);
        }
        match self.compare(&entries, key) {
            Ok(Some(verdict)) => Ok(verdict),
            Ok(None) => self.unknown(key),
            Err(_) if self.policy == HostKeyPolicy::Off => Ok(Verdict::Unproved),
            Err(reason) => Err(reason),
        }
    }

    /// Compares a plain key with what is recorded; None when nothing is.
    fn compare(&self, entries: &[Entry], key: &PublicKey) -> Result<Option<Verdict>, Reason> {
        let plain: Vec<_> = entries.iter().filter(|e| e.mark == Mark::None).collect();
        if plain.iter().any(|e| e.key.key_data() == key.key_data()) {
            return Ok(Some(Verdict::Known));
        }
        if let Some(e) = plain.iter().find(|e| same_type(&e.key.algorithm(), &key.algorithm())) {
            return Err(Reason::Changed { entry: e.place.clone() });
        }
        if let Some(e) = plain.first() {
            let mut types: Vec<_> = plain.iter().map(|e| e.key.algorithm().to_string()).collect();
            types.dedup();
            return Err(Reason::OtherType { entry: e.place.clone(), recorded: types.join(", ") });
        }
        Ok(None)
    }

    fn judge_certificate(&self, certificate: &Certificate, entries: &[Entry]) -> Result<Verdict, Reason> {
        let authorities: Vec<_> =
            entries.iter().filter(|e| e.mark == Mark::Authority).map(|e| e.key.fingerprint(HashAlg::Sha256)).collect();
        let refuse = |why: &str| Err(Reason::Certificate(why.to_owned()));
        if certificate.cert_type() != CertType::Host {
            return refuse("it is a user's certificate");
        }
        if let Err(e) = certificate.validate(&authorities) {
            return refuse(&format!("{e}; it must be signed by a recorded authority and be within its dates"));
        }
        if !certificate.critical_options().is_empty() {
            return refuse("it has critical options, which host certificates may not have");
        }
        let principals = certificate.valid_principals();
        if !principals.iter().any(|p| pattern::matches(&p.to_ascii_lowercase(), &self.host)) {
            return refuse(&format!("it is for {}, not for {}", principals.join(", "), self.host));
        }
        Ok(Verdict::Known)
    }

    fn unknown(&self, key: &PublicKey) -> Result<Verdict, Reason> {
        // As OpenSSH does: a host on another port may be known by its bare name, but only by this very key.
        if self.port != 22 {
            let bare = HostKeys { port: 22, ..self.clone() };
            if matches!(bare.compare(&bare.entries()?, key), Ok(Some(Verdict::Known))) {
                return Ok(Verdict::Known);
            }
        }
        match self.policy {
            HostKeyPolicy::Off => Ok(Verdict::New),
            HostKeyPolicy::Strict => {
                Err(Reason::Unknown { searched: self.user_files.iter().chain(&self.global_files).cloned().collect() })
            }
            HostKeyPolicy::AcceptNew => self.learn(key),
        }
    }

    /// Appends the key to the first user file. The file is locked and read again before, so that of two connections
    /// at once the second sees what the first wrote.
    fn learn(&self, key: &PublicKey) -> Result<Verdict, Reason> {
        let Some(file) = self.user_files.first() else { return Ok(Verdict::New) };
        let failed = |e: io::Error| Reason::File { path: file.clone(), error: e.to_string() };
        let line = key.to_openssh().map_err(|e| failed(io::Error::other(e)))?;
        let kind_and_blob: Vec<_> = line.split(' ').take(2).collect();
        let line = format!("{} {}\n", self.name(), kind_and_blob.join(" "));

        let mut handle = open_for_append(file).map_err(failed)?;
        rustix::fs::flock(&handle, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        let mut text = Vec::new();
        handle.rewind().and_then(|()| handle.read_to_end(&mut text)).map_err(failed)?;
        let mut entries = parse(&String::from_utf8_lossy(&text), file);
        entries.retain(|e| names_match(&e.names, &self.name()));
        if let Some(verdict) = self.compare(&entries, key)? {
            return Ok(verdict);
        }
        let separator = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
        handle.write_all(format!("{separator}{line}").as_bytes()).map_err(failed)?;
        Ok(Verdict::New)
    }
}

fn open_for_append(file: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty() && !d.exists()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)
}
