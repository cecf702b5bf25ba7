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
    Templates::new().render_file(Path::new("t.j2"), text, &vec![], &Given(v))
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
    same("{{ 'a.b.c'.split('.')[-1] }} {{ {'k': 1}.items() | list }}", "c [['k', 1]]");
    same("{{ 'x1' | regex_replace('(\\w)(\\d)', '\\\\2\\\\1') }}", "1x");
    same("#jinja2: variable_start_string:'[%', variable_end_string:'%]'\n[% a.b %] {{ a }}\n", "1 {{ a }}\n");
    same("{{ vars['a']['b'] }} {{ lookup('vars', 'a').b }} {{ lookup('env', 'NOT_SET') }}|", "1 1 |");
}

#[test]
fn a_task_may_say_how_its_template_is_written() {
    let with = |text: &str, settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Templates::new().render_file(Path::new("t.j2"), text, &settings, &Given(json!({"a": 1})))
    };
    let text = "  {% if a %}\n  x\n  {% endif %}\n";
    assert_eq!(with(text, &[]), Ok("    x\n  \n".into()));
    assert_eq!(with(text, &[("lstrip_blocks", "True")]), Ok("  x\n".into()));
    assert_eq!(with(text, &[("trim_blocks", "False")]), Ok("  \n  x\n  \n".into()));
    let brackets = [("variable_start_string", "[["), ("variable_end_string", "]]")];
    assert_eq!(with("[[ a ]] {{ a }}", &brackets), Ok("1 {{ a }}".into()));
    assert_eq!(with("#jinja2: variable_start_string:'(('\n(( a ]]", &brackets), Ok("1".into()));
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
const BY_DESIGN: &[(&str, &str)] = &[
    ("l | difference", "Ansible's order is that of a set, which has none"),
    ("l | intersect", "the same"),
    ("l | union", "the same"),
    ("l | symmetric_difference", "the same"),
    (r#""v1.2" is version"#, "a leading v does not count; Ansible fails"),
];

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
        let got = templates.render_file(Path::new("t.j2"), &text, &vec![], &given);
        let agrees = match (&got, case.get("gives")) {
            (Ok(s), Some(want)) => {
                serde_json::from_str::<Json>(s).is_ok_and(|v| crate::template::helpers::exactly(&v, want))
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

/// The variables of tests/fixtures/jinja, seen from its host n1.
struct Lab(Json);

impl Lab {
    fn new() -> Self {
        let read = |name: &str| -> Json {
            serde_yaml::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
        };
        let (mut vars, inventory) = (read("vars.yml"), read("inventory.yml"));
        let (mut hosts, mut groups) = (json!({}), json!({"all": [], "ungrouped": []}));
        for (group, g) in inventory["all"]["children"].as_object().unwrap() {
            for (host, own) in g["hosts"].as_object().unwrap() {
                hosts[host] = own.clone();
                for g in ["all", group] {
                    match groups.get_mut(g) {
                        Some(l) => l.as_array_mut().unwrap().push(json!(host)),
                        None => groups[g] = json!([host]),
                    }
                }
            }
        }
        for (k, v) in hosts["n1"].as_object().unwrap() {
            vars[k] = v.clone();
        }
        let here = json!(folder().display().to_string());
        let known = json!({"hostvars": hosts, "groups": groups, "group_names": ["k3s_server"], "inventory_hostname": "n1",
            "role_path": here, "playbook_dir": here, "omit": crate::template::OMIT});
        vars.as_object_mut().unwrap().extend(known.as_object().unwrap().clone());
        Lab(vars)
    }
}

impl Lookup for Lab {
    fn get(&self, name: &str, words: &[String]) -> Found {
        match self.0.get(name) {
            // As a run gives it: cut down to what is asked for.
            Some(Json::Object(hosts)) if name == "hostvars" => Found::Value(
                hosts
                    .iter()
                    .map(|(h, vars)| {
                        let known = vars.as_object().unwrap().iter().filter(|(k, _)| words.contains(k));
                        (h.clone(), Json::Object(known.map(|(k, v)| (k.clone(), v.clone())).collect()))
                    })
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            ),
            Some(v) => Found::Value(v.clone()),
            None => Found::Undefined,
        }
    }
    fn known(&self) -> Vec<String> {
        self.0.as_object().unwrap().keys().cloned().collect()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jinja")
}

/// What Ansible made of them was written by tests/fixtures/jinja/render.py.
#[test]
fn templates_come_out_as_ansible_renders_them() {
    let (lab, templates) = (Lab::new(), Templates::new());
    let (mut wrong, mut n) = (vec![], 0);
    for entry in std::fs::read_dir(folder().join("templates")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "j2") {
            continue;
        }
        n += 1;
        let want = std::fs::read_to_string(folder().join("expected").join(path.file_stem().unwrap())).unwrap();
        match templates.render_file(&path, &std::fs::read_to_string(&path).unwrap(), &vec![], &lab) {
            Ok(got) if got == want => {}
            Ok(got) => {
                let diff = similar::TextDiff::from_lines(&want, &got);
                wrong.push(format!("{}\n{}", path.display(), diff.unified_diff().context_radius(0)));
            }
            Err(e) => wrong.push(format!("{}: {e:?}", path.display())),
        }
    }
    assert!(n >= 30);
    assert!(wrong.is_empty(), "{} of {n} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Where an expression comes to something else, and why.
const OTHERWISE: &[(&str, &str)] =
    &[("varargs", "the engine's macros have none"), ("lookup('pipe'", "a template runs nothing")];

#[test]
fn expressions_come_out_as_ansible_renders_them() {
    let (lab, templates) = (Lab::new(), Templates::new());
    let text = std::fs::read_to_string(folder().join("expressions.json")).unwrap();
    let oracle: Json = serde_json::from_str(&text).unwrap();
    let (mut wrong, mut used, mut same) = (vec![], HashSet::new(), 0);
    for case in oracle["results"].as_array().unwrap() {
        let jinja = case["jinja"].as_str().unwrap();
        let got = templates.render_file(&folder().join("templates/x.j2"), &format!("<{jinja}>"), &vec![], &lab);
        let agrees = match (&got, case.get("gives")) {
            (Ok(s), Some(want)) => *s == *want,
            (Err(_), None) => true,
            _ => false,
        };
        match (agrees, OTHERWISE.iter().find(|(part, _)| jinja.contains(part))) {
            (true, _) => same += jinja.matches("{{").count().max(1),
            (false, Some((part, _))) => drop(used.insert(*part)),
            (false, None) => wrong.push(format!(
                "{jinja}\n  ours    {got:?}\n  Ansible {}",
                case.get("gives").or(case.get("error")).unwrap()
            )),
        }
    }
    assert!(wrong.is_empty(), "{} differ, {same} do not\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(used.len(), OTHERWISE.len(), "some agree: {used:?}");
    assert!(same > 400, "{same}");
}

/// Pieces that templates are made of, whole and broken.
fn pieces() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    const PIECES: [&str; 72] = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{{ a }}",
        "{% if a %}",
        "{% else %}",
        "{% endif %}",
        "{% for i in l %}",
        "{% endfor %}",
        "{{ i }}",
        "{% set x = ",
        " %}",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "a",
        "l",
        "m",
        ".",
        "|",
        "~",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "==",
        "<",
        " in ",
        " is ",
        " not ",
        " and ",
        " if ",
        " else ",
        "'x'",
        "\"",
        "'",
        "\\",
        "1",
        "0",
        "-1",
        "1.5",
        "9999999999999999999999",
        "default",
        "first",
        "sort",
        "map",
        "join",
        "range(9)",
        "loop",
        "recursive",
        "{% raw %}",
        "{% endraw %}",
        "{% macro f(a) %}",
        "{% endmacro %}",
        "{{ f(1) }}",
        "{% include 'x' %}",
        "namespace()",
        "\n",
        " ",
        ",",
        ":",
        "#jinja2: ",
        "☃",
    ];
    proptest::collection::vec(
        prop_oneof![4 => proptest::sample::select(&PIECES[..]).prop_map(str::to_string), 1 => ".{0,4}"],
        0..24,
    )
    .prop_map(|v| v.concat())
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic(text in pieces()) {
        let v = json!({"a": "x", "l": [1, "b", null], "m": {"k": [1]}});
        if let Err(Trouble::Error(e)) = render(&text, v) {
            if let (Some((l, c)), None) = (e.at, &e.span) {
                proptest::prop_assert!(l >= 1 && c >= 1 && l <= text.replace("\r\n", "\n").replace('\r', "\n").matches('\n').count() + 1, "{e:?}");
            }
            proptest::prop_assert!(e.hint.is_some(), "{e:?}");
        }
    }

    #[test]
    fn expressions_make_nothing_panic(name in proptest::sample::select(door::filters().collect::<Vec<_>>()), on in "(a|l|m|[0-9]{1,3}|none|[.]5|'[a-z.:/%0-9]{0,8}')", with in "(|\\(('[a-z%]{0,3}'|-?[0-9]{1,3}|l|m)(, (a|l|true|3))?\\))") {
        let v = json!({"a": "x", "l": [1, "b", null], "m": {"k": [1]}});
        drop(render(&format!("{{{{ {on} | {name}{with} }}}}"), v));
    }
}

#[test]
fn files_that_are_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("lib.j2", "{% macro m(x) %}<{{ x }}{{ a }}>{% endmacro %}");
    write("part.j2", "part {{ a }}\r\n");
    write("broken.j2", "x\n{{ a | nofilter }}");
    write("late.j2", "x\n{{ hots }}");
    let render = |text: &str| {
        let given = Given(json!({"a": 1, "host": 1, "which": "part.j2", "role_path": "/nowhere"}));
        Templates::new().render_file(&dir.path().join("t.j2"), text, &vec![], &given)
    };
    let same = |t: &str, s: &str| assert_eq!(render(t), Ok(s.to_string()), "{t}");
    same("{% import 'lib.j2' as lib with context %}{{ lib.m(2) }}", "<21>");
    same("{% from 'lib.j2' import m with context %}{{ m(3) }}", "<31>");
    same("{% include 'part.j2' %}!{% include which %}!{% include ['no.j2', 'part.j2'] %}", "part 1!part 1!part 1");
    same("{% include 'no.j2' ignore missing %}|{% include 'part.j2' with context %}", "|part 1");
    let place = |t: &str| match render(t) {
        Err(Trouble::Error(e)) => format!("{} {}", e.message, e.span.map(|s| s.line()).unwrap_or_default()),
        other => format!("{other:?}"),
    };
    assert!(place("{% include 'broken.j2' %}").starts_with("unknown filter `nofilter`"));
    assert!(place("{% include 'broken.j2' %}").contains("broken.j2:2"), "{}", place("{% include 'broken.j2' %}"));
    assert!(place("{% include 'late.j2' %}").contains("late.j2:2"), "{}", place("{% include 'late.j2' %}"));
    assert!(place("{% include 'n' ~ 'o' %}").contains("there is no template `no`"));
    assert!(place("{% include '/etc/passwd' %}").contains("there is no template"));
}

#[test]
fn what_never_ends_is_ended() {
    let e = |t: &str| said(t, json!({"l": [1]}));
    assert!(e("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").contains("leads to itself"));
    let s = e("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}");
    assert!(s.contains("too many steps"), "{}", &s[..200.min(s.len())]);
    // In tests, the sum of all that is made is reached before the longest text.
    let s = e("{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}");
    assert!(s.contains("more than 1 GiB of values"), "{}", &s[..200.min(s.len())]);
    assert!(e(&"(".repeat(5000)).starts_with("Ok"));
    let s = e(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)));
    assert!(s.contains("more than 100 deep"), "{}", &s[..200.min(s.len())]);
    // A line may be longer than the engine counts columns.
    assert!(e(&format!("{{{{ 1{} }}}}", " + 1".repeat(100))).contains("101"));
    assert!(e(&format!("{}{{{{ 1", " ".repeat(70_000))).contains("not closed"));
    assert!(e(&format!("{{{{ 1 {} + }}}}", " ".repeat(70_000))).contains("syntax"));
    drop(e("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}{{ ns ~ '' }}{{ [ns] | to_json }}"));
    drop(e("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}"));
    drop(e("{% for x in [[[[]]]] recursive %}{{ loop(x) }}{% endfor %}"));
}
