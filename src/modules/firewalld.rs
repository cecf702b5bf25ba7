//! `firewalld`: what a zone lets in.

use super::args::{Bool, Text};
use super::whole::Whole;
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// One setting of a zone of firewalld, running, at each start, or both. Where firewalld is off, `permanent` settings are
/// made all the same.
///
/// Registers `msg`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Firewalld {
    /// `enabled` or `disabled`; for a whole zone, and for `target`, `present` or `absent`.
    state: State,
    /// The zone; without it, the host's default.
    zone: Option<Text>,
    /// It holds at each start.
    #[serde(default)]
    permanent: Bool,
    /// It holds now; if not given, only where `permanent` is not.
    immediate: Option<Bool>,
    /// Has no effect: a firewalld that is off is no hindrance to `permanent`.
    #[serde(default)]
    #[allow(dead_code)]
    offline: Bool,
    /// Seconds after which it ends, with `immediate`.
    #[serde(default)]
    timeout: Whole,
    /// A service that firewalld knows: `https`.
    service: Option<Text>,
    /// `8080/tcp`, `8000-8010/udp`.
    port: Option<Text>,
    /// A protocol: `vrrp`.
    protocol: Option<Text>,
    /// One forwarding: `{port, proto, toport, toaddr}`.
    port_forward: Option<Vec<Forward>>,
    /// A rule in firewalld's own language.
    rich_rule: Option<Text>,
    /// An address or network that belongs to the zone.
    source: Option<Text>,
    /// An interface that belongs to the zone.
    interface: Option<Text>,
    /// A kind of ICMP that is blocked.
    icmp_block: Option<Text>,
    /// Whether `icmp_block` is turned round.
    icmp_block_inversion: Option<Bool>,
    /// Whether the zone's traffic goes out under the host's address.
    masquerade: Option<Bool>,
    /// Whether the zone's interfaces forward to each other.
    forward: Option<Bool>,
    /// What becomes of what nothing is said about: `default`, `ACCEPT`, `DROP`, `%%REJECT%%`.
    target: Option<Target>,
}

/// A port that is led elsewhere.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Forward {
    port: Text,
    /// `tcp` or `udp`.
    proto: Text,
    toport: Text,
    toaddr: Option<Text>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Enabled,
    Disabled,
    Present,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum Target {
    #[serde(rename = "default")]
    Default,
    #[serde(rename = "ACCEPT")]
    Accept,
    #[serde(rename = "DROP")]
    Drop,
    #[serde(rename = "%%REJECT%%")]
    Reject,
}

impl Target {
    fn word(self) -> &'static str {
        match self {
            Target::Default => "default",
            Target::Accept => "ACCEPT",
            Target::Drop => "DROP",
            Target::Reject => "%%REJECT%%",
        }
    }
}

