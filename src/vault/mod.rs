//! age-encrypted secrets: reading, writing, and keeping them out of everything that is shown.
//!
//! Everything here blocks (passphrases, scrypt, plugins): call it through `spawn_blocking` from async code.

pub mod ansible;
pub mod audit;
pub mod bound;
pub mod contents;
pub mod crypt;
mod desk;
pub mod document;
pub mod file;
mod glob;
pub mod identity;
pub mod import;
pub mod keypath;
pub mod note;
pub mod prompt;
pub mod recipient;
pub mod redact;
pub mod rekey;
pub mod rules;
pub mod sops;
mod store;
#[cfg(test)]
mod testing;
pub mod value;

pub use crypt::{decrypt, encrypt, is_encrypted};
pub use identity::{Identities, Sources, Warning, keygen};
pub use prompt::{NoPrompt, Prompt};
pub use recipient::{Recipient, Recipients};
pub use redact::{RedactingWriter, Redactor, Secrets, Unredactable};
pub use value::{decrypt_value, encrypt_value};
