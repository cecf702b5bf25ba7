//! `windlass demo`: the whole way through, on nodes made for it. Every claim is checked, and a claim that does not hold
//! ends the demo.

use super::project::Asks;
use super::{Apply, Common, Exit, HostArgs};
use crate::error::{Error, Result};
use crate::lab;
use crate::run::Recap;
use crate::vault::{self, Recipients};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const PLAYBOOK: &str = "playbooks/demo.yml";
const NODES: usize = 3;
/// What the Sentinels call it, and their port; the role's defaults.
const NAME: &str = "main";
const SENTINEL_PORT: u16 = 26379;
const KEY: &str = "windlass:demo";
/// The longest a failover, or a node's return, may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct Demo {
    /// The lab's name.
    #[arg(long, hide = true, default_value = lab::DEFAULT_NAME)]
    lab: String,
    /// Take the lab down at the end.
    #[arg(long, hide = true)]
    down: bool,
}

impl Demo {
    pub fn run(&self, common: &Common) -> Result<Exit> {
        let project = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
        if !project.join(PLAYBOOK).is_file() {
            return Err(Error::input(format!("there is no {PLAYBOOK} here"))
                .hint("run the demo in the folder of Windlass's source, where its playbooks and roles are"));
        }
        let inventory = lab::inventory_directory(&project, &self.lab);
        let secrets = Secrets::existing(&project, &inventory)?;
        let mut times = Times::default();

        part(&format!("1. A lab of {NODES} Debian nodes"));
        times.measure("lab up", || {
            lab::up(&self.lab, NODES, &lab::Options::new(&project), &mut |line| say!("   {line}"))
        })?;
        let secrets = match secrets {
            Some(s) => s,
            None => Secrets::create(&project, &inventory)?,
        };
        let show = ShownRun { lab: &self.lab, inventory: &inventory, common };
        let cluster = Cluster::of(&self.lab, secrets)?;

        part("2. Apply the playbook");
        times.measure("apply", || show.apply())?;

        part("3. Apply it again: nothing may change");
        times.measure("apply again", || show.unchanged())?;

        part("4. Plan: nothing may be left to change");
        times.measure("plan", || show.planned_nothing())?;

        part("5. Failover: the primary loses its power");
        let before = wait("the Sentinels to agree on a primary, each other and the replicas", || cluster.settled())?;
        say!("   {before} is the primary");
        let value = format!("written-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S%.3f"));
        cluster.write(&before, &value)?;
        say!("   wrote {KEY} = {value} there; the replicas have it");
        lab::kill_node(&self.lab, &before)?;
        let gone = Instant::now();
        say!("   cut the power of {before}");
        let after = wait("the Sentinels to agree on a new primary", || cluster.agreed(Some(&before)))?;
        let failover = gone.elapsed();
        times.note("failover", failover);
        say!("   {after} is the new primary, {:.1} s later", failover.as_secs_f64());
        expect(&format!("the value of {KEY} on {after}"), &value, &cluster.read(&after)?)?;
        say!("   {after} has {KEY} = {value}");

        part(&format!("6. {before} comes back"));
        times.measure("rejoin", || {
            lab::start_node(&self.lab, &before)?;
            wait(&format!("{before} to rejoin as a replica of {after}"), || cluster.rejoined(&before, &after))?;
            wait("the Sentinels to agree again", || cluster.settled()).map(drop)
        })?;
        expect(&format!("the value of {KEY} on {before}"), &value, &cluster.read(&before)?)?;
        say!("   {before} is a replica of {after}, and has {KEY} = {value}");

        part(&format!("7. Apply once more: with {after} as primary, still nothing may change"));
        times.measure("apply after failover", || show.unchanged())?;
        expect("the primary", &after, &cluster.settled()?)?;

        part("The demo is done; everything was as it should be");
        say_on!("{times}");
        if self.down {
            lab::down(&self.lab, &mut |line| say!("   {line}"))?;
            return Ok(Exit::Done);
        }
        say!("\n{}", next(&self.lab, &inventory));
        Ok(Exit::Done)
    }
}

fn part(title: &str) {
    let bold = console::Style::new().bold();
    say!("\n{}", bold.apply_to(title));
}

/// What to try next.
fn next(lab: &str, inventory: &Path) -> String {
    let name = if lab == lab::DEFAULT_NAME { String::new() } else { format!(" --name {lab}") };
    let inventory = crate::source::display_path(inventory);
    let i = inventory.display();
    format!(
        "Try next:\n\
         \x20  windlass lab{name} ssh node1\n\
         \x20  windlass plan {PLAYBOOK} -i {i}\n\
         \x20  windlass vault view {i}/{}\n\
         \x20  windlass lab{name} down      (takes the passwords along; the key in .windlass/ stays)",
        lab::DEMO_VAULT
    )
}

