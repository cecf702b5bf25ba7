//! What expressions can call: one table, a file per family. `windlass helpers` prints this same table.

mod args;
mod encode;
mod lists;
mod logic;
mod lookup;
mod mappings;
mod net;
mod numbers;
mod pages;
mod random;
mod regex;
mod text;
mod time;
mod version;
mod yaml;
mod yaml11;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub use args::exactly;
pub use args::{Args, Fail, OUTSIDE, as_python, is_full, shown, text};
pub use encode::python_json;
pub use lookup::Ask;
pub use pages::{list as list_page, page};

use super::limits;
use handlebars::{
    BlockContext, BlockParams, Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext,
    RenderError, RenderErrorReason, Renderable, ScopedJson,
};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A helper's work: its arguments to a value.
type Work = fn(&Args) -> Result<Value, Fail>;

/// One helper: all that is known of it.
pub struct Def {
    name: &'static str,
    /// Its arguments by name; `[x]` can be left out, `…` at the end stands for any number more.
    takes: &'static str,
    /// Named arguments; `*` stands for any.
    named: &'static [&'static str],
    /// Arguments may be undefined.
    lenient: bool,
    /// Arguments that turn out not to be needed may be undefined.
    lazy: bool,
    doc: &'static str,
    /// A template and what it comes to, as JSON.
    example: (&'static str, &'static str),
    work: Work,
}

impl Def {
    const fn named(mut self, names: &'static [&'static str]) -> Def {
        self.named = names;
        self
    }
    const fn lenient(mut self) -> Def {
        self.lenient = true;
        self
    }
    const fn lazy(mut self) -> Def {
        self.lazy = true;
        self
    }
    pub fn name(&self) -> &'static str {
        self.name
    }
    /// The names of its named arguments.
    pub fn names(&self) -> &'static [&'static str] {
        self.named
    }
    /// The names of those that stand in their places.
    pub fn positions(&self) -> impl Iterator<Item = &'static str> {
        self.takes.split_whitespace().filter(|w| !w.contains('…')).map(|w| w.trim_matches(['[', ']']))
    }
    pub fn run(&self, args: &Args) -> Result<Value, Fail> {
        (self.work)(args)
    }
    /// Fewest and most arguments.
    pub fn arity(&self) -> (usize, usize) {
        let words = self.takes.split_whitespace();
        let least = words.clone().filter(|w| !w.starts_with('[') && *w != "…").count();
        let most = if self.takes.contains('…') { usize::MAX } else { words.count() };
        (least, most)
    }
}

/// A table's entry.
const fn def(
    name: &'static str,
    takes: &'static str,
    doc: &'static str,
    example: (&'static str, &'static str),
    work: Work,
) -> Def {
    Def { name, takes, named: &[], lenient: false, lazy: false, doc, example, work }
}

/// All helpers, family by family.
const FAMILIES: &[(&str, &[Def])] = &[
    ("Logic and tests", logic::ALL),
    ("Numbers", numbers::ALL),
    ("Text and paths", text::ALL),
    ("Regular expressions", regex::ALL),
    ("Lists", lists::ALL),
    ("Mappings", mappings::ALL),
    ("Formats and hashes", encode::ALL),
    ("Addresses and networks", net::ALL),
    ("Versions", version::ALL),
    ("Time", time::ALL),
    ("Chance", random::ALL),
    ("From outside", lookup::ALL),
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static Def>> = LazyLock::new(|| all().map(|d| (d.name, d)).collect());

pub fn all() -> impl Iterator<Item = &'static Def> {
    FAMILIES.iter().flat_map(|(_, defs)| defs.iter())
}

/// What the engine itself brings along, with `defined`, whose arguments are never evaluated strictly.
const BLOCKS: [&str; 6] = ["defined", "if", "unless", "each", "with", "lookup"];

/// A call that has an undefined argument.
fn refused(p: &handlebars::PathAndJson<'_>) -> RenderError {
    RenderErrorReason::MissingVariable(p.relative_path().cloned()).into()
}

/// The names of all helpers, the engine's own blocks included.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|d| d.name).chain(BLOCKS)
}

/// The helper of this name, the engine's own blocks aside.
pub fn find(name: &str) -> Option<&'static Def> {
    BY_NAME.get(name).copied()
}

/// A test on one value, by the name that `select` knows it by.
pub fn test(name: &str, value: &Value, with: &[&Value], outside: &Value) -> Result<bool, Fail> {
    let outer = Args { values: vec![], named: vec![], missing: 0, outside: Some(outside) };
    logic::test(name, Some(value), with, &outer)
}

