//! Verdicts and their reasons.

use std::fmt;
use std::str::FromStr;

use crate::{GroupId, RuleId};

/// What becomes of a frame at a port, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Accepted or dropped.
    pub verdict: Verdict,
    /// Every rule that admits the frame (of a tracked frame: its connection), in order of group and id. Empty where
    /// no rule was asked or none admits.
    pub rules: Vec<(GroupId, RuleId)>,
    /// Whether an accepted frame goes through connection tracking: if it is a connection's first, the connection is
    /// then committed in the port's zone.
    pub tracked: bool,
}

impl Judgement {
    /// Whether the frame passes.
    pub fn accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accept(_))
    }

    /// Accepted for another reason than a rule.
    pub(super) fn accept(basis: Basis) -> Self {
        Self { verdict: Verdict::Accept(basis), rules: Vec::new(), tracked: false }
    }

    pub(super) fn drop(reason: DropReason) -> Self {
        Self { verdict: Verdict::Drop(reason), rules: Vec::new(), tracked: false }
    }

    /// Accepted by rules, or dropped for want of any.
    pub(super) fn by_rules(rules: Vec<(GroupId, RuleId)>, tracked: bool, otherwise: DropReason) -> Self {
        match rules.is_empty() {
            true => Self::drop(otherwise),
            false => Self { verdict: Verdict::Accept(Basis::Rule), rules, tracked },
        }
    }
}

/// Accepted or dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The frame passes, on what ground.
    Accept(Basis),
    /// The frame does not pass, for what reason.
    Drop(DropReason),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(basis) => write!(f, "accept ({basis})"),
            Self::Drop(reason) => write!(f, "drop ({reason})"),
        }
    }
}

/// Declares a closed list of words with their spellings.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$word),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(Self::$word => $text,)*
                })
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($text => Ok(Self::$word),)*
                    _ => Err(UnknownWord),
                }
            }
        }
    };
}

/// A text that is no such word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown word")]
pub struct UnknownWord;

words! {
    /// On what ground a frame passes.
    Basis {
        /// The port is trusted.
        Trusted = "trusted",
        /// A rule admits it, or the connection that it belongs to.
        Rule = "rule",
        /// ARP or RARP.
        Arp = "arp",
        /// DHCP: a client's message on egress, a server's on ingress.
        Dhcp = "dhcp",
        /// Neighbour discovery or multicast listener discovery.
        NeighbourDiscovery = "neighbour-discovery",
        /// Its ethertype is one of `permitted_ethertypes`.
        PermittedEthertype = "permitted-ethertype",
    }
}

words! {
    /// Why a frame is dropped, in the words of the semantics page.
    DropReason {
        /// It carries a VLAN tag.
        Vlan = "vlan",
        /// Its source MAC is none of the port's.
        SpoofedMac = "spoofed-mac",
        /// ARP whose sender is no pair of the port.
        SpoofedArp = "spoofed-arp",
        /// IP whose source is no pair of the port.
        SpoofedIp = "spoofed-ip",
        /// The port plays DHCP server.
        DhcpServer = "dhcp-server",
        /// The port plays router.
        RouterAdvertisement = "router-advertisement",
        /// Neighbour discovery that speaks for another.
        SpoofedNd = "spoofed-nd",
        /// Its ethertype is not permitted.
        Ethertype = "ethertype",
        /// No rule admits it.
        NoRule = "no-rule",
        /// Conntrack calls it invalid.
        CtInvalid = "ct-invalid",
        /// Its destination is another station.
        NotForPort = "not-for-port",
        /// No policy names the port.
        NoPolicy = "no-policy",
        /// It belongs to a connection that no rule admits any more.
        Revoked = "revoked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_told_with_its_ground() {
        assert_eq!(Verdict::Accept(Basis::Rule).to_string(), "accept (rule)");
        assert_eq!(Verdict::Drop(DropReason::NoRule).to_string(), "drop (no-rule)");
    }

    #[test]
    fn words_read_back() {
        for word in DropReason::ALL {
            assert_eq!(word.to_string().parse(), Ok(*word));
        }
        for word in Basis::ALL {
            assert_eq!(word.to_string().parse(), Ok(*word));
        }
        assert_eq!("spoofed".parse::<DropReason>(), Err(UnknownWord));
    }
}
