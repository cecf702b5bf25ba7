//! YAML text to [`Node`]s. Scalars follow YAML 1.2 as serde_yaml reads it (`yes` is text, `0644` is text).

use super::{Diagnostic, Entry, Kind, Node, Source, Span};
use saphyr::{MarkedYaml, ScalarStyle, YamlData, YamlLoader};
use saphyr_parser::Parser;
use serde_json::Number;
use std::sync::Arc;

/// How many aliases a document may expand: beyond it, it is a bomb rather than a file.
const ALIAS_LIMIT: usize = 10_000;

/// Parses every document of a file.
pub fn parse_all(source: &Arc<Source>) -> Result<Vec<Node>, Diagnostic> {
    let mut loader = YamlLoader::<MarkedYaml>::default();
    loader.early_parse(false);
    loader.alias_limit(ALIAS_LIMIT);
    let scan = Parser::new_from_str(&source.text).load(&mut loader, true);
    let broken = match scan {
        Err(e) => Some(e),
        Ok(()) => loader.error().cloned(),
    };
    if let Some(e) = broken {
        let at = source.offset(e.marker().line(), e.marker().col() + 1);
        return Err(syntax(source, at, e.info()));
    }
    let convert = Convert { source, bytes: CharIndex::new(&source.text) };
    loader.into_documents().iter().map(|d| convert.node(d)).collect()
}

/// Parses a file that is to hold one document; an empty file is a null.
pub fn parse(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    let mut documents = parse_all(source)?;
    match documents.len() {
        0 => Ok(Node { span: Span::new(source, 0..0), tag: None, kind: Kind::Null }),
        1 => Ok(documents.remove(0)),
        n => Err(Diagnostic::error(format!("{n} YAML documents where one is expected")).at(&documents[1].span)),
    }
}

fn syntax(source: &Arc<Source>, at: usize, info: &str) -> Diagnostic {
    let line = source.line_column(at).0;
    let d = Diagnostic::error(format!("not valid YAML: {info}")).at(&Span::new(source, at..at));
    let text = source.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
    if text.contains('\t') {
        d.hint("YAML is indented with spaces, not tabs")
    } else if text.contains("{{") && !text.contains("\"{{") && !text.contains("'{{") {
        d.hint("put quotes round a value that starts with `{{`: key: \"{{name}}\"")
    } else {
        d
    }
}

struct Convert<'s> {
    source: &'s Arc<Source>,
    bytes: CharIndex,
}

impl Convert<'_> {
    fn span(&self, y: &MarkedYaml) -> Span {
        Span::new(self.source, self.bytes.byte(y.span.start.index())..self.bytes.byte(y.span.end.index()))
    }

    fn node(&self, y: &MarkedYaml) -> Result<Node, Diagnostic> {
        let span = self.span(y);
        let (tag, kind) = match &y.data {
            YamlData::Representation(text, style, tag) => {
                let tag =
                    tag.as_ref().filter(|t| !t.is_yaml_core_schema()).map(|t| format!("{}{}", t.handle, t.suffix));
                let kind = if tag.is_some() { Kind::Str(text.to_string()) } else { scalar(text, *style) };
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
                let mut merges = vec![];
                for (k, v) in map {
                    let key_span = self.span(k);
                    let key = match &k.data {
                        YamlData::Representation(s, _, _) => s.to_string(),
                        YamlData::Mapping(_) => {
                            return Err(Diagnostic::error("a mapping stands where a value is expected")
                                .at(&key_span)
                                .hint("put quotes round a value that starts with `{{`: key: \"{{name}}\""));
                        }
                        _ => return Err(Diagnostic::error("keys must be plain text").at(&key_span)),
                    };
                    if matches!(&v.data, YamlData::Mapping(m) if m.len() == 1 && m.iter().next().is_some_and(|(k, v)| matches!(k.data, YamlData::Mapping(_)) && is_null(v)))
                    {
                        return Err(Diagnostic::error(format!("the value of `{key}` starts with an unquoted `{{{{`"))
                            .at(&self.span(v))
                            .hint(format!("put quotes round it: {key}: \"{{{{name}}}}\"")));
                    }
                    if let Some(twin) = entries.iter().find(|e| e.key == key) {
                        return Err(Diagnostic::error(format!("the key `{key}` stands twice in one mapping"))
                            .at(&key_span)
                            .also(&twin.key_span, "first here"));
                    }
                    let value = self.node(v)?;
                    if key == "<<" {
                        merges.push((key_span, value));
                    } else {
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
        _ => Err(Diagnostic::error("`<<` takes a mapping or a list of mappings").at(at)),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Kind {
    if style != ScalarStyle::Plain {
        return Kind::Str(text.to_string());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
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
            let n = i64::from_str_radix(digits, radix).ok()?;
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
    if unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && unsigned.bytes().any(|b| b.is_ascii_digit())
    {
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
        let n = read(
            "{a: yes, b: 0644, c: 12, d: 1.5, e: true, f: ~, g: 'x', h: 0o17, i: 1.2.3, j: -4, k: 10.0.0.1, l: 1e3}",
        )
        .unwrap();
        assert_eq!(
            n.to_value(),
            json!({"a": "yes", "b": "0644", "c": 12, "d": 1.5, "e": true, "f": null, "g": "x", "h": 15, "i": "1.2.3", "j": -4, "k": "10.0.0.1", "l": 1000.0})
        );
    }

    #[test]
    fn places_count_bytes_also_behind_umlauts() {
        let n = read("- näme: x\n  größe: [1, 'zwölf']\n").unwrap();
        let v = n.at_path(["0", "größe", "1"]);
        assert_eq!(v.span.text(), "'zwölf'");
        assert_eq!(v.span.place(), "t.yml:2:14");
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
