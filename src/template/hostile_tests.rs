//! Templates that would never end, or take all memory there is: they are refused in words.

use super::{Found, Lookup, Templates, Trouble};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

struct Given(Value);

impl Lookup for Given {
    fn get(&self, name: &str, _: &[String]) -> Found {
        self.0.get(name).map_or(Found::Undefined, |v| Found::Value(v.clone()))
    }
    fn known(&self) -> Vec<String> {
        vec![]
    }
}

fn given() -> Given {
    Given(json!({
        "l": (0..100_000).collect::<Vec<_>>(), "s": "x".repeat(1 << 20), "a": "a", "n": 3,
        "words": vec!["word"; 50_000], "long": "w".repeat(1_000_000), "m": {"a": vec![1; 100_000]},
    }))
}

/// What is said of a file with that ending; it must not take long.
fn said(ending: &str, text: &str) -> String {
    let begin = Instant::now();
    let got = Templates::new().render_file(Path::new(&format!("/x.{ending}")), text, &vec![], &given());
    let shown = match got {
        Ok(s) => format!("{} bytes", s.len()),
        Err(Trouble::Error(e)) => format!("{} / {}", e.message, e.hint.unwrap_or_default()),
        Err(Trouble::Unknown(why)) => why,
    };
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?} for {text}: {shown}");
    shown
}

/// What is said if it is not what it should be.
fn other(ending: &str, text: &str, wanted: &str) -> Option<String> {
    let got = said(ending, text);
    (!got.contains(wanted)).then(|| format!("{}: {got}", &text[..text.len().min(200)]))
}

const SUM: &str = "more than 1 GiB of values / a loop in it";

