//! What a task can ask for. A module says which probes it needs and decides, from the answers alone, whether all is
//! as wanted or which actions make it so. It never acts, and knows nothing of connections or screens.

mod alternatives;
mod apt;
mod apt_repository;
mod archive;
pub mod args;
pub mod async_status;
mod authorized_key;
mod blockinfile;
mod command;
mod copy;
pub use copy::settings as template_settings;
mod cron;
mod deb822_repository;
mod debug;
mod dnf;
mod edit;
mod fetch;
mod file;
mod find;
mod firewalld;
mod get_url;
mod getent;
mod git;
mod group;
mod groups;
#[cfg(test)]
pub(crate) mod hostile_tests;
mod hostname;
mod include;
mod include_vars;
mod ini_file;
mod iptables;
mod known_hosts;
mod lineinfile;
mod locale_gen;
mod meta;
mod modprobe;
mod mount;
mod openrc;
mod package;
mod package_facts;
mod packages;
mod pacman;
pub mod pages;
mod pause;
mod ping;
mod place;
pub mod reboot;
pub(crate) mod regex;
mod replace;
pub mod results;
mod rpm;
mod script;
mod selinux;
mod service_facts;
mod setup;
mod slurp;
mod stat;
mod synchronize;
mod sysctl;
mod systemd;
mod temporary;
mod timezone;
mod ufw;
mod unarchive;
mod uri;
mod user;
mod wait_for;
mod whole;

pub use command::split as split_words;

use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::template::TemplateError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A kind of task. Its fields are the task's parameters: names, meaning and defaults are those of Ansible's module
/// of the same name.
pub trait Module: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    const NAME: &'static str;
    /// Other names the module answers to.
    const ALIASES: &'static [&'static str] = &[];
    /// The parameter that `module: some text` stands for.
    const FREE_FORM: Option<&'static str> = None;

    /// It looks and speaks but never changes a host: a plan that cannot know its parameters need not worry.
    const HARMLESS: bool = false;
    /// What it asks is of the moment: it is asked anew, whatever is known.
    const ANEW: bool = false;
    /// Parameters that are bare expressions, as `that` of `assert`.
    const EXPRESSIONS: &'static [&'static str] = &[];
    /// The fields of what is registered, each with a few words; for the module's page.
    const RETURNS: &'static [(&'static str, &'static str)] = &[];
    /// Tasks that show how it is used, as YAML; for the module's page.
    const EXAMPLE: &'static str = "";

    /// Brings in what lies on this side (source files, rendered templates) and checks parameters against each other.
    fn prepare(&mut self, _local: &dyn Local) -> Result<(), ArgError> {
        Ok(())
    }
    /// What will stand in a process's arguments on the host, where every user can read it, and whether `$NAME` in it is
    /// expanded there. No secret may.
    fn arguments(&self) -> (&[String], bool) {
        (&[], false)
    }
    /// What must be known of the host, as far as it can be said beforehand.
    fn probes(&self, _ctx: &Ctx) -> Vec<Probe> {
        vec![]
    }
    /// Whether all is as wanted, or what makes it so. Pure: the same answers give the same decision. An answer that
    /// is not there yet is asked for by `?` on the [`Observed`] getters.
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop>;
}

/// The circumstances of a decision.
#[derive(Debug, Clone, Default)]
pub struct Ctx {
    /// The reader wants to see what changes: bring old content along for the diff.
    pub diff: bool,
    /// Nothing will be done (`plan`, `--check`).
    pub check: bool,
    /// The user the task runs as on the host.
    pub user: String,
    /// Seconds since 1970, for names with a time in them and "not older than" parameters.
    pub now: i64,
    /// How long the step has been waiting ([`Decision::Wait`]); zero at its first decision.
    pub waited: Duration,
    /// What was answered to [`Decision::Ask`].
    pub answer: Option<String>,
}

