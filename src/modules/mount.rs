//! `mount`: file systems, mounted now and in the file that says what is mounted at a start.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::edit::{Edit, utf8};
use super::place::{NewFolder, folders, tidy};
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, MountState, Observed, Probe, Touches, unescaped};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Mounts a file system, or no longer does; now, at each start, or both.
///
/// Registers `name`, `src`, `fstype`, `opts`, `dump`, `passno`, `fstab`; `backup_file` where one was kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where it is mounted; `none` for swap. Also `name`.
    #[serde(alias = "name")]
    #[schemars(extend("x-aliases" = ["name"]))]
    path: Text,
    /// What is mounted: a device, `UUID=…`, `server:/path`.
    src: Option<Text>,
    /// The kind of file system.
    fstype: Option<Text>,
    /// Options of the mount.
    opts: Option<Text>,
    /// `mounted`: now and at each start; `present`: at each start, nothing is done now; `unmounted`: not now, the file is left
    /// alone; `absent`: neither, and the folder is removed; `absent_from_fstab`: not at a start; `remounted`: mounted anew with
    /// its options; `ephemeral`: now, the file is left alone.
    state: State,
    /// Mount it at a start; else its options get `noauto`.
    #[serde(default = "yes")]
    boot: Bool,
    /// Whether `dump` saves it.
    #[serde(default = "zero")]
    dump: Text,
    /// When it is checked at a start: 1 first, 2 then, 0 never.
    #[serde(default = "zero")]
    passno: Text,
    /// The file.
    #[serde(default = "fstab")]
    fstab: Text,
    /// Keep the old file beside the new one.
    #[serde(default)]
    backup: Bool,
}

fn yes() -> Bool {
    Bool(true)
}
fn zero() -> Text {
    "0".into()
}
fn fstab() -> Text {
    "/etc/fstab".into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    Mounted,
    Present,
    Unmounted,
    Absent,
    AbsentFromFstab,
    Remounted,
    Ephemeral,
}

impl State {
    /// Whether the file holds it; `None`: the file is left alone.
    fn in_file(self) -> Option<bool> {
        match self {
            State::Mounted | State::Present => Some(true),
            State::Absent | State::AbsentFromFstab => Some(false),
            State::Unmounted | State::Remounted | State::Ephemeral => None,
        }
    }
}

