//! `file`: what is at a path — a file, a folder, a link or nothing — and its mode, owner and times.

use super::args::{Bool, Mode, Text};
use super::copy::absolute;
use super::place::{self, Meta, NewFolder, facts, nothing_at, tidy, unchanged_folders};
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::{Action, Put};
use crate::probe::{Answer, Content, Entry, EntryKind, Observed, Output, PathState, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Sets the mode, owner and times of what is at a path, makes folders and links, and removes things.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The path on the host. Also `dest`, `name`.
    #[serde(alias = "dest", alias = "name")]
    #[schemars(extend("x-aliases" = ["dest", "name"]))]
    path: Text,
    /// What should be there. Without it: what is there now, else a folder if `recurse`, else a file (which must exist).
    state: Option<State>,
    /// What the link leads to (`link`; relative to the link's folder), or the file that gets a second name (`hard`).
    src: Option<Text>,
    /// With a folder: mode, owner and group also for all that is in it. Links in it are not followed.
    #[serde(default)]
    recurse: Bool,
    /// Make a link though what it leads to does not exist, and though something else is at its path.
    #[serde(default)]
    force: Bool,
    /// If the path is a link: set mode, owner and times of what it leads to.
    #[serde(default = "yes")]
    follow: Bool,
    /// Permissions, octal in quotes or symbolic. Each folder that is made gets them.
    mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
    /// `preserve`, or `now`, the default of `touch`.
    access_time: Option<Time>,
    /// `preserve`, or `now`, the default of `touch`.
    modification_time: Option<Time>,
}

/// What `file` makes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Absent,
    Directory,
    File,
    Hard,
    Link,
    Touch,
}

/// A time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Time {
    Preserve,
    Now,
}

fn yes() -> Bool {
    Bool(true)
}

impl Module for File {
    const NAME: &'static str = "file";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("path", "What it is about (`dest` for a link)."),
        ("state", "What is there."),
        ("src", "For a link: where it leads."),
    ];
    const EXAMPLE: &'static str = r#"- name: A folder
  file: {path: /srv/app, state: directory, owner: root, mode: "0750"}
- name: A link
  file: {src: /srv/app/current, dest: /opt/app, state: link}
- name: Gone
  file: {path: /etc/old.conf, state: absent}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("path", &self.path)?;
        self.path.0 = tidy(&self.path);
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        let folder = matches!(self.state, Some(State::Directory) | None);
        if self.recurse.0 && !folder {
            return Err(ArgError::new("recurse", "`recurse` goes with `state: directory` only"));
        }
        match (self.state, &self.src) {
            (Some(State::Hard), None) => return Err(ArgError::new("src", "`state: hard` needs `src`")),
            (Some(State::Hard), Some(s)) => absolute("src", s)?,
            (Some(State::Link), None) if !self.follow.0 => {
                return Err(ArgError::new("src", "`state: link` without `follow` needs `src`"));
            }
            (Some(State::Link), Some(s)) if s.is_empty() => return Err(ArgError::new("src", "`src` is empty")),
            (Some(State::Link) | None, _) | (_, None) => {}
            (Some(_), Some(_)) => {
                return Err(ArgError::new("src", "`src` goes with `state: link` and `state: hard` only"));
            }
        }
        if self.src.is_some() && self.state.is_none() {
            return Err(ArgError::new("src", "`src` needs `state: link` or `state: hard`"));
        }
        if self.state == Some(State::Absent) {
            if self.path.0 == "/" || self.path.split('/').any(|p| p == "..") {
                return Err(ArgError::new("path", format!("`{}` is not removed", &*self.path))
                    .hint("name what is to go by its plain path, without `..`"));
            }
        } else if self.state.is_some_and(|s| s != State::Directory) && self.path.0 == "/" {
            return Err(ArgError::new("path", "`/` is a folder"));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::Path(self.path.0.clone())];
        match self.state {
            Some(State::Directory) | None if self.state.is_some() || self.recurse.0 => {
                p.extend(place::folders(&self.path).map(|d| Probe::Path(d.into())));
                p.extend(self.tree().map(Probe::Script));
            }
            Some(State::Link | State::Hard) => p.extend(self.source().map(Probe::Path)),
            _ => {}
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let state = seen.path(&self.path)?;
        let want = self.state.unwrap_or(match state.entry.as_ref().map(|e| e.kind) {
            Some(EntryKind::Directory) => State::Directory,
            Some(EntryKind::Link) => State::Link,
            None if self.recurse.0 => State::Directory,
            _ => State::File,
        });
        match want {
            State::Absent => self.absent(state, seen),
            State::Directory => self.directory(state, seen, ctx),
            State::File => self.file(state, ctx),
            State::Touch => self.touch(state, seen, ctx),
            State::Link => self.link(state, seen, ctx),
            State::Hard => self.hard(state, seen, ctx),
        }
    }
}

