//! What the verbs print that contact no host: variables, reasons, findings as data, pages; and facts of this machine.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const FILES: &[(&str, &str)] = &[
    (
        "hosts.yml",
        "all:
  vars: {colour: red, ansible_connection: local}
  hosts: {alone: {}}
  children:
    web:
      hosts:
        web1: {number: 1, colour: blue}
        web2: {number: 2}
      vars: {colour: green, port: 80}
",
    ),
    ("group_vars/all.yml", "greeting: \"hello {{inventory_hostname}}\"\nlist: [a, {b: c}]\n"),
    ("roles/web/defaults/main.yml", "port: 8080\nworkers: 4\nsites: [one, two]\n"),
    ("roles/web/vars/main.yml", "port_text: \"port {{port}}\"\n"),
    (
        "roles/web/meta/main.yml",
        "arguments:
  - {name: port, type: int, required: true, description: The port it listens on.}
  - {name: mode, choices: [strict, lax], default: lax, description: How much it forgives.}
  - name: pages
    type: list
    elements: dict
    options:
      name: {type: str, required: true}
",
    ),
    ("roles/web/README.md", "# web\n\nServes pages on a port. And more.\n"),
    (
        "roles/web/tasks/main.yml",
        "- name: Look
  command: cat /etc/web
  register: seen
  changed_when: false
- name: Configure
  copy: {content: \"{{port_text}}\", dest: /etc/web}
  when: [eq colour \"blue\", ne seen.stdout \"done\"]
  notify: restart
  lock: web
- name: Only red
  debug: {msg: \"{{greeting}}\"}
  when: eq colour \"red\"
- name: Rarely
  debug: {msg: x}
  tags: [never, rare]
- name: Guarded
  block:
    - {name: Try, command: 'true', changed_when: false}
  rescue:
    - {name: Mend, debug: {msg: x}}
- name: Once
  command: 'true'
  run_once: true
",
    ),
    ("roles/web/handlers/main.yml", "- {name: restart, command: 'true', budget: web}\n"),
    (
        "site.yml",
        "- phase: prepare
  hosts: all
  tasks:
    - {name: Ready, debug: {msg: x}}
- phase: serve
  hosts: web
  serial: 1
  budgets: {web: {hosts: web, size: quorum}}
  roles: [{role: web, vars: {workers: 8}}]
",
    ),
];

fn project() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// What a verb prints, and its exit code.
fn run(dir: &Path, args: &[&str]) -> String {
    let mut c = Command::new(env!("CARGO_BIN_EXE_windlass"));
    c.current_dir(dir).env_clear().env("HOME", dir).env("NO_COLOR", "1").env("PATH", std::env::var("PATH").unwrap());
    let out = c.args(args).stdin(Stdio::null()).output().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).replace(&format!("{}/", dir.display()), "");
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    let code = out.status.code().unwrap();
    let ended = if code == 0 { String::new() } else { format!("exit code {code}\n") };
    format!("{stdout}{stderr}{ended}")
}

fn each(commands: &[&str]) -> String {
    let dir = project();
    let one = |c: &&str| {
        // A word with blanks has `~` for them.
        let words: Vec<String> = c.split(' ').map(|w| w.replace('~', " ")).collect();
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        format!("$ windlass {c}\n{}\n", run(dir.path(), &args))
    };
    commands.iter().map(one).collect()
}

fn snapshot(name: &str, text: String) {
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn vars() {
    let said = each(&[
        "vars web1 -i hosts.yml",
        "vars web1 colour -i hosts.yml -p site.yml",
        "vars web2 port -i hosts.yml -p site.yml --task Configure",
        "vars web2 port_text -i hosts.yml -p site.yml",
        "vars web2 workers -i hosts.yml -p site.yml --task Configure",
        "vars alone list -i hosts.yml -e list=x",
        "vars web1 seen -i hosts.yml -p site.yml",
        "vars web1 group_names -i hosts.yml",
        "vars web1 coluor -i hosts.yml",
        "vars web3 colour -i hosts.yml",
        "vars web2 colour -i hosts.yml --format json",
    ]);
    snapshot("vars", said);
}

#[test]
fn why() {
    let said = each(&[
        "why web1 Configure -i hosts.yml -p site.yml",
        "why web2 Configure -i hosts.yml -p site.yml",
        "why web1 web~:~Only~red -i hosts.yml -p site.yml",
        "why alone Configure -i hosts.yml -p site.yml",
        "why web1 Rarely -i hosts.yml -p site.yml",
        "why web1 Rarely -i hosts.yml -p site.yml --tags rare",
        "why web1 Mend -i hosts.yml -p site.yml",
        "why web1 restart -i hosts.yml -p site.yml",
        "why web2 Once -i hosts.yml -p site.yml",
        "why web1 roles/web/tasks/main.yml:1 -i hosts.yml -p site.yml",
        "why web2 Look -i hosts.yml -p site.yml -l web1",
        "why web1 Confgure -i hosts.yml -p site.yml",
        "why web1 Look -i hosts.yml -p site.yml --format json",
    ]);
    snapshot("why", said);
}

#[test]
fn a_secret_is_not_shown_by_either() {
    let dir = project();
    let site = "- hosts: web\n  vars_files: [vault.yml.age]\n  tasks:\n    - {name: Use, debug: {msg: x}, when: eq password \"hunter2\"}\n";
    std::fs::write(dir.path().join("site.yml"), site).unwrap();
    let public = windlass::vault::keygen(&dir.path().join("key.txt")).unwrap();
    let to = windlass::vault::Recipients::new([windlass::vault::Recipient::parse(&public).unwrap()]).unwrap();
    let text = windlass::vault::encrypt_value("password: hunter2\nshort: ab\ncolour: secret-red\n", &to).unwrap();
    std::fs::write(dir.path().join("vault.yml.age"), text).unwrap();
    for args in [
        "vars web1 password",
        "vars web1",
        "vars web1 short",
        "vars web1 colour",
        "why web1 Use",
        "vars web1 --format json",
    ] {
        let mut all: Vec<&str> = args.split(' ').collect();
        all.extend(["-i", "hosts.yml", "-p", "site.yml", "--identity", "key.txt"]);
        let said = run(dir.path(), &all);
        assert!(!said.contains("hunter2") && !said.contains("secret-red") && !said.contains("ab\n"), "{args}: {said}");
        assert!(said.contains("[redacted]"), "{args}: {said}");
    }
}

/// What is too long is cut; a secret is taken out before.
#[test]
fn the_beginning_of_a_long_secret_is_not_shown() {
    let dir = project();
    let d = dir.path();
    let secret = format!("LONGSECRET-{}", "aB3x".repeat(25));
    let public = windlass::vault::keygen(&d.join("key.txt")).unwrap();
    let to = windlass::vault::Recipients::new([windlass::vault::Recipient::parse(&public).unwrap()]).unwrap();
    let value = |text: &str| windlass::vault::encrypt_value(text, &to).unwrap().trim_end().replace('\n', "\n    ");
    let site = format!(
        "- hosts: web\n  vars:\n    long: !age |\n      {}\n  roles: [keeper]\n  tasks:\n    - {{name: Use, debug: {{msg: x}}, when: eq long \"b\"}}\n",
        value(&secret).replace("\n    ", "\n      ")
    );
    std::fs::write(d.join("site.yml"), site).unwrap();
    std::fs::create_dir_all(d.join("roles/keeper/defaults")).unwrap();
    std::fs::create_dir_all(d.join("roles/keeper/tasks")).unwrap();
    let words = format!("{} LONGSECRET {}", "first ".repeat(9), "last ".repeat(9));
    let defaults = format!("kept: !age |\n    {}\nwords: !age |\n    {}\n", value(&secret), value(words.trim()));
    std::fs::write(d.join("roles/keeper/defaults/main.yml"), defaults).unwrap();
    std::fs::write(d.join("roles/keeper/tasks/main.yml"), "- debug: {msg: \"{{words}}\"}\n").unwrap();
    std::fs::create_dir_all(d.join("roles/keeper/meta")).unwrap();
    std::fs::write(
        d.join("roles/keeper/meta/main.yml"),
        "arguments:\n  - {name: words, type: str, default: \"x\"}\n".replace("\"x\"", &format!("\"{}\"", words.trim())),
    )
    .unwrap();
    for args in ["vars web1 -p site.yml", "vars web1 long -p site.yml", "why web1 Use -p site.yml", "roles keeper"] {
        let mut all: Vec<&str> = args.split(' ').collect();
        if !args.starts_with("roles") {
            all.extend(["-i", "hosts.yml"]);
        }
        all.extend(["--identity", "key.txt"]);
        let said = run(d, &all);
        assert!(!said.contains("LONGSECRET") && said.contains("[redacted]"), "{args}: {said}");
    }
    for wrong in ["int long", "float long", "add long 1", "bool long", "gt long (dict \"a\" 1)", "int (list long long)"]
    {
        let tasks = format!("  tasks:\n    - debug: {{msg: '{{{{{wrong}}}}}'}}\n");
        let head = std::fs::read_to_string(d.join("site.yml")).unwrap();
        let head = head.split("  roles:").next().unwrap().to_string();
        std::fs::write(d.join("wrong.yml"), head + &tasks).unwrap();
        let said = run(d, &["check", "wrong.yml", "-i", "hosts.yml", "--identity", "key.txt"]);
        assert!(!said.contains("LONGSECRET") && said.contains("exit code 3"), "{wrong}: {said}");
    }
}

/// A source line that is too long is cut around its mistake.
#[test]
fn a_cut_source_line_shows_no_half_of_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    std::fs::write(d.join("site.yml"), "- hosts: w\n  tasks: [{debug: {msg: x}}]\n").unwrap();
    let password = format!("LONG{}", "aB3x".repeat(60));
    for vars in [
        format!("ansible_port: x, ansible_password: {password}"),
        format!("ansible_password: {password}, ansible_port: x"),
    ] {
        std::fs::write(d.join("hosts.yml"), format!("all: {{hosts: {{w: {{{vars}}}}}}}\n")).unwrap();
        let said = run(d, &["check", "site.yml", "-i", "hosts.yml"]);
        assert!(said.contains("is not a port") && said.contains("[redacted]") && !said.contains("aB3x"), "{said}");
    }
}

#[test]
fn an_inventory_is_shown_without_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    std::fs::create_dir(d.join("group_vars")).unwrap();
    std::fs::write(
        d.join("hosts.yml"),
        "all:\n  hosts:\n    web1: {ansible_password: Tr0ub4dor, ansible_port: 2222, note: 'pw is Tr0ub4dor'}\n    web2: {ansible_become_pass: 123456, ansible_ssh_pass: abc, ansible_sudo_pass: '{{theirs}}'}\n",
    )
    .unwrap();
    std::fs::write(d.join("group_vars/all.yml"), "theirs: corr3ct-horse\ncount: 123456\n").unwrap();
    for args in ["--list", "--host web1", "--host web2", "--graph --vars", "--vars"] {
        let args: Vec<&str> = ["inventory", "-i", "hosts.yml"].into_iter().chain(args.split(' ')).collect();
        let said = run(d, &args);
        for secret in ["Tr0ub4dor", "123456", "abc", "corr3ct-horse"] {
            assert!(!said.contains(secret), "{args:?}: {said}");
        }
        assert!(said.contains("[redacted]"), "{args:?}: {said}");
        if !said.contains("@all") {
            serde_json::from_str::<serde_json::Value>(&said).unwrap();
        }
    }
    assert!(run(d, &["inventory", "-i", "hosts.yml", "--host", "web1"]).contains("2222"));
}

