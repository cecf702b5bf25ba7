//! Secrets of other programs become ours: Ansible Vault's files and values, SOPS's files for age keys.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::ansible::{self, Sealed};
use super::audit;
use super::bound::{self, Here};
use super::crypt;
use super::document::{self, Document};
use super::file;
use super::identity::Identities;
use super::prompt::Prompt;
use super::recipient::Recipients;
use super::sops;
use super::store;
use crate::error::{Error, Result};
use crate::source::display_path;

/// How often a wrong password may be corrected.
const ATTEMPTS: u32 = 3;

/// The passwords of Ansible Vault: given, and asked for when none of them fits.
pub struct Passwords {
    known: RefCell<Vec<(Option<String>, SecretString)>>,
    prompt: Arc<dyn Prompt>,
}

impl Passwords {
    /// No password yet; `prompt` is asked.
    pub fn new(prompt: Arc<dyn Prompt>) -> Passwords {
        Passwords { known: RefCell::default(), prompt }
    }

    /// Adds a file's password, `FILE` or `LABEL=FILE` (Ansible's `LABEL@FILE` too).
    ///
    /// # Errors
    /// Unreadable, empty or no text.
    pub fn add_file(&self, given: &str) -> Result<()> {
        let split = given.split_once(['=', '@']).filter(|(l, _)| !l.is_empty() && !Path::new(given).exists());
        let (label, path) = split.map_or((None, given), |(l, p)| (Some(l.to_string()), p));
        let bytes = store::read_stream(Path::new(path))?;
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        if text.is_empty() || text.starts_with("#!") {
            return Err(Error::input(format!("{path} holds no password"))
                .hint("Write the old password into it as its only line; programs are not run."));
        }
        self.known.borrow_mut().push((label, SecretString::from(text.to_string())));
        Ok(())
    }

    fn open(&self, sealed: &Sealed, what: &str) -> Result<Zeroizing<Vec<u8>>> {
        let known = self.known.borrow().clone();
        // Those of the same label first; a label is a hint and proves nothing.
        let same = |l: &Option<String>| *l == sealed.label;
        let in_order = known.iter().filter(|(l, _)| same(l)).chain(known.iter().filter(|(l, _)| !same(l)));
        if let Some(plain) = in_order.into_iter().find_map(|(_, p)| sealed.open(p)) {
            return Ok(plain);
        }
        let label = sealed.label.as_ref().map(|l| format!(", `{l}`")).unwrap_or_default();
        for attempt in 0..ATTEMPTS {
            let Some(given) = self.prompt.passphrase(&format!("Ansible Vault{label} ({what})"), attempt) else { break };
            if let Some(plain) = sealed.open(&given) {
                self.known.borrow_mut().push((sealed.label.clone(), given));
                return Ok(plain);
            }
        }
        let e = if known.is_empty() {
            Error::input(format!("the Ansible Vault password of {what} is not known"))
        } else {
            Error::input(format!("no password given opens {what}"))
        };
        Err(e.hint("Give the old password with --password-file [LABEL=]FILE, or run in a terminal to be asked for it."))
    }
}

/// Whether a file that cannot be imported only speaks of these things: it is no YAML, neither by its name nor by what is
/// in it.
pub fn only_mentions(path: &Path) -> bool {
    let bytes = store::read(path).unwrap_or_default();
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let sealed =
        audit::takes_values(path) && text.contains(ansible::MAGIC) || text.trim_start().starts_with(ansible::MAGIC);
    !audit::is_yaml(path) && !sealed && Document::parse(path, text, true).is_err()
}

/// What was brought over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A file that Ansible Vault had encrypted whole.
    AnsibleFile,
    /// A file with this many `!vault` values.
    AnsibleValues(usize),
    /// A SOPS file with this many values.
    Sops(usize),
}

/// What [`import`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Whose it was.
    pub from: From,
    /// The file written.
    pub path: PathBuf,
    /// Values that were numbers or booleans and are text now.
    pub typed: usize,
}

/// How [`import`] works.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Whom to encrypt for; nothing means as for every new secret.
    pub recipients: Option<Recipients>,
    /// Keep a file that was encrypted whole beside its `.age`.
    pub keep: bool,
    /// Open all and write nothing.
    pub dry_run: bool,
}

