//! Proving who we are: which keys, certificates and passwords are tried, in which order, and what came of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use russh::client::{AuthResult, Handle, Handler, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey, load_openssh_certificate};
use russh::{MethodKind, MethodSet};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::UnixStream;

use super::keys::{ASKING, KeyFile, KeyRing, Prompts};
use super::patience::Patience;

/// Where keys held by an agent come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AgentSocket {
    /// `SSH_AUTH_SOCK`, if set.
    #[default]
    Environment,
    /// This socket.
    Path(PathBuf),
    /// No agent.
    None,
}

/// What one connection may use to authenticate.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub user: String,
    /// Key files, in the order they are tried.
    pub keys: Vec<PathBuf>,
    /// Certificate files besides `<key>-cert.pub`.
    pub certificates: Vec<PathBuf>,
    /// Tried after the agent when `keys` is empty; missing files are passed over.
    pub default_keys: Vec<PathBuf>,
    /// Of an agent's keys, use those only that `keys` or `certificates` name.
    pub identities_only: bool,
    pub agent: AgentSocket,
    pub password: Option<SecretString>,
}

/// Why nobody let us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFailure {
    /// What was tried, in order, each with its outcome.
    pub tried: Vec<String>,
    /// The methods the server said it accepts; empty when it did not say.
    pub accepts: Vec<&'static str>,
    /// The connection ended before an answer.
    pub disconnected: bool,
}

/// With a password at hand, this many refused keys are enough: servers cut off after six failures by default.
const KEYS_BEFORE_PASSWORD: usize = 4;

/// Questions of a keyboard-interactive server answered before we give up on it.
const MAX_ROUNDS: usize = 10;

struct Agent {
    client: AgentClient<UnixStream>,
    identities: Vec<AgentIdentity>,
}

/// Everything an attempt needs besides the connection.
pub(super) struct Attempt<'a> {
    pub credentials: &'a Credentials,
    /// For questions put to the person.
    pub host: &'a str,
    pub ring: &'a KeyRing,
    pub prompts: &'a Arc<dyn Prompts>,
    /// Stopped while a person or an agent is being asked.
    pub patience: &'a Arc<Patience>,
    /// False when the host did not prove its identity: no password is sent then.
    pub may_send_password: bool,
}

