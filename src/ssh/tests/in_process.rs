//! Against the server in this process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::fake::{Fake, Rules};
use super::*;

struct Setup {
    dir: tempfile::TempDir,
    key: PrivateKey,
    fake: Fake,
    target: Target,
}

/// A server that takes one key, and a target that has it.
async fn setup(rules: Rules) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(Algorithm::Ed25519);
    let fake = Fake::start(Rules { key: Some(key.public_key().clone()), ..rules }).await;
    let mut target = local(fake.port, dir.path());
    target.credentials.keys = vec![write_key(dir.path(), "id", &key)];
    Setup { dir, key, fake, target }
}

async fn password_only(rules: Rules, given: Option<&str>) -> (Fake, tempfile::TempDir, Target) {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(rules).await;
    let mut target = local(fake.port, dir.path());
    target.credentials.password = given.map(SecretString::from);
    (fake, dir, target)
}

fn questions(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(q, a)| (q.to_string(), a.to_string())).collect()
}

/// Answers with fixed texts and counts.
#[derive(Default)]
struct Person {
    passphrase: Option<&'static str>,
    code: Option<&'static str>,
    asked: AtomicUsize,
}

impl Prompts for Person {
    fn passphrase(&self, _: &Path, _: bool) -> Option<SecretString> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.passphrase.map(SecretString::from)
    }
    fn answer(&self, _: &str, _: &str, _: bool) -> Option<SecretString> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.code.map(SecretString::from)
    }
}

#[tokio::test]
async fn key_exec_and_streams_apart() {
    let s = setup(Rules::default()).await;
    let c = dial(&s.target).await.unwrap();
    let out = c.run("both 7", None).await.unwrap();
    assert_eq!(out.status, ExitStatus::Code(7));
    assert_eq!((&out.stdout[..], &out.stderr[..]), (&b"to stdout"[..], &b"to stderr"[..]));
    assert_eq!(c.run("signal", None).await.unwrap().status, ExitStatus::Signal("TERM".into()));
    let e = c.run("vanish", None).await.unwrap_err();
    assert!(e.message.contains("without an exit status"), "{e}");
    let e = c.run("refuse", None).await.unwrap_err();
    assert!(e.message.contains("refuses to run commands"), "{e}");
    assert_eq!(s.fake.seen(|s| s.offers), 1);
}

#[tokio::test]
async fn stdin_of_any_size_goes_round() {
    let s = setup(Rules::default()).await;
    let c = dial(&s.target).await.unwrap();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let out = c.run("cat", Some(Bytes::from(body.clone()))).await.unwrap();
    assert!(out.stdout == body && out.status.success());
    let out = c.upload("cat", &body[..]).await.unwrap();
    assert!(out.stdout == body && out.status.success());
}

