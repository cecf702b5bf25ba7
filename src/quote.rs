//! Text as one word of a POSIX shell.

/// Quotes text so that a POSIX shell reads it as one word, whatever it holds (but NUL, which no shell can carry).
pub fn shell_quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Quotes every word and puts spaces between them.
pub fn shell_join<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    words.into_iter().map(|w| shell_quote(w.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_shell_reads_back_what_was_quoted(words in proptest::collection::vec("[^\\x00]{0,20}", 1..4)) {
            let script = format!("printf '%s\\0' {}", shell_join(&words));
            let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            let want: Vec<u8> = words.iter().flat_map(|w| w.bytes().chain([0])).collect();
            prop_assert_eq!(out.stdout, want);
        }
    }
}