/// The thing whose mode and owner are set: what is at the path, or what the link there leads to.
struct Subject<'a> {
    path: &'a str,
    entry: &'a Entry,
}

impl File {
    fn meta(&self, now: &Entry) -> Meta<'_> {
        Meta {
            // A link's own mode has no meaning and cannot be set.
            mode: self
                .mode
                .as_ref()
                .filter(|_| now.kind != EntryKind::Link)
                .map(|m| m.apply(now.mode, now.kind == EntryKind::Directory)),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
        }
    }

    fn sets_something(&self) -> bool {
        self.mode.is_some() || self.owner.is_some() || self.group.is_some()
    }

    fn subject<'a>(&'a self, state: &'a PathState) -> Option<Subject<'a>> {
        let entry = state.entry.as_ref()?;
        if entry.kind == EntryKind::Link && self.follow.0 {
            return state.target.as_ref().map(|entry| Subject { path: &state.canonical, entry });
        }
        Some(Subject { path: &self.path, entry })
    }

    /// Mode, owner and times of something that is there.
    fn settle(&self, state: &PathState, default: Time, ctx: &Ctx) -> Decision {
        let Some(s) = self.subject(state) else {
            // A link that leads nowhere has nothing to set.
            let result = state.entry.as_ref().map(|e| facts(&self.path, e)).unwrap_or_default();
            return Decision::satisfied(result);
        };
        let meta = self.meta(s.entry);
        let mut now = meta.onto(s.entry);
        let (mut script, mut summary) =
            meta.fix(s.path, s.entry).map_or((vec![], vec![]), |f| (vec![f.script], vec![f.summary]));
        let is_now = |t: Option<Time>| t.unwrap_or(default) == Time::Now;
        let flags = match (is_now(self.access_time), is_now(self.modification_time)) {
            (true, true) => Some(("", "times -> now")),
            (true, false) => Some((" -a", "access time -> now")),
            (false, true) => Some((" -m", "modification time -> now")),
            (false, false) => None,
        };
        if let Some((flag, words)) = flags {
            script.push(format!("touch -c -h{flag} -- {}", shell_quote(s.path)));
            summary.push(words.to_string());
            if flag != " -a" {
                now.mtime = ctx.now;
            }
        }
        let result = facts(&self.path, &now);
        if script.is_empty() {
            return Decision::satisfied(result);
        }
        let mut after = vec![];
        if s.path == self.path.0 {
            after
                .push((Probe::Path(self.path.0.clone()), path_answer(PathState { entry: Some(now), ..state.clone() })));
        } else {
            let there = PathState { entry: Some(now.clone()), canonical: s.path.to_string(), ..Default::default() };
            after.push((Probe::Path(s.path.to_string()), path_answer(there)));
            after.push((
                Probe::Path(self.path.0.clone()),
                path_answer(PathState { target: Some(now), ..state.clone() }),
            ));
        }
        Decision::Change(Change {
            actions: vec![Action::Script(script.join(" && "))],
            touches: Touches::path(s.path),
            after,
            summary: summary.join(", "),
            result,
            ..Default::default()
        })
    }

    fn file(&self, state: &PathState, ctx: &Ctx) -> Result<Decision, Stop> {
        let at = if self.follow.0 { state.followed() } else { state.entry.as_ref() };
        match at.map(|e| e.kind) {
            Some(EntryKind::File | EntryKind::Other) => Ok(self.settle(state, Time::Preserve, ctx)),
            None if state.entry.is_some() => Err(Stop::fail(format!("{} is a link that leads nowhere", &*self.path))),
            None => Err(Stop::fail_hint(
                format!("there is no file {}", &*self.path),
                "`state: touch` makes an empty file, `state: directory` a folder",
            )),
            Some(kind) => Err(Stop::fail(format!("{} is {}, not a file", &*self.path, called(kind)))),
        }
    }

    fn touch(&self, state: &PathState, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        if let Some(e) = &state.entry {
            // A dangling link is touched as itself.
            if e.kind == EntryKind::Link && self.follow.0 && state.target.is_none() {
                return Err(Stop::fail(format!("{} is a link that leads nowhere", &*self.path)));
            }
            let dest = || ("dest".to_string(), json!(&*self.path));
            return Ok(match self.settle(state, Time::Now, ctx) {
                Decision::Satisfied(mut r) => {
                    r.result.extend([dest()]);
                    Decision::Satisfied(r)
                }
                Decision::Change(mut c) => {
                    c.result.extend([dest()]);
                    Decision::Change(c)
                }
                other => other,
            });
        }
        let mode = self.mode.as_ref().map_or(0o644, |m| m.apply(0o644, false));
        let own = (self.owner.as_deref(), self.group.as_deref());
        let entry = place::new_entry(EntryKind::File, mode, 0, own, ctx);
        let mut result = facts(&self.path, &entry);
        result.insert("dest".into(), json!(&*self.path));
        let mut after = vec![
            (
                Probe::Path(self.path.0.clone()),
                path_answer(PathState { entry: Some(entry), canonical: state.canonical.clone(), ..Default::default() }),
            ),
            (Probe::Content(self.path.0.clone()), Answer::Content(Content::Bytes(vec![]))),
        ];
        after.extend(unchanged_folders(&self.path, seen));
        Ok(Decision::Change(Change {
            actions: vec![Action::Put(Put {
                path: self.path.0.clone(),
                body: vec![].into(),
                mode,
                owner: self.owner.as_deref().map(str::to_string),
                group: self.group.as_deref().map(str::to_string),
                keeps: None,
                validate: None,
                backup: None,
            })],
            touches: Touches::entry(&self.path),
            after,
            summary: "new empty file".into(),
            result,
            ..Default::default()
        }))
    }

    fn absent(&self, state: &PathState, seen: &Observed) -> Result<Decision, Stop> {
        let mut result = Map::new();
        result.insert("path".into(), json!(&*self.path));
        result.insert("state".into(), json!("absent"));
        let Some(e) = &state.entry else { return Ok(Decision::satisfied(result)) };
        if e.kind == EntryKind::Directory && state.canonical == "/" {
            return Err(Stop::fail(format!("{} is the root of the file system; it is not removed", &*self.path)));
        }
        let q = shell_quote(&self.path);
        let (script, summary) = match e.kind {
            EntryKind::Directory => (format!("rm -rf -- {q}"), "removes the folder and all in it"),
            EntryKind::Link => (format!("rm -f -- {q}"), "removes the link"),
            _ => (format!("rm -f -- {q}"), "removes the file"),
        };
        let mut after = nothing_at(&self.path, &state.canonical);
        if e.kind == EntryKind::Link {
            // Where the path itself would be is not known from where the link led.
            after.retain(|(p, _)| !matches!(p, Probe::Path(_)));
            let parent = self.path.rsplit_once('/').map_or("", |(d, _)| d);
            let above = match seen.get(&Probe::Path(parent.into())) {
                Some(Answer::Path(s)) => s.canonical.clone(),
                _ => parent.to_string(),
            };
            let name = self.path.rsplit('/').next().unwrap_or_default();
            after.push((
                Probe::Path(self.path.0.clone()),
                path_answer(PathState {
                    canonical: format!("{}/{name}", above.trim_end_matches('/')),
                    ..Default::default()
                }),
            ));
        }
        after.extend(unchanged_folders(&self.path, seen));
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches: Touches::path(&self.path),
            after,
            summary: summary.into(),
            result,
            ..Default::default()
        }))
    }

    fn directory(&self, state: &PathState, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let at = if self.follow.0 { state.followed() } else { state.entry.as_ref() };
        match at.map(|e| e.kind) {
            Some(EntryKind::Directory) if self.recurse.0 => self.whole_tree(state, seen, ctx),
            Some(EntryKind::Directory) => Ok(self.settle(state, Time::Preserve, ctx)),
            Some(kind) => Err(Stop::fail(format!("{} is {}, not a folder", &*self.path, called(kind)))),
            None => {
                // A link that leads nowhere: the folder is made where it leads.
                let path = if state.entry.is_some() { &state.canonical } else { &self.path.0 };
                for d in place::folders(path) {
                    if let Some(Answer::Path(s)) = seen.get(&Probe::Path(d.into()))
                        && let Some(e) = s.followed()
                        && e.kind != EntryKind::Directory
                    {
                        return Err(Stop::fail(format!("{d} is {}, not a folder", called(e.kind))));
                    }
                }
                let new = NewFolder {
                    path,
                    mode: self.mode.as_ref().map(|m| m.apply(0o755, true)),
                    owner: self.owner.as_deref(),
                    group: self.group.as_deref(),
                };
                let mut after = new.after(seen, ctx);
                let made = after.iter().find_map(|(p, a)| match (p, a) {
                    (Probe::Path(p), Answer::Path(s)) if p == path => s.entry.clone(),
                    _ => None,
                });
                if path != &self.path.0 {
                    let entry = place::new_entry(
                        EntryKind::Directory,
                        new.mode.unwrap_or(0o755),
                        4096,
                        (new.owner, new.group),
                        ctx,
                    );
                    after.push((
                        Probe::Path(self.path.0.clone()),
                        path_answer(PathState { target: Some(entry), ..state.clone() }),
                    ));
                }
                if let Some(tree) = self.tree() {
                    after.push((Probe::Script(tree), Answer::Script(Output::default())));
                }
                Ok(Decision::Change(Change {
                    actions: vec![Action::Script(new.script())],
                    touches: Touches::entry(path),
                    after,
                    summary: "creates the folder".into(),
                    result: made.map(|e| facts(&self.path, &e)).unwrap_or_else(|| self.named("directory")),
                    ..Default::default()
                }))
            }
        }
    }

    fn named(&self, state: &str) -> Map<String, Value> {
        let mut r = Map::new();
        r.insert("path".into(), json!(&*self.path));
        r.insert("state".into(), json!(state));
        r
    }

    /// The read-only script that lists which combinations of type, mode and owner occur in the tree, and how often.
    fn tree(&self) -> Option<String> {
        (self.recurse.0 && self.sets_something()).then(|| {
            let q = shell_quote(&format!("{}/", self.path.trim_end_matches('/')));
            format!(
                "[ -d {q} ] || exit 0; find {q} -exec stat -c '%f/%u/%g/%U/%G' {{}} + | LC_ALL=C sort | LC_ALL=C uniq -c"
            )
        })
    }

    fn whole_tree(&self, state: &PathState, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let Some(tree) = self.tree() else { return Ok(self.settle(state, Time::Preserve, ctx)) };
        let listed = seen.script(&tree)?;
        let (mut cases, mut entries, mut now) = (vec![], 0_u64, vec![]);
        for line in listed.stdout.lines() {
            let Some((count, e)) = combination(line) else {
                return Err(Stop::fail(format!("cannot list {}: {line}", &*self.path)));
            };
            let meta = self.meta(&e);
            let fixed = meta.onto(&e);
            now.push(listing(count, &fixed));
            if meta.fix("x", &e).is_none() {
                continue;
            }
            entries += count;
            let mut run = vec![];
            if fixed.owner != e.owner || fixed.group != e.group {
                let spec = place::chown_spec(self.owner.as_deref(), self.group.as_deref()).unwrap_or_default();
                run.push(format!("chown -h -- {} \"$@\"", shell_quote(&spec)));
            }
            if let Some(m) = meta.mode
                && (m != e.mode || (!run.is_empty() && m & 0o6000 != 0))
            {
                run.push(format!("chmod -- {m:05o} \"$@\""));
            }
            let kind = match e.kind {
                EntryKind::Directory => "-type d",
                EntryKind::Link => "-type l",
                EntryKind::File => "-type f",
                EntryKind::Other => "! -type d ! -type l ! -type f",
            };
            cases.push(format!(
                "\\( {kind} -perm {:04o} -user {} -group {} -exec sh -c {} sh {{}} + \\)",
                e.mode,
                e.uid,
                e.gid,
                shell_quote(&run.join(" && ")),
            ));
        }
        if cases.is_empty() {
            return Ok(self.settle(state, Time::Preserve, ctx));
        }
        let root = shell_quote(&format!("{}/", self.path.trim_end_matches('/')));
        let script = format!("find {root} {}", cases.join(" -o "));
        let top = self.settle(state, Time::Preserve, ctx);
        let (mut after, summary, result) = match top {
            Decision::Change(c) => (c.after, c.summary, c.result),
            Decision::Satisfied(r) => {
                (vec![(Probe::Path(self.path.0.clone()), path_answer(state.clone()))], String::new(), r.result)
            }
            Decision::Wait(_) | Decision::Away(_) | Decision::Ask(_) => Default::default(),
        };
        after.push((Probe::Script(tree), Answer::Script(Output { stdout: now.concat(), ..Default::default() })));
        let many = format!("sets mode and owner of {entries} {}", if entries == 1 { "entry" } else { "entries" });
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches: Touches::path(&state.canonical),
            after,
            summary: if summary.is_empty() { many } else { format!("{summary}; {many}") },
            result,
            ..Default::default()
        }))
    }

    /// What `src` names, as an absolute path.
    fn source(&self) -> Option<String> {
        let src = self.src.as_deref()?;
        if src.starts_with('/') {
            return Some(tidy(src));
        }
        let folder = self.path.rsplit_once('/').map_or("", |(d, _)| d);
        Some(tidy(&format!("{folder}/{src}")))
    }

    fn link(&self, state: &PathState, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let (Some(src), Some(source)) = (self.src.as_deref(), self.source()) else {
            return match &state.entry {
                Some(e) if e.kind == EntryKind::Link => Ok(self.settle(state, Time::Preserve, ctx)),
                _ => Err(Stop::fail(format!("{} is no link yet: a new one needs `src`", &*self.path))),
            };
        };
        let lead = seen.path(&source)?;
        if !self.force.0 && lead.followed().is_none() {
            return Err(Stop::fail_hint(
                format!("{source} does not exist"),
                "`force: true` makes a link that leads nowhere for now",
            ));
        }
        let mut result = self.named("link");
        result.insert("dest".into(), json!(&*self.path));
        result.insert("src".into(), json!(src));
        if state.link.as_deref() == Some(src) {
            return Ok(match self.settle(state, Time::Preserve, ctx) {
                Decision::Satisfied(mut r) => {
                    r.result.extend(result);
                    Decision::Satisfied(r)
                }
                Decision::Change(mut c) => {
                    c.result.extend(result);
                    Decision::Change(c)
                }
                wait => wait,
            });
        }
        let (q, temp) = (shell_quote(&self.path), shell_quote(&place::beside(&self.path)));
        let mut script = format!("ln -sfn -- {} {temp} && mv -fT -- {temp} {q}", shell_quote(src));
        let mut summary = format!("links to {src}");
        match state.entry.as_ref().map(|e| e.kind) {
            None => {}
            Some(EntryKind::Link) => {
                summary = format!("link {} -> {src}", state.link.as_deref().unwrap_or("?"));
            }
            Some(kind) if !self.force.0 => {
                return Err(Stop::fail_hint(
                    format!("{} is {}, not a link", &*self.path, called(kind)),
                    "`force: true` replaces it",
                ));
            }
            Some(EntryKind::Directory) => {
                let empty = format!("[ -z \"$(ls -A -- {q})\" ]");
                if seen.script(&empty)?.rc != 0 {
                    return Err(Stop::fail(format!("the folder {} is not empty; it is not replaced", &*self.path)));
                }
                script = format!("if [ ! -L {q} ] && [ -d {q} ]; then rmdir -- {q}; fi && {script}");
                summary = format!("replaces the empty folder by a link to {src}");
            }
            Some(_) => summary = format!("replaces the file by a link to {src}"),
        }
        // Ownership: of what the link leads to, or of the link itself.
        let own = (self.owner.as_deref(), self.group.as_deref());
        let own = if self.follow.0 { (None, None) } else { own };
        let entry = place::new_entry(EntryKind::Link, 0o777, src.len() as u64, own, ctx);
        let mut touches = Touches::path(&self.path);
        let mut after = vec![];
        let mut target = lead.followed().cloned();
        if self.follow.0 {
            if let Some(t) = &mut target {
                let meta = self.meta(t);
                if let Some(fix) = meta.fix(&lead.canonical, t) {
                    script = format!("{script} && {}", fix.script);
                    summary = format!("{summary}, {}", fix.summary);
                    *t = meta.onto(t);
                    touches = touches.and(Touches::path(&lead.canonical));
                    let mut lead = lead.clone();
                    let place = if lead.target.is_some() { &mut lead.target } else { &mut lead.entry };
                    *place = Some(t.clone());
                    after.push((Probe::Path(source.clone()), path_answer(lead)));
                }
            }
        } else if let Some(spec) = place::chown_spec(self.owner.as_deref(), self.group.as_deref()) {
            script = format!("{script} && chown -h -- {} {q}", shell_quote(&spec));
        }
        result = {
            let mut all = facts(&self.path, &entry);
            all.extend(result);
            all
        };
        after.push((
            Probe::Path(self.path.0.clone()),
            path_answer(PathState {
                entry: Some(entry),
                target,
                link: Some(src.to_string()),
                canonical: lead.canonical.clone(),
                denied: false,
            }),
        ));
        after.extend(unchanged_folders(&self.path, seen));
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches,
            after,
            summary,
            result,
            ..Default::default()
        }))
    }

    fn hard(&self, state: &PathState, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let Some(source) = self.source() else { return Err(Stop::fail("`state: hard` needs `src`")) };
        let lead = seen.path(&source)?;
        let Some(first) = &lead.entry else { return Err(Stop::fail(format!("{source} does not exist"))) };
        if first.kind == EntryKind::Directory {
            return Err(Stop::fail(format!("{source} is a folder; a folder has one name only")));
        }
        let more = |mut r: Map<String, Value>| {
            r.insert("dest".into(), json!(&*self.path));
            r.insert("src".into(), json!(&source));
            r.insert("state".into(), json!("hard"));
            r
        };
        if state.entry.as_ref().is_some_and(|e| !e.inode.is_empty() && e.inode == first.inode) {
            return Ok(match self.settle(state, Time::Preserve, ctx) {
                Decision::Satisfied(mut r) => {
                    r.result = more(r.result);
                    Decision::Satisfied(r)
                }
                Decision::Change(mut c) => {
                    c.result = more(c.result);
                    Decision::Change(c)
                }
                wait => wait,
            });
        }
        match state.entry.as_ref().map(|e| e.kind) {
            None | Some(EntryKind::Link) => {}
            Some(EntryKind::Directory) => return Err(Stop::fail(format!("{} is a folder", &*self.path))),
            Some(_) if self.force.0 => {}
            Some(_) => {
                return Err(Stop::fail_hint(
                    format!("{} is another file already", &*self.path),
                    "`force: true` replaces it",
                ));
            }
        }
        let (q, temp) = (shell_quote(&self.path), shell_quote(&place::beside(&self.path)));
        let mut script = format!("ln -f -- {} {temp} && mv -fT -- {temp} {q} && rm -f -- {temp}", shell_quote(&source));
        let mut summary = format!("second name of {source}");
        let meta = self.meta(first);
        if let Some(fix) = meta.fix(&self.path, first) {
            script = format!("{script} && {}", fix.script);
            summary = format!("{summary}, {}", fix.summary);
        }
        let mut entry = meta.onto(first);
        entry.links += 1;
        if entry.inode.is_empty() {
            entry.inode = format!("new:{source}");
        }
        let result = more(facts(&self.path, &entry));
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches: Touches::path(&self.path).and(Touches::path(&source)),
            after: vec![
                (
                    Probe::Path(self.path.0.clone()),
                    path_answer(PathState {
                        entry: Some(entry.clone()),
                        canonical: state.canonical.clone(),
                        ..Default::default()
                    }),
                ),
                (Probe::Path(source), path_answer(PathState { entry: Some(entry), ..lead.clone() })),
            ],
            summary,
            result,
            ..Default::default()
        }))
    }
}

