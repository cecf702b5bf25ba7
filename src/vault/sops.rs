//! SOPS's YAML files for age keys: read, never written.
//!
//! Each value is `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]` under a key that `sops: age:` holds for each recipient. A
//! value's tag covers the keys that lead to it.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{AesGcm, aes::Aes256};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::crypt;
use super::identity::Identities;
use super::keypath::{KeyPath, Step, steps};
use crate::error::{Error, Result};
use crate::source::Node;

const BEGIN: &str = "ENC[AES256_GCM,";

/// The key under which SOPS keeps what it needs.
pub const META: &str = "sops";

/// Whether a document is SOPS's.
pub fn is_sops(root: &Node) -> bool {
    root.get(META).is_some_and(|s| s.get("mac").is_some() && s.get("version").is_some())
}

/// An encrypted value: where it stands, and what it holds.
pub struct Found<'a> {
    /// Where it stands.
    pub path: KeyPath,
    /// Its node.
    pub node: &'a Node,
    /// The plain text.
    pub text: Zeroizing<String>,
    /// It was a number or a boolean.
    pub was_typed: bool,
}

/// Opens the key of a file.
///
/// # Errors
/// It has no age recipients, or is of a kind that is not read; no identity opens it.
pub fn key(root: &Node, what: &str, identities: &Identities) -> Result<Zeroizing<Vec<u8>>> {
    let meta = root.get(META);
    let unread = |why: &str| {
        Error::input(format!("{what} is a SOPS file {why}"))
            .hint("Decrypt it with sops -d, then encrypt it with windlass vault encrypt or set.")
    };
    if meta.and_then(|m| m.get("key_groups")).is_some_and(|k| !k.is_null()) {
        return Err(unread("whose key is split into groups, which is not read"));
    }
    let list = meta.and_then(|m| m.get("age")).and_then(Node::as_seq).unwrap_or_default();
    let sealed: Vec<&str> = list.iter().filter_map(|n| n.get("enc")?.as_str()).collect();
    if sealed.is_empty() {
        return Err(unread("without age recipients, which is not read"));
    }
    let mut problem = None;
    for one in sealed {
        match crypt::decrypt(one.as_bytes(), what, identities) {
            Ok(key) if key.len() == 32 => return Ok(key),
            Ok(_) => return Err(unread("whose key is of another length")),
            Err(e) => problem = Some(e),
        }
    }
    Err(problem.unwrap_or_else(|| unread("without age recipients")))
}

/// All encrypted values.
///
/// # Errors
/// One of them was changed or moved.
pub fn values<'a>(root: &'a Node, key: &[u8], what: &str) -> Result<Vec<Found<'a>>> {
    let mut found = vec![];
    collect(root, key, what, &KeyPath::default(), &mut found)?;
    Ok(found)
}

fn collect<'a>(node: &'a Node, key: &[u8], what: &str, path: &KeyPath, found: &mut Vec<Found<'a>>) -> Result<()> {
    if let Some(text) = node.as_str().filter(|t| t.starts_with(BEGIN)) {
        let keys: Vec<&str> =
            path.0.iter().filter_map(|s| if let Step::Key(k) = s { Some(k.as_str()) } else { None }).collect();
        let (text, kind) = open(text, key, &keys).ok_or_else(|| {
            Error::input(format!("{what}: `{path}` was changed or moved since SOPS wrote it"))
                .hint("Restore it from version control or a backup.")
        })?;
        found.push(Found { path: path.clone(), node, text, was_typed: kind != "str" });
        return Ok(());
    }
    for (step, below) in steps(node) {
        if path.0.is_empty() && step == Step::Key(META.into()) {
            continue;
        }
        collect(below, key, what, &path.with(step), found)?;
    }
    Ok(())
}

/// Opens one value or comment; the keys that lead to it belong to it.
pub fn open(text: &str, key: &[u8], keys: &[&str]) -> Option<(Zeroizing<String>, String)> {
    let inner = text.trim().strip_prefix(BEGIN)?.strip_suffix(']')?;
    let part = |name: &str| inner.split(',').find_map(|p| p.strip_prefix(name)?.strip_prefix(':'));
    let bytes = |name: &str| BASE64_STANDARD.decode(part(name)?).ok();
    let (mut data, iv, tag) = (bytes("data")?, bytes("iv")?, bytes("tag")?);
    data.extend(tag);
    let aad = format!("{}:", keys.join(":"));
    let cipher = AesGcm::<Aes256, U32>::new_from_slice(key).ok()?;
    let iv: [u8; 32] = iv.try_into().ok()?;
    let plain = cipher.decrypt(&iv.into(), Payload { msg: &data, aad: aad.as_bytes() }).ok()?;
    Some((Zeroizing::new(String::from_utf8(plain).ok()?), part("type").unwrap_or("str").to_string()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::encrypt;
    use super::super::testing::*;
    use super::*;
    use crate::source::{Source, yaml};

    /// A value as SOPS writes it.
    pub fn sealed(text: &str, kind: &str, key: &[u8; 32], keys: &[&str]) -> String {
        let iv = [7u8; 32];
        let aad = format!("{}:", keys.join(":"));
        let cipher = AesGcm::<Aes256, U32>::new_from_slice(key).unwrap();
        let all = cipher.encrypt(&iv.into(), Payload { msg: text.as_bytes(), aad: aad.as_bytes() }).unwrap();
        let (data, tag) = all.split_at(all.len() - 16);
        let b = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        format!("{BEGIN}data:{},iv:{},tag:{},type:{kind}]", b(data), b(&iv), b(tag))
    }

    /// What SOPS keeps at the end of a file.
    pub fn meta(key: &[u8; 32], public: &str) -> String {
        let enc = encrypt(key, &to(&[public])).unwrap().trim_end().replace('\n', "\n            ");
        format!(
            "sops:\n    age:\n        - recipient: {public}\n          enc: |\n            {enc}\n    lastmodified: \"2024-01-01T00:00:00Z\"\n    mac: ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]\n    version: 3.9.0\n"
        )
    }

    #[test]
    fn values_are_opened_where_they_stand() {
        let (secret, public) = x25519();
        let key = [9u8; 32];
        let (a, b) = (sealed("hunter2", "str", &key, &["db", "password"]), sealed("5", "int", &key, &["n"]));
        let text = format!("db:\n    password: {a}\nn:\n    - {b}\nplain: x\n{}", meta(&key, &public));
        let root = yaml::parse(&Source::new("s.yml", text.as_str())).unwrap();
        assert!(is_sops(&root));
        let ids = identities(&[&secret]);
        let opened = super::key(&root, "s.yml", &ids).unwrap();
        let found = values(&root, &opened, "s.yml").unwrap();
        let said: Vec<String> = found.iter().map(|f| format!("{} {} {}", f.path, *f.text, f.was_typed)).collect();
        assert_eq!(said, ["db.password hunter2 false", "n[0] 5 true"]);
        let moved = yaml::parse(&Source::new("s.yml", text.replace("password:", "motd:"))).unwrap();
        let e = values(&moved, &opened, "s.yml").err().unwrap();
        assert!(e.message.contains("`db.motd` was changed or moved"), "{e}");
        let stranger = identities(&[&x25519().0]);
        assert!(super::key(&root, "s.yml", &stranger).unwrap_err().message.contains("does not open"));
        let other = yaml::parse(&Source::new("s.yml", "sops: {mac: x, version: 1, kms: []}\n")).unwrap();
        assert!(super::key(&other, "s.yml", &ids).unwrap_err().message.contains("without age recipients"));
    }
}
