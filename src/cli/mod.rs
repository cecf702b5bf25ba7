//! The command line: a file a verb.

/// Prints a line on standard output. A reader that went away (`| head`) is no error.
macro_rules! say {
    ($($t:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($t)*);
    }};
}

/// Prints on standard output without ending the line.
macro_rules! say_on {
    ($($t:tt)*) => {{
        use std::io::Write as _;
        let mut out = std::io::stdout();
        let _ = write!(out, $($t)*).and_then(|()| out.flush());
    }};
}

mod apply;
mod check;
mod completions;
mod demo;
mod exit;
mod facts;
mod helpers;
mod inventory;
mod lab;
mod modules;
mod ping;
mod project;
mod roles;
mod schema;
mod stages;
mod vars;
mod vault;
mod why;

use apply::Apply;
pub use check::findings;
pub use exit::Exit;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Turns bare machines into a running cluster: YAML roles over SSH as a graph, no agent, no Python.
#[derive(Parser)]
#[command(name = "windlass", version, after_help = exit::TABLE, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Show more: -v every step and output, -vv connections, -vvv what goes over them.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Verb {
    /// Make hosts as a playbook says.
    Apply(Apply),
    /// Show what an apply would change; exit code 0: nothing, 2: something.
    Plan(Apply),
    /// Check a playbook, its roles, variables and inventory without contacting a host.
    Check(check::Check),
    /// Connect to hosts and run nothing but a question.
    Ping(ping::Ping),
    /// Show hosts, groups and variables.
    Inventory(inventory::Inventory),
    /// What hosts are: system, memory, disks, addresses.
    Facts(facts::Facts),
    /// What a host's variables are, and where each comes from.
    Vars(vars::VarsOf),
    /// Why a task would be done on a host, be skipped, or wait.
    Why(why::Why),
    /// What templates and expressions can call.
    Helpers(helpers::Helpers),
    /// What tasks can ask for.
    Modules(modules::Modules),
    /// The roles of this project, and what they take.
    Roles(roles::Roles),
    /// JSON Schema of playbooks, tasks and inventories, for editors.
    Schema(schema::Schema),
    /// Encrypt, decrypt and edit secrets.
    Vault(vault::Vault),
    /// Completions for a shell, to be read by it.
    Completions(completions::Completions),
    /// The manual's pages.
    Man(completions::Man),
    /// Throw-away Debian nodes on this machine.
    Lab(lab::Lab),
    /// Build a lab, make a Redis with failover on it, and break it.
    Demo(demo::Demo),
}

/// Which of a playbook's tasks.
#[derive(Args, Clone, Default)]
pub struct Selection {
    /// Only tasks with one of these tags.
    #[arg(short, long, value_name = "TAGS", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// No tasks with one of these tags.
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    pub skip_tags: Vec<String>,
    /// Only these phases.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub phase: Vec<String>,
    /// Begin with this task: its name, `role : name`, its id or FILE:LINE. Those above it are left out.
    #[arg(long, value_name = "TASK")]
    pub start_at: Option<String>,
}

impl Selection {
    /// Options with what is selected.
    pub fn options(&self) -> crate::graph::Options {
        crate::graph::Options {
            tags: self.tags.clone(),
            skip_tags: self.skip_tags.clone(),
            phases: self.phase.clone(),
            start_at: self.start_at.clone(),
            ..Default::default()
        }
    }
}

/// Which hosts, and how to reach them.
#[derive(Args, Clone, Default)]
pub struct HostArgs {
    /// Inventory: a file, a folder, or hosts with commas (`a,b,`). Can be repeated.
    #[arg(short, long = "inventory", value_name = "PATH", env = "WINDLASS_INVENTORY")]
    inventory: Vec<PathBuf>,
    /// Only these of the hosts: a pattern, or @FILE.
    #[arg(short, long, value_name = "PATTERN")]
    limit: Option<String>,
    /// Log in as this user.
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// A private key to log in with. Can be repeated.
    #[arg(long, alias = "key-file", value_name = "FILE")]
    private_key: Vec<PathBuf>,
    /// Trust host keys seen for the first time, and remember them.
    #[arg(long)]
    accept_new_host_keys: bool,
    /// Seconds to wait for a connection.
    #[arg(short = 'T', long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Become another user (root) with sudo.
    #[arg(short, long = "become")]
    become_: bool,
    /// The user to become.
    #[arg(long, value_name = "USER")]
    become_user: Option<String>,
    /// Ask for the login's password.
    #[arg(short = 'k', long)]
    ask_pass: bool,
    /// Ask for sudo's password.
    #[arg(short = 'K', long)]
    ask_become_pass: bool,
    /// Hosts to work on at a time.
    #[arg(short, long, value_name = "N", default_value_t = 64)]
    forks: usize,
    /// A variable, `name=value`, or a file of them, `@FILE`. Can be repeated; above all other variables.
    #[arg(short, long, value_name = "VARS")]
    extra_vars: Vec<String>,
    /// An age or SSH key that opens secrets. Can be repeated.
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

/// Runs the command line; the exit code tells how it went.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(c) => c,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    colours(cli.color);
    let common = Common { verbose: cli.verbose };
    let result = match cli.verb {
        Verb::Apply(a) => a.run(&common, false),
        Verb::Plan(a) => a.run(&common, true),
        Verb::Check(c) => c.run(),
        Verb::Ping(p) => p.run(&common),
        Verb::Inventory(i) => i.run(),
        Verb::Helpers(h) => h.run(),
        Verb::Modules(m) => m.run(),
        Verb::Schema(s) => s.run(),
        Verb::Facts(f) => f.run(&common),
        Verb::Roles(r) => r.run(),
        Verb::Completions(c) => c.run(),
        Verb::Man(m) => m.run(),
        Verb::Vars(v) => v.run(),
        Verb::Why(w) => w.run(),
        Verb::Vault(v) => v.run(),
        Verb::Lab(l) => l.run(),
        Verb::Demo(d) => d.run(&common),
    };
    result.unwrap_or_else(|e| {
        eprintln!("{} {e}", console::Style::new().for_stderr().red().bold().apply_to("error:"));
        if let Some(h) = &e.hint {
            eprintln!("{} {h}", console::Style::new().for_stderr().cyan().apply_to(" help:"));
        }
        Exit::of(e.kind)
    })
}

/// The beginning of a text that is too long. Whoever cuts takes the secrets out first: half a secret is not known for one.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_string() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// What every verb can be told.
pub struct Common {
    verbose: u8,
}

fn colours(c: Colour) {
    let forced = match c {
        Colour::Always => Some(true),
        Colour::Never => Some(false),
        Colour::Auto => std::env::var_os("NO_COLOR").filter(|v| !v.is_empty()).map(|_| false),
    };
    if let Some(on) = forced {
        console::set_colors_enabled(on);
        console::set_colors_enabled_stderr(on);
    }
}

/// Log messages of libraries and ours, on standard error, with `-vvv` or WINDLASS_LOG.
fn trace(verbose: u8, redactor: &crate::vault::Redactor) {
    use tracing_subscriber::EnvFilter;
    let filter = match std::env::var("WINDLASS_LOG") {
        Ok(f) => EnvFilter::new(f),
        Err(_) if verbose >= 4 => EnvFilter::new("debug"),
        Err(_) if verbose == 3 => EnvFilter::new("windlass=debug,russh=info"),
        Err(_) => return,
    };
    let redactor = redactor.clone();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(console::colors_enabled_stderr())
        .with_writer(move || redactor.writer(std::io::stderr()))
        .try_init();
}
