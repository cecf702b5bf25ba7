//! Who can read what lies here, as far as headers tell, against who should.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::crypt::{self, Header};
use super::document::{Document, Tagged};
use super::note::fingerprint;
use super::recipient::Recipient;
use super::rules::{Rule, Rules};
use super::store;
use super::value;
use crate::error::Result;
use crate::source::{Diagnostic, Diagnostics, Source, Span, display_path};

/// Files larger than this are not searched for values.
const LARGEST: u64 = 4 << 20;
/// More files than a project has.
const MOST: usize = 50_000;

/// What a file holds.
pub enum Held {
    /// The file is encrypted whole.
    Whole(Header),
    /// It is YAML with `!age` values.
    Values(Document, Vec<(Tagged, Header)>),
    /// Nothing in it is encrypted.
    Plain,
}

/// Looks at a file without opening anything.
///
/// # Errors
/// Unreadable; YAML with `!age` in it that cannot be parsed; a damaged header.
pub fn look(path: &Path) -> Result<Held> {
    let bytes = store::read(path)?;
    let shown = display_path(path);
    if crypt::is_encrypted(&bytes) {
        return crypt::header(&bytes, &shown.display().to_string()).map(Held::Whole);
    }
    let text = match std::str::from_utf8(&bytes) {
        Ok(t) if may_hold_values(path, t) => t,
        _ => return Ok(Held::Plain),
    };
    let document = Document::parse(&shown, text, false)?;
    let mut values = vec![];
    for v in document.values() {
        let what = format!("{}:{}", shown.display(), v.line);
        let armored = value::armored(v.text.as_deref().unwrap_or_default(), &what)?;
        let header = crypt::header(armored.as_bytes(), &what)?;
        values.push((v, header));
    }
    Ok(if values.is_empty() { Held::Plain } else { Held::Values(document, values) })
}

/// Whether a file's name says that it is YAML.
pub fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yml" || e == "yaml")
}

/// Whether values can be put into a file of this name: YAML, also without an ending, as `group_vars/all` is.
pub fn takes_values(path: &Path) -> bool {
    is_yaml(path) || path.extension().is_none()
}

/// Whether a text of this name may have `!age` values in it. Variables are read from YAML, JSON, and files without an
/// ending, of which most are something else.
pub fn may_hold_values(path: &Path, text: &str) -> bool {
    let by_name = takes_values(path) || path.extension().is_some_and(|e| e == "json");
    by_name && text.contains("!age") && (is_yaml(path) || text.contains("-----BEGIN AGE ENCRYPTED FILE-----"))
}

/// The files below a folder.
#[derive(Debug, Default)]
pub struct Files {
    /// Sorted.
    pub found: Vec<PathBuf>,
    /// Those that are too large to be searched for values.
    pub large: Vec<PathBuf>,
    /// There are more than anybody looks at.
    pub more: bool,
}

/// The files below a folder: without hidden ones (but those in `hidden`), and what is built or downloaded.
pub fn files(root: &Path, hidden: &[&str]) -> Files {
    let mut all = Files::default();
    let mut folders = vec![root.to_path_buf()];
    while let Some(dir) = folders.pop() {
        for e in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, name) = (e.path(), e.file_name());
            let name = name.to_string_lossy();
            let Ok(kind) = e.file_type() else { continue };
            if name.starts_with('.') && !hidden.contains(&name.as_ref()) {
                continue;
            }
            if kind.is_dir() {
                if !is_built(&dir, &path, &name) {
                    folders.push(path);
                }
            } else if kind.is_file() {
                let is_large = e.metadata().is_ok_and(|m| m.len() > LARGEST);
                if all.found.len() >= MOST {
                    all.more = true;
                } else if !is_large || path.extension().is_some_and(|e| e == "age") {
                    all.found.push(path);
                } else if is_yaml(&path) || (path.extension().is_none() && is_text(&path)) {
                    all.large.push(path);
                }
            }
        }
    }
    all.found.sort();
    all.large.sort();
    all
}

