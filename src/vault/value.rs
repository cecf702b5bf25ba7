//! A single secret value: the armored block under `!age |` in a YAML file.

use zeroize::Zeroizing;

use super::bound;
use super::crypt;
use super::identity::Identities;
use super::recipient::Recipients;
use crate::error::{Error, Result};

/// Decrypts one armored value. Indentation and blank lines around it do not matter. `what` names it in errors.
///
/// # Errors
/// As [`crypt::decrypt`]; also when the block is not armored or the plaintext is not UTF-8.
pub fn decrypt_value(block: &str, what: &str, identities: &Identities) -> Result<Zeroizing<String>> {
    bound::open(block, what, identities).map(|o| o.text)
}

/// The block without its indentation.
pub(super) fn armored(block: &str, what: &str) -> Result<String> {
    let lines: Vec<&str> = block.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let armored = lines.join("\n");
    if !armored.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
        return Err(Error::input(format!("{what} is not an armored age value"))
            .hint("Write it as `!age |`, followed by the indented block that windlass vault encrypt-value prints."));
    }
    Ok(armored)
}

/// Encrypts one value, exactly as given, as armored text.
///
/// # Errors
/// As [`crypt::encrypt`].
pub fn encrypt_value(value: &str, recipients: &Recipients) -> Result<String> {
    crypt::encrypt(value.as_bytes(), recipients)
}

/// An armored value as it stands in YAML after a key: `!age |` and the block, indented by `indent` spaces.
pub fn yaml_block(armored: &str, indent: usize) -> String {
    let mut block = String::from("!age |\n");
    for line in armored.lines() {
        block.push_str(&format!("{:indent$}{line}\n", ""));
    }
    block
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_value_survives_yaml_and_indentation() {
        let (secret, public) = x25519();
        let ids = identities(&[&secret]);
        let armored = encrypt_value(" päss\n", &to(&[&public])).unwrap();
        let yaml = format!("db:\n  password: {}", yaml_block(&armored, 4));
        let value: serde_yaml::Value = serde_yaml::from_str(&yaml).unwrap();
        let serde_yaml::Value::Tagged(tagged) = &value["db"]["password"] else { panic!("{yaml}") };
        assert_eq!(tagged.tag, "age");
        assert_eq!(*decrypt_value(tagged.value.as_str().unwrap(), "x", &ids).unwrap(), " päss\n");
        let indented = yaml_block(&armored, 6).replace("!age |", "").replace('\n', "\r\n");
        assert_eq!(*decrypt_value(&indented, "x", &ids).unwrap(), " päss\n");
    }

    #[test]
    fn what_is_no_value_says_so() {
        let (secret, public) = x25519();
        let ids = identities(&[&secret]);
        let e = decrypt_value("hunter2", "all.yml:3", &ids).unwrap_err();
        assert!(e.message.contains("all.yml:3 is not an armored age value") && !e.message.contains("hunter2"));
        let binary = crypt::encrypt(&[0xff, 0xfe], &to(&[&public])).unwrap();
        assert!(decrypt_value(&binary, "x", &ids).unwrap_err().message.contains("does not hold text"));
        let cut: String = encrypt_value("v", &to(&[&public])).unwrap().lines().take(3).collect::<Vec<_>>().join("\n");
        assert!(decrypt_value(&cut, "x", &ids).unwrap_err().message.contains("END line is missing"));
    }
}
