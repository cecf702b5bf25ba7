//! `alternatives`: which of several programs a common name leads to.

use super::args::Text;
use super::copy::absolute;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Observed, Probe, Touches};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Chooses which program a common name (`iptables`, `editor`) leads to, with update-alternatives.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternatives {
    /// The common name.
    name: Text,
    /// The program it is to lead to.
    path: Option<Text>,
    /// The common name's own path; needed where the host does not know the name yet.
    link: Option<Text>,
    /// The higher, the sooner it is taken where nobody has chosen.
    priority: Option<i64>,
    /// Its companions (a manual's page, a second program): they lead to what goes with `path`. Without it, those it has
    /// stay. Also `slaves`.
    #[serde(alias = "slaves")]
    #[schemars(extend("x-aliases" = ["slaves"]))]
    subcommands: Option<Vec<Companion>>,
    /// `selected`: known, and chosen; `present`: known; `auto`: the one of the highest priority; `absent`: not known any more.
    #[serde(default)]
    state: State,
}

/// A name that goes with another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Companion {
    /// Its common name.
    name: Text,
    /// What it is to lead to.
    path: Text,
    /// The common name's own path; needed where the host does not know the name yet.
    link: Option<Text>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Selected,
    Present,
    Auto,
    Absent,
}

impl Module for Alternatives {
    const NAME: &'static str = "alternatives";
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("name", "The common name."), ("path", "What it leads to.")];
    const EXAMPLE: &'static str = r#"- name: iptables by nf_tables
  alternatives: {name: iptables, path: /usr/sbin/iptables-nft}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let plain = |c: char| c.is_ascii_graphic() && c != '/';
        if self.name.is_empty() || self.name.starts_with('-') || !self.name.chars().all(plain) {
            return Err(ArgError::new("name", format!("`{}` is not a name of update-alternatives", self.name.0)));
        }
        for (name, p) in [("path", &self.path), ("link", &self.link)] {
            p.as_deref().map_or(Ok(()), |p| absolute(name, p))?;
        }
        for c in self.subcommands.iter().flatten() {
            absolute("subcommands", &c.path)?;
            c.link.as_deref().map_or(Ok(()), |l| absolute("subcommands", l))?;
        }
        match (&self.path, self.state) {
            (None, s) if s != State::Auto => {
                Err(ArgError::new("path", "`alternatives` needs a `path` with this `state`"))
            }
            _ => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script(&self.look())?;
        if out.rc == 127 {
            return Err(Stop::fail("there is no update-alternatives on the host"));
        }
        let text = if out.rc == 0 { out.stdout.as_str() } else { "" };
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).map(str::trim);
        let path = self.path.as_deref();
        let block = path
            .and_then(|p| text.split("\n\n").find(|b| b.lines().any(|l| l.strip_prefix("Alternative: ") == Some(p))));
        let priority =
            block.and_then(|b| b.lines().find_map(|l| l.strip_prefix("Priority: ")?.trim().parse::<i64>().ok()));
        let links = companions(text.split("\n\n").next().unwrap_or_default());
        let have = companions(block.unwrap_or_default());
        let mut wanted = vec![];
        for c in self.subcommands.iter().flatten() {
            let known = links.iter().find(|(n, _)| *n == &*c.name).map(|(_, l)| *l);
            let Some(link) = c.link.as_deref().or(known) else {
                return Err(Stop::fail_hint(
                    format!("the host does not know the companion {}", c.name.0),
                    "give its `link` in `subcommands`",
                ));
            };
            wanted.push([link, &c.name, &c.path]);
        }
        let same = self.subcommands.is_none()
            || (wanted.len() == have.len()
                && wanted.iter().all(|[link, n, p]| have.contains(&(n, p)) && links.contains(&(n, link))));
        if self.subcommands.is_none() {
            // Without them, they would be taken away.
            let link = |name: &str| links.iter().find(|(n, _)| *n == name).map(|(_, l)| *l);
            wanted.extend(have.iter().filter_map(|(n, p)| Some([link(n)?, n, p])));
        }
        let tool = |words: &[&str]| Action::Script(format!("LC_ALL=C update-alternatives {}", shell_join(words)));
        let (mut actions, mut summary) = (vec![], vec![]);
        let known = priority.is_some() && same && self.priority.is_none_or(|p| Some(p) == priority);
        if let (Some(p), false) = (path, self.state == State::Absent || known) {
            let Some(link) = self.link.as_deref().or(field("Link")) else {
                return Err(Stop::fail_hint(
                    format!("the host does not know the alternative {}", self.name.0),
                    "give its `link`, or install the package that brings it",
                ));
            };
            let n = self.priority.or(priority).unwrap_or(50).to_string();
            let mut words = vec!["--install", link, &self.name, p, &n];
            words.extend(wanted.iter().flat_map(|[link, name, path]| ["--slave", link, name, path]));
            actions.push(tool(&words));
            summary.push(format!("{p} known, priority {n}"));
        }
        match (self.state, path) {
            (State::Selected, Some(p)) if field("Value") != Some(p) => {
                actions.push(tool(&["--set", &self.name, p]));
                summary.push(format!("{} -> {p}", field("Value").unwrap_or("none")));
            }
            (State::Auto, _) if field("Status") == Some("manual") => {
                actions.push(tool(&["--auto", &self.name]));
                summary.push("chosen by priority".into());
            }
            (State::Absent, Some(p)) if priority.is_some() => {
                actions.push(tool(&["--remove", &self.name, p]));
                summary.push(format!("{p} not known any more"));
            }
            _ => {}
        }
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name.0));
        result.insert("path".into(), json!(path));
        if actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        Ok(Decision::Change(Change {
            actions,
            // Links anywhere, its companions' among them.
            touches: Touches::everything(),
            summary: summary.join(", "),
            result,
            ..Default::default()
        }))
    }
}

