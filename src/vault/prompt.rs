//! Asking a person for a passphrase, without knowing how that is done.

use std::sync::Arc;

use age::secrecy::SecretString;

use crate::error::Error;

/// How often a wrong passphrase may be corrected.
const ATTEMPTS: u32 = 3;

/// Where passphrases come from.
pub trait Prompt: Send + Sync {
    /// Asks for the passphrase of `what` (a path, or words naming it). `attempt` counts from 0 and grows after each
    /// wrong answer, up to 2. `None` means that nobody can be asked, or gave up.
    fn passphrase(&self, what: &str, attempt: u32) -> Option<SecretString>;

    /// Shows what is wrong with an edited text; true to edit it once more.
    fn again(&self, _problem: &Error) -> bool {
        false
    }

    /// Shows a message of an age plugin, such as "touch your key".
    fn message(&self, _text: &str) {}
}

/// Nobody to ask: every passphrase is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn passphrase(&self, _what: &str, _attempt: u32) -> Option<SecretString> {
        None
    }
}

/// Why a passphrase did not open something.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// Nobody answered.
    NotGiven,
    /// The answer was wrong.
    Wrong,
    /// The thing itself is at fault: what happened, and what to do.
    Broken(String, String),
}

impl Refusal {
    /// The error for `what`, whose passphrase was asked for.
    pub(super) fn error(&self, what: &str) -> Error {
        match self {
            Refusal::NotGiven => Error::input(format!("{what} needs a passphrase and none was given"))
                .hint("Run in a terminal to be asked for it, or use an identity without a passphrase."),
            Refusal::Wrong => Error::input(format!("wrong passphrase for {what}"))
                .hint("Try again with the passphrase it was made with."),
            Refusal::Broken(message, hint) => Error::input(message.clone()).hint(hint.clone()),
        }
    }
}

/// What trying a passphrase gave.
pub(super) enum Tried<T> {
    Open(T),
    Wrong,
    Broken(String, String),
}

/// Asks until `try_it` opens, someone gives up, or the attempts are used.
pub(super) fn ask<T>(
    prompt: &dyn Prompt,
    what: &str,
    mut try_it: impl FnMut(SecretString) -> Tried<T>,
) -> Result<T, Refusal> {
    for attempt in 0..ATTEMPTS {
        let Some(passphrase) = prompt.passphrase(what, attempt) else {
            return Err(if attempt == 0 { Refusal::NotGiven } else { Refusal::Wrong });
        };
        match try_it(passphrase) {
            Tried::Open(opened) => return Ok(opened),
            Tried::Wrong => {}
            Tried::Broken(message, hint) => return Err(Refusal::Broken(message, hint)),
        }
    }
    Err(Refusal::Wrong)
}

/// A [`Prompt`] in the shape age's plugins ask for.
#[derive(Clone)]
pub(super) struct PluginCallbacks(pub(super) Arc<dyn Prompt>);

impl age::Callbacks for PluginCallbacks {
    fn display_message(&self, message: &str) {
        self.0.message(message);
    }
    fn confirm(&self, _message: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }
    fn request_public_string(&self, _description: &str) -> Option<String> {
        None
    }
    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.0.passphrase(description, 0)
    }
}