impl Module for Mount {
    const NAME: &'static str = "mount";
    const EXAMPLE: &'static str = r#"- mount:
    path: /srv/data
    src: LABEL=data
    fstype: ext4
    opts: noatime
    state: mounted"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("fstab", &self.fstab)?;
        self.fstab.0 = tidy(&self.fstab);
        if self.is_swap() {
            if !matches!(self.state, State::Present | State::AbsentFromFstab) {
                return Err(ArgError::new("path", "swap has no path to be mounted at")
                    .hint("`state: present` or `absent_from_fstab`; `command: swapon -a` switches it on"));
            }
        } else {
            absolute("path", &self.path)?;
            self.path.0 = tidy(&self.path);
            if self.path.is_empty() {
                self.path.0 = "/".into();
            }
        }
        let needs = matches!(self.state, State::Mounted | State::Present | State::Ephemeral);
        for (name, v) in [("src", &self.src), ("fstype", &self.fstype)] {
            if needs && v.as_deref().is_none_or(|v| v.trim().is_empty()) {
                return Err(ArgError::new(name, format!("`mount` needs `{name}` with this `state`")));
            }
        }
        let words = [
            ("fstype", self.fstype.as_ref()),
            ("opts", self.opts.as_ref()),
            ("dump", Some(&self.dump)),
            ("passno", Some(&self.passno)),
        ];
        match words.iter().find(|(_, w)| w.is_some_and(|w| w.contains(char::is_whitespace) || w.starts_with('-'))) {
            Some((name, _)) => Err(ArgError::new(name, format!("`{name}` is one word"))),
            None => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = match self.state.in_file() {
            Some(_) => self.file().probes(),
            None => vec![],
        };
        if self.minds_now() {
            p.extend([Probe::Mounts, Probe::Path(self.path.0.clone())]);
            p.extend(folders(&self.path).map(|d| Probe::Path(d.into())));
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let mut result = Map::new();
        result.insert("name".into(), json!(self.path.0));
        result.insert("src".into(), json!(self.src.as_ref().map(|t| &t.0)));
        result.insert("fstype".into(), json!(self.fstype.as_ref().map(|t| &t.0)));
        result.insert("opts".into(), json!(self.options()));
        result.insert("dump".into(), json!(self.dump.0));
        result.insert("passno".into(), json!(self.passno.0));
        result.insert("fstab".into(), json!(self.fstab.0));
        result.insert("boot".into(), json!(if self.boot.0 { "yes" } else { "no" }));

        let mut c = Change::default();
        let mut summary: Vec<String> = vec![];
        let mut anew = false;
        let mut in_file = None;
        if let Some(wanted) = self.state.in_file() {
            let file = self.file();
            let old = match file.old(seen)? {
                None if !wanted => None,
                _ => file.old_or_new(seen)?,
            };
            let text = utf8(&self.fstab, old.unwrap_or_default())?;
            let (new, replaced) = self.edited(text, wanted);
            anew = replaced;
            if old.is_some() || wanted {
                let msg = format!("{} {}", if wanted { "in" } else { "out of" }, self.fstab.0);
                if let Decision::Change(put) = file.decide(seen, ctx, new.into_bytes(), &msg, Map::new())? {
                    in_file = Some(put);
                }
            }
        }
        if self.minds_now() {
            self.now(seen, ctx, anew && in_file.is_some(), &mut c, &mut summary)?;
        }
        if let Some(put) = in_file {
            // What cannot be mounted does not get into the file; what cannot be taken away now is at least not there at
            // the next start.
            let at = if self.state == State::Absent { 0 } else { c.actions.len() };
            c.actions.splice(at..at, put.actions);
            c.touches = std::mem::take(&mut c.touches).and(put.touches);
            c.after.extend(put.after);
            c.diff.extend(put.diff);
            if let Some(b) = put.result.get("backup_file") {
                result.insert("backup_file".into(), b.clone());
            }
            summary.push(put.summary);
        }
        if c.actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        c.summary = summary.join(", ");
        c.result = result;
        Ok(Decision::Change(c))
    }
}

impl Mount {
    fn is_swap(&self) -> bool {
        matches!(&*self.path, "none" | "swap") || self.fstype.as_deref() == Some("swap")
    }
    /// What is mounted right now matters.
    fn minds_now(&self) -> bool {
        !matches!(self.state, State::Present | State::AbsentFromFstab)
    }
    fn file(&self) -> Edit<'_> {
        Edit {
            path: &self.fstab,
            create: self.state.in_file() == Some(true),
            mode: None,
            owner: None,
            group: None,
            validate: None,
            backup: self.backup.0,
        }
    }

    fn options(&self) -> String {
        let opts = self.opts.as_deref().filter(|o| !o.is_empty()).unwrap_or("defaults");
        match self.boot.0 || opts.split(',').any(|o| o == "noauto") {
            true => opts.to_string(),
            false => format!("{opts},noauto"),
        }
    }

    /// The file's text, and whether a line that was there says something else now.
    fn edited(&self, old: &str, wanted: bool) -> (String, bool) {
        let src = self.src.as_deref().unwrap_or_default();
        let fields = [
            escaped(src),
            escaped(&self.path),
            escaped(self.fstype.as_deref().unwrap_or_default()),
            escaped(&self.options()),
            self.dump.0.clone(),
            self.passno.0.clone(),
        ];
        let mut out = String::new();
        let (mut there, mut replaced) = (false, false);
        for line in old.split_inclusive('\n') {
            let words: Vec<&str> = line.split_whitespace().collect();
            let about = match words[..] {
                [first, ..] if first.starts_with('#') => false,
                // Of swap there may be several: the source tells.
                [s, p, ..] if self.is_swap() => unescaped(p) == *self.path && (unescaped(s) == src || src.is_empty()),
                [_, p, ..] => tidy_or_root(&unescaped(p)) == *self.path,
                _ => false,
            };
            if !about {
                out.push_str(line);
                continue;
            }
            if !wanted || there {
                replaced = true;
                continue;
            }
            there = true;
            let mut now: Vec<String> = words.iter().take(6).map(|w| w.to_string()).collect();
            while now.len() < 6 {
                now.push(if now.len() == 3 { "defaults".into() } else { "0".into() });
            }
            if now.iter().zip(&fields).all(|(a, b)| unescaped(a) == unescaped(b)) {
                out.push_str(line);
            } else {
                replaced = true;
                out.push_str(&format!("{}\n", fields.join(" ")));
            }
        }
        if wanted && !there {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(&format!("{}\n", fields.join(" ")));
        }
        (out, replaced)
    }

