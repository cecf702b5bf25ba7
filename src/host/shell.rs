//! A long-lived `sh` on a host: requests go in, framed answers come out. It does not know what carries it.

use super::frames::{self, Frame};
use super::script::Request;
use crate::probe::{Answer, Output, Probe};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The three ends of a shell.
pub struct Streams {
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    pub stdout: Pin<Box<dyn AsyncRead + Send>>,
    pub stderr: Pin<Box<dyn AsyncRead + Send>>,
}

/// Why a shell is of no more use.
#[derive(Debug, Clone, PartialEq)]
pub enum ShellError {
    /// It ended, or what carried it did. With the last it wrote on standard error.
    Ended { stderr: String },
    /// No answer within this time.
    TimedOut(Duration),
    /// What it printed is not an answer.
    Garbled(String),
}

/// What came back: the actions' outputs, as far as they ran, and the probes' answers.
#[derive(Debug, Default)]
pub struct Reply {
    pub outputs: Vec<Output>,
    pub answers: Vec<(Probe, Answer)>,
}

/// A shell, ready for requests, one after the other.
pub struct Shell {
    streams_in: Pin<Box<dyn AsyncWrite + Send>>,
    streams_out: Pin<Box<dyn AsyncRead + Send>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: tokio::task::JoinHandle<()>,
    nonce: String,
    sequence: u64,
    /// The process on the host, once it has told.
    process: Option<u32>,
    /// Sent in front of the first request.
    opening: String,
    /// Bytes of an answer, at most.
    largest: usize,
}

const STDERR_KEPT: usize = 8 << 10;
/// All that one request brings back, at most. A host cuts what a command prints far below it.
const LARGEST: usize = 1 << 30;
/// Within so much of its first answer a shell tells its process.
const TOLD_WITHIN: usize = 1 << 20;

impl Shell {
    /// Takes over a running `sh`. Nothing is sent yet: the opening rides with the first request. `first` is put
    /// between the opening and that request.
    pub fn new(streams: Streams, first: &str) -> Self {
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = stderr.clone();
        let mut source = streams.stderr;
        let stderr_reader = tokio::spawn(async move {
            let mut chunk = [0; 4096];
            while let Ok(n) = source.read(&mut chunk).await {
                if n == 0 {
                    break;
                }
                if let Ok(mut k) = kept.lock() {
                    k.extend_from_slice(&chunk[..n]);
                    let over = k.len().saturating_sub(STDERR_KEPT);
                    k.drain(..over);
                }
            }
        });
        let nonce = nonce();
        let opening = format!("w_nonce={nonce}\n{}\nw_m \"shell $$\"\n{first}\n", include_str!("prelude.sh"));
        Shell {
            streams_in: streams.stdin,
            streams_out: streams.stdout,
            stderr,
            stderr_reader,
            nonce,
            sequence: 0,
            process: None,
            opening,
            largest: LARGEST,
        }
    }

    /// How many requests were answered.
    pub fn round_trips(&self) -> u64 {
        self.sequence
    }

    /// The process on the host; known as soon as the shell has begun to answer.
    pub fn process(&self) -> Option<u32> {
        self.process
    }

    /// Sends a request and waits for all of its answer.
    pub async fn request(&mut self, request: &Request<'_>, limit: Option<Duration>) -> Result<Reply, ShellError> {
        self.sequence += 1;
        let (script, asked) = request.script(&self.nonce, self.sequence);
        let text = std::mem::take(&mut self.opening) + &script;
        let exchange = self.exchange(text);
        let bytes = match limit {
            None => exchange.await?,
            Some(l) => tokio::time::timeout(l, exchange).await.map_err(|_| ShellError::TimedOut(l))??,
        };
        let frames = frames::cut(&bytes, &self.nonce);
        if let Some(f) = frames.iter().find_map(|f| f.head.strip_prefix("broken ")) {
            return Err(ShellError::Garbled(f.to_string()));
        }
        Ok(Reply { outputs: outputs(&frames), answers: asked.read(&frames) })
    }

