//! A bounded reader, and the few writers that `bytes` lacks. Everything on the wire is big-endian.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};

/// Reads one structure, whose name the errors carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Reader { what, bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left, without consuming it.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.bytes
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let short = DecodeError::Short { what: self.what, need: length, left: self.bytes.len() };
        let (head, tail) = self.bytes.split_at_checked(length).ok_or(short)?;
        self.bytes = tail;
        Ok(head)
    }

    /// The next `length` bytes as a structure of its own.
    pub(crate) fn sub(&mut self, what: &'static str, length: usize) -> Result<Reader<'a>, DecodeError> {
        Ok(Reader::new(what, self.take(length)?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let short = DecodeError::Short { what: self.what, need: N, left: self.bytes.len() };
        let (head, tail) = self.bytes.split_first_chunk().ok_or(short)?;
        self.bytes = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A C string in a field of fixed size, up to its first NUL. What is no UTF-8 is replaced by U+FFFD, which takes more
    /// bytes: what the field then cannot hold with its NUL is cut.
    pub(crate) fn string(&mut self, length: usize) -> Result<String, DecodeError> {
        let field = self.take(length)?;
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        let text = String::from_utf8_lossy(&field[..end]);
        Ok(cut(&text, length.saturating_sub(1)).to_owned())
    }
}

/// The beginning of a text that takes no more than so many bytes.
pub(crate) fn cut(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// The number in up to 16 big-endian bytes; of more bytes, the last 16 count.
pub(crate) fn be_uint(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Writes the low `length` bytes of `value`, big-endian.
pub(crate) fn put_uint(out: &mut impl BufMut, value: u128, length: usize) {
    out.put_slice(&value.to_be_bytes()[16 - length.min(16)..]);
}

/// The bytes from `length` up to the next multiple of eight, where OpenFlow aligns structures.
pub(crate) fn pad8(length: usize) -> usize {
    length.next_multiple_of(8) - length
}

/// Pads what was written since `start` to a multiple of eight bytes.
pub(crate) fn put_pad8(out: &mut BytesMut, start: usize) {
    out.put_bytes(0, pad8(out.len() - start));
}

/// Writes the 16-bit length of what stands behind `start` to `at`.
pub(crate) fn set_length(
    out: &mut BytesMut,
    start: usize,
    at: usize,
    what: impl FnOnce() -> String,
) -> Result<(), EncodeError> {
    let length = out.len() - start;
    let Ok(short) = u16::try_from(length) else {
        return Err(EncodeError::TooLong { what: what(), length, limit: usize::from(u16::MAX) });
    };
    out[at..at + 2].copy_from_slice(&short.to_be_bytes());
    Ok(())
}

/// Writes a property: type, length, value, padding to eight bytes that the length does not count.
pub(crate) fn put_property(out: &mut BytesMut, kind: u16, value: &[u8]) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u16(kind);
    out.put_u16(0);
    out.put_slice(value);
    set_length(out, start, start + 2, || format!("property {kind}"))?;
    put_pad8(out, start);
    Ok(())
}

/// Writes a 16-bit property. The specification, and Open vSwitch, count its padding to four bytes as part of
/// it; for 8 bits they do not.
pub(crate) fn put_u16_property(out: &mut BytesMut, kind: u16, number: u16) {
    out.put_u16(kind);
    out.put_u16(8);
    out.put_u16(number);
    out.put_u16(0);
}

/// Reads a property: its type and value.
pub(crate) fn property<'a>(reader: &mut Reader<'a>) -> Result<(u16, &'a [u8]), DecodeError> {
    let kind = reader.u16()?;
    let length = usize::from(reader.u16()?);
    let value =
        reader.take(length.checked_sub(4).ok_or(DecodeError::BadLength { what: "property", length })?)?;
    // The last property of a list need not be padded.
    reader.take(pad8(length).min(reader.left()))?;
    Ok((kind, value))
}

/// The number in a property's value, whose padding may or may not be counted.
pub(crate) fn property_number<const N: usize>(value: &[u8]) -> Result<[u8; N], DecodeError> {
    let number = value.first_chunk::<N>().filter(|_| value.len() <= 4);
    number.copied().ok_or(DecodeError::BadLength { what: "number in a property", length: value.len() })
}
