//! Names of objects: one type a kind, so that a port is never looked up by the name of a group.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Declares one id type. Ids are opaque: OpenStack gives out UUIDs, a hand-written document may use any
/// non-empty text. Cloning costs a reference count.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as it stands in the document.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

id! {
    /// Id of a security group.
    GroupId
}
id! {
    /// Id of a security-group rule.
    RuleId
}
id! {
    /// Id of an address group.
    AddressGroupId
}
id! {
    /// Id of a port; what an Interface carries in `external_ids:iface-id`.
    PortId
}
id! {
    /// Id of a network.
    NetworkId
}
