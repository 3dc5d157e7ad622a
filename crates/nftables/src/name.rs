//! What tables, chains and sets are called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Which packets a table sees (`NFPROTO_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// ARP.
    Arp = 3,
    /// Frames that a bridge passes on.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        [Family::Inet, Family::Ip, Family::Arp, Family::Bridge, Family::Ip6]
            .into_iter()
            .find(|family| family.number() == number)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Arp => "arp",
            Family::Bridge => "bridge",
            Family::Ip6 => "ip6",
        })
    }
}

/// The name of a table, a chain or a set. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(Arc<str>);

/// A text that cannot be a name.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is no name of a table, chain or set: 1 to {max} bytes, no NUL", max = Name::MAX_BYTES)]
pub struct NameError(String);

impl Name {
    /// `NFT_NAME_MAXLEN` less the NUL.
    pub const MAX_BYTES: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.len() {
            1..=Self::MAX_BYTES if !text.contains('\0') => Ok(Name(text.into())),
            _ => Err(NameError(text.to_owned())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableId {
    /// Tables of two families may have one name.
    pub family: Family,
    /// Its name.
    pub name: Name,
}

impl TableId {
    /// The chain of that name in this table, whether there is one or not.
    ///
    /// # Errors
    /// The text is no name.
    pub fn chain(&self, name: &str) -> Result<ChainId, NameError> {
        Ok(ChainId { table: self.clone(), name: name.parse()? })
    }

    /// The set or map of that name in this table, whether there is one or not.
    ///
    /// # Errors
    /// The text is no name.
    pub fn set(&self, name: &str) -> Result<SetId, NameError> {
        Ok(SetId { table: self.clone(), name: name.parse()? })
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// Which chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChainId {
    /// Of which table.
    pub table: TableId,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

/// Which set or map.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetId {
    /// Of which table.
    pub table: TableId,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}
