//! The way to one host: one connection, and on it one shell for each user tasks act as.

mod carry;

use crate::error::Error;
use crate::fetch::Downloads;
use crate::host::{Reply, Request, Shell, ShellError, Streams};
use crate::inventory::connection::{Connection as Settings, HostKeys, Via};
use crate::probe::Probe;
use crate::quote::shell_quote;
use crate::ssh::{self, Connector, HostKeyPolicy, Overrides, SshConfig, Target};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the command line says about connections, for all hosts.
#[derive(Debug, Clone, Default)]
pub struct LinkOptions {
    pub user: Option<String>,
    pub private_keys: Vec<PathBuf>,
    pub accept_new_host_keys: bool,
    pub password: Option<SecretString>,
    pub become_password: Option<SecretString>,
    pub connect_timeout: Option<Duration>,
    /// Hold the host's lock as long as the connection lasts, in the name of this run (an apply does, a plan does not).
    pub lock: Option<String>,
    /// What is fetched on this side for hosts.
    pub downloads: Downloads,
}

/// An open way to a host.
pub struct Link {
    way: Way,
    /// The host's name in the inventory.
    name: String,
    /// Who logs in.
    pub login: String,
    become_password: Option<SecretString>,
    shells: HashMap<Option<String>, Shell>,
    lock: Option<String>,
    closed_round_trips: u64,
    /// sudo on this host insists on a terminal (`requiretty`).
    terminal: bool,
    downloads: Downloads,
}

enum Way {
    Ssh(ssh::Connection),
    Local(Vec<tokio::process::Child>),
}

/// How long it may take to end what is at work on a host.
const ENDING: Duration = Duration::from_secs(8);
/// How long a sudo may take to ask for its password or to let us in.
const SUDO_PATIENCE: Duration = Duration::from_secs(20);

impl Link {
    /// Connects. Nothing is run on the host yet.
    pub async fn open(
        settings: &Settings,
        options: &LinkOptions,
        config: &SshConfig,
        connector: &Connector,
    ) -> Result<Self, Error> {
        let become_password = options.become_password.clone().or_else(|| settings.becomes.password.clone());
        let (way, login) = match settings.via {
            Via::Local => (Way::Local(vec![]), own_user()),
            Via::Ssh => {
                let target = target(settings, options, config)?;
                let login = target.credentials.user.clone();
                (Way::Ssh(connector.connect(&target).await?), login)
            }
        };
        Ok(Link {
            name: settings.name.clone(),
            way,
            login,
            become_password,
            shells: HashMap::new(),
            lock: options.lock.clone(),
            closed_round_trips: 0,
            terminal: false,
            downloads: options.downloads.clone(),
        })
    }

    /// The shell key of a task's user: nobody becomes who they already are.
    pub fn user_key(&self, become_user: Option<&str>) -> Option<String> {
        become_user.filter(|u| *u != self.login).map(str::to_string)
    }

    /// Sends a request to a user's shell, opening it first where there is none.
    pub async fn request(
        &mut self,
        user: &Option<String>,
        request: &Request<'_>,
        limit: Option<Duration>,
    ) -> Result<Reply, LinkError> {
        match self.try_request(user, request, limit).await {
            // Nothing has run there yet.
            Err(LinkError::Refused(e))
                if e.message.starts_with(INSISTS) && !self.terminal && matches!(self.way, Way::Ssh(_)) =>
            {
                self.terminal = true;
                self.try_request(user, request, limit).await
            }
            r => r,
        }
    }

    async fn try_request(
        &mut self,
        user: &Option<String>,
        request: &Request<'_>,
        limit: Option<Duration>,
    ) -> Result<Reply, LinkError> {
        if !self.shells.contains_key(user) {
            let shell = self.shell(user.as_deref()).await?;
            self.shells.insert(user.clone(), shell);
        }
        let Some(shell) = self.shells.get_mut(user) else { return Err(LinkError::Lost("the shell is gone".into())) };
        let first = shell.round_trips() == 0;
        match shell.request(request, limit).await {
            Ok(r) => Ok(r),
            Err(e) => {
                if let Some(s) = self.shells.remove(user) {
                    self.closed_round_trips += s.round_trips();
                }
                let connection = match &self.way {
                    Way::Ssh(c) => Some(c.clone()),
                    Way::Local(_) => None,
                };
                Err(explain(e, user.as_deref(), first, connection, self.become_password.is_some()).await)
            }
        }
    }

