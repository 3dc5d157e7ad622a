//! What the kernel's sets are to be, what they are, and the way from the one to the other.

use std::collections::{BTreeMap, BTreeSet};

use hybrid::SetOp;
use ipnet::IpNet;
use ipset::{Entry, Error, Family, Header, Net, SetName, Spec};
use policy::Ethertype;
use reconcile::{Change, Tracker};

use super::{Fills, Kernel};
use crate::api::SetFill;

/// A set holds at least so many elements, as the kernel's own default has it.
const FEWEST_ELEMENTS: u32 = 65_536;
/// Sets begin with at least so many buckets.
const FEWEST_BUCKETS: u32 = 1024;
/// More changes than this, and more than half of the set: it is filled beside, and takes the place of the old one at once.
const MANY_CHANGES: usize = 4096;
/// Ends the name of the set that is filled beside another, as Neutron's do.
const BESIDE: &str = "-n";
/// Sets that begin so are made by Neutron or by us.
const PREFIXES: [&str; 2] = ["NIPv4", "NIPv6"];
const TYPE: &str = "hash:net";

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Plan {
    sets: BTreeMap<SetName, Held>,
    /// What is to be looked at when it runs next.
    dirty: BTreeSet<SetName>,
    /// Sets that shall not be there any more.
    unwanted: BTreeSet<SetName>,
    faults: BTreeMap<SetName, String>,
    /// How many are wanted in all sets.
    elements: usize,
    /// Sets that are there, as their fill was after the last run, and what they have room for in sum.
    fills: Fills,
    left_over: LeftOver,
}

/// Sets of the time before.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum LeftOver {
    /// They may be named yet.
    #[default]
    Kept,
    ToBeTaken,
    Taken,
}

#[derive(Debug)]
struct Held {
    family: Family,
    nets: Tracker<Net, ()>,
    kernels: Kernels,
}

/// What the kernel has of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kernels {
    /// To be asked. What it holds otherwise than it was known to is drift, if it was known.
    Unknown {
        before: bool,
    },
    Absent,
    /// One of another kind, whose elements are nothing to us.
    OfAnotherKind,
    /// As the tracker says, with room for so many elements.
    Present {
        max_elements: u32,
    },
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Elements added and taken out, one by one.
    pub added: usize,
    /// See `added`.
    pub deleted: usize,
    /// Sets that were filled beside the old one.
    pub rebuilt: usize,
    /// Sets that others had changed.
    pub drift: Vec<Drift>,
    /// Objects that failed, and why.
    pub failures: Vec<(String, String)>,
}

/// A set that somebody else had changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drift {
    /// Which.
    pub set: SetName,
    /// How many elements were taken out.
    pub missing: usize,
    /// How many were added.
    pub unwanted: usize,
}

impl Plan {
    /// Nothing is wanted, nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the sets shall be otherwise.
    pub fn want(&mut self, ops: Vec<SetOp>) {
        for op in ops {
            match op {
                SetOp::Create { set, ethertype } => {
                    let name = name(&set);
                    let held = Held {
                        family: family(ethertype),
                        nets: Tracker::new(),
                        kernels: Kernels::Unknown { before: false },
                    };
                    self.unwanted.remove(&name);
                    self.sets.insert(name.clone(), held);
                    self.dirty.insert(name);
                }
                SetOp::Destroy { set } => {
                    let name = name(&set);
                    if let Some(held) = self.sets.remove(&name) {
                        self.elements -= held.nets.desired_count();
                    }
                    self.dirty.remove(&name);
                    self.faults.remove(&name);
                    self.fills.forget(&name);
                    self.unwanted.insert(name);
                }
                SetOp::Add { set, net } => {
                    self.edit(&set, |nets| nets.want(element(net), ()));
                    self.elements += 1;
                }
                SetOp::Remove { set, net } => {
                    self.edit(&set, |nets| nets.unwant(element(net)));
                    self.elements -= 1;
                }
            }
        }
    }

    fn edit(&mut self, set: &str, edit: impl FnOnce(&mut Tracker<Net, ()>)) {
        let name = name(set);
        let held = self.sets.get_mut(&name).expect("sets are told of before their elements");
        edit(&mut held.nets);
        self.dirty.insert(name);
    }

