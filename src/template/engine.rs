//! The Handlebars engine: strict, no HTML escaping, values keep their type.

use super::explain::{lacks, missing_field, missing_in_shape, place_of, undefined_variable};
use super::jinja::Jinja;
use super::pieces::{self, Wrong};
use super::{EVERY_NAME, Found, Lookup, OMIT, TemplateError, Trouble, helpers, limits, outside};
use crate::source::nearest;
use handlebars::template::{HelperTemplate, Parameter, Subexpression, TemplateElement};
use handlebars::{
    Context, Handlebars, Output, Path, RenderContext, RenderErrorReason, Renderable, Template, TemplateErrorReason,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

/// Compiles templates once and renders them for any number of hosts.
pub struct Templates {
    engine: Handlebars<'static>,
    compiled: RwLock<HashMap<String, Arc<Compiled>>>,
    /// The other engine, for the files that are written for it.
    pub(super) jinja: Jinja,
}

/// A template or expression that is ready to be evaluated.
pub struct Compiled {
    what: What,
    /// Variables it asks for, without doubles.
    roots: Vec<String>,
    /// Every name and text literal in it, kept only when it asks for `hostvars`.
    words: Vec<String>,
    /// Variables it cannot do without, whatever the others are.
    certain: Vec<Certain>,
    /// Fields it picks.
    picks: Vec<Pick>,
    /// What may be missing, since it is asked whether it is there: `default a.b`, `defined a`.
    guards: Vec<Vec<String>>,
}

/// A variable that must have a value.
struct Certain {
    name: String,
    at: Option<(usize, usize)>,
    /// Unless something in front of it settles the matter.
    behind: bool,
}

/// A field that is picked out of a variable.
struct Pick {
    /// The variable, then the keys.
    keys: Vec<String>,
    /// As it is written.
    raw: String,
    at: Option<(usize, usize)>,
    /// It is picked in any case, and must have a value.
    sure: bool,
    /// Something in front of it can settle the matter.
    behind: bool,
}

enum What {
    Literal(String),
    /// A literal expression: `true`, `3`.
    Constant(Value),
    /// One expression and nothing else: its value keeps its type.
    Value(Parameter),
    Text(Template),
}

impl Default for Templates {
    fn default() -> Self {
        Self::new()
    }
}

impl Templates {
    pub fn new() -> Self {
        let mut engine = Handlebars::new();
        engine.set_strict_mode(true);
        engine.register_escape_fn(handlebars::no_escape);
        helpers::register(&mut engine);
        Templates { engine, compiled: RwLock::default(), jinja: Jinja::new() }
    }

    /// Compiles the text of a value or of a template file.
    pub fn compile(&self, text: &str) -> Result<Arc<Compiled>, TemplateError> {
        if let Some(c) = self.compiled.read().ok().and_then(|m| m.get(text).cloned()) {
            return Ok(c);
        }
        let compiled = Arc::new(self.build(text)?);
        if let Ok(mut m) = self.compiled.write() {
            m.insert(text.to_string(), compiled.clone());
        }
        Ok(compiled)
    }

    /// Compiles a bare expression (`when`, `until`, `changed_when`, …).
    pub fn compile_expression(&self, text: &str) -> Result<Arc<Compiled>, TemplateError> {
        let bare = text.trim();
        if bare.is_empty() {
            return Err(TemplateError::new("the expression is empty").hint("write one, or take the key out"));
        }
        if bare.starts_with("{{") {
            return Err(TemplateError::new("an expression stands without braces here")
                .hint(format!("write it as: {}", bare.trim_start_matches('{').trim_end_matches('}').trim())));
        }
        if let Ok(v @ (Value::Bool(_) | Value::Number(_) | Value::Null)) = serde_json::from_str(bare) {
            return Ok(Arc::new(Compiled::of(What::Constant(v))));
        }
        let compiled = self.compile(&format!("{{{{{bare}}}}}")).map_err(|mut e| {
            if let Some(h) = infix_hint(bare) {
                e.hint = Some(h);
            }
            // The braces are ours: places in front of them are counted without.
            e.at = e.at.filter(|(l, c)| *l == 1 && *c > 2 && bare.len() == text.len()).map(|(l, c)| (l, c - 2));
            e.len = None;
            if bare.matches('(').count() != bare.matches(')').count() {
                e.message = "the parentheses do not match".into();
                e.hint = Some("close every `(` with a `)`".into());
            } else if e.hint.as_ref().is_some_and(|h| h.starts_with("write `{{name}}`")) {
                e.hint = Some(EXPRESSION.into());
            }
            if e.message.starts_with("`{{` is not closed") {
                e.message = "the expression's syntax is wrong".into();
                e.at = None;
                e.hint = infix_hint(bare).or_else(|| Some(EXPRESSION.into()));
            }
            e
        })?;
        match compiled.what {
            What::Value(_) => Ok(compiled),
            _ => Err(TemplateError::new("this is not one expression").hint(EXPRESSION)),
        }
    }

    fn build(&self, text: &str) -> Result<Compiled, TemplateError> {
        if !text.contains("{{") {
            return Ok(Compiled::of(What::Literal(text.to_string())));
        }
        if let Some(at) = too_deep(text) {
            let mut e = TemplateError::new(format!("it goes more than {DEEPEST} deep"))
                .hint("is a bracket or a `{{#…}}` there too often? A task with `set_fact` can take a part of it");
            e.at = Some(place_of(text, at));
            return Err(e);
        }
        let template = pieces::compile(&free_backslashes(text)).map_err(|e| {
            let reason = match &e {
                Wrong::Large(e) => return e.clone(),
                Wrong::Syntax(e) | Wrong::Piece(e, _) => e.reason(),
            };
            let mut t = match reason {
                TemplateErrorReason::MismatchingClosedHelper(open, close)
                | TemplateErrorReason::MismatchingClosedDecorator(open, close) => {
                    TemplateError::new(format!("`{{{{#{open}}}}}` is closed by `{{{{/{close}}}}}`"))
                        .hint(format!("close it with `{{{{/{open}}}}}`"))
                }
                _ => unclosed(text).unwrap_or_else(|| TemplateError::new("the template's syntax is wrong")),
            };
            t.at = t.at.or(e.at());
            t.hint = infix_hint(text)
                .or(t.hint)
                .or_else(|| Some("write `{{name}}`, `{{helper argument}}`, or `{{#if x}}…{{/if}}`".into()));
            t
        })?;
        if let Some(i) = text.find("{%").filter(|_| text.contains("%}")) {
            let mut e = TemplateError::new("`{% … %}` is Jinja2").hint(JINJA);
            e.at = Some(place_of(text, i));
            return Err(e);
        }
        let mut names = Names { sure: true, top: true, ..Names::default() };
        names.template(&template, 0);
        if let Some(e) = names.error {
            return Err(e);
        }
        let Names { roots, mut words, mut certain, picks, guards, .. } = names;
        if !roots.iter().any(|r| r == "hostvars") {
            words.clear();
        }
        certain.retain(|c| !guards.iter().any(|g| g[0] == c.name));
        let what = match template.elements.as_slice() {
            [TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h)] => What::Value(as_parameter(h)),
            _ => What::Text(template),
        };
        Ok(Compiled { what, roots, words, certain, picks, guards })
    }

    /// The value of a compiled template or expression.
    pub fn value(&self, compiled: &Compiled, lookup: &dyn Lookup) -> Result<Value, Trouble> {
        limits::bounded(|| self.evaluated(compiled, lookup))
    }

    fn evaluated(&self, compiled: &Compiled, lookup: &dyn Lookup) -> Result<Value, Trouble> {
        if let What::Literal(s) = &compiled.what {
            return Ok(Value::String(s.clone()));
        }
        if let What::Constant(v) = &compiled.what {
            return Ok(v.clone());
        }
        let mut data = Map::new();
        let mut unknown = None;
        let mut later: Vec<&str> = vec![];
        for name in &compiled.roots {
            match lookup.get(name, &compiled.words) {
                Found::Value(v) => {
                    data.insert(name.clone(), v);
                }
                Found::Undefined => {}
                Found::Unknown(why) => {
                    later.push(name);
                    unknown = unknown.or(Some(why));
                }
                Found::Broken(e) => return Err(Trouble::Error(e)),
            }
        }
        // What is missing whatever the rest comes to is said before anything is evaluated.
        let undefined = |name: &str| !data.contains_key(name) && matches!(lookup.get(name, &[]), Found::Undefined);
        let missing = |c: &Certain| Trouble::Error(TemplateError { at: c.at, ..undefined_variable(&c.name, lookup) });
        if let Some(c) =
            compiled.certain.iter().find(|c| undefined(&c.name) && (!c.behind || is_misspelt(&c.name, lookup)))
        {
            return Err(missing(c));
        }
        if let Some(why) = unknown {
            let Some(known) = compiled.has_lazy().then(|| Known {
                templates: self,
                context: Context::from(Value::Object(data.clone())),
                later,
            }) else {
                let missing = compiled.missing_pick(&data, lookup, None);
                return Err(missing.map_or(Trouble::Unknown(why), Trouble::Error));
            };
            if let What::Value(p) = &compiled.what
                && let Some(v) = known.value(p)
            {
                return Ok(v);
            }
            let reached = known.reached(compiled);
            let asked = |c: &&Certain| reached.certain.iter().any(|r| r.name == c.name) && undefined(&c.name);
            if let Some(c) = compiled.certain.iter().find(asked) {
                return Err(missing(c));
            }
            let missing = compiled.missing_pick(&data, lookup, Some(&reached));
            return Err(missing.map_or(Trouble::Unknown(why), Trouble::Error));
        }
        helpers::why_undefined();
        for _ in 0..MOST_QUESTIONS {
            let context = Context::from(Value::Object(data));
            let e = match self.evaluate(compiled, &context) {
                Ok(Value::String(s)) if matches!(compiled.what, What::Text(_)) && s.contains(OMIT) => {
                    return Err(Trouble::Error(super::omitted()));
                }
                Ok(v) => return Ok(v),
                Err(e) => e,
            };
            let asked = match e.reason() {
                RenderErrorReason::NestedError(n) => n.downcast_ref::<helpers::Ask>(),
                _ => None,
            };
            let Some(ask) = asked else { return Err(Trouble::Error(self.explain(&e, lookup))) };
            // A helper needs something from outside: with the answer all is evaluated again.
            let answer = match outside::answer(ask, self, lookup) {
                Ok(v) => Value::Array(vec![v]),
                Err(outside::No::Thing(why)) => Value::String(why),
                Err(outside::No::Trouble(t)) => return Err(t),
            };
            data = match context.data() {
                Value::Object(o) => o.clone(),
                _ => Map::new(),
            };
            if let Value::Object(o) = data.entry(helpers::OUTSIDE).or_insert_with(|| Value::Object(Map::new())) {
                o.insert(ask.key(), answer);
            }
        }
        Err(Trouble::Error(
            TemplateError::new("it asks for too many files and variables from outside")
                .hint("make several templates of it"),
        ))
    }

    fn evaluate(&self, compiled: &Compiled, context: &Context) -> Result<Value, handlebars::RenderError> {
        let mut rc = RenderContext::new(None);
        match &compiled.what {
            What::Value(p) => p.expand(&self.engine, context, &mut rc).and_then(|v| {
                if v.is_value_missing() {
                    Err(RenderErrorReason::MissingVariable(v.relative_path().cloned()).into())
                } else {
                    Ok(v.value().clone())
                }
            }),
            What::Text(t) => {
                let mut out = Bounded::default();
                t.render(&self.engine, context, &mut rc, &mut out).map(|()| Value::String(out.0)).map_err(|e| {
                    match e.reason() {
                        RenderErrorReason::IOError(_) => RenderErrorReason::Other(GIVES_TOO_MUCH.into()).into(),
                        _ => e,
                    }
                })
            }
            What::Literal(_) | What::Constant(_) => Ok(Value::Null),
        }
    }

    /// Like [`Templates::value`] for a value with templates anywhere inside it.
    pub fn render_deep(&self, value: &Value, lookup: &dyn Lookup) -> Result<Value, Trouble> {
        limits::bounded(|| self.deep(value, lookup))
    }

    fn deep(&self, value: &Value, lookup: &dyn Lookup) -> Result<Value, Trouble> {
        Ok(match value {
            Value::String(s) if s.contains("{{") => {
                let c = self.compile(s).map_err(Trouble::Error)?;
                let made = self.value(&c, lookup)?;
                // Variables that are made of each other grow without end.
                limits::made(&made).map_err(|e| Trouble::Error(TemplateError::new(e).hint(limits::LESS)))?;
                made
            }
            Value::Array(a) => Value::Array(a.iter().map(|v| self.deep(v, lookup)).collect::<Result<_, _>>()?),
            Value::Object(o) => Value::Object(
                o.iter().map(|(k, v)| Ok((k.clone(), self.deep(v, lookup)?))).collect::<Result<_, Trouble>>()?,
            ),
            other => other.clone(),
        })
    }

    fn explain(&self, e: &handlebars::RenderError, lookup: &dyn Lookup) -> TemplateError {
        let mut t = match e.reason() {
            RenderErrorReason::MissingVariable(Some(path)) => no_value(path, lookup),
            RenderErrorReason::MissingVariable(None) => match helpers::why_undefined() {
                Some(helpers::Why::Said(why)) => {
                    TemplateError::new(why).hint("give another value for that case: `default (…) value`")
                }
                Some(helpers::Why::Path(path)) => no_value(&path, lookup),
                None => TemplateError::new("an expression in it has no value")
                    .hint("give another value for that case: `default (…) value`"),
            },
            RenderErrorReason::Other(s) if limits::is_said(s) || s == GIVES_TOO_MUCH => {
                TemplateError::new(s.clone()).hint(limits::LESS)
            }
            RenderErrorReason::Other(s) if s.contains(NO_REGEX) => TemplateError::new(s.clone()).hint(CLOSE_IT),
            RenderErrorReason::Other(s) => {
                let named = s.strip_prefix('`').and_then(|s| s.split_once("`: ")).map(|(n, _)| n);
                TemplateError::new(s.clone()).hint(match named.filter(|n| helpers::exists(n)) {
                    Some(n) => format!("look at the values it is given; `windlass helpers {n}` says what it takes"),
                    None => "look at the values it is given".into(),
                })
            }
            other => TemplateError::new(other.to_string()).hint("look at the values it is given"),
        };
        t.at = e.line_no.zip(e.column_no);
        t
    }
}

