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
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
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
