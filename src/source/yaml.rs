//! YAML text to [`Node`]s. Scalars are what they are in Ansible (`yes` is true, `1e3` is text), but for `0644`, which is text.

use super::{Diagnostic, Entry, Kind, Node, Source, Span};
use saphyr::{MarkedYaml, ScalarStyle, YamlData, YamlLoader};
use saphyr_parser::{Event, Parser, SpannedEventReceiver as _};
use serde_json::Number;
use std::collections::HashMap;
use std::sync::Arc;

/// How many aliases a document may expand: beyond it, it is a bomb rather than a file.
const ALIAS_LIMIT: usize = 10_000;

/// How deep lists and mappings may stand in each other: everything that walks through them goes as deep.
const DEEPEST: usize = 100;

/// Parses every document of a file.
pub fn parse_all(source: &Arc<Source>) -> Result<Vec<Node>, Diagnostic> {
    let mut loader = YamlLoader::<MarkedYaml>::default();
    loader.early_parse(false);
    loader.alias_limit(ALIAS_LIMIT);
    let mut depth = Depth::default();
    for event in Parser::new_from_str(&source.text) {
        // The parser has a way of its own to do this, which goes as deep as the text does.
        let broken = match event {
            Err(e) => Some(e),
            Ok((event, span)) => {
                let at = span.start;
                if depth.after(&event) > DEEPEST {
                    let at = source.offset(at.line(), at.col() + 1);
                    let d =
                        Diagnostic::error(format!("lists and mappings stand more than {DEEPEST} deep in each other"));
                    return Err(d.at(&Span::new(source, at..at)).hint("is a bracket or a `-` there too often?"));
                }
                loader.on_event(event, span);
                loader.error().cloned()
            }
        };
        if let Some(e) = broken {
            let at = source.offset(e.marker().line(), e.marker().col() + 1);
            return Err(syntax(source, at, e.info()));
        }
    }
    let convert = Convert { source, bytes: CharIndex::new(&source.text) };
    loader.into_documents().iter().map(|d| convert.node(d)).collect()
}

/// How deep a document is, whatever its aliases stand for.
#[derive(Default)]
struct Depth {
    /// The collections that are open: their anchor, and how deep it goes on below them.
    open: Vec<(usize, usize)>,
    anchors: HashMap<usize, usize>,
}

impl Depth {
    /// Takes in what comes next, and says how deep it leads.
    fn after(&mut self, event: &Event<'_>) -> usize {
        let below = match event {
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                self.open.push((*anchor, 0));
                return self.open.len();
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((anchor, below)) => {
                    self.anchors.insert(anchor, below + 1);
                    below + 1
                }
                None => 0,
            },
            Event::Alias(anchor) => self.anchors.get(anchor).copied().unwrap_or(0),
            _ => 0,
        };
        if let Some((_, deepest)) = self.open.last_mut() {
            *deepest = below.max(*deepest);
        }
        self.open.len() + below
    }
}

/// Parses a file that is to hold one document; an empty file is a null.
pub fn parse(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    let mut documents = parse_all(source)?;
    match documents.len() {
        0 => Ok(Node { span: Span::new(source, 0..0), tag: None, kind: Kind::Null }),
        1 => Ok(documents.remove(0)),
        n => Err(Diagnostic::error(format!("{n} YAML documents where one is expected"))
            .at(&documents[1].span)
            .hint("take the line `---` between them out, or make a file of each")),
    }
}

