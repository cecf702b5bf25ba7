//! From the command line to a checked program: what apply, plan, check, ping and inventory have in common.

use super::HostArgs;
use super::stages::{self, Stages};
use crate::error::{self, Error};
use crate::graph::{self, Checked, Program};
use crate::inventory::{Connection, Inventory, PASSWORDS, setting_names};
use crate::source::{Diagnostic, Diagnostics, Node, Source, yaml};
use crate::ssh::Prompts;
use crate::template::{Found, Lookup as _, Templates};
use crate::vars::{self, SecretOpener, Var, Vars};
use crate::vault::{self, Identities, Prompt, Redactor, Secrets};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens secrets for whoever reads variables, and remembers what must not be shown.
pub struct Opener {
    files: Vec<PathBuf>,
    project: PathBuf,
    /// Looked for only when there is something to open.
    identities: OnceCell<Result<Identities, (String, Option<String>)>>,
    pub redactor: Redactor,
    /// What cannot be hidden, in the order met.
    unredactable: RefCell<Vec<vault::redact::Unredactable>>,
    notes: RefCell<Vec<String>>,
    values: vault::bound::Reading,
    /// The files with secrets that were read.
    used: RefCell<HashSet<PathBuf>>,
}

impl Opener {
    pub fn new(files: &[PathBuf], project: &Path) -> Self {
        Opener {
            files: files.to_vec(),
            project: project.to_path_buf(),
            identities: OnceCell::new(),
            redactor: Redactor::new(),
            unredactable: RefCell::default(),
            notes: RefCell::default(),
            values: Default::default(),
            used: RefCell::default(),
        }
    }
    /// The project's folder, or the one we are in where only that has a key.
    fn key_folder(&self) -> PathBuf {
        let has_key = |dir: &Path| dir.join(".windlass/identity.txt").is_file();
        match std::env::current_dir() {
            Ok(here) if has_key(&here) && !has_key(&self.project) => here,
            _ => self.project.clone(),
        }
    }
    fn identities(&self) -> error::Result<&Identities> {
        let found = self.identities.get_or_init(|| {
            let load = || {
                let ids =
                    vault::Sources::from_env(self.files.clone(), Some(&self.key_folder()))?.load(Arc::new(Asks))?;
                self.notes.borrow_mut().extend(ids.warnings().iter().map(|w| format!("{} ({})", w.message, w.hint)));
                Ok(ids)
            };
            load().map_err(|e: Error| (e.to_string(), e.hint))
        });
        match found {
            Ok(i) => Ok(i),
            Err((m, h)) => {
                let e = Error::input(m.clone());
                Err(match h {
                    Some(h) => e.hint(h.clone()),
                    None => e,
                })
            }
        }
    }
}

impl SecretOpener for Opener {
    fn open_file(&self, path: &Path, bytes: &[u8]) -> error::Result<String> {
        self.used.borrow_mut().insert(vault::rules::real(path));
        let plain =
            vault::decrypt(bytes, &crate::source::display_path(path).display().to_string(), self.identities()?)?;
        String::from_utf8(plain.to_vec()).map_err(|_| Error::input("the decrypted text is not UTF-8"))
    }
    fn open_value(&self, armored: &str) -> error::Result<String> {
        vault::decrypt_value(armored, "the value", self.identities()?).map(|v| v.to_string())
    }
    fn open_value_at(&self, node: &Node, _: &str) -> error::Result<String> {
        self.used.borrow_mut().insert(vault::rules::real(&node.span.source.path));
        self.values.open(node, self.identities()?)
    }
    fn learn(&self, at: &str, value: &Value) {
        let mut new = Secrets::new();
        new.add_json(at, value);
        self.redactor.add(&new);
        self.unredactable.borrow_mut().extend(new.unredactable().iter().cloned());
    }
}

/// Asks the person at the terminal.
pub struct Asks;