#[tokio::test]
async fn a_command_that_leaves_its_input_unread_does_not_hang_the_writer() {
    let s = setup(Rules::default()).await;
    let c = dial(&s.target).await.unwrap();
    let limit = Duration::from_secs(3);
    let body = Bytes::from(vec![0; 50_000_000]);
    let out = tokio::time::timeout(limit, c.run("head", Some(body.clone()))).await.unwrap().unwrap();
    assert!(out.status.success());
    let mut exec = c.open_shell_channel("head").await.unwrap();
    let written = tokio::time::timeout(limit, exec.stdin.write_all(&body)).await.unwrap();
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn unread_output_stops_only_its_own_channel() {
    let mut s = setup(Rules::default()).await;
    s.target.unread_limit = 4 * 1024 * 1024;
    let c = dial(&s.target).await.unwrap();
    let mut noisy = c.open_shell_channel("yes").await.unwrap();
    let quick = tokio::time::timeout(Duration::from_secs(3), async {
        for _ in 0..20 {
            assert_eq!(c.run("both", None).await.unwrap().stdout, b"to stdout");
        }
    });
    quick.await.unwrap();
    let e = tokio::time::timeout(Duration::from_secs(5), &mut noisy.exit).await.unwrap().unwrap_err();
    assert!(e.message.contains("more than 4 MiB of output were waiting"), "{e}");
    let mut kept = Vec::new();
    let e = noisy.stdout.read_to_end(&mut kept).await.unwrap_err();
    assert!(e.to_string().contains("waiting to be read"), "{e}");
    assert!(kept.len() > 3 * 1024 * 1024 && kept.iter().all(|b| *b == b'y'));
    assert!(!c.is_closed());
}

#[tokio::test]
async fn a_dropped_command_closes_its_channel_and_frees_its_place() {
    let s = setup(Rules::default()).await;
    let c = dial(&s.target).await.unwrap();
    for _ in 0..12 {
        drop(c.open_shell_channel("yes").await.unwrap());
    }
    assert!(c.run("both", None).await.unwrap().status.success());
    for _ in 0..100 {
        if s.fake.seen(|s| s.closed_channels) >= 12 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("only {} channels were closed", s.fake.seen(|s| s.closed_channels));
}

#[tokio::test]
async fn password() {
    let rules = Rules { password: Some("pw".into()), ..Rules::default() };
    let (fake, _dir, target) = password_only(rules, Some("pw")).await;
    dial(&target).await.unwrap();
    assert_eq!(fake.seen(|s| s.passwords.clone()), ["pw"]);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let rules =
        Rules { password: Some("pw".into()), questions: questions(&[("Password: ", "pw")]), ..Rules::default() };
    let (fake, _dir, target) = password_only(rules, Some("wrong")).await;
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("tried: password (refused); the server accepts: "), "{e}");
    assert_eq!(e.kind, crate::error::Kind::Unreachable);
    assert_eq!(fake.seen(|s| s.passwords.clone()), ["wrong"]);
}

#[tokio::test]
async fn keyboard_interactive_with_the_password_and_a_code() {
    let rules = Rules { questions: questions(&[("Password: ", "pw"), ("Code: ", "123")]), ..Rules::default() };
    let (_fake, _dir, target) = password_only(rules.clone(), Some("pw")).await;
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("keyboard-interactive (no answer to \"Code:\")"), "{e}");
    let person = Arc::new(Person { code: Some("123"), ..Person::default() });
    connect(&target, person.clone()).await.unwrap();
    assert_eq!(person.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_key_and_then_a_code() {
    let rules = Rules { questions: questions(&[("Code: ", "123")]), key_then_questions: true, ..Rules::default() };
    let s = setup(rules).await;
    let e = dial(&s.target).await.unwrap_err();
    assert!(e.message.contains("accepted, but the server wants more"), "{e}");
    connect(&s.target, Arc::new(Person { code: Some("123"), ..Person::default() })).await.unwrap();
}

#[tokio::test]
async fn the_list_of_what_was_tried() {
    let mut s = setup(Rules { banner: Some("Go away\u{1b}[2J!\n".into()), ..Rules::default() }).await;
    let wrong = write_key(s.dir.path(), "wrong", &new_key(Algorithm::Ed25519));
    let missing = s.dir.path().join("missing");
    s.target.credentials.keys = vec![wrong.clone(), missing.clone()];
    let e = dial(&s.target).await.unwrap_err();
    let expected = format!(
        "127.0.0.1:{}: cannot log in as \"root\"; tried: publickey {} (no such file), publickey {} (refused); \
         the server accepts: publickey; the server says: Go away[2J!",
        s.fake.port,
        missing.display(),
        wrong.display()
    );
    assert_eq!(e.message, expected);
    s.target.credentials.keys.clear();
    let e = dial(&s.target).await.unwrap_err();
    assert!(e.message.contains("tried: nothing; the server accepts: publickey"), "{e}");
}

#[tokio::test]
async fn default_keys_only_when_none_is_named() {
    let mut s = setup(Rules::default()).await;
    s.target.credentials.default_keys = std::mem::take(&mut s.target.credentials.keys);
    dial(&s.target).await.unwrap();
    s.target.credentials.keys = vec![write_key(s.dir.path(), "other", &new_key(Algorithm::Ed25519))];
    dial(&s.target).await.unwrap_err();
}

#[tokio::test]
async fn a_passphrase_is_asked_once_and_only_where_the_key_is_accepted() {
    let mut s = setup(Rules::default()).await;
    let locked = |key: &PrivateKey| key.encrypt(&mut safe_rng(), "sesame").unwrap();
    let right = write_key(s.dir.path(), "right", &locked(&s.key));
    let other = write_key(s.dir.path(), "other", &locked(&new_key(Algorithm::Ed25519)));
    s.target.credentials.keys = vec![other, right.clone()];

    let person = Arc::new(Person { passphrase: Some("sesame"), ..Person::default() });
    let connector = Connector::new(person.clone());
    // The limit is shorter than the key's derivation: asking does not count.
    let (a, b) = tokio::join!(connector.connect(&s.target), connector.connect(&s.target));
    a.unwrap();
    b.unwrap();
    assert_eq!(person.asked.load(Ordering::SeqCst), 1);

    let e = dial(&s.target).await.unwrap_err();
    assert!(e.message.contains("right (encrypted, no passphrase given)"), "{e}");
    s.target.credentials.keys = vec![right];
    let e = connect(&s.target, Arc::new(Person { passphrase: Some("wrong"), ..Person::default() })).await.unwrap_err();
    assert!(e.message.contains("(wrong passphrase)"), "{e}");
}

#[tokio::test]
async fn a_changed_host_key_ends_it_before_authentication() {
    let mut s = setup(Rules::default()).await;
    let other = new_key(Algorithm::Ed25519).public_key().to_openssh().unwrap();
    let file = s.dir.path().join("known_hosts");
    std::fs::write(&file, format!("[127.0.0.1]:{} {other}\n", s.fake.port)).unwrap();
    let e = dial(&s.target).await.unwrap_err();
    let fingerprint = s.fake.host_key.fingerprint(Default::default()).to_string();
    assert!(e.message.contains("has changed") && e.message.contains(&fingerprint), "{e}");
    assert!(e.message.contains("known_hosts:1"), "{e}");
    assert!(e.hint.unwrap().contains("ssh-keygen -R"));
    assert_eq!(s.fake.seen(|s| s.offers), 0);
    // Taken all the same, it gets no password: sudo's neither.
    s.target.host_key_policy = HostKeyPolicy::Off;
    assert!(!dial(&s.target).await.unwrap().may_send_password());
    std::fs::remove_file(&file).unwrap();
    assert!(dial(&s.target).await.unwrap().may_send_password());
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_or_learned() {
    let mut s = setup(Rules::default()).await;
    s.target.host_key_policy = HostKeyPolicy::Strict;
    let e = dial(&s.target).await.unwrap_err();
    assert!(e.message.contains("is not known"), "{e}");
    s.target.host_key_policy = HostKeyPolicy::AcceptNew;
    dial(&s.target).await.unwrap();
    s.target.host_key_policy = HostKeyPolicy::Strict;
    dial(&s.target).await.unwrap();
}

#[tokio::test]
async fn no_password_for_a_host_with_another_key() {
    let rules = Rules { password: Some("pw".into()), ..Rules::default() };
    let (fake, dir, mut target) = password_only(rules, Some("pw")).await;
    target.host_key_policy = HostKeyPolicy::Off;
    dial(&target).await.unwrap();
    let other = new_key(Algorithm::Ed25519).public_key().to_openssh().unwrap();
    std::fs::write(dir.path().join("known_hosts"), format!("[127.0.0.1]:{} {other}\n", fake.port)).unwrap();
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("password (not sent"), "{e}");
    assert_eq!(fake.seen(|s| s.passwords.len()), 1);
}

#[tokio::test]
async fn a_host_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, host, key) = (new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519));
    let mut builder = Builder::new_with_random_nonce(&mut safe_rng(), host.public_key(), 0, 4_000_000_000).unwrap();
    builder.cert_type(CertType::Host).unwrap();
    builder.valid_principal("127.0.0.1").unwrap();
    let certificate = builder.sign(&ca).unwrap();
    let rules = Rules { key: Some(key.public_key().clone()), ..Rules::default() };
    let fake = Fake::start_with(rules, host, vec![certificate]).await;
    let mut target = local(fake.port, dir.path());
    target.host_key_policy = HostKeyPolicy::Strict;
    target.credentials.keys = vec![write_key(dir.path(), "id", &key)];
    dial(&target).await.unwrap_err();
    let line = format!("@cert-authority [127.0.0.1]:* {}\n", ca.public_key().to_openssh().unwrap());
    std::fs::write(dir.path().join("known_hosts"), line).unwrap();
    dial(&target).await.unwrap();
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut target = local(listener.local_addr().unwrap().port(), dir.path());
    target.connect_timeout = Duration::from_millis(200);
    let start = Instant::now();
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("timed out after 0.2 s while waiting for the SSH handshake"), "{e}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn refused_unresolved_and_not_ssh() {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let e = dial(&local(port, dir.path())).await.unwrap_err();
    assert_eq!(e.message, format!("127.0.0.1:{port}: connection refused"));

    let mut target = local(22, dir.path());
    target.host = "nowhere.invalid".into();
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.starts_with("nowhere.invalid:22: cannot resolve \"nowhere.invalid\""), "{e}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = local(listener.local_addr().unwrap().port(), dir.path());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let lines = "HTTP/1.1 400 Bad Request\r\n".repeat(2000);
        let _ = stream.write_all(lines.as_bytes()).await;
        let _ = stream.read(&mut [0; 100]).await;
    };
    let (e, ()) = tokio::join!(dial(&target), serve);
    assert!(e.unwrap_err().message.contains("does not speak SSH"));
}

