//! `known_hosts`: the keys of hosts that ssh knows.

use super::args::{Bool, Text};
use super::edit::{Edit, utf8};
use super::place::{NewFolder, folders, tidy};
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Observed, Probe};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use sha1::{Digest, Sha1};

/// Keeps a host's keys in a known_hosts file. Keys of other types stay; another key of the same type gives way.
///
/// Registers `name`, `state`, `hash_host` and `key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownHosts {
    /// The host as ssh calls it; with another port than 22, `[host]:port`. Also `host`.
    #[serde(alias = "host")]
    #[schemars(extend("x-aliases" = ["host"]))]
    name: Text,
    /// The key as a line of known_hosts (`host ssh-ed25519 AAAA…`), or several lines, as ssh-keyscan prints them. With
    /// `absent`: this key only.
    key: Option<Text>,
    /// The file; without it `.ssh/known_hosts` in the home of the task's user.
    path: Option<Text>,
    /// Write the host's name as a hash.
    #[serde(default)]
    hash_host: Bool,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    #[serde(skip)]
    #[schemars(skip)]
    keys: Vec<Key>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

/// One line about a key.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    /// `@cert-authority`, `@revoked`, or nothing.
    mark: String,
    names: String,
    kind: String,
    blob: String,
    comment: String,
}

impl Key {
    fn read(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let mut words = line.split_whitespace().peekable();
        let mark = words.next_if(|w| w.starts_with('@')).unwrap_or_default().to_string();
        let mut next = || words.next().map(str::to_string);
        let (names, kind, blob) = (next()?, next()?, next()?);
        Some(Key { mark, names, kind, blob, comment: words.collect::<Vec<_>>().join(" ") })
    }
    fn is_about(&self, name: &str) -> bool {
        match self.names.strip_prefix("|1|") {
            Some(hashed) => hashed.split_once('|').is_some_and(|(salt, hash)| {
                BASE64.decode(salt).ok().and_then(|s| hashed_name(&s, name)).as_deref() == Some(hash)
            }),
            None => self.names.split(',').any(|n| n.eq_ignore_ascii_case(name)),
        }
    }
    fn is_hashed(&self) -> bool {
        self.names.starts_with('|')
    }
    fn same_key(&self, other: &Key) -> bool {
        self.same_kind(other) && self.blob == other.blob
    }
    fn same_kind(&self, other: &Key) -> bool {
        self.kind == other.kind && self.mark == other.mark
    }
    fn line(&self) -> String {
        let parts = [&self.mark, &self.names, &self.kind, &self.blob, &self.comment];
        parts.into_iter().filter(|p| !p.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
    /// The line without this name; nothing if it has no other.
    fn without(&self, name: &str) -> Option<String> {
        let left: Vec<&str> = self.names.split(',').filter(|n| !n.eq_ignore_ascii_case(name)).collect();
        (!self.is_hashed() && !left.is_empty()).then(|| Key { names: left.join(","), ..self.clone() }.line())
    }
}

fn hashed_name(salt: &[u8], name: &str) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(salt).ok()?;
    mac.update(name.as_bytes());
    Some(BASE64.encode(mac.finalize().into_bytes()))
}

impl Module for KnownHosts {
    const NAME: &'static str = "known_hosts";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        self.name.0 = self.name.to_ascii_lowercase();
        if self.name.is_empty() || self.name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
            return Err(ArgError::new("name", format!("`{}` is not a host's name", self.name.0)));
        }
        if let Some(p) = &self.path
            && !p.starts_with('/')
            && !p.starts_with("~/")
        {
            return Err(ArgError::new("path", format!("`{}` is not an absolute path", p.0)));
        }
        for line in self.key.as_deref().unwrap_or_default().lines() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let Some(k) = Key::read(line).filter(|k| BASE64.decode(&k.blob).is_ok_and(|b| b.len() > 8)) else {
                return Err(ArgError::new("key", "that is no line of a known_hosts file")
                    .hint("it goes `host ssh-ed25519 AAAA…`, as `ssh-keyscan HOST` prints it"));
            };
            if !k.is_about(&self.name) {
                return Err(ArgError::new("key", format!("the key is of `{}`, not of `{}`", k.names, self.name.0))
                    .hint("`name` must be as in the key's line; with another port than 22, `[host]:port`"));
            }
            self.keys.push(k);
        }
        if self.state == State::Present && self.keys.is_empty() {
            return Err(ArgError::new("key", "`known_hosts` needs a `key`"));
        }
        Ok(())
    }

    fn probes(&self, ctx: &Ctx) -> Vec<Probe> {
        let mut p = vec![];
        // The home is guessed here, so that one look mostly suffices; which one it is, the user's entry tells.
        let home = if ctx.user == "root" { "/root".to_string() } else { format!("/home/{}", ctx.user) };
        if !self.is_absolute() {
            p.push(Probe::User(ctx.user.clone()));
        }
        p.extend(self.edit(&self.file(&home)).probes());
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let home = match self.is_absolute() {
            true => String::new(),
            false => match seen.user(&ctx.user)? {
                Some(u) => u.home.clone(),
                None => return Err(Stop::fail(format!("there is no user {} on the host", ctx.user))),
            },
        };
        let path = self.file(&home);
        let edit = self.edit(&path);
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name.0));
        result.insert("key".into(), json!(self.key.as_ref().map(|k| &k.0)));
        result.insert("path".into(), json!(path));
        result.insert("hash_host".into(), json!(self.hash_host.0));
        result.insert("state".into(), json!(if self.state == State::Present { "present" } else { "absent" }));
        let Some(old) = edit.old(seen)? else {
            if self.state == State::Absent {
                return Ok(Decision::satisfied(result));
            }
            return self.put(&edit, seen, ctx, self.text("").0, "host key added", result);
        };
        let old = utf8(&path, old)?;
        let (new, msg) = self.text(old);
        if new == old {
            return Ok(Decision::satisfied(result));
        }
        self.put(&edit, seen, ctx, new, msg, result)
    }
}