/// Whether a folder says of itself that it is a cache, or holds what npm has brought.
fn is_built(dir: &Path, path: &Path, name: &str) -> bool {
    path.join("CACHEDIR.TAG").is_file() || (name == "node_modules" && dir.join("package.json").is_file())
}

fn is_text(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 1024];
    let read = std::fs::File::open(path).and_then(|mut f| f.read(&mut start));
    read.is_ok_and(|n| start.get(..n).is_some_and(|s| !s.contains(&0)))
}

/// The project's files that a rule covers, each with its rule; and what is to be said of those that are left out.
pub fn covered(rules: &Rules) -> (Vec<(PathBuf, &Rule)>, Vec<String>) {
    // Hidden ones only where a rule names them.
    let parts = rules.rules.iter().flat_map(|r| &r.paths).flat_map(|p| p.split('/'));
    let hidden: Vec<&str> = parts.filter(|p| p.starts_with('.')).collect();
    let all = files(&rules.root, &hidden);
    let logs = rules.root.join("logs");
    let mut notes: Vec<String> = all
        .large
        .iter()
        .filter(|p| rules.rule(p).is_some())
        .map(|p| {
            let shown = display_path(p);
            format!("{} is larger than {} MiB, so it was not searched for secrets", shown.display(), LARGEST >> 20)
        })
        .collect();
    if all.more {
        notes.push(format!(
            "there are more than {MOST} files below {}: not all were searched for secrets",
            display_path(&rules.root).display()
        ));
    }
    // What runs have left has no secrets in it, and there may be much of it.
    let found = all.found.into_iter().filter(|p| !p.starts_with(&logs));
    (found.filter_map(|p| rules.rule(&p).map(|r| (p, r))).collect(), notes)
}

/// How those who can read fit those who should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// The same.
    Same,
    /// Their number and kinds are the same; the header does not tell which keys these are.
    Likely,
    /// Not the same.
    Differs {
        /// They can read and should not.
        extra: Vec<String>,
        /// They should and cannot.
        missing: Vec<String>,
    },
}

/// Compares a header with whom the data should be for (`None`: a passphrase).
pub fn fit(header: &Header, wanted: Option<&[Recipient]>, rules: Option<&Rules>) -> Fit {
    let is_passphrase = header.stanzas.iter().any(|s| s.kind == "scrypt");
    let name = |r: &Recipient| {
        let known = fingerprint(r).and_then(|p| rules.and_then(|rules| rules.name_of(&p)));
        known.unwrap_or_else(|| r.to_string())
    };
    let wanted = match wanted {
        None if is_passphrase => return Fit::Same,
        None => {
            let extra = readers(header, rules);
            return Fit::Differs { extra, missing: vec!["a passphrase".into()] };
        }
        Some(list) if is_passphrase => {
            return Fit::Differs { extra: vec!["a passphrase".into()], missing: list.iter().map(name).collect() };
        }
        Some(list) => list,
    };
    let prints: Option<Vec<String>> = wanted.iter().map(fingerprint).collect();
    if let (Some(told), Some(prints)) = (told(header), prints) {
        let word = |p: &String| {
            rules.and_then(|r| r.name_of(p)).unwrap_or_else(|| "a key that windlass.yml does not name".into())
        };
        let extra: Vec<String> = told.iter().filter(|p| !prints.contains(p)).map(word).collect();
        let missing: Vec<String> =
            wanted.iter().zip(&prints).filter(|(_, p)| !told.contains(p)).map(|(r, _)| name(r)).collect();
        return if extra.is_empty() && missing.is_empty() { Fit::Same } else { Fit::Differs { extra, missing } };
    }
    by_kind(header, wanted, &name)
}

/// Kinds of stanzas of which each stands for one key.
const KNOWN: [&str; 3] = ["X25519", "ssh-ed25519", "ssh-rsa"];

