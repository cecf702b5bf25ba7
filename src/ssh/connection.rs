//! Connecting to a host and running commands on it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Handle, Handler, Msg, Session};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure, Disconnect, Preferred, cipher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};

use super::auth::{self, Attempt, AuthFailure};
use super::channel::{self, Exec, ExecStdin, ExitStatus};
use super::keys::{KeyRing, NoPrompts, Prompts};
use super::known_hosts::{HostKeys, Rejection, Verdict};
use super::patience::Patience;
use super::stream::{self, ByteStream, Guarded};
use super::target::Target;
use crate::error::{Error, Result};

/// Channels with a command at a time; sshd allows 10 by default.
const MAX_SESSIONS: usize = 8;
/// The longest pause between attempts to open a channel; all of them together take twice as long.
const OPEN_PATIENCE: Duration = Duration::from_secs(1);
/// Handshakes repeated when the server drops the connection before authentication.
const HANDSHAKE_RETRIES: u32 = 3;
/// How long a failed ProxyCommand may take to close its stderr.
const PROXY_LAST_WORDS: Duration = Duration::from_millis(300);
/// Bytes a command may send before we grant more. Twice this is what a connection can have in flight per channel.
const WINDOW: u32 = 1024 * 1024;
/// Bytes of each output stream [`Connection::run`] collects.
pub const RUN_LIMIT: usize = 64 * 1024 * 1024;
/// Bytes read and sent at a time by [`Connection::upload`].
const UPLOAD_CHUNK: usize = 256 * 1024;

/// Makes connections. One per process: it knows the keys already opened and the jump hosts already reached.
pub struct Connector {
    ring: KeyRing,
    prompts: Arc<dyn Prompts>,
    /// Connections to jump hosts, shared by all that go through them as long as one of those lives.
    hops: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Hop>>>>,
}

#[derive(Default)]
struct Hop {
    connection: Weak<Inner>,
    /// When it could not be reached, and the error's message and hint.
    failed: Option<(Instant, String, Option<String>)>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Default for Connector {
    fn default() -> Self {
        Connector::new(Arc::new(NoPrompts))
    }
}

/// A connection that is authenticated. Clones share it; it closes when the last clone and the last command are gone.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    handle: Handle<Client>,
    place: String,
    life: watch::Receiver<Option<String>>,
    sessions: Arc<Semaphore>,
    unread_limit: usize,
    /// The host showed another key than the recorded one, and was taken all the same.
    unproved: bool,
    /// The jump host's connection, which must outlive this one.
    _via: Option<Connection>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.0.place).finish()
    }
}