/// What the task is about.
enum What {
    /// `--add-KIND[=VALUE]`, `--remove-…`, `--query-…`; and whether it is to be.
    Setting {
        kind: &'static str,
        value: String,
        on: bool,
    },
    Zone {
        on: bool,
    },
    Target(&'static str),
}

impl Module for Firewalld {
    const NAME: &'static str = "firewalld";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let given: Vec<&str> = [
            ("service", self.service.is_some()),
            ("port", self.port.is_some()),
            ("protocol", self.protocol.is_some()),
            ("port_forward", self.port_forward.is_some()),
            ("rich_rule", self.rich_rule.is_some()),
            ("source", self.source.is_some()),
            ("interface", self.interface.is_some()),
            ("icmp_block", self.icmp_block.is_some()),
            ("icmp_block_inversion", self.icmp_block_inversion.is_some()),
            ("masquerade", self.masquerade.is_some()),
            ("forward", self.forward.is_some()),
            ("target", self.target.is_some()),
        ]
        .iter()
        .filter(|g| g.1)
        .map(|g| g.0)
        .collect();
        if let [one, two, ..] = given.as_slice() {
            return Err(ArgError::new(two, format!("`{one}` and `{two}` exclude each other"))
                .hint("a task changes one setting"));
        }
        let whole = matches!(self.state, State::Present | State::Absent);
        match given.first() {
            None if !whole => {
                return Err(ArgError::new("state", "`firewalld` needs a setting: `service`, `port`, …")
                    .hint("for a whole zone, `state` is `present` or `absent`"));
            }
            None if self.zone.is_none() => return Err(ArgError::new("zone", "which zone?")),
            Some(&name) if name != "target" && whole => {
                return Err(ArgError::new("state", format!("with `{name}` it is `enabled` or `disabled`")));
            }
            _ => {}
        }
        let permanent_only = matches!(given.first(), None | Some(&"target"));
        if permanent_only && (!self.permanent.0 || self.immediate == Some(Bool(true))) {
            return Err(ArgError::new("permanent", "zones and their targets are only `permanent`")
                .hint("`command: firewall-cmd --reload` brings them in"));
        }
        if let Some(p) = &self.port
            && !p.split_once('/').is_some_and(|(n, proto)| {
                matches!(proto, "tcp" | "udp" | "sctp" | "dccp")
                    && n.split('-').all(|n| n.parse::<u16>().is_ok())
                    && n.split('-').count() <= 2
            })
        {
            return Err(ArgError::new("port", format!("`{}` is not a port", p.0)).hint("`8080/tcp` or `8000-8010/udp`"));
        }
        if self.port_forward.as_ref().is_some_and(|f| f.len() != 1) {
            return Err(ArgError::new("port_forward", "one forwarding a task"));
        }
        if self.timeout.0 > 0 && self.permanent.0 {
            return Err(ArgError::new("timeout", "what is `permanent` does not end"));
        }
        let odd = |t: &Text| t.is_empty() || t.contains(['\n', '\0']);
        let texts = [
            ("zone", &self.zone),
            ("service", &self.service),
            ("protocol", &self.protocol),
            ("rich_rule", &self.rich_rule),
            ("source", &self.source),
            ("interface", &self.interface),
            ("icmp_block", &self.icmp_block),
        ];
        match texts.iter().find(|(_, t)| t.as_ref().is_some_and(odd)) {
            Some((param, _)) => Err(ArgError::new(param, format!("`{param}` is empty or has more than one line"))),
            None => Ok(()),
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
                "there is no firewalld on the host",
                "install it first: `package: {name: firewalld, state: present}`",
            ));
        }
        let field = |k: &str| out.stdout.lines().find_map(|l| l.strip_prefix(k)?.strip_prefix(' ')).unwrap_or_default();
        let running = field("running") == "yes";
        if self.immediate() && !running {
            return Err(Stop::fail_hint(
                "firewalld is not running",
                "start it first, or make the setting only `permanent`",
            ));
        }
        let what = self.what();
        let refused = || {
            let why = out.stderr.lines().find(|l| !l.trim().is_empty()).unwrap_or("it gives no reason");
            format!("firewalld refuses it: {}", why.trim())
        };
        if !matches!(field("known"), "" | "0") {
            return Err(Stop::fail_hint(
                refused(),
                "`firewall-cmd --get-services` lists the services; a `port` needs none",
            ));
        }
        let (mut commands, mut then) = (vec![], format!("running {}\n", field("running")));
        for (part, wanted) in [("permanent", self.permanent.0), ("runtime", self.immediate())] {
            if !wanted {
                continue;
            }
            let now = field(part);
            let right = match &what {
                What::Target(t) => now == *t,
                What::Setting { on, .. } | What::Zone { on } => match now {
                    "0" => *on,
                    "1" => !*on,
                    _ => return Err(Stop::fail(refused())),
                },
            };
            let code = match &what {
                What::Target(t) => t.to_string(),
                What::Setting { on, .. } | What::Zone { on } => i32::from(!*on).to_string(),
            };
            then += &format!("{part} {code}\n");
            if !right {
                commands.push((part, self.command(&what, part == "permanent", running)));
            }
        }
        let name = match &what {
            What::Setting { kind, value, on } => {
                let value = value.trim_start_matches('=');
                let to = if *on { "enabled" } else { "disabled" };
                format!("{kind}{}{value} {to}", if value.is_empty() { "" } else { " " })
            }
            What::Zone { on } => format!("zone {}", if *on { "present" } else { "absent" }),
            What::Target(t) => format!("target {t}"),
        };
        let zone = self.zone.as_deref().unwrap_or("the default zone");
        let parts = commands.iter().map(|(p, _)| *p).collect::<Vec<_>>().join(" and ");
        let msg = match commands.is_empty() {
            true => format!("{name} in {zone}"),
            false => format!("{name} in {zone} ({parts})"),
        };
        let mut result = Map::new();
        result.insert("msg".into(), json!(msg));
        if commands.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let script =
            commands.iter().map(|(_, c)| format!("{c} </dev/null >/dev/null")).collect::<Vec<_>>().join(" &&\n");
        let diff = Diff {
            what: format!("firewalld, {zone}"),
            before: Some(String::new()),
            after: Some(format!("{name} ({parts})\n")),
        };
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(format!("export LC_ALL=C\n{script}"))],
            touches: Touches { loads: true, ..Touches::path("/etc/firewalld") },
            after: vec![(Probe::Script(look), Answer::Script(Output { stdout: then, ..Default::default() }))],
            diff: if ctx.diff { vec![diff] } else { vec![] },
            summary: msg,
            result,
            ..Default::default()
        }))
    }
}

