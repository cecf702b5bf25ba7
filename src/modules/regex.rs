//! Regular expressions as Python reads them, for parameters that Ansible hands to Python's `re`.

use super::ArgError;
use fancy_regex::{Captures, Regex, RegexBuilder};
use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

/// Compiles a parameter's regular expression; lines are matched one by one.
pub fn line_regex(param: &str, pattern: &str) -> Result<Regex, ArgError> {
    compiled(param, pattern, from_python(pattern, false))
}

/// The same for lines that have their ends: `$` is before a line's end as well as behind it.
pub fn ended_line_regex(param: &str, pattern: &str) -> Result<Regex, ArgError> {
    compiled(param, pattern, from_python(pattern, true))
}

/// The same for a whole text, with flags (`m`: `^` and `$` match at lines; `s`: `.` matches a line's end).
pub fn text_regex(param: &str, flags: &str, pattern: &str) -> Result<Regex, ArgError> {
    let flags_there = if flags.is_empty() { String::new() } else { format!("(?{flags})") };
    compiled(param, pattern, format!("{flags_there}{}", from_python(pattern, !flags.contains('m'))))
}

/// All matches in a text, as Python finds them: an empty one may stand right behind another one.
pub(crate) fn matches<'t>(
    re: &Regex,
    text: &'t str,
) -> impl Iterator<Item = Result<Captures<'t, str>, fancy_regex::Error>> {
    // Where the search goes on; none at the end.
    let mut from = Some(0);
    // Where an empty match was: there is no second one at its place.
    let mut empty_at = None;
    std::iter::from_fn(move || {
        loop {
            let at = from?;
            let c = match re.captures_from_pos(text, at).transpose()? {
                Ok(c) => c,
                Err(e) => {
                    from = None;
                    return Some(Err(e));
                }
            };
            let m = c.get(0)?;
            if m.start() == m.end() {
                let again = empty_at == Some(m.start());
                if again {
                    from = text[m.end()..].chars().next().map(|c| m.end() + c.len_utf8());
                    continue;
                }
                empty_at = Some(m.start());
            }
            from = Some(m.end());
            return Some(Ok(c));
        }
    })
}

/// Expressions that were compiled: a task has the same one on every host.
static COMPILED: LazyLock<RwLock<HashMap<String, Regex>>> = LazyLock::new(RwLock::default);

/// So many, then they begin anew.
const REMEMBERED: usize = 500;

fn compiled(param: &str, pattern: &str, ours: String) -> Result<Regex, ArgError> {
    if let Some(r) = COMPILED.read().ok().and_then(|m| m.get(&ours).cloned()) {
        return Ok(r);
    }
    let r = RegexBuilder::new(&ours)
        .build()
        .map_err(|e| ArgError::new(param, format!("`{pattern}` is not a regular expression: {e}")))?;
    if let Ok(mut m) = COMPILED.write() {
        if m.len() >= REMEMBERED {
            m.clear();
        }
        m.insert(ours, r.clone());
    }
    Ok(r)
}

/// Rewrites the few things that Python reads otherwise than our engine does: `\Z`, `\<` and `\>`, a brace that is no
/// count, and brackets and `&&`, `~~` inside a set of characters. `ends`: the text may end with a newline, and `$`, where
/// it does not match at lines, matches in front of it as well.
pub(crate) fn from_python(pattern: &str, ends: bool) -> String {
    let ends = ends && !by_lines(pattern);
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    // Inside `[…]`: how many characters of the set were read.
    let mut in_set: Option<usize> = None;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        let mut taken = c.len_utf8();
        match (c, in_set) {
            ('\\', _) => {
                let next = tail.chars().next();
                taken += next.map_or(0, char::len_utf8);
                match next {
                    Some('Z') if in_set.is_none() => out.push_str(r"\z"),
                    Some(
                        n @ ('<' | '>' | '"' | '\'' | '/' | ',' | '=' | '!' | '@' | ':' | ';' | '%' | '`' | '_' | ' '),
                    ) => {
                        out.push(n);
                    }
                    Some(n) => {
                        out.push('\\');
                        out.push(n);
                    }
                    None => out.push('\\'),
                }
                in_set = in_set.map(|n| n + 1);
            }
            ('[', None) => {
                out.push('[');
                if let Some(t) = tail.strip_prefix('^') {
                    out.push('^');
                    taken += 1;
                    if t.starts_with(']') {
                        out.push_str(r"\]");
                        taken += 1;
                    }
                } else if tail.starts_with(']') {
                    out.push_str(r"\]");
                    taken += 1;
                }
                in_set = Some(0);
            }
            (']', Some(_)) => {
                out.push(']');
                in_set = None;
            }
            ('[' | '&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
            }
            ('$', None) if ends => out.push_str(r"(?=\n?\z)"),
            ('{', None) if !is_count(tail) => out.push_str(r"\{"),
            ('{', None) => {
                let end = tail.find('}').map_or(tail.len(), |e| e + 1);
                // `{,3}` counts from nought.
                out.push('{');
                if tail.starts_with(',') {
                    out.push('0');
                }
                out.push_str(&tail[..end]);
                taken += end;
            }
            ('}', None) => out.push_str(r"\}"),
            (c, _) => out.push(c),
        }
        rest = &rest[taken..];
    }
    out
}

