//! `user`: an account of the host.

use super::args::{Bool, List, Text};
use super::copy::absolute;
use super::place::{UNKNOWN_ID, nothing_at, unchanged_folders};
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Content, EntryKind, GroupState, Observed, Output, PathState, Probe, Touches, UserState};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Makes, changes and removes accounts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The account's name. Also `user`.
    #[serde(alias = "user")]
    #[schemars(extend("x-aliases" = ["user"]))]
    name: Text,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// Its number.
    uid: Option<u32>,
    /// The uid may be another account's already.
    #[serde(default)]
    non_unique: Bool,
    /// The primary group, by name or number. A new account without it gets a group of its own name.
    group: Option<Text>,
    /// The other groups; an empty list means none.
    groups: Option<List>,
    /// Other groups besides `groups` stay.
    #[serde(default)]
    append: Bool,
    /// The full name (GECOS).
    comment: Option<Text>,
    /// The home folder; `/home/NAME` for a new account without it.
    home: Option<Text>,
    /// Make the home folder if there is none. Also `createhome`.
    #[serde(default = "yes", alias = "createhome")]
    #[schemars(extend("x-aliases" = ["createhome"]))]
    create_home: Bool,
    /// When `home` changes, the old folder moves there.
    #[serde(default)]
    move_home: Bool,
    /// The folder whose content a new home gets, in place of /etc/skel.
    skeleton: Option<Text>,
    /// The program that a login starts.
    shell: Option<Text>,
    /// The hash of the password, as in /etc/shadow; `*` or `!` for none.
    password: Option<Text>,
    /// `always`, or `on_create`: only a new account gets the password, or one that never had any.
    #[serde(default)]
    update_password: UpdatePassword,
    /// Lock (or unlock) the password; other ways to log in stay open.
    password_lock: Option<Bool>,
    /// A new account is a system account.
    #[serde(default)]
    system: Bool,
    /// With `absent`: the home folder and the mail go too.
    #[serde(default)]
    remove: Bool,
    /// With `absent`: even if the account is in use.
    #[serde(default)]
    force: Bool,
    /// Make an SSH key for the account if it has none.
    #[serde(default)]
    generate_ssh_key: Bool,
    /// The key's length, for types that have a choice.
    ssh_key_bits: Option<u32>,
    /// The key's type: rsa, ecdsa, ed25519.
    #[serde(default = "rsa")]
    ssh_key_type: Text,
    /// The key's file; relative to the home folder. Without it `.ssh/id_TYPE`.
    ssh_key_file: Option<Text>,
    /// The key's comment.
    ssh_key_comment: Option<Text>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum UpdatePassword {
    #[default]
    Always,
    OnCreate,
}

fn yes() -> Bool {
    Bool(true)
}

/// Asks whether a home folder is there. The dot says that nothing else of the folder matters: what a plan foresees of
/// a home to be made is only this, not the mode that the host's own settings give it.
fn there(home: &str) -> Probe {
    Probe::Path(dotted(home))
}

fn dotted(home: &str) -> String {
    format!("{}/.", home.trim_end_matches('/'))
}

fn is_there(home: &str, ctx: &Ctx) -> (Probe, Answer) {
    let entry = super::place::new_entry(EntryKind::Directory, 0o755, 4096, (None, None), ctx);
    (there(home), Answer::Path(PathState { entry: Some(entry), canonical: home.to_string(), ..Default::default() }))
}

fn rsa() -> Text {
    "rsa".into()
}

impl Module for User {
    const NAME: &'static str = "user";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("name, uid, group, groups, comment, home, shell", "The account."),
        ("state", "`present` or `absent`."),
        ("ssh_key_file, ssh_public_key", "Where a key was made."),
    ];
    const EXAMPLE: &'static str = r##"- user:
    name: app
    system: true
    home: /srv/app
    shell: /usr/sbin/nologin
    groups: [adm]
    append: true"##;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        account_name("name", &self.name)?;
        let field = |param: &str, text: Option<&str>| match text {
            Some(t) if t.contains([':', '\n', '\r', '\0']) => {
                Err(ArgError::new(param, "neither a colon nor a line end can be in it"))
            }
            _ => Ok(()),
        };
        field("comment", self.comment.as_deref())?;
        field("password", self.password.as_deref())?;
        field("shell", self.shell.as_deref())?;
        field("home", self.home.as_deref())?;
        if let Some(p) = self.password.as_deref()
            && !is_hash(p)
        {
            return Err(ArgError::new("password", "the password is not a hash as in /etc/shadow")
                .hint("make one with `openssl passwd -6`; `*` and `!` mean that no password fits"));
        }
        for (param, value) in [("home", &self.home), ("skeleton", &self.skeleton)] {
            value.as_deref().map_or(Ok(()), |v| absolute(param, v))?;
        }
        if let Some(s) = self.shell.as_deref().filter(|s| !s.is_empty()) {
            absolute("shell", s)?;
        }
        for g in self.groups.iter().flat_map(|l| l.0.iter()).chain(self.group.as_deref().map(str::to_string).iter()) {
            account_name("groups", g)?;
        }
        if self.non_unique.0 && self.uid.is_none() {
            return Err(ArgError::new("non_unique", "`non_unique` needs `uid`"));
        }
        if self.generate_ssh_key.0 && !["rsa", "ecdsa", "ed25519"].contains(&&*self.ssh_key_type) {
            return Err(ArgError::new("ssh_key_type", "expected rsa, ecdsa or ed25519"));
        }
        if let Some(h) = &mut self.home {
            h.0 = super::place::tidy(&h.0);
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::User(self.name.0.clone()), Probe::Groups];
        if self.state == State::Absent {
            return p;
        }
        if self.password.is_some() || self.password_lock.is_some() {
            p.push(Probe::Shadow(self.name.0.clone()));
        }
        let home = self.new_home();
        if self.create_home.0 {
            p.push(there(&home));
            p.push(Probe::Path(self.skeleton_ssh()));
        }
        if self.generate_ssh_key.0 {
            p.push(Probe::Path(self.key_file(&home)));
            p.push(Probe::Content(format!("{}.pub", self.key_file(&home))));
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let now = seen.user(&self.name)?;
        match (self.state, now) {
            (State::Absent, None) => Ok(Decision::satisfied(self.named("absent"))),
            (State::Absent, Some(u)) => Ok(self.remove(u, seen)),
            (State::Present, None) => self.add(seen, ctx),
            (State::Present, Some(u)) => self.change(u, seen, ctx),
        }
    }
}

