//! Encrypting and decrypting bytes in age's format.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::iter;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor};
use zeroize::Zeroizing;

use super::identity::{Held, Identities, Key};
use super::note::{self, Note, Noted, Place};
use super::prompt::{self, PluginCallbacks, Prompt, Refusal, Tried};
use super::recipient::{Recipient, Recipients};
use crate::error::{Error, Result};

/// The largest scrypt work factor accepted, as a power of two: 22 takes about 4 GiB and many seconds.
pub const MAX_WORK_FACTOR: u8 = 22;

const MAGIC: &[u8] = b"age-encryption.org/";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const ARMOR_END: &[u8] = b"-----END AGE ENCRYPTED FILE-----";
const RESTORE: &str = "Restore it from version control or a backup.";

/// Encrypts `plain` for `recipients`, as armored text.
///
/// # Errors
/// A recipient's plugin is missing or fails.
pub fn encrypt(plain: &[u8], recipients: &Recipients) -> Result<String> {
    encrypt_at(plain, recipients, None)
}

/// As [`encrypt`], for a value that belongs to `place`.
///
/// # Errors
/// As [`encrypt`].
pub fn encrypt_at(plain: &[u8], recipients: &Recipients, place: Option<&Place>) -> Result<String> {
    let failed = |e: io::Error| Error::internal("cannot encrypt").because(e);
    let keys = recipients.iter().map(Recipient::to_age).collect::<Result<Vec<_>>>()?;
    let mut noted = Noted { note: Note::new(recipients.iter(), place), labels: HashSet::new() };
    let with_note = !recipients.iter().any(|r| matches!(r, Recipient::Passphrase { .. }));
    let begin = |noted: &Noted| {
        let note = with_note.then_some(noted as &dyn age::Recipient);
        Encryptor::with_recipients(keys.iter().map(|k| &**k).chain(note))
    };
    let encryptor = match begin(&noted) {
        Err(age::EncryptError::IncompatibleRecipients { l_labels, r_labels }) => {
            noted.labels = if l_labels.is_empty() { r_labels } else { l_labels };
            begin(&noted)
        }
        begun => begun,
    };
    let encryptor = encryptor.map_err(|e| match e {
        age::EncryptError::IncompatibleRecipients { .. } => {
            Error::input("these recipients cannot be used together").hint("Encrypt for each kind apart.")
        }
        e => Error::input("cannot encrypt for these recipients").because(e).hint("Check the recipients."),
    })?;
    let mut armored = Vec::new();
    let armor = ArmoredWriter::wrap_output(&mut armored, Format::AsciiArmor).map_err(failed)?;
    let mut writer = encryptor.wrap_output(armor).map_err(failed)?;
    writer.write_all(plain).map_err(failed)?;
    writer.finish().and_then(ArmoredWriter::finish).map_err(failed)?;
    String::from_utf8(armored).map_err(|e| Error::internal("the armor is not text").because(e))
}

/// Decrypts age data, armored or binary. `what` names it in errors and questions (a path, or file:line).
///
/// # Errors
/// Not age data, damaged, no identity opens it, a passphrase is wrong or missing, or its work factor is excessive.
pub fn decrypt(data: &[u8], what: &str, identities: &Identities) -> Result<Zeroizing<Vec<u8>>> {
    open(data, what, identities).map(|opened| opened.plain)
}

/// Data without the byte order mark that some editors put before text, and without the white space before it.
fn beginning(data: &[u8]) -> &[u8] {
    data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data).trim_ascii_start()
}

/// Whether `data` begins like an age file, armored or binary.
pub fn is_encrypted(data: &[u8]) -> bool {
    let data = beginning(data);
    data.starts_with(MAGIC) || data.starts_with(ARMOR)
}

/// One of a header's entries: whom the data is encrypted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// `X25519`, `ssh-ed25519`, `ssh-rsa`, `scrypt`, or a plugin's name.
    pub kind: String,
    pub(super) args: Vec<String>,
}

