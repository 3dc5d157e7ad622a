//! Ports as operators call them.

use std::fmt;
use std::time::Duration;

use agent::api::ID_BEGINS;
use agent::config::Config;
use anyhow::{Context as _, bail};
use policy::{Policy, Port, PortId};

use crate::flows::interfaces;

/// Interfaces carry so many characters of the id (Neutron: `DEVICE_NAME_MAX_LEN` 14, `tap` and its like before it).
pub(crate) const ID_IN_NAME: usize = 11;
/// Prefixes of interface names by which Neutron plugs a port.
const PLUGS: [&str; 4] = ["tap", "qvo", "qvb", "vhu"];
/// So many ports are named that may be meant.
const NAMED: usize = 5;

/// Why a word means no port of a policy.
#[derive(Debug)]
pub(crate) enum Uncalled {
    /// None has such an id.
    Unknown(String),
    /// None has this id, and to be the beginning of one it is too short.
    Short(String),
    /// More than one id begins so.
    Several(String, Vec<PortId>),
}

impl fmt::Display for Uncalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uncalled::Unknown(word) => write!(f, "port {word}: the policy does not know it"),
            Uncalled::Short(word) => write!(
                f,
                "port {word}: the policy does not know it (of the beginning of an id give at least {ID_BEGINS} characters)"
            ),
            Uncalled::Several(word, ids) => {
                let named: Vec<&str> = ids.iter().take(NAMED).map(PortId::as_str).collect();
                let more = if ids.len() > NAMED { ", …" } else { "" };
                write!(f, "port {word}: {} ports begin so: {}{more}", ids.len(), named.join(", "))
            }
        }
    }
}

impl std::error::Error for Uncalled {}

/// A port by its id, by the beginning of it, or by an interface that is named after it.
pub(crate) fn find_port<'p>(policy: &'p Policy, word: &str) -> Result<&'p Port, Uncalled> {
    if let Some(port) = policy.ports.get(&PortId::from(word)) {
        return Ok(port);
    }
    let plugged = PLUGS.iter().find_map(|plug| word.strip_prefix(plug)).filter(|id| id.len() == ID_IN_NAME);
    let beginning = plugged.unwrap_or(word);
    if beginning.len() < ID_BEGINS {
        return Err(Uncalled::Short(word.to_owned()));
    }
    let found: Vec<&Port> = policy
        .ports
        .values()
        .filter(|port| port.id.as_str().starts_with(beginning))
        .map(AsRef::as_ref)
        .collect();
    match found.as_slice() {
        [port] => Ok(port),
        [] => Err(Uncalled::Unknown(word.to_owned())),
        several => {
            Err(Uncalled::Several(word.to_owned(), several.iter().map(|port| port.id.clone()).collect()))
        }
    }
}

/// A host whose interfaces have names of their own.
#[derive(Clone, Copy)]
pub(crate) struct Host<'a> {
    /// Where its database is, and which bridge is meant.
    pub(crate) config: &'a Config,
    /// How long the database may take.
    pub(crate) within: Duration,
}

impl Host<'_> {
    /// The id of the port of the policy that a word means: as of [`find_port`], or the name of an interface of the bridge. That a port is closed
    /// because the policy does not know it is said only of one that is plugged in.
    pub(crate) async fn port_called(self, policy: &Policy, word: &str) -> anyhow::Result<PortId> {
        let uncalled = match find_port(policy, word) {
            Ok(port) => return Ok(port.id.clone()),
            Err(several @ Uncalled::Several(..)) => return Err(several.into()),
            Err(uncalled) => uncalled,
        };
        let bridge = &self.config.integration_bridge;
        let asked = tokio::time::timeout(self.within, interfaces(self.config)).await;
        let late = || format!("no answer from the database within {} s", self.within.as_secs_f64());
        let interfaces = match asked.with_context(late).and_then(|interfaces| interfaces) {
            Ok(interfaces) => interfaces,
            Err(reason) => bail!("{uncalled}; the interfaces of {bridge} were not looked at: {reason:#}"),
        };
        let is_meant = |id: &str, name: &str| id == word || name == word;
        let plugged = interfaces.iter().find_map(|interface| {
            let id = interface.port_id.as_deref()?;
            is_meant(id, &interface.name).then_some((PortId::from(id), &interface.name))
        });
        match plugged {
            Some((id, _)) if policy.ports.contains_key(&id) => Ok(id),
            Some((id, name)) => bail!(
                "port {id}: the policy does not know it, and interface {name} of {bridge} is its: it is closed (no-policy)"
            ),
            None => bail!("{uncalled}, nor is an interface of {bridge} its or called so"),
        }
    }
}
