//! Encrypting again what should be for others: a file at a time, all of it or nothing.

use std::path::Path;

use super::audit::{self, Fit, Held};
use super::bound::{self, Here};
use super::crypt;
use super::file;
use super::identity::Identities;
use super::recipient::{Recipient, Recipients};
use super::rules::Rules;
use super::store;
use crate::error::{Error, Result};

/// How [`rekey`] works.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Whom to encrypt for; nothing means as the rules say.
    pub recipients: Option<Recipients>,
    /// Bind values to where they stand, also those that belong elsewhere or nowhere.
    pub rebind: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rekeyed {
    /// Encrypted again: values, or 1 for a whole file.
    pub rewritten: usize,
    /// Left as they are.
    pub kept: usize,
    /// Values bound to a new place, among those rewritten.
    pub rebound: usize,
}

/// Brings a file to its recipients. What is for them already keeps its ciphertext.
///
/// # Errors
/// Nothing in the file is encrypted; something in it cannot be opened, or stands where it does not belong; nobody is known
/// to encrypt for. The file is then as it was.
pub fn rekey(path: &Path, identities: &Identities, how: &How) -> Result<Rekeyed> {
    let shown = crate::source::display_path(path).display().to_string();
    let _lock = store::lock(path);
    let rules = Rules::of(&store::parent(path))?;
    let rule = rules.as_ref().and_then(|r| r.rule(path)).filter(|_| how.recipients.is_none());
    let held = audit::look(path)?;
    let is_for_passphrase = match (&how.recipients, rule) {
        (Some(r), _) => r.iter().any(|r| matches!(r, Recipient::Passphrase { .. })),
        (None, rule) => rule.is_some_and(|r| r.is_passphrase()),
    };
    // A passphrase is asked for only when it is needed.
    let fits = |header: &crypt::Header, to: Option<&[Recipient]>| match audit::fit(header, to, rules.as_ref()) {
        Fit::Same => true,
        Fit::Likely | Fit::Differs { .. } => false,
    };
    let wanted: Option<Vec<Recipient>> = if is_for_passphrase {
        None
    } else {
        match (&how.recipients, rule) {
            (Some(r), _) => Some(r.iter().cloned().collect()),
            (None, Some(rule)) => Some(rule.recipients()),
            (None, None) => {
                let (list, chosen) = file::recipients_for(path, None, identities)?;
                if chosen == file::Chosen::Identities {
                    return Err(Error::input(format!("nothing says whom {shown} is for"))
                        .hint("Make rules with windlass vault init, or name the recipients with -r."));
                }
                Some(list.iter().cloned().collect())
            }
        }
    };
    let recipients = || match &how.recipients {
        Some(r) => Ok(r.clone()),
        None => file::recipients_for(path, None, identities).map(|(r, _)| r),
    };
    let mut done = Rekeyed::default();
    match held {
        Held::Plain => Err(Error::input(format!("nothing in {shown} is encrypted"))
            .hint("Encrypt it with windlass vault encrypt, or a value in it with windlass vault set.")),
        Held::Whole(header) => {
            if fits(&header, wanted.as_deref()) {
                done.kept = 1;
                return Ok(done);
            }
            done.rewritten = 1;
            let sealed = store::read(path)?;
            let opened = crypt::open(&sealed, &shown, identities)?;
            if !how.dry_run {
                let text = crypt::encrypt(&opened.plain, &recipients()?)?;
                store::write(&super::rules::real(path), text.as_bytes(), store::Access::of(path), true)?;
            }
            Ok(done)
        }
        Held::Values(document, values) => {
            let here = Here::of(path);
            let mut chosen: Option<Recipients> = None;
            let mut parts = vec![];
            for (v, header) in values {
                let place = here.place(&v.path);
                let noted = header.note.as_ref().and_then(|n| n.place.as_ref());
                let is_right = fits(&header, wanted.as_deref());
                let to_bind = how.rebind && noted != Some(&place) && !is_for_passphrase;
                let what = format!("{shown}:{}", v.line);
                if let Some(noted) = noted.filter(|_| !how.rebind) {
                    here.allows(noted, &place.key).map_err(|mut e| {
                        e.message = format!("{what}: {}", e.message);
                        e
                    })?;
                }
                if is_right && !to_bind {
                    done.kept += 1;
                    continue;
                }
                done.rewritten += 1;
                done.rebound += usize::from(to_bind);
                let found = bound::open(v.text.as_deref().unwrap_or_default(), &what, identities)?;
                if how.dry_run {
                    continue;
                }
                if chosen.is_none() {
                    chosen = Some(recipients()?);
                }
                if let Some(to) = &chosen {
                    let sealed = bound::seal(&found.text, to, &place)?;
                    parts.push((v.range.clone(), v.armored(&sealed)));
                }
            }
            if !parts.is_empty() {
                let text = document.with_values(parts)?;
                store::write(&super::rules::real(path), text.as_bytes(), store::Access::of(path), true)?;
            }
            Ok(done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::super::testing::*;
    use super::super::{decrypt, encrypt, value};
    use super::*;
    use std::fs;

    struct Project {
        dir: tempfile::TempDir,
        ids: Identities,
        anna: String,
        ben: String,
    }

    /// A project with a rule for anna alone.
    fn project() -> Project {
        let (secret, anna) = x25519();
        let ben = x25519().1;
        let p = Project { dir: tempfile::tempdir().unwrap(), ids: identities(&[&secret]), anna, ben };
        p.rule("anna");
        p
    }

    impl Project {
        fn rule(&self, to: &str) {
            let text = format!(
                "vault:\n  keys: {{anna: {}, ben: {}}}\n  recipients: [{{path: '**', to: [{to}]}}]\n",
                self.anna, self.ben
            );
            fs::write(self.dir.path().join("windlass.yml"), text).unwrap();
        }
        fn put(&self, name: &str, text: &str) -> std::path::PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }
        fn value(&self, path: &Path, key: &str, text: &str, to_whom: &[&str]) -> String {
            let sealed = bound::seal(text, &to(to_whom), &Here::of(path).place(key)).unwrap();
            document::armored(&sealed, document::Slot { indent: 2, flow: false })
        }
        fn rekey(&self, path: &Path) -> Result<Rekeyed> {
            rekey(path, &self.ids, &How::default())
        }
    }

    #[test]
    fn only_what_is_for_others_is_encrypted_again() {
        let p = project();
        let path = p.dir.path().join("all.yml");
        let (own, both) = (p.value(&path, "a", "first", &[&p.anna]), p.value(&path, "b", "second", &[&p.anna, &p.ben]));
        let text = format!("# top\na: {own}\nb: {both} # kept\n\nc: 1\n").replace(" # kept", "");
        p.put("all.yml", &text);
        assert_eq!(p.rekey(&path).unwrap(), Rekeyed { rewritten: 1, kept: 1, rebound: 0 });
        let after = fs::read_to_string(&path).unwrap();
        assert!(
            after.contains(&own)
                && !after.contains(&both)
                && after.starts_with("# top\na: ")
                && after.ends_with("\n\nc: 1\n")
        );
        assert_eq!(p.rekey(&path).unwrap(), Rekeyed { rewritten: 0, kept: 2, rebound: 0 });
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
    }

    #[test]
    fn a_reader_in_place_of_another_is_seen() {
        let p = project();
        let path = p.put("v.yml.age", &encrypt(b"a: 1\n", &to(&[&p.anna, &p.ben])).unwrap());
        let carl = x25519().1;
        p.rule(&format!("anna, {carl}"));
        assert_eq!(p.rekey(&path).unwrap().rewritten, 1);
        assert_eq!(**decrypt(&fs::read(&path).unwrap(), "x", &p.ids).unwrap(), *b"a: 1\n");
        assert_eq!(p.rekey(&path).unwrap().kept, 1);
    }

    #[test]
    fn a_file_is_rewritten_whole_or_not_at_all() {
        let p = project();
        let path = p.dir.path().join("all.yml");
        let text = format!(
            "a: {}\nb: {}\n",
            p.value(&path, "a", "first", &[&p.anna, &p.ben]),
            p.value(&path, "b", "not ours", &[&p.ben])
        );
        p.put("all.yml", &text);
        let e = p.rekey(&path).unwrap_err();
        assert!(e.message.contains("does not open"), "{e}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_moved_value_is_refused_unless_it_is_bound_anew() {
        let p = project();
        let path = p.dir.path().join("all.yml");
        let plain = value::encrypt_value("third", &to(&[&p.anna])).unwrap();
        let unbound = document::armored(&plain, document::Slot { indent: 2, flow: false });
        let text = format!("b: {}\nc: {unbound}\n", p.value(&path, "a", "first", &[&p.anna]));
        p.put("all.yml", &text);
        let e = p.rekey(&path).unwrap_err();
        assert!(e.message.contains("belongs to `a` in all.yml, and stands at `b`"), "{e}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let how = How { rebind: true, ..How::default() };
        assert_eq!(rekey(&path, &p.ids, &how).unwrap(), Rekeyed { rewritten: 2, kept: 0, rebound: 2 });
        assert_eq!(p.rekey(&path).unwrap(), Rekeyed { rewritten: 0, kept: 2, rebound: 0 });
        let dry = How { dry_run: true, recipients: Some(to(&[&p.ben])), ..How::default() };
        let before = fs::read(&path).unwrap();
        assert_eq!(rekey(&path, &p.ids, &dry).unwrap().rewritten, 2);
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn data_of_a_plain_age_without_a_note_is_compared_by_kinds() {
        let p = project();
        let (_, carl) = x25519();
        let keys = [p.anna.parse::<age::x25519::Recipient>().unwrap(), carl.parse().unwrap()];
        let sealed = |n: usize| {
            let list = keys.iter().take(n).map(|k| k as &dyn age::Recipient);
            let mut out = vec![];
            let mut w = age::Encryptor::with_recipients(list).unwrap().wrap_output(&mut out).unwrap();
            std::io::Write::write_all(&mut w, b"a: 1\n").unwrap();
            w.finish().unwrap();
            out
        };
        let rules = Rules::of(p.dir.path()).unwrap().unwrap();
        let header = |n| crypt::header(&sealed(n), "x").unwrap();
        let wanted = rules.rules[0].recipients();
        assert_eq!(audit::fit(&header(1), Some(&wanted), Some(&rules)), Fit::Likely);
        let Fit::Differs { extra, .. } = audit::fit(&header(2), Some(&wanted), Some(&rules)) else { panic!() };
        assert_eq!(extra, ["an X25519 key"]);
        // What cannot be told is encrypted again, once.
        let path = p.dir.path().join("v.age");
        fs::write(&path, sealed(1)).unwrap();
        assert_eq!((p.rekey(&path).unwrap().rewritten, p.rekey(&path).unwrap().rewritten), (1, 0));
    }

    #[test]
    fn a_note_that_hides_a_reader_is_not_believed() {
        let p = project();
        let keys = [&p.anna, &p.ben].map(|k| k.parse::<age::x25519::Recipient>().unwrap());
        let mut noted = super::super::note::Noted { note: Default::default(), labels: Default::default() };
        noted.note.readers = to(&[&p.anna]).iter().map(super::super::note::fingerprint).collect();
        let list: [&dyn age::Recipient; 3] = [&keys[0], &keys[1], &noted];
        let mut out = vec![];
        let w = age::Encryptor::with_recipients(list.into_iter()).unwrap().wrap_output(&mut out).unwrap();
        w.finish().unwrap();
        let header = crypt::header(&out, "x").unwrap();
        let rules = Rules::of(p.dir.path()).unwrap().unwrap();
        let Fit::Differs { extra, .. } = audit::fit(&header, Some(&rules.rules[0].recipients()), Some(&rules)) else {
            panic!("the second key is passed over");
        };
        assert_eq!(extra, ["an X25519 key"]);
    }

    #[test]
    fn what_cannot_be_brought_to_anyone_says_so() {
        let p = project();
        let plain = p.put("plain.yml", "a: 1\n");
        assert!(p.rekey(&plain).unwrap_err().message.contains("nothing in"));
        fs::remove_file(p.dir.path().join("windlass.yml")).unwrap();
        let path = p.put("v.age", &encrypt(b"x", &to(&[&p.anna])).unwrap());
        assert!(p.rekey(&path).unwrap_err().message.contains("nothing says whom"));
    }
}
