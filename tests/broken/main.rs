//! Bad input never reaches a host.
//!
//! Every file in `cases/` holds small projects with one mistake each. The real program is run on them, as `check` and as
//! `apply`; what it says on standard error is in `snapshots/`, in the same order. `cases/fine.txt` holds projects without a
//! mistake, `cases/several.txt` such with many.
//!
//! To take over changed messages: `INSTA_UPDATE=always cargo test --test broken`, then read the diff.

mod project;
mod properties;

use project::{Case, Outcome};
use std::fmt::Write as _;

/// Runs the cases of one file; returns what they say, case by case.
fn say(area: &str, each: impl Fn(&Case, &mut Vec<String>) -> String) -> String {
    let (mut text, mut wrong) = (String::new(), vec![]);
    for case in project::read(area) {
        let mut of_case = vec![];
        let said = each(&case, &mut of_case);
        let _ = write!(text, "=== {}\n{said}", case.name);
        wrong.extend(of_case.into_iter().map(|w| format!("{area}, {}: {w}", case.name)));
    }
    assert!(wrong.is_empty(), "\n{}\n\n{text}", wrong.join("\n"));
    text
}

fn broken(area: &str) {
    let text = say(area, |case, wrong| {
        let mut said: Option<String> = None;
        for verb in case.verbs() {
            let Outcome { code, stderr, stdout, contacts } = case.run(verb);
            if code != 3 {
                wrong.push(format!("{verb} ends with {code}, not 3\n{stdout}\n{stderr}"));
            }
            if contacts != 0 {
                wrong.push(format!("{verb} contacted the host"));
            }
            if !stdout.is_empty() {
                wrong.push(format!("{verb} prints {stdout}"));
            }
            match &said {
                Some(s) if *s != stderr => wrong.push(format!("{verb} says something else:\n{stderr}")),
                _ => said = Some(stderr),
            }
        }
        let said = said.unwrap_or_default();
        wrong.extend(missing(case, &said));
        said
    });
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(area, text);
    });
}

/// What every message must have: a place, the source line with a caret, and a hint.
fn missing(case: &Case, said: &str) -> Vec<String> {
    let mut wrong = vec![];
    let mut blocks: Vec<&str> = said.split("\n\n").map(str::trim).filter(|b| !b.is_empty()).collect();
    let Some(last) = blocks.pop() else { return vec!["nothing is said".into()] };
    if !last.ends_with("no host was contacted") {
        wrong.push("it does not say that no host was contacted".into());
    }
    if said.contains("hunter2") {
        wrong.push("a secret is shown".into());
    }
    for (i, b) in blocks.iter().enumerate() {
        let title = b.lines().next().unwrap_or_default();
        if !b.starts_with("error: ") && !b.starts_with("warning: ") {
            wrong.push(format!("not a message: {title}"));
        }
        if blocks[..i].contains(b) {
            wrong.push(format!("said twice: {title}"));
        }
        let places = b.lines().filter_map(|l| l.trim_start().strip_prefix("--> ")).filter(|p| is_place(p)).count();
        if case.expects("place") && (places == 0 || !b.contains('^')) {
            wrong.push(format!("no place: {title}"));
        }
        if case.expects("hint") && !b.contains("help: ") {
            wrong.push(format!("no hint: {title}"));
        }
    }
    if case.one && blocks.len() != 1 {
        wrong.push(format!("{} messages for one mistake", blocks.len()));
    }
    wrong
}

/// `path:line:column`.
fn is_place(text: &str) -> bool {
    let mut parts = text.rsplitn(3, ':');
    let mut number = || parts.next().is_some_and(|p| p.parse::<u32>().is_ok_and(|n| n > 0));
    number() && number() && parts.next().is_some_and(|p| !p.is_empty())
}

macro_rules! areas {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { broken(stringify!($name)); })*
        /// Every file of cases is run, and none is forgotten.
        #[test]
        fn no_file_of_cases_is_left_out() {
            let run = [$(stringify!($name)),*, "fine"];
            for a in project::areas() {
                assert!(run.contains(&a.as_str()), "cases/{a}.txt is not run: add it to `areas!`");
            }
            let cases: usize = run.iter().map(|a| project::read(a).len()).sum();
            assert!(cases >= 100, "{cases}");
        }
    };
}

areas!(
    syntax,
    phases,
    tasks,
    needs,
    flow,
    limits,
    expressions,
    parameters,
    variables,
    arguments,
    files,
    jinja,
    roles,
    inventory,
    dynamic,
    connection,
    secrets,
    command_line,
    several
);

#[test]
fn fine() {
    say("fine", |case, wrong| {
        let Outcome { code, stderr, contacts, .. } = case.run("check");
        if code != 0 || !stderr.is_empty() || contacts != 0 {
            wrong.push(format!("check ends with {code} after {contacts} contacts:\n{stderr}"));
        }
        String::new()
    });
}
