//! `get_url`: a file from a web server.

use super::args::{Bool, Mode, Text};
use super::copy::absolute;
use super::place::{Meta, UNKNOWN_ID, beside, chown_spec, facts, kept, new_entry, state_name, tidy, unchanged_folders};
use super::whole::Whole;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::{Action, Put};
use crate::fetch::{Algorithm, Download, Fetched, Sum, find_sum};
use crate::probe::{Answer, Entry, EntryKind, Observed, Output, PathState, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Fetches a file from a web server and puts it on the host. It is fetched here, once for all hosts, kept in a cache and
/// checked, so that the hosts need no internet; or, with `via: host`, by each host itself. With a checksum nothing is
/// fetched where the file already is what it should be, and a plan is exact; the size that a plan gives of a new file
/// is 0. The checksums that are registered are SHA-256.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetUrl {
    /// `https:`, `http:` or `file:`, or the absolute path of a file on this machine.
    url: Text,
    /// Where the file goes. A folder, if it is one or ends in a slash: the file goes into it under its name in the URL, and
    /// without a checksum it is fetched anew each time and replaced if it differs, as with `force`.
    dest: Text,
    /// What the file must be: `sha256:` (or sha1, sha224, sha384, sha512) and the sum, or the URL of a file with one or many sums.
    checksum: Option<Text>,
    /// Without a checksum: fetch it anew and replace a file that differs. By default a file that is there stays, even if the
    /// server has a newer one.
    #[serde(default)]
    force: Bool,
    /// Keep the old file beside the new one.
    #[serde(default)]
    backup: Bool,
    /// The mode: `"0644"`, or `u=rw,g=r`; without it, as it is, or as the umask makes it.
    mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
    /// More header lines for the server.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    headers: Map<String, Value>,
    /// The user for the server. Also `username`.
    #[serde(alias = "username")]
    #[schemars(extend("x-aliases" = ["username"]))]
    url_username: Option<Text>,
    /// The password for the server. Also `password`.
    #[serde(alias = "password")]
    #[schemars(extend("x-aliases" = ["password"]))]
    url_password: Option<Text>,
    /// `false`: any certificate of the server will do. The checksum should then be given.
    #[serde(default = "yes")]
    validate_certs: Bool,
    /// Seconds of silence after which a transfer is given up.
    timeout: Option<Whole>,
    /// Who fetches: `controller` (this machine, the default) or `host`.
    #[serde(default)]
    via: Via,
    /// Has no effect: the file is written beside its place.
    tmp_dest: Option<Text>,
    /// Only `true`: the login is sent with the first request.
    force_basic_auth: Option<Bool>,
    /// `false`: the host fetches without the proxies of its environment.
    #[serde(default = "yes")]
    use_proxy: Bool,
    /// What the host calls itself to the server.
    http_agent: Option<Text>,
    #[serde(skip)]
    #[schemars(skip)]
    wanted: Download,
    #[serde(skip)]
    #[schemars(skip)]
    sums: Option<(Algorithm, Download)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Via {
    #[default]
    Controller,
    Host,
}

fn yes() -> Bool {
    Bool(true)
}

/// A sum, or the list it is in.
type Expected = (Option<Sum>, Option<(Algorithm, Download)>);

/// The file that is there, and whether it holds what it should; nothing: there is none.
type Old<'a> = Option<(&'a Entry, bool)>;

