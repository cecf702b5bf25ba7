//! What `windlass vault` does with files: encrypt, decrypt, view, edit.
//!
//! Every write is all or nothing, and an original goes only after its replacement is durable.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::contents;
use super::crypt::{self, Opened};
use super::desk::{Desk, Watch, memory_dir};
use super::identity::Identities;
use super::recipient::{Recipient, Recipients};
use super::rules::Rules;
use super::store::{self, Access};
use crate::error::{Error, Result};

/// Where recipients are listed, beside or above the file they are for.
pub const RECIPIENT_FILES: [&str; 2] = [".windlass/recipients", ".age-recipients"];

/// How [`encrypt_file`] and [`decrypt_file`] write.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Where to write; `None` adds or takes off `.age`.
    pub path: Option<PathBuf>,
    /// Keep the original.
    pub keep: bool,
    /// Replace a file that is already there.
    pub overwrite: bool,
}

/// Whose choice the recipients were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The caller's.
    Explicit,
    /// A rule of the project's `windlass.yml`: that file, and the rule's path.
    Rule(PathBuf, String),
    /// A file of recipients found beside or above the secret.
    File(PathBuf),
    /// Nobody's: the public keys of the identities in use.
    Identities,
    /// The file's own passphrase, used again.
    SamePassphrase,
}

/// Encrypts a file: `vault.yml` becomes `vault.yml.age`, with the same mode. Returns the path written.
///
/// # Errors
/// It is encrypted already, is a symbolic link, or the target exists; and what [`crypt::encrypt`] says.
pub fn encrypt_file(path: &Path, recipients: &Recipients, output: &Output) -> Result<PathBuf> {
    let _lock = store::lock(path);
    let plain = store::read(path)?;
    if crypt::is_encrypted(&plain) {
        return Err(Error::input(format!("{} is encrypted already", path.display()))
            .hint("Use windlass vault edit to change it."));
    }
    if !output.keep {
        refuse_link(path)?;
    }
    let target = output.path.clone().unwrap_or_else(|| {
        let mut name = path.as_os_str().to_os_string();
        name.push(".age");
        PathBuf::from(name)
    });
    let sealed = crypt::encrypt(&plain, recipients)?;
    store::write(&target, sealed.as_bytes(), Access::of(path), output.overwrite)?;
    if !output.keep && !same(path, &target) {
        store::remove(path)?;
    }
    Ok(target)
}

/// Decrypts a file: `vault.yml.age` becomes `vault.yml`, mode 0600. Returns the path written.
///
/// # Errors
/// The name does not end in `.age` and no target is given, or the target exists; and what [`crypt::decrypt`] says.
pub fn decrypt_file(path: &Path, identities: &Identities, output: &Output) -> Result<PathBuf> {
    let target = match &output.path {
        Some(target) => target.clone(),
        None if path.extension().is_some_and(|e| e == "age") => path.with_extension(""),
        None => {
            return Err(Error::input(format!("{} does not end in .age", path.display()))
                .hint("Say where to write the plaintext."));
        }
    };
    if !output.keep {
        refuse_link(path)?;
    }
    let _lock = store::lock(path);
    let plain = view(path, identities)?;
    store::write(&target, &plain, Access::of(path).with_mode(0o600), output.overwrite)?;
    if !output.keep && !same(path, &target) {
        store::remove(path)?;
    }
    Ok(target)
}

/// The plaintext of a file.
///
/// # Errors
/// Unreadable; and what [`crypt::decrypt`] says.
pub fn view(path: &Path, identities: &Identities) -> Result<Zeroizing<Vec<u8>>> {
    open(path, identities).map(|opened| opened.plain)
}

fn open(path: &Path, identities: &Identities) -> Result<Opened> {
    crypt::open(&store::read(path)?, &path.display().to_string(), identities)
}

