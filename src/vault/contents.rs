//! What is in a file of secrets, encrypted whole or value by value: shown, edited, asked for and set.

use std::path::Path;

use zeroize::Zeroizing;

use super::audit::{self, Fit};
use super::bound::{self, Here};
use super::crypt::{self, Header};
use super::document::{self, Document, Slot, Tagged};
use super::file::{self, Chosen};
use super::identity::Identities;
use super::keypath::KeyPath;
use super::recipient::{Recipient, Recipients};
use super::store::{self, Access};
use super::value;
use crate::error::{Error, Result};
use crate::source::{Node, display_path};

/// A file's text with its `!age` values in the clear.
pub(super) struct Shown {
    pub(super) text: Zeroizing<String>,
    pub(super) values: Vec<Original>,
}

/// A value as it was.
pub(super) struct Original {
    path: KeyPath,
    plain: Zeroizing<String>,
    armored: String,
    pub(super) header: Header,
}

/// Whether a file is one with values in it, not encrypted whole.
pub(super) fn is_of_values(path: &Path, bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let by_name = audit::is_yaml(path) || audit::may_hold_values(path, text);
    by_name && !crypt::is_encrypted(bytes) && !is_foreign(bytes)
}

/// Whether a file's bytes are some other program's encryption, or no text.
pub(super) fn is_foreign(bytes: &[u8]) -> bool {
    bytes.starts_with(b"$ANSIBLE_VAULT") || std::str::from_utf8(bytes).is_err()
}

fn text_of<'a>(bytes: &'a [u8], shown: &Path) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::input(format!("{} is not UTF-8 text", shown.display())).hint("Save it as UTF-8."))
}

/// Opens every value of a YAML file; each must stand where it belongs.
pub(super) fn open(path: &Path, bytes: &[u8], identities: &Identities) -> Result<Shown> {
    let shown = display_path(path);
    let document = Document::parse(&shown, text_of(bytes, &shown)?, false)?;
    let here = Here::of(path);
    let (mut values, mut parts) = (vec![], vec![]);
    for v in document.values() {
        let (original, plain) = opened(&v, &shown, Some(&here), identities)?;
        parts.push((v.range.clone(), v.plain(&plain).to_string()));
        values.push(original);
    }
    Ok(Shown { text: document.with_values(parts)?, values })
}

fn opened(v: &Tagged, shown: &Path, here: Option<&Here>, ids: &Identities) -> Result<(Original, Zeroizing<String>)> {
    let what = format!("{}:{}", shown.display(), v.line);
    let block = v.text.as_deref().unwrap_or_default();
    let found = bound::open(block, &what, ids)?;
    let note = found.opened.note.clone();
    if let (Some(here), Some(place)) = (here, note.as_ref().and_then(|n| n.place.as_ref())) {
        here.allows(place, &v.path.to_string()).map_err(|mut e| {
            e.message = format!("{what}: {}", e.message);
            e
        })?;
    }
    let header = Header { stanzas: found.opened.stanzas.clone(), note };
    let armored = value::armored(block, &what)?;
    let original = Original { path: v.path.clone(), plain: found.text.clone(), armored, header };
    Ok((original, found.text))
}

/// The edited text with its values encrypted; those that are as they were, where they were, keep their ciphertext.
pub(super) fn seal(path: &Path, before: &Shown, edited: &[u8], to: &Recipients) -> Result<Zeroizing<String>> {
    let shown = display_path(path);
    let here = Here::of(path);
    let document = Document::parse(&shown, text_of(edited, &shown)?, true)?;
    let wanted: Vec<Recipient> = to.iter().cloned().collect();
    let mut parts = vec![];
    for v in document.values() {
        let Some(text) = &v.text else {
            return Err(Error::input(format!("{}:{}: `!age` takes text", shown.display(), v.line))
                .hint("Write it as `!age \"value\"`."));
        };
        // Pasted as it is.
        if crypt::is_encrypted(text.as_bytes()) {
            continue;
        }
        let kept = before.values.iter().find(|o| o.path == v.path && *o.plain == *text && serves(&o.header, &wanted));
        let armored = match kept {
            Some(o) => o.armored.clone(),
            None => bound::seal(text, to, &here.place(&v.path))?,
        };
        parts.push((v.range.clone(), v.armored(&armored)));
    }
    document.with_values(parts)
}

