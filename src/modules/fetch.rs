//! `fetch`: a file of the host, brought to this machine.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::place::tidy;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::{Action, Fetch as Bring};
use crate::probe::{Answer, EntryKind, HereState, Observed, Probe, Touches};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use std::path::PathBuf;

/// Brings a file of the host to this machine, to `dest/HOST/path/of/the/file`, or with `flat` to `dest` itself. It is put
/// in place at once, after its checksum was compared; only you can read it if not everyone can on the host. At most 2 GiB.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// The file on the host.
    src: Text,
    /// The folder on this machine, seen from the playbook's (or `~/…`); with `flat` the file, or a folder if it ends in a slash.
    dest: Text,
    /// `dest` is where the file itself goes.
    #[serde(default)]
    flat: Bool,
    /// `false`: a file that is not there is no failure.
    #[serde(default = "yes")]
    fail_on_missing: Bool,
    /// Has no effect: what comes is always compared.
    validate_checksum: Option<Bool>,
    #[serde(skip)]
    #[schemars(skip)]
    to: PathBuf,
}

fn yes() -> Bool {
    Bool(true)
}

/// The largest file that is brought (bytes).
const LIMIT: u64 = 2 << 30;

impl Module for Fetch {
    const NAME: &'static str = "fetch";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("dest", "The path on this machine."),
        ("checksum, remote_checksum", "The content's SHA-256."),
        ("file", "The path on the host."),
    ];
    const EXAMPLE: &'static str = r#"- name: The cluster's own certificate
  fetch:
    src: /etc/ssl/cluster.crt
    dest: backup/
    flat: true"#;

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        absolute("src", &self.src)?;
        self.src.0 = tidy(&self.src);
        let _ = self.validate_checksum;
        let dest = local.folder().join(crate::inventory::connection::expand_home(&self.dest));
        let name = self.src.rsplit('/').next().unwrap_or_default();
        if name.is_empty() || self.src.split('/').any(|p| p == "..") {
            return Err(ArgError::new("src", format!("`{}` does not name a file plainly", &*self.src)));
        }
        self.to = match (self.flat.0, self.dest.ends_with('/')) {
            (true, false) => dest,
            (true, true) => dest.join(name),
            (false, _) => dest.join(local.host()).join(self.src.trim_start_matches('/')),
        };
        Ok(())
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Path(self.src.0.clone()), Probe::Sha256(self.src.0.clone())]
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let src = &*self.src;
        let mut result = Map::new();
        result.insert("file".into(), json!(src));
        result.insert("src".into(), json!(src));
        result.insert("dest".into(), json!(self.to));
        let Some(entry) = seen.path(src)?.followed() else {
            if self.fail_on_missing.0 {
                return Err(Stop::fail_hint(
                    format!("{src} does not exist on the host"),
                    "`fail_on_missing: false` if that is no failure",
                ));
            }
            result.insert("msg".into(), json!("the remote file does not exist, not transferring, ignored"));
            return Ok(Decision::satisfied(result));
        };
        if entry.kind != EntryKind::File {
            return Err(Stop::fail_hint(
                format!("{src} is not a regular file"),
                "a folder can be packed with `archive` and fetched then",
            ));
        }
        if entry.size > LIMIT {
            return Err(Stop::fail(format!("{src} has {} bytes; `fetch` brings at most {LIMIT}", entry.size)));
        }
        let Some(sum) = seen.sha256(src)?.clone() else { return Err(Stop::fail(format!("{src} cannot be read"))) };
        result.insert("checksum".into(), json!(sum));
        result.insert("remote_checksum".into(), json!(sum));
        let mode = if entry.mode & 0o004 == 0 { 0o600 } else { 0o644 };
        let summary = match seen.here(&self.to)? {
            HereState::File { sha256, mode: now } if *sha256 == sum => match now & !mode & 0o077 {
                0 => return Ok(Decision::satisfied(result)),
                _ => format!("on this machine others could read it: mode {now:04o} -> {mode:04o}"),
            },
            HereState::File { .. } => "the file on this machine is replaced".to_string(),
            HereState::Absent => "new file on this machine".to_string(),
            HereState::Folder => {
                return Err(Stop::fail_hint(
                    format!("{} is a folder on this machine", self.to.display()),
                    "with `flat`, end `dest` in a slash to put the file into a folder",
                ));
            }
            HereState::Unknown(why) => return Err(Stop::fail(format!("{}: {why}", self.to.display()))),
        };
        let (path, size) = (src.to_string(), entry.size);
        Ok(Decision::Change(Change {
            actions: vec![Action::Fetch(Bring { path, size, sha256: sum.clone(), to: self.to.clone(), mode })],
            touches: Touches::entry(&self.to.to_string_lossy()),
            after: vec![(Probe::Here(self.to.clone()), Answer::Here(HereState::File { sha256: sum, mode }))],
            summary,
            result,
            ..Default::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn host(mode: u32, sum: &str) -> Vec<(Probe, Answer)> {
        vec![
            at("/etc/x", Some(entry(EntryKind::File, mode))),
            (Probe::Sha256("/etc/x".into()), Answer::Sha256(Some(sum.into()))),
        ]
    }
    fn here(to: &str, state: HereState) -> (Probe, Answer) {
        (Probe::Here(to.into()), Answer::Here(state))
    }

    #[test]
    fn where_it_goes() {
        let to = |yaml: &str| bind::<Fetch>(yaml).to;
        assert_eq!(to("{src: /etc/x, dest: got}"), PathBuf::from("/play/got/node/etc/x"));
        assert_eq!(to("{src: /etc/x, dest: /got/, flat: true}"), PathBuf::from("/got/x"));
        assert_eq!(to("{src: /etc/x, dest: got/y, flat: true}"), PathBuf::from("/play/got/y"));
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        assert_eq!(to("{src: /etc/x, dest: ~/got/, flat: true}"), home.join("got/x"));
        assert_eq!(to("{src: /etc/x, dest: ~/got}"), home.join("got/node/etc/x"));
        assert!(try_bind::<Fetch>("{src: /etc/../x, dest: got}").is_err());
        assert!(try_bind::<Fetch>("{src: x, dest: got}").is_err());
    }

    #[test]
    fn brought_if_it_differs_and_kept_from_others() {
        let m: Fetch = bind("{src: /etc/x, dest: /got/x, flat: true}");
        let mut all = host(0o640, "ab");
        all.push(here("/got/x", HereState::Absent));
        let o = seen(all);
        let c = change(m.decide(&o, &ctx()));
        let [Action::Fetch(f)] = c.actions.as_slice() else { panic!("{c:?}") };
        assert_eq!((f.mode, f.size, f.sha256.as_str()), (0o600, 3, "ab"));
        satisfied(m.decide(&then(o.clone(), &c), &ctx()));
        let mut o = o;
        for (mode, fine) in [(0o644, false), (0o600, true), (0o400, true)] {
            let (p, a) = here("/got/x", HereState::File { sha256: "ab".into(), mode });
            o.insert(p, a);
            assert_eq!(matches!(m.decide(&o, &ctx()), Ok(Decision::Satisfied(_))), fine, "{mode:o}");
        }
        let (p, a) = here("/got/x", HereState::Folder);
        o.insert(p, a);
        assert!(matches!(m.decide(&o, &ctx()), Err(Stop::Fail(_))));
    }

    #[test]
    fn what_is_not_there() {
        let o = seen([at("/etc/x", None)]);
        assert!(matches!(bind::<Fetch>("{src: /etc/x, dest: d}").decide(&o, &ctx()), Err(Stop::Fail(_))));
        satisfied(bind::<Fetch>("{src: /etc/x, dest: d, fail_on_missing: false}").decide(&o, &ctx()));
    }
}
