//! `windlass vault`: secrets in files.

use super::Exit;
use super::project::Asks;
use crate::error::{Error, Result};
use crate::vault::{self, Identities, Recipient, Recipients, file};
use clap::{Args, Subcommand};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Encrypt standard input as a `!age` value for YAML.
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
    /// Show a file's plain text.
    View { file: PathBuf },
    /// Edit a file in $EDITOR; its plain text is kept in memory only.
    Edit {
        file: PathBuf,
        #[command(flatten)]
        to: To,
        /// Use a folder on disk where there is none in memory.
        #[arg(long)]
        allow_disk: bool,
    },
}

impl Vault {
    pub fn run(&self) -> Result<Exit> {
        match &self.verb {
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
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|e| Error::environment("cannot read standard input").because(e))?;
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
            Verb::View { file: f } => {
                let plain = file::view(f, &self.identities()?)?;
                let written = std::io::stdout().write_all(&plain);
                written.map_err(|e| Error::environment("cannot write to standard output").because(e))?;
            }
            Verb::Edit { file: f, to, allow_disk } => {
                let how = file::Edit {
                    recipients: self.given(to)?,
                    allow_disk: *allow_disk,
                    create: true,
                    ..Default::default()
                };
                let e = file::edit(f, &self.identities()?, &how)?;
                say!("{}", if e.changed { "encrypted again" } else { "nothing changed" });
            }
        }
        Ok(Exit::Done)
    }

    fn identities(&self) -> Result<Identities> {
        let here = std::env::current_dir().ok();
        vault::Sources::from_env(self.identity.clone(), here.as_deref())?.load(Arc::new(Asks))
    }

    fn given(&self, to: &To) -> Result<Option<Recipients>> {
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
        if all.is_empty() { Ok(None) } else { Recipients::new(all).map(Some) }
    }

    fn recipients(&self, path: &Path, to: &To) -> Result<(Recipients, file::Chosen)> {
        let given = self.given(to)?;
        if let Some(r) = given {
            return Ok((r, file::Chosen::Explicit));
        }
        file::recipients_for(path, None, &self.identities()?)
    }
}
