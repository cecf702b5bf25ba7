//! Templates and expressions. This is the one door: nothing outside knows which engine runs behind it.

mod engine;
mod explain;
mod helpers;
#[cfg(test)]
mod hostile_tests;
mod jinja;
mod limits;
mod outside;
mod pieces;
mod shape;

pub use engine::{Compiled, Templates};
pub use shape::{Miss, Shape};

pub use helpers::{list_page as helper_list, names as helper_names, page as helper_page, python_json, shown, text};

use explain::place_of;
use serde_json::Value;
use std::path::Path;

/// How a template file is written, as far as its task says: `trim_blocks`, `variable_start_string` and the like.
pub type Settings = Vec<(String, String)>;

impl Templates {
    /// Renders the text of a template file, whatever it is written in.
    pub fn render_file(
        &self,
        path: &Path,
        text: &str,
        settings: &Settings,
        lookup: &dyn Lookup,
    ) -> Result<String, Trouble> {
        if path.extension().is_some_and(|e| e == "j2") {
            return self.jinja.render(self, path, text, settings, lookup);
        }
        if let Some((name, _)) = settings.first() {
            return Err(Trouble::Error(
                TemplateError::new(format!("`{name}` is for Jinja, in files that end in .j2"))
                    .hint("take it out, or give the template that ending"),
            ));
        }
        let compiled = self.compile(text).map_err(Trouble::Error)?;
        let text = self.value(&compiled, lookup).map(|v| helpers::text(&v))?;
        if text.contains(OMIT) { Err(Trouble::Error(omitted())) } else { Ok(text) }
    }
}

/// What a name stands for when a template asks for it.
#[derive(Debug, Clone)]
pub enum Found {
    Value(Value),
    Undefined,
    /// The value exists only later: a register of a task still to run, a fact not gathered yet.
    Unknown(String),
    /// The variable is there but its own value cannot be rendered.
    Broken(TemplateError),
}

/// Stands for "as if the parameter were not there" (`{{omit}}`).
pub const OMIT: &str = "__windlass_omit_this_parameter__";

/// It has no meaning in a text.
fn omitted() -> TemplateError {
    TemplateError::new("`omit` leaves a parameter out, and this is a text")
        .hint("give a text to stand there: `default(\"\")`")
}

/// Among the words of a template: it makes names of values, or goes through all there are.
pub const EVERY_NAME: &str = "*";

/// Where a template's variables come from.
pub trait Lookup {
    /// The value of a variable. `words` are the names and literals of the template that asks: what it can possibly
    /// pick out of a large value such as `hostvars`. With [`EVERY_NAME`] among them it can be anything.
    fn get(&self, name: &str, words: &[String]) -> Found;
    /// The names that could be meant by a mistyped one.
    fn known(&self) -> Vec<String>;
    /// What is known of a value that exists only later.
    fn shape(&self, _name: &str) -> Shape {
        Shape::Any
    }
    /// Whether it is asked elsewhere if a variable's field is there, so that it may be missing.
    fn guarded(&self, _path: &[String]) -> bool {
        false
    }
    /// Tells of a value that must never be shown from here on.
    fn learn(&self, _at: &str, _secret: &str) {}
    /// What to do about an undefined name, where that is known better than by its spelling.
    fn advice(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Why a template or expression gave no value.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    Unknown(String),
    Error(TemplateError),
}

/// A mistake in a template: what, where in its text (line and column from 1), what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateError {
    pub message: String,
    pub at: Option<(usize, usize)>,
    /// How many bytes of the text it is about, where that is known.
    pub len: Option<usize>,
    pub hint: Option<String>,
    /// The variable's own place, where the mistake is in a variable's value rather than in the template.
    pub span: Option<crate::source::Span>,
}

impl TemplateError {
    pub fn new(message: impl Into<String>) -> Self {
        TemplateError { message: message.into(), at: None, len: None, hint: None, span: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether a value counts as true in `when` and friends.
pub fn truthy(v: &Value) -> Option<bool> {
    match v {
        Value::Bool(b) => Some(*b),
        Value::Null => Some(false),
        Value::Number(n) => Some(n.as_f64() != Some(0.0)),
        Value::String(s) => match s.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" | "" => Some(false),
            _ => None,
        },
        Value::Array(a) => Some(!a.is_empty()),
        Value::Object(o) => Some(!o.is_empty()),
    }
}
