//! What is wrong with the project's files: collected, sorted, shown all at once.

use super::Span;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

/// How bad a finding is. Only errors keep a run from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

/// One finding: a message, the place it is about, a few words at the caret, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub span: Option<Span>,
    pub label: Option<String>,
    pub hint: Option<String>,
    /// Other places that matter, each with a few words.
    pub also: Vec<(Span, String)>,
}

impl Diagnostic {
    pub fn error(message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            span: None,
            label: None,
            hint: None,
            also: vec![],
        }
    }
    pub fn warning(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(message) }
    }
    /// Sets the place the finding is about.
    pub fn at(mut self, span: &Span) -> Self {
        self.span = Some(span.clone());
        self
    }
    /// Sets the words at the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }
    /// Sets what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Sets "did you mean …?" when a known word is near enough.
    pub fn suggest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(word, known) {
            Some(n) => self.hint(format!("did you mean `{n}`?")),
            None => self,
        }
    }
    pub fn also(mut self, span: &Span, words: impl Into<String>) -> Self {
        self.also.push((span.clone(), words.into()));
        self
    }

    /// The finding as data: severity, message, hint, place (line and column from 1, `end` behind the last character) and
    /// the other places.
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "severity": match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "message": self.message,
            "hint": self.hint,
            "label": self.label,
        });
        let place = self
            .span
            .as_ref()
            .map_or_else(|| json!({"file": null, "line": null, "column": null, "end": null}), place_of);
        let related = self.also.iter().map(|(s, words)| {
            let mut p = place_of(s);
            p["message"] = json!(words);
            p
        });
        out["related"] = related.collect();
        if let (Value::Object(all), Value::Object(p)) = (&mut out, place) {
            all.extend(p);
        }
        out
    }

    /// The finding as the terminal shows it: message, `--> path:line:column`, source line, caret, hint.
    pub fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let paths: Vec<String> = self.also.iter().map(|(s, _)| s.source.path.display().to_string()).collect();
        let main_path = self.span.as_ref().map(|s| s.source.path.display().to_string()).unwrap_or_default();
        let mut secret_places = String::new();
        let mut group = Group::with_title(level.primary_title(&self.message));
        if let Some(span) = &self.span {
            if span.source.secret {
                let _ = write!(secret_places, "{} (encrypted, not shown)", span.place());
            } else {
                let (snippet, range) = line_of(span);
                let mut a = AnnotationKind::Primary.span(range);
                if let Some(l) = &self.label {
                    a = a.label(l);
                }
                group = group.element(snippet.path(&main_path).annotation(a));
            }
        }
        for ((span, words), path) in self.also.iter().zip(&paths) {
            if !span.source.secret {
                let (snippet, range) = line_of(span);
                let a = AnnotationKind::Context.span(range).label(words);
                group = group.element(snippet.path(path).annotation(a));
            }
        }
        if !secret_places.is_empty() {
            group = group.element(Level::NOTE.message(format!("in {secret_places}")));
        }
        if let Some(h) = &self.hint {
            group = group.element(Level::HELP.message(h));
        }
        renderer.render(&[group])
    }
}

fn place_of(span: &Span) -> Value {
    let (line, column) = span.source.line_column(span.range.start);
    let (end_line, end_column) = span.source.line_column(span.range.end.max(span.range.start));
    json!({
        "file": span.source.path.display().to_string(),
        "line": line,
        "column": column,
        "end": {"line": end_line, "column": end_column},
    })
}

/// The part of a span that fits on its first line, at least one character wide where there is one.
fn visible(span: &Span) -> Range<usize> {
    let text = &span.source.text;
    let start = span.range.start.min(text.len());
    let mut end = span.range.end.clamp(start, text.len());
    if let Some(n) = text.get(start..end).and_then(|t| t.find('\n')) {
        end = start + n;
    }
    if end == start
        && let Some(c) = text[start..].chars().next()
        && c != '\n'
    {
        end = start + c.len_utf8();
    }
    start..end
}

