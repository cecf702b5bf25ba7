//! A server: a member of the replicated store, and the API in front of it.
//!
//! The members agree in the simplest way that shows what matters: a leader is followed as long as it lives; when it is
//! gone, the live voter with the lowest index takes over after a short pause, if most voters live. A write counts when
//! most voters have it.

use crate::config::{Config, ETC, token_parts};
use crate::http::{Request, Response, answer, ask, basic, serve};
use crate::store::{Op, State};
use crate::{fatal, kubectl, log, random};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const PEER: u16 = 2380;
const PATIENCE: Duration = Duration::from_millis(300);
/// No sign of a member for this long: it is gone.
const GONE: Duration = Duration::from_millis(1200);
const ELECTION: Duration = Duration::from_millis(700);
/// No sign of a node for this long: it is not Ready.
const LEASE: Duration = Duration::from_secs(4);
/// A learner is promoted when it has kept up for this long.
const LEARNING: Duration = Duration::from_millis(1500);

pub struct Server {
    address: String,
    port: u16,
    /// The name as a member of the store; none with a store of one file.
    member: Option<String>,
    file: PathBuf,
    inner: Mutex<Inner>,
    writing: Mutex<()>,
}

struct Inner {
    state: State,
    seen: HashMap<u64, Instant>,
    /// Whom each live member takes for the leader.
    follows: HashMap<u64, u64>,
    leader: Option<u64>,
    led_since: Instant,
    candidate: Option<(u64, Instant)>,
    leases: HashMap<String, Instant>,
    learner_since: HashMap<u64, Instant>,
}

pub fn run(config: Config) -> ! {
    let data = config.data().join("server");
    let etcd_file = data.join("db/etcd/member/wal/state");
    let one_file = data.join("db/state.db");
    let flag = data.join("db/reset-flag");
    if config.is("cluster-reset") {
        reset(&config, &etcd_file, &flag);
    }
    let _ = std::fs::remove_file(&flag);
    let etcd = etcd_file.exists() || config.is("cluster-init") || config.get("server").is_some();
    let (node, address, port) = (config.node(), config.address(), config.port());
    let password = crate::agent::node_password();
    let token = config.token();

    let name_file = data.join("db/etcd/name");
    let member = etcd.then(|| match std::fs::read_to_string(&name_file) {
        Ok(n) => n,
        Err(_) => {
            let name = format!("{node}-{}", random(8));
            put(&name_file, &name);
            name
        }
    });
    let file = if etcd { etcd_file } else { one_file.clone() };
    let mut state = State::load(&file).or_else(|| State::load(&one_file)).unwrap_or_default();
    if state.revision == 0 {
        state = match (config.get("server"), &member) {
            (Some(url), Some(name)) => join(url, &token, &node, name, &address),
            _ => found(&token),
        };
    } else if let Some(newest) = newest(&state, member.as_deref()) {
        state = newest;
    }
    if let Some(t) = &token
        && token_parts(t).1 != state.get("token")
    {
        fatal("starting kubernetes: preparing server: bootstrap data already found and encrypted with different token");
    }
    if let Some(name) = member.as_ref().filter(|_| state.members.is_empty())
        && let Err(e) = state.apply(&Op::Add(node.clone(), name.clone(), address.clone()))
    {
        fatal(&e);
    }
    state.save(&file);
    write_files(&data, &state, port);

    let now = Instant::now();
    let server = Arc::new(Server {
        address: address.clone(),
        port,
        member,
        file,
        inner: Mutex::new(Inner {
            state,
            seen: HashMap::new(),
            follows: HashMap::new(),
            leader: None,
            led_since: now,
            candidate: None,
            leases: HashMap::new(),
            learner_since: HashMap::new(),
        }),
        writing: Mutex::new(()),
    });
    // The API first: a port in use must be said by it.
    let s = server.clone();
    serve(&format!("0.0.0.0:{port}"), Arc::new(move |r| s.api(&r)));
    if server.member.is_some() {
        let s = server.clone();
        serve("0.0.0.0:2379", Arc::new(move |r| s.health(&r)));
        let s = server.clone();
        serve(&format!("0.0.0.0:{PEER}"), Arc::new(move |r| s.peer(&r)));
        let s = server.clone();
        std::thread::spawn(move || {
            loop {
                s.tick();
                std::thread::sleep(Duration::from_millis(150));
            }
        });
    }
    let role = if server.member.is_some() { "control-plane,etcd" } else { "control-plane" };
    let line = [node.as_str(), role, &crate::version(), &address, &password].join("\t");
    let mut up = false;
    loop {
        if server.ready() {
            let r = server.register(&line);
            if r.status == 403 {
                log("error", &r.body);
            }
            if r.status == 200 && !up {
                up = true;
                log("info", "the stand-in is up and running");
                crate::agent::serve_kubelet();
                crate::notify_ready();
            }
        }
        write_token(&data, &server.lock().state);
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn put(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let done = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)));
    if let Err(e) = done {
        fatal(&format!("{}: {e}", path.display()));
    }
}

