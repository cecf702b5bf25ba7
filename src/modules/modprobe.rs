//! `modprobe`: modules of the kernel, now and at each start.

use super::args::Text;
use super::place::{Wanted, tidy};
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, KernelModuleState, Observed, Probe, Touches};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Loads a module of the kernel, or takes it out; on request also at each start of the host. What is built into the kernel
/// counts as loaded.
///
/// Registers `name`, `params` and `state`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Modprobe {
    /// The module's name.
    name: Text,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// Its parameters (`numdummies=2`), for the moment it is loaded.
    #[serde(default)]
    params: Text,
    /// `present`: it is loaded at each start (`/etc/modules-load.d`, with its parameters in `/etc/modprobe.d`); `absent`: it
    /// no longer is, whatever file there says so; `disabled`: these files are left alone.
    #[serde(default)]
    persistent: Persistent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Persistent {
    Present,
    Absent,
    #[default]
    Disabled,
}

impl Module for Modprobe {
    const NAME: &'static str = "modprobe";
    const EXAMPLE: &'static str = r#"- modprobe: {name: br_netfilter, persistent: present}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if self.name.is_empty() || self.name.starts_with('-') || !self.name.chars().all(plain) {
            return Err(ArgError::new("name", format!("`{}` is not a kernel module's name", self.name.0)));
        }
        self.params.0 = self.params.split_whitespace().collect::<Vec<_>>().join(" ");
        let word =
            |w: &str| w.starts_with(|c: char| c.is_ascii_alphanumeric()) && w.chars().all(|c| c.is_ascii_graphic());
        match self.params.split(' ').find(|w| !w.is_empty() && !word(w)) {
            Some(w) => Err(ArgError::new("params", format!("`{w}` is not a module's parameter"))),
            None => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::KernelModule(self.name.0.clone())];
        if self.persistent == Persistent::Present {
            for f in [Some(self.loads_file()), self.options_file()].into_iter().flatten() {
                p.extend([Probe::Path(f.clone()), Probe::Content(f)]);
            }
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let host = seen.kernel_module(&self.name)?;
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name.0));
        result.insert("params".into(), json!(self.params.0));
        result.insert("state".into(), json!(if self.state == State::Present { "present" } else { "absent" }));
        let mut c = Change { result: result.clone(), ..Default::default() };
        let mut summary: Vec<String> = vec![];
        let (mut loads, mut options) = (host.loads.clone(), host.options.clone());

        match self.persistent {
            Persistent::Disabled => {}
            Persistent::Present => {
                let wanted = self.options_line();
                if host.loads.is_empty() {
                    let file = self.loads_file();
                    loads.push((file.clone(), self.name.0.clone()));
                    put(&file, &self.name, seen, ctx, &mut c)?;
                    summary.push(format!("loaded at each start ({file})"));
                }
                // What another file says of its parameters would be added to ours.
                let others = host.options.iter().filter(|(_, l)| Some(l) != wanted.as_ref());
                let mut files: Vec<String> = others.map(|(f, _)| f.clone()).collect();
                files.dedup();
                if let (Some(line), Some(file)) = (&wanted, self.options_file())
                    && (!files.is_empty() || host.options.is_empty())
                {
                    files.retain(|f| *f != file);
                    self.comment_out("options", &files, &mut c);
                    put(&file, line, seen, ctx, &mut c)?;
                    summary.push(format!("parameters at each start ({file})"));
                    options = vec![(file, line.clone())];
                }
            }
            Persistent::Absent => {
                for (what, found) in [("", &mut loads), ("options", &mut options)] {
                    let mut files: Vec<String> = found.drain(..).map(|(f, _)| f).collect();
                    files.dedup();
                    if !files.is_empty() {
                        self.comment_out(what, &files, &mut c);
                        summary.push(format!("no longer in {}", files.join(", ")));
                    }
                }
            }
        }
        let mut after = KernelModuleState { loads, options, ..host.clone() };
        match (self.state, after.loaded || after.built_in) {
            (State::Present, false) => {
                let words = std::iter::once(&*self.name).chain(self.params.split(' ').filter(|w| !w.is_empty()));
                let args = shell_join(words);
                c.actions.push(Action::Script(format!(
                    "command -v modprobe >/dev/null || {{ echo 'there is no modprobe on the host (Debian: package kmod)' >&2; exit 1; }}\n\
                     modprobe -- {args}"
                )));
                summary.push("loaded".into());
                after.loaded = true;
            }
            (State::Absent, true) if after.built_in => {
                return Err(Stop::fail_hint(
                    format!("{} is built into the kernel and cannot be taken out", self.name.0),
                    "a parameter of the kernel's command line can switch off some of what is built in",
                ));
            }
            (State::Absent, true) => {
                c.actions.push(Action::Script(format!("modprobe -r -- {}", shell_quote(&self.name))));
                summary.push("taken out".into());
                after.loaded = false;
            }
            _ => {}
        }
        if c.actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        c.summary = summary.join(", ");
        // The files it changes are about this module alone.
        c.touches.modules = after.loaded != host.loaded && !after.loaded;
        c.touches.loads = after.loaded && !host.loaded;
        c.touches.sysctls = after.loaded != host.loaded;
        c.touches.named_modules.push(self.name.0.clone());
        c.after.push((Probe::KernelModule(self.name.0.clone()), Answer::KernelModule(after)));
        Ok(Decision::Change(c))
    }
}

