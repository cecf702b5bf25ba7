//! The keys that decrypt: where they come from, and how they are kept.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use age::secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::crypt;
use super::prompt::{self, Prompt, Refusal, Tried};
use super::recipient::Recipient;
use super::store;
use crate::error::{Error, Result};

/// The environment variable that holds key text.
pub const ENV_KEY: &str = "WINDLASS_IDENTITY";
/// The environment variable that lists identity files, separated by colons.
pub const ENV_FILES: &str = "WINDLASS_IDENTITY_FILE";

/// Where identities are looked for. All that exist are used, in the order of the fields.
#[derive(Clone, Default)]
pub struct Sources {
    /// Files named on the command line; each must exist.
    pub files: Vec<PathBuf>,
    /// Key text from `WINDLASS_IDENTITY`.
    pub key_text: Option<SecretString>,
    /// Files from `WINDLASS_IDENTITY_FILE`; each must exist.
    pub env_files: Vec<PathBuf>,
    /// The user's file, `~/.config/windlass/identity.txt`; may be missing.
    pub user: Option<PathBuf>,
    /// The project's file, `.windlass/identity.txt`; may be missing.
    pub project: Option<PathBuf>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources(…)")
    }
}

impl Sources {
    /// The sources of this process: `files` as given, the environment, the user's file, and the file of the project
    /// rooted at `project`.
    ///
    /// # Errors
    /// `WINDLASS_IDENTITY` is not text.
    pub fn from_env(files: Vec<PathBuf>, project: Option<&Path>) -> Result<Sources> {
        Self::from_vars(files, project, |name| std::env::var_os(name))
    }

    fn from_vars(
        files: Vec<PathBuf>,
        project: Option<&Path>,
        var: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Sources> {
        let set = |name| var(name).filter(|v| !v.is_empty());
        let key_text = match set(ENV_KEY).map(OsString::into_string) {
            None => None,
            Some(Ok(text)) => Some(SecretString::from(text)),
            Some(Err(_)) => {
                return Err(Error::input(format!("{ENV_KEY} is not text"))
                    .hint(format!("Put the key itself into it; for a path use {ENV_FILES}.")));
            }
        };
        let env_files = set(ENV_FILES)
            .map(|v| std::env::split_paths(&v).filter(|p| !p.as_os_str().is_empty()).collect())
            .unwrap_or_default();
        Ok(Sources {
            files,
            key_text,
            env_files,
            user: user_file(&var),
            project: project.map(|p| p.join(".windlass/identity.txt")),
        })
    }

    /// Reads every source. Passphrases are asked for through `prompt`, and only when a locked key is needed.
    ///
    /// # Errors
    /// A named file is missing or unreadable, or a source holds no usable key.
    pub fn load(&self, prompt: Arc<dyn Prompt>) -> Result<Identities> {
        let mut inner = Inner { held: Vec::new(), prompt, warnings: Vec::new(), looked: Vec::new() };
        let mut seen: Vec<PathBuf> = Vec::new();
        let mut file = |inner: &mut Inner, path: &Path, needed: bool| -> Result<()> {
            if !needed && matches!(path.metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound) {
                inner.looked.push(path.display().to_string());
                return Ok(());
            }
            let same = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
            if !seen.contains(&same) {
                inner.read_file(path)?;
                seen.push(same);
            }
            Ok(())
        };
        for path in &self.files {
            file(&mut inner, path, true)?;
        }
        if let Some(text) = &self.key_text {
            inner.held.extend(parse(text.expose_secret().as_bytes(), ENV_KEY)?);
        }
        for path in &self.env_files {
            file(&mut inner, path, true)?;
        }
        for path in self.user.iter().chain(&self.project) {
            file(&mut inner, path, false)?;
        }
        Ok(Identities { inner: Arc::new(inner) })
    }
}

/// The user's identity file, whether it exists or not; `None` without a home directory.
pub fn default_path() -> Option<PathBuf> {
    user_file(&|name: &str| std::env::var_os(name))
}

fn user_file(var: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| var(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("windlass/identity.txt"))
}

/// Something about an identity that its owner should know, but that stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// The loaded identities. Cheap to clone; a key once unlocked stays unlocked in every clone.
#[derive(Clone)]
pub struct Identities {
    inner: Arc<Inner>,
}

struct Inner {
    held: Vec<Held>,
    prompt: Arc<dyn Prompt>,
    warnings: Vec<Warning>,
    /// Places that were looked at and hold nothing.
    looked: Vec<String>,
}

/// One key and where it came from.
pub(super) struct Held {
    /// A path, or the name of an environment variable.
    pub(super) origin: String,
    pub(super) key: Key,
}

pub(super) enum Key {
    X25519(age::x25519::Identity),
    Ssh(age::ssh::Identity, age::ssh::Recipient),
    LockedSsh(LockedSsh),
    LockedFile(LockedFile),
    Plugin(age::plugin::Identity),
}

/// Something a passphrase opens: asked for once, the answer's result kept.
struct Lock<T>(Mutex<Option<Result<Arc<T>, Refusal>>>);

impl<T> Lock<T> {
    fn new() -> Self {
        Lock(Mutex::new(None))
    }
    fn open(&self, unlock: impl FnOnce() -> Result<T, Refusal>) -> Result<Arc<T>, Refusal> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.get_or_insert_with(|| unlock().map(Arc::new)).clone()
    }
}

