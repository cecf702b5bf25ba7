//! The Jinja engine, for template files that end in `.j2`: minijinja, set as Ansible sets Jinja2. What the engine cannot
//! know (variables, files, lookups) it asks for: with the answer all is rendered again, as the native engine does it.

mod door;
mod scan;
mod values;

pub use values::{float_text, text as python_text};

use super::explain::{lacks, missing_field, missing_in_shape, undefined_variable};
use super::helpers::Ask;
use super::{Found, Lookup, OMIT, Settings, TemplateError, Templates, Trouble, limits, outside};
use crate::source::{Source, Span, nearest};
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use scan::{Scanned, Syntax, at_range, scan};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many steps a template may take, and how much it may write.
const FUEL: u64 = 10_000_000;
const LARGEST: usize = limits::LARGEST;
/// How much of its own text it may write into variables.
const CAPTURED: usize = 1 << 30;
/// How deep templates and macros may lead into each other.
const DEEPEST: usize = 120;
/// How often one template may ask for something.
const MOST_QUESTIONS: usize = 1000;
/// The template's own name; no file can have it.
const MAIN: &str = "//main";

/// Renders Jinja templates.
pub struct Jinja {
    env: Environment<'static>,
}

/// What the engine needs and does not have.
enum Question {
    Name(String),
    File(String),
    Outside(Ask),
}

/// What is known while a template is rendered, and what was asked for.
#[derive(Default)]
struct World {
    /// Variables; none for those that are undefined.
    names: HashMap<String, Option<Value>>,
    /// Files that are taken in, as the engine is given them; none for those that are not there.
    files: HashMap<String, Option<String>>,
    /// Answers to what helpers asked.
    outside: Json,
    questions: Vec<Question>,
    /// Why the last filter that came to nothing did.
    why: Option<String>,
    /// What was written, without what is nothing.
    written: Written,
    /// Whether what stands left of an `in` whose right side is still to come is text.
    items: Vec<bool>,
    /// The left sides of multiplications whose right sides are still to come.
    factors: Vec<door::Factor>,
}

/// The values that a template wrote.
#[derive(Default)]
struct Written {
    count: usize,
    /// One of them was an empty text.
    empty: bool,
    /// The last one was `omit`.
    omitted: bool,
    /// The last one is this text only where it stands in one.
    other: Option<String>,
}

impl Written {
    /// Whether all that came out is a text, and not one value of another kind.
    fn is_text(&self, out: &str) -> bool {
        if out.is_empty() { self.empty } else { self.count != 1 || self.other.as_deref() != Some(out) }
    }
}

impl World {
    fn ask(&mut self, q: Question) {
        self.questions.push(q);
    }
}

thread_local! {
    /// The engine's callbacks must live longer than what they ask: it stands here while a template is rendered.
    static WORLD: RefCell<World> = RefCell::default();
}

fn world<T>(f: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(f)
}

/// All variables, looked up when they are asked for.
#[derive(Debug)]
struct Names;

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        if name == "vars" {
            return Some(Value::from_object(Names));
        }
        world(|w| {
            if let Some(known) = w.names.get(name) {
                return known.clone();
            }
            w.ask(Question::Name(name.to_string()));
            None
        })
    }
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// A file of templates: where it is, what it says.
struct File {
    path: Option<PathBuf>,
    text: String,
    scanned: Scanned,
}

