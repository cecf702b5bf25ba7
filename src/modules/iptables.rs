//! `iptables`: one rule, a chain, or a chain's policy.

use super::args::{Bool, List, Text};
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_join;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Rules, chains and policies of the running packet filter. They do not outlast a restart of the host by themselves.
///
/// Registers `ip_version`, `table`, `chain`, `rule`, `state`, `flush`, `policy` and `chain_management`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Iptables {
    /// `filter`, `nat`, `mangle`, `raw` or `security`.
    #[serde(default)]
    table: Table,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// A new rule goes to the end (`append`) or to the front (`insert`).
    #[serde(default)]
    action: Place,
    /// With `insert`: where it goes, from 1.
    rule_num: Option<super::whole::Whole>,
    /// `ipv4`, `ipv6` or `both`.
    #[serde(default)]
    ip_version: Version,
    /// The chain: `INPUT`, `FORWARD`, one of your own, …
    chain: Option<Text>,
    /// `tcp`, `udp`, `icmp`, a number, …; `!` in front means any other, here and below.
    protocol: Option<Text>,
    /// An address or network.
    source: Option<Text>,
    /// An address or network.
    destination: Option<Text>,
    /// `{flags: [SYN, ACK], flags_set: [SYN]}`: those looked at, and those of them that are set.
    tcp_flags: Option<TcpFlags>,
    /// Extensions to match with.
    #[serde(default, rename = "match")]
    extensions: List,
    /// What becomes of the packet: `ACCEPT`, `DROP`, a chain, …
    jump: Option<Text>,
    /// With `jump: TEE`: the host that gets a copy.
    gateway: Option<Text>,
    /// With `jump: LOG`: what the line begins with. Without `jump` it means `LOG`.
    log_prefix: Option<Text>,
    /// With `jump: LOG`: its level.
    log_level: Option<Text>,
    /// Go on in this chain, and do not come back.
    goto: Option<Text>,
    /// The interface it comes in by.
    in_interface: Option<Text>,
    /// The interface it goes out by.
    out_interface: Option<Text>,
    /// `true`: of fragments, all but the first; `!`: all others.
    fragment: Option<Text>,
    /// What a new rule's counters begin with: packets and bytes, `"0 0"`.
    set_counters: Option<Text>,
    /// A port, or `first:last`.
    source_port: Option<Text>,
    /// A port, or `first:last`.
    destination_port: Option<Text>,
    /// Several ports.
    #[serde(default)]
    destination_ports: List,
    /// With `REDIRECT`: the port it goes to.
    to_ports: Option<Text>,
    /// With `DNAT`: where it goes.
    to_destination: Option<Text>,
    /// With `SNAT`: where it comes from.
    to_source: Option<Text>,
    /// `match`: only what opens a connection; `negate`: all but that.
    #[serde(default)]
    syn: Syn,
    /// A DSCP mark to set.
    set_dscp_mark: Option<Text>,
    /// A DSCP class to set.
    set_dscp_mark_class: Option<Text>,
    /// A remark.
    comment: Option<Text>,
    /// States of its connection: `NEW`, `ESTABLISHED`, `RELATED`, `INVALID`, …
    #[serde(default)]
    ctstate: List,
    /// Addresses from - to.
    src_range: Option<Text>,
    /// Addresses from - to.
    dst_range: Option<Text>,
    /// An ipset.
    match_set: Option<Text>,
    /// What of the packet is looked up in the ipset: `src`, `dst`, `src,dst`, …
    match_set_flags: Option<Text>,
    /// At most so many matches: `5/minute`.
    limit: Option<Text>,
    /// So many matches before the limit holds.
    limit_burst: Option<Text>,
    /// The user whose process sends it.
    uid_owner: Option<Text>,
    /// The group whose process sends it.
    gid_owner: Option<Text>,
    /// What a refused sender is told; means `jump: REJECT`.
    reject_with: Option<Text>,
    /// The kind of ICMP.
    icmp_type: Option<Text>,
    /// Take all rules of the chain away; without a chain, of the table.
    #[serde(default)]
    flush: Bool,
    /// What becomes of what no rule of the chain is about.
    policy: Option<Policy>,
    /// Seconds to wait for another process that works on the tables.
    wait: Option<Text>,
    /// `present` makes the chain if it is missing; `absent`, with nothing but `chain`, deletes it.
    #[serde(default)]
    chain_management: Bool,
    /// Has no effect: nothing is looked up by name.
    #[serde(default)]
    #[allow(dead_code)]
    numeric: Bool,
    #[serde(skip)]
    #[schemars(skip)]
    rule: Vec<String>,
    /// What a new rule's counters are set to; a question for the rule has none.
    #[serde(skip)]
    #[schemars(skip)]
    counters: Vec<String>,
}