/// What is put together on the way to a change.
#[derive(Default)]
struct Plan {
    script: Vec<String>,
    summary: Vec<String>,
    paths: Vec<String>,
    after: Vec<(Probe, Answer)>,
}

impl User {
    fn named(&self, state: &str) -> Map<String, Value> {
        let mut r = Map::new();
        r.insert("name".into(), json!(&*self.name));
        r.insert("state".into(), json!(state));
        r
    }

    fn result(&self, u: &UserState) -> Map<String, Value> {
        let mut r = self.named("present");
        for (name, id) in [("uid", u.uid), ("group", u.gid)] {
            if id != UNKNOWN_ID {
                r.insert(name.into(), json!(id));
            }
        }
        r.insert("comment".into(), json!(u.comment));
        r.insert("home".into(), json!(u.home));
        if !u.shell.is_empty() {
            r.insert("shell".into(), json!(u.shell));
        }
        r.insert("append".into(), json!(self.append.0));
        r.insert("create_home".into(), json!(self.create_home.0));
        r.insert("move_home".into(), json!(self.move_home.0));
        if let Some(g) = &self.groups {
            r.insert("groups".into(), json!(g.0.join(",")));
        }
        if self.password.is_some() {
            r.insert("password".into(), json!("NOT_LOGGING_PASSWORD"));
        }
        r
    }

    fn new_home(&self) -> String {
        match self.home.as_deref() {
            Some(h) => h.to_string(),
            None if &*self.name == "root" => "/root".into(),
            None => format!("/home/{}", &*self.name),
        }
    }

    fn skeleton_ssh(&self) -> String {
        format!("{}/.ssh", self.skeleton.as_deref().unwrap_or("/etc/skel").trim_end_matches('/'))
    }

    fn key_file(&self, home: &str) -> String {
        match self.ssh_key_file.as_deref() {
            Some(f) if f.starts_with('/') => f.to_string(),
            Some(f) => format!("{}/{f}", home.trim_end_matches('/')),
            None => format!("{}/.ssh/id_{}", home.trim_end_matches('/'), &*self.ssh_key_type),
        }
    }

    fn remove(&self, u: &UserState, seen: &Observed) -> Decision {
        let mut words = vec!["userdel"];
        if self.force.0 {
            words.push("-f");
        }
        if self.remove.0 {
            words.push("-r");
        }
        words.extend(["--", &*self.name]);
        let mut touches = account_files();
        if self.remove.0 {
            touches = touches.and(Touches { paths: vec![u.home.clone()], ..Default::default() });
            touches.paths.extend([format!("/var/mail/{}", u.name), format!("/var/spool/mail/{}", u.name)]);
        }
        // What becomes of a group of the same name is the host's affair: nothing is foreseen of groups.
        let mut after = other_accounts(seen, &self.name);
        after.push((Probe::User(self.name.0.clone()), Answer::User(None)));
        after.push((Probe::Shadow(self.name.0.clone()), Answer::Shadow(None)));
        let mut result = self.named("absent");
        result.insert("force".into(), json!(self.force.0));
        result.insert("remove".into(), json!(self.remove.0));
        Decision::Change(Change {
            actions: vec![Action::Script(guarded_userdel(&self.name, &shell_join(words)))],
            touches,
            after,
            summary: if self.remove.0 { "removes the user and the home" } else { "removes the user" }.into(),
            result,
            ..Default::default()
        })
    }

    /// The shadow entry that is wanted, if it is not that already.
    fn wanted_shadow(&self, now: Option<&str>, is_new: bool) -> Option<String> {
        let now = now.unwrap_or("");
        let lock = self.password_lock.map(|b| b.0);
        // `!` alone is what a new account has: one that was made, but did not come to its password.
        let sets = is_new || self.update_password == UpdatePassword::Always || ["!", "!!"].contains(&now);
        let bare = |t: &str| t.trim_start_matches('!').to_string();
        let field = match self.password.as_deref().filter(|_| sets) {
            Some(p) => {
                let locked = match lock {
                    Some(l) => l,
                    None if bare(p) == bare(now) => now.starts_with('!'),
                    None => p.starts_with('!'),
                };
                if locked { format!("!{}", bare(p)) } else { p.to_string() }
            }
            None => match lock {
                Some(true) if !now.starts_with('!') => format!("!{now}"),
                // Without a password there is nothing to unlock, and an empty one must not come of it.
                Some(false) if now.starts_with('!') && !bare(now).is_empty() => bare(now),
                _ => return None,
            },
        };
        (field != now).then_some(field)
    }

