//! What a Jinja template says before it is rendered: its tags, what they ask for, what is wrong with them whatever the
//! values are. It also says a few things in the way the engine understands.

use super::door;
use crate::source::nearest;
use crate::template::{EVERY_NAME, Settings, TemplateError, place_of};
use std::collections::HashSet;
use std::ops::Range;

/// How tags are written, and what happens to the white space around them.
#[derive(Debug, Clone, PartialEq)]
pub struct Syntax {
    pub block: (String, String),
    pub variable: (String, String),
    pub comment: (String, String),
    pub line_statement: Option<String>,
    pub line_comment: Option<String>,
    pub trim_blocks: bool,
    pub lstrip_blocks: bool,
    pub keep_trailing_newline: bool,
    pub newline: String,
}

impl Default for Syntax {
    /// As Ansible sets them.
    fn default() -> Self {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        Syntax {
            block: pair("{%", "%}"),
            variable: pair("{{", "}}"),
            comment: pair("{#", "#}"),
            line_statement: None,
            line_comment: None,
            trim_blocks: true,
            lstrip_blocks: false,
            keep_trailing_newline: false,
            newline: "\n".into(),
        }
    }
}

pub const HEADER: &str = "#jinja2:";

impl Syntax {
    /// What a template's first line `#jinja2: trim_blocks: False, …` sets, and how long that line is. What the task sets
    /// comes before it.
    pub fn of(text: &str, settings: &Settings) -> Result<(Syntax, usize), TemplateError> {
        let mut syntax = Syntax::default();
        for (key, value) in settings {
            syntax.set(key, value).map_err(|(message, hint)| TemplateError::new(message).hint(hint))?;
        }
        let Some(rest) = text.strip_prefix(HEADER) else { return Ok((syntax, 0)) };
        let wrong = |(message, hint): (String, String), at: usize, len: usize| {
            let mut e = TemplateError::new(message).hint(hint);
            e.at = Some(place_of(text, at));
            e.len = Some(len);
            e
        };
        let Some(line) = rest.split_once('\n').map(|(l, _)| l) else {
            let said = (format!("nothing follows the line `{HEADER}`"), "the template begins on the next line".into());
            return Err(wrong(said, 0, HEADER.len()));
        };
        let mut at = HEADER.len();
        for pair in line.split(',') {
            let (begin, len) = (at + pair.len() - pair.trim_start().len(), pair.trim().len().max(1));
            at += pair.len() + 1;
            let set = match pair.split_once(':') {
                Some((key, value)) => literal(key.trim(), value.trim()).and_then(|v| syntax.set(key.trim(), &v)),
                None => Err((
                    format!("`{}` is no setting", pair.trim()),
                    "write `name: value`, with commas between: trim_blocks: False, lstrip_blocks: True".into(),
                )),
            };
            set.map_err(|said| wrong(said, begin, len))?;
        }
        Ok((syntax, HEADER.len() + line.len() + 1))
    }

    /// Sets one thing; what is wrong with it, and what to do.
    fn set(&mut self, key: &str, value: &str) -> Result<(), (String, String)> {
        let field = match key {
            "block_start_string" => &mut self.block.0,
            "block_end_string" => &mut self.block.1,
            "variable_start_string" => &mut self.variable.0,
            "variable_end_string" => &mut self.variable.1,
            "comment_start_string" => &mut self.comment.0,
            "comment_end_string" => &mut self.comment.1,
            "newline_sequence" => &mut self.newline,
            "trim_blocks" | "lstrip_blocks" | "keep_trailing_newline" => {
                let on = match value {
                    "True" => true,
                    "False" => false,
                    _ => {
                        return Err((
                            format!("`{key}` is True or False, not `{value}`"),
                            format!("write `{key}: True`"),
                        ));
                    }
                };
                match key {
                    "trim_blocks" => self.trim_blocks = on,
                    "lstrip_blocks" => self.lstrip_blocks = on,
                    _ => self.keep_trailing_newline = on,
                }
                return Ok(());
            }
            "line_statement_prefix" | "line_comment_prefix" if value == "None" => return Ok(()),
            "line_statement_prefix" => self.line_statement.insert(String::new()),
            "line_comment_prefix" => {
                return Err((
                    "`line_comment_prefix` is not known here".into(),
                    "write such comments as `{# … #}`".into(),
                ));
            }
            _ => {
                let hint = match nearest(key, SETTINGS) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None => format!("it knows {}", SETTINGS.join(", ")),
                };
                return Err((format!("unknown setting `{key}`"), hint));
            }
        };
        if value.is_empty() {
            return Err((format!("`{key}` is empty"), format!("write `{key}: '…'`")));
        }
        *field = value.to_string();
        Ok(())
    }
}

const SETTINGS: [&str; 12] = [
    "block_start_string",
    "block_end_string",
    "variable_start_string",
    "variable_end_string",
    "comment_start_string",
    "comment_end_string",
    "line_statement_prefix",
    "line_comment_prefix",
    "trim_blocks",
    "lstrip_blocks",
    "newline_sequence",
    "keep_trailing_newline",
];

/// What a literal of Python says: text in quotes, True, False, None.
fn literal(key: &str, value: &str) -> Result<String, (String, String)> {
    match unquoted(value) {
        Some(text) => Ok(text),
        None if ["True", "False", "None"].contains(&value) || !SETTINGS.contains(&key) => Ok(value.to_string()),
        None if key.ends_with("blocks") || key.starts_with("keep") => Ok(value.to_string()),
        None => Err((format!("`{key}` is text in quotes, not `{value}`"), format!("write `{key}: '…'`"))),
    }
}