    /// All sets that shall be there have been told of: others that are as ours are may go.
    pub fn complete(&mut self) {
        if self.left_over == LeftOver::Kept {
            self.left_over = LeftOver::ToBeTaken;
        }
    }

    /// How many sets and elements are wanted.
    pub fn counts(&self) -> (usize, usize) {
        (self.sets.len(), self.elements)
    }

    /// How full the sets are, as of the last run.
    pub fn fills(&self) -> &Fills {
        &self.fills
    }

    /// How full a set is; none if there shall be no such set.
    pub fn fill(&self, set: &str) -> Option<SetFill> {
        let (members, max_members) = self.sets.get(&name(set))?.fill();
        Some(SetFill { name: set.to_owned(), members, max_members })
    }

    /// Sets that are not as they should be, and why.
    pub fn faults(&self) -> impl Iterator<Item = (String, String)> {
        self.faults.iter().map(|(set, reason)| (format!("ipset {set}"), reason.clone()))
    }

    /// Looks whether somebody else changed a set: by how many elements there are, or by all of them. What has been changed is put right by
    /// [`Plan::run`].
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn look<K: Kernel>(&mut self, kernel: &mut K, at_all: bool) -> Result<(), Error> {
        let headers = kernel.headers()?;
        let headers: BTreeMap<&SetName, &Header> =
            headers.iter().map(|header| (&header.name, header)).collect();
        for (name, held) in &mut self.sets {
            let Kernels::Present { .. } = held.kernels else {
                self.dirty.insert(name.clone());
                continue;
            };
            let is_as_known = headers.get(name).is_some_and(|header| {
                u32::try_from(held.nets.actual_count()) == Ok(header.elements) && is_ours(header, held.family)
            });
            if at_all || !is_as_known {
                held.kernels = Kernels::Unknown { before: true };
                self.dirty.insert(name.clone());
            }
        }
        Ok(())
    }

    /// What of the kernel's sets is not as it shall be, in words; nothing is changed.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn pending<K: Kernel>(&mut self, kernel: &mut K) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for name in &self.dirty {
            let Some(held) = self.sets.get_mut(name) else { continue };
            if let Kernels::Unknown { before } = held.kernels {
                held.read(name, kernel, before, &mut Done::default())?;
            }
            let changes = held.nets.pending();
            let missing = changes.iter().filter(|change| matches!(change, Change::Add { .. })).count();
            match held.kernels {
                Kernels::Present { .. } if changes.is_empty() => {}
                Kernels::Present { .. } => {
                    let unwanted = changes.len() - missing;
                    lines.push(format!("ipset {name}: {missing} members are not there, {unwanted} too many"));
                }
                Kernels::Absent | Kernels::Unknown { .. } => lines.push(format!("ipset {name} is not there")),
                Kernels::OfAnotherKind => lines.push(format!("ipset {name} is of another kind")),
            }
        }
        Ok(lines)
    }

    /// The part of [`Plan::run`] that comes before rules are changed: sets that no rule can name yet are made, and what is to go out of others
    /// goes. So at no time rules meet a member that neither the old ones nor the new ones were to meet.
    ///
    /// # Errors
    /// The kernel refuses something without which the rules cannot be changed.
    pub fn before_rules<K: Kernel>(&mut self, kernel: &mut K) -> Result<(), Error> {
        for name in &self.dirty {
            let Some(held) = self.sets.get_mut(name) else { continue };
            if let Kernels::Unknown { before } = held.kernels {
                held.read(name, kernel, before, &mut Done::default())?;
            }
            match held.kernels {
                Kernels::Present { .. } => held.shrink(name, kernel)?,
                Kernels::Absent | Kernels::OfAnotherKind | Kernels::Unknown { .. } => {
                    held.put_right(name, kernel, &mut Done::default())?;
                }
            }
        }
        Ok(())
    }

    /// Makes the kernel's sets as they shall be, as far as they are known to be otherwise. What fails is tried again the next time.
    pub fn run<K: Kernel>(&mut self, kernel: &mut K) -> Done {
        let mut done = Done::default();
        if self.left_over == LeftOver::ToBeTaken {
            match kernel.headers() {
                Ok(headers) => {
                    self.unwanted.extend(headers.into_iter().filter(is_left_over).map(|header| header.name));
                    self.left_over = LeftOver::Taken;
                }
                Err(reason) => done.failures.push(("ipset".to_owned(), reason.to_string())),
            }
        }
        for name in std::mem::take(&mut self.dirty) {
            let Some(held) = self.sets.get_mut(&name) else { continue };
            let put_right = held.put_right(&name, kernel, &mut done);
            self.fills.note(&name, held.fill());
            match put_right {
                Ok(()) => _ = self.faults.remove(&name),
                Err(error) => {
                    held.kernels = Kernels::Unknown { before: false };
                    done.failures.push((format!("ipset {name}"), error.to_string()));
                    self.faults.insert(name.clone(), error.to_string());
                    self.dirty.insert(name);
                }
            }
        }
        // Last, when nothing refers to them any more.
        self.unwanted.retain(|name| !self.sets.contains_key(name));
        for name in std::mem::take(&mut self.unwanted) {
            match remove(&name, kernel) {
                Ok(true) => _ = self.faults.remove(&name),
                Ok(false) => {
                    self.faults.insert(
                        name.clone(),
                        "no rule of the policy names it, but one of the host's does: it is empty".to_owned(),
                    );
                    self.unwanted.insert(name);
                }
                Err(error) => {
                    done.failures.push((format!("ipset {name}"), error.to_string()));
                    self.unwanted.insert(name);
                }
            }
        }
        done
    }
}