/// What a finished command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Connects without sharing keys or jump hosts with other connections. See [`Connector::connect`].
pub async fn connect(target: &Target, prompts: Arc<dyn Prompts>) -> Result<Connection> {
    Connector::new(prompts).connect(target).await
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Connector {
    pub fn new(prompts: Arc<dyn Prompts>) -> Self {
        Connector { ring: KeyRing::default(), prompts, hops: Mutex::default() }
    }

    /// Connects and authenticates. Errors are of the kind unreachable and name `host:port` and the hops.
    pub async fn connect(&self, target: &Target) -> Result<Connection> {
        let via = match &target.jump {
            Some(jump) => Some(self.hop(jump).await.map_err(|mut e| {
                e.message = format!("{} (jump host of {}:{})", e.message, target.host, target.port);
                e
            })?),
            None => None,
        };
        let patience = Arc::new(Patience::new());
        let stage = Mutex::new("connecting");
        match patience.within(target.connect_timeout, self.establish(target, via, &patience, &stage)).await {
            Some(result) => result,
            None => {
                let stage = *stage.lock().unwrap_or_else(PoisonError::into_inner);
                let text = format!(
                    "{}: timed out after {} s while {stage}",
                    target.place(),
                    target.connect_timeout.as_secs_f32()
                );
                Err(Error::unreachable(text).hint(match stage {
                    "connecting" => NOBODY_THERE,
                    _ => "something takes connections there and does not answer as an sshd does; -T gives it more time",
                }))
            }
        }
    }

    /// The connection to a jump host, shared.
    fn hop<'a>(&'a self, target: &'a Target) -> Boxed<'a, Result<Connection>> {
        Box::pin(async move {
            let key = format!("{}@{} {:?}", target.credentials.user, target.place(), target.proxy_command);
            let slot = self.hops.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
            let asked = Instant::now();
            let mut slot = slot.lock().await;
            if let Some(inner) = slot.connection.upgrade()
                && !inner.handle.is_closed()
            {
                return Ok(Connection(inner));
            }
            // All who waited for one attempt share its failure: else each would take its time to fail in turn.
            if let Some((at, message, hint)) = &slot.failed
                && *at > asked
            {
                return Err(Error { hint: hint.clone(), ..Error::unreachable(message) });
            }
            match self.connect(target).await {
                Ok(connection) => {
                    *slot = Hop { connection: Arc::downgrade(&connection.0), failed: None };
                    Ok(connection)
                }
                Err(e) => {
                    slot.failed = Some((Instant::now(), e.message.clone(), e.hint.clone()));
                    Err(e)
                }
            }
        })
    }

    async fn establish(
        &self,
        target: &Target,
        via: Option<Connection>,
        patience: &Arc<Patience>,
        stage: &Mutex<&'static str>,
    ) -> Result<Connection> {
        let place = target.place();
        let at = |now| *stage.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let unreachable = |text: String| Error::unreachable(format!("{place}: {text}"));
        let host_keys = Arc::new(target.host_keys());
        let config = Arc::new(config(target, &host_keys));

        let mut tries = 0;
        let (mut handle, life, outcome) = loop {
            at("connecting");
            let (stream, said) =
                open_stream(target, via.as_ref()).await.map_err(|t| unreachable(t).hint(NOBODY_THERE))?;
            at("waiting for the SSH handshake");
            let (life_sender, life) = watch::channel(None);
            let outcome = Arc::new(Mutex::new(Outcome::default()));
            // As long as the keepalives would take to notice, or a minute without them.
            let patient = target.keepalive_interval * (target.keepalive_max + 1);
            let patient = if patient.is_zero() { Duration::from_secs(60) } else { patient };
            let stream = Guarded::new(stream, patient);
            let client = Client { host_keys: host_keys.clone(), outcome: outcome.clone(), life: life_sender };
            let error = match client::connect_stream(config.clone(), stream, client).await {
                Ok(handle) => break (handle, life, outcome),
                Err(e) => e,
            };
            // Closing the stream after a refusal may itself fail and hide it.
            let noted = outcome.lock().unwrap_or_else(PoisonError::into_inner).rejection.take();
            if let Some(rejection) = noted {
                let mut e = Error::from(rejection);
                e.message = format!("{place}: {}", e.message);
                return Err(e);
            }
            let Broken(error) = error;
            let said = match said {
                Some(said) => tokio::time::timeout(PROXY_LAST_WORDS, said).await.ok().and_then(Result::ok),
                None => None,
            };
            let said = said.unwrap_or_default();
            if !said.trim().is_empty() {
                return Err(unreachable(format!("{}; the ProxyCommand said: {}", explain(&error), said.trim())));
            }
            if !dropped_early(&error) {
                return Err(unreachable(explain(&error)));
            }
            if tries == HANDSHAKE_RETRIES {
                let text = format!("{} before authentication, {} times in a row", explain(&error), tries + 1);
                return Err(unreachable(text).hint("is it sshd that listens there, and does it let this machine in?"));
            }
            tries += 1;
            tokio::time::sleep(backoff(tries)).await;
        };

        at("authenticating");
        let verdict = outcome.lock().unwrap_or_else(PoisonError::into_inner).verdict;
        let attempt = Attempt {
            credentials: &target.credentials,
            host: &target.name,
            ring: &self.ring,
            prompts: &self.prompts,
            patience,
            may_send_password: verdict != Some(Verdict::Unproved),
        };
        if let Err(failure) = auth::authenticate(&mut handle, attempt).await {
            let reason = life.borrow().clone();
            let banner = std::mem::take(&mut outcome.lock().unwrap_or_else(PoisonError::into_inner).banner);
            return Err(auth_error(&place, target, &failure, reason.as_deref(), &banner));
        }
        Ok(Connection(Arc::new(Inner {
            handle,
            place,
            life,
            sessions: Arc::new(Semaphore::new(MAX_SESSIONS)),
            unread_limit: target.unread_limit,
            unproved: verdict == Some(Verdict::Unproved),
            _via: via,
        })))
    }
}

const NOBODY_THERE: &str =
    "is the host up, are address and port right, and does every firewall on the way let this machine through?";

async fn open_stream(
    target: &Target,
    via: Option<&Connection>,
) -> Result<(Box<dyn ByteStream>, Option<stream::Said>), String> {
    if let Some(via) = via {
        let channel = via
            .0
            .handle
            .channel_open_direct_tcpip(target.host.clone(), u32::from(target.port), "127.0.0.1", 0)
            .await
            .map_err(|e| match e {
                russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
                    "the jump host cannot connect to it".to_owned()
                }
                russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
                    "the jump host does not allow forwarding (AllowTcpForwarding)".to_owned()
                }
                e => format!("the jump host opened no channel: {}", explain(&e)),
            })?;
        return Ok((Box::new(channel.into_stream()), None));
    }
    if let Some(command) = &target.proxy_command {
        let (stream, said) = stream::proxy(command)?;
        return Ok((Box::new(stream), Some(said)));
    }
    Ok((Box::new(stream::tcp(&target.host, target.port).await?), None))
}

