//! Values that belong to one place: whether a value stands where it was put.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use super::crypt::{self, Opened};
use super::document::{self, Document, Tagged};
use super::identity::Identities;
use super::note::Place;
use super::recipient::Recipients;
use super::rules;
use super::value;
use crate::error::{Error, Result};
use crate::source::{Node, Source};

/// A file as values are bound to it.
#[derive(Debug, Clone)]
pub struct Here {
    /// Without links in it.
    path: PathBuf,
    /// From the folder of `windlass.yml`, where there is one.
    file: Option<String>,
    shown: String,
}

impl Here {
    /// The file at `path`.
    pub fn of(path: &Path) -> Here {
        let real = rules::real(path);
        let root = real.parent().and_then(rules::find).map(|f| super::store::parent(&f));
        let below = root.and_then(|r| Some(real.strip_prefix(r).ok()?.to_path_buf()));
        let file = below.map(|b| b.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"));
        Here { shown: crate::source::display_path(path).display().to_string(), path: real, file }
    }

    /// The place of a key in this file.
    pub fn place(&self, key: impl ToString) -> Place {
        Place { file: self.file.clone(), key: key.to_string() }
    }

    /// Whether a value of `place` may stand under `key` here.
    ///
    /// # Errors
    /// It belongs elsewhere; both places are named.
    pub fn allows(&self, place: &Place, key: &str) -> Result<()> {
        let same_file = match (&place.file, &self.file) {
            (None, _) => true,
            (Some(bound), Some(own)) => bound == own,
            // A project whose windlass.yml was not copied along: as far as can be told.
            (Some(bound), None) => self.path.ends_with(bound),
        };
        if same_file && place.key == key {
            return Ok(());
        }
        let file = self.file.as_deref().unwrap_or(&self.shown);
        let stands = if same_file { format!("`{key}`") } else { format!("`{key}` in {file}") };
        Err(Error::input(format!("this value belongs to {place}, and stands at {stands}")).hint(format!(
            "Someone may have moved it to bring it to light. If it was you: windlass vault rekey --rebind {}",
            crate::quote::shell_quote(&self.shown)
        )))
    }
}

/// Encrypts a value for its place, as armored text.
///
/// # Errors
/// As [`crypt::encrypt`].
pub fn seal(value: &str, recipients: &Recipients, place: &Place) -> Result<String> {
    crypt::encrypt_at(value.as_bytes(), recipients, Some(place))
}

/// An opened value.
pub(super) struct OpenedValue {
    pub(super) text: Zeroizing<String>,
    pub(super) opened: Opened,
}

/// Opens an armored value. `what` names it in errors. Where it belongs is left to the caller.
pub(super) fn open(block: &str, what: &str, identities: &Identities) -> Result<OpenedValue> {
    let armored = value::armored(block, what)?;
    let mut opened = crypt::open(armored.as_bytes(), what, identities)?;
    let text = String::from_utf8(std::mem::take(&mut *opened.plain)).map(Zeroizing::new).map_err(|e| {
        e.into_bytes().zeroize();
        Error::input(format!("{what} does not hold text")).hint("Keep binary data in a file of its own.")
    })?;
    Ok(OpenedValue { text, opened })
}

/// Opens values for whoever reads variables, and sees that each stands where it belongs.
#[derive(Default)]
pub struct Reading {
    /// Of sources with bound values: all values.
    known: RefCell<Vec<(Arc<Source>, Vec<Tagged>)>>,
}

impl Reading {
    /// The text of an `!age` value at a node.
    ///
    /// # Errors
    /// It cannot be opened, or belongs to another place.
    pub fn open(&self, node: &Node, identities: &Identities) -> Result<String> {
        let found = open(node.as_str().unwrap_or_default(), "the value", identities)?;
        if let Some(place) = found.opened.note.as_ref().and_then(|n| n.place.as_ref()) {
            let key = self.key(node)?;
            Here::of(&node.span.source.path).allows(place, &key)?;
        }
        Ok(found.text.to_string())
    }