    /// Ends what a user's shell is at work on, and the shell: what it holds on the host, the lock too, goes with it.
    pub async fn end(&mut self, user: &Option<String>) {
        let Some(process) = self.shells.get(user).and_then(Shell::process) else {
            self.shells.remove(user);
            return;
        };
        let probes = [Probe::Script(crate::host::ending(process))];
        let ending = async {
            let mut other = self.bare_shell(user.as_deref(), "").await?;
            let request = Request { probes: &probes, ..Default::default() };
            let ended = other.request(&request, Some(ENDING)).await;
            other.close().await;
            ended.map_err(|e| LinkError::Lost(format!("{e:?}")))
        };
        // A host that does not answer any more cannot be told.
        if let Ok(Err(e)) | Err(e) = tokio::time::timeout(ENDING, ending).await.map_err(|_| LinkError::TimedOut(ENDING))
        {
            tracing::debug!(?e, "what was at work could not be ended");
        }
        if let Some(s) = self.shells.remove(user) {
            self.closed_round_trips += s.round_trips();
        }
    }

    async fn shell(&mut self, user: Option<&str>) -> Result<Shell, LinkError> {
        let first = self
            .lock
            .as_ref()
            .map(|run| {
                // A session of another name for this machine may share it; one of this name that is not over yet (a
                // connection that was lost) may not.
                format!("w_mine={}\n{LOCK}", shell_quote(&format!("{run} {}", self.name.replace(' ', "_"))))
            })
            .unwrap_or_default();
        self.bare_shell(user, &first).await
    }

    /// A shell that begins with these commands.
    async fn bare_shell(&mut self, user: Option<&str>, first: &str) -> Result<Shell, LinkError> {
        let mark = format!("windlass-{}-", crate::host::nonce());
        let asks = user.is_some() && self.become_password.is_some();
        if let (true, Way::Ssh(c)) = (asks, &self.way)
            && !c.may_send_password()
        {
            return Err(LinkError::Refused(
                Error::unreachable("sudo's password is not sent: the host's key is another than the recorded one")
                    .hint("someone may be in between; check the key and correct known_hosts"),
            ));
        }
        let terminal = self.terminal && user.is_some();
        let command = match user {
            None => "exec sh".to_string(),
            Some(u) => sudo(u, &mark, asks, terminal),
        };
        let mut streams = self.start(&command, terminal).await?;
        if let Some(u) = user.filter(|_| asks || terminal) {
            let password = self.become_password.clone();
            come_in(&mut streams, &mark, u, password.as_ref()).await?;
        }
        Ok(Shell::new(streams, first))
    }

    async fn start(&mut self, command: &str, terminal: bool) -> Result<Streams, LinkError> {
        match &mut self.way {
            Way::Ssh(c) => {
                let exec = match terminal {
                    true => c.open_terminal_channel(command).await,
                    false => c.open_shell_channel(command).await,
                };
                let exec = exec.map_err(|e| {
                    if e.kind == crate::error::Kind::Unreachable {
                        LinkError::Lost(e.to_string())
                    } else {
                        LinkError::Refused(e)
                    }
                })?;
                Ok(Streams {
                    stdin: Box::pin(exec.stdin),
                    stdout: Box::pin(exec.stdout),
                    stderr: Box::pin(exec.stderr),
                })
            }
            Way::Local(children) => {
                let mut child = tokio::process::Command::new("sh")
                    .arg("-c")
                    .arg(command)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .process_group(0)
                    .spawn()
                    .map_err(|e| {
                        LinkError::Refused(Error::unreachable("cannot start sh on this machine").because(e))
                    })?;
                let (Some(i), Some(o), Some(e)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
                    return Err(LinkError::Refused(Error::internal("a child without pipes")));
                };
                children.push(child);
                Ok(Streams { stdin: Box::pin(i), stdout: Box::pin(o), stderr: Box::pin(e) })
            }
        }
    }