impl Held {
    /// How many elements are wanted, and how many the kernel has room for.
    fn fill(&self) -> (usize, Option<u32>) {
        let room = match self.kernels {
            Kernels::Present { max_elements } => Some(max_elements),
            Kernels::Unknown { .. } | Kernels::Absent | Kernels::OfAnotherKind => None,
        };
        (self.nets.desired_count(), room)
    }

    fn put_right<K: Kernel>(&mut self, name: &SetName, kernel: &mut K, done: &mut Done) -> Result<(), Error> {
        if let Kernels::Unknown { before } = self.kernels {
            self.read(name, kernel, before, done)?;
        }
        let changes = self.nets.pending();
        let wanted = self.nets.desired_count();
        let is_much = changes.len() > MANY_CHANGES && changes.len() > wanted / 2;
        match self.kernels {
            Kernels::Present { max_elements } if !is_much && fits(wanted, max_elements) => {
                self.edit(name, kernel, &changes, done)
            }
            Kernels::Absent => {
                let spec = self.spec(name.clone(), wanted);
                kernel.create(&spec)?;
                self.kernels = Kernels::Present { max_elements: spec.max_elements };
                self.edit(name, kernel, &changes, done)
            }
            Kernels::Unknown { .. } | Kernels::OfAnotherKind | Kernels::Present { .. } => {
                self.rebuild(name, kernel, wanted)?;
                done.rebuilt += 1;
                Ok(())
            }
        }
    }

    /// Learns what the kernel has.
    fn read<K: Kernel>(
        &mut self,
        name: &SetName,
        kernel: &mut K,
        before: bool,
        done: &mut Done,
    ) -> Result<(), Error> {
        let set = match kernel.list(name) {
            Ok(set) => Some(set),
            Err(error) if error.is_not_found() => None,
            Err(Error::OtherType { .. }) => {
                self.nets.replace_actual([]);
                self.kernels = Kernels::OfAnotherKind;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (kernels, nets) = match set {
            None => (Kernels::Absent, Vec::new()),
            // An exception from a prefix, or an element that ends, is not what we would have put there.
            Some(set) if is_ours(&set.header, self.family) && set.entries.iter().all(is_plain) => {
                let max_elements = set.header.max_elements.unwrap_or_default();
                (Kernels::Present { max_elements }, set.entries)
            }
            Some(_) => (Kernels::OfAnotherKind, Vec::new()),
        };
        self.nets.replace_actual(nets.into_iter().map(|entry| (entry.net, ())));
        self.kernels = kernels;
        if before {
            let changes = self.nets.pending();
            let missing = changes.iter().filter(|change| matches!(change, Change::Add { .. })).count();
            if !changes.is_empty() || !matches!(kernels, Kernels::Present { .. }) {
                done.drift.push(Drift { set: name.clone(), missing, unwanted: changes.len() - missing });
            }
        }
        Ok(())
    }

    /// Adds first: what is split into parts, or put together, is never without them.
    fn edit<K: Kernel>(
        &mut self,
        name: &SetName,
        kernel: &mut K,
        changes: &[Change<Net, ()>],
        done: &mut Done,
    ) -> Result<(), Error> {
        let (mut add, mut delete) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Add { key, .. } | Change::Modify { key, .. } => add.push(*key),
                Change::Delete { key, .. } => delete.push(*key),
            }
        }
        if !add.is_empty() {
            kernel.add(name, &add)?;
        }
        if !delete.is_empty() {
            kernel.delete(name, &delete)?;
        }
        done.added += add.len();
        done.deleted += delete.len();
        self.nets.confirm(changes.iter().cloned());
        Ok(())
    }