impl Module for GetUrl {
    const NAME: &'static str = "get_url";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("dest", "The path on the host."),
        ("url", "Where it came from."),
        ("checksum_src, checksum_dest", "SHA-256 of what was fetched and of what is there."),
        ("size", "Bytes."),
        ("status_code", "The server's answer."),
        ("backup_file", "The old file's copy, where one was kept."),
    ];
    const EXAMPLE: &'static str = r#"- name: A program
  get_url:
    url: https://example.org/app-1.2-linux-amd64
    dest: /usr/local/bin/app
    checksum: sha256:https://example.org/sha256sum.txt
    mode: "0755""#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("dest", &self.dest)?;
        self.wanted = self.download(&self.url);
        if let Some(why) = self.wanted.mistake() {
            return Err(ArgError::new("url", why));
        }
        if self.via == Via::Host && self.wanted.local().is_some() {
            return Err(ArgError::new("via", "a file of this machine cannot be fetched by the host"));
        }
        for (k, v) in &self.headers {
            let v = crate::template::text(v);
            let name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if k.is_empty() || !k.chars().all(name) || v.chars().any(char::is_control) {
                return Err(ArgError::new("headers", format!("`{k}` cannot be sent as a header line")));
            }
        }
        let login = [&self.url_username, &self.url_password, &self.http_agent];
        if login.into_iter().flatten().any(|t| t.chars().any(char::is_control)) {
            return Err(ArgError::new("url_username", "a login has no line ends or other control characters"));
        }
        let _ = &self.tmp_dest;
        if self.force_basic_auth == Some(Bool(false)) {
            return Err(ArgError::new("force_basic_auth", "it can only be true: the login is always sent"));
        }
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here"));
        }
        if let Some(c) = self.checksum.clone().filter(|c| !c.is_empty()) {
            let (sum, list) = self.checksum(&c)?;
            self.wanted.sum = sum;
            self.sums = list;
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let path = self.guess();
        let mut p = vec![Probe::Path(path.clone())];
        if self.dest.ends_with('/') {
            p.push(Probe::Path(tidy(&self.dest)));
        }
        p.extend(self.wanted.sum.as_ref().map(|s| sum_probe(&path, s.algorithm)));
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let path = self.place(seen)?;
        let state = seen.path(&path)?;
        if state.followed().is_some_and(|e| e.kind == EntryKind::Directory) {
            return Err(Stop::fail(format!("{path} is a directory")));
        }
        let mut wanted = self.wanted.clone();
        if wanted.sum.is_none() {
            wanted.sum = self.listed_sum(seen)?;
        }
        let file = state.entry.as_ref().filter(|e| e.kind == EntryKind::File);
        let old: Old<'_> = match (file, &wanted.sum) {
            (None, _) => None,
            (Some(e), Some(sum)) => Some((e, sum_on_host(&path, sum.algorithm, seen)?.as_deref() == Some(&*sum.hex))),
            // In a folder that was named, the file is the one the server has by now.
            (Some(e), None) => Some((e, !self.force.0 && path == tidy(&self.dest))),
        };
        if let Some((e, true)) = old {
            return self.attributes(&path, state, e, &wanted, seen);
        }
        match self.via {
            Via::Host => self.by_host(&path, state, old, &wanted, seen, ctx),
            Via::Controller => self.by_us(&path, state, old, wanted, seen, ctx),
        }
    }
}

impl GetUrl {
    fn download(&self, url: &str) -> Download {
        let login = self.url_username.as_ref().map(|u| (u.0.clone(), self.url_password.clone().unwrap_or_default().0));
        let mut headers: Vec<(String, String)> =
            self.headers.iter().map(|(k, v)| (k.clone(), crate::template::text(v))).collect();
        headers.extend(self.http_agent.iter().map(|a| ("User-Agent".to_string(), a.0.clone())));
        Download {
            url: url.trim().to_string(),
            sum: None,
            headers,
            login,
            any_certificate: !self.validate_certs.0,
            timeout: self.timeout.map_or(0, |t| t.0),
        }
    }

    /// The sum that is given, or the list it is to be found in.
    fn checksum(&self, text: &str) -> Result<Expected, ArgError> {
        const FORM: &str = "write it as sha256:SUM or sha256:URL";
        let wrong = |why: String| ArgError::new("checksum", why).hint(FORM);
        let Some((name, rest)) = text.split_once(':') else {
            let sum = Sum::new(Algorithm::Sha256, text).map_err(wrong)?;
            return Ok((Some(sum), None));
        };
        let algorithm = Algorithm::named(name.trim()).ok_or_else(|| match name {
            "md5" => wrong("MD5 proves nothing: use the SHA-256".into()),
            _ => wrong(format!("`{name}` is no kind of checksum; sha256 and sha512 are")),
        })?;
        let rest = rest.trim();
        if rest.contains("://") || rest.starts_with('/') {
            let list = self.download(rest);
            return match list.mistake() {
                Some(why) => Err(wrong(why)),
                None => Ok((None, Some((algorithm, list)))),
            };
        }
        Ok((Some(Sum::new(algorithm, rest).map_err(wrong)?), None))
    }

    /// The sum that the list of sums has for the file.
    fn listed_sum(&self, seen: &Observed) -> Result<Option<Sum>, Stop> {
        let Some((algorithm, list)) = &self.sums else { return Ok(None) };
        let text = seen.text(list)?.as_ref().map_err(Stop::from)?;
        let name = self.wanted.file_name().unwrap_or_default();
        match find_sum(text, *algorithm, &name) {
            Ok(sum) => Ok(Some(sum)),
            Err(why) => Err(Stop::fail_hint(
                format!("{}: {why}", list.shown()),
                format!("the list must have a line with a {} and the name {name}", algorithm.name()),
            )),
        }
    }

    fn guess(&self) -> String {
        match self.wanted.file_name().filter(|_| self.dest.ends_with('/')) {
            Some(n) => tidy(&format!("{}/{n}", &*self.dest)),
            None => tidy(&self.dest),
        }
    }

