//! What the vault reads. The first letter says what it is: `a` age data or an armored value, `v` Ansible Vault's text,
//! `y` a YAML file to be edited (its first line is the path of keys), `i` a file to be brought over, `r` a recipient.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use windlass::source::{Source, yaml};
use windlass::vault::document::{Document, armored, plain};
use windlass::vault::import::{How, Passwords, import};
use windlass::vault::keypath::KeyPath;
use windlass::vault::{Identities, NoPrompt, Recipient, Recipients, Sources};
use windlass::vault::{ansible, bound, crypt, decrypt, decrypt_value, is_encrypted, sops};

struct Desk {
    dir: tempfile::TempDir,
    identities: Identities,
    passwords: Passwords,
    to: Recipients,
}

// One thread runs all inputs.
struct Shared(Desk);
unsafe impl Sync for Shared {}
unsafe impl Send for Shared {}

fn desk() -> &'static Desk {
    static DESK: OnceLock<Shared> = OnceLock::new();
    &DESK
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let key = dir.path().join("key.txt");
            std::fs::write(&key, include_str!("../../secrets/throw-away.txt")).unwrap();
            let password = dir.path().join("password");
            std::fs::write(&password, "throw-away-password-of-this-test").unwrap();
            let identities = Sources::from_env(vec![key], None).unwrap().load(Arc::new(NoPrompt)).unwrap();
            let passwords = Passwords::new(Arc::new(NoPrompt));
            passwords.add_file(password.to_str().unwrap()).unwrap();
            let to = Recipients::new(identities.recipients().unwrap()).unwrap();
            Shared(Desk { dir, identities, passwords, to })
        })
        .0
}

fn edit(text: &str) {
    let Some((key, body)) = text.split_once('\n') else { return };
    let (Ok(key), Ok(document)) = (KeyPath::parse(key), Document::parse(Path::new("all.yml"), body, false)) else {
        return;
    };
    assert_eq!(KeyPath::parse(&key.to_string()).ok().as_ref(), Some(&key), "{key}");
    for v in document.values() {
        assert!(v.line >= 1 && v.line <= body.split('\n').count(), "line {}", v.line);
        if let Some(t) = &v.text {
            let _ = decrypt_value(t, "the value", &desk().identities);
        }
    }
    // What was put in is read back; the file says no where that cannot be.
    if let Ok(after) = document.set(&key, &|slot| plain("secret: # x", slot).to_string()) {
        let again = yaml::parse(&Source::new("all.yml", after.as_str())).expect("what was set is YAML");
        assert_eq!(key.find(&again).and_then(|n| n.as_str()), Some("secret: # x"));
    }
    let _ = document.set(&key, &|slot| armored("-----BEGIN\nx\n-----END\n", slot));
}

fn bring_over(name: &str, text: &str) {
    let path: PathBuf = desk().dir.path().join(name);
    if std::fs::write(&path, text).is_ok() {
        let how = How { recipients: Some(desk().to.clone()), keep: false, dry_run: true };
        let _ = import(&path, &desk().passwords, &desk().identities, &how);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let text = std::str::from_utf8(data);
    match (kind, text) {
        (b'a', text) => {
            is_encrypted(data);
            if let Ok(h) = crypt::header(data, "x") {
                assert!(!h.stanzas.is_empty() || h.note.is_some());
                let here = bound::Here::of(Path::new("/nowhere/all.yml"));
                if let Some(place) = h.note.as_ref().and_then(|n| n.place.as_ref()) {
                    let _ = here.allows(place, "a.b");
                }
            }
            let _ = decrypt(data, "x", &desk().identities);
            if let Ok(t) = text {
                let _ = decrypt_value(t, "x", &desk().identities);
            }
        }
        (b'v', Ok(t)) => {
            if let Ok(sealed) = ansible::parse(t, "x") {
                sealed.open(&"throw-away-password-of-this-test".to_string().into());
            }
        }
        (b'y', Ok(t)) => edit(t),
        (b'i', Ok(t)) => {
            bring_over("all.yml", t);
            if let Ok(n) = yaml::parse(&Source::new("all.yml", t))
                && sops::is_sops(&n)
            {
                let _ = sops::key(&n, "x", &desk().identities).and_then(|k| sops::values(&n, &k, "x").map(|_| ()));
            }
        }
        (b'r', Ok(t)) => {
            let _ = Recipient::parse(t);
        }
        _ => {}
    }
});