/// This side's files, as a module may use them while it prepares.
pub trait Local {
    /// A source file's path: the role's `files/` (or `templates/`), the same beside the playbook, the playbook's folder.
    fn find(&self, kind: FileKind, name: &str) -> Result<PathBuf, ArgError>;
    fn read(&self, path: &std::path::Path) -> Result<Vec<u8>, ArgError>;
    /// A template file's text, rendered with the task's variables. `settings`: how it is written, where the task says so.
    fn render(
        &self,
        path: &std::path::Path,
        text: &str,
        settings: &crate::template::Settings,
    ) -> Result<String, ArgError>;
    /// The files of variables that the task can read (`include_vars`).
    fn files_of_variables(&self) -> Vec<String> {
        vec![]
    }
    /// What is in one of them, rendered.
    fn variables(&self, name: &str) -> Result<Map<String, Value>, ArgError> {
        Err(ArgError::new("file", format!("there is no file `{name}`")))
    }
    /// The host's name in the inventory.
    fn host(&self) -> &str;
    /// The playbook's folder.
    fn folder(&self) -> PathBuf;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Template,
}

/// A parameter that cannot be used: which one (a path of keys), why, what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgError {
    pub param: Vec<String>,
    pub message: String,
    pub hint: Option<String>,
    /// The mistake lies in a template file: the place in it.
    pub span: Option<crate::source::Span>,
    /// The value exists only later (why); not a mistake.
    pub unknown: bool,
}

impl ArgError {
    pub fn new(param: &str, message: impl Into<String>) -> Self {
        ArgError {
            param: if param.is_empty() { vec![] } else { vec![param.to_string()] },
            message: message.into(),
            hint: None,
            span: None,
            unknown: false,
        }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    pub fn template(param: &str, e: TemplateError) -> Self {
        ArgError { hint: e.hint, span: e.span, ..Self::new(param, e.message) }
    }
}

/// What a module makes of what it saw.
#[derive(Debug, Clone)]
pub enum Decision {
    /// All is as wanted; nothing is done.
    Satisfied(Report),
    Change(Change),
    /// It is not so yet, but time may bring it: look again.
    Wait(Wait),
    /// The host goes away and comes back, or is waited for.
    Away(reboot::Away),
    /// Somebody must answer first ([`Ctx::answer`]).
    Ask(Question),
}

/// What the person at the terminal is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub text: String,
    /// What is typed is not shown.
    pub hidden: bool,
}

/// What a task gives back without a change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The fields a `register` gets, as Ansible names them.
    pub result: Map<String, Value>,
    /// Words for the reader (`debug`).
    pub say: Option<String>,
    /// From which `-v` on they are shown.
    pub say_from: u8,
    /// Variables the host has from here on (`set_fact`).
    pub facts: Map<String, Value>,
    /// What is not to be relied on any more.
    pub refresh: Option<Refresh>,
}

/// What a run knows of a host, or has there, and is to get anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    Facts,
    Connection,
}

/// What makes it so.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub actions: Vec<Action>,
    /// What may look different afterwards. The default, nothing, is right only where `actions` is empty.
    pub touches: Touches,
    /// What will be observed afterwards, as far as it is certain. `plan` goes on from it.
    pub after: Vec<(Probe, Answer)>,
    pub diff: Vec<Diff>,
    /// One line that says what is done, for reports (`mode 0644 -> 0600`, `runs touch /x`).
    pub summary: String,
    /// The fields a `register` gets besides `changed` and a command's output.
    pub result: Map<String, Value>,
    /// What is done does not count as a change, as reading unit files again.
    pub uncounted: bool,
    /// Tells from the actions' outputs whether anything changed after all; without it a done action is a change.
    pub verdict: Option<fn(&[Output]) -> bool>,
    /// Fields of the result that only the outputs tell, besides those above. A plan does not know them.
    pub adds: Option<Adds>,
    /// Makes the result of the actions' outputs: for a question that must be asked by an action. A plan leaves it out.
    pub reader: Option<Reader>,
}

/// See [`Change::adds`].
pub type Adds = fn(&[Output]) -> Map<String, Value>;

/// Makes a result of what actions printed, or a failure.
#[derive(Clone)]
pub struct Reader(pub Arc<ReadOutputs>);

