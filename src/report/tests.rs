//! Every line a person sees, as it is.

use super::{LogFile, Reader, Terminal, View};
use crate::modules::Diff;
use crate::probe::Output;
use crate::run::event::{Counts, FailureReport, PartEnded, Recap, Started, StepEnded};
use crate::run::{Again, Event, Outcome};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);
impl Write for Sink {
    fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn step(host: &str, task: &str, outcome: Outcome, parts: Vec<PartEnded>) -> Event {
    Event::StepEnded(Box::new(StepEnded {
        host: host.into(),
        phase: "redis".into(),
        task: task.into(),
        place: "roles/redis_ha/tasks/main.yml:12".into(),
        module: "systemd",
        handler: false,
        outcome,
        why: None,
        took: Duration::from_millis(20),
        parts,
    }))
}

fn part(outcome: Outcome, summary: &str) -> PartEnded {
    PartEnded { outcome: Some(outcome), summary: summary.into(), attempts: 1, ..Default::default() }
}

fn events(check_mode: bool) -> Vec<Event> {
    let item = |label: &str, p: PartEnded| PartEnded { label: Some(label.into()), ..p };
    let diff = Diff { what: "/etc/a".into(), before: Some("one\ntwo\n".into()), after: Some("one\n2\n".into()) };
    let failure = FailureReport {
        message: "redis-server does not start".into(),
        hint: Some("see its journal".into()),
        command: Some("systemctl start redis-server".into()),
        rc: Some(1),
        stdout: String::new(),
        stderr: (1..=30).map(|i| format!("line {i}\n")).collect(),
        evidence: vec![("listening".into(), "tcp 6379".into())],
        source: None,
    };
    let counts = |changed, failed, blocked| Counts {
        satisfied: 4,
        changed,
        failed,
        blocked,
        skipped: 1,
        round_trips: 3,
        ..Default::default()
    };
    vec![
        Event::Started(Started {
            run: "20260102-030405-00ff".into(),
            playbook: "playbooks/demo.yml".into(),
            hosts: vec!["n1".into(), "node2".into()],
            steps: 12,
            check_mode,
            command: Again {
                given: "windlass apply x.yml -l all".into(),
                bare: "windlass apply x.yml".into(),
                hosts: std::sync::Arc::new(["n1", "node2"].map(str::to_string).into()),
            },
        }),
        Event::Note { host: Some("n1".into()), message: "due from a run before: handler restart".into() },
        Event::Connected { host: "n1".into(), took: Duration::from_millis(33) },
        step("n1", "base : Packages", Outcome::Satisfied, vec![part(Outcome::Satisfied, "")]),
        step(
            "n1",
            "base : A file",
            Outcome::Changed,
            vec![PartEnded { diff: vec![diff], ..part(Outcome::Changed, "content changes") }],
        ),
        step(
            "n1",
            "several",
            Outcome::Changed,
            vec![
                item("a", part(Outcome::Changed, "new file")),
                item("b", part(Outcome::Satisfied, "")),
                item("c", part(Outcome::Changed, "mode 0644 -> 0600")),
            ],
        ),
        step(
            "n1",
            "say",
            Outcome::Satisfied,
            vec![PartEnded { say: Some("hello\nthere".into()), ..part(Outcome::Satisfied, "") }],
        ),
        step(
            "n1",
            "look",
            Outcome::Satisfied,
            vec![PartEnded {
                output: Some(Output { rc: 0, stdout: "seen\n".into(), stderr: String::new() }),
                ..part(Outcome::Satisfied, "runs cat /x")
            }],
        ),
        step(
            "n1",
            "maybe",
            Outcome::KnownAfterApply,
            vec![part(Outcome::KnownAfterApply, "it depends on what an earlier change brings")],
        ),
        step(
            "node2",
            "redis_ha : Redis runs",
            Outcome::Failed,
            vec![PartEnded { failure: Some(failure), ..part(Outcome::Failed, "starts") }],
        ),
        step("node2", "redis_ha : Later", Outcome::Blocked, vec![]),
        Event::Unreachable {
            task: "base : Packages".into(),
            place: "roles/base/tasks/main.yml:1".into(),
            host: "node2".into(),
            message: "10.0.0.2:22: connection refused".into(),
            hint: Some("is sshd up?".into()),
        },
        Event::Ended(Recap {
            run: "20260102-030405-00ff".into(),
            check_mode,
            interrupted: false,
            left: false,
            hosts: vec![
                ("n1".into(), counts(2, 0, 0)),
                ("node2".into(), Counts { unreachable: true, unknown: 1, ..counts(0, 1, 3) }),
            ],
            took: Duration::from_millis(65_000),
            again: Some("windlass apply x.yml --limit node2".into()),
            due: vec!["node2: redis / restart".into()],
        }),
    ]
}

#[test]
fn ignored_failures_have_a_column_where_there_are_any() {
    console::set_colors_enabled(false);
    let host = |ignored, rescued| Counts { satisfied: 4, ignored, rescued, ..Default::default() };
    let recap = |ignored, rescued| {
        let hosts = vec![("n1".into(), host(ignored, rescued)), ("n2".into(), host(0, 0))];
        super::words::recap(&Recap { hosts, ..Default::default() })
    };
    let rows = |text: &str| text.lines().take(3).map(str::to_string).collect::<Vec<_>>();
    let head = "host  satisfied    changed     failed    blocked    skipped";
    assert_eq!(rows(&recap(0, 0))[0], head);
    let two = rows(&recap(2, 1));
    assert_eq!(two[0], format!("{head}    rescued    ignored"));
    assert!(two[1].ends_with("0          1          2") && two[2].ends_with("0          0          0"), "{two:?}");
    assert_eq!(rows(&recap(2, 0))[0], format!("{head}    ignored"));
}

fn shown(verbose: u8, diff: bool, check_mode: bool) -> String {
    console::set_colors_enabled(false);
    let sink = Sink::default();
    let mut t = Terminal::new(View { verbose, diff, live: false }, Box::new(sink.clone()));
    events(check_mode).iter().for_each(|e| t.event(e));
    String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn an_apply() {
    insta::assert_snapshot!(shown(0, false, false));
}

#[test]
fn a_diff_tells_of_the_end_of_lines_and_of_the_file() {
    let shown = |before: &str, after: &str| {
        let d = Diff { what: "f".into(), before: Some(before.into()), after: Some(after.into()) };
        let d = match (Event::Asked { host: "h".into(), text: "t".into(), diff: vec![d] }).printable() {
            Event::Asked { mut diff, .. } => diff.remove(0),
            e => panic!("{e:?}"),
        };
        let plain = console::strip_ansi_codes(&super::words::diff(&d)).into_owned();
        plain.lines().skip(3).map(|l| l.trim_start().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(shown("a\r\n", "a\n"), ["-a^M", "+a"]);
    assert_eq!(shown("a", "a\n"), ["-a", "\\ No newline at end of file", "+a"]);
}

#[test]
fn a_plan_with_diff() {
    insta::assert_snapshot!(shown(0, true, true));
}

#[test]
fn everything() {
    insta::assert_snapshot!(shown(2, true, false));
}

#[test]
fn the_log_has_it_all_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mut l = LogFile::create(&dir.path().join("logs"), "r1").unwrap();
    events(false).iter().for_each(|e| l.event(e));
    let text = std::fs::read_to_string(&l.path).unwrap();
    let without_times: String = text.lines().map(|l| format!("{}\n", l.split_once(' ').unwrap().1)).collect();
    insta::assert_snapshot!(without_times);
    assert_eq!(std::fs::metadata(&l.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(LogFile::create(&dir.path().join("logs"), "r1").is_err(), "a log is never written over");
}
