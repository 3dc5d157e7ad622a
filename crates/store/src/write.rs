//! How a policy gets into the store: by what is different.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ovsdb::{
    Atom, Change, Delete, Insert, MonitorTable, Mutate, Mutator, Operation, OperationIndex, Row, RowError,
    Select, Transaction, Update, Uuid, Value, Wait,
};
use policy::{AddressGroupId, GroupId, PolicyDelta, Port, PortId};
use serde_json::json;

use crate::content::{Content, MemberText, PortRow, Touched};
use crate::group_rows::AllGroupRows;
use crate::member_text::Family;
use crate::schema::{ADDRESS_GROUP, DATABASE, GLOBAL, MEMBERS, PORT, PUBLISHER_LOCK, SECURITY_GROUP};
use crate::sight::group_head;
use crate::view::group_document;
use crate::write_group::{GroupWriting, unless_true, write_group, write_set};

/// Members of a family that a row has at most: what a change of one of them costs a server for each session is then little more than what it costs without any.
const ROOM: usize = 1_000;

/// In `external_ids` of the row Global.
const PUBLISHER: &str = "publisher";

/// The rows that are in the store, as a session has them that follows every column.
#[derive(Clone, Debug, Default)]
pub struct Held {
    groups: AllGroupRows,
    address_groups: BTreeMap<AddressGroupId, Arc<Row>>,
    ports: BTreeMap<PortId, Arc<Row>>,
    global: Option<Arc<Row>>,
}

/// Changes of rows that belong together, and how much is left for others.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
    touched: Touched,
    /// How many rows it changes.
    pub rows: usize,
    /// Whether everything that is to be changed is in it.
    pub is_last: bool,
}

/// What the store is to hold, what it holds, and where the two may differ.
///
/// Nothing is remembered of what was sent: an answer that never came leaves the question whether a change was made to the rows themselves.
/// So nothing is lost, and nothing is done twice.
#[derive(Clone, Debug)]
pub struct Writer {
    wanted: Content,
    held: Held,
    dirty: Touched,
    /// See [`ROOM`].
    pub(crate) room: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Writer { wanted: Content::default(), held: Held::default(), dirty: Touched::default(), room: ROOM }
    }
}

impl Held {
    /// The tables to follow, of which it is made.
    pub fn tables() -> Vec<MonitorTable> {
        [GLOBAL, SECURITY_GROUP, MEMBERS, ADDRESS_GROUP, PORT]
            .into_iter()
            .map(MonitorTable::all_columns)
            .collect()
    }