macro_rules! words {
    ($name:ident { $first:ident = $ft:literal $(, $variant:ident = $text:literal)* $(,)? }) => {
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
        enum $name {
            #[default]
            #[serde(rename = $ft)]
            $first,
            $(#[serde(rename = $text)] $variant),*
        }
        impl $name {
            #[allow(dead_code)]
            fn word(self) -> &'static str {
                match self {
                    $name::$first => $ft,
                    $($name::$variant => $text),*
                }
            }
        }
    };
}

words!(Table { Filter = "filter", Nat = "nat", Mangle = "mangle", Raw = "raw", Security = "security" });
words!(State { Present = "present", Absent = "absent" });
words!(Place { Append = "append", Insert = "insert" });
words!(Version { Four = "ipv4", Six = "ipv6", Both = "both" });
words!(Syn { Ignore = "ignore", Match = "match", Negate = "negate" });
words!(Policy { Accept = "ACCEPT", Drop = "DROP", Queue = "QUEUE", Return = "RETURN" });

/// TCP flags.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TcpFlags {
    /// Those that are looked at.
    flags: List,
    /// Those of them that are set.
    flags_set: List,
}

impl Module for Iptables {
    const NAME: &'static str = "iptables";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.chain.is_none() && !self.flush.0 {
            return Err(ArgError::new("chain", "`iptables` needs a `chain`"));
        }
        if let Some(c) = &self.chain
            && (c.is_empty() || c.starts_with(['-', '!']) || c.contains(|c: char| c.is_whitespace() || c.is_control()))
        {
            return Err(ArgError::new("chain", format!("`{}` is not a chain's name", c.0)));
        }
        if self.flush.0 && self.policy.is_some() {
            return Err(ArgError::new("policy", "`flush` and `policy` exclude each other"));
        }
        if self.wait.as_deref().is_some_and(|w| w.parse::<u32>().is_err()) {
            return Err(ArgError::new("wait", "expected a number of seconds"));
        }
        if self.rule_num == Some(super::whole::Whole(0)) {
            return Err(ArgError::new("rule_num", "rules are counted from 1"));
        }
        if self.rule_num.is_some() && self.action != Place::Insert {
            return Err(ArgError::new("rule_num", "`rule_num` goes with `action: insert`"));
        }
        if self.set_dscp_mark.is_some() && self.set_dscp_mark_class.is_some() {
            return Err(ArgError::new(
                "set_dscp_mark_class",
                "`set_dscp_mark` and `set_dscp_mark_class` exclude each other",
            ));
        }
        if self.match_set.is_some() != self.match_set_flags.is_some() {
            return Err(ArgError::new("match_set", "`match_set` and `match_set_flags` go together"));
        }
        if self.goto.is_some() && self.jump.is_some() {
            return Err(ArgError::new("goto", "`jump` and `goto` exclude each other"));
        }
        let jump = self.jump.as_deref().unwrap_or_default().to_ascii_uppercase();
        let goes = [
            ("gateway", self.gateway.is_some(), "TEE"),
            ("to_destination", self.to_destination.is_some(), "DNAT"),
            ("to_source", self.to_source.is_some(), "SNAT"),
        ];
        if let Some((param, _, target)) = goes.iter().find(|(_, given, target)| *given && jump != *target) {
            return Err(ArgError::new(param, format!("`{param}` goes with `jump: {target}`")));
        }
        self.rule = self.words();
        if let Some(c) = &self.set_counters {
            let numbers: Vec<&str> = c.split([' ', ',']).filter(|p| !p.is_empty()).collect();
            if numbers.len() != 2 || numbers.iter().any(|n| n.parse::<u64>().is_err()) {
                return Err(ArgError::new("set_counters", format!("`{}` is not two numbers", c.0))
                    .hint("packets and bytes, as in \"0 0\""));
            }
            self.counters = std::iter::once("-c").chain(numbers).map(str::to_string).collect();
        }
        match self.rule.iter().any(|w| w.contains(['\n', '\0'])) {
            true => Err(ArgError::new("", "a part of the rule has more than one line")),
            false => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let look = self.look();
        let out = seen.script(&look)?;
        if out.rc == 127 {
            return Err(Stop::fail_hint(
                "there is no iptables on the host",
                "install it first: `apt: {name: iptables}`",
            ));
        }
        let (mut commands, mut then) = (vec![], String::new());
        let (mut before, mut after) = (String::new(), String::new());
        for &bin in self.programs() {
            let field = |k: &str| {
                let of = |l: &'_ str| -> Option<usize> {
                    let rest = l.strip_prefix(bin)?.strip_prefix(' ')?.strip_prefix(k)?.strip_prefix(' ')?;
                    Some(l.len() - rest.len())
                };
                out.stdout.lines().find_map(|l| Some(l[of(l)?..].trim())).unwrap_or_default()
            };
            let (rule, mut policy, chain, rules) = (field("rule"), field("policy"), field("chain"), field("rules"));
            let chain_there = chain == "0";
            // 2: it does not understand; 3: its version and the kernel's do not fit; 4: it may not.
            if matches!(rule, "2" | "3" | "4") {
                let own = |l: &&str| l.strip_prefix(bin).is_some_and(|r| r.starts_with([' ', ':']));
                let lines = || out.stderr.lines().filter(|l| !l.trim().is_empty());
                let why = lines().find(own).or(lines().next()).unwrap_or("it gives no reason");
                // A rule that names a chain or a set that is gone is gone as well.
                let gone = why.contains("does not exist") || why.contains("doesn't exist");
                if self.state == State::Absent && gone {
                    then += &format!("{bin} rule 1\n{bin} policy {policy}\n{bin} chain {chain}\n{bin} rules {rules}\n");
                    continue;
                }
                return Err(Stop::fail(format!("{bin} refuses the rule ({}): {why}", shell_join(&self.rule))));
            }
            let name = self.chain.as_deref().unwrap_or_default();
            let mut then_chain = chain_there;
            let mut then_rule = rule == "0";
            let mut then_rules = rules;
            let mut run = |words: Vec<String>| commands.push((bin, words));
            let words = |w: &[&str]| w.iter().map(|s| s.to_string()).collect::<Vec<_>>();
            if self.flush.0 {
                if rules != "0" {
                    run(words(&["-F"]).into_iter().chain(self.chain.iter().map(|c| c.0.clone())).collect());
                    then_rules = "0";
                    before += &format!("{bin}: {rules} rules\n");
                    after += &format!("{bin}: 0 rules\n");
                }
            } else if let Some(p) = self.policy {
                if policy != p.word() {
                    run(words(&["-P", name, p.word()]));
                    before += &format!("-P {name} {policy}\n");
                    after += &format!("-P {name} {}\n", p.word());
                    policy = p.word();
                }
            } else {
                let only_chain = self.chain_management.0 && self.rule.is_empty();
                let line = format!("-A {name} {}\n", shell_join(&self.rule));
                match self.state {
                    State::Present => {
                        if self.chain_management.0 && !chain_there {
                            run(words(&["-N", name]));
                            then_chain = true;
                            after += &format!("-N {name}\n");
                        }
                        if !only_chain && rule != "0" {
                            let mut w = match self.action {
                                Place::Append => words(&["-A", name]),
                                Place::Insert => words(&["-I", name]),
                            };
                            w.extend(self.rule_num.map(|n| n.0.to_string()));
                            w.extend(self.counters.iter().chain(&self.rule).cloned());
                            run(w);
                            then_rule = true;
                            after += &line;
                        }
                    }
                    State::Absent if only_chain => {
                        if chain_there {
                            run(words(&["-X", name]));
                            then_chain = false;
                            before += &format!("-N {name}\n");
                        }
                    }
                    State::Absent => {
                        if rule == "0" {
                            run(words(&["-D", name]).into_iter().chain(self.rule.iter().cloned()).collect());
                            then_rule = false;
                            before += &line;
                        }
                    }
                }
            }
            let code = |there: bool| i32::from(!there);
            then += &format!(
                "{bin} rule {}\n{bin} policy {policy}\n{bin} chain {}\n{bin} rules {then_rules}\n",
                code(then_rule),
                code(then_chain)
            );
        }
        let mut result = Map::new();
        result.insert("ip_version".into(), json!(self.ip_version.word()));
        result.insert("table".into(), json!(self.table.word()));
        result.insert("chain".into(), json!(self.chain.as_ref().map(|c| &c.0)));
        result.insert("flush".into(), json!(self.flush.0));
        result.insert("rule".into(), json!(shell_join(&self.rule)));
        result.insert("state".into(), json!(self.state.word()));
        result.insert("policy".into(), json!(self.policy.map(Policy::word)));
        result.insert("chain_management".into(), json!(self.chain_management.0));
        if commands.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let full = |(bin, words): &(&str, Vec<String>)| format!("{} {}", shell_join(self.base(bin)), shell_join(words));
        let summary = |(bin, words): &(&str, Vec<String>)| {
            let table = if self.table == Table::Filter { String::new() } else { format!(" -t {}", self.table.word()) };
            format!("{bin}{table} {}", shell_join(words))
        };
        let diff = Diff { what: format!("iptables {}", self.table.word()), before: Some(before), after: Some(after) };
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(format!(
                "export LC_ALL=C\n{}",
                commands.iter().map(full).collect::<Vec<_>>().join(" &&\n")
            ))],
            touches: Touches { loads: true, ..Default::default() },
            after: vec![(Probe::Script(look), Answer::Script(Output { stdout: then, ..Default::default() }))],
            diff: if ctx.diff { vec![diff] } else { vec![] },
            summary: commands.iter().map(summary).collect::<Vec<_>>().join(", "),
            result,
            ..Default::default()
        }))
    }
}