    /// The file's own place.
    fn place(&self, seen: &Observed) -> Result<String, Stop> {
        let dest = tidy(&self.dest);
        let is_folder = seen.path(&dest)?.followed().is_some_and(|e| e.kind == EntryKind::Directory);
        match (is_folder, self.wanted.file_name()) {
            (true, Some(name)) => Ok(tidy(&format!("{dest}/{name}"))),
            (true, None) => Err(Stop::fail_hint(
                format!("{dest} is a folder, and the URL names no file"),
                "say the whole path of the file in `dest`",
            )),
            (false, _) if self.dest.ends_with('/') => Err(Stop::fail_hint(
                format!("there is no folder {dest}"),
                "make it first: `file` with `state: directory`",
            )),
            _ => Ok(dest),
        }
    }

    fn meta(&self, now: u32) -> Meta<'_> {
        Meta {
            mode: self.mode.as_ref().map(|m| m.apply(now, false)),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
        }
    }

    /// The file is what it should be; its mode and owner may not be.
    fn attributes(
        &self,
        path: &str,
        state: &PathState,
        old: &Entry,
        wanted: &Download,
        seen: &Observed,
    ) -> Result<Decision, Stop> {
        let meta = self.meta(old.mode);
        let mut result = self.result(path, &meta.onto(old), wanted, None);
        result.insert("msg".into(), json!("file already exists"));
        let Some(fix) = meta.fix(path, old) else { return Ok(Decision::satisfied(result)) };
        let mut after = unchanged_folders(path, seen);
        let entry = Some(meta.onto(old));
        after.push((Probe::Path(path.into()), Answer::Path(PathState { entry, ..state.clone() })));
        // The content is the same.
        for p in [Probe::Sha256(path.into()), Probe::Content(path.into())] {
            after.extend(seen.get(&p).map(|a| (p.clone(), a.clone())));
        }
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(fix.script)],
            touches: Touches::entry(path),
            after,
            summary: fix.summary,
            result,
            ..Default::default()
        }))
    }

    fn by_us(
        &self,
        path: &str,
        state: &PathState,
        old: Old<'_>,
        mut wanted: Download,
        seen: &Observed,
        ctx: &Ctx,
    ) -> Result<Decision, Stop> {
        // A plan knows what will be there by the sum alone, or that something will.
        let fetched: Option<&Fetched> = match (ctx.check, seen.fetched(&wanted)) {
            (_, Ok(f)) => Some(f.as_ref().map_err(Stop::from)?),
            (true, Err(_)) if wanted.sum.is_some() || old.is_none() => None,
            (_, Err(need)) => return Err(need),
        };
        let sum = wanted.sum.as_ref().filter(|s| s.algorithm == Algorithm::Sha256).map(|s| s.hex.clone());
        let digest = fetched.map(|f| f.sha256.clone()).or(sum);
        if let (Some((e, _)), Some(digest)) = (old, &digest)
            && seen.sha256(path)?.as_ref() == Some(digest)
        {
            return self.attributes(path, state, e, &wanted, seen);
        }
        let size = fetched.map_or(0, |f| f.size);
        let old = old.map(|(e, _)| e);
        let (mut change, entry) = self.change(path, state, old, size, digest, seen, ctx);
        change.result = self.result(path, &entry, &wanted, fetched);
        let kept = if self.backup.0 && old.is_some() { Some(kept(path, seen, ctx)?) } else { None };
        if let Some(k) = &kept {
            change.result.insert("backup_file".into(), json!(k));
        }
        // What was compared is what is put in place, whatever the server would say by now.
        if let (None, Some(f)) = (&wanted.sum, fetched) {
            wanted = Download {
                sum: Sum::new(Algorithm::Sha256, &f.sha256).ok(),
                ..Download::new(&f.path.to_string_lossy())
            };
        }
        change.actions = vec![Action::Put(Put {
            path: path.into(),
            body: wanted.into(),
            mode: entry.mode,
            owner: self.owner.as_deref().map(str::to_string),
            group: self.group.as_deref().map(str::to_string),
            keeps: old.and_then(|e| self.meta(e.mode).keeps(e)),
            validate: None,
            backup: kept,
        })];
        Ok(Decision::Change(change))
    }

    /// What comes of a new file, and the file.
    #[allow(clippy::too_many_arguments)]
    fn change(
        &self,
        path: &str,
        state: &PathState,
        old: Option<&Entry>,
        size: u64,
        digest: Option<String>,
        seen: &Observed,
        ctx: &Ctx,
    ) -> (Change, Entry) {
        let base = old.map_or(0o644, |e| e.mode);
        let mode = self.mode.as_ref().map_or(base, |m| m.apply(base, false));
        let meta = self.meta(base);
        let entry = match old {
            Some(e) => Entry { size, mtime: ctx.now, inode: String::new(), times: None, links: 1, ..meta.onto(e) },
            None => new_entry(EntryKind::File, mode, size, (meta.owner, meta.group), ctx),
        };
        let mut after = unchanged_folders(path, seen);
        let new = PathState { entry: Some(entry.clone()), canonical: state.canonical.clone(), ..Default::default() };
        after.push((Probe::Path(path.into()), Answer::Path(new)));
        after.extend(digest.map(|d| (Probe::Sha256(path.into()), Answer::Sha256(Some(d)))));
        let replaced = state.entry.is_some() && old.is_none();
        let change = Change {
            touches: if replaced { Touches::path(path) } else { Touches::entry(path) },
            after,
            summary: if old.is_some() { "content changes".into() } else { "new file".into() },
            ..Default::default()
        };
        (change, entry)
    }

    fn by_host(
        &self,
        path: &str,
        state: &PathState,
        old: Old<'_>,
        wanted: &Download,
        seen: &Observed,
        ctx: &Ctx,
    ) -> Result<Decision, Stop> {
        let old = old.map(|(e, _)| e);
        let digest = wanted.sum.as_ref().filter(|s| s.algorithm == Algorithm::Sha256).map(|s| s.hex.clone());
        let (mut change, entry) = self.change(path, state, old, 0, digest, seen, ctx);
        change.result = self.result(path, &entry, wanted, None);
        // What comes is measured by nobody here.
        change.result.remove("size");
        let kept = if self.backup.0 && old.is_some() { Some(kept(path, seen, ctx)?) } else { None };
        let script = self.host_script(path, entry.mode, old, wanted, kept.as_deref());
        if let Some(k) = &kept {
            change.result.insert("backup_file".into(), json!(k));
        }
        change.actions = vec![Action::Script(script)];
        if wanted.sum.is_none() && old.is_some() {
            // It is fetched in any case; whether it differs shows then.
            change.summary = "fetched anew and compared".into();
            change.verdict = Some(|outputs: &[Output]| !outputs.iter().any(|o| o.stdout.contains("the same")));
        }
        Ok(Decision::Change(change))
    }

    /// Fetches beside the place, checks, and only then moves it there.
    fn host_script(&self, path: &str, mode: u32, old: Option<&Entry>, wanted: &Download, kept: Option<&str>) -> String {
        let (q, temp) = (shell_quote(path), shell_quote(&beside(path)));
        let quoted = |t: &str| format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\""));
        let timeout = self.timeout.map_or(30, |t| t.0.max(1));
        // All that may be secret is read from a descriptor or a file (wget takes nothing else): in an argument, every user
        // of the host could see it.
        let mut curl = vec![
            format!("url = {}", quoted(&wanted.url)),
            "fail".into(),
            "silent".into(),
            "show-error".into(),
            "location".into(),
            "retry = 3".into(),
            "connect-timeout = 20".into(),
            "speed-limit = 1".into(),
            format!("speed-time = {timeout}"),
        ];
        let mut wget = vec![format!("timeout = {timeout}"), "tries = 3".into(), "verbose = off".into()];
        for (k, v) in &wanted.headers {
            curl.push(format!("header = {}", quoted(&format!("{k}: {v}"))));
            wget.push(format!("header = {k}: {v}"));
        }
        if let Some((user, password)) = &wanted.login {
            curl.push(format!("user = {}", quoted(&format!("{user}:{password}"))));
            wget.extend([format!("user = {user}"), format!("password = {password}"), "auth_no_challenge = on".into()]);
        }
        if wanted.any_certificate {
            curl.push("insecure".into());
            wget.push("check_certificate = off".into());
        }
        if !self.use_proxy.0 {
            curl.push("noproxy = \"*\"".into());
            wget.push("use_proxy = off".into());
        }
        let mut s = format!(
            "t={temp}\ntrap 'rm -f -- \"$t\" \"$t.rc\"' EXIT\numask 077\nrm -f -- \"$t\" \"$t.rc\" && (set -C; : >\"$t\") || exit 1\n\
             if command -v curl >/dev/null; then\ncurl -o \"$t\" -K - <<'WINDLASS-CURL' || exit 1\n{}\nWINDLASS-CURL\n\
             elif command -v wget >/dev/null; then\n(set -C; cat >\"$t.rc\") <<'WINDLASS-WGET' || exit 1\n{}\nWINDLASS-WGET\n\
             wget --config=\"$t.rc\" -O \"$t\" -i - <<'WINDLASS-URL' || exit 1\n{}\nWINDLASS-URL\n\
             else echo 'the host has neither curl nor wget: install one, or leave out `via: host`' >&2; exit 1; fi\n",
            curl.join("\n"),
            wget.join("\n"),
            wanted.url,
        );
        if let Some(sum) = &wanted.sum {
            s.push_str(&format!(
                "w=$({} <\"$t\") && w=${{w%% *}} || exit 1\n[ \"$w\" = {hex} ] || {{ echo \"the checksum differs: {name} is $w, wanted is {hex}\" >&2; exit 1; }}\n",
                sum.algorithm.tool(),
                name = sum.algorithm.name(),
                hex = sum.hex,
            ));
        } else if old.is_some() {
            // Mode and owner are put right all the same.
            let fix = old.and_then(|e| self.meta(e.mode).fix(path, e));
            let done = fix.map_or("echo 'the same'; exit 0".to_string(), |f| format!("{}; exit", f.script));
            s.push_str(&format!("if cmp -s -- \"$t\" {q}; then {done}; fi\n"));
        }
        let meta = self.meta(mode);
        s.push_str(&format!("m={mode:04o}\n"));
        if let Some(kept) = old.and_then(|e| meta.keeps(e)) {
            // As when a file is put: what nobody asked for is tried.
            s.push_str(&format!(
                "k={}; chown -- \"$k\" \"$t\" 2>/dev/null || {{ m=0${{m#?}}; chgrp -- \"${{k#*:}}\" \"$t\" 2>/dev/null || :; }}\n",
                shell_quote(&kept)
            ));
        }
        if let Some(spec) = chown_spec(self.owner.as_deref(), self.group.as_deref()) {
            s.push_str(&format!("chown -- {} \"$t\" || exit 1\n", shell_quote(&spec)));
        }
        s.push_str("chmod -- \"$m\" \"$t\" || exit 1\n");
        if let Some(kept) = kept {
            let kept = shell_quote(kept);
            s.push_str(&format!("cp -p --remove-destination -- {q} {kept} || exit 1\n"));
        }
        s.push_str(&format!("sync -- \"$t\" && mv -fT -- \"$t\" {q}\n"));
        s
    }

    fn result(&self, path: &str, e: &Entry, wanted: &Download, fetched: Option<&Fetched>) -> Map<String, Value> {
        let mut r = facts(path, e);
        r.insert("state".into(), json!(state_name(e)));
        r.insert("dest".into(), json!(path));
        r.insert("url".into(), json!(wanted.shown()));
        r.insert("elapsed".into(), json!(0));
        if e.uid == UNKNOWN_ID {
            r.remove("uid");
        }
        let sum = wanted.sum.as_ref().filter(|s| s.algorithm == Algorithm::Sha256).map(|s| s.hex.clone());
        if let Some(sum) = fetched.map(|f| f.sha256.clone()).or(sum) {
            r.insert("checksum_src".into(), json!(sum));
            r.insert("checksum_dest".into(), json!(sum));
        }
        if let Some(f) = fetched {
            r.insert("size".into(), json!(f.size));
            r.insert("msg".into(), json!(format!("OK ({} bytes)", f.size)));
            r.insert("status_code".into(), json!(f.status.unwrap_or(200)));
        }
        r
    }
}

