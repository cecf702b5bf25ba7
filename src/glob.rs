//! Shell wildcards.

/// Shell wildcards over the whole name: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]` or `[^abc]`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match glob.get(g) {
            Some('*') => {
                star = Some((g + 1, n));
                g += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => match class(&glob[g..], name[n]) {
                Some((true, len)) => Some(len),
                Some((false, _)) => None,
                None => (name[n] == '[').then_some(1),
            },
            Some(c) => (*c == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(len), _) => {
                g += len;
                n += 1;
            }
            (None, Some((back, at))) => {
                star = Some((back, at + 1));
                g = back;
                n = at + 1;
            }
            (None, None) => return false,
        }
    }
    glob[g.min(glob.len())..].iter().all(|c| *c == '*')
}

/// Whether a character is in the class a glob starts with, and how long the class is; `None` where it isn't closed.
fn class(glob: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(glob.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let close = first + 1 + glob.get(first + 1..)?.iter().position(|x| *x == ']')?;
    let inner = &glob[first..close];
    let mut found = false;
    let mut i = 0;
    while i < inner.len() {
        if i + 2 < inner.len() && inner[i + 1] == '-' {
            found |= inner[i] <= c && c <= inner[i + 2];
            i += 3;
        } else {
            found |= inner[i] == c;
            i += 1;
        }
    }
    Some((found != negated, close + 1))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards() {
        for (pattern, name) in [
            ("*.txt", "a.txt"),
            ("a?c*", "abc"),
            ("*a*a", "xaya"),
            ("1.[0-9]*", "1.7-2"),
            ("[!a]b", "cb"),
            ("[^a]b", "cb"),
            ("[a", "[a"),
            ("*", ""),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.txt", "a.txt~"), ("a", "b"), ("[!a]b", "ab"), ("[a-c]", "d"), ("?", "")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
