//! `find`: files by name, age, size and what is in them. It changes nothing.

use super::args::{Bool, List, Mode, Text};
use super::copy::absolute;
use super::place::tidy;
use super::regex::{line_regex, text_regex};
use super::whole::Whole;
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{Observed, Probe};
use crate::quote::shell_join;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fancy_regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Finds files on the host.
///
/// Registers `files` (each with path, mode, size, mtime, atime, ctime, uid, gid, pw_name, gr_name, nlink, inode, dev, isdir,
/// isreg, islnk, … and, with `get_checksum`, checksum), `matched`, `examined`, `skipped_paths` and `msg`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// The folders to look in. Also `path`, `name`.
    #[serde(alias = "path", alias = "name")]
    #[schemars(extend("x-aliases" = ["path", "name"]))]
    paths: List,
    /// What names look like: wildcards, or regular expressions with `use_regex`; one of them must match the whole name.
    /// In a text, commas part them; one with a comma in it goes into a list. Also `pattern`.
    #[serde(alias = "pattern")]
    #[schemars(extend("x-aliases" = ["pattern"]))]
    #[serde(default)]
    patterns: List,
    /// What names do not look like. Also `exclude`.
    #[serde(alias = "exclude")]
    #[schemars(extend("x-aliases" = ["exclude"]))]
    #[serde(default)]
    excludes: List,
    /// `patterns` and `excludes` are regular expressions.
    #[serde(default)]
    use_regex: Bool,
    /// A regular expression that must match a file's content: from a line's start, or anywhere in the file with
    /// `read_whole_file`.
    contains: Option<Text>,
    /// `contains` is looked for in the whole file at once, not line by line.
    #[serde(default)]
    read_whole_file: Bool,
    /// At least so old (`2d`, `12h`, `30m`, `1w`, seconds without a letter); with `-` in front, at most.
    age: Option<Text>,
    /// Which time is the age.
    #[serde(default)]
    age_stamp: Stamp,
    /// At least so large (`10m`, `1g`, `512`, bytes without a letter); with `-` in front, at most.
    size: Option<Text>,
    /// `file`, `directory`, `link`, `any`.
    #[serde(default)]
    file_type: Kind,
    /// Look in folders below too.
    #[serde(default)]
    recurse: Bool,
    /// How far down; with `recurse`.
    depth: Option<Whole>,
    /// Names that begin with a dot as well.
    #[serde(default)]
    hidden: Bool,
    /// Follow links to folders.
    #[serde(default)]
    follow: Bool,
    /// Give each file's checksum.
    #[serde(default)]
    get_checksum: Bool,
    /// The checksum's kind: md5, sha1 (the default), sha224, sha256, sha384, sha512.
    #[serde(default, alias = "checksum", alias = "checksum_algo")]
    #[schemars(extend("x-aliases" = ["checksum", "checksum_algo"]))]
    checksum_algorithm: Algorithm,
    /// Permissions a file must have.
    mode: Option<Mode>,
    /// They must be just these; else at least.
    #[serde(default = "yes")]
    exact_mode: Bool,
    /// At most so many.
    limit: Option<Whole>,
    #[serde(skip)]
    #[schemars(skip)]
    tests: Tests,
}

fn yes() -> Bool {
    Bool(true)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Stamp {
    Atime,
    Ctime,
    #[default]
    Mtime,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Any,
    Directory,
    #[default]
    File,
    Link,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    Md5,
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Debug, Default)]
struct Tests {
    patterns: Vec<Regex>,
    excludes: Vec<Regex>,
    contains: Option<Regex>,
    age: Option<i64>,
    size: Option<i64>,
}

/// What is told of a file, and its path.
type Found = (Map<String, Value>, String);

/// How many files are looked at on one host, at most; and how much of one is read for `contains`.
const MOST: usize = 20_000;
const READ: u64 = 1 << 20;

