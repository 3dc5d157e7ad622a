//! Our tables of nftables as the kernel has them.
//!
//! What does not depend on ports is text that nft(8) makes rules of, once: a chain is named after it and after what nft made of it, so
//! that a restart finds it and asks nft nothing, and sees when somebody else changed it. What depends on ports is elements, and for
//! `nftables` chains and sets of members, which are told over netlink, all of a change in one transaction.

mod remove;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use hybrid::SetOp;
use hybrid::bridge::{Element, Family};
use hybrid::drops::{By, COUNTED, reasons};
use hybrid::nft::{DEPENDS, Draft, NftRule, narrow, wide};
use hybrid::samples;
use ipnet::IpNet;
use nftables::{Batch, Chain, ChainId, Name, Nftables, Place as RulePlace, Rule, Set, SetId, TableId};
use policy::Ethertype;
use reconcile::{Change, Tracker};

use super::encode::{self, Encoded, Place};
use super::held_set::HeldSet;
use super::{Failure, program};
use crate::api::SetFill;

/// Our tables.
const TABLE: &str = "sgflow";
const FAMILIES: [Family; 2] = [Family::Bridge, Family::Inet];
/// Begins the name of the chain that says what was made.
pub(super) const MADE: &str = "made-";
/// Begins the name of the chain that says when they were made, in seconds of Unix: since then they count.
pub(crate) const SINCE: &str = "since-";
/// Begin the names of sets of members, and of no others.
const OF_MEMBERS: [(&str, Ethertype); 2] = [("NIPv4", Ethertype::Ipv4), ("NIPv6", Ethertype::Ipv6)];
/// So many members come with the text; more come behind it, for nft(8) is slower than we are.
const MEMBERS_IN_TEXT: usize = 10_000;
/// How often it is tried to read, and to change, what others change meanwhile.
const TRIES: usize = 8;

type SetChanges = (SetId, Vec<Change<Place, Option<nftables::Data>>>);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Tables {
    nft: Nftables,
    /// What does not depend on ports.
    texts: [(Family, String); 2],
    sets: BTreeMap<SetId, HeldSet>,
    /// Sets of which something may be to be changed.
    dirty: BTreeSet<SetId>,
    chains: Tracker<Name, Vec<Encoded>>,
    rules: usize,
    /// How many sets of members, narrow and wide ones, there shall be, and how many members in all of them.
    member_sets: usize,
    members: usize,
    /// Tables of ours are there, whatever they hold.
    was_there: bool,
    /// Tables whose text's rules are not there as they were made.
    unmade: BTreeSet<Family>,
    /// Of anybody's tables, as they are known.
    generation: Option<u32>,
    /// Nothing has been told since they were read.
    is_just_read: bool,
    /// All that has been wanted, as long as the text's rules were never there: it comes with them.
    draft: Option<Draft>,
    /// Of devices, by what their names end in, as they were read last: also of tables that are not as they shall be.
    zones: Vec<(String, u16)>,
}

/// What a table holds, less elements.
struct Read {
    family: Family,
    chains: Vec<Chain>,
    rules: Vec<Rule>,
    sets: Vec<Set>,
}

