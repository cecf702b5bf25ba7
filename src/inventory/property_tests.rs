//! What holds for every input.

use super::pattern::select;
use super::range::expand;
use super::tests::{read, vars_of};
use super::{Inventory, literal, words};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;

type MadeGroup = (Vec<usize>, Vec<usize>, BTreeMap<String, i64>);

/// A small random inventory: hosts with variables, groups with hosts, and groups of later groups.
#[derive(Debug, Clone)]
struct Made {
    hosts: Vec<(String, BTreeMap<String, i64>)>,
    /// Each with its hosts, its children and its variables.
    groups: Vec<MadeGroup>,
}

fn some_vars() -> impl Strategy<Value = BTreeMap<String, i64>> {
    btree_map("[a-d]", -99i64..99, 0..3)
}

fn made() -> impl Strategy<Value = Made> {
    (vec(some_vars(), 1..7), vec((vec(0usize..7, 0..4), vec(0usize..5, 0..3), some_vars()), 0..5)).prop_map(
        |(hosts, groups)| Made {
            hosts: hosts.into_iter().enumerate().map(|(i, v)| (format!("h{i}"), v)).collect(),
            groups,
        },
    )
}

impl Made {
    fn members(&self, g: usize) -> impl Iterator<Item = &str> {
        self.groups[g].0.iter().map(|h| self.hosts[h % self.hosts.len()].0.as_str())
    }
    /// Only groups that come later, so that there is no circle.
    fn children(&self, g: usize) -> Vec<usize> {
        let mut c: Vec<usize> = self.groups[g].1.iter().map(|n| g + 1 + n).filter(|n| *n < self.groups.len()).collect();
        c.sort_unstable();
        c.dedup();
        c
    }
    fn ini(&self) -> String {
        let mut out = String::new();
        for (h, vars) in &self.hosts {
            let _ = write!(out, "{h}");
            vars.iter().for_each(|(k, v)| {
                let _ = write!(out, " {k}={v}");
            });
            out.push('\n');
        }
        for g in 0..self.groups.len() {
            let _ = writeln!(out, "[g{g}]");
            self.members(g).for_each(|h| {
                let _ = writeln!(out, "{h}");
            });
            let _ = writeln!(out, "[g{g}:vars]");
            self.groups[g].2.iter().for_each(|(k, v)| {
                let _ = writeln!(out, "{k}={v}");
            });
            let _ = writeln!(out, "[g{g}:children]");
            self.children(g).iter().for_each(|c| {
                let _ = writeln!(out, "g{c}");
            });
        }
        out
    }
    fn yaml(&self) -> String {
        let flow = |vars: &BTreeMap<String, i64>| {
            let pairs: Vec<String> = vars.iter().map(|(k, v)| format!("{k}: {v}")).collect();
            format!("{{{}}}", pairs.join(", "))
        };
        let mut out = String::from("ungrouped:\n  hosts:\n");
        self.hosts.iter().for_each(|(h, v)| {
            let _ = writeln!(out, "    {h}: {}", flow(v));
        });
        for g in 0..self.groups.len() {
            let mut members: Vec<&str> = vec![];
            self.members(g).for_each(|m| {
                if !members.contains(&m) {
                    members.push(m)
                }
            });
            let hosts: Vec<String> = members.iter().map(|m| format!("{m}: ")).collect();
            let children: Vec<String> = self.children(g).iter().map(|c| format!("g{c}: ")).collect();
            let _ = writeln!(out, "g{g}:\n  hosts: {{{}}}\n  vars: {}", hosts.join(", "), flow(&self.groups[g].2));
            let _ = writeln!(out, "  children: {{{}}}", children.join(", "));
        }
        out
    }
}

fn shape(i: &Inventory) -> String {
    let mut out = String::new();
    let mut hosts: Vec<&String> = i.hosts.keys().collect();
    hosts.sort();
    for h in hosts {
        let _ = writeln!(out, "{h} {:?} {}", i.groups_of(h), vars_of(i, h));
    }
    let mut groups: Vec<_> = i.groups.values().collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    for g in groups {
        let mut children: Vec<&String> = g.children.iter().collect();
        children.sort();
        let _ = writeln!(out, "{} {} {:?} {:?}", g.name, g.depth, g.hosts, children);
    }
    out
}