/// Whether a pattern's own flags make `$` match at lines: `(?m)`, `(?ims)`.
fn by_lines(pattern: &str) -> bool {
    pattern.split("(?").skip(1).any(|rest| {
        let flags = rest.split_once([')', ':', '-']).map_or("", |(f, _)| f);
        flags.contains('m') && flags.bytes().all(|b| b"aiLmsux".contains(&b))
    })
}

/// Whether what follows a `{` makes it a count: `3}`, `3,}`, `,3}`, `3,5}`.
fn is_count(tail: &str) -> bool {
    let Some(end) = tail.find('}') else { return false };
    let inner = &tail[..end];
    inner.bytes().any(|b| b.is_ascii_digit())
        && inner.bytes().all(|b| b.is_ascii_digit() || b == b',')
        && inner.bytes().filter(|b| *b == b',').count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(pattern: &str, text: &str) -> bool {
        line_regex("regexp", pattern).unwrap().is_match(text).unwrap()
    }

    #[test]
    fn python_patterns_are_read_as_python_reads_them() {
        assert!(is(r"^\s*#?PermitRootLogin\b", "#PermitRootLogin no"));
        assert!(is(r"^(?!#)foo", "foo") && !is(r"^(?!#)foo", "#foo"));
        assert!(is(r"\<a\>", "<a>"));
        assert!(is(r"a{b}", "a{b}") && is(r"a{2}", "aa") && is(r"^a{,2}$", "aa"));
        assert!(is(r"[[a]x", "[x") && is(r"[]a]x", "]x") && is(r"[^]a]x", "bx"));
        assert!(is(r"[a&&b]", "&") && is(r"[\]]", "]"));
        assert!(is(r"a\Z", "a") && is(r"\/etc\/x\=\_", "/etc/x=_"));
        assert!(is(r"(?P<q>['\x22])a(?P=q)", "'a'") && is("(?i)A", "a"));
        assert!(is(r"^\${HOME}", "${HOME}"));
        let whole = |flags: &str, pattern: &str, text: &str| {
            let re = text_regex("regexp", flags, pattern).unwrap();
            matches(&re, text).map(|m| m.unwrap().get(0).unwrap().as_str().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(whole("", ".$", "a\nb\n"), ["b"]);
        assert_eq!(whole("", "(?m).$", "a\nb\n"), ["a", "b"]);
        assert_eq!(whole("m", ".$", "a\nb\n"), ["a", "b"]);
        assert_eq!(whole("", "$", "a\n"), ["", ""]);
        assert_eq!(whole("", ".*", "abc"), ["abc", ""]);
        assert_eq!(whole("", "b*", "abc"), ["", "b", "", ""]);
        assert_eq!(whole("", "é*", "aéc"), ["", "é", "", ""]);
    }

    #[test]
    fn what_is_no_pattern_is_an_error() {
        let e = line_regex("regexp", "a(").unwrap_err();
        assert_eq!(e.param, ["regexp"]);
        assert!(e.message.contains("`a(`"));
    }
}
