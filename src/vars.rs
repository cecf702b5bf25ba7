//! Variables: values with the place they came from, and the files they are read from.

use crate::error;
use crate::source::{Diagnostic, Diagnostics, Kind, Node, Source, Span, yaml};
use indexmap::IndexMap;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A variable as it was written: its value may still hold templates.
#[derive(Debug, Clone)]
pub struct Var {
    pub value: Value,
    pub span: Span,
}

/// Variables of one layer (a file, a group, a host, …), in file order.
pub type Vars = IndexMap<String, Var>;

/// What opens encrypted files and values while variables are read. The vault implements it.
pub trait SecretOpener {
    /// The text of an encrypted file.
    fn open_file(&self, path: &Path, bytes: &[u8]) -> error::Result<String>;
    /// The text of an `!age` value.
    fn open_value(&self, armored: &str) -> error::Result<String>;
    /// The same, where a value may be bound to the place it stands at.
    fn open_value_at(&self, _node: &Node, armored: &str) -> error::Result<String> {
        self.open_value(armored)
    }
    /// Tells of a value that must never be shown from here on. `at` names it where it cannot be kept from being shown.
    fn learn(&self, at: &str, value: &Value);
}

/// Reads a file of variables: YAML or JSON, as it is or encrypted (`.age`).
pub fn load_file(path: &Path, opener: &dyn SecretOpener, found: &mut Diagnostics) -> Vars {
    let is_age = path.extension().is_some_and(|e| e == "age");
    let source = if is_age { read_encrypted(path, opener) } else { Source::read(path) };
    let parsed = source.and_then(|s| match s.text.starts_with("$ANSIBLE_VAULT") {
        true => Err(Diagnostic::error("this file is encrypted with Ansible Vault")
            .at(&Span::new(&s, 0..0))
            .hint("bring it over with `windlass vault import`")),
        false => yaml::parse(&s),
    });
    let node = match parsed {
        Ok(n) => n,
        Err(d) => {
            found.push(d);
            return Vars::new();
        }
    };
    from_node(&node, "a file of variables", opener, found)
}

/// The text of an encrypted file, as a source that is never shown.
pub(crate) fn read_encrypted(path: &Path, opener: &dyn SecretOpener) -> Result<std::sync::Arc<Source>, Diagnostic> {
    let shown = crate::source::display_path(path);
    let bytes = std::fs::read(path).map_err(|e| crate::source::unreadable(&shown, &e))?;
    match opener.open_file(path, &bytes) {
        Ok(text) => Ok(Source::secret(shown, text)),
        Err(e) => {
            let d = Diagnostic::error(format!("cannot decrypt the vault file: {e}"))
                .at(&Span::new(&Source::secret(shown, ""), 0..0));
            Err(match e.hint {
                Some(h) => d.hint(h),
                None => d,
            })
        }
    }
}

/// The variables of a mapping node (`vars:` of a phase, a task, a group, …). `what` names it in errors.
pub fn from_node(node: &Node, what: &str, opener: &dyn SecretOpener, found: &mut Diagnostics) -> Vars {
    let mut vars = Vars::new();
    let entries = match &node.kind {
        Kind::Null => return vars,
        Kind::Map(m) => m,
        _ => {
            found.push(
                Diagnostic::error(format!("{what} must be a mapping of names to values, not {}", node.what()))
                    .at(&node.span)
                    .hint(match &node.kind {
                        Kind::Seq(_) => "take the `-` away: `name: value`",
                        _ => "write it as `name: value`",
                    }),
            );
            return vars;
        }
    };
    for e in entries {
        if !is_name(&e.key) {
            found.push(
                Diagnostic::error(format!("`{}` cannot be a variable's name", e.key))
                    .at(&e.key_span)
                    .hint("a name has letters, digits and underscores, and does not start with a digit"),
            );
            continue;
        }
        if let Some(value) = open(&e.value, opener, found) {
            if e.value.span.source.secret {
                opener.learn(&format!("{}: {}", e.value.span.source.path.display(), e.key), &value);
            }
            vars.insert(e.key.clone(), Var { value, span: e.value.span.clone() });
        }
    }
    vars
}

/// A variable's name: letters, digits, underscores, no digit first.
pub fn is_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

