//! Which hosts a pattern means: `web:&prod:!old`, `k3s_server[0]`, `*.lan`, `~node\d+`.

use super::range::{self, is_ipv6};
use super::{Inventory, LOCALHOST};
use crate::error;
use crate::source::{Diagnostic, Span, nearest};
use indexmap::IndexSet;
use std::fmt;
use std::ops::Range;

/// A pattern that cannot be answered: what is wrong, with which part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    pub message: String,
    pub hint: Option<String>,
    /// The bytes of the pattern this is about.
    pub at: Range<usize>,
}

impl PatternError {
    fn new(term: &Term, message: impl Into<String>) -> Self {
        PatternError { message: message.into(), hint: None, at: term.at.clone() }
    }
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// The error as a finding about the place the pattern is written at.
    pub fn diagnostic(&self, span: &Span) -> Diagnostic {
        let d = Diagnostic::error(&self.message).at(span);
        match &self.hint {
            Some(h) => d.hint(h),
            None => d,
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PatternError {}

impl From<PatternError> for error::Error {
    fn from(e: PatternError) -> Self {
        let err = error::Error::input(e.message);
        match e.hint {
            Some(h) => err.hint(h),
            None => err,
        }
    }
}

/// The hosts a pattern means, each once: a group's in the group's order, several terms' in the order of the terms.
///
/// A name that is neither a host nor a group is an error; a glob or a regular expression may match nothing.
pub fn select<'i>(inventory: &'i Inventory, pattern: &str) -> Result<Vec<&'i str>, PatternError> {
    let terms = terms(inventory, pattern);
    if terms.is_empty() {
        return Err(PatternError { message: "the host pattern is empty".into(), hint: None, at: 0..pattern.len() });
    }
    evaluate(inventory, &terms)
}

/// As [`select`], for `--limit`: a term `@file` stands for the hosts named in that file, one a line.
pub fn select_limit<'i>(inventory: &'i Inventory, pattern: &str) -> Result<Vec<&'i str>, PatternError> {
    let mut all = vec![];
    for term in terms(inventory, pattern) {
        let Some(path) = term.text.strip_prefix('@') else {
            all.push(term);
            continue;
        };
        let text = std::fs::read_to_string(path).map_err(|e| {
            let why = match e.kind() {
                std::io::ErrorKind::NotFound => "it does not exist".into(),
                _ => e.to_string(),
            };
            PatternError::new(&term, format!("cannot read the limit file {path}: {why}"))
                .hint("a limit file has a pattern a line; without `@` a pattern is meant itself")
        })?;
        let mut lines = 0;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            lines += 1;
            all.extend(terms(inventory, line).into_iter().map(|t| Term { at: term.at.clone(), ..t }));
        }
        if lines == 0 {
            return Err(PatternError::new(&term, format!("the limit file {path} names no host")));
        }
    }
    if all.is_empty() {
        return Err(PatternError { message: "the host pattern is empty".into(), hint: None, at: 0..pattern.len() });
    }
    evaluate(inventory, &all)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    And,
    Not,
}

/// One part of a pattern, without its `&` or `!`.
#[derive(Debug, Clone)]
struct Term {
    sign: Sign,
    text: String,
    at: Range<usize>,
}

fn evaluate<'i>(inventory: &'i Inventory, terms: &[Term]) -> Result<Vec<&'i str>, PatternError> {
    let with = |sign: Sign| terms.iter().filter(move |t| t.sign == sign);
    let mut hosts: IndexSet<&str> = IndexSet::new();
    for t in with(Sign::Plus) {
        hosts.extend(matches(inventory, t)?);
    }
    if with(Sign::Plus).next().is_none() {
        hosts.extend(inventory.group_hosts("all"));
    }
    for t in with(Sign::And) {
        let those: IndexSet<&str> = matches(inventory, t)?.into_iter().collect();
        hosts.retain(|h| those.contains(h));
    }
    for t in with(Sign::Not) {
        let those: IndexSet<&str> = matches(inventory, t)?.into_iter().collect();
        hosts.retain(|h| !those.contains(h));
    }
    Ok(hosts.into_iter().collect())
}

/// Splits a pattern at `,` and `:`, but not inside brackets, regular expressions and IPv6 addresses.
fn terms(inventory: &Inventory, pattern: &str) -> Vec<Term> {
    let mut out = vec![];
    for comma in pieces(pattern, 0..pattern.len(), ',') {
        let mut at = comma.start;
        while at < comma.end {
            let rest = &pattern[at..comma.end];
            let body_at =
                at + rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || "&!".contains(c)).len();
            let end = match address_end(inventory, &pattern[body_at..comma.end]) {
                Some(n) => body_at + n,
                None => pieces(pattern, at..comma.end, ':').first().map_or(comma.end, |p| p.end),
            };
            push(&mut out, pattern, at..end);
            at = end + 1;
        }
    }
    out
}