/// Whether a header is for those wanted, as far as it tells.
fn serves(header: &Header, wanted: &[Recipient]) -> bool {
    let of_passphrase = wanted.iter().any(|r| matches!(r, Recipient::Passphrase { .. }));
    !matches!(audit::fit(header, (!of_passphrase).then_some(wanted), None), Fit::Differs { .. })
}

/// A file's text with all that is encrypted in the clear.
///
/// # Errors
/// Unreadable; something in it cannot be opened, or stands where it does not belong.
pub fn view(path: &Path, identities: &Identities) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = store::read(path)?;
    if !is_of_values(path, &bytes) {
        return crypt::decrypt(&bytes, &display_path(path).display().to_string(), identities);
    }
    let shown = open(path, &bytes, identities)?;
    Ok(Zeroizing::new(shown.text.as_bytes().to_vec()))
}

/// The text for `git diff`: what can be opened in the clear, all else as it is. Git names a file elsewhere, so where
/// values belong is not looked at.
///
/// # Errors
/// Unreadable.
pub fn textconv(path: &Path, identities: &Identities) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = store::read(path)?;
    if crypt::is_encrypted(&bytes) {
        return Ok(crypt::decrypt(&bytes, "the file", identities).unwrap_or(bytes));
    }
    let shown = display_path(path);
    let Some(document) = std::str::from_utf8(&bytes).ok().and_then(|t| Document::parse(&shown, t, false).ok()) else {
        return Ok(bytes);
    };
    let parts = document.values().into_iter().filter_map(|v| {
        let (_, plain) = opened(&v, &shown, None, identities).ok()?;
        Some((v.range.clone(), v.plain(&plain).to_string()))
    });
    Ok(Zeroizing::new(document.replaced(parts.collect()).as_bytes().to_vec()))
}

/// The value at a path of keys: text as it is, all else as YAML.
///
/// # Errors
/// There is none; it cannot be opened, or stands where it does not belong.
pub fn get(path: &Path, key: &KeyPath, identities: &Identities) -> Result<Zeroizing<String>> {
    let bytes = store::read(path)?;
    let shown = display_path(path);
    let missing = |d: &Document| {
        let known: Vec<String> = d.root.as_map().unwrap_or_default().iter().map(|e| e.key.clone()).collect();
        let e = Error::input(format!("there is no `{key}` in {}", shown.display()));
        match crate::source::nearest(&key.to_string(), known.iter().map(String::as_str)) {
            Some(n) => e.hint(format!("did you mean `{n}`?")),
            None => e.hint("See what is there with windlass vault view."),
        }
    };
    if crypt::is_encrypted(&bytes) {
        let plain = crypt::decrypt(&bytes, &shown.display().to_string(), identities)?;
        let document = Document::parse(&shown, text_of(&plain, &shown)?, true)?;
        let node = key.find(&document.root).ok_or_else(|| missing(&document))?;
        refuse_sealed(node, &[])?;
        return Ok(written(node));
    }
    if is_foreign(&bytes) {
        return crypt::decrypt(&bytes, &shown.display().to_string(), identities).map(|_| Zeroizing::default());
    }
    let document = Document::parse(&shown, text_of(&bytes, &shown)?, false)?;
    let node = key.find(&document.root).ok_or_else(|| missing(&document))?;
    // Only what was asked for is opened.
    let here = Here::of(path);
    let values = document.values();
    refuse_sealed(node, &values)?;
    if node.tag.is_some()
        && let Some(v) = document::which(&values, node)
    {
        return opened(v, &shown, Some(&here), identities).map(|(_, plain)| plain);
    }
    let mut wanted = vec![];
    node.walk(&mut |n| {
        wanted.extend(n.tag.as_ref().and_then(|_| document::which(&values, n)).map(|v| v.range.start));
    });
    let mut parts = vec![];
    for v in values.iter().filter(|v| wanted.contains(&v.range.start)) {
        let (_, plain) = opened(v, &shown, Some(&here), identities)?;
        parts.push((v.range.clone(), v.plain(&plain).to_string()));
    }
    let open = Document::parse(&shown, &document.replaced(parts), true)?;
    key.find(&open.root).map(written).ok_or_else(|| missing(&document))
}