/// The fingerprints a header tells; nothing if there are more keys than it tells of: whoever wrote it hid one.
fn told(header: &Header) -> Option<&Vec<String>> {
    let readers = header.note.as_ref()?.readers.as_ref()?;
    let keys = header.stanzas.iter().filter(|s| KNOWN.contains(&s.kind.as_str())).count();
    // A plugin may write several stanzas for one key.
    let others = header.stanzas.len() - keys;
    (readers.len() >= keys && (others > 0 || readers.len() == keys) && !readers.is_empty()).then_some(readers)
}

/// As far as kinds and the fingerprints of ssh keys tell.
fn by_kind(header: &Header, wanted: &[Recipient], name: &dyn Fn(&Recipient) -> String) -> Fit {
    let mut left: Vec<&crypt::Stanza> = header.stanzas.iter().collect();
    let mut missing = vec![];
    let mut plugins = 0;
    for r in wanted {
        let Some((kind, tag)) = r.stanza() else {
            plugins += 1;
            continue;
        };
        match left.iter().position(|s| s.kind == kind && (tag.is_none() || s.args.first() == tag.as_ref())) {
            Some(i) => drop(left.remove(i)),
            None => missing.push(name(r)),
        }
    }
    let of_plugins = left.iter().filter(|s| !KNOWN.contains(&s.kind.as_str())).count().min(plugins);
    let mut extra: Vec<String> =
        left.iter().filter(|s| KNOWN.contains(&s.kind.as_str())).map(|s| format!("an {} key", s.kind)).collect();
    let others = left.len() - extra.len() - of_plugins;
    extra.extend((0..others).map(|_| "a plugin's key".to_string()));
    if extra.is_empty() && missing.is_empty() { Fit::Likely } else { Fit::Differs { extra, missing } }
}

/// Words for those who can read: names and keys where they are known, else kinds.
pub fn readers(header: &Header, rules: Option<&Rules>) -> Vec<String> {
    if let Some(told) = told(header) {
        let word = |p: &String| {
            rules.and_then(|r| r.name_of(p)).unwrap_or_else(|| "a key that windlass.yml does not name".into())
        };
        return told.iter().map(word).collect();
    }
    let keys = rules.into_iter().flat_map(|r| r.keys.iter());
    let named: Vec<(&String, (&str, String))> =
        keys.filter_map(|(n, k)| k.stanza().and_then(|(kind, tag)| Some((n, (kind, tag?))))).collect();
    let word = |s: &crypt::Stanza| {
        let known = named.iter().find(|(_, (kind, tag))| s.kind == *kind && s.args.first() == Some(tag));
        match (known, s.kind.as_str()) {
            (Some((n, _)), _) => n.to_string(),
            (None, "scrypt") => "a passphrase".to_string(),
            (None, kind) => format!("an {kind} key"),
        }
    };
    header.stanzas.iter().map(word).collect()
}