impl Jinja {
    pub fn new() -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_recursion_limit(DEEPEST);
        env.set_fuel(Some(FUEL));
        // So that errors name what is undefined.
        env.set_debug(true);
        env.set_formatter(|out, state, value| {
            if value.is_undefined() {
                return minijinja::escape_formatter(out, state, value);
            }
            let omitted = value.as_str() == Some(OMIT);
            let text = if omitted { String::new() } else { values::shown(value)? };
            if !value.is_none() {
                let is_text = value.as_str().is_some();
                world(|w| {
                    w.written = Written {
                        count: w.written.count + 1,
                        empty: w.written.empty || is_text && !omitted && text.is_empty(),
                        omitted,
                        other: (!is_text).then(|| text.clone()),
                    }
                });
            }
            std::fmt::Write::write_str(out, &text).map_err(Error::from)
        });
        door::register(&mut env);
        Jinja { env }
    }

    /// Renders the text of a template file.
    pub fn render(
        &self,
        templates: &Templates,
        path: &Path,
        text: &str,
        settings: &Settings,
        lookup: &dyn Lookup,
    ) -> Result<String, Trouble> {
        limits::bounded(|| self.rendered(templates, path, text, settings, lookup))
    }

    fn rendered(
        &self,
        templates: &Templates,
        path: &Path,
        text: &str,
        settings: &Settings,
        lookup: &dyn Lookup,
    ) -> Result<String, Trouble> {
        let (syntax, _) = Syntax::of(text, settings).map_err(Trouble::Error)?;
        let begins = [&syntax.block.0, &syntax.variable.0, &syntax.comment.0].into_iter();
        let mut begins = begins.chain(&syntax.line_statement).chain(&syntax.line_comment);
        // What holds no tag is no template: it stays as it is.
        if !text.starts_with(scan::HEADER) && !begins.any(|b| text.contains(b.as_str())) {
            return Ok(text.to_string());
        }
        // Other systems' ends of lines are no part of it, as in Jinja2.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let (syntax, begin) = Syntax::of(&text, settings).map_err(Trouble::Error)?;
        let scanned = scan(&text, syntax, begin).map_err(Trouble::Error)?;
        let mut work =
            Work { templates, lookup, files: HashMap::new(), missing: vec![], words: vec![], world: World::default() };
        work.world.outside = json!({});
        let syntax = scanned.syntax.clone();
        let mut env = self.env.clone();
        env.set_syntax(engine_syntax(&syntax).map_err(Trouble::Error)?);
        work.add(MAIN, File { path: Some(path.to_path_buf()), text, scanned }, &syntax)?;
        env.set_loader(|name: &str| {
            world(|w| match w.files.get(name) {
                Some(text) => Ok(text.clone()),
                None => {
                    w.ask(Question::File(name.to_string()));
                    Ok(None)
                }
            })
        });
        for _ in 0..MOST_QUESTIONS {
            work.world.questions.clear();
            work.world.factors.clear();
            work.world.items.clear();
            work.world.written = Default::default();
            WORLD.replace(std::mem::take(&mut work.world));
            env.set_fuel(Some(work.fuel()));
            let got = evaluate(&env);
            work.world = WORLD.take();
            if work.world.questions.is_empty() {
                let mut out = got.map_err(|e| Trouble::Error(work.explain(&e)))?;
                let written = &work.world.written;
                if out.contains(OMIT) || out.is_empty() && written.count == 1 && written.omitted {
                    return Err(Trouble::Error(super::omitted()));
                }
                // As many newlines at the end as the template has, if it does not end with more.
                let newlines = |s: &str| s.len() - s.trim_end_matches('\n').len();
                let main = work.files.get(MAIN).map_or(0, |f| newlines(&f.text));
                let lacking = if written.is_text(&out) { main.saturating_sub(newlines(&out)) } else { 0 };
                if syntax.newline != "\n" {
                    out = out.replace('\n', &syntax.newline);
                }
                // As the task sets it: what the template's first line says is of what stands in it.
                let newline = settings.iter().rev().find(|(k, _)| k == "newline_sequence");
                out.push_str(&newline.map_or("\n", |(_, v)| v.as_str()).repeat(lacking));
                return Ok(out);
            }
            for q in std::mem::take(&mut work.world.questions) {
                work.answer(q, path, &syntax)?;
            }
            env.clear_templates();
        }
        Err(Trouble::Error(
            TemplateError::new("it asks for too many files and variables from outside")
                .hint("make several templates of it"),
        ))
    }
}