fn write_token(data: &Path, state: &State) {
    let text = format!("K10{}::server:{}\n", state.get("ca"), state.get("token"));
    for name in ["token", "node-token"] {
        let path = data.join(name);
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            put(&path, &text);
        }
    }
}

fn write_files(data: &Path, state: &State, port: u16) {
    write_token(data, state);
    for name in ["server-ca.crt", "client.crt", "client.key"] {
        put(&data.join("tls/etcd").join(name), "of a stand-in\n");
    }
    let admin = state.get("admin");
    put(
        Path::new(ETC).join("k3s.yaml").as_path(),
        &format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    server: http://127.0.0.1:{port}\n  name: default\ncontexts:\n\
             - context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\n\
             users:\n- name: default\n  user:\n    token: {admin}\n"
        ),
    );
}

/// The state of a new cluster.
fn found(token: &Option<String>) -> State {
    let mut state = State { revision: 1, ..State::default() };
    let password = token.as_ref().map_or_else(|| random(32), |t| token_parts(t).1.to_string());
    for (key, value) in [("ca", random(64)), ("token", password), ("peer", random(32)), ("admin", random(32))] {
        state.values.insert(key.into(), value);
    }
    state
}

/// Becomes a learner of the cluster behind a URL.
fn join(url: &str, token: &Option<String>, node: &str, name: &str, address: &str) -> State {
    let Some(token) = token else { fatal("--token is required") };
    let (ca, password) = token_parts(token);
    loop {
        match ask("GET", url, "/cacerts", "", "", Duration::from_secs(2)) {
            Ok(r) if r.status == 200 => {
                if let Some(ca) = ca.filter(|ca| *ca != r.body.trim()) {
                    fatal(&format!(
                        "token CA hash does not match the Cluster CA certificate hash: {ca} != {}",
                        r.body.trim()
                    ));
                }
                break;
            }
            Ok(r) => log("error", &format!("failed to get CA certs: {url}/cacerts: {}", r.status)),
            Err(e) => {
                log("error", &format!("failed to get CA certs: Get \\\"{url}/cacerts\\\": {e}: connection refused"))
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    loop {
        let auth = basic("server", password);
        match ask("POST", url, "/join", &auth, &format!("{node}\t{name}\t{address}"), Duration::from_secs(5)) {
            Ok(r) if r.status == 200 => match State::parse(&r.body) {
                Some(s) => return s,
                None => log("error", "the server sent half an answer"),
            },
            Ok(r) if r.status == 401 => fatal(&format!(
                "failed to validate server configuration: {url}/v1-k3s/server-bootstrap: 401 Unauthorized"
            )),
            Ok(r) => fatal(&format!("ETCD join failed: {}", r.body)),
            Err(e) => log("error", &e),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What the others have, if it is newer.
fn newest(state: &State, me: Option<&str>) -> Option<State> {
    let others = state.members.iter().filter(|m| Some(m.name.as_str()) != me);
    others
        .filter_map(|m| {
            ask("GET", &format!("{}:{PEER}", m.address), "/peer/state", state.get("peer"), "", PATIENCE).ok()
        })
        .filter_map(|r| State::parse(&r.body))
        .filter(|s| s.revision > state.revision)
        .max_by_key(|s| s.revision)
}

/// `--cluster-reset`: a cluster of this one member, from a snapshot or from what it has.
fn reset(config: &Config, file: &Path, flag: &Path) -> ! {
    if flag.exists() {
        fatal("cluster-reset was successfully performed, please remove the cluster-reset flag and start k3s normally");
    }
    let path = config.get("cluster-reset-restore-path").map_or(file.to_path_buf(), PathBuf::from);
    if !path.is_file() {
        fatal(&format!("etcd: snapshot path does not exist: {}", path.display()));
    }
    let Some(mut state) = State::load(&path) else { fatal("snapshot missing hash but --skip-hash-check=false") };
    if config.token().is_some_and(|t| token_parts(&t).1 != state.get("token")) {
        fatal("starting kubernetes: preparing server: bootstrap data already found and encrypted with different token");
    }
    let name = format!("{}-{}", config.node(), random(8));
    put(&config.data().join("server/db/etcd/name"), &name);
    state.members.clear();
    if let Err(e) = state.apply(&Op::Add(config.node(), name, config.address())) {
        fatal(&e);
    }
    state.save(file);
    put(flag, "");
    write_token(&config.data().join("server"), &state);
    log("info", "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now.");
    std::process::exit(0);
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn me(&self, state: &State) -> Option<u64> {
        state.members.iter().find(|m| Some(&m.name) == self.member.as_ref()).map(|m| m.index)
    }

    fn ready(&self) -> bool {
        let i = self.lock();
        let Some(me) = self.me(&i.state) else { return self.member.is_none() };
        i.leader.is_some() && i.state.voters().any(|m| m.index == me)
    }

    // ------------------------------------------------------------------------------------------------- the members

    fn tick(&self) {
        let (members, me, secret, revision) = {
            let i = self.lock();
            (i.state.members.clone(), self.me(&i.state), i.state.get("peer").to_string(), i.state.revision)
        };
        let Some(me) = me else {
            fatal("the member has been permanently removed from the cluster");
        };
        let asked: Vec<_> = members
            .iter()
            .filter(|m| m.index != me)
            .map(|m| {
                let (url, secret, index) = (format!("{}:{PEER}", m.address), secret.clone(), m.index);
                std::thread::spawn(move || {
                    (index, ask("GET", &url, &format!("/peer/ping?{me}"), &secret, "", PATIENCE))
                })
            })
            .collect();
        let mut behind = None;
        for (index, answer) in asked.into_iter().filter_map(|t| t.join().ok()) {
            let Ok(r) = answer else { continue };
            let words: Vec<u64> = r.body.split('\t').filter_map(|w| w.parse().ok()).collect();
            let [leader, its] = words[..] else { continue };
            if r.status == 410 && its > revision {
                fatal("the member has been permanently removed from the cluster");
            }
            let mut i = self.lock();
            i.seen.insert(index, Instant::now());
            i.follows.insert(index, leader);
            if its > revision && leader == index {
                behind = members.iter().find(|m| m.index == index).map(|m| m.address.clone());
            }
        }
        if let Some(address) = behind
            && let Ok(r) = ask("GET", &format!("{address}:{PEER}"), "/peer/state", &secret, "", PATIENCE)
            && let Some(s) = State::parse(&r.body)
        {
            self.adopt(s);
        }
        self.elect(me);
        self.promote(me);
    }

    fn adopt(&self, state: State) -> bool {
        let mut i = self.lock();
        if state.revision < i.state.revision {
            return false;
        }
        if state != i.state {
            state.save(&self.file);
            i.state = state;
        }
        true
    }

    fn live(&self, i: &Inner, me: u64) -> Vec<u64> {
        let lives = |n: u64| n == me || i.seen.get(&n).is_some_and(|t| t.elapsed() < GONE);
        i.state.voters().map(|m| m.index).filter(|n| lives(*n)).collect()
    }

    fn elect(&self, me: u64) {
        let mut i = self.lock();
        let live = self.live(&i, me);
        if live.len() < i.state.majority() {
            if i.leader.take().is_some() {
                log("warning", "etcd: lost the leader, most voters are gone");
            }
            i.candidate = None;
            return;
        }
        // One that was started anew leads no more, however soon it was back.
        let leads =
            |l: u64| live.contains(&l) && (if l == me { i.leader } else { i.follows.get(&l).copied() }) == Some(l);
        if i.leader.is_some_and(leads) {
            return;
        }
        let followed = live.iter().copied().find(|n| *n != me && leads(*n));
        if let Some(leader) = followed {
            i.leader = Some(leader);
            i.candidate = None;
            return;
        }
        if i.leader.take().is_some() {
            log("warning", "etcd: lost the leader");
        }
        let first = live.iter().copied().min().unwrap_or(me);
        match i.candidate {
            Some((c, since)) if c == first => {
                if since.elapsed() >= ELECTION && c == me {
                    let state = i.state.clone();
                    drop(i);
                    if let Some(s) = newest(&state, self.member.as_deref()) {
                        self.adopt(s);
                    }
                    let mut i = self.lock();
                    i.leader = Some(me);
                    i.led_since = Instant::now();
                    i.candidate = None;
                    log("info", "etcd: became the leader");
                }
            }
            _ => i.candidate = Some((first, Instant::now())),
        }
    }

    /// As leader: a learner that has kept up becomes a voter.
    fn promote(&self, me: u64) {
        let ripe = {
            let mut i = self.lock();
            if i.leader != Some(me) {
                i.learner_since.clear();
                return;
            }
            let Some(learner) = i.state.members.iter().find(|m| !m.voter).map(|m| m.index) else { return };
            if i.seen.get(&learner).is_none_or(|t| t.elapsed() > GONE) {
                i.learner_since.remove(&learner);
                return;
            }
            let since = *i.learner_since.entry(learner).or_insert_with(Instant::now);
            (since.elapsed() > LEARNING).then_some(learner)
        };
        if let Some(learner) = ripe
            && self.mutate(&[Op::Promote(learner)]).is_ok()
        {
            log("info", "etcd: a learner became a voter");
        }
    }

    /// Changes the state, here or at the leader.
    pub fn mutate(&self, ops: &[Op]) -> Result<(), String> {
        let (leader, me, secret) = {
            let i = self.lock();
            (i.leader, self.me(&i.state), i.state.get("peer").to_string())
        };
        if self.member.is_some() {
            let Some(leader) = leader else { return Err("etcdserver: no leader".into()) };
            if Some(leader) != me {
                let lines: String = ops.iter().map(Op::line).collect();
                let r = self.at_leader(leader, "/peer/write", &lines, &secret);
                return if r.status == 200 { Ok(()) } else { Err(r.body) };
            }
        }
        let _alone = self.writing.lock().unwrap_or_else(|e| e.into_inner());
        let mut state = self.lock().state.clone();
        for op in ops {
            state.apply(op)?;
        }
        let text = state.text();
        let asked: Vec<_> = state
            .members
            .iter()
            .filter(|m| Some(m.index) != me)
            .map(|m| {
                let (url, secret, text, voter) =
                    (format!("{}:{PEER}", m.address), secret.clone(), text.clone(), m.voter);
                std::thread::spawn(move || {
                    voter && ask("PUT", &url, "/peer/state", &secret, &text, PATIENCE).is_ok_and(|r| r.status == 200)
                })
            })
            .collect();
        let agreed = 1 + asked.into_iter().filter_map(|t| t.join().ok()).filter(|ok| *ok).count();
        if agreed < state.majority() && self.member.is_some() {
            return Err("etcdserver: request timed out".into());
        }
        state.save(&self.file);
        self.lock().state = state;
        Ok(())
    }

    fn at_leader(&self, leader: u64, path: &str, body: &str, secret: &str) -> Response {
        let address = self.lock().state.members.iter().find(|m| m.index == leader).map(|m| m.address.clone());
        let Some(address) = address else { return answer(500, "etcdserver: no leader") };
        ask("POST", &format!("{address}:{PEER}"), path, secret, body, Duration::from_secs(3))
            .unwrap_or_else(|e| answer(500, format!("etcdserver: request timed out: {e}")))
    }

    fn peer(&self, r: &Request) -> Response {
        let (secret, revision, leader) = {
            let i = self.lock();
            (i.state.get("peer").to_string(), i.state.revision, i.leader.unwrap_or(0))
        };
        if r.auth != secret {
            return answer(401, "");
        }
        match (r.method.as_str(), r.path.as_str()) {
            ("GET", "/peer/state") => answer(200, self.lock().state.text()),
            ("PUT", "/peer/state") => match State::parse(&r.body) {
                Some(s) => answer(if self.adopt(s) { 200 } else { 409 }, ""),
                None => answer(400, ""),
            },
            ("POST", "/peer/write") => {
                let ops: Option<Vec<Op>> = r.body.lines().map(Op::parse).collect();
                match ops.map(|o| self.mutate(&o)) {
                    Some(Ok(())) => answer(200, ""),
                    Some(Err(e)) => answer(500, e),
                    None => answer(400, ""),
                }
            }
            ("POST", "/peer/register") => self.register(&r.body),
            ("POST", "/peer/kubectl") => self.kubectl(&r.body),
            (_, path) => {
                let from = path.strip_prefix("/peer/ping?").and_then(|f| f.parse::<u64>().ok());
                let known = self.lock().state.members.iter().any(|m| Some(m.index) == from);
                answer(if known { 200 } else { 410 }, format!("{leader}\t{revision}"))
            }
        }
    }

    fn health(&self, r: &Request) -> Response {
        let i = self.lock();
        let me = self.me(&i.state);
        let learner = !i.state.voters().any(|m| Some(m.index) == me);
        match r.path.as_str() {
            "/health" if i.leader.is_some() => answer(200, "{\"health\":\"true\"}"),
            "/health" => answer(503, "{\"health\":\"false\"}"),
            "/metrics" => answer(200, format!("etcd_server_is_learner {}\n", u8::from(learner))),
            _ => answer(404, ""),
        }
    }

    // ------------------------------------------------------------------------------------------------------ the API

    fn api(&self, r: &Request) -> Response {
        let (ca, token, admin, agents) = {
            let i = self.lock();
            let of = |k: &str| i.state.get(k).to_string();
            (of("ca"), of("token"), of("admin"), of("agent-token"))
        };
        let server = r.auth == basic("server", &token);
        let agent =
            server || r.auth == basic("node", &token) || (!agents.is_empty() && r.auth == basic("node", &agents));
        match (r.method.as_str(), r.path.as_str()) {
            ("GET", "/livez" | "/healthz") => answer(200, "ok"),
            ("GET", path) if path.starts_with("/readyz") => match (self.ready(), path.contains("verbose")) {
                (true, true) => answer(200, "[+]ping ok\n[+]etcd ok\nreadyz check passed\n"),
                (true, false) => answer(200, "ok"),
                _ => answer(500, "[+]ping ok\n[-]etcd failed\nreadyz check failed\n"),
            },
            ("GET", "/ping") => answer(200, "pong"),
            ("GET", "/cacerts") => answer(200, ca),
            ("GET", "/db/info") if self.member.is_none() => answer(404, "404 page not found"),
            ("GET", "/db/info") if server => answer(200, self.members()),
            ("POST", "/join") if server => self.join_request(&r.body),
            ("PUT", "/v1-k3s/token") if server => {
                let new = r.body.split("\"newToken\"").nth(1).and_then(|t| t.split('"').nth(1)).unwrap_or_default();
                let new = if new.is_empty() { random(32) } else { new.to_string() };
                match self.mutate(&[Op::Set("token".into(), new)]) {
                    Ok(()) => answer(200, ""),
                    Err(e) => answer(500, e),
                }
            }
            ("POST", "/register") if agent => self.register(&r.body),
            (_, "/db/info" | "/join" | "/v1-k3s/token" | "/register") => answer(401, "401 Unauthorized"),
            ("POST", "/kubectl") if agent && r.body.starts_with("get\nnode") => self.kubectl(&r.body),
            _ if r.auth != format!("Bearer {admin}") => answer(401, "Unauthorized"),
            ("POST", "/kubectl") => self.kubectl(&r.body),
            ("GET", "/snapshot") if self.member.is_none() => answer(404, "etcd datastore disabled"),
            ("GET", "/snapshot") => answer(200, self.lock().state.text()),
            _ => answer(404, "the server could not find the requested resource"),
        }
    }

    fn members(&self) -> String {
        let i = self.lock();
        let all: Vec<String> = i
            .state
            .members
            .iter()
            .map(|m| {
                let learner = if m.voter { "" } else { ",\"isLearner\":true" };
                format!(
                    "{{\"ID\":{},\"name\":\"{}\",\"peerURLs\":[\"http://{a}:{PEER}\"],\"clientURLs\":[\"http://{a}:2379\"]{learner}}}",
                    m.index,
                    m.name,
                    a = m.address
                )
            })
            .collect();
        format!("{{\"members\":[{}]}}\n", all.join(","))
    }

    fn join_request(&self, body: &str) -> Response {
        let words: Vec<&str> = body.split('\t').collect();
        let [node, name, address] = words[..] else { return answer(400, "") };
        match self.mutate(&[Op::Add(node.into(), name.into(), address.into())]) {
            // What a follower has can be older than what the leader just wrote.
            Ok(()) => {
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(2) {
                    let state = self.lock().state.clone();
                    if state.members.iter().any(|m| m.name == name) {
                        return answer(200, state.text());
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                answer(500, "etcdserver: request timed out")
            }
            Err(e) => answer(503, e),
        }
    }

    /// A node says that it lives. The answer is where the servers are.
    fn register(&self, line: &str) -> Response {
        let (leader, me, secret) = {
            let i = self.lock();
            (i.leader, self.me(&i.state), i.state.get("peer").to_string())
        };
        if self.member.is_some() && leader != me {
            return match leader {
                Some(l) => self.at_leader(l, "/peer/register", line, &secret),
                None => answer(500, "etcdserver: no leader"),
            };
        }
        let words: Vec<&str> = line.split('\t').collect();
        let [node, role, version, address, password] = words[..] else { return answer(400, "") };
        let state = self.lock().state.clone();
        let known = state.get(&format!("password/{node}"));
        if !known.is_empty() && known != password {
            return answer(
                403,
                format!(
                    "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match \
                     server node-passwd entry, try enabling a unique node name with the --with-node-id flag ({node})"
                ),
            );
        }
        let mut ops = vec![];
        for (key, value) in [
            (format!("password/{node}"), password),
            (format!("node/{node}"), ""),
            (format!("node/{node}/role"), role),
            (format!("node/{node}/version"), version),
            (format!("node/{node}/address"), address),
        ] {
            if state.values.get(&key).map(String::as_str) != Some(value) {
                ops.push(Op::Set(key, value.to_string()));
            }
        }
        if !ops.is_empty()
            && let Err(e) = self.mutate(&ops)
        {
            return answer(500, e);
        }
        let mut i = self.lock();
        i.leases.insert(node.into(), Instant::now());
        let servers: Vec<String> = match i.state.members.is_empty() {
            true => vec![format!("{}:{}", self.address, self.port)],
            false => i.state.voters().map(|m| format!("{}:{}", m.address, self.port)).collect(),
        };
        answer(200, servers.join(","))
    }

    fn kubectl(&self, body: &str) -> Response {
        let (leader, me, secret, state, fresh, leases) = {
            let i = self.lock();
            let fresh = i.led_since.elapsed() < LEASE && self.member.is_some();
            let leases: Vec<String> =
                i.leases.iter().filter(|(_, t)| t.elapsed() < LEASE).map(|(n, _)| n.clone()).collect();
            (i.leader, self.me(&i.state), i.state.get("peer").to_string(), i.state.clone(), fresh, leases)
        };
        if self.member.is_some() && leader != me {
            return match leader {
                Some(l) => self.at_leader(l, "/peer/kubectl", body, &secret),
                None => answer(500, "Error from server: etcdserver: no leader"),
            };
        }
        let words: Vec<&str> = body.lines().collect();
        match kubectl::answer(&words, &state, &|node| fresh || leases.iter().any(|n| n == node)) {
            Ok((ops, text)) if ops.is_empty() => answer(200, text),
            Ok((ops, text)) => match self.mutate(&ops) {
                Ok(()) => answer(200, text),
                Err(e) => answer(500, format!("Error from server: {e}")),
            },
            Err(e) => answer(400, e),
        }
    }
}
