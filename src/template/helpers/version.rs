//! Versions, compared as Ansible's loose versions are: number by number, word by word.

use super::args::{as_text, kind_of};
use super::{Def, Fail, def};
use serde_json::{Value, json};
use std::cmp::Ordering;

pub const ALL: &[Def] = &[
    def(
        "version",
        "version other [operator]",
        "Compares versions; the operator is ==, !=, <, <=, >, >= or eq, ne, lt, le, gt, ge. A leading `v` does not count. version_type=\"semver\" heeds pre-releases.",
        (r#"{{version "v1.31.12+k3s1" "v1.31.9+k3s2" ">="}}"#, "true"),
        |a| {
            let kind = a.named_text("version_type").unwrap_or("loose".into());
            let (x, y) = (a.text(0), a.text(1));
            for (s, what) in [(&x, "first"), (&y, "second")] {
                if s.trim().is_empty() {
                    return Err(Fail::Wrong(format!("its {what} argument is an empty version")));
                }
            }
            let strict = a.flag("strict", false)?;
            let order = match kind.as_ref() {
                "loose" if !strict => compare(&x, &y),
                "loose" | "strict" => strictly(&x)?.cmp(&strictly(&y)?),
                "semver" | "semantic" => semantic(&x, &y)?,
                other => {
                    return Err(Fail::Wrong(format!("its version_type is loose, strict or semver, not `{other}`")));
                }
            };
            let op = a.either(2, "operator").map(as_text).unwrap_or("eq".into());
            Ok(json!(match op.as_ref() {
                "==" | "=" | "eq" => order.is_eq(),
                "!=" | "<>" | "ne" => order.is_ne(),
                "<" | "lt" => order.is_lt(),
                "<=" | "le" | "lte" => order.is_le(),
                ">" | "gt" => order.is_gt(),
                ">=" | "ge" | "gte" => order.is_ge(),
                other => {
                    return Err(Fail::Wrong(format!(
                        "`{other}` is no operator; it knows ==, !=, <, <=, >, >= and eq, ne, lt, le, gt, ge"
                    )));
                }
            }))
        },
    )
    .named(&["operator", "version_type", "strict"]),
    def("version_sort", "list", "Versions from the lowest to the highest; reverse=true turns it round.", (r#"{{version_sort (list "1.10" "1.9")}}"#, r#"["1.9","1.10"]"#), |a| {
        let mut l = a.list(0)?.to_vec();
        if let Some(v) = l.iter().find(|v| !v.is_string() && !v.is_number()) {
            return Err(Fail::Wrong(format!("it sorts text, not {}", kind_of(v))));
        }
        l.sort_by(|x, y| compare(&as_text(x), &as_text(y)));
        if a.flag("reverse", false)? {
            l.reverse();
        }
        Ok(Value::Array(l))
    })
    .named(&["reverse"]),
];

/// A piece of a version. A word comes before a number, so that `1.0.rc1` is older than `1.0.1`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Word(&'a str),
    /// Without leading noughts: its length, then its digits, is its order, however long it is.
    Number(usize, &'a str),
}

/// Digits, small letters, and what is between them; dots only part.
fn parts(version: &str) -> Vec<Part<'_>> {
    let v = version.trim();
    let v = v.strip_prefix(['v', 'V']).filter(|r| r.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(v);
    let kind = |c: char| match c {
        '0'..='9' => 0,
        'a'..='z' => 1,
        '.' => 2,
        _ => 3,
    };
    let mut out = vec![];
    let mut rest = v;
    while let Some(first) = rest.chars().next() {
        let k = kind(first);
        let end = rest.find(|c| kind(c) != k).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        match k {
            0 => {
                let digits = piece.trim_start_matches('0');
                out.push(Part::Number(digits.len(), digits));
            }
            2 => {}
            _ => out.push(Part::Word(piece)),
        }
        rest = after;
    }
    out
}

/// The order of two versions.
pub fn compare(a: &str, b: &str) -> Ordering {
    parts(a).cmp(&parts(b))
}

/// `1.2` or `1.2.3`, perhaps with `a1` or `b2` behind it; one without comes after those.
fn strictly(v: &str) -> Result<impl Ord + use<>, Fail> {
    let wrong = || Fail::Wrong(format!("`{v}` is no strict version; write 1.2.3, or leave version_type out"));
    let (numbers, pre) = match v.find(['a', 'b']) {
        Some(i) => (&v[..i], Some((v[i..=i].to_string(), v[i + 1..].parse::<u64>().map_err(|_| wrong())?))),
        None => (v, None),
    };
    let mut n = numbers.split('.').map(|p| p.parse().map_err(|_| wrong())).collect::<Result<Vec<u64>, Fail>>()?;
    if !(2..=3).contains(&n.len()) {
        return Err(wrong());
    }
    n.resize(3, 0);
    Ok((n, pre.map_or((true, String::new(), 0), |(l, n)| (false, l, n))))
}

fn semantic(a: &str, b: &str) -> Result<Ordering, Fail> {
    fn read(v: &str) -> Result<(Vec<u64>, Option<&str>), Fail> {
        let wrong = || Fail::Wrong(format!("`{v}` is no semantic version; write 1.2.3 or 1.2.3-rc.1"));
        let core = v.split('+').next().unwrap_or(v);
        let core = core.strip_prefix('v').unwrap_or(core);
        let (numbers, pre) = core.split_once('-').map_or((core, None), |(n, p)| (n, Some(p)));
        let n = numbers.split('.').map(|p| p.parse().map_err(|_| wrong())).collect::<Result<Vec<u64>, Fail>>()?;
        if n.len() == 3 { Ok((n, pre)) } else { Err(wrong()) }
    }
    let ((x, xp), (y, yp)) = (read(a)?, read(b)?);
    Ok(x.cmp(&y).then_with(|| match (xp, yp) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(x), Some(y)) => {
            let one = |x: &str, y: &str| match (x.parse::<u64>(), y.parse::<u64>()) {
                (Ok(x), Ok(y)) => x.cmp(&y),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                _ => x.cmp(y),
            };
            let (xs, ys): (Vec<&str>, Vec<&str>) = (x.split('.').collect(), y.split('.').collect());
            let differ = xs.iter().zip(&ys).map(|(x, y)| one(x, y)).find(|o| o.is_ne());
            differ.unwrap_or(xs.len().cmp(&ys.len()))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_total(a in "v?[0-9.a-c+-]{1,8}", b in "v?[0-9.a-c+-]{1,8}", c in "v?[0-9.a-c+-]{1,8}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            let mut all = [&a, &b, &c];
            all.sort_by(|x, y| compare(x, y));
            prop_assert!(compare(all[0], all[2]).is_le());
        }

        #[test]
        fn numbers_count_by_value(a in 0u64..5000, b in 0u64..5000) {
            prop_assert_eq!(compare(&format!("v1.{a}+k3s1"), &format!("v1.{b}+k3s1")), a.cmp(&b));
        }
    }

    #[test]
    fn releases_of_k3s() {
        let order =
            ["v1.9.9+k3s1", "v1.31.2+k3s2", "v1.31.12+k3s1", "v1.31.12+k3s2", "v1.31.12+k3s10", "v1.32.0-rc1+k3s1"];
        for w in order.windows(2) {
            assert_eq!(compare(w[0], w[1]), Ordering::Less, "{w:?}");
        }
        assert_eq!(compare("v1.31.12", "1.31.12"), Ordering::Equal);
    }
}
