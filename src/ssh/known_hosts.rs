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
    pub fn check(&self, offered: &PublicKeyOrCertificate) -> Result<Verdict, Box<Rejection>> {
        let key = offered.public_key();
        self.judge(offered, &key).map_err(|reason| {
            Box::new(Rejection {
                host: self.name(),
                key_type: key.algorithm().to_string(),
                fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
                reason,
            })
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

#[cfg(test)]
mod tests {
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::Builder;
    use russh::keys::{EcdsaCurve, PrivateKey};

    use super::*;

    const P256: Algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };

    fn key(algorithm: Algorithm) -> PrivateKey {
        PrivateKey::random(&mut safe_rng(), algorithm).unwrap()
    }

    fn text(key: &PrivateKey) -> String {
        key.public_key().to_openssh().unwrap()
    }

    fn offered(key: &PrivateKey) -> PublicKeyOrCertificate {
        key.public_key().clone().into()
    }

    struct Case {
        dir: tempfile::TempDir,
    }

    impl Case {
        fn new(lines: &str) -> Case {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("known_hosts"), lines).unwrap();
            Case { dir }
        }
        fn file(&self) -> PathBuf {
            self.dir.path().join("known_hosts")
        }
        fn keys(&self, host: &str, port: u16, policy: HostKeyPolicy) -> HostKeys {
            HostKeys::new(host, port, vec![self.file()], vec![], policy)
        }
        fn strict(&self, host: &str, port: u16, key: &PrivateKey) -> Result<Verdict, Reason> {
            self.keys(host, port, HostKeyPolicy::Strict).check(&offered(key)).map_err(|r| r.reason)
        }
        fn at(&self, line: usize) -> Place {
            Place { file: self.file(), line }
        }
    }

    fn hashed(name: &str) -> String {
        let salt = b"01234567890123456789";
        let mut mac = Hmac::<Sha1>::new_from_slice(salt).unwrap();
        mac.update(name.as_bytes());
        format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn exact_name_with_odd_spacing_and_comment() {
        let k = key(Algorithm::Ed25519);
        let case = Case::new(&format!("# hosts\n\nother,Web.lan\t  {}  someone@there\n", text(&k)));
        assert_eq!(case.strict("WEB.lan", 22, &k), Ok(Verdict::Known));
    }

    #[test]
    fn unknown_host_is_refused_with_fingerprint_and_hint() {
        let k = key(Algorithm::Ed25519);
        let case = Case::new("");
        let r = case.keys("web", 2222, HostKeyPolicy::Strict).check(&offered(&k)).unwrap_err();
        assert_eq!((r.host.as_str(), r.key_type.as_str()), ("[web]:2222", "ssh-ed25519"));
        assert_eq!(r.fingerprint, k.fingerprint(HashAlg::Sha256).to_string());
        assert!(r.fingerprint.starts_with("SHA256:"));
        assert!(r.hint().contains("--accept-new-host-keys"));
        assert!(matches!(r.reason, Reason::Unknown { .. }));
    }

    #[test]
    fn a_missing_file_is_an_empty_one() {
        let k = key(Algorithm::Ed25519);
        let keys = HostKeys::new("web", 22, vec!["/nonexistent/known_hosts".into()], vec![], HostKeyPolicy::Off);
        assert_eq!(keys.check(&offered(&k)), Ok(Verdict::New));
    }

    #[test]
    fn hashed_names() {
        let k = key(Algorithm::Ed25519);
        let case = Case::new(&format!("{} {}\n{} {}\n", hashed("web"), text(&k), hashed("[db]:2222"), text(&k)));
        assert_eq!(case.strict("web", 22, &k), Ok(Verdict::Known));
        assert_eq!(case.strict("db", 2222, &k), Ok(Verdict::Known));
        assert!(matches!(case.strict("other", 22, &k), Err(Reason::Unknown { .. })));
    }

    #[test]
    fn wildcards_and_negation() {
        let k = key(Algorithm::Ed25519);
        let case = Case::new(&format!("*.lan,!db.lan {}\n", text(&k)));
        assert_eq!(case.strict("web.lan", 22, &k), Ok(Verdict::Known));
        assert!(matches!(case.strict("db.lan", 22, &k), Err(Reason::Unknown { .. })));
    }

    #[test]
    fn ports() {
        let (k, other) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let case = Case::new(&format!("[web]:2222 {}\nbare {}\n", text(&k), text(&k)));
        assert_eq!(case.strict("web", 2222, &k), Ok(Verdict::Known));
        assert!(matches!(case.strict("web", 22, &k), Err(Reason::Unknown { .. })));
        // A bare name vouches for its own key on any port, and says nothing about others.
        assert_eq!(case.strict("bare", 2222, &k), Ok(Verdict::Known));
        assert!(matches!(case.strict("bare", 2222, &other), Err(Reason::Unknown { .. })));
    }

    #[test]
    fn a_changed_key_is_refused_and_its_line_named() {
        let (old, new) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let case = Case::new(&format!("a {}\nweb {}\n", text(&new), text(&old)));
        for policy in [HostKeyPolicy::Strict, HostKeyPolicy::AcceptNew] {
            let r = case.keys("web", 22, policy).check(&offered(&new)).unwrap_err();
            assert_eq!(r.reason, Reason::Changed { entry: case.at(2) });
            assert!(r.hint().contains("ssh-keygen -R 'web'"), "{}", r.hint());
            assert!(r.to_string().contains("known_hosts:2"), "{r}");
        }
        assert_eq!(case.keys("web", 22, HostKeyPolicy::Off).check(&offered(&new)), Ok(Verdict::Unproved));
    }

    #[test]
    fn known_by_another_type_only_is_refused() {
        let (ed, ec) = (key(Algorithm::Ed25519), key(P256));
        let case = Case::new(&format!("web {}\n", text(&ed)));
        let r = case.keys("web", 22, HostKeyPolicy::AcceptNew).check(&offered(&ec)).unwrap_err();
        assert_eq!(r.reason, Reason::OtherType { entry: case.at(1), recorded: "ssh-ed25519".into() });
        assert_eq!(fs::read_to_string(case.file()).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_revoked_key_is_never_accepted() {
        let k = key(Algorithm::Ed25519);
        let case = Case::new(&format!("web {}\n@revoked * {}\n", text(&k), text(&k)));
        for policy in [HostKeyPolicy::Strict, HostKeyPolicy::AcceptNew, HostKeyPolicy::Off] {
            let r = case.keys("web", 22, policy).check(&offered(&k)).unwrap_err();
            assert_eq!(r.reason, Reason::Revoked { entry: case.at(2) });
        }
    }

    #[test]
    fn recorded_types_are_asked_for_first() {
        let case = Case::new(&format!("web {}\n", text(&key(P256))));
        let all = [Algorithm::Ed25519, P256, Algorithm::Rsa { hash: Some(HashAlg::Sha512) }];
        let (first, certificates) = case.keys("web", 22, HostKeyPolicy::Strict).preferred(&all);
        assert_eq!(first[0], P256);
        assert_eq!(first.len(), 3);
        assert!(certificates.is_empty());
    }

    #[test]
    fn accept_new_appends_after_a_line_without_end() {
        let (k, other) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let case = Case::new(&format!("db {}", text(&other)));
        let keys = case.keys("web", 2222, HostKeyPolicy::AcceptNew);
        assert_eq!(keys.check(&offered(&k)), Ok(Verdict::New));
        assert_eq!(keys.check(&offered(&k)), Ok(Verdict::Known));
        let lines = fs::read_to_string(case.file()).unwrap();
        assert_eq!(lines, format!("db {}\n[web]:2222 {}\n", text(&other).trim(), text(&k).trim()));
        assert_eq!(case.strict("db", 22, &other), Ok(Verdict::Known));
    }

    #[test]
    fn accept_new_makes_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ssh/known_hosts");
        let keys = HostKeys::new("web", 22, vec![file.clone()], vec![], HostKeyPolicy::AcceptNew);
        assert_eq!(keys.check(&offered(&key(Algorithm::Ed25519))), Ok(Verdict::New));
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn many_at_once_do_not_garble_the_file() {
        let case = Case::new("");
        let keys: Vec<_> = (0..20).map(|_| key(Algorithm::Ed25519)).collect();
        std::thread::scope(|scope| {
            for (n, k) in keys.iter().enumerate() {
                let host = case.keys(&format!("host{n}"), 22, HostKeyPolicy::AcceptNew);
                scope.spawn(move || host.check(&offered(k)).unwrap());
            }
        });
        assert_eq!(fs::read_to_string(case.file()).unwrap().lines().count(), 20);
        for (n, k) in keys.iter().enumerate() {
            assert_eq!(case.strict(&format!("host{n}"), 22, k), Ok(Verdict::Known));
        }
    }

    #[test]
    fn of_two_first_keys_at_once_one_wins() {
        let case = Case::new("");
        let host = case.keys("web", 22, HostKeyPolicy::AcceptNew);
        // Both saw an empty file before either wrote.
        assert_eq!(host.learn(key(Algorithm::Ed25519).public_key()), Ok(Verdict::New));
        assert!(matches!(host.learn(key(Algorithm::Ed25519).public_key()), Err(Reason::Changed { .. })));
    }

    fn certificate(ca: &PrivateKey, kind: CertType, principal: &str, from: u64, to: u64) -> PublicKeyOrCertificate {
        let subject = key(Algorithm::Ed25519);
        let mut builder = Builder::new_with_random_nonce(&mut safe_rng(), subject.public_key(), from, to).unwrap();
        builder.cert_type(kind).unwrap();
        builder.valid_principal(principal).unwrap();
        builder.key_id("test").unwrap();
        builder.sign(ca).unwrap().into()
    }

    #[test]
    fn certificates_of_a_recorded_authority() {
        let (ca, other_ca) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let case = Case::new(&format!("@cert-authority *.lan {}\n", text(&ca)));
        let far = 4_000_000_000;
        let check = |c: &PublicKeyOrCertificate, host: &str| {
            case.keys(host, 2222, HostKeyPolicy::Strict).check(c).map_err(|r| r.reason)
        };
        // An authority recorded for a host applies to that port only.
        let bracketed = Case::new(&format!("@cert-authority [*.lan]:2222 {}\n", text(&ca)));
        let good = certificate(&ca, CertType::Host, "web.lan", 0, far);
        let keys = bracketed.keys("web.lan", 2222, HostKeyPolicy::Strict);
        assert_eq!(keys.check(&good), Ok(Verdict::Known));
        assert!(matches!(check(&good, "web.lan"), Err(Reason::Certificate(_))));

        let keys = case.keys("web.lan", 22, HostKeyPolicy::Strict);
        assert_eq!(keys.check(&good), Ok(Verdict::Known));
        assert_eq!(keys.preferred(&[Algorithm::Ed25519]).1, [Algorithm::Ed25519]);
        for bad in [
            certificate(&other_ca, CertType::Host, "web.lan", 0, far),
            certificate(&ca, CertType::User, "web.lan", 0, far),
            certificate(&ca, CertType::Host, "db.lan", 0, far),
            certificate(&ca, CertType::Host, "web.lan", 0, 1000),
        ] {
            assert!(matches!(keys.check(&bad).unwrap_err().reason, Reason::Certificate(_)));
        }
        let revoked = Case::new(&format!("@cert-authority * {}\n@revoked * {}\n", text(&ca), text(&ca)));
        let keys = revoked.keys("web.lan", 22, HostKeyPolicy::Strict);
        assert_eq!(keys.check(&good).unwrap_err().reason, Reason::Revoked { entry: revoked.at(2) });
    }
}