    /// Ends the shells of those tasks became, but for root's and that of the one at work: an account's groups, number and
    /// home are those of its login, and one that is logged in cannot be removed.
    pub async fn log_out_others(&mut self, at_work: &Option<String>) {
        let other = |u: &&Option<String>| *u != at_work && u.as_deref().is_some_and(|u| u != "root");
        let others: Vec<Option<String>> = self.shells.keys().filter(other).cloned().collect();
        for user in others {
            if let Some(s) = self.shells.remove(&user) {
                self.closed_round_trips += s.round_trips();
                s.close().await;
            }
        }
    }

    /// Requests answered on all shells.
    pub fn round_trips(&self) -> u64 {
        self.closed_round_trips + self.shells.values().map(Shell::round_trips).sum::<u64>()
    }

    /// Ends the shells in order, then the connection.
    pub async fn close(mut self) {
        for (_, s) in self.shells.drain() {
            s.close().await;
        }
        match self.way {
            Way::Ssh(c) => c.disconnect().await,
            Way::Local(children) => {
                for mut c in children {
                    let _ = tokio::time::timeout(Duration::from_secs(2), c.wait()).await;
                }
            }
        }
    }
}

async fn explain(
    e: ShellError,
    user: Option<&str>,
    first: bool,
    connection: Option<ssh::Connection>,
    password: bool,
) -> LinkError {
    match e {
        ShellError::TimedOut(d) => LinkError::TimedOut(d),
        ShellError::Garbled(m) => {
            let e = Error::unreachable(&m);
            LinkError::Refused(if m.starts_with(LOCKED) {
                e.hint(LOCKED_HELP)
            } else if m.starts_with(NOT_OURS) {
                e.hint(NOT_OURS_HELP)
            } else {
                e
            })
        }
        ShellError::Ended { stderr } => {
            if let (true, Some(u)) = (first, user) {
                return LinkError::Refused(sudo_error(&stderr, u, password));
            }
            if let Some(c) = connection
                && c.is_closed()
            {
                return LinkError::Lost(c.closed().await.to_string());
            }
            if first {
                let said = if stderr.is_empty() { String::new() } else { format!(": {stderr}") };
                return LinkError::Refused(
                    Error::unreachable(format!("no shell could be started on the host{said}"))
                        .hint("the login needs a POSIX sh, and a login shell that can run `exec sh`"),
                );
            }
            LinkError::Lost(if stderr.is_empty() { "the shell on the host ended".into() } else { stderr })
        }
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
pub enum LinkError {
    /// The host does not let us (password, lock, no shell): trying again is of no use.
    Refused(Error),
    /// The connection or the shell went away in the middle.
    Lost(String),
    TimedOut(Duration),
    /// The run was left, and what was at work on the host was ended.
    Left,
}

const INSISTS: &str = "sudo insists on a terminal (requiretty)";
const LOCKED: &str = "another apply is at work on this host";
const LOCKED_HELP: &str =
    "wait until it has ended; there, `fuser -v /run/windlass.lock /run/lock/windlass-*.lock` shows whose it is";
const NOT_OURS: &str = "the lock ";
const NOT_OURS_HELP: &str = "it is no file of the login's own: see who put it there, and remove it";

/// Only one apply works on a host at a time. The lock is held on a descriptor of the session's shell and goes away with
/// it, however that ends; sessions of one run (several names for one machine) share it. A run that was killed may still
/// be finishing its last request: it is given ten seconds. In a folder that everyone may write to, only a file of our
/// own is a lock: a link or a pipe that someone else put there would have us write elsewhere or wait for ever.
const LOCK: &str = r#"
w_lock=/run/windlass.lock
[ "$(id -u)" = 0 ] || w_lock=/run/lock/windlass-$(id -u).lock
if [ -w "${w_lock%/*}" ] && command -v flock >/dev/null 2>&1; then
  [ -e "$w_lock" ] || [ -L "$w_lock" ] || (umask 077; set -C; : >"$w_lock")
  if [ -L "$w_lock" ] || ! [ -f "$w_lock" ] || ! [ -O "$w_lock" ]; then
    w_m "broken the lock $w_lock on the host belongs to somebody else"
    w_m "end 1"
    exit 1
  fi
  if exec 9<"$w_lock"; then
    w_try=0
    until flock -n 9; do
      read -r w_run w_host <"$w_lock" && [ "$w_run" = "${w_mine% *}" ] && [ "$w_host" != "${w_mine##* }" ] && w_mine= && break
      w_try=$((w_try + 1))
      if [ "$w_try" -gt 100 ]; then
        w_m "broken another apply is at work on this host"
        w_m "end 1"
        exit 1
      fi
      sleep 0.1
    done
    [ -z "$w_mine" ] || echo "$w_mine" >"$w_lock"
  fi
fi 2>/dev/null
"#;

/// The command that becomes a user. Where sudo may ask for a password, or where it has a terminal, the shell behind it
/// says that it is there: nothing is sent before.
fn sudo(user: &str, mark: &str, asks: bool, terminal: bool) -> String {
    let user = shell_quote(user);
    let ready = format!("echo {mark}ready");
    let how = if asks { format!("-S -p {mark}password") } else { "-n".to_string() };
    if terminal {
        // Bytes are to come through as they are. The shell reads from a pipe and has no terminal of its own: else it
        // would be interactive, and what it runs could ask there. When it ends, so does what feeds it.
        let shell =
            format!("{ready}; s=; command -v setsid >/dev/null && s=setsid; cat | {{ $s sh 2>/dev/null; kill $$; }}");
        let outer = format!("stty raw -echo; exec sudo {how} -H -u {user} -- sh -c {}", shell_quote(&shell));
        return format!("exec sh -c {}", shell_quote(&outer));
    }
    match asks {
        true => format!("exec sudo {how} -H -u {user} -- sh -c {}", shell_quote(&format!("{ready}; exec sh"))),
        false => format!("exec sudo {how} -H -u {user} -- sh"),
    }
}

/// Waits until the shell behind sudo is there, and gives the password when it is asked for.
async fn come_in(
    streams: &mut Streams,
    mark: &str,
    user: &str,
    password: Option<&SecretString>,
) -> Result<(), LinkError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (mut a, mut b) = ([0u8; 512], [0u8; 512]);
    let prompt = format!("{mark}password");
    let ready = format!("{mark}ready\n");
    let mut given = false;
    let mut err_open = true;
    let talk = async {
        loop {
            tokio::select! {
                n = streams.stdout.read(&mut a) => match n {
                    Ok(n) if n > 0 => out.extend_from_slice(&a[..n]),
                    _ => break,
                },
                n = streams.stderr.read(&mut b), if err_open => match n {
                    Ok(n) if n > 0 => err.extend_from_slice(&b[..n]),
                    _ => err_open = false,
                },
            }
            if String::from_utf8_lossy(&out).contains(&ready) {
                return Ok(());
            }
            // With a terminal both are one.
            let asked = [&out, &err].iter().map(|t| String::from_utf8_lossy(t).matches(&prompt).count()).sum();
            // Asked again means refused. It is never given twice: accounts get locked that way.
            match (asked, given, password) {
                (0usize, ..) | (1, true, _) => {}
                (1, false, Some(password)) => {
                    given = true;
                    let line = zeroize::Zeroizing::new(format!("{}\n", password.expose_secret()));
                    if streams.stdin.write_all(line.as_bytes()).await.is_err() || streams.stdin.flush().await.is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        // Its last words may still be on their way.
        let last = async {
            while let Ok(n @ 1..) = streams.stderr.read(&mut b).await {
                err.extend_from_slice(&b[..n]);
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(300), last).await;
        Err(())
    };
    match tokio::time::timeout(SUDO_PATIENCE, talk).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(())) => {
            let said = if err.is_empty() { out } else { err };
            let said = String::from_utf8_lossy(&said).replace(&prompt, "");
            Err(LinkError::Refused(sudo_error(said.trim(), user, given)))
        }
        Err(_) => Err(LinkError::Refused(
            Error::unreachable(format!("sudo did not let us become {user} within {} s", SUDO_PATIENCE.as_secs()))
                .hint("does it ask for something else than a password?"),
        )),
    }
}

fn sudo_error(stderr: &str, user: &str, password_given: bool) -> Error {
    let has = |w: &str| stderr.contains(w);
    if has("must have a tty") {
        return Error::unreachable(format!("{INSISTS} for becoming {user}"))
            .hint("the host has `Defaults requiretty` and gives no terminal: take one of the two away, in sudoers or sshd_config");
    }
    if has("a password is required") || has("a terminal is required") {
        if password_given {
            return Error::unreachable(format!("sudo refused the password for becoming {user}"))
                .hint("it was tried once and not again; check -K or ansible_become_password");
        }
        return Error::unreachable(format!("sudo wants a password for becoming {user}"))
            .hint("give it with -K (asks), or as ansible_become_password in the vault");
    }
    if password_given && (has("Sorry, try again") || has("incorrect password") || stderr.is_empty()) {
        return Error::unreachable(format!("sudo refused the password for becoming {user}"))
            .hint("it was tried once and not again; check -K or ansible_become_password");
    }
    if has("not found") {
        return Error::unreachable(format!("there is no sudo on the host, which becoming {user} needs"))
            .hint("install sudo there, or log in as that user");
    }
    if has("not in the sudoers") || has("not allowed to") || has("may not run sudo") {
        return Error::unreachable(format!("the login may not become {user}: {}", last_line(stderr)));
    }
    Error::unreachable(format!(
        "cannot become {user}: {}",
        if stderr.is_empty() { "sudo ended" } else { last_line(stderr) }
    ))
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or(text)
}

fn own_user() -> String {
    if rustix::process::geteuid().is_root() {
        return "root".into();
    }
    std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| rustix::process::geteuid().as_raw().to_string())
}

fn target(s: &Settings, o: &LinkOptions, config: &SshConfig) -> Result<Target, Error> {
    let policy = if o.accept_new_host_keys {
        Some(HostKeyPolicy::AcceptNew)
    } else {
        s.host_keys.map(|h| match h {
            HostKeys::Strict => HostKeyPolicy::Strict,
            HostKeys::AcceptNew => HostKeyPolicy::AcceptNew,
            HostKeys::Off => HostKeyPolicy::Off,
        })
    };
    let mut keys = o.private_keys.clone();
    keys.extend(s.private_key_file.clone());
    let known: Vec<PathBuf> = s.known_hosts.iter().chain(&s.user_known_hosts).cloned().collect();
    let jumps = match s.proxy_jump.as_deref() {
        None => None,
        Some("none") => Some(vec![]),
        Some(list) => Some(
            list.split(',')
                .map(|h| ssh::config::Hop::parse(h.trim()))
                .collect::<Result<Vec<_>, String>>()
                .map_err(|e| Error::input(format!("{}: the jump host `{list}`: {e}", s.name)))?,
        ),
    };
    let overrides = Overrides {
        jumps,
        identities_only: s.identities_only.then_some(true),
        name: Some(s.name.clone()),
        user: o.user.clone().or_else(|| s.user.clone()),
        port: s.port,
        keys,
        password: o.password.clone().or_else(|| s.password.clone()),
        known_hosts: (!known.is_empty()).then_some(known),
        host_key_policy: policy,
        connect_timeout: o.connect_timeout,
        ..Overrides::default()
    };
    Target::resolve(config, &s.host, &overrides)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    /// Runs the lock's script with its folders moved below `run`.
    fn lock(run: &Path) -> String {
        let script = LOCK.replace("/run/windlass.lock", &format!("{}/windlass.lock", run.display()));
        let script = format!("w_m() {{ echo \"$*\"; }}\nw_mine='r1 h'\n{script}\necho locked");
        let out = std::process::Command::new("timeout").args(["5", "sh", "-c", &script]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    #[test]
    fn a_lock_is_a_file_of_our_own() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("windlass.lock");
        assert_eq!(lock(dir.path()), "locked\n");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "r1 h\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "nobody else can hold it");

        std::fs::remove_file(&file).unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        symlink(&victim, &file).unwrap();
        assert!(lock(dir.path()).starts_with("broken the lock "));
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");

        std::fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        assert!(lock(dir.path()).starts_with("broken the lock "), "a pipe holds nobody up");
    }
}
