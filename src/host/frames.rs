//! What a shell prints, cut at its markers: a line of the session's nonce and a few words, then the payload.

/// One marked piece of a reply.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    /// The words behind the nonce.
    pub head: &'a str,
    pub body: &'a [u8],
}

/// Cuts a reply into frames. Bytes before the first marker are nobody's (a banner) and dropped.
pub fn cut<'a>(bytes: &'a [u8], nonce: &str) -> Vec<Frame<'a>> {
    let marker = format!("\n{nonce} ").into_bytes();
    let starts: Vec<usize> = find_all(bytes, &marker);
    let mut frames = Vec::with_capacity(starts.len());
    for (i, start) in starts.iter().enumerate() {
        let head_at = start + marker.len();
        let Some(line) = bytes[head_at..].iter().position(|b| *b == b'\n') else { break };
        let body_at = head_at + line + 1;
        let end = starts.get(i + 1).copied().unwrap_or(bytes.len()).max(body_at);
        if let Ok(head) = std::str::from_utf8(&bytes[head_at..head_at + line]) {
            frames.push(Frame { head, body: &bytes[body_at..end] });
        }
    }
    frames
}

fn find_all(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    let mut found = vec![];
    let mut from = 0;
    while let Some(i) = bytes[from..].iter().position(|b| *b == needle[0]) {
        let at = from + i;
        if bytes[at..].starts_with(needle) {
            found.push(at);
        }
        from = at + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn payloads_keep_their_last_newline() {
        let text = b"banner\n\nNN a 1\nline\n\n\nNN b\n\nNN end 3\n";
        let f = cut(text, "NN");
        assert_eq!(f.len(), 3);
        assert_eq!((f[0].head, f[0].body), ("a 1", b"line\n\n".as_slice()));
        assert_eq!((f[1].head, f[1].body), ("b", b"".as_slice()));
    }

    proptest! {
        #[test]
        fn any_payload_comes_back(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let mut wire = vec![];
            for (i, b) in bodies.iter().enumerate() {
                wire.extend(format!("\n0123456789abcdef {i}\n").bytes());
                wire.extend(b);
            }
            let got: Vec<Vec<u8>> = cut(&wire, "0123456789abcdef").iter().map(|f| f.body.to_vec()).collect();
            prop_assert_eq!(got, bodies);
        }
    }
}