proptest! {
    #[test]
    fn ini_and_yaml_of_one_inventory_are_the_same(m in made()) {
        let (ini, f1) = read("h.ini", &m.ini());
        let (yaml, f2) = read("h.yml", &m.yaml());
        prop_assert!(f1.is_empty(), "{}\n{}", m.ini(), f1.render(false));
        prop_assert!(f2.is_empty(), "{}\n{}", m.yaml(), f2.render(false));
        prop_assert_eq!(shape(&ini), shape(&yaml));
    }

    #[test]
    fn patterns_keep_their_algebra(m in made(), a in 0usize..5, b in 0usize..5) {
        let (i, _) = read("h.ini", &m.ini());
        let name = |n: usize| if n < m.groups.len() { format!("g{n}") } else { "all".to_string() };
        let (a, b) = (name(a), name(b));
        let of = |p: &str| select(&i, p).unwrap().into_iter().map(String::from).collect::<Vec<_>>();
        let set = |p: &str| { let mut v = of(p); v.sort(); v };
        prop_assert_eq!(of(&format!("{a}:!{a}")).len(), 0);
        prop_assert_eq!(of(&format!("{a}:&{a}")), of(&a));
        prop_assert_eq!(of(&format!("{a}:{a}")), of(&a));
        prop_assert_eq!(set(&format!("{a}:{b}")), set(&format!("{b}:{a}")));
        prop_assert_eq!(set(&format!("{a}:&{b}")), set(&format!("{b}:&{a}")));
        prop_assert_eq!(of(&format!("all:&{a}")).len() + of(&format!("all:!{a}")).len(), m.hosts.len());
        let each: Vec<String> = (0..of(&a).len()).map(|n| format!("{a}[{n}]")).collect();
        if !each.is_empty() {
            prop_assert_eq!(of(&each.join(":")), of(&a));
        }
        prop_assert_eq!(of(&format!("{a}[0:]")), of(&a));
    }

    #[test]
    fn a_range_stands_for_as_many_hosts_as_it_says(from in 0u64..300, len in 0u64..300, step in 1u64..9, pad in 0usize..6) {
        let to = from + len;
        let width = if pad > to.to_string().len() { pad } else { 0 };
        let entry = format!("n[{from:0width$}:{to:0width$}:{step}].lan");
        let names = expand(&entry).unwrap().names;
        prop_assert_eq!(names.len() as u64, len / step + 1);
        prop_assert_eq!(&names[0], &format!("n{from:0width$}.lan"));
        let mut once = names.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), names.len());
    }

    #[test]
    fn nothing_panics(text in "(\\PC|\n|[\\[\\]:,&!~='\"# \t]|all|hosts|children|vars|web|a\\[1:3\\]){0,60}") {
        for name in ["h.ini", "h.yml", "h"] {
            let (i, found) = read(name, &text);
            let _ = (found.render(false), i.to_json(), i.graph(true));
        }
        let (i, _) = read("h.ini", "[web]\na1\nfe80::1\n[db]\nb1\n");
        let _ = select(&i, &text);
        let _ = (expand(&text), literal::value(&text), words::split(&text, true));
    }

    #[test]
    fn patterns_never_panic(text in "(web|db|a1|fe80::1|~|\\[|\\]|-?[0-9]|:|,|&|!|\\*|\\?|\\(|\\\\|é| ){0,12}") {
        let (i, _) = read("h.ini", "[web]\na1\nfe80::1\n[db]\nb1\n");
        if let Err(e) = select(&i, &text) {
            prop_assert!(e.at.end <= text.len() && text.get(e.at.clone()).is_some(), "{:?}", e);
        }
    }

    #[test]
    fn literals_never_panic(text in "[\\[\\](){},:'\"\\\\0-9a-fxeruN. _+-]{0,24}") {
        let _ = literal::value(&text);
    }

    #[test]
    fn numbers_and_quoted_text_come_back(n in any::<i64>(), s in "[a-z \u{e4}#=]{0,12}") {
        prop_assert_eq!(literal::value(&n.to_string()), serde_json::json!(n));
        prop_assert_eq!(literal::value(&format!("'{s}'")), serde_json::json!(s));
    }
}
