//! Cuts a byte stream into JSON texts.
//!
//! RFC 7047 §4 streams JSON-RPC messages "over TCP" with nothing between them, so the end of an object is
//! where its brackets close. The framer only looks at brackets, strings and escapes; whether the text is
//! JSON is for the parser, which then sees exactly one message.

use thiserror::Error;

/// What a peer may make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, bytes. A snapshot is one message, so this bounds the database too.
    pub max_message_bytes: usize,
    /// Deepest nesting of objects and arrays. The deepest message of the protocol has about twelve levels.
    pub max_depth: usize,
}

impl Default for Limits {
    /// 1 GiB, which is well above the databases that are seen (hundreds of MB), and 64 levels.
    fn default() -> Self {
        Self { max_message_bytes: 1 << 30, max_depth: 64 }
    }
}

/// Bytes that cannot become a message. The stream has no way to find the next one: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingError {
    /// A message begins with something else than `{`.
    #[error("a message begins with byte {0:#04x}, not with an object")]
    NotAnObject(u8),
    /// A message is longer than allowed.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    /// A message is nested deeper than allowed.
    #[error("a message is nested deeper than {0} levels")]
    TooDeep(usize),
}

/// The incremental cutter: bytes in, split anywhere; whole JSON objects out.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    buffer: Vec<u8>,
    /// Start of the current message in `buffer`; what is before it has been handed out.
    start: usize,
    /// First byte not looked at yet.
    next: usize,
    /// Open brackets before `next`; 0: between messages.
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    /// A framer at the start of a stream.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, buffer: Vec::new(), start: 0, next: 0, depth: 0, in_string: false, escaped: false }
    }

    /// Takes bytes of the stream; call [`Framer::next_message`] until it has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            // One huge snapshot must not hold its memory for the life of the connection.
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.start);
        }
        self.next -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, as text that begins with `{` and ends with its last bracket.
    ///
    /// # Errors
    /// The stream is broken for good; further calls give the same error or worse.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FramingError> {
        while let Some(&byte) = self.buffer.get(self.next) {
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.next += 1;
                        self.start = self.next;
                        continue;
                    }
                    b'{' => {}
                    other => return Err(FramingError::NotAnObject(other)),
                }
            }
            if self.next - self.start >= self.limits.max_message_bytes {
                return Err(FramingError::TooLong(self.limits.max_message_bytes));
            }
            self.next += 1;
            if self.closes_message(byte)? {
                let message = self.start..self.next;
                self.start = self.next;
                return Ok(Some(&self.buffer[message]));
            }
        }
        Ok(None)
    }

    /// Follows brackets and strings over one byte; true if it ends the message.
    fn closes_message(&mut self, byte: u8) -> Result<bool, FramingError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                if self.depth == self.limits.max_depth {
                    return Err(FramingError::TooDeep(self.limits.max_depth));
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            _ => {}
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: Limits = Limits { max_message_bytes: 40, max_depth: 4 };

    /// The messages as bytes: that a message is UTF-8 is for the JSON decoder to say, not for the cutter.
    fn cut(limits: Limits, chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut framer = Framer::new(limits);
        let mut messages = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            while let Some(message) = framer.next_message()? {
                messages.push(message.to_vec());
            }
        }
        Ok(messages)
    }

    #[test]
    fn objects_need_no_delimiter_and_may_have_white_space_between() {
        let text = br#"{"a":"}\"{"}{} {"b":[{}]}
"#;
        let expected: Vec<Vec<u8>> = [r#"{"a":"}\"{"}"#, "{}", r#"{"b":[{}]}"#].map(Into::into).into();
        assert_eq!(cut(SMALL, &[text]), Ok(expected));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_cut_like_others() {
        // Found by `no_bytes_make_it_panic`, whose helper took every message for UTF-8.
        assert_eq!(cut(SMALL, &[b"{\xef\xc3}"]), Ok(vec![b"{\xef\xc3}".to_vec()]));
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(cut(SMALL, &[b"[1]"]), Err(FramingError::NotAnObject(b'[')));
        assert_eq!(cut(SMALL, &[br#"{"a":[[[["#]), Err(FramingError::TooDeep(4)));
        assert_eq!(cut(SMALL, &[b"{\"", &[b'x'; 38]]), Ok(Vec::new()));
        assert_eq!(cut(SMALL, &[b"{\"", &[b'x'; 39]]), Err(FramingError::TooLong(40)));
    }

    proptest! {
        #[test]
        fn where_the_stream_is_split_does_not_matter(
            texts in prop::collection::vec("[a-z\"\\\\{}\\[\\]é]{0,12}", 1..6),
            cuts in prop::collection::vec(0_usize..200, 0..12),
        ) {
            let messages: Vec<Vec<u8>> = texts
                .iter()
                .map(|text| serde_json::json!({"k": [text, {"n": text}]}).to_string().into_bytes())
                .collect();
            let stream = messages.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(Limits::default(), &chunks).unwrap(), messages);
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..6)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let _ = cut(SMALL, &chunks);
        }
    }
}
