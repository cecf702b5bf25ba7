//! A line split into words as a shell splits it: quotes, backslashes, `#` comments.

use std::ops::Range;

/// One word without its quotes, and the bytes of the line it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub at: Range<usize>,
}

/// The words of a line and the place of its comment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub words: Vec<Word>,
    /// Where a `#` cuts a word short (`a=b#c`): likely not meant as a comment.
    pub cut: Option<usize>,
}

/// A quote that is never closed (its place), or a backslash at the very end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclosed(pub usize);

/// Splits a line; with `comments`, a `#` outside quotes ends it.
pub fn split(line: &str, comments: bool) -> Result<Line, Unclosed> {
    let mut out = Line::default();
    let mut word: Option<Word> = None;
    let mut chars = line.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let end = i + c.len_utf8();
        if c.is_whitespace() {
            out.words.extend(word.take());
            continue;
        }
        if c == '#' && comments {
            out.cut = word.as_ref().map(|_| i);
            break;
        }
        let w = word.get_or_insert_with(|| Word { text: String::new(), at: i..end });
        w.at.end = end;
        match c {
            '\\' => {
                let (j, next) = chars.next().ok_or(Unclosed(i))?;
                w.text.push(next);
                w.at.end = j + next.len_utf8();
            }
            '\'' | '"' => loop {
                let (j, d) = chars.next().ok_or(Unclosed(i))?;
                w.at.end = j + d.len_utf8();
                if d == c {
                    break;
                }
                if d == '\\' && c == '"' {
                    let (j, next) = chars.next().ok_or(Unclosed(i))?;
                    if next != '"' && next != '\\' {
                        w.text.push('\\');
                    }
                    w.text.push(next);
                    w.at.end = j + next.len_utf8();
                } else {
                    w.text.push(d);
                }
            },
            _ => w.text.push(c),
        }
    }
    out.words.extend(word);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line, true).unwrap().words.into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn quotes_backslashes_comments() {
        assert_eq!(texts("a b=\"x y\" c='p \"q\"' # rest"), ["a", "b=x y", "c=p \"q\""]);
        assert_eq!(texts(r#"a\ b "c\"d" "e\f" 'g\h'"#), ["a b", "c\"d", "e\\f", "g\\h"]);
        assert_eq!(texts("'' x"), ["", "x"]);
        assert_eq!(texts("# only"), Vec::<String>::new());
    }

    #[test]
    fn places_and_cuts() {
        let l = split("äb c='d'e#f", true).unwrap();
        assert_eq!(l.words[1], Word { text: "c=de".into(), at: 4..10 });
        assert_eq!(l.cut, Some(10));
        assert_eq!(split("a 'b", true), Err(Unclosed(2)));
        assert_eq!(split("a\\", true), Err(Unclosed(1)));
    }
}
