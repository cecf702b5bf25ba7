//! What dnf and zypper have in common: packages as rpm knows them.

use super::packages::check_names;
use super::{ArgError, args::List};
use crate::quote::{shell_join, shell_quote};

/// One package as people name it.
#[derive(Debug, PartialEq)]
enum Kind<'a> {
    /// `curl`, `curl-7.76.1`, `/usr/bin/curl`.
    Plain,
    /// The path or URL of a package file.
    File,
    /// `kernel-*`.
    Pattern,
    /// `curl>=7.76`: the name, the comparison, the version.
    Version(&'a str, &'a str, &'a str),
}

fn kind(name: &str) -> Kind<'_> {
    if name.ends_with(".rpm") {
        return Kind::File;
    }
    if let Some((n, op, v)) = compared(name) {
        return Kind::Version(n, op, v);
    }
    if name.contains(['*', '?', '[']) { Kind::Pattern } else { Kind::Plain }
}

/// The three parts of `curl>=7.76`.
fn compared(name: &str) -> Option<(&str, &str, &str)> {
    let at = name.find(['<', '>', '='])?;
    let (n, rest) = name.split_at(at);
    let op = &rest[..rest.find(|c| !"<>=".contains(c)).unwrap_or(rest.len())];
    (!n.starts_with('/')).then_some((n, op, &rest[op.len()..]))
}

/// The same with spaces around the comparison, as dnf wants it.
pub fn spaced(name: &str) -> String {
    match kind(name) {
        Kind::Version(n, op, v) => format!("{n} {op} {v}"),
        _ => name.to_string(),
    }
}

