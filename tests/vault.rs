//! The vault's verbs as a person uses them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn windlass(dir: &Path, args: &[&str], stdin: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(args)
        .current_dir(dir)
        .env("EDITOR", "sed -i s/correct/better/")
        .env_remove("VISUAL")
        .env_remove("WINDLASS_IDENTITY")
        .env_remove("WINDLASS_IDENTITY_FILE")
        .env("XDG_CONFIG_HOME", dir)
        .env("HOME", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses at once does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(o: &Output) -> String {
    assert!(o.status.success(), "{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    String::from_utf8(o.stdout.clone()).unwrap()
}

#[test]
fn a_file_is_encrypted_viewed_edited_and_decrypted() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    // Without a path the key goes where it is looked for.
    assert!(out(&windlass(d, &["vault", "keygen"], "")).starts_with("age1"));
    let key = d.join("windlass/identity.txt");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(d.join("v.yml"), "db_password: correct-horse\n").unwrap();
    out(&windlass(d, &["vault", "encrypt", "v.yml"], ""));
    assert!(!d.join("v.yml").exists());
    assert!(!std::fs::read_to_string(d.join("v.yml.age")).unwrap().contains("horse"));
    assert_eq!(out(&windlass(d, &["vault", "view", "v.yml.age"], "")), "db_password: correct-horse\n");
    out(&windlass(d, &["vault", "edit", "v.yml.age"], ""));
    out(&windlass(d, &["vault", "decrypt", "v.yml.age"], ""));
    assert_eq!(std::fs::read_to_string(d.join("v.yml")).unwrap(), "db_password: better-horse\n");
    assert!(!d.join("v.yml.age").exists());
    let again = windlass(d, &["vault", "keygen"], "");
    assert_eq!(again.status.code(), Some(3));
}

#[test]
fn a_value_is_encrypted_for_a_playbook_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    out(&windlass(d, &["vault", "keygen"], ""));
    let block = out(&windlass(d, &["vault", "encrypt-value"], "correct-horse\n"));
    assert!(block.starts_with("!age |\n  -----BEGIN AGE"), "{block}");
    let value = block.trim_end().replace('\n', "\n    ");
    let tasks = "  tasks:\n    - {name: long, debug: {msg: \"{{length pw}}\"}}\n    - {name: shown, debug: {msg: \"pw {{pw}}\"}}\n";
    std::fs::write(d.join("site.yml"), format!("- phase: p\n  hosts: localhost\n  vars:\n    pw: {value}\n{tasks}"))
        .unwrap();
    let text = out(&windlass(d, &["apply", "site.yml", "-i", "localhost,"], ""));
    assert!(text.contains("\n            13\n") && text.contains("pw [redacted]"), "{text}");
    let logs: Vec<_> = std::fs::read_dir(d.join("logs")).unwrap().flatten().collect();
    assert_eq!(logs.len(), 1);
    assert!(!std::fs::read_to_string(logs[0].path()).unwrap().contains("correct-horse"));
}

/// A project with two people's keys and a rule for each environment; the identity in use is anna's.
struct Project {
    dir: tempfile::TempDir,
    anna: String,
    ben: String,
}