/// Whom age data is encrypted for, as far as its header tells: kinds, never names.
///
/// # Errors
/// Not age data, or damaged.
pub fn stanzas(data: &[u8], what: &str) -> Result<Vec<Stanza>> {
    header(data, what).map(|h| h.stanzas)
}

/// What a header tells without a key: true once the data was opened, a claim until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// One for each recipient.
    pub stanzas: Vec<Stanza>,
    /// What Windlass wrote down when it encrypted.
    pub note: Option<Note>,
}

/// Reads a header.
///
/// # Errors
/// Not age data, or damaged.
pub fn header(data: &[u8], what: &str) -> Result<Header> {
    read_header(&dearmor(data, what)?, what)
}

/// Decrypted data, and the passphrase with its work factor if that is what opened it.
pub(super) struct Opened {
    pub(super) plain: Zeroizing<Vec<u8>>,
    pub(super) passphrase: Option<(SecretString, Option<u8>)>,
    pub(super) stanzas: Vec<Stanza>,
    pub(super) note: Option<Note>,
}

pub(super) fn open(data: &[u8], what: &str, identities: &Identities) -> Result<Opened> {
    let sealed = dearmor(data, what)?;
    let Header { stanzas, note } = read_header(&sealed, what)?;
    if stanzas.iter().any(|s| s.kind == "scrypt") {
        let (plain, passphrase) =
            open_with_passphrase(&sealed, what, identities.prompt()).map_err(|r| r.error(what))?;
        return Ok(Opened { plain, passphrase: Some((passphrase, work_factor(&stanzas))), stanzas, note });
    }
    if identities.is_empty() {
        return Err(no_identity(what, identities));
    }
    // Keys that need no question first, whatever their order.
    let open: Vec<&dyn age::Identity> = identities.held().iter().filter_map(ready).collect();
    if let Some(plain) = attempt(&sealed, &open, what)? {
        return Ok(Opened { plain, passphrase: None, stanzas, note });
    }
    let mut problem = None;
    for held in identities.held() {
        match try_locked(held, &sealed, &stanzas, what, identities) {
            Ok(Some(plain)) => return Ok(Opened { plain, passphrase: None, stanzas, note }),
            Ok(None) => {}
            Err(e) => problem = problem.or(Some(e)),
        }
    }
    Err(problem.unwrap_or_else(|| none_opens(what, &stanzas, identities)))
}

/// An identity that can be tried without asking anyone.
fn ready(held: &Held) -> Option<&dyn age::Identity> {
    match &held.key {
        Key::X25519(key) => Some(key),
        Key::Ssh(key, _) => Some(key),
        Key::LockedSsh(_) | Key::LockedFile(_) | Key::Plugin(_) => None,
    }
}

/// Tries an identity that may have to ask, if the header says that it could help.
fn try_locked(
    held: &Held,
    sealed: &[u8],
    stanzas: &[Stanza],
    what: &str,
    identities: &Identities,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let prompt = identities.prompt();
    match &held.key {
        Key::X25519(_) | Key::Ssh(..) => Ok(None),
        Key::LockedSsh(key) if !stanzas.iter().any(|s| key.is_named_by(s)) => Ok(None),
        Key::LockedSsh(key) => {
            let key = key.unlock(prompt, &held.origin).map_err(|r| r.error(&held.origin))?;
            attempt(sealed, &[&*key], what)
        }
        Key::LockedFile(_) if stanzas.iter().all(|s| s.kind.starts_with("ssh-")) => Ok(None),
        Key::LockedFile(file) => {
            let keys = file.unlock(prompt, &held.origin).map_err(|r| r.error(&held.origin))?;
            let open: Vec<&dyn age::Identity> = keys.iter().filter_map(ready).collect();
            if let Some(plain) = attempt(sealed, &open, what)? {
                return Ok(Some(plain));
            }
            for key in keys.iter().filter(|k| matches!(k.key, Key::Plugin(_))) {
                if let Some(plain) = try_locked(key, sealed, stanzas, what, identities)? {
                    return Ok(Some(plain));
                }
            }
            Ok(None)
        }
        Key::Plugin(key) => {
            let callbacks = PluginCallbacks(identities.shared_prompt());
            let plugin = age::plugin::IdentityPluginV1::new(key.plugin(), std::slice::from_ref(key), callbacks)
                .map_err(|e| failed(e, what))?;
            attempt(sealed, &[&plugin], what)
        }
    }
}

