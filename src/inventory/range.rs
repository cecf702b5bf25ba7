//! Host names with ranges and ports: `node[01:20].lan:2222`.

use std::net::Ipv6Addr;
use std::ops::Range;

/// More hosts than this from one line is a slip of the pen.
const LIMIT: u64 = 65_536;

/// What one host entry stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    pub names: Vec<String>,
    pub port: Option<u16>,
}

/// A host entry that cannot be understood: what is wrong, and which bytes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub at: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

impl Broken {
    fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Broken { at, message: message.into(), hint: None }
    }
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An IPv6 address, with or without a zone (`fe80::1%eth0`).
pub fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(a, z)| (a, Some(z)));
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(|z| !z.is_empty() && z.bytes().all(|b| b.is_ascii_graphic()))
}

/// Expands the ranges of a host entry and splits off its port.
pub fn expand(entry: &str) -> Result<Expanded, Broken> {
    if let Some(rest) = entry.strip_prefix('[')
        && let Some((inner, after)) = rest.split_once(']')
        && is_ipv6(inner)
    {
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => None,
            Some(p) => Some(port(p, entry.len() - p.len())?),
            None => return Err(Broken::new(entry.len() - after.len()..entry.len(), "only a port may follow `]`")),
        };
        return Ok(Expanded { names: vec![inner.to_string()], port });
    }
    let (host, port) = split_port(entry)?;
    let names = names(host)?;
    if let Some(bad) = names.iter().find_map(|n| bad_name(n)) {
        return Err(Broken { at: 0..host.len(), ..bad });
    }
    Ok(Expanded { names, port })
}

/// `name:port` at the one colon outside brackets; an IPv6 address has more colons and no port.
fn split_port(entry: &str) -> Result<(&str, Option<u16>), Broken> {
    let mut inside = false;
    let mut colons = vec![];
    for (i, c) in entry.char_indices() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ':' if !inside => colons.push(i),
            _ => {}
        }
    }
    match colons[..] {
        [i] => Ok((&entry[..i], Some(port(&entry[i + 1..], i + 1)?))),
        _ => Ok((entry, None)),
    }
}

fn port(text: &str, at: usize) -> Result<u16, Broken> {
    match text.parse::<u16>() {
        Ok(p) if p > 0 => Ok(p),
        _ => Err(Broken::new(at.saturating_sub(1)..at + text.len(), format!("`{text}` is not a port"))
            .hint("a port is a number from 1 to 65535")),
    }
}

/// Says what is wrong with a host's name, if anything is.
fn bad_name(name: &str) -> Option<Broken> {
    if is_ipv6(name) {
        return None;
    }
    let broken = |m: String| Some(Broken::new(0..0, m));
    if name.is_empty() {
        return broken("a host needs a name".into());
    }
    if name == "---" {
        return broken("`---` is not a host".into())
            .map(|b| b.hint("this looks like YAML: give the file the ending .yml"));
    }
    if let Some((user, host)) = name.split_once('@') {
        return broken(format!("`{name}` cannot be a host's name"))
            .map(|b| b.hint(format!("name the host `{host}` and set ansible_user: {user}")));
    }
    if let Some(c) = name.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))) {
        return broken(format!("`{name}` cannot be a host's name: it has `{c}` in it"));
    }
    if name.starts_with('-') {
        return broken(format!("`{name}` cannot be a host's name: it starts with `-`"));
    }
    None
}

enum Part<'a> {
    Text(&'a str),
    Each(Vec<String>),
}

/// Every name a text with ranges stands for, the last range counting fastest.
fn names(text: &str) -> Result<Vec<String>, Broken> {
    let mut parts = vec![];
    let mut total: u64 = 1;
    let mut at = 0;
    while let Some(open) = text[at..].find('[').map(|i| at + i) {
        stray(text, at..open)?;
        parts.push(Part::Text(&text[at..open]));
        let Some(close) = text[open..].find(']').map(|i| open + i) else {
            return Err(Broken::new(open..text.len(), "the range is not closed").hint("a range is written [1:7]"));
        };
        let place = open..close + 1;
        let (count, each) = sequence(&text[open + 1..close], place.clone())?;
        total = total.saturating_mul(count);
        if total > LIMIT {
            return Err(Broken::new(place, format!("the range stands for more than {LIMIT} hosts")));
        }
        parts.push(Part::Each(each()));
        at = close + 1;
    }
    stray(text, at..text.len())?;
    parts.push(Part::Text(&text[at..]));

    let mut names = vec![String::new()];
    for part in parts {
        match part {
            Part::Text(t) => names.iter_mut().for_each(|n| n.push_str(t)),
            Part::Each(each) => {
                names = names.iter().flat_map(|n| each.iter().map(move |e| format!("{n}{e}"))).collect();
            }
        }
    }
    Ok(names)
}

fn stray(text: &str, within: Range<usize>) -> Result<(), Broken> {
    match text[within.clone()].find(']') {
        Some(i) => Err(Broken::new(within.start + i..within.start + i + 1, "`]` without `[`")),
        None => Ok(()),
    }
}

type Sequence = Box<dyn FnOnce() -> Vec<String>>;