/// The text that stands in quotes.
fn unquoted(s: &str) -> Option<String> {
    let q = s.chars().next().filter(|c| "'\"".contains(*c))?;
    let inner = s.strip_prefix(q)?.strip_suffix(q).filter(|i| !i.contains(q))?;
    Some(inner.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t").replace("\\\\", "\\"))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Name,
    Text,
    Number,
    Sign,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

struct Tag {
    /// `{% … %}`, not `{{ … }}`.
    block: bool,
    start: usize,
    end: usize,
    tokens: Vec<Token>,
}

/// A name with what is picked out of it: `a.b['c']`.
#[derive(Debug, Clone)]
pub struct Path {
    pub root: String,
    /// The keys; none where one is known only later.
    pub keys: Vec<Option<String>>,
    pub range: Range<usize>,
    /// It is asked for in any case, and must have a value.
    pub certain: bool,
    /// It may be undefined: `default`, `is defined`.
    pub lenient: bool,
}

/// A file that the template takes in.
#[derive(Debug, Clone)]
pub struct Include {
    pub name: String,
    pub range: Range<usize>,
    pub optional: bool,
    /// It is not given the variables of who takes it in.
    pub bare: bool,
}

/// A template, looked through.
#[derive(Debug)]
pub struct Scanned {
    pub syntax: Syntax,
    /// What the engine is given.
    pub rewritten: String,
    /// Where what was said otherwise begins, and what its distance to the original is from there on.
    moved: Vec<(usize, isize)>,
    pub paths: Vec<Path>,
    pub includes: Vec<Include>,
    /// Names that the template itself gives a value.
    pub assigned: HashSet<String>,
    /// Every name and text literal in it.
    pub words: Vec<String>,
    /// Some block's text becomes a value.
    pub captures: bool,
    /// The longest text between two tags.
    pub longest: usize,
}

impl Scanned {
    /// The place in the template's text of one in what the engine was given.
    pub fn original(&self, at: usize) -> usize {
        let shift = self.moved.iter().take_while(|(from, _)| *from <= at).last().map_or(0, |(_, d)| *d);
        at.saturating_add_signed(shift)
    }
    /// The variables it asks for.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|p| p.root.as_str()).filter(|r| !self.assigned.contains(*r))
    }
}

/// How deep blocks and brackets may stand in each other, and how many `elif` one `if` may have: the engine goes as deep.
const DEEPEST: usize = 100;

fn too_deep(text: &str, range: Range<usize>) -> TemplateError {
    let e = TemplateError::new(format!("it goes more than {DEEPEST} deep"));
    at_range(
        text,
        e.hint("is a bracket or a block there too often? A variable or a macro can take a part of it"),
        range,
    )
}

/// Looks a template through whose tags begin at a byte of its text.
pub fn scan(text: &str, syntax: Syntax, begin: usize) -> Result<Scanned, TemplateError> {
    // Statements that are lines are not looked through.
    if syntax.line_statement.is_some()
        && let Some((at, elif)) = text.match_indices("elif").nth(DEEPEST)
    {
        return Err(too_deep(text, at..at + elif.len()));
    }
    let tags = if syntax.line_statement.is_some() { vec![] } else { tags(text, begin, &syntax)? };
    let mut s = Scan {
        text,
        edits: vec![],
        wraps: vec![],
        paths: vec![],
        includes: vec![],
        assigned: ["loop", "caller", "self", "super", "varargs", "kwargs"].map(str::to_string).into(),
        words: vec![],
        open: vec![],
        elifs: vec![],
        syntax_trims: syntax.trim_blocks,
        mutates: tags.iter().any(|t| changes_in_place(text, t)),
        captures: false,
    };
    for tag in &tags {
        s.tag(tag)?;
    }
    if let Some((name, at)) = s.open.pop() {
        return Err(at_range(
            text,
            TemplateError::new(format!("`{{% {name} %}}` is not closed"))
                .hint(format!("close it with `{{% end{name} %}}`")),
            at,
        ));
    }
    let captures = s.captures || syntax.line_statement.is_some();
    let ends = tags.iter().map(|t| t.start).chain([text.len()]);
    let longest = std::iter::once(begin).chain(tags.iter().map(|t| t.end)).zip(ends).map(|(from, to)| to - from).max();
    let edits = nested(begin, s.wraps, s.edits);
    let (rewritten, moved) = apply(text, edits);
    Ok(Scanned {
        syntax,
        rewritten,
        moved,
        paths: s.paths,
        includes: s.includes,
        assigned: s.assigned,
        words: s.words,
        captures,
        longest: longest.unwrap_or(0),
    })
}

/// Calls around parts of the text, the wider ones outside, with all other edits.
fn nested(begin: usize, mut wraps: Vec<Wrap>, edits: Vec<Edit>) -> Vec<Edit> {
    wraps.sort_by_key(|w| (w.start, std::cmp::Reverse(w.end)));
    let opened = wraps.iter().map(|w| (w.start, 0, w.open.clone()));
    let closed = wraps.iter().map(|w| (w.end, 0, w.close.to_string()));
    let mut all: Vec<Edit> = std::iter::once((0, begin, String::new())).chain(opened).chain(closed).collect();
    all.extend(edits);
    // What is put in at a place stands before what is put in place of what is there.
    all.sort_by_key(|e| (e.0, e.1 > 0));
    all
}

/// The text with edits in their order, and by how much what follows each is off.
fn apply(text: &str, edits: Vec<Edit>) -> (String, Vec<(usize, isize)>) {
    let (mut out, mut moved, mut at) = (String::with_capacity(text.len() + 64), vec![], 0);
    for (from, gone, new) in edits {
        if from < at {
            continue;
        }
        out.push_str(&text[at..from]);
        // What was put in stands where it was put.
        moved.push((out.len(), from as isize - out.len() as isize));
        out.push_str(&new);
        at = from + gone;
        moved.push((out.len(), at as isize - out.len() as isize));
    }
    out.push_str(&text[at..]);
    (out, moved)
}

pub fn at_range(text: &str, mut e: TemplateError, range: Range<usize>) -> TemplateError {
    e.at = Some(place_of(text, range.start));
    // No further than the line goes.
    let line = text[range.start..].find('\n').unwrap_or(text.len() - range.start);
    e.len = Some((range.end - range.start).min(line).max(1));
    e
}

fn tags(text: &str, begin: usize, syntax: &Syntax) -> Result<Vec<Tag>, TemplateError> {
    let mut out: Vec<Tag> = vec![];
    let mut at = begin;
    let starts = [&syntax.comment.0, &syntax.block.0, &syntax.variable.0];
    // Where each kind of tag begins next: what has none is not searched again.
    let mut next_of = [Some(begin); 3];
    let mut searched = [false; 3];
    loop {
        for (i, s) in starts.iter().enumerate() {
            if next_of[i].is_some_and(|n| n < at || !searched[i]) {
                next_of[i] = text[at..].find(s.as_str()).map(|p| at + p);
                searched[i] = true;
            }
        }
        let next = (0..3).filter_map(|i| next_of[i].map(|n| (n, std::cmp::Reverse(starts[i].len()), i))).min();
        let Some((start, _, which)) = next else { return Ok(out) };
        let unclosed = |close: &str| {
            at_range(
                text,
                TemplateError::new(format!("`{}` is not closed", starts[which]))
                    .hint(format!("close it with `{close}`")),
                start..text.len(),
            )
        };
        at = start + starts[which].len();
        if which == 0 {
            let end = text[at..].find(&syntax.comment.1).ok_or_else(|| unclosed(&syntax.comment.1))?;
            at += end + syntax.comment.1.len();
            continue;
        }
        let close = if which == 1 { &syntax.block.1 } else { &syntax.variable.1 };
        let (tokens, end) = tokens(text, at, close)?;
        let end = end.ok_or_else(|| open_bracket(text, &tokens, close).unwrap_or_else(|| unclosed(close)))?;
        at = end;
        let tag = Tag { block: which == 1, start, end, tokens };
        let first = tag.tokens.iter().find(|t| t.kind == Kind::Name).map(|t| &text[t.start..t.end]);
        let raw = tag.block && first == Some("raw");
        out.push(tag);
        if raw {
            // As it stands, up to its end.
            let Some(end) = end_of_raw(&text[at..], syntax) else {
                return Err(at_range(
                    text,
                    TemplateError::new(format!("`{} raw {}` is not closed", syntax.block.0, syntax.block.1))
                        .hint(format!("close it with `{} endraw {}`", syntax.block.0, syntax.block.1)),
                    start..at,
                ));
            };
            at += end;
        }
    }
}

/// The bracket that keeps a tag from ending, if there is one.
fn open_bracket(text: &str, tokens: &[Token], close: &str) -> Option<TemplateError> {
    let mut open: Vec<&Token> = vec![];
    for t in tokens.iter().filter(|t| t.kind == Kind::Sign) {
        // As far as the tag was meant to go.
        if text[t.start..].starts_with(close) {
            break;
        }
        match &text[t.start..t.end] {
            "(" | "[" | "{" => open.push(t),
            ")" | "]" | "}" => drop(open.pop()),
            _ => {}
        }
    }
    let t = open.first()?;
    let (sign, end) = match &text[t.start..t.end] {
        "(" => ("(", ")"),
        "[" => ("[", "]"),
        _ => ("{", "}"),
    };
    let e = TemplateError::new(format!("a `{sign}` is not closed")).hint(format!("close it with `{end}`"));
    Some(at_range(text, e, t.start..t.end))
}

/// Where the tag that ends a raw block begins.
fn end_of_raw(text: &str, syntax: &Syntax) -> Option<usize> {
    let mut at = 0;
    while let Some(i) = text[at..].find(&syntax.block.0) {
        let inner = text[at + i + syntax.block.0.len()..].trim_start_matches(['-', '+']).trim_start();
        if let Some(rest) = inner.strip_prefix("endraw")
            && rest.trim_start().trim_start_matches(['-', '+']).starts_with(&syntax.block.1)
        {
            return Some(at + i);
        }
        at += i + syntax.block.0.len();
    }
    None
}

/// The tokens of a tag, and where it ends if it does.
fn tokens(text: &str, begin: usize, close: &str) -> Result<(Vec<Token>, Option<usize>), TemplateError> {
    let mut out = vec![];
    let mut depth = 0usize;
    let mut at = begin;
    while let Some(c) = text[at..].chars().next() {
        if depth == 0 && text[at..].starts_with(close) {
            return Ok((out, Some(at + close.len())));
        }
        let start = at;
        at += c.len_utf8();
        let more = |at: usize, is: fn(char) -> bool| text[at..].find(|c: char| !is(c)).map_or(text.len(), |n| at + n);
        let kind = match c {
            c if c.is_whitespace() => continue,
            '"' | '\'' => {
                let mut escaped = false;
                let end = text[at..].char_indices().find(|(_, x)| {
                    let ends = *x == c && !escaped;
                    escaped = *x == '\\' && !escaped;
                    ends
                });
                match end {
                    Some((i, _)) => at += i + 1,
                    None => {
                        return Err(at_range(
                            text,
                            TemplateError::new("the text in quotes is not closed").hint(format!("close it with `{c}`")),
                            start..text.len(),
                        ));
                    }
                }
                Kind::Text
            }
            c if c.is_alphabetic() || c == '_' => {
                at = more(at, |c| c.is_alphanumeric() || c == '_');
                Kind::Name
            }
            c if c.is_ascii_digit() => {
                at = more(at, |c| c.is_ascii_alphanumeric() || c == '_');
                let point = text[at..].strip_prefix('.').is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
                // `a.0.b` is no number with a point.
                let after_dot = out.last().is_some_and(|t: &Token| &text[t.start..t.end] == ".");
                if point && !after_dot {
                    at = more(at + 1, |c| c.is_ascii_alphanumeric() || c == '_');
                }
                Kind::Number
            }
            '(' | '[' | '{' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(too_deep(text, start..at));
                }
                Kind::Sign
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                Kind::Sign
            }
            _ => {
                if ["==", "!=", "<=", ">=", "//", "**"].iter().any(|s| text[start..].starts_with(s)) {
                    at += 1;
                }
                Kind::Sign
            }
        };
        out.push(Token { kind, start, end: at });
    }
    Ok((out, None))
}

