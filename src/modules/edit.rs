//! Changing the text of a file that may be there: what lineinfile, blockinfile, replace, ini_file and others share.

use super::args::Mode;
use super::place::{self, Wanted, nothing_at};
use super::{Ctx, Decision, Failure, Stop};
use crate::action::Action;
use crate::probe::{Answer, CONTENT_LIMIT, Content, Entry, EntryKind, Observed, PathState, Probe};
use serde_json::{Map, Value, json};

/// A file on the host whose text is changed.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// Tidy and absolute.
    pub path: &'a str,
    /// Make it (and its folder) if it is not there.
    pub create: bool,
    pub mode: Option<&'a Mode>,
    pub owner: Option<&'a str>,
    pub group: Option<&'a str>,
    pub validate: Option<&'a [String]>,
    pub backup: bool,
}

impl<'a> Edit<'a> {
    /// What must be known.
    pub fn probes(&self) -> Vec<Probe> {
        let mut p = vec![Probe::Path(self.path.into()), Probe::Content(self.path.into())];
        if self.create {
            p.extend(place::folders(self.path).map(|d| Probe::Path(d.into())));
        }
        p
    }

    /// The file's text as it is; `None` where there is no file.
    pub fn old<'s>(&self, seen: &'s Observed) -> Result<Option<&'s [u8]>, Stop> {
        let path = self.path;
        let there = seen.path(path)?.followed();
        match there.map(|e| e.kind) {
            Some(EntryKind::File) => {}
            Some(EntryKind::Directory) => return Err(Stop::Fail(failure(256, format!("{path} is a folder")))),
            Some(_) => return Err(Stop::Fail(failure(256, format!("{path} is not a regular file")))),
            None => return Ok(None),
        }
        match seen.content(path)? {
            Content::Bytes(b) => Ok(Some(b)),
            _ => Err(there.map_or_else(|| self.missing(), |e| unreadable(path, e))),
        }
    }

    /// The same, where a file that is not there and is not to be made is an error.
    pub fn old_or_new<'s>(&self, seen: &'s Observed) -> Result<Option<&'s [u8]>, Stop> {
        match self.old(seen)? {
            None if !self.create => Err(self.missing()),
            old => Ok(old),
        }
    }

    pub fn missing(&self) -> Stop {
        Stop::Fail(Failure {
            hint: Some("`create: true` makes it".into()),
            ..failure(257, format!("{} does not exist", self.path))
        })
    }

    /// What makes the file hold `new`, with what `result` tells besides; `msg` says what is done to the text.
    pub fn decide(
        &self,
        seen: &Observed,
        ctx: &Ctx,
        new: Vec<u8>,
        msg: &str,
        mut result: Map<String, Value>,
    ) -> Result<Decision, Stop> {
        let named = seen.path(self.path)?;
        // A link stays a link: the file it leads to is changed.
        let is_link = named.entry.as_ref().is_some_and(|e| e.kind == EntryKind::Link);
        let path = if is_link { &named.canonical } else { self.path };
        let found = named.followed();
        let old = self.old(seen)?;
        // All that is left to decide is what a file with this body would: the same for every module.
        let mut known = Observed::new();
        if let (Some(e), Some(old)) = (found, old) {
            let state = PathState { entry: Some(e.clone()), canonical: named.canonical.clone(), ..Default::default() };
            known.insert(Probe::Path(path.into()), Answer::Path(state));
            known.insert(Probe::Content(path.into()), Answer::Content(Content::Bytes(old.to_vec())));
        } else {
            nothing_at(path, &named.canonical).into_iter().for_each(|(p, a)| known.insert(p, a));
        }
        let wanted = Wanted {
            path,
            body: new.into(),
            mode: self.mode,
            owner: self.owner,
            group: self.group,
            validate: self.validate,
            backup: self.backup,
        };
        let mut decision = wanted.decide(&known, ctx)?;
        result.insert("msg".into(), json!(msg));
        let of_file = match &mut decision {
            Decision::Change(c) => std::mem::take(&mut c.result),
            Decision::Satisfied(r) => std::mem::take(&mut r.result),
            _ => Map::new(),
        };
        for (k, v) in
            of_file.into_iter().filter(|(k, _)| !matches!(k.as_str(), "dest" | "checksum" | "md5sum" | "path"))
        {
            result.entry(k).or_insert(v);
        }
        result.entry("path").or_insert_with(|| json!(self.path));
        match &mut decision {
            Decision::Change(c) => {
                let put = c.actions.iter().any(|a| matches!(a, Action::Put(_)));
                if put {
                    c.summary = msg.to_string();
                    if found.is_none()
                        && let Some(folder) = place::folders(path).next()
                    {
                        let new = place::NewFolder { path: folder, mode: None, owner: None, group: None };
                        match seen.get(&Probe::Path(folder.into())) {
                            Some(Answer::Path(s)) if s.followed().is_some() => {}
                            _ => {
                                c.actions.insert(0, Action::Script(new.script()));
                                c.summary = format!("new file: {msg}");
                            }
                        }
                        c.after.extend(new.after(seen, ctx));
                    } else {
                        c.after.extend(place::unchanged_folders(path, seen));
                    }
                } else {
                    let more = "ownership or permissions changed";
                    let msg = if msg.is_empty() { more.into() } else { format!("{msg} and {more}") };
                    result.insert("msg".into(), json!(msg));
                }
                c.result = result;
                if let (false, Some(old)) = (put, old) {
                    c.after.push((Probe::Content(path.into()), Answer::Content(Content::Bytes(old.to_vec()))));
                }
                if is_link {
                    place::through_link(&mut c.after, self.path, named);
                }
            }
            Decision::Satisfied(r) => r.result = result,
            _ => {}
        }
        Ok(decision)
    }
}