#[test]
fn what_jinja_makes_has_a_limit() {
    let ns = |start: &str, turn: &str| {
        format!(
            "{{% set ns = namespace(x={start}) %}}{{% for i in range(60) %}}{{% set ns.x = {turn} %}}{{% endfor %}}done"
        )
    };
    let mut wrong = vec![];
    for (t, wanted) in [
        (ns("'a'", "ns.x ~ ns.x"), SUM),
        (ns("'a'", "ns.x + ns.x"), SUM),
        (ns("'a'", "ns.x * 2"), SUM),
        (ns("'a'", "2 * ns.x"), SUM),
        (ns("[1]", "ns.x + ns.x"), SUM),
        (ns("[1]", "ns.x * 2"), SUM),
        (ns("(1,)", "ns.x * 2"), SUM),
        (ns("[1]", "[ns.x, ns.x]"), SUM),
        (ns("{'a': 1}", "{'a': ns.x, 'b': ns.x}"), SUM),
        (ns("'a'", "ns.x.replace('a', 'aa')"), SUM),
        (ns("'a'", "ns.x | replace('a', 'aa')"), SUM),
        (ns("'a'", "[ns.x, ns.x] | join"), SUM),
        (ns("'a'", "ns.x.join([ns.x, ns.x])"), SUM),
        (ns("'a'", "'%s%s' % (ns.x, ns.x)"), SUM),
        (ns("'a'", "ns.x | regex_replace('a', 'aa')"), SUM),
        (ns("[1]", "ns.x | product(ns.x)"), SUM),
        (ns("'a'", "ns.x if false else ns.x ~ ns.x"), SUM),
        ("{% set l = [1] %}{% for i in range(60) %}{% set _ = l.append(l) %}{% endfor %}".into(), SUM),
        ("{% macro f(x, n) %}{% if n %}{{ f(x ~ x, n - 1) }}{% endif %}{% endmacro %}{{ f(s, 10) }}".into(), SUM),
        (format!("{{% set x = s %}}{}", "{% set x = x ~ x %}".repeat(50)), SUM),
        (format!("{{{{ {} | length }}}}", vec!["s"; 5000].join(" ~ ")), SUM),
        ("{{ ('a' * 100000000) | length }}".into(), "larger than 64 MiB"),
        ("{{ ('a' * 30000000 * 30000000) | length }}".into(), "larger than 64 MiB"),
        ("{{ (n * 'a' * 50000000) | length }}".into(), "larger than 64 MiB"),
        ("{{ 'a'.center(1000000000) }}".into(), "a width is 10000 at most"),
        ("{{ '%999999999d' % 1 }}".into(), "a width is 10000 at most"),
        ("{{ 'a' | center(1000000000) }}".into(), "a width is 10000 at most"),
        ("{{ 'a\nb' | indent(1000000000) }}".into(), "between 0 and 1000"),
        ("{{ range(1000000000) | list }}".into(), "too many elements"),
        ("{% for i in l %}{% for j in l %}{% endfor %}{% endfor %}".into(), "too many steps"),
        ("{% for i in l %}{{ i in l }}{% endfor %}".into(), SUM),
        ("{% for i in l %}{% if l == l %}{% endif %}{% endfor %}".into(), SUM),
        ("{% for i in l %}{% set x = l | length %}{% endfor %}".into(), SUM),
        (
            format!("{{% set x %}}{{% for i in l %}}{}{{% endfor %}}{{% endset %}}", "-".repeat(20_000)),
            "too many steps",
        ),
        (
            format!(
                "{{% macro f() %}}{}{{% endmacro %}}{{% for i in l %}}{{% set x = f() %}}{{% endfor %}}",
                "-".repeat(20_000)
            ),
            SUM,
        ),
        ("{{ 2 ** 1000000000 }}".into(), "unable to calculate"),
        ("{{ 9223372036854775807 * 9223372036854775807 * 9223372036854775807 }}".into(), "unable to calculate"),
        (
            "{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' | regex_replace('(?:(?=x)x|x)+y', '') }}".into(),
            "takes too long",
        ),
        ("{{ 1 | strftime }} {{ '%Y' | strftime(1e30) }}".into(), "out of the calendar"),
    ] {
        wrong.extend(other("j2", &t, wanted));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_jinja_holds_is_not_too_deep() {
    let deep = |turn: &str| {
        format!(
            "{{% set ns = namespace(x=1, y=1) %}}{{% for i in range(50000) %}}{{% set ns.x = {turn} %}}{{% endfor %}}{{{{ ns.x == ns.y }}}}"
        )
    };
    for turn in ["[ns.x]", "(ns.x,)", "{'a': ns.x}", "dict(a=ns.x)", "[[ns.x]]"] {
        assert!(said("j2", &deep(turn)).contains("too deep within each other"), "{turn}: {}", said("j2", &deep(turn)));
    }
    let unrolled = format!("{{% set x = 1 %}}{}", "{% set x = [x] %}".repeat(20_000));
    assert!(said("j2", &unrolled).contains("too deep within each other"));
    let inside = deep("namespace(x=ns.x)");
    assert!(said("j2", &inside).contains("too deep"), "{}", said("j2", &inside));
}

#[test]
fn what_templates_really_do_is_within_the_limits() {
    let fine = [
        (
            "j2",
            "{% set ns = namespace(t='') %}{% for w in words %}{% if loop.index < 3000 %}{% set ns.t = ns.t ~ w ~ '\n' %}{% endif %}{% endfor %}{{ ns.t }}",
            "14995 bytes",
        ),
        ("j2", "{% for w in words %}{{ w | upper }}{{ loop.index * 2 }}{% endfor %}", "444450 bytes"),
        ("j2", "{{ l | map('string') | join(',') | length }}", "6 bytes"),
        ("j2", "{{ l | unique | length }} {{ l | difference(l[5:]) }}", "22 bytes"),
        ("j2", "{{ l | groupby('x', default=1) | length }}", "1 bytes"),
        ("hbs", "{{#each l}}{{this}},{{/each}}", "588890 bytes"),
        ("hbs", "{{length (unique l)}} {{length (difference l (range 5 99999))}}", "8 bytes"),
        ("hbs", "{{length (wordwrap long 1)}}", "7 bytes"),
    ];
    for (ending, t, wanted) in fine {
        assert_eq!(said(ending, t), wanted, "{t}");
    }
}

#[test]
fn what_handlebars_makes_has_a_limit() {
    let nested = |inner: &str| {
        format!(
            "{{{{#each l}}}}{{{{#each @root.l}}}}{{{{#each @root.l}}}}{inner}{{{{/each}}}}{{{{/each}}}}{{{{/each}}}}"
        )
    };
    let mut wrong = vec![];
    for (t, wanted) in [
        (nested(""), SUM),
        (nested("x"), SUM),
        (nested("{{#if true}}x{{/if}}"), SUM),
        ("{{#each (range 0 100000)}}{{#each (range 0 100000)}}{{/each}}{{/each}}".into(), SUM),
        ("{{#each l}}{{@root.s}}{{/each}}".into(), "more than 64 MiB"),
        ("{{repeat a 1000000000}}".into(), "larger than 64 MiB"),
        ("{{repeat a 9223372036854775807}}".into(), "larger than 64 MiB"),
        ("{{range 0 1000000000}}".into(), "a million numbers at most"),
        ("{{range -9223372036854775808 9223372036854775807}}".into(), "a million numbers at most"),
        ("{{center a 1000000000}}".into(), "a width is 10000 at most"),
        ("{{indent a 1000000000}}".into(), "between 0 and 1000"),
        (r"{{indent (join words '\n') s}}".into(), "larger than 64 MiB"),
        ("{{length (join words s)}}".into(), "larger than 64 MiB"),
        (r"{{length (comment (join words '\n') decoration=s)}}".into(), "larger than 64 MiB"),
        ("{{length (wordwrap s 1 wrapstring=s)}}".into(), "larger than 64 MiB"),
        ("{{length (regex_replace s 'x' s)}}".into(), "larger than 64 MiB"),
        ("{{format '%1000000000d' 1}}".into(), "a width is 10000 at most"),
        ("{{format '%.1000000000f' 1}}".into(), "a width is 10000 at most"),
        ("{{to_nice_json m indent=1000000000}}".into(), "indent is 100 at most"),
        ("{{length (product l l)}}".into(), "more than 100000 elements"),
        ("{{length (permutations l)}}".into(), "more than 100000 elements"),
        ("{{length (combinations l 3)}}".into(), "more than 100000 elements"),
        ("{{length (subelements (list m) 'a')}}".into(), SUM),
        ("{{length (map l 'range' 100000)}}".into(), SUM),
        ("{{length (usable_range '::/0')}}".into(), "up to 65536 addresses"),
        ("{{length (usable_range '10.0.0.0/8')}}".into(), "up to 65536 addresses"),
        ("{{pow 10 1000000000}}".into(), "too large"),
        ("{{mul 9223372036854775807 2}}".into(), "too large"),
        ("{{password_hash 'x' 'sha512' salt='abcdefgh' rounds=1000000000}}".into(), "between 1000 and 2000000"),
        ("{{random_token 1000000000}}".into(), "between 1 and 4096"),
        ("{{regex_search 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' '(?:(?=x)x|x)+y'}}".into(), "takes too long"),
        ("{{strftime '%Y' 1000000000000000000}}".into(), "out of the calendar"),
        ("{{strftime '%Y' 8210266876799}}".into(), "out of the calendar"),
    ] {
        wrong.extend(other("hbs", &t, wanted));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for fine in [
        "{{ipsubnet '::/0' 128}}",
        "{{random 9223372036854775807 seed='x'}}",
        "{{nthhost '::/0' 5}}",
        "{{ipaddr '::/0' 'size'}}",
    ] {
        assert!(said("hbs", fine).ends_with("bytes"), "{fine}: {}", said("hbs", fine));
    }
}

#[test]
fn no_value_grows_deeper_from_task_to_task() {
    let t = Templates::new();
    let mut x = json!(1);
    for i in 0..300 {
        let c = t.compile("{{list (list x) 1}}").unwrap();
        match t.value(&c, &Given(json!({ "x": x }))) {
            Ok(v) => x = v,
            Err(Trouble::Error(e)) => {
                assert!(i > 40 && e.message.contains("more than 128 deep"), "{i} {}", e.message);
                return;
            }
            Err(Trouble::Unknown(why)) => panic!("{why}"),
        }
    }
    panic!("it goes on");
}