/// `None` when none of the identities is addressed.
fn attempt(sealed: &[u8], identities: &[&dyn age::Identity], what: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    match unseal(sealed, identities) {
        Ok(plain) => Ok(Some(plain)),
        Err(DecryptError::NoMatchingKeys) => Ok(None),
        Err(e) => Err(failed(e, what)),
    }
}

fn unseal(sealed: &[u8], identities: &[&dyn age::Identity]) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let mut reader = Decryptor::new_buffered(sealed)?.decrypt(identities.iter().copied())?;
    // The plaintext is shorter than what it was sealed in, so it is never moved to a larger buffer.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plain)?;
    Ok(plain)
}

/// Opens passphrase-encrypted data (armored or binary), asking for the passphrase.
pub(super) fn open_with_passphrase(
    data: &[u8],
    what: &str,
    prompt: &dyn Prompt,
) -> Result<(Zeroizing<Vec<u8>>, SecretString), Refusal> {
    let broken = |e: Error| Refusal::Broken(e.to_string(), e.hint.unwrap_or_default());
    let sealed = dearmor(data, what).map_err(broken)?;
    // Before anyone is asked: a work factor that would not be accepted.
    let stanzas = read_header(&sealed, what).map_err(broken)?.stanzas;
    if let Some(required) = work_factor(&stanzas).filter(|w| *w > MAX_WORK_FACTOR) {
        return Err(broken(failed(DecryptError::ExcessiveWork { required, target: MAX_WORK_FACTOR }, what)));
    }
    prompt::ask(prompt, what, |passphrase| {
        let mut identity = age::scrypt::Identity::new(passphrase.clone());
        identity.set_max_work_factor(MAX_WORK_FACTOR);
        match unseal(&sealed, &[&identity]) {
            Ok(plain) => Tried::Open((plain, passphrase)),
            Err(DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed) => Tried::Wrong,
            Err(e) => {
                let e = failed(e, what);
                Tried::Broken(e.to_string(), e.hint.unwrap_or_default())
            }
        }
    })
}

/// Whether age data is encrypted with a passphrase.
pub(super) fn is_passphrase_only(data: &[u8], what: &str) -> Result<bool> {
    Ok(stanzas(data, what)?.iter().any(|s| s.kind == "scrypt"))
}

fn work_factor(stanzas: &[Stanza]) -> Option<u8> {
    stanzas.iter().find(|s| s.kind == "scrypt")?.args.get(1)?.parse().ok()
}

/// Takes the armor off, if there is any.
fn dearmor<'a>(data: &'a [u8], what: &str) -> Result<Cow<'a, [u8]>> {
    let trimmed = beginning(data);
    if trimmed.starts_with(MAGIC) {
        return Ok(Cow::Borrowed(trimmed));
    }
    if !trimmed.starts_with(ARMOR) {
        return Err(not_age(trimmed, what));
    }
    let mut sealed = Vec::with_capacity(trimmed.len());
    match ArmoredReader::new(trimmed).read_to_end(&mut sealed) {
        Ok(_) => Ok(Cow::Owned(sealed)),
        Err(_) if !trimmed.windows(ARMOR_END.len()).any(|w| w == ARMOR_END) => {
            Err(Error::input(format!("{what} is truncated: its END line is missing")).hint(RESTORE))
        }
        Err(e) => Err(Error::input(format!("{what} has damaged armor"))
            .because(e)
            .hint(format!("Check that no line was changed or indented. {RESTORE}"))),
    }
}

