//! `authorized_key`: who may log in as a user with which SSH key.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::place::{self, Meta, NewFolder, Wanted, nothing_at, tidy};
use super::user::account_name;
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Content, EntryKind, Observed, Probe, UserState};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Adds SSH keys to a user's authorized_keys, or removes them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizedKey {
    /// The user who can then be logged in to.
    user: Text,
    /// The public key, or several, one a line. Empty lines and lines that begin with `#` do not count.
    key: Text,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// The file; without it `.ssh/authorized_keys` in the user's home.
    path: Option<Text>,
    /// Make the file's folder, with mode 0700 and owned by the user.
    #[serde(default = "yes")]
    manage_dir: Bool,
    /// Options of the key in the file, in place of those written with it.
    key_options: Option<Text>,
    /// The key's comment, in place of the one written with it.
    comment: Option<Text>,
    /// The file holds nothing else.
    #[serde(default)]
    exclusive: Bool,
    #[serde(skip)]
    #[schemars(skip)]
    keys: Vec<Key>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

fn yes() -> Bool {
    Bool(true)
}

/// One line with a key.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    options: Vec<String>,
    kind: String,
    blob: String,
    comment: String,
}

impl Key {
    /// Reads a line; nothing where it holds no key.
    fn parse(line: &str) -> Option<Key> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (first, rest) = word(line);
        let (options, kind, rest) = if is_kind(first) {
            ("", first, rest)
        } else {
            let (kind, rest) = word(rest);
            (first, kind, rest)
        };
        let (blob, comment) = word(rest);
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
        if !is_kind(kind) || blob.len() < 16 || !blob.bytes().all(is_base64) {
            return None;
        }
        Some(Key {
            options: options_of(options),
            kind: kind.to_string(),
            blob: blob.to_string(),
            comment: comment.trim().to_string(),
        })
    }

    fn line(&self) -> String {
        let options = if self.options.is_empty() { String::new() } else { format!("{} ", self.options.join(",")) };
        let comment = if self.comment.is_empty() { String::new() } else { format!(" {}", self.comment) };
        format!("{options}{} {}{comment}", self.kind, self.blob)
    }

    /// The same key with the same rights and comment; the order of options has no meaning.
    fn same(&self, other: &Key) -> bool {
        let sorted = |k: &Key| {
            let mut o = k.options.clone();
            o.sort();
            o
        };
        self.blob == other.blob
            && self.kind == other.kind
            && self.comment == other.comment
            && sorted(self) == sorted(other)
    }
}

/// The first word, quotes kept together, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => return (&text[..at], text[at..].trim_start()),
            _ => {}
        }
    }
    (text, "")
}

/// Options, parted at the commas outside quotes.
fn options_of(text: &str) -> Vec<String> {
    let (mut out, mut one, mut quoted, mut escaped) = (vec![], String::new(), false, false);
    for c in text.chars() {
        match c {
            ',' if !quoted => out.push(std::mem::take(&mut one)),
            c => {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if quoted => escaped = true,
                    '"' => quoted = !quoted,
                    _ => {}
                }
                one.push(c);
            }
        }
    }
    out.push(one);
    out.into_iter().map(|o| o.trim().to_string()).filter(|o| !o.is_empty()).collect()
}

fn is_kind(word: &str) -> bool {
    let bare = word.strip_suffix("-cert-v01@openssh.com").unwrap_or(word);
    matches!(
        bare,
        "ssh-ed25519"
            | "ssh-rsa"
            | "ssh-dss"
            | "ecdsa-sha2-nistp256"
            | "ecdsa-sha2-nistp384"
            | "ecdsa-sha2-nistp521"
            | "sk-ssh-ed25519"
            | "sk-ssh-ed25519@openssh.com"
            | "sk-ecdsa-sha2-nistp256"
            | "sk-ecdsa-sha2-nistp256@openssh.com"
            | "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"
            | "ssh-xmss@openssh.com"
    )
}

