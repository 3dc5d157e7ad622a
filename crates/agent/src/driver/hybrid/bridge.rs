//! The bridge family's table as the kernel has it.
//!
//! What does not depend on ports is text that nft(8) makes rules of, once: a chain is named after it and after what nft made of it, so
//! that a restart finds it and asks nft nothing, and sees when somebody else changed it. What depends on ports is elements, which are told
//! over netlink.

mod remove;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use hybrid::bridge::{Data, Element, Family, Key, RULESET};
use ipnet::IpNet;
use nftables::{Batch, ChainId, Nftables, SetId, TableId, Value, Verdict};
use reconcile::{Change, Tracker};

use super::Failure;

/// Our tables.
const TABLE: &str = "sgflow";
/// Begins the name of the chain that says what was made.
const MADE: &str = "made-";

/// What tells elements from each other, as the kernel has it.
type Place = (SetName, Value, Option<Value>);
type SetName = (Family, String);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Bridge {
    nft: Nftables,
    elements: Tracker<Place, Option<nftables::Data>>,
    /// The text's rules are there as they were made.
    is_made: bool,
    is_read: bool,
}

impl Bridge {
    /// Nothing is known; what does not depend on ports shall be there.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub(super) fn open(permitted_ethertypes: &BTreeSet<u16>) -> Result<Self, nftables::Error> {
        let mut bridge =
            Bridge { nft: Nftables::open()?, elements: Tracker::new(), is_made: false, is_read: false };
        for element in hybrid::bridge::permitted(permitted_ethertypes) {
            bridge.want(&element, true);
        }
        Ok(bridge)
    }

    /// An element shall be there, or not.
    pub(super) fn want(&mut self, element: &Element, is_wanted: bool) {
        let (place, data) = encoded(element);
        match is_wanted {
            true => self.elements.want(place, data),
            // What it maps to now may be wanted by another already.
            false if self.elements.desired(&place) == Some(&data) => self.elements.unwant(place),
            false => {}
        }
    }

    /// The number of the last change of anybody's tables.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn generation(&mut self) -> Result<u32, Failure> {
        Ok(self.nft.generation()?)
    }

    /// Reads what the kernel has.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn read_back(&mut self) -> Result<(), Failure> {
        let made = self.made()?;
        self.is_made = match made {
            Some(made) => {
                self.nft.chains(&table(Family::Bridge))?.iter().any(|chain| chain.id.name.as_str() == made)
            }
            None => false,
        };
        let mut actual = BTreeMap::new();
        if self.is_made {
            for family in [Family::Bridge, Family::Inet] {
                for set in self.nft.sets(&table(family))? {
                    let name = set.id.name.as_str();
                    if is_of_a_rule(name) {
                        continue;
                    }
                    for element in self.nft.elements(&set.id)? {
                        let place = ((family, name.to_owned()), element.key, element.key_end);
                        actual.insert(place, element.data);
                    }
                }
            }
        }
        self.elements.replace_actual(actual);
        self.is_read = true;
        Ok(())
    }

    /// The zones that the kernel has for devices, by what their names end in.
    pub(super) fn zones(&self) -> Vec<(String, u16)> {
        let marks = self.elements.iter_actual().filter(|(((_, set), ..), _)| set == "marks");
        let zone = |((_, key, _), data): (&Place, &Option<nftables::Data>)| {
            let name = key.octets().split(|octet| *octet == 0).next()?;
            let end = std::str::from_utf8(name).ok()?.strip_prefix("tap")?.to_owned();
            let Some(nftables::Data::Value(mark)) = data else { return None };
            let mark = u32::from_ne_bytes(mark.octets().try_into().ok()?);
            Some((end, u16::try_from(mark & hybrid::mark::ZONE).ok()?))
        };
        marks.filter_map(zone).collect()
    }

    /// Whether the kernel's table is known to be otherwise than it shall be.
    pub(super) fn is_to_be_changed(&self) -> bool {
        !self.is_made || !self.elements.is_converged()
    }

    /// Makes the kernel's table as it shall be, in one transaction; says how many elements came, were changed, and went.
    ///
    /// # Errors
    /// The kernel refuses, and keeps what it has.
    pub(super) fn put_in_force(&mut self) -> Result<[usize; 3], Failure> {
        if !self.is_made {
            self.make()?;
        }
        let mut batch = Batch::new();
        let mut counts = [0; 3];
        let changes = self.elements.pending();
        let (mut add, mut delete) = (BTreeMap::new(), BTreeMap::new());
        for change in &changes {
            counts[match change {
                Change::Add { .. } => 0,
                Change::Modify { .. } => 1,
                Change::Delete { .. } => 2,
            }] += 1;
            let (set, key, end) = change.key();
            let element = |data: &Option<nftables::Data>| {
                let mut element = nftables::Element::key(key.clone());
                (element.key_end, element.data) = (end.clone(), data.clone());
                element
            };
            if let Some(old) = change.old_value() {
                delete.entry(set).or_insert_with(Vec::new).push(element(old));
            }
            if let Some(new) = change.new_value() {
                add.entry(set).or_insert_with(Vec::new).push(element(new));
            }
        }
        for (set, elements) in delete {
            batch.delete_elements(&set_id(set), elements);
        }
        for (set, elements) in add {
            batch.add_elements(&set_id(set), elements);
        }
        if !batch.is_empty() {
            self.nft.commit(&batch)?;
            self.elements.confirm(changes);
        }
        Ok(counts)
    }

    /// Has nft(8) make the text's rules, with all elements, in one transaction, whatever was there before. The second one that says what was made
    /// changes nothing for any frame.
    fn make(&mut self) -> Result<(), Failure> {
        let mut text = String::new();
        for family in [Family::Bridge, Family::Inet] {
            // So that it is there to be deleted.
            _ = writeln!(text, "add table {family} {TABLE}\ndelete table {family} {TABLE}");
        }
        text.push_str(RULESET);
        nft(&text)?;
        self.elements.replace_actual([]);
        let made =
            self.made()?.ok_or_else(|| Failure::other("nft", "it made no rules of what it was told"))?;
        let chain = chain(&made);
        self.nft.commit(Batch::new().add_chain(&nftables::Chain::regular(chain)))?;
        self.is_made = true;
        Ok(())
    }

    /// The name of the chain that says of what text these rules were made, and that they are as they were then; none without rules.
    fn made(&mut self) -> Result<Option<String>, Failure> {
        let mut said = RULESET.to_owned();
        for family in [Family::Bridge, Family::Inet] {
            let table = table(family);
            let rules = self.nft.rules_of_table(&table)?;
            if rules.is_empty() {
                return Ok(None);
            }
            for chain in self.nft.chains(&table)? {
                let name = chain.id.name.as_str();
                if !name.starts_with(MADE) {
                    _ = write!(said, "{name} {:?}", chain.base);
                }
            }
            for rule in rules {
                _ = write!(said, "{} {:?}", rule.chain.name, rule.expressions);
            }
            for set in self.nft.sets(&table)?.into_iter().filter(|set| is_of_a_rule(set.id.name.as_str())) {
                _ = write!(said, "{} {:?}", set.id.name, self.nft.elements(&set.id)?);
            }
        }
        Ok(Some(format!("{MADE}{}", hybrid::digest(&said))))
    }
}