impl Project {
    fn new() -> Project {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let anna = out(&windlass(d, &["vault", "keygen"], "")).trim().to_string();
        let ben = out(&windlass(d, &["vault", "keygen", "ben.txt"], "")).trim().to_string();
        let p = Project { dir, anna, ben };
        p.rules(&format!(
            "vault:\n  keys:\n    anna: {}\n    ben: {}\n  recipients:\n    - {{path: \"prod/**\", to: [anna]}}\n    - {{path: \"staging/**\", to: [anna, ben]}}\n",
            p.anna, p.ben
        ));
        p
    }
    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
    fn rules(&self, text: &str) {
        self.file("windlass.yml", text);
    }
    fn file(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        std::fs::write(self.at(name), text).unwrap();
    }
    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap()
    }
    fn run(&self, line: &str, stdin: &str) -> Output {
        let line = line.replace("@ANNA", &self.anna).replace("@BEN", &self.ben);
        let args: Vec<&str> = ["vault"].into_iter().chain(line.split_whitespace()).collect();
        windlass(self.dir.path(), &args, stdin)
    }
    fn fine(&self, line: &str, stdin: &str) -> String {
        out(&self.run(line, stdin))
    }
    /// What a command says, without what differs from run to run.
    fn said(&self, line: &str, stdin: &str) -> String {
        let o = self.run(line, stdin);
        let dir = self.dir.path().canonicalize().unwrap();
        let text = format!(
            "$ windlass vault {line}\n{}{}[{}]\n\n",
            String::from_utf8_lossy(&o.stdout),
            String::from_utf8_lossy(&o.stderr),
            o.status.code().unwrap()
        );
        let text = text.replace(&self.anna, "@ANNA").replace(&self.ben, "@BEN");
        let mut text =
            text.replace(&format!("{}/", dir.display()), "").replace(&format!("{}/", self.dir.path().display()), "");
        // Other keys.
        while let Some(i) = text
            .find("age1")
            .filter(|i| text[i + 4..].starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()))
        {
            let end = text[i..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |n| i + n);
            text.replace_range(i..end, "age1KEY");
        }
        assert!(!text.contains("hunter2"), "{text}");
        text
    }
}

#[test]
fn what_the_verbs_say() {
    let p = Project::new();
    let mut text = String::new();
    let mut say = |line: &str, stdin: &str| text.push_str(&p.said(line, stdin));
    say("init", "");
    say("recipients", "");
    say("set prod/all.yml db.password", "hunter2\n");
    say("set prod/all.yml db.password", "hunter2\n");
    say("set staging/all.yml db.password --generate 24", "");
    p.file("staging/vault.yml", "a: hunter2\n");
    say("encrypt staging/vault.yml", "");
    say("who-can-read", "");
    say("rekey", "");
    say("recipients add prod/** carl=age1CARL", "");
    say("recipients add prod/** ben", "");
    say("recipients remove staging/** anna", "");
    say("who-can-read", "");
    say("rekey --dry-run", "");
    say("rekey", "");
    say("who-can-read", "");
    say("rekey", "");
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("vault_verbs", text);
    });
}