/// Whether a name that stands for nothing is nearly another's: that is told also where it may not be looked at.
fn is_misspelt(name: &str, lookup: &dyn Lookup) -> bool {
    lookup.advice(name).is_none() && nearest(name, lookup.known().iter().map(String::as_str)).is_some()
}

/// What is said of a path that leads to nothing.
fn no_value(path: &str, lookup: &dyn Lookup) -> TemplateError {
    let path = path.trim_start_matches("@root.").trim_start_matches("../");
    let mut parts = path.split('.');
    let root = parts.next().unwrap_or(path);
    match lookup.get(root, &[]) {
        Found::Undefined => undefined_variable(root, lookup),
        Found::Value(v) => missing_field(path, &v, parts),
        _ => TemplateError::new(format!("`{path}` has no value")),
    }
}

impl Compiled {
    fn of(what: What) -> Self {
        Compiled { what, roots: vec![], words: vec![], certain: vec![], picks: vec![], guards: vec![] }
    }
    /// What it asks for and can do without, each a variable and keys.
    pub fn guards(&self) -> &[Vec<String>] {
        &self.guards
    }
    /// If it is one variable, or a field of one, and nothing else: the name and the keys.
    pub fn path(&self) -> Option<&[String]> {
        match (&self.what, self.picks.as_slice()) {
            (What::Value(Parameter::Path(_) | Parameter::Name(_)), [one]) => Some(&one.keys),
            (What::Value(Parameter::Path(_) | Parameter::Name(_)), []) => {
                Some(&self.roots).filter(|r| r.len() == 1).map(Vec::as_slice)
            }
            _ => None,
        }
    }
    /// Whether it has parts that are not evaluated where others settle the matter.
    fn has_lazy(&self) -> bool {
        self.certain.iter().any(|c| c.behind) || self.picks.iter().any(|p| p.behind)
    }
    /// A field that is not there, whatever is still to come; `data` has the variables that are known.
    fn missing_pick(
        &self,
        data: &Map<String, Value>,
        lookup: &dyn Lookup,
        reached: Option<&Names<'_>>,
    ) -> Option<TemplateError> {
        self.picks.iter().find_map(|p| {
            let (root, keys) = p.keys.split_first()?;
            let behind = match reached {
                Some(r) => r.picks.iter().find(|x| x.keys == p.keys)?.behind,
                None => p.behind,
            };
            let guarded = |guards: &[Vec<String>]| guards.iter().any(|g| p.keys.starts_with(g));
            if guarded(&self.guards) || lookup.guarded(&p.keys) {
                return None;
            }
            let e = match data.get(root) {
                // What other hosts know is cut down to what is asked for.
                Some(_) if root == "hostvars" => None,
                Some(v) if p.sure => lacks(v, keys).then(|| missing_field(&p.raw, v, keys.iter().map(String::as_str))),
                Some(_) => None,
                None => lookup
                    .shape(root)
                    .miss(keys)
                    .filter(|m| (p.sure && !behind) || !m.here_only)
                    .map(|m| missing_in_shape(&p.raw, m)),
            }?;
            Some(TemplateError { at: p.at, ..e })
        })
    }
    /// The names of the variables this asks for.
    pub fn roots(&self) -> &[String] {
        &self.roots
    }
}