/// An ssh private key under a passphrase. Its public half is in the clear.
pub(super) struct LockedSsh {
    key: age::ssh::Identity,
    recipient: age::ssh::Recipient,
    lock: Lock<age::ssh::Identity>,
}

impl LockedSsh {
    /// Whether a header's stanza is addressed to this key.
    pub(super) fn is_named_by(&self, stanza: &crypt::Stanza) -> bool {
        let own = Recipient::Ssh(self.recipient.clone()).stanza();
        own.is_some_and(|(kind, tag)| stanza.kind == kind && stanza.args.first() == tag.as_ref())
    }

    pub(super) fn unlock(&self, prompt: &dyn Prompt, origin: &str) -> Result<Arc<age::ssh::Identity>, Refusal> {
        self.lock.open(|| {
            prompt::ask(prompt, origin, |passphrase| match &self.key {
                age::ssh::Identity::Encrypted(key) => match key.decrypt(passphrase) {
                    Ok(key) => Tried::Open(key.into()),
                    Err(age::DecryptError::KeyDecryptionFailed) => Tried::Wrong,
                    Err(e) => Tried::Broken(format!("cannot read {origin}: {e}"), "Check the key file.".to_string()),
                },
                open => Tried::Open(open.clone()),
            })
        })
    }
}

/// An age identity file that is itself encrypted with a passphrase.
pub(super) struct LockedFile {
    sealed: Vec<u8>,
    lock: Lock<Vec<Held>>,
}

impl LockedFile {
    pub(super) fn unlock(&self, prompt: &dyn Prompt, origin: &str) -> Result<Arc<Vec<Held>>, Refusal> {
        self.lock.open(|| {
            let (text, _) = crypt::open_with_passphrase(&self.sealed, origin, prompt)?;
            let broken = |e: Error| Refusal::Broken(e.message, e.hint.unwrap_or_default());
            parse_lines(&text, origin).map_err(broken)
        })
    }
}

impl Inner {
    fn read_file(&mut self, path: &Path) -> Result<()> {
        let origin = path.display().to_string();
        let bytes = store::read_stream(path).map_err(|mut e| {
            e.message = format!("cannot read the identity {origin}");
            e
        })?;
        let mode = path.metadata().map(|m| m.permissions().mode()).unwrap_or(0);
        if mode & 0o077 != 0 && path.is_file() {
            self.warnings.push(Warning {
                message: format!("{origin} is open to other users (mode {:04o})", mode & 0o7777),
                hint: format!("chmod 600 {origin}"),
            });
        }
        self.held.extend(parse(&bytes, &origin)?);
        Ok(())
    }
}

impl Identities {
    /// Whether there is no identity at all. Passphrases may still be asked for.
    pub fn is_empty(&self) -> bool {
        self.inner.held.is_empty()
    }

    /// How many identities there are; a locked file counts as one.
    pub fn len(&self) -> usize {
        self.inner.held.len()
    }

    /// Where the identities came from, in order: paths and environment variables.
    pub fn origins(&self) -> Vec<&str> {
        let mut origins: Vec<&str> = self.inner.held.iter().map(|h| h.origin.as_str()).collect();
        origins.dedup();
        origins
    }

    /// What the owner of the identities should know.
    pub fn warnings(&self) -> &[Warning] {
        &self.inner.warnings
    }