impl Tables {
    /// Nothing is known; what does not depend on ports shall be there, of `text` beside the table of the bridge family.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub(super) fn open(text: &str, permitted_ethertypes: &BTreeSet<u16>) -> Result<Self, nftables::Error> {
        let mut tables = Tables {
            nft: Nftables::open()?,
            texts: [(Family::Bridge, hybrid::bridge::ruleset()), (Family::Inet, text.to_owned())],
            sets: BTreeMap::new(),
            dirty: BTreeSet::new(),
            chains: Tracker::new(),
            rules: 0,
            member_sets: 0,
            members: 0,
            was_there: false,
            unmade: FAMILIES.into(),
            generation: None,
            is_just_read: false,
            draft: Some(Draft::default()),
            zones: Vec::new(),
        };
        for element in hybrid::bridge::permitted(permitted_ethertypes) {
            tables.want(&element, true);
        }
        Ok(tables)
    }

    /// An element shall be there, or not.
    pub(super) fn want(&mut self, element: &Element, is_wanted: bool) {
        if let Some(draft) = &mut self.draft {
            draft.want(element, is_wanted);
        }
        let (place, data) = encode::element(element);
        let set = set_id(element.family, element.set);
        let held = self.sets.entry(set.clone()).or_insert_with(HeldSet::of_text);
        match is_wanted {
            true => held.elements.want(place, data),
            // What it maps to now may be wanted by another already.
            false if held.elements.desired(&place) == Some(&data) => held.elements.unwant(place),
            false => {}
        }
        self.dirty.insert(set);
    }

    /// A set of members shall be otherwise.
    pub(super) fn want_members(&mut self, op: SetOp) {
        if let Some(draft) = &mut self.draft {
            draft.apply(&op);
        }
        match op {
            SetOp::Create { set, ethertype } => {
                for name in [narrow(&set), wide(&set)] {
                    let held = self.members_of(&name, ethertype);
                    let is_new = !std::mem::replace(&mut held.is_wanted, true);
                    self.member_sets += usize::from(is_new);
                }
            }
            SetOp::Destroy { set } => {
                for name in [narrow(&set), wide(&set)] {
                    let id = set_id(Family::Inet, &name);
                    if let Some(held) = self.sets.get_mut(&id).filter(|held| held.is_wanted) {
                        self.member_sets -= 1;
                        self.members -= held.elements.desired_count();
                        held.unwant();
                    }
                    self.dirty.insert(id);
                }
            }
            SetOp::Add { set, net } => {
                let (held, member) =
                    (self.members_of(&set_for(&set, net), Ethertype::of(&net)), encode::member(net));
                let is_new = held.elements.desired(&member).is_none();
                held.elements.want(member, None);
                self.members += usize::from(is_new);
            }
            SetOp::Remove { set, net } => {
                let (held, member) =
                    (self.members_of(&set_for(&set, net), Ethertype::of(&net)), encode::member(net));
                let was_there = held.elements.desired(&member).is_some();
                held.elements.unwant(member);
                self.members -= usize::from(was_there);
            }
        }
    }

    fn members_of(&mut self, name: &str, ethertype: Ethertype) -> &mut HeldSet {
        let id = set_id(Family::Inet, name);
        self.dirty.insert(id.clone());
        self.sets.entry(id).or_insert_with(|| HeldSet::of_members(name, ethertype))
    }

    /// A chain shall be so, or not be there.
    pub(super) fn want_chain(&mut self, name: &str, rules: Option<Vec<NftRule>>) {
        if let Some(draft) = &mut self.draft {
            draft.want_chain(name, rules.as_deref());
        }
        let id = chain_id(Family::Inet, name);
        self.rules -= self.chains.desired(&id.name).map_or(0, Vec::len);
        match rules {
            Some(rules) => {
                self.rules += rules.len();
                let encoded = rules.iter().map(|rule| encode::rule(&id, rule)).collect();
                self.chains.want(id.name, encoded);
            }
            None => self.chains.unwant(id.name),
        }
    }

    /// How many sets of members, narrow and wide ones, and how many rules that depend on ports there shall be.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.member_sets, self.rules)
    }

    /// How many sets of members there are to be, and how many elements in them.
    pub(super) fn member_sets(&self) -> (usize, usize) {
        (self.member_sets, self.members)
    }

    /// How many elements the sets of these members are to hold, which have no limit.
    pub(super) fn fill(&self, set: &str) -> Vec<SetFill> {
        let fill = |name: String| {
            let held = self.sets.get(&set_id(Family::Inet, &name)).filter(|held| held.is_wanted)?;
            Some(SetFill { name, members: held.elements.desired_count(), max_members: None })
        };
        [narrow(set), wide(set)].into_iter().filter_map(fill).collect()
    }

    /// Whether somebody else changed something since it was known how it is.
    pub(super) fn is_changed_by_others(&mut self) -> bool {
        let generation = self.nft.generation().ok();
        generation.is_none() || generation != self.generation
    }

    /// What was changed until now is known.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn note_generation(&mut self) -> Result<(), Failure> {
        self.generation = Some(self.nft.generation()?);
        self.is_just_read = false;
        Ok(())
    }

    /// Reads what the kernel has.
    ///
    /// # Errors
    /// The kernel does not answer, or others change it all the time.
    pub(super) fn read_back(&mut self) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let before = self.nft.generation()?;
            match self.read_all() {
                Ok(()) if self.nft.generation()? == before => {
                    self.generation = Some(before);
                    self.is_just_read = true;
                    return Ok(());
                }
                Ok(()) => {}
                // A set went meanwhile.
                Err(Failure::Nftables(error)) if error.is_not_found() || error.is_interrupted() => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::other("nftables", "others change it all the time"))
    }

    fn read_all(&mut self) -> Result<(), Failure> {
        let mut read = self.read()?;
        self.was_there = read.iter().any(|read| !read.chains.is_empty());
        self.unmade.clear();
        for read in &read {
            let made = self.made(read)?;
            let is_made = |made: String| read.chains.iter().any(|chain| chain.id.name.as_str() == made);
            if !made.is_some_and(is_made) {
                self.unmade.insert(read.family);
            }
        }
        let marks = set_id(Family::Bridge, "marks");
        let has_marks = read.iter().flat_map(|read| &read.sets).any(|set| set.id == marks);
        let marks = if has_marks { self.nft.elements(&marks)? } else { Vec::new() };
        self.zones = marks.iter().filter_map(zone).collect();
        for family in self.unmade.clone() {
            self.forget(family);
        }
        let mut gone: BTreeSet<SetId> = self.sets.keys().cloned().collect();
        for (family, set) in read.iter().flat_map(|read| read.sets.iter().map(|set| (read.family, set))) {
            if self.unmade.contains(&family) {
                continue;
            }
            let name = set.id.name.as_str();
            // What has been counted is nobody's wish.
            if is_of_a_rule(name) || name.starts_with(COUNTED) {
                continue;
            }
            let elements = self.nft.elements(&set.id)?;
            let held = self.sets.entry(set.id.clone()).or_insert_with(|| {
                let name = set.id.name.as_str();
                of_members(name).map_or_else(HeldSet::of_text, |of| HeldSet::of_members(name, of))
            });
            if !held.is_as(set) {
                // It cannot be changed as long as rules refer to it.
                self.unmade.insert(family);
                self.forget(family);
                continue;
            }
            held.read(set, elements);
            gone.remove(&set.id);
            self.dirty.insert(set.id.clone());
        }
        for id in gone.into_iter().filter(|id| !self.unmade.contains(&family_of(id))).collect::<Vec<_>>() {
            if let Some(held) = self.sets.get_mut(&id) {
                held.elements.replace_actual([]);
                held.is_there &= of_members(id.name.as_str()).is_none();
            }
            self.dirty.insert(id);
        }
        let mut chains: BTreeMap<Name, Vec<Encoded>> = BTreeMap::new();
        for Read { family, chains: found, rules, .. } in &mut read {
            let is_read = *family == Family::Inet && !self.unmade.contains(family);
            let depends = |id: &ChainId| is_read && id.name.as_str().contains(DEPENDS);
            for chain in found.iter().filter(|chain| depends(&chain.id)) {
                chains.entry(chain.id.name.clone()).or_default();
            }
            for rule in rules.drain(..).filter(|rule| depends(&rule.chain)) {
                chains.entry(rule.chain.name.clone()).or_default().push(Encoded::of(rule));
            }
        }
        self.chains.replace_actual(chains);
        if self.unmade.is_empty() {
            self.draft = None;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<Read>, Failure> {
        let mut all = Vec::new();
        for family in FAMILIES {
            let table = table(family);
            let chains = self.nft.chains(&table)?;
            let rules = self.nft.rules_of_table(&table)?;
            let sets = if chains.is_empty() { Vec::new() } else { self.nft.sets(&table)? };
            all.push(Read { family, chains, rules, sets });
        }
        Ok(all)
    }

    /// The kernel has nothing of a table of ours.
    fn forget(&mut self, family: Family) {
        if family == Family::Inet {
            self.chains.replace_actual([]);
        }
        self.sets.retain(|id, held| held.is_wanted || family_of(id) != family);
        for (id, held) in self.sets.iter_mut().filter(|(id, _)| family_of(id) == family) {
            held.elements.replace_actual([]);
            held.is_there = of_members(id.name.as_str()).is_none();
            self.dirty.insert(id.clone());
        }
    }

    /// Takes out of what counts by zone what it has of these.
    ///
    /// # Errors
    /// The kernel does not answer, or refuses.
    pub(super) fn forget_drops(&mut self, zones: &BTreeSet<u16>) -> Result<(), Failure> {
        let is_theirs =
            |key: &nftables::Value| mark_of(key).is_some_and(|mark| zones.contains(&zone_of(mark)));
        let mut batch = Batch::new();
        for family in FAMILIES {
            for (reason, _) in reasons(family).iter().filter(|(_, by)| *by == By::Mark) {
                let set = set_id(family, &format!("{COUNTED}{reason}"));
                let counted = match self.nft.counters(&set) {
                    Err(error) if error.is_not_found() => continue,
                    counted => counted?,
                };
                let gone: Vec<nftables::Element> = counted
                    .into_iter()
                    .filter(|(key, _)| is_theirs(key))
                    .map(|(key, _)| nftables::Element::key(key))
                    .collect();
                if !gone.is_empty() {
                    batch.delete_elements(&set, gone);
                }
            }
        }
        if !batch.is_empty() {
            self.nft.commit(&batch)?;
            self.generation = self.generation.map(next);
        }
        Ok(())
    }

    /// The zones that the kernel had for devices, by what their names end in.
    pub(super) fn zones(&self) -> &[(String, u16)] {
        &self.zones
    }

    /// Whether the kernel's tables are known to be otherwise than they shall be.
    pub(super) fn is_to_be_changed(&self) -> bool {
        let is_other = |id: &SetId| {
            self.sets.get(id).is_some_and(|held| {
                held.is_wanted != held.is_there || held.is_wanted && !held.elements.is_converged()
            })
        };
        !self.unmade.is_empty() || !self.chains.is_converged() || self.dirty.iter().any(is_other)
    }

    /// What of the kernel's tables is not as it shall be, in words.
    pub(super) fn pending(&self) -> Vec<String> {
        if !self.unmade.is_empty() {
            let reason = "its rules are not there, or not as nft(8) makes them of this version's text";
            let line = |family: &Family| format!("nft: table {family} {TABLE}: {reason}");
            return self.unmade.iter().map(line).collect();
        }
        let mut lines = Vec::new();
        for (id, changes) in self.set_changes().into_iter().filter(|(_, changes)| !changes.is_empty()) {
            let [missing, other, unwanted] = counts(&[(id.clone(), changes)], &[]);
            lines.push(format!(
                "nft: {id}: {missing} elements are not there, {other} are others, {unwanted} too many"
            ));
        }
        for change in self.chains.pending() {
            let what = match change {
                Change::Add { .. } => "is not there",
                Change::Modify { .. } => "has other rules",
                Change::Delete { .. } => "shall not be there",
            };
            lines.push(format!("nft: chain inet {TABLE} {} {what}", change.key()));
        }
        lines
    }

    /// Makes the kernel's tables as they shall be, in one transaction; says how many elements, rules, chains and sets came, were changed, and
    /// went.
    ///
    /// # Errors
    /// The kernel refuses, and keeps what it has.
    pub(super) fn put_in_force(&mut self) -> Result<[usize; 3], Failure> {
        let mut made = 0;
        for _ in 0..TRIES {
            if !self.unmade.is_empty() {
                let families = self.unmade.clone();
                self.make()?;
                made = self.held_count(&families);
            }
            let (sets, chains) = (self.set_changes(), self.chains.pending());
            let batch = self.batch(&sets, &chains);
            let mut counts = counts(&sets, &chains);
            counts[0] += made;
            let before = self.generation;
            if batch.is_empty() {
                self.confirm(sets, chains);
                return Ok(counts);
            }
            let done = match before.filter(|_| self.is_just_read) {
                Some(generation) => self.nft.commit_for(&batch, generation),
                None => self.nft.commit(&batch),
            };
            match done {
                Ok(()) => {
                    self.confirm(sets, chains);
                    self.is_just_read = false;
                    // If others changed something since it was known how it is, this is not what it is now: it will be looked at.
                    self.generation = before.map(next);
                    return Ok(counts);
                }
                Err(error) if error.is_stale() => self.read_back()?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::other("nftables", "others change it all the time"))
    }

    /// How many elements and chains that depend on ports the kernel has in these tables.
    fn held_count(&self, families: &BTreeSet<Family>) -> usize {
        let is_in = |id: &SetId| families.contains(&family_of(id));
        let held = self.sets.iter().filter(|(id, _)| is_in(id));
        let elements = held.map(|(_, held)| held.elements.actual_count()).sum::<usize>();
        elements + if families.contains(&Family::Inet) { self.chains.actual_count() } else { 0 }
    }

    fn set_changes(&self) -> Vec<SetChanges> {
        let dirty = self.dirty.iter().filter_map(|id| Some((id, self.sets.get(id)?)));
        dirty.map(|(id, held)| (id.clone(), held.elements.pending())).collect()
    }

    /// What refers to something goes before that, and comes behind it.
    fn batch(&self, sets: &[SetChanges], chains: &[Change<Name, Vec<Encoded>>]) -> Batch {
        let mut batch = Batch::new();
        let held = |id: &SetId| self.sets.get(id).filter(|held| held.is_wanted);
        let edits: Vec<_> =
            sets.iter().filter_map(|(id, changes)| Some((id, held(id)?.edit(changes)))).collect();
        for (id, [delete, _]) in &edits {
            if !delete.is_empty() {
                batch.delete_elements(id, delete.iter().cloned());
            }
        }
        let chain = |name: &Name| ChainId { table: table(Family::Inet), name: name.clone() };
        for change in chains {
            match change {
                Change::Add { key, .. } => _ = batch.add_chain(&Chain::regular(chain(key))),
                Change::Modify { old, new, .. } if new.starts_with(old) => {}
                Change::Modify { key, .. } | Change::Delete { key, .. } => _ = batch.flush_chain(&chain(key)),
            }
        }
        for (id, _) in &edits {
            let new = held(id).filter(|held| !held.is_there).and_then(|held| held.spec(id));
            if let Some(set) = new {
                batch.add_set(&set);
            }
        }
        for change in chains {
            let is_left = |old: &&Vec<Encoded>| change.new_value().is_some_and(|new| new.starts_with(old));
            let left = change.old_value().filter(is_left).map_or(0, Vec::len);
            for rule in change.new_value().into_iter().flatten().skip(left) {
                let Encoded { expressions, user_data } = rule.clone();
                let rule = Rule { chain: chain(change.key()), expressions, user_data, handle: 0 };
                batch.add_rule(&rule, RulePlace::Last);
            }
        }
        for (id, [_, add]) in edits {
            if !add.is_empty() {
                batch.add_elements(id, add);
            }
        }
        for change in chains.iter().filter(|change| change.new_value().is_none()) {
            batch.delete_chain(&chain(change.key()));
        }
        for (id, _) in sets {
            if self.sets.get(id).is_some_and(|held| held.is_there && !held.is_wanted) {
                batch.delete_set(id);
            }
        }
        batch
    }

    fn confirm(&mut self, sets: Vec<SetChanges>, chains: Vec<Change<Name, Vec<Encoded>>>) {
        for (id, changes) in sets {
            let Some(held) = self.sets.get_mut(&id) else { continue };
            if held.is_wanted {
                held.elements.confirm(changes);
                held.is_there = true;
            } else {
                self.sets.remove(&id);
            }
        }
        self.dirty.clear();
        self.chains.confirm(chains);
    }

    /// Has nft(8) make the text's rules where they are not as they were made, in one transaction; the first time with all that depends on
    /// ports. A table that is made anew may cost the frame that is just then between its old chains and its new ones, so one that is as it
    /// should be stays: a driver that takes over from the other one keeps the bridges' (docs/decisions/0013). The second transaction that
    /// says what was made changes nothing for any frame.
    fn make(&mut self) -> Result<(), Failure> {
        let mut text = String::new();
        for (family, rules) in self.texts.iter().filter(|(family, _)| self.unmade.contains(family)) {
            // So that it is there to be deleted.
            _ = writeln!(text, "add table {family} {TABLE}\ndelete table {family} {TABLE}\n{rules}");
        }
        if let Some(mut draft) = self.draft.take() {
            // While tables of before are in force, the text may take its time.
            if draft.members() > MEMBERS_IN_TEXT && !self.was_there {
                draft.leave_members_out();
            }
            draft.leave_others_out(&self.unmade);
            _ = write!(text, "\n{draft}");
        }
        nft(&text)?;
        let since = format!("{SINCE}{}", crate::observe::since_epoch().as_secs());
        let mut batch = Batch::new();
        for read in self.read()? {
            if !self.unmade.contains(&read.family) {
                continue;
            }
            let made = self.made(&read)?;
            let made = made.ok_or_else(|| Failure::other("nft", "it made no rules of what it was told"))?;
            for name in [&made, &since] {
                batch.add_chain(&Chain::regular(chain_id(read.family, name)));
            }
        }
        self.nft.commit(&batch)?;
        self.read_back()
    }

    /// The name of the chain that says of what text a table's rules were made, and that they are as they were then; none without rules.
    fn made(&mut self, Read { family, chains, rules, sets }: &Read) -> Result<Option<String>, Failure> {
        let text = self.texts.iter().find(|(of, _)| of == family);
        let mut said = text.map(|(_, text)| text.clone()).unwrap_or_default();
        let depends = |id: &ChainId| id.name.as_str().contains(DEPENDS);
        if rules.is_empty() {
            return Ok(None);
        }
        for chain in chains.iter().filter(|chain| !depends(&chain.id)) {
            let name = chain.id.name.as_str();
            if !name.starts_with(MADE) && !name.starts_with(SINCE) {
                _ = write!(said, "{name} {:?}", chain.base);
            }
        }
        // How much is looked at is another matter.
        let enforces = |rule: &&Rule| !rule.chain.name.as_str().starts_with(samples::CHAIN);
        for rule in rules.iter().filter(|rule| !depends(&rule.chain)).filter(enforces) {
            _ = write!(said, "{} {:?}", rule.chain.name, rule.expressions);
        }
        for set in sets.iter().filter(|set| is_of_a_rule(set.id.name.as_str())) {
            _ = write!(said, "{} {:?}", set.id.name, self.nft.elements(&set.id)?);
        }
        Ok(Some(format!("{MADE}{}", hybrid::digest(&said))))
    }
}

/// The zone of a guest's device, by what its name ends in, as the map of marks has it.
fn zone(element: &nftables::Element) -> Option<(String, u16)> {
    let name = element.key.octets().split(|octet| *octet == 0).next()?;
    let end = std::str::from_utf8(name).ok()?.strip_prefix("tap")?.to_owned();
    let Some(nftables::Data::Value(mark)) = &element.data else { return None };
    Some((end, zone_of(mark_of(mark)?)))
}

fn mark_of(value: &nftables::Value) -> Option<u32> {
    value.octets().try_into().ok().map(u32::from_ne_bytes)
}

fn zone_of(mark: u32) -> u16 {
    u16::try_from(mark & hybrid::mark::ZONE).expect("the mask has sixteen bits")
}

/// Elements, rules, chains and sets that come, are changed, and go.
fn counts(sets: &[SetChanges], chains: &[Change<Name, Vec<Encoded>>]) -> [usize; 3] {
    let mut counts = [0; 3];
    let mut count = |is_add: bool, is_modify: bool| {
        counts[if is_add {
            0
        } else if is_modify {
            1
        } else {
            2
        }] += 1;
    };
    for change in sets.iter().flat_map(|(_, changes)| changes) {
        count(matches!(change, Change::Add { .. }), matches!(change, Change::Modify { .. }));
    }
    for change in chains {
        count(matches!(change, Change::Add { .. }), matches!(change, Change::Modify { .. }));
    }
    counts
}

/// `nft_base_seq`, which is never 0 (net/netfilter/nf_tables_api.c: `nf_tables_commit`).
fn next(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// The kernel's names for sets that stand in rules without one.
fn is_of_a_rule(name: &str) -> bool {
    name.starts_with("__")
}

/// Of which family the members are that a set of this name holds; none of others.
fn of_members(name: &str) -> Option<Ethertype> {
    OF_MEMBERS.into_iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, ethertype)| ethertype)
}

/// Of which table.
fn family_of(set: &SetId) -> Family {
    match set.table.family {
        nftables::Family::Bridge => Family::Bridge,
        _ => Family::Inet,
    }
}

fn set_for(set: &str, net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { narrow(set) } else { wide(set) }
}

fn table(family: Family) -> TableId {
    let family = match family {
        Family::Bridge => nftables::Family::Bridge,
        Family::Inet => nftables::Family::Inet,
    };
    TableId { family, name: TABLE.parse().expect("a short name") }
}

fn set_id(family: Family, name: &str) -> SetId {
    table(family).set(name).expect("a short name")
}

pub(super) fn chain_id(family: Family, name: &str) -> ChainId {
    table(family).chain(name).expect("a short name")
}

pub(super) fn nft(text: &str) -> Result<(), Failure> {
    let failed = |reason: std::io::Error| Failure::other("nft", reason);
    let mut command = program::command("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = program::start(&mut command).map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends before it has read everything says why.
        _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Failure::other("nft", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_follow_what_is_wanted_of_sets() {
        let mut tables = Tables::open("", &BTreeSet::new()).unwrap();
        let (set, ethertype) = ("NIPv4a".to_owned(), Ethertype::Ipv4);
        let create = || SetOp::Create { set: set.clone(), ethertype };
        let add = |net: &str| SetOp::Add { set: set.clone(), net: net.parse().unwrap() };
        let remove = |net: &str| SetOp::Remove { set: set.clone(), net: net.parse().unwrap() };
        let destroy = || SetOp::Destroy { set: set.clone() };
        let steps = [
            (create(), (2, 0)),
            (create(), (2, 0)),
            (add("10.0.0.1/32"), (2, 1)),
            (add("10.0.0.1/32"), (2, 1)),
            (add("10.1.0.0/16"), (2, 2)),
            (remove("10.0.0.2/32"), (2, 2)),
            (remove("10.0.0.1/32"), (2, 1)),
            (destroy(), (0, 0)),
            (destroy(), (0, 0)),
            (create(), (2, 0)),
            (add("10.1.0.0/16"), (2, 1)),
        ];
        for (op, expected) in steps {
            let said = format!("{op:?}");
            tables.want_members(op);
            assert_eq!(tables.member_sets(), expected, "{said}");
        }
    }
}