fn not_age(data: &[u8], what: &str) -> Error {
    let e = Error::input(format!("{what} is not an age file"));
    if data.is_empty() {
        Error::input(format!("{what} is empty")).hint(RESTORE)
    } else if data.starts_with(b"$ANSIBLE_VAULT") {
        Error::input(format!("{what} is an Ansible Vault file, not an age file"))
            .hint("Bring it over with windlass vault import.")
    } else {
        e.hint("If it is in the clear, encrypt it with windlass vault encrypt.")
    }
}

/// Reads the header's entries; entries that mean nothing (age adds some on purpose) are left out.
fn read_header(sealed: &[u8], what: &str) -> Result<Header> {
    let truncated = || Error::input(format!("{what} is truncated")).hint(RESTORE);
    let mut lines = sealed.split(|b| *b == b'\n');
    let version = lines.next().and_then(|l| l.strip_prefix(MAGIC)).ok_or_else(|| not_age(sealed, what))?;
    if version != b"v1" {
        return Err(Error::input(format!("{what} is in an age format newer than v1"))
            .hint("Encrypt it again with an age that writes v1."));
    }
    let (mut stanzas, mut note) = (Vec::new(), None);
    for line in lines {
        if line.starts_with(b"---") {
            if stanzas.is_empty() {
                let none = format!("{what} was changed: its header names nobody who can open it");
                return Err(Error::input(none).hint(RESTORE));
            }
            return Ok(Header { stanzas, note });
        }
        if let Some(entry) = line.strip_prefix(b"-> ") {
            let text = String::from_utf8_lossy(entry);
            let mut words = text.split(' ').map(str::to_string);
            let kind = words.next().unwrap_or_default();
            if kind == note::KIND {
                note = note.or_else(|| Some(Note::read(&words.collect::<Vec<_>>())));
            } else if !kind.ends_with("-grease") {
                stanzas.push(Stanza { kind, args: words.collect() });
            }
        }
    }
    Err(truncated())
}

fn failed(e: DecryptError, what: &str) -> Error {
    match e {
        DecryptError::ExcessiveWork { required, .. } => {
            Error::input(format!("{what} asks for a work factor of {required}; more than {MAX_WORK_FACTOR} is refused"))
                .hint("If you trust where it comes from, open it with age and encrypt it again.")
        }
        DecryptError::MissingPlugin { binary_name } => {
            Error::environment(format!("{what} needs {binary_name}, which is not on the PATH"))
                .hint(format!("Install {binary_name}, or use another identity."))
        }
        e @ DecryptError::Plugin(_) => Error::input(format!("an age plugin could not open {what}"))
            .because(e)
            .hint("Check that its key is plugged in."),
        DecryptError::UnknownFormat => Error::input(format!("{what} is in an age format newer than v1"))
            .hint("Encrypt it again with an age that writes v1."),
        e @ (DecryptError::Io(_)
        | DecryptError::InvalidHeader
        | DecryptError::InvalidMac
        | DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed
        | DecryptError::NoMatchingKeys) => {
            Error::input(format!("{what} is truncated or was changed")).because(e).hint(RESTORE)
        }
    }
}

fn no_identity(what: &str, identities: &Identities) -> Error {
    let looked = match identities.looked() {
        [] => String::new(),
        places => format!(" (looked at {})", places.join(", ")),
    };
    Error::input(format!("no identity to decrypt {what} with{looked}")).hint(
        "Name one with --identity PATH, set WINDLASS_IDENTITY_FILE, or make one with windlass vault keygen and have \
         the secrets encrypted for it.",
    )
}

fn none_opens(what: &str, stanzas: &[Stanza], identities: &Identities) -> Error {
    let tried = match identities.len() {
        1 => "the identity does not open".to_string(),
        n => format!("none of the {n} identities opens"),
    };
    let mut hint = "Name the right identity with --identity PATH".to_string();
    let own = identities.held().iter().filter_map(Held::recipient);
    if let Some(public) = own.filter(|r| !matches!(r, Recipient::PluginIdentity(_))).map(|r| r.to_string()).next() {
        hint.push_str(&format!(", or ask someone who can open it to encrypt it for you too: {public}"));
    }
    hint.push('.');
    Error::input(format!("{tried} {what}, which is encrypted for {}", summary(stanzas))).hint(hint)
}