/// The values of one `begin:end` or `begin:end:step`: how many, and what makes them.
fn sequence(inner: &str, place: Range<usize>) -> Result<(u64, Sequence), Broken> {
    let broken = |m: String| Broken::new(place.clone(), m);
    let bounds: Vec<&str> = inner.split(':').collect();
    let (begin, end, step) = match bounds[..] {
        [b, e] => (b, e, "1"),
        [b, e, s] => (b, e, s),
        _ => {
            return Err(broken(format!("`[{inner}]` is not a range"))
                .hint("a range is written [begin:end] or [begin:end:step]"));
        }
    };
    let begin = if begin.is_empty() { "0" } else { begin };
    if end.is_empty() {
        return Err(broken("the range has no end".into()).hint("write both ends: [1:7]"));
    }
    let step: u64 = match step.parse() {
        Ok(s) if s > 0 => s,
        _ => return Err(broken(format!("`{step}` is not a step")).hint("a step is a number from 1 up")),
    };
    if let (Some(b), Some(e)) = (letter(begin), letter(end)) {
        if b.is_ascii_lowercase() != e.is_ascii_lowercase() {
            return Err(broken(format!("the range goes from `{begin}` to `{end}`")).hint("use letters of one case"));
        }
        if b > e {
            return Err(broken(format!("the range goes backwards, from `{begin}` to `{end}`"))
                .hint(format!("write [{end}:{begin}]")));
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let count = u64::from(e - b) / step as u64 + 1;
        return Ok((count, Box::new(move || (b..=e).step_by(step).map(|c| char::from(c).to_string()).collect())));
    }
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if !digits(begin) || !digits(end) {
        return Err(
            broken(format!("`[{inner}]` is not a range")).hint("both ends are numbers, or both are single letters")
        );
    }
    let (Ok(b), Ok(e)) = (begin.parse::<u64>(), end.parse::<u64>()) else {
        return Err(broken("the range's numbers are too large".into()));
    };
    if b > e {
        return Err(
            broken(format!("the range goes backwards, from {begin} to {end}")).hint(format!("write [{end}:{begin}]"))
        );
    }
    let width = if begin.len() > 1 && begin.starts_with('0') { begin.len() } else { 0 };
    if width > 0 && end.len() != width {
        return Err(broken(format!("`{begin}` and `{end}` differ in length"))
            .hint("write both ends with the same number of digits: [01:20]"));
    }
    let count = (e - b) / step + 1;
    Ok((count, Box::new(move || (0..count).map(|i| b + i * step).map(|n| format!("{n:0width$}")).collect())))
}

fn letter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [b] if b.is_ascii_alphabetic() => Some(*b),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(entry: &str) -> Vec<String> {
        expand(entry).unwrap().names
    }

    #[test]
    fn numbers_letters_steps_and_padding() {
        assert_eq!(names_of("node[1:3]"), ["node1", "node2", "node3"]);
        assert_eq!(names_of("node[08:11].lan"), ["node08.lan", "node09.lan", "node10.lan", "node11.lan"]);
        assert_eq!(names_of("[a:c]1"), ["a1", "b1", "c1"]);
        assert_eq!(names_of("n[1:9:4]"), ["n1", "n5", "n9"]);
        assert_eq!(names_of("n[:2]"), ["n0", "n1", "n2"]);
        assert_eq!(names_of("r[1:2]n[a:b]"), ["r1na", "r1nb", "r2na", "r2nb"]);
        assert_eq!(names_of("192.168.1.[9:10]"), ["192.168.1.9", "192.168.1.10"]);
        assert_eq!(names_of("n[a:e:3]"), ["na", "nd"]);
    }

    #[test]
    fn ports_and_addresses() {
        assert_eq!(expand("a:2222").unwrap(), Expanded { names: vec!["a".into()], port: Some(2222) });
        assert_eq!(expand("n[1:2]:22").unwrap().port, Some(22));
        assert_eq!(expand("[fe80::1]:2222").unwrap(), Expanded { names: vec!["fe80::1".into()], port: Some(2222) });
        assert_eq!(expand("2001:db8::1").unwrap(), Expanded { names: vec!["2001:db8::1".into()], port: None });
        assert_eq!(names_of("2001:db8::[1:2]"), ["2001:db8::1", "2001:db8::2"]);
        assert_eq!(names_of("fe80::1%eth0"), ["fe80::1%eth0"]);
    }

    #[test]
    fn broken_entries_say_what_and_where() {
        for (entry, part, at) in [
            ("n[1:7", "not closed", 1..5),
            ("n1:7]", "not a port", 2..5),
            ("n]", "`]` without `[`", 1..2),
            ("n[7:1]", "backwards", 1..6),
            ("n[c:a]", "backwards", 1..6),
            ("n[1:]", "no end", 1..5),
            ("n[1]", "not a range", 1..4),
            ("n[1:2:0]", "not a step", 1..8),
            ("n[01:100]", "differ in length", 1..9),
            ("n[a:9]", "not a range", 1..6),
            ("n[a:F]", "from `a` to `F`", 1..6),
            ("n[0:99999999]", "more than", 1..13),
            ("n[0:9999][0:9999]", "more than", 9..17),
            ("n[0:99999999999999999999]", "too large", 1..25),
            ("a:0", "not a port", 1..3),
            ("a:", "not a port", 1..2),
            ("pi@node", "`pi@node` cannot be", 0..7),
            ("a:b:c", "it has `:`", 0..5),
            ("[fe80::1]x", "only a port", 9..10),
        ] {
            let b = expand(entry).unwrap_err();
            assert!(b.message.contains(part), "{entry}: {}", b.message);
            assert_eq!(b.at, at, "{entry}: {}", b.message);
        }
    }
}
