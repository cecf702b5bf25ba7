//! Whom a secret is encrypted for.

use std::fmt;
use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

use super::store;
use crate::error::{Error, Result};

/// Someone who will be able to decrypt: a public key, or whoever knows a passphrase.
#[derive(Clone)]
pub enum Recipient {
    /// `age1…`
    X25519(age::x25519::Recipient),
    /// An `ssh-ed25519` or `ssh-rsa` public key.
    Ssh(age::ssh::Recipient),
    /// `age1<plugin>1…`, handled by the program `age-plugin-<plugin>`.
    Plugin(age::plugin::Recipient),
    /// The recipient of a plugin's identity; only the plugin knows its public form.
    PluginIdentity(age::plugin::Identity),
    /// A passphrase. It must be the only recipient.
    Passphrase {
        /// The passphrase.
        passphrase: SecretString,
        /// scrypt's work factor as a power of two (1 to 22); `None` means about one second on this machine.
        work_factor: Option<u8>,
    },
}

impl Recipient {
    /// Reads one recipient: `age1…`, `ssh-ed25519 …` or `ssh-rsa …`.
    ///
    /// # Errors
    /// The text is no recipient, is a private key, or is of a kind that age cannot encrypt for.
    pub fn parse(text: &str) -> Result<Recipient> {
        let text = text.trim();
        let kinds = "Give an age1… recipient, or an ssh-ed25519 or ssh-rsa public key line.";
        if text.is_empty() {
            return Err(Error::input("the recipient is empty").hint(kinds));
        }
        let upper = text.get(..16).unwrap_or(text).to_ascii_uppercase();
        if upper.starts_with("AGE-SECRET-KEY-") || upper.starts_with("AGE-PLUGIN-") || text.starts_with("-----BEGIN") {
            return Err(Error::input("this is a private key, not a recipient")
                .hint("Give the public key that belongs to it; keep the private one to yourself."));
        }
        if text.starts_with("age1") {
            if let Ok(key) = text.parse() {
                return Ok(Recipient::X25519(key));
            }
            if ["age1pq1", "age1tag1", "age1tagpq1"].iter().any(|p| text.starts_with(p)) {
                let kind = text.split('1').nth(1).unwrap_or_default();
                let what = if kind.contains("pq") { "post-quantum recipients" } else { "tagged recipients" };
                return Err(Error::input(format!("{what} (age1{kind}1…) are not supported yet"))
                    .hint(format!("The library Windlass is built on does not know them. {kinds}")));
            }
            if let Ok(key) = text.parse::<age::plugin::Recipient>() {
                return Ok(Recipient::Plugin(key));
            }
            return Err(Error::input(format!("{text} is not a valid age recipient"))
                .hint("Copy it again, whole: its checksum does not match."));
        }
        use age::ssh::ParseRecipientKeyError as E;
        match text.parse::<age::ssh::Recipient>() {
            Ok(key) => Ok(Recipient::Ssh(key)),
            Err(E::RsaModulusTooSmall) => Err(Error::input("the ssh-rsa key is shorter than 2048 bits")
                .hint("Use a longer key; ssh-keygen -t ed25519 makes a good one.")),
            Err(E::RsaModulusTooLarge) => {
                Err(Error::input("the ssh-rsa key is longer than 4096 bits").hint("Use ssh-keygen -t ed25519."))
            }
            Err(E::Unsupported(kind)) => Err(Error::input(format!("{kind} keys cannot be encrypted for"))
                .hint("Use an ssh-ed25519, ssh-rsa or age1… key instead.")),
            Err(E::Invalid(_) | E::Ignore) => {
                let shown: String = text.chars().take(40).collect();
                Err(Error::input(format!("`{shown}` is not a recipient")).hint(kinds))
            }
        }
    }