    async fn exchange(&mut self, text: String) -> Result<Vec<u8>, ShellError> {
        let end = format!("\n{} end {}\n", self.nonce, self.sequence).into_bytes();
        let mut got = Vec::with_capacity(4096);
        let mut chunk = vec![0; 64 << 10];
        let mut to_write = text.as_bytes();
        // Reading goes on while writing: a shell that prints before it has read all must not stand still.
        loop {
            let out = &mut self.streams_out;
            let input = &mut self.streams_in;
            tokio::select! {
                biased;
                r = out.read(&mut chunk) => {
                    let n = r.unwrap_or(0);
                    if n == 0 {
                        return Err(self.ended().await);
                    }
                    got.extend_from_slice(&chunk[..n]);
                    if got.len() > self.largest {
                        return Err(ShellError::Garbled(format!("more than {} bytes in one answer", self.largest)));
                    }
                    if self.process.is_none() && got.len() <= TOLD_WITHIN {
                        let told = frames::cut(&got, &self.nonce);
                        self.process = told.iter().find_map(|f| f.head.strip_prefix("shell ")?.parse().ok());
                    }
                    if got.ends_with(&end) {
                        return Ok(got);
                    }
                }
                w = async {
                    if to_write.is_empty() { std::future::pending().await } else {
                        let n = input.write(to_write).await?;
                        if n == to_write.len() { input.flush().await?; }
                        Ok::<_, std::io::Error>(n)
                    }
                } => match w {
                    Ok(n) if n > 0 => to_write = &to_write[n..],
                    _ => return Err(self.ended().await),
                }
            }
        }
    }

    async fn ended(&mut self) -> ShellError {
        // Its last words may still be on their way.
        let _ = tokio::time::timeout(Duration::from_millis(500), &mut self.stderr_reader).await;
        let kept = self.stderr.lock().map(|k| k.clone()).unwrap_or_default();
        ShellError::Ended { stderr: String::from_utf8_lossy(&kept).trim().to_string() }
    }

    /// Ends the shell in order: it removes its scratch folder on the way out.
    pub async fn close(self) {
        let Shell { mut streams_in, mut streams_out, stderr_reader, .. } = self;
        // On a terminal the end of the input is not an end.
        let _ = streams_in.write_all(b"exit\n").await;
        let _ = streams_in.shutdown().await;
        // A pipe ends only when it is let go of.
        drop(streams_in);
        let mut rest = [0; 256];
        let drain = async { while matches!(streams_out.read(&mut rest).await, Ok(n) if n > 0) {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), drain).await;
        stderr_reader.abort();
    }
}