/// What is wrong with the secrets of the project in `dir`, by its rules: of those that are used, who can read them and
/// whether they are bound; of all, whether they lie in the clear.
pub fn check(dir: &Path, used: &HashSet<PathBuf>, found: &mut Diagnostics) {
    let (rules, wrong) = Rules::look(dir);
    found.extend(wrong);
    let Some(rules) = rules else { return };
    let (mut all, notes) = covered(&rules);
    for note in notes {
        found.push(Diagnostic::warning(note).hint("keep secrets in files of their own: windlass vault encrypt"));
    }
    // What was opened counts wherever it lies.
    let seen: HashSet<PathBuf> = all.iter().map(|(p, _)| p.clone()).collect();
    let others = used.iter().filter(|p| !seen.contains(*p));
    all.extend(others.filter_map(|p| rules.rule(p).map(|r| (p.clone(), r))));
    let used = |p: &Path| used.contains(p);
    for (path, rule) in all {
        let shown = display_path(&path);
        let is_age = path.extension().is_some_and(|e| e == "age");
        let top = || Span::new(&Source::secret(&shown, ""), 0..0);
        let held = match used(&path) {
            true => look(&path),
            false if rule.whole || is_vault(&path) || has_sealed(&path) => look(&path),
            false => continue,
        };
        match held {
            Ok(Held::Whole(_)) if !used(&path) => {}
            // Whoever needs the file says what is wrong with it.
            Err(_) => {}
            Ok(Held::Whole(header)) => {
                let d = differs(&header, rule, &rules, &shown.display().to_string());
                d.into_iter().for_each(|d| found.push(d.at(&top())));
            }
            Ok(Held::Values(document, values)) => {
                for (v, header) in values.into_iter().filter(|_| used(&path)) {
                    let span = Span::new(&document.source, v.range.start..v.range.start + v.tag.len());
                    let what = format!("`{}`", v.path);
                    if let Some(d) = differs(&header, rule, &rules, &what) {
                        found.push(d.at(&span));
                    }
                    let place = header.note.as_ref().and_then(|n| n.place.as_ref());
                    let can_be = !header.stanzas.iter().any(|s| s.kind == "scrypt");
                    if place.is_none() && can_be {
                        found.push(
                            Diagnostic::warning(format!("{what} is not bound to its place, so it can be moved unseen"))
                                .at(&span)
                                .hint(format!(
                                    "windlass vault rekey --rebind {}",
                                    crate::quote::shell_quote(&shown.display().to_string())
                                )),
                        );
                    }
                }
                plain_whole(rule, &shown, found);
            }
            Ok(Held::Plain) if !is_age => {
                plain_whole(rule, &shown, found);
                if !rule.whole {
                    plain_secret(&path, &shown, found);
                }
            }
            Ok(Held::Plain) => {}
        }
    }
}

fn differs(header: &Header, rule: &Rule, rules: &Rules, what: &str) -> Option<Diagnostic> {
    let wanted = rule.recipients();
    let Fit::Differs { extra, missing } = fit(header, (!rule.is_passphrase()).then_some(&wanted), Some(rules)) else {
        return None;
    };
    let by = format!("the rule for `{}` in {}", rule.shown(), rules.shown.display());
    let hint = "bring it in line with the rule: windlass vault rekey (windlass vault who-can-read shows all)";
    // Too many readers is a leak; too few only a chore.
    Some(if extra.is_empty() {
        Diagnostic::warning(format!("{what} cannot be read by {}, as {by} says", listed(&missing))).hint(hint)
    } else {
        Diagnostic::error(format!("{what} can be read by {}, against {by}", listed(&extra))).hint(hint)
    })
}