/// A claim that must hold.
fn expect(what: &str, expected: &str, seen: &str) -> Result<()> {
    if expected == seen {
        return Ok(());
    }
    Err(Error::failed(format!("{what}: expected {expected}, saw {seen}")))
}

/// Asks until there is an answer, within [`PATIENCE`].
fn wait<T>(what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(e) if begun.elapsed() > PATIENCE => {
                return Err(Error::failed(format!("waited {} s for {what}", PATIENCE.as_secs())).because(e));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// How long each part took.
#[derive(Default)]
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn measure<T>(&mut self, what: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let done = work()?;
        self.note(what, begun.elapsed());
        Ok(done)
    }
    fn note(&mut self, what: &'static str, took: Duration) {
        self.0.push((what, took));
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, took) in &self.0 {
            writeln!(f, "   {what:<22}{:>6.1} s", took.as_secs_f64())?;
        }
        Ok(())
    }
}

/// Runs of the demo's playbook, with what they must come to.
struct ShownRun<'a> {
    lab: &'a str,
    inventory: &'a Path,
    common: &'a Common,
}

impl ShownRun<'_> {
    fn run(&self, plan: bool) -> Result<Recap> {
        let inventory = crate::source::display_path(self.inventory);
        let verb = if plan { "plan" } else { "apply" };
        let again = format!("windlass {verb} {PLAYBOOK} -i {}", inventory.display());
        let apply = Apply {
            playbook: PLAYBOOK.into(),
            hosts: HostArgs { inventory: vec![inventory], forks: 64, ..Default::default() },
            again: Some(again.clone()),
            ..Default::default()
        };
        let recap = match apply.execute(self.common, plan)? {
            Ok(recap) => recap,
            Err(exit) => {
                return Err(Error::failed(format!("{again}: expected a run, saw exit code {}", exit as u8)));
            }
        };
        Ok(recap)
    }

    fn apply(&self) -> Result<()> {
        done(&self.run(false)?).map_err(|e| self.advise(e))
    }

    fn unchanged(&self) -> Result<()> {
        let recap = self.run(false)?;
        done(&recap).and_then(|()| nothing_changed(&recap)).map_err(|e| self.advise(e))
    }

    fn advise(&self, e: Error) -> Error {
        let name = if self.lab == lab::DEFAULT_NAME { String::new() } else { format!(" --name {}", self.lab) };
        e.hint(format!(
            "the lab is up for a look: windlass lab{name} ssh node1; to begin anew: windlass lab{name} down, then the demo again"
        ))
    }

    fn planned_nothing(&self) -> Result<()> {
        let recap = self.run(true)?;
        let exit = Exit::of_run(&recap) as u8;
        nothing_changed(&recap)
            .and_then(|()| expect("the plan's exit code", "0", &exit.to_string()))
            .map_err(|e| self.advise(e))?;
        say!("   exit code 0: the nodes are as the playbook says");
        Ok(())
    }
}

/// A run on all nodes, to its end.
fn done(recap: &Recap) -> Result<()> {
    expect("the run's exit code", "0", &(Exit::of_run(recap) as u8).to_string())?;
    expect("hosts in the run", &NODES.to_string(), &recap.hosts.len().to_string())
}

fn nothing_changed(recap: &Recap) -> Result<()> {
    for (host, counts) in &recap.hosts {
        let seen = format!("{} changed, {} not known before", counts.changed, counts.unknown);
        expect(host, "0 changed, 0 not known before", &seen)?;
    }
    Ok(())
}

/// The passwords of Redis and of its Sentinels.
struct Secrets {
    redis: SecretString,
    sentinel: SecretString,
}

impl Secrets {
    /// Those of a demo before this one.
    fn existing(project: &Path, inventory: &Path) -> Result<Option<Secrets>> {
        let file = inventory.join(lab::DEMO_VAULT);
        if !file.exists() {
            return Ok(None);
        }
        let shown = crate::source::display_path(&file).display().to_string();
        let anew = "bring back the key it was encrypted for (.windlass/identity.txt), or begin anew: windlass lab down";
        let identities = vault::Sources::from_env(vec![], Some(project))?.load(Arc::new(Asks))?;
        let plain = vault::file::view(&file, &identities).map_err(|e| {
            Error::input(format!("the demo's passwords in {shown} cannot be read")).because(e).hint(anew)
        })?;
        let values: HashMap<String, String> = serde_yaml::from_slice(&plain)
            .map_err(|_| Error::input(format!("{shown} is not the demo's file")).hint(anew))?;
        let get = |name: &str| match values.get(name) {
            Some(v) => Ok(SecretString::from(v.clone())),
            None => Err(Error::input(format!("{shown} does not give {name}")).hint(anew)),
        };
        Ok(Some(Secrets { redis: get("redis_ha_password")?, sentinel: get("redis_ha_sentinel_password")? }))
    }

