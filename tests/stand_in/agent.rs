//! An agent: registers its node at the servers, again and again, and passes connections on to them.

use crate::config::{Config, token_parts};
use crate::http::{ask, basic};
use crate::{fatal, log, random};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What proves that a node is the one of that name; made once.
pub fn node_password() -> String {
    let path = Path::new("/etc/rancher/node/password");
    if let Ok(p) = std::fs::read_to_string(path) {
        return p.trim().to_string();
    }
    let password = random(32);
    let made = std::fs::create_dir_all("/etc/rancher/node").and_then(|()| std::fs::write(path, &password));
    if let Err(e) = made {
        fatal(&format!("{}: {e}", path.display()));
    }
    password
}

/// Where the kubelet says that it is well.
pub fn serve_kubelet() {
    let handler = |r: crate::http::Request| match r.path.as_str() {
        "/healthz" => crate::http::answer(200, "ok"),
        _ => crate::http::answer(404, ""),
    };
    crate::http::serve("127.0.0.1:10248", Arc::new(handler));
}

pub fn run(config: Config) -> ! {
    let (Some(url), Some(token)) = (config.get("server"), config.token()) else {
        fatal("--token and --server are required");
    };
    let (ca, password) = token_parts(&token);
    let node = config.node();
    let line = [&node, "", &crate::version(), &config.address(), &node_password()].join("\t");
    let auth = basic("node", password);
    let first = url.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/').to_string();
    let servers = Arc::new(Mutex::new(vec![first.clone()]));
    let known = || servers.lock().map(|s| s.clone()).unwrap_or_default();

    pass_on(servers.clone());
    let agent = config.data().join("agent");
    let kubeconfig = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    server: http://127.0.0.1:6444\n  name: local\nkind: Config\n\
         users:\n- name: user\n  user:\n    username: node\n    password: {password}\n"
    );
    let mut up = false;
    loop {
        let mut all = known();
        all.push(first.clone());
        let mut answered = false;
        for server in all {
            if !up
                && let Some(ca) = ca
                && let Ok(r) = ask("GET", &server, "/cacerts", "", "", Duration::from_secs(2))
                && r.body.trim() != ca
            {
                fatal(&format!(
                    "token CA hash does not match the Cluster CA certificate hash: {ca} != {}",
                    r.body.trim()
                ));
            }
            match ask("POST", &server, "/register", &auth, &line, Duration::from_secs(2)) {
                Ok(r) if r.status == 200 => {
                    if let Ok(mut s) = servers.lock() {
                        *s = r.body.split(',').map(str::to_string).collect();
                    }
                    answered = true;
                    break;
                }
                Ok(r) if r.status == 401 => fatal(&format!(
                    "Failed to validate connection to cluster at https://{server}: https://{server}/v1-k3s/config: 401 Unauthorized"
                )),
                Ok(r) => log("error", &r.body),
                Err(e) => log("error", &format!("failed to get CA certs: {e}: connection refused")),
            }
        }
        if answered && !up {
            up = true;
            let written = std::fs::create_dir_all(&agent)
                .and_then(|()| std::fs::write(agent.join("kubelet.kubeconfig"), &kubeconfig));
            if let Err(e) = written {
                fatal(&e.to_string());
            }
            log("info", "the stand-in agent is registered");
            serve_kubelet();
            crate::notify_ready();
        }
        std::thread::sleep(Duration::from_millis(if up { 1000 } else { 500 }));
    }
}

/// 127.0.0.1:6444 leads to a server that answers.
fn pass_on(servers: Arc<Mutex<Vec<String>>>) {
    let Ok(listener) = TcpListener::bind("127.0.0.1:6444") else {
        fatal("failed to listen: listen tcp 127.0.0.1:6444: bind: address already in use")
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let servers = servers.lock().map(|s| s.clone()).unwrap_or_default();
            let open = |s: &String| {
                // One that is not ready is passed by.
                ask("GET", s, "/readyz", "", "", Duration::from_millis(500)).ok().filter(|r| r.status == 200)?;
                let address = s.to_socket_addrs().ok()?.next()?;
                TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()
            };
            let Some(server) = servers.iter().find_map(open) else { continue };
            let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else { continue };
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
            });
            std::thread::spawn(move || {
                let (mut server, mut client) = (server, client);
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.flush();
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}