    /// Reads a file of recipients: one a line, with blank lines and `#` comments.
    ///
    /// # Errors
    /// Unreadable, not text, a line that is no recipient (named by its number), or no recipient at all.
    pub fn parse_file(path: &Path) -> Result<Vec<Recipient>> {
        let bytes = store::read_stream(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Error::input(format!("{} is not text", path.display())).hint("A recipients file has one public key a line.")
        })?;
        let mut found = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let recipient = Recipient::parse(line).map_err(|mut e| {
                e.message = format!("{}:{}: {}", path.display(), i + 1, e.message);
                e
            })?;
            found.push(recipient);
        }
        if found.is_empty() {
            return Err(Error::input(format!("{} lists no recipient", path.display()))
                .hint("Write one public key a line into it."));
        }
        Ok(found)
    }

    /// A passphrase as the recipient.
    ///
    /// # Errors
    /// The passphrase is empty, or the work factor is not within 1 to 22.
    pub fn passphrase(passphrase: SecretString, work_factor: Option<u8>) -> Result<Recipient> {
        if passphrase.expose_secret().is_empty() {
            return Err(Error::input("the passphrase is empty").hint("Choose one."));
        }
        if work_factor.is_some_and(|w| !(1..=super::crypt::MAX_WORK_FACTOR).contains(&w)) {
            return Err(Error::input("the work factor must be within 1 and 22").hint("Leave it out for a good one."));
        }
        Ok(Recipient::Passphrase { passphrase, work_factor })
    }

    /// What stands in a header for this key: the kind, and for ssh keys a short fingerprint. Nothing for plugins, whose
    /// kinds only they know.
    pub(super) fn stanza(&self) -> Option<(&'static str, Option<String>)> {
        use age::ssh::Recipient::{SshEd25519, SshRsa};
        let tag = |public: &[u8]| {
            let digest = Sha256::digest(public);
            digest.get(..4).map(|d| BASE64_STANDARD_NO_PAD.encode(d))
        };
        match self {
            Recipient::X25519(_) => Some(("X25519", None)),
            Recipient::Ssh(SshEd25519(public, _)) => Some(("ssh-ed25519", tag(public))),
            Recipient::Ssh(SshRsa(public, _)) => Some(("ssh-rsa", tag(public))),
            Recipient::Passphrase { .. } => Some(("scrypt", None)),
            Recipient::Plugin(_) | Recipient::PluginIdentity(_) => None,
        }
    }

    fn is_passphrase(&self) -> bool {
        matches!(self, Recipient::Passphrase { .. })
    }

    /// The form age encrypts for.
    pub(super) fn to_age(&self) -> Result<Box<dyn age::Recipient>> {
        let missing = |e: age::EncryptError| match e {
            age::EncryptError::MissingPlugin { binary_name } => {
                Error::environment(format!("{binary_name} is not on the PATH"))
                    .hint(format!("Install {binary_name}, or leave its recipient out."))
            }
            e => Error::input("the recipient's plugin cannot be used").because(e),
        };
        Ok(match self {
            Recipient::X25519(key) => Box::new(key.clone()),
            Recipient::Ssh(key) => Box::new(key.clone()),
            Recipient::Plugin(key) => Box::new(
                age::plugin::RecipientPluginV1::new(key.plugin(), std::slice::from_ref(key), &[], age::NoCallbacks)
                    .map_err(missing)?,
            ),
            Recipient::PluginIdentity(key) => Box::new(
                age::plugin::RecipientPluginV1::new(key.plugin(), &[], std::slice::from_ref(key), age::NoCallbacks)
                    .map_err(missing)?,
            ),
            Recipient::Passphrase { passphrase, work_factor } => {
                let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
                if let Some(work_factor) = work_factor {
                    recipient.set_work_factor(*work_factor);
                }
                Box::new(recipient)
            }
        })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recipient::X25519(key) => key.fmt(f),
            Recipient::Ssh(key) => key.fmt(f),
            Recipient::Plugin(key) => key.fmt(f),
            Recipient::PluginIdentity(key) => write!(f, "an identity of age-plugin-{}", key.plugin()),
            Recipient::Passphrase { .. } => f.write_str("a passphrase"),
        }
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// A set of recipients that age accepts: not empty, no duplicates, a passphrase alone or not at all.
#[derive(Debug, Clone)]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Checks and keeps a list of recipients.
    ///
    /// # Errors
    /// The list is empty, or mixes a passphrase with anything else.
    pub fn new(list: impl IntoIterator<Item = Recipient>) -> Result<Recipients> {
        let mut kept: Vec<Recipient> = Vec::new();
        for recipient in list {
            let same = |other: &Recipient| match (&recipient, other) {
                (Recipient::PluginIdentity(a), Recipient::PluginIdentity(b)) => a.to_string() == b.to_string(),
                (Recipient::Passphrase { .. }, _) => false,
                _ => recipient.to_string() == other.to_string(),
            };
            if !kept.iter().any(same) {
                kept.push(recipient);
            }
        }
        if kept.is_empty() {
            return Err(Error::input("there is nobody to encrypt for").hint(
                "Name a recipient with -r age1…, a file of them with -R, or list them in .windlass/recipients.",
            ));
        }
        if kept.len() > 1 && kept.iter().any(Recipient::is_passphrase) {
            return Err(Error::input("a passphrase cannot be mixed with other recipients")
                .hint("Encrypt for one passphrase, or for public keys."));
        }
        Ok(Recipients(kept))
    }

    /// The recipients, in the order given.
    pub fn iter(&self) -> std::slice::Iter<'_, Recipient> {
        self.0.iter()
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for &'a Recipients {
    type Item = &'a Recipient;
    type IntoIter = std::slice::Iter<'a, Recipient>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn age_and_ssh_keys_are_read_and_shown_as_given() {
        let (_, x) = x25519();
        assert_eq!(Recipient::parse(&format!("  {x}\n")).unwrap().to_string(), x);
        let dir = tempfile::tempdir().unwrap();
        for kind in ["ed25519", "rsa"] {
            let line = ssh_key(dir.path(), kind, "").1;
            let shown = Recipient::parse(&line).unwrap().to_string();
            assert!(line.starts_with(&shown), "{line} / {shown}");
            assert_eq!(Recipient::parse(&shown).unwrap().to_string(), shown, "a comment is not needed");
        }
    }

    #[test]
    fn what_cannot_be_encrypted_for_says_so() {
        let (secret, public) = x25519();
        let dir = tempfile::tempdir().unwrap();
        let ecdsa = ssh_key(dir.path(), "ecdsa", "").1;
        for (text, expected) in [
            ("", "empty"),
            (secret.as_str(), "private key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            (&public[..public.len() - 1], "not a valid age recipient"),
            ("age1tag1qwertyuiop", "not supported"),
            (ecdsa.as_str(), "ecdsa-sha2-nistp256 keys cannot be encrypted for"),
            ("ssh-ed25519 AAAAbroken", "is not a recipient"),
            ("alice", "is not a recipient"),
        ] {
            let e = Recipient::parse(text).unwrap_err();
            assert!(e.message.contains(expected), "{text}: {e}");
            assert!(e.hint.is_some() && !e.message.contains("AGE-SECRET"), "{text}");
        }
    }

    #[test]
    fn a_file_names_the_line_that_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipients");
        let (a, b) = (x25519().1, x25519().1);
        std::fs::write(&path, format!("# team\n\n{a}\n  {b}\n{a}\n")).unwrap();
        let list = Recipient::parse_file(&path).unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(Recipients::new(list).unwrap().len(), 2, "duplicates go");
        std::fs::write(&path, format!("# team\n{a}\nnobody\n")).unwrap();
        assert!(Recipient::parse_file(&path).unwrap_err().message.contains("recipients:3: "));
        std::fs::write(&path, "# nobody yet\n").unwrap();
        assert!(Recipient::parse_file(&path).unwrap_err().message.contains("lists no recipient"));
    }

    #[test]
    fn a_passphrase_stands_alone() {
        let pass = |p: &str| Recipient::passphrase(p.to_string().into(), Some(2));
        assert!(pass("").unwrap_err().message.contains("empty"));
        assert!(Recipient::passphrase("x".to_string().into(), Some(64)).is_err());
        let mixed = [pass("x").unwrap(), Recipient::parse(&x25519().1).unwrap()];
        assert!(Recipients::new(mixed).unwrap_err().message.contains("cannot be mixed"));
        assert!(Recipients::new([pass("x").unwrap(), pass("x").unwrap()]).is_err());
        assert!(Recipients::new([]).unwrap_err().message.contains("nobody"));
        assert!(!format!("{:?}", Recipients::new([pass("hunter2").unwrap()])).contains("hunter2"));
    }
}