/// Tries everything there is until the server is satisfied.
pub(super) async fn authenticate<H: Handler>(handle: &mut Handle<H>, attempt: Attempt<'_>) -> Result<(), AuthFailure> {
    let mut run = Run {
        handle,
        attempt,
        accepts: None,
        tried: Vec::new(),
        offered: HashSet::new(),
        refused_keys: 0,
        rsa_hash: None,
        password_sent: false,
        partly: false,
    };
    if run.all().await {
        return Ok(());
    }
    let disconnected = run.handle.is_closed();
    let accepts = run.accepts.iter().flat_map(|m| m.iter()).map(<&'static str>::from).collect();
    Err(AuthFailure { tried: run.tried, accepts, disconnected })
}

struct Run<'h, 'a, H: Handler> {
    handle: &'h mut Handle<H>,
    attempt: Attempt<'a>,
    /// What the server accepts next; None until it has told.
    accepts: Option<MethodSet>,
    tried: Vec<String>,
    /// Wire forms of the keys and certificates offered, so that none is offered twice.
    offered: HashSet<Vec<u8>>,
    refused_keys: usize,
    rsa_hash: Option<Option<HashAlg>>,
    password_sent: bool,
    /// The server accepted something and wants more.
    partly: bool,
}

/// What the server said to one offer.
enum Answer {
    Accepted,
    Refused,
    /// Accepted, and more is wanted.
    Partly,
    /// Nothing was decided by the server; the text says why.
    Failed(String),
}

impl Answer {
    fn text(&self) -> &str {
        match self {
            Answer::Accepted => "accepted",
            Answer::Refused => "refused",
            Answer::Partly => "accepted, but the server wants more",
            Answer::Failed(why) => why,
        }
    }
}

impl<H: Handler> Run<'_, '_, H> {
    async fn all(&mut self) -> bool {
        let credentials = self.attempt.credentials;
        let files = self.open(&credentials.keys, true);
        let usual = if credentials.keys.is_empty() { self.open(&credentials.default_keys, false) } else { Vec::new() };
        let certificates = self.certificates(files.iter().chain(&usual));

        // An agent is asked at once only where a key file alone may not do.
        let mut agent = None;
        let mut ready = true;
        for file in &files {
            ready &= file.is_open().await;
        }
        if !ready {
            agent = Some(self.agent().await);
        }
        for file in &files {
            if self.key_file(file, &certificates, agent.as_mut().and_then(Option::as_mut)).await {
                return true;
            }
        }
        if agent.is_none() && !self.enough_keys() {
            agent = Some(self.agent().await);
        }
        let mut agent = agent.flatten();
        if let Some(agent) = &mut agent
            && self.agent_keys(agent, files.iter().chain(&usual), &certificates).await
        {
            return true;
        }
        for file in &usual {
            if self.key_file(file, &certificates, None).await {
                return true;
            }
        }
        if credentials.password.is_some() && !self.attempt.may_send_password {
            self.tried.push("password (not sent: the host's key is not the recorded one)".into());
        } else if self.password().await {
            return true;
        }
        if self.keyboard_interactive().await {
            return true;
        }
        if self.accepts.is_none() && !self.handle.is_closed() {
            return self.ask_what_is_accepted().await;
        }
        false
    }

    /// Asks to be let in for nothing, which makes the server say what it accepts. Some do let in: true then.
    async fn ask_what_is_accepted(&mut self) -> bool {
        if self.handle.is_closed() {
            return false;
        }
        let result = self.handle.authenticate_none(self.attempt.credentials.user.clone()).await;
        matches!(self.judge(result.map_err(|e| e.to_string())), Answer::Accepted)
    }

    /// Whether a method is worth trying: not ruled out by the server, and the connection is up.
    fn wants(&self, method: MethodKind) -> bool {
        !self.handle.is_closed() && self.accepts.as_ref().is_none_or(|m| m.contains(&method))
    }

    fn judge(&mut self, result: Result<AuthResult, String>) -> Answer {
        match result {
            Ok(AuthResult::Success) => Answer::Accepted,
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                if self.handle.is_closed() && remaining_methods.is_empty() {
                    return Answer::Failed("the server closed the connection".into());
                }
                self.accepts = Some(remaining_methods);
                self.partly |= partial_success;
                if partial_success { Answer::Partly } else { Answer::Refused }
            }
            Err(e) => Answer::Failed(e),
        }
    }

    fn open(&mut self, paths: &[PathBuf], named: bool) -> Vec<Arc<KeyFile>> {
        let mut files = Vec::new();
        for path in paths {
            match self.attempt.ring.open(path) {
                Ok(Some(file)) => files.push(file),
                Ok(None) if named => self.tried.push(format!("publickey {} (no such file)", path.display())),
                Ok(None) => {}
                Err(e) => self.tried.push(format!("publickey {} ({e})", path.display())),
            }
        }
        files
    }

    fn certificates<'f>(&mut self, files: impl Iterator<Item = &'f Arc<KeyFile>>) -> Vec<Certificate> {
        let mut all: Vec<_> = files.filter_map(|f| f.certificate.clone()).collect();
        for path in &self.attempt.credentials.certificates {
            match load_openssh_certificate(path) {
                Ok(certificate) => all.push(certificate),
                Err(e) => self.tried.push(format!("certificate {} ({e})", path.display())),
            }
        }
        all
    }

    async fn agent(&mut self) -> Option<Agent> {
        let path = match &self.attempt.credentials.agent {
            AgentSocket::None => return None,
            AgentSocket::Path(path) => path.clone(),
            AgentSocket::Environment => PathBuf::from(std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty())?),
        };
        let asked = async {
            let mut client = AgentClient::connect_uds(&path).await?;
            if let Some(binding) = self.handle.agent_session_binding() {
                // Needed for keys bound to a destination; other agents refuse it, which does no harm.
                let _ = client.bind_session(binding, false).await;
            }
            let identities = client.request_identities().await?;
            Ok::<_, russh::keys::Error>(Agent { client, identities })
        };
        match asked.await {
            Ok(agent) => Some(agent),
            Err(e) => {
                self.tried.push(format!("agent {} ({e})", path.display()));
                None
            }
        }
    }

    /// The hash to sign with, for RSA keys: asked of the server once. None in the result: SHA-1 only.
    async fn hash_for(&mut self, algorithm: &Algorithm) -> Result<Option<HashAlg>, String> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        if self.rsa_hash.is_none() {
            self.rsa_hash = Some(match self.handle.best_supported_rsa_hash().await {
                Ok(Some(best)) => best,
                // The server does not say; SHA-256 is what most take.
                Ok(None) => Some(HashAlg::Sha256),
                Err(e) => return Err(e.to_string()),
            });
        }
        match self.rsa_hash.flatten() {
            Some(hash) => Ok(Some(hash)),
            None => Err("the server takes RSA with SHA-1 only".into()),
        }
    }

    /// Whether to stop offering keys.
    fn enough_keys(&self) -> bool {
        !self.wants(MethodKind::PublicKey)
            || (self.attempt.credentials.password.is_some() && self.refused_keys >= KEYS_BEFORE_PASSWORD)
    }

    /// Offers a key file: its certificates first, then the key itself, signed for by the agent if that holds it.
    async fn key_file(&mut self, file: &Arc<KeyFile>, certificates: &[Certificate], agent: Option<&mut Agent>) -> bool {
        if self.enough_keys() {
            return false;
        }
        let label = format!("publickey {}", file.path.display());
        let public = match &file.public {
            Some(public) => public.clone(),
            // Formats that hide the public half: the passphrase has to come first.
            None => {
                let _paused = self.attempt.patience.pause();
                match file.unlock(self.attempt.prompts).await {
                    Ok(key) => key.public_key().clone(),
                    Err(e) => {
                        self.tried.push(format!("{label} ({e})"));
                        return false;
                    }
                }
            }
        };
        let agent = agent.filter(|a| a.identities.iter().any(|i| i.public_key().key_data() == public.key_data()));
        if agent.is_none() && !file.has_private().await {
            self.tried.push(format!("{label} (the private key is neither here nor in an agent)"));
            return false;
        }
        let mut hand = match agent {
            Some(agent) => Hand::Agent { agent: &mut agent.client, patience: self.attempt.patience.clone() },
            None => Hand::File {
                file: file.clone(),
                prompts: self.attempt.prompts.clone(),
                patience: self.attempt.patience.clone(),
            },
        };
        let own = file.certificate.iter();
        for certificate in own.chain(certificates) {
            if certificate.public_key() == public.key_data() {
                let answer = self.offer(AgentIdentity::from(certificate.clone()), &mut hand).await;
                if self.note(&format!("{label} with certificate {:?}", certificate.key_id()), answer) {
                    return true;
                }
            }
        }
        let answer = self.offer(AgentIdentity::from(public), &mut hand).await;
        self.note(&label, answer)
    }

    async fn agent_keys<'f>(
        &mut self,
        agent: &mut Agent,
        files: impl Iterator<Item = &'f Arc<KeyFile>>,
        certificates: &[Certificate],
    ) -> bool {
        let mut identities = std::mem::take(&mut agent.identities);
        if self.attempt.credentials.identities_only {
            let named: Vec<_> = files.filter_map(|f| f.public.as_ref()).collect();
            identities.retain(|i| {
                let key = i.public_key();
                named.iter().any(|p| p.key_data() == key.key_data())
                    || certificates.iter().any(|c| c.public_key() == key.key_data())
            });
        }
        let mut hand = Hand::Agent { agent: &mut agent.client, patience: self.attempt.patience.clone() };
        let (mut refused, mut failed) = (0, Vec::new());
        let mut accepted = false;
        for identity in identities {
            let mut offers: Vec<AgentIdentity> = Vec::new();
            if let AgentIdentity::PublicKey { key, .. } = &identity {
                let fitting = certificates.iter().filter(|c| c.public_key() == key.key_data());
                offers.extend(fitting.cloned().map(AgentIdentity::from));
            }
            let comment = identity.comment().to_owned();
            offers.push(identity);
            for offer in offers {
                if self.enough_keys() {
                    break;
                }
                match self.offer(offer, &mut hand).await {
                    None => {}
                    Some(Answer::Accepted) => accepted = true,
                    Some(Answer::Refused) => {
                        refused += 1;
                        self.refused_keys += 1;
                    }
                    Some(other) => failed.push(format!("{comment}: {}", other.text())),
                }
                if accepted {
                    return true;
                }
            }
        }
        match refused {
            0 => {}
            1 => self.tried.push("agent: 1 key (refused)".into()),
            n => self.tried.push(format!("agent: {n} keys (refused)")),
        }
        self.tried.extend(failed.into_iter().map(|f| format!("agent: {f}")));
        false
    }

    /// Notes what came of an offer; true when it let us in.
    fn note(&mut self, label: &str, answer: Option<Answer>) -> bool {
        match answer {
            None => return false,
            Some(Answer::Accepted) => return true,
            Some(Answer::Refused) => self.refused_keys += 1,
            Some(_) => {}
        }
        if let Some(answer) = answer {
            self.tried.push(format!("{label} ({})", answer.text()));
        }
        false
    }

    /// Offers one key or certificate; None when it was offered before.
    async fn offer(&mut self, identity: AgentIdentity, hand: &mut Hand<'_>) -> Option<Answer> {
        let wire = match &identity {
            AgentIdentity::PublicKey { key, .. } => key.to_bytes(),
            AgentIdentity::Certificate { certificate, .. } => certificate.to_bytes(),
        };
        if !self.offered.insert(wire.unwrap_or_default()) {
            return None;
        }
        let hash = match self.hash_for(&identity.public_key().algorithm()).await {
            Ok(hash) => hash,
            Err(e) => return Some(Answer::Failed(e)),
        };
        let user = self.attempt.credentials.user.clone();
        let result = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                self.handle
                    .authenticate_publickey_with(user, PublicKey::new(key.key_data().clone(), ""), hash, hand)
                    .await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                self.handle.authenticate_certificate_with(user, certificate, hash, hand).await
            }
        };
        Some(self.judge(result.map_err(|e| e.0)))
    }

    async fn password(&mut self) -> bool {
        let Some(password) = &self.attempt.credentials.password else { return false };
        // It is sent once, so the server has to say first which way it wants it.
        if self.accepts.is_none() && self.ask_what_is_accepted().await {
            return true;
        }
        if !self.wants(MethodKind::Password) {
            return false;
        }
        self.password_sent = true;
        let user = self.attempt.credentials.user.clone();
        let result = self.handle.authenticate_password(user, password.expose_secret()).await;
        let answer = self.judge(result.map_err(|e| e.to_string()));
        self.note("password", Some(answer))
    }

    /// The password answers the first hidden question, unless it was sent before; the person answers all others.
    async fn keyboard_interactive(&mut self) -> bool {
        if !self.wants(MethodKind::KeyboardInteractive) {
            return false;
        }
        let has_password = self.attempt.credentials.password.is_some() && self.attempt.may_send_password;
        if !self.partly && (!has_password || self.password_sent) {
            // Without a password there is nothing to say to a first question; a refused one is not sent again.
            return false;
        }
        let label = "keyboard-interactive";
        let user = self.attempt.credentials.user.clone();
        let mut response = self.handle.authenticate_keyboard_interactive_start(user, None).await;
        for _ in 0..MAX_ROUNDS {
            let questions = match response {
                Ok(KeyboardInteractiveAuthResponse::Success) => return true,
                Ok(KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success }) => {
                    let answer = self.judge(Ok(AuthResult::Failure { remaining_methods, partial_success }));
                    return self.note(label, Some(answer));
                }
                Ok(KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. }) => prompts,
                Err(e) => {
                    self.tried.push(format!("{label} ({e})"));
                    return false;
                }
            };
            let mut answers = Vec::new();
            for question in questions {
                match self.answer(question.prompt, question.echo, has_password).await {
                    Ok(answer) => answers.push(answer.expose_secret().to_owned()),
                    Err(question) => {
                        self.tried.push(format!("{label} (no answer to {:?})", question.trim()));
                        return false;
                    }
                }
            }
            response = self.handle.authenticate_keyboard_interactive_respond(answers).await;
        }
        self.tried.push(format!("{label} (gave up after {MAX_ROUNDS} questions)"));
        false
    }

    async fn answer(&mut self, question: String, echo: bool, has_password: bool) -> Result<SecretString, String> {
        if !echo
            && has_password
            && !self.password_sent
            && let Some(password) = &self.attempt.credentials.password
        {
            self.password_sent = true;
            return Ok(password.clone());
        }
        let _paused = self.attempt.patience.pause();
        let (prompts, host) = (self.attempt.prompts.clone(), self.attempt.host.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let _one_at_a_time = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = prompts.answer(&host, &question, echo);
            answer.ok_or(question)
        });
        asked.await.unwrap_or_else(|e| Err(e.to_string()))
    }
}

