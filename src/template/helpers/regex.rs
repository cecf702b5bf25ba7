//! Regular expressions as Python reads them, look-around included.

use super::args::{as_text, as_truth, as_whole, kind_of, shown};
use super::{Args, Def, Fail, def};
use crate::modules::regex::matches;
use crate::template::limits;
use fancy_regex::{Captures, Regex, RegexBuilder};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};
use std::time::{Duration, Instant};

pub const ALL: &[Def] = &[
    def(
        "regex_replace",
        "text pattern [replacement]",
        "Every match replaced; \\1 and \\g<name> in the replacement stand for groups. count= limits, mandatory_count= demands so many.",
        (r#"{{regex_replace "a1b2" "([a-z])(\d)" "\2\1"}}"#, r#""1a2b""#),
        replace,
    )
    .named(&["ignorecase", "multiline", "count", "mandatory_count"]),
    def(
        "regex_search",
        "text pattern […]",
        "The first match, or null; further arguments `\\\\1` or `\\\\g<name>` choose groups, and the result is a list.",
        (r#"{{regex_search "eth0: up" "(\w+): (\w+)" "\\2"}}"#, r#"["up"]"#),
        search,
    )
    .named(&["ignorecase", "multiline"]),
    def(
        "regex_findall",
        "text pattern [multiline] [ignorecase]",
        "All matches: with one group its texts, with several lists of them.",
        (r#"{{regex_findall "a1 b2" "([a-z])(\d)"}}"#, r#"[["a","1"],["b","2"]]"#),
        find_all,
    )
    .named(&["ignorecase", "multiline"]),
    def(
        "regex_escape",
        "text [re_type]",
        "Text whose signs stand for themselves in a pattern; re_type: python, posix_basic.",
        (r#"{{regex_escape "a.b"}}"#, r#""a\\.b""#),
        |a| {
            let kind = a.either(1, "re_type").map(as_text).unwrap_or("python".into());
            let signs = match kind.as_ref() {
                "python" => "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}",
                "posix_basic" => r"].[^$*\",
                other => return Err(Fail::Wrong(format!("its re_type is python or posix_basic, not `{other}`"))),
            };
            Ok(json!(a.text(0).chars().fold(String::new(), |mut out, c| {
                if signs.contains(c) {
                    out.push('\\');
                }
                out.push(c);
                out
            })))
        },
    )
    .named(&["re_type"]),
    def("match", "text pattern", "Whether the pattern matches at the beginning.", (r#"{{match "abc" "a."}}"#, "true"), |a| {
        test(a, "match")
    })
    .named(&["ignorecase", "multiline"]),
    def("search", "text pattern", "Whether the pattern matches anywhere.", (r#"{{search "abc" "b"}}"#, "true"), |a| {
        test(a, "search")
    })
    .named(&["ignorecase", "multiline"]),
    def(
        "regex",
        "text pattern",
        "As `search`; match_type= is search, match or fullmatch.",
        (r#"{{regex "abc" "abc" match_type="fullmatch"}}"#, "true"),
        |a| test(a, a.named_text("match_type").as_deref().unwrap_or("search")),
    )
    .named(&["ignorecase", "multiline", "match_type"]),
];

/// Patterns that were used: a loop asks for the same one again and again.
/// By pattern and by the steps a search with it may take.
type Compiled = HashMap<(String, usize), Arc<Regex>>;
static COMPILED: LazyLock<RwLock<Compiled>> = LazyLock::new(RwLock::default);

/// A bound, for patterns that are made of values.
const REMEMBERED: usize = 1000;

/// How many steps back a search may take, times the length of the text: a step may go through all of it.
const STEPS: usize = 1 << 33;
const MOST_STEPS: usize = 1_000_000;

fn compile(pattern: &str, ignorecase: bool, multiline: bool, text: &str) -> Result<Arc<Regex>, Fail> {
    let steps = MOST_STEPS.min(STEPS / text.len().next_power_of_two());
    let mut python = crate::modules::regex::from_python(pattern, !multiline && text.ends_with('\n'));
    let flags = [(ignorecase, 'i'), (multiline, 'm')].iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect::<String>();
    if !flags.is_empty() {
        python = format!("(?{flags}){python}");
    }
    let key = (python, steps);
    if let Some(r) = COMPILED.read().ok().and_then(|m| m.get(&key).cloned()) {
        return Ok(r);
    }
    let built = RegexBuilder::new(&key.0).backtrack_limit(steps).build();
    let r = Arc::new(built.map_err(|e| format!("`{pattern}` is not a regular expression: {e}"))?);
    if let Ok(mut m) = COMPILED.write() {
        if m.len() >= REMEMBERED {
            m.clear();
        }
        m.insert(key, r.clone());
    }
    Ok(r)
}

fn of(a: &Args) -> Result<Arc<Regex>, Fail> {
    if matches!(a[0], Value::Array(_) | Value::Object(_)) {
        return Err(Fail::Wrong(format!(
            "its first argument must be text, not {}; `map` does it for every element",
            kind_of(&a[0])
        )));
    }
    compile(&a.text(1), a.flag("ignorecase", false)?, a.flag("multiline", false)?, &a.text(0))
}

const TOO_LONG: &str = "the pattern takes too long on this text; a repetition within a repetition, as in `(a+)+`, tries all ways to part it";

fn too_much(_: impl std::fmt::Display) -> Fail {
    TOO_LONG.into()
}

/// Each match by itself may be quick enough, and all of them not.
fn in_time(begin: Instant, matches: u32) -> Result<(), Fail> {
    limits::charge(256)?;
    let slow = Duration::from_secs(10).max(Duration::from_millis(1) * matches);
    if begin.elapsed() > slow { Err(TOO_LONG.into()) } else { Ok(()) }
}

fn replace(a: &Args) -> Result<Value, Fail> {
    let re = of(a)?;
    let s = a.text(0);
    let s: &str = &s;
    let replacement = a.text(2);
    let with = crate::modules::python_groups(&replacement)?;
    if let Some(name) = crate::modules::unknown_group(&re, &replacement)? {
        return Err(Fail::Wrong(format!("the pattern has no group `{name}`")));
    }
    let count = a.named("count").map_or(Ok(0), as_whole)?;
    let count = usize::try_from(count).unwrap_or(0);
    let mut out = String::with_capacity(s.len());
    let (mut end, mut done) = (0, 0u32);
    let groups = with.matches('$').count();
    let begin = Instant::now();
    for c in matches(&re, s) {
        let c = c.map_err(too_much)?;
        in_time(begin, done)?;
        let Some(m) = c.get(0) else { continue };
        let longest = with.len() + groups.saturating_mul(m.as_str().len());
        if out.len().saturating_add(longest) > limits::LARGEST {
            return Err(limits::TOO_LONG.into());
        }
        out.push_str(&s[end..m.start()]);
        c.expand(&with, &mut out);
        end = m.end();
        done += 1;
        if done as usize == count {
            break;
        }
    }
    out.push_str(&s[end..]);
    let wanted = a.named("mandatory_count").map_or(Ok(0), as_whole)?;
    if wanted != 0 && wanted != i64::from(done) {
        return Err(Fail::Wrong(format!("{} should match {wanted} times, and matches {done} times", shown(&a[1]))));
    }
    Ok(json!(out))
}

fn group(c: &Captures<str>, wanted: &str) -> Option<Value> {
    let g = match wanted.parse::<usize>() {
        Ok(n) if n < c.len() => c.get(n),
        Ok(_) => return None,
        Err(_) => c.name(wanted),
    };
    Some(g.map_or(Value::Null, |m| json!(m.as_str())))
}

fn search(a: &Args) -> Result<Value, Fail> {
    let re = of(a)?;
    let s = a.text(0);
    let s: &str = &s;
    let Some(c) = re.captures(s).map_err(too_much)? else { return Ok(Value::Null) };
    if a.len() == 2 {
        return Ok(group(&c, "0").unwrap_or_default());
    }
    let mut all = vec![];
    for wanted in a.rest(2) {
        let w = as_text(wanted);
        let name = w.trim_start_matches('\\');
        let name = name.strip_prefix("g<").and_then(|n| n.strip_suffix('>')).unwrap_or(name);
        let known = name.parse::<usize>().is_ok() || re.capture_names().flatten().any(|n| n == name);
        match group(&c, name).filter(|_| known && w.starts_with('\\')) {
            Some(v) => all.push(v),
            None => {
                return Err(Fail::Wrong(format!(
                    "the pattern has no group `{w}`; write it as `\\\\1` or `\\\\g<name>`"
                )));
            }
        }
    }
    Ok(Value::Array(all))
}

fn find_all(a: &Args) -> Result<Value, Fail> {
    let multiline = a.either(2, "multiline").map_or(Ok(false), as_truth)?;
    let ignorecase = a.either(3, "ignorecase").map_or(Ok(false), as_truth)?;
    let re = compile(&a.text(1), ignorecase, multiline, &a.text(0))?;
    let s = a.text(0);
    let s: &str = &s;
    let text = |c: &Captures<str>, i| c.get(i).map_or(json!(""), |m| json!(m.as_str()));
    let begin = Instant::now();
    matches(&re, s)
        .zip(0..)
        .map(|(c, n)| {
            let c = c.map_err(too_much)?;
            in_time(begin, n)?;
            Ok(match c.len() {
                1 => text(&c, 0),
                2 => text(&c, 1),
                n => (1..n).map(|i| text(&c, i)).collect(),
            })
        })
        .collect()
}

fn test(a: &Args, how: &str) -> Result<Value, Fail> {
    let re = of(a)?;
    let s = a.text(0);
    let s: &str = &s;
    Ok(json!(match how {
        "search" => re.is_match(s).map_err(too_much)?,
        // The first match from the left begins at 0 if any does.
        "match" => re.find(s).map_err(too_much)?.is_some_and(|m| m.start() == 0),
        "fullmatch" => {
            let pattern = format!(r"\A(?:{})\Z", a.text(1));
            let whole = compile(&pattern, a.flag("ignorecase", false)?, a.flag("multiline", false)?, s)?;
            whole.is_match(s).map_err(too_much)?
        }
        other => return Err(Fail::Wrong(format!("its match_type is search, match or fullmatch, not `{other}`"))),
    }))
}