    fn key(&self, node: &Node) -> Result<String> {
        let mut known = self.known.borrow_mut();
        let at = match known.iter().position(|(s, _)| Arc::ptr_eq(s, &node.span.source)) {
            Some(i) => i,
            None => {
                let source = &node.span.source;
                let document = Document::parse(&source.path, &source.text, source.secret)?;
                known.push((source.clone(), document.values()));
                known.len() - 1
            }
        };
        let values = known.get(at).map(|(_, k)| k.as_slice()).unwrap_or_default();
        // A value that an alias brings has the place of its anchor.
        document::which(values, node)
            .map(|v| v.path.to_string())
            .ok_or_else(|| Error::input("where this value stands cannot be told").hint("Write it without an alias."))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::source::yaml;

    fn read(dir: &Path, file: &str, text: &str, ids: &Identities) -> Result<String> {
        let source = Source::new(dir.join(file), text);
        let root = yaml::parse(&source).unwrap();
        let mut found = None;
        root.walk(&mut |n| {
            if n.tag.is_some() {
                found = Some(Reading::default().open(n, ids));
            }
        });
        found.unwrap()
    }

    #[test]
    fn a_value_is_read_only_where_it_belongs() {
        let (secret, public) = x25519();
        let ids = identities(&[&secret]);
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        std::fs::write(d.join("windlass.yml"), "").unwrap();
        std::fs::create_dir(d.join("other")).unwrap();
        let place = Here::of(&d.join("all.yml")).place("db.password");
        assert_eq!(place.to_string(), "`db.password` in all.yml");
        let block = seal("hunter2", &to(&[&public]), &place).unwrap().replace('\n', "\n    ");
        let value = format!("!age |\n    {}\n", block.trim_end());
        assert_eq!(read(d, "all.yml", &format!("db:\n  password: {value}"), &ids).unwrap(), "hunter2");
        assert_eq!(
            read(d, "all.yml", &format!("x: 1\n\ndb:  # c\n  y: 2\n  password: {value}"), &ids).unwrap(),
            "hunter2"
        );
        let e = read(d, "all.yml", &format!("db:\n  motd: {value}"), &ids).unwrap_err();
        assert_eq!(e.message, "this value belongs to `db.password` in all.yml, and stands at `db.motd`");
        let e = read(d, "other/all.yml", &format!("db:\n  password: {value}"), &ids).unwrap_err();
        assert_eq!(
            e.message,
            "this value belongs to `db.password` in all.yml, and stands at `db.password` in other/all.yml"
        );
        assert!(e.hint.unwrap().contains("rekey --rebind") && !e.message.contains("hunter2"));
        // Without the configuration the file is told by the end of its path.
        std::fs::remove_file(d.join("windlass.yml")).unwrap();
        assert!(read(d, "all.yml", &format!("db:\n  password: {value}"), &ids).is_ok());
        assert!(read(d, "b.yml", &format!("db:\n  password: {value}"), &ids).is_err());
    }

    #[test]
    fn a_value_that_is_bound_to_nothing_is_read_anywhere() {
        let (secret, public) = x25519();
        let block = value::encrypt_value("hunter2", &to(&[&public])).unwrap().replace('\n', "\n  ");
        let dir = tempfile::tempdir().unwrap();
        let text = format!("any: !age |\n  {}\n", block.trim_end());
        assert_eq!(read(dir.path(), "all.yml", &text, &identities(&[&secret])).unwrap(), "hunter2");
    }

    #[test]
    fn a_value_of_an_anchor_is_read_through_its_alias() {
        let (secret, public) = x25519();
        let place = Place { file: None, key: "base.pw".into() };
        let armored = seal("hunter2", &to(&[&public]), &place).unwrap();
        let text = format!("base: &b {{pw: !age {}}}\nmine: {{<<: *b}}\n", serde_json::Value::from(armored));
        assert_eq!(read(Path::new("/"), "all.yml", &text, &identities(&[&secret])).unwrap(), "hunter2");
    }
}