impl Module for AuthorizedKey {
    const NAME: &'static str = "authorized_key";
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("keyfile", "The file."), ("key", "The keys that were given.")];
    const EXAMPLE: &'static str = r#"- name: The administrators' keys, and no others
  authorized_key:
    user: admin
    key: "{{lookup_file}}"
    exclusive: true
  vars: {lookup_file: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl admin}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        account_name("user", &self.user)?;
        if let Some(p) = &mut self.path {
            absolute("path", p)?;
            p.0 = tidy(&p.0);
        }
        let line_end = |t: &Text| t.contains(['\n', '\r', '\0']);
        for (param, value) in [("key_options", &self.key_options), ("comment", &self.comment)] {
            if value.as_ref().is_some_and(line_end) {
                return Err(ArgError::new(param, "a line end cannot be in it"));
            }
        }
        let text = self.key.trim();
        if ["http://", "https://", "file://"].iter().any(|p| text.starts_with(p)) {
            return Err(ArgError::new("key", "a key is not fetched from a URL")
                .hint("put the key itself here; what a URL gives can change without anyone noticing"));
        }
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let Some(mut key) = Key::parse(line) else {
                // What stands here by mistake may be a secret, and a part of one is not known for one.
                let shown = crate::template::shown(&line.into());
                return Err(ArgError::new("key", format!("{shown} is not a public SSH key"))
                    .hint("a key is `ssh-ed25519 AAAA… comment`, one a line"));
            };
            if let Some(o) = self.key_options.as_deref() {
                key.options = options_of(o.trim());
            }
            if let Some(c) = self.comment.as_deref() {
                key.comment = c.trim().to_string();
            }
            // What would not be read back would be added again each time.
            if !Key::parse(&key.line()).is_some_and(|k| k.same(&key)) {
                return Err(ArgError::new(
                    "key_options",
                    "sshd would not read these options: a quote is not closed, or there is white space outside quotes",
                )
                .hint("options look like: no-pty,command=\"/usr/bin/backup --all\""));
            }
            // The same key twice: the later line counts.
            self.keys.retain(|k: &Key| k.blob != key.blob);
            self.keys.push(key);
        }
        if self.keys.is_empty() && !(self.exclusive.0 && self.state == State::Present) {
            return Err(ArgError::new("key", "there is no key in it"));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![];
        // The home is guessed here, so that one look mostly suffices; which one it is, the user's entry tells.
        let file = match self.path.as_deref() {
            Some(f) => f.to_string(),
            None if &*self.user == "root" => file_in("/root"),
            None => file_in(&format!("/home/{}", &*self.user)),
        };
        if self.path.is_none() {
            p.push(Probe::User(self.user.0.clone()));
        }
        p.extend([Probe::Path(file.clone()), Probe::Content(file)]);
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let file = match self.path.as_deref() {
            Some(f) => f.to_string(),
            None => file_in(&self.account(seen)?.home),
        };
        let state = seen.path(&file)?;
        let there = state.followed();
        match there.map(|e| e.kind) {
            None | Some(EntryKind::File) => {}
            Some(_) => return Err(Stop::fail(format!("{file} is not a regular file"))),
        }
        let old = match (there, seen.content(&file)?) {
            (None, _) => &[][..],
            (_, Content::Bytes(b)) => b,
            (Some(e), _) => return Err(super::edit::unreadable(&file, e)),
        };
        let (lines, [added, changed, removed, dropped]) = self.edit(old);
        let mut result = self.result(&file);
        if added + changed + removed + dropped == 0 {
            return Ok(Decision::satisfied(result));
        }

        let user = self.account(seen)?;
        // Nothing is foreseen of a user's numbers in a plan; a name is certain always.
        let group = seen.groups().ok().and_then(|all| all.iter().find(|g| g.gid == user.gid)).map(|g| g.name.clone());
        let group = group.or_else(|| (user.gid != place::UNKNOWN_ID).then(|| user.gid.to_string()));
        let mode = super::args::Mode::Bits(0o600);
        let mut known = Observed::new();
        if let Some(e) = there {
            // The file replaces a link at its place.
            let entry = crate::probe::PathState {
                entry: Some(e.clone()),
                canonical: state.canonical.clone(),
                ..Default::default()
            };
            known.insert(Probe::Path(file.clone()), Answer::Path(entry));
            known.insert(Probe::Content(file.clone()), Answer::Content(Content::Bytes(old.to_vec())));
        } else {
            nothing_at(&file, &state.canonical).into_iter().for_each(|(p, a)| known.insert(p, a));
        }
        let wanted = Wanted {
            path: &file,
            body: lines.into(),
            mode: Some(&mode),
            owner: Some(&self.user),
            group: group.as_deref(),
            validate: None,
            backup: false,
        };
        let mut decision = wanted.decide(&known, ctx)?;
        if let Decision::Change(c) = &mut decision {
            let folder = file.rsplit_once('/').map_or("", |(d, _)| d);
            if self.manage_dir.0 && !folder.is_empty() {
                self.folder(folder, group.as_deref(), c, seen, ctx)?;
            } else {
                c.after.extend(place::unchanged_folders(&file, seen));
            }
            let count = |n: usize, verb: &str, what: &str| match n {
                0 => None,
                1 => Some(format!("{verb} 1 {what}")),
                n => Some(format!("{verb} {n} {what}s")),
            };
            let words = [
                count(added, "adds", "key"),
                count(changed, "changes", "key"),
                count(removed, "removes", "key"),
                count(dropped, "removes", "line without a key"),
            ];
            c.summary = words.into_iter().flatten().collect::<Vec<_>>().join(", ");
            std::mem::swap(&mut c.result, &mut result);
        }
        Ok(decision)
    }
}