    /// Takes out what shall not be in.
    fn shrink<K: Kernel>(&mut self, name: &SetName, kernel: &mut K) -> Result<(), Error> {
        let is_delete = |change: &Change<Net, ()>| matches!(change, Change::Delete { .. });
        let changes: Vec<_> = self.nets.pending().into_iter().filter(is_delete).collect();
        let nets: Vec<Net> = changes.iter().map(|change| *change.key()).collect();
        if !nets.is_empty() {
            kernel.delete(name, &nets)?;
            self.nets.confirm(changes);
        }
        Ok(())
    }

    /// Fills another set and has it take the place of the one that is there, or makes it where there is none.
    fn rebuild<K: Kernel>(&mut self, name: &SetName, kernel: &mut K, wanted: usize) -> Result<(), Error> {
        let spec = self.spec(beside(name), wanted);
        match kernel.destroy(&spec.name) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let nets: Vec<Net> = self.nets.iter_desired().map(|(net, ())| *net).collect();
        kernel.create(&spec)?;
        let filled = kernel.add(&spec.name, &nets).and_then(|()| self.take_place(name, kernel, &spec));
        if filled.is_err() {
            // It is in nobody's way, and the next attempt takes it away too.
            _ = kernel.destroy(&spec.name);
        }
        filled?;
        self.nets.replace_actual(nets.into_iter().map(|net| (net, ())));
        self.kernels = Kernels::Present { max_elements: spec.max_elements };
        Ok(())
    }

    /// Sets of different kinds cannot change places; one that nothing refers to can go first.
    fn take_place<K: Kernel>(&self, name: &SetName, kernel: &mut K, spec: &Spec) -> Result<(), Error> {
        if self.kernels == Kernels::OfAnotherKind {
            kernel.destroy(name)?;
            kernel.create(&Spec { name: name.clone(), ..spec.clone() })?;
        }
        kernel.swap(&spec.name, name)?;
        kernel.destroy(&spec.name)
    }

    /// With room to grow to the double.
    fn spec(&self, name: SetName, wanted: usize) -> Spec {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX / 2).min(u32::MAX / 4);
        let room = |fewest: u32| (2 * wanted).max(fewest).next_power_of_two();
        Spec {
            name,
            family: self.family,
            max_elements: room(FEWEST_ELEMENTS),
            hash_size: room(FEWEST_BUCKETS),
        }
    }
}

/// Takes a set away; empties it where something refers to it, and says so with `false`.
fn remove<K: Kernel>(name: &SetName, kernel: &mut K) -> Result<bool, Error> {
    match kernel.destroy(name) {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) if error.is_in_use() => kernel.flush(name).map(|()| false),
        Err(error) => Err(error),
    }
}

fn fits(wanted: usize, max_elements: u32) -> bool {
    u32::try_from(wanted).is_ok_and(|wanted| wanted <= max_elements)
}

/// As we make them: no timeouts, counters, comments.
fn is_ours(header: &Header, family: Family) -> bool {
    header.type_name == TYPE && header.family == Some(family) && header.timeout.is_none() && header.flags == 0
}

fn is_plain(entry: &Entry) -> bool {
    !entry.no_match && entry.others.is_empty()
}

/// A set of ours, or of Neutron's, that nothing refers to.
fn is_left_over(header: &Header) -> bool {
    let begins = PREFIXES.iter().any(|prefix| header.name.as_str().starts_with(prefix));
    begins && header.type_name == TYPE && header.references == 0
}

fn beside(name: &SetName) -> SetName {
    format!("{name}{BESIDE}").parse().expect("names of sets leave room for this")
}

fn name(set: &str) -> SetName {
    set.parse().expect("names of sets are made to be ones")
}