/// Checks names, and takes the spaces out of `curl >= 7.76`. `absent`: they are to be removed.
pub fn take_names(names: &mut List, absent: bool) -> Result<(), ArgError> {
    for n in &mut names.0 {
        let parts = compared(n).map(|(name, op, v)| format!("{}{op}{}", name.trim(), v.trim()));
        if let Some(whole) = parts {
            *n = whole;
        }
    }
    check_names(names)?;
    for n in names.iter() {
        match kind(n) {
            Kind::Version(_, op, v) => {
                if !matches!(op, "<" | "<=" | "=" | ">=" | ">") {
                    return Err(ArgError::new("name", format!("`{n}`: `{op}` compares nothing"))
                        .hint("there are <, <=, =, >= and >"));
                }
                if v.is_empty() || !v.chars().all(|c| c.is_ascii_alphanumeric() || "._+~^:-".contains(c)) {
                    return Err(ArgError::new("name", format!("`{n}`: `{v}` is not a version")));
                }
            }
            Kind::File if absent => {
                return Err(ArgError::new("name", format!("`{n}`: a file cannot be removed from the packages"))
                    .hint("name the package that is in it"));
            }
            Kind::Pattern if !absent && n.as_str() != "*" => {
                return Err(ArgError::new("name", format!("`{n}`: a pattern goes with `state: absent` only"))
                    .hint("which packages it would be, only the repositories know: name them"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// rpm knows an epoch of 0 only as none.
fn asked(name: &str) -> String {
    name.replacen("-0:", "-", 1)
}

/// A shell condition: whether the package is there.
fn there(name: &str) -> String {
    let q = shell_quote(&asked(name));
    match kind(name) {
        Kind::Plain => {
            format!("{{ rpm -q -- {q} >/dev/null 2>&1 || rpm -q --whatprovides -- {q} >/dev/null 2>&1; }}")
        }
        Kind::File => format!(
            "{{ w_p=$(rpm -qp --nosignature --qf '%{{NAME}}-%{{VERSION}}-%{{RELEASE}}.%{{ARCH}}' -- {q}) && rpm -q -- \"$w_p\" >/dev/null; }}"
        ),
        Kind::Pattern => format!("rpm -qa -- {q} | grep . >/dev/null"),
        Kind::Version(n, op, v) => {
            // Only what is wanted is compared: 7.76 is 7.76-3 as well.
            let epoch = if v.contains(':') { "%|EPOCH?{%{EPOCH}}:{0}|:" } else { "" };
            let release = if v.contains('-') { "-%{RELEASE}" } else { "" };
            let signs = match op {
                "<" => "-1",
                "<=" => "-1|0",
                ">=" => "0|1",
                ">" => "1",
                _ => "0",
            };
            format!(
                "{{ w_v=$(rpm -q --qf '{epoch}%{{VERSION}}{release}\\n' -- {n}) && for w_v in $w_v; do case \
                 $(rpm --eval \"%{{lua: print(rpm.vercmp('$w_v', '{v}'))}}\") in {signs}) break ;; *) false ;; esac; done; }}",
                n = shell_quote(n),
            )
        }
    }
}

/// Asks rpm for packages; [`missing`] reads the answer.
pub fn look(names: &[String]) -> String {
    let (plain, others): (Vec<&String>, Vec<&String>) = names.iter().partition(|n| kind(n) == Kind::Plain);
    let mut s = String::new();
    if !plain.is_empty() {
        let plain = shell_join(plain.iter().map(|n| asked(n)));
        s += &format!("rpm -q -- {plain}\nrpm -q --whatprovides -- {plain}\n");
    }
    for n in others {
        s += &format!("{} || printf 'not there: %s\\n' {}\n", there(n), shell_quote(n));
    }
    s
}

/// The packages that are not there, of what [`look`] printed.
pub fn missing(said: &str, names: &[String]) -> Vec<String> {
    let has = |l: String| said.lines().any(|x| x.trim() == l);
    let gone = |n: &&String| {
        let a = asked(n);
        has(format!("not there: {n}"))
            || (has(format!("package {a} is not installed"))
                && (has(format!("no package provides {a}"))
                    || has(format!("error: file {a}: No such file or directory"))))
    };
    names.iter().filter(gone).cloned().collect()
}

/// What [`look`] prints when all packages are there, or none.
pub fn said(names: &[String], there: bool) -> String {
    let line = |n: &String| match kind(n) {
        Kind::Plain => format!("package {a} is not installed\nno package provides {a}\n", a = asked(n)),
        _ => format!("not there: {n}\n"),
    };
    if there { String::new() } else { names.iter().map(line).collect() }
}

/// Prints the packages that are not there, a line each.
pub fn lacking(names: &[String]) -> String {
    names.iter().map(|n| format!("{} || printf '%s\\n' {}\n", there(n), shell_quote(n))).collect()
}

/// Package files, and what a repository may have something newer of.
pub fn in_repositories(names: &[String]) -> Vec<String> {
    names.iter().filter(|n| matches!(kind(n), Kind::Plain | Kind::Pattern)).cloned().collect()
}

/// Prints all packages with their versions.
pub const LIST: &str = "rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}.%{ARCH}\\n' | sort";

#[cfg(test)]
mod tests {
    use super::super::kit::sh_accepts;
    use super::*;

    fn taken(names: &[&str], absent: bool) -> Result<Vec<String>, String> {
        let mut l = List(names.iter().map(|n| n.to_string()).collect());
        take_names(&mut l, absent).map(|()| l.0.clone()).map_err(|e| e.message)
    }

    #[test]
    fn names() {
        assert_eq!(kind("curl>=7.76"), Kind::Version("curl", ">=", "7.76"));
        assert_eq!(kind("/usr/lib/a=b"), Kind::Plain);
        assert_eq!(kind("http://x/a=b.rpm"), Kind::File);
        assert_eq!(taken(&["curl >= 7.76", "a=1:2-3"], false).unwrap(), ["curl>=7.76", "a=1:2-3"]);
        assert_eq!(spaced("curl>=7.76"), "curl >= 7.76");
        assert_eq!(spaced("curl-7.76"), "curl-7.76");
        assert!(taken(&["kernel-*"], true).is_ok() && taken(&["*"], false).is_ok());
        for (bad, absent) in
            [("kernel-*", false), ("/srv/x.rpm", true), ("a=>1", false), ("a=1'", false), ("a>=", false), ("a b", true)]
        {
            assert!(taken(&[bad], absent).is_err(), "{bad}");
        }
    }

    #[test]
    fn questions_are_shell() {
        let names: Vec<String> =
            ["curl", "bash-0:5.1", "/srv/x y.rpm", "kernel-*", "a>=1", "b=1:2-3"].map(String::from).into();
        sh_accepts(&look(&names));
        sh_accepts(&lacking(&names));
        assert_eq!(missing(&said(&names, false), &names), names);
        assert!(missing(&said(&names, true), &names).is_empty());
        assert_eq!(in_repositories(&names), ["curl", "bash-0:5.1", "kernel-*"]);
        let one = missing("package curl is not installed\nno package provides bash-0:5.1\nnot there: a>=1\n", &names);
        assert_eq!(one, ["a>=1"]);
    }
}
