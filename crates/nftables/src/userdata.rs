//! User data of rules and sets: what nft(8) keeps for itself at them, kind, length and value, one octet each of the first two
//! (libnftnl's `udata.h`).

use crate::data_type::{DataType, TypeOf};

/// `NFTNL_UDATA_RULE_COMMENT`.
const RULE_COMMENT: u8 = 0;
/// `NFTNL_UDATA_SET_ELEM_FLAGS`, and of nft's flags that the range has no end.
const ELEMENT_FLAGS: u8 = 1;
const OPEN_RANGE: u32 = 1;
/// `enum nftnl_udata_set_types`.
const SET_KEY_BYTE_ORDER: u8 = 0;
const SET_DATA_BYTE_ORDER: u8 = 1;
const SET_KEY_TYPE_OF: u8 = 3;
const SET_DATA_TYPE_OF: u8 = 4;
const SET_DATA_INTERVAL: u8 = 6;
/// In a `typeof`: the kind of expression, its attributes; and in those, alike for `meta` and `ct`, the key, for `ct` the direction.
const TYPE_OF_EXPRESSION: u8 = 0;
const TYPE_OF_ATTRIBUTES: u8 = 1;
const EXPRESSION_KEY: u8 = 0;
const EXPRESSION_DIRECTION: u8 = 1;
const NO_DIRECTION: i32 = -1;

/// Adds a value, which is shorter than 256 bytes.
fn put(data: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let length =
        u8::try_from(value.len()).expect("user data of a comment or of numbers is shorter than 256 bytes");
    data.extend([kind, length]);
    data.extend_from_slice(value);
}

/// The value of a kind; none also where the data is not what we think it is: it may be another program's.
fn find(mut data: &[u8], kind: u8) -> Option<&[u8]> {
    while let [of, length, rest @ ..] = data {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *of == kind {
            return Some(value);
        }
        data = rest;
    }
    None
}

/// How long a comment may be, in bytes: nft(8) takes no longer one (its `NFTNL_UDATA_COMMENT_MAXLEN`, 128 with the NUL).
pub(crate) const COMMENT_BYTES: usize = 127;

/// A rule's user data with a comment, which is cut off where it is too long.
pub(crate) fn of_comment(comment: &str) -> Vec<u8> {
    let mut end = comment.len().min(COMMENT_BYTES);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let text = [&comment.as_bytes()[..end], &[0]].concat();
    let mut data = Vec::with_capacity(text.len() + 2);
    put(&mut data, RULE_COMMENT, &text);
    data
}

/// The comment in a rule's user data.
pub(crate) fn comment(data: &[u8]) -> Option<&str> {
    let text = find(data, RULE_COMMENT)?;
    std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).ok()
}

/// The user data of an element that begins a range which goes to the end of what can be counted: nft(8) takes it for a single key else.
pub(crate) fn of_open_range() -> Vec<u8> {
    let mut data = Vec::new();
    put(&mut data, ELEMENT_FLAGS, &OPEN_RANGE.to_ne_bytes());
    data
}

/// A set's user data, by which nft(8) knows how to read its keys and what it maps to.
pub(crate) fn of_set(key: &[DataType], data_type: Option<DataType>, is_map: bool) -> Vec<u8> {
    let mut data = Vec::new();
    put(&mut data, SET_KEY_BYTE_ORDER, &(DataType::byte_order_of(key) as u32).to_ne_bytes());
    if is_map {
        let order = data_type.map_or(0, |of| of.byte_order() as u32);
        put(&mut data, SET_DATA_BYTE_ORDER, &order.to_ne_bytes());
    }
    // What has no name of its own is told by `typeof`, which nft takes for key and data, or for neither.
    if let (&[key], Some(DataType::CtZone)) = (key, data_type)
        && let (Some(of_key), Some(of_data)) = (key.type_of(), DataType::CtZone.type_of())
    {
        put(&mut data, SET_KEY_TYPE_OF, &type_of(of_key));
        put(&mut data, SET_DATA_TYPE_OF, &type_of(of_data));
    }
    if is_map {
        // It maps to single values.
        put(&mut data, SET_DATA_INTERVAL, &0u32.to_ne_bytes());
    }
    data
}

fn type_of(of: TypeOf) -> Vec<u8> {
    let (mut attributes, mut data) = (Vec::new(), Vec::new());
    put(&mut attributes, EXPRESSION_KEY, &of.key.to_ne_bytes());
    if of.expression == TypeOf::CT {
        put(&mut attributes, EXPRESSION_DIRECTION, &NO_DIRECTION.to_ne_bytes());
    }
    put(&mut data, TYPE_OF_EXPRESSION, &of.expression.to_ne_bytes());
    put(&mut data, TYPE_OF_ATTRIBUTES, &attributes);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_as_it_was_made() {
        assert_eq!(of_comment("ab"), [0, 3, b'a', b'b', 0]);
        assert_eq!(comment(&of_comment("ab")), Some("ab"));
        let long = "ä".repeat(100);
        assert_eq!(comment(&of_comment(&long)), Some(&long[..126]));
        // Another kind before it, and what is cut off.
        assert_eq!(comment(&[9, 1, 7, 0, 2, b'x', 0]), Some("x"));
        assert_eq!(comment(&[0, 9, 7]), None);
        assert_eq!(comment(&[0]), None);
    }
}
