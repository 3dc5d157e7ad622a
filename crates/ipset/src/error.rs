//! What the kernel refuses, in its users' words.

use thiserror::Error;

use crate::set::SetName;

/// Why something was not done.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refused it.
    #[error("ipset: cannot {action} {name}: {reason}")]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// Of which set; or of which type of sets.
        name: String,
        /// What ip_set.h says of the code, or the system.
        reason: String,
        /// The code: an `errno`, or `IPSET_ERR_*`.
        code: i32,
    },
    /// A set of another type, whose elements are not addresses.
    #[error("ipset: {name} is of type {type_name}, not hash:net")]
    OtherType {
        /// Which set.
        name: SetName,
        /// Its type.
        type_name: String,
    },
    /// No answer, or one that cannot be read.
    #[error("ipset: {0}")]
    Netlink(#[from] nfnetlink::Error),
}

impl Error {
    pub(crate) fn of(error: nfnetlink::Error, action: &'static str, name: &str) -> Self {
        match error {
            nfnetlink::Error::Refused(refusal) => {
                let reason = reason(refusal.code).map_or_else(|| refusal.to_string(), str::to_owned);
                Error::Refused { action, name: name.to_owned(), reason, code: refusal.code }
            }
            other => Error::Netlink(other),
        }
    }

    /// There is no such set.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused { code: NO_ENTRY, .. })
    }

    /// There is such a set or element already, or there is none to take away.
    pub fn is_exists(&self) -> bool {
        matches!(self, Error::Refused { code: EXISTS | FILE_EXISTS, .. })
    }

    /// The set holds as much as it can.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Refused { code: HASH_FULL, .. })
    }

    /// A rule or a set refers to the set.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Error::Refused { code: BUSY, .. })
    }
}

/// `ENOENT`, `EEXIST`.
const NO_ENTRY: i32 = 2;
const FILE_EXISTS: i32 = 17;
/// `IPSET_ERR_BUSY`, `IPSET_ERR_EXIST`, `IPSET_ERR_HASH_FULL`.
const BUSY: i32 = 4100;
const EXISTS: i32 = 4103;
const HASH_FULL: i32 = 4352;

/// `enum ipset_errno` and, from 4352, the codes of `hash` types (ip_set_hash.h).
fn reason(code: i32) -> Option<&'static str> {
    Some(match code {
        NO_ENTRY => "there is no such set",
        FILE_EXISTS => "there is a set of that name",
        4097 => "the kernel does not understand the message",
        4098 => "the kernel has no such type of sets",
        4099 => "there are as many sets as there can be",
        BUSY => "something refers to it",
        4101 => "there is a set of the new name",
        4102 => "the two sets are of different types",
        EXISTS => "the element is there already, or is not there",
        4104 => "the length of the prefix is not valid",
        4105 => "the netmask is not valid",
        4106 => "the family is not valid",
        4107 => "elements of the set have no timeout",
        4108 => "it is referred to",
        4109 => "the address is not one of IPv4",
        4110 => "the address is not one of IPv6",
        4111 => "elements of the set have no counters",
        4112 => "elements of the set have no comments",
        4113 => "the mask is not valid",
        4114 => "elements of the set have no skbinfo",
        HASH_FULL => "it is full",
        4353 => "such an element cannot be held",
        _ => return None,
    })
}
