//! Cookies: whose flow it is, of what kind, and about which object.

use crate::layout::{COOKIE_MAGIC, FlowKind};

/// The bits that say that a flow is ours.
pub const OURS_MASK: u64 = 0xffff << 48;

const OBJECT_BITS: u32 = 40;
const OBJECT_MASK: u64 = (1 << OBJECT_BITS) - 1;

/// The cookie of a flow of `kind` about `object` (40 bits; larger numbers do not occur).
pub fn cookie(kind: FlowKind, object: u64) -> u64 {
    debug_assert!(object <= OBJECT_MASK, "object {object} does not fit a cookie");
    (u64::from(COOKIE_MAGIC) << 48) | (u64::from(kind as u8) << OBJECT_BITS) | (object & OBJECT_MASK)
}

/// Whether the flow with this cookie is ours; all others are never touched.
pub fn is_ours(cookie: u64) -> bool {
    cookie & OURS_MASK == u64::from(COOKIE_MAGIC) << 48
}

/// Kind and object of one of our cookies; `None` for foreign ones and for kinds of another version.
pub fn decode(cookie: u64) -> Option<(FlowKind, u64)> {
    if !is_ours(cookie) {
        return None;
    }
    let kind = (cookie >> OBJECT_BITS) & 0xff;
    let kind = FlowKind::ALL.iter().copied().find(|k| u64::from(*k as u8) == kind)?;
    Some((kind, cookie & OBJECT_MASK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_encodes_and_nothing_foreign() {
        for kind in FlowKind::ALL {
            assert_eq!(decode(cookie(*kind, 7)), Some((*kind, 7)));
        }
        assert_eq!(decode(0), None);
        assert_eq!(decode(u64::from(COOKIE_MAGIC) << 48 | 0xff << 40), None, "unknown kind");
    }
}