/// Whether there is a helper of this name.
pub fn exists(name: &str) -> bool {
    BY_NAME.contains_key(name) || BLOCKS.contains(&name)
}

/// Whether a helper takes undefined arguments.
pub fn is_lenient(name: &str) -> bool {
    match BY_NAME.get(name) {
        Some(d) => d.lenient,
        None => name == "defined",
    }
}

/// What is wrong with the number of arguments a helper is given.
pub fn arity_error(name: &str, given: usize) -> Option<String> {
    let (least, most) = BY_NAME.get(name)?.arity();
    if (least..=most).contains(&given) {
        return None;
    }
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let takes = match (least, most) {
        (a, b) if a == b => format!("{a} argument{}", s(a)),
        (a, usize::MAX) => format!("{a} argument{} or more", s(a)),
        (a, b) => format!("{a} to {b} arguments"),
    };
    Some(format!("`{name}` takes {takes}, not {given}"))
}

/// What is wrong with a named argument: the message and what to do.
pub fn named_error(name: &str, key: &str) -> Option<(String, String)> {
    let d = BY_NAME.get(name)?;
    if d.named.contains(&key) || d.named.contains(&"*") {
        return None;
    }
    let hint = match (crate::source::nearest(key, d.named.iter().copied()), d.named) {
        (Some(n), _) => format!("did you mean `{n}=`?"),
        (None, []) => format!("it takes no named arguments; {}", usage(name)),
        (None, all) => format!("it takes {}", all.iter().map(|n| format!("`{n}=`")).collect::<Vec<_>>().join(", ")),
    };
    Some((format!("`{name}` has no named argument `{key}`"), hint))
}

/// What is wrong with what a helper is told besides its first argument, whatever that one is: a pattern, a kind of hash,
/// an operator.
pub fn refuses(name: &str, rest: &[&Value]) -> Option<String> {
    let first = match name {
        "regex_search" | "regex_replace" | "regex_findall" | "match" | "search" | "hash" => json!(""),
        "version" => json!("1"),
        _ => return None,
    };
    let def = BY_NAME.get(name)?;
    let values = std::iter::once(&first).chain(rest.iter().copied()).collect();
    match (def.work)(&Args { values, named: vec![], missing: 0, outside: None }) {
        Err(Fail::Wrong(e)) => Some(format!("`{name}`: {e}")),
        _ => None,
    }
}

/// How a helper is called.
pub fn usage(name: &str) -> String {
    let Some(d) = BY_NAME.get(name) else { return format!("write `{name} argument`") };
    format!("write `{}`; an argument that is a call itself stands in parentheses", call_line(d))
}

fn call_line(d: &Def) -> String {
    let mut line = d.name.to_string();
    for word in d.takes.split_whitespace() {
        line.push(' ');
        line.push_str(word);
    }
    for n in d.named.iter().filter(|n| !d.takes.contains(&format!("[{n}]"))) {
        line.push_str(if *n == "*" { " [name=value …]" } else { " [" });
        if *n != "*" {
            line.push_str(n);
            line.push_str("=…]");
        }
    }
    line
}

pub fn register(engine: &mut Handlebars<'static>) {
    engine.register_helper("if", Box::new(Branch { wanted: true }));
    engine.register_helper("each", Box::new(Each));
    engine.register_helper("unless", Box::new(Branch { wanted: false }));
    for d in all() {
        engine.register_helper(d.name, Box::new(Call(d)));
    }
    engine.register_helper("defined", Box::new(Defined));
    engine.register_helper("lookup", Box::new(Element));
}

/// Calls a helper from inside another one (`map list "upper"`).
fn call(name: &str, values: Vec<&Value>, named: Vec<(&str, &Value)>, outer: &Args) -> Result<Value, Fail> {
    let Some(def) = BY_NAME.get(name) else {
        let hint = match crate::source::nearest(name, names()) {
            Some(n) => format!("did you mean `{n}`?"),
            None => format!("for a field of every element write attribute=\"{name}\""),
        };
        return Err(Fail::Wrong(format!("there is no helper `{name}`: {hint}")));
    };
    if let Some(e) = arity_error(name, values.len()) {
        return Err(Fail::Wrong(e));
    }
    if let Some((e, hint)) = named.iter().find_map(|(k, _)| named_error(name, k)) {
        return Err(Fail::Wrong(format!("{e}: {hint}")));
    }
    (def.work)(&Args { values, named, missing: 0, outside: outer.outside })
        .and_then(|v| Ok(limits::made(&v).map(|()| v)?))
        .map_err(|f| if let Fail::Wrong(e) = f { Fail::Wrong(format!("`{name}`: {e}")) } else { f })
}

