//! Flow tables by what they mean: their numbers replaced by what these stand for.
//!
//! Which number a set, a remote, a generation or a zone got depends on what was there before; what a packet meets does
//! not. So two tables that came about on different ways are compared with their numbers exchanged:
//!
//! | number | where | stands for |
//! |---|---|---|
//! | set | `reg7`, cookies of kinds 3 and 4 | the groups that the note beside its name tells (docs/decisions/0001) |
//! | remote | `conj_id`, conjunctions, cookies of kind 5 | the group that its name tells |
//! | generation | `ct_mark` | the tables that stamp connections with it, and for which sets |
//! | zone | `reg8` | the OpenFlow ports that load it |
//!
//! Everything is read from the flows. A number that stands for nothing, or two that stand for the same, are an error: no
//! table of a sound history holds such.

use std::collections::{BTreeMap, BTreeSet};

use rust_openflow::{Action, Field, Flow, FlowKey, Match};

const SET: Field = Field::Reg(7);
const ZONE: Field = Field::Reg(8);

/// Our cookies (docs/pipeline.md): "Sg", the kind, the object.
const MAGIC: u64 = 0x5367;
const OBJECT_BITS: u32 = 40;
const OF_SET: [u64; 2] = [3, 4];
const OF_REMOTE: u64 = 5;

/// A table in which every number stands for the same thing as in any other such table that holds the same names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meaning {
    flows: BTreeMap<FlowKey, (u64, Vec<Action>)>,
}

/// A table that has no meaning.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MeaningError {
    /// Nothing says what a number is for.
    #[error("{what} {number:#x} stands for nothing: {flow}")]
    Unnamed {
        /// What kind of number it is.
        what: &'static str,
        /// The number.
        number: u128,
        /// A flow that uses it, as ovs-ofctl prints it.
        flow: String,
    },
    /// Two numbers are for the same.
    #[error("{what} {first:#x} and {second:#x} stand for the same")]
    Twice {
        /// What kind of numbers they are.
        what: &'static str,
        /// One of them.
        first: u128,
        /// The other.
        second: u128,
    },
}

impl Meaning {
    /// Reads flows of sgflow's.
    ///
    /// # Errors
    /// [`MeaningError`].
    pub fn of<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Result<Self, MeaningError> {
        Self::read(&flows.into_iter().cloned().map(Flow::canonical).collect::<Vec<_>>())
    }

    fn read(flows: &[Flow]) -> Result<Self, MeaningError> {
        let numbers = Numbers::read(flows)?;
        let mut meaning = Meaning::default();
        for flow in flows {
            let renamed = Renaming { numbers: &numbers, flow }.flow()?;
            meaning.flows.insert(renamed.key(), (renamed.cookie, renamed.actions));
        }
        Ok(meaning)
    }

    /// Flows of one of two tables alone, as text, names first: `-` before those of this one, `+` before the other's.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let alone = |sign: char, of: &Self, than: &Self| -> Vec<(bool, String)> {
            let differs = |(key, body): &(&FlowKey, &(u64, Vec<Action>))| than.flows.get(*key) != Some(*body);
            let text = |(key, (cookie, actions)): (&FlowKey, &(u64, Vec<Action>))| {
                let FlowKey { table, priority, matches } = key.clone();
                let flow = Flow::new(table, priority, matches, actions.clone()).with_cookie(*cookie);
                let is_name = actions.iter().any(|action| matches!(action, Action::Note(_)));
                (!is_name, format!("{sign} {flow}"))
            };
            of.flows.iter().filter(differs).map(text).collect()
        };
        let mut lines = alone('-', self, other);
        lines.extend(alone('+', other, self));
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// What numbers stand for, as numbers that are the same wherever the same things are named: their places in the order of
/// what they stand for.
struct Numbers {
    sets: BTreeMap<u128, u32>,
    remotes: BTreeMap<u128, u32>,
    generations: BTreeMap<u128, u32>,
    zones: BTreeMap<u128, u32>,
}

impl Numbers {
    fn read(flows: &[Flow]) -> Result<Self, MeaningError> {
        let (mut sets, mut remotes) = (BTreeMap::new(), BTreeMap::new());
        for flow in flows {
            match Name::of(flow) {
                Some((Name::Set(groups, stateless), id)) => _ = sets.insert(id, (groups, stateless)),
                Some((Name::Remote(kind, group), id)) => _ = remotes.insert(id, (kind, group)),
                None => {}
            }
        }
        let (sets, remotes) = (placed("set", sets)?, placed("remote", remotes)?);
        let mut stamps: BTreeMap<u128, BTreeSet<(u8, Option<u32>)>> = BTreeMap::new();
        let mut loads: BTreeMap<u128, BTreeSet<u128>> = BTreeMap::new();
        for flow in flows {
            let of_set = exact(&flow.matches, SET).and_then(|set| sets.get(&set).copied());
            for mark in flow.actions.iter().filter_map(stamp) {
                stamps.entry(mark).or_default().insert((flow.table, of_set));
            }
            let Some(port) = exact(&flow.matches, Field::InPort) else { continue };
            for zone in flow.actions.iter().filter_map(|action| whole(action, ZONE)) {
                loads.entry(zone).or_default().insert(port);
            }
        }
        let (generations, zones) = (placed("generation", stamps)?, placed("zone", loads)?);
        Ok(Numbers { sets, remotes, generations, zones })
    }
}

/// From 1, in the order of what the numbers stand for.
fn placed<T: Ord>(what: &'static str, named: BTreeMap<u128, T>) -> Result<BTreeMap<u128, u32>, MeaningError> {
    let mut by_meaning: BTreeMap<T, u128> = BTreeMap::new();
    for (number, meaning) in named {
        if let Some(first) = by_meaning.insert(meaning, number) {
            return Err(MeaningError::Twice { what, first, second: number });
        }
    }
    Ok(by_meaning.into_values().zip(1..).collect())
}

