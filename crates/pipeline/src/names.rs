//! Table `names`: what the numbers in our flows stand for, kept in the switch beside the flows that use them.

use rust_openflow::{Action, Field, Flow, FlowKey, Match};
use serde_json::json;

use policy::{AddressGroupId, GroupId, PortId};

use crate::flow::flow;
use crate::layout::{FlowKind, names};
use crate::numbers::{OfPort, RemoteId, SetId};
use crate::sets::SetKey;

/// A number and what it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    /// `reg7`: an exact set of security groups, and those of them that are stateless.
    Set(SetId, Vec<GroupId>, Vec<GroupId>),
    /// `conj_id`: a remote security group.
    Group(RemoteId, GroupId),
    /// `conj_id`: a remote address group.
    AddressGroup(RemoteId, AddressGroupId),
    /// `in_port`, `reg5`: a local port.
    Port(OfPort, PortId),
}

impl Name {
    pub(crate) fn set(id: SetId, SetKey { groups, stateless }: &SetKey) -> Self {
        Name::Set(id, groups.iter().cloned().collect(), stateless.iter().cloned().collect())
    }

    /// The flow that carries the name.
    pub(crate) fn flow(&self) -> Flow {
        let (kind, object, matches, text) = match self {
            Name::Set(id, groups, stateless) => {
                let texts =
                    |groups: &[GroupId]| -> Vec<String> { groups.iter().map(ToString::to_string).collect() };
                let mut text = json!({ "set": texts(groups) });
                if !stateless.is_empty() {
                    text["stateless"] = texts(stateless).into();
                }
                (FlowKind::Set, u64::from(id.0), Match::new().with(Field::Reg(7), *id), text)
            }
            Name::Group(id, group) => {
                (FlowKind::Remote, u64::from(id.0), conj_id(*id), json!({ "security_group": group.as_str() }))
            }
            Name::AddressGroup(id, group) => {
                (FlowKind::Remote, u64::from(id.0), conj_id(*id), json!({ "address_group": group.as_str() }))
            }
            Name::Port(ofport, port) => {
                let matches = Match::new().with(Field::InPort, *ofport);
                (FlowKind::Port, u64::from(ofport.0), matches, json!({ "port": port.as_str() }))
            }
        };
        let note = Action::note(text.to_string());
        flow((kind, object), names::TABLE, names::NAME, matches, vec![note])
    }

    /// The name that a flow of table `names` carries; `None` for any other flow and for a note that is not ours.
    pub fn of(flow: &Flow) -> Option<Name> {
        let FlowKey { table, matches, .. } = flow.key();
        let [Action::Note(note)] = flow.actions.as_slice() else { return None };
        if table != names::TABLE {
            return None;
        }
        let end = note.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let value: serde_json::Value = serde_json::from_slice(note.get(..end)?).ok()?;
        let exact = |field| matches.get(field).and_then(|(value, _)| u32::try_from(value).ok());
        let text = |key: &str| value.get(key).and_then(|v| v.as_str());
        let groups = |key: &str| -> Option<Vec<GroupId>> {
            let groups = value.get(key)?.as_array()?;
            groups.iter().map(|group| group.as_str().map(GroupId::from)).collect()
        };
        if let Some(set) = groups("set") {
            let stateless = groups("stateless").unwrap_or_default();
            return Some(Name::Set(SetId(exact(Field::Reg(7))?), set, stateless));
        }
        if let Some(group) = text("security_group") {
            return Some(Name::Group(RemoteId(exact(Field::ConjId)?), group.into()));
        }
        if let Some(group) = text("address_group") {
            return Some(Name::AddressGroup(RemoteId(exact(Field::ConjId)?), group.into()));
        }
        let ofport = OfPort(u16::try_from(exact(Field::InPort)?).ok()?);
        text("port").map(|port| Name::Port(ofport, port.into()))
    }
}

fn conj_id(id: RemoteId) -> Match {
    Match::new().with(Field::ConjId, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_from_its_flow() {
        for name in [
            Name::Set(SetId(3), vec!["sg-1".into(), "a,\"b\"".into()], vec![]),
            Name::Set(SetId(4), vec![], vec![]),
            Name::Set(SetId(5), vec!["sg-1".into(), "sg-2".into()], vec!["sg-2".into()]),
            Name::Group(RemoteId(7), "sg-1".into()),
            Name::AddressGroup(RemoteId(8), "ag-1".into()),
            Name::Port(OfPort(5), "p-1".into()),
        ] {
            assert_eq!(Name::of(&name.flow()), Some(name));
        }
    }
}
