//! In whose words it is said what passes: chains and rules are one thing to iptables and another to nftables. Who carries which group, which
//! rule has which remote, and what is to be said anew after a change is the same for all ([`crate::Firewall`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use policy::{MacAddr, Rule};

use crate::bridge::Element;
use crate::device::Devices;
use crate::sets::Sets;

/// The rules of a chain.
pub type ChainOf<D> = Vec<<D as Dialect>::Rule>;
/// Chains as they shall be; none shall be gone.
pub type Said<D> = Vec<(<D as Dialect>::Key, Option<ChainOf<D>>)>;

/// See the module's documentation.
pub trait Dialect: fmt::Debug + Send + 'static {
    /// Which chain.
    type Key: Clone + Ord + fmt::Debug + Send + 'static;
    /// A rule in one.
    type Rule: Clone + PartialEq + fmt::Debug + Send + 'static;

    /// The sets that rules ask for members.
    fn sets(compress: bool) -> Sets;

    /// Why a rule cannot be said, if it cannot: it is refused then, and admits nothing.
    fn why_not(rule: &Rule) -> Option<&'static str>;

    /// The chains that do not depend on any port, but for [`Dialect::ways`].
    fn base() -> Vec<(Self::Key, ChainOf<Self>)>;

    /// The chains of the port of a name.
    fn port(name: &str, port: Option<&PortChains>) -> Said<Self>;

    /// What leads to them in the tables of nftables.
    fn elements(port: &PortChains) -> BTreeSet<Element>;

    /// The chains of the group of a name.
    fn group(name: &str, group: Option<&GroupRules<'_>>) -> Said<Self>;

    /// Where each packet of a connection is asked for its MAC that a member was admitted by.
    fn bound(members: &BTreeSet<(IpNet, MacAddr)>) -> Vec<(Self::Key, ChainOf<Self>)>;

    /// What leads to the ports of one bucket, where packets do not find their port by its mark.
    fn bucket(_number: u16, _ports: &[&PortChains]) -> Said<Self> {
        Vec::new()
    }

    /// What leads to the buckets that there are.
    fn ways(
        _buckets: &BTreeSet<u16>,
        _chains: &BTreeMap<Self::Key, ChainOf<Self>>,
    ) -> Vec<(Self::Key, ChainOf<Self>)> {
        Vec::new()
    }
}

/// What is said of one port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortChains {
    pub(crate) devices: Devices,
    pub(crate) zone: u16,
    /// Ends the names of its chains.
    pub(crate) name: String,
    /// The ends of the names of its groups' chains, of those that track connections.
    pub(crate) stateful: Vec<String>,
    /// And of those that do not.
    pub(crate) stateless: Vec<String>,
}

/// What is said of one group.
#[derive(Debug)]
pub struct GroupRules<'g> {
    pub(crate) stateful: bool,
    /// Its rules, once for each way to ask for the other end.
    pub(crate) rules: Vec<(&'g Rule, RemoteEnd)>,
}

/// The other end of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RemoteEnd {
    Any,
    Prefix(IpNet),
    /// A member that counts only with its MAC (semantics, "members of a security group").
    Bound(IpNet, MacAddr),
    Set(String),
}

impl RemoteEnd {
    /// Of a remote; `set` is that of its members.
    pub(crate) fn of(remote: &policy::Remote, set: Option<&str>) -> Option<Self> {
        match remote {
            policy::Remote::Any => Some(RemoteEnd::Any),
            policy::Remote::Prefix(net) => Some(RemoteEnd::Prefix(*net)),
            policy::Remote::Group(_) | policy::Remote::AddressGroup(_) => {
                set.map(|set| RemoteEnd::Set(set.to_owned()))
            }
        }
    }
}