    /// What is to be done now. `anew`: the file's line has changed.
    fn now(
        &self,
        seen: &Observed,
        ctx: &Ctx,
        anew: bool,
        c: &mut Change,
        summary: &mut Vec<String>,
    ) -> Result<(), Stop> {
        let path = self.path.0.as_str();
        let q = shell_quote(path);
        let mounts = seen.mounts()?;
        let canonical = seen.path(path)?.canonical.clone();
        let at = mounts.iter().rposition(|m| m.path == path || m.path == canonical);
        let mount = format!(
            "mount -t {} -o {} -- {} {q}",
            shell_quote(self.fstype.as_deref().unwrap_or_default()),
            shell_quote(&self.options()),
            shell_quote(self.src.as_deref().unwrap_or_default()),
        );
        let mut after = mounts.to_vec();
        let fresh = || MountState {
            source: self.src.as_deref().unwrap_or_default().into(),
            root: "/".into(),
            path: path.into(),
            fstype: self.fstype.as_deref().unwrap_or_default().into(),
            options: self.options().split(',').map(str::to_string).collect(),
        };
        let mut act = |script: String, what: &str| {
            c.actions.push(Action::Script(script));
            summary.push(what.to_string());
            // Something else is seen below it now.
            c.touches = std::mem::take(&mut c.touches).and(Touches { mounts: true, ..Touches::path(path) });
        };
        match (self.state, at) {
            (State::Mounted | State::Ephemeral, None) => {
                after.push(fresh());
                if seen.path(path)?.followed().is_some() {
                    act(mount, "mounted");
                } else {
                    let new = NewFolder { path, mode: None, owner: None, group: None };
                    act(format!("{} && {mount}", new.script()), "new folder, mounted");
                    // Of the folder itself nothing is certain: the file system's root hides it.
                    let made = new.after(seen, ctx).into_iter();
                    c.after.extend(made.filter(|(p, _)| *p != Probe::Path(path.into())));
                }
            }
            (State::Mounted, Some(n)) if anew => {
                let remount = format!("mount -o {} -- {q}", shell_quote(&format!("remount,{}", self.options())));
                let again = format!("{{ umount -- {q} && {mount}; }}");
                let same = self.is_from(&after[n]);
                after[n] = fresh();
                act(if same { format!("{remount} 2>/dev/null || {again}") } else { again }, "mounted anew");
            }
            (State::Ephemeral, Some(n)) => {
                let is = &after[n];
                if !self.is_from(is) {
                    return Err(Stop::fail_hint(
                        format!("{path} is taken: {} is mounted there", is.source),
                        "`state: unmounted` frees it",
                    ));
                }
                let given = self.opts.as_deref().unwrap_or_default();
                let has = |o: &str| {
                    matches!(o, "" | "defaults" | "bind" | "rbind" | "noauto" | "nofail" | "_netdev" | "auto" | "loop")
                        || is.options.iter().any(|i| i == o)
                };
                if !given.split(',').all(has) {
                    after[n].options = self.options().split(',').map(str::to_string).collect();
                    act(format!("mount -o {} -- {q}", shell_quote(&format!("remount,{given}"))), "mounted anew");
                }
            }
            (State::Remounted, None) => return Err(Stop::fail(format!("nothing is mounted at {path}"))),
            (State::Remounted, Some(_)) => {
                let opts = self.opts.as_deref().map_or("remount".into(), |o| format!("remount,{o}"));
                act(format!("mount -o {} -- {q}", shell_quote(&opts)), "mounted anew");
            }
            (State::Unmounted | State::Absent, Some(n)) => {
                after.remove(n);
                act(format!("umount -- {q}"), "unmounted");
            }
            _ => {}
        }
        if self.state == State::Absent && seen.path(path)?.entry.is_some() {
            act(format!("rmdir -- {q}"), "folder removed");
            c.after.extend(super::place::nothing_at(path, &canonical));
        }
        if c.touches.mounts {
            c.after.push((Probe::Mounts, Answer::Mounts(after)));
        }
        Ok(())
    }

