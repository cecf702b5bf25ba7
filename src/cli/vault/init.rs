//! `windlass vault init`: a key, and who can read what.

use crate::error::{Error, Result};
use crate::vault::{self, Identities, Recipient, rules};

/// Makes what is missing, and says what to do next.
pub fn run(name: Option<&str>, identities: Identities) -> Result<()> {
    let dir = std::env::current_dir().map_err(|e| Error::environment("this folder cannot be read").because(e))?;
    let name = match name {
        Some(n) => n.to_string(),
        None => std::env::var("USER").ok().filter(|n| is_plain(n)).unwrap_or_else(|| "me".into()),
    };
    if !is_plain(&name) || name == "passphrase" {
        return Err(Error::input(format!("`{name}` cannot be a key's name"))
            .hint("A name has letters, digits, `-`, `_` and `.`: --name anna"));
    }
    // Before a key is made for nothing.
    if let Some(known) = rules::find(&dir) {
        return Err(Error::input(format!("{} is there already", crate::source::display_path(&known).display())).hint(
            "See its rules with windlass vault recipients, and add to them with windlass vault recipients add.",
        ));
    }
    let mut own: Vec<Recipient> = identities.recipients()?;
    own.retain(|r| !matches!(r, Recipient::PluginIdentity(_)));
    if own.is_empty() {
        let Some(path) = vault::identity::default_path() else {
            return Err(
                Error::environment("no home folder is known").hint("Make a key with windlass vault keygen FILE.")
            );
        };
        own.push(Recipient::parse(&vault::keygen(&path)?)?);
        say!("your key is in {}: keep it safe, and keep a copy", path.display());
    } else {
        say!("your key is {}", identities.origins().join(", "));
    }
    let keys: Vec<(String, Recipient)> = own
        .into_iter()
        .enumerate()
        .map(|(i, k)| (if i == 0 { name.clone() } else { format!("{name}-{}", i + 1) }, k))
        .collect();
    rules::create(&dir, &keys)?;
    say!("{} says who can read the secrets here: {name}", rules::FILE);
    say!("next:");
    say!("  windlass vault set group_vars/all.yml db_password        set a value");
    say!("  windlass vault encrypt FILE                              encrypt a whole file");
    say!("  windlass vault recipients add '**' ben=age1…             let someone else read; then windlass vault rekey");
    Ok(())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