/// The line a span begins on, and what of the span is on it: a large file is not looked through for every finding.
fn line_of<T: Clone>(span: &Span) -> (Snippet<'_, T>, Range<usize>) {
    let Range { start, end } = visible(span);
    let text = &span.source.text;
    let (line, _) = span.source.line_column(start);
    // Behind the last line there is none: what is missing there is missing in the line above.
    let behind = start == text.len() && text.ends_with('\n');
    let line = line - usize::from(behind);
    let from = span.source.offset(line, 1);
    let to = text[end..].find('\n').map_or(text.len(), |n| end + n);
    (Snippet::source(&text[from..to]).line_start(line), start - from..end - from)
}

/// The findings of a check, in the order in which they are shown: by file, then by place.
#[derive(Debug, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    /// Where those stand that say the same of the same place.
    known: HashMap<Same, Vec<usize>>,
}

/// What two findings have in common that are one: how bad it is, the message, the source and the range in it.
type Same = (Severity, String, Option<(usize, Range<usize>)>);

fn sameness(d: &Diagnostic) -> Same {
    let place = d.span.as_ref().map(|s| (Arc::as_ptr(&s.source).addr(), s.range.clone()));
    (d.severity, d.message.clone(), place)
}

/// How many findings are shown as text: nobody reads more, and those behind the first are often due to those.
const MOST_SHOWN: usize = 100;

impl Diagnostics {
    /// Adds a finding unless the same one is there already: many hosts hit the same line, and many tasks the same
    /// variable.
    pub fn push(&mut self, d: Diagnostic) {
        let known = self.known.entry(sameness(&d)).or_default();
        match known.iter().copied().find(|i| d.span.is_some() || self.items[*i] == d) {
            None => {
                known.push(self.items.len());
                self.items.push(d);
            }
            // A name is worth more than advice.
            Some(i) => {
                if d.hint.as_ref().is_some_and(|h| h.starts_with("did you mean")) {
                    self.items[i].hint = d.hint;
                }
            }
        }
    }
    pub fn extend(&mut self, other: Diagnostics) {
        for d in other.items {
            self.push(d);
        }
    }
    /// Adds findings of another reading of the same files: those that say the same of the same place are one.
    pub fn extend_read_again(&mut self, other: Diagnostics) {
        let place = |d: &Diagnostic| (d.severity, d.message.clone(), d.span.as_ref().map(Span::place));
        let mut all: HashSet<_> = self.items.iter().map(place).collect();
        for d in other.items {
            if all.insert(place(&d)) {
                self.known.entry(sameness(&d)).or_default().push(self.items.len());
                self.items.push(d);
            }
        }
    }
    /// Takes the places in a file away that nobody has written.
    pub fn without_places_in(&mut self, file: &std::path::Path) {
        for d in &mut self.items {
            if d.span.as_ref().is_some_and(|s| s.source.path == file) {
                d.span = None;
            }
            d.also.retain(|(s, _)| s.source.path != file);
        }
    }
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|d| d.severity == Severity::Error)
    }
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }
    /// Number of errors and of warnings.
    pub fn counts(&self) -> (usize, usize) {
        let e = self.items.iter().filter(|d| d.severity == Severity::Error).count();
        (e, self.items.len() - e)
    }
    /// Sorts by file and place; findings without a place come first.
    pub fn sort(&mut self) {
        self.items.sort_by(|a, b| {
            let key = |d: &Diagnostic| d.span.as_ref().map(|s| (s.source.path.clone(), s.range.start));
            (key(a), a.severity, &a.message).cmp(&(key(b), b.severity, &b.message))
        });
        self.known.clear();
        for (i, d) in self.items.iter().enumerate() {
            self.known.entry(sameness(d)).or_default().push(i);
        }
    }
    /// The findings as text, a blank line between them. Of very many the first are shown, errors before warnings.
    pub fn render(&self, colour: bool) -> String {
        self.render_without(colour, &|text| Cow::Borrowed(text))
    }

    /// The same without what `hide` takes out of text. A long source line is cut where it is shown, and half a secret is
    /// not known for one: a finding with something to hide in it shows its lines whole.
    pub fn render_without(&self, colour: bool, hide: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>) -> String {
        let whole = Renderer::plain().term_width(1 << 30);
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        let errors = self.counts().0;
        let (mut shown, mut warnings) = (0, MOST_SHOWN.saturating_sub(errors));
        for d in &self.items {
            let left = if d.severity == Severity::Error { shown < MOST_SHOWN } else { warnings > 0 };
            if shown == MOST_SHOWN || !left {
                continue;
            }
            warnings -= usize::from(d.severity == Severity::Warning);
            shown += 1;
            match hide(&d.render(&whole)) {
                Cow::Owned(clean) => out.push_str(&clean),
                Cow::Borrowed(_) => out.push_str(&d.render(&renderer)),
            }
            out.push_str("\n\n");
        }
        if shown < self.items.len() {
            let _ =
                writeln!(out, "and {} more; `windlass check --format json` has them all\n", self.items.len() - shown);
        }
        out
    }
}