    /// Whether what is mounted is what is wanted, as far as the names tell: a bind mount's source is that of its disk.
    fn is_from(&self, m: &MountState) -> bool {
        let src = self.src.as_deref().unwrap_or_default();
        let fstype = self.fstype.as_deref().unwrap_or_default();
        let bind = self.opts.as_deref().is_some_and(|o| o.split(',').any(|o| o == "bind" || o == "rbind"));
        let named = !src.starts_with('/') && src.contains('=');
        if bind {
            return m.root == src || src.ends_with(&m.root);
        }
        (m.source == src || named) && (m.fstype == fstype || fstype == "auto")
    }
}

/// A word of the file: what would part it is written in octal digits.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\134"),
            ' ' => out.push_str("\\040"),
            '\t' => out.push_str("\\011"),
            '\n' => out.push_str("\\012"),
            c => out.push(c),
        }
    }
    out
}

fn tidy_or_root(path: &str) -> String {
    match tidy(path) {
        t if t.is_empty() => "/".into(),
        t => t,
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Content, EntryKind};

    const OLD: &str = "# c\nUUID=1 / ext4  defaults 0 1\nproc /proc proc defaults 0 0\n";

    fn host(fstab: &str, mounts: &[(&str, &str, &str)], path: &str, there: bool) -> Observed {
        let mounts = mounts.iter().map(|(s, p, t)| MountState {
            source: s.to_string(),
            root: "/".into(),
            path: p.to_string(),
            fstype: t.to_string(),
            options: vec!["rw".into()],
        });
        seen([
            at("/etc/fstab", Some(entry(EntryKind::File, 0o644))),
            at("/etc", Some(entry(EntryKind::Directory, 0o755))),
            at("/mnt", Some(entry(EntryKind::Directory, 0o755))),
            at(path, there.then(|| entry(EntryKind::Directory, 0o755))),
            (Probe::Content("/etc/fstab".into()), Answer::Content(Content::Bytes(fstab.into()))),
            (Probe::Mounts, Answer::Mounts(mounts.collect())),
        ])
    }
    fn scripts(c: &Change) -> Vec<String> {
        let s = c.actions.iter().filter_map(|a| if let Action::Script(s) = a { Some(s.clone()) } else { None });
        s.inspect(|s| sh_accepts(s)).collect()
    }
    fn file(c: &Change) -> Option<String> {
        c.actions.iter().find_map(|a| match a {
            Action::Put(p) => Some(String::from_utf8(p.body.to_vec()).unwrap()),
            _ => None,
        })
    }
    const D: &str = "path: '/mnt/a b', src: /dev/sd b1, fstype: ext4, opts: 'noatime'";

    #[test]
    fn a_file_system_is_mounted_and_stays() {
        let m: Mount = bind(&format!("{{{D}, state: mounted}}"));
        let before = || host(OLD, &[], "/mnt/a b", false);
        let c = change(m.decide(&before(), &ctx()));
        assert_eq!(file(&c).unwrap(), format!("{OLD}/dev/sd\\040b1 /mnt/a\\040b ext4 noatime 0 0\n"));
        assert!(scripts(&c)[0].ends_with("mount -t ext4 -o noatime -- '/dev/sd b1' '/mnt/a b'"), "{:?}", scripts(&c));
        assert!(matches!(c.actions.last(), Some(Action::Put(_))), "the file comes last");
        let mut then = then(before(), &c);
        then.insert(Probe::Path("/mnt/a b".into()), at("/mnt/a b", Some(entry(EntryKind::Directory, 0o755))).1);
        satisfied(m.decide(&then, &ctx()));
    }

    #[test]
    fn a_changed_line_is_replaced_alone() {
        let old = format!("{OLD}/dev/sd\\040b1\t/mnt/a\\040b\text4\tnoatime\t0\t0\nlast /l x y 0 0");
        let mounted = [("/dev/sd b1", "/mnt/a b", "ext4")];
        let m: Mount = bind(&format!("{{{D}, state: mounted}}"));
        satisfied(m.decide(&host(&old, &mounted, "/mnt/a b", true), &ctx()));
        let m: Mount = bind("{path: '/mnt/a b', src: /dev/sd b1, fstype: ext4, opts: ro, state: mounted, boot: no}");
        let c = change(m.decide(&host(&old, &mounted, "/mnt/a b", true), &ctx()));
        assert_eq!(file(&c).unwrap(), format!("{OLD}/dev/sd\\040b1 /mnt/a\\040b ext4 ro,noauto 0 0\nlast /l x y 0 0"));
        assert!(scripts(&c)[0].starts_with("mount -o remount,ro,noauto -- '/mnt/a b'"));
        let m: Mount = bind("{path: '/mnt/a b', src: /dev/sdc, fstype: xfs, state: mounted}");
        let c = change(m.decide(&host(&old, &mounted, "/mnt/a b", true), &ctx()));
        assert!(scripts(&c)[0].starts_with("{ umount -- '/mnt/a b' && mount -t xfs"));
    }

    #[test]
    fn present_only_writes() {
        let m: Mount = bind(&format!("{{{D}, state: present, passno: 2}}"));
        let c = change(m.decide(&host(OLD, &[], "/mnt/a b", false), &ctx()));
        assert!(scripts(&c).is_empty() && file(&c).unwrap().ends_with(" noatime 0 2\n"));
        let m: Mount = bind("{path: none, src: /swap, fstype: swap, opts: sw, state: present}");
        let c = change(m.decide(&host("/swap2 none swap sw 0 0\n", &[], "/x", false), &ctx()));
        assert_eq!(file(&c).unwrap(), "/swap2 none swap sw 0 0\n/swap none swap sw 0 0\n");
        satisfied(m.decide(&then(host("/swap2 none swap sw 0 0\n", &[], "/x", false), &c), &ctx()));
    }

    #[test]
    fn it_goes() {
        let old = format!("{OLD}/dev/b /mnt/d ext4 defaults 0 0\n");
        let mounted = [("/dev/b", "/mnt/d", "ext4")];
        let m: Mount = bind("{path: /mnt/d, state: absent}");
        let c = change(m.decide(&host(&old, &mounted, "/mnt/d", true), &ctx()));
        assert_eq!(
            (file(&c).unwrap().as_str(), scripts(&c)),
            (OLD, vec!["umount -- /mnt/d".into(), "rmdir -- /mnt/d".to_string()])
        );
        assert!(matches!(c.actions[0], Action::Put(_)), "the file comes first");
        satisfied(m.decide(&then(host(&old, &mounted, "/mnt/d", true), &c), &ctx()));
        let m: Mount = bind("{path: /mnt/d, state: unmounted}");
        let c = change(m.decide(&host(&old, &mounted, "/mnt/d", true), &ctx()));
        assert_eq!((file(&c), scripts(&c).len()), (None, 1));
        satisfied(m.decide(&host(&old, &[], "/mnt/d", true), &ctx()));
        let m: Mount = bind("{path: /mnt/d, state: absent_from_fstab}");
        assert_eq!(scripts(&change(m.decide(&host(&old, &mounted, "/mnt/d", true), &ctx()))).len(), 0);
    }

    #[test]
    fn now_and_not_at_a_start() {
        let m: Mount = bind("{path: /mnt/t, src: tmpfs, fstype: tmpfs, opts: ro, state: ephemeral}");
        let c = change(m.decide(&host(OLD, &[], "/mnt/t", true), &ctx()));
        assert_eq!((file(&c), scripts(&c)), (None, vec!["mount -t tmpfs -o ro -- tmpfs /mnt/t".to_string()]));
        satisfied(m.decide(&then(host(OLD, &[], "/mnt/t", true), &c), &ctx()).or_else(|s| match s {
            // What is at the path now, only a look can tell.
            Stop::Need(_) => Ok(Decision::satisfied(Map::new())),
            s => Err(s),
        }));
        let c = change(m.decide(&host(OLD, &[("tmpfs", "/mnt/t", "tmpfs")], "/mnt/t", true), &ctx()));
        assert_eq!(scripts(&c), ["mount -o remount,ro -- /mnt/t"]);
        let Err(Stop::Fail(f)) = m.decide(&host(OLD, &[("/dev/x", "/mnt/t", "ext4")], "/mnt/t", true), &ctx()) else {
            panic!()
        };
        assert!(f.message.contains("/dev/x"));
        let m: Mount = bind("{path: /mnt/t, state: remounted}");
        let Err(Stop::Fail(_)) = m.decide(&host(OLD, &[], "/mnt/t", true), &ctx()) else { panic!() };
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Mount>(y).unwrap_err().message;
        assert!(err("{path: /x, state: mounted, fstype: ext4}").contains("src"));
        assert!(err("{path: x, state: absent}").contains("x"));
        assert!(err("{path: /x, src: a, fstype: b, opts: 'a b', state: present}").contains("one word"));
        assert!(err("{path: none, src: a, fstype: swap, state: mounted}").contains("swap"));
    }
}