    /// Takes a change of a row in.
    ///
    /// # Errors
    /// A row without its id: the session does not follow that column.
    pub fn see(&mut self, change: &Change) -> Result<(), RowError> {
        let (old, new) = (change.old_row(), change.new_row());
        match &*change.table {
            SECURITY_GROUP | MEMBERS => self.groups.see(change),
            ADDRESS_GROUP => put(&mut self.address_groups, old, new),
            PORT => put(&mut self.ports, old, new),
            GLOBAL => {
                let is_held = self.global.as_ref().map(|row| row.uuid()) == old.map(|row| row.uuid());
                if new.is_some() || is_held {
                    self.global = new.cloned();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// How many security groups, address groups and ports there are.
    pub fn counts(&self) -> [usize; 3] {
        [self.groups.heads().count(), self.address_groups.len(), self.ports.len()]
    }

    /// How often the policy was written, and the number that hosts answer; none if nobody has prepared the store.
    pub fn global(&self) -> Option<(Uuid, i64, i64)> {
        let row = self.global.as_ref()?;
        Some((row.uuid(), row.integer("revision").ok()?, row.integer("sequence").ok()?))
    }

    /// The name of the publisher that wrote last, if one did.
    pub fn publisher(&self) -> Option<&str> {
        self.global.as_ref()?.map("external_ids").ok()?.get(PUBLISHER)
    }

    /// Where a port is bound, as its row has it; nowhere without a row.
    pub fn hosts(&self, port: &PortId) -> BTreeSet<String> {
        let hosts = self.ports.get(port).and_then(|row| row.strings("hosts").ok()).unwrap_or_default();
        hosts.into_iter().map(str::to_owned).collect()
    }

    /// Everything as a document, in the words of the API. A rule that is none is left out, and named.
    ///
    /// # Errors
    /// A column is not there or of another type.
    pub fn document(&self) -> Result<(serde_json::Value, Vec<String>), RowError> {
        let mut bad = Vec::new();
        let mut groups = Vec::new();
        for (id, row) in self.groups.heads() {
            let (document, faults) = group_document(id, &group_head(row)?, None);
            groups.push(document);
            bad.extend(faults.into_iter().map(|fault| format!("{}: {}", fault.object, fault.reason)));
        }
        let mut address_groups = Vec::new();
        for (id, row) in &self.address_groups {
            let addresses = row.strings("addresses")?;
            address_groups
                .push(json!({"id": id.as_str(), "name": row.string("name")?, "addresses": addresses}));
        }
        let ports = self.ports.iter().map(|(id, row)| Ok(PortRow::read(row)?.document(id)));
        let ports = ports.collect::<Result<Vec<_>, RowError>>()?;
        let document = json!({"security_groups": groups, "address_groups": address_groups, "ports": ports});
        Ok((document, bad))
    }
}

/// Keeps a row by its id.
fn put<I: Ord + for<'t> From<&'t str>>(
    rows: &mut BTreeMap<I, Arc<Row>>,
    old: Option<&Arc<Row>>,
    new: Option<&Arc<Row>>,
) -> Result<(), RowError> {
    if let Some(old) = old {
        let id = I::from(old.string("id")?);
        // Another row of the same id may have come in the same transaction.
        if rows.get(&id).is_some_and(|row| row.uuid() == old.uuid()) {
            rows.remove(&id);
        }
    }
    if let Some(new) = new {
        rows.insert(I::from(new.string("id")?), Arc::clone(new));
    }
    Ok(())
}

impl Writer {
    /// For a store that holds these rows.
    pub fn holding(held: Held) -> Self {
        Writer { held, ..Writer::default() }
    }

    /// Takes in how the policy changes. `hosts` says where a port is bound.
    pub fn apply(&mut self, delta: &PolicyDelta, hosts: impl Fn(&Port) -> BTreeSet<String>) {
        let touched = self.wanted.apply(delta, hosts);
        self.dirty.add(touched);
    }

    /// A port is bound to other hosts now.
    pub fn bind(&mut self, port: &PortId, hosts: &BTreeSet<String>) {
        if let Some(row) = self.wanted.ports.get_mut(port).filter(|row| row.hosts != *hosts) {
            row.hosts.clone_from(hosts);
            self.dirty.ports.insert(port.clone());
        }
    }

    /// Takes in how the store changes, by whomever: what is not as it is wanted is to be written again.
    ///
    /// # Errors
    /// See [`Held::see`].
    pub fn see(&mut self, change: &Change) -> Result<(), RowError> {
        self.held.see(change)?;
        for row in [change.old_row(), change.new_row()].into_iter().flatten() {
            match &*change.table {
                ADDRESS_GROUP => _ = self.dirty.address_groups.insert(row.string("id")?.into()),
                PORT => _ = self.dirty.ports.insert(row.string("id")?.into()),
                _ => {}
            }
        }
        for id in AllGroupRows::touched_by(change)? {
            for family in Family::BOTH {
                let Some(difference) = change.column_difference(family.column()) else { continue };
                let atoms = difference.added.atoms().chain(difference.removed.atoms());
                let texts = atoms.filter_map(|atom| atom.as_str());
                self.dirty.members.extend(texts.map(|text| (id.clone(), (family, text.to_owned()))));
            }
            self.dirty.heads.insert(id);
        }
        Ok(())
    }

    /// Everything may differ: for whoever takes over from another.
    pub fn compare_all(&mut self) {
        let held = self.held.groups.iter().map(|(id, _)| id);
        self.dirty.heads.extend(self.wanted.groups.keys().chain(held).cloned());
        self.dirty
            .address_groups
            .extend(self.wanted.address_groups.keys().chain(self.held.address_groups.keys()).cloned());
        self.dirty.ports.extend(self.wanted.ports.keys().chain(self.held.ports.keys()).cloned());
        for (id, rows) in self.held.groups.iter() {
            let wanted = self.wanted.groups.get(id).map(|group| &group.members);
            let held: BTreeSet<MemberText> = rows.texts().unwrap_or_default().into_iter().collect();
            let wanted: BTreeSet<MemberText> = wanted.into_iter().flat_map(BTreeMap::keys).cloned().collect();
            let members = held.symmetric_difference(&wanted);
            self.dirty.members.extend(members.map(|member| (id.clone(), member.clone())));
        }
    }

    /// What is to be written next: all of it if that is at most `limit` rows, else a part in an order in which no port is without what it
    /// refers to. None if the store is as it is wanted. What is in it counts as written; [`Writer::failed`] takes that back.
    pub fn batch(&mut self, limit: usize) -> Option<Batch> {
        let mut batch = Batch { is_last: true, ..Batch::default() };
        let dirty = std::mem::take(&mut self.dirty);
        let mut left = Touched::default();
        let mut members: BTreeMap<GroupId, Vec<MemberText>> = BTreeMap::new();
        for (group, member) in dirty.members {
            members.entry(group).or_default().push(member);
        }
        let groups: BTreeSet<GroupId> =
            dirty.heads.iter().chain(&dirty.moved).chain(members.keys()).cloned().collect();
        let (go, stay): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|id| self.wanted.groups.get(id).is_none_or(|group| group.head.is_none()));
        let (ports_go, ports_stay): (Vec<_>, Vec<_>) =
            dirty.ports.into_iter().partition(|id| !self.wanted.ports.contains_key(id));
        let mut steps: Vec<Step> = Vec::new();
        let (addresses_go, addresses_stay): (Vec<_>, Vec<_>) =
            dirty.address_groups.into_iter().partition(|id| !self.wanted.address_groups.contains_key(id));
        steps.extend(addresses_stay.into_iter().map(Step::AddressGroup));
        steps.extend(stay.into_iter().map(Step::Group));
        steps.extend(ports_stay.into_iter().chain(ports_go).map(Step::Port));
        steps.extend(go.into_iter().map(Step::Group));
        steps.extend(addresses_go.into_iter().map(Step::AddressGroup));
        for step in steps {
            let mut of_group = Vec::new();
            if let Step::Group(id) = &step {
                of_group = members.remove(id).unwrap_or_default();
            }
            if batch.rows >= limit {
                batch.is_last = false;
                left.step(step, true, of_group);
                continue;
            }
            let before = batch.operations.len();
            let mut writing = GroupWriting::default();
            match &step {
                Step::Group(id) => {
                    of_group.retain(|member| self.member_differs(id, member));
                    writing = self.write_group(id, &of_group, &mut batch.operations);
                    if writing.moves {
                        batch.touched.moved.insert(id.clone());
                    }
                }
                Step::AddressGroup(id) => self.write_address_group(id, &mut batch.operations),
                Step::Port(id) => self.write_port(id, &mut batch.operations),
            }
            if batch.operations.len() > before {
                batch.rows += writing.rows.max(1);
                batch.touched.step(step, writing.head_differs, of_group);
            }
        }
        self.dirty.add(left);
        // The first policy is to be told of as finished, also an empty one.
        let is_first = self.held.global().is_some_and(|(_, _, sequence)| sequence == 0);
        (batch.rows > 0 || is_first).then_some(batch)
    }

    /// Whether the rows are as the batch was to make them: for whoever does not know if it was written.
    pub fn is_written(&self, batch: &Batch) -> bool {
        let Touched { heads, members, moved, address_groups, ports } = &batch.touched;
        let mut of_groups: BTreeMap<&GroupId, Vec<MemberText>> =
            heads.iter().chain(moved).map(|id| (id, Vec::new())).collect();
        for (group, member) in members {
            of_groups.entry(group).or_default().push(member.clone());
        }
        let mut left = Vec::new();
        of_groups.iter().for_each(|(id, members)| _ = self.write_group(id, members, &mut left));
        address_groups.iter().for_each(|id| self.write_address_group(id, &mut left));
        ports.iter().for_each(|id| self.write_port(id, &mut left));
        left.is_empty()
    }

    /// The batch was not written, or nobody knows.
    pub fn failed(&mut self, batch: Batch) {
        self.dirty.add(batch.touched);
    }

    /// The rows that are in the store.
    pub fn held(&self) -> &Held {
        &self.held
    }

    fn member_differs(&self, id: &GroupId, (family, text): &MemberText) -> bool {
        let held = self.held.groups.get(id);
        let is_held = held.is_some_and(|rows| rows.holds(*family, &Atom::from(text.as_str())));
        let wanted = self.wanted.groups.get(id);
        is_held != wanted.is_some_and(|group| group.members.contains_key(&(*family, text.clone())))
    }

    /// Of its members, only `members` may differ, but for a group that has no row yet.
    fn write_group(
        &self,
        id: &GroupId,
        members: &[MemberText],
        operations: &mut Vec<Operation>,
    ) -> GroupWriting {
        write_group(id, self.wanted.groups.get(id), self.held.groups.get(id), members, self.room, operations)
    }

    fn write_address_group(&self, id: &AddressGroupId, operations: &mut Vec<Operation>) {
        match (self.wanted.address_groups.get(id), self.held.address_groups.get(id)) {
            (None, None) => {}
            (None, Some(row)) => operations.push(Delete::from(ADDRESS_GROUP).filter(row.uuid()).into()),
            (Some((name, addresses)), None) => {
                let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
                let insert = Insert::into(ADDRESS_GROUP).set("id", id.as_str()).set("name", name.as_str());
                operations.push(insert.set("addresses", Value::set(addresses)).into());
            }
            (Some((name, addresses)), Some(row)) => {
                if row.string("name").ok() != Some(name) {
                    let update = Update::table(ADDRESS_GROUP).filter(row.uuid()).set("name", name.as_str());
                    operations.push(update.into());
                }
                let held: BTreeSet<&str> = row.strings("addresses").unwrap_or_default().into_iter().collect();
                let wanted: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
                let (mutate, differs) = write_set(
                    Mutate::table(ADDRESS_GROUP).filter(row.uuid()),
                    "addresses",
                    held.difference(&wanted).copied().collect(),
                    wanted.difference(&held).copied().collect(),
                );
                if differs {
                    operations.push(mutate.into());
                }
            }
        }
    }

    fn write_port(&self, id: &PortId, operations: &mut Vec<Operation>) {
        let wanted = self.wanted.ports.get(id);
        let Some(row) = self.held.ports.get(id) else {
            let set = wanted.map(|wanted| {
                port_columns(wanted)
                    .fold(Insert::into(PORT).set("id", id.as_str()), |insert, (column, value)| {
                        insert.set(column, value)
                    })
            });
            return operations.extend(set.map(Operation::from));
        };
        match wanted {
            None => operations.push(Delete::from(PORT).filter(row.uuid()).into()),
            Some(wanted) if PortRow::read(row).ok().as_ref() == Some(wanted) => {}
            Some(wanted) => {
                let update = Update::table(PORT).filter(row.uuid());
                operations.push(
                    port_columns(wanted)
                        .fold(update, |update, (column, value)| update.set(column, value))
                        .into(),
                );
            }
        }
    }
}

impl Batch {
    /// Of nothing but the name of who writes it.
    pub(crate) fn marking() -> Self {
        Batch { is_last: true, ..Batch::default() }
    }

    /// As a transaction that is made only if nobody else has written since the rows were seen that it was made of.
    /// `publisher`: and only by whoever holds the lock, who leaves this name.
    /// `ask`: gives out a new number for hosts to answer, which is the result of the operation whose place is returned;
    /// so does the first policy when it is finished, before which no host takes anything from the store.
    ///
    /// None if nobody has prepared the store.
    pub fn transaction(
        &self,
        held: &Held,
        publisher: Option<&str>,
        ask: bool,
    ) -> Option<(Transaction, Option<OperationIndex>)> {
        let (global, revision, sequence) = held.global()?;
        let mut transaction = Transaction::new(DATABASE);
        if publisher.is_some() {
            transaction.push(Operation::Assert { lock: PUBLISHER_LOCK.to_owned() });
        }
        let wait = Wait::until_equal(GLOBAL).timeout(Duration::ZERO).filter(global);
        transaction.push(wait.columns(["revision"]).row([("revision", revision)]));
        for operation in &self.operations {
            transaction.push(operation.clone());
        }
        let mut mutate = Mutate::table(GLOBAL).filter(global).mutate("revision", Mutator::Add, 1);
        if let Some(name) = publisher.filter(|name| held.publisher() != Some(name)) {
            mutate = mutate.set_key("external_ids", PUBLISHER, name);
        }
        let is_first = sequence == 0 && self.is_last;
        if !ask && !is_first {
            transaction.push(mutate);
            return Some((transaction, None));
        }
        transaction.push(mutate.mutate("sequence", Mutator::Add, 1));
        let place = transaction.push(Select::from(GLOBAL).filter(global).columns(["sequence"]));
        Some((transaction, Some(place)))
    }

    /// What it does, operation by operation.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What it changes, for people: `port p-1`, `security group g`, `member 10.0.0.1 of security group g`.
    pub fn objects(&self) -> impl Iterator<Item = String> {
        let Touched { heads, members, moved: _, address_groups, ports } = &self.touched;
        let groups = heads.iter().map(|id| format!("security group {id}"));
        let members = members.iter().map(|(id, (_, text))| format!("member {text} of security group {id}"));
        let address_groups = address_groups.iter().map(|id| format!("address group {id}"));
        let ports = ports.iter().map(|id| format!("port {id}"));
        groups.chain(members).chain(address_groups).chain(ports)
    }
}

enum Step {
    Group(GroupId),
    AddressGroup(AddressGroupId),
    Port(PortId),
}

impl Touched {
    fn add(&mut self, mut other: Touched) {
        self.heads.append(&mut other.heads);
        self.members.append(&mut other.members);
        self.moved.append(&mut other.moved);
        self.address_groups.append(&mut other.address_groups);
        self.ports.append(&mut other.ports);
    }

    fn step(&mut self, step: Step, with_head: bool, members: Vec<MemberText>) {
        match step {
            Step::Group(id) => {
                self.members.extend(members.into_iter().map(|member| (id.clone(), member)));
                if with_head {
                    self.heads.insert(id);
                }
            }
            Step::AddressGroup(id) => _ = self.address_groups.insert(id),
            Step::Port(id) => _ = self.ports.insert(id),
        }
    }
}

fn port_columns(row: &PortRow) -> impl Iterator<Item = (&'static str, Value)> {
    let set = |texts: &BTreeSet<String>| Value::set(texts.iter().map(String::as_str));
    [
        ("hosts", set(&row.hosts)),
        ("network_id", row.network_id.as_str().into()),
        ("mac_address", row.mac_address.as_str().into()),
        ("fixed_ips", set(&row.fixed_ips)),
        ("allowed_address_pairs", set(&row.allowed_address_pairs)),
        ("security_groups", set(&row.security_groups)),
        ("port_security_enabled", unless_true(row.port_security_enabled)),
        ("device_owner", row.device_owner.as_str().into()),
    ]
    .into_iter()
}