    /// A hash is never an argument: `chpasswd` reads it from its input. It takes hashes only, so that marks like `*`,
    /// which are no secret, and the lock are set by `usermod`.
    fn set_shadow(&self, now: &str, field: &str, plan: &mut Plan) {
        let name = shell_quote(&self.name);
        let bare = |t: &str| t.trim_start_matches('!').to_string();
        let is_mark = bare(field).len() < 13;
        plan.script.push(if !bare(field).is_empty() && format!("!{now}") == field {
            format!("usermod -L -- {name} || exit 1")
        } else if !bare(field).is_empty() && now == format!("!{field}") {
            format!("usermod -U -- {name} || exit 1")
        } else if is_mark {
            format!("usermod -p {} -- {name} || exit 1", shell_quote(field))
        } else {
            format!("chpasswd -e <<'windlass-end' || exit 1\n{}:{field}\nwindlass-end", &*self.name)
        });
        plan.after.push((Probe::Shadow(self.name.0.clone()), Answer::Shadow(Some(field.to_string()))));
    }

    fn add(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let groups = seen.groups()?;
        let home = self.new_home();
        let mut words: Vec<String> = vec!["useradd".into()];
        let mut opt = |flag: &str, value: &str| words.extend([flag.to_string(), value.to_string()]);
        let mut after_groups = groups.to_vec();
        let mut gid = UNKNOWN_ID;
        if let Some(uid) = self.uid {
            opt("-u", &uid.to_string());
        }
        match self.group.as_deref() {
            Some(g) => {
                gid = find_group(groups, g)?.gid;
                opt("-g", g);
            }
            None => {
                if let Some(g) = groups.iter().find(|g| g.name == *self.name) {
                    // A group of that name is there already: it is the user's.
                    gid = g.gid;
                    opt("-g", &g.name);
                } else {
                    after_groups.push(GroupState { name: self.name.0.clone(), gid, members: vec![] });
                    words.push("-U".into());
                }
            }
        }
        let mut opt = |flag: &str, value: &str| words.extend([flag.to_string(), value.to_string()]);
        if let Some(list) = self.groups.as_ref().filter(|l| !l.0.is_empty()) {
            for g in &list.0 {
                let name = find_group(groups, g)?.name.clone();
                if let Some(g) = after_groups.iter_mut().find(|g| g.name == name) {
                    g.members.push(self.name.0.clone());
                }
            }
            opt("-G", &list.0.join(","));
        }
        if let Some(c) = self.comment.as_deref() {
            opt("-c", c);
        }
        opt("-d", &home);
        if let Some(s) = self.shell.as_deref() {
            opt("-s", s);
        }
        if self.create_home.0
            && let Some(k) = self.skeleton.as_deref()
        {
            opt("-k", k);
        }
        words.push(if self.create_home.0 { "-m" } else { "-M" }.into());
        if self.non_unique.0 {
            words.push("-o".into());
        }
        if self.system.0 {
            words.push("-r".into());
        }
        words.extend(["--".to_string(), self.name.0.clone()]);

        let name = shell_quote(&self.name);
        let mut plan = Plan::default();
        // useradd does not make the folder above the home.
        let above = home.rsplit_once('/').map_or("", |(d, _)| d);
        if self.create_home.0 && !above.is_empty() && above != "/home" {
            let d = shell_quote(above);
            plan.script.push(format!("[ -d {d} ] || (umask 022 && mkdir -p -- {d}) || exit 1"));
            plan.paths.push(above.to_string());
        }
        let getent = format!("getent passwd {name} >/dev/null");
        plan.script.push(format!("{getent} || {} || exit 1", shell_join(&words)));
        let user = UserState {
            name: self.name.0.clone(),
            uid: self.uid.unwrap_or(UNKNOWN_ID),
            gid,
            comment: self.comment.as_deref().unwrap_or_default().into(),
            home: home.clone(),
            shell: self.shell.as_deref().unwrap_or_default().into(),
        };
        plan.summary.push("new user".into());
        match self.wanted_shadow(Some("!"), true) {
            Some(field) => self.set_shadow("!", &field, &mut plan),
            None => plan.after.push((Probe::Shadow(self.name.0.clone()), Answer::Shadow(Some("!".into())))),
        }
        plan.after.push((Probe::User(self.name.0.clone()), Answer::User(Some(user.clone()))));
        plan.after.push((Probe::Groups, Answer::Groups(after_groups)));
        if self.create_home.0 {
            plan.paths.push(home.clone());
            let gone = |p: Probe| matches!(seen.get(&p), Some(Answer::Path(s)) if s.entry.is_none());
            plan.after.push(is_there(&home, ctx));
            if gone(there(&home)) && gone(Probe::Path(self.skeleton_ssh())) {
                let ssh = format!("{home}/.ssh");
                let keys = format!("{ssh}/authorized_keys");
                plan.after.extend(nothing_at(&ssh, &ssh));
                plan.after.extend(nothing_at(&keys, &keys));
            }
        }
        if self.generate_ssh_key.0 {
            self.make_key(&home, &mut plan);
        }
        let mut result = self.result(&user);
        result.insert("system".into(), json!(self.system.0));
        Ok(self.done(plan, result, seen))
    }

