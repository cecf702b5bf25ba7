//! Downloads, archives, and files that go the other way. The web servers are threads of the test: what is fetched by this
//! machine needs no more than loopback.

use crate::kit::Case;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

tests!(
    one_transfer_for_all_hosts,
    a_wrong_checksum,
    a_broken_transfer_goes_on,
    killed_in_the_middle_of_a_transfer,
    no_checksum,
    for_a_user_who_is_not_root,
    on_this_machine,
    a_file_of_this_machine_written_between_two_tasks,
    the_host_fetches,
    archives_from_here,
    archives_from_elsewhere,
    archives_of_the_host,
    files_come_here,
    small_files_as_values,
    temporary_names,
);

/// A web server of some files. It can be told to break off a file's first transfers after so many bytes, or to stall there.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
    broken: Arc<AtomicUsize>,
    stalls: bool,
}

impl Server {
    fn new(files: &[(&str, &[u8])], break_at: usize, broken: usize, stalls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let files: HashMap<String, Vec<u8>> = files.iter().map(|(n, b)| (format!("/{n}"), b.to_vec())).collect();
        let s = Server { url, requests: Arc::default(), broken: Arc::new(AtomicUsize::new(broken)), stalls };
        let (requests, left) = (s.requests.clone(), s.broken.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, requests, left) = (files.clone(), requests.clone(), left.clone());
                std::thread::spawn(move || serve(stream, &files, &requests, break_at, &left, stalls));
            }
        });
        s
    }
    fn files(files: &[(&str, &[u8])]) -> Self {
        Server::new(files, 0, 0, false)
    }
    /// The requests for a file.
    fn asked(&self, name: &str) -> Vec<String> {
        let all = self.requests.lock().expect("requests");
        all.iter().filter(|r| r.starts_with(&format!("get /{name} "))).cloned().collect()
    }
}