#[test]
fn findings_as_data() {
    let dir = project();
    let bad = "- phase: a\n  hosts: wbe\n  tasks:\n    - copyy: {src: a}\n    - debug: {msg: \"{{colou}}\"}\n";
    std::fs::write(dir.path().join("bad.yml"), bad).unwrap();
    let said = run(dir.path(), &["check", "site.yml", "bad.yml", "-i", "hosts.yml", "--format", "json"]);
    let json: Value = serde_json::from_str(said.trim_end_matches("exit code 3\n")).unwrap();
    assert_eq!(json["errors"], 2, "{said}");
    let places: Vec<(u64, u64)> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["line"].as_u64().unwrap(), f["column"].as_u64().unwrap()))
        .collect();
    assert!(places.is_sorted(), "{said}");
    snapshot("findings", said);
    // The same findings as text, and both playbooks named.
    let text = run(dir.path(), &["check", "site.yml", "bad.yml", "-i", "hosts.yml"]);
    assert!(text.contains("site.yml: fine") && text.contains("2 errors") && text.contains("exit code 3"), "{text}");
}

#[test]
fn without_a_name_all_playbooks_are_checked() {
    let dir = project();
    assert!(run(dir.path(), &["check", "-i", "hosts.yml"]).contains("there is no playbook in playbooks/"));
    std::fs::create_dir(dir.path().join("playbooks")).unwrap();
    for name in ["one", "two"] {
        let text = "- hosts: web\n  budgets: {web: {hosts: web}}\n  roles: [web]\n";
        std::fs::write(dir.path().join(format!("playbooks/{name}.yml")), text).unwrap();
    }
    let fine = run(dir.path(), &["check", "-i", "hosts.yml"]);
    assert!(fine.contains("playbooks/one.yml: fine") && fine.contains("playbooks/two.yml: fine"), "{fine}");
    // A mistake in a role that both use is one.
    std::fs::write(dir.path().join("roles/web/tasks/main.yml"), "- debg: {msg: x}\n").unwrap();
    let wrong = run(dir.path(), &["check", "-i", "hosts.yml"]);
    assert!(wrong.contains("1 error;") && wrong.contains("exit code 3"), "{wrong}");
}