fn path_answer(state: PathState) -> Answer {
    Answer::Path(state)
}

fn called(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "a file",
        EntryKind::Directory => "a folder",
        EntryKind::Link => "a link",
        EntryKind::Other => "a device, socket or pipe",
    }
}

/// One line of the tree's listing: how often, and an entry with that type, mode and owner.
fn combination(line: &str) -> Option<(u64, Entry)> {
    let (count, rest) = line.trim_start().split_once(' ')?;
    let mut f = rest.split('/');
    let raw = u32::from_str_radix(f.next()?, 16).ok()?;
    let (uid, gid) = (f.next()?.parse().ok()?, f.next()?.parse().ok()?);
    let kind = match raw & 0o170000 {
        0o040000 => EntryKind::Directory,
        0o120000 => EntryKind::Link,
        0o100000 => EntryKind::File,
        _ => EntryKind::Other,
    };
    let entry = Entry {
        kind,
        mode: raw & 0o7777,
        uid,
        gid,
        owner: f.next()?.to_string(),
        group: f.next()?.to_string(),
        size: 0,
        mtime: 0,
        links: 1,
        inode: String::new(),
        times: None,
    };
    Some((count.parse().ok()?, entry))
}

fn listing(count: u64, e: &Entry) -> String {
    let kind = match e.kind {
        EntryKind::Directory => 0o040000,
        EntryKind::Link => 0o120000,
        EntryKind::File => 0o100000,
        EntryKind::Other => 0o140000,
    };
    format!("{count} {:x}/{}/{}/{}/{}\n", kind | e.mode, e.uid, e.gid, e.owner, e.group)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn m(yaml: &str) -> File {
        bind(yaml)
    }
    fn script(c: &Change) -> &str {
        match c.actions.as_slice() {
            [Action::Script(s)] => s,
            other => panic!("{other:?}"),
        }
    }
    /// Decides by what is on this machine, runs it, and checks that what was foreseen came true.
    fn apply(m: &File) -> Option<Change> {
        let seen = look(m.probes(&ctx()));
        let decision = match m.decide(&seen, &ctx()) {
            Err(Stop::Need(p)) => {
                let more = look(m.probes(&ctx()).into_iter().chain(p));
                m.decide(&more, &ctx())
            }
            d => d,
        };
        match decision {
            Ok(Decision::Satisfied(_)) => None,
            Ok(Decision::Change(c)) => {
                satisfied(m.decide(&then(seen, &c), &ctx()));
                run(&c);
                satisfied(m.decide(&look(m.probes(&ctx())), &ctx()));
                Some(c)
            }
            other => panic!("{other:?}"),
        }
    }
    fn mode(p: &std::path::Path) -> u32 {
        std::fs::symlink_metadata(p).unwrap().permissions().mode() & 0o7777
    }
    fn fails(d: Result<Decision, Stop>) -> String {
        match d {
            Err(Stop::Fail(f)) => f.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_is_made_with_its_parents() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().join("a b/-c/it's \"$x`\n*");
        let yaml = json!({"path": d, "state": "directory", "mode": "0750"}).to_string();
        let c = apply(&m(&yaml)).unwrap();
        assert_eq!(c.summary, "creates the folder");
        assert_eq!(c.result["mode"], "0750");
        assert_eq!((mode(&d), mode(&t.path().join("a b"))), (0o750, 0o750));
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 1, "nothing unfinished is left");
        assert!(apply(&m(&yaml)).is_none());
    }

    #[test]
    fn a_plan_knows_the_parents_that_a_folder_brings() {
        let made = m("{path: /srv/a/b, state: directory, mode: '0700', owner: www}");
        let before =
            seen([at("/srv", Some(entry(EntryKind::Directory, 0o755))), at("/srv/a", None), at("/srv/a/b", None)]);
        let c = change(made.decide(&before, &ctx()));
        let after = then(before, &c);
        satisfied(m("{path: /srv/a, state: directory, mode: '0700', owner: www}").decide(&after, &ctx()));
        satisfied(m("{path: /srv, state: directory, mode: '0755'}").decide(&after, &ctx()));
    }

    #[test]
    fn a_folder_made_in_a_setgid_folder_takes_after_it() {
        let t = tempfile::tempdir().unwrap();
        std::fs::set_permissions(t.path(), std::fs::Permissions::from_mode(0o2755)).unwrap();
        let c = apply(&m(&json!({"path": t.path().join("x"), "state": "directory"}).to_string())).unwrap();
        assert_eq!((mode(&t.path().join("x")), &c.result["mode"]), (0o2755, &json!("2755")));
        apply(&m(&json!({"path": t.path().join("y"), "state": "directory", "mode": "0755"}).to_string())).unwrap();
        assert_eq!(mode(&t.path().join("y")), 0o755);
        let c = apply(&m(&json!({"path": t.path().join("x"), "mode": "0755"}).to_string())).unwrap();
        assert_eq!((mode(&t.path().join("x")), c.summary.as_str()), (0o755, "mode 2755 -> 0755"));
    }

    #[test]
    fn each_property_alone() {
        let dir = || seen([at("/d", Some(entry(EntryKind::Directory, 0o755)))]);
        satisfied(m("{path: /d/, state: directory, mode: '0755', owner: root, group: '0'}").decide(&dir(), &ctx()));
        for (yaml, script_is, summary) in [
            ("{path: /d, mode: '0700'}", "chmod -- 00700 /d", "mode 0755 -> 0700"),
            ("{path: /d, mode: 'g+w'}", "chmod -- 00775 /d", "mode 0755 -> 0775"),
            ("{path: /d, owner: www}", "chown -h -- www /d", "owner root -> www"),
            ("{path: /d, group: 33}", "chown -h -- :33 /d", "group root -> 33"),
        ] {
            let c = change(m(yaml).decide(&dir(), &ctx()));
            assert_eq!((script(&c), c.summary.as_str()), (script_is, summary));
            satisfied(m(yaml).decide(&then(dir(), &c), &ctx()));
        }
    }

    #[test]
    fn a_file_must_exist() {
        let no = seen([at("/f", None)]);
        assert!(fails(m("{path: /f, mode: '0600'}").decide(&no, &ctx())).contains("no file /f"));
        let dir = seen([at("/f", Some(entry(EntryKind::Directory, 0o755)))]);
        assert!(fails(m("{path: /f, state: file}").decide(&dir, &ctx())).contains("is a folder"));
        let file = seen([at("/f", Some(entry(EntryKind::File, 0o644)))]);
        assert!(fails(m("{path: /f, state: directory}").decide(&file, &ctx())).contains("is a file"));
    }

    #[test]
    fn a_link_is_followed_or_not() {
        let t = tempfile::tempdir().unwrap();
        let (f, l) = (t.path().join("f"), t.path().join("l"));
        std::fs::write(&f, "x").unwrap();
        std::fs::set_permissions(&f, std::fs::Permissions::from_mode(0o644)).unwrap();
        symlink("f", &l).unwrap();
        let c = apply(&m(&json!({"path": l, "mode": "0600"}).to_string())).unwrap();
        assert_eq!((mode(&f), c.summary.as_str()), (0o600, "mode 0644 -> 0600"));
        assert!(apply(&m(&json!({"path": l, "state": "file", "mode": "0600"}).to_string())).is_none());
        let not = m(&json!({"path": l, "state": "file", "follow": false}).to_string());
        assert!(fails(not.decide(&look(not.probes(&ctx())), &ctx())).contains("is a link"));
    }

    #[test]
    fn absent_removes_links_not_what_they_lead_to() {
        let t = tempfile::tempdir().unwrap();
        let (d, l) = (t.path().join("d"), t.path().join("-l"));
        std::fs::create_dir(&d).unwrap();
        std::fs::write(d.join("f"), "x").unwrap();
        symlink(&d, &l).unwrap();
        let gone = m(&json!({"path": format!("{}/", l.display()), "state": "absent"}).to_string());
        assert_eq!(apply(&gone).unwrap().summary, "removes the link");
        assert!(d.join("f").exists());
        assert!(apply(&gone).is_none());
        apply(&m(&json!({"path": d, "state": "absent"}).to_string())).unwrap();
        assert!(!d.exists());
        for bad in ["/", "//", "/.", "/a/.."] {
            assert!(try_bind::<File>(&json!({"path": bad, "state": "absent"}).to_string()).is_err());
        }
    }

    #[test]
    fn links_are_made_replaced_and_forced() {
        let t = tempfile::tempdir().unwrap();
        let l = t.path().join("l k");
        let link =
            |src: &str, force: bool| m(&json!({"path": l, "src": src, "state": "link", "force": force}).to_string());
        let one = link("a", false);
        assert!(fails(one.decide(&look(one.probes(&ctx())), &ctx())).contains("does not exist"));
        apply(&link("a", true)).unwrap();
        std::fs::write(t.path().join("b"), "").unwrap();
        assert_eq!(apply(&link("b", false)).unwrap().summary, "link a -> b");
        assert_eq!(std::fs::read_link(&l).unwrap().to_str(), Some("b"));
        assert!(apply(&link("b", false)).is_none());
        std::fs::remove_file(&l).unwrap();
        std::fs::create_dir(&l).unwrap();
        assert!(fails(link("b", false).decide(&look(link("b", false).probes(&ctx())), &ctx())).contains("a folder"));
        apply(&link("b", true)).unwrap();
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_full_folder_is_not_replaced_by_a_link() {
        let t = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(t.path().join("l/x")).unwrap();
        let f = m(&json!({"path": t.path().join("l"), "src": "/", "state": "link", "force": true}).to_string());
        let Err(Stop::Need(more)) = f.decide(&look(f.probes(&ctx())), &ctx()) else { panic!() };
        assert!(fails(f.decide(&look(f.probes(&ctx()).into_iter().chain(more)), &ctx())).contains("not empty"));
    }

    #[test]
    fn hard_links() {
        let t = tempfile::tempdir().unwrap();
        let (a, b) = (t.path().join("a"), t.path().join("b"));
        std::fs::write(&a, "x").unwrap();
        let hard = m(&json!({"path": b, "src": a, "state": "hard"}).to_string());
        assert_eq!(apply(&hard).unwrap().result["state"], "hard");
        assert!(apply(&hard).is_none());
        std::fs::remove_file(&b).unwrap();
        std::fs::write(&b, "y").unwrap();
        assert!(fails(hard.decide(&look(hard.probes(&ctx())), &ctx())).contains("another file"));
        apply(&m(&json!({"path": b, "src": a, "state": "hard", "force": true}).to_string())).unwrap();
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_tree_is_set_right_where_it_differs() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().join("a'b");
        std::fs::create_dir_all(d.join("sub")).unwrap();
        for f in ["x", "sub/-y z", "sub/run"] {
            std::fs::write(d.join(f), "").unwrap();
            std::fs::set_permissions(d.join(f), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::fs::set_permissions(d.join("sub/run"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(t.path().join("outside"), "").unwrap();
        std::fs::set_permissions(t.path().join("outside"), std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink("../outside", d.join("link")).unwrap();
        let yaml = json!({"path": d, "state": "directory", "recurse": true, "mode": "u=rwX,g=rX,o="}).to_string();
        let c = apply(&m(&yaml)).unwrap();
        assert!(c.summary.contains("entries"), "{}", c.summary);
        assert_eq!((mode(&d), mode(&d.join("sub"))), (0o750, 0o750));
        assert_eq!((mode(&d.join("sub/-y z")), mode(&d.join("sub/run"))), (0o640, 0o750));
        assert_eq!(mode(&t.path().join("outside")), 0o600, "links are not followed");
        assert!(apply(&m(&yaml)).is_none());
    }

    #[test]
    fn touch() {
        let new = m("{path: /f, state: touch, mode: '0600', owner: www}");
        let before = || seen([at("/f", None)]);
        let c = change(new.decide(&before(), &ctx()));
        let [Action::Put(p)] = c.actions.as_slice() else { panic!() };
        assert_eq!((p.mode, p.owner.as_deref(), p.body.bytes().len()), (0o600, Some("www"), 0));
        let c2 = change(new.decide(&then(before(), &c), &ctx()));
        assert_eq!(script(&c2), "touch -c -h -- /f");
        let keep = m("{path: /f, state: touch, access_time: preserve, modification_time: preserve}");
        satisfied(keep.decide(&then(before(), &c), &ctx()));
        let only = m("{path: /f, state: touch, access_time: preserve}");
        assert_eq!(script(&change(only.decide(&then(before(), &c), &ctx()))), "touch -c -h -m -- /f");
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<File>(y).unwrap_err().message;
        assert!(err("{path: x}").contains("absolute"));
        assert!(err("{path: /x, state: link, follow: false}").contains("needs `src`"));
        assert!(err("{path: /x, state: hard}").contains("needs `src`"));
        assert!(err("{path: /x, state: touch, src: a}").contains("`state: link`"));
        assert!(err("{path: /x, state: file, recurse: true}").contains("directory"));
        assert!(err("{path: /x, state: gone}").contains("gone"));
        assert!(err("{path: /x, seuser: a}").contains("seuser"));
        assert!(err("{path: /x, mode: preserve}").contains("preserve"));
    }
}