/// How often one template may ask for something from outside.
const MOST_QUESTIONS: usize = 1000;

/// What is said of a text that is too long: variables made of each other grow without end otherwise.
const GIVES_TOO_MUCH: &str = "it gives more than 64 MiB";

/// What a template writes, as long as it is not too much.
#[derive(Default)]
struct Bounded(String);

impl Output for Bounded {
    fn write(&mut self, text: &str) -> std::io::Result<()> {
        if self.0.len() + text.len() > limits::LARGEST {
            return Err(std::io::Error::other(GIVES_TOO_MUCH));
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// What is said of a pattern that is none, and what to do.
const NO_REGEX: &str = "not a regular expression";
const CLOSE_IT: &str = "close what is open, and put `\\` before a sign that stands for itself";

const EXPRESSION: &str = "write a variable, or a helper with its arguments: eq a \"x\"";
const JINJA: &str = "here it is `{{#if x}}…{{/if}}` and `{{#each list}}…{{/each}}`";

/// Doubles the backslashes in an expression's text that begin no escape, as Python reads them: `"\d+"` is a pattern.
fn free_backslashes(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(begin) = rest.find("{{") {
        let escaped = rest[..begin].ends_with('\\');
        let comment = rest[begin..].starts_with("{{!");
        let (before, after) = rest.split_at(begin + 2);
        out.push_str(before);
        rest = after;
        if escaped || comment {
            continue;
        }
        let mut quote = None;
        let mut chars = rest.char_indices().peekable();
        let mut end = rest.len();
        while let Some((i, c)) = chars.next() {
            match (c, quote) {
                ('}', None) if rest[i..].starts_with("}}") => {
                    end = i;
                    break;
                }
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(q)) if c == q => quote = None,
                ('\\', Some(_)) => {
                    let next = chars.next().map(|(_, n)| n);
                    out.push('\\');
                    match next {
                        Some('u') if !is_code(&rest[i + 2..]) => out.push_str("\\u"),
                        Some(n) if "\"'\\/nrtu".contains(n) => out.push(n),
                        Some(n) => {
                            out.push('\\');
                            out.push(n);
                        }
                        None => {}
                    }
                    continue;
                }
                _ => {}
            }
            out.push(c);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Four hexadecimal digits, as they follow `\u`.
fn is_code(text: &str) -> bool {
    text.as_bytes().get(..4).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
}

/// How deep calls, lists and blocks may stand in each other: the engine goes as deep when it reads and evaluates them.
const DEEPEST: usize = 100;

/// Where a template goes deeper than that.
fn too_deep(text: &str) -> Option<usize> {
    // For each open block, how deep it leads: `{{else if}}` is a block in a block that has no end of its own.
    let mut blocks: Vec<usize> = vec![];
    let mut depth = 0;
    let mut at = 0;
    while let Some(begin) = text[at..].find("{{").map(|i| at + i) {
        let inner = text[begin..].trim_start_matches(['{', '~']).trim_start();
        if inner.starts_with('!') {
            at = inner.find("}}").map_or(text.len(), |end| text.len() - inner.len() + end);
            continue;
        }
        if inner.starts_with('#') {
            blocks.push(1);
            depth += 1;
        } else if inner.starts_with('/') {
            depth -= blocks.pop().unwrap_or(0);
        } else if inner.starts_with(['e', '^'])
            && let Some(rest) = inner.strip_prefix("else").or_else(|| inner.strip_prefix('^'))
            && !rest.trim_start().starts_with(['}', '~'])
            && let Some(last) = blocks.last_mut()
        {
            *last += 1;
            depth += 1;
        }
        let start = text.len() - inner.len();
        let (end, deepest) = brackets(inner);
        at = start + end;
        if depth > DEEPEST {
            return Some(begin);
        }
        if let Some(deepest) = deepest {
            return Some(start + deepest);
        }
    }
    None
}

/// Where the expression that a text begins with ends, and where its brackets go too deep.
fn brackets(text: &str) -> (usize, Option<usize>) {
    let (mut depth, mut quote) = (0usize, None);
    for (i, b) in text.bytes().enumerate() {
        match (b, quote) {
            (b'"' | b'\'', None) => quote = Some(b),
            (b, Some(q)) if b == q => quote = None,
            (_, Some(_)) => {}
            (b'(' | b'[' | b'{', None) => {
                depth += 1;
                if depth > DEEPEST {
                    return (text.len(), Some(i));
                }
            }
            (b'}', None) if depth == 0 => return (i, None),
            (b')' | b']' | b'}', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (text.len(), None)
}

/// The first `{{` that is not closed on its line, or the block that is not closed at all.
fn unclosed(text: &str) -> Option<TemplateError> {
    let mut blocks: Vec<(&str, usize)> = vec![];
    let mut at = 0;
    while let Some(i) = text[at..].find("{{").map(|i| at + i) {
        if i > 0 && text.as_bytes()[i - 1] == b'\\' {
            at = i + 2;
            continue;
        }
        let line_end = text[i..].find('\n').map_or(text.len(), |n| i + n);
        let next = text[i + 2..].find("{{").map_or(text.len(), |n| i + 2 + n);
        let end = text[i..].find("}}").map(|e| i + e);
        let comment = text[i..].starts_with("{{!");
        let Some(end) = end.filter(|e| comment || *e < next.max(i + 3)) else {
            let mut e = TemplateError::new("`{{` is not closed").hint("close it with `}}`");
            e.at = Some(place_of(text, i));
            e.len = Some(line_end.min(next) - i);
            return Some(e);
        };
        let inner = text[i + 2..end].trim_start_matches(['{', '~']).trim_end_matches('~').trim();
        if let Some(open) = inner.strip_prefix('#') {
            blocks.push((open.split_whitespace().next().unwrap_or(open), i));
        } else if let Some(close) = inner.strip_prefix('/') {
            if blocks.pop().is_none() {
                let mut e = TemplateError::new(format!("`{{{{/{close}}}}}` closes nothing"))
                    .hint(format!("open it with `{{{{#{close} …}}}}`, or take it out"));
                e.at = Some(place_of(text, i));
                e.len = Some(end + 2 - i);
                return Some(e);
            }
        } else if inner == "else" && blocks.is_empty() {
            let mut e =
                TemplateError::new("`{{else}}` outside a block").hint("it goes between `{{#if x}}` and `{{/if}}`");
            e.at = Some(place_of(text, i));
            e.len = Some(end + 2 - i);
            return Some(e);
        } else if inner.is_empty() {
            let mut e = TemplateError::new("`{{}}` is empty").hint("write `{{name}}`; for braces as they are, `\\{{`");
            e.at = Some(place_of(text, i));
            e.len = Some(end + 2 - i);
            return Some(e);
        }
        if inner.matches('(').count() > inner.matches(')').count() && !inner.contains('"') && !inner.contains('\'') {
            let mut e = TemplateError::new("a `(` is not closed").hint("close it with `)`");
            e.at = Some(place_of(text, i));
            e.len = Some(end + 2 - i);
            return Some(e);
        }
        at = end + 2;
    }
    let (name, i) = blocks.pop()?;
    let mut e =
        TemplateError::new(format!("`{{{{#{name}}}}}` is not closed")).hint(format!("close it with `{{{{/{name}}}}}`"));
    e.at = Some(place_of(text, i));
    Some(e)
}

fn infix_hint(text: &str) -> Option<String> {
    for (sign, helper) in [("==", "eq"), ("!=", "ne"), (">=", "gte"), ("<=", "lte")] {
        if text.contains(sign) {
            return Some(format!("operators are helpers here: `a {sign} b` is `{helper} a b`"));
        }
    }
    for (word, form) in
        [(" and ", "and a b"), (" or ", "or a b"), (" in ", "in item list"), (" is defined", "defined name")]
    {
        if text.contains(word) && !text.contains(&format!("({}", word.trim())) {
            return Some(format!("operators are helpers here: `{form}`"));
        }
    }
    if text.contains(" | ") {
        return Some("filters are helpers here: `{{ name | upper }}` is `{{upper name}}`".into());
    }
    for (sign, helper) in [(" > ", "gt"), (" < ", "lt")] {
        if text.contains(sign) {
            return Some(format!("operators are helpers here: `a{sign}b` is `{helper} a b`"));
        }
    }
    if text.contains("{%") {
        return Some(format!("`{{% … %}}` is Jinja2; {JINJA}"));
    }
    if text.contains("lookup(") {
        return Some("lookups are helpers here: `lookup('env', 'HOME')` is `env \"HOME\"`".into());
    }
    None
}

fn as_parameter(h: &HelperTemplate) -> Parameter {
    if h.params.is_empty() && h.hash.is_empty() {
        h.name.clone()
    } else {
        Parameter::Subexpression(Subexpression::new(h.name.clone(), h.params.clone(), h.hash.clone()))
    }
}

/// The names in a path: `a.[b c].d`.
fn segments(path: &str) -> Vec<&str> {
    let mut all = vec![];
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(r) = rest.strip_prefix('[') {
            let end = r.find(']').unwrap_or(r.len());
            all.push(&r[..end]);
            rest = r.get(end + 1..).unwrap_or_default();
        } else {
            let end = rest.find(['.', '/', '[']).unwrap_or(rest.len());
            all.push(&rest[..end]);
            rest = &rest[end..];
        }
        rest = rest.strip_prefix(['.', '/']).unwrap_or(rest);
    }
    all.retain(|s| !s.is_empty());
    all
}

/// Collects what a template asks for, and helpers that do not exist.
#[derive(Default)]
struct Names<'k> {
    roots: Vec<String>,
    words: Vec<String>,
    certain: Vec<Certain>,
    /// What is known already: what it settles is not looked at.
    known: Option<&'k Known<'k>>,
    /// Something in front of what is looked at can settle the matter.
    behind: bool,
    /// What is looked at is evaluated in any case, and must have a value.
    sure: bool,
    /// What is looked at stands in no block.
    top: bool,
    /// It stands in blocks in which names are those of an element.
    inside: usize,
    /// What is looked at may be missing.
    lenient: bool,
    picks: Vec<Pick>,
    guards: Vec<Vec<String>>,
    at: Option<(usize, usize)>,
    error: Option<TemplateError>,
}

/// The helpers that look no further than they need.
const LAZY: [&str; 3] = ["and", "or", "ternary"];

/// Which arguments of such a helper can be looked at, and whether one in front of them, that is known only later, can
/// settle the matter.
fn reached(name: &str, params: &[Parameter], known: Option<&Known<'_>>) -> Vec<(usize, bool)> {
    let value = |p: &Parameter| known.and_then(|k| k.value(p));
    let mut all = vec![];
    if name == "ternary" {
        let chosen = params.first().and_then(value).map(|v| chosen(&v, params.len()));
        all.push((0, false));
        all.extend((1..params.len()).filter(|i| chosen.is_none_or(|c| c == *i)).map(|i| (i, chosen.is_none())));
        return all;
    }
    let mut after = false;
    for (i, p) in params.iter().enumerate() {
        all.push((i, after));
        match value(p) {
            Some(v) if super::truthy(&v) == Some(name == "or") => break,
            Some(_) => {}
            None => after = true,
        }
    }
    all
}

/// The argument that `ternary` takes by its condition.
fn chosen(condition: &Value, arguments: usize) -> usize {
    match super::truthy(condition) {
        _ if condition.is_null() && arguments > 3 => 3,
        Some(false) => 2,
        _ => 1,
    }
}

/// What can be said of parts of an expression while others exist only later.
struct Known<'t> {
    templates: &'t Templates,
    /// The variables that are known.
    context: Context,
    /// The others.
    later: Vec<&'t str>,
}

impl Known<'_> {
    /// What a part comes to, if that is known.
    fn value(&self, p: &Parameter) -> Option<Value> {
        let mut names = Names { top: true, ..Names::default() };
        names.parameter(p, 0);
        if !names.roots.iter().any(|r| self.later.contains(&r.as_str())) {
            let found = p.expand(&self.templates.engine, &self.context, &mut RenderContext::new(None)).ok();
            helpers::why_undefined();
            return found.filter(|v| !v.is_value_missing()).map(|v| v.value().clone());
        }
        let Parameter::Subexpression(s) = p else { return None };
        let (TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h)) = s.as_element() else { return None };
        let truth = |p: &Parameter| super::truthy(&self.value(p)?);
        Some(match (helper_of(&h.name)?, h.params.as_slice()) {
            ("not", [one]) => Value::Bool(!truth(one)?),
            (name @ ("and" | "or"), params) => {
                let settles = name == "or";
                for p in params {
                    if truth(p)? == settles {
                        return Some(Value::Bool(settles));
                    }
                }
                Value::Bool(!settles)
            }
            ("ternary", [condition, ..]) => {
                self.value(h.params.get(chosen(&self.value(condition)?, h.params.len()))?)?
            }
            _ => return None,
        })
    }

    /// The names that can be looked at at all.
    fn reached(&self, compiled: &Compiled) -> Names<'_> {
        let mut names = Names { sure: true, top: true, known: Some(self), ..Names::default() };
        match &compiled.what {
            What::Value(p) => names.parameter(p, 0),
            What::Text(t) => names.template(t, 0),
            What::Literal(_) | What::Constant(_) => {}
        }
        names
    }
}

impl Names<'_> {
    fn template(&mut self, t: &Template, depth: usize) {
        for (i, e) in t.elements.iter().enumerate() {
            let before = self.error.is_none();
            self.sure = depth == 0;
            self.top = depth == 0;
            self.at = t.mapping.get(i).map(|m| (m.0, m.1));
            match e {
                TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h) => self.call(h, depth),
                TemplateElement::HelperBlock(h) => {
                    self.call(h, depth);
                    let other = !matches!(helper_of(&h.name), Some("if" | "unless"));
                    self.inside += usize::from(other);
                    for inner in [&h.template, &h.inverse].into_iter().flatten() {
                        self.template(inner, depth + 1);
                    }
                    self.inside -= usize::from(other);
                }
                TemplateElement::PartialExpression(_) | TemplateElement::PartialBlock(_) => {
                    self.error.get_or_insert_with(|| {
                        TemplateError::new("partials (`{{> …}}`) are not supported")
                            .hint("use a template file of its own")
                    });
                }
                _ => {}
            }
            if before && let (Some(err), Some(m)) = (&mut self.error, t.mapping.get(i)) {
                err.at.get_or_insert((m.0, m.1));
            }
        }
    }