/// Whom to encrypt `path` for: `explicit` ones, else those of the rule in `windlass.yml` that covers it, else, where there
/// are no rules, a recipients file beside or above it (up to the directory that holds `.git`), else the public keys of
/// `identities`.
///
/// # Errors
/// There are rules and none covers the file; a list of recipients is wrong or belongs to another user; there is nobody to
/// encrypt for.
pub fn recipients_for(
    path: &Path,
    explicit: Option<Recipients>,
    identities: &Identities,
) -> Result<(Recipients, Chosen)> {
    if let Some(recipients) = explicit {
        return Ok((recipients, Chosen::Explicit));
    }
    let dir = store::parent(path);
    let dir = dir
        .canonicalize()
        .map_err(|e| Error::input(format!("cannot find {}", dir.display())).because(e).hint("Check the path."))?;
    if let Some(rules) = Rules::of(&dir)?.filter(|r| !r.rules.is_empty()) {
        let Some(rule) = rules.rule(path) else {
            return Err(Error::input(format!("no rule of {} covers {}", rules.shown.display(), path.display()))
                .hint("Add one under `vault: recipients:`, or name the recipients with -r."));
        };
        let list = if rule.is_passphrase() { vec![new_passphrase(path, identities)?] } else { rule.recipients() };
        return Ok((Recipients::new(list)?, Chosen::Rule(rules.shown.clone(), rule.shown())));
    }
    for above in dir.ancestors() {
        for name in RECIPIENT_FILES {
            let file = above.join(name);
            if file.is_file() {
                refuse_foreign(&file, &dir)?;
                return Ok((Recipients::new(Recipient::parse_file(&file)?)?, Chosen::File(file)));
            }
        }
        if above.join(".git").exists() {
            break;
        }
    }
    Ok((Recipients::new(identities.recipients()?)?, Chosen::Identities))
}

/// A passphrase to come, asked for twice.
fn new_passphrase(path: &Path, identities: &Identities) -> Result<Recipient> {
    let ask = |words: &str| {
        let what = format!("{} ({words})", path.display());
        identities.prompt().passphrase(&what, 0).ok_or_else(|| {
            Error::input(format!("{} is for a passphrase, and nobody can be asked for one", path.display()))
                .hint("Run in a terminal, or let the rule name keys.")
        })
    };
    let first = ask("a new one")?;
    if ask("once more")?.expose_secret() != first.expose_secret() {
        return Err(Error::input("the passphrases differ").hint("Try again."));
    }
    Recipient::passphrase(first, None)
}

/// A list of recipients that another user could have put there would hand secrets to that user.
pub(super) fn refuse_foreign(file: &Path, dir: &Path) -> Result<()> {
    let unreadable =
        |e: std::io::Error| Error::input(format!("cannot read {}", file.display())).because(e).hint("Check its mode.");
    let meta = file.metadata().map_err(unreadable)?;
    let owners = [0, rustix::process::geteuid().as_raw(), dir.metadata().map_err(unreadable)?.uid()];
    if !owners.contains(&meta.uid()) || meta.mode() & 0o002 != 0 {
        return Err(Error::input(format!("{} can be written by another user", file.display()))
            .hint("Name the recipients with -r or -R, or make the file yours (chown, chmod o-w)."));
    }
    Ok(())
}

/// How [`edit`] works.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// Whom to encrypt for; `None` chooses as [`recipients_for`] does (a file under a passphrase keeps it).
    pub recipients: Option<Recipients>,
    /// The editor's command line; `None` means `$VISUAL`, `$EDITOR`, then `vi`.
    pub editor: Option<String>,
    /// Where no memory-backed directory is found, let the plaintext touch the disk.
    pub allow_disk: bool,
    /// Start a new file if there is none.
    pub create: bool,
}

/// What [`edit`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Whether the file was written; without a change it is left as it is.
    pub changed: bool,
    /// Whose choice the recipients were.
    pub chosen: Chosen,
    /// How many recipients there are.
    pub recipients: usize,
}