/// See [`Reader`].
pub type ReadOutputs = dyn Fn(&[Output]) -> Result<Read, Failure> + Send + Sync;

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// What a [`Reader`] read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// The fields a `register` gets.
    pub result: Map<String, Value>,
    pub changed: bool,
    /// Words for the reader of the screen.
    pub say: Option<String>,
    /// Variables the host has from here on.
    pub facts: Map<String, Value>,
}

/// Text before and after.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Diff {
    /// What it is about, mostly a path.
    pub what: String,
    /// `None`: it was not there.
    pub before: Option<String>,
    /// `None`: it will not be there.
    pub after: Option<String>,
}

/// A wait for something to become so.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    /// Before the first look.
    pub delay: Duration,
    /// Between two looks.
    pub every: Duration,
    /// In all; then the step fails.
    pub limit: Duration,
    /// What the step fails with, when it does.
    pub message: String,
    /// Read-only scripts whose output explains the failure, each with a title.
    pub evidence: Vec<(String, String)>,
}

/// Why no decision was possible.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// More must be known of the host first.
    Need(Vec<Probe>),
    /// It cannot be done; the step fails.
    Fail(Failure),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
    pub result: Map<String, Value>,
}

impl Stop {
    pub fn fail(message: impl Into<String>) -> Self {
        Stop::Fail(Failure { message: message.into(), ..Default::default() })
    }
    pub fn fail_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Stop::Fail(Failure { message: message.into(), hint: Some(hint.into()), ..Default::default() })
    }
}

impl Decision {
    /// Satisfied, with fields for a `register`.
    pub fn satisfied(result: Map<String, Value>) -> Self {
        Decision::Satisfied(Report { result, ..Default::default() })
    }
}

/// A module with its parameters, ready to be asked.
pub trait Bound: Send + Sync {
    fn arguments(&self) -> (&[String], bool);
    fn probes(&self, ctx: &Ctx) -> Vec<Probe>;
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop>;
}

impl<M: Module> Bound for M {
    fn arguments(&self) -> (&[String], bool) {
        Module::arguments(self)
    }
    fn probes(&self, ctx: &Ctx) -> Vec<Probe> {
        Module::probes(self, ctx)
    }
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        Module::decide(self, seen, ctx)
    }
}

/// Makes a module of its rendered parameters.
pub type Bind = fn(Value, &dyn Local) -> Result<Box<dyn Bound>, ArgError>;

/// An entry of the list of modules.
pub struct ModuleDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub free_form: Option<&'static str>,
    /// The parameters' schema, from the module's own type.
    pub schema: fn() -> Value,
    /// It never changes a host.
    pub harmless: bool,
    /// See [`Module::ANEW`].
    pub anew: bool,
    /// Parameters that are bare expressions; they arrive as `{expression: text, value: what it came to}`.
    pub expressions: &'static [&'static str],
    /// See [`Module::RETURNS`].
    pub returns: &'static [(&'static str, &'static str)],
    /// See [`Module::EXAMPLE`].
    pub example: &'static str,
    /// Whether the module has no parameter of a name.
    unknown: fn(&str) -> bool,
    /// Whether a value has the type of a parameter, whatever the other parameters are.
    pub typed: fn(&str, Value) -> Result<(), ArgError>,
    /// Makes a module of rendered parameters.
    pub bind: Bind,
}

impl std::fmt::Debug for ModuleDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl ModuleDef {
    /// The parameters' names, other names (`x-aliases`) included; empty where any name is taken (`set_fact`).
    pub fn params(&self) -> Vec<String> {
        let schema = (self.schema)();
        let Some(properties) = schema["properties"].as_object() else { return vec![] };
        let aliases = properties.values().filter_map(|p| p["x-aliases"].as_array()).flatten();
        let aliases = aliases.filter_map(|a| a.as_str().map(str::to_string));
        properties.keys().cloned().chain(aliases).collect()
    }
    /// The parameters it cannot do without that are not among those given, under any of their names.
    pub fn lacks(&self, given: &[String]) -> Vec<ArgError> {
        let schema = (self.schema)();
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names = |r: &str| {
            let aliases = schema["properties"][r]["x-aliases"].as_array().into_iter().flatten();
            aliases.filter_map(|a| a.as_str().map(str::to_string)).chain([r.to_string()]).collect::<Vec<_>>()
        };
        required
            .filter(|r| !names(r).iter().any(|n| given.contains(n)))
            .map(|r| ArgError::new("", format!("missing field `{r}`")))
            .collect()
    }
    /// Any name is a parameter, as for `set_fact`.
    pub fn takes_any_name(&self) -> bool {
        !(self.unknown)("no module has a parameter of this name")
    }
    /// If the module has no parameter of this name (nor alias): the names it has.
    pub fn refuses(&self, param: &str) -> Option<Vec<String>> {
        (self.unknown)(param).then(|| self.params())
    }
}