/// The host key algorithms we accept, best first. RSA with SHA-1 is not among them.
const HOST_KEY_ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

fn config(target: &Target, host_keys: &HostKeys) -> client::Config {
    let (key, host_key_certificates) = host_keys.preferred(&HOST_KEY_ALGORITHMS);
    client::Config {
        preferred: Preferred {
            key: Cow::Owned(key),
            host_key_certificates: Cow::Owned(host_key_certificates),
            // AES first: with its processor instructions it is the faster one for bulk data.
            cipher: Cow::Borrowed(&[
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
                cipher::AES_192_CTR,
                cipher::AES_128_CTR,
            ]),
            ..Preferred::default()
        },
        window_size: WINDOW,
        keepalive_interval: Some(target.keepalive_interval).filter(|i| !i.is_zero()),
        keepalive_max: target.keepalive_max as usize,
        inactivity_timeout: None,
        nodelay: true,
        ..client::Config::default()
    }
}

/// Whether the server hung up before saying anything of use, as one does that has too many handshakes going on.
fn dropped_early(e: &russh::Error) -> bool {
    match e {
        russh::Error::Disconnect | russh::Error::HUP => true,
        russh::Error::IO(e) => matches!(
            e.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::NotConnected
        ),
        _ => false,
    }
}

/// Longer each time, and never the same for two connections.
fn backoff(tries: u32) -> Duration {
    let base = 150u64 << tries;
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(base + random % base)
}

/// A russh error in plain words.
fn explain(e: &russh::Error) -> String {
    match e {
        russh::Error::Disconnect | russh::Error::HUP => "the server closed the connection".into(),
        russh::Error::IO(e) if e.kind() == io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        russh::Error::IO(e) if e.kind() == io::ErrorKind::ConnectionReset => "the connection was reset".into(),
        russh::Error::IO(e) => stream::strip_os_text(e),
        russh::Error::Version => "the server does not speak SSH 2".into(),
        russh::Error::NoCommonAlgo { kind, theirs, .. } => {
            let kind = match kind {
                russh::AlgorithmKind::Kex => "key exchange",
                russh::AlgorithmKind::Key => "host key",
                russh::AlgorithmKind::Cipher => "cipher",
                russh::AlgorithmKind::Compression => "compression",
                russh::AlgorithmKind::Mac => "MAC",
            };
            format!("no {kind} algorithm in common; the server offers {}", theirs.join(", "))
        }
        russh::Error::WrongServerSig => "the server could not prove that it owns its host key".into(),
        russh::Error::KeepaliveTimeout => "no answer to keepalives".into(),
        e => e.to_string(),
    }
}

fn auth_error(place: &str, target: &Target, failure: &AuthFailure, reason: Option<&str>, banner: &str) -> Error {
    let user = &target.credentials.user;
    let tried = if failure.tried.is_empty() { "nothing".to_owned() } else { failure.tried.join(", ") };
    let mut text = format!("{place}: cannot log in as {user:?}; tried: {tried}");
    if !failure.accepts.is_empty() {
        text.push_str(&format!("; the server accepts: {}", failure.accepts.join(", ")));
    }
    if failure.disconnected {
        text.push_str(&format!("; then {}", reason.unwrap_or("the server closed the connection")));
    }
    let banner = banner.trim();
    if !banner.is_empty() {
        text.push_str(&format!("; the server says: {}", banner.replace('\n', " / ")));
    }
    let hint = if failure.disconnected && failure.tried.len() > 1 {
        "too many keys may have been offered: name the one to use and set IdentitiesOnly"
    } else if failure.accepts == ["publickey"] {
        "the server takes keys only: put your public key into the user's authorized_keys, or name another key or user"
    } else {
        "check the user and the key; a password can be given too if the server accepts one"
    };
    Error::unreachable(text).hint(hint)
}

/// What the handshake left to be read by the one who waits for it.
#[derive(Default)]
struct Outcome {
    verdict: Option<Verdict>,
    rejection: Option<Rejection>,
    banner: String,
}

/// Banner text kept for messages, in bytes.
const BANNER_LIMIT: usize = 500;