/// Brings a file over: one that is encrypted whole becomes FILE.age, values stay where they are, with all around them.
/// Nothing where the file holds nothing of the kind.
///
/// # Errors
/// A password or identity is missing or wrong; something was damaged; nobody is known to encrypt for. The file is then as it
/// was.
pub fn import(path: &Path, passwords: &Passwords, identities: &Identities, how: &How) -> Result<Option<Imported>> {
    let shown = display_path(path);
    let what = shown.display().to_string();
    let _lock = store::lock(path);
    let bytes = store::read(path)?;
    let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(None) };
    let recipients = || file::recipients_for(path, how.recipients.clone(), identities).map(|(r, _)| r);
    if text.trim_start().starts_with(ansible::MAGIC) {
        let plain = passwords.open(&ansible::parse(text, &what)?, &what)?;
        let mut target = path.as_os_str().to_os_string();
        target.push(".age");
        let target = PathBuf::from(target);
        let sealed = crypt::encrypt(&plain, &recipients()?)?;
        // What would be refused is refused without writing too.
        if !how.keep {
            file::refuse_link(path)?;
        }
        store::refuse_existing(&target)?;
        if !how.dry_run {
            store::write(&target, sealed.as_bytes(), store::Access::of(path), false)?;
            if !how.keep {
                store::remove(path)?;
            }
        }
        return Ok(Some(Imported { from: From::AnsibleFile, path: target, typed: 0 }));
    }
    let mentions = |word: &str| text.contains(word);
    if !(mentions("!vault") || mentions("sops") && mentions("ENC[")) {
        return Ok(None);
    }
    let document = Document::parse(&shown, text, false)?;
    let here = Here::of(path);
    let mut parts = vec![];
    let (from, typed) = if sops::is_sops(&document.root) {
        if !audit::takes_values(path) {
            return Err(Error::input(format!("{what} is a SOPS file, and not YAML"))
                .hint("Only SOPS's YAML files are read: decrypt it with sops -d, then encrypt it with windlass vault encrypt."));
        }
        let key = sops::key(&document.root, &what, identities)?;
        let found = sops::values(&document.root, &key, &what)?;
        let to = recipients()?;
        let ranges: Vec<_> = found
            .iter()
            .map(|f| f.node.span.range.start..f.node.span.range.start + f.node.span.text().trim_end().len())
            .collect();
        // What their places are called once the values are ours: no item goes by a name that is a secret.
        let mark = |i: usize| format!("-----{i}-----");
        let marks = ranges.iter().enumerate();
        let marked = document.replaced(marks.map(|(i, r)| (r.clone(), format!("!age \"{}\"", mark(i)))).collect());
        let marked = Document::parse(&shown, &marked, true)?.values();
        for (i, (f, range)) in found.iter().zip(ranges).enumerate() {
            let named = marked.iter().find(|t| t.text.as_deref() == Some(mark(i).as_str()));
            let place = here.place(named.map_or(&f.path, |t| &t.path));
            let armored = bound::seal(&f.text, &to, &place)?;
            parts.push((range.clone(), document::armored(&armored, document.slot(range.start))));
        }
        parts.extend(document.comments(&key));
        parts.extend(document.entry_range(sops::META).map(|r| (r, String::new())));
        (From::Sops(found.len()), found.iter().filter(|f| f.was_typed).count())
    } else {
        let values: Vec<_> = document.tagged().into_iter().filter(|t| t.tag.starts_with("!vault")).collect();
        if values.is_empty() {
            return Ok(None);
        }
        let mut to = None;
        for v in &values {
            let what = format!("{what}:{}", v.line);
            let sealed = ansible::parse(v.text.as_deref().unwrap_or_default(), &what)?;
            let plain = passwords.open(&sealed, &what)?;
            let Ok(plain) = std::str::from_utf8(&plain) else {
                return Err(
                    Error::input(format!("{what} does not hold text")).hint("Keep binary data in a file of its own.")
                );
            };
            let to = match &to {
                Some(to) => to,
                None => to.insert(recipients()?),
            };
            let armored = bound::seal(plain, to, &here.place(&v.path))?;
            parts.push((v.range.clone(), v.armored(&armored)));
        }
        (From::AnsibleValues(values.len()), 0)
    };
    // Nothing but the values may be different.
    let new = match from {
        From::Sops(_) => {
            let new = document.replaced(parts);
            Document::parse(&shown, &new, true)?;
            new
        }
        _ => document.with_values(parts)?,
    };
    if !how.dry_run {
        store::write(&super::rules::real(path), new.as_bytes(), store::Access::of(path), true)?;
    }
    Ok(Some(Imported { from, path: path.to_path_buf(), typed }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{NoPrompt, contents, keypath::KeyPath};
    use super::*;
    use std::fs;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ansible_vault");

    struct Place {
        dir: tempfile::TempDir,
        ids: Identities,
        public: String,
    }

    fn place() -> Place {
        let (secret, public) = x25519();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        Place { dir, ids: identities(&[&secret]), public }
    }

    impl Place {
        fn copy(&self, name: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::copy(format!("{FIXTURES}/{name}"), &path).unwrap();
            path
        }
        fn import(&self, path: &Path, passwords: &Passwords) -> Result<Option<Imported>> {
            import(path, passwords, &self.ids, &How::default())
        }
        fn get(&self, path: &Path, key: &str) -> String {
            contents::get(path, &KeyPath::parse(key).unwrap(), &self.ids).unwrap().to_string()
        }
    }

    fn both() -> Passwords {
        let p = Passwords::new(Arc::new(NoPrompt));
        p.add_file(&format!("{FIXTURES}/password.txt")).unwrap();
        p.add_file(&format!("prod={FIXTURES}/other.txt")).unwrap();
        p
    }

    #[test]
    fn whole_files_of_ansible_vault_become_age_files() {
        let p = place();
        for name in ["whole.yml", "labelled.yml"] {
            let path = p.copy(name);
            let done = p.import(&path, &both()).unwrap().unwrap();
            assert_eq!((done.from, path.exists()), (From::AnsibleFile, false));
            assert_eq!(p.get(&done.path, "db_password"), "correct-horse");
        }
    }

    #[test]
    fn values_of_ansible_vault_are_brought_over_in_place() {
        let p = place();
        let path = p.copy("values.yml");
        let before = fs::read_to_string(&path).unwrap();
        let done = p.import(&path, &both()).unwrap().unwrap();
        assert_eq!(done.from, From::AnsibleValues(3));
        let after = fs::read_to_string(&path).unwrap();
        assert_eq!(p.get(&path, "db_password"), "hunter2");
        assert_eq!(p.get(&path, "users[name=anna].password"), "#: \"quoted\" $x");
        assert_eq!(p.get(&path, "tls_key"), "line one\nline two: \"ü\"\n");
        let kept = |t: &str| {
            let secret = |l: &&str| {
                let l = l.trim();
                l.contains('$')
                    || l.starts_with("-----")
                    || (l.len() > 30 && !l.contains(' '))
                    || l.chars().all(|c| c.is_ascii_hexdigit()) && !l.is_empty()
            };
            t.lines()
                .filter(|l| !secret(l) && l.split_whitespace().count() != 1)
                .map(str::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(&after), kept(&before.replace("!vault", "!age")));
        assert!(
            after.starts_with("# who may log in\nport: 5432   # fixed\ndb_password: !age |\n  -----BEGIN")
                && after.ends_with("\nlast: yes\n")
        );
        assert_eq!(p.import(&path, &both()).unwrap(), None, "there is nothing more to bring over");
    }

    #[test]
    fn a_wrong_or_missing_password_changes_nothing() {
        let p = place();
        let path = p.copy("values.yml");
        let before = fs::read(&path).unwrap();
        let none = Passwords::new(Arc::new(NoPrompt));
        assert!(p.import(&path, &none).unwrap_err().message.contains("values.yml:3 is not known"));
        none.add_file(&format!("{FIXTURES}/password.txt")).unwrap();
        let e = p.import(&path, &none).unwrap_err();
        assert!(
            e.message.contains("no password given opens") && e.hint.unwrap().contains("--password-file"),
            "{}",
            e.message
        );
        assert_eq!(fs::read(&path).unwrap(), before);
        let asked = Answers::new(&["wrong", "throw-away-password-of-this-test", "another-throw-away-password"]);
        p.import(&path, &Passwords::new(asked.clone())).unwrap().unwrap();
        assert_eq!(asked.asked(), 3, "a password that was right is not asked for again");
    }

    #[test]
    fn a_file_of_no_password_is_refused() {
        let p = place();
        for text in ["", "\n", "#!/bin/sh\necho x\n"] {
            let path = p.dir.path().join("pw");
            fs::write(&path, text).unwrap();
            let e = Passwords::new(Arc::new(NoPrompt)).add_file(path.to_str().unwrap()).unwrap_err();
            assert!(e.message.contains("holds no password"), "{e}");
        }
    }

    #[test]
    fn sops_files_for_age_keys_are_brought_over_in_place() {
        let p = place();
        let key = [3u8; 32];
        let v = |text: &str, kind: &str, keys: &[&str]| sops::tests::sealed(text, kind, &key, keys);
        let text = format!(
            "#{}\ndb:\n    #{}\n    password: {}\n    port: {}\n    plain: x # stays\nusers:\n    - name: {}\n{}",
            v(" a remark", "comment", &[]),
            v(" inner", "comment", &["db"]),
            v("hunter2", "str", &["db", "password"]),
            v("5432", "int", &["db", "port"]),
            v("anna", "str", &["users", "name"]),
            sops::tests::meta(&key, &p.public)
        );
        let path = p.dir.path().join("s.yaml");
        fs::write(&path, text).unwrap();
        let done = p.import(&path, &Passwords::new(Arc::new(NoPrompt))).unwrap().unwrap();
        assert_eq!((done.from, done.typed), (From::Sops(3), 1));
        let after = fs::read_to_string(&path).unwrap();
        assert!(
            after.starts_with("# a remark\ndb:\n    # inner\n    password: !age |\n") && !after.contains("sops:"),
            "{after}"
        );
        assert!(after.contains("    plain: x # stays\nusers:\n"));
        assert_eq!((p.get(&path, "db.password"), p.get(&path, "db.port")), ("hunter2".into(), "5432".into()));
        let shown = contents::view(&path, &p.ids).unwrap();
        assert!(String::from_utf8_lossy(&shown).contains("- name: !age \"anna\""));
    }
}
