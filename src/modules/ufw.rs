//! `ufw`: the uncomplicated firewall.

use super::args::{Bool, Text};
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_join;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Rules, default policies and state of ufw. What a rule would change, ufw itself is asked beforehand.
///
/// In one task, `logging`, `default` and the rule come before `state`: nobody is locked out in between. `reset` comes
/// first: what the task says besides is there afterwards. Registers `commands`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ufw {
    /// `enabled` and `disabled` also hold at the next start; `reloaded` never counts as a change; `reset` takes all rules away.
    state: Option<State>,
    /// What becomes of traffic that no rule is about. Also `policy`.
    #[serde(alias = "policy")]
    #[schemars(extend("x-aliases" = ["policy"]))]
    default: Option<Policy>,
    /// With `default`: `incoming` (if not given), `outgoing` or `routed`. In a rule: `in` or `out`.
    direction: Option<Direction>,
    /// How much is logged.
    #[serde(default, deserialize_with = "level")]
    logging: Option<Logging>,
    /// What a rule does.
    rule: Option<Rule>,
    /// Take the rule away.
    #[serde(default)]
    delete: Bool,
    /// Where among the rules a new one goes, from 1.
    insert: Option<super::whole::Whole>,
    /// The rule is about traffic that goes through the host.
    #[serde(default)]
    route: Bool,
    /// Log connections that the rule is about.
    #[serde(default)]
    log: Bool,
    /// An address or network, or `any`. Also `from`, `src`.
    #[serde(default = "any", alias = "from", alias = "src")]
    #[schemars(extend("x-aliases" = ["from", "src"]))]
    from_ip: Text,
    /// The port it comes from.
    from_port: Option<Text>,
    /// An address or network, or `any`. Also `to`, `dest`.
    #[serde(default = "any", alias = "to", alias = "dest")]
    #[schemars(extend("x-aliases" = ["to", "dest"]))]
    to_ip: Text,
    /// The port it goes to: `22`, `80,443`, `8000:8010`. Also `port`.
    #[serde(alias = "port")]
    #[schemars(extend("x-aliases" = ["port"]))]
    to_port: Option<Text>,
    /// `any`, `tcp`, `udp`, `ipv6`, `esp`, `ah`, `gre`, `igmp`. Also `protocol`.
    #[serde(alias = "protocol")]
    #[schemars(extend("x-aliases" = ["protocol"]))]
    proto: Option<Protocol>,
    /// An application profile of `/etc/ufw/applications.d`. Also `app`.
    #[serde(alias = "app")]
    #[schemars(extend("x-aliases" = ["app"]))]
    name: Option<Text>,
    /// The interface, with `direction`. Also `if`.
    #[serde(alias = "if")]
    #[schemars(extend("x-aliases" = ["if"]))]
    interface: Option<Text>,
    /// The interface it comes in by. Also `if_in`.
    #[serde(alias = "if_in")]
    #[schemars(extend("x-aliases" = ["if_in"]))]
    interface_in: Option<Text>,
    /// The interface it goes out by. Also `if_out`.
    #[serde(alias = "if_out")]
    #[schemars(extend("x-aliases" = ["if_out"]))]
    interface_out: Option<Text>,
    /// A remark that is kept with the rule.
    comment: Option<Text>,
}

fn any() -> Text {
    "any".into()
}

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
        enum $name {
            $(#[serde(rename = $text)] $variant),+
        }
        impl $name {
            #[allow(dead_code)]
            fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $text),+
                }
            }
        }
    };
}

choices!(State { Enabled = "enabled", Disabled = "disabled", Reloaded = "reloaded", Reset = "reset" });
choices!(Policy { Allow = "allow", Deny = "deny", Reject = "reject" });
choices!(Rule { Allow = "allow", Deny = "deny", Limit = "limit", Reject = "reject" });
choices!(Direction { In = "in", Incoming = "incoming", Out = "out", Outgoing = "outgoing", Routed = "routed" });
choices!(Protocol {
    Any = "any",
    Tcp = "tcp",
    Udp = "udp",
    Ipv6 = "ipv6",
    Esp = "esp",
    Ah = "ah",
    Gre = "gre",
    Igmp = "igmp",
    Vrrp = "vrrp",
});

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Logging {
    #[serde(alias = "yes", alias = "true")]
    On,
    #[serde(alias = "no", alias = "false")]
    Off,
    Low,
    Medium,
    High,
    Full,
}