/// Decrypts a file into a private directory in memory, runs the editor on it, and encrypts it again if it changed. Of a
/// YAML file in the clear, its `!age` values are opened: they stand in plain text behind their tag, and those left as they
/// were keep their ciphertext. The plaintext is wiped and removed in any case but the death of this process; the next edit
/// then removes it.
///
/// # Errors
/// No memory-backed directory (and the disk is not allowed); the recipients are not known to include everyone the file
/// is encrypted for; the editor fails or a signal ends the edit (the file is then as it was); the file was changed meanwhile.
pub fn edit(path: &Path, identities: &Identities, how: &Edit) -> Result<Edited> {
    let new = how.create && matches!(path.symlink_metadata(), Err(e) if e.kind() == std::io::ErrorKind::NotFound);
    // A link is followed, so that it stays one.
    let path = if new { path.to_path_buf() } else { path.canonicalize().unwrap_or_else(|_| path.to_path_buf()) };
    let sealed = if new { Zeroizing::default() } else { store::read(&path)? };
    let of_values = contents::is_of_values(&path, &sealed);
    let (plain, recipients, chosen, values) = if of_values {
        let shown = contents::open(&path, &sealed, identities)?;
        let before = shown.values.iter().map(|v| v.header.stanzas.len()).max().unwrap_or(0);
        let (recipients, chosen) = choose(&path, before, None, how.recipients.clone(), identities)?;
        (Zeroizing::new(shown.text.as_bytes().to_vec()), recipients, chosen, Some(shown))
    } else {
        let opened = if new { None } else { Some(crypt::open(&sealed, &path.display().to_string(), identities)?) };
        let passphrase = opened.as_ref().and_then(|o| o.passphrase.clone());
        let before = opened.as_ref().map_or(0, |o| o.stanzas.len());
        let (recipients, chosen) = choose(&path, before, passphrase, how.recipients.clone(), identities)?;
        (opened.map(|o| o.plain).unwrap_or_default(), recipients, chosen, None)
    };
    if chosen != Chosen::SamePassphrase {
        // A recipient that cannot be used must show before the work, not after it.
        crypt::encrypt(b"", &recipients)?;
    }
    // So must a folder that cannot be written to.
    store::can_write(&path)?;
    let mut watch = Watch::new()?;
    let desk = Desk::new(memory_dir(), how.allow_disk)?;
    let name = match path.file_name().map(Path::new) {
        Some(name) if name.extension().is_some_and(|e| e == "age") => name.with_extension(""),
        Some(name) => name.to_path_buf(),
        None => PathBuf::from("secret"),
    };
    let work = desk.0.join(name);
    let put = |e: std::io::Error| Error::environment(format!("cannot write {}", work.display())).because(e);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&work).map_err(put)?;
    file.write_all(&plain).map_err(put)?;
    drop(file);
    let changed = loop {
        watch.edit(how.editor.as_deref(), &work)?;
        let edited = store::read(&work)?;
        if *edited == *plain {
            break false;
        }
        let text = match &values {
            Some(shown) => contents::seal(&path, shown, &edited, &recipients),
            None => crypt::encrypt(&edited, &recipients).map(Zeroizing::new),
        };
        let text = match text {
            // Nobody's work is thrown away for a slip.
            Err(e) if identities.prompt().again(&e) => continue,
            text => text?,
        };
        let put = || {
            let _lock = store::lock(&path);
            if !new && *store::read(&path)? != *sealed {
                return Err(Error::input(format!("{} was changed by someone else meanwhile", path.display())));
            }
            let changed = text.as_bytes() != sealed.as_slice();
            if changed {
                let access = if new { Access::new(0o644) } else { Access::of(&path) };
                store::write(&path, text.as_bytes(), access, !new)?;
            }
            Ok(changed)
        };
        break put().map_err(|e| match keep(&path, &edited, &recipients) {
            Ok(kept) => e.hint(format!(
                "Your text is not lost: windlass vault view {}. Edit the file again, then remove this one.",
                crate::quote::shell_quote(&kept.display().to_string())
            )),
            Err(second) => Error::environment(format!("{e}, and the edited text could not be kept either: {second}")),
        })?;
    };
    Ok(Edited { changed, chosen, recipients: recipients.len() })
}

