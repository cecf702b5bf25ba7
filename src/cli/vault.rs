//! `windlass vault`: secrets in files.

mod init;
mod recipients;

use super::Exit;
use super::project::Asks;
use crate::error::{Error, Result};
use crate::vault::keypath::KeyPath;
use crate::vault::{self, Identities, Recipient, Recipients, audit, contents, file, import, rekey};
use clap::{Args, Subcommand};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

#[derive(Args)]
pub struct Vault {
    #[command(subcommand)]
    verb: Verb,
    /// An age or SSH key that opens secrets. Can be repeated.
    #[arg(long, global = true, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

#[derive(Args, Clone, Default)]
struct To {
    /// Who can read it: an age or SSH public key. Can be repeated.
    #[arg(short, long, value_name = "KEY")]
    recipient: Vec<String>,
    /// A file of public keys. Can be repeated.
    #[arg(short = 'R', long, value_name = "FILE")]
    recipients_file: Vec<PathBuf>,
    /// Encrypt with a passphrase instead of keys.
    #[arg(short, long)]
    passphrase: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Start with secrets here: a key, and windlass.yml with who can read what.
    Init {
        /// What your key is called in windlass.yml.
        #[arg(long)]
        name: Option<String>,
    },
    /// Make a key pair.
    Keygen {
        /// Where the key goes; the default is where it is looked for.
        path: Option<PathBuf>,
    },
    /// Encrypt files: FILE becomes FILE.age.
    Encrypt {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: To,
        /// Keep the plain file.
        #[arg(long)]
        keep: bool,
    },
    /// Encrypt standard input as a `!age` value for YAML, bound to no place; see `set`.
    EncryptValue {
        #[command(flatten)]
        to: To,
    },
    /// Decrypt files: FILE.age becomes FILE.
    Decrypt {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Keep the encrypted file.
        #[arg(long)]
        keep: bool,
    },
    /// Show a file with all secrets in the clear.
    View { file: PathBuf },
    /// Edit a file in $EDITOR, its secrets in the clear; the plain text is kept in memory only.
    Edit {
        file: PathBuf,
        #[command(flatten)]
        to: To,
        /// Use a folder on disk where there is none in memory.
        #[arg(long)]
        allow_disk: bool,
    },
    /// Set one value in a YAML file; it is asked for, or read from standard input.
    Set {
        file: PathBuf,
        /// The keys that lead to it: db.password, users[name=anna].password.
        path: String,
        /// Make a random value of this many letters and digits.
        #[arg(long, value_name = "N")]
        generate: Option<usize>,
        #[command(flatten)]
        to: To,
    },
    /// Print one value.
    Get {
        file: PathBuf,
        /// The keys that lead to it: db.password, users[name=anna].password.
        path: String,
    },
    /// Encrypt again what is not for those the rules name; without FILES, everything here.
    ///
    /// What is for them already keeps its ciphertext. A file is rewritten whole or not at all.
    Rekey {
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: To,
        /// Bind values to where they stand now, also those that were moved.
        #[arg(long)]
        rebind: bool,
        /// Only say what would be done; exit code 2: something.
        #[arg(long)]
        dry_run: bool,
    },
    /// Who is to read what, by the rules of windlass.yml.
    Recipients {
        #[command(subcommand)]
        change: Option<recipients::Change>,
    },
    /// Who can read secrets, as far as they tell, against the rules; exit code 2: they differ.
    WhoCanRead { files: Vec<PathBuf> },
    /// Bring over secrets of Ansible Vault (files and `!vault` values) and of SOPS with age keys.
    Import {
        /// Files, or folders of them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// A file with the old Ansible Vault password. Can be repeated.
        #[arg(long, value_name = "[LABEL=]FILE")]
        password_file: Vec<String>,
        #[command(flatten)]
        to: To,
        /// Keep files that were encrypted whole.
        #[arg(long)]
        keep: bool,
        /// Open everything, write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// For git: a file's text with what can be opened in the clear.
    Textconv { file: PathBuf },
}

impl Vault {
    pub fn run(&self) -> Result<Exit> {
        if !matches!(self.verb, Verb::Init { .. } | Verb::Keygen { .. } | Verb::Textconv { .. }) && rules_are_wrong() {
            return Ok(Exit::Input);
        }
        match &self.verb {
            Verb::Init { name } => init::run(name.as_deref(), self.identities()?)?,
            Verb::Keygen { path } => {
                let path = match path.clone().or_else(vault::identity::default_path) {
                    Some(p) => p,
                    None => return Err(Error::environment("no home folder is known").hint("name a file for the key")),
                };
                let public = vault::keygen(&path)?;
                eprintln!("the key is in {}; keep it safe, and keep a copy", path.display());
                say!("{public}");
            }
            Verb::Encrypt { files, to, keep } => {
                for f in files {
                    let (recipients, _) = self.recipients(f, to)?;
                    let out = file::Output { keep: *keep, ..Default::default() };
                    say!("{}", file::encrypt_file(f, &recipients, &out)?.display());
                }
            }
            Verb::EncryptValue { to } => {
                let text = input()?;
                let (recipients, _) = self.recipients(Path::new("value"), to)?;
                let armored = vault::encrypt_value(text.trim_end_matches('\n'), &recipients)?;
                say!("{}", vault::value::yaml_block(&armored, 2).trim_end());
            }
            Verb::Decrypt { files, keep } => {
                let ids = self.identities()?;
                for f in files {
                    let out = file::Output { keep: *keep, ..Default::default() };
                    say!("{}", file::decrypt_file(f, &ids, &out)?.display());
                }
            }
            Verb::View { file: f } => print(&contents::view(f, &self.identities()?)?)?,
            Verb::Edit { file: f, to, allow_disk } => {
                let how = file::Edit {
                    recipients: self.given(f, to)?,
                    allow_disk: *allow_disk,
                    create: true,
                    ..Default::default()
                };
                let e = file::edit(f, &self.identities()?, &how)?;
                say!("{}", if e.changed { "encrypted again" } else { "nothing changed" });
            }
            Verb::Set { file: f, path, generate, to } => {
                let key = KeyPath::parse(path)?;
                let text = match generate {
                    Some(n) => contents::generate(*n)?,
                    None => secret(&key)?,
                };
                let done = contents::set(f, &key, &text, self.given(f, to)?, &self.identities()?)?;
                let word = if !done.changed { "is as it was" } else { "is set" };
                say!("{}: `{}` {word}", f.display(), done.key);
            }
            Verb::Get { file: f, path } => {
                let text = contents::get(f, &KeyPath::parse(path)?, &self.identities()?)?;
                print(text.as_bytes())?;
                if std::io::stdout().is_terminal() && !text.ends_with('\n') {
                    say!();
                }
            }
            Verb::Rekey { files, to, rebind, dry_run } => return self.rekey(files, to, *rebind, *dry_run),
            Verb::Recipients { change } => recipients::run(change.as_ref())?,
            Verb::WhoCanRead { files } => return recipients::who_can_read(files),
            Verb::Import { files, password_file, to, keep, dry_run } => {
                let passwords = import::Passwords::new(Arc::new(Asks));
                password_file.iter().try_for_each(|f| passwords.add_file(f))?;
                self.import(files, &passwords, to, *keep, *dry_run)?;
            }
            Verb::Textconv { file: f } => {
                // Without a key git shows what is in the file; it must not fail for that.
                let here = std::env::current_dir().ok();
                let nobody = || Arc::new(vault::NoPrompt);
                let ids = vault::Sources::from_env(self.identity.clone(), here.as_deref())
                    .and_then(|s| s.load(nobody()))
                    .or_else(|_| vault::Sources::default().load(nobody()))?;
                print(&contents::textconv(f, &ids)?)?;
            }
        }
        Ok(Exit::Done)
    }