    /// The public keys of all identities. A locked identity file is unlocked for it; a locked ssh key is not.
    ///
    /// # Errors
    /// A locked identity file cannot be unlocked.
    pub fn recipients(&self) -> Result<Vec<Recipient>> {
        let mut found = Vec::new();
        for held in &self.inner.held {
            match &held.key {
                Key::LockedFile(file) => {
                    let opened = file.unlock(self.prompt(), &held.origin).map_err(|r| r.error(&held.origin))?;
                    found.extend(opened.iter().filter_map(Held::recipient));
                }
                _ => found.extend(held.recipient()),
            }
        }
        Ok(found)
    }

    pub(super) fn held(&self) -> &[Held] {
        &self.inner.held
    }

    pub(super) fn prompt(&self) -> &dyn Prompt {
        &*self.inner.prompt
    }

    pub(super) fn shared_prompt(&self) -> Arc<dyn Prompt> {
        Arc::clone(&self.inner.prompt)
    }

    /// Places that were looked at and hold nothing.
    pub(super) fn looked(&self) -> &[String] {
        &self.inner.looked
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.origins()).finish()
    }
}

impl Held {
    /// The public key, where it is known without asking anyone.
    pub(super) fn recipient(&self) -> Option<Recipient> {
        match &self.key {
            Key::X25519(key) => Some(Recipient::X25519(key.to_public())),
            Key::Ssh(_, public) => Some(Recipient::Ssh(public.clone())),
            Key::LockedSsh(locked) => Some(Recipient::Ssh(locked.recipient.clone())),
            Key::LockedFile(_) => None,
            Key::Plugin(key) => Some(Recipient::PluginIdentity(key.clone())),
        }
    }
}

/// Writes a new x25519 identity to `path` (mode 0600, its directory made if needed) and returns its recipient.
///
/// # Errors
/// `path` exists already, or cannot be written.
pub fn keygen(path: &Path) -> Result<String> {
    let dir = store::parent(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| {
        Error::environment(format!("cannot make {}", dir.display())).because(e).hint("Choose another path.")
    })?;
    let key = age::x25519::Identity::generate();
    let public = key.to_public().to_string();
    let text = Zeroizing::new(format!("# public key: {public}\n{}\n", key.to_string().expose_secret()));
    store::write(path, text.as_bytes(), store::Access::new(0o600), false)?;
    Ok(public)
}

/// Reads whatever kind of identity `bytes` are.
fn parse(bytes: &[u8], origin: &str) -> Result<Vec<Held>> {
    if crypt::is_encrypted(bytes) {
        if !crypt::is_passphrase_only(bytes, origin)? {
            return Err(Error::input(format!(
                "{origin} is encrypted for other keys, so it cannot serve as an identity"
            ))
            .hint("Only identity files encrypted with a passphrase are opened; decrypt it first."));
        }
        let locked = LockedFile { sealed: bytes.to_vec(), lock: Lock::new() };
        return Ok(vec![Held { origin: origin.to_string(), key: Key::LockedFile(locked) }]);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| not_an_identity(origin))?.trim_start();
    if text.starts_with("-----BEGIN ") || text.starts_with("PuTTY-User-Key-File-") {
        return Ok(vec![Held { origin: origin.to_string(), key: parse_ssh(text, origin)? }]);
    }
    parse_lines(bytes, origin)
}

fn not_an_identity(origin: &str) -> Error {
    Error::input(format!("{origin} is not an identity"))
        .hint("Give an age identity file (AGE-SECRET-KEY-1…) or an ssh-ed25519 or ssh-rsa private key.")
}

/// Reads an age identity file: a key a line, with blank lines and `#` comments. No error shows a line's text.
fn parse_lines(bytes: &[u8], origin: &str) -> Result<Vec<Held>> {
    let text = std::str::from_utf8(bytes).map_err(|_| not_an_identity(origin))?;
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = format!("{origin}:{}", i + 1);
        let key = if let Ok(key) = line.parse::<age::x25519::Identity>() {
            Key::X25519(key)
        } else if line.starts_with("AGE-SECRET-KEY-PQ-") {
            return Err(Error::input(format!("{at}: post-quantum age identities are not supported"))
                .hint("Use an identity made by windlass vault keygen or age-keygen without -pq."));
        } else if let Ok(key) = line.parse::<age::plugin::Identity>() {
            Key::Plugin(key)
        } else if line.starts_with("age1") || line.starts_with("ssh-") || line.starts_with("ecdsa-") {
            return Err(Error::input(format!("{at}: this is a public key, not an identity"))
                .hint("Give the private key that belongs to it; for ssh that is the file without .pub."));
        } else if line.starts_with("AGE-SECRET-KEY-1") {
            return Err(Error::input(format!("{at}: the key is damaged; its checksum does not match"))
                .hint("Copy it again, whole."));
        } else {
            let mut e = not_an_identity(&at);
            if Path::new(line).is_file() {
                e.hint = Some(format!("This is a path. Name it with --identity or {ENV_FILES}."));
            }
            return Err(e);
        };
        found.push(Held { origin: origin.to_string(), key });
    }
    if found.is_empty() {
        return Err(Error::input(format!("{origin} holds no key"))
            .hint("Make one with windlass vault keygen, or name another file."));
    }
    Ok(found)
}