/// A mistake the parser found, in words that say what to do about it.
fn syntax(source: &Arc<Source>, at: usize, info: &str) -> Diagnostic {
    let (line, column) = source.line_column(at);
    let text = source.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
    let start = source.offset(line, 1);
    let error = |message: &str| Diagnostic::error(message).at(&Span::new(source, at..at));
    let broken = || error(&format!("not valid YAML: {info}"));
    if info.contains("duplicated key") {
        return doubled(source, at, line, column).unwrap_or_else(|| broken().hint("take one of them out"));
    }
    let indentation = text.len() - text.trim_start_matches([' ', '\t']).len();
    if let Some(tab) = text[..indentation].find('\t') {
        let d = Diagnostic::error("a tab where YAML wants spaces");
        return d.at(&Span::new(source, start + tab..start + tab + 1)).hint("YAML is indented with spaces, not tabs");
    }
    if let Some(i) = text.find("{{").filter(|i| bare(text, *i)) {
        let end = text.find("}}").map_or(i + 2, |e| (e + 2).max(i + 2));
        let key = text[..i].trim().trim_start_matches("- ").trim_end_matches(':').trim();
        let key = if vars_like(key) { key } else { "key" };
        return Diagnostic::error("a value starts with an unquoted `{{`")
            .at(&Span::new(source, start + i..start + end))
            .hint(format!("put quotes round the whole value: {key}: \"{}\"", text[i..].trim_end()));
    }
    let has = |words: &[&str]| words.iter().any(|w| info.contains(w));
    if has(&["quoted scalar", "flow sequence"])
        && let Some((range, item)) = torn_item(&source.text, at)
    {
        let quote = if item.contains('\'') { '"' } else { '\'' };
        let d = Diagnostic::error("the comma within quotes ends this item of the list: the item itself is not quoted");
        let d = d.at(&Span::new(source, range));
        return if item.contains(quote) {
            d.hint("put quotes round the whole item, or write the list line by line, each with `- `")
        } else {
            d.hint(format!("put quotes round the whole item: {quote}{item}{quote}"))
        };
    }
    if has(&["quoted scalar"]) {
        broken().hint("close the quote; a line of quoted text that goes on must be indented deeper than its key")
    } else if has(&["mapping values are not allowed"]) {
        if text[..at.saturating_sub(start).min(text.len())].contains(": ") {
            error("not valid YAML: a second `: ` in one value").hint("put quotes round text that has `: ` in it")
        } else {
            broken().hint("indent this line like its neighbours: it stands deeper than the lines it belongs to")
        }
    } else if has(&["flow sequence"]) {
        broken().hint("close the `[`, or put the missing comma")
    } else if has(&["flow mapping"]) {
        broken().hint(
            "close the `{`, or put the missing comma; put quotes round text that has `{`, `}`, `[`, `]` or `,` in it",
        )
    } else if has(&["expected '-' indicator", "did not find expected key", "block collection", "block mapping"]) {
        broken().hint(
            "indent this line like its neighbours: keys of one mapping, and items of one list, stand in one column",
        )
    } else if has(&["unknown anchor"]) {
        broken().hint("an alias `*name` needs an anchor `&name` above it; put quotes round text that starts with `*`")
    } else if has(&["alias expansion"]) {
        broken().hint("the aliases of this file stand for more values than any real file has")
    } else if has(&["recursion limit"]) {
        error("lists and mappings stand too deep in each other").hint("is a bracket there too often?")
    } else if has(&["unexpected character", "cannot start any token"]) {
        broken().hint("put quotes round text that starts with a sign")
    } else {
        broken().hint("is the line indented rightly, and are all quotes and brackets closed?")
    }
}

/// The last item in front of a place, of a list in brackets on one line, that begins without quotes and has a comma within
/// quotes: `[eq (join a ",") b]`.
fn torn_item(text: &str, at: usize) -> Option<(std::ops::Range<usize>, &str)> {
    /// How many lines the quote that is open from there on can have swallowed.
    const FAR: usize = 50;
    let until = text[at..].find('\n').map_or(text.len(), |n| at + n);
    text[..until].rsplit('\n').take(FAR).find_map(|line| {
        let open = line
            .find(": [")
            .map(|i| i + 3)
            .or_else(|| line.trim_start().starts_with("- [").then(|| line.find('[')).flatten().map(|i| i + 1))?;
        let close = line.trim_end().strip_suffix(']')?.len();
        let (mut begin, mut quote, mut torn) = (open, None, false);
        for (i, c) in line.char_indices().filter(|(i, _)| (open..close).contains(i)).chain([(close, ',')]) {
            match (c, quote) {
                (',', None) => {
                    let item = line[begin..i].trim();
                    if torn && !item.starts_with(['"', '\'', '[', '{']) {
                        let start = line.as_ptr() as usize - text.as_ptr() as usize + begin;
                        let start = start + (line[begin..].len() - line[begin..].trim_start().len());
                        return Some((start..start + item.len(), item));
                    }
                    (begin, torn) = (i + 1, false);
                }
                (',', Some(_)) => torn = true,
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(q)) if c == q => quote = None,
                _ => {}
            }
        }
        None
    })
}

/// Whether what stands at `at` on a line stands outside quotes, as a value begins.
fn bare(line: &str, at: usize) -> bool {
    let before = line[..at].trim_end();
    before.ends_with([':', '-', '[', ','])
        && before.matches('"').count().is_multiple_of(2)
        && before.matches('\'').count().is_multiple_of(2)
}