/// What stays encrypted is no value to print.
fn refuse_sealed(node: &Node, open: &[Tagged]) -> Result<()> {
    let mut left = None;
    node.walk(&mut |n| {
        let tag = n.tag.as_deref().filter(|t| document::SEALED.contains(t));
        if let Some(tag) = tag.filter(|_| document::which(open, n).is_none()) {
            left = left.take().or(Some((n.span.place(), tag.to_string())));
        }
    });
    let Some((place, tag)) = left else { return Ok(()) };
    let e = Error::input(format!("{place}: this `{tag}` value cannot be opened"));
    Err(match tag.as_str() {
        "!age" => e.hint("Within a file that is encrypted whole, values stand as they are."),
        _ => e.hint("Bring it over with windlass vault import."),
    })
}

fn written(node: &Node) -> Zeroizing<String> {
    Zeroizing::new(match node.as_str() {
        Some(s) => s.to_string(),
        None => serde_yaml::to_string(&node.to_value()).unwrap_or_default().trim_end().to_string(),
    })
}

/// What [`set`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Whether the file was written; a value that is there already is left as it is.
    pub changed: bool,
    /// Whether the file is new.
    pub created: bool,
    /// The value's path, items of lists by their names.
    pub key: String,
    /// Whose choice the recipients were.
    pub chosen: Chosen,
}

/// Puts a value into a file. In one that is encrypted whole (or is to be: `.age`) it stands as it is; in another YAML
/// file as an `!age` value bound to its place. Everything else in the file stays.
///
/// # Errors
/// The file is no YAML; something else stands at the path; nobody is known to encrypt for.
pub fn set(path: &Path, key: &KeyPath, text: &str, to: Option<Recipients>, identities: &Identities) -> Result<Set> {
    let dir = store::parent(path);
    if !dir.is_dir() {
        std::fs::create_dir_all(&dir).map_err(|e| {
            Error::environment(format!("cannot make {}", dir.display())).because(e).hint("Choose another path.")
        })?;
    }
    let path = &super::rules::real(path);
    let _lock = store::lock(path);
    let created = matches!(path.symlink_metadata(), Err(e) if e.kind() == std::io::ErrorKind::NotFound);
    let shown = display_path(path);
    let bytes = if created { Zeroizing::default() } else { store::read(path)? };
    let whole = if created { path.extension().is_some_and(|e| e == "age") } else { crypt::is_encrypted(&bytes) };
    let (new, done) = if whole {
        let opened = if created { None } else { Some(crypt::open(&bytes, &shown.display().to_string(), identities)?) };
        let before = opened.as_ref().map_or(0, |o| o.stanzas.len());
        let passphrase = opened.as_ref().and_then(|o| o.passphrase.clone());
        let plain = opened.map(|o| o.plain).unwrap_or_default();
        let document = Document::parse(&shown, text_of(&plain, &shown)?, true)?;
        let written = |slot: Slot| {
            let tagged = document::plain(text, slot);
            tagged.strip_prefix("!age ").unwrap_or(&tagged).to_string()
        };
        let after = document.set(key, &written)?;
        let is_there = key.find(&document.root).and_then(Node::as_str) == Some(text);
        let (to, chosen) = file::choose(path, before, passphrase, to, identities)?;
        let changed = !is_there;
        let sealed = if changed { crypt::encrypt(after.as_bytes(), &to)? } else { String::new() };
        (sealed, Set { changed, created, key: key.to_string(), chosen })
    } else {
        if is_foreign(&bytes) || !audit::takes_values(path) {
            let e = Error::input(format!("{} is neither YAML nor an age file", shown.display()));
            return Err(
                e.hint("Values are set in .yml, .yaml and .age files and those without an ending; bring others over with windlass vault import.")
            );
        }
        let document = Document::parse(&shown, text_of(&bytes, &shown)?, false)?;
        // Once without the secret, to learn what the place is called there.
        let mark = |slot: Slot| document::armored("-----", slot);
        let marked = Document::parse(&shown, &document.set(key, &mark)?, false)?;
        let is_mark = |t: &Tagged| t.text.as_deref().is_some_and(|t| t.trim() == "-----");
        let name = marked.values().into_iter().find(is_mark).map(|t| t.path).unwrap_or_else(|| key.clone());
        let old = document.values().into_iter().find(|v| v.path == name);
        // To set a value nobody needs to be able to read the old one.
        let old = old.and_then(|v| opened(&v, &shown, None, identities).ok().map(|(o, _)| o));
        let before = old.as_ref().map_or(0, |o| o.header.stanzas.len());
        let (to, chosen) = file::choose(path, before, None, to, identities)?;
        let here = Here::of(path);
        let place = here.place(&name);
        let wanted: Vec<Recipient> = to.iter().cloned().collect();
        let is_there = old.is_some_and(|o| {
            let bound = o.header.note.as_ref().and_then(|n| n.place.as_ref());
            *o.plain == *text && serves(&o.header, &wanted) && bound.is_none_or(|b| *b == place)
        });
        let mut sealed = String::new();
        if !is_there {
            let armored = bound::seal(text, &to, &place)?;
            sealed = document.set(key, &|slot| document::armored(&armored, slot))?.to_string();
        }
        (sealed, Set { changed: !is_there, created, key: name.to_string(), chosen })
    };
    if done.changed {
        store::write(path, new.as_bytes(), if created { Access::new(0o644) } else { Access::of(path) }, !created)?;
    }
    Ok(done)
}

