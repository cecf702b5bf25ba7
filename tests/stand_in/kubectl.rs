//! As much of `kubectl` as the playbooks ask for.

use crate::config::{ETC, token_parts};
use crate::http::{ask, basic};
use crate::store::{Op, State};
use std::io::Read;
use std::time::Duration;

/// Where the API is and who asks, as a kubeconfig says it.
struct Access {
    server: String,
    auth: String,
}

fn access(path: &str, server: Option<&str>) -> Result<Access, String> {
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("error: error loading config file \"{path}\": {e}"))?;
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(':'));
        line.map(|v| v.trim().trim_matches('"').to_string())
    };
    let server = server.map(str::to_string).or_else(|| value("server")).unwrap_or("http://localhost:8080".into());
    let auth = match (value("token"), value("username"), value("password")) {
        (Some(t), ..) => format!("Bearer {t}"),
        (_, Some(u), Some(p)) => basic(&u, &p),
        _ => String::new(),
    };
    Ok(Access { server, auth })
}

/// The command line; the exit status.
pub fn run(words: &[String]) -> i32 {
    let mut config = std::env::var("KUBECONFIG").unwrap_or(format!("{ETC}/k3s.yaml"));
    let (mut server, mut raw, mut file, mut rest) = (None, None, None, vec![]);
    let mut at = words.iter();
    while let Some(word) = at.next() {
        let (key, given) = word.split_once('=').map_or((word.as_str(), None), |(k, v)| (k, Some(v.to_string())));
        let mut value = || given.clone().or_else(|| at.next().cloned()).unwrap_or_default();
        match key {
            "--kubeconfig" => config = value(),
            "--server" | "-s" => server = Some(value()),
            "--raw" => raw = Some(value()),
            "-f" | "--filename" => file = Some(value()),
            "--token" | "--certificate-authority" | "--client-certificate" | "--client-key" | "--request-timeout" => {
                drop(value())
            }
            "--insecure-skip-tls-verify" => {}
            _ => rest.push(word.clone()),
        }
    }
    let result = access(&config, server.as_deref()).and_then(|a| {
        let (method, path, body) = match (rest.first().map(String::as_str), &raw) {
            (Some("get"), Some(path)) => ("GET", path.clone(), String::new()),
            (Some("replace"), Some(path)) => ("PUT", path.clone(), read(file.as_deref())?),
            _ => ("POST", "/kubectl".to_string(), rest.join("\n")),
        };
        let patience = Duration::from_secs(5);
        match ask(method, &a.server, &path, &a.auth, &body, patience) {
            Ok(r) if r.status == 200 => Ok(r.body),
            Ok(r) if r.status == 401 => Err("error: You must be logged in to the server (Unauthorized)".into()),
            Ok(r) => Err(r.body),
            Err(e) => Err(format!(
                "The connection to the server {} was refused - did you specify the right host or port? ({e})",
                a.server
            )),
        }
    });
    match result {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(e) => {
            eprintln!("{}", e.trim_end());
            1
        }
    }
}

fn read(file: Option<&str>) -> Result<String, String> {
    let mut text = String::new();
    match file {
        Some("-") => std::io::stdin().read_to_string(&mut text).map_err(|e| e.to_string())?,
        Some(f) => std::fs::File::open(f).and_then(|mut f| f.read_to_string(&mut text)).map_err(|e| e.to_string())?,
        None => return Err("error: must specify -f".into()),
    };
    Ok(text)
}

/// `token rotate`, on a server.
pub fn token(words: &[String]) -> i32 {
    let go = || -> Result<(), String> {
        if words.first().map(String::as_str) != Some("rotate") {
            return Err("the stand-in knows `token rotate` only".into());
        }
        let old = std::fs::read_to_string("/var/lib/rancher/k3s/server/token").map_err(|e| e.to_string())?;
        let auth = basic("server", token_parts(old.trim()).1);
        let r = ask("PUT", "127.0.0.1:6443", "/v1-k3s/token", &auth, "{\"newToken\":\"\"}", Duration::from_secs(5))?;
        if r.status == 200 { Ok(()) } else { Err(r.body) }
    };
    match go() {
        Ok(()) => {
            std::thread::sleep(Duration::from_secs(1));
            println!("Token rotated, restart k3s nodes with new token");
            0
        }
        Err(e) => {
            eprintln!("{e}");
            1
        }
    }
}