    fn change(&self, u: &UserState, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let groups = seen.groups()?;
        let mut plan = Plan::default();
        let mut to = u.clone();
        let mut words: Vec<String> = vec!["usermod".into()];
        let mut paths = vec![];
        let mut summary = vec![];
        {
            let mut set = |flag: &str, value: &str| words.extend([flag.to_string(), value.to_string()]);
            if let Some(uid) = self.uid.filter(|n| *n != u.uid) {
                set("-u", &uid.to_string());
                summary.push(format!("uid {} -> {uid}", shown_id(u.uid)));
                to.uid = uid;
                paths.push(u.home.clone());
            }
            if let Some(g) = self.group.as_deref() {
                let wanted = find_group(groups, g)?;
                let same = if wanted.gid == UNKNOWN_ID {
                    wanted.name == u.name && u.gid == UNKNOWN_ID
                } else {
                    wanted.gid == u.gid
                };
                if !same {
                    set("-g", g);
                    let old = groups.iter().find(|g| g.gid == u.gid).map_or(shown_id(u.gid), |g| g.name.clone());
                    summary.push(format!("group {old} -> {}", wanted.name));
                    to.gid = wanted.gid;
                    paths.push(u.home.clone());
                }
            }
        }
        let mut after_groups = groups.to_vec();
        if let Some(list) = &self.groups {
            let wanted = list.0.iter().map(|g| find_group(groups, g)).collect::<Result<Vec<_>, _>>()?;
            // The primary group does not count among the others.
            let is_primary = |g: &GroupState| g.gid == to.gid && (g.gid != UNKNOWN_ID || g.name == *self.name);
            let others = |g: &&GroupState| !is_primary(g);
            let mut names: Vec<&str> = wanted.iter().copied().filter(others).map(|g| g.name.as_str()).collect();
            names.dedup();
            let has = |g: &GroupState| g.members.iter().any(|m| *m == *self.name);
            let missing: Vec<&str> =
                wanted.iter().copied().filter(others).filter(|g| !has(g)).map(|g| g.name.as_str()).collect();
            let extra: Vec<&str> = groups
                .iter()
                .filter(|g| has(g) && !is_primary(g) && !self.append.0)
                .map(|g| g.name.as_str())
                .filter(|n| !names.contains(n))
                .collect();
            if !missing.is_empty() || !extra.is_empty() {
                if self.append.0 {
                    words.extend(["-a".into(), "-G".into(), missing.join(",")]);
                } else {
                    words.extend(["-G".into(), names.join(",")]);
                }
                let signed = missing.iter().map(|g| format!("+{g}")).chain(extra.iter().map(|g| format!("-{g}")));
                summary.push(format!("groups {}", signed.collect::<Vec<_>>().join(" ")));
                for g in &mut after_groups {
                    if missing.contains(&g.name.as_str()) {
                        g.members.push(self.name.0.clone());
                    } else if extra.contains(&g.name.as_str()) {
                        g.members.retain(|m| *m != *self.name);
                    }
                }
            }
        }
        if let Some(c) = self.comment.as_deref().filter(|c| *c != u.comment) {
            words.extend(["-c".into(), c.to_string()]);
            summary.push(format!("comment \"{}\" -> \"{c}\"", u.comment));
            to.comment = c.to_string();
        }
        if let Some(h) = self.home.as_deref().filter(|h| *h != u.home) {
            words.extend(["-d".into(), h.to_string()]);
            if self.move_home.0 {
                words.push("-m".into());
                paths.push(u.home.clone());
                paths.push(h.to_string());
            }
            summary.push(format!("home {} -> {h}", u.home));
            to.home = h.to_string();
        }
        if let Some(s) = self.shell.as_deref().filter(|s| *s != u.shell) {
            words.extend(["-s".into(), s.to_string()]);
            let old = if u.shell.is_empty() { "default" } else { &u.shell };
            summary.push(format!("shell {old} -> {s}"));
            to.shell = s.to_string();
        }
        if words.len() > 1 {
            if self.non_unique.0 && to.uid != u.uid {
                words.push("-o".into());
            }
            words.extend(["--".to_string(), self.name.0.clone()]);
            plan.script.push(format!("{} || exit 1", shell_join(&words)));
        }
        plan.summary = summary;
        plan.paths = paths;
        plan.after.push((Probe::User(self.name.0.clone()), Answer::User(Some(to.clone()))));
        plan.after.push((Probe::Groups, Answer::Groups(after_groups)));

        if self.password.is_some() || self.password_lock.is_some() {
            let now = seen.shadow(&self.name)?;
            match self.wanted_shadow(now.as_deref(), false) {
                Some(field) => {
                    let bare = |t: &str| t.trim_start_matches('!').to_string();
                    let (old, locked) = (now.as_deref().unwrap_or(""), field.starts_with('!'));
                    if bare(old) != bare(&field) {
                        plan.summary.push("password".into());
                    }
                    if locked != old.starts_with('!') {
                        plan.summary.push(if locked { "locks the password" } else { "unlocks the password" }.into());
                    }
                    self.set_shadow(old, &field, &mut plan);
                }
                None => plan.after.push((Probe::Shadow(self.name.0.clone()), Answer::Shadow(now.clone()))),
            }
        }
        let moves = self.move_home.0 && to.home != u.home;
        if moves {
            plan.after.push(is_there(&to.home, ctx));
        } else if self.create_home.0 {
            if seen.path(&dotted(&to.home))?.entry.is_none() {
                plan.script.push(self.home_script(&to.home));
                plan.summary.push(format!("creates {}", to.home));
                plan.paths.push(to.home.clone());
            }
            plan.after.push(is_there(&to.home, ctx));
        }
        let mut result = self.result(&to);
        if self.generate_ssh_key.0 {
            let file = self.key_file(&to.home);
            if seen.path(&file)?.followed().is_none() {
                self.make_key(&to.home, &mut plan);
            } else {
                result.insert("ssh_key_file".into(), json!(file));
                if let Content::Bytes(b) = seen.content(&format!("{file}.pub"))? {
                    let key = String::from_utf8_lossy(b);
                    result.insert("ssh_public_key".into(), json!(key.trim_end()));
                }
            }
        }
        if plan.script.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        Ok(self.done(plan, result, seen))
    }

