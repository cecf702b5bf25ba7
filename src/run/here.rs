//! Questions that this side answers itself.

use crate::fetch::{Algorithm, Download, Downloads};
use crate::probe::{Answer, HereState, Probe};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What was asked of this side.
#[derive(Debug, Default)]
pub struct Answers {
    pub known: Vec<(Probe, Answer)>,
    /// In a plan: what only an apply fetches.
    pub later: Vec<Probe>,
}

/// Answers the probes that are ours. A plan transfers nothing large: what is not here is known after apply.
pub async fn answer(downloads: &Downloads, probes: Vec<Probe>, plan: bool) -> Answers {
    let mut all = Answers::default();
    // Without a sum, only the server knows whether what is here is still the file.
    let later = |d: &Download| plan && d.local().is_none() && (d.sum.is_none() || !downloads.is_here(d));
    for p in probes {
        let a = match &p {
            Probe::Text(d) => Answer::Text(downloads.text(d).await),
            Probe::Fetched(d) if !later(d) => Answer::Fetched(downloads.get(d).await),
            Probe::Archive(l) if !later(&l.of) => Answer::Archive(downloads.list(&l.of, &l.script).await),
            Probe::Here(path) => {
                let path = path.clone();
                let look = tokio::task::spawn_blocking(move || look(&path)).await;
                Answer::Here(look.unwrap_or_else(|e| HereState::Unknown(e.to_string())))
            }
            _ => {
                all.later.push(p);
                continue;
            }
        };
        all.known.push((p, a));
    }
    all
}

/// What a plan says of a question that it leaves to an apply.
pub fn why_later(p: &Probe) -> Option<String> {
    match p {
        Probe::Fetched(d) => Some(format!("only an apply fetches {}", d.shown())),
        Probe::Archive(l) => Some(format!("only an apply fetches {}", l.of.shown())),
        _ => None,
    }
}

fn look(path: &Path) -> HereState {
    match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => HereState::Folder,
        Ok(m) if m.is_file() => match Algorithm::Sha256.of_file(path) {
            Ok(sha256) => HereState::File { sha256, mode: m.permissions().mode() & 0o7777 },
            Err(e) => HereState::Unknown(e.to_string()),
        },
        Ok(_) => HereState::Unknown("it is neither a file nor a folder".into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => HereState::Absent,
        Err(e) => HereState::Unknown(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_plan_fetches_nothing_but_small_texts() {
        let dir = tempfile::tempdir().unwrap();
        let all = Downloads::at(dir.path());
        let far = Probe::Fetched(Download::new("http://127.0.0.1:1/x"));
        let a = answer(&all, vec![far.clone()], true).await;
        assert_eq!((a.known.len(), a.later), (0, vec![far]));
        let file = dir.path().join("f");
        std::fs::write(&file, "text").unwrap();
        let near = Download::new(file.to_str().unwrap());
        let probes =
            vec![Probe::Text(near.clone()), Probe::Fetched(near), Probe::Here(file), Probe::Here("/no/x".into())];
        let a = answer(&all, probes, true).await;
        assert_eq!(a.known[0].1, Answer::Text(Ok("text".into())));
        assert!(matches!(&a.known[1].1, Answer::Fetched(Ok(f)) if f.size == 4));
        assert!(matches!(&a.known[2].1, Answer::Here(HereState::File { .. })));
        assert_eq!(a.known[3].1, Answer::Here(HereState::Absent));
    }
}