/// One mistake each.
#[test]
fn what_mistakes_say() {
    let mut text = String::new();
    let mut case = |name: &str, lines: &[(&str, &str)], prepare: &dyn Fn(&Project)| {
        let p = Project::new();
        prepare(&p);
        text.push_str(&format!("=== {name}\n"));
        for (line, stdin) in lines {
            let said = p.said(line, stdin);
            text.push_str(&said);
        }
        let last = p.run(lines.last().unwrap().0, lines.last().unwrap().1);
        assert!(!last.status.success(), "{name}");
        assert!(String::from_utf8_lossy(&last.stderr).contains("help: "), "{name}: no hint\n{text}");
    };
    let nothing = |_: &Project| {};
    case("init_twice", &[("init", "")], &nothing);
    case("set_without_a_rule", &[("set other.yml a", "hunter2")], &nothing);
    case("set_with_a_broken_path", &[("set prod/all.yml a..b", "hunter2")], &nothing);
    case("set_an_empty_value", &[("set prod/all.yml a", "")], &nothing);
    case("set_a_mapping", &[("set prod/all.yml a", "hunter2")], &|p| p.file("prod/all.yml", "a: {b: 1}\n"));
    case("set_below_a_value", &[("set prod/all.yml a.b", "hunter2")], &|p| p.file("prod/all.yml", "a: 1\n"));
    case("set_in_broken_yaml", &[("set prod/all.yml a", "hunter2")], &|p| p.file("prod/all.yml", "a: [\n"));
    case("set_in_no_yaml", &[("set prod/a.txt a", "hunter2")], &|p| p.file("prod/a.txt", "x"));
    case("generate_too_short", &[("set prod/all.yml a --generate 4", "")], &nothing);
    case("get_what_is_not_there", &[("get prod/all.yml db_pasword", "")], &|p| {
        p.fine("set prod/all.yml db_password", "hunter2");
    });
    case("get_without_a_key", &[("get staging/all.yml a", "")], &|p| {
        p.fine("set staging/all.yml a", "hunter2");
        std::fs::remove_file(p.at("windlass/identity.txt")).unwrap();
    });
    case("get_with_a_key_of_others", &[("get prod/all.yml a", "")], &|p| {
        p.fine("set prod/all.yml a", "hunter2");
        std::fs::copy(p.at("ben.txt"), p.at("windlass/identity.txt")).unwrap();
    });
    case("rekey_what_is_not_ours", &[("rekey prod/all.yml", "")], &|p| {
        p.fine("set prod/all.yml a -r @BEN", "hunter2");
    });
    case(
        "a_moved_value",
        &[("get prod/all.yml motd", ""), ("rekey prod/all.yml", ""), ("view prod/all.yml", "")],
        &|p| {
            p.fine("set prod/all.yml db_password", "hunter2");
            p.file("prod/all.yml", &p.text("prod/all.yml").replace("db_password", "motd"));
        },
    );
    case("a_value_in_another_file", &[("get staging/all.yml db_password", "")], &|p| {
        p.fine("set prod/all.yml db_password", "hunter2");
        p.file("staging/all.yml", &p.text("prod/all.yml"));
    });
    case("rekey_what_is_plain", &[("rekey prod/all.yml", "")], &|p| p.file("prod/all.yml", "a: 1\n"));
    case("rekey_what_is_damaged", &[("rekey prod/all.yml", "")], &|p| {
        p.fine("set prod/all.yml a", "hunter2");
        let text = p.text("prod/all.yml");
        let cut: Vec<&str> = text.lines().take(3).collect();
        p.file("prod/all.yml", &cut.join("\n"));
    });
    case("recipients_without_rules", &[("recipients", "")], &|p| std::fs::remove_file(p.at("windlass.yml")).unwrap());
    case("recipients_of_no_rule", &[("recipients add prd/** ben", "")], &nothing);
    case("recipients_there_already", &[("recipients add prod/** anna", "")], &nothing);
    case("recipients_not_there", &[("recipients remove prod/** ben", "")], &nothing);
    case("recipients_down_to_nobody", &[("recipients remove prod/** anna", "")], &nothing);
    case("recipients_unknown_name", &[("recipients add prod/** bem", "")], &nothing);
    case("recipients_name_of_another", &[("recipients add prod/** ben=@ANNA", "")], &nothing);
    case("a_post_quantum_recipient", &[("encrypt prod/a -r age1pq1qqqq", "")], &|p| p.file("prod/a", "x"));
    case("a_private_key_as_recipient", &[("encrypt prod/a -r AGE-SECRET-KEY-1QQQQ", "")], &|p| p.file("prod/a", "x"));
    case("import_nothing", &[("import prod/a.yml", "")], &|p| p.file("prod/a.yml", "a: 1\n"));
    case("import_without_a_password", &[("import prod/whole.yml", "")], &|p| fixture(p, "whole.yml"));
    case("import_with_a_wrong_password", &[("import prod/whole.yml --password-file pw", "")], &|p| {
        fixture(p, "whole.yml");
        p.file("pw", "wrong\n");
    });
    case("import_with_an_empty_password", &[("import prod/whole.yml --password-file pw", "")], &|p| {
        fixture(p, "whole.yml");
        p.file("pw", "\n");
    });
    case("import_another_cipher", &[("import prod/whole.yml", "")], &|p| {
        p.file("prod/whole.yml", "$ANSIBLE_VAULT;1.0;AES\n00\n");
    });
    case("import_what_is_damaged", &[("import prod/whole.yml", "")], &|p| {
        p.file("prod/whole.yml", "$ANSIBLE_VAULT;1.1;AES256\n3336\n");
    });
    case("import_onto_a_file", &[("import prod/whole.yml --password-file pw", "")], &|p| {
        fixture(p, "whole.yml");
        p.file("pw", "throw-away-password-of-this-test");
        p.file("prod/whole.yml.age", "x");
    });
    case("edit_broken_yaml", &[("edit prod/all.yml", "")], &|p| p.file("prod/all.yml", "a: [\n"));
    case("edit_what_is_neither", &[("edit prod/a.txt", "")], &|p| p.file("prod/a.txt", "a\n"));
    for (name, rules) in [
        ("rules_unknown_key", "vault:\n  recipient: []\n"),
        ("rules_unknown_part", "vualt: {}\n"),
        ("rules_unknown_key_of_a_rule", "vault:\n  recipients: [{path: '**', too: [x]}]\n"),
        ("rules_without_a_path", "vault:\n  recipients: [{to: [passphrase]}]\n"),
        ("rules_for_nobody", "vault:\n  recipients: [{path: '**', to: []}]\n"),
        ("rules_for_someone_unknown", "vault:\n  keys: {anna: '@ANNA'}\n  recipients: [{path: '**', to: [ana]}]\n"),
        ("rules_with_a_private_key", "vault:\n  keys: {anna: AGE-SECRET-KEY-1QQ}\n"),
        ("rules_with_a_broken_key", "vault:\n  keys: {anna: age1qq}\n"),
        ("rules_post_quantum", "vault:\n  recipients: [{path: '**', to: [age1pq1qqqq]}]\n"),
        ("rules_mixed_with_a_passphrase", "vault:\n  recipients: [{path: '**', to: [passphrase, '@ANNA']}]\n"),
        ("rules_out_of_the_project", "vault:\n  recipients: [{path: '../**', to: ['@ANNA']}]\n"),
        ("rules_one_key_twice", "vault:\n  keys:\n    anna: '@ANNA'\n    ann: '@ANNA'\n"),
        ("rules_that_are_no_list", "vault:\n  recipients: {path: x}\n"),
        ("rules_whole_is_no_boolean", "vault:\n  recipients: [{path: '**', to: ['@ANNA'], whole: 1.5}]\n"),
        ("rules_no_yaml", "vault: [\n"),
    ] {
        case(name, &[("recipients", "")], &|p| p.rules(&rules.replace("@ANNA", &p.anna)));
    }
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("vault_mistakes", text);
    });
}