fn vars_like(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// A key that stands twice, with the place where it stands first.
fn doubled(source: &Arc<Source>, at: usize, line: usize, column: usize) -> Option<Diagnostic> {
    let key: String = source.text[at..].chars().take_while(|c| !matches!(c, ':' | '\n' | ',' | '}')).collect();
    let key = key.trim_end();
    let bare = key.trim_matches(['"', '\'']);
    let d = Diagnostic::error(format!("the key `{bare}` stands twice in one mapping"))
        .at(&Span::new(source, at..at + key.len()))
        .hint("take one of them out");
    let same = |from: usize, to: usize| {
        let part = source.text.get(from..to)?;
        let i = part.rmatch_indices(key).find(|(i, _)| {
            part[i + key.len()..].trim_start().starts_with(':')
                && part[..*i].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-')
        })?;
        Some(from + i.0)
    };
    // In the same line (`{a: 1, a: 2}`), else the nearest line above that has it in the same column.
    let mut first = same(source.offset(line, 1), at);
    for above in (1..line).rev() {
        if first.is_some() {
            break;
        }
        let (from, to) = (source.offset(above, 1), source.offset(above + 1, 1));
        first = same(from, to).filter(|f| source.line_column(*f) == (above, column));
    }
    Some(match first {
        Some(f) => d.also(&Span::new(source, f..f + key.len()), "first here"),
        None => d,
    })
}

struct Convert<'s> {
    source: &'s Arc<Source>,
    bytes: CharIndex,
}

impl Convert<'_> {
    fn span(&self, y: &MarkedYaml) -> Span {
        let (start, mut end) = (self.bytes.byte(y.span.start.index()), self.bytes.byte(y.span.end.index()));
        // The parser leaves the closing bracket out.
        let text = self.source.text.as_bytes();
        let close = match (&y.data, text.get(start)) {
            (YamlData::Mapping(_), Some(b'{')) => Some(&b'}'),
            (YamlData::Sequence(_), Some(b'[')) => Some(&b']'),
            _ => None,
        };
        if close.is_some() && text.get(end) == close {
            end += 1;
        }
        Span::new(self.source, start..end)
    }

    fn node(&self, y: &MarkedYaml) -> Result<Node, Diagnostic> {
        let span = self.span(y);
        let (tag, kind) = match &y.data {
            YamlData::Representation(text, style, given) => {
                let given = given.as_ref();
                let tag = given.filter(|t| !t.is_yaml_core_schema()).map(|t| format!("{}{}", t.handle, t.suffix));
                let text_asked = given.is_some_and(|t| t.suffix == "str");
                let kind = if tag.is_some() || text_asked { Kind::Str(text.to_string()) } else { scalar(text, *style) };
                (tag, kind)
            }
            YamlData::Tagged(t, inner) => {
                let n = self.node(inner)?;
                (Some(format!("{}{}", t.handle, t.suffix)), n.kind)
            }
            YamlData::Sequence(items) => {
                (None, Kind::Seq(items.iter().map(|i| self.node(i)).collect::<Result<_, _>>()?))
            }
            YamlData::Mapping(map) => {
                let mut entries: Vec<Entry> = Vec::with_capacity(map.len());
                let mut places: HashMap<String, usize> = HashMap::with_capacity(map.len());
                let mut merges = vec![];
                for (k, v) in map {
                    let key_span = self.span(k);
                    let key = match &k.data {
                        YamlData::Representation(s, _, _) => s.to_string(),
                        YamlData::Mapping(_) => {
                            return Err(Diagnostic::error("a mapping stands where a key is expected").at(&key_span).hint(
                                "keys are plain text; put quotes round a value that starts with `{{`: key: \"{{name}}\"",
                            ));
                        }
                        _ => {
                            return Err(Diagnostic::error("a list stands where a key is expected")
                                .at(&key_span)
                                .hint("keys are plain text"));
                        }
                    };
                    if matches!(&v.data, YamlData::Mapping(m) if m.len() == 1 && m.iter().next().is_some_and(|(k, v)| matches!(k.data, YamlData::Mapping(_)) && is_null(v)))
                    {
                        return Err(Diagnostic::error(format!("the value of `{key}` starts with an unquoted `{{{{`"))
                            .at(&self.span(v))
                            .hint(format!("put quotes round it: {key}: \"{}\"", self.span(v).text())));
                    }
                    if let Some(twin) = places.get(&key).and_then(|i| entries.get(*i)) {
                        return Err(Diagnostic::error(format!("the key `{key}` stands twice in one mapping"))
                            .at(&key_span)
                            .also(&twin.key_span, "first here")
                            .hint("take one of them out"));
                    }
                    let value = self.node(v)?;
                    if key == "<<" {
                        merges.push((key_span, value));
                    } else {
                        places.insert(key.clone(), entries.len());
                        entries.push(Entry { key, key_span, value });
                    }
                }
                for (key_span, value) in merges {
                    merge(&mut entries, &key_span, value)?;
                }
                (None, Kind::Map(entries))
            }
            YamlData::Value(_) | YamlData::Alias(_) | YamlData::BadValue => {
                return Err(Diagnostic::error("this YAML value cannot be read").at(&span));
            }
        };
        Ok(Node { span, tag, kind })
    }
}

