//! Private key files: read once, their passphrase asked once, for all connections.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::{Certificate, PrivateKey, PublicKey, decode_secret_key, load_openssh_certificate, load_public_key};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// What a connection may ask the person at the terminal. Calls come one at a time, from threads that may block.
pub trait Prompts: Send + Sync {
    /// The passphrase of an encrypted key file; None when there is nobody to ask. `again` says that the one before
    /// was wrong. Not called a second time for a key once it is open, nor after None.
    fn passphrase(&self, key: &Path, again: bool) -> Option<SecretString>;

    /// An answer to a server's own question (keyboard-interactive, e.g. a one-time code) that the given password
    /// does not answer; None gives up.
    fn answer(&self, _host: &str, _question: &str, _echo: bool) -> Option<SecretString> {
        None
    }
}

/// Held while a person is being asked.
pub(super) static ASKING: Mutex<()> = Mutex::new(());

/// Asks nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompts;

impl Prompts for NoPrompts {
    fn passphrase(&self, _: &Path, _: bool) -> Option<SecretString> {
        None
    }
}

/// Wrong passphrases taken before a key is given up.
const PASSPHRASE_TRIES: usize = 3;

/// A private key file. The public half is known without the passphrase where the format or a `.pub` file gives it.
#[derive(Debug)]
pub struct KeyFile {
    pub path: PathBuf,
    pub public: Option<PublicKey>,
    /// From `<path>-cert.pub`.
    pub certificate: Option<Certificate>,
    secret: tokio::sync::Mutex<Secret>,
}

#[derive(Debug)]
enum Secret {
    /// Only the public half is on this machine; an agent may have the other.
    Absent,
    Locked(Zeroizing<String>),
    Open(Arc<PrivateKey>),
    /// Asking led to nothing; the text says why. It is not asked again.
    Useless(String),
}

/// All key files seen so far. One per process, so that a passphrase is asked once however many hosts need the key.
#[derive(Debug, Default)]
pub struct KeyRing {
    files: Mutex<HashMap<PathBuf, Arc<KeyFile>>>,
}

impl KeyRing {
    /// Reads a key file, or finds it read. Errors are plain text without the path; None when there is no such file.
    pub fn open(&self, path: &Path) -> Result<Option<Arc<KeyFile>>, String> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(path) {
            return Ok(Some(file.clone()));
        }
        let Some(file) = read(path)? else { return Ok(None) };
        let file = Arc::new(file);
        files.insert(path.to_owned(), file.clone());
        Ok(Some(file))
    }
}

fn read(path: &Path) -> Result<Option<KeyFile>, String> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let certificate = load_openssh_certificate(beside("-cert.pub")).ok();
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // The private half may live in an agent only.
            let Ok(public) = load_public_key(beside(".pub")) else { return Ok(None) };
            return Ok(Some(key_file(path, Some(public), certificate, Secret::Absent)));
        }
        Err(e) => return Err(e.to_string()),
    };
    if let Ok(public) = load_public_key(path) {
        return Ok(Some(key_file(path, Some(public), certificate, Secret::Absent)));
    }
    // The OpenSSH format shows the public half of an encrypted key too.
    if let Ok(key) = PrivateKey::from_openssh(text.as_str()) {
        let public = key.public_key().clone();
        let secret = if key.is_encrypted() { Secret::Locked(text) } else { Secret::Open(Arc::new(key)) };
        return Ok(Some(key_file(path, Some(public), certificate, secret)));
    }
    match decode_secret_key(&text, None) {
        Ok(key) => {
            let public = key.public_key().clone();
            Ok(Some(key_file(path, Some(public), certificate, Secret::Open(Arc::new(key)))))
        }
        Err(_) if text.contains("ENCRYPTED") || text.starts_with("PuTTY-User-Key-File-") => {
            let public = load_public_key(beside(".pub")).ok();
            Ok(Some(key_file(path, public, certificate, Secret::Locked(text))))
        }
        Err(e) => Err(format!("not a private key: {e}")),
    }
}

fn key_file(path: &Path, public: Option<PublicKey>, certificate: Option<Certificate>, secret: Secret) -> KeyFile {
    KeyFile { path: path.to_owned(), public, certificate, secret: tokio::sync::Mutex::new(secret) }
}

impl KeyFile {
    /// Whether this machine has the private half, locked or not.
    pub async fn has_private(&self) -> bool {
        !matches!(*self.secret.lock().await, Secret::Absent)
    }

    /// Whether it can be used at once, without a question.
    pub async fn is_open(&self) -> bool {
        matches!(*self.secret.lock().await, Secret::Open(_))
    }

    /// The private key, after asking for its passphrase if need be. Errors are plain text without the path.
    pub async fn unlock(&self, prompts: &Arc<dyn Prompts>) -> Result<Arc<PrivateKey>, String> {
        let mut secret = self.secret.lock().await;
        let text = match &*secret {
            Secret::Open(key) => return Ok(key.clone()),
            Secret::Useless(why) => return Err(why.clone()),
            Secret::Absent => return Err("the private key is not on this machine".into()),
            Secret::Locked(text) => text.clone(),
        };
        let (path, prompts) = (self.path.clone(), prompts.clone());
        // Deriving the key takes about 0.1 s of processor time, the person much longer.
        let opened = tokio::task::spawn_blocking(move || ask(&path, &text, &*prompts))
            .await
            .unwrap_or_else(|e| Err(format!("asking for the passphrase failed: {e}")));
        match opened {
            Ok(key) => {
                let key = Arc::new(key);
                *secret = Secret::Open(key.clone());
                Ok(key)
            }
            Err(why) => {
                *secret = Secret::Useless(why.clone());
                Err(why)
            }
        }
    }
}

fn ask(path: &Path, text: &str, prompts: &dyn Prompts) -> Result<PrivateKey, String> {
    for attempt in 0..PASSPHRASE_TRIES {
        let asked = {
            let _one_at_a_time = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
            prompts.passphrase(path, attempt > 0)
        };
        let Some(passphrase) = asked else {
            return Err(if attempt == 0 { "encrypted, no passphrase given" } else { "wrong passphrase" }.into());
        };
        if let Ok(key) = decode_secret_key(text, Some(passphrase.expose_secret())) {
            return Ok(key);
        }
    }
    Err("wrong passphrase".into())
}