fn file_in(home: &str) -> String {
    format!("{}/.ssh/authorized_keys", home.trim_end_matches('/'))
}

impl AuthorizedKey {
    fn account<'a>(&self, seen: &'a Observed) -> Result<&'a UserState, Stop> {
        seen.user(&self.user)?.as_ref().ok_or_else(|| {
            Stop::fail_hint(
                format!("there is no user {}", &*self.user),
                "make the account with the `user` module first",
            )
        })
    }

    /// The folder of the file: made, or given to the user, as sshd wants it.
    fn folder(
        &self,
        folder: &str,
        group: Option<&str>,
        c: &mut super::Change,
        seen: &Observed,
        ctx: &Ctx,
    ) -> Result<(), Stop> {
        let now = seen.path(folder)?;
        match now.followed() {
            Some(e) if e.kind == EntryKind::Directory => {
                let meta = Meta { mode: Some(0o700), owner: Some(&self.user), group };
                c.after.extend(place::unchanged_folders(folder, seen));
                let mut after = now.clone();
                if let Some(fix) = meta.fix(&now.canonical, e) {
                    c.actions.insert(0, Action::Script(fix.script));
                    c.touches = std::mem::take(&mut c.touches).and(crate::probe::Touches::path(&now.canonical));
                    let right = meta.onto(e);
                    let place = if after.target.is_some() { &mut after.target } else { &mut after.entry };
                    *place = Some(right);
                }
                c.after.push((Probe::Path(folder.into()), Answer::Path(after)));
            }
            Some(_) => return Err(Stop::fail(format!("{folder} is not a folder"))),
            None => {
                let new = NewFolder { path: folder, mode: Some(0o700), owner: Some(&self.user), group };
                c.actions.insert(0, Action::Script(new.script()));
                c.after.extend(new.after(seen, ctx));
            }
        }
        Ok(())
    }

    /// The new body; how many keys are added, changed, removed, and how many other lines are dropped. Lines that do
    /// not matter stay byte for byte.
    fn edit(&self, old: &[u8]) -> (Vec<u8>, [usize; 4]) {
        let mut out = Vec::with_capacity(old.len() + 128);
        let (mut added, mut changed, mut removed, mut dropped) = (0, 0, 0, 0);
        let mut seen_blobs: Vec<&str> = vec![];
        for line in old.split_inclusive(|b| *b == b'\n') {
            let key = std::str::from_utf8(line).ok().and_then(Key::parse);
            let wanted = key.as_ref().and_then(|k| self.keys.iter().find(|w| w.blob == k.blob));
            match (self.state, wanted, key) {
                (State::Absent, Some(_), _) => removed += 1,
                (State::Present, Some(w), Some(k)) => {
                    if seen_blobs.contains(&w.blob.as_str()) {
                        // The same key once more: only its first line counts for sshd.
                        changed += 1;
                    } else if k.same(w) {
                        out.extend_from_slice(line);
                        seen_blobs.push(&w.blob);
                    } else {
                        out.extend_from_slice(w.line().as_bytes());
                        out.push(b'\n');
                        seen_blobs.push(&w.blob);
                        changed += 1;
                    }
                }
                (State::Present, _, Some(_)) if self.exclusive.0 => removed += 1,
                (State::Present, _, None) if self.exclusive.0 => dropped += usize::from(!line.trim_ascii().is_empty()),
                _ => out.extend_from_slice(line),
            }
        }
        if self.state == State::Present {
            for k in self.keys.iter().filter(|k| !seen_blobs.contains(&k.blob.as_str())) {
                if !out.is_empty() && !out.ends_with(b"\n") {
                    out.push(b'\n');
                }
                out.extend_from_slice(k.line().as_bytes());
                out.push(b'\n');
                added += 1;
            }
        }
        (out, [added, changed, removed, dropped])
    }

    fn result(&self, file: &str) -> Map<String, serde_json::Value> {
        let mut r = Map::new();
        r.insert("user".into(), json!(&*self.user));
        r.insert("key".into(), json!(&*self.key));
        r.insert("keyfile".into(), json!(file));
        r.insert("path".into(), json!(self.path.as_deref()));
        r.insert("state".into(), json!(if self.state == State::Present { "present" } else { "absent" }));
        r.insert("exclusive".into(), json!(self.exclusive.0));
        r.insert("manage_dir".into(), json!(self.manage_dir.0));
        r.insert("key_options".into(), json!(self.key_options.as_deref()));
        r.insert("comment".into(), json!(self.comment.as_deref()));
        r
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::modules::Change;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQbbbbbbbbbbbbbbbbbbbbb";
    const F: &str = "/home/bob/.ssh/authorized_keys";

    fn bob() -> (Probe, Answer) {
        let u = UserState { name: "bob".into(), uid: 1000, gid: 1000, home: "/home/bob".into(), ..Default::default() };
        (Probe::User("bob".into()), Answer::User(Some(u)))
    }
    fn with(body: &str) -> Observed {
        seen([
            bob(),
            at(F, Some(entry(EntryKind::File, 0o600))),
            (Probe::Content(F.into()), Answer::Content(Content::Bytes(body.into()))),
            at("/home/bob/.ssh", Some(entry(EntryKind::Directory, 0o700))),
        ])
    }
    fn module(key: &str, more: serde_json::Value) -> AuthorizedKey {
        let mut p = json!({"user": "bob", "key": key});
        p.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bind(&p.to_string())
    }
    fn body(c: &Change) -> String {
        match c.actions.last() {
            Some(Action::Put(p)) => String::from_utf8(p.body.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    /// The new body and the summary; what is foreseen must be satisfied.
    fn edit(m: &AuthorizedKey, old: &str) -> (String, String) {
        let c = change(m.decide(&with(old), &ctx()));
        satisfied(m.decide(&then(with(old), &c), &ctx()));
        (body(&c), c.summary)
    }

    #[test]
    fn a_key_is_added_once_and_the_rest_stays() {
        let m = module(&format!("{A} ann@x"), json!({}));
        let old = format!("# mine\n\n  from=\"a b,c\"  {B}   bob\t\nrubbish");
        assert_eq!(edit(&m, &old), (format!("{old}\n{A} ann@x\n"), "adds 1 key".into()));
        satisfied(m.decide(&with(&format!("{old}\n{A} ann@x\n")), &ctx()));
    }

    #[test]
    fn a_key_with_other_options_or_comment_is_replaced_where_it_is() {
        let m = module(&format!("{A} new"), json!({"key_options": "no-pty,command=\"a, b\""}));
        let want = format!("no-pty,command=\"a, b\" {A} new\n{B}\n");
        assert_eq!(edit(&m, &format!("{A} old\n{B}\n")), (want.clone(), "changes 1 key".into()));
        satisfied(m.decide(&with(&want), &ctx()));
        satisfied(m.decide(&with(&format!("command=\"a, b\",no-pty {A} new\n")), &ctx()));
        let m = module(A, json!({"comment": "c"}));
        assert_eq!(edit(&m, &format!("{A} x\n{A} y\n")).0, format!("{A} c\n"));
    }

    #[test]
    fn absent_goes_by_the_key_alone() {
        let m = module(&format!("{A} other"), json!({"state": "absent"}));
        assert_eq!(edit(&m, &format!("no-pty {A} x\n{B}\n")), (format!("{B}\n"), "removes 1 key".into()));
        satisfied(m.decide(&with(&format!("{B}\n")), &ctx()));
        satisfied(m.decide(&seen([bob(), at(F, None), nothing_at(F, F).remove(2)]), &ctx()));
    }

    #[test]
    fn options_are_written_as_they_are_read() {
        let m: AuthorizedKey = bind(&format!("{{user: ann, key: {A:?}, key_options: 'no-pty, command=\"a , b\" ,x'}}"));
        let (body, _) = m.edit(b"");
        assert!(body.starts_with(b"no-pty,command=\"a , b\",x ssh-"), "{}", String::from_utf8_lossy(&body));
        assert_eq!(m.edit(&body), (body.clone(), [0; 4]));
        for bad in ["no- pty", "command=\"x", "a\tb"] {
            let e = try_bind::<AuthorizedKey>(&format!("{{user: ann, key: {A:?}, key_options: '{bad}'}}")).unwrap_err();
            assert_eq!(e.param, ["key_options"]);
        }
    }

    #[test]
    fn exclusive_removes_the_others() {
        let m = module(&format!("{A} a\n# c\n\n{B} b\n"), json!({"exclusive": true}));
        let other = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQccccccccccccccccccc";
        let (new, summary) = edit(&m, &format!("# old\n{B} b\n{other} x\n"));
        assert_eq!(
            (new, summary),
            (format!("{B} b\n{A} a\n"), "adds 1 key, removes 1 key, removes 1 line without a key".into())
        );
    }

    #[test]
    fn the_folder_and_the_file_are_made_as_sshd_wants_them() {
        let no = || seen([bob(), at(F, None), nothing_at(F, F).remove(2), at("/home/bob/.ssh", None)]);
        let m = module(A, json!({}));
        let c = change(m.decide(&no(), &ctx()));
        let [Action::Script(s), Action::Put(p)] = c.actions.as_slice() else { panic!("{c:?}") };
        assert!(
            s.contains("p=/home/bob/.ssh") && s.contains("chown -- bob:1000") && s.contains("chmod -- 00700"),
            "{s}"
        );
        assert_eq!((p.mode, p.owner.as_deref(), p.group.as_deref()), (0o600, Some("bob"), Some("1000")));
        satisfied(m.decide(&then(no(), &c), &ctx()));
        assert_eq!(then(no(), &c).path("/home/bob/.ssh").unwrap().entry.as_ref().unwrap().owner, "bob");
    }

    #[test]
    fn with_a_path_the_user_is_looked_for_only_when_something_changes() {
        let m = module(A, json!({"path": "/etc/keys/bob", "manage_dir": false}));
        assert!(!m.probes(&ctx()).contains(&Probe::User("bob".into())));
        let have = |body: &str| {
            seen([
                at("/etc/keys/bob", Some(entry(EntryKind::File, 0o600))),
                (Probe::Content("/etc/keys/bob".into()), Answer::Content(Content::Bytes(body.into()))),
            ])
        };
        satisfied(m.decide(&have(A), &ctx()));
        assert_eq!(m.decide(&have(""), &ctx()).unwrap_err(), Stop::Need(vec![Probe::User("bob".into())]));
    }

    #[test]
    fn one_look_suffices_where_homes_are_as_usual() {
        let m = module(A, json!({}));
        let o = with(A);
        assert!(m.probes(&ctx()).iter().all(|p| o.has(p)));
        satisfied(m.decide(&o, &ctx()));
    }

    #[test]
    fn mistakes() {
        let err = |v: serde_json::Value| try_bind::<AuthorizedKey>(&v.to_string()).unwrap_err().message;
        assert!(err(json!({"user": "bob", "key": "https://x/y.keys"})).contains("URL"));
        assert!(err(json!({"user": "bob", "key": "hello"})).contains("not a public SSH key"));
        assert!(err(json!({"user": "bob", "key": "# x"})).contains("no key"));
        assert!(err(json!({"user": "-x", "key": A})).contains("name"));
        assert!(err(json!({"user": "bob", "key": A, "comment": "a\nb"})).contains("line end"));
        assert!(err(json!({"user": "bob", "key": A, "path": "x"})).contains("absolute"));
        let none = seen([(Probe::User("bob".into()), Answer::User(None))]);
        assert!(
            matches!(module(A, json!({})).decide(&none, &ctx()), Err(Stop::Fail(f)) if f.message.contains("no user"))
        );
    }

    #[test]
    fn the_folder_is_left_alone_where_that_is_asked_for() {
        let open = || {
            let mut o = with("");
            let (p, a) = at("/home/bob/.ssh", Some(entry(EntryKind::Directory, 0o755)));
            o.insert(p, a);
            o
        };
        assert_eq!(change(module(A, json!({})).decide(&open(), &ctx())).actions.len(), 2);
        let m = module(A, json!({"manage_dir": false}));
        assert!(matches!(change(m.decide(&open(), &ctx())).actions.as_slice(), [Action::Put(_)]));
    }
}
