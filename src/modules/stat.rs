//! `stat`: what is at a path. It changes nothing.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::place::{UNKNOWN_ID, may_not_look, tidy};
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{Entry, EntryKind, Observed, Probe};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Tells what is at a path, in the field `stat` of what is registered: exists, isdir, isreg, islnk, mode, size, uid, gid,
/// pw_name, gr_name, atime, mtime, ctime, lnk_source, lnk_target, checksum and more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stat {
    /// The path on the host. Also `dest`, `name`.
    #[serde(alias = "dest", alias = "name")]
    #[schemars(extend("x-aliases" = ["dest", "name"]))]
    path: Text,
    /// Follow a link at the path.
    #[serde(default)]
    follow: Bool,
    /// Give the checksum of a file. Without this and without `checksum_algorithm` there is none: a plan can then tell
    /// what is at the path whatever was changed before, and no file is read for nothing.
    get_checksum: Option<Bool>,
    /// The checksum's kind: md5, sha1 (the default), sha224, sha256, sha384, sha512. sha256 costs least.
    /// Also `checksum`, `checksum_algo`.
    #[serde(alias = "checksum", alias = "checksum_algo")]
    #[schemars(extend("x-aliases" = ["checksum", "checksum_algo"]))]
    checksum_algorithm: Option<Algorithm>,
    /// Only `false`: the type of a file's content is not looked for.
    #[serde(alias = "mime", alias = "mime_type", alias = "mime-type")]
    #[schemars(extend("x-aliases" = ["mime", "mime_type", "mime-type"]))]
    get_mime: Option<Bool>,
    /// Only `false`: attributes of the file system are not looked for.
    #[serde(alias = "attr", alias = "attributes")]
    #[schemars(extend("x-aliases" = ["attr", "attributes"]))]
    get_attributes: Option<Bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
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

impl Module for Stat {
    const NAME: &'static str = "stat";
    const RETURNS: &'static [(&'static str, &'static str)] = &[(
        "stat",
        "A mapping: exists, and where something is there path, isdir, isreg, islnk, mode, size, uid, gid, pw_name, gr_name, atime, mtime, ctime, nlink, readable, writeable, executable, lnk_source, lnk_target, checksum and more.",
    )];
    const EXAMPLE: &'static str = r#"- stat: {path: /etc/app.conf}
  register: conf
- debug: {msg: there is one}
  when: conf.stat.exists"#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("path", &self.path)?;
        self.path.0 = tidy(&self.path);
        for (param, value) in [("get_mime", self.get_mime), ("get_attributes", self.get_attributes)] {
            if value == Some(Bool(true)) {
                return Err(ArgError::new(param, format!("`{param}` can only be false: it is not looked for")));
            }
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::Path(self.path.0.clone())];
        p.extend(self.checksum());
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let state = seen.path(&self.path)?;
        if state.denied {
            return Err(may_not_look(ctx, &self.path));
        }
        let entry = if self.follow.0 { state.followed() } else { state.entry.as_ref() };
        let mut r = Map::new();
        r.insert("exists".into(), json!(entry.is_some()));
        if let Some(e) = entry {
            r.insert("path".into(), json!(&*self.path));
            self.fields(e, seen, ctx, &mut r)?;
            if e.kind == EntryKind::Link {
                r.insert("lnk_source".into(), json!(state.canonical));
                r.insert("lnk_target".into(), json!(state.link));
            }
            // A checksum is that of a regular file; through a link only where links are followed.
            if e.kind == EntryKind::File {
                match self.checksum() {
                    Some(Probe::Sha256(p)) => {
                        if let Some(sum) = seen.sha256(&p)? {
                            r.insert("checksum".into(), json!(sum));
                        }
                    }
                    Some(Probe::Script(s)) => {
                        let out = seen.script(&s)?;
                        if let Some(sum) = out.stdout.split_whitespace().next().filter(|_| out.rc == 0) {
                            // A name with a backslash or line end makes the tools put one in front.
                            r.insert("checksum".into(), json!(sum.trim_start_matches('\\')));
                        }
                    }
                    _ => {}
                }
            }
        }
        let mut result = Map::new();
        result.insert("stat".into(), Value::Object(r));
        Ok(Decision::satisfied(result))
    }
}