fn serve(
    mut s: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    requests: &Mutex<Vec<String>>,
    break_at: usize,
    broken: &AtomicUsize,
    stalls: bool,
) {
    let mut head = String::new();
    let mut lines = BufReader::new(s.try_clone().expect("a stream"));
    while lines.read_line(&mut head).is_ok_and(|n| n > 2) {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_string();
    requests.lock().expect("requests").push(head.to_ascii_lowercase());
    let Some(all) = files.get(&path) else {
        let _ = s.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let from: usize = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    let status = match from {
        0 => "200 OK".to_string(),
        n => format!("206 Partial Content\r\nContent-Range: bytes {n}-{}/{}", all.len() - 1, all.len()),
    };
    let rest = &all[from..];
    let _ = s.write_all(
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"v1\"\r\nConnection: close\r\n\r\n", rest.len())
            .as_bytes(),
    );
    let breaks = break_at > 0 && broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
    let end = if breaks { break_at.min(rest.len()) } else { rest.len() };
    let _ = s.write_all(&rest[..end]);
    if breaks && stalls {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut x: u32 = 7;
    let mut all = Vec::with_capacity(bytes);
    while all.len() < bytes {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        all.extend(x.to_le_bytes());
    }
    all
}

fn sha(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A case with a cache of its own.
fn cached(c: Case) -> Case {
    let cache = c.path().join("cache").to_string_lossy().into_owned();
    c.env("WINDLASS_CACHE", &cache)
}

fn one_transfer_for_all_hosts() {
    let tool = noise(3 << 20);
    let sums = format!("{}  other\n{}  tool\n", sha(b"other"), sha(&tool));
    let s = Server::files(&[("v1/tool", &tool), ("v1/sums.txt", sums.as_bytes())]);
    let c = cached(Case::nodes(3, "download")).tasks(&format!(
        "
        - name: tool
          get_url: {{url: '{0}/v1/tool', dest: /usr/local/bin/w-tool, mode: '0755', checksum: 'sha256:{0}/v1/sums.txt'}}
        ",
        s.url
    ));
    for n in 1..=3 {
        c.on(n, "rm -f /usr/local/bin/w-tool").succeeds();
    }
    c.plan().changes(3);
    assert_eq!(s.asked("v1/tool").len(), 0, "a plan transfers nothing");
    c.converges(3);
    assert_eq!(s.asked("v1/tool").len(), 1, "three hosts, one transfer");
    for n in 1..=3 {
        c.on(n, "sha256sum /usr/local/bin/w-tool | cut -c1-64; stat -c %a /usr/local/bin/w-tool; ls -A /var/tmp /tmp | grep -c windlass")
            .mentions(&format!("{}\n755\n0", sha(&tool)));
    }
    c.repairs("printf x >> /usr/local/bin/w-tool", 1);
    c.repairs("chmod 644 /usr/local/bin/w-tool", 1);
    c.repairs("rm /usr/local/bin/w-tool", 1);
    assert_eq!(s.asked("v1/tool").len(), 1, "the rest came from the cache");
}

fn a_wrong_checksum() {
    let s = Server::files(&[("tool", b"bad"), ("sums.txt", b"nothing of use\n")]);
    let c = cached(Case::anywhere("wrong-sum"));
    c.on_node("mkdir -p /srv/ws; echo old > /srv/ws/tool").succeeds();
    let tasks = |checksum: &str| {
        format!("- {{name: tool, get_url: {{url: '{}/tool', dest: /srv/ws/tool, checksum: '{checksum}'}}}}", s.url)
    };
    let c = c.tasks(&tasks(&format!("sha256:{}", sha(b"good"))));
    c.apply().exits(1).has(1, "failed").says(&sha(b"good")).says(&sha(b"bad")).says("/tool");
    c.on_node("cat /srv/ws/tool; ls -A /srv/ws").prints("old\ntool");
    let c = c.tasks(&tasks(&format!("sha256:{}/sums.txt", s.url)));
    c.plan().exits(1).says("there is no sha256 in it");
    let c = c.tasks(&tasks(&format!("sha256:{}/none.txt", s.url)));
    c.apply().exits(1).says("status 404").says("none.txt").says("check the version");
}

fn a_broken_transfer_goes_on() {
    let tool = noise(2 << 20);
    let s = Server::new(&[("tool", &tool)], 500_000, 2, false);
    let c = cached(Case::anywhere("resumed")).tasks(&format!(
        "- {{name: tool, get_url: {{url: '{}/tool', dest: /srv/resumed, checksum: 'sha256:{}'}}}}",
        s.url,
        sha(&tool)
    ));
    c.on_node("rm -f /srv/resumed").succeeds();
    c.apply().changed(1);
    c.on_node("sha256sum /srv/resumed | cut -c1-64").prints(&sha(&tool));
    let asked = s.asked("tool");
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[2].contains("range: bytes=1000000-"), "{asked:?}");
}

fn killed_in_the_middle_of_a_transfer() {
    let tool = noise(2 << 20);
    let s = Server::new(&[("tool", &tool)], 600_000, 1, true);
    assert!(s.stalls);
    let c = cached(Case::anywhere("download-kill")).tasks(&format!(
        "- {{name: tool, get_url: {{url: '{}/tool', dest: /srv/dk/tool, checksum: 'sha256:{}'}}}}",
        s.url,
        sha(&tool)
    ));
    c.on_node("rm -rf /srv/dk; mkdir -p /srv/dk").succeeds();
    let mut child = c.spawn("apply", &[]);
    let came = || {
        let cache = fs::read_dir(c.path().join("cache")).into_iter().flatten().flatten();
        cache
            .filter(|e| e.path().extension().is_some_and(|x| x == "part"))
            .any(|e| e.metadata().is_ok_and(|m| m.len() > 500_000))
    };
    for _ in 0..300 {
        if came() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(came(), "half of it is here");
    child.kill().expect("a running apply");
    child.wait().expect("a dead apply");
    c.on_node("ls -A /srv/dk").prints("");
    c.apply().changed(1);
    let asked = s.asked("tool");
    assert!(asked.len() == 2 && asked[1].contains("range: bytes="), "{asked:?}");
    c.on_node("sha256sum /srv/dk/tool | cut -c1-64; ls -A /srv/dk").prints(&format!("{}\ntool", sha(&tool)));
}

fn no_checksum() {
    let s = Server::files(&[("motd", b"hello\n")]);
    let tasks = |force: bool| {
        format!(
            "- {{name: motd, get_url: {{url: '{}/motd', dest: /srv/nc/motd, force: {force}, backup: true}}}}",
            s.url
        )
    };
    let c = cached(Case::anywhere("no-sum")).tasks(&tasks(false));
    c.on_node("rm -rf /srv/nc; mkdir -p /srv/nc").succeeds();
    c.converges(1);
    c.ignores("echo mine > /srv/nc/motd");
    let c = c.tasks(&tasks(true));
    c.plan().has(1, "unknown").says("only an apply fetches");
    c.apply().changed(1);
    c.on_node("cat /srv/nc/motd; cat /srv/nc/motd.*~").prints("hello\nmine");
    c.apply().changed(0);
    // In a folder it is renewed in any case.
    let c = c.tasks(&format!("- {{name: motd, get_url: {{url: '{}/motd', dest: /srv/nc}}}}", s.url));
    c.apply().changed(0);
    c.on_node("echo mine > /srv/nc/motd").succeeds();
    c.apply().changed(1);
    c.on_node("cat /srv/nc/motd").prints("hello");
}

fn for_a_user_who_is_not_root() {
    let tool = noise(9 << 20);
    let s = Server::files(&[("tool", &tool)]);
    let c = cached(Case::anywhere("download-user"));
    c.on_node("id getter >/dev/null 2>&1 || useradd -m getter; rm -f /home/getter/tool").succeeds();
    let c = c.tasks(&format!(
        "
        - name: tool
          become: true
          become_user: getter
          get_url: {{url: '{}/tool', dest: /home/getter/tool, checksum: 'sha256:{}', mode: '0700'}}
        ",
        s.url,
        sha(&tool)
    ));
    c.converges(1);
    c.on_node("sha256sum /home/getter/tool | cut -c1-64; stat -c '%U %a' /home/getter/tool; ls -A /var/tmp | grep -c windlass")
        .prints(&format!("{}\ngetter 700\n0", sha(&tool)));
}

fn on_this_machine() {
    let tool = noise(2 << 20);
    let s = Server::files(&[("tool", &tool)]);
    let c = cached(Case::anywhere("download-here"));
    let dest = c.path().join("got");
    fs::write(c.path().join("near"), "near\n").expect("a file");
    let folder = c.path().display().to_string();
    let c = c.file("hosts.yml", "all: {hosts: {here: {ansible_connection: local}}}\n").tasks(&format!(
        "
        - name: far
          get_url: {{url: '{}/tool', dest: '{dest}', checksum: 'sha256:{}'}}
        - name: near
          get_url: {{url: 'file://{folder}/near', dest: '{dest}.near', force: true}}
        ",
        s.url,
        sha(&tool),
        dest = dest.display(),
    ));
    c.converges(2);
    assert_eq!(sha(&fs::read(&dest).expect("the file")), sha(&tool));
    assert_eq!(fs::read_to_string(dest.with_extension("near")).expect("the file"), "near\n");
    assert_eq!(fs::read(c.path().join("cache").join(cached_name(&c))).expect("the cache").len(), tool.len());
}

fn a_file_of_this_machine_written_between_two_tasks() {
    let c = cached(Case::anywhere("build-here"));
    let folder = c.path().display().to_string();
    let c = c.file("hosts.yml", "all: {hosts: {here: {ansible_connection: local}}}\n").tasks(&format!(
        "
        - name: build
          shell: echo one >{folder}/built
          changed_when: false
        - name: first
          get_url: {{url: 'file://{folder}/built', dest: '{folder}/got', force: true}}
        - name: build again
          shell: echo two >{folder}/built
          changed_when: false
        - name: second
          get_url: {{url: 'file://{folder}/built', dest: '{folder}/got', force: true}}
        "
    ));
    c.apply().changed(2);
    assert_eq!(fs::read_to_string(c.path().join("got")).expect("the file"), "two\n");
}

fn cached_name(c: &Case) -> String {
    let all = fs::read_dir(c.path().join("cache")).expect("the cache").flatten();
    let names: Vec<String> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.into_iter().find(|n| n.ends_with("-tool")).expect("the file in the cache")
}

fn the_host_fetches() {
    // Nodes cannot reach this machine's loopback and have neither curl nor wget: a stand-in for curl copies a file.
    let c = cached(Case::anywhere("via-host")).tasks(&format!(
        "- {{name: tool, get_url: {{url: 'https://mirror.invalid/tool', dest: /srv/vh/tool, via: host, checksum: 'sha256:{}'}}}}",
        sha(b"tool\n")
    ));
    c.on_node("rm -rf /srv/vh /usr/local/bin/curl; mkdir -p /srv/vh").succeeds();
    c.on_node("! command -v curl wget").succeeds();
    c.apply().exits(1).says("neither curl nor wget");
    let fake = |body: &str| {
        c.on_node(&format!(
            "printf '#!/bin/sh\\ngrep -q mirror.invalid/tool && echo {body} >\"$2\"\\n' >/usr/local/bin/curl; chmod +x /usr/local/bin/curl"
        ))
        .succeeds();
    };
    fake("other");
    c.apply().exits(1).says("the checksum differs").says(&sha(b"other\n"));
    c.on_node("ls -A /srv/vh").prints("");
    fake("tool");
    c.converges(1);
    c.on_node("cat /srv/vh/tool; ls -A /srv/vh; rm /usr/local/bin/curl").prints("tool\ntool");
}

/// Packs a small tree in the case's files/.
fn pack(c: &Case, how: &str) {
    let script = format!(
        "mkdir -p tree/bin tree/lib files && printf '#!/bin/sh\\necho run\\n' >tree/bin/run && chmod 755 tree/bin/run && \
         echo data >'tree/lib/a b' && chmod 640 'tree/lib/a b' && ln -sfn run tree/bin/link && head -c 2000000 /dev/urandom >tree/lib/big && {how}"
    );
    let out = Command::new("sh").arg("-c").arg(script).current_dir(c.path()).output().expect("sh");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn archives_from_here() {
    let c = cached(Case::anywhere("unarchive"));
    pack(&c, "tar --owner=0 --group=0 -czf files/x.tgz tree && tar --owner=0 --group=0 -cJf files/x.tar.xz tree");
    let c = c.tasks(
        "
        - name: strip
          unarchive: {src: x.tgz, dest: /srv/ua/one, extra_opts: [--strip-components=1]}
        - name: plain
          unarchive: {src: x.tar.xz, dest: /srv/ua/two, owner: daemon, group: daemon, exclude: ['*/big'], list_files: true}
          register: two
        - name: files
          debug: {msg: '{{two.files}}'}
        - name: later
          file: {path: /srv/ua/two/tree/bin/run, mode: '0755'}
        ",
    );
    c.on_node("rm -rf /srv/ua; mkdir -p /srv/ua/one /srv/ua/two; echo own > /srv/ua/one/own").succeeds();
    c.converges(2);
    c.on_node("cd /srv/ua; one/bin/link; cat 'one/lib/a b' one/own; stat -c '%a %U' one/lib/a* two/tree/bin/run; ls -A one two/tree/lib")
        .prints("run\ndata\nown\n640 root\n755 daemon\none:\nbin\nlib\nown\n\ntwo/tree/lib:\na b");
    c.repairs("echo more >> '/srv/ua/one/lib/a b'", 1);
    c.repairs("rm /srv/ua/two/tree/bin/link", 1);
    c.repairs("touch /srv/ua/one/lib/big", 1);
    c.repairs("chown root /srv/ua/two/tree/bin/run", 1);
    c.repairs("chmod 600 /srv/ua/one/bin/run; mkdir /srv/ua/one/new", 1);
    c.repairs("rm -r /srv/ua/one/lib", 1);
    c.ignores("echo else > /srv/ua/one/own");
}

fn archives_from_elsewhere() {
    let c = cached(Case::anywhere("unarchive-far"));
    pack(&c, "tar --owner=0 --group=0 -czf files/x.tgz tree");
    let s = Server::files(&[("x.tgz", &fs::read(c.path().join("files/x.tgz")).expect("the archive"))]);
    let c = c.tasks(&format!(
        "
        - name: url
          unarchive: {{src: '{}/x.tgz', dest: /srv/uf/one, creates: /srv/uf/one/tree/bin/run}}
        - name: there
          unarchive: {{src: /srv/uf/x.tgz, dest: /srv/uf/two, remote_src: true, include: [tree/bin]}}
        ",
        s.url
    ));
    c.on_node("rm -rf /srv/uf; mkdir -p /srv/uf/one /srv/uf/two").succeeds();
    c.apply().exits(1).says("/srv/uf/x.tgz is no file on the host").has(1, "changed");
    c.on_node("cd /srv/uf && tar -czf x.tgz -C one tree").succeeds();
    c.converges(1);
    c.on_node("cd /srv/uf/two; find . | sort; tree/bin/link")
        .prints(".\n./tree\n./tree/bin\n./tree/bin/link\n./tree/bin/run\nrun");
    c.repairs("rm /srv/uf/two/tree/bin/run", 1);
    c.on_node("echo broken > /srv/uf/x.tgz").succeeds();
    c.apply().exits(1).says("/srv/uf/x.tgz: ");
    assert_eq!(s.asked("x.tgz").len(), 1);
}

fn archives_of_the_host() {
    let c = Case::anywhere("archive").tasks(
        "
        - name: pack
          archive: {path: [/srv/ar/in, '/srv/ar/*.conf'], dest: /srv/ar.tar.xz, format: xz, exclusion_patterns: ['*.log'], mode: '0600'}
        - name: single
          archive: {path: /srv/ar/one.conf, dest: /srv/ar.conf.gz}
        ",
    );
    c.on_node("rm -rf /srv/ar*; mkdir -p /srv/ar/in; cd /srv/ar; echo 1 > one.conf; echo 2 > two.conf; echo 3 > in/f; echo 4 > in/x.log")
        .succeeds();
    // What a script found is not known once a change is planned: the second is known after apply.
    c.plan().has(1, "changed").has(1, "unknown");
    c.apply().changed(2);
    c.is_satisfied();
    c.on_node("tar -tJf /srv/ar.tar.xz | sort; stat -c %a /srv/ar.tar.xz; gzip -dc /srv/ar.conf.gz")
        .prints("./in/\n./in/f\n./one.conf\n./two.conf\n600\n1");
    c.mends("echo 5 > /srv/ar/in/g", 1);
    c.mends("echo x >> /srv/ar.conf.gz; chmod 644 /srv/ar.tar.xz", 2);
    c.mends("echo 6 > /srv/ar/one.conf", 2);
}

fn files_come_here() {
    let c = cached(Case::nodes(2, "fetch")).tasks(
        "
        - name: big
          fetch: {src: /srv/fetch/big, dest: got}
        - name: secret
          become: true
          fetch: {src: /srv/fetch/secret, dest: 'got/{{inventory_hostname}}.txt', flat: true}
        - name: none
          fetch: {src: /srv/fetch/none, dest: got, fail_on_missing: false}
        ",
    );
    for n in 1..=2 {
        c.on(n, "mkdir -p /srv/fetch; cd /srv/fetch; head -c 9000001 /dev/urandom > big; uname -n > secret; chmod 600 secret").succeeds();
    }
    c.converges(4);
    for n in 1..=2 {
        let big = fs::read(c.path().join(format!("got/node{n}/srv/fetch/big"))).expect("the file");
        c.on(n, "sha256sum /srv/fetch/big | cut -c1-64").prints(&sha(&big));
        let small = c.path().join(format!("got/node{n}.txt"));
        c.on(n, "uname -n").prints(fs::read_to_string(&small).expect("the file").trim());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&small).expect("the file").permissions().mode() & 0o777, 0o600);
    }
    c.repairs("echo more >> /srv/fetch/big", 1);
    fs::write(c.path().join("got/node1.txt"), "other").expect("a file");
    c.plan().changes(1);
    c.apply().changed(1);
    let c = c.tasks("- {name: none, fetch: {src: /srv/fetch/none, dest: got}}");
    c.apply().exits(1).has(2, "failed").says("does not exist on the host");
    let left = fs::read_dir(c.path().join("got")).expect("the folder").count();
    assert_eq!(left, 4, "nothing unfinished is left");
}

fn small_files_as_values() {
    let c = Case::anywhere("slurp").tasks(
        "
        - {name: read, slurp: {src: /srv/slurp}, register: it}
        - name: right
          assert: {that: [eq it.content \"aGkK\", eq it.encoding \"base64\", eq it.source \"/srv/slurp\"]}
        ",
    );
    c.on_node("echo hi > /srv/slurp").succeeds();
    c.apply().changed(0).ended("right", "satisfied");
    c.on_node("head -c 1100000 /dev/zero > /srv/slurp").succeeds();
    c.apply().exits(1).says("at most 1048576").says("`fetch` brings");
    c.on_node("rm /srv/slurp").succeeds();
    c.apply().exits(1).says("/srv/slurp does not exist");
}

fn temporary_names() {
    let c = Case::anywhere("tempfile").tasks(
        "
        - {name: file, tempfile: {path: /srv/tmpf, suffix: .conf}, register: f}
        - {name: folder, tempfile: {path: /srv/tmpf, state: directory, prefix: 'w-'}, register: d}
        - {name: use, copy: {content: x, dest: '{{d.path}}/x'}}
        - {name: gone, file: {path: '{{f.path}}', state: absent}}
        ",
    );
    c.on_node("rm -rf /srv/tmpf; mkdir /srv/tmpf").succeeds();
    c.plan().changes(4);
    c.on_node("ls -A /srv/tmpf").prints("");
    c.apply().changed(4);
    c.apply().changed(4);
    c.on_node("cd /srv/tmpf; ls -A | wc -l; stat -c %a w-* | sort -u; cat w-*/x").prints("2\n700\nxx");
}