    fn call(&mut self, h: &HelperTemplate, depth: usize) {
        if h.params.is_empty() && h.hash.is_empty() && !h.block {
            return self.parameter(&h.name, depth);
        }
        self.helper_name(h);
        self.parameters(h, depth);
        // All of it is handed on.
        if !h.block
            && matches!(helper_of(&h.name), Some("lookup" | "get"))
            && h.params.first().and_then(helper_of) == Some("hostvars")
        {
            self.words.push(EVERY_NAME.to_string());
        }
    }

    fn parameters(&mut self, h: &HelperTemplate, depth: usize) {
        if !names_what_it_takes(h) {
            self.words.push(EVERY_NAME.to_string());
        }
        let before = (self.sure, self.lenient);
        if helper_of(&h.name).is_some_and(helpers::is_lenient) {
            (self.sure, self.lenient) = (false, true);
        }
        let lazy = helper_of(&h.name).filter(|n| !self.lenient && LAZY.contains(n));
        let (reached, behind) = (lazy.map(|n| reached(n, &h.params, self.known)), self.behind);
        for (i, p) in h.params.iter().enumerate() {
            if let Some(reached) = &reached {
                let Some((_, after)) = reached.iter().find(|(r, _)| *r == i) else { continue };
                self.behind = behind || *after;
            }
            self.parameter(p, depth);
        }
        self.behind = behind;
        h.hash.values().for_each(|p| self.parameter(p, depth));
        (self.sure, self.lenient) = before;
    }