impl Firewalld {
    fn immediate(&self) -> bool {
        self.immediate.map_or(!self.permanent.0, |b| b.0 || !self.permanent.0)
    }

    fn what(&self) -> What {
        let on = self.state == State::Enabled;
        let text = |t: &Option<Text>| t.as_ref().map(|t| format!("={}", t.0));
        let settings = [
            ("service", text(&self.service)),
            ("port", text(&self.port)),
            ("protocol", text(&self.protocol)),
            ("rich-rule", text(&self.rich_rule)),
            ("source", text(&self.source)),
            ("interface", text(&self.interface)),
            ("icmp-block", text(&self.icmp_block)),
        ];
        for (kind, value) in settings {
            if let Some(value) = value {
                return What::Setting { kind, value, on };
            }
        }
        // `masquerade: false` enabled is `masquerade: true` disabled.
        for (kind, value) in [
            ("icmp-block-inversion", self.icmp_block_inversion),
            ("masquerade", self.masquerade),
            ("forward", self.forward),
        ] {
            if let Some(b) = value {
                return What::Setting { kind, value: String::new(), on: on == b.0 };
            }
        }
        if let Some(f) = self.port_forward.as_ref().and_then(|f| f.first()) {
            let to = f.toaddr.as_ref().map(|a| format!(":toaddr={}", a.0)).unwrap_or_default();
            let value = format!("=port={}:proto={}:toport={}{to}", f.port.0, f.proto.0, f.toport.0);
            return What::Setting { kind: "forward-port", value, on };
        }
        let there = matches!(self.state, State::Present | State::Enabled);
        match self.target {
            Some(t) => What::Target(if there { t.word() } else { "default" }),
            None => What::Zone { on: there },
        }
    }

    fn zone(&self) -> String {
        self.zone.as_ref().map(|z| format!(" {}", shell_quote(&format!("--zone={}", z.0)))).unwrap_or_default()
    }