/// Counts by kind, such as `3 recipients (2 x25519, 1 ssh-rsa)`.
fn summary(stanzas: &[Stanza]) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for kind in stanzas.iter().map(|s| s.kind.to_ascii_lowercase()) {
        match kinds.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, n)) => *n += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let list: Vec<String> = kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
    let word = if stanzas.len() == 1 { "recipient" } else { "recipients" };
    iter::once(format!("{} {word}", stanzas.len()))
        .chain((!list.is_empty()).then(|| format!("({})", list.join(", "))))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn binary(armored: &str) -> Vec<u8> {
        dearmor(armored.as_bytes(), "x").unwrap().into_owned()
    }

    fn error(data: &[u8], ids: &Identities) -> String {
        let e = decrypt(data, "v.age", ids).unwrap_err();
        assert!(e.hint.as_ref().is_some_and(|h| !h.is_empty()), "no hint: {e}");
        format!("{e} / {}", e.hint.as_deref().unwrap_or_default())
    }

    #[test]
    fn any_of_several_recipients_decrypts_armored_and_binary() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (x25519(), x25519());
        let ssh = ssh_key(dir.path(), "ed25519", "").1;
        let plain = vec![7u8; 200_000];
        let sealed = encrypt(&plain, &to(&[&a.1, &ssh, &b.1])).unwrap();
        assert!(sealed.starts_with("-----BEGIN AGE") && is_encrypted(sealed.as_bytes()));
        for key in [&a.0, &b.0] {
            let ids = identities(&[key]);
            assert_eq!(*decrypt(sealed.as_bytes(), "x", &ids).unwrap(), plain);
            assert_eq!(*decrypt(&binary(&sealed), "x", &ids).unwrap(), plain);
            assert_eq!(*decrypt(format!("\n{sealed}\n\n").as_bytes(), "x", &ids).unwrap(), plain);
            let marked = format!("\u{feff}{sealed}");
            assert!(is_encrypted(marked.as_bytes()));
            assert_eq!(*decrypt(marked.as_bytes(), "x", &ids).unwrap(), plain);
        }
        let kinds: Vec<_> = stanzas(sealed.as_bytes(), "x").unwrap().into_iter().map(|s| s.kind).collect();
        assert_eq!(kinds, ["X25519", "ssh-ed25519", "X25519"]);
    }

    #[test]
    fn the_empty_plaintext_survives() {
        let (secret, public) = x25519();
        let sealed = encrypt(b"", &to(&[&public])).unwrap();
        assert!(decrypt(sealed.as_bytes(), "x", &identities(&[&secret])).unwrap().is_empty());
    }

    #[test]
    fn a_passphrase_round_trip_with_a_second_chance() {
        let sealed = encrypt(b"payload", &to_passphrase("right")).unwrap();
        let prompt = Answers::new(&["wrong", "right"]);
        assert_eq!(**decrypt(sealed.as_bytes(), "x", &answering(prompt.clone())).unwrap(), *b"payload");
        assert_eq!(prompt.asked(), 2);
        assert!(
            error(sealed.as_bytes(), &answering(Answers::new(&["a", "b", "c"]))).contains("wrong passphrase for v.age")
        );
        assert!(error(sealed.as_bytes(), &answering(Answers::new(&[]))).contains("none was given"));
    }

    #[test]
    fn no_identity_at_all() {
        let sealed = encrypt(b"x", &to(&[&x25519().1])).unwrap();
        let text = error(sealed.as_bytes(), &answering(Answers::new(&[])));
        assert!(text.contains("no identity to decrypt v.age") && text.contains("--identity"), "{text}");
    }

    #[test]
    fn the_wrong_identities_hear_whom_it_is_for_and_their_own_public_key() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = ssh_key(dir.path(), "ed25519", "").1;
        let sealed = encrypt(b"x", &to(&[&x25519().1, &x25519().1, &ssh])).unwrap();
        let (a, b) = (x25519(), x25519());
        let text = error(sealed.as_bytes(), &identities(&[&a.0, &b.0]));
        assert!(text.contains("none of the 2 identities opens v.age"), "{text}");
        assert!(text.contains("3 recipients (2 x25519, 1 ssh-ed25519)") && text.contains(&a.1), "{text}");
    }

    #[test]
    fn damage_is_told_apart_from_a_wrong_key() {
        let (secret, public) = x25519();
        let ids = identities(&[&secret]);
        let sealed = encrypt(&[1u8; 500], &to(&[&public])).unwrap();
        assert!(error(&sealed.as_bytes()[..sealed.len() / 2], &ids).contains("END line is missing"));
        let indented = sealed.replace('\n', "\n  ");
        assert!(error(indented.as_bytes(), &ids).contains("damaged armor"));
        let whole = binary(&sealed);
        assert!(error(&whole[..30], &ids).contains("truncated"));
        assert!(error(&whole[..whole.len() - 520], &ids).contains("truncated"));
        assert!(error(&whole[..whole.len() - 1], &ids).contains("truncated or was changed"));
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(error(&flipped, &ids).contains("was changed"));
        let mut header = whole.clone();
        let mac = header.windows(4).position(|w| w == b"--- ").unwrap() + 6;
        header[mac] = if header[mac] == b'A' { b'B' } else { b'A' };
        assert!(error(&header, &ids).contains("was changed"));
        let nobody = b"age-encryption.org/v1\n->A X25519 x\ny\n--- AAAA\n";
        assert!(error(nobody, &ids).contains("names nobody who can open it"));
    }

    #[test]
    fn what_is_no_age_file_says_what_it_is() {
        let ids = identities(&[&x25519().0]);
        assert!(error(b"db_password: hunter2\n", &ids).contains("is not an age file"));
        assert!(!error(b"db_password: hunter2\n", &ids).contains("hunter2"));
        assert!(error(b"", &ids).contains("is empty"));
        assert!(error(b"$ANSIBLE_VAULT;1.1;AES256\n3961", &ids).contains("Ansible Vault"));
        assert!(error(b"age-encryption.org/v9\nx\n", &ids).contains("newer than v1"));
    }

    #[test]
    fn an_excessive_work_factor_is_refused_before_asking() {
        let sealed = binary(&encrypt(b"x", &to_passphrase("p")).unwrap());
        let end = sealed.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0;
        let mut heavy = sealed[..end - 1].to_vec();
        heavy.extend_from_slice(b"30");
        heavy.extend_from_slice(&sealed[end..]);
        let prompt = Answers::new(&["p"]);
        assert!(error(&heavy, &answering(prompt.clone())).contains("work factor of 30"));
        assert_eq!(prompt.asked(), 0);
    }

    #[test]
    fn a_missing_plugin_is_named() {
        use age::secrecy::ExposeSecret;
        let sealed = encrypt(b"x", &to(&[&x25519().1])).unwrap();
        let plugin = age::plugin::Identity::default_for_plugin("windlasstest").to_string();
        let ids = identities(&[&plugin]);
        assert!(error(sealed.as_bytes(), &ids).contains("age-plugin-windlasstest"));
        let e = encrypt(b"x", &Recipients::new(ids.recipients().unwrap()).unwrap()).unwrap_err();
        assert!(e.message.contains("age-plugin-windlasstest is not on the PATH"), "{e}");
        // Another key that opens it makes the plugin unnecessary.
        let key = age::x25519::Identity::generate();
        let both = identities(&[&plugin, key.to_string().expose_secret()]);
        let sealed = encrypt(b"x", &to(&[&key.to_public().to_string()])).unwrap();
        assert!(decrypt(sealed.as_bytes(), "x", &both).is_ok());
    }
}
