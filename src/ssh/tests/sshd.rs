//! Against OpenSSH's sshd, where it is installed.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use russh::keys::{EcdsaCurve, HashAlg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::*;

/// A sshd with its own keys on a free port; killed when dropped.
struct Sshd {
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // The daemon only; sessions end with their connections.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(args: &[&str]) {
    crate::testing::ssh_keygen();
    let done = Command::new("ssh-keygen").args(args).stdout(Stdio::null()).status().unwrap();
    assert!(done.success(), "ssh-keygen {args:?}");
}

impl Sshd {
    /// None, with a note, when there is no sshd here or it cannot run.
    async fn start(extra: &str) -> Option<Sshd> {
        Sshd::start_with(|_| extra.to_owned()).await
    }

    /// `prepare` gets the directory with the keys and gives further lines of configuration.
    async fn start_with(prepare: impl FnOnce(&Path) -> String) -> Option<Sshd> {
        const SSHD: &str = "/usr/sbin/sshd";
        if !Path::new(SSHD).exists() || !rustix::process::getuid().is_root() {
            println!("skipped: needs {SSHD} and root");
            return None;
        }
        let _ = fs::DirBuilder::new().mode(0o755).create("/run/sshd");
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        write_key(d, "host_ed25519", &new_key(Algorithm::Ed25519));
        write_key(d, "host_ecdsa", &new_key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }));
        let user = new_key(Algorithm::Ed25519);
        write_key(d, "id", &user);
        fs::write(d.join("authorized"), user.public_key().to_openssh().unwrap()).unwrap();
        let extra = prepare(d);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(
            d.join("sshd_config"),
            format!(
                "{extra}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {d}/host_ed25519\nHostKey {d}/host_ecdsa\n\
                 AuthorizedKeysFile {d}/authorized\nPidFile none\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n\
                 PasswordAuthentication no\nUseDNS no\nSetEnv HOME={d}\n",
                d = d.display()
            ),
        )
        .unwrap();
        let child = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(d.join("sshd_config"))
            .stderr(fs::File::create(d.join("log")).unwrap())
            .spawn()
            .unwrap();
        let sshd = Sshd { dir, child, port };
        for _ in 0..100 {
            if fs::read_to_string(sshd.path("log")).unwrap_or_default().contains("listening on") {
                return Some(sshd);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("sshd did not start: {}", fs::read_to_string(sshd.path("log")).unwrap_or_default());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self) -> Target {
        let mut target = local(self.port, self.dir.path());
        target.credentials.keys = vec![self.path("id")];
        target
    }
}

#[tokio::test]
async fn exec_streams_exit_codes_and_signals() {
    let Some(sshd) = Sshd::start("").await else { return };
    let c = dial(&sshd.target()).await.unwrap();
    let out = c.run("echo out; echo err >&2; exit 7", None).await.unwrap();
    assert_eq!((out.status, &out.stdout[..], &out.stderr[..]), (ExitStatus::Code(7), &b"out\n"[..], &b"err\n"[..]));
    let out = c.run("kill -TERM $$", None).await.unwrap();
    assert_eq!(out.status.code(), 143);
    let body: Vec<u8> = (0..5_000_000u32).map(|n| (n / 7) as u8).collect();
    let out = c.run("cat", Some(Bytes::from(body.clone()))).await.unwrap();
    assert!(out.stdout == body);
    let file = sshd.path("uploaded");
    let out = c.upload(&format!("cat > {}", file.display()), &body[..]).await.unwrap();
    assert!(out.status.success() && fs::read(&file).unwrap() == body);
    let big = Bytes::from(vec![0; 50_000_000]);
    let out = tokio::time::timeout(Duration::from_secs(5), c.run("head -c 10", Some(big))).await.unwrap().unwrap();
    assert_eq!((out.status, out.stdout.len()), (ExitStatus::Code(0), 10));
}