impl Stat {
    fn checksum(&self) -> Option<Probe> {
        let wanted = match (self.get_checksum, self.checksum_algorithm) {
            (Some(Bool(false)), _) | (None, None) => return None,
            (_, a) => a.unwrap_or(Algorithm::Sha1),
        };
        if wanted == Algorithm::Sha256 {
            return Some(Probe::Sha256(self.path.0.clone()));
        }
        let q = shell_quote(&self.path);
        Some(Probe::Script(format!("[ -f {q} ] || exit 0; {} < {q}", wanted.tool())))
    }

    fn fields(&self, e: &Entry, seen: &Observed, ctx: &Ctx, r: &mut Map<String, Value>) -> Result<(), Stop> {
        r.insert("mode".into(), json!(format!("{:04o}", e.mode)));
        r.insert("isdir".into(), json!(e.kind == EntryKind::Directory));
        r.insert("isreg".into(), json!(e.kind == EntryKind::File));
        r.insert("islnk".into(), json!(e.kind == EntryKind::Link));
        // Which of the rare kinds it is, only a second look tells.
        let rare = if e.kind == EntryKind::Other {
            let flag = if self.follow.0 { "-L " } else { "" };
            seen.script(&format!("LC_ALL=C stat {flag}-c %F -- {}", shell_quote(&self.path)))?.stdout.trim()
        } else {
            ""
        };
        r.insert("ischr".into(), json!(rare == "character special file"));
        r.insert("isblk".into(), json!(rare == "block special file"));
        r.insert("isfifo".into(), json!(rare == "fifo"));
        r.insert("issock".into(), json!(rare == "socket"));
        for (name, id) in [("uid", e.uid), ("gid", e.gid)] {
            if id != UNKNOWN_ID {
                r.insert(name.into(), json!(id));
            }
        }
        r.insert("pw_name".into(), json!(e.owner));
        r.insert("gr_name".into(), json!(e.group));
        r.insert("size".into(), json!(e.size));
        r.insert("nlink".into(), json!(e.links));
        r.insert("mtime".into(), json!(e.mtime));
        if let Some((atime, ctime)) = e.times.as_deref() {
            r.insert("atime".into(), json!(atime));
            r.insert("ctime".into(), json!(ctime));
        }
        if let Some((dev, inode)) = e.inode.split_once(':') {
            for (name, n) in [("dev", dev), ("inode", inode)] {
                if let Ok(n) = n.parse::<u64>() {
                    r.insert(name.into(), json!(n));
                }
            }
        }
        for (name, bit) in [
            ("rusr", 0o400),
            ("wusr", 0o200),
            ("xusr", 0o100),
            ("rgrp", 0o040),
            ("wgrp", 0o020),
            ("xgrp", 0o010),
            ("roth", 0o004),
            ("woth", 0o002),
            ("xoth", 0o001),
            ("isuid", 0o4000),
            ("isgid", 0o2000),
        ] {
            r.insert(name.into(), json!(e.mode & bit != 0));
        }
        // Of root it is certain what it may do; of others it hangs on groups and lists of access rights.
        if ctx.user == "root" {
            r.insert("readable".into(), json!(true));
            r.insert("writeable".into(), json!(true));
            let runs = e.kind == EntryKind::Directory || e.mode & 0o111 != 0;
            r.insert("executable".into(), json!(runs));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, PathState};

    fn stat(yaml: &str, seen: &Observed) -> Value {
        let m: Stat = bind(yaml);
        let mut r = satisfied(m.decide(seen, &ctx())).result;
        r.remove("stat").unwrap()
    }
    fn on_disk(params: Value) -> Value {
        let m: Stat = bind(&params.to_string());
        let mut seen = look(m.probes(&ctx()));
        if let Err(Stop::Need(more)) = m.decide(&seen, &ctx()) {
            seen = look(m.probes(&ctx()).into_iter().chain(more));
        }
        let mut r = satisfied(m.decide(&seen, &ctx())).result;
        r.remove("stat").unwrap()
    }

    #[test]
    fn nothing_there() {
        assert_eq!(stat("{path: /x}", &seen([at("/x", None)])), json!({"exists": false}));
    }

    #[test]
    fn what_may_not_be_looked_at_is_not_nothing() {
        let denied = PathState { denied: true, ..Default::default() };
        let o = seen([(Probe::Path("/x".into()), Answer::Path(denied))]);
        let m: Stat = bind("{path: /x}");
        let Err(Stop::Fail(f)) = m.decide(&o, &ctx()) else { panic!() };
        assert_eq!(f.message, "root may not look at /x");
    }

    #[test]
    fn a_file_and_a_folder() {
        let s = stat("{path: /x/}", &seen([at("/x", Some(entry(EntryKind::File, 0o4754)))]));
        assert_eq!(
            (&s["exists"], &s["isreg"], &s["isdir"], &s["mode"]),
            (&json!(true), &json!(true), &json!(false), &json!("4754"))
        );
        assert_eq!(
            (&s["pw_name"], &s["uid"], &s["size"], &s["isuid"]),
            (&json!("root"), &json!(0), &json!(3), &json!(true))
        );
        assert_eq!((&s["woth"], &s["xusr"], &s["inode"]), (&json!(false), &json!(true), &json!(1)));
        assert_eq!(s.get("checksum"), None);
        assert_eq!((&s["atime"], &s["ctime"]), (&json!(1_700_000_001), &json!(1_700_000_002)));
        let foreseen = super::super::place::new_entry(EntryKind::File, 0o644, 3, (None, None), &ctx());
        let s = stat("{path: /x}", &seen([at("/x", Some(foreseen))]));
        assert_eq!((s.get("atime"), s.get("ctime")), (None, None));
        let s = stat("{path: /x}", &seen([at("/x", Some(entry(EntryKind::Directory, 0o755)))]));
        assert_eq!((&s["isdir"], &s["executable"]), (&json!(true), &json!(true)));
    }

    #[test]
    fn links() {
        let state = PathState {
            entry: Some(entry(EntryKind::Link, 0o777)),
            target: Some(entry(EntryKind::Directory, 0o700)),
            link: Some("../d".into()),
            canonical: "/d".into(),
            denied: false,
        };
        let o = seen([(Probe::Path("/l".into()), Answer::Path(state))]);
        let s = stat("{path: /l}", &o);
        assert_eq!((&s["islnk"], &s["lnk_target"], &s["lnk_source"]), (&json!(true), &json!("../d"), &json!("/d")));
        let s = stat("{path: /l, follow: true}", &o);
        assert_eq!((&s["islnk"], &s["isdir"], &s["mode"]), (&json!(false), &json!(true), &json!("0700")));
    }

    #[test]
    fn checksums() {
        let t = tempfile::tempdir().unwrap();
        let f = t.path().join("-a\\ 'b\n");
        std::fs::write(&f, "a\n").unwrap();
        let s = on_disk(json!({"path": f, "checksum_algorithm": "md5"}));
        assert_eq!(s["checksum"], "60b725f10c9c85c70d97880dfe8191b3");
        let s = on_disk(json!({"path": f, "get_checksum": true}));
        assert_eq!(s["checksum"], "3f786850e387550fdab836ed7e6dc881de23001b");
        let s = on_disk(json!({"path": f, "checksum_algorithm": "sha256"}));
        assert_eq!(s["checksum"].as_str().unwrap().len(), 64);
        assert_eq!(on_disk(json!({"path": t.path(), "get_checksum": true})).get("checksum"), None);
    }

    #[test]
    fn rare_kinds() {
        let s = on_disk(json!({"path": "/dev/null"}));
        assert_eq!((&s["ischr"], &s["isreg"], &s["isfifo"]), (&json!(true), &json!(false), &json!(false)));
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Stat>("{path: x}").is_err());
        assert!(try_bind::<Stat>("{path: /x, get_mime: true}").is_err());
        assert!(try_bind::<Stat>("{path: /x, checksum_algorithm: crc}").is_err());
    }
}