impl KnownHosts {
    fn is_absolute(&self) -> bool {
        self.path.as_deref().is_some_and(|p| p.starts_with('/'))
    }
    fn file(&self, home: &str) -> String {
        let path = self.path.as_deref().unwrap_or("~/.ssh/known_hosts");
        tidy(&match path.strip_prefix("~/") {
            Some(rest) => format!("{home}/{rest}"),
            None => path.to_string(),
        })
    }
    fn edit<'a>(&self, path: &'a str) -> Edit<'a> {
        let create = self.state == State::Present;
        Edit { path, create, mode: None, owner: None, group: None, validate: None, backup: false }
    }

    /// A key as it is written.
    fn written(&self, key: &Key) -> String {
        let mut k = key.clone();
        if self.hash_host.0 && !k.is_hashed() {
            // The salt need not be secret, only its own for each line; made of the key, the same line comes out each time.
            let salt = Sha1::digest(format!("{} {}", k.blob, self.name.0));
            if let Some(h) = hashed_name(&salt, &self.name) {
                k.names = format!("|1|{}|{h}", BASE64.encode(salt));
            }
        }
        k.line()
    }

    /// The file as it should be, and what is done to it.
    fn text(&self, old: &str) -> (String, &'static str) {
        let mut lines: Vec<String> = vec![];
        let mut found: Vec<&Key> = vec![];
        let mut removed = false;
        for line in old.lines() {
            let known = Key::read(line).filter(|k| k.is_about(&self.name));
            let Some(k) = known else {
                lines.push(line.to_string());
                continue;
            };
            let gone = match self.state {
                State::Absent => self.keys.is_empty() || self.keys.iter().any(|w| w.same_key(&k)),
                State::Present => {
                    let it = self.keys.iter().find(|w| w.same_key(&k));
                    let right = it.filter(|_| !self.hash_host.0 || k.is_hashed());
                    found.extend(right);
                    right.is_none() && self.keys.iter().any(|w| w.same_kind(&k))
                }
            };
            if gone {
                removed = true;
                lines.extend(k.without(&self.name));
            } else {
                lines.push(line.to_string());
            }
        }
        let mut added = false;
        if self.state == State::Present {
            for k in self.keys.iter().filter(|k| !found.contains(k)) {
                lines.push(self.written(k));
                added = true;
            }
        }
        if !added && !removed {
            return (old.to_string(), "");
        }
        let msg = match (added, removed) {
            (true, true) => "host key replaced",
            (true, false) => "host key added",
            _ => "host key removed",
        };
        (lines.iter().map(|l| format!("{l}\n")).collect(), msg)
    }

    fn put(
        &self,
        edit: &Edit<'_>,
        seen: &Observed,
        ctx: &Ctx,
        new: String,
        msg: &str,
        result: Map<String, serde_json::Value>,
    ) -> Result<Decision, Stop> {
        let mut d = edit.decide(seen, ctx, new.into_bytes(), msg, result)?;
        // ssh wants its folder for the user alone.
        if let (Decision::Change(c), Some(folder)) = (&mut d, folders(edit.path).next())
            && folder.ends_with("/.ssh")
            && seen.path(folder)?.followed().is_none()
        {
            let new = NewFolder { path: folder, mode: Some(0o700), owner: None, group: None };
            if let Some(Action::Script(s)) = c.actions.first_mut() {
                *s = new.script();
            }
            c.after.extend(new.after(seen, ctx));
        }
        Ok(d)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, Content, EntryKind, UserState};

    const E: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFialEnvO0r1vq0OFJ+UmdYAUxlaO1lEmUYmML+eQyEV";
    const F: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBialEnvO0r1vq0OFJ+UmdYAUxlaO1lEmUYmML+eQyEV";
    const R: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7";
    const P: &str = "/root/.ssh/known_hosts";

    fn host(text: Option<&str>) -> Observed {
        let content = text.map_or(Content::Absent, |t| Content::Bytes(t.into()));
        let root = UserState { name: "root".into(), home: "/root".into(), ..Default::default() };
        seen([
            at(P, text.map(|_| entry(EntryKind::File, 0o600))),
            at("/root/.ssh", Some(entry(EntryKind::Directory, 0o700))),
            at("/root", Some(entry(EntryKind::Directory, 0o700))),
            (Probe::Content(P.into()), Answer::Content(content)),
            (Probe::User("root".into()), Answer::User(Some(root))),
        ])
    }
    fn after(params: &str, old: &str) -> String {
        let m: KnownHosts = bind(&format!("{{name: git.lan, {params}}}"));
        match m.decide(&host(Some(old)), &ctx()) {
            Ok(Decision::Change(c)) => {
                satisfied(m.decide(&then(host(Some(old)), &c), &ctx()));
                c.diff[0].after.clone().unwrap()
            }
            Ok(Decision::Satisfied(_)) => "same".into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_added_and_another_of_its_type_gives_way() {
        let key = format!("key: 'git.lan {E}'");
        assert_eq!(after(&key, ""), format!("git.lan {E}\n"));
        assert_eq!(after(&key, &format!("# c\ngit.lan {E} x\n")), "same");
        assert_eq!(after(&key, &format!("GIT.lan,10.0.0.1 {E}\n")), "same");
        assert_eq!(after(&key, &format!("git.lan {R}\ngit.lan {F}\n")), format!("git.lan {R}\ngit.lan {E}\n"));
        assert_eq!(after(&key, &format!("git.lan,a {F}\nb {F}\n")), format!("a {F}\nb {F}\ngit.lan {E}\n"));
        assert_eq!(after(&key, &format!("@revoked git.lan {E}\n")), format!("@revoked git.lan {E}\ngit.lan {E}\n"));
        let both = format!("key: \"git.lan {E}\\n# c\\ngit.lan {R}\\n\"");
        assert_eq!(after(&both, &format!("git.lan {R}\n")), format!("git.lan {R}\ngit.lan {E}\n"));
    }

    #[test]
    fn names_may_be_hashed() {
        let hashed = after(&format!("key: 'git.lan {E}', hash_host: true"), &format!("git.lan {E}\nx {E}\n"));
        assert!(hashed.starts_with(&format!("x {E}\n|1|")) && !hashed.contains("git.lan"), "{hashed}");
        assert_eq!(after(&format!("key: 'git.lan {E}'"), &hashed), "same");
        assert_eq!(after("state: absent", &hashed), format!("x {E}\n"));
        // As `ssh-keygen -H` writes it.
        let k = Key::read("|1|njRSwSOSL0EBbI9H0d3vvDMKFM8=|LQR+goP7HOLd35w3RUk1wraNwkE= ssh-ed25519 AAAA").unwrap();
        assert!(k.is_hashed() && k.is_about("git.lan") && !k.is_about("git.la"));
    }

    #[test]
    fn keys_are_removed() {
        assert_eq!(
            after("state: absent", &format!("git.lan {E}\ngit.lan,b {R}\n# git.lan\n")),
            format!("b {R}\n# git.lan\n")
        );
        assert_eq!(
            after(&format!("state: absent, key: 'git.lan {E}'"), &format!("git.lan {E}\ngit.lan {R}\n")),
            format!("git.lan {R}\n")
        );
        assert_eq!(after("state: absent", "other x y\n"), "same");
        let m: KnownHosts = bind("{name: git.lan, state: absent}");
        satisfied(m.decide(&host(None), &ctx()));
    }

    #[test]
    fn the_folder_is_the_users_own() {
        let m: KnownHosts = bind(&format!("{{name: git.lan, key: 'git.lan {E}'}}"));
        let mut o = host(None);
        o.insert(at("/root/.ssh", None).0, at("/root/.ssh", None).1);
        let c = change(m.decide(&o, &ctx()));
        let [Action::Script(s), Action::Put(p)] = c.actions.as_slice() else { panic!() };
        assert!(s.contains("chmod -- 00700") && p.path == P, "{s}");
        satisfied(m.decide(&then(o, &c), &ctx()));
        let probes = m.probes(&ctx());
        assert!(probes.contains(&Probe::Content(P.into())) && probes.contains(&Probe::User("root".into())));
    }

    #[test]
    fn mistakes() {
        for (params, word) in [
            ("name: h".to_string(), "needs a `key`"),
            ("name: h, key: x".into(), "no line of"),
            (format!("name: h, key: 'g {E}'"), "not of `h`"),
            (format!("name: '', key: 'g {E}'"), "host's name"),
            (format!("name: g, key: 'g {E}', path: a"), "absolute"),
        ] {
            let e = try_bind::<KnownHosts>(&format!("{{{params}}}")).unwrap_err();
            assert!(e.message.contains(word), "{}", e.message);
        }
    }
}
