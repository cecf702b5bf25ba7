use super::*;

struct Given(Json);

impl Lookup for Given {
    fn get(&self, name: &str, _: &[String]) -> Found {
        match self.0.get(name) {
            Some(Json::String(s)) if s == "<later>" => Found::Unknown("later".into()),
            Some(v) => Found::Value(v.clone()),
            None => Found::Undefined,
        }
    }
    fn known(&self) -> Vec<String> {
        self.0.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
    }
}

fn render(text: &str, v: Json) -> Result<String, Trouble> {
    Templates::new().render_file(Path::new("t.j2"), text, &Given(v))
}

fn said(text: &str, v: Json) -> String {
    match render(text, v) {
        Err(Trouble::Error(e)) => {
            format!("{} / {} @{:?}+{:?}", e.message, e.hint.unwrap_or_default(), e.at, e.len)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_template() {
    let v = json!({"a": {"b": 1}, "l": [1, "x", true, null, 1.5], "n": null});
    let same = |t: &str, s: &str| assert_eq!(render(t, v.clone()), Ok(s.to_string()), "{t}");
    same("x {{ a.b }}\n{% if a.b == 1 %}\nyes\n{% endif %}\nend\n", "x 1\nyes\nend\n");
    same("{{ l }}", "[1, 'x', True, None, 1.5]");
    same("{{ a.x.y | default('no') }} {{ a.x.y.z is defined }} {{ zz.y is not defined }}", "no False True");
    same("{{ '%s=%02d' % ('k', 7) }} {{ '%s' % a.b }}", "k=07 1");
    same("{% set s = [] %}{% for i in [1, 2] %}{% set _ = s.append(i * 2) %}{% endfor %}{{ s }}", "[2, 4]");
    same("{{ ['b', 'a'] | sort | join(',') }} {{ 'x' ~ true ~ 1.0 }}", "a,b xTrue1.0");
    same("{{ 'a.b.c'.split('.')[-1] }} {{ {'k': 1}.items() | list }}", "c [('k', 1)]");
    same("{{ 'x1' | regex_replace('(\\w)(\\d)', '\\\\2\\\\1') }}", "1x");
    same("#jinja2: variable_start_string:'[%', variable_end_string:'%]'\n[% a.b %] {{ a }}\n", "1 {{ a }}\n");
    same("{{ vars['a']['b'] }} {{ lookup('vars', 'a').b }} {{ lookup('env', 'NOT_SET') }}|", "1 1 |");
}

#[test]
fn what_is_missing_has_a_place() {
    let v = || json!({"host": 1, "m": {"abc": 1}, "l": [{"n": 1}]});
    let e = said("a\n  {{ hots }}\n", v());
    assert!(e.starts_with("undefined variable `hots` / did you mean `host`? @Some((2, 6))+Some(4)"), "{e}");
    let e = said("{% if m.abd == 1 %}{% endif %}", v());
    assert!(e.contains("there is no `abd` / did you mean `abc`?") && e.contains("(1, 7)"), "{e}");
    let e = said("{{ hots | upper }}", v());
    assert!(e.contains("undefined variable `hots`"), "{e}");
    let e = said("{% for i in l %}{{ i.x }}{% endfor %}", v());
    assert!(e.contains("`i.x` has no value") && e.contains("(1, 20)"), "{e}");
    let e = said("{{ [] | first }}", v());
    assert!(e.contains("`first`: the list is empty"), "{e}");
    let e = said("{{ loookup('env', 'x') }}", v());
    assert!(e.contains("unknown function `loookup` / did you mean `lookup`?"), "{e}");
    let e = said("{% include 'no.j2' %}", v());
    assert!(e.contains("there is no template `no.j2`"), "{e}");
}

#[test]
fn what_exists_later_is_not_guessed() {
    let v = json!({"a": "<later>", "t": true});
    assert_eq!(render("{{ a }}", v.clone()), Err(Trouble::Unknown("later".into())));
    assert_eq!(render("{{ 1 if t else a }}", v.clone()), Ok("1".into()));
    assert!(said("{{ a }} {{ nope }}", v).contains("undefined variable `nope`"));
}

/// Where the result is another than Ansible's, and why.
const BY_DESIGN: &[(&str, &str)] = &[];

/// Ansible's own results, the same that the helpers are held against.
#[test]
fn filters_and_tests_give_what_ansible_gives() {
    let oracle: Json = serde_json::from_str(include_str!("../helpers/oracle/results.json")).unwrap();
    let given = Given(serde_json::from_str(include_str!("../helpers/oracle/vars.json")).unwrap());
    let templates = Templates::new();
    let (mut wrong, mut used, mut same) = (vec![], HashSet::new(), 0);
    for case in oracle["results"].as_array().unwrap() {
        let jinja = case["jinja"].as_str().unwrap();
        let text = format!("{{{{ ({jinja}) | to_json }}}}");
        let got = templates.render_file(Path::new("t.j2"), &text, &given);
        let agrees = match (&got, case.get("gives")) {
            (Ok(s), Some(want)) => {
                serde_json::from_str::<Json>(s).is_ok_and(|v| crate::template::helpers::equal(&v, want))
            }
            (Err(_), None) => true,
            _ => false,
        };
        let excuse = BY_DESIGN.iter().find(|(part, _)| jinja.contains(part));
        match (agrees, excuse) {
            (true, _) => same += 1,
            (false, Some((part, _))) => drop(used.insert(*part)),
            (false, None) => wrong.push(format!("{jinja}\n  ours    {got:?}\n  Ansible {case}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ, {same} do not\n{}", wrong.len(), wrong.join("\n"));
    let idle: Vec<&str> = BY_DESIGN.iter().map(|(s, _)| *s).filter(|s| !used.contains(s)).collect();
    assert!(idle.is_empty(), "these agree: {idle:?}");
    assert!(same > 1000);
}