/// What tells a file's sum on the host.
fn sum_probe(path: &str, algorithm: Algorithm) -> Probe {
    if algorithm == Algorithm::Sha256 {
        return Probe::Sha256(path.into());
    }
    let q = shell_quote(path);
    Probe::Script(format!("[ -f {q} ] || exit 0; {} < {q}", algorithm.tool()))
}

fn sum_on_host(path: &str, algorithm: Algorithm, seen: &Observed) -> Result<Option<String>, Stop> {
    match sum_probe(path, algorithm) {
        Probe::Script(s) => {
            let out = seen.script(&s)?;
            Ok(out.stdout.split_whitespace().next().filter(|_| out.rc == 0).map(str::to_string))
        }
        _ => seen.sha256(path).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::fetch::FetchError;

    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const URL: &str = "https://host/v1/tool";

    fn file(mode: u32) -> Option<Entry> {
        Some(entry(EntryKind::File, mode))
    }
    fn sha(path: &str, sum: Option<&str>) -> (Probe, Answer) {
        (Probe::Sha256(path.into()), Answer::Sha256(sum.map(str::to_string)))
    }
    fn got(m: &GetUrl, sum: Option<&str>) -> (Probe, Answer) {
        let mut d = m.wanted.clone();
        d.sum = sum.map(|s| Sum::new(Algorithm::Sha256, s).unwrap());
        let f = Fetched { path: "/cache/x".into(), size: 3, sha256: SUM.into(), status: Some(200) };
        (Probe::Fetched(d), Answer::Fetched(Ok(f)))
    }
    fn plan() -> Ctx {
        Ctx { check: true, ..ctx() }
    }

    #[test]
    fn nothing_is_fetched_where_the_file_has_its_sum() {
        let m: GetUrl =
            bind(&format!("{{url: '{URL}', dest: /usr/local/bin/tool, checksum: 'sha256:{SUM}', mode: '0755'}}"));
        let seen0 = seen([at("/usr/local/bin/tool", file(0o755)), sha("/usr/local/bin/tool", Some(SUM))]);
        let r = satisfied(m.decide(&seen0, &ctx())).result;
        assert_eq!((&r["checksum_dest"], &r["dest"]), (&json!(SUM), &json!("/usr/local/bin/tool")));
        let seen1 = seen([at("/usr/local/bin/tool", file(0o644)), sha("/usr/local/bin/tool", Some(SUM))]);
        let c = change(m.decide(&seen1, &ctx()));
        assert!(matches!(c.actions.as_slice(), [Action::Script(s)] if s.starts_with("chmod")), "{c:?}");
        satisfied(m.decide(&then(seen1, &c), &ctx()));
    }

    #[test]
    fn what_is_missing_or_different_is_fetched_once_it_is_really_done() {
        let m: GetUrl = bind(&format!("{{url: '{URL}', dest: /t, checksum: 'sha256:{SUM}'}}"));
        for (there, summary) in [(None, "new file"), (file(0o700), "content changes")] {
            let o = seen([at("/t", there.clone()), sha("/t", there.as_ref().map(|_| "00"))]);
            // A plan needs no transfer.
            let c = change(m.decide(&o, &plan()));
            assert_eq!(c.summary, summary);
            satisfied(m.decide(&then(o.clone(), &c), &plan()));
            // An apply has it fetched before it decides.
            let Err(Stop::Need(p)) = m.decide(&o, &ctx()) else { panic!() };
            assert_eq!(p, [got(&m, Some(SUM)).0]);
            let mut o = o;
            o.insert(p[0].clone(), got(&m, Some(SUM)).1);
            let c = change(m.decide(&o, &ctx()));
            let [Action::Put(put)] = c.actions.as_slice() else { panic!("{c:?}") };
            assert_eq!((put.mode, &put.path[..]), (there.map_or(0o644, |e| e.mode), "/t"));
            assert_eq!((&c.result["size"], &c.result["status_code"]), (&json!(3), &json!(200)));
            let failed = Answer::Fetched(Err(FetchError { message: "404".into(), hint: Some("look".into()) }));
            o.insert(p[0].clone(), failed);
            let Err(Stop::Fail(f)) = m.decide(&o, &ctx()) else { panic!() };
            assert_eq!((f.message.as_str(), f.hint.as_deref()), ("404", Some("look")));
        }
    }

    #[test]
    fn without_a_sum_a_file_stays_unless_forced() {
        let m: GetUrl = bind(&format!("{{url: '{URL}', dest: /t}}"));
        let o = seen([at("/t", file(0o644)), sha("/t", Some("00"))]);
        satisfied(m.decide(&o, &ctx()));
        // In a folder it is renewed.
        let folder: GetUrl = bind(&format!("{{url: '{URL}', dest: /opt}}"));
        let dir = at("/opt", Some(entry(EntryKind::Directory, 0o755)));
        let mut o = seen([dir, at("/opt/tool", file(0o644)), sha("/opt/tool", Some("00"))]);
        assert!(matches!(folder.decide(&o, &ctx()), Err(Stop::Need(p)) if p[0].is_ours()));
        let (p, a) = got(&folder, None);
        o.insert(p, a);
        assert_eq!(change(folder.decide(&o, &ctx())).summary, "content changes");
        o.insert(Probe::Sha256("/opt/tool".into()), Answer::Sha256(Some(SUM.into())));
        satisfied(folder.decide(&o, &ctx()));
        let o = seen([at("/t", file(0o644)), sha("/t", Some("00"))]);
        let m: GetUrl = bind(&format!("{{url: '{URL}', dest: /t, force: true}}"));
        assert!(matches!(m.decide(&o, &plan()), Err(Stop::Need(p)) if p[0].is_ours()), "a plan cannot say");
        let mut same = seen([at("/t", file(0o644)), sha("/t", Some(SUM)), got(&m, None)]);
        satisfied(m.decide(&same, &ctx()));
        same.insert(Probe::Sha256("/t".into()), Answer::Sha256(Some("00".into())));
        let c = change(m.decide(&same, &ctx()));
        let [Action::Put(put)] = c.actions.as_slice() else { panic!("{c:?}") };
        let crate::action::Body::Download(d) = &put.body else { panic!() };
        assert_eq!((d.url.as_str(), d.sum.as_ref().map(|s| s.hex.as_str())), ("/cache/x", Some(SUM)));
    }

    #[test]
    fn a_list_of_sums_is_read_for_the_file_s_name() {
        let m: GetUrl = bind(&format!("{{url: '{URL}', dest: /opt/, checksum: 'sha256:https://host/v1/sums.txt'}}"));
        let dir = Some(entry(EntryKind::Directory, 0o755));
        let mut o = seen([at("/opt", dir), at("/opt/tool", file(0o644)), sha("/opt/tool", Some(SUM))]);
        let Err(Stop::Need(p)) = m.decide(&o, &ctx()) else { panic!() };
        assert!(matches!(&p[0], Probe::Text(d) if d.url == "https://host/v1/sums.txt"));
        o.insert(p[0].clone(), Answer::Text(Ok(format!("{SUM}  tool\n"))));
        satisfied(m.decide(&o, &ctx()));
        o.insert(p[0].clone(), Answer::Text(Ok(format!("{SUM}  other\n"))));
        assert!(matches!(m.decide(&o, &ctx()), Err(Stop::Fail(f)) if f.message.contains("does not name `tool`")));
    }

    #[test]
    fn by_the_host() {
        let m: GetUrl = bind(&format!(
            "{{url: '{URL}?a=\"b', dest: /t, via: host, checksum: 'sha512:{}', headers: {{X-Token: 'a\\b'}}, \
             url_username: me, url_password: pw}}",
            "ab".repeat(64)
        ));
        let script = "[ -f /t ] || exit 0; sha512sum < /t".to_string();
        assert_eq!(m.probes(&ctx())[1], Probe::Script(script.clone()));
        let c = change(m.decide(&seen([at("/t", None)]), &ctx()));
        let [Action::Script(s)] = c.actions.as_slice() else { panic!("{c:?}") };
        sh_accepts(s);
        assert!(s.contains("url = \"https://host/v1/tool?a=\\\"b\"\n") && s.contains("\"X-Token: a\\\\b\""), "{s}");
        let out = Output { stdout: format!("{}  -\n", "ab".repeat(64)), ..Default::default() };
        let o = seen([at("/t", file(0o644)), (Probe::Script(script), Answer::Script(out))]);
        satisfied(m.decide(&o, &ctx()));
        let m: GetUrl = bind(&format!("{{url: '{URL}', dest: /t, via: host, force: true}}"));
        let c = change(m.decide(&seen([at("/t", file(0o644))]), &ctx()));
        let verdict = c.verdict.unwrap();
        assert!(verdict(&[Output::default()]));
        assert!(!verdict(&[Output { stdout: "the same\n".into(), ..Default::default() }]));
    }

    /// The scripts for the host, with the real programs, as far as they are installed here.
    #[test]
    fn curl_and_wget_fetch_as_they_are_told() {
        use std::io::{BufRead, BufReader, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let kept = heads.clone();
        std::thread::spawn(move || {
            for mut s in listener.incoming().flatten() {
                let mut head = String::new();
                let mut lines = BufReader::new(s.try_clone().unwrap());
                while lines.read_line(&mut head).is_ok_and(|n| n > 2) {}
                *kept.lock().unwrap() = head;
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
            }
        });
        for (tool, other) in [("curl", "wget"), ("wget", "curl")] {
            if !std::process::Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success()) {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let dest = dir.path().join("it's $x");
            let run_with = |sum: &str| {
                let m: GetUrl = bind(
                    &json!({
                        "url": format!("http://{address}/a?q=%22&$HOME"), "dest": dest, "via": "host", "mode": "0600",
                        "checksum": format!("sha256:{sum}"), "headers": {"X-Token": "a\"b\\c d"}, "use_proxy": false,
                        "url_username": "me", "url_password": "p\"w",
                    })
                    .to_string(),
                );
                let c = change(m.decide(&look([Probe::Path(dest.to_string_lossy().into_owned())]), &ctx()));
                let [Action::Script(s)] = c.actions.as_slice() else { panic!("{c:?}") };
                let s = format!("{other}() {{ false; }}\ncommand() {{ [ \"$2\" != {other} ] && which \"$2\"; }}\n{s}");
                std::process::Command::new("sh").arg("-c").arg(s).output().unwrap()
            };
            let out = run_with(&"00".repeat(32));
            assert!(String::from_utf8_lossy(&out.stderr).contains("the checksum differs"), "{tool}: {out:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{tool}");
            let out = run_with(SUM);
            assert!(out.status.success(), "{tool}: {out:?}");
            assert_eq!(std::fs::read_to_string(&dest).unwrap(), "abc");
            let head = heads.lock().unwrap().clone();
            assert!(head.starts_with("GET /a?q=%22&$HOME "), "{tool}: {head}");
            // The same content with another mode.
            let m: GetUrl = bind(
                &json!({"url": format!("http://{address}/a"), "dest": dest, "via": "host", "force": true, "mode": "0640",
                    "use_proxy": false})
                .to_string(),
            );
            for (mode, says) in [(0o600, ""), (0o640, "the same\n")] {
                let c = change(m.decide(&look([Probe::Path(dest.to_string_lossy().into_owned())]), &ctx()));
                assert!(matches!(c.actions.as_slice(), [Action::Script(_)]), "{c:?}");
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(std::fs::metadata(&dest).unwrap().permissions().mode() & 0o777, mode, "{tool}");
                let [Action::Script(s)] = c.actions.as_slice() else { panic!("{c:?}") };
                let s = format!("{other}() {{ false; }}\ncommand() {{ [ \"$2\" != {other} ] && which \"$2\"; }}\n{s}");
                let out = std::process::Command::new("sh").arg("-c").arg(s).output().unwrap();
                assert!(out.status.success(), "{tool}: {out:?}");
                assert_eq!(String::from_utf8_lossy(&out.stdout), says, "{tool}");
                assert_eq!(std::fs::metadata(&dest).unwrap().permissions().mode() & 0o777, 0o640, "{tool}");
            }
            // me:p"w
            assert!(head.contains("X-Token: a\"b\\c d") && head.contains("Basic bWU6cCJ3"), "{tool}: {head}");
        }
    }

    #[test]
    fn mistakes() {
        let says = |yaml: &str, part: &str| {
            let e = try_bind::<GetUrl>(yaml).unwrap_err();
            assert!(e.message.contains(part), "{yaml}: {e:?}");
        };
        says("{url: 'ftp://h/x', dest: /t}", "cannot be fetched");
        says("{url: 'https://h/x', dest: t}", "absolute");
        says("{url: 'https://h/x', dest: /t, checksum: 'md5:00'}", "MD5");
        says("{url: 'https://h/x', dest: /t, checksum: 'sha256:00'}", "64 hexadecimal");
        says("{url: 'https://h/x', dest: /t, headers: {'a b': c}}", "header line");
        says("{url: /x, dest: /t, via: host}", "cannot be fetched by the host");
        says("{url: 'https://h/x', dest: /t, via: node}", "unknown variant");
    }

    #[test]
    fn how_it_is_fetched() {
        let d = |more: &str| bind::<GetUrl>(&format!("{{url: '{URL}', dest: /t{more}}}")).wanted;
        let plain = d("");
        assert!(!plain.any_certificate && plain.headers.is_empty() && plain.login.is_none());
        let d = d(", validate_certs: no, timeout: 7, http_agent: me, url_username: u, url_password: p");
        assert!(d.any_certificate);
        assert_eq!((d.timeout, d.login), (7, Some(("u".into(), "p".into()))));
        assert_eq!(d.headers, [("User-Agent".to_string(), "me".to_string())]);
        assert!(try_bind::<GetUrl>(&format!("{{url: '{URL}', dest: /t, force_basic_auth: no}}")).is_err());
        // The host itself fetches.
        let m: GetUrl = bind(&format!("{{url: '{URL}', dest: /t, use_proxy: no, timeout: 7}}"));
        let s = m.host_script("/t", 0o644, None, &m.wanted, None);
        assert!(s.contains("noproxy = \"*\"") && s.contains("speed-time = 7"), "{s}");
    }

    #[test]
    fn whose_the_file_is_and_what_was_there() {
        let m: GetUrl =
            bind(&format!("{{url: '{URL}', dest: /t, checksum: 'sha256:{SUM}', owner: me, group: us, backup: yes}}"));
        let o = seen([at("/t", file(0o644)), sha("/t", Some("00112233")), got(&m, Some(SUM))]);
        let c = change(m.decide(&o, &ctx()));
        let Some(Action::Put(p)) = c.actions.last() else { panic!("{c:?}") };
        assert_eq!((p.owner.as_deref(), p.group.as_deref()), (Some("me"), Some("us")));
        assert_eq!(p.backup.as_deref(), Some("/t.1800000000.00112233~"));
        assert_eq!(c.result["backup_file"], json!("/t.1800000000.00112233~"));
    }
}