/// `a, b and c`.
pub fn listed(words: &[String]) -> String {
    match words {
        [] => "nobody".into(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn plain_whole(rule: &Rule, shown: &Path, found: &mut Diagnostics) {
    if rule.whole {
        found.push(
            Diagnostic::error(format!(
                "{} lies in the clear; the rule for `{}` says `whole: true`",
                shown.display(),
                rule.shown()
            ))
            .at(&rule.span)
            .hint(format!("windlass vault encrypt {}", crate::quote::shell_quote(&shown.display().to_string()))),
        );
    }
}

/// Plain text that looks as if it were not meant to be plain.
fn plain_secret(path: &Path, shown: &Path, found: &mut Diagnostics) {
    let quoted = crate::quote::shell_quote(&shown.display().to_string());
    if has_sealed(path) {
        found.push(
            Diagnostic::warning(format!("{} lies in the clear beside its encrypted file", shown.display()))
                .hint(format!("remove it: rm {quoted}")),
        );
    } else if is_vault(path) {
        found.push(
            Diagnostic::warning(format!("{} is called a vault and holds nothing encrypted", shown.display()))
                .hint(format!("windlass vault encrypt {quoted}, or set single values with windlass vault set")),
        );
    }
}

/// Whether an encrypted file of the same name lies beside it.
fn has_sealed(path: &Path) -> bool {
    let mut sealed = path.as_os_str().to_os_string();
    sealed.push(".age");
    Path::new(&sealed).is_file()
}

/// Whether a file's name says that it holds secrets.
fn is_vault(path: &Path) -> bool {
    let stem = path.file_stem().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    is_yaml(path) && ["vault", "secret", "secrets"].contains(&stem.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{bound, document, encrypt};
    use super::*;
    use crate::source::Severity;

    struct Project {
        dir: tempfile::TempDir,
        anna: String,
        ben: String,
        /// What is used and not found.
        used: Vec<PathBuf>,
    }

    impl Project {
        fn new(rule: &str) -> Project {
            let p = Project { dir: tempfile::tempdir().unwrap(), anna: x25519().1, ben: x25519().1, used: vec![] };
            p.file(
                "windlass.yml",
                &format!("vault:\n  keys: {{anna: {}, ben: {}}}\n  recipients: [{rule}]\n", p.anna, p.ben),
            );
            p
        }
        fn file(&self, name: &str, text: &str) {
            let path = self.dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        fn sealed(&self, to_whom: &[&str]) -> String {
            encrypt(b"a: 1\n", &to(to_whom)).unwrap()
        }
        /// Findings: severity and message, without the folder.
        fn found(&self) -> Vec<String> {
            let mut unused = Diagnostics::default();
            check(self.dir.path(), &HashSet::new(), &mut unused);
            assert!(!unused.has_errors(), "what is not used is not checked");
            let mut found = Diagnostics::default();
            let all = files(self.dir.path(), &[])
                .found
                .into_iter()
                .map(|p| p.canonicalize().unwrap())
                .chain(self.used.clone());
            check(self.dir.path(), &all.collect(), &mut found);
            found.sort();
            let dir = format!("{}/", self.dir.path().canonicalize().unwrap().display());
            let word = |s| if s == Severity::Error { "error" } else { "warning" };
            assert!(found.iter().all(|d| d.hint.is_some()));
            found.iter().map(|d| format!("{}: {}", word(d.severity), d.message.replace(&dir, ""))).collect()
        }
    }

    #[test]
    fn what_fits_its_rule_is_passed_over() {
        let p = Project::new("{path: 'prod/**', to: [anna]}");
        p.file("prod/v.yml.age", &p.sealed(&[&p.anna]));
        p.file("prod/hosts.yml", "all: {}\n");
        p.file("prod/broken.yml", "!age [\n");
        p.file("other/vault.yml", "a: 1\n");
        p.file(".git/vault.yml", "a: 1\n");
        assert_eq!(p.found(), Vec::<String>::new());
    }

    #[test]
    fn no_file_is_passed_over_for_its_folder() {
        let mut p = Project::new("{path: '**', to: [anna]}, {path: '.private/**', to: [anna]}");
        let sealed = p.sealed(&[&p.anna]);
        for name in
            ["roles/logs/vars/main.yml", "roles/target/vars/main.yml", "target/a", "node_modules/a", ".private/a"]
        {
            p.file(name, &sealed);
        }
        for name in ["logs/run.log", "cache/a", "web/node_modules/x/a", ".git/a", ".other/a"] {
            p.file(name, &sealed);
        }
        p.file("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
        p.file("web/package.json", "{}");
        let (rules, _) = Rules::look(p.dir.path());
        let rules = rules.unwrap();
        let (all, notes) = covered(&rules);
        let names: Vec<String> = all.iter().filter_map(|(p, _)| rules.relative(p)).collect();
        let mut expected = [
            ".private/a",
            "node_modules/a",
            "roles/logs/vars/main.yml",
            "roles/target/vars/main.yml",
            "target/a",
            "web/package.json",
            "windlass.yml",
        ];
        expected.sort_unstable();
        assert_eq!((names, notes), (expected.iter().map(|n| n.to_string()).collect(), vec![]));
        // What was opened is checked wherever it lies.
        p.file(".other/b.age", &p.sealed(&[&p.anna, &p.ben]));
        assert_eq!(p.found(), Vec::<String>::new());
        p.used.push(p.dir.path().canonicalize().unwrap().join(".other/b.age"));
        assert!(p.found()[0].starts_with("error: .other/b.age can be read by ben"), "{:?}", p.found());
    }

    #[test]
    fn what_is_too_large_is_said_and_an_encrypted_file_never_is() {
        let p = Project::new("{path: '**', to: [anna]}");
        let large = "x".repeat(LARGEST as usize + 1);
        p.file("all.yml", &format!("a: {large}\n"));
        p.file("v.yml.age", &encrypt(large.as_bytes(), &to(&[&p.anna, &p.ben])).unwrap());
        p.file("tool", &format!("\u{0}{large}"));
        let found = p.found();
        assert!(found[1].starts_with("error: v.yml.age can be read by ben"), "{found:?}");
        assert_eq!(found[..1], ["warning: all.yml is larger than 4 MiB, so it was not searched for secrets"]);
    }

    #[test]
    fn files_without_an_ending_are_looked_at() {
        let p = Project::new("{path: '**', to: [anna]}");
        let slot = document::Slot { indent: 2, flow: false };
        let value = document::armored(&p.sealed(&[&p.anna, &p.ben]), slot);
        for name in ["group_vars/all", "vars.json", "all.yml"] {
            p.file(name, &format!("k: {value}\n"));
            let held = look(&p.dir.path().join(name)).unwrap();
            assert!(matches!(held, Held::Values(_, v) if v.len() == 1), "{name}");
        }
        p.file("README", "Use `!age |` for values: [\n");
        p.file("notes.txt", &format!("k: {value}\n"));
        for name in ["README", "notes.txt"] {
            assert!(matches!(look(&p.dir.path().join(name)).unwrap(), Held::Plain), "{name}");
        }
        p.file("group_vars/web", &format!("k: {value}\nb: [\n"));
        assert!(look(&p.dir.path().join("group_vars/web")).is_err(), "nothing that is encrypted is passed over");
    }

    #[test]
    fn each_thing_that_does_not_fit_is_said() {
        let rule = "{path: '**', to: [anna, ben]}";
        let by = "the rule for `**` in windlass.yml";
        let one = |prepare: &dyn Fn(&Project)| {
            let p = Project::new(rule);
            prepare(&p);
            p.found()
        };
        let carl = x25519().1;
        assert_eq!(
            one(&|p| p.file("v.age", &p.sealed(&[&p.anna, &p.ben, &carl]))),
            [format!("error: v.age can be read by a key that windlass.yml does not name, against {by}")]
        );
        assert_eq!(
            one(&|p| p.file("v.age", &p.sealed(&[&p.anna]))),
            [format!("warning: v.age cannot be read by ben, as {by} says")]
        );
        let passphrase = encrypt(b"x", &to_passphrase("p")).unwrap();
        assert_eq!(
            one(&|p| p.file("v.age", &passphrase)),
            [format!("error: v.age can be read by a passphrase, against {by}")]
        );
        assert_eq!(
            one(&|p| p.file("vault.yml", "a: 1\n")),
            ["warning: vault.yml is called a vault and holds nothing encrypted"]
        );
        assert_eq!(
            one(&|p| {
                p.file("a.txt", "x");
                p.file("a.txt.age", &p.sealed(&[&p.anna, &p.ben]));
            }),
            ["warning: a.txt lies in the clear beside its encrypted file"]
        );
        let slot = document::Slot { indent: 2, flow: false };
        assert_eq!(
            one(&|p| p.file("a.yml", &format!("k: {}\n", document::armored(&p.sealed(&[&p.anna, &p.ben]), slot)))),
            ["warning: `k` is not bound to its place, so it can be moved unseen"]
        );
        assert_eq!(
            one(&|p| {
                let place = bound::Here::of(&p.dir.path().join("a.yml")).place("k");
                let value = bound::seal("x", &to(&[&p.anna]), &place).unwrap();
                p.file("a.yml", &format!("k: {}\n", document::armored(&value, slot)));
            }),
            [format!("warning: `k` cannot be read by ben, as {by} says")]
        );
    }
}
