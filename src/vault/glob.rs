//! Path patterns: `*` and `?` within a name, `**` for any folders.

/// Whether a pattern covers a path; both are relative, with `/` between names.
pub fn covers(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    let path: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    folders(&pattern, &path)
}

fn folders(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        // A folder's own name covers nothing: what lies in it is `folder/**`.
        (Some((&"**", [])), below) => below.is_some(),
        (Some((&"**", rest)), _) => (0..=path.len()).any(|i| folders(rest, path.get(i..).unwrap_or_default())),
        (Some((p, rest)), Some((n, below))) => name(p.as_bytes(), n.as_bytes()) && folders(rest, below),
        _ => false,
    }
}

/// One name, without going back further than the last `*`.
fn name(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(x) if x == c => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((sp, st)) => {
                    star = Some((sp, st + 1));
                    (p, t) = (sp + 1, st + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, yes, no) in [
            ("**", vec!["a", "a/b/c.yml"], vec![]),
            (
                "inventories/prod/**",
                vec!["inventories/prod/a", "inventories/prod/g/a.yml"],
                vec!["inventories/prod", "inventories/prod2/a", "x/inventories/prod/a"],
            ),
            ("**/vault.yml", vec!["vault.yml", "a/b/vault.yml"], vec!["a/vault.yaml", "avault.yml"]),
            ("*.yml", vec!["a.yml", ".yml"], vec!["a/b.yml", "a.yaml"]),
            ("a/**/z?.*", vec!["a/z1.yml", "a/b/c/zx.y"], vec!["a/z.yml", "b/z1.y"]),
            ("./a/", vec!["a"], vec!["a/b"]),
            ("a*b*c", vec!["abc", "axxbyybzc"], vec!["ab", "abcd"]),
        ] {
            yes.iter().for_each(|p| assert!(covers(pattern, p), "{pattern} {p}"));
            no.iter().for_each(|p| assert!(!covers(pattern, p), "{pattern} {p}"));
        }
        assert!(!covers(&"*a".repeat(40), &"a".repeat(39)), "no pattern takes for ever");
    }
}