/// Methods that change a list or a mapping where it is.
const IN_PLACE: [&str; 9] = ["append", "extend", "update", "insert", "pop", "remove", "setdefault", "clear", "popitem"];

fn changes_in_place(text: &str, tag: &Tag) -> bool {
    tag.tokens.windows(3).any(|w| {
        let is = |i: usize, s: &str| &text[w[i].start..w[i].end] == s;
        is(0, ".") && is(2, "(") && IN_PLACE.contains(&&text[w[1].start..w[1].end])
    })
}

const KEYWORDS: [&str; 14] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None", "recursive"];

/// Tags that have an end, then those that have none.
const OPENING: [&str; 9] = ["if", "for", "macro", "block", "call", "filter", "with", "autoescape", "raw"];
const SINGLE: [&str; 6] = ["include", "import", "from", "extends", "do", "set"];

/// Where, how many bytes go, what comes.
type Edit = (usize, usize, String);

/// A call around a part of the text.
struct Wrap {
    start: usize,
    end: usize,
    open: String,
    close: &'static str,
}

struct Scan<'t> {
    text: &'t str,
    edits: Vec<Edit>,
    wraps: Vec<Wrap>,
    paths: Vec<Path>,
    includes: Vec<Include>,
    assigned: HashSet<String>,
    words: Vec<String>,
    /// Blocks that are open, with the place of their tags.
    open: Vec<(String, Range<usize>)>,
    /// For each `elif` in one of them how many were open there: it is a block in a block that has no end of its own.
    elifs: Vec<usize>,
    /// Some list or mapping is changed in place.
    mutates: bool,
    syntax_trims: bool,
    captures: bool,
}