/// What a note tells.
enum Name {
    Set(Vec<String>, Vec<String>),
    Remote(&'static str, String),
}

impl Name {
    fn of(flow: &Flow) -> Option<(Name, u128)> {
        let [Action::Note(note)] = flow.actions.as_slice() else { return None };
        let text = note.split(|byte| *byte == 0).next()?;
        let said: serde_json::Value = serde_json::from_slice(text).ok()?;
        let groups = |key: &str| -> Option<Vec<String>> {
            let groups = said.get(key)?.as_array()?.iter().map(|group| group.as_str().map(str::to_owned));
            groups.collect()
        };
        if let Some(groups_of_set) = groups("set") {
            let stateless = groups("stateless").unwrap_or_default();
            return Some((Name::Set(groups_of_set, stateless), exact(&flow.matches, SET)?));
        }
        let remote =
            |kind: &'static str| said.get(kind)?.as_str().map(|group| Name::Remote(kind, group.to_owned()));
        let name = remote("security_group").or_else(|| remote("address_group"))?;
        Some((name, exact(&flow.matches, Field::ConjId)?))
    }
}

/// The value of a field that is matched whole.
fn exact(matches: &Match, field: Field) -> Option<u128> {
    matches.get(field).filter(|(_, mask)| *mask == field.full_mask()).map(|(value, _)| value)
}

/// What an action writes to all of a field.
fn whole(action: &Action, wanted: Field) -> Option<u128> {
    match action {
        Action::SetField { field, value, mask } if *field == wanted && *mask == wanted.full_mask() => {
            Some(*value)
        }
        _ => None,
    }
}

/// The generation that an action stamps a connection with; 0 is none.
fn stamp(action: &Action) -> Option<u128> {
    let Action::Ct(ct) = action else { return None };
    ct.exec.iter().find_map(|action| whole(action, Field::CtMark)).filter(|mark| *mark != 0)
}

/// One flow with its numbers exchanged.
struct Renaming<'a> {
    numbers: &'a Numbers,
    flow: &'a Flow,
}

impl Renaming<'_> {
    fn flow(&self) -> Result<Flow, MeaningError> {
        let mut matches = self.flow.matches.clone();
        for field in [SET, Field::ConjId, ZONE, Field::CtMark] {
            if let Some(number) = exact(&matches, field) {
                matches = matches.with(field, self.number(field, number)?);
            }
        }
        let mut actions = self.actions(&self.flow.actions)?;
        // "conjunction": a flow may stand for clauses of several, in whatever order it names them (ovs-actions(7)).
        if actions.iter().all(|action| matches!(action, Action::Conjunction { .. })) {
            actions.sort_by_key(|action| match action {
                Action::Conjunction { id, clause, .. } => (*id, *clause),
                _ => (0, 0),
            });
        }
        let FlowKey { table, priority, .. } = self.flow.key();
        Ok(Flow::new(table, priority, matches, actions).with_cookie(self.cookie()?))
    }

    fn actions(&self, actions: &[Action]) -> Result<Vec<Action>, MeaningError> {
        actions.iter().map(|action| self.action(action)).collect()
    }

    fn action(&self, action: &Action) -> Result<Action, MeaningError> {
        Ok(match action {
            Action::SetField { field, value, mask } if *mask == field.full_mask() => {
                Action::set_field(*field, self.number(*field, *value)?)
            }
            Action::Conjunction { id, clause, n_clauses } => {
                let id = self.named("remote", &self.numbers.remotes, u128::from(*id))?;
                Action::Conjunction { id, clause: *clause, n_clauses: *n_clauses }
            }
            Action::Clone(nested) => Action::Clone(self.actions(nested)?),
            Action::Ct(ct) => {
                let mut ct = ct.clone();
                ct.exec = self.actions(&ct.exec)?;
                Action::Ct(ct)
            }
            other => other.clone(),
        })
    }

    /// What stands for the number in a field; the number itself in fields that hold none of ours.
    fn number(&self, field: Field, number: u128) -> Result<u128, MeaningError> {
        let Numbers { sets, remotes, generations, zones } = self.numbers;
        let named = match field {
            SET => self.named("set", sets, number)?,
            ZONE => self.named("zone", zones, number)?,
            Field::ConjId => self.named("remote", remotes, number)?,
            Field::CtMark if number != 0 => self.named("generation", generations, number)?,
            _ => return Ok(number),
        };
        Ok(u128::from(named))
    }

    fn cookie(&self) -> Result<u64, MeaningError> {
        let cookie = self.flow.cookie;
        let (kind, object) = ((cookie >> OBJECT_BITS) & 0xff, cookie & ((1 << OBJECT_BITS) - 1));
        let object = u128::from(object);
        let named = if cookie >> 48 != MAGIC {
            return Ok(cookie);
        } else if OF_SET.contains(&kind) {
            self.named("set", &self.numbers.sets, object)?
        } else if kind == OF_REMOTE {
            self.named("remote", &self.numbers.remotes, object)?
        } else {
            return Ok(cookie);
        };
        Ok((cookie >> OBJECT_BITS << OBJECT_BITS) | u64::from(named))
    }

    fn named(
        &self,
        what: &'static str,
        numbers: &BTreeMap<u128, u32>,
        number: u128,
    ) -> Result<u32, MeaningError> {
        let unnamed = || MeaningError::Unnamed { what, number, flow: self.flow.to_string() };
        numbers.get(&number).copied().ok_or_else(unnamed)
    }
}
