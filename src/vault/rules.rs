//! Who may read what: the `vault:` part of the project's `windlass.yml`.
//!
//! ```yaml
//! vault:
//!   keys: {anna: age1…, ci: "ssh-ed25519 AAAA…"}
//!   recipients:                                 # the first that covers a path counts
//!     - {path: "inventories/prod/**", to: [anna]}
//!     - {path: "**", to: [anna, ci]}
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Document, said};
use super::glob;
use super::keypath::{KeyPath, Step};
use super::note::fingerprint;
use super::recipient::Recipient;
use super::store;
use crate::error::{Error, Result};
use crate::source::{Diagnostic, Diagnostics, Entry, Kind, Node, Source, Span, display_path, nearest, yaml};

/// The project's configuration file.
pub const FILE: &str = "windlass.yml";

/// The rules of a project.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The folder the file lies in, without links in it: paths are taken from here.
    pub root: PathBuf,
    /// The file, as it is shown.
    pub shown: PathBuf,
    /// Keys with a name.
    pub keys: Vec<(String, Recipient)>,
    /// In their order.
    pub rules: Vec<Rule>,
    source: Arc<Source>,
}

/// Who may read the files that a path covers.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Patterns, from the project's folder.
    pub paths: Vec<String>,
    /// Whom to encrypt for; never empty.
    pub to: Vec<Reader>,
    /// These files are encrypted whole: none of them may lie there in the clear.
    pub whole: bool,
    /// Where the rule stands.
    pub span: Span,
    to_span: Span,
}

/// One who may read.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The name it has under `keys`.
    pub name: Option<String>,
    /// Its key; nothing means a passphrase.
    pub key: Option<Recipient>,
    span: Span,
}

impl Reader {
    /// A word for it: its name, or the key.
    pub fn shown(&self) -> String {
        match (&self.name, &self.key) {
            (Some(n), _) => n.clone(),
            (None, Some(k)) => k.to_string(),
            (None, None) => "passphrase".to_string(),
        }
    }
}

impl Rule {
    /// Whether a passphrase opens these files.
    pub fn is_passphrase(&self) -> bool {
        self.to.iter().any(|r| r.key.is_none())
    }

    /// The keys of all who may read.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.to.iter().filter_map(|r| r.key.clone()).collect()
    }

    /// Its patterns, as they are shown.
    pub fn shown(&self) -> String {
        self.paths.join(", ")
    }

    /// Whether it covers a path, with or without `.age`.
    pub fn covers(&self, path: &str) -> bool {
        let bare = path.strip_suffix(".age").unwrap_or(path);
        self.paths.iter().any(|p| glob::covers(p, path) || glob::covers(p, bare))
    }
}

/// The nearest `windlass.yml` in a folder or above it, not above the folder that holds `.git`.
pub fn find(dir: &Path) -> Option<PathBuf> {
    let dir = dir.canonicalize().ok()?;
    for above in dir.ancestors() {
        let file = above.join(FILE);
        if file.is_file() {
            return Some(file);
        }
        if above.join(".git").exists() {
            break;
        }
    }
    None
}

/// Writes a first `windlass.yml` into a folder: all that is there can be read with these keys.
///
/// # Errors
/// There is one already, here or above; or it cannot be written.
pub fn create(dir: &Path, keys: &[(String, Recipient)]) -> Result<PathBuf> {
    if let Some(known) = find(dir) {
        return Err(Error::input(format!("{} is there already", display_path(&known).display())).hint(
            "See its rules with windlass vault recipients, and add to them with windlass vault recipients add.",
        ));
    }
    let mut text = String::from("# The project's settings.\nvault:\n  # Public keys by name.\n  keys:\n");
    for (name, key) in keys {
        let key = key.to_string();
        let key = if key.contains(' ') { format!("{key:?}") } else { key };
        text.push_str(&format!("    {name}: {key}\n"));
    }
    let names: Vec<&str> = keys.iter().map(|(n, _)| n.as_str()).collect();
    text.push_str(&format!(
        "  # Who can read which files: the first path that fits counts.\n  recipients:\n    - path: \"**\"\n      to: [{}]\n",
        names.join(", ")
    ));
    let path = dir.join(FILE);
    store::write(&path, text.as_bytes(), store::Access::new(0o644), false)?;
    Ok(path)
}