/// The kernel's names for sets that stand in rules without one.
fn is_of_a_rule(name: &str) -> bool {
    name.starts_with("__")
}

fn table(family: Family) -> TableId {
    let family = match family {
        Family::Bridge => nftables::Family::Bridge,
        Family::Inet => nftables::Family::Inet,
    };
    TableId { family, name: TABLE.parse().expect("a short name") }
}

fn set_id((family, name): &SetName) -> SetId {
    table(*family).set(name).expect("a short name")
}

fn chain(name: &str) -> ChainId {
    table(Family::Bridge).chain(name).expect("a short name")
}

/// An element as the kernel has it.
fn encoded(element: &Element) -> (Place, Option<nftables::Data>) {
    let is_wide = element.key.iter().any(|key| matches!(key, Key::Net(_) | Key::Bits(_)))
        && element.set.starts_with("wide");
    let first: Vec<Value> = element.key.iter().map(|key| value(key, IpNet::network)).collect();
    let last: Vec<Value> = element.key.iter().map(|key| value(key, IpNet::broadcast)).collect();
    let key = |fields: Vec<Value>| match fields.len() {
        1 => fields.into_iter().next().expect("there is one"),
        _ => Value::concatenated(&fields),
    };
    let place = ((element.family, element.set.to_owned()), key(first), is_wide.then(|| key(last)));
    let data = element.data.as_ref().map(|data| match data {
        Data::Mark(mark) => nftables::Data::Value(Value::host32(*mark)),
        Data::Zone(zone) => nftables::Data::Value(Value::host16(*zone)),
        Data::Goto(chain) => nftables::Data::Verdict(Verdict::Goto(chain.parse().expect("a short name"))),
        Data::Drop => nftables::Data::Verdict(Verdict::Drop),
    });
    (place, data)
}

fn value(key: &Key, end: fn(&IpNet) -> std::net::IpAddr) -> Value {
    match key {
        Key::Device(name) => Value::interface(name),
        Key::Mac(mac) => Value::from(mac.octets()),
        Key::Net(net) => Value::from(end(net)),
        Key::Bits(net) => Value::from(end(&IpNet::V6(*net))),
        Key::Ethertype(number) => Value::be16(*number),
        Key::Mark(mark) => Value::host32(*mark),
    }
}

fn nft(text: &str) -> Result<(), Failure> {
    let failed = |reason: std::io::Error| Failure::other("nft", reason);
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
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