    fn helper_name(&mut self, h: &HelperTemplate) {
        let Some(name) = helper_of(&h.name) else { return };
        if let Some(e) = helpers::arity_error(name, h.params.len()) {
            self.error.get_or_insert(TemplateError::new(e).hint(helpers::usage(name)));
        }
        if let Some((e, hint)) = h.hash.keys().find_map(|k| helpers::named_error(name, k)) {
            self.error.get_or_insert(TemplateError::new(e).hint(hint));
        }
        let literals: Option<Vec<&Value>> = h.params.iter().skip(1).map(literal).collect();
        if let Some(e) =
            literals.filter(|l| !l.is_empty() && h.hash.is_empty()).and_then(|l| helpers::refuses(name, &l))
        {
            let hint = if e.contains(NO_REGEX) { CLOSE_IT.into() } else { helpers::usage(name) };
            self.error.get_or_insert(TemplateError::new(e).hint(hint));
        }
        if !helpers::exists(name) {
            self.error.get_or_insert_with(|| {
                let e = TemplateError::new(format!("unknown helper `{name}`"));
                match nearest(name, helpers::names()) {
                    Some(n) => e.hint(format!("did you mean `{n}`?")),
                    None => e.hint("`{{name argument}}` calls a helper; is a quote missing, or an operator too many?"),
                }
            });
        }
    }

