//! Commands that run on by themselves (`async`): started, and asked for until they have ended.

use super::executor::{Did, GivenUp, Worker};
use super::{Outcome, result};
use crate::action::{Command, CommandLine};
use crate::host;
use crate::modules::async_status::{FOLDER, Job, answer, question};
use crate::probe::{Probe, Touches};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A task's `async` and `poll`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Background {
    /// How long the command may run.
    pub limit: Duration,
    /// Between two looks; zero: nobody waits for it.
    pub poll: Duration,
}

/// A name for a job, unlike all others.
pub fn id() -> String {
    static JOBS: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros());
    format!("j{now}.{}.{}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed))
}

/// The command that starts another in the background. What it prints and its exit code are kept in files of its user.
pub fn start(command: Command, id: &str, limit: Duration) -> Command {
    let (shell, script) = match &command.what {
        CommandLine::Shell { script, shell } => (shell.clone(), script.clone()),
        CommandLine::Words { words, expand } => {
            ("/bin/sh".to_string(), format!("exec {}", host::words(words, *expand)))
        }
    };
    let shell = crate::quote::shell_quote(&shell);
    let end = format!("END-OF-{id}");
    let script = format!(
        "u=$(umask); umask 077
d=$HOME/{FOLDER}/{id}
mkdir -p -- \"$d\" || exit 1
cat >\"$d/in\" || exit 1
cat >\"$d/job\" <<'{end}' || exit 1
{script}
{end}
(: >\"$d/out\"; : >\"$d/err\"; umask \"$u\"
setsid sh -c 'd=$1; shift
read -r a b </proc/uptime
timeout -k 5 {seconds} \"$@\" <\"$d/in\" >\"$d/out\" 2>\"$d/err\" &
echo $! >\"$d/timeout\"; wait $!
r=$?; read -r z b </proc/uptime
case $r in 124|137) [ $((${{z%.*}} - ${{a%.*}})) -lt {seconds} ] || r=\"$r stopped\" ;; esac
echo \"$r\" >\"$d/rc.new\"; mv -f -- \"$d/rc.new\" \"$d/rc\"' sh \"$d\" {shell} \"$d/job\" >/dev/null 2>&1 </dev/null &
echo $! >\"$d/pid\")
",
        seconds = limit.as_secs().max(1),
    );
    Command { what: CommandLine::Shell { script, shell: "/bin/sh".into() }, ..command }
}

impl Worker {
    /// A command was started: waits for its end, where anybody does.
    pub(super) async fn started(
        &mut self,
        user: &Option<String>,
        id: &str,
        background: Background,
        mut did: Did,
    ) -> Result<Did, GivenUp> {
        did.output = None;
        let (began, clock) = (chrono::Utc::now(), Instant::now());
        if let Some(r) = did.result.as_object_mut() {
            for key in ["rc", "stdout", "stdout_lines", "stderr", "stderr_lines", "start", "end", "delta"] {
                r.shift_remove(key);
            }
            r.insert("ansible_job_id".into(), json!(id));
            r.insert("results_file".into(), json!(format!("~/{FOLDER}/{id}")));
            r.insert("started".into(), json!(1));
            r.insert("finished".into(), json!(0));
        }
        if background.poll.is_zero() {
            did.summary += ", in the background";
            return Ok(did);
        }
        let script = Probe::Script(question(id));
        // The job ends itself at its limit; beyond that its host is not to be heard of.
        let last = Instant::now() + background.limit + Duration::from_secs(60);
        let ended = loop {
            let shared = self.shared.clone();
            tokio::select! {
                () = tokio::time::sleep(background.poll) => {}
                () = shared.left() => {}
            }
            if shared.is_left() {
                return Ok(self.end_job(user, id, did).await);
            }
            self.forget(&Touches::everything());
            match self.ask(user, vec![script.clone()]).await {
                Err(e) if Instant::now() > last => return Err(e),
                Err(_) => continue,
                Ok(()) => {}
            }
            let seen = self.site.seen.entry(user.clone()).or_default();
            let said = match &script {
                Probe::Script(s) => seen.script(s).ok().map(answer),
                _ => None,
            };
            match said {
                Some(Job::Running) if Instant::now() <= last => {}
                Some(Job::Ended(o)) => break Some((o, false)),
                Some(Job::Stopped(o)) => break Some((o, true)),
                _ => break None,
            }
        };
        let clean = format!("rm -rf -- \"$HOME/{FOLDER}/{id}\"");
        let _ = self.send(user, &[crate::action::Action::Script(clean)], &[], Some(Duration::from_secs(60))).await;
        if let Some(r) = did.result.as_object_mut() {
            r.shift_remove("results_file");
            r.insert("finished".into(), json!(1));
        }
        let command = did.summary.strip_prefix("runs ").unwrap_or(&did.summary).to_string();
        let mut failure = super::event::FailureReport { command: Some(command), ..Default::default() };
        match ended {
            Some((o, stopped)) => {
                result::add_output(&mut did.result, &o);
                result::add_times(&mut did.result, began, clock.elapsed());
                (failure.rc, failure.stdout, failure.stderr) = (Some(o.rc), o.stdout.clone(), o.stderr.clone());
                failure.message = match stopped {
                    true => format!("did not end within {} s and was stopped", background.limit.as_secs()),
                    false => format!("the command ended with exit code {}", o.rc),
                };
                did.output = Some(o.clone());
                if o.rc == 0 {
                    return Ok(did);
                }
            }
            None => {
                failure.message = "the command is gone and left no exit code".into();
                failure.hint = Some("it was killed, or its host was restarted".into());
            }
        }
        did.outcome = Outcome::Failed;
        did.failure = Some(failure);
        Ok(did)
    }

