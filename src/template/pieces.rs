//! Large Handlebars templates: the engine counts lines and columns anew from the top for every tag, so that twice the
//! text takes four times as long. It is given a large text in pieces.

use super::TemplateError;
use super::explain::place_of;
use handlebars::Template;
use handlebars::template::TemplateElement;

/// Tags times bytes: what is less is compiled in one.
const SMALL: usize = 4_000_000;
/// The same of one piece that cannot be cut: it takes seconds.
const LARGEST: usize = 4_000_000_000;
/// How long a piece is at least.
const PIECE: usize = 8 << 10;

fn weight(text: &str) -> usize {
    text.matches("{{").count().saturating_mul(text.len())
}

/// Compiles a text, however large it is.
pub fn compile(text: &str) -> Result<Template, Wrong> {
    if weight(text) <= SMALL {
        return Template::compile(text).map_err(Wrong::Syntax);
    }
    let mut whole = Template::new();
    let (mut lines, mut from) = (0, 0);
    for to in cuts(text, PIECE).into_iter().chain([text.len()]) {
        let piece = &text[from..to];
        if weight(piece) > LARGEST {
            let tags = piece.matches("{{").count();
            let mut e = TemplateError::new(format!("{tags} tags in one block are too many"));
            e.at = Some(place_of(text, from));
            return Err(Wrong::Large(e.hint("make several templates of it, or a list and one `{{#each}}`")));
        }
        let mut t = match Template::compile(piece) {
            Ok(t) => t,
            // As it is said of the whole.
            Err(e) => return Err(Wrong::Piece(e, lines)),
        };
        shift(&mut t, lines);
        whole.elements.append(&mut t.elements);
        whole.mapping.append(&mut t.mapping);
        lines += piece.matches('\n').count();
        from = to;
    }
    Ok(whole)
}

/// What is wrong with a text.
pub enum Wrong {
    Syntax(handlebars::TemplateError),
    /// In a piece in front of which so many lines stand.
    Piece(handlebars::TemplateError, usize),
    Large(TemplateError),
}

impl Wrong {
    /// Line and column.
    pub fn at(&self) -> Option<(usize, usize)> {
        match self {
            Wrong::Syntax(e) => e.pos(),
            Wrong::Piece(e, lines) => e.pos().map(|(l, c)| (l + lines, c)),
            Wrong::Large(e) => e.at,
        }
    }
}

/// Puts the places of a piece where they are in the whole.
fn shift(t: &mut Template, lines: usize) {
    for place in &mut t.mapping {
        place.0 += lines;
    }
    for e in &mut t.elements {
        if let TemplateElement::HelperBlock(h) = e {
            for inner in [&mut h.template, &mut h.inverse].into_iter().flatten() {
                shift(inner, lines);
            }
        }
    }
}

/// Where lines begin that stand in no block and in no tag, and at which no `~` takes white space away.
fn cuts(text: &str, piece: usize) -> Vec<usize> {
    let mut out = vec![];
    if text.contains("{{{{") || text.contains("\\{{") {
        return out;
    }
    let (mut depth, mut at, mut last, mut trims) = (0usize, 0, 0, false);
    loop {
        let begin = text[at..].find("{{").map(|i| at + i);
        let between = &text[at..begin.unwrap_or(text.len())];
        // The engine remembers a `~}}` up to the next tag; white space in front of a `{{~` belongs to it.
        let back = match begin {
            Some(b) if text[b..].starts_with("{{~") => between.trim_end().len(),
            _ => between.len(),
        };
        if depth == 0 && !trims {
            for (i, _) in between.match_indices('\n') {
                let cut = at + i + 1;
                if i < back && cut >= last + piece && cut < text.len() {
                    out.push(cut);
                    last = cut;
                }
            }
        }
        let Some(begin) = begin else { return out };
        let inner = text[begin + 2..].trim_start_matches(['{', '~']).trim_start();
        let start = text.len() - inner.len();
        let end = if inner.starts_with("!--") {
            inner.find("--}}").map(|i| i + 2)
        } else if inner.starts_with('!') {
            inner.find("}}")
        } else {
            end_of_tag(inner)
        };
        let Some(end) = end.map(|e| start + e) else { return out };
        match inner.as_bytes().first() {
            Some(b'#') => depth += 1,
            Some(b'/') => match depth.checked_sub(1) {
                Some(d) => depth = d,
                // It closes nothing: the engine says so.
                None => return out,
            },
            _ => {}
        }
        // A comment passes it on.
        trims = text[..end].ends_with('~') || trims && inner.starts_with('!');
        at = end + text[end..].len() - text[end..].trim_start_matches('}').len();
    }
}