    fn rekey(&self, files: &[PathBuf], to: &To, rebind: bool, dry_run: bool) -> Result<Exit> {
        let ids = self.identities()?;
        let files = if files.is_empty() { recipients::secrets()? } else { files.to_vec() };
        let (mut rewritten, mut failed) = (0, None);
        for f in &files {
            let how = rekey::How { recipients: self.given(f, to)?, rebind, dry_run };
            match rekey::rekey(f, &ids, &how) {
                Ok(done) => {
                    rewritten += done.rewritten;
                    let word = if dry_run { "would be encrypted again" } else { "encrypted again" };
                    let of = match done.rewritten + done.kept {
                        1 => String::new(),
                        n => format!(", {} of {n} values", done.rewritten),
                    };
                    if done.rewritten > 0 {
                        say!("{}: {word}{of}", f.display());
                    }
                }
                // Each file stands for itself: the others are brought along all the same.
                Err(e) if files.len() > 1 => {
                    complain(&e);
                    failed = failed.or(Some(f.clone()));
                }
                Err(e) => return Err(e),
            }
        }
        if files.is_empty() {
            say!("there are no secrets under the rules");
        } else if rewritten == 0 && failed.is_none() {
            say!("all {} are for their readers already", count(files.len(), "file"));
        }
        match failed {
            Some(f) => Err(Error::input(format!("{} and perhaps others could not be encrypted again", f.display()))
                .hint("The errors are above; what could be done is done.")),
            None if dry_run && rewritten > 0 => Ok(Exit::Changes),
            None => Ok(Exit::Done),
        }
    }