    /// Makes a home that an account lacks: filled elsewhere, moved into place at once.
    fn home_script(&self, home: &str) -> String {
        let skeleton = shell_quote(self.skeleton.as_deref().unwrap_or("/etc/skel"));
        format!(
            r#"(
h={home}; n={temp}; g=$(id -g -- {name}) || exit 1
[ -e "$h" ] && exit 0
rm -rf -- "$n"; umask 022; mkdir -p -- "${{h%/*}}/" && mkdir -m 0700 -- "$n" || exit 1
if [ -d {skeleton} ]; then cp -R -P -- {skeleton}/. "$n/" || exit 1; fi
m=$(sed -n 's/^[[:space:]]*HOME_MODE[[:space:]]\{{1,\}}\([0-7]\{{3,4\}}\).*/\1/p' /etc/login.defs 2>/dev/null | tail -n 1)
chown -R -h -- {name}:"$g" "$n" && chmod -- "${{m:-0755}}" "$n" && mv -T -- "$n" "$h"
) || exit 1"#,
            home = shell_quote(home),
            temp = shell_quote(&super::place::beside(home)),
            name = shell_quote(&self.name),
        )
    }

    /// The private key appears last: where it is, its public half is too.
    fn make_key(&self, home: &str, plan: &mut Plan) {
        let file = self.key_file(home);
        let dir = file.rsplit_once('/').map_or("/", |(d, _)| d).to_string();
        let bits = self.ssh_key_bits.map(|b| format!(" -b {b}")).unwrap_or_default();
        let comment = match self.ssh_key_comment.as_deref() {
            Some(c) => shell_quote(c),
            None => "\"windlass-generated on $(uname -n)\"".into(),
        };
        plan.script.push(format!(
            r#"(
{new_file}k={file}; d={dir}; u=$(id -u -- {name}) && g=$(id -g -- {name}) || exit 1
[ -e "$k" ] && exit 0
if [ ! -d "$d" ]; then mkdir -m 0700 -- "$d" && chown -h -- {name}:"$g" "$d" || exit 1; fi
# The folder is the user's: a name in it may lead elsewhere at any time. The key is made where only root writes.
cd -P -- "$d" || exit 1
[ "$(stat -c %u .)" = "$u" ] || [ "$(pwd -P)" = "$d" ] || {{ echo "$d leads to a folder that is not "{name}"'s" >&2; exit 1; }}
t=$(umask 077; mktemp -d) || exit 1
trap 'rm -rf -- "$t"' EXIT
ssh-keygen -q -t {kind}{bits} -N '' -C {comment} -f "$t/k" || exit 1
n=./.windlass-key k=./${{k##*/}}
new_file "$t/k.pub" "$n" 0644 {name}:"$g" && mv -fT -- "$n" "$k.pub" || exit 1
new_file "$t/k" "$n" 0600 {name}:"$g" && mv -fT -- "$n" "$k"
) || exit 1"#,
            new_file = super::place::NEW_FILE,
            file = shell_quote(&file),
            dir = shell_quote(&dir),
            name = shell_quote(&self.name),
            kind = shell_quote(&self.ssh_key_type),
        ));
        plan.summary.push("makes an SSH key".into());
        plan.paths.push(dir);
    }

    fn done(&self, plan: Plan, mut result: Map<String, Value>, seen: &Observed) -> Decision {
        if self.generate_ssh_key.0
            && let Some(Value::String(home)) = result.get("home").cloned()
        {
            result.insert("ssh_key_file".into(), json!(self.key_file(&home)));
        }
        let mut touches = account_files();
        touches.paths.extend(plan.paths);
        let mut after: Vec<_> = touches.paths.iter().flat_map(|p| unchanged_folders(p, seen)).collect();
        after.extend(other_accounts(seen, &self.name));
        after.retain(|(p, _)| !matches!(p, Probe::Path(p) if touches.paths.contains(p)));
        after.extend(plan.after);
        let mut actions = vec![Action::Script(format!("(\n{}\n)", plan.script.join("\n")))];
        // What the host has chosen for a new account.
        let chosen = !result.contains_key("uid");
        if chosen {
            actions.push(Action::Script(shell_join(["getent", "passwd", &self.name])));
        }
        Decision::Change(Change {
            actions,
            adds: chosen.then_some(account),
            touches,
            after,
            summary: plan.summary.join(", "),
            result,
            ..Default::default()
        })
    }
}