/// How much of the text is an IPv6 address (whose colons separate nothing), if it starts with one.
fn address_end(inventory: &Inventory, text: &str) -> Option<usize> {
    // No address is longer, its zone included.
    let trimmed = text.trim_end();
    let trimmed = trimmed.char_indices().nth(64).map_or(trimmed, |(i, _)| &trimmed[..i]);
    let ends = || trimmed.match_indices(':').map(|(i, _)| i).chain([trimmed.len()]);
    let fits = |n: &usize| trimmed.get(..*n).is_some_and(is_ipv6);
    if let Some(known) = ends().filter(fits).filter(|n| inventory.hosts.contains_key(&trimmed[..*n])).max() {
        return Some(known);
    }
    let first = trimmed.split(':').next().unwrap_or("");
    if !first.is_empty() && (inventory.groups.contains_key(first) || inventory.hosts.contains_key(first)) {
        return None;
    }
    ends().filter(fits).max()
}

fn push(out: &mut Vec<Term>, pattern: &str, range: Range<usize>) {
    let raw = &pattern[range.clone()];
    let text = raw.trim();
    let start = range.start + raw.len() - raw.trim_start().len();
    let (sign, body) = match text.chars().next() {
        None => return,
        Some('&') => (Sign::And, text[1..].trim_start()),
        Some('!') => (Sign::Not, text[1..].trim_start()),
        Some(_) => (Sign::Plus, text),
    };
    out.push(Term { sign, text: body.to_string(), at: start..start + text.len() });
}

/// The ranges between separators that stand outside brackets (and, behind `~`, outside any parentheses).
fn pieces(text: &str, within: Range<usize>, separator: char) -> Vec<Range<usize>> {
    let mut out = vec![];
    let mut start = within.start;
    let mut depth = 0usize;
    let mut regex = false;
    let mut fresh = true;
    let mut chars = text[within.clone()].char_indices();
    while let Some((i, c)) = chars.next() {
        let at = within.start + i;
        if c == separator && depth == 0 {
            out.push(start..at);
            start = at + 1;
            (regex, fresh) = (false, true);
            continue;
        }
        match c {
            '~' if fresh => regex = true,
            '\\' if regex => {
                chars.next();
            }
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '(' | '{' if regex => depth += 1,
            ')' | '}' if regex => depth = depth.saturating_sub(1),
            _ => {}
        }
        // Another separator ends a regular expression too.
        if depth == 0 && (c == ':' || c == ',') {
            (regex, fresh) = (false, true);
        } else if !c.is_whitespace() && c != '&' && c != '!' {
            fresh = false;
        }
    }
    out.push(start..within.end);
    out
}

/// The hosts one term means.
fn matches<'i>(inventory: &'i Inventory, term: &Term) -> Result<Vec<&'i str>, PatternError> {
    let text = term.text.as_str();
    if text.is_empty() {
        return Err(PatternError::new(term, "nothing stands behind `&` or `!`"));
    }
    if let Some((name, _)) = inventory.hosts.get_key_value(text) {
        return Ok(vec![name]);
    }
    if text == "*" {
        return Ok(inventory.group_hosts("all"));
    }
    if inventory.groups.contains_key(text) {
        return Ok(inventory.group_hosts(text));
    }
    if let Some(expression) = text.strip_prefix('~') {
        let regex = fancy_regex::Regex::new(&format!("^(?:{expression})")).map_err(|e| {
            PatternError::new(term, format!("`{expression}` is not a regular expression: {e}"))
                .hint("close what is open, and put `\\` before a sign that stands for itself")
        })?;
        return named(inventory, |n| {
            regex.is_match(n).map_err(|e| PatternError::new(term, format!("`{expression}` cannot be matched: {e}")))
        });
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).filter(|a| is_ipv6(a)) {
        return matches(inventory, &Term { text: inner.to_string(), ..term.clone() });
    }
    if let Some((base, counted)) = subscript(text) {
        if subscript(base).is_some() {
            return Err(
                PatternError::new(term, format!("`{text}` counts what is counted already")).hint("write one [ ]")
            );
        }
        let hosts = matches(inventory, &Term { text: base.to_string(), ..term.clone() }).map_err(|e| {
            match range::expand(text) {
                Ok(x) if x.names.iter().any(|n| inventory.hosts.contains_key(n)) => {
                    e.hint(format!("in a pattern, [ ] counts the hosts of a group; write {}", x.names.join(",")))
                }
                _ => e,
            }
        })?;
        return counted.of(hosts, term, base);
    }
    if text.contains(['*', '?', '[']) {
        let hosts = named(inventory, |n| Ok(crate::glob::matches(text, n)))?;
        if hosts.is_empty()
            && let Some((base, range)) = text.strip_suffix(']').and_then(|t| t.split_once('['))
            && inventory.groups.contains_key(base)
        {
            return Err(PatternError::new(term, format!("`[{range}]` does not count hosts of `{base}`"))
                .hint("write [0] for the first, [-1] for the last, [0:2] for the first three"));
        }
        return Ok(hosts);
    }
    if let Some(me) = LOCALHOST.iter().find(|l| **l == text) {
        return Ok(vec![me]);
    }
    let e = PatternError::new(term, format!("`{text}` is neither a host nor a group of the inventory"));
    let known = inventory.groups.keys().chain(inventory.hosts.keys()).map(String::as_str);
    Err(match nearest(text, known) {
        Some(n) => e.hint(format!("did you mean `{n}`?")),
        None if inventory.hosts.is_empty() => e.hint("the inventory has no hosts"),
        None => e.hint("`windlass inventory --graph` shows what there is"),
    })
}