impl<'t> Scan<'t> {
    fn of(&self, t: &Token) -> &'t str {
        &self.text[t.start..t.end]
    }
    fn is(&self, tokens: &[Token], i: usize, s: &str) -> bool {
        tokens.get(i).is_some_and(|t| t.kind != Kind::Text && self.of(t) == s)
    }
    fn is_name(&self, tokens: &[Token], i: usize) -> bool {
        tokens.get(i).is_some_and(|t| t.kind == Kind::Name)
    }
    fn wrong<T>(&self, message: String, hint: String, range: Range<usize>) -> Result<T, TemplateError> {
        Err(at_range(self.text, TemplateError::new(message).hint(hint), range))
    }

    fn tag(&mut self, tag: &Tag) -> Result<(), TemplateError> {
        // The sign that takes white space away.
        let mut tokens = &tag.tokens[..];
        if (self.is(tokens, 0, "-") || self.is(tokens, 0, "+"))
            && (tag.block || self.text[tag.start..].starts_with("{{-"))
        {
            tokens = &tokens[1..];
        }
        if tag.block
            && (self.is(tokens, tokens.len().wrapping_sub(1), "-")
                || self.is(tokens, tokens.len().wrapping_sub(1), "+"))
        {
            tokens = &tokens[..tokens.len() - 1];
        }
        if tokens.is_empty() {
            let shown = &self.text[tag.start..tag.end];
            return self.wrong(
                format!("`{}` is empty", shown.trim()),
                "write a variable in it; for braces as they are, `{{ '{{' }}` or a raw block".into(),
                tag.start..tag.end,
            );
        }
        let top = self.open.is_empty();
        if tag.block {
            self.statement(tag, tokens)?;
            self.elifs.retain(|of| *of <= self.open.len());
            if self.open.len() + self.elifs.len() > DEEPEST {
                return Err(too_deep(self.text, tag.start..tag.end));
            }
        }
        self.names(tokens)?;
        self.expressions(tag, tokens, top && !tag.block);
        Ok(())
    }

    /// What a tag opens, closes, takes in and gives a value.
    fn statement(&mut self, tag: &Tag, tokens: &[Token]) -> Result<(), TemplateError> {
        let name = self.of(&tokens[0]);
        let range = tag.start..tag.end;
        let top = self.open.last().map(|(n, _)| n.as_str());
        match name {
            "elif" | "else" => {
                if !(top == Some("if") || name == "else" && top == Some("for")) {
                    return self.wrong(
                        format!("`{{% {name} %}}` outside a block"),
                        "it goes between `{% if x %}` and `{% endif %}`".into(),
                        range,
                    );
                }
                if name == "elif" {
                    self.elifs.push(self.open.len());
                }
            }
            _ if name.starts_with("end") && (OPENING.contains(&&name[3..]) || name == "endset") => {
                match self.open.pop() {
                    Some((open, _)) if open == name[3..] => {}
                    Some((open, at)) => {
                        let line = place_of(self.text, at.start).0;
                        return self.wrong(
                            format!("`{{% {open} %}}` of line {line} is closed by `{{% {name} %}}`"),
                            format!("close it with `{{% end{open} %}}`"),
                            range,
                        );
                    }
                    None => {
                        return self.wrong(
                            format!("`{{% {name} %}}` closes nothing"),
                            format!("open it with `{{% {} … %}}`, or take it out", &name[3..]),
                            range,
                        );
                    }
                }
            }
            "raw" => {
                // The newline behind it stays in Jinja2, and goes in the engine.
                let stays = self.syntax_trims && !self.text[..tag.end].trim_end_matches(['%', '}']).ends_with('-');
                if stays && self.text[tag.end..].starts_with('\n') {
                    self.edits.push((tag.end, 0, "\n".into()));
                }
                self.open.push((name.into(), range));
            }
            _ if OPENING.contains(&name) => self.open.push((name.into(), range)),
            "set" => {
                let mut depth = 0;
                let assigns = tokens.iter().any(|t| {
                    match self.of(t) {
                        "(" | "[" | "{" => depth += 1,
                        ")" | "]" | "}" => depth -= 1,
                        _ => {}
                    }
                    depth == 0 && t.kind == Kind::Sign && self.of(t) == "="
                });
                self.captures |= !assigns;
                if !assigns {
                    self.open.push((name.into(), range));
                }
            }
            _ if SINGLE.contains(&name) => {}
            _ => {
                let ends = ["endif", "endfor", "endmacro", "endblock", "endraw", "elif", "else"];
                let hint = match nearest(name, OPENING.into_iter().chain(SINGLE).chain(ends)) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None => {
                        "it knows if, for, set, macro, call, block, filter, with, raw, include, import, from, extends"
                            .into()
                    }
                };
                let at = tokens[0].start..tokens[0].end;
                return self.wrong(format!("unknown tag `{name}`"), hint, at);
            }
        }
        self.captures |= ["macro", "call", "filter", "block"].contains(&name);
        let names = |this: &mut Self, range: Range<usize>| {
            for t in tokens.get(range).into_iter().flatten().filter(|t| t.kind == Kind::Name) {
                let name = this.of(t).to_string();
                this.assigned.insert(name);
            }
        };
        let find = |this: &Self, s: &str| (0..tokens.len()).find(|i| this.is(tokens, *i, s)).unwrap_or(tokens.len());
        match name {
            "for" => names(self, 1..find(self, "in")),
            "set" if !self.is(tokens, 2, ".") => names(self, 1..find(self, "=").min(find(self, "|"))),
            "macro" => {
                names(self, 1..2);
                for i in 2..tokens.len() {
                    if self.is(tokens, i - 1, "(") || self.is(tokens, i - 1, ",") {
                        names(self, i..i + 1);
                    }
                }
            }
            "call" if self.is(tokens, 1, "(") => names(self, 2..find(self, ")")),
            "import" => names(self, find(self, "as")..tokens.len()),
            "from" => names(self, find(self, "import")..tokens.len()),
            "with" => {
                for i in 1..tokens.len() {
                    if self.is(tokens, i + 1, "=") {
                        names(self, i..i + 1);
                    }
                }
            }
            _ => {}
        }
        // Behind `import` they are not given unless that is said, behind `include` they are.
        let context = tokens.last().is_some_and(|t| self.of(t) == "context" && t.kind == Kind::Name);
        let said = |this: &Self, word: &str| context && this.is(tokens, tokens.len().wrapping_sub(2), word);
        let bare = match name {
            "import" | "from" => !said(self, "with"),
            "include" => said(self, "without"),
            _ => false,
        };
        let by_name = tokens.get(1).is_some_and(|t| t.kind == Kind::Text)
            && tokens.get(2).is_none_or(|t| t.kind == Kind::Name && self.of(t) != "if");
        if bare && !by_name {
            return self.wrong(
                "what is taken in without the variables is named here by an expression".into(),
                "write the file's name itself, or `with context`".into(),
                tag.start..tag.end,
            );
        }
        if matches!(name, "include" | "import" | "from" | "extends")
            && let Some(t) = tokens.get(1).filter(|t| t.kind == Kind::Text)
            && tokens.get(2).is_none_or(|t| t.kind == Kind::Name && self.of(t) != "if")
        {
            let optional = find(self, "missing") < tokens.len();
            let name = self.of(t).trim_matches(['"', '\'']).to_string();
            self.includes.push(Include { name, range: t.start..t.end, optional, bare });
        }
        Ok(())
    }

    /// Filters and tests: whether they exist; what stands before the last point of a name is taken away.
    fn names(&mut self, tokens: &[Token]) -> Result<(), TemplateError> {
        for i in 0..tokens.len() {
            let (filter, mut at) =
                if self.is(tokens, i, "|") || i == 0 && self.is(tokens, 0, "filter") && self.is_name(tokens, 1) {
                    (true, i + 1)
                } else if self.is(tokens, i, "is") && i > 0 && !self.is(tokens, i - 1, ".") {
                    (false, if self.is(tokens, i + 1, "not") { i + 2 } else { i + 1 })
                } else {
                    continue;
                };
            if !self.is_name(tokens, at) {
                continue;
            }
            let begin = tokens[at].start;
            while self.is(tokens, at + 1, ".") && self.is_name(tokens, at + 2) {
                at += 2;
            }
            let (last, whole) = (tokens[at], begin..tokens[at].end);
            let name = self.of(&last);
            if begin < last.start {
                self.edits.push((begin, last.start - begin, String::new()));
            }
            let (what, known) = if filter { ("filter", door::is_filter(name)) } else { ("test", door::is_test(name)) };
            if !known {
                let all: Vec<&str> = if filter { door::filters().collect() } else { door::tests().collect() };
                let hint = match nearest(name, all) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None if filter && door::is_test(name) => format!("it is a test: `x is {name}`"),
                    None if !filter && door::is_filter(name) => format!("it is a filter: `x | {name}`"),
                    None => "`windlass helpers` lists what there is".into(),
                };
                return self.wrong(format!("unknown {what} `{name}`"), hint, whole);
            }
        }
        Ok(())
    }

    /// The token that closes the bracket at `i`.
    fn closing(&self, tokens: &[Token], i: usize) -> Option<usize> {
        let mut depth = 0;
        for (j, t) in tokens.iter().enumerate().skip(i).filter(|(_, t)| t.kind == Kind::Sign) {
            match self.of(t) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(j);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The token behind an operand that begins at `i`, its filters included.
    fn behind(&self, tokens: &[Token], i: usize) -> usize {
        let mut i = i;
        while self.is(tokens, i, "-") || self.is(tokens, i, "+") {
            i += 1;
        }
        let group = |i: usize| self.closing(tokens, i).map_or(tokens.len(), |j| j + 1);
        let opens = |i: usize| ["(", "[", "{"].iter().any(|s| self.is(tokens, i, s));
        i = if opens(i) { group(i) } else { i + 1 };
        loop {
            if self.is(tokens, i, "(") || self.is(tokens, i, "[") {
                i = group(i);
            } else if (self.is(tokens, i, ".") || self.is(tokens, i, "|")) && i + 1 < tokens.len() {
                i += 2;
            } else {
                return i.min(tokens.len());
            }
        }
    }

    /// What is asked for, and what is said otherwise.
    fn expressions(&mut self, tag: &Tag, tokens: &[Token], top: bool) {
        let word = |this: &Self, w: &[&str]| tokens.iter().any(|t| t.kind == Kind::Name && w.contains(&this.of(t)));
        let certain = top && !word(self, &["if", "or", "and"]);
        let mut tokens = tokens;
        let mut i = 0;
        if tag.block {
            i = match self.of(&tokens[0]) {
                "block" | "filter" => 2,
                _ => 1,
            };
            if matches!(self.of(&tokens[0]), "include" | "import" | "from" | "extends") {
                let words = ["ignore", "with", "without", "as", "import"];
                let end = tokens.iter().skip(1).position(|t| t.kind == Kind::Name && words.contains(&self.of(t)));
                tokens = &tokens[..end.map_or(tokens.len(), |n| n + 1)];
            } else if self.of(&tokens[0]).starts_with("end") {
                return;
            }
        }
        self.counted(tag, tokens, i);
        while let Some(t) = tokens.get(i).copied() {
            match t.kind {
                Kind::Text => {
                    let text = self.of(&t).trim_matches(['"', '\'']);
                    self.words.extend(Some(text.to_string()).filter(|w| w != EVERY_NAME));
                    // `'…' % x`: the engine reckons with numbers only.
                    if self.is(tokens, i + 1, "%") && i + 2 < tokens.len() {
                        let end = self.behind(tokens, i + 2);
                        self.edits.push((tokens[i + 1].start, 1, "|__percent(".into()));
                        self.edits.push((tokens[end - 1].end, 0, ")".into()));
                    }
                }
                Kind::Name => {
                    self.words.push(self.of(&t).to_string());
                    self.path(tokens, i, certain);
                }
                Kind::Sign if self.mutates && self.of(&t) == "=" => {
                    if (self.is(tokens, i + 1, "[") || self.is(tokens, i + 1, "{"))
                        && let Some(end) = self.closing(tokens, i + 1)
                        && tokens.get(end + 1).is_none_or(|t| [",", ")"].contains(&self.of(t)))
                    {
                        self.edits.push((tokens[i + 1].start, 0, "__own(".into()));
                        self.edits.push((tokens[end].end, 0, ")".into()));
                    }
                }
                _ => {}
            }
            i += 1;
        }
    }

    fn is_operand(&self, t: &Token) -> bool {
        match t.kind {
            Kind::Text | Kind::Number => true,
            Kind::Name => !KEYWORDS[..6].contains(&self.of(t)) && !["else", "recursive"].contains(&self.of(t)),
            Kind::Sign => [")", "]", "}"].contains(&self.of(t)),
        }
    }

    /// The token that opens the bracket which closes at `i`.
    fn opening(&self, tokens: &[Token], i: usize) -> Option<usize> {
        let mut depth = 0;
        for (j, t) in tokens[..=i].iter().enumerate().rev().filter(|(_, t)| t.kind == Kind::Sign) {
            match self.of(t) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(j);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The token with which the factors begin that end at `i`, as in `a / b[c] * …`; nothing is read before `first`.
    fn factors(&self, tokens: &[Token], first: usize, i: usize) -> usize {
        let is = |j: usize, signs: &[&str]| signs.iter().any(|s| self.is(tokens, j, s));
        let mut at = i;
        loop {
            // One operand, with what is picked out of it, called and filtered.
            loop {
                if is(at, &[")", "]", "}"]) {
                    at = self.opening(tokens, at).unwrap_or(at);
                    if at > first && is(at, &["(", "["]) && self.is_operand(&tokens[at - 1]) {
                        at -= 1;
                        continue;
                    }
                }
                if at > first + 1 && is(at - 1, &[".", "|"]) {
                    at -= 2;
                    continue;
                }
                break;
            }
            while at > first && is(at - 1, &["-", "+"]) && (at - 1 == first || !self.is_operand(&tokens[at - 2])) {
                at -= 1;
            }
            if at > first + 1 && is(at - 1, &["*", "/", "//", "%", "**"]) {
                at -= 2;
            } else {
                return at;
            }
        }
    }

    /// Wraps what stands from one token to before another into a call.
    fn wrap(&mut self, name: &str, tokens: &[Token], range: Range<usize>) {
        let (start, end) = (tokens[range.start].start, tokens[range.end - 1].end);
        self.wraps.push(Wrap { start, end, open: format!("{name}("), close: ")" });
    }

    /// The same for what may be a tuple without parentheses.
    fn wrap_all(&mut self, name: &str, start: usize, end: usize) {
        self.wraps.push(Wrap { start, end, open: format!("{name}(("), close: "))" });
    }

    /// The token with which the sum begins that ends at `i`; nothing is read before `first`.
    fn sum(&self, tokens: &[Token], first: usize, i: usize) -> usize {
        let mut at = self.factors(tokens, first, i);
        while at > first + 1
            && ["+", "-", "~"].iter().any(|s| self.is(tokens, at - 1, s))
            && self.is_operand(&tokens[at - 2])
        {
            at = self.factors(tokens, first, at - 2);
        }
        at
    }

    /// The token behind a sum that begins at `i`.
    fn behind_sum(&self, tokens: &[Token], i: usize) -> usize {
        let mut end = self.behind(tokens, i);
        while end + 1 < tokens.len()
            && ["+", "-", "~", "*", "/", "//", "%", "**"].iter().any(|s| self.is(tokens, end, s))
        {
            end = self.behind(tokens, end + 1);
        }
        end
    }

    /// `a < b`, `a < b <= c`: the engine has an order for everything, Python has not. Says behind which token it goes on.
    fn ordered(&mut self, tokens: &[Token], first: usize, i: usize) -> usize {
        let left = self.sum(tokens, first, i - 1);
        let mut at = i;
        loop {
            let (sign, end) = (tokens[at], self.behind_sum(tokens, at + 1));
            self.edits.push((sign.start, sign.end - sign.start, format!(", '{}', ", self.of(&sign))));
            let more = ["<", ">", "<=", ">=", "==", "!="].iter().any(|s| self.is(tokens, end, s));
            if more && end + 1 < tokens.len() {
                at = end;
                continue;
            }
            self.wrap("__ordered", tokens, left..end);
            return end;
        }
    }

    /// What operators make is counted: the engine itself does not.
    fn counted(&mut self, tag: &Tag, tokens: &[Token], first: usize) {
        const GROW: [&str; 6] = ["+", "~", "*", "(", "[", "{"];
        if tag.block && self.is(tokens, 0, "set") {
            let mut depth = 0i32;
            let set = tokens.iter().position(|t| {
                match self.of(t) {
                    "(" | "[" | "{" => depth += 1,
                    ")" | "]" | "}" => depth -= 1,
                    _ => {}
                }
                depth == 0 && t.kind == Kind::Sign && self.of(t) == "="
            });
            let grows = |i: usize| tokens[i + 1..].iter().any(|t| t.kind == Kind::Sign && GROW.contains(&self.of(t)));
            if let (Some(i), Some(last)) = (set.filter(|i| grows(*i)), tokens.last()) {
                // A tuple needs no parentheses there.
                self.wrap_all("__keep", tokens[i].end, last.end);
            }
        }
        // The `in` of a loop is no operator.
        let first = if tag.block && self.is(tokens, 0, "for") { self.gone_over(tokens) } else { first };
        let mut ordered = 0;
        for i in first + 1..tokens.len().saturating_sub(1) {
            let (t, before) = (tokens[i], &tokens[i - 1]);
            let sign = self.of(&t);
            let not_in = sign == "in" && self.of(before) == "not" && i > 1 && self.is_operand(&tokens[i - 2]);
            if t.kind == Kind::Text || !self.is_operand(before) && !not_in {
                continue;
            }
            let mut end = self.behind(tokens, i + 1);
            match sign {
                "*" => {
                    while self.is(tokens, end, "**") && end + 1 < tokens.len() {
                        end = self.behind(tokens, end + 1);
                    }
                    self.wrap("__times", tokens, self.factors(tokens, first, i - 1)..i);
                    self.wrap("__factor", tokens, i + 1..end);
                }
                "+" | "~" => {
                    let call = if sign == "+" { "__sized" } else { "__text" };
                    for range in [self.factors(tokens, first, i - 1)..i, i + 1..end] {
                        let literal =
                            range.len() == 1 && [Kind::Text, Kind::Number].contains(&tokens[range.start].kind);
                        if !literal {
                            self.wrap(call, tokens, range);
                        }
                    }
                }
                "<" | ">" | "<=" | ">=" if i >= ordered => ordered = self.ordered(tokens, first, i),
                "in" => {
                    let last = if not_in { i - 2 } else { i - 1 };
                    self.wrap("__item", tokens, self.sum(tokens, first, last)..last + 1);
                    let end = self.behind_sum(tokens, i + 1);
                    self.wrap("__within", tokens, i + 1..end);
                }
                "==" | "!=" => self.wrap("__sized", tokens, i + 1..end),
                _ => {}
            }
        }
    }

    /// What a loop goes over: the engine takes nothing for an empty list. Says with which token it begins.
    fn gone_over(&mut self, tokens: &[Token]) -> usize {
        let mut depth = 0i32;
        let (mut from, mut to) = (None, tokens.len());
        for (i, t) in tokens.iter().enumerate() {
            match self.of(t) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                "in" if depth == 0 && t.kind == Kind::Name && from.is_none() => from = Some(i + 1),
                "if" | "recursive" if depth == 0 && t.kind == Kind::Name && from.is_some() => {
                    to = i;
                    break;
                }
                _ => {}
            }
        }
        if let Some(from) = from.filter(|f| *f < to) {
            self.wrap_all("__each", tokens[from].start, tokens[to - 1].end);
        }
        from.unwrap_or(tokens.len())
    }

    /// Whether what is taken out of `hostvars` is named: behind the path at `i`, before the token `end`.
    fn is_named(&self, tokens: &[Token], i: usize, end: usize, keys: &[Option<String>]) -> bool {
        let is_text = |j: usize| tokens.get(j).is_some_and(|t| t.kind == Kind::Text);
        let after_in = i > 0 && self.is(tokens, i - 1, "in");
        let tested = self.is(tokens, end, "is");
        match keys {
            [_, key, ..] => key.is_some(),
            [_] => {
                let of = if i > 1 && self.is(tokens, i - 2, "not") { 3 } else { 2 };
                let get = self.is(tokens, end, ".") && self.is(tokens, end + 1, "get") && is_text(end + 3);
                get || tested || after_in && i >= of && is_text(i - of)
            }
            // The hosts' names, or `extract`, whose keys follow.
            [] if self.is(tokens, end, ".") => self.is(tokens, end + 1, "keys"),
            [] if self.is(tokens, end, "|") => {
                ["length", "count", "list", "sort", "first", "last", "select", "reject", "map", "join"]
                    .iter()
                    .any(|f| self.is(tokens, end + 1, f))
            }
            [] if self.is(tokens, end, ",") => is_text(end + 1) || self.is(tokens, end + 1, "[") && is_text(end + 2),
            [] => tested || after_in,
        }
    }

    /// The path that begins with the name at `i`, if one does.
    fn path(&mut self, tokens: &[Token], i: usize, certain: bool) {
        let root = self.of(&tokens[i]);
        let after = |s: &str| i > 0 && self.is(tokens, i - 1, s);
        let test = after("is") || after("not") && i > 1 && self.is(tokens, i - 2, "is");
        let named = self.is(tokens, i + 1, "=");
        if KEYWORDS.contains(&root) || after(".") || after("|") || test || named {
            return;
        }
        let mut keys = vec![];
        // What to put in place of the points and brackets of a path that may lead nowhere.
        let mut steps = vec![(tokens[i].start, 0, "__get(".to_string())];
        let mut end = i + 1;
        let mut called = false;
        loop {
            if self.is(tokens, end, ".") && tokens.get(end + 1).is_some_and(|t| t.kind != Kind::Sign) {
                let key = tokens[end + 1];
                if self.is(tokens, end + 2, "(") {
                    called = true;
                    break;
                }
                let text = self.of(&key);
                let quote = if key.kind == Kind::Name { "'" } else { "" };
                keys.push(Some(text.to_string()));
                steps.push((tokens[end].start, key.end - tokens[end].start, format!(", {quote}{text}{quote}")));
                end += 2;
            } else if self.is(tokens, end, "[")
                && let Some(close) = self.closing(tokens, end)
                && !(end..close).any(|j| self.is(tokens, j, ":"))
                && close > end + 1
            {
                keys.push(match &tokens[end + 1..close] {
                    [t] if t.kind == Kind::Text => Some(self.of(t).trim_matches(['"', '\'']).to_string()),
                    [t] if t.kind == Kind::Number => Some(self.of(t).to_string()),
                    _ => None,
                });
                steps.push((tokens[end].start, 1, ", (".into()));
                steps.push((tokens[close].start, 1, ")".into()));
                end = close + 1;
            } else {
                called |= self.is(tokens, end, "(");
                break;
            }
        }
        if called && keys.is_empty() && !self.is(tokens, end, ".") {
            // A function or a macro.
            return;
        }
        if root == "hostvars" && !self.is_named(tokens, i, end, &keys) {
            self.words.push(EVERY_NAME.to_string());
        }
        let range = tokens[i].start..tokens[end - 1].end;
        // Parentheses around nothing but it.
        let (mut first, mut next) = (i, end);
        while first > 0
            && self.is(tokens, first - 1, "(")
            && self.is(tokens, next, ")")
            && !(first > 1
                && (tokens[first - 2].kind == Kind::Name || self.is(tokens, first - 2, "]"))
                && !KEYWORDS.contains(&self.of(&tokens[first - 2])))
        {
            (first, next) = (first - 1, next + 1);
        }
        let mut last = next + 1;
        if self.is(tokens, next, "is") && self.is(tokens, last, "not") {
            last += 1;
        }
        while self.is(tokens, last + 1, ".") && self.is_name(tokens, last + 2) {
            last += 2;
        }
        let asks = |names: &[&str]| self.is_name(tokens, last) && names.contains(&self.of(&tokens[last]));
        let lenient = !called
            && (self.is(tokens, next, "|") && asks(&["default", "d", "mandatory"])
                || self.is(tokens, next, "is") && asks(&["defined", "undefined"]));
        if lenient && !keys.is_empty() {
            self.edits.append(&mut steps);
            self.edits.push((tokens[end - 1].end, 0, ")".into()));
        }
        self.paths.push(Path { root: root.to_string(), keys, range, certain: certain && !lenient, lenient });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(t: &str) -> Result<Scanned, TemplateError> {
        let (syntax, begin) = Syntax::of(t, &vec![])?;
        scan(t, syntax, begin)
    }

    fn said(t: &str) -> String {
        whole(t).unwrap().rewritten
    }

    #[test]
    fn paths_that_may_lead_nowhere() {
        assert_eq!(said("{{ a.b.c }} {{ a|default(1) }}"), "{{ a.b.c }} {{ a|default(1) }}");
        assert_eq!(said("{{ a.b['c'].0 | default(x.y) }}"), "{{ __get(a, 'b', ('c'), 0) | default(x.y) }}");
        assert_eq!(
            said("{% if (a.b) is not defined %}{% endif %}"),
            "{% if (__get(a, 'b')) is not defined %}{% endif %}"
        );
        assert_eq!(said("{{ a[b.c|d('x')].e|d }}"), "{{ __get(a, (__get(b, 'c')|d('x')), 'e')|d }}");
        assert_eq!(said("{{ f(a.b) | default(1) }}"), "{{ f(a.b) | default(1) }}");
    }

    #[test]
    fn what_the_engine_is_told_otherwise() {
        assert_eq!(said("{{ '%s-%d' % (a, b) ~ 'x' }}"), "{{ __text('%s-%d' |__percent( (a, b))) ~ 'x' }}");
        assert_eq!(said("{{ a | ansible.builtin.upper }}"), "{{ a | upper }}");
        let list = "{% set l = [] %}{% set _ = l.append(1) %}";
        assert_eq!(said(list), "{% set l =__keep(( __own([]))) %}{% set _ =__keep(( l.append(1))) %}");
        assert_eq!(said("#jinja2: lstrip_blocks: True\n{{ a }}"), "{{ a }}");
    }

    #[test]
    fn places_are_found_again() {
        let t = "#jinja2: trim_blocks: False\nx {{ a.b.c | default(1) }} {{ zz }}";
        let s = whole(t).unwrap();
        let at = s.rewritten.find("zz").unwrap();
        assert_eq!(&t[s.original(at)..][..2], "zz");
        assert_eq!(s.original(s.rewritten.find('x').unwrap()), t.find("x {{").unwrap());
    }

    #[test]
    fn what_is_wrong_with_tags() {
        let e = |t: &str| whole(t).map(|_| ()).unwrap_err();
        assert_eq!((e("a\n {{ b").message.as_str(), e("a\n {{ b").at), ("`{{` is not closed", Some((2, 2))));
        assert!(e("{% if a %}\n").message.contains("`{% if %}` is not closed"));
        assert!(e("{% if a %}{% endfor %}").message.contains("is closed by"));
        assert!(e("{% iff a %}").hint.unwrap().contains("did you mean `if`"));
        assert!(e("{{ a | uper }}").hint.unwrap().contains("did you mean `upper`"));
        assert!(e("{{ a is defind }}").hint.unwrap().contains("did you mean `defined`"));
        assert!(e("{{ 'a }}").message.contains("not closed"));
        assert!(e("{% raw %}{{").message.contains("raw"));
        for (deep, at) in [
            ("{% if a %}".repeat(5000), (1, 1001)),
            (format!("{{% if a %}}{}", "{% elif a %}".repeat(5000)), (1, 1199)),
            (format!("{{{{ {}", "[".repeat(5000)), (1, 104)),
            (format!("#jinja2: line_statement_prefix: '%'\n% if a\n{}", "% elif a\n".repeat(5000)), (103, 3)),
        ] {
            assert_eq!((e(&deep).message.as_str(), e(&deep).at), ("it goes more than 100 deep", Some(at)));
        }
        assert!(whole(&"{% if a %}{% elif b %}{% endif %}".repeat(20_000)).is_ok());
        assert!(e("#jinja2: trim_bloks: True\n").hint.unwrap().contains("trim_blocks"));
    }

    #[test]
    fn what_is_asked_for() {
        let s =
            whole("{% for i in items %}{{ i.x }}{{ hostvars[i]['ip'] }}{% endfor %}{{ lookup('env', who) }}").unwrap();
        assert_eq!(s.roots().collect::<Vec<_>>(), ["items", "hostvars", "who"]);
        assert!(s.words.contains(&"ip".to_string()));
    }
}