/// Unquoted, `on` and `off` are truths in YAML; they are the only choices that can be meant.
fn level<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Logging>, D::Error> {
    let v = match Value::deserialize(d)? {
        Value::Bool(on) => Value::from(if on { "on" } else { "off" }),
        v => v,
    };
    serde_json::from_value(v).map_err(serde::de::Error::custom)
}

impl Logging {
    fn word(self) -> &'static str {
        match self {
            Logging::On => "on",
            Logging::Off => "off",
            Logging::Low => "low",
            Logging::Medium => "medium",
            Logging::High => "high",
            Logging::Full => "full",
        }
    }
}

impl Module for Ufw {
    const NAME: &'static str = "ufw";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.state.is_none() && self.default.is_none() && self.logging.is_none() && self.rule.is_none() {
            return Err(ArgError::new("", "`ufw` needs `rule`, `default`, `logging` or `state`"));
        }
        let texts = [
            ("from_ip", Some(&self.from_ip)),
            ("from_port", self.from_port.as_ref()),
            ("to_ip", Some(&self.to_ip)),
            ("to_port", self.to_port.as_ref()),
            ("name", self.name.as_ref()),
            ("interface", self.interface.as_ref()),
            ("interface_in", self.interface_in.as_ref()),
            ("interface_out", self.interface_out.as_ref()),
        ];
        for (param, t) in texts.into_iter().filter_map(|(p, t)| Some((p, t?))) {
            let odd = |c: char| c.is_control() || (c.is_whitespace() && param != "name");
            if t.is_empty() || t.starts_with('-') || t.contains(odd) {
                return Err(ArgError::new(param, format!("`{}` cannot be a part of a rule", t.0)));
            }
        }
        let given = [
            ("to_port", self.to_port.is_some()),
            ("from_port", self.from_port.is_some()),
            ("name", self.name.is_some()),
            ("comment", self.comment.is_some()),
            ("insert", self.insert.is_some()),
        ];
        if let (None, Some((param, _))) = (self.rule, given.iter().find(|(_, g)| *g)) {
            return Err(ArgError::new(param, format!("`{param}` goes with `rule`"))
                .hint("add `rule: allow`, `deny`, `limit` or `reject`"));
        }
        if self.comment.as_deref().is_some_and(|c| c.contains(['\'', '\n'])) {
            return Err(ArgError::new("comment", "ufw takes no quotes and no line ends in a comment"));
        }
        if self.interface.is_some() && (self.interface_in.is_some() || self.interface_out.is_some()) {
            return Err(ArgError::new(
                "interface",
                "`interface` and `interface_in`, `interface_out` exclude each other",
            ));
        }
        if self.interface.is_some() && self.direction.is_none() {
            return Err(ArgError::new("interface", "`interface` needs a `direction`"));
        }
        if self.interface_in.is_some() && self.interface_out.is_some() && !self.route.0 {
            return Err(ArgError::new("interface_out", "both interfaces are known only to a rule with `route`"));
        }
        use Direction::{In, Out, Routed};
        if self.default.is_some() && self.rule.is_none() && matches!(self.direction, Some(In | Out)) {
            return Err(ArgError::new("direction", "with `default` it is `incoming`, `outgoing` or `routed`"));
        }
        if self.rule.is_some() && self.direction == Some(Routed) {
            return Err(ArgError::new(
                "direction",
                "a rule is `in` or `out`; `route: true` is for traffic that goes through",
            ));
        }
        if self.insert == Some(super::whole::Whole(0)) {
            return Err(ArgError::new("insert", "rules are counted from 1"));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let look = self.look();
        let out = seen.script(&look)?;
        if out.rc == 127 {
            return Err(Stop::fail_hint("there is no ufw on the host", "install it first: `apt: {name: ufw}`"));
        }
        let now = Now::read(&out.stdout);
        if let Some(e) = &now.error {
            let cmd = shell_join(self.rule_words().unwrap_or_default());
            return Err(Stop::fail(format!("ufw refuses the rule ({cmd}): {e}")));
        }
        let mut then = now.clone();
        let (mut commands, mut says) = (vec![], vec![]);
        let resets = self.state == Some(State::Reset);
        // With a reset, what is there afterwards is this rule alone. Of one that is there already ufw plans nothing: which
        // of several it is, is not known.
        let own = |family: usize| -> Vec<String> {
            let mut before = now.rules[family].clone();
            let planned = now.planned[family].iter().filter(|r| match before.iter().position(|b| b == *r) {
                Some(i) => {
                    before.remove(i);
                    false
                }
                None => true,
            });
            planned.cloned().collect()
        };
        let adds = self.rule.is_some() && !self.delete.0;
        let there = adds && now.planned == now.rules;
        let most = if there { 1 } else { 0 };
        let mut certain = true;
        let reset =
            resets && (now.enabled || now.active || now.rules.iter().any(|r| r.len() > most) || (adds && !there));
        if reset {
            if now.enabled || now.active || now.rules.iter().any(|r| !r.is_empty()) {
                commands.push(vec!["--force".into(), "reset".into()]);
                says.push("all rules taken away, disabled".into());
            }
            then.rules = if adds { [own(0), own(1)] } else { Default::default() };
            certain = !adds || then.rules.iter().zip(&now.rules).all(|(own, was)| !own.is_empty() || was.is_empty());
            (then.active, then.enabled) = (false, false);
        }
        if let Some(l) = self.logging
            && !(now.level == l.word() || (l == Logging::On && now.level != "off"))
        {
            commands.push(vec!["logging".to_string(), l.word().into()]);
            says.push(format!("logging {} -> {}", now.level, l.word()));
            then.level = if l == Logging::On { "low".into() } else { l.word().into() };
        }
        if let Some(p) = self.default {
            let (direction, slot) = match self.direction {
                Some(Direction::Out | Direction::Outgoing) => ("outgoing", 1),
                Some(Direction::Routed) => ("routed", 2),
                _ => ("incoming", 0),
            };
            if now.policies[slot] != p.word() {
                commands.push(vec!["default".into(), p.word().into(), direction.into()]);
                says.push(format!("{direction} {} -> {}", now.policies[slot], p.word()));
                then.policies[slot] = p.word().into();
            }
        }
        if reset && adds {
            let words = self.rule_words().unwrap_or_default();
            says.push(format!("rule: {}", shell_join(&words[..])));
            commands.push(words);
        } else if let Some(words) = self.rule_words()
            && !resets
            && now.planned != now.rules
        {
            says.push(format!("{} {}", if self.delete.0 { "removes" } else { "rule:" }, shell_join(&words[..])));
            commands.push(words);
            then.rules = now.planned.clone();
        }
        let mut reload = false;
        match self.state {
            Some(State::Enabled) if !(now.active && now.enabled) => {
                commands.push(vec!["--force".into(), "enable".into()]);
                says.push("enabled".into());
                (then.active, then.enabled) = (true, true);
            }
            Some(State::Disabled) if now.active || now.enabled => {
                commands.push(vec!["--force".into(), "disable".into()]);
                says.push("disabled".into());
                (then.active, then.enabled) = (false, false);
            }
            Some(State::Reloaded) => reload = true,
            _ => {}
        }
        let counted = !commands.is_empty();
        if reload {
            commands.push(vec!["reload".into()]);
            says.push("reloaded".into());
        }
        let lines: Vec<String> = commands.iter().map(|w| format!("ufw {}", shell_join(w))).collect();
        let mut result = Map::new();
        result.insert("commands".into(), json!(lines));
        if commands.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let diff = (ctx.diff && certain && now.text() != then.text()).then(|| Diff {
            what: "ufw".into(),
            before: Some(now.text()),
            after: Some(then.text()),
        });
        // A rule that is there now is skipped the next time.
        then.planned = then.rules.clone();
        Ok(Decision::Change(Change {
            // What ufw complains of, it says on either stream.
            actions: vec![Action::Script(format!(
                "export LC_ALL=C\nset -e\n{}",
                lines.iter().map(|l| format!("{l} </dev/null\n")).collect::<String>()
            ))],
            touches: Touches { loads: true, sysctls: true, ..Touches::path("/etc/ufw") }
                .and(Touches::entry("/etc/default/ufw")),
            after: certain
                .then(|| (Probe::Script(look), Answer::Script(Output { stdout: then.said(), ..Default::default() })))
                .into_iter()
                .collect(),
            diff: diff.into_iter().collect(),
            summary: says.join(", "),
            result,
            uncounted: !counted,
            ..Default::default()
        }))
    }
}