/// Where the `}}` is that ends a tag, text in quotes aside.
fn end_of_tag(inner: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, b) in inner.bytes().enumerate() {
        match (b, quote) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"' | b'\'', None) => quote = Some(b),
            (b, Some(q)) if b == q => quote = None,
            (b'}', None) if inner[i..].starts_with("}}") => return Some(i),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the engine would have compiled it in one, but for text that is in several parts.
    fn joined(t: &Template) -> Vec<(String, Option<(usize, usize)>)> {
        let mut out: Vec<(String, Option<(usize, usize)>)> = vec![];
        for (e, m) in t.elements.iter().zip(&t.mapping) {
            match (e, out.last_mut()) {
                (TemplateElement::RawString(s), Some((last, None))) => last.push_str(s),
                (TemplateElement::RawString(s), _) => out.push((s.clone(), None)),
                (e, _) => out.push((format!("{e:?}"), Some((m.0, m.1)))),
            }
        }
        out.retain(|(s, m)| m.is_some() || !s.is_empty());
        out
    }

    #[test]
    fn many_tags_take_no_longer_than_they_must() {
        let text = "line {{a}} x\n{{#if a}}\n  y\n{{/if}}\n".repeat(20_000);
        let begin = std::time::Instant::now();
        let t = compile(&text).map_err(|e| e.at()).unwrap();
        assert!(begin.elapsed().as_secs() < 8, "{:?}", begin.elapsed());
        assert_eq!(t.mapping.last().map(|m| m.0), Some(80_001));
        assert_eq!(compile(&format!("{text}{{{{#if}}")).map_err(|e| e.at()).err(), Some(Some((80_001, 6))));
        let block = format!("{{{{#if a}}}}{}{{{{/if}}}}", text.repeat(3));
        match compile(&block) {
            Err(Wrong::Large(e)) => {
                assert_eq!((e.message.as_str(), e.at), ("180002 tags in one block are too many", Some((1, 1))))
            }
            _ => panic!("it is taken"),
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole(parts in proptest::collection::vec(0usize..16, 1..12)) {
            let all = ["{{a}}", " {{~a}}", "{{a~}}\n", "\n", "  ", "x", "{{#if a}}", "{{/if}}", "{{else}}", "\n{{! c }}\n",
                "{{!-- {{x}} --}}", "{{eq a \"}}\"}}", "{{#if a~}} y {{~/if}}", "  {{#if a}}\n z\n  {{/if}}\n", "ö\n\n", "{{{a}}}"];
            let text: String = parts.iter().map(|i| all[*i]).collect::<String>();
            let whole = Template::compile(&text);
            let pieces: Vec<usize> = std::iter::once(0).chain(cuts(&text, 1)).chain([text.len()]).collect();
            if let Ok(whole) = whole {
                let mut made = Template::new();
                for w in pieces.windows(2) {
                    let mut t = Template::compile(&text[w[0]..w[1]]).map_err(|e| TestCaseError::fail(format!("{e} {text:?}")))?;
                    shift(&mut t, text[..w[0]].matches('\n').count());
                    made.elements.append(&mut t.elements);
                    made.mapping.append(&mut t.mapping);
                }
                prop_assert_eq!(joined(&made), joined(&whole));
            }
        }
    }
}
