//! A stand-in for the K3s binary, for tests: it is not K3s, says so, and runs no container. It serves what the roles ask
//! of a K3s node (an API that can be polled, members that join as learners and become voters, nodes that register, a
//! token, snapshots) with the same files, ports, arguments and messages, so that the playbooks can be run to the end
//! where no real one is at hand. Plain HTTP takes the place of TLS.
//!
//! Which version it claims to be stands at the end of its own file (`write_version` of the tests), so that two versions
//! are two files with different checksums. A version with `broken` in it never starts.

mod agent;
mod config;
mod http;
mod kubectl;
mod server;
mod snapshot;
mod store;

use std::io::{Read, Seek, SeekFrom};

/// What stands before the version at the end of the file.
pub const MARK: &str = "\nSTAND-IN VERSION ";

fn main() {
    let mut words: Vec<String> = std::env::args().collect();
    let me = words.remove(0);
    let me = me.rsplit('/').next().unwrap_or_default();
    if matches!(me, "kubectl" | "crictl" | "ctr") {
        words.insert(0, me.to_string());
    }
    let command = if words.is_empty() { String::new() } else { words.remove(0) };
    match command.as_str() {
        "server" => server::run(config::Config::of("server", &words)),
        "agent" => agent::run(config::Config::of("agent", &words)),
        "kubectl" => std::process::exit(kubectl::run(&words)),
        "etcd-snapshot" => std::process::exit(snapshot::run(&words)),
        "token" => std::process::exit(kubectl::token(&words)),
        "crictl" | "ctr" => println!("a stand-in: it has no containers"),
        "--version" | "-v" | "version" => {
            println!("k3s version {} (stand-in, not K3s)\ngo version none", version());
        }
        other => {
            eprintln!("the stand-in for k3s does not know `{other}`");
            std::process::exit(64);
        }
    }
}

/// The version at the end of this program's file.
pub fn version() -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open("/proc/self/exe")?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(200)))?;
        let mut end = vec![];
        file.read_to_end(&mut end)?;
        Ok(String::from_utf8_lossy(&end).into_owned())
    };
    let end = read().unwrap_or_default();
    end.rsplit_once(MARK).map_or("v0.0.0+stand-in".into(), |(_, v)| v.trim().to_string())
}

/// A line for the journal, in the form the real one logs.
pub fn log(level: &str, text: &str) {
    eprintln!("level={level} msg=\"{text}\"");
}

/// Ends the program as a fatal error of the real one does.
pub fn fatal(text: &str) -> ! {
    log("fatal", text);
    std::process::exit(1);
}

/// Tells systemd that the service is up.
pub fn notify_ready() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes()),
        None => SocketAddr::from_pathname(&path),
    };
    if let Ok(address) = address {
        let _ = socket.send_to_addr(b"READY=1", &address);
    }
}

/// Random hexadecimal digits.
pub fn random(digits: usize) -> String {
    let mut bytes = vec![0; digits / 2];
    if std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).is_err() {
        fatal("cannot read /dev/urandom");
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