impl Alternatives {
    /// What is known of the name. Red Hat's program has no `--query`: there its own records are put into the same words.
    fn look(&self) -> String {
        question(&self.name, "/var/lib/dpkg/alternatives", "/var/lib/alternatives", "/etc/alternatives")
    }
}

fn question(name: &str, debian: &str, others: &str, links: &str) -> String {
    format!(
        r#"command -v update-alternatives >/dev/null 2>&1 || exit 127
n={name}
[ -d {debian} ] || [ ! -d {others} ] || {{
  [ -f {others}/"$n" ] || exit 2
  exec <{others}/"$n"
  read -r s; read -r l
  printf 'Name: %s\nLink: %s\nStatus: %s\nValue: %s\nSlaves:\n' "$n" "$l" "$s" "$(readlink {links}/"$n")"
  set --
  while read -r t && [ -n "$t" ]; do read -r l; printf ' %s %s\n' "$t" "$l"; set -- "$@" "$t"; done
  while read -r p && [ -n "$p" ]; do
    read -r y; y=${{y##*@}}
    printf '\nAlternative: %s\nPriority: %s\nSlaves:\n' "$p" "${{y%% *}}"
    for t; do read -r l; [ -z "$l" ] || printf ' %s %s\n' "$t" "$l"; done
  done
  exit 0
}}
LC_ALL=C update-alternatives --query "$n""#,
        name = shell_quote(name),
    )
}

/// The names that go with one, each with its link or with what it leads to.
fn companions(block: &str) -> Vec<(&str, &str)> {
    let lines = block.lines().skip_while(|l| *l != "Slaves:").skip(1);
    lines.map_while(|l| l.strip_prefix(' ')?.split_once(' ')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, Output};

    const HOST: &str = "Name: ed\nLink: /usr/bin/ed\nStatus: auto\nBest: /bin/b\nValue: /bin/b\n\n\
                        Alternative: /bin/a\nPriority: 10\n\nAlternative: /bin/b\nPriority: 20\n";

    fn done(params: &str, rc: i32, host: &str) -> Vec<String> {
        let m: Alternatives = bind(&format!("{{name: ed, {params}}}"));
        let out = Output { rc, stdout: host.into(), ..Default::default() };
        match m.decide(&seen([(Probe::Script(m.look()), Answer::Script(out))]), &ctx()) {
            Ok(Decision::Change(c)) => {
                let script = |a: &Action| match a {
                    Action::Script(s) => s.trim_start_matches("LC_ALL=C update-alternatives ").to_string(),
                    other => panic!("{other:?}"),
                };
                c.actions.iter().map(script).collect()
            }
            Ok(Decision::Satisfied(_)) => vec![],
            Err(Stop::Fail(f)) => vec![f.message],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_one_that_is_wanted_is_chosen() {
        assert_eq!(done("path: /bin/a", 0, HOST), ["--set ed /bin/a"]);
        assert!(done("path: /bin/b", 0, HOST).is_empty());
        assert_eq!(done("path: /bin/c", 0, HOST), ["--install /usr/bin/ed ed /bin/c 50", "--set ed /bin/c"]);
        assert!(done("path: /bin/a, state: present", 0, HOST).is_empty());
        assert_eq!(done("path: /bin/a, state: present, priority: 9", 0, HOST), ["--install /usr/bin/ed ed /bin/a 9"]);
        assert_eq!(done("path: /bin/a, state: absent", 0, HOST), ["--remove ed /bin/a"]);
        assert!(done("path: /bin/c, state: absent", 0, HOST).is_empty());
        assert_eq!(done("state: auto", 0, &HOST.replace("auto", "manual")), ["--auto ed"]);
        assert!(done("state: auto", 0, HOST).is_empty());
    }

    #[test]
    fn companions_stay_or_are_what_is_asked_for() {
        let host = "Name: ed\nLink: /usr/bin/ed\nSlaves:\n ed.1 /man/ed.1\n ex /usr/bin/ex\nStatus: auto\nBest: /bin/a\n\
                    Value: /bin/a\n\nAlternative: /bin/a\nPriority: 10\nSlaves:\n ed.1 /man/a.1\n ex /bin/x y\n";
        let kept = "--slave /man/ed.1 ed.1 /man/a.1 --slave /usr/bin/ex ex '/bin/x y'";
        assert_eq!(done("path: /bin/a, priority: 9", 0, host), [format!("--install /usr/bin/ed ed /bin/a 9 {kept}")]);
        assert!(done("path: /bin/a", 0, host).is_empty());
        let subs = |s: &str| done(&format!("path: /bin/a, subcommands: [{s}]"), 0, host);
        assert!(subs("{name: ex, path: /bin/x y}, {name: ed.1, path: /man/a.1, link: /man/ed.1}").is_empty());
        assert_eq!(
            subs("{name: ex, path: /bin/z}"),
            ["--install /usr/bin/ed ed /bin/a 10 --slave /usr/bin/ex ex /bin/z"]
        );
        assert!(subs("{name: new, path: /bin/z}")[0].contains("does not know the companion new"));
    }

    #[test]
    fn red_hats_records_are_read() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().display().to_string();
        let file = "manual\n/usr/bin/ed\nex\n/usr/bin/ex\ned.1\n/man/ed.1\n\n/bin/a\n@fam@10 svc\n/bin/x\n\n/bin/b\n20\n\n/man/b.1\n";
        for dir in ["lib", "etc", "bin"] {
            std::fs::create_dir_all(t.path().join(dir)).unwrap();
        }
        std::os::unix::fs::symlink("/bin/true", t.path().join("bin/update-alternatives")).unwrap();
        std::fs::write(t.path().join("lib/ed"), file).unwrap();
        std::os::unix::fs::symlink("/bin/b", t.path().join("etc/ed")).unwrap();
        let read = |name: &str| {
            let script = question(name, &format!("{d}/none"), &format!("{d}/lib"), &format!("{d}/etc"));
            let out = std::process::Command::new("sh").arg("-c").arg(format!("PATH={d}/bin:$PATH\n{script}")).output();
            let out = out.unwrap();
            (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).into_owned())
        };
        let (rc, text) = read("ed");
        assert_eq!(done("path: /bin/b", rc, &text), [""; 0], "{text}");
        assert_eq!(
            done("path: /bin/a, priority: 5", rc, &text),
            ["--install /usr/bin/ed ed /bin/a 5 --slave /usr/bin/ex ex /bin/x", "--set ed /bin/a"]
        );
        assert_eq!(done("state: auto", rc, &text), ["--auto ed"]);
        assert_eq!(read("nope").0, 2);
    }

    #[test]
    fn a_name_the_host_does_not_know() {
        assert!(done("path: /bin/a", 2, "")[0].contains("does not know"));
        assert_eq!(done("path: /bin/a, link: /usr/bin/ed", 2, "")[0], "--install /usr/bin/ed ed /bin/a 50");
        assert!(done("path: /bin/a", 127, "")[0].contains("no update-alternatives"));
        assert!(try_bind::<Alternatives>("{name: ed}").is_err());
        assert!(try_bind::<Alternatives>("{name: '-x', path: /a}").is_err());
    }
}
