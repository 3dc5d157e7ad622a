//! Row identity: the `<uuid>` of RFC 7047 §3.1.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A 128-bit row (or server, or transaction) identity.
///
/// Ordered by its bytes, which is also the order of its text form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

/// Text that is not a UUID of the form `8-4-4-4-12` hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a UUID (want 8-4-4-4-12 hexadecimal digits)")]
pub struct UuidError(pub String);

/// Offsets of the dashes in the text form.
const DASHES: [usize; 4] = [8, 13, 18, 23];
/// Length of the text form.
const TEXT_LEN: usize = 36;

impl Uuid {
    /// All zeroes: "no transaction yet" in `monitor_cond_since`, and the default of a uuid column.
    pub const ZERO: Self = Self([0; 16]);

    /// From its sixteen bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From a number, most significant byte first; handy in tests and for identities that are counted.
    pub const fn from_u128(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// The sixteen bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        parse(text.as_bytes()).map(Self).ok_or_else(|| UuidError(text.chars().take(64).collect()))
    }
}

fn parse(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != TEXT_LEN {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (offset, &character) in text.iter().enumerate() {
        if DASHES.contains(&offset) {
            if character != b'-' {
                return None;
            }
            continue;
        }
        bytes[digits / 2] = bytes[digits / 2] << 4 | hex_digit(character)?;
        digits += 1;
    }
    Some(bytes)
}

fn hex_digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_case_does_not_matter() {
        let text = "550e8400-e29b-41d4-a716-446655440000";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(uuid));
        assert_eq!(Uuid::from_u128(0x550e8400_e29b_41d4_a716_446655440000), uuid);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "550e8400e29b41d4a716446655440000",
            "550e8400-e29b-41d4-a716-44665544000",
            "550e8400-e29b-41d4-a716-44665544000g",
            "550e8400-e29b-41d4-a7160446655440000",
            "550e8400-e29b-41d4-a716-4466554400000",
            "é50e8400-e29b-41d4-a716-44665544000",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }
}