/// The account as `getent` prints it.
fn account(outputs: &[Output]) -> Map<String, Value> {
    let line = outputs.last().map(|o| o.stdout.trim()).unwrap_or_default();
    let [_, _, uid, gid, comment, home, shell] = line.split(':').collect::<Vec<_>>()[..] else { return Map::new() };
    let number = |n: &str| n.parse::<u32>().map_or(Value::Null, Value::from);
    let fields = [
        ("uid", number(uid)),
        ("group", number(gid)),
        ("comment", comment.into()),
        ("home", home.into()),
        ("shell", shell.into()),
    ];
    fields.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

fn shown_id(id: u32) -> String {
    if id == UNKNOWN_ID { "?".into() } else { id.to_string() }
}

/// userdel fails on a user who is not there: a second attempt must not.
fn guarded_userdel(name: &str, words: &str) -> String {
    format!("if getent passwd {} >/dev/null; then {words}; fi", shell_quote(name))
}

/// What every change of an account alters.
pub fn account_files() -> Touches {
    let files = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"];
    Touches { users: true, paths: files.iter().map(|f| format!("/etc/{f}")).collect(), ..Default::default() }
}

/// What is known of accounts other than `name`: a change of that one leaves it true.
pub fn other_accounts(seen: &Observed, name: &str) -> Vec<(Probe, Answer)> {
    let other = |p: &Probe| matches!(p, Probe::User(n) | Probe::Shadow(n) if n != name);
    seen.iter().filter(|(p, _)| other(p)).map(|(p, a)| (p.clone(), a.clone())).collect()
}

fn find_group<'a>(groups: &'a [GroupState], name: &str) -> Result<&'a GroupState, Stop> {
    groups
        .iter()
        .find(|g| g.name == name)
        .or_else(|| groups.iter().find(|g| name.parse() == Ok(g.gid)))
        .ok_or_else(|| Stop::fail_hint(format!("there is no group {name}"), "make it with the `group` module first"))
}

/// Refuses what cannot be an account's name, and what a tool would take for something else.
pub fn account_name(param: &str, name: &str) -> Result<(), ArgError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || ":,/\\\"'`$;|&<>()*?[]{}!#%=".contains(c);
    let trailing = name.strip_suffix('$').unwrap_or(name);
    if name.is_empty() || name.starts_with('-') || trailing.contains(bad) || name == "." || name == ".." {
        return Err(ArgError::new(param, format!("`{name}` cannot be an account's name")));
    }
    Ok(())
}