/// The hosts of the groups whose name fits, then the hosts whose own name fits.
fn named(inventory: &Inventory, fits: impl Fn(&str) -> Result<bool, PatternError>) -> Result<Vec<&str>, PatternError> {
    let mut hosts: IndexSet<&str> = IndexSet::new();
    for g in inventory.groups.keys() {
        if fits(g)? {
            hosts.extend(inventory.group_hosts(g));
        }
    }
    for h in inventory.hosts.keys() {
        if fits(h)? {
            hosts.insert(h);
        }
    }
    Ok(hosts.into_iter().collect())
}

/// `[0]`, `[-1]`, `[0:2]` (both ends included), `[1:]`, `[-2:]`.
enum Subscript {
    One(i64),
    Span(i64, Option<i64>),
}

fn subscript(text: &str) -> Option<(&str, Subscript)> {
    let (base, inner) = text.strip_suffix(']')?.rsplit_once('[')?;
    if base.is_empty() {
        return None;
    }
    let number = |t: &str| {
        t.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<i64>().ok()).flatten()
    };
    match inner.split_once(':') {
        None => Some((base, Subscript::One(number(inner)?))),
        Some((from, to)) => {
            let from = if from.is_empty() { 0 } else { number(from)? };
            let to = if to.is_empty() { None } else { Some(number(to)?) };
            Some((base, Subscript::Span(from, to)))
        }
    }
}