impl Asks {
    fn secret(question: &str) -> Option<SecretString> {
        if !console::user_attended_stderr() {
            return None;
        }
        rpassword::prompt_password(format!("{question}: ")).ok().map(SecretString::from)
    }
}

impl Asks {
    /// Somebody is there to be asked.
    pub fn can() -> bool {
        console::user_attended_stderr() && std::io::stdin().is_terminal()
    }

    /// A line from the person at the terminal; nothing where there is none.
    fn line(question: &str, hidden: bool) -> Option<String> {
        if !Asks::can() {
            return None;
        }
        if hidden {
            return rpassword::prompt_password(format!("{question}: ")).ok();
        }
        eprint!("{question}: ");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok()?;
        Some(line.trim_end_matches(['\n', '\r']).to_string())
    }
}

impl crate::run::Person for Asks {
    fn line(&self, hidden: bool) -> Option<String> {
        Asks::line(if hidden { "(hidden)" } else { ">" }, hidden)
    }
}

impl Prompt for Asks {
    fn passphrase(&self, what: &str, attempt: u32) -> Option<SecretString> {
        let again = if attempt > 1 { "wrong; " } else { "" };
        Asks::secret(&format!("{again}passphrase for {what}"))
    }
    fn again(&self, problem: &Error) -> bool {
        eprintln!("error: {problem}");
        problem.hint.iter().for_each(|h| eprintln!(" help: {h}"));
        Asks::line("edit it again? [Y/n]", false).is_some_and(|a| !a.trim().to_ascii_lowercase().starts_with('n'))
    }
}

impl Prompts for Asks {
    fn passphrase(&self, key: &Path, again: bool) -> Option<SecretString> {
        let wrong = if again { "wrong; " } else { "" };
        Asks::secret(&format!("{wrong}passphrase for {}", key.display()))
    }
    fn answer(&self, host: &str, question: &str, _echo: bool) -> Option<SecretString> {
        Asks::secret(&format!("{host}: {question}"))
    }
}

/// A loaded project, checked as far as it can be without a host.
pub struct Loaded {
    /// What can be begun with: all of it, or its first stage.
    pub project: Project,
    /// What comes then.
    pub stages: Stages,
    pub redactor: Redactor,
    pub inventories: Vec<PathBuf>,
    pub root: PathBuf,
}

/// A program, and how its hosts are reached.
pub struct Project {
    pub program: Program,
    /// How each of the program's hosts is reached.
    pub settings: Vec<Connection>,
    /// How the other hosts are reached, should work be delegated to them.
    pub delegates: HashMap<String, Connection>,
    pub checked: Checked,
}

/// Checks a program, and finds out how its hosts are reached.
pub fn laid_out(program: Program, found: &mut Diagnostics) -> Project {
    let checked = if program.graph.node_count() > 0 { graph::check(&program, found) } else { Checked::default() };
    let delegates = delegates(&program, found);
    let settings = program.hosts.iter().map(|h| settings(&program, h, found)).collect();
    Project { program, settings, delegates, checked }
}

/// The folder a project's own files (logs, what is due) go to: the playbook's, or the one above `playbooks/`.
pub fn root_of(playbook: &Path) -> PathBuf {
    let absolute = std::path::absolute(playbook).unwrap_or_else(|_| playbook.to_path_buf());
    let dir = absolute.parent().map(Path::to_path_buf).unwrap_or_default();
    match (dir.file_name(), dir.parent()) {
        (Some(n), Some(up)) if n == "playbooks" => up.to_path_buf(),
        _ => dir,
    }
}

