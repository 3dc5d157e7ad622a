//! The lines of a JSON text's values.

/// The line, from 1, that each value of a JSON text begins on, in the order of the text: a list or mapping before
/// what it holds, keys left out. For a text that is no JSON the result is of no use, but it always comes.
pub(super) fn value_lines(text: &str) -> Vec<u64> {
    let bytes = text.as_bytes();
    let mut lines = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (end, begins_value) = match byte {
            b'\n' | b' ' | b'\t' | b'\r' | b',' | b':' | b'}' | b']' => (at + 1, false),
            b'{' | b'[' => (at + 1, true),
            b'"' => {
                let end = string_end(bytes, at);
                (end, !is_key(bytes, end))
            }
            _ => (word_end(bytes, at), true),
        };
        if begins_value {
            lines.push(line);
        }
        if byte == b'\n' {
            line += 1;
        }
        at = end;
    }
    lines
}

/// The place after the closing quote of the string that opens at `at`. A line break cannot stand inside
/// (RFC 8259, section 7).
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The place after the number or literal that begins at `at`.
fn word_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| b" \t\r\n,:}]".contains(byte));
    length.map_or(bytes.len(), |length| at + length)
}

/// Whether the string that ends before `end` is a key: the next thing is a colon.
fn is_key(bytes: &[u8], end: usize) -> bool {
    let rest = bytes.get(end..).unwrap_or_default();
    rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}