/// Parameters with their types.
fn parameters<M: Module>(args: Value) -> Result<M, ArgError> {
    serde_path_to_error::deserialize(args).map_err(|e| {
        let param = e.path().iter().map(|s| s.to_string()).filter(|s| s != "?").collect();
        ArgError { param, ..ArgError::new("", e.inner().to_string()) }
    })
}

const fn def<M: Module>() -> ModuleDef {
    ModuleDef {
        name: M::NAME,
        aliases: M::ALIASES,
        free_form: M::FREE_FORM,
        schema: || schemars::schema_for!(M).to_value(),
        harmless: M::HARMLESS,
        anew: M::ANEW,
        expressions: M::EXPRESSIONS,
        returns: M::RETURNS,
        example: M::EXAMPLE,
        unknown: |param| {
            let probe = Value::Object(Map::from_iter([(param.to_string(), Value::Null)]));
            // serde looks at the key before it looks at the value or at what is missing.
            serde_json::from_value::<M>(probe)
                .err()
                .is_some_and(|e| e.to_string().starts_with(&format!("unknown field `{param}`")))
        },
        typed: |param, value| {
            let one = Value::Object(Map::from_iter([(param.to_string(), value)]));
            match parameters::<M>(one) {
                // With one parameter alone, all others are missing; only what is said of this one counts.
                Err(e) if !e.param.is_empty() => Err(e),
                _ => Ok(()),
            }
        },
        bind: |args, local| {
            let mut m: M = parameters(args)?;
            m.prepare(local)?;
            Ok(Box::new(m))
        },
    }
}

/// What looks for the tasks to be taken in; nobody writes it as a task's module.
pub static INCLUDE: ModuleDef = def::<include::IncludeTasks>();

/// All modules.
pub static MODULES: &[ModuleDef] = &[
    def::<groups::AddHost>(),
    def::<pacman::Apk>(),
    def::<alternatives::Alternatives>(),
    def::<apt::Apt>(),
    def::<apt_repository::AptRepository>(),
    def::<archive::Archive>(),
    def::<debug::Assert>(),
    def::<async_status::AsyncStatus>(),
    def::<authorized_key::AuthorizedKey>(),
    def::<blockinfile::BlockInFile>(),
    def::<command::Command>(),
    def::<copy::Copy>(),
    def::<cron::Cron>(),
    def::<deb822_repository::Deb822Repository>(),
    def::<debug::Debug>(),
    def::<dnf::Dnf>(),
    def::<debug::Fail>(),
    def::<fetch::Fetch>(),
    def::<file::File>(),
    def::<get_url::GetUrl>(),
    def::<find::Find>(),
    def::<firewalld::Firewalld>(),
    def::<getent::Getent>(),
    def::<git::Git>(),
    def::<group::Group>(),
    def::<groups::GroupBy>(),
    def::<hostname::Hostname>(),
    def::<include_vars::IncludeVars>(),
    def::<ini_file::IniFile>(),
    def::<iptables::Iptables>(),
    def::<known_hosts::KnownHosts>(),
    def::<lineinfile::LineInFile>(),
    def::<locale_gen::LocaleGen>(),
    def::<meta::Meta>(),
    def::<modprobe::Modprobe>(),
    def::<mount::Mount>(),
    def::<package::Package>(),
    def::<package_facts::PackageFacts>(),
    def::<pacman::Pacman>(),
    def::<pause::Pause>(),
    def::<ping::Ping>(),
    def::<reboot::Reboot>(),
    def::<replace::Replace>(),
    def::<systemd::Service>(),
    def::<script::Raw>(),
    def::<script::Script>(),
    def::<selinux::Seboolean>(),
    def::<selinux::Selinux>(),
    def::<service_facts::ServiceFacts>(),
    def::<debug::SetFact>(),
    def::<setup::Setup>(),
    def::<command::Shell>(),
    def::<slurp::Slurp>(),
    def::<stat::Stat>(),
    def::<synchronize::Synchronize>(),
    def::<sysctl::Sysctl>(),
    def::<systemd::Systemd>(),
    def::<copy::Template>(),
    def::<temporary::Tempfile>(),
    def::<timezone::Timezone>(),
    def::<ufw::Ufw>(),
    def::<uri::Uri>(),
    def::<unarchive::Unarchive>(),
    def::<user::User>(),
    def::<wait_for::WaitFor>(),
    def::<reboot::WaitForConnection>(),
    def::<dnf::Zypper>(),
];