/// The inventories meant: those given, else the only one in `inventories/` (examples aside).
pub fn inventories(given: &[PathBuf], root: &Path) -> error::Result<Vec<PathBuf>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let dir = root.join("inventories");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.retain(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.') || n == "example"));
    found.sort();
    match found.as_slice() {
        [one] => Ok(vec![crate::source::display_path(one)]),
        [] => Err(Error::input("no inventory is given")
            .hint("name one with -i PATH, or make the lab's with `windlass lab up`")),
        many => {
            let names: Vec<String> =
                many.iter().map(|p| format!("-i {}", crate::source::display_path(p).display())).collect();
            Err(Error::input("no inventory is given, and there are several").hint(names.join(", or ")))
        }
    }
}

/// Variables of `-e`.
pub fn extra_vars(given: &[String], opener: &dyn SecretOpener, found: &mut Diagnostics) -> Vars {
    let mut all = Vars::new();
    for text in given {
        if let Some(file) = text.strip_prefix('@') {
            all.extend(vars::load_file(Path::new(file), opener, found));
            continue;
        }
        let source = Source::new("-e", text.clone());
        let whole = crate::source::Span::new(&source, 0..text.len());
        if text.trim_start().starts_with('{') {
            match yaml::parse(&source) {
                Ok(n) => all.extend(vars::from_node(&n, "-e", opener, found)),
                Err(d) => found.push(d),
            }
            continue;
        }
        // Several in one, quoted as in a shell: `a=1 b="two words"`.
        let words = crate::modules::split_words(text).unwrap_or_default();
        let pairs: Vec<(&str, &str)> = words.iter().filter_map(|w| w.split_once('=')).collect();
        if pairs.len() == words.len() && pairs.len() > 1 && pairs.iter().all(|(name, _)| vars::is_name(name)) {
            for (name, value) in pairs {
                all.insert(name.to_string(), Var { value: Value::String(value.to_string()), span: whole.clone() });
            }
            continue;
        }
        match text.split_once('=') {
            Some((name, value)) if vars::is_name(name.trim()) => {
                let span = crate::source::Span::new(&source, name.len() + 1..text.len());
                all.insert(name.trim().to_string(), Var { value: Value::String(value.to_string()), span });
            }
            Some((name, _)) => found.push(
                Diagnostic::error(format!("`{}` cannot be a variable's name", name.trim()))
                    .at(&crate::source::Span::new(&source, 0..name.len()))
                    .hint("a name has letters, digits and underscores, and does not start with a digit"),
            ),
            None => found.push(
                Diagnostic::error("this is no variable")
                    .at(&whole)
                    .hint("write name=value, {\"name\": value} or @FILE"),
            ),
        }
    }
    all
}

/// Loads and checks. Errors end in `None`; the findings are to be shown through the redactor.
pub fn load(
    playbook: &Path,
    args: &HostArgs,
    options: graph::Options,
) -> error::Result<(Option<Loaded>, Diagnostics, Redactor)> {
    let opener = Opener::new(&args.identity, &root_of(playbook));
    let (project, found) = load_with(playbook, args, options, &opener)?;
    Ok((project, found, opener.redactor))
}

/// The same with an opener that has opened other projects before.
pub fn load_with(
    playbook: &Path,
    args: &HostArgs,
    options: graph::Options,
    opener: &Opener,
) -> error::Result<(Option<Loaded>, Diagnostics)> {
    let (project, found) = look(playbook, args, options, opener)?;
    Ok((project.filter(|_| !found.has_errors()), found))
}

