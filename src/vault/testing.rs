//! Throw-away keys and prompts for this room's tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use age::secrecy::{ExposeSecret, SecretString};

use super::{Identities, NoPrompt, Prompt, Recipient, Recipients, Sources};

/// A new key: the secret text and the public text.
pub fn x25519() -> (String, String) {
    let key = age::x25519::Identity::generate();
    (key.to_string().expose_secret().to_string(), key.to_public().to_string())
}

/// A new ssh key made by ssh-keygen: its private file and its public line.
pub fn ssh_key(dir: &Path, kind: &str, passphrase: &str) -> (PathBuf, String) {
    crate::testing::ssh_keygen();
    let path = dir.join(format!("id_{kind}_{}", passphrase.len()));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-a", "1", "-C", "test", "-N", passphrase, "-t", kind, "-f"]).arg(&path);
    if kind == "rsa" {
        command.args(["-b", "2048"]);
    }
    assert!(command.status().expect("ssh-keygen is needed for this test").success());
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (path, public.trim().to_string())
}

/// Answers the given passphrases in turn and counts how often it was asked.
pub struct Answers(pub Vec<&'static str>, pub AtomicUsize);

impl Answers {
    pub fn new(answers: &[&'static str]) -> Arc<Answers> {
        Arc::new(Answers(answers.to_vec(), AtomicUsize::new(0)))
    }
    pub fn asked(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }
}

impl Prompt for Answers {
    fn passphrase(&self, _what: &str, _attempt: u32) -> Option<SecretString> {
        self.0.get(self.1.fetch_add(1, Ordering::SeqCst)).map(|s| SecretString::from(s.to_string()))
    }
    fn again(&self, _: &crate::error::Error) -> bool {
        self.0.get(self.1.fetch_add(1, Ordering::SeqCst)).is_some_and(|a| *a == "again")
    }
}

/// Identities from key texts, as given in `WINDLASS_IDENTITY`.
pub fn identities(keys: &[&str]) -> Identities {
    Sources { key_text: Some(keys.join("\n").into()), ..Sources::default() }.load(Arc::new(NoPrompt)).unwrap()
}

/// No identity, and these answers to passphrase questions.
pub fn answering(prompt: Arc<dyn Prompt>) -> Identities {
    Sources::default().load(prompt).unwrap()
}

pub fn to(keys: &[&str]) -> Recipients {
    Recipients::new(keys.iter().map(|k| Recipient::parse(k).unwrap())).unwrap()
}

pub fn to_passphrase(passphrase: &str) -> Recipients {
    Recipients::new([Recipient::passphrase(passphrase.to_string().into(), Some(2)).unwrap()]).unwrap()
}