    fn import(
        &self,
        files: &[PathBuf],
        passwords: &import::Passwords,
        to: &To,
        keep: bool,
        dry_run: bool,
    ) -> Result<()> {
        let ids = self.identities()?;
        let (mut brought, mut failed) = (0, None);
        for given in files {
            let is_folder = given.is_dir();
            let inside = if is_folder { audit::files(given, &[]).found } else { vec![given.clone()] };
            for f in inside {
                let how = import::How { recipients: self.given(&f, to)?, keep, dry_run };
                let done = match import::import(&f, passwords, &ids, &how) {
                    Ok(done) => done,
                    // In a folder each file stands for itself: the others are brought over all the same.
                    Err(_) if is_folder && import::only_mentions(&f) => {
                        eprintln!("note: {} is passed over: it is no YAML", f.display());
                        continue;
                    }
                    Err(e) if is_folder => {
                        complain(&e);
                        failed = failed.or(Some(f));
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                let Some(done) = done else {
                    if !is_folder {
                        return Err(Error::input(format!(
                            "there is nothing of Ansible Vault or SOPS in {}",
                            f.display()
                        ))
                        .hint(
                            "Name a file that begins with $ANSIBLE_VAULT, one with `!vault` values, or a SOPS file.",
                        ));
                    }
                    continue;
                };
                brought += 1;
                let would = if dry_run { " (nothing was written)" } else { "" };
                match done.from {
                    import::From::AnsibleFile => say!("{} is {} now{would}", f.display(), done.path.display()),
                    import::From::AnsibleValues(n) | import::From::Sops(n) => {
                        say!("{}: {} brought over{would}", f.display(), count(n, "value"));
                    }
                }
                if done.typed > 0 {
                    eprintln!(
                        "note: {} of them were numbers or true/false; an `!age` value is text",
                        count(done.typed, "value")
                    );
                }
            }
        }
        if brought == 0 && failed.is_none() {
            say!("there is nothing to bring over");
        } else if !dry_run && brought > 0 {
            eprintln!("the old secrets are still in the history of git: change them if anyone had the old password");
        }
        match failed {
            Some(f) => Err(Error::input(format!("{} and perhaps others could not be brought over", f.display()))
                .hint("The errors are above; what could be done is done.")),
            None => Ok(()),
        }
    }

    fn identities(&self) -> Result<Identities> {
        let here = std::env::current_dir().ok();
        vault::Sources::from_env(self.identity.clone(), here.as_deref())?.load(Arc::new(Asks))
    }

    /// The recipients of the command line; where a rule says otherwise, that is said.
    fn given(&self, path: &Path, to: &To) -> Result<Option<Recipients>> {
        if to.passphrase {
            let ask = |q: &str| {
                rpassword::prompt_password(q).map_err(|e| Error::environment("cannot ask for a passphrase").because(e))
            };
            let first = ask("passphrase: ")?;
            if ask("once more: ")? != first {
                return Err(Error::input("the passphrases differ"));
            }
            return Ok(Some(Recipients::new([Recipient::passphrase(first.into(), None)?])?));
        }
        let mut all = vec![];
        for r in &to.recipient {
            all.push(Recipient::parse(r)?);
        }
        for f in &to.recipients_file {
            all.extend(Recipient::parse_file(f)?);
        }
        if all.is_empty() {
            return Ok(None);
        }
        recipients::against_the_rule(path, &all)?;
        Recipients::new(all).map(Some)
    }

    fn recipients(&self, path: &Path, to: &To) -> Result<(Recipients, file::Chosen)> {
        let given = self.given(path, to)?;
        if let Some(r) = given {
            return Ok((r, file::Chosen::Explicit));
        }
        file::recipients_for(path, None, &self.identities()?)
    }
}

/// Shows what is wrong with the rules that hold here, each with its place.
fn rules_are_wrong() -> bool {
    let Ok(dir) = std::env::current_dir() else { return false };
    let (_, found) = vault::rules::Rules::look(&dir);
    eprint!("{}", found.render(console::colors_enabled_stderr()));
    found.has_errors()
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::environment("cannot write to standard output").because(e))
        }
        _ => Ok(()),
    }
}

fn input() -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Error::environment("cannot read standard input").because(e).hint("A value is text in UTF-8."))?;
    Ok(text)
}

/// A value from the person at the terminal, or from standard input: of one line without the line's end, of several as it
/// is.
fn secret(key: &KeyPath) -> Result<Zeroizing<String>> {
    let text = if std::io::stdin().is_terminal() {
        let ask = |question: String| {
            rpassword::prompt_password(question)
                .map(Zeroizing::new)
                .map_err(|e| Error::environment("cannot ask for the value").because(e))
        };
        let first = ask(format!("{key}: "))?;
        if *ask("once more: ".into())? != *first {
            return Err(Error::input("the two differ").hint("Try again."));
        }
        first
    } else {
        let text = input()?;
        match text.strip_suffix('\n') {
            Some(line) if !line.contains('\n') => Zeroizing::new(line.trim_end_matches('\r').to_string()),
            _ => text,
        }
    };
    if text.is_empty() {
        return Err(
            Error::input("the value is empty").hint("Give it on standard input, or let one be made: --generate 24")
        );
    }
    Ok(text)
}

/// Says an error after which it goes on.
fn complain(e: &Error) {
    eprintln!("error: {e}");
    e.hint.iter().for_each(|h| eprintln!(" help: {h}"));
}

/// `1 file`, `2 files`.
fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