/// What is known of a host's firewall. Rules are ufw's own notes of them, those of IPv4 and of IPv6.
#[derive(Debug, Clone, Default, PartialEq)]
struct Now {
    enabled: bool,
    active: bool,
    level: String,
    /// Incoming, outgoing, routed.
    policies: [String; 3],
    rules: [Vec<String>; 2],
    /// The rules as they would be.
    planned: [Vec<String>; 2],
    error: Option<String>,
}

impl Now {
    fn read(text: &str) -> Self {
        let mut n = Now { level: "low".into(), ..Default::default() };
        let mut into: Option<(bool, usize)> = None;
        let mut dumped = [false; 2];
        for l in text.lines() {
            let value = l.split_once('=').map_or("", |(_, v)| v).trim().trim_matches('"').to_ascii_lowercase();
            let policy = match value.as_str() {
                "accept" => "allow",
                "drop" => "deny",
                other => other,
            };
            match l {
                "now 4" => into = Some((false, 0)),
                "now 6" => into = Some((false, 1)),
                "plan" => into = None,
                "active" => n.active = true,
                _ if l.starts_with("ENABLED=") => n.enabled = value == "yes",
                _ if l.starts_with("LOGLEVEL=") => n.level = value,
                _ if l.starts_with("DEFAULT_INPUT_POLICY=") => n.policies[0] = policy.into(),
                _ if l.starts_with("DEFAULT_OUTPUT_POLICY=") => n.policies[1] = policy.into(),
                _ if l.starts_with("DEFAULT_FORWARD_POLICY=") => n.policies[2] = policy.into(),
                _ if l.starts_with("ERROR") => n.error = Some(l.trim_start_matches("ERROR:").trim().to_string()),
                _ if l.starts_with(":ufw-user-input") || l.starts_with(":ufw6-user-input") => {
                    let family = usize::from(l.starts_with(":ufw6"));
                    // Told anew, it counts as told last.
                    n.planned[family].clear();
                    dumped[family] = true;
                    into = Some((true, family));
                }
                _ => {
                    if let (Some(rule), Some((planned, family))) = (l.strip_prefix("### tuple ### "), into) {
                        let list = if planned { &mut n.planned } else { &mut n.rules };
                        list[family].push(rule.trim_end().to_string());
                    }
                }
            }
        }
        // Of a family it says nothing about, nothing changes.
        for (family, _) in dumped.iter().enumerate().filter(|(_, d)| !**d) {
            n.planned[family] = n.rules[family].clone();
        }
        n
    }
    /// The same as the look prints it.
    fn said(&self) -> String {
        let yes = |b: bool| if b { "yes" } else { "no" };
        let policy = |p: &str| match p {
            "allow" => "ACCEPT".to_string(),
            "deny" => "DROP".to_string(),
            other => other.to_uppercase(),
        };
        let mut s = format!("ENABLED={}\nLOGLEVEL={}\n", yes(self.enabled), self.level);
        for (name, p) in ["INPUT", "OUTPUT", "FORWARD"].iter().zip(&self.policies) {
            s += &format!("DEFAULT_{name}_POLICY=\"{}\"\n", policy(p));
        }
        for (family, rules) in ["4", "6"].iter().zip(&self.rules) {
            s += &format!("now {family}\n");
            rules.iter().for_each(|r| s += &format!("### tuple ### {r}\n"));
        }
        s + if self.active { "active\n" } else { "" } + "plan\n"
    }
    /// For a reader.
    fn text(&self) -> String {
        let state = match (self.enabled, self.active) {
            (true, true) => "enabled",
            (false, false) => "disabled",
            (true, false) => "enabled at the next start, not active",
            (false, true) => "active, not enabled at the next start",
        };
        let [i, o, r] = &self.policies;
        let mut s = format!("{state}\nlogging {}\ndefault {i} incoming, {o} outgoing, {r} routed\n", self.level);
        self.rules.iter().flatten().for_each(|r| s += &format!("{r}\n"));
        s
    }
}

