//! A server in this process, with the login rules a test asks for and a handful of commands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Response, Session};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Sig};
use tokio::net::{TcpListener, TcpStream};

/// Who gets in.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub key: Option<PublicKey>,
    /// Taken by the password method.
    pub password: Option<String>,
    /// Asked for, one after the other, by keyboard-interactive.
    pub questions: Vec<(String, String)>,
    /// The key alone is not enough: the questions follow.
    pub key_then_questions: bool,
    pub banner: Option<String>,
    /// Connections dropped before the first byte.
    pub drop_first: usize,
}

/// What happened, for tests to look at.
#[derive(Debug, Default)]
pub struct Seen {
    pub offers: usize,
    pub passwords: Vec<String>,
    pub connections: usize,
    pub closed_channels: usize,
}

pub struct Fake {
    pub port: u16,
    pub host_key: PrivateKey,
    pub seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub async fn start(rules: Rules) -> Fake {
        let host_key = super::new_key(Algorithm::Ed25519);
        Fake::start_with(rules, host_key, vec![]).await
    }

    pub async fn start_with(rules: Rules, host_key: PrivateKey, certificates: Vec<russh::keys::Certificate>) -> Fake {
        let mut methods = MethodSet::empty();
        if rules.key.is_some() {
            methods.push(MethodKind::PublicKey);
        }
        if rules.password.is_some() {
            methods.push(MethodKind::Password);
        }
        if !rules.questions.is_empty() && !rules.key_then_questions {
            methods.push(MethodKind::KeyboardInteractive);
        }
        let config = Arc::new(server::Config {
            keys: vec![host_key.clone()],
            certificates,
            methods,
            auth_rejection_time: Duration::from_millis(1),
            nodelay: true,
            ..server::Config::default()
        });
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = {
                    let mut seen = shared.lock().unwrap();
                    seen.connections += 1;
                    seen.connections
                };
                if count <= rules.drop_first {
                    continue;
                }
                let handler = Serve { rules: rules.clone(), seen: shared.clone(), asked: 0, stdin: HashMap::new() };
                let config = config.clone();
                tokio::spawn(async move {
                    if let Ok(session) = server::run_stream(config, stream, handler).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Fake { port, host_key, seen, task }
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }
}

struct Serve {
    rules: Rules,
    seen: Arc<Mutex<Seen>>,
    asked: usize,
    stdin: HashMap<ChannelId, String>,
}

impl Serve {
    fn question(&self) -> Auth {
        let (question, _) = &self.rules.questions[self.asked];
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Borrowed(""),
            prompts: Cow::Owned(vec![(Cow::Owned(question.clone()), false)]),
        }
    }
}

impl server::Handler for Serve {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(self.rules.banner.clone())
    }

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        self.seen.lock().unwrap().offers += 1;
        let known = self.rules.key.as_ref().is_some_and(|k| k.key_data() == offer.public_key.key_data());
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _: &str, _: server::VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        if self.rules.key_then_questions {
            return Ok(Auth::Reject {
                proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
                partial_success: true,
            });
        }
        Ok(Auth::Accept)
    }

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        self.seen.lock().unwrap().passwords.push(password.to_owned());
        Ok(if self.rules.password.as_deref() == Some(password) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            self.asked = 0;
            return Ok(self.question());
        };
        let given = String::from_utf8_lossy(&response.next().unwrap_or_default()).into_owned();
        self.seen.lock().unwrap().passwords.push(given.clone());
        if self.rules.questions[self.asked].1 != given {
            return Ok(Auth::reject());
        }
        self.asked += 1;
        Ok(if self.asked == self.rules.questions.len() { Auth::Accept } else { self.question() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        match TcpStream::connect((host, port as u16)).await {
            Ok(mut stream) => {
                reply.accept().await;
                tokio::spawn(async move {
                    let mut channel = channel.into_stream();
                    let _ = tokio::io::copy_bidirectional(&mut channel, &mut stream).await;
                });
            }
            Err(_) => reply.reject(russh::ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], s: &mut Session) -> Result<(), russh::Error> {
        let command = String::from_utf8_lossy(data).into_owned();
        if command == "refuse" {
            return s.channel_failure(id);
        }
        s.channel_success(id)?;
        match command.split_once(' ').unwrap_or((&command, "")) {
            ("both", code) => {
                s.data(id, b"to stdout".to_vec())?;
                s.extended_data(id, 1, b"to stderr".to_vec())?;
                s.exit_status_request(id, code.parse().unwrap_or(0))?;
                s.eof(id)?;
                s.close(id)?;
            }
            ("signal", _) => {
                s.exit_signal_request(id, Sig::TERM, false, "", "")?;
                s.close(id)?;
            }
            ("vanish", _) => s.close(id)?,
            ("yes", _) => {
                let handle = s.handle();
                tokio::spawn(async move {
                    while handle.data(id, vec![b'y'; 8192]).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                });
            }
            // Reads a little of stdin, then ends without the rest.
            ("head", _) | ("cat", _) => {}
            ("hang-up", _) => {
                s.disconnect(russh::Disconnect::ByApplication, "going down", "en")?;
            }
            _ => {}
        }
        self.stdin.insert(id, command);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], s: &mut Session) -> Result<(), russh::Error> {
        match self.stdin.get(&id).map(String::as_str) {
            Some("cat") => s.data(id, data.to_vec())?,
            Some("head") => {
                s.exit_status_request(id, 0)?;
                s.eof(id)?;
                s.close(id)?;
                self.stdin.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, s: &mut Session) -> Result<(), russh::Error> {
        if self.stdin.get(&id).is_some_and(|c| c == "cat") {
            s.exit_status_request(id, 0)?;
            s.eof(id)?;
            s.close(id)?;
        }
        Ok(())
    }

    async fn channel_close(&mut self, _: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.seen.lock().unwrap().closed_channels += 1;
        Ok(())
    }
}
