//! `cron`: jobs at set times.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::edit::Edit;
use super::place::{kept, nothing_at, tidy, unchanged_folders};
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_quote;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Keeps a job, or a variable, in a user's crontab or in a file of `/etc/cron.d`. A comment with its name marks it.
///
/// Registers `jobs` and `envs` (names), `cron_file`; `backup_file` where one was kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cron {
    /// The job's name, or with `env` the variable's.
    name: Text,
    /// The command; with `env`, the value. Also `value`.
    #[serde(alias = "value")]
    #[schemars(extend("x-aliases" = ["value"]))]
    job: Option<Text>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// 0-59, `*`, `*/2`.
    #[serde(default = "every")]
    minute: Text,
    /// 0-23, `*`, `*/2`.
    #[serde(default = "every")]
    hour: Text,
    /// Of the month: 1-31, `*`, `*/2`. Also `dom`.
    #[serde(default = "every", alias = "dom")]
    #[schemars(extend("x-aliases" = ["dom"]))]
    day: Text,
    /// 1-12, `JAN`-`DEC`, `*`, `*/2`.
    #[serde(default = "every")]
    month: Text,
    /// 0-6 from Sunday, `SUN`-`SAT`, `*`. Also `dow`.
    #[serde(default = "every", alias = "dow")]
    #[schemars(extend("x-aliases" = ["dow"]))]
    weekday: Text,
    /// Instead of these: `annually`, `daily`, `hourly`, `monthly`, `reboot`, `weekly`, `yearly`.
    special_time: Option<Special>,
    /// Whose crontab; with `cron_file`, whom the job runs as. Without it, the task's user.
    user: Option<Text>,
    /// A file instead of a crontab: a name in `/etc/cron.d`, or a path.
    cron_file: Option<Text>,
    /// It is a variable, not a job.
    #[serde(default)]
    env: Bool,
    /// A new variable goes after this one.
    insertafter: Option<Text>,
    /// A new variable goes before this one.
    insertbefore: Option<Text>,
    /// The job stays as a comment.
    #[serde(default)]
    disabled: Bool,
    /// Keep the old file beside the new one; of a crontab, a copy in `/tmp`.
    #[serde(default)]
    backup: Bool,
}