impl Ufw {
    /// The rule as ufw takes it.
    fn rule_words(&self) -> Option<Vec<String>> {
        let rule = self.rule?;
        let mut w: Vec<String> = vec![];
        if self.route.0 {
            w.push("route".into());
        }
        if self.delete.0 {
            w.push("delete".into());
        } else if let Some(n) = self.insert.filter(|_| self.state != Some(State::Reset)) {
            w.extend(["insert".into(), n.0.to_string()]);
        }
        w.push(rule.word().into());
        match self.direction {
            Some(Direction::In | Direction::Incoming) => w.push("in".into()),
            Some(Direction::Out | Direction::Outgoing) => w.push("out".into()),
            _ => {}
        }
        let mut on = |way: Option<&str>, name: &Option<Text>| {
            if let Some(i) = name {
                w.extend(way.map(str::to_string));
                w.extend(["on".to_string(), i.0.clone()]);
            }
        };
        on(None, &self.interface);
        on(self.direction.is_none().then_some("in"), &self.interface_in);
        on(self.direction.is_none().then_some("out"), &self.interface_out);
        if self.log.0 {
            w.push("log".into());
        }
        for (side, ip, port) in [("from", &self.from_ip, &self.from_port), ("to", &self.to_ip, &self.to_port)] {
            w.extend([side.to_string(), ip.0.clone()]);
            if let Some(p) = port {
                w.extend(["port".to_string(), p.0.clone()]);
            }
        }
        if let Some(p) = self.proto {
            w.extend(["proto".to_string(), p.word().into()]);
        }
        if let Some(n) = &self.name {
            w.extend(["app".to_string(), n.0.clone()]);
        }
        if let Some(c) = self.comment.as_ref().filter(|_| !self.delete.0) {
            w.extend(["comment".to_string(), c.0.clone()]);
        }
        Some(w)
    }