fn evaluate(env: &Environment<'_>) -> Result<String, Error> {
    let mut out = Bounded(vec![]);
    env.get_template(MAIN)?.render_captured_to(Value::from_object(Names), &mut out)?;
    Ok(String::from_utf8_lossy(&out.0).into_owned())
}

/// What is written, as long as it is not too much.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST {
            return Err(io::Error::other("it writes more than 64 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn engine_syntax(s: &Syntax) -> Result<minijinja::syntax::SyntaxConfig, TemplateError> {
    let mut b = minijinja::syntax::SyntaxConfig::builder();
    b.block_delimiters(s.block.0.clone(), s.block.1.clone())
        .variable_delimiters(s.variable.0.clone(), s.variable.1.clone())
        .comment_delimiters(s.comment.0.clone(), s.comment.1.clone())
        .trim_blocks(s.trim_blocks)
        .lstrip_blocks(s.lstrip_blocks)
        // What is taken in loses the newline at its end; the template itself gets it back.
        .keep_trailing_newline(s.keep_trailing_newline);
    if let Some(p) = &s.line_statement {
        b.line_statement_prefix(p.clone());
    }
    if let Some(p) = &s.line_comment {
        b.line_comment_prefix(p.clone());
    }
    b.build().map_err(|_| {
        TemplateError::new("tags cannot be told apart as `#jinja2:` sets them")
            .hint("give variables, blocks and comments different beginnings")
    })
}

/// One template being rendered.
struct Work<'a> {
    templates: &'a Templates,
    lookup: &'a dyn Lookup,
    files: HashMap<String, File>,
    /// Where each name was searched that was not found.
    missing: Vec<(String, Vec<PathBuf>)>,
    words: Vec<String>,
    world: World,
}