/// What could be read, to be looked at and not to be run: there may be errors in it.
pub fn look(
    playbook: &Path,
    args: &HostArgs,
    mut options: graph::Options,
    opener: &Opener,
) -> error::Result<(Option<Loaded>, Diagnostics)> {
    let root = root_of(playbook);
    let templates = Arc::new(Templates::new());
    let mut found = Diagnostics::default();
    let mut no_inventory = false;
    let (book, d) = crate::playbook::load(playbook, &templates, opener);
    found.extend(d);
    let inventories = inventories(&args.inventory, &root).unwrap_or_else(|e| {
        let d = Diagnostic::error(e.to_string());
        found.push(match e.hint {
            Some(h) => d.hint(h),
            None => d,
        });
        no_inventory = true;
        vec![]
    });
    let makes = book.as_ref().map(stages::groups_made).unwrap_or_default();
    let book_dirs = book.as_ref().map(crate::playbook::Playbook::dirs).unwrap_or_default();
    let (mut inventory, d) = Inventory::load(&inventories, opener, &book_dirs, &makes);
    found.extend(d);
    inventory.partial_hosts |= no_inventory;
    inventory.partial_vars |= no_inventory;
    let mut of_extra = Diagnostics::default();
    options.extra = extra_vars(&args.extra_vars, opener, &mut of_extra);
    options.partial = of_extra.has_errors();
    found.extend(of_extra);
    for vars in inventory.all_vars().chain([&options.extra]) {
        crate::playbook::templates_in_vars(vars, &templates, &mut found);
    }
    options.redactor = opener.redactor.clone();
    options.limit = args.limit.clone();
    options.become_ = args.become_;
    options.become_user = args.become_user.clone();
    options.inventory_dir = inventories.first().map(|p| {
        let p = std::path::absolute(p).unwrap_or_else(|_| p.clone());
        let dir = if p.is_dir() { p.as_path() } else { p.parent().unwrap_or(&p) };
        dir.display().to_string()
    });
    let redactor = opener.redactor.clone();
    let Some(mut book) = book else {
        found.sort();
        return Ok((None, found));
    };
    prompts(&mut book, &mut options, opener, &mut found);
    graph::settle(&mut book, &inventory, &templates, &options, &mut found);
    book.phases.iter_mut().for_each(|p| p.force_handlers |= options.force_handlers);
    let left = book.stages();
    let mut stages = Stages { playbook: Arc::new(book), inventory, templates, options, left };
    let whole = match stages.left.len() {
        0 | 1 => stages.inventory.clone(),
        _ => stages::as_if_made(&stages.playbook, &stages.inventory),
    };
    let program = graph::compile(stages.playbook.clone(), whole, stages.templates.clone(), &stages.options, &mut found);
    let mut project = laid_out(program, &mut found);
    for s in project.settings.iter().chain(project.delegates.values()) {
        for password in s.password.iter().chain(&s.becomes.password) {
            opener.learn(&format!("{}: password", s.name), &Value::String(password.expose_secret().to_string()));
        }
    }
    for n in opener.notes.borrow().iter() {
        found.push(Diagnostic::warning(n.clone()));
    }
    for u in opener.unredactable.borrow().iter() {
        found.push(Diagnostic::warning(u.to_string()));
    }
    vault::audit::check(&root, &opener.used.borrow(), &mut found);
    found.sort();
    if stages.left.len() > 1 && !stages.options.checks_only && !found.has_errors() {
        // Only the first of it can be begun with.
        project = stages.next(&Default::default(), &mut found).unwrap_or(project);
    } else {
        stages.left.clear();
    }
    Ok((Some(Loaded { project, stages, redactor, inventories, root }), found))
}

/// Answers `vars_prompt`: by `-e`, or by the person at the terminal. A check asks nobody.
fn prompts(
    book: &mut crate::playbook::Playbook,
    options: &mut graph::Options,
    opener: &Opener,
    found: &mut Diagnostics,
) {
    let wanted = |p: &crate::playbook::Phase| options.phases.is_empty() || options.phases.contains(&p.name);
    let mut answers = Vars::new();
    for prompt in book.phases.iter().filter(|p| wanted(p)).flat_map(|p| &p.prompts) {
        if options.extra.contains_key(&prompt.name) || answers.contains_key(&prompt.name) {
            continue;
        }
        if !options.asks {
            options.asked_later.push(prompt.name.clone());
            continue;
        }
        match Asks::line(&prompt.question, prompt.private) {
            Some(line) => {
                let text = if line.is_empty() { prompt.default.clone().unwrap_or_default() } else { line };
                if prompt.private {
                    opener.learn(&prompt.name, &Value::String(text.clone()));
                }
                let var = Var { value: Value::String(text), span: prompt.span.clone() };
                answers.insert(prompt.name.clone(), var);
            }
            None => {
                // What uses it is not to blame.
                options.asked_later.push(prompt.name.clone());
                found.push(
                    Diagnostic::error(format!(
                        "`{}` is asked for, and there is no terminal: {}",
                        prompt.name, prompt.question
                    ))
                    .at(&prompt.span)
                    .hint(format!("answer it with -e {}=VALUE", prompt.name)),
                );
            }
        }
    }
    for p in &mut book.phases {
        for prompt in &p.prompts {
            if let Some(v) = answers.get(&prompt.name) {
                p.vars.insert(prompt.name.clone(), v.clone());
            }
        }
    }
}