    fn parameter(&mut self, p: &Parameter, depth: usize) {
        match p {
            Parameter::Name(raw) | Parameter::Path(Path::Relative((_, raw))) => self.path(raw),
            Parameter::Literal(Value::String(s)) => self.words.extend(Some(s.clone()).filter(|s| s != EVERY_NAME)),
            Parameter::Subexpression(s) => {
                if let TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h) = s.as_element() {
                    if s.is_helper() {
                        self.helper_name(h);
                        self.parameters(h, depth);
                    } else {
                        self.parameter(&h.name, depth);
                    }
                }
            }
            _ => {}
        }
    }

    fn path(&mut self, raw: &str) {
        let mut rest = raw;
        while let Some(r) = rest.strip_prefix("../") {
            rest = r;
        }
        let rest = rest.strip_prefix("@root.").or_else(|| rest.strip_prefix("@root/")).unwrap_or(rest);
        if matches!(rest, "this" | ".") && self.top {
            self.error.get_or_insert_with(|| {
                TemplateError::new("`this` outside a block").hint("it exists inside `{{#each list}}…{{/each}}` only")
            });
        }
        if rest.starts_with('@') || rest == "this" || rest == "." {
            return;
        }
        let absolute = self.inside == 0 || raw.starts_with("@root");
        let rest = rest.strip_prefix("this.").or_else(|| rest.strip_prefix("./")).unwrap_or(rest);
        let keys: Vec<String> = segments(rest).into_iter().map(str::to_string).collect();
        let Some((root, words)) = keys.split_first() else { return };
        if !self.roots.contains(root) {
            self.roots.push(root.clone());
        }
        // A helper that needs no argument, if no variable has its name.
        let call = words.is_empty() && helpers::find(root).is_some_and(|d| d.arity().0 == 0);
        match self.certain.iter_mut().find(|c| c.name == *root) {
            _ if !self.sure || call => {}
            Some(c) => c.behind &= self.behind,
            None => self.certain.push(Certain { name: root.clone(), at: self.at, behind: self.behind }),
        }
        self.words.extend(words.iter().cloned());
        if self.lenient {
            self.guards.push(keys);
        } else if absolute && !words.is_empty() {
            self.picks.push(Pick { raw: rest.to_string(), at: self.at, sure: self.sure, behind: self.behind, keys });
        }
    }
}

/// Whether a call that is given what another host knows takes something out of it that the template names.
fn names_what_it_takes(h: &HelperTemplate) -> bool {
    let name = helper_of(&h.name).unwrap_or_default();
    let takes = matches!(name, "lookup" | "get");
    let by_literal = takes && matches!(h.params.get(1), Some(Parameter::Literal(_)));
    // Of `hostvars` itself it is a host, of anything else perhaps one of a host's variables.
    if takes && !by_literal && h.params.first().and_then(helper_of) != Some("hostvars") {
        return false;
    }
    name == "with" || by_literal || !h.params.iter().any(is_host)
}