#[tokio::test]
async fn a_long_lived_shell_beside_unread_output() {
    let Some(sshd) = Sshd::start("").await else { return };
    let mut target = sshd.target();
    target.unread_limit = 8 * 1024 * 1024;
    let c = dial(&target).await.unwrap();
    let noisy = c.open_shell_channel("exec yes").await.unwrap();
    let mut shell = c.open_shell_channel("exec sh -s").await.unwrap();
    let mut lines = BufReader::new(&mut shell.stdout).lines();
    for n in 0..50 {
        shell.stdin.write_all(format!("echo line {n}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(Duration::from_secs(3), lines.next_line()).await.unwrap();
        assert_eq!(line.unwrap().unwrap(), format!("line {n}"));
    }
    assert!(noisy.exit.await.unwrap_err().message.contains("waiting to be read"));
    // Dropping stdin is its end.
    drop(shell.stdin);
    assert!(tokio::time::timeout(Duration::from_secs(3), shell.exit).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn more_commands_than_sessions() {
    let Some(sshd) = Sshd::start("").await else { return };
    let c = dial(&sshd.target()).await.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..20 {
        let c = c.clone();
        all.spawn(async move { c.run(&format!("sleep 0.05; echo {n}"), None).await.unwrap().status.success() });
    }
    assert!(all.join_all().await.into_iter().all(|ok| ok));
}

#[tokio::test]
async fn max_startups_is_waited_out() {
    let Some(sshd) = Sshd::start("MaxStartups 3:100:3").await else { return };
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let target = sshd.target();
        all.spawn(async move { dial(&target).await.map(drop) });
    }
    for result in all.join_all().await {
        result.unwrap();
    }
}

#[tokio::test]
async fn kinds_of_keys_and_an_agent() {
    let Some(sshd) = Sshd::start("").await else { return };
    let p = |name: &str| sshd.path(name).display().to_string();
    keygen(&["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", &p("rsa")]);
    keygen(&["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", &p("pem")]);
    keygen(&["-q", "-t", "ecdsa", "-N", "", "-f", &p("ecdsa")]);
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &p("agent_only")]);
    let keys: Vec<_> = ["rsa", "pem", "ecdsa", "agent_only"]
        .iter()
        .map(|k| fs::read_to_string(p(&format!("{k}.pub"))).unwrap())
        .collect();
    fs::write(p("authorized"), keys.concat()).unwrap();
    let mut target = sshd.target();
    for name in ["rsa", "pem", "ecdsa"] {
        target.credentials.keys = vec![sshd.path(name)];
        dial(&target).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    let socket = p("agent.sock");
    let agent = Command::new("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().unwrap();
    let mut agent = KillOnDrop(agent);
    for _ in 0..100 {
        if Path::new(&socket).exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for key in ["id", "rsa", "agent_only"] {
        let added = Command::new("ssh-add").args(["-q", &p(key)]).env("SSH_AUTH_SOCK", &socket).status().unwrap();
        assert!(added.success());
    }
    target.credentials.agent = AgentSocket::Path(socket.into());
    target.credentials.keys.clear();
    dial(&target).await.unwrap();
    // The private half is in the agent only.
    fs::remove_file(p("agent_only")).unwrap();
    target.credentials.keys = vec![sshd.path("agent_only")];
    target.credentials.identities_only = true;
    dial(&target).await.unwrap();
    target.credentials.keys = vec![write_key(sshd.dir.path(), "useless", &new_key(Algorithm::Ed25519))];
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("useless (refused); the server accepts"), "{e}");
    fs::write(p("authorized"), "").unwrap();
    target.credentials.identities_only = false;
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("agent: 3 keys (refused)"), "{e}");
    agent.0.kill().unwrap();
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn certificates_of_users_and_hosts() {
    let sshd = Sshd::start_with(|dir| {
        let p = |name: &str| dir.join(name).display().to_string();
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &p("ca")]);
        for name in ["user_ed", "user_rsa"] {
            let kind = if name == "user_rsa" { "rsa" } else { "ed25519" };
            keygen(&["-q", "-t", kind, "-N", "", "-f", &p(name)]);
            keygen(&["-q", "-s", &p("ca"), "-I", "tester", "-n", "root", &p(&format!("{name}.pub"))]);
        }
        let host = fs::read_to_string(p("host_ed25519")).unwrap();
        let host = PrivateKey::from_openssh(&host).unwrap().public_key().to_openssh().unwrap();
        fs::write(p("host_ed25519.pub"), host).unwrap();
        keygen(&["-q", "-s", &p("ca"), "-I", "host", "-h", "-n", "127.0.0.1", &p("host_ed25519.pub")]);
        fs::write(p("authorized"), "").unwrap();
        let ca = fs::read_to_string(p("ca.pub")).unwrap();
        fs::write(p("known_hosts"), format!("@cert-authority [127.0.0.1]:* {ca}")).unwrap();
        format!("TrustedUserCAKeys {}\nHostCertificate {}\n", p("ca.pub"), p("host_ed25519-cert.pub"))
    });
    let Some(sshd) = sshd.await else { return };
    let mut target = sshd.target();
    target.host_key_policy = HostKeyPolicy::Strict;
    for name in ["user_ed", "user_rsa"] {
        target.credentials.keys = vec![sshd.path(name)];
        dial(&target).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // The certificate apart from its key.
    fs::rename(sshd.path("user_ed-cert.pub"), sshd.path("apart.pub")).unwrap();
    target.credentials.keys = vec![sshd.path("user_ed")];
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("user_ed (refused)"), "{e}");
    target.credentials.certificates = vec![sshd.path("apart.pub")];
    dial(&target).await.unwrap();
}

#[tokio::test]
async fn jumps_and_proxy_commands() {
    let (Some(gate), Some(sshd)) = (Sshd::start("").await, Sshd::start("").await) else { return };
    let mut target = sshd.target();
    target.jump = Some(Box::new(gate.target()));
    assert_eq!(dial(&target).await.unwrap().run("echo hi", None).await.unwrap().stdout, b"hi\n");
    let mut target = sshd.target();
    target.proxy_command = Some(format!(
        "ssh -F none -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p {} \
         -W 127.0.0.1:{} root@127.0.0.1",
        gate.path("id").display(),
        gate.port,
        sshd.port
    ));
    fs::set_permissions(gate.path("id"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(dial(&target).await.unwrap().run("echo hi", None).await.unwrap().stdout, b"hi\n");
}

#[tokio::test]
async fn a_recorded_key_of_a_later_type_is_asked_for() {
    let Some(sshd) = Sshd::start("").await else { return };
    let ecdsa = fs::read_to_string(sshd.path("host_ecdsa")).unwrap();
    let ecdsa = PrivateKey::from_openssh(&ecdsa).unwrap();
    let line = format!("[127.0.0.1]:{} {}\n", sshd.port, ecdsa.public_key().to_openssh().unwrap());
    fs::write(sshd.path("known_hosts"), line).unwrap();
    let mut target = sshd.target();
    target.host_key_policy = HostKeyPolicy::Strict;
    dial(&target).await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_is_noticed() {
    let Some(sshd) = Sshd::start("").await else { return };
    let mut target = sshd.target();
    target.keepalive_interval = Duration::from_millis(300);
    target.keepalive_max = 2;
    let c = dial(&target).await.unwrap();
    let e = frozen(&c, None).await;
    assert!(e.message.contains("connection lost: no answer to keepalives"), "{e}");
    // Also in the middle of a transfer.
    let c = dial(&target).await.unwrap();
    let e = frozen(&c, Some("cat > /dev/null")).await;
    assert!(e.message.contains("connection lost: no "), "{e}");
}

/// Stops the process that serves a connection, while a body is sent to `upload`, until the connection notices.
async fn frozen(c: &Connection, upload: Option<&'static str>) -> crate::error::Error {
    let out = c.run("echo $PPID", None).await.unwrap();
    let session: i32 = String::from_utf8(out.stdout).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(session).unwrap();
    let sending = upload.map(|command| {
        let c = c.clone();
        tokio::spawn(async move { c.upload(command, tokio::io::repeat(0)).await })
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let e = tokio::time::timeout(Duration::from_secs(5), c.closed()).await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    if let Some(sending) = sending {
        assert!(sending.await.unwrap().unwrap_err().message.contains("connection lost"));
    }
    e.unwrap()
}

#[tokio::test]
async fn too_many_keys() {
    let Some(sshd) = Sshd::start("MaxAuthTries 3").await else { return };
    let mut target = sshd.target();
    let useless: Vec<_> =
        (0..5).map(|n| write_key(sshd.dir.path(), &format!("useless{n}"), &new_key(Algorithm::Ed25519))).collect();
    target.credentials.keys = useless;
    let e = dial(&target).await.unwrap_err();
    assert!(e.message.contains("Too many authentication failures"), "{e}");
    assert!(e.hint.unwrap().contains("IdentitiesOnly"));
}

/// Times of connecting with a key and of the first command. Run by hand:
/// `cargo test --release ssh::tests::sshd::timing -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn timing() {
    let Some(sshd) = Sshd::start("").await else { return };
    let target = sshd.target();
    let (mut connects, mut firsts, mut seconds, mut marks) = (vec![], vec![], vec![], vec![]);
    for _ in 0..20 {
        let connector = Connector::default();
        let start = Instant::now();
        let c = connector.connect(&target).await.unwrap();
        connects.push(start.elapsed());
        let start = Instant::now();
        c.run("true", None).await.unwrap();
        firsts.push(start.elapsed());
        let start = Instant::now();
        c.run("true", None).await.unwrap();
        seconds.push(start.elapsed());
        // As a host session does: a mark on both streams ends each answer.
        let mut shell = c.open_shell_channel("exec sh -s").await.unwrap();
        let mut mark = [0; 2];
        for _ in 0..20 {
            let start = Instant::now();
            shell.stdin.write_all(b"echo m; echo m >&2\n").await.unwrap();
            shell.stdout.read_exact(&mut mark).await.unwrap();
            shell.stderr.read_exact(&mut mark).await.unwrap();
            marks.push(start.elapsed());
        }
    }
    let all = [("connect", connects), ("first exec", firsts), ("second exec", seconds), ("shell round trip", marks)];
    for (what, mut times) in all {
        times.sort();
        println!("{what}: p50 {:?}, max {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Memory of 200 connections, each with a shell. Run by hand as above.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn memory() {
    let Some(sshd) = Sshd::start("MaxStartups 500\nMaxSessions 10").await else { return };
    let connector = Arc::new(Connector::default());
    let before = resident_kib();
    let start = Instant::now();
    let mut all = Vec::new();
    for _ in 0..10 {
        let mut batch = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (target, connector) = (sshd.target(), connector.clone());
            batch.spawn(async move {
                let c = connector.connect(&target).await.unwrap();
                let shell = c.open_shell_channel("exec sh -s").await.unwrap();
                (c, shell)
            });
        }
        all.extend(batch.join_all().await);
    }
    println!("200 connections with a shell in {:?}: {} KiB more", start.elapsed(), resident_kib() - before);
    let start = Instant::now();
    for (_, shell) in &mut all {
        shell.stdin.write_all(b"head -c 1000000 /dev/zero; echo\n").await.unwrap();
    }
    for (_, shell) in &mut all {
        let mut buf = vec![0; 1_000_001];
        shell.stdout.read_exact(&mut buf).await.unwrap();
    }
    println!("1 MB from each in {:?}: {} KiB more", start.elapsed(), resident_kib() - before);
}

/// Speed of one large upload and download. Run by hand as above.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn bulk() {
    let Some(sshd) = Sshd::start("").await else { return };
    let c = dial(&sshd.target()).await.unwrap();
    let start = Instant::now();
    c.upload("cat > /dev/null", tokio::io::repeat(7).take(512 << 20)).await.unwrap();
    println!("upload: {:.0} MiB/s", 512.0 / start.elapsed().as_secs_f64());
    let mut exec = c.open_shell_channel("head -c 536870912 /dev/zero").await.unwrap();
    let start = Instant::now();
    let mut buf = vec![0; 1 << 18];
    while exec.stdout.read(&mut buf).await.unwrap() > 0 {}
    println!("download: {:.0} MiB/s", 512.0 / start.elapsed().as_secs_f64());
}

#[test]
fn fingerprints_are_those_of_ssh_keygen() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(Algorithm::Ed25519);
    let path = write_key(dir.path(), "k", &key);
    let Ok(output) = Command::new("ssh-keygen").arg("-lf").arg(&path).output() else { return };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&key.fingerprint(HashAlg::Sha256).to_string()), "{text}");
}