/// Signs for a key the server has said it accepts: so a passphrase is asked only where it helps.
enum Hand<'a> {
    File { file: Arc<KeyFile>, prompts: Arc<dyn Prompts>, patience: Arc<Patience> },
    Agent { agent: &'a mut AgentClient<UnixStream>, patience: Arc<Patience> },
}

struct SignError(String);

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        SignError("the connection was closed".into())
    }
}

impl russh::Signer for Hand<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        match self {
            Hand::Agent { agent, patience } => {
                // An agent may ask for a confirmation or a touch.
                let _paused = patience.pause();
                agent.sign_request(identity, hash, data).await.map_err(|e| SignError(format!("agent: {e}")))
            }
            Hand::File { file, prompts, patience } => {
                let key = {
                    let _paused = patience.pause();
                    file.unlock(prompts).await.map_err(SignError)?
                };
                let signature = sign(&key, hash, &data).map_err(SignError)?;
                signature.encode(&mut data).map_err(|e| SignError(e.to_string()))?;
                Ok(data)
            }
        }
    }
}

/// The signature in its wire form, without the length before it.
fn sign(key: &PrivateKey, hash: Option<HashAlg>, data: &[u8]) -> Result<Vec<u8>, String> {
    let signature = match key.key_data() {
        KeypairData::Rsa(rsa) => (rsa, hash).try_sign(data),
        _ => key.try_sign(data),
    };
    let mut wire = Vec::new();
    signature.map_err(|e| e.to_string())?.encode(&mut wire).map_err(|e| e.to_string())?;
    Ok(wire)
}

/// The key files OpenSSH tries when none is named.
pub(super) fn default_keys(home: &Path) -> Vec<PathBuf> {
    ["id_ed25519", "id_ecdsa", "id_rsa"].iter().map(|name| home.join(".ssh").join(name)).collect()
}