#[test]
fn pages() {
    let said = each(&[
        "modules stat",
        "modules command",
        "modules coppy",
        "roles",
        "roles web",
        "roles wbe",
        "schema playbok",
        "schema nothing",
    ]);
    snapshot("pages", said);
}

#[test]
fn every_module_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let list = run(dir.path(), &["modules"]);
    for m in windlass::modules::MODULES {
        assert!(list.lines().any(|l| l.trim_start().starts_with(&format!("{} ", m.name))), "{}", m.name);
        assert!(!run(dir.path(), &["modules", m.name]).contains("\nexit code"), "{}", m.name);
    }
}

#[test]
fn the_shell_and_the_manual() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = run(dir.path(), &["completions", shell]);
        assert!(text.contains("windlass") && text.contains("apply") && text.contains("why"), "{shell}");
    }
    let bash = run(dir.path(), &["completions", "bash"]);
    std::fs::write(dir.path().join("c.bash"), bash).unwrap();
    let ok = Command::new("bash").arg("-n").arg(dir.path().join("c.bash")).status().unwrap();
    assert!(ok.success());
    let page = run(dir.path(), &["man"]);
    assert!(page.contains(".TH windlass 1") && page.contains("apply"), "{page}");
    run(dir.path(), &["man", "-o", "pages"]);
    for name in ["windlass", "windlass-apply", "windlass-why", "windlass-vault"] {
        let text = std::fs::read_to_string(dir.path().join(format!("pages/{name}.1"))).unwrap();
        assert!(text.contains(".SH"), "{name}");
    }
    run(dir.path(), &["schema", "-o", "schemas"]);
    let text = std::fs::read_to_string(dir.path().join("schemas/playbook.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["title"], "Windlass: a playbook");
}

#[test]
fn facts_of_this_machine() {
    let dir = project();
    let facts = |more: &[&str]| {
        let text = run(dir.path(), &[&["facts", "web1", "-i", "hosts.yml", "--format", "json"], more].concat());
        serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let all = facts(&[]);
    let uname = |flag: &str| {
        let out = Command::new("uname").arg(flag).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_string()
    };
    assert_eq!((&all["web1"]["kernel"], &all["web1"]["arch"]), (&uname("-r").into(), &uname("-m").into()));
    assert!(all["web1"]["memory"]["total_mb"].as_u64().unwrap() > 100);
    assert!(all["web1"]["mounts"].is_array() && all["web1"]["interfaces"].is_object());
    let few = facts(&["--only", "os,memory"]);
    assert_eq!(few["web1"].as_object().unwrap().keys().collect::<Vec<_>>(), ["os", "memory"]);
    let ansible = facts(&["--ansible", "--only", "os_family,distribution_version,processor_vcpus,default_ipv4"]);
    assert_eq!(ansible["web1"].as_object().unwrap().len(), 4, "{ansible}");
    let yaml = run(dir.path(), &["facts", "web1", "-i", "hosts.yml", "--only", "os"]);
    assert!(yaml.starts_with("web1:\n  os:\n    id: "), "{yaml}");
    assert!(
        run(dir.path(), &["facts", "web1", "-i", "hosts.yml", "--only", "memroy"]).contains("did you mean `memory`?")
    );
}

/// Ansible's names work wherever a variable does.
#[test]
fn facts_under_ansible_names_in_a_playbook() {
    let dir = project();
    let play = "- hosts: web1
  tasks:
    - assert:
        that:
          - eq ansible_facts.kernel facts.kernel
          - eq ansible_kernel facts.kernel
          - eq ansible_default_ipv4.address (default facts.default_ipv4.address '')
          - eq ansible_env.HOME facts.env.HOME
          - gt ansible_memtotal_mb 10
          - eq ansible_facts.os.id facts.os.id
    - debug: {msg: \"{{ansible_distribution}} {{ansible_date_time.iso8601}}\"}
      when: ne ansible_os_family \"Windows\"
";
    std::fs::write(dir.path().join("play.yml"), play).unwrap();
    let said = run(dir.path(), &["apply", "play.yml", "-i", "hosts.yml"]);
    assert!(!said.contains("exit code"), "{said}");
    std::fs::write(
        dir.path().join("play.yml"),
        "- hosts: web1\n  tasks:\n    - debug: {msg: \"{{ansible_distributon}}\"}\n",
    )
    .unwrap();
    let said = run(dir.path(), &["check", "play.yml", "-i", "hosts.yml"]);
    assert!(said.contains("did you mean `ansible_distribution`?"), "{said}");
}

/// A host whose part comes later may not be there yet when its facts are read: it is not lost for that.
#[test]
fn facts_of_a_host_that_is_not_there_yet() {
    let dir = project();
    std::fs::write(
        dir.path().join("two.yml"),
        "all:\n  hosts:\n    here: {ansible_connection: local}\n    ghost: {ansible_host: 127.0.0.1, ansible_port: 1}\n",
    )
    .unwrap();
    let play = "- phase: one
  hosts: here
  tasks:
    - {name: read, debug: {msg: \"{{default hostvars.ghost.facts.kernel 'not there'}}\"}}
- phase: two
  hosts: all
  tasks:
    - {name: own, debug: {msg: \"{{facts.os.id}}\"}}
";
    std::fs::write(dir.path().join("play.yml"), play).unwrap();
    let said = run(dir.path(), &["apply", "play.yml", "-i", "two.yml", "-v"]);
    assert!(said.contains("not there") && said.contains("exit code 4"), "{said}");
    let unreached = said.lines().position(|l| l.contains("UNREACHABLE") || l.contains("unreachable"));
    assert!(unreached > said.lines().position(|l| l.contains("not there")), "{said}");
}

#[test]
fn a_run_begins_where_it_is_told_to() {
    let dir = project();
    let play = "- phase: one
  hosts: web1
  tasks:
    - {name: First, shell: echo first >> log, id: first}
    - {name: Second, shell: echo second >> log, notify: handle}
    - {name: Third, shell: echo third >> log, needs: [first]}
  handlers:
    - {name: handle, shell: echo handled >> log}
- phase: two
  hosts: web1
  tasks:
    - {name: Fourth, shell: echo fourth >> log}
";
    std::fs::write(dir.path().join("play.yml"), play).unwrap();
    for (from, wanted) in [
        ("Second", "second\nthird\nhandled\nfourth\n"),
        ("play.yml:6", "third\nfourth\n"),
        ("Fourth", "fourth\n"),
        ("first", "first\nsecond\nthird\nhandled\nfourth\n"),
    ] {
        let _ = std::fs::remove_file(dir.path().join("log"));
        let said = run(dir.path(), &["apply", "play.yml", "-i", "hosts.yml", "--start-at", from]);
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().collect();
        let mut expected: Vec<&str> = wanted.lines().collect();
        // The third waits for the first alone: where that is there, it may come before the second.
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{from}: {said}");
    }
    let said = run(dir.path(), &["plan", "play.yml", "-i", "hosts.yml", "--start-at", "Secnd"]);
    assert!(said.contains("did you mean `Second`?") && said.contains("no host was contacted"), "{said}");
}

/// What is shown on a terminal where this is typed (`script` gives it one).
fn typed(dir: &Path, command: &str, keys: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("script")
        .args(["-qec", &format!("{} {command}", env!("CARGO_BIN_EXE_windlass")), "/dev/null"])
        .current_dir(dir)
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(keys.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout).replace('\r', "")
}

#[test]
fn a_person_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("hosts.yml", "all: {hosts: {here: {ansible_connection: local}}}\n");
    let at = dir.path().display();
    let play = format!(
        "- hosts: all\n  tasks:\n    - {{name: First, copy: {{content: \"new\\n\", dest: {at}/a}}}}\n    - {{name: Second, copy: {{content: x, dest: {at}/b}}}}\n    - {{name: Ask, pause: {{prompt: Go on}}, register: p}}\n    - {{name: Third, copy: {{content: \"{{{{p.user_input}}}}\", dest: {at}/c}}}}\n"
    );
    write("play.yml", &play);
    let said = typed(dir.path(), "apply play.yml -i hosts.yml --step", "y\nn\nof course\nc\n");
    assert!(said.contains("asks      here  First, ") && said.contains("+new"), "{said}");
    assert!(said.contains("do it? [y]es, [N]o") && said.contains("asks      here  Go on"), "{said}");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
    assert_eq!(
        (read("a").as_deref(), read("b"), read("c").as_deref()),
        (Some("new\n"), None, Some("of course")),
        "{said}"
    );
    let refused = run(dir.path(), &["apply", "play.yml", "-i", "hosts.yml", "--step"]);
    assert!(refused.contains("--step asks at the terminal, and there is none"), "{refused}");
    let plan = run(dir.path(), &["plan", "play.yml", "-i", "hosts.yml"]);
    assert!(!plan.contains("asks  "), "{plan}");
}

/// The same, each answer typed once its question is there.
fn talked(dir: &Path, command: &str, talk: &[(&str, &str)]) -> String {
    use std::io::{Read, Write};
    let mut child = Command::new("timeout")
        .args(["60", "script", "-qec", &format!("{} {command}", env!("CARGO_BIN_EXE_windlass")), "/dev/null"])
        .current_dir(dir)
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut said, mut seen, mut some) = (String::new(), 0, [0; 4096]);
    for (question, keys) in talk {
        while !said[seen..].contains(question) {
            let n = from.read(&mut some).unwrap();
            assert!(n > 0, "`{question}` is not asked: {said}");
            said += &String::from_utf8_lossy(&some[..n]);
        }
        seen = said.len();
        // Whoever hides what is typed has to have begun with it.
        std::thread::sleep(std::time::Duration::from_millis(300));
        to.write_all(keys.as_bytes()).unwrap();
    }
    from.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said.replace('\r', "")
}

#[test]
fn a_playbooks_own_questions() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("hosts.yml", "all: {hosts: {here: {ansible_connection: local}}}\n");
    let at = dir.path().display();
    write(
        "play.yml",
        &format!(
            "- hosts: all
  vars_prompt:
    - {{name: who, prompt: Who is it, private: false}}
    - {{name: size, prompt: How large, private: false, default: '7'}}
    - {{name: word, prompt: The word}}
  tasks:
    - {{name: Write, copy: {{content: \"{{{{who}}}} {{{{size}}}} {{{{word}}}}\", dest: {at}/a}}}}
    - {{name: Tell, debug: {{msg: \"it is {{{{word}}}}\"}}}}
"
        ),
    );
    let talk = [("Who is it", "anna\n"), ("How large", "\n"), ("The word", "hunter2\n")];
    let said = talked(dir.path(), "apply play.yml -i hosts.yml", &talk);
    assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "anna 7 hunter2", "{said}");
    // What is typed is seen, but for what is private, which is hidden afterwards, too.
    assert!(said.contains("anna") && !said.contains("hunter2") && said.contains("it is [redacted]"), "{said}");
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("hosts.yml", "all: {hosts: {h1: {ansible_connection: local}}}\n");
    write("roles/web/defaults/main.yml", "web_port: 80\n");
    write("roles/web/tasks/main.yml", "- debug: {msg: \"{{web_port}} {{web_porch}}\", verbosity: 1}\n  tags: serve\n");
    write(
        "site.yml",
        "- hosts: h1
  roles: [{role: web, vars: {web_prot: 1, web_porch: 2}}]
  handlers: [{name: restart web, debug: {msg: x}}]
",
    );
    let said = run(dir.path(), &["check", "site.yml", "-i", "hosts.yml"]);
    assert!(said.contains("nothing in the role `web` asks for `web_prot`"), "{said}");
    assert!(said.contains("nothing notifies the handler `restart web`"), "{said}");
    assert!(!said.contains("web_porch`") && !said.contains("error"), "{said}");
    let said = run(dir.path(), &["plan", "site.yml", "-i", "hosts.yml", "--skip-tags", "srve"]);
    assert!(said.contains("--skip-tags srve: no task has this tag"), "{said}");
}

/// Facts that another host reads are asked for by no task: none is named where the host cannot be reached.
#[test]
fn a_host_that_cannot_tell_its_facts() {
    let dir = project();
    std::fs::write(
        dir.path().join("two.yml"),
        "all:\n  hosts:\n    here: {ansible_connection: local}\n    ghost: {ansible_host: 127.0.0.1, ansible_port: 1}\n",
    )
    .unwrap();
    let play = "- hosts: all\n  tasks:\n    - debug: {msg: \"{{hostvars.here.facts.kernel}}\"}\n";
    std::fs::write(dir.path().join("play.yml"), play).unwrap();
    let said = run(dir.path(), &["apply", "play.yml", "-i", "two.yml"]);
    assert!(said.contains("UNREACHED ghost  127.0.0.1:1") && said.contains("exit code 4"), "{said}");
    assert!(!said.contains("()"), "{said}");
}

/// A project of a phase for all hosts with these tasks, and files beside it.
fn small(tasks: &str, files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let hosts = "all:\n  vars: {what: a_port}\n  hosts: {d1: {}, d2: {db_ip: 10.0.0.2, a_port: 80}}\n";
    let book = format!("- hosts: d1\n  gather_facts: false\n  tasks:\n{tasks}");
    for (name, text) in [("hosts.yml", hosts), ("site.yml", &book)].iter().chain(files) {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

#[test]
fn a_check_makes_no_password() {
    let tasks = "    - copy: {dest: /tmp/x, content: \"{{password 'secrets/pw' length=12}}\"}
    - template: {src: y.j2, dest: /tmp/y}
    - debug: {msg: \"{{password 'secrets/hash' encrypt='sha256_crypt'}}\"}
";
    let dir = small(tasks, &[("templates/y.j2", "{{ lookup('password', 'secrets/other length=8') }}\n")]);
    let said = run(dir.path(), &["check", "site.yml", "-i", "hosts.yml"]);
    assert!(!said.contains("exit code"), "{said}");
    assert!(!dir.path().join("secrets").exists(), "{said}");
}

/// A key that is made of values can be any: nothing that is there is taken for missing.
#[test]
fn what_is_taken_out_of_hostvars_may_be_named_by_a_value() {
    let good = [
        "{{ hostvars['d2']['db' ~ '_ip'] }}",
        "{{ hostvars['d2'][what] }}",
        "{% for h in groups.all if what in hostvars[h] %}{{ hostvars[h][what] + 1 }}{% else %}{{ nope }}{% endfor %}",
        "{% if hostvars['d2'] | length < 2 %}{{ nope }}{% endif %}",
        "{% if 'db_ip' not in hostvars['d2'].keys() %}{{ nope }}{% endif %}",
        "{% if hostvars['d2'][what] is not defined %}{{ nope }}{% endif %}",
        "{% set d2 = hostvars.d2 %}{{ d2[what] | default(nope) }}",
        "{{ hostvars.values() | map(attribute=what, default=1) | sum / (1 if groups.all | length == 2 else nope) }}",
    ];
    for text in good {
        let dir = small("    - template: {src: y.j2, dest: /tmp/y}\n", &[("templates/y.j2", text)]);
        let said = run(dir.path(), &["check", "site.yml", "-i", "hosts.yml"]);
        // What is undefined stands in each where it is not to be reached.
        assert!(!said.contains("exit code"), "{text}\n{said}");
    }
    let text = "{{ nope if hostvars['d2'][what] == 80 else 1 }}";
    let dir = small("    - template: {src: y.j2, dest: /tmp/y}\n", &[("templates/y.j2", text)]);
    let said = run(dir.path(), &["check", "site.yml", "-i", "hosts.yml"]);
    assert!(said.contains("`nope`"), "{said}");
    let dir = small("", &[("group_vars/all.yml", "direct: \"{{lookup (lookup hostvars 'd2') what}}\"\n")]);
    let said = run(dir.path(), &["vars", "d1", "direct", "-i", "hosts.yml"]);
    assert!(said.contains("80"), "{said}");
    for text in [
        "{{lookup (lookup hostvars 'd2') what}}",
        "{{lookup hostvars.d2 (concat 'db' '_ip')}}",
        "{{#unless (in what (lookup hostvars 'd2'))}}{{lookup hostvars.d1 'a_port'}}{{/unless}}",
        "{{add 1 (lookup (lookup hostvars 'd2') what)}}",
    ] {
        let dir = small("    - template: {src: y.hbs, dest: /tmp/y}\n", &[("templates/y.hbs", text)]);
        let said = run(dir.path(), &["check", "site.yml", "-i", "hosts.yml"]);
        assert!(!said.contains("exit code"), "{text}\n{said}");
    }
}