/// Whether this is all that a host knows: `hostvars.name`, `(lookup hostvars name)`.
fn is_host(p: &Parameter) -> bool {
    match p {
        Parameter::Path(Path::Relative((_, raw))) => {
            let keys = segments(raw.trim_start_matches("@root."));
            keys.len() == 2 && keys[0] == "hostvars"
        }
        Parameter::Subexpression(s) => match s.as_element() {
            TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h) => {
                matches!(helper_of(&h.name), Some("lookup" | "get"))
                    && h.params.first().and_then(helper_of) == Some("hostvars")
            }
            _ => false,
        },
        _ => false,
    }
}

fn literal(p: &Parameter) -> Option<&Value> {
    match p {
        Parameter::Literal(v) => Some(v),
        _ => None,
    }
}

fn helper_of(name: &Parameter) -> Option<&str> {
    match name {
        Parameter::Name(n) => Some(n.as_str()),
        Parameter::Path(Path::Relative((_, raw))) => Some(raw.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Given(Value);
    impl Lookup for Given {
        fn get(&self, name: &str, _: &[String]) -> Found {
            match self.0.get(name) {
                Some(Value::String(s)) if s == "<later>" => Found::Unknown("later".into()),
                Some(v) => Found::Value(v.clone()),
                None => Found::Undefined,
            }
        }
        fn known(&self) -> Vec<String> {
            self.0.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
        }
    }
    fn text(t: &str, v: Value) -> Result<Value, Trouble> {
        let e = Templates::new();
        let c = e.compile(t).map_err(Trouble::Error)?;
        e.value(&c, &Given(v))
    }
    fn expr(t: &str, v: Value) -> Result<Value, Trouble> {
        let e = Templates::new();
        let c = e.compile_expression(t).map_err(Trouble::Error)?;
        e.value(&c, &Given(v))
    }
    fn message(r: Result<Value, Trouble>) -> String {
        match r {
            Err(Trouble::Error(e)) => format!("{} / {}", e.message, e.hint.unwrap_or_default()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn one_expression_keeps_its_type() {
        assert_eq!(text("{{l}}", json!({"l": [1, 2]})).unwrap(), json!([1, 2]));
        assert_eq!(text("{{ m.a }}", json!({"m": {"a": true}})).unwrap(), json!(true));
        assert_eq!(text("n={{m.a}}", json!({"m": {"a": 3}})).unwrap(), json!("n=3"));
        assert_eq!(text("a < b & {{c}}", json!({"c": "<\"x\">"})).unwrap(), json!("a < b & <\"x\">"));
    }

    #[test]
    fn what_goes_too_deep_says_so() {
        let calls = |n: usize| format!("{}a{}", "(not ".repeat(n), ")".repeat(n));
        let blocks = |n: usize| format!("{}x{}", "{{#if a}}".repeat(n), "{{/if}}".repeat(n));
        let chain = |n: usize| format!("{{{{#if b}}}}{}x{{{{/if}}}}", "{{else if b}}".repeat(n));
        let lists = |n: usize| format!("{{{{list {}1{}}}}}", "[".repeat(n), "]".repeat(n));
        let v = json!({"a": true, "b": false});
        assert!(expr(&calls(90), v.clone()).is_ok());
        assert_eq!(text(&blocks(90), v.clone()), Ok(json!("x")));
        assert!(text(&chain(90), v.clone()).is_ok() && text(&lists(90), v.clone()).is_ok());
        assert!(message(expr(&calls(20_000), v.clone())).contains("more than 100 deep"));
        let spaced = chain(20_000).replace("{{", "{{~ ");
        for t in
            [blocks(20_000), chain(20_000), spaced, lists(20_000), "{{#if a}}".repeat(20_000), "{{(".repeat(20_000)]
        {
            assert!(message(text(&t, v.clone())).contains("more than 100 deep / is a bracket"));
        }
        // As many side by side are fine.
        assert!(text(&"{{#if a}}{{else if (not (not b))}}{{/if}}{{eq (not a) b}}".repeat(500), v).is_ok());
    }

    #[test]
    fn what_gives_too_much_says_so() {
        let v = json!({"a": "x".repeat(1 << 20)});
        let m = |t: &str| message(text(t, v.clone()));
        assert!(m(&"{{a}}".repeat(65)).contains("more than 64 MiB"));
        assert!(
            m("{{length (replace a 'x' 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx')}}")
                .contains("larger than 64 MiB")
        );
        assert_eq!(text("{{replace 'aaa' 'a' 'bb' 2}}", v), Ok(json!("bbbba")));
    }

    #[test]
    fn bare_expressions() {
        let v = json!({"a": "x", "b": 3, "t": true});
        assert_eq!(expr("eq a \"x\"", v.clone()).unwrap(), json!(true));
        assert_eq!(expr("(eq a 'y')", v.clone()).unwrap(), json!(false));
        assert_eq!(expr("and (eq a 'x') (gt b 2)", v.clone()).unwrap(), json!(true));
        assert_eq!(expr("not t", v.clone()).unwrap(), json!(false));
        assert_eq!(expr("t", v.clone()).unwrap(), json!(true));
        assert_eq!(expr("defined nope", v.clone()).unwrap(), json!(false));
        assert_eq!(expr("defined m.x", json!({"m": {}})).unwrap(), json!(false));
        assert_eq!(expr("default nope 5", v).unwrap(), json!(5));
        assert_eq!((expr("false", json!({})).unwrap(), expr("3", json!({})).unwrap()), (json!(false), json!(3)));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        assert!(
            message(text("{{hots}}", json!({"host": 1}))).contains("undefined variable `hots` / did you mean `host`?")
        );
        assert!(
            message(text("x {{m.abd}}", json!({"m": {"abc": 1}}))).contains("there is no `abd` / did you mean `abc`?")
        );
        assert!(message(expr("a == 1", json!({"a": 1}))).contains("eq a b"));
        assert!(message(text("{{uper a}}", json!({"a": 1}))).contains("unknown helper `uper` / did you mean `upper`?"));
        assert!(message(expr("{{ a }}", json!({"a": 1}))).contains("without braces"));
        assert!(message(text("{{ a | upper }}", json!({"a": 1}))).contains("filters are helpers"));
        assert!(message(expr("eq nope 1", json!({}))).contains("undefined variable `nope`"));
    }

    #[test]
    fn backslashes_are_read_as_in_python() {
        let v = json!({"a": "x12 \\ y"});
        assert_eq!(text(r#"{{regex_search a "\d+"}}"#, v.clone()).unwrap(), json!("12"));
        assert_eq!(text(r#"{{regex_search a '\\d+'}}"#, v.clone()).unwrap(), json!("12"));
        assert_eq!(text(r#"\d {{concat "\n" "\u0041\ux" "}}"}} \w"#, v.clone()).unwrap(), json!("\\d \nA\\ux}} \\w"));
        assert_eq!(text(r#"{{replace a "\\" "/"}}"#, v).unwrap(), json!("x12 / y"));
    }

    #[test]
    fn what_is_empty_can_be_given_a_default() {
        let v = json!({"l": [], "m": {}});
        assert_eq!(text("{{default (first l) 1}}", v.clone()).unwrap(), json!(1));
        assert_eq!(text("{{default m.a.b 1}}", v.clone()).unwrap(), json!(1));
        assert!(message(text("{{first l}}", v.clone())).contains("`first`: the list is empty / give another value"));
        assert!(message(text("x{{upper (first l)}}", v.clone())).contains("`first`: the list is empty"));
        assert!(message(text("{{upper m.a}}", v.clone())).contains("there is no `a`"));
        assert!(message(text("{{join l seperator=1}}", v)).contains("no named argument `seperator`"));
    }

    #[test]
    fn what_is_not_needed_may_be_missing() {
        let v = json!({"a": "x", "m": {}, "no": false, "l": [1]});
        assert_eq!(expr("and (defined b) (eq b 1)", v.clone()), Ok(json!(false)));
        assert_eq!(expr("or (undefined b) (gt b.c 1)", v.clone()), Ok(json!(true)));
        assert_eq!(expr("ternary (defined m.x) m.x 2", v.clone()), Ok(json!(2)));
        assert_eq!(expr("default (lookup m \"x\") 3", v.clone()), Ok(json!(3)));
        assert_eq!(expr("default (lookup l 4) (lookup l 0)", v.clone()), Ok(json!(1)));
        assert_eq!(text("{{#if (and (defined m.x) (eq m.x 1))}}a{{else}}b{{/if}}", v.clone()), Ok(json!("b")));
        // A name that nobody asks whether it is there is a mistake wherever it stands.
        assert!(message(expr("and no (eq aa 1)", v.clone())).contains("undefined variable `aa`"));
        assert!(message(expr("and (defined a) (eq m.x 1)", v.clone())).contains("`m.x`: there is no `x`"));
        assert!(message(expr("lookup m \"x\"", v.clone())).contains("there is no `x` in it"));
        assert!(message(text("{{#if aa}}x{{/if}}", v.clone())).contains("undefined variable `aa`"));
        assert!(message(text("{{#if m.x}}x{{/if}}", v)).contains("there is no `x`"));
    }

    #[test]
    fn fields_of_what_exists_later_are_looked_at() {
        struct Later;
        impl Lookup for Later {
            fn get(&self, name: &str, _: &[String]) -> Found {
                match name {
                    "r" => Found::Unknown("later".into()),
                    "known" => Found::Value(json!({"a": 1})),
                    _ => Found::Undefined,
                }
            }
            fn known(&self) -> Vec<String> {
                vec![]
            }
            fn shape(&self, _: &str) -> crate::template::Shape {
                crate::template::Shape::names(["stdout", "rc"])
            }
        }
        let e = Templates::new();
        let said = |t: &str| message(e.value(&e.compile(t).unwrap(), &Later));
        for fine in ["{{r.stdout}}", "{{r}}", "{{default r.stdot 1}}", "{{#each r.stdout}}{{stdot.x}}{{/each}}"] {
            assert!(said(fine).contains("Unknown"), "{fine}: {}", said(fine));
        }
        for wrong in ["{{r.stdot}}", "{{#if r.rc}}{{r.stdot}}{{/if}}", "{{upper (default known.a r.rc)}} {{r.[stdot]}}"]
        {
            assert!(said(wrong).contains("there is no `stdot` / did you mean `stdout`?"), "{wrong}: {}", said(wrong));
        }
        assert!(said("{{known.b}} {{r.rc}}").contains("`known.b`: there is no `b`"));
    }

    #[test]
    fn unknown_values_are_not_guessed() {
        assert_eq!(text("{{a}}-{{b}}", json!({"a": 1, "b": "<later>"})), Err(Trouble::Unknown("later".into())));
    }

    #[test]
    fn branches_agree_with_conditions() {
        let said =
            |x: Value| text("{{#if x}}yes{{else}}no{{/if}} {{#unless x}}no{{/unless}}", json!({"x": x})).unwrap();
        for no in [json!(false), json!("false"), json!("no"), json!(0), json!(""), json!([]), json!({}), json!(null)] {
            assert_eq!(said(no.clone()), "no no", "{no}");
        }
        for yes in [json!(true), json!("true"), json!("yes"), json!(2), json!("text"), json!([0]), json!({"a": 1})] {
            assert_eq!(said(yes.clone()), "yes ", "{yes}");
        }
        let two = "{{#if a}}a{{else if b}}b{{else}}c{{/if}}";
        assert_eq!(text(two, json!({"a": "off", "b": true})), Ok(json!("b")));
    }

    #[test]
    fn a_variable_may_be_called_like_a_helper() {
        let v = json!({"version": "1.2", "list": [1, 2], "first": {"x": 1}});
        assert_eq!(text("v{{version}}", v.clone()), Ok(json!("v1.2")));
        assert_eq!(text("{{version}}", v.clone()), Ok(json!("1.2")));
        assert_eq!(text("{{list}}", v.clone()), Ok(json!([1, 2])));
        assert_eq!(text("{{#each list}}{{@root.version}} {{/each}}", v.clone()), Ok(json!("1.2 1.2 ")));
        assert_eq!(text("{{first.x}}{{first list}}", v.clone()), Ok(json!("11")));
        assert_eq!(expr("eq version \"1.2\"", v.clone()), Ok(json!(true)));
        assert!(message(text("v{{version}}", json!({}))).contains("undefined variable `version`"));
    }

    #[test]
    fn each_sees_outer_variables() {
        let v = json!({"groups": {"db": ["a", "b"]}, "hostvars": {"a": {"ip": 1}, "b": {"ip": 2}}});
        let t = "{{#each groups.db}}{{this}}={{lookup (lookup @root.hostvars this) 'ip'}} {{/each}}";
        assert_eq!(text(t, v).unwrap(), json!("a=1 b=2 "));
        let c = Templates::new().compile(t).unwrap();
        assert_eq!(c.roots(), ["groups", "hostvars"]);
        assert!(c.words.contains(&"ip".to_string()));
    }
}