/// A new secret of letters and digits.
///
/// # Errors
/// The length is out of all reason, or the system gives no random numbers.
pub fn generate(length: usize) -> Result<Zeroizing<String>> {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    if !(8..=4096).contains(&length) {
        return Err(Error::input("a generated secret has 8 to 4096 characters").hint("24 are plenty: --generate 24"));
    }
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut bytes = Zeroizing::new([0u8; 256]);
    while text.len() < length {
        getrandom::fill(&mut *bytes).map_err(|e| {
            Error::environment("the system gives no random numbers").because(std::io::Error::other(e.to_string()))
        })?;
        // Those beyond the last whole round would make some signs likelier.
        let even = bytes.iter().filter(|b| usize::from(**b) < 256 - 256 % SIGNS.len());
        for b in even.take(length - text.len()) {
            text.extend(SIGNS.get(usize::from(*b) % SIGNS.len()).map(|c| char::from(*c)));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{encrypt, value};
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    struct Place {
        dir: tempfile::TempDir,
        ids: Identities,
        public: String,
    }

    fn place() -> Place {
        let (secret, public) = x25519();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        fs::write(
            dir.path().join("windlass.yml"),
            format!("vault: {{recipients: [{{path: '**', to: [{public}]}}]}}\n"),
        )
        .unwrap();
        Place { dir, ids: identities(&[&secret]), public }
    }

    impl Place {
        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
        fn set(&self, name: &str, key: &str, text: &str) -> Result<Set> {
            set(&self.at(name), &KeyPath::parse(key).unwrap(), text, None, &self.ids)
        }
        fn get(&self, name: &str, key: &str) -> Result<String> {
            get(&self.at(name), &KeyPath::parse(key).unwrap(), &self.ids).map(|t| t.to_string())
        }
        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.at(name)).unwrap()
        }
        fn edit(&self, name: &str, script: &str) -> Result<bool> {
            let how = file::Edit {
                editor: Some(format!("f() {{ {script}; }}; f")),
                allow_disk: true,
                create: true,
                ..file::Edit::default()
            };
            file::edit(&self.at(name), &self.ids, &how).map(|e| e.changed)
        }
    }

    #[test]
    fn what_is_set_is_got_and_the_rest_stays() {
        let p = place();
        fs::write(p.at("all.yml"), "# top\nport: 5432   # fixed\nusers:\n  - name: anna\n").unwrap();
        let done = p.set("all.yml", "users[0].password", "hunter2").unwrap();
        assert_eq!((done.changed, done.created, done.key.as_str()), (true, false, "users[name=anna].password"));
        let text = p.text("all.yml");
        assert!(text.starts_with(
            "# top\nport: 5432   # fixed\nusers:\n  - name: anna\n    password: !age |\n      -----BEGIN"
        ));
        assert!(!text.contains("hunter2"));
        assert_eq!(p.get("all.yml", "users[name=anna].password").unwrap(), "hunter2");
        assert_eq!(p.get("all.yml", "port").unwrap(), "5432");
        assert_eq!(p.get("all.yml", "users").unwrap(), "- name: anna\n  password: hunter2");
        // The same again keeps the ciphertext.
        assert!(!p.set("all.yml", "users[name=anna].password", "hunter2").unwrap().changed);
        assert_eq!(p.text("all.yml"), text);
        assert!(p.set("all.yml", "users[name=anna].password", "hunter3").unwrap().changed);
        assert_eq!(p.get("all.yml", "users[0].password").unwrap(), "hunter3");
    }

    #[test]
    fn whole_files_are_set_within() {
        let p = place();
        assert!(p.set("v.yml.age", "db.pw", "a\nb\n").unwrap().created);
        p.set("v.yml.age", "db.user", "me").unwrap();
        let plain = view(&p.at("v.yml.age"), &p.ids).unwrap();
        assert_eq!(String::from_utf8_lossy(&plain), "db:\n  pw: |\n    a\n    b\n  user: \"me\"\n");
        let before = p.text("v.yml.age");
        assert!(!p.set("v.yml.age", "db.user", "me").unwrap().changed);
        assert_eq!(p.text("v.yml.age"), before);
        assert_eq!(p.get("v.yml.age", "db.pw").unwrap(), "a\nb\n");
    }

    #[test]
    fn what_cannot_be_set_or_got_says_why() {
        let p = place();
        fs::write(p.at("a.txt"), "x").unwrap();
        fs::write(p.at("all.yml"), "db_password: {a: 1}\n").unwrap();
        assert!(p.set("a.txt", "x", "y").unwrap_err().message.contains("neither YAML nor an age file"));
        assert!(p.set("all.yml", "db_password", "y").unwrap_err().message.contains("is a mapping, not a value"));
        let e = p.get("all.yml", "db_pasword").unwrap_err();
        assert!(e.message.contains("there is no `db_pasword`") && e.hint.unwrap().contains("`db_password`"));
    }

    #[test]
    fn values_are_edited_in_the_clear_and_the_unchanged_keep_their_ciphertext() {
        let p = place();
        p.set("all.yml", "a", "first").unwrap();
        p.set("all.yml", "b", "second").unwrap();
        let before = p.text("all.yml");
        assert!(!p.edit("all.yml", "grep -q '^a: !age \"first\"$' \"$1\"").unwrap());
        assert!(
            p.edit("all.yml", "sed -i 's/second/third/; s/^a:/# c\\na:/' \"$1\"; echo 'c: !age fourth' >> \"$1\"")
                .unwrap()
        );
        let after = p.text("all.yml");
        let block = |text: &str, key: &str| {
            let from = text.find(&format!("{key}: !age")).unwrap();
            text[from..].split("-----END").next().unwrap().to_string()
        };
        assert_eq!(block(&after, "a"), block(&before, "a"));
        assert_ne!(block(&after, "b"), block(&before, "b"));
        assert!(after.starts_with("# c\na: ") && !after.contains("fourth"));
        assert_eq!((p.get("all.yml", "b").unwrap(), p.get("all.yml", "c").unwrap()), ("third".into(), "fourth".into()));
        // A renamed key is another place.
        assert!(p.edit("all.yml", "sed -i 's/^a:/z:/' \"$1\"").unwrap());
        assert_eq!(p.get("all.yml", "z").unwrap(), "first");
    }

    #[test]
    fn a_broken_edit_shows_no_secret_and_changes_nothing() {
        let p = place();
        p.set("all.yml", "a", "hunter2").unwrap();
        let before = p.text("all.yml");
        let e = p.edit("all.yml", "echo 'x: [' >> \"$1\"").unwrap_err();
        assert!(!e.to_string().contains("hunter2") && e.message.contains("all.yml"), "{e}");
        assert_eq!(p.text("all.yml"), before);
    }

    #[test]
    fn a_slip_can_be_mended() {
        let p = place();
        p.set("all.yml", "a", "hunter2").unwrap();
        let key = p.at("id.txt");
        super::super::keygen(&key).unwrap();
        let own = p.ids.recipients().unwrap();
        assert_eq!(own.len(), 1);
        let prompt = Answers::new(&["again"]);
        let ids = super::super::Sources { files: vec![key], ..Default::default() }.load(prompt.clone()).unwrap();
        // The first time it is broken, the second time mended.
        let script =
            "if grep -q BROKEN \"$1\"; then echo 'b: !age mended' > \"$1\"; else echo 'x: [BROKEN' > \"$1\"; fi";
        let how = file::Edit {
            editor: Some(format!("f() {{ {script}; }}; f")),
            allow_disk: true,
            create: true,
            ..file::Edit::default()
        };
        assert!(file::edit(&p.at("new.yml"), &ids, &how).unwrap().changed);
        assert_eq!((p.get("new.yml", "b").unwrap().as_str(), prompt.asked()), ("mended", 1));
    }

    #[test]
    fn a_moved_value_is_neither_shown_nor_edited() {
        let p = place();
        p.set("all.yml", "a", "hunter2").unwrap();
        fs::write(p.at("all.yml"), p.text("all.yml").replace("a: !age", "b: !age")).unwrap();
        for e in [
            p.get("all.yml", "b").unwrap_err(),
            p.edit("all.yml", "true").unwrap_err(),
            view(&p.at("all.yml"), &p.ids).unwrap_err(),
        ] {
            assert!(e.message.contains("belongs to `a` in all.yml, and stands at `b`"), "{e}");
        }
    }

    #[test]
    fn git_sees_plain_text_where_it_can() {
        let p = place();
        p.set("all.yml", "a", "hunter2").unwrap();
        let other = value::encrypt_value("x", &to(&[&x25519().1])).unwrap();
        let text = format!("{}b: {}\n", p.text("all.yml"), document::armored(&other, Slot { indent: 2, flow: false }));
        fs::write(p.at("moved"), &text).unwrap();
        let shown = String::from_utf8(textconv(&p.at("moved"), &p.ids).unwrap().to_vec()).unwrap();
        assert!(shown.starts_with("a: !age \"hunter2\"\nb: !age |\n  -----BEGIN"), "{shown}");
        fs::write(p.at("v.age"), encrypt(b"plain", &to(&[&p.public])).unwrap()).unwrap();
        assert_eq!(**textconv(&p.at("v.age"), &p.ids).unwrap(), *b"plain");
        let nobody = answering(std::sync::Arc::new(super::super::NoPrompt));
        assert_eq!(*textconv(&p.at("v.age"), &nobody).unwrap(), fs::read(p.at("v.age")).unwrap());
    }

    #[test]
    fn generated_secrets_differ_and_are_long_enough() {
        let (a, b) = (generate(24).unwrap(), generate(24).unwrap());
        assert!(a.len() == 24 && a != b && a.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_eq!(generate(1000).unwrap().len(), 1000);
        assert!(generate(7).is_err() && generate(5000).is_err());
    }
}