/// A path without links, also for a file that is not there yet.
pub fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let dir = store::parent(path);
        let dir = dir.canonicalize().or_else(|_| std::path::absolute(&dir)).unwrap_or(dir);
        path.file_name().map_or(dir.clone(), |n| dir.join(n))
    })
}

impl Rules {
    /// Keeps others from changing the rules that hold here, from reading them until they are written.
    pub fn lock() -> Option<impl Sized> {
        find(&std::env::current_dir().ok()?).map(|file| store::lock(&file))
    }

    /// The rules that hold for files of a folder; nothing where there are none.
    ///
    /// # Errors
    /// The file is wrong, or another user could have written it.
    pub fn of(dir: &Path) -> Result<Option<Rules>> {
        let (rules, found) = Rules::look(dir);
        match found.iter().next() {
            Some(d) => Err(said(d.clone())),
            None => Ok(rules),
        }
    }

    /// As [`Rules::of`], with all that is wrong.
    pub fn look(dir: &Path) -> (Option<Rules>, Diagnostics) {
        let mut found = Diagnostics::default();
        let Some(file) = find(dir) else { return (None, found) };
        if let Err(e) = super::file::refuse_foreign(&file, &store::parent(&file)) {
            let d = Diagnostic::error(e.to_string());
            found.push(match e.hint {
                Some(h) => d.hint(h),
                None => d,
            });
            return (None, found);
        }
        let rules = match Source::read(&file) {
            Ok(source) => Rules::read(&file, &source, &mut found),
            Err(d) => {
                found.push(d);
                None
            }
        };
        (rules, found)
    }

    /// Reads the file; nothing when it has no `vault:`, or a broken one.
    fn read(file: &Path, source: &Arc<Source>, found: &mut Diagnostics) -> Option<Rules> {
        let root = match yaml::parse(source) {
            Ok(n) => n,
            Err(d) => {
                found.push(d);
                return None;
            }
        };
        let mut r = Reading { found };
        let top = r.mapping(&root, "the configuration", &["vault"])?;
        let vault = top.iter().find(|e| e.key == "vault")?;
        let entries = r.mapping(&vault.value, "`vault`", &["keys", "recipients"])?;
        let get = |k: &str| entries.iter().find(|e| e.key == k);
        let keys = get("keys").map(|e| r.keys(&e.value)).unwrap_or_default();
        let list = get("recipients").map(|e| r.list(&e.value, "`recipients`")).unwrap_or_default();
        let rules = list.into_iter().filter_map(|n| r.rule(n, &keys)).collect();
        let keys = keys.into_iter().map(|(n, k, _)| (n, k)).collect();
        let rules = Rules { root: store::parent(file), shown: display_path(file), keys, rules, source: source.clone() };
        (!found.has_errors()).then_some(rules)
    }