impl Module for Find {
    const NAME: &'static str = "find";
    const EXAMPLE: &'static str = r#"- name: Old logs
  find:
    paths: [/var/log/app]
    patterns: ["*.log"]
    age: 4w
  register: old
- name: Gone
  file: {path: "{{item.path}}", state: absent}
  loop: "{{old.files}}""#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.paths.is_empty() {
            return Err(ArgError::new("paths", "there is no folder to look in"));
        }
        for p in &mut self.paths.0 {
            absolute("paths", p)?;
            *p = tidy(p);
            if p.is_empty() {
                *p = "/".into();
            }
        }
        let compiled = |param: &str, p: &List| {
            let of = |t: &String| match self.use_regex.0 {
                true => line_regex(param, &format!("^(?:{t})")),
                false => line_regex(param, &from_glob(t)),
            };
            p.iter().map(of).collect::<Result<Vec<_>, _>>()
        };
        self.tests = Tests {
            patterns: compiled("patterns", &self.patterns)?,
            excludes: compiled("excludes", &self.excludes)?,
            contains: match &self.contains {
                None => None,
                Some(c) if self.read_whole_file.0 => Some(text_regex("contains", "", c)?),
                Some(c) => Some(text_regex("contains", "m", &format!("^(?:{})", c.0))?),
            },
            age: self
                .age
                .as_deref()
                .map(|t| unit("age", t, &[('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)]))
                .transpose()?,
            size: self
                .size
                .as_deref()
                .map(|t| unit("size", t, &[('b', 1), ('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30), ('t', 1 << 40)]))
                .transpose()?,
        };
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let out = &seen.script(&self.look())?.stdout;
        let (mut files, mut examined, mut skipped) = (vec![], 0, Map::new());
        let mut found: Vec<Found> = vec![];
        for record in out.split('\0').filter(|r| !r.is_empty()) {
            match record.split_once(' ') {
                Some(("missing", p)) => {
                    skipped.insert(p.to_string(), json!("is not a folder"));
                }
                Some(("file", rest)) => {
                    examined += 1;
                    found.extend(self.file(rest, ctx)?);
                }
                _ => {}
            }
        }
        if examined > MOST {
            return Err(Stop::fail_hint(
                format!("there are more than {MOST} files below {}", self.paths.join(", ")),
                "look in fewer folders, or with a `depth`",
            ));
        }
        found.sort_by(|a, b| a.1.cmp(&b.1));
        // What is in the files is asked only of those that are left.
        if self.get_checksum.0 || self.tests.contains.is_some() {
            let regular = |f: &Map<String, Value>| f["isreg"] == json!(true);
            let wanted: Vec<&String> = found.iter().filter(|(f, _)| regular(f)).map(|(_, p)| p).collect();
            if !wanted.is_empty() {
                let out = &seen.script(&self.read(&wanted))?.stdout;
                if out.lines().count() < wanted.len() {
                    return Err(Stop::fail_hint(
                        "there is too much in these files to read it all",
                        "name fewer of them",
                    ));
                }
                let mut answers = out.lines().map(|l| l.split_once(' ').unwrap_or((l, "")));
                let mut kept = vec![];
                for (mut f, p) in found {
                    if regular(&f) {
                        let (sum, body) = answers.next().unwrap_or_default();
                        if self.get_checksum.0 {
                            f.insert("checksum".into(), json!(sum));
                        }
                        let body = STANDARD.decode(body).unwrap_or_default();
                        if let Some(re) = &self.tests.contains
                            && !hit(re, &String::from_utf8_lossy(&body), "contains")?
                        {
                            continue;
                        }
                    }
                    kept.push((f, p));
                }
                found = kept;
            }
        }
        for (f, _) in
            found.into_iter().take(self.limit.map_or(usize::MAX, |l| usize::try_from(l.0).unwrap_or(usize::MAX)))
        {
            files.push(Value::Object(f));
        }
        let mut r = Map::new();
        r.insert("matched".into(), json!(files.len()));
        r.insert("files".into(), json!(files));
        r.insert("examined".into(), json!(examined));
        let msg = if skipped.is_empty() {
            "All paths examined"
        } else {
            "Not all paths examined, check warnings for details"
        };
        r.insert("msg".into(), json!(msg));
        r.insert("skipped_paths".into(), Value::Object(skipped));
        Ok(Decision::satisfied(r))
    }
}

/// A name's wildcards as a regular expression.
fn from_glob(glob: &str) -> String {
    let mut out = String::from("(?s)^");
    let mut rest = glob.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' if rest.clone().skip(1).any(|c| c == ']') => {
                out.push('[');
                if rest.next_if_eq(&'!').is_some() {
                    out.push('^');
                }
                let mut first = true;
                for c in rest.by_ref() {
                    if c == ']' && !first {
                        break;
                    }
                    if matches!(c, '[' | ']' | '\\' | '^' | '&' | '~') {
                        out.push('\\');
                    }
                    out.push(c);
                    first = false;
                }
                out.push(']');
            }
            c if c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() => out.push(c),
            c => {
                out.push('\\');
                out.push(c);
            }
        }
    }
    out + r"\Z"
}

/// `-2d` in seconds, `10m` in bytes.
fn unit(param: &str, text: &str, units: &[(char, i64)]) -> Result<i64, ArgError> {
    let t = text.trim().to_ascii_lowercase();
    let (number, factor) = match t.chars().last().and_then(|c| units.iter().find(|u| u.0 == c)) {
        Some((_, f)) => (&t[..t.len() - 1], *f),
        None => (t.as_str(), 1),
    };
    number.parse::<i64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(|| {
        ArgError::new(param, format!("`{text}` is no `{param}`")).hint("a number and a letter, as in `2d` or `10m`")
    })
}

fn hit(re: &Regex, text: &str, param: &str) -> Result<bool, Stop> {
    re.is_match(text).map_err(|e| Stop::fail(format!("`{param}` takes too long: {e}")))
}

impl Algorithm {
    fn tool(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5sum",
            Algorithm::Sha1 => "sha1sum",
            Algorithm::Sha224 => "sha224sum",
            Algorithm::Sha256 => "sha256sum",
            Algorithm::Sha384 => "sha384sum",
            Algorithm::Sha512 => "sha512sum",
        }
    }
}

impl Find {
    /// Lists what is there. Each record ends in NUL.
    fn look(&self) -> String {
        let depth = match (self.recurse.0, self.depth) {
            (false, _) => "-maxdepth 1 ".to_string(),
            (true, Some(d)) => format!("-maxdepth {} ", d.0),
            (true, None) => String::new(),
        };
        // A folder that was named is looked into, even if its name is a link.
        let follow = if self.follow.0 { "-L" } else { "-H" };
        let hidden = if self.hidden.0 { "" } else { "! -name '.*' " };
        format!(
            "for p in {}; do\n[ -d \"$p\" ] || {{ printf 'missing %s\\0' \"$p\"; continue; }}\n\
             find {follow} \"$p\" -mindepth 1 {depth}{hidden}\\\n\
             -printf 'file %m %y %s %U %G %u %g %n %i %D %A@ %T@ %C@ %p\\0' 2>/dev/null\ndone | head -z -n {}",
            shell_join(self.paths.iter()),
            MOST + 1
        )
    }

    /// Checksums and contents, a line each.
    fn read(&self, paths: &[&String]) -> String {
        let sum = match self.get_checksum.0 {
            true => format!("$({} <\"$f\" | cut -d ' ' -f 1)", self.checksum_algorithm.tool()),
            false => String::new(),
        };
        let body = match self.tests.contains {
            Some(_) => format!("head -c {READ} <\"$f\" | base64 -w 0\n"),
            None => String::new(),
        };
        format!("for f in {}; do\nprintf '%s ' \"{sum}\"\n{body}echo\ndone 2>/dev/null", shell_join(paths))
    }

    /// One file, if it is one of those that are looked for.
    fn file(&self, record: &str, ctx: &Ctx) -> Result<Option<Found>, Stop> {
        let f: Vec<&str> = record.splitn(14, ' ').collect();
        let [mode, kind, size, uid, gid, owner, group, links, inode, dev, atime, mtime, ctime, path] = f[..] else {
            return Ok(None);
        };
        let wanted = match self.file_type {
            Kind::Any => true,
            Kind::Directory => kind == "d",
            Kind::File => kind == "f",
            Kind::Link => kind == "l",
        };
        let name = path.rsplit('/').next().unwrap_or(path);
        let any = |list: &[Regex], param: &str| {
            list.iter().try_fold(false, |found, re| Ok::<_, Stop>(found || hit(re, name, param)?))
        };
        if !wanted
            || !(self.tests.patterns.is_empty() || any(&self.tests.patterns, "patterns")?)
            || any(&self.tests.excludes, "excludes")?
        {
            return Ok(None);
        }
        let (number, time) = (|t: &str| t.parse::<u64>().unwrap_or(0), |t: &str| t.parse::<f64>().unwrap_or(0.0));
        let bits = u32::from_str_radix(mode, 8).unwrap_or(0);
        let stamp = match self.age_stamp {
            Stamp::Atime => time(atime),
            Stamp::Ctime => time(ctime),
            Stamp::Mtime => time(mtime),
        };
        let fits = |wanted: Option<i64>, is: f64| match wanted {
            None => true,
            Some(w) if w >= 0 => is >= w as f64,
            Some(w) => is <= w.unsigned_abs() as f64,
        };
        if !fits(self.tests.age, ctx.now as f64 - stamp) || !fits(self.tests.size, number(size) as f64) {
            return Ok(None);
        }
        if let Some(m) = &self.mode {
            let m = m.apply(if self.exact_mode.0 { bits } else { 0 }, kind == "d");
            if (self.exact_mode.0 && m != bits) || (!self.exact_mode.0 && bits & m != m) {
                return Ok(None);
            }
        }
        let mut r = json!({
            "path": path, "mode": format!("{bits:04o}"), "size": number(size), "uid": number(uid), "gid": number(gid),
            "pw_name": owner, "gr_name": group, "nlink": number(links), "inode": number(inode), "dev": number(dev),
            "atime": time(atime), "mtime": time(mtime), "ctime": time(ctime),
        });
        for (field, c) in [
            ("isdir", "d"),
            ("isreg", "f"),
            ("islnk", "l"),
            ("isfifo", "p"),
            ("issock", "s"),
            ("ischr", "c"),
            ("isblk", "b"),
        ] {
            r[field] = json!(kind == c);
        }
        Ok(r.as_object().map(|o| (o.clone(), path.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    /// What it finds on this machine, names below the folder.
    fn names(dir: &std::path::Path, params: &str) -> Vec<String> {
        let m: Find = bind(&format!("{{paths: {}, {params}}}", dir.display()));
        files(&m).iter().map(|f| f["path"].as_str().unwrap()[dir.as_os_str().len() + 1..].to_string()).collect()
    }
    fn files(m: &Find) -> Vec<Value> {
        let mut o = look(m.probes(&ctx()));
        for _ in 0..3 {
            match m.decide(&o, &ctx()) {
                Err(Stop::Need(p)) => look(p).iter().for_each(|(p, a)| o.insert(p.clone(), a.clone())),
                d => return satisfied(d).result["files"].as_array().unwrap().clone(),
            }
        }
        panic!("it asks for ever")
    }
    fn tree() -> tempfile::TempDir {
        let t = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(t.path().join("sub/deep")).unwrap();
        for (name, body) in [
            ("a.log", "one\ntwo\n"),
            ("b c\n'.log", "x"),
            (".hidden.log", ""),
            ("sub/d.txt", "deep"),
            ("sub/deep/e.log", ""),
        ] {
            std::fs::write(t.path().join(name), body).unwrap();
        }
        std::os::unix::fs::symlink("a.log", t.path().join("link")).unwrap();
        t
    }

    #[test]
    fn by_name_and_kind() {
        let t = tree();
        let n = |p: &str| names(t.path(), p);
        assert_eq!(n("patterns: '*.log'"), ["a.log", "b c\n'.log"]);
        assert_eq!(n("patterns: ['*.log'], hidden: true"), [".hidden.log", "a.log", "b c\n'.log"]);
        assert_eq!(
            n("patterns: ['*.log', '*.txt'], recurse: true, excludes: 'b*'"),
            ["a.log", "sub/d.txt", "sub/deep/e.log"]
        );
        assert_eq!(n("patterns: '^[a-d].*txt$', use_regex: true, recurse: true"), ["sub/d.txt"]);
        assert_eq!(n("recurse: true, depth: 2, patterns: '*.*'"), ["a.log", "b c\n'.log", "sub/d.txt"]);
        assert_eq!(n("file_type: directory, recurse: true"), ["sub", "sub/deep"]);
        assert_eq!(n("file_type: link"), ["link"]);
        assert_eq!(n("patterns: '[!a]*.log'"), ["b c\n'.log"]);
        assert_eq!(n("patterns: 'a?log', limit: 1"), ["a.log"]);
        assert_eq!(n("patterns: '*.none, a.log', limit: '1'"), ["a.log"]);
        assert_eq!(n("patterns: '*.log,*.txt', excludes: 'b*,e*', recurse: true, depth: '2'"), ["a.log", "sub/d.txt"]);
        assert_eq!(n("patterns: ['^a{1,2}.log'], use_regex: true"), ["a.log"]);
        let to = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(t.path(), to.path().join("start")).unwrap();
        assert_eq!(names(&to.path().join("start"), "patterns: '*.txt', recurse: true"), ["sub/d.txt"]);
    }

    #[test]
    fn by_what_they_are() {
        let t = tree();
        let n = |p: &str| names(t.path(), p);
        assert_eq!(n("contains: 'tw'"), ["a.log"]);
        assert_eq!(n("contains: 'wo'"), Vec::<String>::new());
        assert_eq!(n("contains: 'e.tw', read_whole_file: true"), Vec::<String>::new());
        assert_eq!(n("contains: 'wo', read_whole_file: true"), ["a.log"]);
        assert_eq!(n("size: 2"), ["a.log"]);
        assert_eq!(n("size: -2, recurse: true"), ["b c\n'.log", "sub/deep/e.log"]);
        // The test's clock is in the future of these files.
        assert_eq!(n("age: 1h, patterns: a*"), ["a.log"]);
        assert_eq!(n("age: -1h, patterns: a*"), Vec::<String>::new());
    }

    #[test]
    fn what_it_tells() {
        let t = tree();
        let m: Find =
            bind(&format!("{{paths: [{0}, {0}/none], patterns: a.log, get_checksum: true}}", t.path().display()));
        let f = &files(&m)[0];
        assert_eq!((&f["size"], &f["isreg"], &f["isdir"]), (&json!(8), &json!(true), &json!(false)));
        assert_eq!(f["checksum"].as_str().unwrap().len(), 40);
        let r = satisfied(m.decide(&look(m.probes(&ctx())), &ctx()).or_else(|s| match s {
            Stop::Need(p) => m.decide(&look(m.probes(&ctx()).into_iter().chain(p)), &ctx()),
            s => Err(s),
        }));
        assert_eq!((&r.result["matched"], r.result["skipped_paths"].as_object().unwrap().len()), (&json!(1), 1));
        assert_eq!(r.result["examined"], json!(4));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Find>(y).unwrap_err().message;
        assert!(err("{paths: /x, age: soon}").contains("soon"));
        assert!(err("{paths: /x, patterns: '(', use_regex: true}").contains("regular expression"));
        assert!(err("{paths: x}").contains("x"));
    }

    #[test]
    fn by_mode_time_and_through_links() {
        use std::os::unix::fs::PermissionsExt;
        let t = tree();
        let n = |p: &str| names(t.path(), p);
        let chmod = |name: &str, mode: u32| {
            std::fs::set_permissions(t.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap()
        };
        chmod("a.log", 0o640);
        chmod("b c\n'.log", 0o600);
        assert_eq!(n("mode: '0640'"), ["a.log"]);
        assert_eq!(n("mode: '0600'"), ["b c\n'.log"]);
        assert_eq!(n("mode: '0600', exact_mode: false"), ["a.log", "b c\n'.log"]);
        assert_eq!(n("patterns: '*.log', limit: 1").len(), 1);
        // Changed long ago, its status just now (the clock of a test is years ahead of both).
        let old = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(t.path().join("a.log")).unwrap().set_modified(old).unwrap();
        assert_eq!(n("age: 2000w, patterns: '*.log'"), ["a.log"]);
        assert_eq!(n("age: 2000w, age_stamp: ctime, patterns: '*.log'"), Vec::<String>::new());
        std::os::unix::fs::symlink("sub", t.path().join("to")).unwrap();
        assert_eq!(n("patterns: d.txt, recurse: true"), ["sub/d.txt"]);
        assert_eq!(n("patterns: d.txt, recurse: true, follow: true"), ["sub/d.txt", "to/d.txt"]);
        let sum = |p: &str| {
            let m: Find = bind(&format!("{{paths: {}, patterns: a.log, get_checksum: true{p}}}", t.path().display()));
            files(&m)[0]["checksum"].as_str().unwrap().len()
        };
        assert_eq!((sum(""), sum(", checksum_algorithm: sha256")), (40, 64));
    }
}
