//! Checksums, and the files that list them.

use sha2::Digest;
use std::io::Read;
use std::path::Path;

/// How a checksum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Sha1, Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha224 => "sha224",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        }
    }
    /// The command of that name on a host.
    pub fn tool(self) -> String {
        format!("{}sum", self.name())
    }
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }
    /// Hexadecimal digits of a sum.
    pub fn digits(self) -> usize {
        match self {
            Algorithm::Sha1 => 40,
            Algorithm::Sha224 => 56,
            Algorithm::Sha256 => 64,
            Algorithm::Sha384 => 96,
            Algorithm::Sha512 => 128,
        }
    }
    /// The sum of a file's content.
    pub fn of_file(self, path: &Path) -> std::io::Result<String> {
        let file = std::fs::File::open(path)?;
        match self {
            Algorithm::Sha1 => digest(sha1::Sha1::default(), file),
            Algorithm::Sha224 => digest(sha2::Sha224::default(), file),
            Algorithm::Sha256 => digest(sha2::Sha256::default(), file),
            Algorithm::Sha384 => digest(sha2::Sha384::default(), file),
            Algorithm::Sha512 => digest(sha2::Sha512::default(), file),
        }
    }
}

fn digest<D: Digest>(mut d: D, mut file: std::fs::File) -> std::io::Result<String> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(crate::modules::hex(&d.finalize()));
        }
        d.update(&buffer[..n]);
    }
}

/// A checksum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sum {
    pub algorithm: Algorithm,
    /// Lower-case hexadecimal digits.
    pub hex: String,
}

impl Sum {
    /// A sum from its digits; the message says what is wrong with them.
    pub fn new(algorithm: Algorithm, hex: &str) -> Result<Self, String> {
        let hex = hex.trim().to_ascii_lowercase();
        if hex.len() != algorithm.digits() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("a {} has {} hexadecimal digits", algorithm.name(), algorithm.digits()));
        }
        Ok(Sum { algorithm, hex })
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// The sum of a file in a list of sums, as `sha256sum` prints it (`HEX  name`, `HEX *name`) or with tags
/// (`SHA256 (name) = HEX`); or the only sum of a text that names no file. Names match by their last part; where several
/// do, the one that is the name and nothing more counts, or all must say the same.
pub fn find(text: &str, algorithm: Algorithm, file: &str) -> Result<Sum, String> {
    let entries: Vec<(String, Option<String>)> = text.lines().filter_map(|l| entry(l, algorithm)).collect();
    if entries.is_empty() {
        return Err(format!("there is no {} in it", algorithm.name()));
    }
    let found = |hex: &str| Sum::new(algorithm, hex);
    if let [(hex, None)] = entries.as_slice() {
        return found(hex);
    }
    let name = |n: &str| n.strip_prefix("./").unwrap_or(n).to_string();
    let named: Vec<(&str, String)> =
        entries.iter().filter_map(|(h, n)| Some((h.as_str(), name(n.as_deref()?)))).collect();
    let mut hits: Vec<&str> = named.iter().filter(|(_, n)| n == file).map(|(h, _)| *h).collect();
    if hits.is_empty() {
        hits = named.iter().filter(|(_, n)| n.rsplit('/').next() == Some(file)).map(|(h, _)| *h).collect();
    }
    match hits.as_slice() {
        [] => Err(format!("it does not name `{file}`")),
        [first, rest @ ..] if rest.iter().all(|h| h == first) => found(first),
        _ => Err(format!("it has several sums for `{file}`")),
    }
}