    /// A path from the project's folder, with `/` between names.
    pub fn relative(&self, path: &Path) -> Option<String> {
        let path = real(path);
        let below = path.strip_prefix(&self.root).ok()?;
        Some(below.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"))
    }

    /// The rule for a file: the first that covers it.
    pub fn rule(&self, path: &Path) -> Option<&Rule> {
        let path = self.relative(path)?;
        self.rules.iter().find(|r| r.covers(&path))
    }

    /// The name of a key under `keys`, by its fingerprint; else the key where a rule has it.
    pub fn name_of(&self, print: &str) -> Option<String> {
        let named = self.keys.iter().find(|(_, k)| fingerprint(k).as_deref() == Some(print)).map(|(n, _)| n.clone());
        named.or_else(|| {
            let readers = self.rules.iter().flat_map(|r| &r.to);
            readers
                .filter_map(|r| r.key.as_ref())
                .find(|k| fingerprint(k).as_deref() == Some(print))
                .map(|k| k.to_string())
        })
    }

    /// The file's text with readers added to the rule with this pattern, or taken out of it.
    ///
    /// # Errors
    /// There is no such rule; one is there already, or is not; nobody would be left; the file's form is too unusual.
    pub fn changed(&self, pattern: &str, add: &[String], remove: &[String]) -> Result<String> {
        let shown = self.shown.display();
        let Some(index) = self.rules.iter().position(|r| r.paths.iter().any(|p| p == pattern)) else {
            let all: Vec<&str> = self.rules.iter().flat_map(|r| &r.paths).map(String::as_str).collect();
            let e = Error::input(format!("{shown}: there is no rule for `{pattern}`"));
            return Err(match nearest(pattern, all.iter().copied()) {
                Some(n) => e.hint(format!("did you mean `{n}`?")),
                None if all.is_empty() => e.hint("Make the file with windlass vault init."),
                None => e.hint(format!("There are: {}.", all.join(", "))),
            });
        };
        let rule = &self.rules[index];
        let print = |word: &str| self.reader(word).map(|k| fingerprint(&k));
        let mut kept: Vec<&Reader> = rule.to.iter().collect();
        let mut text = self.source.text.clone();
        for word in remove {
            let wanted = print(word)?;
            let Some(at) = kept.iter().position(|r| r.key.as_ref().and_then(fingerprint) == wanted) else {
                return Err(Error::input(format!("{shown}: `{word}` is not among the readers of `{pattern}`"))
                    .hint(format!("They are: {}.", kept.iter().map(|r| r.shown()).collect::<Vec<_>>().join(", "))));
            };
            kept.remove(at);
        }
        let mut words: Vec<String> = kept.iter().map(|r| r.span.text().trim_end().to_string()).collect();
        for word in add {
            let wanted = print(word)?;
            if kept.iter().any(|r| r.key.as_ref().and_then(fingerprint) == wanted) {
                return Err(Error::input(format!("{shown}: `{word}` is among the readers of `{pattern}` already"))
                    .hint("Nothing is to be done."));
            }
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            words.push(if plain { word.clone() } else { serde_json::Value::from(word.as_str()).to_string() });
        }
        if words.is_empty() {
            return Err(Error::input(format!("{shown}: nobody would be left to read `{pattern}`"))
                .hint("Add another reader first, or take the rule out by hand."));
        }
        let unusual = || {
            Error::input(format!("{}: this cannot be changed without losing something", rule.span.place()))
                .hint("Change the rule by hand; then run windlass vault rekey.")
        };
        let at = rule.to_span.range.clone();
        // What others share is not this rule's alone.
        if rule.to_span.text().starts_with(['*', '&']) {
            return Err(unusual());
        }
        let block = !rule.to_span.text().starts_with('[');
        // A block's span goes on to what follows it.
        let last = rule.to.last().map_or(at.end, |r| r.span.range.start + r.span.text().trim_end().len());
        let end = if block { last } else { at.end };
        let new = if block {
            let line = text.get(..at.start).and_then(|t| t.rfind('\n')).map_or(0, |i| i + 1);
            let lead = " ".repeat(text.get(line..at.start).map_or(0, |t| t.chars().count()));
            words.iter().map(|w| format!("- {w}")).collect::<Vec<_>>().join(&format!("\n{lead}"))
        } else {
            format!("[{}]", words.join(", "))
        };
        if end < at.start {
            return Err(unusual());
        }
        text.replace_range(at.start..end, &new);
        // Read again: what was meant must be in it, and no comment may be lost.
        let source = Source::new(&self.shown, text.clone());
        let mut found = Diagnostics::default();
        let again = Rules::read(&self.root.join(FILE), &source, &mut found);
        let fits = again.is_some_and(|r| {
            r.rules.len() == self.rules.len()
                && r.rules.get(index).is_some_and(|n| n.to.len() == words.len())
                && text.matches('#').count() == self.source.text.matches('#').count()
        });
        if !fits {
            return Err(unusual());
        }
        Ok(text)
    }

    /// The rules with a key added under `keys`; [`Rules::text`] has the file's new text.
    ///
    /// # Errors
    /// The key is none; the name stands for another key already.
    pub fn with_key(&self, name: &str, key: &str) -> Result<Rules> {
        let wanted = Recipient::parse(key)?;
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'));
        if name.is_empty() || !plain || name == "passphrase" {
            return Err(Error::input(format!("`{name}` cannot be a key's name"))
                .hint("A name has letters, digits, `-`, `_`, `.` and `@`."));
        }
        match self.keys.iter().find(|(n, _)| n == name) {
            Some((_, known)) if fingerprint(known) == fingerprint(&wanted) => return Ok(self.clone()),
            Some(_) => {
                return Err(Error::input(format!("{}: `{name}` is another key", self.shown.display()))
                    .hint("Choose another name, or take the old key out first."));
            }
            None => {}
        }
        let path = KeyPath(["vault", "keys", name].map(|k| Step::Key(k.into())).to_vec());
        let document = Document::parse(&self.shown, &self.source.text, false)?;
        let text = document.set(&path, &|_| if key.contains(' ') { format!("{key:?}") } else { key.to_string() })?;
        let source = Source::new(&self.shown, text.to_string());
        let mut found = Diagnostics::default();
        let rules = Rules::read(&self.file(), &source, &mut found);
        match (rules, found.iter().next()) {
            (Some(r), None) => Ok(r),
            (_, Some(d)) => Err(said(d.clone())),
            (None, None) => Err(Error::internal("the rules are gone")),
        }
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// Writes the file's text anew.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, text: &str) -> Result<()> {
        store::write(&real(&self.file()), text.as_bytes(), store::Access::of(&self.file()), true)
    }

    /// A key by its name under `keys`, or as it is.
    fn reader(&self, word: &str) -> Result<Recipient> {
        match self.keys.iter().find(|(n, _)| n == word) {
            Some((_, key)) => Ok(key.clone()),
            None => {
                Recipient::parse(word).map_err(|e| match nearest(word, self.keys.iter().map(|(n, _)| n.as_str())) {
                    Some(n) => e.hint(format!("did you mean `{n}`?")),
                    None => e,
                })
            }
        }
    }

    /// Where the file is, for writing.
    pub fn file(&self) -> PathBuf {
        self.root.join(FILE)
    }
}

struct Reading<'a> {
    found: &'a mut Diagnostics,
}

