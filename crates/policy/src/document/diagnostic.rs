//! What is wrong with a document, where, and why.

use std::fmt;
use std::sync::Arc;

use crate::{AddressGroupId, GroupId, PortId, RuleId};

/// One problem of a document. Displayed as `file:line: object: field: reason`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// The file's name, as it was given.
    pub file: Arc<str>,
    /// The line of the field, or of the object where the field is missing; from 1.
    pub line: u64,
    /// The object: `security group sg-1`, `rule r1 of security group sg-1`, `port p-1`, `document`; an object
    /// whose id cannot be read is named by its place, like `ports[3]`.
    pub object: String,
    /// The field, as a path inside the object: `fixed_ips[0].ip_address`; for bad syntax, `syntax`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, object, field, reason } = self;
        write!(f, "{file}:{line}: {object}: {field}: {reason}")
    }
}

/// The name of an object of a document.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectId {
    /// A security group.
    SecurityGroup(GroupId),
    /// A rule, and the group that it stands in; none if the document does not tell.
    Rule(Option<GroupId>, RuleId),
    /// An address group.
    AddressGroup(AddressGroupId),
    /// A port.
    Port(PortId),
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecurityGroup(id) => write!(f, "security group {id}"),
            Self::Rule(Some(group), id) => write!(f, "rule {id} of security group {group}"),
            Self::Rule(None, id) => write!(f, "rule {id}"),
            Self::AddressGroup(id) => write!(f, "address group {id}"),
            Self::Port(id) => write!(f, "port {id}"),
        }
    }
}