/// Answers the server's side of the conversation.
struct Client {
    host_keys: Arc<HostKeys>,
    outcome: Arc<Mutex<Outcome>>,
    /// Why the connection ended. Dropped with this when it has, whatever the way.
    life: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Broken(russh::Error);

impl From<russh::Error> for Broken {
    fn from(e: russh::Error) -> Self {
        Broken(e)
    }
}

/// Refuses a channel the server wants to open: nothing was asked of it that needs one.
macro_rules! refuse_channels {
    ($($name:ident ( $($arg:ident : $type:ty),* );)*) => {
        $(async fn $name(
            &mut self, _: Channel<Msg>, $($arg: $type,)* reply: ChannelOpenHandle, _: &mut Session,
        ) -> Result<(), Broken> {
            $(let _ = $arg;)*
            drop(reply);
            Ok(())
        })*
    };
}

impl Handler for Client {
    type Error = Broken;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Broken> {
        let keys = self.host_keys.clone();
        let offered = match offered {
            PublicKeyOrCertificate::PublicKey { key, hash_alg } => {
                PublicKeyOrCertificate::PublicKey { key: key.clone(), hash_alg: *hash_alg }
            }
            PublicKeyOrCertificate::Certificate(c) => PublicKeyOrCertificate::Certificate(c.clone()),
        };
        // Reads files, and may wait for the lock of one.
        let checked = tokio::task::spawn_blocking(move || keys.check(&offered)).await;
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match checked {
            Ok(Ok(verdict)) => outcome.verdict = Some(verdict),
            Ok(Err(rejection)) => {
                outcome.rejection = Some(*rejection);
                return Ok(false);
            }
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Broken> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BANNER_LIMIT.saturating_sub(outcome.banner.len());
        outcome.banner.extend(banner.chars().filter(|c| *c == '\n' || !c.is_control()).take(room));
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Broken>) -> Result<(), Broken> {
        let (text, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                (format!("the server disconnected: {}", info.message.trim()), Ok(()))
            }
            DisconnectReason::Error(e) => (explain(&e.0), Err(e)),
        };
        self.life.send_replace(Some(text));
        result
    }

    refuse_channels! {
        server_channel_open_forwarded_tcpip(a: &str, b: u32, c: &str, d: u32);
        server_channel_open_forwarded_streamlocal(a: &str);
        server_channel_open_agent_forward();
        server_channel_open_session();
        server_channel_open_direct_tcpip(a: &str, b: u32, c: &str, d: u32);
        server_channel_open_direct_streamlocal(a: &str);
        server_channel_open_x11(a: &str, b: u32);
    }
}

impl channel::Owner for Connection {
    async fn loss(&self) -> Error {
        // The task that ends the connection ends the channels first, then tells why.
        let mut life = self.0.life.clone();
        let _ = tokio::time::timeout(Duration::from_secs(1), life.wait_for(Option::is_some)).await;
        self.lost()
    }

    fn place(&self) -> String {
        self.0.place.clone()
    }
}

impl Connection {
    /// `host:port`, and the hops; for messages.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    fn lost(&self) -> Error {
        let reason = self.0.life.borrow().clone();
        let text = reason.unwrap_or_else(|| "the connection was closed".into());
        Error::unreachable(format!("{}: connection lost: {text}", self.0.place))
    }

    fn wrap(&self, e: russh::Error) -> Error {
        if self.is_closed() {
            return self.lost();
        }
        match e {
            russh::Error::ChannelOpenFailure(_) => {
                Error::unreachable(format!("{}: the server opens no further session ({})", self.0.place, explain(&e)))
                    .hint("sshd's MaxSessions should be 10 or more")
            }
            e => Error::unreachable(format!("{}: {}", self.0.place, explain(&e))),
        }
    }

    /// Starts a command through the user's login shell, without a terminal. Does not wait for the server's answer: a
    /// refusal shows in [`Exec::exit`]. Waits while 8 commands are running on this connection.
    pub async fn open_shell_channel(&self, command: &str) -> Result<Exec> {
        self.open_exec(command, false).await
    }

    /// The same with a terminal, for commands that insist on one. Its settings are the host's: `stty` there changes them.
    pub async fn open_terminal_channel(&self, command: &str) -> Result<Exec> {
        self.open_exec(command, true).await
    }

