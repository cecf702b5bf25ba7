//! Text, and the paths that are text.

use super::args::{as_text, as_truth, as_whole, is_python, kind_of, shown};
use super::{Args, Def, Fail, def};
use crate::template::limits;
use serde_json::{Value, json};

pub const ALL: &[Def] = &[
    def("string", "value", "The value as text.", ("{{string 5}}", r#""5""#), |a| Ok(json!(a.text(0)))),
    def("upper", "text", "In capitals.", (r#"{{upper "ab"}}"#, r#""AB""#), |a| Ok(json!(a.text(0).to_uppercase()))),
    def("lower", "text", "In small letters.", (r#"{{lower "AB"}}"#, r#""ab""#), |a| Ok(json!(a.text(0).to_lowercase()))),
    def("capitalize", "text", "The first letter large, all others small.", (r#"{{capitalize "aBC"}}"#, r#""Abc""#), |a| {
        Ok(json!(capital(&a.text(0))))
    }),
    def("title", "text", "Every word's first letter large.", (r#"{{title "a bc"}}"#, r#""A Bc""#), |a| {
        let s = a.text(0);
        let mut out = String::new();
        let mut word = String::new();
        for c in s.chars() {
            if c.is_whitespace() || "-({[<".contains(c) {
                out.push_str(&capital(&word));
                word.clear();
                out.push(c);
            } else {
                word.push(c);
            }
        }
        out.push_str(&capital(&word));
        Ok(json!(out))
    }),
    def("trim", "text [characters]", "Without white space, or the given characters, at both ends.", (r#"{{trim "  a "}}"#, r#""a""#), |a| {
        let s = a.text(0);
        Ok(json!(match a.either(1, "chars").filter(|c| !c.is_null()) {
            None => s.trim().to_string(),
            Some(c) => s.trim_matches(|x| as_text(c).contains(x)).to_string(),
        }))
    })
    .named(&["chars"]),
    def("replace", "text old new [count]", "Every `old` replaced, or the first `count` of them.", (r#"{{replace "a-b" "-" "+"}}"#, r#""a+b""#), |a| {
        let (s, old, new) = (a.text(0), a.text(1), a.text(2));
        let most = match a.either(3, "count") {
            None => usize::MAX,
            Some(n) => usize::try_from(as_whole(n)?).unwrap_or(usize::MAX),
        };
        let times = s.matches(old.as_ref()).take(most).count();
        limits::room(s.len().saturating_add(times.saturating_mul(new.len())))?;
        Ok(json!(s.replacen(old.as_ref(), &new, times)))
    })
    .named(&["count"]),
    def("concat", "a […]", "One text, or one list, of several.", (r#"{{concat "a" 1 "b"}}"#, r#""a1b""#), |a| {
        if a.values.iter().all(|v| v.is_array()) {
            Ok(a.values.iter().filter_map(|v| v.as_array()).flatten().cloned().collect())
        } else {
            Ok(json!(a.values.iter().map(|v| as_text(v)).collect::<String>()))
        }
    }),
    def("join", "list [separator]", "The elements as one text; attribute= joins a field of each.", (r#"{{join (list 1 2) ","}}"#, r#""1,2""#), |a| {
        let sep = a.either(1, "d").map(as_text).unwrap_or_default();
        let all = match a.named("attribute") {
            None => a.list(0)?.iter().map(as_text).collect::<Vec<_>>(),
            Some(p) => a
                .list(0)?
                .iter()
                .map(|v| super::logic::field(v, p).map(as_text).ok_or_else(|| format!("an element has no {}", shown(p))))
                .collect::<Result<_, _>>()?,
        };
        limits::room(all.len().saturating_mul(sep.len()) + all.iter().map(|s| s.len()).sum::<usize>())?;
        Ok(json!(all.join(&sep)))
    })
    .named(&["attribute", "d"]),
    def("split", "text [separator] [most]", "The parts between separators, or between white space; at most `most` cuts.", (r#"{{split "a,b" ","}}"#, r#"["a","b"]"#), |a| {
        let s = a.text(0);
        let most = a.either(2, "maxsplit").map_or(Ok(-1), as_whole)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX - 1);
        let all: Vec<&str> = match a.either(1, "sep").filter(|v| !v.is_null()) {
            None => {
                let mut rest = s.trim_start();
                let mut all = vec![];
                while !rest.is_empty() && all.len() < most {
                    let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                    all.push(word);
                    rest = after.trim_start();
                }
                // What is left keeps the white space at its end.
                all.extend(Some(rest).filter(|r| !r.is_empty()));
                all
            }
            Some(sep) => {
                let sep = as_text(sep);
                if sep.is_empty() {
                    return Err("the separator is empty; without one it splits at white space".into());
                }
                s.splitn(most + 1, sep.as_ref()).collect()
            }
        };
        Ok(json!(all))
    })
    .named(&["sep", "maxsplit"]),
    def("rsplit", "text separator [most]", "As `split`, cut from the end.", (r#"{{rsplit "a.b.c" "." 1}}"#, r#"["a.b","c"]"#), |a| {
        let (s, sep) = (a.text(0), a.text(1));
        if sep.is_empty() {
            return Err("the separator is empty".into());
        }
        let most = a.get(2).map_or(Ok(-1), as_whole)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX - 1);
        let mut all: Vec<&str> = s.rsplitn(most + 1, sep.as_ref()).collect();
        all.reverse();
        Ok(json!(all))
    }),
    def("splitlines", "text", "Its lines.", (r#"{{splitlines (join (list "a" "b") "\n")}}"#, r#"["a","b"]"#), |a| {
        Ok(json!(a.text(0).lines().collect::<Vec<_>>()))
    }),
    def("startswith", "text start", "Whether it begins so.", (r#"{{startswith "abc" "ab"}}"#, "true"), |a| {
        Ok(json!(a.text(0).starts_with(a.text(1).as_ref())))
    }),
    def("endswith", "text end", "Whether it ends so.", (r#"{{endswith "abc" "bc"}}"#, "true"), |a| {
        Ok(json!(a.text(0).ends_with(a.text(1).as_ref())))
    }),
    def("removeprefix", "text start", "Without this beginning, if it has it.", (r#"{{removeprefix "v1.2" "v"}}"#, r#""1.2""#), |a| {
        let s = a.text(0);
        Ok(json!(s.strip_prefix(a.text(1).as_ref()).unwrap_or(&s)))
    }),
    def("removesuffix", "text end", "Without this end, if it has it.", (r#"{{removesuffix "a.hbs" ".hbs"}}"#, r#""a""#), |a| {
        let s = a.text(0);
        Ok(json!(s.strip_suffix(a.text(1).as_ref()).unwrap_or(&s)))
    }),
    def("repeat", "text times", "The text so many times.", (r#"{{repeat "ab" 2}}"#, r#""abab""#), |a| {
        let n = usize::try_from(a.whole(1)?).unwrap_or(0);
        let s = a.text(0);
        limits::room(n.saturating_mul(s.len()))?;
        Ok(json!(s.repeat(n)))
    }),
    def("substr", "text from [to]", "The characters from one place to before another, counted from 0; negative: from the end.", (r#"{{substr "abcdef" 1 3}}"#, r#""bc""#), |a| {
        let s: Vec<char> = a.text(0).chars().collect();
        let at = |i: i64| if i < 0 { s.len().saturating_sub(i.unsigned_abs() as usize) } else { s.len().min(i as usize) };
        let (from, to) = (at(a.whole(1)?), a.get(2).map_or(Ok(s.len()), |v| as_whole(v).map(at))?);
        Ok(json!(s.get(from..to).unwrap_or_default().iter().collect::<String>()))
    }),
    def("indent", "text [width] [first] [blank]", "Every line but the first moved to the right by so many spaces (4), or by the text given; first=true moves the first too, blank=true empty ones.", (r#"{{indent "a" 2 true}}"#, r#""  a""#), |a| {
        let pad = match a.either(1, "width") {
            None => " ".repeat(4),
            Some(Value::String(s)) if s.parse::<i64>().is_err() => s.clone(),
            Some(v) => match usize::try_from(as_whole(v)?) {
                Ok(n) if n <= 1000 => " ".repeat(n),
                _ => return Err("its width is between 0 and 1000".into()),
            },
        };
        let first = a.either(2, "first").map_or(Ok(false), as_truth)?;
        let blank = a.either(3, "blank").map_or(Ok(false), as_truth)?;
        let s = a.text(0);
        limits::room(s.len() + pad.len().saturating_mul(s.matches('\n').count() + 1))?;
        let mut out = String::with_capacity(s.len() + 64);
        for (i, line) in s.split('\n').enumerate() {
            let line = if is_python() { line.strip_suffix('\r').unwrap_or(line) } else { line };
            if i > 0 {
                out.push('\n');
            }
            // To Ansible the first line is one whatever is in it.
            let padded = blank || !line.is_empty() || i == 0 && is_python();
            if (i > 0 || first) && padded {
                out.push_str(&pad);
            }
            out.push_str(line);
        }
        Ok(json!(out))
    })
    .named(&["width", "first", "blank"]),
    def("center", "text width", "In the middle of so many characters.", (r#"{{center "ab" 6}}"#, r#""  ab  ""#), |a| {
        let s = a.text(0);
        let (have, want) = (s.chars().count(), width(a.whole(1)?)?);
        let gap = want.saturating_sub(have);
        let left = gap / 2 + (gap & want & 1);
        Ok(json!(format!("{}{s}{}", " ".repeat(left), " ".repeat(gap - left))))
    }),
    def("truncate", "text [length] [killwords] [end] [leeway]", "Cut to so many characters (255), at a word unless killwords is true, with `…`'s dots at the end.", (r#"{{truncate "abcdefgh" 5 true "." 0}}"#, r#""abcd.""#), |a| {
        let s: Vec<char> = a.text(0).chars().collect();
        let length = usize::try_from(a.either(1, "length").map_or(Ok(255), as_whole)?).unwrap_or(0);
        let kill = a.either(2, "killwords").map_or(Ok(false), as_truth)?;
        let end = a.either(3, "end").map(as_text).unwrap_or("...".into());
        let leeway = usize::try_from(a.either(4, "leeway").map_or(Ok(5), as_whole)?).unwrap_or(0);
        if is_python() && (length < end.chars().count()) {
            return Err("its length has room for its end at least".into());
        }
        if s.len() <= length + leeway {
            return Ok(json!(a.text(0)));
        }
        let cut: String = s[..length.saturating_sub(end.chars().count()).min(s.len())].iter().collect();
        let cut = if kill { &cut[..] } else { cut.rsplit_once(' ').map_or(&cut[..], |(c, _)| c) };
        Ok(json!(format!("{cut}{end}")))
    })
    .named(&["length", "killwords", "end", "leeway"]),
    def("wordwrap", "text [width]", "Lines of at most so many characters (79), broken at spaces; break_long_words=false lets a long word stand.", (r#"{{wordwrap "ab cd ef" 5}}"#, r#""ab cd\nef""#), |a| {
        let width = usize::try_from(a.either(1, "width").map_or(Ok(79), as_whole)?).unwrap_or(79).max(1);
        let breaks = a.either(2, "break_long_words").map_or(Ok(true), as_truth)?;
        let end = a.either(3, "wrapstring").map(as_text).unwrap_or("\n".into());
        limits::room((a.text(0).len() + 1).saturating_mul(end.len() + 1))?;
        let long = |l: &str| l.chars().count() > width && l.trim_matches('-').contains('-');
        if is_python() && a.text(0).lines().any(long) {
            return Err("Ansible also breaks lines behind hyphens, and this does not: wrap the text by hand".into());
        }
        Ok(json!(a.text(0).lines().map(|l| wrapped(l, width, breaks).join(&end)).collect::<Vec<_>>().join(&end)))
    })
    .named(&["width", "break_long_words", "wrapstring"]),
    def("wordcount", "text", "How many words it has.", (r#"{{wordcount "a bc"}}"#, "2"), |a| {
        Ok(json!(a.text(0).split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).count()))
    }),
    def("comment", "text [style]", "As a comment: plain (#), c (//), erlang (%), xml, cblock; decoration= sets the sign.", (r##"{{comment "a"}}"##, r##""#\n# a\n#""##), comment)
        .named(&["decoration"]),
    def("format", "pattern […]", "printf: %s %d %i %x %X %o %f %.2f %5s %-5s %05d %%.", (r#"{{format "%s-%02d" "a" 7}}"#, r#""a-07""#), |a| {
        printf(&a.text(0), &a.rest(1)).map(Value::String)
    }),
    def("quote", "text", "As one word of a shell.", (r#"{{quote "a b"}}"#, r#""'a b'""#), |a| {
        let s = if a[0].is_null() { "".into() } else { a.text(0) };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
        // The same word to a shell, written as Python writes it.
        if is_python() && s.contains('\'') && !s.chars().all(plain) {
            return Ok(json!(format!("'{}'", s.replace('\'', r#"'"'"'"#))));
        }
        Ok(json!(crate::quote::shell_quote(&s)))
    }),
    def("basename", "path", "The last part of a path.", (r#"{{basename "/a/b"}}"#, r#""b""#), |a| {
        Ok(json!(a.text(0).rsplit('/').next().unwrap_or_default()))
    }),
    def("dirname", "path", "A path without its last part.", (r#"{{dirname "/a/b"}}"#, r#""/a""#), |a| {
        let s = a.text(0);
        Ok(json!(match s.rfind('/') {
            None => "",
            Some(i) => {
                let head = &s[..=i];
                match head.trim_end_matches('/') {
                    "" => head,
                    some => some,
                }
            }
        }))
    }),
    def("splitext", "path", "A path and its extension.", (r#"{{splitext "a.tar.gz"}}"#, r#"["a.tar",".gz"]"#), |a| {
        let s = a.text(0);
        let base = s.rfind('/').map_or(0, |i| i + 1);
        let name = &s[base..];
        let lead = name.len() - name.trim_start_matches('.').len();
        let dot = name[lead..].rfind('.').map_or(s.len(), |i| base + lead + i);
        Ok(json!([s[..dot], s[dot..]]))
    }),
    def("path_join", "parts […]", "One path of its parts; an absolute part begins anew.", (r#"{{path_join "/a" "b"}}"#, r#""/a/b""#), |a| {
        let parts: Vec<&Value> = match a.get(0) {
            Some(Value::Array(l)) if a.len() == 1 => l.iter().collect(),
            _ => a.values.clone(),
        };
        let mut out = String::new();
        for p in parts {
            let p = as_text(p);
            if p.starts_with('/') {
                out.clear();
            } else if !out.is_empty() && !out.ends_with('/') {
                out.push('/');
            }
            out.push_str(&p);
        }
        Ok(json!(out))
    }),
    def("normpath", "path", "A path without `.`, `..` and doubled slashes.", (r#"{{normpath "/a/../b//c/."}}"#, r#""/b/c""#), |a| {
        Ok(json!(normal(&a.text(0))))
    }),
    def("relpath", "path start", "The way from `start` to the path.", (r#"{{relpath "/a/b/c" "/a/d"}}"#, r#""../b/c""#), |a| {
        let (p, s) = (normal(&a.text(0)), normal(&a.text(1)));
        if p.starts_with('/') != s.starts_with('/') {
            return Err("both paths must be absolute, or both relative".into());
        }
        fn parts(s: &str) -> Vec<&str> {
            s.split('/').filter(|x| !x.is_empty() && *x != ".").collect()
        }
        let (p, s) = (parts(&p), parts(&s));
        let same = p.iter().zip(&s).take_while(|(a, b)| a == b).count();
        let way: Vec<&str> = s[same..].iter().map(|_| "..").chain(p[same..].iter().copied()).collect();
        Ok(json!(if way.is_empty() { ".".to_string() } else { way.join("/") }))
    }),
    def("commonpath", "paths", "What all paths begin with.", (r#"{{commonpath (list "/a/b" "/a/c")}}"#, r#""/a""#), |a| {
        let all: Vec<String> = a.list(0)?.iter().map(|p| normal(&as_text(p))).collect();
        let Some(first) = all.first() else { return Err("the list is empty".into()) };
        let mut end = first.split('/').count();
        for p in &all[1..] {
            end = end.min(first.split('/').zip(p.split('/')).take_while(|(a, b)| a == b).count());
        }
        let common = first.split('/').take(end).collect::<Vec<_>>().join("/");
        Ok(json!(if common.is_empty() && first.starts_with('/') { "/".to_string() } else { common }))
    }),
    def("length", "value", "How many elements, entries or characters.", (r#"{{length "abc"}}"#, "3"), length),
    def("count", "value", "The same as `length`.", (r#"{{count (list 1 2)}}"#, "2"), length),
];

/// A line's words on lines that are not too long. What does not fit on any line fills up the one it begins on.
fn wrapped(line: &str, width: usize, breaks: bool) -> Vec<String> {
    let line: Vec<char> = line.chars().collect();
    // Words, and the spaces between them.
    let mut chunks: std::collections::VecDeque<&[char]> = line.chunk_by(|a, b| (*a == ' ') == (*b == ' ')).collect();
    let mut out: Vec<String> = vec![];
    while !chunks.is_empty() {
        let mut now: Vec<&[char]> = vec![];
        let mut have = 0;
        if !out.is_empty() && chunks[0][0] == ' ' {
            chunks.pop_front();
        }
        while let Some(c) = chunks.front().copied().filter(|c| have + c.len() <= width) {
            have += c.len();
            now.push(c);
            chunks.pop_front();
        }
        if chunks.front().is_some_and(|c| c.len() > width) {
            if breaks {
                let (long, rest) = chunks.pop_front().unwrap_or_default().split_at(width - have);
                chunks.push_front(rest);
                now.push(long);
            } else if now.is_empty() {
                now.extend(chunks.pop_front());
            }
        }
        if now.last().is_some_and(|c| c.iter().all(|c| *c == ' ')) {
            now.pop();
        }
        if !now.is_empty() {
            out.push(now.concat().into_iter().collect());
        }
    }
    out
}

/// A width in characters.
pub fn width(n: i64) -> Result<usize, &'static str> {
    match usize::try_from(n) {
        Ok(n) if n > 10_000 => Err("a width is 10000 at most"),
        n => Ok(n.unwrap_or(0)),
    }
}

fn capital(s: &str) -> String {
    let mut chars = s.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect())
}

fn length(a: &Args) -> Result<Value, Fail> {
    Ok(json!(match &a[0] {
        Value::Array(l) => l.len(),
        Value::Object(o) => o.len(),
        Value::String(s) => s.chars().count(),
        other => return Err(Fail::Wrong(format!("it counts lists, mappings and text, not {}", kind_of(other)))),
    }))
}

fn normal(path: &str) -> String {
    let root = path.starts_with('/');
    let mut out: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if out.last().is_some_and(|l| *l != "..") => {
                out.pop();
            }
            ".." if root => {}
            p => out.push(p),
        }
    }
    match (root, out.join("/")) {
        // Two slashes, and only two, may mean something else than one.
        (true, s) if path.starts_with("//") && !path.starts_with("///") => format!("//{s}"),
        (true, s) => format!("/{s}"),
        (false, s) if s.is_empty() => ".".into(),
        (false, s) => s,
    }
}

fn comment(a: &Args) -> Result<Value, Fail> {
    let style = a.get(1).map(as_text).unwrap_or("plain".into());
    let (begin, sign, end) = match style.as_ref() {
        "plain" => ("", "# ", ""),
        "c" => ("", "// ", ""),
        "erlang" => ("", "% ", ""),
        "cblock" => ("/*", " * ", " */"),
        "xml" => ("<!--", " - ", "-->"),
        other => return Err(Fail::Wrong(format!("it knows plain, c, erlang, cblock and xml, not `{other}`"))),
    };
    let sign = a.named_text("decoration").unwrap_or(sign.into());
    let bare = sign.trim_end();
    let text = a.text(0);
    limits::room(text.len() + sign.len().saturating_mul(text.matches('\n').count() + 3))?;
    let mut lines: Vec<String> = vec![];
    lines.extend(Some(begin.to_string()).filter(|b| !b.is_empty()));
    lines.push(bare.to_string());
    // Only what holds nothing but the sign loses the space behind it, the last line not even then.
    let count = text.split('\n').count();
    lines.extend(text.split('\n').enumerate().map(|(i, l)| match l {
        "" if !is_python() || i + 1 < count => bare.to_string(),
        l if is_python() => format!("{sign}{l}"),
        l => format!("{sign}{l}").trim_end().to_string(),
    }));
    lines.push(bare.to_string());
    lines.extend(Some(end.to_string()).filter(|e| !e.is_empty()));
    Ok(json!(lines.join("\n")))
}

/// Python's `%` on text, for the conversions that are used.
fn printf(pattern: &str, values: &[&Value]) -> Result<String, Fail> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = values.iter();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zero, mut plus, mut space, mut marked) = (false, false, false, false, false);
        while let Some(f) = chars.next_if(|c| "-0+ #".contains(*c)) {
            left |= f == '-';
            zero |= f == '0';
            plus |= f == '+';
            space |= f == ' ';
            marked |= f == '#';
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars>| {
            let mut s = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                s.push(d);
            }
            if s.is_empty() { Ok(0) } else { width(s.parse().unwrap_or(i64::MAX)) }
        };
        let wide = digits(&mut chars)?;
        let precision = chars.next_if(|c| *c == '.').map(|_| digits(&mut chars)).transpose()?;
        limits::room(out.len() + wide)?;
        let kind = chars.next().ok_or("the pattern ends after a `%`; write `%%` for the sign itself")?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let v = *next
            .next()
            .ok_or_else(|| format!("the pattern has more places than the {} values given", values.len()))?;
        let number = |v: &Value| {
            let read = if is_python() && v.is_string() { None } else { super::args::as_number(v) };
            read.ok_or_else(|| Fail::Wrong(format!("{} is no number, as %{kind} wants", shown(v))))
        };
        let sign = |negative: bool| {
            if negative {
                "-"
            } else if plus {
                "+"
            } else if space {
                " "
            } else {
                ""
            }
        };
        let (sign, body) = match kind {
            'r' if is_python() => {
                let text = crate::template::jinja::python_text(&json!([v]));
                ("", text[1..text.len() - 1].to_string())
            }
            's' | 'r' => ("", as_text(v).chars().take(precision.unwrap_or(usize::MAX)).collect::<String>()),
            'd' | 'i' | 'u' => {
                let n = if v.is_i64() { as_whole(v)? } else { number(v)? as i64 };
                (sign(n < 0), format!("{:0>1$}", n.unsigned_abs(), precision.unwrap_or(0)))
            }
            'x' | 'X' | 'o' | 'c' => {
                let n = as_whole(v)?;
                let u = n.unsigned_abs();
                (
                    sign(n < 0),
                    match kind {
                        _ if precision.is_some() => return Err(Fail::Wrong(format!("it does not know `%.…{kind}`"))),
                        'x' if marked && !zero => format!("0x{u:x}"),
                        'X' if marked && !zero => format!("0X{u:X}"),
                        'o' if marked && !zero => format!("0o{u:o}"),
                        _ if marked => return Err(Fail::Wrong(format!("it does not know `%#0{kind}`"))),
                        'x' => format!("{u:x}"),
                        'X' => format!("{u:X}"),
                        'o' => format!("{u:o}"),
                        _ => u32::try_from(u)
                            .ok()
                            .and_then(char::from_u32)
                            .map(String::from)
                            .ok_or("it is no character")?,
                    },
                )
            }
            'f' | 'F' => {
                let n = number(v)?;
                (sign(n < 0.0), format!("{:.*}", precision.unwrap_or(6), n.abs()))
            }
            other => {
                return Err(Fail::Wrong(format!("it does not know `%{other}`; it knows %s %d %i %x %X %o %c %f %%")));
            }
        };
        let gap = wide.saturating_sub(sign.chars().count() + body.chars().count());
        match (left, zero && kind != 's') {
            (true, _) => out.push_str(&format!("{sign}{body}{}", " ".repeat(gap))),
            (false, true) => out.push_str(&format!("{sign}{}{body}", "0".repeat(gap))),
            (false, false) => out.push_str(&format!("{}{sign}{body}", " ".repeat(gap))),
        }
    }
    if next.next().is_some() {
        return Err("the pattern has fewer places than values given".into());
    }
    Ok(out)
}