    fn command(&self, what: &What, permanent: bool, running: bool) -> String {
        let tool = match (permanent, running) {
            (true, true) => "firewall-cmd --permanent",
            (true, false) => "firewall-offline-cmd",
            _ => "firewall-cmd",
        };
        let name = self.zone.as_deref().unwrap_or_default();
        match what {
            What::Setting { kind: "interface", value, on: true } => {
                format!("{tool}{} {}", self.zone(), shell_quote(&format!("--change-interface{value}")))
            }
            What::Setting { kind, value, on } => {
                let verb = if *on { "add" } else { "remove" };
                let ends = match self.timeout.0 {
                    n if n > 0 && *on => format!(" --timeout={n}"),
                    _ => String::new(),
                };
                format!("{tool}{} {}{ends}", self.zone(), shell_quote(&format!("--{verb}-{kind}{value}")))
            }
            What::Zone { on } => {
                let verb = if *on { "new" } else { "delete" };
                format!("{tool} {}", shell_quote(&format!("--{verb}-zone={name}")))
            }
            What::Target(t) => format!("{tool}{} {}", self.zone(), shell_quote(&format!("--set-target={t}"))),
        }
    }

    /// A read-only script: whether firewalld runs, and whether it is so.
    fn look(&self) -> String {
        let mut s = String::from(
            "command -v firewall-cmd >/dev/null 2>&1 || exit 127\nexport LC_ALL=C\n\
             if firewall-cmd --state >/dev/null 2>&1; then echo 'running yes'; p='firewall-cmd --permanent'\n\
             else echo 'running no'; p=firewall-offline-cmd; fi\n",
        );
        let zone = self.zone();
        match self.what() {
            What::Setting { kind, value, on } => {
                // A question for a service that nobody knows is answered with no.
                if kind == "service" && on {
                    let q = shell_quote(&format!("--info-service{value}"));
                    s += &format!("$p {q} </dev/null >/dev/null; echo \"known $?\"\n");
                }
                let q = shell_quote(&format!("--query-{kind}{value}"));
                if self.permanent.0 {
                    s += &format!("$p{zone} {q} </dev/null >/dev/null; echo \"permanent $?\"\n");
                }
                if self.immediate() {
                    s += &format!("firewall-cmd{zone} {q} </dev/null >/dev/null; echo \"runtime $?\"\n");
                }
            }
            What::Zone { .. } => {
                let name = shell_quote(self.zone.as_deref().unwrap_or_default());
                s +=
                    &format!("$p --get-zones </dev/null | tr ' ' '\\n' | grep -qxF -- {name}; echo \"permanent $?\"\n");
            }
            What::Target(_) => s += &format!("echo \"permanent $($p{zone} --get-target </dev/null)\"\n"),
        }
        s + "exit 0"
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn done(params: &str, said: &str) -> Vec<String> {
        let m: Firewalld = bind(params);
        sh_accepts(&m.look());
        let o = || {
            let out =
                Output { stdout: said.into(), stderr: "Error: INVALID_SERVICE: 'x'\n".into(), ..Default::default() };
            seen([(Probe::Script(m.look()), Answer::Script(out))])
        };
        match m.decide(&o(), &ctx()) {
            Ok(Decision::Change(c)) => {
                let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
                sh_accepts(s);
                satisfied(m.decide(&then(o(), &c), &ctx()));
                s.lines()
                    .skip(1)
                    .map(|l| l.trim_end_matches(" &&").trim_end_matches(" </dev/null >/dev/null").to_string())
                    .collect()
            }
            Ok(Decision::Satisfied(_)) => vec![],
            Err(Stop::Fail(f)) => vec![f.message],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_setting_now_and_at_each_start() {
        let p = "{service: https, state: enabled, permanent: true, immediate: true, zone: public}";
        assert_eq!(
            done(p, "running yes\npermanent 1\nruntime 1\n"),
            [
                "firewall-cmd --permanent --zone=public --add-service=https",
                "firewall-cmd --zone=public --add-service=https"
            ]
        );
        assert_eq!(
            done(p, "running yes\npermanent 0\nruntime 1\n"),
            ["firewall-cmd --zone=public --add-service=https"]
        );
        assert!(done(p, "running yes\npermanent 0\nruntime 0\n").is_empty());
        assert_eq!(
            done(p, "running yes\npermanent 101\nruntime 101\n"),
            ["firewalld refuses it: Error: INVALID_SERVICE: 'x'"]
        );
        assert_eq!(
            done(p, "running yes\nknown 101\npermanent 1\nruntime 1\n"),
            ["firewalld refuses it: Error: INVALID_SERVICE: 'x'"]
        );
        assert_eq!(done(p, "running yes\nknown 0\npermanent 1\nruntime 1\n").len(), 2);
        let m: Firewalld = bind(p);
        assert!(m.look().contains("$p --info-service=https "), "{}", m.look());
        assert!(!bind::<Firewalld>(&p.replace("enabled", "disabled")).look().contains("--info-service"));
        assert_eq!(done(p, "running no\npermanent 1\n"), ["firewalld is not running"]);
        let off = "{port: 80/tcp, state: disabled, permanent: true}";
        assert_eq!(done(off, "running no\npermanent 0\n"), ["firewall-offline-cmd --remove-port=80/tcp"]);
        assert!(done(off, "running no\npermanent 1\n").is_empty());
        assert_eq!(
            done("{source: 10.0.0.0/8, state: enabled, timeout: 60}", "running yes\nruntime 1\n"),
            ["firewall-cmd --add-source=10.0.0.0/8 --timeout=60"]
        );
    }

    #[test]
    fn other_settings() {
        let one = |p: &str| done(&format!("{{{p}, state: enabled}}"), "running yes\nruntime 1\n").join("");
        assert_eq!(one("interface: eth1, zone: dmz"), "firewall-cmd --zone=dmz --change-interface=eth1");
        assert_eq!(one("masquerade: true"), "firewall-cmd --add-masquerade");
        assert_eq!(
            one("port_forward: [{port: 80, proto: tcp, toport: 8080}]"),
            "firewall-cmd --add-forward-port=port=80:proto=tcp:toport=8080"
        );
        assert_eq!(
            one("rich_rule: 'rule family=\"ipv4\" accept'"),
            "firewall-cmd '--add-rich-rule=rule family=\"ipv4\" accept'"
        );
        assert!(done("{masquerade: false, state: enabled}", "running yes\nruntime 1\n").is_empty());
        assert_eq!(
            done("{masquerade: false, state: enabled}", "running yes\nruntime 0\n"),
            ["firewall-cmd --remove-masquerade"]
        );
        assert_eq!(
            done("{zone: mine, state: present, permanent: true}", "running yes\npermanent 1\n"),
            ["firewall-cmd --permanent --new-zone=mine"]
        );
        assert_eq!(
            done("{zone: mine, state: present, permanent: true, target: DROP}", "running yes\npermanent default\n"),
            ["firewall-cmd --permanent --zone=mine --set-target=DROP"]
        );
    }

    #[test]
    fn mistakes() {
        for (bad, word) in [
            ("{state: enabled}", "needs a setting"),
            ("{state: present}", "which zone"),
            ("{state: present, zone: a}", "only `permanent`"),
            ("{state: present, service: a}", "`enabled` or `disabled`"),
            ("{state: enabled, service: a, port: 1/tcp}", "exclude"),
            ("{state: enabled, port: 80}", "not a port"),
            ("{state: enabled, service: a, permanent: true, timeout: 3}", "does not end"),
        ] {
            let e = try_bind::<Firewalld>(bad).unwrap_err();
            assert!(e.message.contains(word), "{bad}: {}", e.message);
        }
    }

    #[test]
    fn settings_that_are_rarer() {
        let on = |p: &str| done(&format!("{{{p}, state: enabled}}"), "running yes\nruntime 1\n");
        assert_eq!(on("protocol: gre"), ["firewall-cmd --add-protocol=gre"]);
        assert_eq!(on("icmp_block: echo-request"), ["firewall-cmd --add-icmp-block=echo-request"]);
        assert_eq!(on("icmp_block_inversion: true"), ["firewall-cmd --add-icmp-block-inversion"]);
        assert_eq!(on("forward: true"), ["firewall-cmd --add-forward"]);
    }
}