/// A node's value with its `!age` values opened; other unknown tags are findings.
pub fn open(node: &Node, opener: &dyn SecretOpener, found: &mut Diagnostics) -> Option<Value> {
    match node.tag.as_deref() {
        Some("!age") => {
            let Some(text) = node.as_str() else {
                found.push(
                    Diagnostic::error(format!("`!age` takes an armored block of text, not {}", node.what()))
                        .at(&node.span)
                        .hint("write it as `!age |`, followed by the indented block that `windlass vault encrypt-value` prints"),
                );
                return None;
            };
            return match opener.open_value_at(node, text) {
                Ok(plain) => {
                    let value = Value::String(plain);
                    opener.learn(&node.span.line(), &value);
                    Some(value)
                }
                Err(e) => {
                    let d = Diagnostic::error(format!("cannot decrypt the value: {e}")).at(&node.span);
                    found.push(match e.hint {
                        Some(h) => d.hint(h),
                        None => d,
                    });
                    None
                }
            };
        }
        // Ansible's `!unsafe` marks text that is not to be templated; the nearest thing here is plain text.
        Some(tag) => {
            let d = Diagnostic::error(format!("unknown YAML tag `{tag}`")).at(&node.span);
            found.push(if tag == "!vault" {
                d.hint("this is an Ansible Vault value: bring it over with `windlass vault import`")
            } else {
                d.hint("only `!age` is known")
            });
            return None;
        }
        None => {}
    }
    match &node.kind {
        Kind::Seq(items) => items.iter().map(|n| open(n, opener, found)).collect::<Option<Vec<_>>>().map(Value::Array),
        Kind::Map(entries) => entries
            .iter()
            .map(|e| open(&e.value, opener, found).map(|v| (e.key.clone(), v)))
            .collect::<Option<serde_json::Map<_, _>>>()
            .map(Value::Object),
        _ => Some(node.to_value()),
    }
}

/// The files that stand for one name in a directory of variables (`group_vars/web`): every file below a folder `web/`,
/// sorted by path, or the first that is there of `web`, `web.yml`, `web.yaml` and `web.json`; and all of these with `.age`.
pub fn files_for(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    if let Some(p) = in_the_clear(dir, name).into_iter().next() {
        if p.is_dir() {
            collect(&p, &mut found, 0);
        } else {
            found.push(p);
        }
    }
    let encrypted = ENDS.map(|end| dir.join(format!("{name}{end}.age")));
    found.extend(encrypted.into_iter().filter(|p| p.is_file()));
    found
}

const ENDS: [&str; 4] = ["", ".yml", ".yaml", ".json"];

/// What is there for a name and not encrypted as a whole; the first counts.
fn in_the_clear(dir: &Path, name: &str) -> Vec<PathBuf> {
    ENDS.map(|end| dir.join(format!("{name}{end}"))).into_iter().filter(|p| p.is_dir() || p.is_file()).collect()
}

/// Says which files for a name are not read, as another one stands before them.
pub fn passed_over(dir: &Path, name: &str, found: &mut Diagnostics) {
    let all = in_the_clear(dir, name);
    let Some((first, rest)) = all.split_first() else { return };
    let end = if first.is_dir() { "/" } else { "" };
    for p in rest {
        let shown = |p: &Path| crate::source::display_path(p).display().to_string();
        let d = Diagnostic::warning(format!("{} is not read: {}{end} stands for that name", shown(p), shown(first)));
        found.push(d.hint("put all of it into one of them"));
    }
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for p in paths {
        let name = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if p.is_dir() {
            if depth < 8 {
                collect(&p, into, depth + 1);
            }
            continue;
        }
        let bare = name.strip_suffix(".age").unwrap_or(&name);
        if [".yml", ".yaml", ".json"].iter().any(|e| bare.ends_with(e)) || !bare.contains('.') {
            into.push(p);
        }
    }
}

/// An opener for projects without secrets: every encrypted thing is an error. For tests and tools.
pub struct NoSecrets;

impl SecretOpener for NoSecrets {
    fn open_file(&self, _: &Path, _: &[u8]) -> error::Result<String> {
        Err(error::Error::input("no identity is at hand"))
    }
    fn open_value(&self, _: &str) -> error::Result<String> {
        Err(error::Error::input("no identity is at hand"))
    }
    fn learn(&self, _: &str, _: &Value) {}
}