/// The hosts that take no part themselves, where some task is delegated: to which of them may be known only then.
fn delegates(program: &Program, found: &mut Diagnostics) -> HashMap<String, Connection> {
    let mut all = HashMap::new();
    if !program.tasks.iter().any(|t| t.delegate_to().is_some()) {
        return all;
    }
    let localhost = ["localhost".to_string()];
    let implicit = localhost.iter().filter(|l| program.inventory.is_implicit_localhost(l));
    for name in program.inventory.hosts.keys().chain(implicit) {
        if program.host_index(name).is_none() {
            let local = program.inventory.is_implicit_localhost(name);
            let plan = graph::HostPlan::new(name, local, &program.inventory);
            all.insert(name.clone(), settings(program, &plan, found));
        }
    }
    all
}

/// The hosts' passwords in an inventory are not to be shown, nor a variable that is one: `ansible_password: "{{pw}}"`.
pub fn hide_passwords(inventory: &Inventory, opener: &Opener) {
    let layers: Vec<&Vars> = inventory.all_vars().collect();
    let mut names: Vec<String> = PASSWORDS.map(str::to_string).to_vec();
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        at += 1;
        for var in layers.iter().filter_map(|l| l.get(&name)) {
            let text = crate::template::text(&var.value);
            let inner = text.trim().strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).map(str::trim);
            match inner {
                Some(other) if vars::is_name(other) && !names.iter().any(|n| n == other) => {
                    names.push(other.to_string())
                }
                Some(_) => {}
                None => opener.learn(&var.span.line(), &var.value),
            }
        }
    }
}

/// How a host is reached.
fn settings(program: &Program, plan: &graph::HostPlan, found: &mut Diagnostics) -> Connection {
    let dynamic = graph::Dynamic::default();
    let nothing = Default::default();
    let scope = graph::Scope::of_host(program, plan, &dynamic, &nothing);
    let (c, d) = Connection::read(&plan.name, plan.local, &|name| scope.value(name), &|name| {
        scope.raw(name).map(|v| v.span.clone())
    });
    found.extend(d);
    for name in setting_names() {
        if let (Some(var), Found::Broken(e)) = (scope.raw(name), scope.get(name, &[])) {
            let d = Diagnostic::error(e.message).at(e.span.as_ref().unwrap_or(&var.span));
            found.push(match e.hint {
                Some(h) => d.hint(h),
                None => d,
            });
        }
    }
    for name in ["ansible_private_key_file", "ansible_ssh_private_key_file"] {
        if let (Some(var), Some(file)) = (scope.raw(name), c.private_key_file.as_ref())
            && !file.exists()
        {
            let d = crate::source::unreadable(&crate::source::display_path(file), &std::io::ErrorKind::NotFound.into());
            found.push(d.at(&var.span));
        }
    }
    c
}

/// Findings as they are shown on standard error.
pub fn without_secrets(found: &Diagnostics, redactor: &Redactor) -> String {
    let text = found.render_without(console::colors_enabled_stderr(), &|text| redactor.redact(text));
    redactor.redact(&text).into_owned()
}