/// Why the text of a file that is there is not known.
pub fn unreadable(path: &str, e: &Entry) -> Stop {
    match e.size > CONTENT_LIMIT {
        true => Stop::fail_hint(
            format!("{path} has {} bytes; a file that is edited may have at most {CONTENT_LIMIT}", e.size),
            "change it on the host with `command: sed -i …`, or write all of it with `copy` or `template`",
        ),
        false => Stop::fail_hint(format!("{path} cannot be read"), "does the task need `become: true`?"),
    }
}

/// A failure with the `rc` that Ansible's file modules give.
pub fn failure(rc: u32, message: String) -> Failure {
    let mut result = Map::new();
    result.insert("rc".into(), json!(rc));
    Failure { message, hint: None, result }
}

/// Text that a module edits must be text.
pub fn utf8<'a>(path: &str, bytes: &'a [u8]) -> Result<&'a str, Stop> {
    std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Stop::fail_hint(
            format!("{path} is not text (UTF-8): line {line} is not"),
            format!("`iconv -f latin1 -t utf8 {path}` shows it as such text; `command: sed -i …` changes it as it is"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::modules::Module;
    use crate::modules::{
        blockinfile::BlockInFile, ini_file::IniFile, lineinfile::LineInFile, mount::Mount, replace::Replace,
    };

    fn put<M: Module>(params: &str, path: &str) -> crate::action::Put {
        let m: M = bind(&format!("{{{params}}}"));
        let o = seen([
            at(path, Some(entry(EntryKind::File, 0o640))),
            (Probe::Content(path.into()), Answer::Content(Content::Bytes(b"a\n".to_vec()))),
        ]);
        let c = change(m.decide(&o, &ctx()));
        match c.actions.into_iter().last() {
            Some(Action::Put(p)) => p,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_edited_says_why_and_what_can_be_done() {
        let fails = |content: Content, size: u64| {
            let m: Replace = bind("{path: /etc/x, regexp: a, replace: b}");
            let e = crate::probe::Entry { size, ..entry(EntryKind::File, 0o640) };
            match m.decide(
                &seen([at("/etc/x", Some(e)), (Probe::Content("/etc/x".into()), Answer::Content(content))]),
                &ctx(),
            ) {
                Err(Stop::Fail(f)) => (f.message, f.hint.unwrap_or_default()),
                other => panic!("{other:?}"),
            }
        };
        let (message, hint) = fails(Content::Unavailable, 2_000_000);
        assert!(
            message.contains("2000000 bytes") && message.contains("1048576") && hint.contains("sed -i"),
            "{message}"
        );
        assert_eq!(fails(Content::Unavailable, 3).0, "/etc/x cannot be read");
        let (message, hint) = fails(Content::Bytes(b"a\ncaf\xe9\n".to_vec()), 7);
        assert!(message.contains("(UTF-8): line 2") && hint.contains("iconv"), "{message}");
    }

    /// Each of them hands on whose the file is, its mode, what tries it, and whether the old one is kept.
    #[test]
    fn an_edited_file_is_as_it_was_or_as_it_is_told_to_be() {
        fn is_told<M: Module>(what: &str) {
            let p = put::<M>(&format!("path: /etc/x, {what}"), "/etc/x");
            assert_eq!(
                (p.mode, p.owner, p.group, p.keeps.as_deref()),
                (0o640, None, None, Some("root:root")),
                "{what}"
            );
            assert_eq!((p.backup, p.validate), (None, None), "{what}");
            let p =
                put::<M>(&format!("path: /etc/x, {what}, mode: '0600', owner: me, group: us, backup: yes"), "/etc/x");
            assert_eq!((p.mode, p.owner.as_deref(), p.group.as_deref()), (0o600, Some("me"), Some("us")), "{what}");
            assert_eq!(p.backup.as_deref(), Some("/etc/x.1800000000.87428fc5~"), "{what}");
        }
        is_told::<BlockInFile>("block: b");
        is_told::<IniFile>("option: b, value: c");
        is_told::<LineInFile>("line: b");
        is_told::<Replace>("regexp: a, replace: b");
        for p in [
            put::<BlockInFile>("path: /etc/x, block: b, validate: 'try %s'", "/etc/x"),
            put::<LineInFile>("path: /etc/x, line: b, validate: 'try %s'", "/etc/x"),
            put::<Replace>("path: /etc/x, regexp: a, replace: b, validate: 'try %s'", "/etc/x"),
        ] {
            assert_eq!(p.validate.unwrap(), ["try", "%s"]);
        }
        let m = "path: /mnt, src: /dev/x, fstype: ext4, state: present, fstab: /srv/tab";
        let p = put::<Mount>(&format!("{m}, dump: 1, backup: yes"), "/srv/tab");
        assert_eq!(p.body.to_vec(), b"a\n/dev/x /mnt ext4 defaults 1 0\n");
        assert_eq!((p.path.as_str(), p.backup.as_deref()), ("/srv/tab", Some("/srv/tab.1800000000.87428fc5~")));
    }
}
