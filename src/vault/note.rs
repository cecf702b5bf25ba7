//! What Windlass notes in an age header: for whom the data is, and where a value belongs.
//!
//! The note is a stanza of its own kind. Other age programs pass over stanzas they do not know, so they open the data as
//! ever; and the header's MAC covers it, so nobody changes the note without a key that opens the data. Data under a
//! passphrase has no note: age allows nothing beside a passphrase.

use std::collections::HashSet;
use std::fmt;

use age::EncryptError;
use age_core::format::{FileKey, Stanza};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::recipient::Recipient;

/// The kind of the note's stanza.
pub(super) const KIND: &str = "windlass";

/// Where a value belongs: a key in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, from the folder of `windlass.yml`; nothing where there is none.
    pub file: Option<String>,
    /// The path of keys, such as `db.users[name=anna].password`.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "`{}` in {file}", self.key),
            None => write!(f, "`{}`", self.key),
        }
    }
}

/// The note of a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// A fingerprint of each recipient; nothing where one of them has no public form.
    pub readers: Option<Vec<String>>,
    /// Where the value belongs; nothing for whole files.
    pub place: Option<Place>,
}

/// A recipient's fingerprint: 128 bits of a hash of its public key.
pub fn fingerprint(recipient: &Recipient) -> Option<String> {
    match recipient {
        Recipient::X25519(_) | Recipient::Ssh(_) | Recipient::Plugin(_) => {
            let digest = Sha256::digest(format!("windlass recipient {recipient}"));
            digest.get(..16).map(|d| BASE64_URL_SAFE_NO_PAD.encode(d))
        }
        Recipient::PluginIdentity(_) | Recipient::Passphrase { .. } => None,
    }
}

impl Note {
    /// The note for these recipients.
    pub(super) fn new<'a>(recipients: impl Iterator<Item = &'a Recipient>, place: Option<&Place>) -> Note {
        Note { readers: recipients.map(fingerprint).collect(), place: place.cloned() }
    }

    /// The stanza's arguments: `to=` fingerprints, `file=` and `key=`, in printable ASCII.
    fn args(&self) -> Vec<String> {
        let mut args = vec![];
        if let Some(readers) = &self.readers {
            args.push(format!("to={}", readers.join(",")));
        }
        if let Some(place) = &self.place {
            args.extend(place.file.iter().map(|f| format!("file={}", escaped(f))));
            args.push(format!("key={}", escaped(&place.key)));
        }
        args
    }

    /// Reads a stanza's arguments; what a later version may add is passed over.
    pub(super) fn read(args: &[String]) -> Note {
        let get = |name: &str| args.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
        let readers = get("to").map(|t| t.split(',').filter(|t| !t.is_empty()).map(str::to_string).collect());
        let place = get("key").map(|key| Place { file: get("file").map(unescaped), key: unescaped(key) });
        Note { readers, place }
    }
}

/// The note in the shape age takes recipients in. It wraps no key.
pub(super) struct Noted {
    pub(super) note: Note,
    /// Some plugins' recipients stand only beside such with the same labels.
    pub(super) labels: HashSet<String>,
}

impl age::Recipient for Noted {
    fn wrap_file_key(&self, _: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let stanza = Stanza { tag: KIND.to_string(), args: self.note.args(), body: vec![] };
        Ok((vec![stanza], self.labels.clone()))
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_graphic() && b != b'%' {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while let Some(b) = bytes.get(i) {
        let hex = (*b == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(*b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{crypt, encrypt};
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for (file, key) in [(Some("größe/all 1.yml"), "a.\"b.c\"[0]"), (None, "50%.x=y,z"), (Some("%41"), "\u{1}\n")]
        {
            let place = Some(Place { file: file.map(str::to_string), key: key.to_string() });
            let note = Note { readers: Some(vec!["a".into(), "b".into()]), place };
            assert!(note.args().iter().all(|a| a.bytes().all(|b| b.is_ascii_graphic())), "{:?}", note.args());
            assert_eq!(Note::read(&note.args()), note);
        }
        assert_eq!(Note::read(&["later=1".into()]), Note::default());
    }

    #[test]
    fn the_header_tells_for_whom_it_is_and_a_passphrase_stands_alone() {
        let (a, b) = (x25519().1, x25519().1);
        let list = to(&[&a, &b]);
        let header = crypt::header(encrypt(b"x", &list).unwrap().as_bytes(), "x").unwrap();
        let wanted: Option<Vec<String>> = list.iter().map(fingerprint).collect();
        assert_eq!(header.note.unwrap().readers, wanted);
        assert_eq!(header.stanzas.len(), 2, "the note is no recipient");
        let header = crypt::header(encrypt(b"x", &to_passphrase("p")).unwrap().as_bytes(), "x").unwrap();
        assert_eq!((header.note, header.stanzas.len()), (None, 1));
    }

    #[test]
    fn a_note_cannot_be_changed() {
        let (secret, public) = x25519();
        let place = Place { file: None, key: "password".into() };
        let sealed = crypt::encrypt_at(b"hunter2", &to(&[&public]), Some(&place)).unwrap();
        let plain = |text: &str| crypt::decrypt(text.as_bytes(), "x", &identities(&[&secret]));
        assert_eq!(**plain(&sealed).unwrap(), *b"hunter2");
        // Without the armor, to get at the header.
        let mut raw = vec![];
        std::io::Read::read_to_end(&mut age::armor::ArmoredReader::new(sealed.as_bytes()), &mut raw).unwrap();
        let at = raw.windows(12).position(|w| w == b"key=password").unwrap();
        raw[at + 4] = b'q';
        assert!(crypt::decrypt(&raw, "x", &identities(&[&secret])).unwrap_err().message.contains("was changed"));
    }
}