fn family(ethertype: Ethertype) -> Family {
    match ethertype {
        Ethertype::Ipv4 => Family::Ipv4,
        Ethertype::Ipv6 => Family::Ipv6,
    }
}

fn element(net: IpNet) -> Net {
    Net::new(net.addr(), net.prefix_len()).expect("elements of sets are neither everything nor too long")
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ipset::Set;
    use proptest::prelude::*;

    use super::*;

    /// The kernel's sets as a map; it refuses as the kernel does, and whatever it is told to.
    #[derive(Default)]
    struct Fake {
        sets: BTreeMap<SetName, (Header, BTreeSet<Entry>)>,
        /// So many more commands are done before one is refused.
        refuses_after: Option<u32>,
        commands: u32,
    }

    impl Fake {
        fn command(&mut self) -> Result<(), Error> {
            self.commands += 1;
            match &mut self.refuses_after {
                Some(0) => {
                    self.refuses_after = None;
                    Err(refused(12))
                }
                Some(more) => {
                    *more -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }

        fn set(&mut self, name: &SetName) -> Result<&mut (Header, BTreeSet<Entry>), Error> {
            self.sets.get_mut(name).ok_or(refused(2))
        }

        fn held(&self) -> BTreeMap<String, BTreeSet<String>> {
            let nets =
                |entries: &BTreeSet<Entry>| entries.iter().map(|entry| entry.net.to_string()).collect();
            self.sets.iter().map(|(name, (_, entries))| (name.to_string(), nets(entries))).collect()
        }
    }

    fn refused(code: i32) -> Error {
        Error::Refused { action: "do", name: "it".to_owned(), reason: "so it is".to_owned(), code }
    }

    impl Kernel for Fake {
        fn create(&mut self, spec: &Spec) -> Result<(), Error> {
            self.command()?;
            let header = Header {
                name: spec.name.clone(),
                type_name: TYPE.to_owned(),
                revision: 7,
                family: Some(spec.family),
                max_elements: Some(spec.max_elements),
                hash_size: Some(spec.hash_size),
                elements: 0,
                references: 0,
                memory: 0,
                timeout: None,
                flags: 0,
            };
            match self.sets.insert(spec.name.clone(), (header, BTreeSet::new())) {
                None => Ok(()),
                Some(_) => Err(refused(17)),
            }
        }

        fn destroy(&mut self, set: &SetName) -> Result<(), Error> {
            self.command()?;
            if self.set(set)?.0.references > 0 {
                return Err(refused(4100));
            }
            self.sets.remove(set);
            Ok(())
        }

        fn flush(&mut self, set: &SetName) -> Result<(), Error> {
            self.command()?;
            self.set(set)?.1.clear();
            Ok(())
        }

        fn swap(&mut self, one: &SetName, other: &SetName) -> Result<(), Error> {
            self.command()?;
            let (mut first, mut second) = (self.set(one)?.clone(), self.set(other)?.clone());
            if first.0.type_name != second.0.type_name || first.0.family != second.0.family {
                return Err(refused(4102));
            }
            std::mem::swap(&mut first.0.references, &mut second.0.references);
            self.sets.insert(one.clone(), second);
            self.sets.insert(other.clone(), first);
            Ok(())
        }

        fn add(&mut self, set: &SetName, nets: &[Net]) -> Result<(), Error> {
            for net in nets {
                self.command()?;
                let (header, entries) = self.set(set)?;
                if u32::try_from(entries.len()) == Ok(header.max_elements.unwrap()) {
                    return Err(refused(4352));
                }
                entries.insert((*net).into());
            }
            Ok(())
        }

        fn delete(&mut self, set: &SetName, nets: &[Net]) -> Result<(), Error> {
            for net in nets {
                self.command()?;
                self.set(set)?.1.remove(&(*net).into());
            }
            Ok(())
        }

        fn list(&mut self, set: &SetName) -> Result<Set, Error> {
            self.command()?;
            let (header, entries) = self.set(set)?;
            if header.type_name != TYPE {
                return Err(Error::OtherType { name: set.clone(), type_name: header.type_name.clone() });
            }
            Ok(Set { header: header.clone(), entries: entries.iter().cloned().collect() })
        }

        fn headers(&mut self) -> Result<Vec<Header>, Error> {
            self.command()?;
            let header = |(header, entries): &(Header, BTreeSet<Entry>)| Header {
                elements: u32::try_from(entries.len()).unwrap(),
                ..header.clone()
            };
            Ok(self.sets.values().map(header).collect())
        }
    }

    fn net(number: u32) -> IpNet {
        IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)), 32).unwrap()
    }

    fn create(set: &str) -> SetOp {
        SetOp::Create { set: set.to_owned(), ethertype: Ethertype::Ipv4 }
    }

    fn add(set: &str, number: u32) -> SetOp {
        SetOp::Add { set: set.to_owned(), net: net(number) }
    }

    fn held(sets: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let nets = |nets: &[&str]| nets.iter().map(|net| (*net).to_owned()).collect();
        sets.iter().map(|(name, held)| ((*name).to_owned(), nets(held))).collect()
    }

    #[test]
    fn a_member_is_one_command() {
        let (mut plan, mut kernel) = (Plan::new(), Fake::default());
        plan.want(vec![create("NIPv4a"), add("NIPv4a", 1)]);
        plan.run(&mut kernel);
        let before = kernel.commands;
        plan.want(vec![add("NIPv4a", 2)]);
        let done = plan.run(&mut kernel);
        assert_eq!((done.added, kernel.commands - before), (1, 1));
        assert_eq!(plan.counts(), (1, 2));
        plan.run(&mut kernel);
        assert_eq!(kernel.commands - before, 1, "nothing has changed");
    }

    #[test]
    fn a_start_finds_what_is_there_and_changes_only_what_differs() {
        let mut kernel = Fake::default();
        let mut before = Plan::new();
        before.want(vec![
            create("NIPv4a"),
            add("NIPv4a", 1),
            add("NIPv4a", 2),
            create("NIPv4gone"),
            create("NIPv4used"),
        ]);
        before.run(&mut kernel);
        kernel.sets.get_mut(&name("NIPv4used")).unwrap().0.references = 1;
        kernel
            .create(&Spec { name: name("other"), family: Family::Ipv4, max_elements: 9, hash_size: 9 })
            .unwrap();
        let mut after = Plan::new();
        after.run(&mut kernel);
        assert_eq!(kernel.sets.len(), 4, "they may be named yet");
        after.want(vec![create("NIPv4a"), add("NIPv4a", 2), add("NIPv4a", 3)]);
        after.complete();
        let done = after.run(&mut kernel);
        assert_eq!((done.added, done.deleted, done.rebuilt), (1, 1, 0));
        assert_eq!(done.drift, [], "that is no drift");
        let expected = held(&[("NIPv4a", &["10.0.0.2", "10.0.0.3"]), ("NIPv4used", &[]), ("other", &[])]);
        assert_eq!(kernel.held(), expected);
    }

    #[test]
    fn a_set_that_a_rule_of_the_host_refers_to_is_emptied_until_it_can_go() {
        let (mut plan, mut kernel) = (Plan::new(), Fake::default());
        plan.want(vec![create("NIPv4a"), add("NIPv4a", 1)]);
        plan.run(&mut kernel);
        kernel.sets.get_mut(&name("NIPv4a")).unwrap().0.references = 1;
        plan.want(vec![SetOp::Destroy { set: "NIPv4a".to_owned() }]);
        plan.run(&mut kernel);
        assert_eq!(kernel.held(), held(&[("NIPv4a", &[])]));
        assert_eq!(plan.faults().count(), 1);
        kernel.sets.get_mut(&name("NIPv4a")).unwrap().0.references = 0;
        plan.run(&mut kernel);
        assert_eq!(kernel.held(), held(&[]));
        assert_eq!((plan.faults().count(), plan.counts()), (0, (0, 0)));
    }

    #[test]
    fn a_set_that_outgrows_its_room_is_filled_beside_and_takes_the_place() {
        let (mut plan, mut kernel) = (Plan::new(), Fake::default());
        plan.want(vec![create("NIPv4a"), add("NIPv4a", 0)]);
        plan.run(&mut kernel);
        let entry = kernel.sets.get_mut(&name("NIPv4a")).unwrap();
        (entry.0.max_elements, entry.0.references) = (Some(2), 1);
        plan.look(&mut kernel, true).unwrap();
        plan.want((1..5).map(|number| add("NIPv4a", number)).collect());
        assert_eq!(plan.run(&mut kernel).rebuilt, 1);
        assert_eq!(kernel.held()["NIPv4a"].len(), 5);
        assert_eq!(kernel.sets.len(), 1);
        assert_eq!(kernel.sets[&name("NIPv4a")].0.references, 1, "who referred to it does");
    }

    #[test]
    fn a_set_of_another_kind_makes_room() {
        let mut kernel = Fake::default();
        let spec = Spec { name: name("NIPv4a"), family: Family::Ipv6, max_elements: 9, hash_size: 9 };
        for change in [
            |header: &mut Header| header.type_name = "hash:ip,port".to_owned(),
            |header: &mut Header| {
                header.timeout = Some(600);
            },
        ] {
            kernel.sets.clear();
            kernel.create(&spec).unwrap();
            let entry = kernel.sets.get_mut(&spec.name).unwrap();
            (entry.0.references, entry.0.family) = (1, Some(Family::Ipv4));
            change(&mut entry.0);
            let mut plan = Plan::new();
            plan.want(vec![create("NIPv4a"), add("NIPv4a", 1)]);
            let done = plan.run(&mut kernel);
            assert!(!done.failures.is_empty(), "it is in use");
            kernel.sets.get_mut(&spec.name).unwrap().0.references = 0;
            let done = plan.run(&mut kernel);
            assert_eq!((done.failures.len(), plan.faults().count()), (0, 0));
            assert_eq!(kernel.held(), held(&[("NIPv4a", &["10.0.0.1"])]));
        }
    }

    /// What happens to three sets: they come, go, gain and lose members, somebody else changes them, the kernel refuses.
    #[derive(Clone, Debug)]
    enum Step {
        Toggle(u8),
        Member(u8, u32),
        Others(u8, u32),
        Lose(u8),
        Refuse(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let set = 0u8..3;
        prop_oneof![
            set.clone().prop_map(Step::Toggle),
            (set.clone(), 0u32..6).prop_map(|(set, number)| Step::Member(set, number)),
            (set.clone(), 0u32..6).prop_map(|(set, number)| Step::Others(set, number)),
            set.prop_map(Step::Lose),
            (0u32..6).prop_map(Step::Refuse),
        ]
    }

    proptest! {
        #[test]
        fn in_the_end_the_kernel_has_what_is_wanted(steps in proptest::collection::vec(step(), 0..40)) {
            let (mut plan, mut kernel) = (Plan::new(), Fake::default());
            let mut wanted: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Toggle(set) => {
                        let set = format!("NIPv4{set}");
                        plan.want(vec![match wanted.remove(&set) {
                            Some(_) => SetOp::Destroy { set },
                            None => { wanted.insert(set.clone(), BTreeSet::new()); create(&set) }
                        }]);
                    }
                    Step::Member(set, number) => {
                        let set = format!("NIPv4{set}");
                        let Some(members) = wanted.get_mut(&set) else { continue };
                        plan.want(vec![match members.remove(&number) {
                            true => SetOp::Remove { set, net: net(number) },
                            false => { members.insert(number); add(&set, number) }
                        }]);
                    }
                    Step::Others(set, number) => {
                        let Ok((_, entries)) = kernel.set(&name(&format!("NIPv4{set}"))) else { continue };
                        let entry = Entry::from(element(net(number)));
                        if !entries.remove(&entry) { entries.insert(entry); }
                    }
                    Step::Lose(set) => _ = kernel.sets.remove(&name(&format!("NIPv4{set}"))),
                    Step::Refuse(after) => kernel.refuses_after = Some(after),
                }
                plan.run(&mut kernel);
            }
            kernel.refuses_after = None;
            for _ in 0..2 {
                plan.look(&mut kernel, true).unwrap();
                plan.run(&mut kernel);
            }
            let shown = |numbers: &BTreeSet<u32>| numbers.iter().map(|n| net(*n).addr().to_string()).collect();
            let wanted: BTreeMap<String, BTreeSet<String>> = wanted.iter().map(|(set, of)| (set.clone(), shown(of))).collect();
            prop_assert_eq!(kernel.held(), wanted);
            prop_assert_eq!(plan.faults().count(), 0);
            plan.look(&mut kernel, true).unwrap();
            let before = kernel.commands;
            let done = plan.run(&mut kernel);
            prop_assert!(done.drift.is_empty() && done.added + done.deleted + done.rebuilt == 0);
            prop_assert!(kernel.commands - before <= 3, "it was only read");
        }
    }
}
