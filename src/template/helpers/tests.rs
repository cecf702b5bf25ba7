//! The table itself: every example gives what it says.

use super::*;
use crate::template::{Found, Lookup, Templates, Trouble};

struct Nothing;

impl Lookup for Nothing {
    fn get(&self, _: &str, _: &[String]) -> Found {
        Found::Undefined
    }
    fn known(&self) -> Vec<String> {
        vec![]
    }
}

fn eval(t: &str) -> Result<Value, Trouble> {
    let e = Templates::new();
    let c = e.compile(t).map_err(Trouble::Error)?;
    e.value(&c, &Nothing)
}

#[test]
fn every_example_gives_what_it_says() {
    let mut wrong = vec![];
    for d in all() {
        let got = eval(d.example.0);
        let want: Value = serde_json::from_str(d.example.1).unwrap();
        if got != Ok(want) {
            wrong.push(format!("{}: {} gives {got:?}, not {}", d.name, d.example.0, d.example.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers_out_of_all_reason_are_no_trouble() {
    let lowest = "-9223372036854775808";
    assert_eq!(eval(&format!("{{{{mod {lowest} 3}}}}")), Ok(json!(1)));
    assert_eq!(eval(&format!("{{{{flatten (list (list 1)) {lowest}}}}}")), Ok(json!([1])));
    for t in ["{{batch (list 1) 9223372036854775807 0}}", "{{password_hash \"x\" rounds=999999999}}"] {
        let e = format!("{:?}", eval(t));
        assert!(e.contains("more than 100000") || e.contains("between 1000 and"), "{e}");
    }
}

#[test]
fn names_are_used_once() {
    let mut names: Vec<&str> = names().collect();
    names.sort();
    let n = names.len();
    names.dedup();
    assert_eq!(names.len(), n);
}

#[test]
fn documentation_is_one_line_each() {
    for d in all() {
        assert!(d.doc.ends_with('.') && !d.doc.contains('\n') && d.doc.len() < 260, "{}: {}", d.name, d.doc.len());
    }
}

#[test]
fn the_list_and_a_page() {
    insta::assert_snapshot!("list", list_page());
    insta::assert_snapshot!("page", page("map").unwrap());
    assert!(page("mpa").unwrap_err().contains("did you mean `map`?"));
}

/// Where the result is another than Ansible's, and why.
const BY_DESIGN: &[(&str, &str)] = &[
    (r#"ternary "no""#, "text that says no is no"),
    (r#"int "x""#, "what is no number is an error, not a silent 0; a second argument stands in for it"),
    ("list \"he said", "one thing is a list of one; characters are nobody's list"),
    ("quote uni", "quoted otherwise; a shell reads the same word"),
    (r#"quote "it's""#, "quoted otherwise; a shell reads the same word"),
    ("unique (list \"a\" \"A\")", "capitals make a difference"),
    ("difference l", "the list's own order is kept"),
    ("intersect l", "the list's own order is kept"),
    ("union l", "the list's own order is kept"),
    ("symmetric_difference l", "the list's own order is kept"),
    ("to_nice_yaml multi", "text of several lines stands as a block"),
    (r#"to_nice_yaml (dict "k" "1e3")"#, "a number to readers of YAML 1.2, so it is quoted"),
    (r#"to_nice_yaml (dict "k" "0o7")"#, "a number to readers of YAML 1.2, so it is quoted"),
    (r#"version "v1.2" "1.1""#, "a leading v does not count; Ansible fails"),
];

struct Given(Value);

impl Lookup for Given {
    fn get(&self, name: &str, _: &[String]) -> Found {
        self.0.get(name).cloned().map_or(Found::Undefined, Found::Value)
    }
    fn known(&self) -> Vec<String> {
        vec![]
    }
}

/// Ansible's own results (`oracle/make.py` renders them), case by case.
#[test]
fn results_are_those_of_ansible() {
    let oracle: Value = serde_json::from_str(include_str!("oracle/results.json")).unwrap();
    let given = Given(serde_json::from_str(include_str!("oracle/vars.json")).unwrap());
    let engine = Templates::new();
    let (mut wrong, mut used, mut same) = (vec![], std::collections::HashSet::new(), 0);
    for case in oracle["results"].as_array().unwrap() {
        let ours = case["windlass"].as_str().unwrap();
        let got =
            engine.compile(&format!("{{{{{ours}}}}}")).map_err(Trouble::Error).and_then(|c| engine.value(&c, &given));
        let agrees = match (&got, case.get("gives")) {
            (Ok(v), Some(want)) => args::exactly(v, want),
            (Err(_), None) => true,
            _ => false,
        };
        let excuse = BY_DESIGN.iter().find(|(start, _)| ours.starts_with(start));
        match (agrees, excuse) {
            (true, _) => same += 1,
            (false, Some((start, _))) => {
                used.insert(*start);
            }
            (false, None) => wrong.push(format!("{ours}\n  ours    {got:?}\n  Ansible {case}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ, {same} do not\n{}", wrong.len(), wrong.join("\n"));
    let idle: Vec<&str> = BY_DESIGN.iter().map(|(s, _)| *s).filter(|s| !used.contains(s)).collect();
    assert!(idle.is_empty(), "these agree: {idle:?}");
    assert!(same > 1000);
}

proptest::proptest! {
    #[test]
    fn base64_gives_back_what_it_was_given(s in ".*") {
        let given = Given(json!({"s": s}));
        let e = Templates::new();
        let c = e.compile("{{b64decode (b64encode s)}}").unwrap();
        proptest::prop_assert_eq!(e.value(&c, &given), Ok(json!(s)));
    }
}

/// `cargo test --release -- --ignored --nocapture speed_of_helpers`
#[test]
#[ignore = "a measurement"]
fn speed_of_helpers() {
    let given = Given(serde_json::from_str(include_str!("oracle/vars.json")).unwrap());
    let t = std::time::Instant::now();
    (0..100).for_each(|_| drop(std::hint::black_box(Templates::new())));
    eprintln!("engine: {:?}", t.elapsed() / 100);
    let e = Templates::new();
    for text in [
        "{{host}}",
        "{{default host 1}}",
        "x {{upper host}} {{join (map users attribute=\"name\") \",\"}}",
        "{{regex_replace host \"^(\\w+).*\" \"\\1\"}}",
        "{{to_nice_yaml (combine m n recursive=true)}}",
        "{{version \"v1.31.12+k3s1\" \"1.31\" \">=\"}}",
    ] {
        let c = e.compile(text).unwrap();
        let t = std::time::Instant::now();
        for _ in 0..10_000 {
            std::hint::black_box(e.value(&c, &given).unwrap());
        }
        eprintln!("{text}: {:?}", t.elapsed() / 10_000);
    }
}