#[tokio::test]
async fn a_dropped_handshake_is_repeated() {
    let s = setup(Rules { drop_first: 2, ..Rules::default() }).await;
    dial(&s.target).await.unwrap();
    assert_eq!(s.fake.seen(|s| s.connections), 3);
}

#[tokio::test]
async fn through_a_jump_host() {
    let inner = setup(Rules::default()).await;
    let outer = setup(Rules::default()).await;
    let mut target = inner.target.clone();
    target.jump = Some(Box::new(outer.target.clone()));
    let connector = Connector::default();
    let (a, b) = tokio::join!(connector.connect(&target), connector.connect(&target));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.run("both", None).await.unwrap().stdout, b"to stdout");
    assert_eq!(a.place(), format!("127.0.0.1:{} through 127.0.0.1:{}", inner.fake.port, outer.fake.port));
    assert_eq!(outer.fake.seen(|s| s.connections), 1, "the jump host is shared");
    drop((a, b));

    target.port = 1;
    let e = dial(&target).await.unwrap_err();
    assert_eq!(
        e.message,
        format!("127.0.0.1:1 through 127.0.0.1:{}: the jump host cannot connect to it", outer.fake.port)
    );
    target.jump.as_mut().unwrap().credentials.keys.clear();
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.starts_with(&format!("127.0.0.1:{}: cannot log in", outer.fake.port)), "{e}");
    assert!(e.message.ends_with("(jump host of 127.0.0.1:1)"), "{e}");
}