fn fixture(p: &Project, name: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ansible_vault").join(name);
    p.file(&format!("prod/{name}"), &std::fs::read_to_string(from).unwrap());
}

#[test]
fn a_new_project_has_secrets_in_three_commands() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let said = out(&windlass(d, &["vault", "init", "--name", "anna"], ""));
    assert!(said.contains("who can read the secrets here: anna") && said.contains("next:"), "{said}");
    assert_eq!(std::fs::metadata(d.join("windlass/identity.txt")).unwrap().permissions().mode() & 0o777, 0o600);
    out(&windlass(d, &["vault", "set", "pw.yml", "pw"], "correct-horse\n"));
    let tasks = "- phase: p\n  hosts: localhost\n  vars_files: [pw.yml]\n  tasks:\n    - {name: shown, debug: {msg: \"pw {{pw}}\"}}\n    - {name: long, debug: {msg: \"{{length pw}}\"}}\n";
    std::fs::write(d.join("site.yml"), tasks).unwrap();
    let text = out(&windlass(d, &["apply", "site.yml", "-i", "localhost,"], ""));
    assert!(text.contains("\n            13\n") && text.contains("pw [redacted]"), "{text}");
    // Moved, it is refused before any host is contacted; bound anew, it is read.
    let moved = std::fs::read_to_string(d.join("pw.yml")).unwrap().replace("pw: !age", "motd: !age");
    std::fs::write(d.join("pw.yml"), moved).unwrap();
    std::fs::write(d.join("site.yml"), tasks.replace("pw}}", "motd}}")).unwrap();
    let o = windlass(d, &["check", "site.yml", "-i", "localhost,"], "");
    let said = String::from_utf8_lossy(&o.stderr);
    assert!(
        said.contains("this value belongs to `pw` in pw.yml, and stands at `motd`") && said.contains("--rebind pw.yml"),
        "{said}"
    );
    out(&windlass(d, &["vault", "rekey", "--rebind", "pw.yml"], ""));
    out(&windlass(d, &["check", "site.yml", "-i", "localhost,"], ""));
}