/// Prints findings on standard error, with a count of errors at the end.
pub fn print(found: &Diagnostics, redactor: &Redactor) {
    if found.is_empty() {
        return;
    }
    eprint!("{}", without_secrets(found, redactor));
    let (errors, _) = found.counts();
    if errors > 0 {
        eprintln!("{errors} error{}; no host was contacted", if errors == 1 { "" } else { "s" });
    }
}

/// Asks for a password where an option says so: at the terminal, or as a line of standard input.
fn password(wanted: bool, option: &str, question: &str) -> error::Result<Option<SecretString>> {
    if !wanted {
        return Ok(None);
    }
    let ask = || -> Option<String> {
        if console::user_attended_stderr() && std::io::stdin().is_terminal() {
            rpassword::prompt_password(question).ok()
        } else {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).ok()?;
            Some(line.trim_end_matches('\n').to_string())
        }
    };
    match ask() {
        Some(p) if !p.is_empty() => Ok(Some(p.into())),
        _ => Err(Error::input(format!("{option}: no password was given"))),
    }
}

/// The link options of a command line; what is asked for is hidden from here on.
pub fn link_options(
    args: &HostArgs,
    lock: Option<String>,
    redactor: &Redactor,
) -> error::Result<crate::run::LinkOptions> {
    let ask = |wanted, option, question| -> error::Result<Option<SecretString>> {
        let given = password(wanted, option, question)?;
        given.iter().for_each(|p| hide(option, p, redactor));
        Ok(given)
    };
    Ok(crate::run::LinkOptions {
        user: args.user.clone(),
        private_keys: args.private_key.clone(),
        accept_new_host_keys: args.accept_new_host_keys,
        password: ask(args.ask_pass, "-k", "login password: ")?,
        become_password: ask(args.ask_become_pass, "-K", "sudo password: ")?,
        connect_timeout: args.timeout.map(std::time::Duration::from_secs),
        lock,
        downloads: Default::default(),
    })
}

/// From here on this password is in nothing that is shown; if it cannot be kept out, that is said.
fn hide(option: &str, password: &SecretString, redactor: &Redactor) {
    let mut secrets = Secrets::new();
    secrets.add(option, password.expose_secret());
    secrets.unredactable().iter().for_each(|u| eprintln!("warning: {u}"));
    redactor.add(&secrets);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_command_line() {
        let read = |given: &[&str]| {
            let mut found = Diagnostics::default();
            let given: Vec<String> = given.iter().map(|g| g.to_string()).collect();
            let all = extra_vars(&given, &vars::NoSecrets, &mut found);
            assert!(found.is_empty(), "{}", found.render(false));
            all.into_iter().map(|(k, v)| format!("{k}={}", v.value)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(read(&["a=1", "b=x y"]), "a=\"1\" b=\"x y\"");
        assert_eq!(read(&["a=1 b='two words' c="]), "a=\"1\" b=\"two words\" c=\"\"");
        assert_eq!(read(&["{\"a\": [1], b: true}"]), "a=[1] b=true");
        assert_eq!(read(&["a=it's"]), "a=\"it's\"");
    }

    #[test]
    fn a_password_that_was_asked_for_is_hidden() {
        let redactor = Redactor::new();
        hide("-K", &"tr0ub4dor".to_string().into(), &redactor);
        assert_eq!(redactor.redact("sudo: tr0ub4dor"), "sudo: [redacted]");
    }

    #[test]
    fn a_secret_that_cannot_be_hidden_is_named() {
        let opener = Opener::new(&[], Path::new("."));
        opener.learn("all.yml.age: pins", &serde_json::json!({"door": 12}));
        let said: Vec<String> = opener.unredactable.borrow().iter().map(|u| u.to_string()).collect();
        assert!(said[0].starts_with("all.yml.age: pins.door: a secret of fewer"), "{said:?}");
    }
}
