//! Files that cross over: bodies that are too large for a request, and files of the host that come to this side.

use super::{Link, LinkError, Way};
use crate::action::{Action, Body, Fetch};
use crate::fetch::Fetched;
use crate::host::{Request, Staged};
use crate::probe::Output;
use crate::quote::shell_quote;
use crate::ssh;
use base64::Engine as _;
use sha2::Digest;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncRead;

/// From this size on (bytes) a file's body does not go through the shell.
const STAGE_FROM: usize = 1 << 20;
/// What goes through a shell at once where a file cannot go beside it.
const PIECE: usize = 4 << 20;
const PIECE_LIMIT: Duration = Duration::from_secs(600);

impl Link {
    /// Does what has to be done for actions before their request. Large bodies are brought over on a channel of their own,
    /// into files only the login can read; to a user who is neither the login nor root they go piece by piece through
    /// that user's shell. What fails here fails its action, when its turn comes.
    pub async fn stage(
        &mut self,
        user: &Option<String>,
        actions: &[Action],
    ) -> Result<HashMap<usize, Staged>, LinkError> {
        let mut staged = HashMap::new();
        let readable = user.as_deref().is_none_or(|u| u == "root");
        for (i, a) in actions.iter().enumerate() {
            let done = match a {
                Action::Put(p) => match &p.body {
                    Body::Bytes(b) if b.len() >= STAGE_FROM && readable && matches!(self.way, Way::Ssh(_)) => {
                        upload(self.connection()?, &b[..], b.len() as u64).await?
                    }
                    Body::Bytes(_) => continue,
                    Body::Download(d) => match self.downloads.get(d).await {
                        Ok(f) => self.bring(user, &f, readable).await?,
                        Err(e) => Staged::Failed(e.message),
                    },
                },
                Action::Fetch(f) => self.fetch(user, f).await?,
                Action::Script(_) | Action::Command(_) => continue,
            };
            let failed = matches!(done, Staged::Failed(_));
            staged.insert(i, done);
            if failed {
                break;
            }
        }
        Ok(staged)
    }

    async fn bring(&mut self, user: &Option<String>, f: &Fetched, readable: bool) -> Result<Staged, LinkError> {
        let here = |e: io::Error| Staged::Failed(format!("{}: {e}", f.path.display()));
        match (&self.way, readable) {
            (Way::Local(_), true) => match f.path.to_str() {
                Some(path) => Ok(Staged::File { path: path.to_string(), size: f.size, keep: true }),
                None => Ok(Staged::Failed(format!("the name of {} is not UTF-8", f.path.display()))),
            },
            (Way::Ssh(_), true) => match tokio::fs::File::open(&f.path).await {
                Ok(file) => upload(self.connection()?, file, f.size).await,
                Err(e) => Ok(here(e)),
            },
            (_, false) => match std::fs::File::open(&f.path) {
                Ok(file) => self.upload_in_pieces(user, file, f.size).await,
                Err(e) => Ok(here(e)),
            },
        }
    }

    fn connection(&self) -> Result<ssh::Connection, LinkError> {
        match &self.way {
            Way::Ssh(c) => Ok(c.clone()),
            Way::Local(_) => Err(LinkError::Lost("this machine needs no connection".into())),
        }
    }