/// Puts an edited text that cannot go where it belongs beside it, or among the temporary files, encrypted whole.
fn keep(path: &Path, text: &[u8], to: &Recipients) -> Result<PathBuf> {
    let sealed = crypt::encrypt(text, to)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut failed = Err(Error::environment("there is no place for it"));
    for dir in [store::parent(path), std::env::temp_dir()] {
        for n in 1..100 {
            // No name under which variables are looked for.
            let kept = dir.join(format!("{name}.edited-{n}.age"));
            if kept.symlink_metadata().is_ok() {
                continue;
            }
            failed = store::write(&kept, sealed.as_bytes(), Access::new(0o600), false).map(|()| kept);
            match failed {
                Ok(_) => return failed,
                Err(_) => break,
            }
        }
    }
    failed
}

/// Whom to encrypt for what is encrypted for `before` recipients now, or for a passphrase.
///
/// # Errors
/// As [`recipients_for`]; someone who can read now would be locked out without having been named.
pub(super) fn choose(
    path: &Path,
    before: usize,
    passphrase: Option<(SecretString, Option<u8>)>,
    explicit: Option<Recipients>,
    identities: &Identities,
) -> Result<(Recipients, Chosen)> {
    let (recipients, chosen) = match passphrase {
        Some((passphrase, factor)) if explicit.is_none() => {
            (Recipients::new([Recipient::passphrase(passphrase, factor)?])?, Chosen::SamePassphrase)
        }
        _ => recipients_for(path, explicit, identities)?,
    };
    if chosen == Chosen::Identities && recipients.len() < before {
        return Err(Error::input(format!(
            "{} is encrypted for {before} recipients, and only your own {} known here",
            path.display(),
            if recipients.len() == 1 { "key is".to_string() } else { format!("{} keys are", recipients.len()) },
        ))
        .hint("List all of them in windlass.yml (windlass vault init), or name them with -r, so that nobody is locked out."));
    }
    Ok((recipients, chosen))
}