fn is_null(y: &MarkedYaml) -> bool {
    matches!(&y.data, YamlData::Representation(s, ScalarStyle::Plain, None) if matches!(s.as_ref(), "" | "~" | "null"))
}

/// `<<`: the keys of a mapping (or of a list of them) that are not there yet.
fn merge(entries: &mut Vec<Entry>, at: &Span, value: Node) -> Result<(), Diagnostic> {
    match value.kind {
        Kind::Map(m) => {
            for e in m {
                if !entries.iter().any(|x| x.key == e.key) {
                    entries.push(e);
                }
            }
            Ok(())
        }
        Kind::Seq(s) => s.into_iter().try_for_each(|n| merge(entries, at, n)),
        _ => Err(Diagnostic::error("`<<` takes a mapping or a list of mappings")
            .at(at)
            .hint("write `<<: *name`, with `&name` on the mapping that is to be merged")),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Kind {
    if style != ScalarStyle::Plain {
        return Kind::Str(text.to_string());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Kind::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Kind::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Kind::Str(text.to_string()), Kind::Number)
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            let n = i64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['-', '+']))?;
            return Some(Number::from(if text.starts_with('-') { -n } else { n }));
        }
    }
    // 0644 stays text: it is a mode, and neither 644 nor 420 is what its writer meant.
    if unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    if let Ok(n) = plain.parse::<i64>() {
        return Some(Number::from(n));
    }
    if let Ok(n) = plain.parse::<u64>() {
        return Some(Number::from(n));
    }
    // A larger whole number stays as it is written: no digit of it is lost. One with a point and no more is a number of
    // parts; an exponent needs both its own sign and the point.
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((m, e)) => (m, Some(e)),
        None => (unsigned, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, parts) = mantissa.split_once('.')?;
    let signed = |e: &str| e.strip_prefix(['+', '-']).is_some_and(|d| !d.is_empty() && digits(d));
    if digits(whole) && digits(parts) && mantissa.len() > 1 && exponent.is_none_or(signed) {
        return plain.parse::<f64>().ok().and_then(Number::from_f64);
    }
    None
}

/// The parser counts characters; spans count bytes.
struct CharIndex {
    /// Byte offset of every character, only for text that is not all ASCII.
    offsets: Option<Vec<usize>>,
    len: usize,
}