fn parse_ssh(text: &str, origin: &str) -> Result<Key> {
    use age::ssh::UnsupportedKey as U;
    let unsupported = |what: &str, hint: String| Err(Error::input(format!("{origin}: {what}")).hint(hint));
    let other = "Use an ssh-ed25519 or ssh-rsa key, or make an age identity with windlass vault keygen.";
    let rewrite = format!("Rewrite it in OpenSSH's format: ssh-keygen -p -f {origin}");
    let first = text.lines().next().unwrap_or_default().trim_end();
    match first {
        "-----BEGIN OPENSSH PRIVATE KEY-----" | "-----BEGIN RSA PRIVATE KEY-----" => {}
        "-----BEGIN EC PRIVATE KEY-----" => return unsupported("ECDSA keys are unsupported", other.to_string()),
        "-----BEGIN PRIVATE KEY-----" | "-----BEGIN ENCRYPTED PRIVATE KEY-----" => {
            return unsupported("PKCS#8 keys are unsupported", rewrite);
        }
        _ if first.starts_with("PuTTY") => {
            return unsupported("PuTTY's key format is unsupported", "Export it as an OpenSSH key.".to_string());
        }
        _ => return Err(not_an_identity(origin)),
    }
    let key =
        age::ssh::Identity::from_buffer(BufReader::new(text.as_bytes()), Some(origin.to_string())).map_err(|e| {
            Error::input(format!("{origin}: the ssh key is damaged")).because(e).hint("Copy it again, whole.")
        })?;
    match &key {
        age::ssh::Identity::Unsupported(U::EncryptedPem) => {
            return unsupported("encrypted PEM keys are unsupported", rewrite);
        }
        age::ssh::Identity::Unsupported(U::EncryptedSsh(cipher)) => {
            return unsupported(
                &format!("keys encrypted with {cipher} are unsupported"),
                format!("{rewrite} -Z aes256-ctr"),
            );
        }
        age::ssh::Identity::Unsupported(U::Hardware(kind)) => {
            return unsupported(&format!("hardware keys ({kind}) are unsupported"), other.to_string());
        }
        age::ssh::Identity::Unsupported(U::Type(kind)) => {
            return unsupported(&unsupported_kind(kind), other.to_string());
        }
        age::ssh::Identity::Unencrypted(_) | age::ssh::Identity::Encrypted(_) => {}
    }
    let locked = matches!(key, age::ssh::Identity::Encrypted(_));
    match age::ssh::Recipient::try_from(key.clone()) {
        Ok(recipient) if locked => Ok(Key::LockedSsh(LockedSsh { key, recipient, lock: Lock::new() })),
        Ok(recipient) => Ok(Key::Ssh(key, recipient)),
        Err(age::ssh::ParseRecipientKeyError::Unsupported(kind)) => {
            unsupported(&unsupported_kind(&kind), other.to_string())
        }
        Err(_) => unsupported("the ssh key cannot be used", other.to_string()),
    }
}