/// A line's sum in lower case and the file it is of.
fn entry(line: &str, algorithm: Algorithm) -> Option<(String, Option<String>)> {
    let is_sum = |h: &str| h.len() == algorithm.digits() && h.bytes().all(|b| b.is_ascii_hexdigit());
    let line = line.trim_start_matches('\u{feff}').trim_end();
    let bare = line.trim_start();
    let (bare, escaped) = bare.strip_prefix('\\').map_or((bare, false), |l| (l, true));
    let (hex, rest) = bare.split_once([' ', '\t']).unwrap_or((bare, ""));
    // A line that begins with a sum has no tag, whatever the file's name looks like.
    if !is_sum(hex) {
        let (head, hex) = line.rsplit_once(") = ")?;
        let (tag, name) = head.split_once(" (")?;
        let ours = tag.replace('-', "").eq_ignore_ascii_case(algorithm.name());
        return (ours && is_sum(hex)).then(|| (hex.to_ascii_lowercase(), Some(name.to_string())));
    }
    let hex = hex.to_ascii_lowercase();
    let name = rest.trim_start_matches([' ', '\t']);
    let name = name.strip_prefix('*').unwrap_or(name);
    Some((hex, (!name.is_empty()).then(|| if escaped { unescaped(name) } else { name.to_string() })))
}

fn unescaped(name: &str) -> String {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const B: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn lists_of_all_kinds() {
        let sum = |text: &str, file: &str| find(text, Algorithm::Sha256, file).map(|s| s.hex);
        assert_eq!(sum(&format!("{A}\n"), "anything").as_deref(), Ok(A));
        assert_eq!(sum(&format!("{}  k3s\n", A.to_uppercase()), "k3s").as_deref(), Ok(A));
        let many = format!("# sums\n{B}  other\n{A} *dist/k3s\n\nnonsense\n{B}  k3s.txt\n");
        assert_eq!(sum(&many, "k3s").as_deref(), Ok(A));
        assert_eq!(sum(&format!("SHA256 (k3s) = {A}\nSHA1 (k3s) = {}\n", &B[..40]), "k3s").as_deref(), Ok(A));
        assert_eq!(sum(&format!("{A}  ./k3s\r\n{B}  old/k3s\r\n"), "k3s").as_deref(), Ok(A), "the bare name wins");
        assert!(sum(&format!("{A}  x/k3s\n{B}  y/k3s\n"), "k3s").unwrap_err().contains("several"));
        assert_eq!(sum(&format!("{A}  (x) = y\n"), "(x) = y").as_deref(), Ok(A), "a name like a tagged line");
        assert!(sum(&many, "nope").unwrap_err().contains("does not name"));
        assert!(sum("<html>", "k3s").unwrap_err().contains("no sha256"));
        assert!(sum(&format!("{A}  other\n"), "k3s").is_err(), "another file's sum is never taken");
    }

    #[test]
    fn a_file_s_sums() {
        let dir = tempfile::tempdir().unwrap();
        let f = dir.path().join("f");
        std::fs::write(&f, "abc").unwrap();
        assert_eq!(Algorithm::Sha256.of_file(&f).unwrap(), B);
        assert_eq!(Algorithm::Sha1.of_file(&f).unwrap(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(Algorithm::Sha512.of_file(&f).unwrap().len(), 128);
    }

    proptest! {
        /// What a tool prints for some files gives each file its own sum back, in either format.
        #[test]
        fn every_file_gets_its_own_sum(
            names in proptest::collection::btree_set("[a-zA-Z0-9._ ()=*-]{0,11}[a-zA-Z0-9._-]", 1..6),
            seed in any::<u64>(), tagged in any::<bool>(), binary in any::<bool>(), folder in "(|\\./)",
        ) {
            // A name that begins with a mark of the format cannot be told from it.
            let names: Vec<String> = names.into_iter().filter(|n| !n.starts_with([' ', '*'])).collect();
            let hex = |i: usize| crate::modules::hex(&sha2::Sha256::digest(format!("{seed}{i}")));
            let text: String = names.iter().enumerate().map(|(i, n)| match tagged {
                true => format!("SHA256 ({folder}{n}) = {}\n", hex(i)),
                false => format!("{} {}{folder}{n}\n", hex(i), if binary { '*' } else { ' ' }),
            }).collect();
            for (i, n) in names.iter().enumerate() {
                prop_assert_eq!(find(&text, Algorithm::Sha256, n).map(|s| s.hex), Ok(hex(i)), "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_panic_or_invent(text in "\\PC{0,200}", file in "\\PC{0,10}") {
            if let Ok(s) = find(&text, Algorithm::Sha256, &file) {
                prop_assert!(text.to_ascii_lowercase().contains(&s.hex));
            }
        }
    }
}
