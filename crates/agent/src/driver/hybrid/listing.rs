//! Ports and groups as the worker's firewall has them.

use std::collections::BTreeMap;

use hybrid::{Firewall, Remote};
use policy::{GroupId, Policy, PortId};
use tokio::sync::oneshot;

use super::super::listing;
use super::backend::Backend;
use crate::api::{GroupKind, GroupPage, PortEntry, PortPage, PortState, Question};

/// What is asked of the worker by somebody who changes nothing.
#[derive(Debug)]
pub(super) enum Show {
    /// Ports of which it is known how they are plugged in.
    Ports {
        /// The page.
        page: PortPage,
        /// See [`Question::refused`].
        refused: BTreeMap<String, String>,
        /// Where the answer goes.
        answer: oneshot::Sender<PortPage>,
    },
    /// Groups.
    Groups(Question<GroupPage>),
    /// The whole policy, if there is one yet.
    Policy(oneshot::Sender<Option<Policy>>),
}

/// Why no frame of a port passes, or each, although the policy says otherwise.
pub(super) struct Standing<'w> {
    /// No zone is left for it.
    pub(super) without_zone: bool,
    /// It is plugged in by this interface, which is on no hybrid bridge.
    pub(super) elsewhere: Option<&'w String>,
    /// Something has been put in force since the driver began.
    pub(super) is_in_force: bool,
}

/// The rest of an entry that says how the port is plugged in.
pub(super) fn complete_port<B: Backend>(
    entry: &mut PortEntry,
    firewall: &Firewall<B::Dialect>,
    standing: &Standing<'_>,
) {
    let id = PortId::from(entry.id.as_str());
    let policy = firewall.port(&id);
    if let Some(port) = policy {
        entry.take_policy(port);
    }
    entry.zone = firewall.plug_of(&id).map(|plug| plug.zone);
    let (state, reason) = match policy {
        _ if !standing.is_in_force => (PortState::Pending, Some("nothing is in force yet".to_owned())),
        _ if standing.without_zone => {
            (PortState::Closed, Some("no conntrack zone is left for it".to_owned()))
        }
        None => (PortState::Closed, Some("no policy knows it".to_owned())),
        Some(port) if port.is_trusted() => (PortState::Trusted, None),
        Some(_) => match standing.elsewhere {
            Some(interface) => (
                PortState::Unfiltered,
                Some(format!("{interface} is on no hybrid bridge: this driver does not filter it")),
            ),
            None => (PortState::Filtered, None),
        },
    };
    (entry.state, entry.reason) = (state, reason);
}

/// A page of groups.
pub(super) fn group_page<B: Backend>(
    question: &Question<GroupPage>,
    firewall: &Firewall<B::Dialect>,
    backend: &B,
) -> GroupPage {
    listing::groups(&question.query, firewall.groups(), firewall.address_groups(), |entry| {
        entry.take_refused(&question.refused);
        let remote = match entry.kind {
            GroupKind::AddressGroup => Remote::AddressGroup(entry.id.as_str().into()),
            GroupKind::SecurityGroup => {
                let group = GroupId::from(entry.id.as_str());
                entry.local_ports = firewall.carriers(&group).map(ToString::to_string).collect();
                for rule in firewall.refused_of(&group) {
                    let object = format!("rule {} of security group {group}", rule.rule);
                    entry.refused.insert(object, rule.reason.to_owned());
                }
                Remote::Group(group)
            }
        };
        [entry.members_ipv4, entry.members_ipv6] = firewall.member_counts(&remote).map(Some);
        entry.remote_of_groups = firewall.named_by(&remote).map(ToString::to_string).collect();
        entry.kernel_sets = firewall.sets_of(&remote).flat_map(|set| backend.fill(set)).collect();
    })
}