    async fn open_exec(&self, command: &str, terminal: bool) -> Result<Exec> {
        let permit = self
            .0
            .sessions
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::internal("the sessions of a connection were closed"))?;
        let mut wait = Duration::from_millis(5);
        let channel = loop {
            match self.0.handle.channel_open_session().await {
                Ok(channel) => break channel,
                // sshd may count a session whose end it has just told us of for a moment longer.
                Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed)) if wait < OPEN_PATIENCE => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                Err(e) => return Err(self.wrap(e)),
            }
        };
        if terminal {
            // A server that gives none is not heard of here: what needs one says so itself.
            channel.request_pty(false, "dumb", 80, 24, 0, 0, &[]).await.map_err(|e| self.wrap(e))?;
        }
        channel.exec(true, command).await.map_err(|e| self.wrap(e))?;
        let (read, write) = channel.split();
        Ok(channel::start(read, write, self.clone(), self.0.unread_limit, permit))
    }

    /// Runs a command to its end and collects its output, at most [`RUN_LIMIT`] bytes of each stream. A non-zero
    /// exit is not an error; a command that leaves its stdin unread is none either.
    pub async fn run(&self, command: &str, stdin: Option<Bytes>) -> Result<Output> {
        let exec = self.open_shell_channel(command).await?;
        let feed = async |mut pipe: ExecStdin| {
            if let Some(body) = stdin {
                pipe.write_all(&body).await?;
            }
            pipe.shutdown().await
        };
        self.finish(exec, feed).await
    }

    /// Sends all that `reader` gives to a command's stdin and waits for the command's end. When reading fails or this
    /// future is dropped, the command sees the same end of input as after a whole body: it must check the length or
    /// the checksum itself before it puts the result in place.
    pub async fn upload(&self, command: &str, reader: impl AsyncRead + Send + Unpin) -> Result<Output> {
        let exec = self.open_shell_channel(command).await?;
        let mut failed = None;
        let feed = async |mut pipe: ExecStdin| {
            let mut reader = reader;
            let mut buf = vec![0; UPLOAD_CHUNK];
            loop {
                let n = match reader.read(&mut buf).await {
                    Ok(0) => return pipe.shutdown().await,
                    Ok(n) => n,
                    Err(e) => {
                        failed = Some(e);
                        return Ok(());
                    }
                };
                pipe.write_all(&buf[..n]).await?;
            }
        };
        let output = self.finish(exec, feed).await?;
        match failed {
            Some(e) => Err(Error::failed(format!("{}: reading what to upload failed", self.0.place)).because(e)),
            None => Ok(output),
        }
    }

    /// Feeds stdin and reads the output side by side; the output's end wins.
    async fn finish<F>(&self, exec: Exec, feed: F) -> Result<Output>
    where
        F: AsyncFnOnce(ExecStdin) -> io::Result<()>,
    {
        let Exec { stdin, stdout, stderr, exit } = exec;
        let mut output = Output { status: ExitStatus::Code(0), stdout: Vec::new(), stderr: Vec::new() };
        let read = async {
            let both = tokio::try_join!(collect(stdout, &mut output.stdout), collect(stderr, &mut output.stderr));
            match both {
                Ok(_) => exit.await.map(|status| output.status = status),
                Err(e) if e.kind() == io::ErrorKind::FileTooLarge => Err(Error::failed(format!(
                    "{}: the command wrote more than {} MiB",
                    self.0.place,
                    RUN_LIMIT / (1024 * 1024)
                ))),
                Err(_) => exit.await.and_then(|_| Err(self.lost())),
            }
        };
        {
            let (mut read, mut feed) = (Box::pin(read), Box::pin(feed(stdin)));
            tokio::select! {
                biased;
                done = &mut read => done?,
                _ = &mut feed => {
                    // Drops stdin, so that the command sees its end.
                    drop(feed);
                    read.await?;
                }
            }
        }
        Ok(output)
    }

    /// Whether a password may be sent over it: not where the host showed another key than the recorded one and is taken
    /// only because host keys are not checked.
    pub fn may_send_password(&self) -> bool {
        !self.0.unproved
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.0.handle.is_closed()
    }

    /// Resolves when the connection has ended, with the reason.
    pub async fn closed(&self) -> Error {
        let mut life = self.0.life.clone();
        // Ends in an error when the sender is gone, which tells the same.
        let _ = life.wait_for(Option::is_some).await;
        self.lost()
    }

    /// Tells the server goodbye. Commands still running lose their channel.
    pub async fn disconnect(&self) {
        // Failing means that it is closed already.
        let _ = self.0.handle.disconnect(Disconnect::ByApplication, "", "en").await;
    }
}

async fn collect(reader: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> io::Result<()> {
    reader.take(RUN_LIMIT as u64 + 1).read_to_end(into).await?;
    if into.len() > RUN_LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}