/// A file of one line, in its place.
fn put(file: &str, line: &str, seen: &Observed, ctx: &Ctx, c: &mut Change) -> Result<(), Stop> {
    let wanted = Wanted {
        path: file,
        body: format!("{line}\n").into_bytes().into(),
        mode: None,
        owner: None,
        group: None,
        validate: None,
        backup: false,
    };
    if let Decision::Change(put) = wanted.decide(seen, ctx)? {
        c.actions.extend(put.actions);
        c.diff.extend(put.diff);
        c.after.extend(put.after);
        c.touches = std::mem::take(&mut c.touches).and(put.touches);
    }
    Ok(())
}

impl Modprobe {
    /// The name in either spelling, as a pattern of grep and sed.
    fn pattern(&self) -> String {
        self.name.chars().map(|c| if matches!(c, '-' | '_') { "[-_]".into() } else { c.to_string() }).collect()
    }
    fn loads_file(&self) -> String {
        tidy(&format!("/etc/modules-load.d/{}.conf", self.name.0))
    }
    fn options_file(&self) -> Option<String> {
        (!self.params.is_empty()).then(|| tidy(&format!("/etc/modprobe.d/{}.conf", self.name.0)))
    }
    fn options_line(&self) -> Option<String> {
        (!self.params.is_empty()).then(|| format!("options {} {}", self.name.0, self.params.0))
    }