impl CharIndex {
    fn new(text: &str) -> Self {
        let offsets = (!text.is_ascii()).then(|| text.char_indices().map(|(i, _)| i).collect());
        CharIndex { offsets, len: text.len() }
    }
    fn byte(&self, index: usize) -> usize {
        match &self.offsets {
            None => index.min(self.len),
            Some(o) => o.get(index).copied().unwrap_or(self.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Node, Diagnostic> {
        parse(&Source::new("t.yml", text))
    }

    #[test]
    fn scalars_keep_what_people_mean() {
        let n = read("{b: 0644, c: 12, d: 1.5, e: true, f: ~, g: 'x', h: 0o17, i: 1.2.3, j: -4, k: 10.0.0.1}").unwrap();
        let expected = json!({"b": "0644", "c": 12, "d": 1.5, "e": true, "f": null, "g": "x", "h": 15, "i": "1.2.3", "j": -4, "k": "10.0.0.1"});
        assert_eq!(n.to_value(), expected);
    }

    #[test]
    fn words_for_true_and_false_are_those_of_ansible() {
        for (words, value) in
            [(["yes", "Yes", "YES", "on", "On", "ON"], true), (["no", "No", "NO", "off", "Off", "OFF"], false)]
        {
            for w in words {
                assert_eq!(read(&format!("a: {w}")).unwrap().to_value(), json!({"a": value}), "{w}");
                assert_eq!(read(&format!("a: '{w}'")).unwrap().to_value(), json!({"a": w}));
                assert_eq!(read(&format!("{w}: 1")).unwrap().to_value(), json!({w: 1}));
            }
        }
        for w in ["y", "n", "yES", "oN", "nope"] {
            assert_eq!(read(&format!("a: {w}")).unwrap().to_value(), json!({"a": w}));
        }
    }

    #[test]
    fn numbers_lose_nothing() {
        // As they are: an exponent needs a sign and a point before it, and whole numbers have all their digits.
        for text in
            ["1234e56", "1e3", "1.5e3", "1e+3", "99999999999999999999", "-99999999999999999999", ".", "1.2.", "."]
        {
            assert_eq!(read(&format!("a: {text}")).unwrap().to_value(), json!({"a": text}));
        }
        assert_eq!(
            read("{a: !!str 1.10, b: !!str 12, c: !!str yes, d: !!str}").unwrap().to_value(),
            json!({"a": "1.10", "b": "12", "c": "yes", "d": ""})
        );
        let n = read("{a: 1.5e+3, b: .5, c: -1.25e-2, d: 18446744073709551615, e: +1.5}").unwrap();
        assert_eq!(n.to_value(), json!({"a": 1500.0, "b": 0.5, "c": -0.0125, "d": u64::MAX, "e": 1.5}));
    }

    #[test]
    fn a_number_has_one_sign() {
        let n = read("{a: -0x-8000000000000000, b: 0x+1, c: -0x7fffffffffffffff}").unwrap();
        assert_eq!(n.to_value(), json!({"a": "-0x-8000000000000000", "b": "0x+1", "c": -i64::MAX}));
    }

    #[test]
    fn places_count_bytes_also_behind_umlauts() {
        let n = read("- näme: x\n  größe: [1, 'zwölf']\n").unwrap();
        let v = n.at_path(["0", "größe", "1"]);
        assert_eq!(v.span.text(), "'zwölf'");
        assert_eq!(v.span.place(), "t.yml:2:14");
    }

    #[test]
    fn what_stands_too_deep_is_an_error_with_a_place() {
        let through_aliases = |n: usize| {
            let mut text = format!("- &a0 {}{}\n", "[".repeat(50), "]".repeat(50));
            (1..n).for_each(|i| text += &format!("- &a{i} {}*a{}{}\n", "[".repeat(20), i - 1, "]".repeat(20)));
            text
        };
        for (text, place) in [
            ("- ".repeat(5000) + "a", "t.yml:1:201"),
            ("[".repeat(200), "t.yml:1:101"),
            ("? ".repeat(5000) + "a", "t.yml:1:201"),
            ((0..5000).map(|i| format!("{}a:\n", " ".repeat(i))).collect(), "t.yml:101:101"),
            (through_aliases(400), "t.yml:4:27"),
        ] {
            let d = read(&text).unwrap_err();
            assert!(d.message.contains("more than 100 deep") && d.hint.is_some(), "{}", d.message);
            assert_eq!(d.span.unwrap().place(), place);
        }
        assert!(read(&("[".repeat(100) + &"]".repeat(100))).is_ok());
        assert!(read(&through_aliases(3)).is_ok());
    }

    #[test]
    fn duplicate_keys_are_errors_with_a_place() {
        let d = read("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(d.span.unwrap().place(), "t.yml:3:1");
    }

    #[test]
    fn unquoted_template_says_quote_it() {
        let d = read("dest: {{ path }}\n").unwrap_err();
        assert!(d.hint.unwrap().contains("quotes"), "{}", d.message);
    }

    #[test]
    fn merge_keys_and_tags() {
        let n = read("base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}\npw: !age |\n  AGE\n").unwrap();
        assert_eq!(n.get("mine").unwrap().to_value(), json!({"y": 3, "x": 1}));
        assert_eq!(n.get("pw").unwrap().tag.as_deref(), Some("!age"));
        assert_eq!(n.get("pw").unwrap().as_str(), Some("AGE\n"));
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let d = read("a:\n  - b\n c: [\n").unwrap_err();
        assert!(d.message.starts_with("not valid YAML"), "{}", d.message);
        assert!(d.span.is_some());
    }
}