/// What the API answers: changes to make and a text, or why not.
pub fn answer(words: &[&str], state: &State, ready: &dyn Fn(&str) -> bool) -> Result<(Vec<Op>, String), String> {
    let flag = |f: &str| words.contains(&f);
    let takes_value = ["-o", "-l", "-n", "--timeout", "--field-selector", "--selector", "--output", "--grace-period"];
    let mut plain = vec![];
    let mut at = 0;
    while at < words.len() {
        if takes_value.contains(&words[at]) {
            at += 1;
        } else if !words[at].starts_with('-') {
            plain.push(words[at]);
        }
        at += 1;
    }
    let node = |name: &str| match state.values.contains_key(&format!("node/{name}")) {
        true => Ok(name.to_string()),
        false => Err(format!("Error from server (NotFound): nodes \"{name}\" not found")),
    };
    let cordoned = |n: &str| format!("node/{n}/cordoned");
    match plain[..] {
        ["get", "nodes" | "node" | "no"] | ["get", "nodes" | "node" | "no", _] => {
            let names: Vec<String> = match plain.get(2) {
                Some(n) => vec![node(n)?],
                None => state
                    .values
                    .keys()
                    .filter_map(|k| k.strip_prefix("node/").filter(|n| !n.contains('/')).map(str::to_string))
                    .collect(),
            };
            let mut text = String::new();
            if flag("-o") && flag("name") || flag("-oname") {
                names.iter().for_each(|n| text += &format!("node/{n}\n"));
                return Ok((vec![], text));
            }
            if !flag("--no-headers") {
                text += &format!("{:<12} {:<28} {:<20} AGE {:<20} INTERNAL-IP\n", "NAME", "STATUS", "ROLES", "VERSION");
            }
            for n in &names {
                let of = |what: &str| state.get(&format!("node/{n}/{what}")).to_string();
                let status = if ready(n) { "Ready" } else { "NotReady" };
                let off = if of("cordoned").is_empty() { "" } else { ",SchedulingDisabled" };
                let role = if of("role").is_empty() { "<none>".into() } else { of("role") };
                text += &format!(
                    "{n:<12} {:<28} {role:<20} 1m  {:<20} {}\n",
                    format!("{status}{off}"),
                    of("version"),
                    of("address")
                );
            }
            Ok((vec![], text))
        }
        ["get", "pods" | "pod", ..] => Ok((vec![], "No resources found\n".into())),
        ["get", "namespaces" | "namespace" | "ns"] => {
            let names = state.values.keys().filter_map(|k| k.strip_prefix("namespace/"));
            Ok((vec![], names.map(|n| format!("{n:<20} Active 1m\n")).collect()))
        }
        ["get", "namespaces" | "namespace" | "ns", n] => match state.values.contains_key(&format!("namespace/{n}")) {
            true => Ok((vec![], format!("{n:<20} Active 1m\n"))),
            false => Err(format!("Error from server (NotFound): namespaces \"{n}\" not found")),
        },
        ["create", "namespace" | "ns", n] => {
            Ok((vec![Op::Set(format!("namespace/{n}"), "Active".into())], format!("namespace/{n} created\n")))
        }
        ["delete", "namespace" | "ns", n] => {
            Ok((vec![Op::Delete(format!("namespace/{n}"))], format!("namespace \"{n}\" deleted\n")))
        }
        ["cordon", n] => Ok((vec![Op::Set(cordoned(&node(n)?), "true".into())], format!("node/{n} cordoned\n"))),
        ["uncordon", n] => Ok((vec![Op::Delete(cordoned(&node(n)?))], format!("node/{n} uncordoned\n"))),
        ["drain", n] => {
            let n = node(n)?;
            if state.values.contains_key(&format!("namespace/no-drain-{n}")) {
                return Err(format!(
                    "error: unable to drain node \"{n}\": Cannot evict pod as it would violate the pod's disruption budget."
                ));
            }
            Ok((vec![Op::Set(cordoned(&n), "true".into())], format!("node/{n} drained\n")))
        }
        ["delete", "secret" | "secrets", n] => {
            let of = n.trim_end_matches(".node-password.k3s");
            Ok((vec![Op::Delete(format!("password/{of}"))], format!("secret \"{n}\" deleted\n")))
        }
        ["delete", "node" | "nodes", n] => {
            if node(n).is_err() && flag("--ignore-not-found") {
                return Ok((vec![], String::new()));
            }
            let n = node(n)?;
            let mut ops = vec![Op::Delete(format!("node/{n}")), Op::Delete(format!("password/{n}"))];
            ops.extend(state.members.iter().filter(|m| m.node == n).map(|m| Op::Remove(m.index)));
            Ok((ops, format!("node \"{n}\" deleted\n")))
        }
        ["version", ..] => Ok((vec![], format!("Server Version: {} (stand-in, not K3s)\n", crate::version()))),
        _ => Err(format!("the stand-in for kubectl does not know `{}`", words.join(" "))),
    }
}