    /// A read-only script: settings, rules, and the rules as they would be with this one.
    fn look(&self) -> String {
        let mut s = String::from(
            "command -v ufw >/dev/null 2>&1 || exit 127\nexport LC_ALL=C\n\
             grep -hs '^ENABLED=\\|^LOGLEVEL=' /etc/ufw/ufw.conf\ngrep -hs '^DEFAULT_.*_POLICY=' /etc/default/ufw\n\
             echo 'now 4'; grep -hs '^### tuple' /etc/ufw/user.rules\necho 'now 6'; grep -hs '^### tuple' /etc/ufw/user6.rules\n",
        );
        if self.state.is_some() {
            s += "ufw status </dev/null 2>/dev/null | sed -n 's/^Status: active$/active/p'\n";
        }
        s += "echo plan\n";
        if let Some(w) = self.rule_words() {
            s += &format!(
                "ufw --dry-run {} </dev/null 2>&1 | grep '^### tuple\\|^:ufw6*-user-input\\|^ERROR'\n",
                shell_join(w)
            );
        }
        s + "exit 0"
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    const SETTINGS: &str = "ENABLED=no\nLOGLEVEL=low\nDEFAULT_INPUT_POLICY=\"DROP\"\nDEFAULT_OUTPUT_POLICY=\"ACCEPT\"\nDEFAULT_FORWARD_POLICY=\"DROP\"\n";
    const SSH4: &str = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n";
    const SSH6: &str = "### tuple ### allow tcp 22 ::/0 any ::/0 in\n";

    fn host(m: &Ufw, rules: &str, plan: &str) -> Observed {
        let stdout = format!("{SETTINGS}{rules}plan\n{plan}");
        seen([(Probe::Script(m.look()), Answer::Script(Output { stdout, ..Default::default() }))])
    }
    fn dump(four: &str, six: &str) -> String {
        format!(":ufw-user-input - [0:0]\n{four}:ufw6-user-input - [0:0]\n{six}")
    }
    fn commands(c: &Change) -> Vec<String> {
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        sh_accepts(s);
        s.lines().skip(2).map(|l| l.trim_end_matches(" </dev/null").to_string()).collect()
    }

    #[test]
    fn a_rule_is_added_once() {
        let m: Ufw = bind("{rule: allow, to_port: 22, proto: tcp}");
        sh_accepts(&m.look());
        let o = || host(&m, "now 4\nnow 6\n", &dump(SSH4, SSH6));
        let c = change(m.decide(&o(), &ctx()));
        assert_eq!(commands(&c), ["ufw allow from any to any port 22 proto tcp"]);
        assert!(c.diff[0].after.as_ref().unwrap().ends_with("allow tcp 22 ::/0 any ::/0 in\n"));
        satisfied(m.decide(&then(o(), &c), &ctx()));
        // "Skipping adding existing rule": no word of the rules.
        satisfied(m.decide(&host(&m, &format!("now 4\n{SSH4}now 6\n{SSH6}"), ""), &ctx()));
        // Missing with one family only.
        let half = host(&m, &format!("now 4\n{SSH4}now 6\n"), &format!(":ufw6-user-input\n{SSH6}"));
        change(m.decide(&half, &ctx()));
    }

    #[test]
    fn a_rule_is_removed_once() {
        let m: Ufw = bind("{rule: allow, port: 22, proto: tcp, delete: true}");
        let both = format!("now 4\n{SSH4}now 6\n{SSH6}");
        let c = change(m.decide(&host(&m, &both, &dump("", "")), &ctx()));
        assert_eq!(commands(&c), ["ufw delete allow from any to any port 22 proto tcp"]);
        satisfied(m.decide(&then(host(&m, &both, &dump("", "")), &c), &ctx()));
        // ufw tells all the rules again when there is nothing to delete.
        satisfied(m.decide(&host(&m, &both, &dump(SSH4, SSH6)), &ctx()));
    }

    #[test]
    fn a_rule_with_everything() {
        let m: Ufw = bind(
            "{rule: limit, direction: in, interface: eth0, src: 10.0.0.0/8, to_port: '80,443', proto: tcp, log: true, insert: 2, comment: the web}",
        );
        assert_eq!(
            shell_join(m.rule_words().unwrap()),
            "insert 2 limit in on eth0 log from 10.0.0.0/8 to any port 80,443 proto tcp comment 'the web'"
        );
        let m: Ufw = bind("{rule: allow, route: true, interface_in: a, interface_out: b}");
        assert_eq!(shell_join(m.rule_words().unwrap()), "route allow in on a out on b from any to any");
        let m: Ufw = bind("{rule: allow, name: Nginx Full}");
        assert_eq!(shell_join(m.rule_words().unwrap()), "allow from any to any app 'Nginx Full'");
    }

    #[test]
    fn settings_and_state() {
        let none = "now 4\nnow 6\n";
        let m: Ufw = bind("{state: enabled, policy: allow, logging: high}");
        let c = change(m.decide(&host(&m, none, ""), &ctx()));
        assert_eq!(commands(&c), ["ufw logging high", "ufw default allow incoming", "ufw --force enable"]);
        assert_eq!(c.summary, "logging low -> high, incoming deny -> allow, enabled");
        satisfied(m.decide(&then(host(&m, none, ""), &c), &ctx()));
        for same in [
            "{policy: deny}",
            "{default: allow, direction: outgoing}",
            "{logging: on}",
            "{state: disabled}",
            "{state: reset}",
        ] {
            let m: Ufw = bind(same);
            satisfied(m.decide(&host(&m, none, ""), &ctx()));
        }
        let m: Ufw = bind("{state: reloaded}");
        assert!(change(m.decide(&host(&m, none, ""), &ctx())).uncounted);
        let m: Ufw = bind("{state: reset}");
        let c = change(m.decide(&host(&m, &format!("now 4\n{SSH4}now 6\n"), ""), &ctx()));
        assert_eq!(commands(&c), ["ufw --force reset"]);
    }

    #[test]
    fn after_a_reset_there_is_what_the_task_says() {
        const WEB: &str = "### tuple ### allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in\n";
        const WEB6: &str = "### tuple ### allow tcp 80 ::/0 any ::/0 in\n";
        let m: Ufw = bind("{state: reset, rule: allow, to_port: 22, proto: tcp, insert: 3, policy: allow}");
        let others = || {
            host(&m, &format!("now 4\n{WEB}now 6\n{WEB6}"), &dump(&format!("{WEB}{SSH4}"), &format!("{WEB6}{SSH6}")))
        };
        let c = change(m.decide(&others(), &ctx()));
        assert_eq!(
            commands(&c),
            ["ufw --force reset", "ufw default allow incoming", "ufw allow from any to any port 22 proto tcp"]
        );
        let after = c.diff[0].after.clone().unwrap();
        assert!(after.contains("tcp 22 ::/0") && !after.contains("tcp 80"), "{after}");
        satisfied(m.decide(&then(others(), &c), &ctx()));
        // It is there with others: what the notes say of it is not known.
        let m: Ufw = bind("{state: reset, rule: allow, to_port: 22, proto: tcp}");
        let c = change(m.decide(&host(&m, &format!("now 4\n{WEB}{SSH4}now 6\n{WEB6}{SSH6}"), ""), &ctx()));
        assert!(c.after.is_empty() && commands(&c).len() == 2);
        satisfied(m.decide(&host(&m, &format!("now 4\n{SSH4}now 6\n{SSH6}"), ""), &ctx()));
        let c = change(m.decide(&host(&m, "now 4\nnow 6\n", &dump(SSH4, SSH6)), &ctx()));
        assert_eq!(commands(&c), ["ufw allow from any to any port 22 proto tcp"]);
    }

    #[test]
    fn what_cannot_be() {
        let m: Ufw = bind("{rule: allow, to_port: 99999}");
        let Err(Stop::Fail(f)) = m.decide(&host(&m, "", "ERROR: Bad port\n"), &ctx()) else { panic!() };
        assert!(f.message.ends_with("Bad port"), "{}", f.message);
        let out = Output { rc: 127, ..Default::default() };
        let o = seen([(Probe::Script(m.look()), Answer::Script(out))]);
        assert!(matches!(m.decide(&o, &ctx()), Err(Stop::Fail(_))));
        for (bad, word) in [
            ("{}", "needs `rule`"),
            ("{to_port: 22, state: enabled}", "goes with `rule`"),
            ("{rule: allow, interface: eth0}", "needs a `direction`"),
            ("{rule: allow, interface_in: a, interface_out: b}", "`route`"),
            ("{rule: allow, direction: routed}", "`route: true`"),
            ("{default: deny, direction: in}", "incoming"),
            ("{rule: allow, insert: 0}", "from 1"),
            ("{rule: allow, to_port: 22, comment: \"it's\"}", "quotes"),
        ] {
            let e = try_bind::<Ufw>(bad).unwrap_err();
            assert!(e.message.contains(word), "{bad}: {}", e.message);
        }
    }

    #[test]
    fn both_ends_of_a_rule() {
        let m: Ufw = bind("{rule: deny, proto: udp, from_ip: 10.0.0.1, from_port: 53, to_ip: 10.0.0.2}");
        assert_eq!(shell_join(m.rule_words().unwrap()), "deny from 10.0.0.1 port 53 to 10.0.0.2 proto udp");
    }
}