    /// New passwords, encrypted for the project's key, which is made if there is none.
    fn create(project: &Path, inventory: &Path) -> Result<Secrets> {
        let key = project.join(".windlass/identity.txt");
        if !key.exists() {
            vault::keygen(&key)?;
            say!("   made a key for secrets: {}", crate::source::display_path(&key).display());
        }
        let identities = vault::Sources { files: vec![key], ..Default::default() }.load(Arc::new(vault::NoPrompt))?;
        let secrets = Secrets { redis: password()?, sentinel: password()? };
        let plain = Zeroizing::new(format!(
            "redis_ha_password: {}\nredis_ha_sentinel_password: {}\n",
            secrets.redis.expose_secret(),
            secrets.sentinel.expose_secret()
        ));
        let text = vault::encrypt(plain.as_bytes(), &Recipients::new(identities.recipients()?)?)?;
        let file = inventory.join(lab::DEMO_VAULT);
        put(&file, &text).map_err(|e| Error::environment(format!("cannot write {}", file.display())).because(e))?;
        say!("   made passwords, encrypted: {}", crate::source::display_path(&file).display());
        Ok(secrets)
    }
}

/// Writes a file whole or not at all.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}

/// 32 letters and digits, of the system's randomness.
fn password() -> Result<SecretString> {
    let mut bytes = Zeroizing::new([0u8; 20]);
    getrandom(&mut bytes[..]).map_err(|e| Error::environment("this machine gives no random bytes").because(e))?;
    Ok(letters(&bytes[..]).into())
}

fn getrandom(bytes: &mut [u8]) -> std::io::Result<()> {
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, bytes)
}

/// Five bits a character.
fn letters(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let mut out = String::new();
    let (mut held, mut bits) = (0u32, 0);
    for b in bytes {
        held = held << 8 | u32::from(*b);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(ALPHABET[(held >> bits & 31) as usize] as char);
        }
    }
    out
}

/// The Redis on the lab's nodes, asked over SSH. Its own words only: nothing here knows what Windlass believes.
struct Cluster {
    lab: String,
    /// Name and address of each node.
    nodes: Vec<(String, String)>,
    secrets: Secrets,
}

impl Cluster {
    fn of(name: &str, secrets: Secrets) -> Result<Cluster> {
        let status = lab::status(name)?.ok_or_else(|| Error::internal(format!("the lab {name} is gone")))?;
        let nodes = status.nodes.into_iter().map(|n| (n.name, n.address.to_string())).collect();
        Ok(Cluster { lab: name.to_string(), nodes, secrets })
    }