fn outputs(frames: &[Frame<'_>]) -> Vec<Output> {
    let mut found: Vec<Output> = vec![];
    for pair in frames.windows(2) {
        let words: Vec<&str> = pair[0].head.split(' ').collect();
        if let ["rc", id, rc] = words.as_slice()
            && id.contains('a')
            && pair[1].head.strip_prefix("err ") == Some(id)
        {
            found.push(Output::new(rc.parse().unwrap_or(255), pair[0].body, pair[1].body));
        }
    }
    found
}

/// 128 random bits as hexadecimal digits.
pub fn nonce() -> String {
    let mut bytes = [0u8; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes));
    if read.is_err() {
        // No device: the process and the time still make it unlike anything a command prints by accident.
        let t = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        bytes = (t ^ (u128::from(std::process::id()) << 96)).to_le_bytes();
    }
    crate::modules::hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, Command, CommandLine, Put};
    use crate::probe::{Content, EntryKind, SysctlState};
    use std::process::Stdio;

    fn shell(program: &str) -> (Shell, tokio::process::Child) {
        let mut child = tokio::process::Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let streams = Streams {
            stdin: Box::pin(child.stdin.take().unwrap()),
            stdout: Box::pin(child.stdout.take().unwrap()),
            stderr: Box::pin(child.stderr.take().unwrap()),
        };
        (Shell::new(streams, ""), child)
    }

    async fn ask(s: &mut Shell, actions: &[Action], probes: &[Probe]) -> Reply {
        s.request(&Request { actions, probes, ..Default::default() }, Some(Duration::from_secs(20))).await.unwrap()
    }

    #[tokio::test]
    async fn paths_content_and_hashes_in_one_request() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().to_str().unwrap().to_string();
        std::fs::write(format!("{d}/a b\n'c"), "hello\n\n").unwrap();
        std::os::unix::fs::symlink("a b\n'c", format!("{d}/l")).unwrap();
        std::os::unix::fs::symlink("nowhere", format!("{d}/dangling")).unwrap();
        let odd = format!("{d}/a b\n'c");
        for program in ["dash", "bash"] {
            let (mut s, _c) = shell(program);
            let probes = vec![
                Probe::Path(odd.clone()),
                Probe::Path(format!("{d}/l")),
                Probe::Path(format!("{d}/dangling")),
                Probe::Path(format!("{d}/none")),
                Probe::Path(d.clone()),
                Probe::Sha256(odd.clone()),
                Probe::Sha256(format!("{d}/none")),
                Probe::Content(odd.clone()),
                Probe::Content(format!("{d}/none")),
                Probe::User("root".into()),
                Probe::User("nobody-of-this-name".into()),
                Probe::Groups,
                Probe::Sysctl("kernel.ostype".into()),
                Probe::Hostname,
                Probe::Script("echo out; echo err >&2; exit 3".into()),
            ];
            let r = ask(&mut s, &[], &probes).await;
            let get = |p: &Probe| r.answers.iter().find(|(q, _)| q == p).map(|(_, a)| a.clone()).unwrap();
            let Answer::Path(p) = get(&probes[0]) else { panic!() };
            assert_eq!(p.entry.unwrap().size, 7);
            let Answer::Path(p) = get(&probes[1]) else { panic!() };
            assert_eq!((p.entry.unwrap().kind, p.link.as_deref()), (EntryKind::Link, Some("a b\n'c")));
            assert_eq!((p.target.unwrap().kind, p.canonical), (EntryKind::File, odd.clone()));
            let Answer::Path(p) = get(&probes[2]) else { panic!() };
            assert_eq!((p.entry.is_some(), p.target), (true, None));
            let Answer::Path(p) = get(&probes[3]) else { panic!() };
            assert_eq!((p.entry, p.canonical), (None, format!("{d}/none")));
            use sha2::Digest;
            let want = crate::modules::hex(&sha2::Sha256::digest("hello\n\n"));
            assert_eq!(get(&probes[5]), Answer::Sha256(Some(want)));
            assert_eq!(get(&probes[6]), Answer::Sha256(None));
            assert_eq!(get(&probes[7]), Answer::Content(Content::Bytes(b"hello\n\n".to_vec())));
            assert_eq!(get(&probes[8]), Answer::Content(Content::Absent));
            let Answer::User(Some(u)) = get(&probes[9]) else { panic!() };
            assert_eq!((u.uid, u.home.as_str()), (0, "/root"));
            assert_eq!(get(&probes[10]), Answer::User(None));
            assert_eq!(get(&probes[12]), Answer::Sysctl(SysctlState::Value("Linux".into())));
            assert_eq!(
                get(&probes[14]),
                Answer::Script(Output { rc: 3, stdout: "out\n".into(), stderr: "err\n".into() })
            );
            s.close().await;
        }
    }

    #[tokio::test]
    async fn any_number_of_probes_is_answered() {
        let (mut s, _c) = shell("sh");
        let long = "x".repeat(200);
        let mut probes: Vec<Probe> = (0..12_000).map(|i| Probe::Path(format!("/{long}/{i}"))).collect();
        probes.push(Probe::Path("/etc".into()));
        probes.extend((0..12_000).map(|i| Probe::Sha256(format!("/{long}/{i}"))));
        probes.push(Probe::Sha256("/etc/passwd".into()));
        probes.extend((0..200).map(|i| Probe::Package(format!("{long}{i}"))));
        probes.extend((0..2000).map(|i| Probe::User(format!("{long}{i}"))));
        probes.push(Probe::User("root".into()));
        let r = ask(&mut s, &[], &probes).await;
        assert_eq!(r.answers.len(), probes.len());
        for (p, a) in r.answers {
            match (p, a) {
                (Probe::Path(p), Answer::Path(s)) => {
                    assert_eq!((s.entry.is_some(), &s.canonical), (p == "/etc", &p));
                }
                (Probe::Sha256(p), Answer::Sha256(s)) => assert_eq!(s.is_some(), p == "/etc/passwd"),
                (Probe::User(n), Answer::User(u)) => assert_eq!(u.is_some(), n == "root"),
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_none() {
        let (mut s, _c) = shell("yes");
        s.largest = 1 << 20;
        let request = Request { probes: &[Probe::Hostname], ..Default::default() };
        let e = tokio::time::timeout(Duration::from_secs(20), s.request(&request, None)).await.unwrap().unwrap_err();
        assert_eq!(e, ShellError::Garbled("more than 1048576 bytes in one answer".into()));
    }

    #[tokio::test]
    async fn a_scratch_folder_that_was_taken_away_is_made_again() {
        let (mut s, _c) = shell("sh");
        let run = |t: &str| Action::Script(t.into());
        assert_eq!(ask(&mut s, &[run("rm -rf \"$w_dir\"")], &[]).await.outputs.len(), 1);
        let r = ask(&mut s, &[run("echo a")], &[Probe::Script("echo b".into())]).await;
        assert_eq!((r.outputs[0].rc, r.outputs[0].stdout.as_str()), (0, "a\n"));
        let Answer::Script(o) = &r.answers[0].1 else { panic!() };
        assert_eq!(o.stdout, "b\n");
    }

    #[tokio::test]
    async fn outputs_do_not_pile_up_on_the_host() {
        let (mut s, _c) = shell("sh");
        for _ in 0..3 {
            ask(&mut s, &[Action::Script("echo a; echo b >&2".into())], &[Probe::Script("echo c".into())]).await;
        }
        let r = ask(&mut s, &[Action::Script("ls -A \"$w_dir\" | wc -l".into())], &[]).await;
        // Its own two.
        assert_eq!(r.outputs[0].stdout.trim(), "2");
    }

    #[tokio::test]
    async fn a_file_is_put_with_its_mode_whatever_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let bodies: [&[u8]; 5] = [b"", b"no newline", b"two\n\n", b"nul\0and \xff\n", b"quote ' $x `y` \\ \n"];
        let (mut s, _c) = shell("sh");
        for (i, body) in bodies.iter().enumerate() {
            let path = dir.path().join(format!("f {i}")).to_str().unwrap().to_string();
            let put = Put {
                path: path.clone(),
                body: (*body).into(),
                mode: 0o640,
                owner: None,
                group: None,
                keeps: None,
                validate: None,
                backup: None,
            };
            let r = ask(&mut s, &[Action::Put(put)], &[]).await;
            assert_eq!(r.outputs, [Output::default()], "{i}");
            assert_eq!(std::fs::read(&path).unwrap(), *body);
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), bodies.len(), "nothing else is left there");
    }

    #[test]
    fn a_link_put_in_the_place_of_a_new_file_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        // The owner of the folder wins the race between the writing and the change of mode and owner.
        let script = format!(
            "w_nonce=x\n{}\nw_swap() {{ cat; rm -f new; ln -s victim new; }}\n\
             w_put f new 0777 12345:12345 w_swap </dev/null; stat -c '%a %u' victim; cat victim",
            include_str!("prelude.sh")
        );
        for shell in ["dash", "bash"] {
            let out =
                std::process::Command::new(shell).arg("-c").arg(&script).current_dir(dir.path()).output().unwrap();
            let said = String::from_utf8_lossy(&out.stdout);
            assert!(said.starts_with("644 ") && !said.contains("12345"), "{shell}: {said}");
            assert!(said.ends_with("precious"), "{shell}: {said}");
        }
    }

    #[test]
    fn what_a_user_may_not_look_at_is_told_from_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().to_str().unwrap();
        let mode = |p: &str, m: u32| {
            std::fs::set_permissions(format!("{d}/{p}"), std::os::unix::fs::PermissionsExt::from_mode(m)).unwrap()
        };
        std::fs::create_dir(format!("{d}/closed")).unwrap();
        std::fs::write(format!("{d}/closed/f"), "").unwrap();
        mode("closed", 0o600);
        mode("", 0o755);
        let script = format!(
            "w_nonce=x\n{}\nw_paths {d}/closed/f {d}/closed/a/b {d}/none/f {d}/closed; w_content {d}/closed/f {d}/none",
            include_str!("prelude.sh")
        );
        for shell in ["dash", "bash"] {
            let run = |program: &str, args: &[&str]| {
                let out = std::process::Command::new(program).args(args).args([shell, "-c", &script]).output().unwrap();
                assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
                String::from_utf8_lossy(&out.stdout).into_owned()
            };
            let closed = format!("\nx denied\n{d}/closed/f\0{d}/closed/a/b\0\nx denied 0\n\nx absent 1\n");
            if rustix::process::geteuid().is_root() {
                assert!(run("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups"]).ends_with(&closed));
                assert!(!run("env", &[]).contains("x denied"));
            } else {
                assert!(run("env", &[]).ends_with(&closed));
            }
        }
        mode("closed", 0o700);
    }

    #[tokio::test]
    async fn output_that_is_cut_or_lost_says_so() {
        let (mut s, _c) = shell("sh");
        let size = crate::probe::OUTPUT_LIMIT;
        let run = |n: usize| Action::Script(format!("head -c {n} /dev/zero; echo end >&2"));
        let r = ask(&mut s, &[run(size), run(size + 1)], &[]).await;
        assert_eq!((r.outputs[0].stdout.len(), r.outputs[0].stderr.as_str()), (size, "end\n"));
        assert_eq!(r.outputs[1].stdout.len(), size);
        assert!(r.outputs[1].stderr.starts_with("end\nwindlass: ") && r.outputs[1].stderr.contains("8 MiB"));
        // Nothing can be made there, as where all is full.
        let script =
            format!("w_nonce=x\n{}\nw_dir=/proc/nothing; w_result a 2; w_result b 0", include_str!("prelude.sh"));
        let out = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(said.matches("temporary folder /proc/nothing is full").count(), 1, "{said}");
        let r = ask(&mut s, &[Action::Script("echo why >&2; exit 3".into())], &[]).await;
        assert_eq!(r.outputs[0], Output { rc: 3, stdout: String::new(), stderr: "why\n".into() });
    }

    #[tokio::test]
    async fn a_refused_file_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f").to_str().unwrap().to_string();
        std::fs::write(&path, "old").unwrap();
        let (mut s, _c) = shell("sh");
        let put = Put {
            path: path.clone(),
            body: b"new".as_slice().into(),
            mode: 0o644,
            owner: None,
            group: None,
            keeps: None,
            validate: Some(["grep", "-q", "old", "%s"].map(str::to_string).into()),
            backup: None,
        };
        let after = Action::Script("echo must not run".into());
        let r = ask(&mut s, &[Action::Put(put), after], &[]).await;
        assert_eq!(r.outputs.len(), 1);
        assert_eq!(r.outputs[0].rc, 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn commands_with_words_stdin_environment_and_time_limit() {
        let (mut s, _c) = shell("sh");
        let run = |what, stdin: Option<&str>, timeout| {
            Action::Command(Command {
                what,
                chdir: Some("/".into()),
                environment: vec![("GREETING".into(), "it's".into())],
                stdin: stdin.map(str::to_string),
                timeout,
            })
        };
        let sh = |t: &str| CommandLine::Shell { script: t.into(), shell: "/bin/sh".into() };
        let r = ask(&mut s, &[run(sh("echo \"$GREETING\"; pwd; cat; exit 4"), Some("in\n"), None)], &[]).await;
        assert_eq!((r.outputs[0].rc, r.outputs[0].stdout.as_str()), (4, "it's\n/\nin\n"));
        let words = CommandLine::Words { words: vec!["printf".into(), "%s".into(), "a  b".into()], expand: true };
        assert_eq!(ask(&mut s, &[run(words, None, None)], &[]).await.outputs[0].stdout, "a  b");
        let t = std::time::Instant::now();
        let r = ask(&mut s, &[run(sh("sleep 30 & sleep 30; echo no"), None, Some(1))], &[]).await;
        assert_eq!((r.outputs[0].rc, r.outputs[0].stdout.as_str()), (124, ""));
        assert!(t.elapsed() < Duration::from_secs(5));
        // A process left in the background writes into its own file, never into an answer.
        let r = ask(&mut s, &[run(sh("(sleep 0.2; echo late) & echo now"), None, None)], &[]).await;
        assert_eq!(r.outputs[0].stdout, "now\n");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(ask(&mut s, &[run(sh("echo next"), None, None)], &[]).await.outputs[0].stdout, "next\n");
    }

    #[tokio::test]
    async fn a_cut_off_request_does_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!("touch {}", mark.display());
        let (text, _) = Request { actions: &[Action::Script(script)], ..Default::default() }.script("abc", 1);
        let whole = format!("w_nonce=abc\n{}\n{text}", include_str!("prelude.sh"));
        for cut in [whole.len() - 13, whole.len() - 20, whole.len() - 60] {
            let mut child = std::process::Command::new("sh")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), &whole.as_bytes()[..cut]).unwrap();
            child.wait().unwrap();
            assert!(!mark.exists(), "{}", &whole[cut..]);
        }
    }

    #[tokio::test]
    async fn a_shell_that_ends_says_its_last_words() {
        let (mut s, _c) = shell("sh");
        let bad = Action::Script("kill -9 $$".into());
        let e = s.request(&Request { actions: &[bad], ..Default::default() }, None).await.unwrap_err();
        assert!(matches!(e, ShellError::Ended { .. }), "{e:?}");
    }
}