/// A hash in the notation of crypt(3), perhaps locked, or a mark that no password fits.
fn is_hash(p: &str) -> bool {
    let bare = p.trim_start_matches('!');
    bare.is_empty() && !p.is_empty()
        || bare == "*"
        || bare.starts_with('$') && bare.matches('$').count() >= 3
        || bare.starts_with('_') && bare.len() == 20
        || bare.len() == 13 && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
        || ["*LK*", "x"].contains(&bare)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    const HASH: &str = "$6$salt$abcdefghijklmnop";

    fn m(yaml: &str) -> User {
        bind(yaml)
    }
    fn groups() -> (Probe, Answer) {
        let g = |name: &str, gid, members: &[&str]| GroupState {
            name: name.into(),
            gid,
            members: members.iter().map(|m| m.to_string()).collect(),
        };
        let all = vec![
            g("root", 0, &[]),
            g("bob", 1000, &["bob"]),
            g("sudo", 27, &["bob", "eve"]),
            g("docker", 998, &[]),
            g("audio", 29, &["bob"]),
        ];
        (Probe::Groups, Answer::Groups(all))
    }
    fn bob(shadow: &str) -> Observed {
        let u = UserState {
            name: "bob".into(),
            uid: 1000,
            gid: 1000,
            comment: "Bob".into(),
            home: "/home/bob".into(),
            shell: "/bin/bash".into(),
        };
        seen([
            (Probe::User("bob".into()), Answer::User(Some(u))),
            groups(),
            (Probe::Shadow("bob".into()), Answer::Shadow(Some(shadow.into()))),
            at("/home/bob/.", Some(entry(EntryKind::Directory, 0o700))),
        ])
    }
    fn nobody(name: &str) -> Observed {
        seen([
            (Probe::User(name.into()), Answer::User(None)),
            groups(),
            (Probe::Shadow(name.into()), Answer::Shadow(None)),
            at(&format!("/home/{name}/."), None),
            at("/etc/skel/.ssh", None),
        ])
    }
    fn script(c: &Change) -> &str {
        match c.actions.as_slice() {
            [Action::Script(s)] => s,
            [Action::Script(s), Action::Script(asks)] if asks.starts_with("getent ") => s,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_user_is_added() {
        let yaml = format!("{{name: ann, groups: 'sudo,docker', shell: /bin/bash, uid: 1500, password: '{HASH}'}}");
        let c = change(m(&yaml).decide(&nobody("ann"), &ctx()));
        assert!(
            script(&c).contains("useradd -u 1500 -U -G sudo,docker -d /home/ann -s /bin/bash -m -- ann"),
            "{}",
            script(&c)
        );
        assert!(script(&c).contains(&format!("chpasswd -e <<'windlass-end' || exit 1\nann:{HASH}\n")));
        assert!(!script(&c).lines().any(|l| l.contains("useradd") && l.contains(HASH)));
        assert_eq!(c.result["uid"], 1500);
        assert!(!format!("{:?}{}", c.result, c.summary).contains(HASH));
        let after = then(nobody("ann"), &c);
        satisfied(m(&yaml).decide(&after, &ctx()));
        satisfied(m("{name: ann, append: true, groups: docker}").decide(&after, &ctx()));
        assert_eq!(after.content("/home/ann/.ssh/authorized_keys"), Ok(&Content::Absent));
    }

    #[test]
    fn what_is_unknown_before_is_not_guessed() {
        let c = change(m("{name: ann}").decide(&nobody("ann"), &ctx()));
        assert!(!c.result.contains_key("uid") && !c.result.contains_key("shell"));
        satisfied(m("{name: ann, groups: []}").decide(&then(nobody("ann"), &c), &ctx()));
        assert!(then(nobody("ann"), &c).path("/home/ann").is_err(), "its mode is the host's affair");
    }

    #[test]
    fn all_right_is_satisfied() {
        let yaml = format!(
            "{{name: bob, uid: 1000, group: bob, groups: [audio, sudo], comment: Bob, home: /home/bob/,
               shell: /bin/bash, password: '{HASH}', password_lock: false}}"
        );
        let r = satisfied(m(&yaml).decide(&bob(HASH), &ctx()));
        assert_eq!((&r.result["uid"], &r.result["home"]), (&json!(1000), &json!("/home/bob")));
        satisfied(m("{name: bob, append: true, groups: sudo}").decide(&bob("x"), &ctx()));
        satisfied(m("{name: bob, group: '1000', groups: 'audio,27'}").decide(&bob("x"), &ctx()));
    }

    #[test]
    fn each_property_alone() {
        for (yaml, command, summary) in [
            ("uid: 1001", "usermod -u 1001 -- bob", "uid 1000 -> 1001"),
            ("group: docker", "usermod -g docker -- bob", "group bob -> docker"),
            ("comment: B b", "usermod -c 'B b' -- bob", "comment \"Bob\" -> \"B b\""),
            ("shell: /bin/sh", "usermod -s /bin/sh -- bob", "shell /bin/bash -> /bin/sh"),
            ("home: /srv/bob, move_home: true", "usermod -d /srv/bob -m -- bob", "home /home/bob -> /srv/bob"),
            ("groups: 'docker,sudo', append: true", "usermod -a -G docker -- bob", "groups +docker"),
            ("groups: [docker, sudo]", "usermod -G docker,sudo -- bob", "groups +docker -audio"),
            ("groups: ''", "usermod -G '' -- bob", "groups -sudo -audio"),
            ("password_lock: true", "usermod -L -- bob", "locks the password"),
            ("password: '*'", "usermod -p '*' -- bob", "password"),
        ] {
            let yaml = format!("{{name: bob, {yaml}}}");
            let c = change(m(&yaml).decide(&bob(HASH), &ctx()));
            assert_eq!((script(&c), c.summary.as_str()), (format!("(\n{command} || exit 1\n)").as_str(), summary));
            satisfied(m(&yaml).decide(&then(bob(HASH), &c), &ctx()));
        }
        let c = change(m("{name: bob, password_lock: false}").decide(&bob(&format!("!{HASH}")), &ctx()));
        assert!(script(&c).contains("usermod -U -- bob"));
    }

    #[test]
    fn passwords() {
        let yaml = format!("{{name: bob, password: '{HASH}', update_password: on_create}}");
        satisfied(m(&yaml).decide(&bob("$6$other$0123456789"), &ctx()));
        change(m(&yaml).decide(&bob("!"), &ctx()));
        let yaml = format!("{{name: bob, password: '{HASH}'}}");
        satisfied(m(&yaml).decide(&bob(&format!("!{HASH}")), &ctx()));
        let yaml = format!("{{name: bob, password: '{HASH}', password_lock: true}}");
        let c = change(m(&yaml).decide(&bob("$6$other$0123456789"), &ctx()));
        assert!(script(&c).contains(&format!("bob:!{HASH}")));
        satisfied(m("{name: bob, password_lock: false}").decide(&bob("!"), &ctx()));
    }

    #[test]
    fn a_missing_home_is_made() {
        let mut o = bob(HASH);
        let (p, a) = at("/home/bob/.", None);
        o.insert(p, a);
        let c = change(m("{name: bob}").decide(&o, &ctx()));
        assert!(c.summary.contains("creates /home/bob") && c.touches.paths.contains(&"/home/bob".to_string()));
        satisfied(m("{name: bob}").decide(&then(o.clone(), &c), &ctx()));
        satisfied(m("{name: bob, create_home: false}").decide(&o, &ctx()));
    }

    #[test]
    fn an_ssh_key_is_made_once() {
        let yaml = "{name: bob, generate_ssh_key: true, ssh_key_type: ed25519, ssh_key_comment: it's}";
        let mut o = bob(HASH);
        let (p, a) = at("/home/bob/.ssh/id_ed25519", None);
        o.insert(p, a);
        let c = change(m(yaml).decide(&o, &ctx()));
        assert!(script(&c).contains("ssh-keygen -q -t ed25519 -N '' -C 'it'\\''s'"), "{}", script(&c));
        let (p, a) = at("/home/bob/.ssh/id_ed25519", Some(entry(EntryKind::File, 0o600)));
        o.insert(p, a);
        o.insert(
            Probe::Content("/home/bob/.ssh/id_ed25519.pub".into()),
            Answer::Content(Content::Bytes(b"ssh-ed25519 AAAA x\n".to_vec())),
        );
        assert_eq!(satisfied(m(yaml).decide(&o, &ctx())).result["ssh_public_key"], "ssh-ed25519 AAAA x");
    }

    #[test]
    fn absent() {
        let c = change(m("{name: bob, state: absent, remove: true, force: true}").decide(&bob(HASH), &ctx()));
        assert!(script(&c).ends_with("then userdel -f -r -- bob; fi"));
        assert!(c.touches.users && c.touches.paths.contains(&"/home/bob".to_string()));
        satisfied(m("{name: bob, state: absent}").decide(&then(bob(HASH), &c), &ctx()));
    }

    #[test]
    fn one_look_suffices() {
        let yaml = "{name: bob, password: '*', home: /home/bob}";
        let asked = m(yaml).probes(&ctx());
        let o = bob("*");
        assert!(asked.iter().filter(|p| **p != Probe::Path("/etc/skel/.ssh".into())).all(|p| o.has(p)), "{asked:?}");
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<User>(y).unwrap_err().message;
        for name in ["''", "-x", "'a:b'", "'a b'", "'a\n'", "'$(x)'"] {
            assert!(err(&format!("{{name: {name}}}")).contains("name"));
        }
        assert!(err("{name: a, password: secret}").contains("hash"));
        assert!(!err("{name: a, password: secret}").contains("secret"));
        assert!(err("{name: a, comment: 'a:b'}").contains("colon"));
        assert!(err("{name: a, home: x}").contains("absolute"));
        assert!(err("{name: a, expires: 1}").contains("expires"));
        assert!(err("{name: a, non_unique: true}").contains("uid"));
        let no = m("{name: bob, groups: wheel}").decide(&bob("x"), &ctx());
        assert!(matches!(no, Err(Stop::Fail(f)) if f.message.contains("no group wheel")));
    }

    #[test]
    fn what_the_host_has_chosen() {
        let c = change(m("{name: zoe}").decide(&nobody("zoe"), &ctx()));
        let said = |text: &str| vec![Output::default(), Output { stdout: text.into(), ..Default::default() }];
        let told = c.adds.unwrap()(&said("zoe:x:1007:1008:Z:/home/zoe:/bin/sh\n"));
        assert_eq!(
            Value::Object(told),
            json!({"uid": 1007, "group": 1008, "comment": "Z", "home": "/home/zoe", "shell": "/bin/sh"})
        );
        assert!(c.adds.unwrap()(&said("")).is_empty());
    }

    #[test]
    fn an_account_of_the_system_a_skeleton_and_a_key_of_ones_own() {
        let c = change(m("{name: ann, system: true, create_home: false}").decide(&nobody("ann"), &ctx()));
        assert!(script(&c).contains(" -M -r -- ann"), "{}", script(&c));
        let mut o = nobody("ann");
        let (p, a) = at("/srv/skel/.ssh", None);
        o.insert(p, a);
        let c = change(m("{name: ann, skeleton: /srv/skel}").decide(&o, &ctx()));
        assert!(script(&c).contains(" -k /srv/skel -m -- ann"), "{}", script(&c));
        let key = "{name: ann, generate_ssh_key: true, ssh_key_type: rsa, ssh_key_bits: 3072, ssh_key_file: .ssh/own}";
        let mut o = nobody("ann");
        for f in ["/home/ann/.ssh/own", "/home/ann/.ssh"] {
            let (p, a) = at(f, None);
            o.insert(p, a);
        }
        let c = change(m(key).decide(&o, &ctx()));
        let s = format!("{:?}", c.actions);
        assert!(s.contains("-t rsa -b 3072 ") && s.contains("k=/home/ann/.ssh/own;"), "{s}");
    }

    #[test]
    fn a_key_is_made_where_only_its_user_is_led_astray() {
        use std::os::unix::fs::PermissionsExt;
        let run =
            |c: &str, path: &str| std::process::Command::new("sh").arg("-c").arg(c).env("PATH", path).output().unwrap();
        let path = std::env::var("PATH").unwrap();
        let me = String::from_utf8(run("id -un", &path).stdout).unwrap();
        let t = tempfile::tempdir().unwrap();
        let dir = t.path().display().to_string();
        let victim = t.path().join("victim");
        std::fs::write(&victim, "own").unwrap();
        std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o640)).unwrap();
        // The user puts a link in the place of the unfinished key as soon as it is there.
        let shim = t.path().join("chmod");
        std::fs::write(
            &shim,
            format!("#!/bin/sh\nln -sfn {dir}/victim {dir}/home/.ssh/.windlass-key\nPATH={path} exec chmod \"$@\"\n"),
        )
        .unwrap();
        std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(t.path().join("home")).unwrap();
        let user = m(&format!("{{name: {}, generate_ssh_key: true, ssh_key_type: ed25519}}", me.trim()));
        let mut plan = Plan::default();
        user.make_key(&format!("{dir}/home"), &mut plan);
        let script = plan.script.join("\n");
        sh_accepts(&script);
        run(&script, &format!("{dir}:{path}"));
        assert_eq!(std::fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o640);
        std::fs::remove_file(&shim).unwrap();
        std::fs::remove_dir_all(t.path().join("home/.ssh")).unwrap();
        let out = run(&script, &path);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let left: Vec<_> = std::fs::read_dir(t.path().join("home/.ssh")).unwrap().map(|e| e.unwrap()).collect();
        let mut modes: Vec<_> = left
            .iter()
            .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().permissions().mode() & 0o777))
            .collect();
        modes.sort();
        assert_eq!(modes, [("id_ed25519".to_string(), 0o600), ("id_ed25519.pub".to_string(), 0o644)]);
    }
}