    /// The run is left: the job is not.
    async fn end_job(&mut self, user: &Option<String>, id: &str, mut did: Did) -> Did {
        let ending = [crate::action::Action::Script(ending(id))];
        if let Some(link) = &mut self.site.link {
            let request = host::Request { actions: &ending, ..Default::default() };
            // A host that does not answer any more cannot be told.
            if let Err(e) = link.request(user, &request, Some(ENDING)).await {
                tracing::debug!(?e, "a job could not be ended");
            }
        }
        let e = super::executor::was_left();
        did.outcome = Outcome::Failed;
        did.failure = Some(super::event::FailureReport { message: e.to_string(), hint: e.hint, ..Default::default() });
        did
    }
}

/// How long a host may take to end a job.
const ENDING: Duration = Duration::from_secs(5);

/// Ends a job, and all that it has started: `timeout` passes the signal on to the group it has made.
fn ending(id: &str) -> String {
    format!(
        "d=$HOME/{FOLDER}/{id}
p=$(cat \"$d/timeout\" 2>/dev/null) && kill -TERM \"$p\" 2>/dev/null
p=$(cat \"$d/pid\" 2>/dev/null) && kill -TERM -- \"-$p\" 2>/dev/null
rm -rf -- \"$d\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(home: &std::path::Path, script: &str) -> String {
        let out = std::process::Command::new("sh").args(["-c", script]).env("HOME", home).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    #[test]
    fn a_job_is_started_and_says_how_it_ended() {
        let home = tempfile::tempdir().unwrap();
        let what = CommandLine::Words {
            words: vec!["sh".into(), "-c".into(), "sleep 0.3; umask; exit 3".into()],
            expand: false,
        };
        let c = start(Command { what, ..Default::default() }, "j1", Duration::from_secs(9));
        let CommandLine::Shell { script, .. } = c.what else { panic!() };
        sh(home.path(), &format!("umask 022; ({script}) </dev/null"));
        let ask = || {
            let stdout = sh(home.path(), &question("j1"));
            answer(&crate::probe::Output { rc: 0, stdout, stderr: String::new() })
        };
        assert_eq!(ask(), Job::Running);
        let begun = Instant::now();
        while ask() == Job::Running && begun.elapsed() < Duration::from_secs(8) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let Job::Ended(o) = ask() else { panic!("{:?}", ask()) };
        assert_eq!((o.rc, o.stdout.as_str()), (3, "0022\n"));
        let mode = |name: &str| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(home.path().join(FOLDER).join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("j1"), mode("j1/out"), mode("j1/job")), (0o700, 0o600, 0o600));
        assert_ne!(id(), id());
    }

    #[test]
    fn only_the_limit_stops_a_job_not_its_own_exit_code() {
        let home = tempfile::tempdir().unwrap();
        let ended = |id: &str, command: &str| {
            let what = CommandLine::Shell { script: command.into(), shell: "/bin/sh".into() };
            let c = start(Command { what, ..Default::default() }, id, Duration::from_secs(1));
            let CommandLine::Shell { script, .. } = c.what else { panic!() };
            sh(home.path(), &format!("({script}) </dev/null"));
            let begun = Instant::now();
            loop {
                let stdout = sh(home.path(), &question(id));
                let job = answer(&crate::probe::Output { rc: 0, stdout, stderr: String::new() });
                if job != Job::Running || begun.elapsed() > Duration::from_secs(8) {
                    return job;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        assert!(matches!(ended("j1", "exit 124"), Job::Ended(o) if o.rc == 124));
        assert!(matches!(ended("j2", "exit 137"), Job::Ended(o) if o.rc == 137));
        assert!(matches!(ended("j3", "sleep 7"), Job::Stopped(o) if o.rc == 124));
    }
}