    /// Runs a script on a node. It comes on standard input, so no password is in an argument.
    fn on(&self, node: &str, password: &SecretString, script: &str) -> Result<String> {
        let mut command = lab::ssh_command(&self.lab, node)?;
        command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=3"]).arg("sh -s");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |e| Error::environment("cannot run ssh").because(e);
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            let text = Zeroizing::new(format!(
                "REDISCLI_AUTH='{}'; export REDISCLI_AUTH\n{script}\n",
                password.expose_secret()
            ));
            // A node that goes away while it is being asked says so in its exit code.
            let _ = input.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(Error::failed(format!("{node}: {}", text(&output.stderr)))),
        }
    }

    fn redis(&self, node: &str, command: &str) -> Result<String> {
        self.on(node, &self.secrets.redis, &format!("redis-cli -e {command} </dev/null"))
    }

    fn sentinel(&self, node: &str, command: &str) -> Result<String> {
        let script = format!("redis-cli -e -p {SENTINEL_PORT} SENTINEL {command} </dev/null");
        self.on(node, &self.secrets.sentinel, &script)
    }

    /// The node that all Sentinels but those on `without` name as the primary, if it says so itself.
    fn agreed(&self, without: Option<&str>) -> Result<String> {
        let mut named: Option<String> = None;
        for (node, _) in self.nodes.iter().filter(|(n, _)| Some(n.as_str()) != without) {
            let said = self.sentinel(node, &format!("get-master-addr-by-name {NAME}"))?;
            let address = said.lines().next().unwrap_or_default();
            let primary = self.name_of(address)?;
            match &named {
                Some(n) if *n != primary => {
                    return Err(Error::failed(format!("{node}'s Sentinel says {primary}, another says {n}")));
                }
                _ => named = Some(primary),
            }
        }
        let primary = named.ok_or_else(|| Error::internal("a lab without nodes"))?;
        if Some(primary.as_str()) == without {
            return Err(Error::failed(format!("expected a new primary, the Sentinels still say {primary}")));
        }
        let role = self.redis(&primary, "ROLE")?;
        expect(&format!("the role of {primary}"), "master", role.lines().next().unwrap_or_default())?;
        Ok(primary)
    }

    /// The primary all agree on, once every other node is its replica and every Sentinel knows the others.
    fn settled(&self) -> Result<String> {
        let primary = self.agreed(None)?;
        let others = self.nodes.len() - 1;
        for (node, _) in &self.nodes {
            let quorum = self.sentinel(node, &format!("CKQUORUM {NAME}"))?;
            let expected = format!("OK {} usable Sentinels", self.nodes.len());
            if !quorum.starts_with(&expected) {
                return Err(Error::failed(format!("{node}'s Sentinel: expected {expected}, saw {quorum}")));
            }
            let replicas = field(&self.sentinel(node, &format!("MASTER {NAME}"))?, "num-slaves");
            expect(&format!("replicas that {node}'s Sentinel knows"), &others.to_string(), &replicas)?;
            if *node != primary {
                self.rejoined(node, &primary)?;
            }
        }
        Ok(primary)
    }

    /// Whether a node is a replica of the primary, and connected to it.
    fn rejoined(&self, node: &str, primary: &str) -> Result<()> {
        let role = self.redis(node, "ROLE")?;
        let lines: Vec<&str> = role.lines().collect();
        let seen = match lines.as_slice() {
            ["slave", address, _, state, ..] => format!("replica of {}, {state}", self.name_of(address)?),
            [other, ..] => other.to_string(),
            [] => "nothing".into(),
        };
        expect(&format!("the role of {node}"), &format!("replica of {primary}, connected"), &seen)
    }

    fn name_of(&self, address: &str) -> Result<String> {
        let found = self.nodes.iter().find(|(_, a)| a == address);
        found.map(|(n, _)| n.clone()).ok_or_else(|| Error::failed(format!("no node has the address `{address}`")))
    }

    /// Writes through the primary and waits until every replica has it. WAIT counts for the connection it comes on.
    fn write(&self, primary: &str, value: &str) -> Result<()> {
        let script = format!("printf 'SET {KEY} {value}\\nWAIT {} 10000\\n' | redis-cli -e", self.nodes.len() - 1);
        let said = self.on(primary, &self.secrets.redis, &script)?;
        expect("SET, and the replicas that have it", &format!("OK {}", self.nodes.len() - 1), &said.replace('\n', " "))
    }

    fn read(&self, node: &str) -> Result<String> {
        self.redis(node, &format!("GET {KEY}"))
    }
}

/// A field of an answer that is names and values line by line.
fn field(answer: &str, name: &str) -> String {
    let mut lines = answer.lines();
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        if key == name {
            return value.to_string();
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::event::Counts;

    #[test]
    fn a_claim_that_fails_names_both_sides() {
        assert!(expect("x", "a", "a").is_ok());
        assert_eq!(
            expect("the primary", "node1", "node2").unwrap_err().to_string(),
            "the primary: expected node1, saw node2"
        );
        let counts = |changed| Counts { changed, ..Default::default() };
        let mut recap = Recap { hosts: vec![("a".into(), counts(0)), ("b".into(), counts(2))], ..Default::default() };
        let e = nothing_changed(&recap).unwrap_err().to_string();
        assert_eq!(e, "b: expected 0 changed, 0 not known before, saw 2 changed, 0 not known before");
        recap.hosts.pop();
        nothing_changed(&recap).unwrap();
        assert!(done(&recap).unwrap_err().to_string().contains("expected 3, saw 1"));
    }

    #[test]
    fn passwords_are_letters_and_digits() {
        assert_eq!(letters(&[0; 5]), "aaaaaaaa");
        assert_eq!(letters(&[255; 5]), "88888888");
        let (a, b) = (password().unwrap(), password().unwrap());
        assert_eq!(a.expose_secret().len(), 32);
        assert!(a.expose_secret().bytes().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(a.expose_secret(), b.expose_secret());
    }

    #[test]
    fn secrets_are_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (project, inventory) = (dir.path(), dir.path().join("inventories/lab"));
        assert!(Secrets::existing(project, &inventory).unwrap().is_none());
        let made = Secrets::create(project, &inventory).unwrap();
        let text = std::fs::read_to_string(inventory.join(lab::DEMO_VAULT)).unwrap();
        assert!(text.starts_with("-----BEGIN AGE") && !text.contains(made.redis.expose_secret()));
        let read = Secrets::existing(project, &inventory).unwrap().unwrap();
        assert_eq!(read.redis.expose_secret(), made.redis.expose_secret());
        assert_eq!(read.sentinel.expose_secret(), made.sentinel.expose_secret());
    }

    #[test]
    fn fields_of_an_answer() {
        assert_eq!(field("name\nmain\nnum-slaves\n2", "num-slaves"), "2");
        assert_eq!(field("num-slaves", "num-slaves"), "");
    }
}