/// A width in characters.
pub fn width(n: i64) -> Result<usize, &'static str> {
    text::width(n)
}

/// Characters by chance, or those that a seed gives.
pub fn token(length: usize, chars: &str, seed: Option<&str>) -> Result<String, ()> {
    match seed {
        Some(seed) => random::seeded(length, chars, seed),
        None => random::token(length, chars),
    }
    .map_err(|_| ())
}

/// A new salt for a password's hash.
pub fn salt() -> Result<String, ()> {
    token(16, random::LETTERS_AND_DIGITS, None)
}

/// A password's hash in the way of crypt(3), as `password_hash` makes it.
pub fn hashed(password: &str, kind: &str, salt: &str) -> Result<String, String> {
    let arguments = [password, kind, salt].map(|s| json!(s));
    let args = Args { values: arguments.iter().collect(), named: vec![], missing: 0, outside: None };
    match BY_NAME.get("password_hash").map(|d| d.run(&args)) {
        Some(Ok(v)) => Ok(text(&v)),
        Some(Err(Fail::Wrong(e))) => Err(e),
        _ => Err("there is no such hash".into()),
    }
}

thread_local! {
    /// Why the last helper that came to nothing did: the engine carries "no value" without a reason.
    static WHY: RefCell<Option<Why>> = const { RefCell::new(None) };
}

/// Why there is no value.
pub enum Why {
    Said(String),
    /// This path leads to nothing.
    Path(String),
}

/// The reason of a call that came to no value, if there was one.
pub fn why_undefined() -> Option<Why> {
    WHY.take()
}

/// An argument is undefined. So is the call then: it is up to those around it (`default`, `and`) whether that is wrong.
fn undefined<'rc>(p: &handlebars::PathAndJson<'rc>) -> ScopedJson<'rc> {
    if let Some(path) = p.relative_path() {
        WHY.set(Some(Why::Path(path.clone())));
    }
    ScopedJson::Missing
}

struct Call(&'static Def);

impl HelperDef for Call {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        context: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let Def { name, lenient, work, .. } = self.0;
        // A name alone: a variable of that name is meant, and nothing else where the helper wants arguments.
        if h.params().is_empty() && h.hash().is_empty() {
            match rc.evaluate(context, name)? {
                ScopedJson::Missing if self.0.arity().0 == 0 => {}
                ScopedJson::Missing => return Err(RenderErrorReason::MissingVariable(Some((*name).to_string())).into()),
                found => return Ok(ScopedJson::Derived(found.as_json().clone())),
            }
        }
        let mut missing = 0;
        for (i, p) in h.params().iter().enumerate().filter(|(_, p)| p.is_value_missing()) {
            if !lenient && !self.0.lazy {
                return Ok(undefined(p));
            }
            if let (true, Some(path)) = (self.0.lazy, p.relative_path()) {
                WHY.set(Some(Why::Path(path.clone())));
            }
            missing |= 1u64.checked_shl(i as u32).unwrap_or(0);
        }
        if let Some(p) = h.hash().values().find(|p| p.is_value_missing()) {
            return Ok(undefined(p));
        }
        let args = Args {
            values: h.params().iter().map(|p| p.value()).collect(),
            named: h.hash().iter().map(|(k, v)| (*k, v.value())).collect(),
            missing,
            outside: context.data().get(args::OUTSIDE),
        };
        match work(&args).and_then(|v| Ok(limits::made(&v).map(|()| v)?)) {
            Ok(v) => {
                if missing != 0 {
                    WHY.take();
                }
                Ok(ScopedJson::Derived(v))
            }
            // A reason is there already: that of the argument.
            Err(Fail::Undefined(e)) if e.is_empty() => Ok(ScopedJson::Missing),
            Err(Fail::Wrong(e)) => Err(RenderErrorReason::Other(format!("`{name}`: {e}")).into()),
            Err(Fail::Outside(ask)) => Err(RenderErrorReason::NestedError(Box::new(ask)).into()),
            Err(Fail::Undefined(e)) => {
                WHY.set(Some(Why::Said(format!("`{name}`: {e}"))));
                Ok(ScopedJson::Missing)
            }
        }
    }
}