    async fn upload_in_pieces(
        &mut self,
        user: &Option<String>,
        mut file: std::fs::File,
        size: u64,
    ) -> Result<Staged, LinkError> {
        let made = self
            .run(user, format!("umask 077; t={TEMP}; [ -w \"$t\" ] || t=/tmp; mktemp \"$t/.windlass.XXXXXXXX\""))
            .await?;
        let path = made.stdout.trim().to_string();
        if made.rc != 0 || path.is_empty() {
            return Ok(Staged::Failed(said("it cannot be brought over", &made.stderr)));
        }
        let q = shell_quote(&path);
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            piece.clear();
            let failed = match (&mut file).take(PIECE as u64).read_to_end(&mut piece) {
                Ok(0) => return Ok(Staged::File { path, size, keep: false }),
                Ok(_) => {
                    let out = self.run(user, format!("base64 -d >>{q} <<'.'\n{}.", coded(&piece))).await?;
                    (out.rc != 0).then(|| said("it cannot be brought over", &out.stderr))
                }
                Err(e) => Some(format!("reading it failed on this side: {e}")),
            };
            if let Some(why) = failed {
                self.run(user, format!("rm -f -- {q}")).await?;
                return Ok(Staged::Failed(why));
            }
        }
    }

    /// Brings a file of the host here, piece by piece through the user's shell: it may be readable for nobody else.
    async fn fetch(&mut self, user: &Option<String>, f: &Fetch) -> Result<Staged, LinkError> {
        let here = |e: io::Error| Ok(Staged::Failed(format!("{}: {e}", f.to.display())));
        let folder = f.to.parent().unwrap_or(Path::new("."));
        let made = std::fs::create_dir_all(folder).and_then(|()| tempfile::NamedTempFile::new_in(folder));
        let mut file = match made {
            Ok(t) => t,
            Err(e) => return here(e),
        };
        let mut digest = sha2::Sha256::default();
        for piece in 0..f.size.div_ceil(PIECE as u64) {
            let script = format!(
                "dd if={} bs={PIECE} skip={piece} count=1 iflag=fullblock status=none | base64",
                shell_quote(&f.path)
            );
            let out = self.run(user, script).await?;
            let text: String = out.stdout.split_ascii_whitespace().collect();
            let bytes = match base64::engine::general_purpose::STANDARD.decode(text) {
                Ok(b) if out.rc == 0 && !b.is_empty() => b,
                _ => return Ok(Staged::Failed(said(&format!("{} cannot be read whole", f.path), &out.stderr))),
            };
            digest.update(&bytes);
            if let Err(e) = file.write_all(&bytes) {
                return here(e);
            }
        }
        if crate::modules::hex(&digest.finalize()) != f.sha256 {
            return Ok(Staged::Failed(format!("{} changed while it was fetched; run again", f.path)));
        }
        let mode = std::fs::Permissions::from_mode(f.mode);
        let placed = file.as_file().set_permissions(mode).and_then(|()| file.as_file().sync_all());
        match placed.and_then(|()| file.persist(&f.to).map_err(|e| e.error)) {
            Ok(_) => Ok(Staged::Done),
            Err(e) => here(e),
        }
    }

    /// One script in the user's shell.
    async fn run(&mut self, user: &Option<String>, script: String) -> Result<Output, LinkError> {
        let actions = [Action::Script(script)];
        let request = Request { actions: &actions, ..Default::default() };
        let reply = self.request(user, &request, Some(PIECE_LIMIT)).await?;
        Ok(reply.outputs.into_iter().next().unwrap_or(Output { rc: 255, ..Default::default() }))
    }
}

/// Sends a body on a channel of its own.
async fn upload(c: ssh::Connection, body: impl AsyncRead + Send + Unpin, size: u64) -> Result<Staged, LinkError> {
    let out = c.upload(&receive(size), body).await.map_err(|e| LinkError::Lost(e.to_string()))?;
    // A login shell that greets on standard output: the path is the last line.
    let path = String::from_utf8_lossy(&out.stdout).trim().lines().last().unwrap_or_default().to_string();
    if !out.status.success() || path.is_empty() {
        return Ok(Staged::Failed(said("it cannot be brought over", &String::from_utf8_lossy(&out.stderr))));
    }
    Ok(Staged::File { path, size, keep: false })
}

const TEMP: &str = "${TMPDIR:-/var/tmp}";

fn said(what: &str, stderr: &str) -> String {
    match stderr.trim().lines().last() {
        Some(l) => format!("{what}: {l}"),
        None => what.to_string(),
    }
}

/// Bytes in base64, in lines.
fn coded(bytes: &[u8]) -> String {
    let mut lines = String::with_capacity(bytes.len() * 4 / 3 + bytes.len() / 500);
    for chunk in bytes.chunks(750) {
        base64::engine::general_purpose::STANDARD.encode_string(chunk, &mut lines);
        lines.push('\n');
    }
    lines
}

/// The command that takes a body of so many bytes into a file and says where it is. If it does not come whole (the
/// connection went, the disk is full), nothing of it stays there.
fn receive(size: u64) -> String {
    let script = format!(
        "umask 077; t=${{TMPDIR:-/var/tmp}}; [ -w \"$t\" ] || t=/tmp; f=$(mktemp \"$t/.windlass.XXXXXXXX\") || exit 1; \
         trap \"\" HUP PIPE; cat >\"$f\" && [ \"$(wc -c <\"$f\")\" -eq {size} ] && echo \"$f\" && exit 0; rm -f -- \"$f\"; exit 1"
    );
    format!("exec sh -c {}", shell_quote(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_does_not_come_whole_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let send = |body: &str| {
            let script = format!("printf {body} | {}", receive(5).trim_start_matches("exec "));
            let out =
                std::process::Command::new("sh").arg("-c").arg(script).env("TMPDIR", dir.path()).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(send("hel"), "");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let path = send("hello");
        assert_eq!(std::fs::read_to_string(path.trim()).unwrap(), "hello");
        assert_eq!(std::fs::metadata(path.trim()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