/// The module of a name; `ansible.builtin.` and `ansible.posix.` in front of it do not matter.
pub fn find(name: &str) -> Option<&'static ModuleDef> {
    let bare = ["ansible.builtin.", "ansible.posix.", "ansible.legacy.", "community.general."]
        .iter()
        .find_map(|p| name.strip_prefix(p))
        .unwrap_or(name);
    MODULES.iter().find(|m| m.name == bare || m.aliases.contains(&bare))
}

/// The names of all modules, aliases included.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODULES.iter().flat_map(|m| std::iter::once(m.name).chain(m.aliases.iter().copied()))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A replacement text in Python's notation (`\1`, `\g<name>`) in the notation of our regular expressions; or what is
/// wrong with it.
pub fn python_groups(replacement: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(d) if d.is_ascii_digit() => {
                    // A group has two digits at most; three, or any behind a nought, are a character's octal number.
                    let mut digits = d.to_string();
                    digits.extend(chars.next_if(char::is_ascii_digit));
                    let octal = |c: &char| ('0'..='7').contains(c);
                    if digits.len() == 2 && digits.chars().all(|c| octal(&c)) {
                        digits.extend(chars.next_if(octal));
                    }
                    if d != '0' && digits.len() < 3 {
                        out.push_str(&format!("${{{digits}}}"));
                        continue;
                    }
                    let end = digits.find(|c| !octal(&c)).unwrap_or(digits.len());
                    match u32::from_str_radix(&digits[..end], 8).ok().filter(|n| *n < 0o400).and_then(char::from_u32) {
                        Some('$') => out.push_str("$$"),
                        Some(c) => out.push(c),
                        None => return Err(format!("`\\{digits}` is no character")),
                    }
                    out.push_str(&digits[end..]);
                }
                Some('g') => {
                    let name: String = match chars.next() {
                        Some('<') => chars.by_ref().take_while(|c| *c != '>').collect(),
                        _ => String::new(),
                    };
                    let is_name = |c: char| c.is_alphanumeric() || c == '_';
                    if name.is_empty() || !name.chars().all(is_name) {
                        return Err("`\\g` names a group: `\\g<1>`, `\\g<name>`".into());
                    }
                    out.push_str(&format!("${{{name}}}"));
                }
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('a') => out.push('\u{7}'),
                Some('b') => out.push('\u{8}'),
                Some('f') => out.push('\u{c}'),
                Some('v') => out.push('\u{b}'),
                Some('\\') => out.push('\\'),
                Some(c) if c.is_ascii_alphabetic() => {
                    return Err(format!("`\\{c}` has no meaning in a replacement; for a backslash write `\\\\`"));
                }
                // What is no letter keeps its backslash, as in Python.
                other => {
                    out.push('\\');
                    match other {
                        Some('$') => out.push_str("$$"),
                        other => out.extend(other),
                    }
                }
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Every group of a replacement must be one of the pattern's; the first that is not.
pub fn unknown_group(re: &fancy_regex::Regex, replacement: &str) -> Result<Option<String>, String> {
    let notation = python_groups(replacement)?.replace("$$", "");
    let mut rest = notation.as_str();
    while let Some((_, tail)) = rest.split_once("${") {
        let Some((name, more)) = tail.split_once('}') else { break };
        let known = match name.parse::<usize>() {
            Ok(n) => n < re.captures_len(),
            Err(_) => re.capture_names().flatten().any(|n| n == name),
        };
        if !known {
            return Ok(Some(name.to_string()));
        }
        rest = more;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_is_read_as_python_reads_it() {
        let read = |s: &str| python_groups(s);
        assert_eq!(read(r"\.\-$").unwrap(), r"\.\-$$");
        assert_eq!(read(r"a\\b\1\g<x>\g<0>").unwrap(), r"a\b${1}${x}${0}");
        assert_eq!(read(r"\101\0\044\128").unwrap(), "A\0$$${12}8");
        assert_eq!(read(r"\n\t\").unwrap(), "\n\t\\");
        assert!(read(r"\q").is_err() && read(r"\g1").is_err() && read(r"\777").is_err());
    }

    #[test]
    fn a_parameter_given_under_another_name_is_not_missing() {
        for (module, name) in
            [("file", "dest"), ("lineinfile", "destfile"), ("stat", "name"), ("user", "user"), ("sysctl", "key")]
        {
            let def = find(module).unwrap();
            let lacks = def.lacks(&[name.to_string()]);
            assert!(
                !lacks.iter().any(|e| e.message.contains("`path`") || e.message.contains("`name`")),
                "{module} {lacks:?}"
            );
            assert!(!def.lacks(&[]).is_empty(), "{module}");
            assert_eq!(def.refuses(name), None);
        }
    }
}

#[cfg(test)]
pub(crate) mod kit {
    //! What a module's tests use: parameters as YAML, answers as values, no host.
    use super::*;

    pub struct NoFiles;
    impl Local for NoFiles {
        fn find(&self, _: FileKind, name: &str) -> Result<PathBuf, ArgError> {
            Ok(PathBuf::from(name))
        }
        fn read(&self, path: &std::path::Path) -> Result<Vec<u8>, ArgError> {
            Ok(format!("content of {}\n", path.display()).into_bytes())
        }
        fn render(&self, _: &std::path::Path, text: &str, _: &crate::template::Settings) -> Result<String, ArgError> {
            Ok(text.to_string())
        }
        fn host(&self) -> &str {
            "node"
        }
        fn folder(&self) -> PathBuf {
            "/play".into()
        }
    }

    /// A module from its parameters in YAML.
    pub fn bind<M: Module>(yaml: &str) -> M {
        try_bind(yaml).unwrap_or_else(|e| panic!("{e:?}"))
    }
    pub fn try_bind<M: Module>(yaml: &str) -> Result<M, ArgError> {
        let node = crate::source::yaml::parse(&crate::source::Source::new("t.yml", yaml)).unwrap();
        let mut m: M = serde_path_to_error::deserialize(node.to_value())
            .map_err(|e| ArgError::new(&e.path().to_string(), e.inner().to_string()))?;
        m.prepare(&NoFiles)?;
        Ok(m)
    }
    pub fn ctx() -> Ctx {
        Ctx { diff: true, check: false, user: "root".into(), now: 1_800_000_000, waited: Duration::ZERO, answer: None }
    }
    /// Every shell at hand takes the script as one.
    pub fn sh_accepts(script: &str) {
        for sh in ["sh", "dash", "bash"] {
            if let Ok(out) = std::process::Command::new(sh).args(["-n", "-c", script]).output() {
                assert!(out.status.success(), "{sh}: {}\n{script}", String::from_utf8_lossy(&out.stderr));
            }
        }
    }
    /// Answers at hand.
    pub fn seen(answers: impl IntoIterator<Item = (Probe, Answer)>) -> Observed {
        let mut o = Observed::new();
        answers.into_iter().for_each(|(p, a)| o.insert(p, a));
        o
    }
    pub fn change(d: Result<Decision, Stop>) -> Change {
        match d {
            Ok(Decision::Change(c)) => c,
            other => panic!("expected a change, got {other:?}"),
        }
    }
    pub fn satisfied(d: Result<Decision, Stop>) -> Report {
        match d {
            Ok(Decision::Satisfied(r)) => r,
            other => panic!("expected satisfied, got {other:?}"),
        }
    }
    /// What is known once a change is done, as a plan takes it.
    pub fn then(mut seen: Observed, change: &Change) -> Observed {
        seen.forget(&change.touches);
        change.after.iter().cloned().for_each(|(p, a)| seen.insert(p, a));
        seen
    }
    /// Runs the scripts of a change, and puts its files in place, on this machine; for tests in a folder of their own.
    pub fn run(change: &Change) {
        for action in &change.actions {
            match action {
                Action::Script(s) => {
                    let out = std::process::Command::new("sh").arg("-c").arg(s).output().unwrap();
                    assert!(out.status.success(), "{s}\n{}", String::from_utf8_lossy(&out.stderr));
                }
                Action::Put(p) => std::fs::write(&p.path, &p.body).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
    /// Answers probes from this machine, as far as tests need it.
    pub fn look(probes: impl IntoIterator<Item = Probe>) -> Observed {
        seen(probes.into_iter().map(|p| {
            let a = answer(&p);
            (p, a)
        }))
    }
    fn answer(probe: &Probe) -> Answer {
        use crate::probe::{Content, EntryKind, PathState};
        use std::os::unix::fs::MetadataExt;
        let entry = |m: std::fs::Metadata| crate::probe::Entry {
            mode: m.mode() & 0o7777,
            uid: m.uid(),
            gid: m.gid(),
            owner: if m.uid() == 0 { "root".into() } else { m.uid().to_string() },
            group: if m.gid() == 0 { "root".into() } else { m.gid().to_string() },
            size: m.len(),
            mtime: m.mtime(),
            links: m.nlink(),
            times: Some(Box::new((m.atime(), m.ctime()))),
            inode: format!("{}:{}", m.dev(), m.ino()),
            kind: match m.file_type() {
                t if t.is_dir() => EntryKind::Directory,
                t if t.is_symlink() => EntryKind::Link,
                t if t.is_file() => EntryKind::File,
                _ => EntryKind::Other,
            },
        };
        match probe {
            Probe::Path(p) => {
                let link = std::fs::read_link(p).ok();
                let canonical = std::process::Command::new("readlink").args(["-m", "--", p]).output().unwrap();
                Answer::Path(PathState {
                    entry: std::fs::symlink_metadata(p).ok().map(entry),
                    target: link.as_ref().and_then(|_| std::fs::metadata(p).ok().map(entry)),
                    link: link.map(|l| l.to_string_lossy().into_owned()),
                    canonical: String::from_utf8_lossy(&canonical.stdout).trim_end_matches('\n').into(),
                    denied: false,
                })
            }
            Probe::Content(p) => Answer::Content(std::fs::read(p).map(Content::Bytes).unwrap_or(Content::Absent)),
            Probe::Sha256(p) => {
                use sha2::Digest;
                Answer::Sha256(std::fs::read(p).ok().map(|b| hex(&sha2::Sha256::digest(b))))
            }
            Probe::Script(s) => {
                let out = std::process::Command::new("sh").arg("-c").arg(s).output().unwrap();
                Answer::Script(Output {
                    rc: out.status.code().unwrap_or(-1),
                    stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
                })
            }
            other => panic!("{other:?}"),
        }
    }
    /// A regular file or directory owned by root.
    pub fn entry(kind: crate::probe::EntryKind, mode: u32) -> crate::probe::Entry {
        crate::probe::Entry {
            kind,
            mode,
            uid: 0,
            gid: 0,
            owner: "root".into(),
            group: "root".into(),
            size: 3,
            mtime: 1_700_000_000,
            links: 1,
            times: Some(Box::new((1_700_000_001, 1_700_000_002))),
            inode: "1:1".into(),
        }
    }
    /// The answer for a path at which this entry is (or nothing).
    pub fn at(path: &str, entry: Option<crate::probe::Entry>) -> (Probe, Answer) {
        let state = crate::probe::PathState { entry, canonical: path.into(), ..Default::default() };
        (Probe::Path(path.into()), Answer::Path(state))
    }
}