impl Iptables {
    fn programs(&self) -> &'static [&'static str] {
        match self.ip_version {
            Version::Four => &["iptables"],
            Version::Six => &["ip6tables"],
            Version::Both => &["iptables", "ip6tables"],
        }
    }

    /// The program with what goes before every command.
    fn base(&self, bin: &str) -> [String; 5] {
        let wait = self.wait.as_deref().unwrap_or("60");
        [bin.to_string(), "-w".into(), wait.into(), "-t".into(), self.table.word().into()]
    }

    /// The rule as iptables takes it.
    fn words(&self) -> Vec<String> {
        let mut w: Vec<String> = vec![];
        // `!` before a value turns the whole option round.
        let mut opt = |flag: &str, value: &Option<Text>| {
            if let Some(v) = value {
                let bare = v.trim_start().strip_prefix('!');
                w.extend(bare.map(|_| "!".to_string()));
                w.extend([flag.to_string(), bare.map_or(v.0.clone(), |b| b.trim().to_string())]);
            }
        };
        opt("-p", &self.protocol);
        opt("-s", &self.source);
        opt("-d", &self.destination);
        opt("-i", &self.in_interface);
        opt("-o", &self.out_interface);
        opt("--source-port", &self.source_port);
        opt("--destination-port", &self.destination_port);
        let has = |name: &str| self.extensions.iter().any(|m| m == name);
        let add = |w: &mut Vec<String>, words: &[&str]| w.extend(words.iter().map(|s| s.to_string()));
        for m in self.extensions.iter() {
            add(&mut w, &["-m", m]);
        }
        // An option of an extension brings the extension along, unless `match` has.
        let with = |w: &mut Vec<String>, name: &str| {
            if !has(name) {
                w.extend(["-m".to_string(), name.to_string()]);
            }
        };
        let neg = |w: &mut Vec<String>, flag: &str, v: &str| {
            let bare = v.trim_start().strip_prefix('!');
            w.extend(bare.map(|_| "!".to_string()));
            w.extend([flag.to_string(), bare.unwrap_or(v).trim().to_string()]);
        };
        if let Some(f) = &self.tcp_flags {
            add(&mut w, &["--tcp-flags", &f.flags.join(","), &f.flags_set.join(",")]);
        }
        match self.syn {
            Syn::Ignore => {}
            Syn::Match => add(&mut w, &["--syn"]),
            Syn::Negate => add(&mut w, &["!", "--syn"]),
        }
        if !self.destination_ports.is_empty() {
            with(&mut w, "multiport");
            add(&mut w, &["--dports", &self.destination_ports.join(",")]);
        }
        if !self.ctstate.is_empty() {
            if has("state") && !has("conntrack") {
                add(&mut w, &["--state", &self.ctstate.join(",")]);
            } else {
                with(&mut w, "conntrack");
                add(&mut w, &["--ctstate", &self.ctstate.join(",")]);
            }
        }
        if self.src_range.is_some() || self.dst_range.is_some() {
            with(&mut w, "iprange");
            self.src_range.iter().for_each(|r| neg(&mut w, "--src-range", r));
            self.dst_range.iter().for_each(|r| neg(&mut w, "--dst-range", r));
        }
        if let (Some(set), Some(flags)) = (&self.match_set, &self.match_set_flags) {
            with(&mut w, "set");
            neg(&mut w, "--match-set", set);
            add(&mut w, &[flags]);
        }
        if self.limit.is_some() || self.limit_burst.is_some() {
            with(&mut w, "limit");
            self.limit.iter().for_each(|l| add(&mut w, &["--limit", l]));
            self.limit_burst.iter().for_each(|l| add(&mut w, &["--limit-burst", l]));
        }
        if self.uid_owner.is_some() || self.gid_owner.is_some() {
            with(&mut w, "owner");
            self.uid_owner.iter().for_each(|o| neg(&mut w, "--uid-owner", o));
            self.gid_owner.iter().for_each(|o| neg(&mut w, "--gid-owner", o));
        }
        if let Some(t) = &self.icmp_type {
            let flag = if self.ip_version == Version::Six { "--icmpv6-type" } else { "--icmp-type" };
            neg(&mut w, flag, t);
        }
        // It takes no value: what is given says whether.
        match self.fragment.as_deref().map(str::trim) {
            None | Some("" | "false" | "no") => {}
            Some(f) if f.starts_with('!') => add(&mut w, &["!", "-f"]),
            Some(_) => add(&mut w, &["-f"]),
        }
        if let Some(c) = &self.comment {
            with(&mut w, "comment");
            add(&mut w, &["--comment", c]);
        }
        let implied = [
            (self.reject_with.is_some(), "REJECT"),
            (self.log_prefix.is_some() || self.log_level.is_some(), "LOG"),
            (self.set_dscp_mark.is_some() || self.set_dscp_mark_class.is_some(), "DSCP"),
        ];
        let jump = self.jump.as_deref().or(implied.iter().find(|(given, _)| *given).map(|(_, j)| *j));
        jump.iter().for_each(|j| add(&mut w, &["-j", j]));
        self.goto.iter().for_each(|g| add(&mut w, &["-g", g]));
        for (flag, value) in [
            ("--gateway", &self.gateway),
            ("--log-prefix", &self.log_prefix),
            ("--log-level", &self.log_level),
            ("--to-destination", &self.to_destination),
            ("--to-source", &self.to_source),
            ("--to-ports", &self.to_ports),
            ("--set-dscp", &self.set_dscp_mark),
            ("--set-dscp-class", &self.set_dscp_mark_class),
            ("--reject-with", &self.reject_with),
        ] {
            value.iter().for_each(|v| add(&mut w, &[flag, v]));
        }
        w
    }

    /// A read-only script: whether rule and chain are there, and the chain's policy.
    fn look(&self) -> String {
        let mut s = String::from("export LC_ALL=C\n");
        for &bin in self.programs() {
            let base = shell_join(self.base(bin));
            let chain = self.chain.as_ref().map(|c| shell_join([&c.0])).unwrap_or_default();
            s += &format!("command -v {bin} >/dev/null 2>&1 || exit 127\n");
            let asks_rule =
                !self.flush.0 && self.policy.is_none() && !(self.chain_management.0 && self.rule.is_empty());
            if asks_rule {
                s += &format!("{base} -C {chain} {}; echo \"{bin} rule $?\"\n", shell_join(&self.rule));
            }
            if self.flush.0 || self.policy.is_some() || self.chain_management.0 {
                s += &format!("l=$({base} -S {chain} 2>/dev/null); echo \"{bin} chain $?\"\n");
                s += &format!("printf '%s\\n' \"$l\" | sed -n 's/^-P [^ ]* /{bin} policy /p'\n");
                s += &format!("echo \"{bin} rules $(printf '%s\\n' \"$l\" | grep -c '^-A')\"\n");
            }
        }
        s + "exit 0"
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn host(m: &Iptables, stdout: &str) -> Observed {
        let stderr = "iptables v1.8.9 (nf_tables): unknown option\n".to_string();
        seen([(Probe::Script(m.look()), Answer::Script(Output { rc: 0, stdout: stdout.into(), stderr }))])
    }
    /// The commands, and that they are not run a second time.
    fn done(params: &str, said: &str) -> Vec<String> {
        let m: Iptables = bind(params);
        sh_accepts(&m.look());
        match m.decide(&host(&m, said), &ctx()) {
            Ok(Decision::Change(c)) => {
                let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
                sh_accepts(s);
                satisfied(m.decide(&then(host(&m, said), &c), &ctx()));
                let command = |l: &str| l.trim_end_matches(" &&").replace(" -w 60 -t", "").to_string();
                s.lines().skip(1).map(command).collect()
            }
            Ok(Decision::Satisfied(_)) => vec![],
            Err(Stop::Fail(f)) => vec![f.message],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rule_is_there_or_not() {
        let p = "{chain: INPUT, protocol: tcp, destination_port: 22, jump: ACCEPT, comment: in}";
        let rule = "-p tcp --destination-port 22 -m comment --comment in -j ACCEPT";
        assert_eq!(done(p, "iptables rule 1\n"), [format!("iptables filter -A INPUT {rule}")]);
        assert!(done(p, "iptables rule 0\n").is_empty());
        assert!(done(p, "iptables rule 2\n")[0].contains("refuses the rule"));
        let insert = p.replace("{", "{action: insert, rule_num: 3, ");
        assert_eq!(done(&insert, "iptables rule 1\n"), [format!("iptables filter -I INPUT 3 {rule}")]);
        let absent = p.replace("{", "{state: absent, ");
        assert_eq!(done(&absent, "iptables rule 0\n"), [format!("iptables filter -D INPUT {rule}")]);
        assert!(done(&absent, "iptables rule 1\n").is_empty());
        let gone = |said: &str, bin: &str| {
            let m: Iptables = bind(&absent.replace("{", &format!("{{ip_version: {bin}, ")));
            let stdout = "iptables rule 2\nip6tables rule 2\n".into();
            let out = Output { rc: 0, stdout, stderr: said.into() };
            m.decide(&seen([(Probe::Script(m.look()), Answer::Script(out))]), &ctx())
        };
        let no_chain = "iptables v1.8.9 (nf_tables): Chain 'MINE' does not exist\nTry `iptables -h'\n";
        satisfied(gone(no_chain, "ipv4"));
        satisfied(gone("iptables v1.8.9 (legacy): Set bad doesn't exist.\n", "ipv4"));
        assert!(gone("iptables v1.8.9 (nf_tables): unknown option\n", "ipv4").is_err());
        let other = "ip6tables v1.8.9 (nf_tables): unknown option \"--x\"\n";
        let Err(Stop::Fail(f)) = gone(&format!("{no_chain}{other}"), "both") else { panic!() };
        assert!(f.message.starts_with("ip6tables refuses") && f.message.contains("unknown option"), "{}", f.message);
        let counted = p.replace("{", "{set_counters: '5,10', ");
        assert_eq!(done(&counted, "iptables rule 1\n"), [format!("iptables filter -A INPUT -c 5 10 {rule}")]);
        assert!(!bind::<Iptables>(&counted).look().contains("-c 5"));
        let both = p.replace("{", "{ip_version: both, ");
        assert_eq!(done(&both, "iptables rule 0\nip6tables rule 1\n"), [format!("ip6tables filter -A INPUT {rule}")]);
    }

    #[test]
    fn policies_chains_and_flushing() {
        let p = "{chain: FORWARD, policy: DROP}";
        assert_eq!(done(p, "iptables policy ACCEPT\niptables chain 0\n"), ["iptables filter -P FORWARD DROP"]);
        assert!(done(p, "iptables policy DROP\n").is_empty());
        let n = "{chain: MINE, chain_management: true}";
        assert_eq!(done(n, "iptables chain 1\n"), ["iptables filter -N MINE"]);
        assert!(done(n, "iptables chain 0\n").is_empty());
        let r = "{chain: MINE, chain_management: true, jump: DROP}";
        assert_eq!(
            done(r, "iptables rule 1\niptables chain 1\n"),
            ["iptables filter -N MINE", "iptables filter -A MINE -j DROP"]
        );
        assert_eq!(
            done("{chain: MINE, chain_management: true, state: absent}", "iptables chain 0\n"),
            ["iptables filter -X MINE"]
        );
        assert_eq!(done("{table: nat, flush: true}", "iptables rules 2\n"), ["iptables nat -F"]);
        assert!(done("{table: nat, flush: true}", "iptables rules 0\n").is_empty());
    }

    #[test]
    fn a_rule_in_words() {
        let rule = |p: &str| shell_join(&bind::<Iptables>(&format!("{{chain: C, {p}}}")).rule);
        assert_eq!(rule("source: '!10.0.0.0/8', in_interface: '! eth0'"), "'!' -s 10.0.0.0/8 '!' -i eth0");
        assert_eq!(rule("ctstate: [NEW, RELATED]"), "-m conntrack --ctstate NEW,RELATED");
        assert_eq!(rule("match: state, ctstate: NEW"), "-m state --state NEW");
        assert_eq!(
            rule("protocol: tcp, destination_ports: [80, '443:445']"),
            "-p tcp -m multiport --dports 80,443:445"
        );
        assert_eq!(
            rule("protocol: tcp, syn: negate, tcp_flags: {flags: [SYN, ACK], flags_set: SYN}"),
            "-p tcp --tcp-flags SYN,ACK SYN '!' --syn"
        );
        assert_eq!(
            rule("log_prefix: 'no: ', limit: 2/m, limit_burst: 7"),
            "-m limit --limit 2/m --limit-burst 7 -j LOG --log-prefix 'no: '"
        );
        assert_eq!(rule("reject_with: tcp-reset"), "-j REJECT --reject-with tcp-reset");
        assert_eq!(
            rule("protocol: icmpv6, ip_version: ipv6, icmp_type: echo-request"),
            "-p icmpv6 --icmpv6-type echo-request"
        );
        assert_eq!(rule("jump: DNAT, to_destination: '10.0.0.1:80'"), "-j DNAT --to-destination 10.0.0.1:80");
        assert_eq!(rule("match_set: '!bad', match_set_flags: src"), "-m set '!' --match-set bad src");
        assert_eq!(
            rule("uid_owner: '!root', src_range: 10.0.0.1-10.0.0.9"),
            "-m iprange --src-range 10.0.0.1-10.0.0.9 -m owner '!' --uid-owner root"
        );
    }

    #[test]
    fn mistakes() {
        for (bad, word) in [
            ("{jump: DROP}", "needs a `chain`"),
            ("{chain: '-x'}", "chain's name"),
            ("{chain: C, rule_num: 1}", "action: insert"),
            ("{chain: C, to_source: 1.2.3.4}", "jump: SNAT"),
            ("{chain: C, match_set: x}", "go together"),
            ("{chain: C, wait: soon}", "seconds"),
            ("{chain: C, set_counters: many}", "two numbers"),
            ("{chain: C, flush: true, policy: DROP}", "exclude"),
        ] {
            let e = try_bind::<Iptables>(bad).unwrap_err();
            assert!(e.message.contains(word), "{bad}: {}", e.message);
        }
        let m: Iptables = bind("{chain: C}");
        let out = Output { rc: 127, ..Default::default() };
        let o = seen([(Probe::Script(m.look()), Answer::Script(out))]);
        assert!(matches!(m.decide(&o, &ctx()), Err(Stop::Fail(_))));
    }

    #[test]
    fn a_rule_in_rarer_words() {
        let rule = |p: &str| shell_join(&bind::<Iptables>(&format!("{{chain: C, {p}}}")).rule);
        assert_eq!(rule("destination: 10.0.0.9, out_interface: '!eth1'"), "-d 10.0.0.9 '!' -o eth1");
        assert_eq!(rule("protocol: udp, source_port: '53'"), "-p udp --source-port 53");
        assert_eq!(rule("goto: OTHER"), "-g OTHER");
        assert_eq!((rule("fragment: true"), rule("fragment: '! true'")), ("-f".into(), "'!' -f".into()));
        assert_eq!(rule("jump: TEE, gateway: 10.0.0.1"), "-j TEE --gateway 10.0.0.1");
        assert_eq!(rule("log_level: info"), "-j LOG --log-level info");
        assert_eq!(rule("protocol: tcp, jump: REDIRECT, to_ports: 8080"), "-p tcp -j REDIRECT --to-ports 8080");
        assert_eq!(rule("set_dscp_mark: 8"), "-j DSCP --set-dscp 8");
        assert_eq!(rule("set_dscp_mark_class: CS1"), "-j DSCP --set-dscp-class CS1");
        assert_eq!(rule("dst_range: 10.0.0.1-10.0.0.9"), "-m iprange --dst-range 10.0.0.1-10.0.0.9");
        assert_eq!(rule("gid_owner: '!adm'"), "-m owner '!' --gid-owner adm");
    }
}