#[test]
fn staging_cannot_be_made_a_reader_of_prod_by_mistake() {
    let p = Project::new();
    p.fine("set prod/all.yml a", "hunter2");
    p.file("prod/v.yml", "a: hunter2\n");
    p.fine("encrypt prod/v.yml", "");
    for line in ["get prod/all.yml a", "view prod/v.yml.age"] {
        let o = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .args(["vault"].into_iter().chain(line.split(' ')).chain(["--identity", "ben.txt"]))
            .current_dir(p.dir.path())
            .env("HOME", "/nonexistent")
            .env_remove("XDG_CONFIG_HOME")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&o.stderr);
        assert!(o.status.code() == Some(3) && said.contains("does not open"), "{said}");
    }
    let said = p.said(&format!("encrypt-value -r {}", p.ben), "x");
    assert!(said.contains("[0]"), "{said}");
    p.file("prod/w.yml", "a: 1\n");
    let said = p.said(&format!("encrypt prod/w.yml -r {}", p.ben), "");
    assert!(said.contains("warning: the rule for `prod/**` in windlass.yml names others"), "{said}");
    let said = p.said("who-can-read prod/w.yml.age", "");
    assert!(
        said.contains("against the rule: ben") && said.contains("cannot, and should: anna") && said.contains("[2]"),
        "{said}"
    );
}