fn unsupported_kind(kind: &str) -> String {
    if kind.starts_with("ecdsa-") {
        format!("ECDSA keys ({kind}) are unsupported")
    } else {
        format!("{kind} keys are unsupported")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::testing::*;
    use super::super::{NoPrompt, decrypt, encrypt};
    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load_file(path: &Path, prompt: Arc<dyn Prompt>) -> Result<Identities> {
        Sources { files: vec![path.to_path_buf()], ..Sources::default() }.load(prompt)
    }

    fn shown(ids: &Identities) -> Vec<String> {
        ids.recipients().unwrap().iter().map(|r| r.to_string()).collect()
    }

    #[test]
    fn every_source_is_used_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<_> = (0..6).map(|_| x25519()).collect();
        let at = |n: &str| dir.path().join(n);
        for (i, name) in [(0, "flag"), (2, "env1"), (3, "env2"), (4, "config/windlass/identity.txt")] {
            write(&at(name), &format!("# key\n\n{}\r\n", keys[i].0), 0o600);
        }
        write(&at("project/.windlass/identity.txt"), &keys[5].0, 0o600);
        let vars: HashMap<&str, OsString> = HashMap::from([
            (ENV_KEY, keys[1].0.clone().into()),
            (ENV_FILES, std::env::join_paths([at("env1"), at("env2")]).unwrap()),
            ("XDG_CONFIG_HOME", at("config").into()),
            ("HOME", at("nowhere").into()),
        ]);
        let project = at("project");
        let sources = Sources::from_vars(vec![at("flag")], Some(&project), |n| vars.get(n).cloned()).unwrap();
        let ids = sources.load(Arc::new(NoPrompt)).unwrap();
        assert_eq!(shown(&ids), keys.iter().map(|k| k.1.clone()).collect::<Vec<_>>());
        assert_eq!(ids.origins()[1], ENV_KEY);
        assert!(ids.warnings().is_empty());
        assert!(!format!("{ids:?} {sources:?}").contains("AGE-SECRET"));
    }

    #[test]
    fn without_xdg_the_home_directory_counts_and_nothing_is_needed() {
        let home = |n: &str| (n == "HOME").then(|| OsString::from("/nonexistent"));
        let sources = Sources::from_vars(vec![], None, home).unwrap();
        assert_eq!(sources.user.as_deref(), Some(Path::new("/nonexistent/.config/windlass/identity.txt")));
        let ids = sources.load(Arc::new(NoPrompt)).unwrap();
        assert!(ids.is_empty() && ids.looked().len() == 1);
    }

    #[test]
    fn a_named_file_must_exist() {
        let e = load_file(Path::new("/nonexistent/key"), Arc::new(NoPrompt)).unwrap_err();
        assert!(e.message.contains("/nonexistent/key") && e.hint.is_some(), "{e}");
    }

    #[test]
    fn several_keys_a_file_and_the_same_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        write(&path, &format!("{}\n# second\n{}\n", x25519().0, x25519().0), 0o600);
        let sources = Sources { files: vec![path.clone()], user: Some(path), ..Sources::default() };
        assert_eq!(sources.load(Arc::new(NoPrompt)).unwrap().len(), 2);
    }

    #[test]
    fn a_file_others_can_read_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        write(&path, &x25519().0, 0o640);
        let ids = load_file(&path, Arc::new(NoPrompt)).unwrap();
        assert!(ids.warnings()[0].message.contains("0640") && ids.warnings()[0].hint.starts_with("chmod 600"));
    }

    #[test]
    fn what_is_no_identity_says_what_it_is_and_shows_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, public) = x25519();
        let ecdsa = fs::read_to_string(ssh_key(dir.path(), "ecdsa", "").0).unwrap();
        let locked_ecdsa = fs::read_to_string(ssh_key(dir.path(), "ecdsa", "secret").0).unwrap();
        let ed25519 = fs::read_to_string(ssh_key(dir.path(), "ed25519", "").0).unwrap();
        let sealed = encrypt(b"x", &to(&[&public])).unwrap();
        for (text, expected) in [
            (format!("# only\n{public}\n"), ":2: this is a public key"),
            ("# nothing\n".to_string(), "holds no key"),
            (secret[..70].to_string(), "damaged"),
            ("AGE-SECRET-KEY-PQ-1XYZ".to_string(), "post-quantum"),
            (format!("hunter2\n{secret}"), ":1 is not an identity"),
            (ecdsa, "ECDSA keys (ecdsa-sha2-nistp256) are unsupported"),
            (locked_ecdsa, "ECDSA keys (ecdsa-sha2-nistp256) are unsupported"),
            ("-----BEGIN EC PRIVATE KEY-----\nx\n".to_string(), "ECDSA"),
            ("-----BEGIN PRIVATE KEY-----\nx\n".to_string(), "PKCS#8"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n".to_string(), "encrypted PEM"),
            ("PuTTY-User-Key-File-3: ssh-ed25519\n".to_string(), "PuTTY"),
            ("-----BEGIN CERTIFICATE-----\n".to_string(), "is not an identity"),
            (ed25519[..ed25519.len() / 2].to_string(), "damaged"),
            (sealed, "encrypted for other keys"),
        ] {
            let path = dir.path().join("id");
            write(&path, &text, 0o600);
            let e = load_file(&path, Arc::new(NoPrompt)).unwrap_err();
            assert!(e.to_string().contains(expected), "{expected}: {e}");
            assert!(e.hint.is_some() && !e.to_string().contains("hunter2"), "{e}");
        }
    }

    #[test]
    fn ssh_keys_decrypt() {
        let dir = tempfile::tempdir().unwrap();
        for kind in ["ed25519", "rsa"] {
            let (path, public) = ssh_key(dir.path(), kind, "");
            let ids = load_file(&path, Arc::new(NoPrompt)).unwrap();
            let sealed = encrypt(b"payload", &to(&[&public])).unwrap();
            assert_eq!(**decrypt(sealed.as_bytes(), "x", &ids).unwrap(), *b"payload");
            assert!(public.starts_with(&shown(&ids)[0]));
        }
    }

    #[test]
    fn a_locked_ssh_key_is_asked_for_once_and_only_when_it_is_the_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = ssh_key(dir.path(), "ed25519", "open sesame");
        let prompt = Answers::new(&["wrong", "open sesame"]);
        let ids = load_file(&path, prompt.clone()).unwrap();
        let other = encrypt(b"other", &to(&[&ssh_key(dir.path(), "ed25519", "").1])).unwrap();
        assert!(decrypt(other.as_bytes(), "x", &ids).is_err());
        assert_eq!((prompt.asked(), shown(&ids).len()), (0, 1));
        let sealed = encrypt(b"payload", &to(&[&x25519().1, &public])).unwrap();
        for _ in 0..3 {
            assert_eq!(**decrypt(sealed.as_bytes(), "x", &ids).unwrap(), *b"payload");
        }
        assert_eq!(prompt.asked(), 2);
    }

    #[test]
    fn a_wrong_passphrase_is_said_once_and_not_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = ssh_key(dir.path(), "ed25519", "open sesame");
        let prompt = Answers::new(&["wrong"]);
        let ids = load_file(&path, prompt.clone()).unwrap();
        let sealed = encrypt(b"payload", &to(&[&public])).unwrap();
        for _ in 0..2 {
            let e = decrypt(sealed.as_bytes(), "x", &ids).unwrap_err();
            assert!(e.message.contains("wrong passphrase for") && e.message.contains("id_ed25519"), "{e}");
        }
        assert_eq!(prompt.asked(), 2, "one answer, then nobody answered; the second decryption asks nothing");
    }

    #[test]
    fn an_identity_file_under_a_passphrase_is_opened_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id.age");
        let (secret, public) = x25519();
        write(&path, &encrypt(format!("# mine\n{secret}\n").as_bytes(), &to_passphrase("pass")).unwrap(), 0o600);
        let prompt = Answers::new(&["pass"]);
        let ids = load_file(&path, prompt.clone()).unwrap();
        let sealed = encrypt(b"payload", &to(&[&public])).unwrap();
        assert_eq!(prompt.asked(), 0);
        for _ in 0..2 {
            assert_eq!(**decrypt(sealed.as_bytes(), "x", &ids).unwrap(), *b"payload");
        }
        assert_eq!(shown(&ids), [public]);
        assert_eq!(prompt.asked(), 1);
        let nobody = load_file(&path, Arc::new(NoPrompt)).unwrap();
        assert!(decrypt(sealed.as_bytes(), "x", &nobody).unwrap_err().message.contains("none was given"));
    }

    #[test]
    fn an_open_key_spares_the_question() {
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = ssh_key(dir.path(), "ed25519", "open sesame");
        let (secret, x) = x25519();
        let prompt = Answers::new(&[]);
        let sources = Sources { files: vec![path], key_text: Some(secret.into()), ..Sources::default() };
        let ids = sources.load(prompt.clone()).unwrap();
        let sealed = encrypt(b"payload", &to(&[&public, &x])).unwrap();
        assert!(decrypt(sealed.as_bytes(), "x", &ids).is_ok());
        assert_eq!(prompt.asked(), 0);
    }

    #[test]
    fn keygen_writes_a_private_file_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("windlass/identity.txt");
        let public = keygen(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        let e = keygen(&path).unwrap_err();
        assert!(e.message.contains("already exists"), "{e}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(shown(&load_file(&path, Arc::new(NoPrompt)).unwrap()), [public]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }
}
