//! `windlass vault recipients` and `who-can-read`: who is to read, and who can.

use crate::cli::Exit;
use crate::error::{Error, Result};
use crate::source::display_path;
use crate::vault::audit::{self, Fit, Held};
use crate::vault::crypt::Header;
use crate::vault::rules::{self, Rules};
use crate::vault::{Recipient, crypt, note};
use clap::Subcommand;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Change {
    /// Let someone read what a rule covers; then run windlass vault rekey.
    Add {
        /// The rule's path, as it stands in windlass.yml.
        rule: String,
        /// A name under `keys`, NAME=KEY to put one there, or a public key.
        #[arg(required = true)]
        who: Vec<String>,
    },
    /// Take someone out of a rule; then run windlass vault rekey, and change the secrets.
    Remove {
        /// The rule's path, as it stands in windlass.yml.
        rule: String,
        /// A name under `keys`, or a public key.
        #[arg(required = true)]
        who: Vec<String>,
    },
}

fn here() -> Result<Rules> {
    let dir = std::env::current_dir().map_err(|e| Error::environment("this folder cannot be read").because(e))?;
    Rules::of(&dir)?.ok_or_else(|| {
        Error::input(format!("there is no {} with rules for secrets here or above", rules::FILE))
            .hint("Make one with windlass vault init.")
    })
}

/// Lists the rules, or changes one.
pub fn run(change: Option<&Change>) -> Result<()> {
    // Until a change is written.
    let _lock = change.and_then(|_| Rules::lock());
    let rules = here()?;
    match change {
        None => {
            for r in &rules.rules {
                let who: Vec<String> = r.to.iter().map(|r| r.shown()).collect();
                say!("{}: {}{}", r.shown(), who.join(", "), if r.whole { " (whole files)" } else { "" });
            }
            if rules.rules.is_empty() {
                say!("there are no rules: secrets are for your own keys");
            }
        }
        Some(Change::Add { rule, who }) => {
            let mut rules = rules;
            let mut words = vec![];
            for w in who {
                match w.split_once('=').filter(|(n, _)| !n.contains(' ') && !n.is_empty()) {
                    Some((name, key)) => {
                        rules = rules.with_key(name, key)?;
                        words.push(name.to_string());
                    }
                    None => words.push(w.clone()),
                }
            }
            rules.write(&rules.changed(rule, &words, &[])?)?;
            say!("{}: {rule} can be read by {} too", rules.shown.display(), words.join(", "));
            say!("now encrypt for them what is there: windlass vault rekey");
        }
        Some(Change::Remove { rule, who }) => {
            rules.write(&rules.changed(rule, &[], who)?)?;
            say!("{}: {rule} is no longer for {}", rules.shown.display(), who.join(", "));
            say!("now encrypt again what is there: windlass vault rekey");
            say!("then change the secrets themselves: who could read them may have kept them");
        }
    }
    Ok(())
}

/// Says it when the command line names others than the rule.
pub fn against_the_rule(path: &Path, given: &[Recipient]) -> Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(rules) = Rules::of(dir)? else { return Ok(()) };
    let Some(rule) = rules.rule(path) else { return Ok(()) };
    let wanted: Vec<_> = rule.recipients().iter().map(note::fingerprint).collect();
    if given.iter().any(|g| !wanted.contains(&note::fingerprint(g))) {
        eprintln!(
            "warning: the rule for `{}` in {} names others; -r goes above it",
            rule.shown(),
            rules.shown.display()
        );
    }
    Ok(())
}

/// The files with something encrypted in them that rules cover.
pub fn secrets() -> Result<Vec<PathBuf>> {
    let rules = here()?;
    let (covered, notes) = audit::covered(&rules);
    notes.iter().for_each(|n| eprintln!("warning: {n}"));
    let covered = covered.into_iter().map(|(p, _)| p);
    // What cannot be read is left in: it is to be said, not passed over.
    let is_secret = |p: &PathBuf| !matches!(audit::look(p), Ok(Held::Plain));
    Ok(covered.filter(is_secret).map(|p| display_path(&p)).collect())
}

/// Who can read each secret, and who should.
pub fn who_can_read(files: &[PathBuf]) -> Result<Exit> {
    let files = if files.is_empty() { secrets()? } else { files.to_vec() };
    let (mut differs, mut failed) = (false, None);
    for f in &files {
        let dir = f.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let rules = Rules::of(dir)?;
        let rule = rules.as_ref().and_then(|r| r.rule(f));
        let wanted = rule.map(|r| (!r.is_passphrase()).then(|| r.recipients()));
        let mut tell = |at: String, header: &Header| {
            say!("{at}: {}", counted(&audit::readers(header, rules.as_ref())));
            let Some(wanted) = &wanted else { return };
            match audit::fit(header, wanted.as_deref(), rules.as_ref()) {
                Fit::Same => {}
                Fit::Likely => say!("    as many and of the kinds the rule names; which keys they are is not told"),
                Fit::Differs { extra, missing } => {
                    differs = true;
                    if !extra.is_empty() {
                        say!("    against the rule: {}", counted(&extra));
                    }
                    if !missing.is_empty() {
                        say!("    cannot, and should: {}", audit::listed(&missing));
                    }
                }
            }
        };
        let held = match audit::look(f) {
            Ok(held) => held,
            // The others are told all the same.
            Err(e) if files.len() > 1 => {
                super::complain(&e);
                failed = failed.or(Some(f));
                continue;
            }
            Err(e) => return Err(e),
        };
        match held {
            Held::Whole(header) => tell(f.display().to_string(), &header),
            Held::Values(_, values) => {
                for (v, header) in &values {
                    tell(format!("{}:{} {}", f.display(), v.line, v.path), header);
                    let place = header.note.as_ref().and_then(|n| n.place.as_ref());
                    if place.is_none() && !is_passphrase(header) {
                        say!("    not bound to its place");
                    }
                }
            }
            Held::Plain => {
                say!("{}: everyone, nothing in it is encrypted", f.display());
                differs |= rule.is_some_and(|r| r.whole) || f.extension().is_some_and(|e| e == "age");
            }
        }
    }
    match failed {
        Some(f) => Err(Error::input(format!("{} and perhaps others could not be read", f.display()))
            .hint("The errors are above; of the others all is told.")),
        None => Ok(if differs { Exit::Changes } else { Exit::Done }),
    }
}

fn is_passphrase(header: &crypt::Header) -> bool {
    header.stanzas.iter().any(|s| s.kind == "scrypt")
}

/// Words that stand there several times are counted.
fn counted(words: &[String]) -> String {
    let mut seen: Vec<(String, usize)> = vec![];
    for w in words {
        match seen.iter_mut().find(|(s, _)| s == w) {
            Some((_, n)) => *n += 1,
            None => seen.push((w.clone(), 1)),
        }
    }
    let all: Vec<String> = seen.into_iter().map(|(w, n)| if n == 1 { w } else { format!("{w} ({n} times)") }).collect();
    if all.is_empty() { "nobody".into() } else { all.join(", ") }
}