/// A signal during an edit leaves nothing behind, and the file as it was.
#[test]
fn a_signal_ends_an_edit_without_a_trace() {
    let p = Project::new();
    p.fine("set prod/all.yml a", "hunter2");
    let before = p.text("prod/all.yml");
    for name in ["INT", "TERM", "HUP"] {
        let note = p.at(&format!("desk-{name}"));
        let editor = format!("f() {{ echo \"$1\" > '{0}.new'; mv '{0}.new' '{0}'; sleep 60; }}; f", note.display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .args(["vault", "edit", "--allow-disk", "prod/all.yml"])
            .current_dir(p.dir.path())
            .env("EDITOR", editor)
            .env_remove("VISUAL")
            .env("XDG_CONFIG_HOME", p.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let since = std::time::Instant::now();
        while !note.exists() {
            assert!(since.elapsed().as_secs() < 20, "the editor does not start");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let work = std::path::PathBuf::from(std::fs::read_to_string(&note).unwrap().trim());
        assert!(std::fs::read_to_string(&work).unwrap().contains("hunter2"));
        assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(69), "{said}");
        assert!(said.contains(&format!("ended by SIG{name}")) && said.contains("wiped"), "{said}");
        assert!(!work.parent().unwrap().exists(), "{}", work.display());
        assert_eq!(p.text("prod/all.yml"), before);
        assert!(since.elapsed().as_secs() < 30, "the editor was waited for");
    }
}

/// What Ansible Vault encrypted is used by an apply once it is brought over.
#[test]
fn ansible_vaults_secrets_are_brought_over_and_used() {
    let p = Project::new();
    for name in ["whole.yml", "labelled.yml", "values.yml"] {
        fixture(&p, name);
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ansible_vault");
    let passwords = format!("--password-file {0}/password.txt --password-file prod={0}/other.txt", fixtures.display());
    let dry = p.fine(&format!("import prod {passwords} --dry-run"), "");
    assert!(dry.contains("nothing was written") && p.at("prod/whole.yml").exists());
    let said = p.fine(&format!("import prod {passwords}"), "");
    assert!(
        said.contains("prod/whole.yml is prod/whole.yml.age now") && said.contains("values.yml: 3 values brought over"),
        "{said}"
    );
    assert_eq!(p.fine("get prod/labelled.yml.age list[1]", ""), "b: c");
    assert_eq!(p.fine("get prod/values.yml tls_key", ""), "line one\nline two: \"ü\"\n");
    assert!(p.run("who-can-read prod/whole.yml.age prod/values.yml", "").status.success());
}

#[test]
fn git_shows_plain_text_in_its_diff() {
    let p = Project::new();
    let git = |args: &[&str]| {
        let o = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t"])
            .args(["-c", &format!("diff.windlass.textconv={} vault textconv", env!("CARGO_BIN_EXE_windlass"))])
            .args(args)
            .current_dir(p.dir.path())
            .env("XDG_CONFIG_HOME", p.dir.path())
            .env("HOME", p.dir.path())
            .output();
        o.ok().map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
    };
    if git(&["init", "-q"]).is_none() {
        return;
    }
    p.file(".gitattributes", "*.age diff=windlass\n*.yml diff=windlass\n");
    p.fine("set prod/all.yml a", "first-value\n");
    p.file("prod/v.yml", "b: third-value\n");
    p.fine("encrypt prod/v.yml", "");
    git(&["add", "-A"]);
    git(&["commit", "-qm", "x"]);
    p.fine("set prod/all.yml a", "second-value\n");
    p.fine("set prod/v.yml.age b", "fourth-value\n");
    let diff = git(&["diff"]).unwrap();
    for line in ["-a: !age \"first-value\"", "+a: !age \"second-value\"", "-b: third-value", "+b: \"fourth-value\""] {
        assert!(diff.contains(line), "{diff}");
    }
}

#[test]
fn values_set_at_once_are_all_there() {
    let p = Project::new();
    p.file("prod/all.yml", "# ours\n");
    let p = &p;
    std::thread::scope(|s| {
        for i in 0..12 {
            s.spawn(move || p.fine(&format!("set prod/all.yml k{i}"), "hunter2"));
        }
    });
    for i in 0..12 {
        assert_eq!(p.fine(&format!("get prod/all.yml k{i}"), ""), "hunter2");
    }
    assert_eq!(std::fs::read_dir(p.at("prod")).unwrap().count(), 1);
    let keys: Vec<String> =
        (0..6).map(|i| out(&windlass(p.dir.path(), &["vault", "keygen", &format!("k{i}.txt")], ""))).collect();
    std::thread::scope(|s| {
        for (i, key) in keys.iter().enumerate() {
            s.spawn(move || p.fine(&format!("recipients add prod/** k{i}={}", key.trim()), ""));
        }
    });
    assert!(p.fine("recipients", "").contains("prod/**: anna, k"), "{}", p.fine("recipients", ""));
    assert!((0..6).all(|i| p.fine("recipients", "").contains(&format!("k{i}"))), "{}", p.fine("recipients", ""));
}

#[test]
fn a_pipe_is_neither_waited_for_nor_removed() {
    let p = Project::new();
    p.file("prod/all.yml", "a: 1\n");
    let pipe = p.at("prod/pipe.yml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for line in [
        "encrypt prod/pipe.yml",
        "decrypt prod/pipe.yml",
        "view prod/pipe.yml",
        "who-can-read prod/pipe.yml",
        "import prod/pipe.yml",
        "set prod/pipe.yml a",
        "edit prod/pipe.yml",
        "rekey prod/pipe.yml",
    ] {
        let o = p.run(line, "x");
        let said = String::from_utf8_lossy(&o.stderr);
        assert!(
            o.status.code() == Some(3) && said.contains("is a pipe, not a file") || line.starts_with("decrypt"),
            "{line}: {said}"
        );
        use std::os::unix::fs::FileTypeExt;
        assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{line}");
    }
}

#[test]
fn values_with_anchors_and_files_without_endings_are_seen_by_all_verbs() {
    let p = Project::new();
    for name in ["staging/all.yml", "staging/group_vars/all"] {
        p.fine(&format!("set {name} pw"), "hunter2");
        for anchored in ["pw: &a !age |", "pw: !age &a |"] {
            let text = p.text(name).replace("pw: !age |", anchored).replace("pw: &a !age |", anchored);
            p.file(name, &format!("{}\nagain: *a\n", text.split("\nagain").next().unwrap().trim_end()));
            assert_eq!(p.fine(&format!("get {name} pw"), ""), "hunter2");
            assert_eq!(p.fine(&format!("get {name} again"), ""), "hunter2");
            assert!(p.fine(&format!("who-can-read {name}"), "").contains("anna"), "{anchored}");
            let text = p.text("windlass.yml");
            p.rules(&text.replace("[anna, ben]", "[anna]"));
            assert_eq!(p.run("who-can-read", "").status.code(), Some(2));
            assert!(p.fine("rekey", "").contains(&format!("{name}: encrypted again")));
            p.rules(&text);
            assert!(p.fine("rekey", "").contains(&format!("{name}: encrypted again")));
            assert!(p.text(name).starts_with(anchored), "{}", p.text(name));
            let view = p.fine(&format!("view {name}"), "");
            assert!(view.contains("hunter2") && view.contains("again: *a"), "{view}");
            p.file("site.yml", &format!("- hosts: localhost\n  vars_files: [{name}]\n  tasks: [{{debug: {{msg: \"{{{{length pw}}}} {{{{length again}}}}\"}}}}]\n"));
            out(&windlass(p.dir.path(), &["check", "site.yml", "-i", "localhost,"], ""));
        }
        p.file(name, "pw: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3336\nb: {c: !vault-encrypted x}\n");
        for key in ["pw", "b", "b.c"] {
            let said = p.run(&format!("get {name} {key}"), "");
            let text = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.code() == Some(3) && text.contains("windlass vault import"), "{text}");
        }
        std::fs::remove_file(p.at(name)).unwrap();
    }
}

#[test]
fn one_damaged_file_keeps_no_other_from_its_turn() {
    let p = Project::new();
    p.fine("set staging/a.yml pw", "hunter2");
    p.fine("set staging/z.yml pw", "hunter2");
    p.file("staging/b.yml", "pw: !age |\n  -----BEGIN AGE ENCRYPTED FILE-----\n  x\n");
    let o = p.run("who-can-read", "");
    let (said, wrong) = (String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    assert!(said.contains("staging/a.yml:1 pw") && said.contains("staging/z.yml:1 pw"), "{said}");
    assert!(o.status.code() == Some(3) && wrong.contains("staging/b.yml:1"), "{wrong}");
}

#[test]
fn a_folder_is_imported_with_what_else_lies_in_it() {
    let p = Project::new();
    p.file("prod/README.md", "Use `!vault` values: [\n");
    p.file("prod/Makefile", "x:\n\techo !vault\n");
    p.file("prod/broken.yml", "a: !vault [\n");
    p.file("pw", "throw-away-password-of-this-test");
    fixture(&p, "whole.yml");
    let o = p.run("import prod --password-file pw", "");
    let (said, wrong) = (String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    assert!(said.contains("prod/whole.yml is prod/whole.yml.age now"), "{said}{wrong}");
    assert!(wrong.contains("note: prod/README.md is passed over") && wrong.contains("prod/broken.yml:2"), "{wrong}");
    assert_eq!(o.status.code(), Some(3));
    std::fs::remove_file(p.at("prod/broken.yml")).unwrap();
    assert!(p.fine("import prod", "").contains("nothing to bring over"));
    // What would be refused is refused in a dry run as well.
    fixture(&p, "whole.yml");
    let o = p.run("import prod/whole.yml --password-file pw --dry-run", "");
    assert!(o.status.code() == Some(3) && String::from_utf8_lossy(&o.stderr).contains("already exists"));
}

#[test]
fn a_file_that_was_encrypted_is_found_under_its_new_name() {
    let p = Project::new();
    p.file("vf.yml", "a: hunter2\n");
    p.fine("encrypt vf.yml -r @ANNA", "");
    for how in ["vars_files: [vf.yml]\n  tasks: []", "tasks: [{include_vars: vf.yml}]"] {
        p.file("site.yml", &format!("- hosts: localhost\n  {how}\n"));
        let o = windlass(p.dir.path(), &["check", "site.yml", "-i", "localhost,"], "");
        let said = String::from_utf8_lossy(&o.stderr);
        assert!(said.contains("it is there encrypted: write `vf.yml.age`"), "{said}");
    }
}
