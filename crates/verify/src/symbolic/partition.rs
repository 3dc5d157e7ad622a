//! Which packets find which flow of a table.

use std::collections::{BTreeMap, HashMap};

use rust_openflow::Field;

use crate::tables::{Entry, FlowId, Tables};

use super::error::ProofError;
use super::space::{Region, Space};
use super::view::{Source, Term, View};

/// Disjoint sets of packets, each with a flow whose actions they all meet. Who is in none finds no flow.
pub(crate) type Partition = Vec<(Region, FlowId)>;

/// Partitions of tables, each made once for all views that the table cannot tell apart.
pub(crate) struct Partitions<'t> {
    tables: &'t Tables,
    /// What the flows of a table look at.
    looked_at: BTreeMap<u8, Vec<Field>>,
    made: HashMap<(u8, Vec<Option<Source>>), std::rc::Rc<Partition>>,
}

impl<'t> Partitions<'t> {
    pub(crate) fn new(tables: &'t Tables) -> Self {
        Partitions { tables, looked_at: BTreeMap::new(), made: HashMap::new() }
    }

    pub(crate) fn tables(&self) -> &'t Tables {
        self.tables
    }

    /// The partition of a table for packets of this view.
    pub(crate) fn of(
        &mut self,
        space: &Space,
        table: u8,
        view: &View,
    ) -> Result<std::rc::Rc<Partition>, ProofError> {
        let fields = self.looked_at.entry(table).or_insert_with(|| looked_at(self.tables.entries(table)));
        let key = (table, view.sources_of(fields));
        if let Some(made) = self.made.get(&key) {
            return Ok(made.clone());
        }
        let partition = std::rc::Rc::new(Maker { tables: self.tables, space, table, view }.make()?);
        self.made.insert(key, partition.clone());
        Ok(partition)
    }
}

/// The fields that entries look at, those of a tag as its TCI.
fn looked_at(entries: &[Entry]) -> Vec<Field> {
    let fields = entries.iter().flat_map(|entry| &entry.terms).map(|(field, ..)| match field {
        Field::VlanVid | Field::VlanPcp => Field::VlanTci,
        field => *field,
    });
    let fields: std::collections::BTreeSet<Field> = fields.filter(|field| *field != Field::ConjId).collect();
    fields.into_iter().collect()
}

struct Maker<'a> {
    tables: &'a Tables,
    space: &'a Space,
    table: u8,
    view: &'a View,
}

impl Maker<'_> {
    fn make(&self) -> Result<Partition, ProofError> {
        let mut left = self.space.all();
        let mut partition = Partition::new();
        let levels: Vec<&[Entry]> =
            self.tables.entries(self.table).chunk_by(|a, b| a.priority == b.priority).collect();
        for (number, level) in levels.iter().enumerate() {
            let below = || levels[number + 1..].iter().copied().flatten();
            let is_last = below().all(|entry| entry.clauses.is_empty());
            for found in [self.of_their_own(level)?, self.by_conjunction(level, &left, is_last)?] {
                left = self.take(found, &left, &mut partition)?;
            }
        }
        Ok(partition)
    }

    /// Moves packets from those that are left to the partition. Two kinds of flow must not claim the same packet.
    fn take(
        &self,
        found: Vec<(Region, FlowId)>,
        left: &Region,
        partition: &mut Partition,
    ) -> Result<Region, ProofError> {
        let mut kinds: BTreeMap<String, (Vec<Region>, FlowId)> = BTreeMap::new();
        for (region, flow) in found {
            let key = format!("{:?}", self.tables.flow(flow).actions);
            kinds.entry(key).or_insert_with(|| (Vec::new(), flow)).0.push(region);
        }
        let mut rest = left.clone();
        let mut before: Vec<FlowId> = Vec::new();
        for (regions, flow) in kinds.into_values() {
            let claimed = self.space.any(regions)?.and(left)?;
            let region = claimed.and(&rest)?;
            if region != claimed {
                before.push(flow);
                let flows = before.iter().map(|flow| self.tables.flow(*flow).to_string()).collect();
                return Err(ProofError::Ambiguous { table: self.table, flows });
            }
            before.push(flow);
            rest = rest.minus(&region)?;
            if !region.is_empty() {
                partition.push((region, flow));
            }
        }
        Ok(rest)
    }

    /// What the flows of one priority match, conjunctions left aside.
    fn of_their_own(&self, level: &[Entry]) -> Result<Vec<(Region, FlowId)>, ProofError> {
        let own = level.iter().filter(|entry| entry.clauses.is_empty() && conjunction_of(entry).is_none());
        let mut found = Vec::new();
        for entry in own {
            if let Some(region) = self.matched(entry)? {
                found.push((region, entry.flow));
            }
        }
        Ok(found)
    }

    /// What the complete conjunctions of one priority lead to. One that leads nowhere makes the search go on below, and
    /// there without conjunctions: how that ends is not followed where there are any.
    fn by_conjunction(
        &self,
        level: &[Entry],
        left: &Region,
        is_last: bool,
    ) -> Result<Vec<(Region, FlowId)>, ProofError> {
        let mut clauses: BTreeMap<u32, Vec<Vec<Region>>> = BTreeMap::new();
        for entry in level.iter().filter(|entry| !entry.clauses.is_empty()) {
            let Some(region) = self.matched(entry)? else { continue };
            for clause in &entry.clauses {
                let of =
                    clauses.entry(clause.conjunction).or_insert_with(|| vec![Vec::new(); clause.of.into()]);
                of[usize::from(clause.number - 1)].push(region.clone());
            }
        }
        let mut found = Vec::new();
        for (conjunction, clauses) in clauses {
            if clauses.iter().any(Vec::is_empty) {
                continue;
            }
            let mut complete = left.clone();
            for clause in clauses {
                complete = complete.and(&self.space.any(clause)?)?;
            }
            let leads = level.iter().find(|entry| conjunction_of(entry) == Some(u128::from(conjunction)));
            let led = match leads {
                Some(entry) => self.matched(entry)?.map(|region| (region, entry.flow)),
                None => None,
            };
            match led {
                Some((region, flow)) if complete.minus(&region)?.is_empty() => found.push((complete, flow)),
                None if is_last => {}
                _ if complete.is_empty() => {}
                _ => return Err(ProofError::Conjunction { table: self.table, conjunction }),
            }
        }
        Ok(found)
    }

    /// The packets that an entry matches, `conj_id` aside; none if no packet of this view can.
    fn matched(&self, entry: &Entry) -> Result<Option<Region>, ProofError> {
        let mut region = self.space.all();
        // What is constant decides without a diagram.
        for bits in [false, true] {
            for (field, value, mask) in entry.terms.iter().rev() {
                let constant = matches!(self.view.get(*field), Some(Source::Const(_)));
                if *field == Field::ConjId || constant == bits {
                    continue;
                }
                match self.view.term(self.space, (*field, *value, *mask))? {
                    Term::Always => {}
                    Term::Never => return Ok(None),
                    Term::If(matching) => region = matching.and(&region)?,
                }
            }
        }
        Ok(Some(region))
    }
}

/// The conjunction that leads to a flow.
fn conjunction_of(entry: &Entry) -> Option<u128> {
    entry.terms.iter().find(|(field, ..)| *field == Field::ConjId).map(|(_, value, _)| *value)
}