impl Work<'_> {
    /// How many steps it may take: what blocks write into variables is not counted, but each of them is so long at most.
    fn fuel(&self) -> u64 {
        let captures = self.files.values().any(|f| f.scanned.captures);
        let longest = self.files.values().map(|f| f.scanned.longest).max().filter(|_| captures).unwrap_or(0);
        FUEL.min((CAPTURED / longest.max(1)) as u64)
    }

    /// Takes a file in, with the files that it takes in by name: what is missing is said before anything is rendered.
    fn add(&mut self, name: &str, file: File, syntax: &Syntax) -> Result<(), Trouble> {
        self.words.extend(file.scanned.words.iter().cloned());
        // What other hosts know is cut down to what is asked for.
        self.world.names.remove("hostvars");
        self.world.files.insert(name.into(), Some(file.scanned.rewritten.clone()));
        let main = self.files.get(MAIN).and_then(|f| f.path.clone()).or_else(|| file.path.clone());
        let includes = file.scanned.includes.clone();
        let roots: HashSet<String> = file.scanned.roots().map(str::to_string).collect();
        self.files.insert(name.into(), file);
        for i in includes {
            if !self.world.files.contains_key(&i.name) {
                self.load(&i.name, main.as_deref().unwrap_or(Path::new("")), syntax)?;
            }
            if !i.optional && matches!(self.world.files.get(&i.name), Some(None)) {
                return Err(Trouble::Error(self.not_there(&i.name, name, i.range)));
            }
            if let (true, Some(asked)) = (i.bare, self.asked_by(&i.name, 0)) {
                let e = TemplateError::new(format!("`{}` asks for `{asked}`, and is not given it", i.name));
                let e = e.hint("write `with context` behind its name: without that it sees no variables");
                let text = self.files.get(name).map_or("", |f| &f.text);
                let path = self.files.get(name).and_then(|f| f.path.as_deref()).filter(|_| name != MAIN);
                return Err(Trouble::Error(placed(at_range(text, e, i.range), path, text)));
            }
        }
        for name in roots {
            if name != "hostvars" && !self.world.names.contains_key(&name) {
                match self.lookup.get(&name, &[]) {
                    Found::Value(v) => drop(self.world.names.insert(name, Some(values::to_engine(&v)))),
                    // Whether it is asked for at all shows later.
                    Found::Undefined | Found::Unknown(_) | Found::Broken(_) => {}
                }
            }
        }
        Ok(())
    }

    /// A variable that a file asks for, or one that it takes in.
    fn asked_by(&self, name: &str, depth: usize) -> Option<String> {
        let file = self.files.get(name).filter(|_| depth < DEEPEST)?;
        let mut globals = self.templates.jinja.env.globals();
        let mut is_global = |name: &str| globals.any(|(n, _)| n == name);
        file.scanned.roots().find(|r| !is_global(r)).map(str::to_string).or_else(|| {
            let inner = file.scanned.includes.iter().filter(|i| !i.bare && i.name != name);
            inner.into_iter().find_map(|i| self.asked_by(&i.name, depth + 1))
        })
    }

    /// Reads a file that a template takes in.
    fn load(&mut self, name: &str, main: &Path, syntax: &Syntax) -> Result<(), Trouble> {
        // As in Jinja2 nothing leads out of the folders of templates.
        let parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        let inside = !parts.is_empty() && !parts.contains(&"..");
        let relative: PathBuf = parts.iter().collect();
        let mut tried: Vec<PathBuf> =
            outside::folders("templates", self.lookup).iter().map(|f| f.join(&relative)).collect();
        tried.extend(main.parent().map(|p| p.join(&relative)));
        let found = tried.iter().find(|p| inside && p.is_file()).cloned();
        let Some(path) = found else {
            self.world.files.insert(name.into(), None);
            self.missing.push((name.into(), tried));
            return Ok(());
        };
        let text = match outside::read(&path) {
            Ok(t) => t.replace("\r\n", "\n").replace('\r', "\n"),
            Err(outside::No::Thing(why)) => return Err(Trouble::Error(TemplateError::new(why))),
            Err(outside::No::Trouble(t)) => return Err(t),
        };
        let scanned = scan(&text, syntax.clone(), 0).map_err(|e| Trouble::Error(placed(e, Some(&path), &text)))?;
        self.add(name, File { path: Some(path), text, scanned }, syntax)
    }

    fn answer(&mut self, q: Question, main: &Path, syntax: &Syntax) -> Result<(), Trouble> {
        match q {
            Question::Name(name) => {
                let words = if name == "hostvars" { &self.words[..] } else { &[] };
                let found = match self.lookup.get(&name, words) {
                    Found::Value(v) => Some(values::to_engine(&v)),
                    Found::Undefined => of_file(&name, main).map(|v| values::to_engine(&v)),
                    Found::Broken(e) => return Err(Trouble::Error(e)),
                    Found::Unknown(why) => {
                        // What is missing whatever the unknown comes to is said now.
                        return Err(match self.certainly_undefined().or_else(|| self.certainly_missing()) {
                            Some(e) => Trouble::Error(e),
                            None => Trouble::Unknown(why),
                        });
                    }
                };
                self.world.names.insert(name, found);
            }
            Question::File(name) => {
                if !self.world.files.contains_key(&name) {
                    self.load(&name, main, syntax)?;
                }
            }
            Question::Outside(ask) => {
                let answer = match outside::answer(&ask, self.templates, self.lookup) {
                    Ok(v) => Json::Array(vec![v]),
                    Err(outside::No::Thing(why)) => Json::String(why),
                    Err(outside::No::Trouble(t)) => return Err(t),
                };
                if let Json::Object(o) = &mut self.world.outside {
                    o.insert(ask.key(), answer);
                }
            }
        }
        Ok(())
    }

    fn certainly_undefined(&self) -> Option<TemplateError> {
        let main = self.files.get(MAIN)?;
        let certain = main.scanned.paths.iter().filter(|p| p.certain && !main.scanned.assigned.contains(&p.root));
        certain.clone().find(|p| self.is_undefined(&p.root)).map(|p| {
            let range = p.range.start..p.range.start + p.root.len();
            at_range(&main.text, undefined_variable(&p.root, self.lookup), range)
        })
    }

    /// A field that is picked in any case and is not there, whatever is still to come.
    fn certainly_missing(&self) -> Option<TemplateError> {
        let main = self.files.get(MAIN)?;
        let keys_of = |p: &scan::Path| -> Vec<String> { p.keys.iter().map_while(Clone::clone).collect() };
        let path_of = |p: &scan::Path| -> Vec<String> { std::iter::once(p.root.clone()).chain(keys_of(p)).collect() };
        let guards: Vec<Vec<String>> = main.scanned.paths.iter().filter(|p| p.lenient).map(path_of).collect();
        main.scanned.paths.iter().filter(|p| p.certain && !main.scanned.assigned.contains(&p.root)).find_map(|p| {
            let (keys, path) = (keys_of(p), path_of(p));
            if keys.is_empty() || guards.iter().any(|g| path.starts_with(g)) || self.lookup.guarded(&path) {
                return None;
            }
            let e = match self.lookup.get(&p.root, &self.words) {
                Found::Value(v) if lacks(&v, &keys) => {
                    missing_field(&path.join("."), &v, keys.iter().map(String::as_str))
                }
                Found::Unknown(_) => missing_in_shape(&path.join("."), self.lookup.shape(&p.root).miss(&keys)?),
                _ => return None,
            };
            Some(at_range(&main.text, e, p.range.clone()))
        })
    }

    fn is_undefined(&self, root: &str) -> bool {
        root != "vars"
            && matches!(self.lookup.get(root, &[]), Found::Undefined)
            && of_file(root, Path::new("x")).is_none()
            && self.templates.jinja.env.globals().all(|(n, _)| n != root)
    }

    fn not_there(&self, name: &str, by: &str, range: std::ops::Range<usize>) -> TemplateError {
        let tried = self.missing.iter().find(|(n, _)| n == name).map(|(_, t)| t.as_slice()).unwrap_or_default();
        let mut e = TemplateError::new(format!("there is no template `{name}`"));
        let here: Vec<String> = tried
            .iter()
            .filter_map(|p| std::fs::read_dir(p.parent()?).ok())
            .flat_map(|d| d.flatten().map(|e| e.file_name().to_string_lossy().into_owned()))
            .collect();
        let mut folders: Vec<String> = tried
            .iter()
            .filter_map(|p| p.parent())
            .map(|p| crate::source::display_path(p).display().to_string())
            .filter(|p| !p.is_empty())
            .collect();
        folders.dedup();
        e = match nearest(name, here.iter().map(String::as_str)) {
            _ if name.split('/').any(|p| p == "..") => {
                e.hint("`..` leads out of the folders of templates; put the file there")
            }
            Some(n) => e.hint(format!("did you mean `{n}`?")),
            None => e.hint(format!("it is searched in {}", folders.join(", "))),
        };
        match self.files.get(by) {
            Some(f) => placed(at_range(&f.text, e, range), f.path.as_deref().filter(|_| by != MAIN), &f.text),
            None => e,
        }
    }

    /// What the engine says, with the place and what to do.
    fn explain(&self, e: &Error) -> TemplateError {
        // The innermost is what happened; those around it say on which way.
        let mut e = e;
        while let Some(inner) = std::error::Error::source(e).and_then(|s| s.downcast_ref::<Error>()) {
            e = inner;
        }
        let name = e.name().unwrap_or(MAIN);
        let Some(file) = self.files.get(name) else { return TemplateError::new(e.to_string()) };
        let range = match (e.range(), e.line()) {
            (Some(r), _) => file.scanned.original(r.start)..file.scanned.original(r.end),
            (None, Some(line)) => {
                let header = file.text.lines().next().is_some_and(|l| l.starts_with("#jinja2:") && name == MAIN);
                let skip = line - 1 + usize::from(header);
                let at: usize = file.text.split_inclusive('\n').take(skip).map(str::len).sum();
                at..at + file.text[at.min(file.text.len())..].find('\n').unwrap_or(0)
            }
            _ => 0..0,
        };
        let end = range.end.min(file.text.len());
        let range = trimmed(&file.text, range.start.min(end)..end);
        let (t, range) = self.say(e, file, range);
        placed(at_range(&file.text, t, range), file.path.as_deref().filter(|_| name != MAIN), &file.text)
    }

    fn say(&self, e: &Error, file: &File, range: std::ops::Range<usize>) -> (TemplateError, std::ops::Range<usize>) {
        const LOOK: &str = "look at the values it is given: they are of another kind";
        let detail = e.detail().unwrap_or_default();
        match e.kind() {
            ErrorKind::UndefinedError => self.undefined(detail, file, range),
            ErrorKind::TemplateNotFound => {
                let name = detail.split(['"', '\'']).nth(1).unwrap_or_default();
                let t = TemplateError::new(format!("there is no template `{name}`"));
                (t.hint("look at the name it is given: the file is searched in the role's templates/"), range)
            }
            ErrorKind::SyntaxError => {
                let mut t = TemplateError::new(format!("the template's syntax is wrong: {detail}"));
                let line = &file.text[file.text[..range.start].rfind('\n').map_or(0, |i| i + 1)..];
                let line = line.split('\n').next().unwrap_or_default();
                t.hint = Some(
                    if line.contains("&&") || line.contains("||") {
                        "write `and` and `or`"
                    } else if line.contains("{{#") || line.contains("{{/") {
                        "that is Handlebars; in a `.j2` file it is `{% if x %}…{% endif %}`"
                    } else {
                        "look at its operators, brackets and quotes"
                    }
                    .into(),
                );
                (t, range)
            }
            ErrorKind::UnknownFunction => {
                let name = detail.split_whitespace().next().unwrap_or_default();
                let known = self.templates.jinja.env.globals().map(|(n, _)| n.to_string());
                let known: Vec<String> =
                    known.filter(|n| !n.starts_with('_')).chain(file.scanned.assigned.iter().cloned()).collect();
                let t = TemplateError::new(format!("unknown function `{name}`"));
                let t = match nearest(name, known.iter().map(String::as_str)) {
                    Some(n) => t.hint(format!("did you mean `{n}`?")),
                    None => t.hint(
                        "a macro is defined before it is called; for what Ansible calls a filter write `x | name`",
                    ),
                };
                (t, range)
            }
            ErrorKind::OutOfFuel => {
                (TemplateError::new("the template takes too many steps").hint("a loop in it goes over too much"), range)
            }
            ErrorKind::WriteFailure => {
                (TemplateError::new("the template writes more than 64 MiB").hint("make several templates of it"), range)
            }
            _ if limits::is_said(detail) => (TemplateError::new(detail.to_string()).hint(limits::LESS), range),
            _ if detail.contains("recursion limit") => (
                TemplateError::new("the template leads to itself").hint("a template or a macro cannot hold itself"),
                range,
            ),
            _ => {
                let said = if detail.is_empty() { e.kind().to_string() } else { detail.to_string() };
                // What is to be done may stand in the message itself.
                let hinted = [": did you mean", ": it takes", ": it knows", "; "]
                    .iter()
                    .find_map(|s| said.find(s).map(|i| (said[..i].to_string(), said[i + 2..].to_string())));
                let (message, hint) = match hinted {
                    Some(both) if said.contains('`') => both,
                    _ if said.contains("not a regular expression") => {
                        (said, "close what is open, and put `\\` before a sign that stands for itself".into())
                    }
                    _ => (said, LOOK.into()),
                };
                (TemplateError::new(message).hint(hint), range)
            }
        }
    }

    /// Which name, or which part of a path, has no value.
    fn undefined(
        &self,
        detail: &str,
        file: &File,
        range: std::ops::Range<usize>,
    ) -> (TemplateError, std::ops::Range<usize>) {
        let said = detail.split('`').nth(1).filter(|_| detail.contains("is undefined"));
        let paths: Vec<&scan::Path> = file.scanned.paths.iter().filter(|p| !p.lenient).collect();
        // What stands where it happened comes first, what was given a value of it after that.
        let near = |p: &&&scan::Path| p.range.start < range.end.max(range.start + 1) && p.range.end > range.start;
        let candidates: Vec<&&scan::Path> =
            paths.iter().filter(near).chain(paths.iter().filter(|p| !near(p))).collect();
        for p in &candidates {
            let text = &file.text[p.range.clone()];
            if said.is_some_and(|s| !(text == s || text.starts_with(s) || s.starts_with(p.root.as_str()))) {
                continue;
            }
            let local = file.scanned.assigned.contains(&p.root);
            if !local && self.is_undefined(&p.root) {
                return (undefined_variable(&p.root, self.lookup), p.range.start..p.range.start + p.root.len());
            }
            if local {
                if p.keys.is_empty() || said.is_none() {
                    continue;
                }
                let t = TemplateError::new(format!("`{}` has no value", said.unwrap_or(text)));
                let t = match p.root.as_str() {
                    "loop" => t.hint(
                        "`loop` has index, index0, first, last, length, revindex, previtem, nextitem, cycle, depth",
                    ),
                    _ => t.hint("give another value for that case: `| default(…)`"),
                };
                return (t, p.range.clone());
            }
            let value = match self.lookup.get(&p.root, if p.root == "hostvars" { &self.words } else { &[] }) {
                Found::Value(v) => v,
                _ => continue,
            };
            let known: Vec<&str> = p.keys.iter().map_while(|k| k.as_deref()).collect();
            let leads = known.iter().try_fold(&value, |v, k| match v {
                Json::Array(a) => k.parse::<usize>().ok().and_then(|i| a.get(i)),
                v => v.get(k),
            });
            if leads.is_none() {
                let path = std::iter::once(p.root.as_str()).chain(known.iter().copied()).collect::<Vec<_>>().join(".");
                return (missing_field(&path, &value, known.into_iter()), p.range.clone());
            }
        }
        let t = match (&self.world.why, said) {
            (_, Some(s)) if !s.starts_with("__") => TemplateError::new(format!("`{s}` has no value")),
            (Some(why), _) => TemplateError::new(why.clone()),
            _ => TemplateError::new("an expression in it has no value"),
        };
        (t.hint("give another value for that case: `| default(…)`, or `else` after an `if`"), range)
    }
}