/// The known word nearest to a mistyped one, if it is near enough to be worth naming.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|k| *k != word)
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(d, k)| *d <= 1 + word.len().min(k.len()) / 4)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn shows_place_line_caret_and_hint() {
        let s = Source::new("roles/web/tasks/main.yml", "- name: x\n  tempalte: {}\n");
        let d = Diagnostic::error("unknown module `tempalte`")
            .at(&Span::new(&s, 12..20))
            .suggest("tempalte", ["template", "copy"]);
        let text = d.render(&Renderer::plain());
        assert!(text.contains("roles/web/tasks/main.yml:2:3"), "{text}");
        assert!(text.contains("^^^^^^^^"), "{text}");
        assert!(text.contains("did you mean `template`?"), "{text}");
    }

    #[test]
    fn a_secret_source_is_never_shown() {
        let s = Source::secret("vault.yml.age", "password: [hunter2\n");
        let text = Diagnostic::error("broken").at(&Span::new(&s, 10..18)).render(&Renderer::plain());
        assert!(text.contains("vault.yml.age:1:11") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn as_data_it_has_its_places() {
        let s = Source::new("a.yml", "- x: ö\n  tempalte: {}\n");
        let d = Diagnostic::error("unknown")
            .at(&Span::new(&s, 10..18))
            .also(&Span::new(&s, 2..7), "here")
            .hint("did you mean `template`?");
        assert_eq!(
            d.to_json(),
            json!({
                "severity": "error", "message": "unknown", "hint": "did you mean `template`?", "label": null,
                "related": [{
                    "file": "a.yml", "line": 1, "column": 3, "end": {"line": 1, "column": 7}, "message": "here"
                }],
                "file": "a.yml", "line": 2, "column": 3, "end": {"line": 2, "column": 11},
            })
        );
        assert_eq!(Diagnostic::warning("w").to_json()["line"], Value::Null);
    }

    #[test]
    fn of_very_many_findings_the_first_are_shown() {
        let s = Source::new("a.yml", "x: 1\n".repeat(30_000));
        let mut all = Diagnostics::default();
        for i in 0..30_000 {
            let at = Span::new(&s, i * 5..i * 5 + 1);
            let d = if i % 2 == 0 { Diagnostic::warning("less") } else { Diagnostic::error("more") };
            all.push(d.at(&at));
            all.push(Diagnostic::error("more").at(&Span::new(&s, 5..6)));
        }
        all.sort();
        let text = all.render(false);
        assert_eq!((text.matches("error: more").count(), text.matches("warning").count()), (100, 0));
        assert!(text.contains("a.yml:200:1") && text.contains("and 29900 more"), "{}", &text[text.len() - 300..]);
        assert_eq!(all.counts(), (15_000, 15_000));
        // The same again is no other finding.
        all.push(Diagnostic::error("more").at(&Span::new(&s, 5..6)));
        assert_eq!(all.iter().count(), 30_000);
    }

    #[test]
    fn far_words_are_not_suggested() {
        assert_eq!(nearest("become_usr", ["become", "become_user"]), Some("become_user"));
        assert_eq!(nearest("frobnicate", ["copy", "apt"]), None);
    }
}
