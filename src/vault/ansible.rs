//! Ansible Vault's format, versions 1.1 and 1.2: read, never written.
//!
//! A line `$ANSIBLE_VAULT;1.2;AES256;label`, then hexadecimal digits. They stand for three lines, in hexadecimal digits
//! again: salt, HMAC-SHA256 and what is encrypted with AES-256-CTR. Both keys and the counter's start come from the
//! password by PBKDF2.

use age::secrecy::{ExposeSecret, SecretString};
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// What the first line begins with.
pub const MAGIC: &str = "$ANSIBLE_VAULT";
const ROUNDS: u32 = 10_000;
const RESTORE: &str = "Restore it from version control or a backup.";

/// Data in Ansible Vault's format.
pub struct Sealed {
    /// The name of the password, in version 1.2.
    pub label: Option<String>,
    salt: Vec<u8>,
    mac: Vec<u8>,
    body: Vec<u8>,
}

/// Reads the format; white space around lines does not matter. `what` names it in errors.
///
/// # Errors
/// Another version or cipher; truncated or damaged.
pub fn parse(text: &str, what: &str) -> Result<Sealed> {
    let broken = || Error::input(format!("{what} is truncated or was changed")).hint(RESTORE);
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let head = lines.next().unwrap_or_default();
    let mut words = head.split(';');
    if words.next() != Some(MAGIC) {
        return Err(
            Error::input(format!("{what} is not Ansible Vault's")).hint("Only what begins with $ANSIBLE_VAULT is.")
        );
    }
    let (version, cipher) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !["1.1", "1.2"].contains(&version) || cipher != "AES256" {
        return Err(Error::input(format!("{what} is in Ansible Vault's format {version} with {cipher}"))
            .hint("Only 1.1 and 1.2 with AES256 are read: bring it there with ansible-vault rekey."));
    }
    let label = words.next().map(str::to_string).filter(|l| !l.is_empty());
    let inner = hex(&lines.collect::<String>()).ok_or_else(broken)?;
    let inner = String::from_utf8(inner).map_err(|_| broken())?;
    let parts: Vec<Vec<u8>> = inner.split('\n').map(hex).collect::<Option<_>>().ok_or_else(broken)?;
    match <[Vec<u8>; 3]>::try_from(parts) {
        Ok([salt, mac, body]) if mac.len() == 32 && !body.is_empty() => Ok(Sealed { label, salt, mac, body }),
        _ => Err(broken()),
    }
}

impl Sealed {
    /// The plain text; nothing when the password is wrong (or the data was changed, which cannot be told apart).
    pub fn open(&self, password: &SecretString) -> Option<Zeroizing<Vec<u8>>> {
        let mut keys = Zeroizing::new([0u8; 80]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password.expose_secret().as_bytes(), &self.salt, ROUNDS, &mut *keys);
        let (cipher, rest) = keys.split_at(32);
        let (mac, counter) = rest.split_at(32);
        let mut check = Hmac::<Sha256>::new_from_slice(mac).ok()?;
        check.update(&self.body);
        check.verify_slice(&self.mac).ok()?;
        let mut plain = Zeroizing::new(self.body.clone());
        ctr::Ctr128BE::<aes::Aes256>::new_from_slices(cipher, counter).ok()?.apply_keystream(&mut plain);
        let padding = usize::from(*plain.last()?);
        let length = plain.len().checked_sub(padding).filter(|_| (1..=16).contains(&padding))?;
        plain.truncate(length);
        Some(plain)
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = include_str!("../../tests/fixtures/ansible_vault/whole.yml");
    const LABELLED: &str = include_str!("../../tests/fixtures/ansible_vault/labelled.yml");

    #[test]
    fn what_ansible_vault_wrote_is_read() {
        for (text, password, label) in
            [(WHOLE, "throw-away-password-of-this-test", None), (LABELLED, "another-throw-away-password", Some("prod"))]
        {
            let sealed = parse(text, "x").unwrap();
            assert_eq!(sealed.label.as_deref(), label);
            let plain = sealed.open(&password.to_string().into()).unwrap();
            assert_eq!(String::from_utf8_lossy(&plain), "db_password: correct-horse\nlist:\n  - a\n  - \"b: c\"\n");
            assert!(sealed.open(&"wrong".to_string().into()).is_none());
        }
    }

    #[test]
    fn each_mistake_says_what_it_is() {
        let cut = |n: usize| WHOLE.lines().take(n).collect::<Vec<_>>().join("\n");
        for (text, expected) in [
            ("a: 1".to_string(), "is not Ansible Vault's"),
            (WHOLE.replace(";1.1;", ";1.0;"), "format 1.0 with AES256"),
            (WHOLE.replace("AES256", "AES512"), "with AES512"),
            (cut(1), "truncated"),
            (cut(2), "truncated"),
            (WHOLE.replacen('3', "x", 1), "truncated or was changed"),
        ] {
            let e = parse(&text, "v.yml").err().unwrap();
            assert!(e.message.contains(expected) && e.hint.is_some(), "{e}");
        }
        // A whole number of bytes less: only the check sum tells.
        let mut lines: Vec<&str> = WHOLE.trim_end().lines().collect();
        let last = lines.pop().unwrap();
        let shorter = format!("{}\n{}", lines.join("\n"), &last[..last.len() - 4]);
        assert!(parse(&shorter, "x").unwrap().open(&"throw-away-password-of-this-test".to_string().into()).is_none());
    }
}