impl Reading<'_> {
    fn error(&mut self, at: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Diagnostic::error(message).at(at).hint(hint));
    }

    fn mapping<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<&'n [Entry]> {
        if node.is_null() {
            return None;
        }
        let Some(entries) = node.as_map() else {
            self.error(
                &node.span,
                format!("{what} is a mapping, not {}", node.what()),
                format!("it has: {}", known.join(", ")),
            );
            return None;
        };
        for e in entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            let d = Diagnostic::error(format!("unknown key `{}` in {what}", e.key)).at(&e.key_span);
            self.found.push(match nearest(&e.key, known.iter().copied()) {
                Some(n) => d.hint(format!("did you mean `{n}`?")),
                None => d.hint(format!("it has: {}", known.join(", "))),
            });
        }
        Some(entries)
    }

    fn list<'n>(&mut self, node: &'n Node, what: &str) -> Vec<&'n Node> {
        match &node.kind {
            Kind::Seq(items) => items.iter().collect(),
            Kind::Null => vec![],
            _ => {
                self.error(&node.span, format!("{what} is a list, not {}", node.what()), "put `- ` before each entry");
                vec![]
            }
        }
    }

    fn key(&mut self, node: &Node) -> Option<Recipient> {
        let Some(text) = node.as_str().filter(|_| node.tag.is_none()) else {
            self.error(
                &node.span,
                format!("a key is text, not {}", node.what()),
                "write age1…, or an ssh-ed25519 or ssh-rsa public key",
            );
            return None;
        };
        match Recipient::parse(text) {
            Ok(r) => Some(r),
            Err(e) => {
                self.error(&node.span, e.message, e.hint.unwrap_or_default());
                None
            }
        }
    }

    fn keys(&mut self, node: &Node) -> Vec<(String, Recipient, Span)> {
        let mut all: Vec<(String, Recipient, Span)> = vec![];
        let Some(entries) = node.as_map() else {
            if !node.is_null() {
                self.error(
                    &node.span,
                    format!("`keys` is a mapping, not {}", node.what()),
                    "write it as `name: age1…`",
                );
            }
            return all;
        };
        for e in entries {
            if e.key == "passphrase" {
                self.error(&e.key_span, "`passphrase` cannot be a key's name", "in `to` this word means a passphrase");
                continue;
            }
            let Some(key) = self.key(&e.value) else { continue };
            match all.iter().find(|(_, k, _)| fingerprint(k) == fingerprint(&key)) {
                Some((name, _, at)) => {
                    let d = Diagnostic::error(format!("`{}` and `{name}` are one key", e.key)).at(&e.value.span);
                    self.found.push(d.also(at, "first here").hint("take one of the names out"));
                }
                None => all.push((e.key.clone(), key, e.value.span.clone())),
            }
        }
        all
    }

    fn rule(&mut self, node: &Node, keys: &[(String, Recipient, Span)]) -> Option<Rule> {
        let entries = self.mapping(node, "a rule", &["path", "to", "whole"])?;
        let example = "- {path: \"inventories/prod/**\", to: [NAME]}";
        let get = |k: &str| entries.iter().find(|e| e.key == k).map(|e| &e.value);
        let (Some(path), Some(to)) = (get("path"), get("to")) else {
            // A mistyped key has been named already.
            if entries.iter().any(|e| !["path", "to", "whole"].contains(&e.key.as_str())) {
                return None;
            }
            let lacks = if get("path").is_none() { "path" } else { "to" };
            self.error(&node.span, format!("this rule has no `{lacks}`"), format!("write it as {example}"));
            return None;
        };
        let nodes: Vec<&Node> = path.as_seq().map_or_else(|| vec![path], |s| s.iter().collect());
        let mut paths = vec![];
        for n in nodes {
            match n.as_str() {
                Some(p) if p.starts_with('/') || p.split('/').any(|s| s == "..") => {
                    self.error(
                        &n.span,
                        "a rule's path stays within the project",
                        "write it from the folder of windlass.yml, without `/` first and without `..`",
                    );
                }
                Some(p) if !p.trim().is_empty() => paths.push(p.to_string()),
                _ => self.error(
                    &n.span,
                    format!("a rule's path is text, not {}", n.what()),
                    format!("write it as {example}"),
                ),
            }
        }
        let mut readers: Vec<Reader> = vec![];
        for n in self.list(to, "`to`") {
            let name = n.as_str().unwrap_or_default();
            let named = keys.iter().find(|(k, _, _)| k == name);
            let key = match named {
                Some((_, key, _)) => Some(key.clone()),
                None if name == "passphrase" => None,
                None if !name.is_empty()
                    && !name.contains(' ')
                    && !name.starts_with("age1")
                    && !name.to_ascii_uppercase().starts_with("AGE-") =>
                {
                    let d = Diagnostic::error(format!("there is no key `{name}` under `keys`")).at(&n.span);
                    self.found.push(
                        match nearest(name, keys.iter().map(|(k, _, _)| k.as_str()).chain(["passphrase"])) {
                            Some(near) => d.hint(format!("did you mean `{near}`?")),
                            None => d.hint("add it there, or write the public key itself"),
                        },
                    );
                    continue;
                }
                None => Some(match self.key(n) {
                    Some(k) => k,
                    None => continue,
                }),
            };
            readers.push(Reader { name: named.map(|(k, _, _)| k.clone()), key, span: n.span.clone() });
        }
        if to.as_seq().is_some_and(<[Node]>::is_empty) || to.is_null() {
            self.error(&to.span, "this rule names nobody who may read", format!("write it as {example}"));
        }
        if readers.len() > 1
            && let Some(p) = readers.iter().find(|r| r.key.is_none())
        {
            self.error(
                &p.span,
                "a passphrase cannot be mixed with other recipients",
                "age allows either one passphrase or public keys",
            );
        }
        let whole = match get("whole").map(|n| (&n.kind, n)) {
            None => false,
            Some((Kind::Bool(b), _)) => *b,
            Some((_, n)) => {
                self.error(&n.span, format!("`whole` is true or false, not {}", n.what()), "whole: true");
                false
            }
        };
        (!paths.is_empty() && !readers.is_empty()).then(|| Rule {
            paths,
            to: readers,
            whole,
            span: node.span.clone(),
            to_span: to.span.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn project(text: &str) -> (tempfile::TempDir, Option<Rules>, Diagnostics) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let (rules, found) = Rules::look(dir.path());
        (dir, rules, found)
    }

    #[test]
    fn the_first_rule_that_covers_a_path_counts() {
        let (a, b) = (x25519().1, x25519().1);
        let (dir, rules, found) = project(&format!(
            "vault:\n  keys: {{anna: {a}, ci: {b}}}\n  recipients:\n  - {{path: 'prod/**', to: [anna]}}\n  - path: ['**', 'x']\n    to: [anna, '{b}']\n"
        ));
        assert!(found.is_empty(), "{}", found.render(false));
        let rules = rules.unwrap();
        let of = |p: &str| {
            let rule = rules.rule(&dir.path().join(p)).unwrap();
            rule.to.iter().map(Reader::shown).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("prod/group_vars/all.yml.age"), "anna");
        assert_eq!(of("staging/all.yml"), format!("anna {b}"));
        assert_eq!(rules.name_of(&fingerprint(&Recipient::parse(&b).unwrap()).unwrap()).as_deref(), Some("ci"));
        assert!(rules.rule(Path::new("/etc/passwd")).is_none());
    }

    #[test]
    fn a_first_file_is_read_back_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = ssh_key(dir.path(), "ed25519", "").1;
        let keys = [("anna", x25519().1), ("ben", ssh)];
        let keys = keys.map(|(n, k)| (n.to_string(), Recipient::parse(&k).unwrap()));
        create(dir.path(), &keys).unwrap();
        let rules = Rules::of(dir.path()).unwrap().unwrap();
        assert_eq!(rules.rules[0].to.iter().map(Reader::shown).collect::<Vec<_>>(), ["anna", "ben"]);
        assert!(create(dir.path(), &keys).unwrap_err().message.contains("is there already"));
        let carl = x25519().1;
        let more = rules.with_key("carl", &carl).unwrap();
        assert_eq!(more.keys.len(), 3);
        assert!(more.changed("**", &["carl".into()], &[]).unwrap().contains("to: [anna, ben, carl]\n"));
        assert!(rules.with_key("anna", &carl).unwrap_err().message.contains("`anna` is another key"));
        assert!(rules.with_key("passphrase", &carl).unwrap_err().message.contains("cannot be a key's name"));
    }

    #[test]
    fn readers_that_rules_share_are_changed_by_hand() {
        let (a, b) = (x25519().1, x25519().1);
        let (_dir, rules, _) = project(&format!(
            "vault:\n  keys: {{anna: {a}, ci: {b}}}\n  recipients:\n  - {{path: prod, to: &team [anna]}}\n  - {{path: staging, to: *team}}\n"
        ));
        let rules = rules.unwrap();
        for path in ["prod", "staging"] {
            let e = rules.changed(path, &["ci".into()], &[]).unwrap_err();
            assert!(e.message.contains("without losing something") && e.hint.unwrap().contains("by hand"), "{path}");
        }
    }

    #[test]
    fn readers_are_added_and_taken_out_in_the_text() {
        let (a, b, c) = (x25519().1, x25519().1, x25519().1);
        let (_dir, rules, _) = project(&format!(
            "# ours\nvault:\n  keys:\n    anna: {a}   # boss\n    ci: {b}\n  recipients:\n  - {{path: prod, to: [anna]}} # flow\n  - path: '**'\n    to:\n      - anna\n      - ci\n    # end\n"
        ));
        let rules = rules.unwrap();
        let changed = |p: &str, add: &[&str], remove: &[&str]| {
            let own = |w: &[&str]| w.iter().map(|s| s.to_string()).collect::<Vec<_>>();
            rules.changed(p, &own(add), &own(remove))
        };
        assert!(changed("prod", &["ci"], &[]).unwrap().contains("  - {path: prod, to: [anna, ci]} # flow\n"));
        assert!(changed("**", &[], &["ci"]).unwrap().ends_with("    to:\n      - anna\n    # end\n"));
        assert!(changed("**", &[&c], &[]).unwrap().contains(&format!("      - ci\n      - {c}\n    # end\n")));
        for (p, add, remove, expected) in [
            ("prod", vec!["anna"], vec![], "already"),
            ("prod", vec![], vec!["ci"], "not among"),
            ("prod", vec![], vec!["anna"], "nobody would be left"),
            ("prd", vec!["ci"], vec![], "no rule for `prd`"),
            ("prod", vec!["carl"], vec![], "not a recipient"),
        ] {
            let e = changed(p, &add, &remove).unwrap_err();
            assert!(e.message.contains(expected) && e.hint.is_some(), "{e}");
        }
    }
}