pub(super) fn refuse_link(path: &Path) -> Result<()> {
    if path.is_symlink() {
        return Err(Error::input(format!("{} is a symbolic link", path.display()))
            .hint("Name the file it points to, or keep the original."));
    }
    Ok(())
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::super::desk::*;
    use super::super::testing::*;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn mode(path: &Path) -> u32 {
        Access::of(path).mode
    }

    struct Place {
        dir: tempfile::TempDir,
        ids: Identities,
        public: String,
    }

    /// A project directory whose top holds `.git`, and one identity.
    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        let (secret, public) = x25519();
        Place { dir, ids: identities(&[&secret]), public }
    }

    impl Place {
        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.at(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
        fn sealed(&self, name: &str, text: &str, keys: &[&str]) -> PathBuf {
            self.write(name, &crypt::encrypt(text.as_bytes(), &to(keys)).unwrap())
        }
        fn text(&self, path: &Path) -> String {
            String::from_utf8(view(path, &self.ids).unwrap().to_vec()).unwrap()
        }
        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> =
                fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.retain(|n| n != ".git");
            names.sort();
            names
        }
    }

    fn with(editor: &str) -> Edit {
        Edit { editor: Some(editor.to_string()), allow_disk: true, ..Edit::default() }
    }

    /// An editor that notes where it worked, and whether that place is still there.
    struct Noted(tempfile::TempDir);

    impl Noted {
        fn new() -> Noted {
            Noted(tempfile::tempdir().unwrap())
        }
        fn with(&self, body: &str) -> Edit {
            let note = self.0.path().join("desk");
            with(&format!("f() {{ echo \"$1\" > '{}'; {body}; }}; f", note.display()))
        }
        fn is_gone(&self) -> bool {
            let work = fs::read_to_string(self.0.path().join("desk")).unwrap();
            work.contains(EDIT_PREFIX) && !Path::new(work.trim()).parent().unwrap().exists()
        }
    }

    #[test]
    fn encrypt_replaces_the_plaintext_and_decrypt_brings_it_back() {
        let p = place();
        let path = p.write("vault.yml", "a: 1\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let sealed = encrypt_file(&path, &to(&[&p.public]), &Output::default()).unwrap();
        assert_eq!((sealed.clone(), mode(&sealed)), (p.at("vault.yml.age"), 0o640));
        assert_eq!(p.names(), ["vault.yml.age"]);
        assert_eq!(p.text(&sealed), "a: 1\n");
        assert_eq!(decrypt_file(&sealed, &p.ids, &Output::default()).unwrap(), path);
        assert_eq!((p.names(), mode(&path)), (vec!["vault.yml".to_string()], 0o600));
    }

    #[test]
    fn the_original_stays_when_asked_or_when_anything_fails() {
        let p = place();
        let path = p.write("vault.yml", "a: 1\n");
        let keep = Output { keep: true, ..Output::default() };
        encrypt_file(&path, &to(&[&p.public]), &keep).unwrap();
        assert_eq!(p.names(), ["vault.yml", "vault.yml.age"]);
        let before = fs::read(p.at("vault.yml.age")).unwrap();
        let e = encrypt_file(&path, &to(&[&p.public]), &Output::default()).unwrap_err();
        assert!(e.message.contains("already exists") && path.exists(), "{e}");
        let e = decrypt_file(&p.at("vault.yml.age"), &p.ids, &Output::default()).unwrap_err();
        assert!(e.message.contains("already exists"), "{e}");
        assert_eq!(fs::read(p.at("vault.yml.age")).unwrap(), before);
        let over = Output { overwrite: true, ..Output::default() };
        encrypt_file(&path, &to(&[&p.public]), &over).unwrap();
        assert_eq!(p.names(), ["vault.yml.age"]);
    }

    #[test]
    fn mistakes_with_files_are_named() {
        let p = place();
        let sealed = p.sealed("vault.yml.age", "a: 1\n", &[&p.public]);
        let e = encrypt_file(&sealed, &to(&[&p.public]), &Output::default()).unwrap_err();
        assert!(e.message.contains("encrypted already"), "{e}");
        let odd = p.sealed("secret", "a", &[&p.public]);
        assert!(decrypt_file(&odd, &p.ids, &Output::default()).unwrap_err().message.contains("does not end in .age"));
        let plain = p.write("plain.yml", "a: 1\n");
        let link = p.at("link.yml");
        std::os::unix::fs::symlink(&plain, &link).unwrap();
        let e = encrypt_file(&link, &to(&[&p.public]), &Output::default()).unwrap_err();
        assert!(e.message.contains("symbolic link") && plain.exists(), "{e}");
        assert!(view(&p.at("missing.age"), &p.ids).unwrap_err().message.contains("cannot read"));
        assert!(view(&plain, &p.ids).unwrap_err().message.contains("plain.yml is not an age file"));
    }

    #[test]
    fn an_edit_is_encrypted_again_only_when_something_changed() {
        let p = place();
        let path = p.sealed("vault.yml.age", "a: 1\n", &[&p.public]);
        let before = fs::read(&path).unwrap();
        let edited = edit(&path, &p.ids, &with("true")).unwrap();
        assert_eq!(edited, Edited { changed: false, chosen: Chosen::Identities, recipients: 1 });
        assert_eq!(fs::read(&path).unwrap(), before);
        // The editor sees a private file with the name that tells it the language, and may replace it.
        let noted = Noted::new();
        let script = r#"[ "${1##*/}" = vault.yml ] && [ "$(stat -c %a "$1")" = 600 ] || return 9; cat "$1" > "$1~"; echo 'b: 2' >> "$1~"; mv "$1~" "$1""#;
        assert!(edit(&path, &p.ids, &noted.with(script)).unwrap().changed);
        assert_eq!(p.text(&path), "a: 1\nb: 2\n");
        assert_eq!(p.names(), ["vault.yml.age"]);
        assert!(noted.is_gone());
    }

    #[test]
    fn a_failing_editor_changes_nothing_and_leaves_nothing() {
        let p = place();
        let path = p.sealed("vault.yml.age", "a: 1\n", &[&p.public]);
        let before = fs::read(&path).unwrap();
        let noted = Noted::new();
        let script = r#"echo x > "$1"; mkdir "${1%/*}/swap"; echo x > "${1%/*}/swap/file"; return 3"#;
        let e = edit(&path, &p.ids, &noted.with(script)).unwrap_err();
        assert!(e.message.contains("failed") && e.message.contains("nothing was changed"), "{e}");
        assert!(fs::read(&path).unwrap() == before && noted.is_gone());
        assert!(edit(&path, &p.ids, &with("exit 1; #")).is_err());
    }

    #[test]
    fn a_change_by_someone_else_meanwhile_is_not_overwritten() {
        let p = place();
        let path = p.sealed("vault.yml.age", "a: 1\n", &[&p.public]);
        let script = format!("f() {{ echo theirs > '{}'; echo mine > \"$1\"; }}; f", path.display());
        let e = edit(&path, &p.ids, &with(&script)).unwrap_err();
        assert!(e.message.contains("meanwhile") && e.hint.unwrap().contains("vault.yml.age.edited-1.age"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs\n");
        // Whose work could not be written does not lose it.
        let kept = p.at("vault.yml.age.edited-1.age");
        assert_eq!((p.text(&kept), mode(&kept)), ("mine\n".to_string(), 0o600));
        assert_eq!(p.names(), ["vault.yml.age", "vault.yml.age.edited-1.age"]);
    }

    #[test]
    fn recipients_are_the_given_ones_then_a_file_above_then_ones_own() {
        let p = place();
        let (a, b) = (x25519().1, x25519().1);
        let path = p.write("group_vars/all/vault.yml", "a: 1\n");
        let chosen = |explicit| {
            let (r, chosen) = recipients_for(&path, explicit, &p.ids).unwrap();
            (r.iter().map(|r| r.to_string()).collect::<Vec<_>>(), chosen)
        };
        assert_eq!(chosen(None), (vec![p.public.clone()], Chosen::Identities));
        let top = p.write(".windlass/recipients", &format!("# team\n{a}\n{b}\n")).canonicalize().unwrap();
        assert_eq!(chosen(None), (vec![a.clone(), b.clone()], Chosen::File(top)));
        let near = p.write("group_vars/.age-recipients", &b).canonicalize().unwrap();
        assert_eq!(chosen(None), (vec![b.clone()], Chosen::File(near.clone())));
        assert_eq!(chosen(Some(to(&[&a]))), (vec![a], Chosen::Explicit));
        fs::set_permissions(&near, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(recipients_for(&path, None, &p.ids).unwrap_err().message.contains("another user"));
        let nobody = answering(Answers::new(&[]));
        fs::remove_file(&near).unwrap();
        fs::remove_file(p.at(".windlass/recipients")).unwrap();
        assert!(recipients_for(&path, None, &nobody).unwrap_err().message.contains("nobody to encrypt for"));
    }

    #[test]
    fn the_search_for_recipients_ends_at_the_project() {
        let outer = place();
        outer.write(".age-recipients", &x25519().1);
        fs::create_dir_all(outer.at("project/.git")).unwrap();
        let path = outer.write("project/vault.yml", "a: 1\n");
        assert_eq!(recipients_for(&path, None, &outer.ids).unwrap().1, Chosen::Identities);
    }

    #[test]
    fn nobody_is_locked_out_by_an_edit() {
        let p = place();
        let (other_secret, other) = x25519();
        let path = p.sealed("vault.yml.age", "a: 1\n", &[&p.public, &other]);
        let change = with("f() { echo 'a: 2' > \"$1\"; }; f");
        let e = edit(&path, &p.ids, &change).unwrap_err();
        assert!(e.message.contains("for 2 recipients, and only your own key is known"), "{e}");
        p.write(".windlass/recipients", &format!("{}\n{other}\n", p.public));
        let edited = edit(&path, &p.ids, &change).unwrap();
        assert!(edited.changed && edited.recipients == 2 && matches!(edited.chosen, Chosen::File(_)));
        assert_eq!(**view(&path, &identities(&[&other_secret])).unwrap(), *b"a: 2\n");
    }

    #[test]
    fn a_passphrase_is_kept_by_an_edit() {
        let p = place();
        let path = p.write("vault.yml.age", &crypt::encrypt(b"a: 1\n", &to_passphrase("pass")).unwrap());
        let prompt = Answers::new(&["pass"]);
        let edited = edit(&path, &answering(prompt.clone()), &with("f() { echo 'a: 2' > \"$1\"; }; f")).unwrap();
        assert_eq!(edited, Edited { changed: true, chosen: Chosen::SamePassphrase, recipients: 1 });
        assert_eq!(prompt.asked(), 1);
        assert_eq!(**view(&path, &answering(Answers::new(&["pass"]))).unwrap(), *b"a: 2\n");
    }

    #[test]
    fn an_edit_can_start_a_file_and_follows_a_link() {
        let p = place();
        let path = p.at("new.yml.age");
        let write = with("f() { echo 'a: 1' > \"$1\"; }; f");
        assert!(edit(&path, &p.ids, &write).unwrap_err().message.contains("cannot read"));
        let create = Edit { create: true, ..write };
        assert!(edit(&path, &p.ids, &create).unwrap().changed);
        assert_eq!(p.text(&path), "a: 1\n");
        let link = p.at("link.yml.age");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(edit(&link, &p.ids, &with("f() { echo 'a: 2' > \"$1\"; }; f")).unwrap().changed);
        assert!(link.is_symlink());
        assert_eq!(p.text(&path), "a: 2\n");
    }

    #[test]
    fn what_a_killed_edit_left_is_swept() {
        let base = tempfile::tempdir().unwrap();
        let mut gone = Command::new("true").spawn().unwrap();
        let pid = gone.id();
        gone.wait().unwrap();
        let (dead, alive) = (
            base.path().join(format!("{EDIT_PREFIX}{pid}.00000001")),
            base.path().join(format!("{EDIT_PREFIX}{}.00000002", std::process::id())),
        );
        for dir in [&dead, &alive] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("vault.yml"), "secret").unwrap();
        }
        sweep(base.path());
        assert!(!dead.exists() && alive.exists());
        drop(Desk(alive.clone()));
        assert!(!alive.exists());
    }

    #[test]
    fn plaintext_touches_the_disk_only_when_allowed() {
        let e = Desk::new(None, false).map(|_| ()).unwrap_err();
        assert!(e.message.contains("no memory-backed directory") && e.hint.unwrap().contains("--allow-disk"));
        let desk = Desk::new(None, true).unwrap();
        assert_eq!(mode(&desk.0), 0o700);
        let dir = desk.0.clone();
        drop(desk);
        assert!(!dir.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_memory_counts_as_memory() {
        assert!(!is_memory(Path::new("/proc")) && !is_memory(Path::new("/nonexistent")));
        if let Some(dir) = memory_dir() {
            assert!(is_memory(&dir));
        }
    }
}
