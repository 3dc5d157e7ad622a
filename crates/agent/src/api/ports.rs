//! The ports of this host as they are enforced.

use std::fmt;

use policy::Port;
use serde::{Deserialize, Serialize};

use super::PageQuery;

/// Fewer characters are no beginning of a port's id.
pub const ID_BEGINS: usize = 4;

/// The answer to `GET /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortPage {
    /// In the order of their ids.
    pub ports: Vec<PortEntry>,
    /// What `after` is to be to go on; null behind the last one.
    pub next: Option<String>,
}

/// What becomes of a port's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortState {
    /// Judged by the rules of its groups.
    Filtered,
    /// All pass: the policy says so.
    Trusted,
    /// None passes.
    Closed,
    /// None passes: the switch refuses a flow of it.
    Refused,
    /// All pass although the policy wants them judged: this driver does not reach the port.
    Unfiltered,
    /// As it was when the agent began: nothing has been put in force since.
    Pending,
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PortState::Filtered => "filtered",
            PortState::Trusted => "trusted",
            PortState::Closed => "closed",
            PortState::Refused => "refused",
            PortState::Unfiltered => "unfiltered",
            PortState::Pending => "pending",
        })
    }
}

/// A port that an interface of the bridge says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortEntry {
    /// Its id (`external_ids:iface-id`).
    pub id: String,
    /// The interface on the bridge.
    pub interface: Option<String>,
    /// The interface's OpenFlow port number; null where the switch has not opened it.
    pub ofport: Option<u16>,
    /// The VLAN of its network on this bridge; 0 is the untagged network.
    pub vlan: Option<u16>,
    /// Its conntrack zone.
    pub zone: Option<u16>,
    /// Its MAC by the policy.
    pub mac: Option<String>,
    /// Its addresses by the policy, and what it may use besides: `10.0.0.9/32`, with another MAC `10.0.0.9/32 fa:16:3e:00:00:09`.
    pub addresses: Vec<String>,
    /// Its security groups.
    pub groups: Vec<String>,
    /// The number of its set of groups (`reg7`), with `openvswitch`.
    pub set: Option<u32>,
    /// What becomes of its frames.
    pub state: PortState,
    /// Why, where that is not the policy's wish.
    pub reason: Option<String>,
    /// What the policy's source says of it and is refused: it stays as it was, or closed if it is new.
    pub refused: Option<String>,
}

impl PortEntry {
    /// A port of which nothing else is known.
    pub fn new(id: &str, state: PortState) -> Self {
        PortEntry {
            id: id.to_owned(),
            interface: None,
            ofport: None,
            vlan: None,
            zone: None,
            mac: None,
            addresses: Vec::new(),
            groups: Vec::new(),
            set: None,
            state,
            reason: None,
            refused: None,
        }
    }

    /// With what the policy says of it.
    pub fn take_policy(&mut self, port: &Port) {
        self.mac = Some(port.mac.to_string());
        let pairs = port.allowed_address_pairs.iter().map(|pair| match pair.mac {
            Some(mac) => format!("{} {mac}", pair.ip),
            None => pair.ip.to_string(),
        });
        self.addresses = port.fixed_ips.iter().map(ToString::to_string).chain(pairs).collect();
        self.groups = port.security_groups.iter().map(ToString::to_string).collect();
    }
}

/// The id of the port of this host that a word means: by its id, by the name of its interface, or by the beginning of its id where no other begins so.
/// `ask` answers [`super::Request::Ports`].
///
/// # Errors
/// Nobody can be asked, or, by `unknown`, why the word means none.
pub async fn port_called<A, E>(
    word: &str,
    ask: impl Fn(PageQuery) -> A,
    unknown: impl FnOnce(String) -> E,
) -> Result<String, E>
where
    A: Future<Output = Result<PortPage, E>>,
{
    let named = ask(PageQuery { id: Some(word.to_owned()), ..PageQuery::default() }).await?;
    if let Some(port) = named.ports.into_iter().next() {
        return Ok(port.id);
    }
    let mut begun = Vec::new();
    if word.len() >= ID_BEGINS {
        // Ids that begin so stand behind it.
        let behind = ask(PageQuery { after: Some(word.to_owned()), limit: Some(2), id: None }).await?;
        begun.extend(behind.ports.into_iter().map(|port| port.id).filter(|id| id.starts_with(word)));
    }
    match <[String; 1]>::try_from(begun) {
        Ok([id]) => Ok(id),
        Err(begun) if begun.is_empty() => {
            Err(unknown(format!("no interface of the bridge says that it is port {word}, or is called so")))
        }
        Err(begun) => Err(unknown(format!("port {word}: more than one begins so: {}, …", begun.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::identity;

    use super::*;

    #[tokio::test]
    async fn a_port_is_called_by_id_by_interface_or_by_what_no_other_begins_with() {
        let ids = ["bastion", "web-1", "web-10", "web-2"];
        let ask = async |query: PageQuery| {
            let is_asked = |id: &&str| match (&query.id, &query.after) {
                (Some(word), _) => word == id || *word == format!("tap-{id}"),
                (None, after) => after.as_deref().is_none_or(|after| **id > *after),
            };
            let ports = ids.iter().copied().filter(is_asked).take(query.room());
            let ports = ports.map(|id| PortEntry::new(id, PortState::Filtered)).collect();
            Ok(PortPage { ports, next: None })
        };
        let called = async |word: &str| port_called(word, ask, identity).await;
        for (word, id) in
            [("web-1", "web-1"), ("tap-web-2", "web-2"), ("bast", "bastion"), ("web-10", "web-10")]
        {
            assert_eq!(called(word).await, Ok(id.to_owned()));
        }
        let nobody =
            |word| Err(format!("no interface of the bridge says that it is port {word}, or is called so"));
        for word in ["bas", "batch", "zzzz"] {
            assert_eq!(called(word).await, nobody(word));
        }
        assert_eq!(
            called("web-").await,
            Err("port web-: more than one begins so: web-1, web-10, …".to_owned())
        );
    }
}