fn every() -> Text {
    "*".into()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Special {
    Annually,
    Daily,
    Hourly,
    Monthly,
    Reboot,
    Weekly,
    Yearly,
}

/// The comment before a job; the one Ansible writes, so that its jobs are known again.
const MARK: &str = "#Ansible: ";

impl Module for Cron {
    const NAME: &'static str = "cron";
    const EXAMPLE: &'static str = r#"- name: Every night
  cron:
    name: backup
    hour: "3"
    minute: "15"
    job: /usr/local/bin/backup"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        // A block in YAML ends with a newline.
        if let Some(j) = &mut self.job {
            j.0.truncate(j.trim_end_matches(['\n', '\r']).len());
        }
        let texts = [("name", Some(&self.name)), ("job", self.job.as_ref()), ("user", self.user.as_ref())];
        for (param, t) in texts.into_iter().filter_map(|(p, t)| Some((p, t?))) {
            if t.contains(['\n', '\r']) {
                return Err(ArgError::new(param, format!("`{param}` has more than one line")));
            }
        }
        if self.name.trim().is_empty() {
            return Err(ArgError::new("name", "the name is empty"));
        }
        if self.state == State::Present && self.job.is_none() {
            return Err(ArgError::new("job", "`cron` needs a `job`"));
        }
        if self.env.0 && !crate::vars::is_name(&self.name) {
            return Err(ArgError::new("name", format!("`{}` is not a variable's name", self.name.0)));
        }
        for (param, t) in self.times() {
            time(param, t).map_err(|why| {
                ArgError::new(param, format!("`{t}` is not a time of cron: {why}"))
                    .hint("`*`, `5`, `1-5`, `*/10`, `0~30`, or several with commas between")
            })?;
            if self.special_time.is_some() && t != "*" {
                return Err(ArgError::new(param, format!("`{param}` and `special_time` exclude each other")));
            }
        }
        if self.insertafter.is_some() && self.insertbefore.is_some() {
            return Err(ArgError::new("insertbefore", "`insertafter` and `insertbefore` exclude each other"));
        }
        if self.user.as_deref().is_some_and(|u| u.is_empty() || u.starts_with('-') || u.contains(char::is_whitespace)) {
            return Err(ArgError::new("user", "that is not a user's name"));
        }
        if let Some(f) = &mut self.cron_file {
            if !f.starts_with('/') {
                if f.contains('/') || f.starts_with('.') {
                    return Err(ArgError::new("cron_file", "give a name in /etc/cron.d or a whole path"));
                }
                f.0 = format!("/etc/cron.d/{}", f.0);
            }
            absolute("cron_file", f)?;
            f.0 = tidy(f);
            if self.user.is_none() && self.state == State::Present && !self.env.0 {
                return Err(ArgError::new("user", "a job in a file needs the `user` it runs as"));
            }
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        match self.file() {
            Some(f) => f.probes(),
            None => vec![Probe::Script(self.look())],
        }
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let Some(file) = self.file() else { return self.in_crontab(seen, ctx) };
        let old = match file.old(seen)? {
            None if self.state == State::Absent => return Ok(Decision::satisfied(self.result(b""))),
            old => old,
        };
        let old = old.unwrap_or_default();
        let new = self.edited(old)?;
        if self.state == State::Absent && new != old && new.trim_ascii().is_empty() {
            return self.without_file(file.path, seen, ctx, old);
        }
        let result = self.result(&new);
        file.decide(seen, ctx, new, self.what(), result)
    }
}

impl Cron {
    fn times(&self) -> [(&'static str, &str); 5] {
        [
            ("minute", &self.minute),
            ("hour", &self.hour),
            ("day", &self.day),
            ("month", &self.month),
            ("weekday", &self.weekday),
        ]
    }
    fn file(&self) -> Option<Edit<'_>> {
        self.cron_file.as_ref().map(|f| Edit {
            path: f,
            create: self.state == State::Present,
            mode: None,
            owner: None,
            group: None,
            validate: None,
            backup: self.backup.0,
        })
    }
    fn what(&self) -> &'static str {
        match (self.env.0, self.state) {
            (false, State::Present) => "job set",
            (false, State::Absent) => "job removed",
            (true, State::Present) => "variable set",
            (true, State::Absent) => "variable removed",
        }
    }
    fn of_user(&self) -> String {
        self.user.as_ref().map_or(String::new(), |u| format!(" -u {}", shell_quote(u)))
    }
    /// The crontab; where there is none yet, crontab says so and fails.
    fn look(&self) -> String {
        format!("command -v crontab >/dev/null 2>&1 || exit 127\ncrontab{} -l", self.of_user())
    }

    fn in_crontab(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script(&self.look())?;
        let exact = format!("{} | base64", self.look());
        let old = match out.rc {
            127 => {
                return Err(Stop::fail_hint(
                    "there is no crontab on the host",
                    "install it there before: `apt: {name: cron}`",
                ));
            }
            // What is not UTF-8 comes over as a sign that stands for it: then all of it is fetched as it is.
            0 if out.stdout.contains('\u{fffd}') => {
                let coded: String = seen.script(&exact)?.stdout.split_whitespace().collect();
                STANDARD.decode(coded).map_err(|_| Stop::fail("the crontab cannot be read"))?
            }
            0 => out.stdout.clone().into_bytes(),
            _ if out.stderr.contains("no crontab for") => vec![],
            rc => {
                let said = out.stderr.lines().last().unwrap_or("it said nothing");
                return Err(Stop::fail(format!("the crontab cannot be read: exit code {rc}, {said}")));
            }
        };
        let new = self.edited(&old)?;
        let mut result = self.result(&new);
        if new == old {
            return Ok(Decision::satisfied(result));
        }
        let u = self.of_user();
        let mut actions = vec![];
        if self.backup.0 && !old.is_empty() {
            // A second has room for several.
            let digest = super::hex(&<sha2::Sha256 as sha2::Digest>::digest(&old));
            let to = format!("/tmp/crontab.{}.{}", ctx.now, &digest[..8]);
            actions.push(Action::Script(format!("(umask 077; crontab{u} -l >{to})")));
            result.insert("backup_file".into(), json!(to));
        }
        // crontab takes a whole new one, or none of it.
        let put = match std::str::from_utf8(&new) {
            Ok("") => format!("crontab{u} -r"),
            Ok(text) => format!("printf %s {} | crontab{u} -", shell_quote(text)),
            Err(_) => format!("printf %s {} | base64 -d | crontab{u} -", STANDARD.encode(&new)),
        };
        actions.push(Action::Script(put));
        let what = format!("crontab{}", self.user.as_ref().map_or(String::new(), |u| format!(" of {}", u.0)));
        Ok(Decision::Change(Change {
            actions,
            touches: Touches::path("/var/spool/cron"),
            after: [(self.look(), lossy(&new)), (exact, STANDARD.encode(&new))]
                .map(|(s, stdout)| (Probe::Script(s), Answer::Script(Output { stdout, ..Default::default() })))
                .into(),
            diff: match ctx.diff {
                true => vec![Diff { what, before: Some(lossy(&old)), after: Some(lossy(&new)) }],
                false => vec![],
            },
            summary: self.what().into(),
            result,
            ..Default::default()
        }))
    }

    /// The job as a line of its own.
    fn line(&self) -> String {
        let off = if self.disabled.0 { "#" } else { "" };
        let time = match self.special_time {
            Some(s) => format!("@{s:?}").to_lowercase(),
            None => self.times().map(|(_, t)| t).join(" "),
        };
        let user = match (&self.cron_file, &self.user) {
            (Some(_), Some(u)) => format!(" {}", u.0),
            _ => String::new(),
        };
        format!("{off}{time}{user} {}", self.job.as_deref().unwrap_or_default())
    }

    /// A file whose last line is gone goes too.
    fn without_file(&self, path: &str, seen: &Observed, ctx: &Ctx, old: &[u8]) -> Result<Decision, Stop> {
        let (q, mut result, mut actions) = (shell_quote(path), self.result(b""), vec![]);
        if self.backup.0 {
            let to = kept(path, seen, ctx)?;
            actions.push(Action::Script(format!("cp -p --remove-destination -- {q} {}", shell_quote(&to))));
            result.insert("backup_file".into(), json!(to));
        }
        actions.push(Action::Script(format!("rm -f -- {q}")));
        Ok(Decision::Change(Change {
            actions,
            touches: Touches::entry(path),
            after: [unchanged_folders(path, seen), nothing_at(path, path)].concat(),
            diff: match ctx.diff {
                true => vec![Diff { what: path.into(), before: Some(lossy(old)), after: None }],
                false => vec![],
            },
            summary: format!("{}, {path} with it", self.what()),
            result,
            ..Default::default()
        }))
    }

    /// Byte for byte, but for the lines it is about.
    fn edited(&self, old: &[u8]) -> Result<Vec<u8>, Stop> {
        let mut lines: Vec<Vec<u8>> = old.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        // Behind the last newline is no line.
        lines.pop_if(|l| l.is_empty());
        match self.env.0 {
            true => self.variable(&mut lines)?,
            false => self.job(&mut lines),
        }
        let mut new = lines.join(&b'\n');
        if !new.is_empty() {
            new.push(b'\n');
        }
        // A last line without an end is no reason to write.
        let bare = |t: &[u8]| t.len() - t.iter().rev().take_while(|b| **b == b'\n').count();
        Ok(if new[..bare(&new)] == old[..bare(old)] { old.to_vec() } else { new })
    }

    fn job(&self, lines: &mut Vec<Vec<u8>>) {
        let mark = format!("{MARK}{}", self.name.0).into_bytes();
        let line = self.line().into_bytes();
        let is_mark = |l: &Vec<u8>| l.starts_with(MARK.as_bytes());
        let at = lines.iter().position(|l| *l == mark);
        match (self.state, at) {
            (State::Present, Some(n)) => {
                let end = (n + 2).min(lines.len());
                // A mark without a job: the next mark is not its job.
                let end = if lines.get(n + 1).is_some_and(is_mark) { n + 1 } else { end };
                lines.splice(n + 1..end, [line]);
            }
            (State::Present, None) => {
                // Somebody else's line that does the same is this job, and only lacks its mark.
                let same = (0..lines.len()).find(|n| lines[*n] == line && (*n == 0 || !is_mark(&lines[n - 1])));
                match same {
                    Some(n) => lines.insert(n, mark),
                    None => lines.extend([mark, line]),
                }
            }
            (State::Absent, Some(n)) => {
                let end = if lines.get(n + 1).is_some_and(is_mark) { n + 1 } else { (n + 2).min(lines.len()) };
                lines.drain(n..end);
            }
            (State::Absent, None) => {}
        }
    }

    fn variable(&self, lines: &mut Vec<Vec<u8>>) -> Result<(), Stop> {
        let find = |lines: &[Vec<u8>], name: &str| lines.iter().position(|l| variable(&lossy(l)) == Some(name));
        let line = format!("{}=\"{}\"", self.name.0, self.job.as_deref().unwrap_or_default()).into_bytes();
        match (self.state, find(lines, &self.name)) {
            (State::Present, Some(n)) => lines[n] = line,
            (State::Present, None) => {
                let at = match (&self.insertafter, &self.insertbefore) {
                    (Some(a), _) => find(lines, a).map(|n| n + 1).ok_or(a),
                    (_, Some(b)) => find(lines, b).ok_or(b),
                    _ => Ok(0),
                };
                let at =
                    at.map_err(|name| Stop::fail(format!("there is no variable `{}` to put it beside", name.0)))?;
                lines.insert(at, line);
            }
            (State::Absent, Some(n)) => {
                lines.remove(n);
            }
            (State::Absent, None) => {}
        }
        Ok(())
    }

    fn result(&self, text: &[u8]) -> Map<String, serde_json::Value> {
        let text = lossy(text);
        let jobs: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix(MARK)).collect();
        let envs: Vec<&str> = text.lines().filter_map(variable).collect();
        let mut r = Map::new();
        r.insert("jobs".into(), json!(jobs));
        r.insert("envs".into(), json!(envs));
        if let Some(f) = &self.cron_file {
            r.insert("cron_file".into(), json!(f.0));
        }
        r
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether cron takes this; else what is wrong with it.
fn time(param: &str, text: &str) -> Result<(), String> {
    let (low, high, names) = match param {
        "minute" => (0, 59, ""),
        "hour" => (0, 23, ""),
        "day" => (1, 31, ""),
        "month" => (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
        _ => (0, 7, "sun mon tue wed thu fri sat"),
    };
    let value = |v: &str| match v.parse::<u64>() {
        _ if v.is_empty() => Err("a number is missing".to_string()),
        Ok(_) if v.starts_with('+') => Err(format!("`{v}`")),
        Ok(n) if (low..=high).contains(&n) => Ok(()),
        Ok(_) => Err(format!("`{param}` goes from {low} to {high}")),
        Err(_) if names.split(' ').any(|n| v.eq_ignore_ascii_case(n)) && !names.is_empty() => Ok(()),
        Err(_) => Err(format!("`{v}`")),
    };
    for part in text.split(',') {
        let (base, step) = part.split_once('/').map_or((part, None), |(b, s)| (b, Some(s)));
        if let Some(s) = step
            && !s.parse::<u64>().is_ok_and(|n| n > 0 && !s.starts_with('+'))
        {
            return Err(format!("`/{s}` is not a step"));
        }
        match (base.split_once('-'), base.split_once('~')) {
            _ if base == "*" || base == "~" => {}
            (Some((a, b)), _) => [a, b].into_iter().try_for_each(value)?,
            // Either end may be left out.
            (_, Some((a, b))) => [a, b].into_iter().filter(|v| !v.is_empty()).try_for_each(value)?,
            _ => value(base)?,
        }
    }
    Ok(())
}

/// The variable a line sets.
fn variable(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    crate::vars::is_name(name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Content, EntryKind};

    fn crontab(m: &Cron, rc: i32, text: &str) -> Observed {
        let (stdout, stderr) = if rc == 0 { (text, "") } else { ("", text) };
        let out = Output { rc, stdout: stdout.into(), stderr: stderr.into() };
        seen([(Probe::Script(m.look()), Answer::Script(out))])
    }
    /// The new crontab; what a change foresees must be satisfied.
    fn new(params: &str, old: &str) -> String {
        let m: Cron = bind(params);
        match m.decide(&crontab(&m, 0, old), &ctx()).unwrap() {
            Decision::Change(c) => {
                for a in &c.actions {
                    let Action::Script(s) = a else { panic!() };
                    sh_accepts(s);
                }
                satisfied(m.decide(&then(crontab(&m, 0, old), &c), &ctx()));
                c.diff[0].after.clone().unwrap()
            }
            _ => "(same)".into(),
        }
    }

    #[test]
    fn a_job_comes_and_changes_and_goes() {
        let j = "{name: save it, minute: 5, hour: '*/2', job: 'save \"it\" 100%'}";
        let text = "#Ansible: save it\n5 */2 * * * save \"it\" 100%\n";
        assert_eq!(new(j, "X=1\n"), format!("X=1\n{text}"));
        assert_eq!(new(j, &format!("X=1\n{text}0 0 * * * other\n")), "(same)");
        assert_eq!(new(j, "#Ansible: save it\n0 0 * * * old\n# c\n"), format!("{text}# c\n"));
        assert_eq!(new("{name: save it, state: absent}", &format!("X=1\n{text}# c\n")), "X=1\n# c\n");
        assert_eq!(new("{name: save it, state: absent}", "# c\n"), "(same)");
        assert_eq!(new("{name: a, job: b, special_time: reboot}", ""), "#Ansible: a\n@reboot b\n");
        assert_eq!(
            new("{name: a, job: b, disabled: true}", "#Ansible: a\n* * * * * b\n"),
            "#Ansible: a\n#* * * * * b\n"
        );
        assert_eq!(
            new("{name: a, job: b}", "#Ansible: a\n#Ansible: c\n0 0 * * * d\n"),
            "#Ansible: a\n* * * * * b\n#Ansible: c\n0 0 * * * d\n"
        );
    }

    #[test]
    fn variables() {
        assert_eq!(new("{name: PATH, env: yes, job: /bin}", "# c\nA=1\n"), "PATH=\"/bin\"\n# c\nA=1\n");
        assert_eq!(
            new("{name: PATH, env: yes, value: /bin, insertafter: A}", "# c\nA=1\n"),
            "# c\nA=1\nPATH=\"/bin\"\n"
        );
        assert_eq!(new("{name: A, env: yes, job: 2}", "A=1\n"), "A=\"2\"\n");
        assert_eq!(new("{name: A, env: yes, state: absent}", "A=1\n"), "");
    }

    #[test]
    fn no_crontab_yet_and_none_at_all() {
        let m: Cron = bind("{name: a, job: b, user: deploy}");
        let c = change(m.decide(&crontab(&m, 1, "no crontab for deploy\n"), &ctx()));
        assert!(
            matches!(&c.actions[..], [Action::Script(s)] if s.ends_with("| crontab -u deploy -")),
            "{:?}",
            c.actions
        );
        let Err(Stop::Fail(f)) = m.decide(&crontab(&m, 127, ""), &ctx()) else { panic!() };
        assert!(f.hint.unwrap().contains("apt"));
        let Err(Stop::Fail(f)) = m.decide(&crontab(&m, 1, "user unknown"), &ctx()) else { panic!() };
        assert!(f.message.contains("user unknown"));
    }

    #[test]
    fn a_file_of_cron_d() {
        let m: Cron = bind("{name: a, job: b, user: root, cron_file: mine}");
        let p = "/etc/cron.d/mine";
        let no = || {
            let content = (Probe::Content(p.into()), Answer::Content(Content::Absent));
            seen([at(p, None), at("/etc/cron.d", Some(entry(EntryKind::Directory, 0o755))), content])
        };
        let c = change(m.decide(&no(), &ctx()));
        let Some(Action::Put(put)) = c.actions.last() else { panic!() };
        assert_eq!(std::str::from_utf8(put.body.bytes()).unwrap(), "#Ansible: a\n* * * * * root b\n");
        satisfied(m.decide(&then(no(), &c), &ctx()));
        satisfied(bind::<Cron>("{name: a, state: absent, cron_file: mine}").decide(&no(), &ctx()));
    }

    #[test]
    fn a_line_that_is_there_without_a_mark_gets_one() {
        let j = "{name: a, job: b, minute: 5}";
        assert_eq!(new(j, "X=1\n5 * * * * b\n# c\n"), "X=1\n#Ansible: a\n5 * * * * b\n# c\n");
        assert_eq!(new(j, "#Ansible: z\n5 * * * * b\n"), "#Ansible: z\n5 * * * * b\n#Ansible: a\n5 * * * * b\n");
        assert_eq!(new("{name: a, job: \"b\\n\", minute: 5}", "#Ansible: a\n5 * * * * b\n"), "(same)");
    }

    #[test]
    fn other_lines_stay_byte_for_byte() {
        let old = b"# caf\xe9\n0 0 * * * x\xff\r\n";
        let m: Cron = bind("{name: a, job: b}");
        let Err(Stop::Need(need)) = m.decide(&crontab(&m, 0, &lossy(old)), &ctx()) else { panic!() };
        let o = || {
            let answer = |stdout: String| Answer::Script(Output { stdout, ..Default::default() });
            seen([
                (Probe::Script(m.look()), answer(lossy(old))),
                (need[0].clone(), answer(STANDARD.encode(old) + "\n")),
            ])
        };
        let c = change(m.decide(&o(), &ctx()));
        let Some(Action::Script(s)) = c.actions.last() else { panic!() };
        let out =
            std::process::Command::new("sh").args(["-c", &format!("crontab() {{ cat; }}\n{s}")]).output().unwrap();
        assert_eq!(out.stdout, [&old[..], b"#Ansible: a\n* * * * * b\n"].concat());
        satisfied(m.decide(&then(o(), &c), &ctx()));
        let m: Cron = bind("{name: gone, state: absent}");
        let Err(Stop::Need(need)) = m.decide(&crontab(&m, 0, &lossy(old)), &ctx()) else { panic!() };
        assert!(matches!(&need[..], [Probe::Script(s)] if s.ends_with("crontab -l | base64")));
    }

    #[test]
    fn a_file_goes_with_its_last_job() {
        let p = "/etc/cron.d/mine";
        let there = |text: &str| {
            let content = (Probe::Content(p.into()), Answer::Content(Content::Bytes(text.into())));
            seen([at(p, Some(entry(EntryKind::File, 0o644))), content])
        };
        let m: Cron = bind("{name: a, state: absent, cron_file: mine, backup: true}");
        let text = "#Ansible: a\n* * * * * root b\n";
        let c = change(m.decide(&there(text), &ctx()));
        let [Action::Script(keep), Action::Script(rm)] = &c.actions[..] else { panic!("{c:?}") };
        assert!(keep.contains(" /etc/cron.d/mine ") && rm == "rm -f -- /etc/cron.d/mine");
        satisfied(m.decide(&then(there(text), &c), &ctx()));
        let c = change(m.decide(&there(&format!("X=1\n{text}")), &ctx()));
        assert!(matches!(c.actions.last(), Some(Action::Put(p)) if p.body.bytes() == b"X=1\n"));
    }

    /// As Debian's cron and cronie take them.
    #[test]
    fn times() {
        let yes = [
            ("minute", "0~30 1-5/2 */70 05 0-59/5,3 *,5 0~30/5 ~ 5~"),
            ("month", "jan-mar 1 12 DEC"),
            ("weekday", "sun 7 fri-mon 5-7 0-7"),
        ];
        let no = [
            ("minute", "5- */0 1,2, 1-5/0 -5 1--5 60 +5 x 1.5 5-/2 */ */x ,"),
            ("hour", "a 24"),
            ("day", "0 32"),
            ("month", "0 13 january"),
            ("weekday", "sunday 8 jan"),
        ];
        for (taken, table) in [(true, &yes[..]), (false, &no[..])] {
            for (param, t) in table.iter().flat_map(|(p, all)| all.split(' ').map(move |t| (p, t))) {
                assert_eq!(time(param, t).is_ok(), taken, "{param}: {t}");
            }
        }
        assert!(time("day", "").is_err());
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Cron>(y).unwrap_err().message;
        assert!(err("{name: a}").contains("job"));
        assert!(err("{name: a, job: \"b\\nc\"}").contains("line"));
        assert!(err("{name: a, job: b, minute: 'x y'}").contains("time"));
        assert!(err("{name: a, job: b, hour: 1, special_time: daily}").contains("special_time"));
        assert!(err("{name: a, job: b, cron_file: x}").contains("user"));
        assert!(err("{name: a-b, job: b, env: true}").contains("a-b"));
    }

    #[test]
    fn every_field_has_its_place() {
        let j = "{name: a, job: b, minute: 1, hour: 2, day: 3, month: 4, weekday: 5}";
        assert_eq!(new(j, ""), "#Ansible: a\n1 2 3 4 5 b\n");
        assert_eq!(
            new("{name: PATH, env: yes, value: /bin, insertbefore: B}", "A=1\nB=2\n"),
            "A=1\nPATH=\"/bin\"\nB=2\n"
        );
    }

    #[test]
    fn the_old_crontab_is_kept_where_that_is_asked_for() {
        let m: Cron = bind("{name: a, job: b, backup: yes}");
        let c = change(m.decide(&crontab(&m, 0, "X=1\n"), &ctx()));
        let kept = c.result["backup_file"].as_str().unwrap();
        let [Action::Script(first), Action::Script(_)] = c.actions.as_slice() else { panic!("{c:?}") };
        sh_accepts(first);
        assert!(kept.starts_with("/tmp/crontab.") && first.contains(&format!("crontab -l >{kept}")), "{first}");
        // Nothing to keep.
        assert_eq!(change(m.decide(&crontab(&m, 0, ""), &ctx())).actions.len(), 1);
    }
}