/// Without white space and the signs of a tag around it.
fn trimmed(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    if !text.is_char_boundary(range.start) || !text.is_char_boundary(range.end) {
        return 0..0;
    }
    let part = &text[range.clone()];
    let lead = part.len() - part.trim_start_matches(|c: char| c.is_whitespace() || "{%".contains(c)).len();
    let bare = part[lead..].trim_end_matches(|c: char| c.is_whitespace() || "%}".contains(c)).len();
    if bare == 0 { range } else { range.start + lead..range.start + lead + bare }
}

/// The error with its place in a file that is not the template itself.
fn placed(mut e: TemplateError, path: Option<&Path>, text: &str) -> TemplateError {
    if let (Some(path), Some((l, c)), None) = (path, e.at, &e.span) {
        let source = Source::new(crate::source::display_path(path), text);
        let at = source.offset(l, c);
        e.span = Some(Span::new(&source, at..(at + e.len.unwrap_or(1)).min(text.len())));
    }
    e
}

/// What Ansible gives every template to know of itself.
fn of_file(name: &str, path: &Path) -> Option<Json> {
    Some(match name {
        "ansible_managed" => json!("Ansible managed"),
        "template_path" | "template_fullpath" => json!(path.display().to_string()),
        "template_host" => json!(rustix::system::uname().nodename().to_string_lossy()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