/// `{{#if}}` and `{{#unless}}`: true and false are what they are in `when`, so that a text `false`, as `-e x=false` gives
/// it, is false. Of other values, what is not empty is true.
struct Branch {
    wanted: bool,
}

impl HelperDef for Branch {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        context: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let given = h.param(0).ok_or_else(|| RenderErrorReason::Other("`if` takes a condition".into()))?;
        if given.is_value_missing() {
            return Err(refused(given));
        }
        let holds = super::truthy(given.value()).unwrap_or(true);
        match if holds == self.wanted { h.template() } else { h.inverse() } {
            Some(t) => t.render(r, context, rc, out),
            None => Ok(()),
        }
    }
}

/// `{{#each}}`: the block once for every element of a list or entry of a mapping, else the other block. Every turn counts.
struct Each;

impl HelperDef for Each {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        context: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let given = h.param(0).ok_or_else(|| RenderErrorReason::Other("`each` takes a list or a mapping".into()))?;
        let Some(block) = h.template() else { return Ok(()) };
        let turns: Vec<(Option<&str>, &Value)> = match given.value() {
            Value::Array(a) => a.iter().map(|v| (None, v)).collect(),
            Value::Object(o) => o.iter().map(|(k, v)| (Some(k.as_str()), v)).collect(),
            _ if h.inverse().is_none() => return Err(refused(given)),
            _ => vec![],
        };
        if let (true, Some(other)) = (turns.is_empty(), h.inverse()) {
            return other.render(r, context, rc, out);
        }
        let last = turns.len().saturating_sub(1);
        rc.push_block(BlockContext::new());
        for (i, (key, v)) in turns.into_iter().enumerate() {
            // What has no place among the variables stands in the block itself.
            let path = given.context_path().map(|p| {
                let step = key.map_or_else(|| i.to_string(), str::to_string);
                p.iter().cloned().chain([step]).collect::<Vec<_>>()
            });
            let mut cost = limits::TURN;
            if path.is_none() {
                cost += limits::weight(v).map_err(|e| RenderErrorReason::Other(e.into()))?;
            }
            limits::charge(cost).map_err(|e| RenderErrorReason::Other(e.into()))?;
            if let Some(b) = rc.block_mut() {
                b.set_local_var("first", json!(i == 0));
                b.set_local_var("last", json!(i == last));
                b.set_local_var("index", json!(i));
                if let Some(key) = key {
                    b.set_local_var("key", json!(key));
                }
                let mut params = BlockParams::new();
                let names = h.block_param().map(|v| (v, None));
                if let Some((value, place)) = names.or(h.block_param_pair().map(|(v, k)| (v, Some(k)))) {
                    match path {
                        Some(_) => params.add_path(value, vec![])?,
                        None => params.add_value(value, v.clone())?,
                    }
                    if let Some(place) = place {
                        params.add_value(place, key.map_or_else(|| json!(i), |k| json!(k)))?;
                    }
                    b.set_block_params(params);
                }
                match path {
                    Some(p) => *b.base_path_mut() = p,
                    None => b.set_base_value(v.clone()),
                }
            }
            block.render(r, context, rc, out)?;
        }
        rc.pop_block();
        Ok(())
    }
}

/// `lookup`: the field or the element of that key. Where there is none it is undefined, which `default` can mend.
struct Element;

impl HelperDef for Element {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let (Some(of), Some(key), None) = (h.param(0), h.param(1), h.param(2)) else {
            return Err(RenderErrorReason::Other("`lookup` takes a mapping or a list, and a key".into()).into());
        };
        if let Some(p) = [of, key].into_iter().find(|p| p.is_value_missing()) {
            return Ok(undefined(p));
        }
        let found = match of.value() {
            Value::Array(a) => {
                let i = key.value().as_u64().or_else(|| key.value().as_str().and_then(|s| s.parse().ok()));
                i.and_then(|i| a.get(i as usize))
            }
            Value::Object(o) => o.get(text(key.value()).as_str()),
            _ => None,
        };
        Ok(match found {
            Some(v) => ScopedJson::Derived(v.clone()),
            None => {
                let names: Vec<&str> = of.value().as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
                let key = text(key.value());
                let near = crate::source::nearest(&key, names.iter().copied());
                let near = near.map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default();
                WHY.set(Some(Why::Said(format!("`lookup`: there is no `{key}` in it{near}"))));
                ScopedJson::Missing
            }
        })
    }
}

struct Defined;

impl HelperDef for Defined {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        Ok(ScopedJson::Derived(json!(h.params().iter().all(|p| !p.is_value_missing()))))
    }
}