    /// Makes comments of the lines about it in these files.
    fn comment_out(&self, what: &str, files: &[String], c: &mut Change) {
        let p = self.pattern();
        let word = if what.is_empty() { String::new() } else { format!("{what}[[:blank:]][[:blank:]]*") };
        for f in files {
            let expression = format!("s/^[[:blank:]]*{word}{p}\\([[:blank:]].*\\)*$/# &/");
            c.actions.push(Action::Script(format!(
                "sed -i --follow-symlinks {} {}",
                shell_quote(&expression),
                shell_quote(f)
            )));
            c.touches = std::mem::take(&mut c.touches).and(Touches::entry(f));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Content, EntryKind};

    /// A host that says `loaded`, `builtin` or `none`, then `load FILE:LINE` and `options FILE:LINE`.
    fn host(m: &Modprobe, says: &str) -> Observed {
        let places = |word: &str| {
            let lines = says.lines().filter_map(|l| l.strip_prefix(word)?.split_once(':'));
            lines.map(|(f, l)| (f.to_string(), l.to_string())).collect()
        };
        let state = KernelModuleState {
            loaded: says.starts_with("loaded"),
            built_in: says.starts_with("builtin"),
            loads: places("load "),
            options: places("options "),
        };
        let mut o = seen([(Probe::KernelModule(m.name.0.clone()), Answer::KernelModule(state))]);
        for f in [m.loads_file(), "/etc/modprobe.d/br_netfilter.conf".into()] {
            let (p, a) = at(&f, says.contains(&f).then(|| entry(EntryKind::File, 0o644)));
            o.insert(p, a);
            let body = if says.contains(&f) { Content::Bytes(b"old\n".to_vec()) } else { Content::Absent };
            o.insert(Probe::Content(f), Answer::Content(body));
        }
        o
    }
    fn converges(params: &str, says: &str) -> Change {
        let m: Modprobe = bind(params);
        let c = change(m.decide(&host(&m, says), &ctx()));
        for a in &c.actions {
            if let Action::Script(s) = a {
                sh_accepts(s);
            }
        }
        satisfied(m.decide(&then(host(&m, says), &c), &ctx()));
        c
    }

    #[test]
    fn a_module_is_loaded_once() {
        let c = converges("{name: br_netfilter, params: a=1}", "none\n");
        assert!(matches!(&c.actions[..], [Action::Script(s)] if s.ends_with("modprobe -- br_netfilter a=1")));
        let m: Modprobe = bind("{name: br-netfilter}");
        satisfied(m.decide(&host(&m, "loaded\n"), &ctx()));
        satisfied(m.decide(&host(&m, "builtin\n"), &ctx()));
    }

    #[test]
    fn it_is_taken_out_unless_it_is_built_in() {
        let c = converges("{name: br_netfilter, state: absent}", "loaded\n");
        assert_eq!(c.summary, "taken out");
        let m: Modprobe = bind("{name: br_netfilter, state: absent}");
        satisfied(m.decide(&host(&m, "none\n"), &ctx()));
        let Err(Stop::Fail(f)) = m.decide(&host(&m, "builtin\n"), &ctx()) else { panic!() };
        assert!(f.message.contains("built into"));
    }

    #[test]
    fn it_is_loaded_at_each_start() {
        let c = converges("{name: br_netfilter, params: 'a=1  b', persistent: present}", "builtin\n");
        let puts = c.actions.iter().map(|a| match a {
            Action::Put(p) => (p.path.as_str(), std::str::from_utf8(p.body.bytes()).unwrap()),
            other => panic!("{other:?}"),
        });
        let puts: Vec<_> = puts.collect();
        assert_eq!(
            puts,
            [
                ("/etc/modules-load.d/br_netfilter.conf", "br_netfilter\n"),
                ("/etc/modprobe.d/br_netfilter.conf", "options br_netfilter a=1 b\n")
            ]
        );
        // Whatever file says so already.
        let m: Modprobe = bind("{name: br_netfilter, persistent: present}");
        satisfied(m.decide(&host(&m, "loaded\nload /etc/modules-load.d/k8s.conf:br_netfilter\n"), &ctx()));
        let old = "loaded\nload /etc/modules:br_netfilter\noptions /etc/modprobe.d/old.conf:options br_netfilter a=2\n";
        let c = converges("{name: br_netfilter, params: a=1, persistent: present}", old);
        assert!(
            matches!(&c.actions[0], Action::Script(s) if s.contains("/etc/modprobe.d/old.conf")),
            "{:?}",
            c.actions
        );
    }

    #[test]
    fn it_is_no_longer_loaded_at_a_start() {
        let says = "builtin\nload /etc/modules:br_netfilter\noptions /etc/modprobe.d/x.conf:options br_netfilter a\n";
        let c = converges("{name: br_netfilter, persistent: absent}", says);
        assert_eq!(c.actions.len(), 2);
        let t = tempfile::tempdir().unwrap();
        let f = t.path().join("x").display().to_string();
        std::fs::write(&f, "a\n br-netfilter\nbr_netfilter2\n").unwrap();
        let (m, mut c): (Modprobe, _) = (bind("{name: br_netfilter}"), Change::default());
        m.comment_out("", std::slice::from_ref(&f), &mut c);
        run(&c);
        assert_eq!(std::fs::read_to_string(&f).unwrap(), "a\n#  br-netfilter\nbr_netfilter2\n");
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Modprobe>("{name: 'a b'}").is_err());
        assert!(try_bind::<Modprobe>("{name: '-r'}").is_err());
        assert!(try_bind::<Modprobe>("{name: a, params: '-f'}").is_err());
    }
}