#[tokio::test]
async fn all_who_wait_for_a_dead_jump_host_fail_with_it() {
    let s = setup(Rules::default()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut jump = local(silent.local_addr().unwrap().port(), s.dir.path());
    jump.connect_timeout = Duration::from_millis(200);
    let mut target = s.target.clone();
    target.jump = Some(Box::new(jump));
    let connector = Arc::new(Connector::default());
    let start = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (connector, target) = (connector.clone(), target.clone());
        all.spawn(async move { connector.connect(&target).await.unwrap_err().message });
    }
    for message in all.join_all().await {
        assert!(message.contains("timed out after 0.2 s"), "{message}");
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_proxy_command() {
    let mut s = setup(Rules::default()).await;
    s.target.proxy_command = Some("sh -c 'echo no way >&2; exit 3'".into());
    let e = dial(&s.target).await.unwrap_err();
    assert!(e.message.contains("the ProxyCommand said: no way"), "{e}");
}

#[tokio::test]
async fn the_server_hangs_up() {
    let s = setup(Rules::default()).await;
    let c = dial(&s.target).await.unwrap();
    let mut waiting = c.open_shell_channel("cat").await.unwrap();
    let _ = c.open_shell_channel("hang-up").await;
    let e = waiting.exit.await.unwrap_err();
    assert_eq!(e.kind, crate::error::Kind::Unreachable);
    assert!(e.message.contains("connection lost: the server disconnected: going down"), "{e}");
    let mut buf = Vec::new();
    assert!(waiting.stdout.read_to_end(&mut buf).await.is_err());
    assert!(c.closed().await.message.contains("going down"));
    assert!(c.is_closed());
    let e = c.run("both", None).await.unwrap_err();
    assert!(e.message.contains("connection lost"), "{e}");
}

#[tokio::test]
async fn a_goodbye_ends_it() {
    let s = setup(Rules::default()).await;
    let c = dial(&s.target).await.unwrap();
    c.disconnect().await;
    tokio::time::timeout(Duration::from_secs(2), c.closed()).await.unwrap();
    assert!(c.is_closed());
}

#[test]
fn targets_from_a_config() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    std::fs::write(
        &file,
        "Host web\n HostName 10.0.0.5\n ProxyJump ann@gate:2222,mid\n IdentityFile /k/web\nHost mid\n HostName mid.lan\n \
         IdentityFile /k/mid\nHost gate\n Port 1\n StrictHostKeyChecking no\n ServerAliveInterval 7\nHost a\n \
         ProxyJump b\nHost b\n ProxyJump a\n",
    )
    .unwrap();
    let config = SshConfig::load(&[file]).unwrap();
    let overrides = Overrides {
        user: Some("root".into()),
        keys: vec!["/k/given".into()],
        host_key_policy: Some(HostKeyPolicy::AcceptNew),
        ..Overrides::default()
    };
    let t = Target::resolve(&config, "web", &overrides).unwrap();
    assert_eq!(t.place(), "10.0.0.5:22 through mid.lan:22 through gate:2222");
    assert_eq!(t.credentials.keys, [PathBuf::from("/k/given"), "/k/web".into()]);
    let mid = t.jump.unwrap();
    assert_eq!(mid.credentials.keys, [PathBuf::from("/k/mid"), "/k/given".into()]);
    let gate = mid.jump.unwrap();
    assert_eq!((gate.credentials.user.as_str(), gate.host_key_policy), ("ann", HostKeyPolicy::AcceptNew));
    assert_eq!(gate.keepalive_interval, Duration::from_secs(7));
    assert!(gate.jump.is_none());

    let e = Target::resolve(&config, "a", &Overrides::default()).unwrap_err();
    assert!(e.message.contains("form a loop: a through b through a"), "{e}");
    let direct = Overrides { jumps: Some(vec![]), ..Overrides::default() };
    assert!(Target::resolve(&config, "a", &direct).unwrap().jump.is_none());
}
