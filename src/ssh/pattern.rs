//! The host patterns of ssh_config and known_hosts: `*`, `?`, and lists with negation.

/// Whether `text` matches `pattern`, where `*` is any run of characters and `?` any one. Bytes, case-sensitive.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut i, mut j) = (0, 0);
    // Where to resume after the last `*`: one byte further into the text each time.
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        match p.get(i) {
            Some(b'*') => {
                star = Some((i + 1, j));
                i += 1;
            }
            Some(&c) if c == b'?' || c == t[j] => {
                i += 1;
                j += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    i = after;
                    j = from + 1;
                }
                None => return false,
            },
        }
    }
    p[i..].iter().all(|&c| c == b'*')
}

/// Whether `text` matches a list of patterns: at least one positive match, and no match of a pattern that starts
/// with `!`.
pub fn list_matches<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if matches(negated, text) => return false,
            Some(_) => {}
            None => found |= matches(pattern, text),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        assert!(matches("*.lan", "a.b.lan"));
        assert!(matches("node?", "node1"));
        assert!(matches("*", ""));
        assert!(matches("a*b*c", "aXbYbZc"));
        assert!(!matches("node?", "node"));
        assert!(!matches("*.lan", "lan"));
        assert!(!matches("a*b", "abc"));
    }

    #[test]
    fn lists_with_negation() {
        assert!(list_matches(["*.lan", "!db.lan"], "web.lan"));
        assert!(!list_matches(["*.lan", "!db.lan"], "db.lan"));
        assert!(!list_matches(["!db.lan"], "web.lan"), "a negation alone matches nothing");
    }
}