impl Subscript {
    fn of<'i>(&self, hosts: Vec<&'i str>, term: &Term, base: &str) -> Result<Vec<&'i str>, PatternError> {
        let len = i64::try_from(hosts.len()).unwrap_or(i64::MAX);
        let from_end = |i: i64| if i < 0 { i.saturating_add(len) } else { i };
        match self {
            Subscript::One(_) if hosts.is_empty() => Ok(hosts),
            Subscript::One(i) => match usize::try_from(from_end(*i)).ok().and_then(|i| hosts.get(i)) {
                Some(h) => Ok(vec![h]),
                None => Err(PatternError::new(
                    term,
                    format!("`{base}` has {len} host{}: there is no [{i}]", if len == 1 { "" } else { "s" }),
                )
                .hint(format!("counting starts at 0; the last one is [{}], or [-1]", len - 1))),
            },
            Subscript::Span(from, to) => {
                let from = from_end(*from).clamp(0, len);
                let to = to.map_or(len, |t| from_end(t).saturating_add(1)).clamp(from, len);
                Ok(hosts[usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0)].to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use crate::vars::NoSecrets;

    fn inventory() -> Inventory {
        let text = "lone\nfe80::1\n[server]\nn3\nn1\nn2\n[agent]\nn4.lan\nn5.lan\n[db]\nn2\nn4.lan\n\
                    [k3s:children]\nserver\nagent\n[empty]\n";
        let (i, found) = Inventory::parse(&Source::new("hosts.ini", text), &NoSecrets);
        assert!(found.is_empty(), "{}", found.render(false));
        i
    }

    #[test]
    fn every_form() {
        let i = inventory();
        for (pattern, expected) in [
            ("server", "n3 n1 n2"),
            ("k3s", "n3 n1 n2 n4.lan n5.lan"),
            ("all", "lone fe80::1 n2 n4.lan n3 n1 n5.lan"),
            ("*", "lone fe80::1 n2 n4.lan n3 n1 n5.lan"),
            ("n1", "n1"),
            ("n1:n3", "n1 n3"),
            ("n1, n3", "n1 n3"),
            ("n1,n3:agent", "n1 n3 n4.lan n5.lan"),
            ("k3s:&db", "n2 n4.lan"),
            ("k3s:!db", "n3 n1 n5.lan"),
            ("!db:k3s", "n3 n1 n5.lan"),
            ("!k3s", "lone fe80::1"),
            ("&db", "n2 n4.lan"),
            ("server[0]", "n3"),
            ("server[-1]", "n2"),
            ("server[0:1]", "n3 n1"),
            ("server[1:]", "n1 n2"),
            ("server[-2:]", "n1 n2"),
            ("server[2:1]", ""),
            ("server[5:9]", ""),
            ("server[0]:agent[0]", "n3 n4.lan"),
            ("k3s:!server[0]", "n1 n2 n4.lan n5.lan"),
            ("*.lan", "n4.lan n5.lan"),
            ("n?", "n3 n1 n2"),
            ("n[13]*", "n3 n1"),
            ("n[1-2]*", "n1 n2"),
            ("n[!3]", "n1 n2"),
            ("a*[0]", "lone"),
            ("nothing*", ""),
            ("~n\\d$", "n3 n1 n2"),
            ("~(n1|n2)", "n1 n2"),
            ("~n(?=[45])[0-9]", "n4.lan n5.lan"),
            ("~n\\d{1,2}$:!n1", "n3 n2"),
            ("~(?:n1):n3", "n1 n3"),
            ("empty", ""),
            ("empty[0]", ""),
            ("localhost", "localhost"),
            ("127.0.0.1,n1", "127.0.0.1 n1"),
            ("::1", "::1"),
            ("fe80::1", "fe80::1"),
            ("[fe80::1]", "fe80::1"),
            ("fe80::1:n1", "fe80::1 n1"),
            ("db:fe80::1", "n2 n4.lan fe80::1"),
            ("all:!fe80::1:!k3s", "lone"),
            ("all,!fe80::1,!k3s", "lone"),
        ] {
            let want: Vec<&str> = expected.split_whitespace().collect();
            let mut got = select(&i, pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            let mut want = want;
            if ["all", "*", "n?", "n[13]*", "~n\\d$", "~n\\d{1,2}$:!n1"].contains(&pattern) {
                got.sort_unstable();
                want.sort_unstable();
            }
            assert_eq!(got, want, "{pattern}");
        }
    }

    #[test]
    fn errors_name_the_term_and_the_nearest_word() {
        let i = inventory();
        for (pattern, message, hint, at) in [
            ("sever", "`sever` is neither", "did you mean `server`?", 0..5),
            ("all:!sever", "`sever` is neither", "did you mean `server`?", 4..10),
            ("server[7]", "has 3 hosts: there is no [7]", "[2], or [-1]", 0..9),
            ("server[-4]", "there is no [-4]", "", 0..10),
            ("n[1:3]", "`n` is neither", "write n1,n2,n3", 0..6),
            ("~n(", "is not a regular expression", "", 0..3),
            ("server[0-2]", "does not count", "[0:2]", 0..11),
            ("server[0][0]", "counts what is counted already", "one [ ]", 0..12),
            (&format!("n1{}", "[0]".repeat(50_000)), "counted already", "one [ ]", 0..150_002),
            ("", "empty", "", 0..0),
            (" , ", "empty", "", 0..3),
            ("all:!", "nothing stands behind", "", 4..5),
            ("fe80::2", "`fe80::2` is neither", "", 0..7),
            ("@x", "`@x` is neither", "", 0..2),
        ] {
            let e = select(&i, pattern).unwrap_err();
            assert!(e.message.contains(message), "{pattern}: {}", e.message);
            assert!(e.hint.as_deref().unwrap_or("").contains(hint), "{pattern}: {:?}", e.hint);
            assert_eq!(e.at, at, "{pattern}");
        }
    }

    #[test]
    fn a_long_pattern_takes_no_longer_for_its_length() {
        // An end of an address was sought behind each colon, for each term.
        assert_eq!(select(&inventory(), &format!("{}n3", "n1:&".repeat(2000))).unwrap().len(), 0);
    }

    #[test]
    fn a_limit_file_names_hosts() {
        let i = inventory();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("site.retry");
        std::fs::write(&file, "n1\n\n# done\nn5.lan\n").unwrap();
        let limit = format!("@{},!n1", file.display());
        assert_eq!(select_limit(&i, &limit).unwrap(), ["n5.lan"]);
        assert!(select_limit(&i, "@/no/such").unwrap_err().message.contains("cannot read the limit file"));
        std::fs::write(&file, "gone\n").unwrap();
        assert!(select_limit(&i, &limit).unwrap_err().message.contains("`gone` is neither"));
    }
}
