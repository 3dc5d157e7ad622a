//! Chains as the kernel has them: read by `iptables-save`, changed by `iptables-restore --noflush`, one transaction a table.
//!
//! What is compared is what `iptables-save` prints, less what it prints otherwise than it was told (protocols by name). The chains of others are
//! never named, but for rules in them that lead to chains of ours that are to go.

mod remove;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::str::FromStr;

use hybrid::iptables::{Chain, ChainKey, HOOKS, Hook, PREFIX, Table};
use policy::Ethertype;
use reconcile::{Change, Tracker};
use thiserror::Error;

use super::{Failure, program};

/// Which of the two kinds of iptables keeps the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Variant {
    /// What the host has chosen (`update-alternatives`).
    #[default]
    OfHost,
    /// That over nf_tables.
    Nft,
    /// The old one.
    Legacy,
}

impl FromStr for Variant {
    type Err = VariantError;

    fn from_str(text: &str) -> Result<Self, VariantError> {
        match text {
            "host" => Ok(Variant::OfHost),
            "nft" => Ok(Variant::Nft),
            "legacy" => Ok(Variant::Legacy),
            _ => Err(VariantError(text.to_owned())),
        }
    }
}

/// A kind of iptables that there is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("iptables_variant {0:?} is unknown; known are host, nft and legacy")]
pub struct VariantError(String);

/// The tables that we use.
const TABLES: [Table; 2] = [Table::Raw, Table::Filter];
/// A chain that is there and gone in one transaction.
const PROBE: &str = "neutron-openvswi-probe";
const FAMILIES: [Ethertype; 2] = [Ethertype::Ipv4, Ethertype::Ipv6];

/// A table of a family.
type Place = (Ethertype, Table);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Iptables {
    variant: Variant,
    chains: Tracker<ChainKey, Chain>,
    rules: usize,
    read: BTreeMap<Place, Read>,
    protocols: BTreeMap<String, u8>,
    overlooks_samples: bool,
}

/// What else a table was found to hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    /// Our rule stands first in the kernel's own chain.
    is_hooked: bool,
    /// Rules of chains that are not ours which lead to ours, but that one.
    strays: Vec<String>,
}

impl Iptables {
    /// Nothing is wanted, nothing known.
    pub(super) fn new(variant: Variant) -> Self {
        Iptables {
            variant,
            chains: Tracker::new(),
            rules: 0,
            read: BTreeMap::new(),
            protocols: protocols(),
            overlooks_samples: false,
        }
    }

    /// A chain shall be so, or not be there.
    pub(super) fn want(&mut self, key: ChainKey, chain: Option<Chain>) {
        self.rules -= self.chains.desired(&key).map_or(0, Vec::len);
        self.rules += chain.as_ref().map_or(0, Vec::len);
        match chain {
            Some(chain) => self.chains.want(key, chain.iter().map(|rule| self.usual(rule)).collect()),
            None => self.chains.unwant(key),
        }
    }

    /// It does not matter whether a chain samples what it drops.
    pub(super) fn overlook_samples(&mut self) {
        self.overlooks_samples = true;
    }

    /// No chain shall sample what it drops.
    pub(super) fn want_no_samples(&mut self) {
        let with: Vec<(ChainKey, Chain)> = self
            .chains
            .iter_desired()
            .filter(|(_, chain)| chain.iter().any(|rule| is_sample(rule)))
            .map(|(key, chain)| (key.clone(), chain.clone()))
            .collect();
        for (key, mut chain) in with {
            chain.retain(|rule| !is_sample(rule));
            self.want(key, Some(chain));
        }
    }

    /// Why a rule is not taken, if it is not: tried in a chain that is gone when the try ends.
    pub(super) fn why_not(&self, rule: &str) -> Option<String> {
        let text = format!("*filter\n:{PROBE} - [0:0]\n-A {PROBE} {rule}\n-F {PROBE}\n-X {PROBE}\nCOMMIT\n");
        let tried = |family| self.run(family, "restore", &["--noflush", "-w", "10"], Some(&text)).err();
        FAMILIES.into_iter().find_map(tried).map(|failure| failure.to_string())
    }

    /// What the rules of `filter` have counted: what `iptables-save -c` prints, of each family.
    ///
    /// # Errors
    /// A tool does not run or refuses.
    pub(super) fn counted(variant: Variant) -> Result<Vec<String>, Failure> {
        let iptables = Iptables::new(variant);
        let table = Table::Filter.to_string();
        FAMILIES.map(|family| iptables.run(family, "save", &["-c", "-t", &table], None)).into_iter().collect()
    }

    /// How many rules shall be there.
    pub(super) fn rule_count(&self) -> usize {
        self.rules
    }

    /// Reads what the kernel has.
    ///
    /// # Errors
    /// A tool does not run or refuses.
    pub(super) fn read_back(&mut self) -> Result<(), Failure> {
        let mut chains: BTreeMap<ChainKey, Chain> = BTreeMap::new();
        for ethertype in FAMILIES {
            for table in TABLES {
                let text = self.run(ethertype, "save", &["-t", &table.to_string()], None)?;
                let read = self.read_table(ethertype, table, &text, &mut chains);
                self.read.insert((ethertype, table), read);
            }
        }
        self.chains.replace_actual(chains);
        Ok(())
    }

    /// Whether the kernel's chains are known to be otherwise than they shall be.
    pub(super) fn is_to_be_changed(&self) -> bool {
        !self.chains.is_converged()
            || self.read.values().any(|read| *read != Read { is_hooked: true, strays: Vec::new() })
    }

    /// What of the kernel's chains is not as it shall be, in words.
    pub(super) fn pending(&self) -> Vec<String> {
        let tool = |ethertype| match ethertype {
            Ethertype::Ipv4 => "iptables",
            Ethertype::Ipv6 => "ip6tables",
        };
        let mut lines = Vec::new();
        for ((ethertype, table), read) in &self.read {
            let tool = tool(*ethertype);
            let hook = hook(*table);
            if !read.is_hooked {
                lines.push(format!(
                    "{tool} {table}: {} does not begin with -j {PREFIX}{}",
                    hook.chain, hook.to
                ));
            }
            lines.extend(
                read.strays.iter().map(|rule| format!("{tool} {table}: -A {rule} shall not be there")),
            );
        }
        for change in self.chains.pending() {
            let ChainKey { ethertype, table, name } = change.key();
            let what = match change {
                Change::Add { .. } => "is not there",
                Change::Modify { .. } => "has other rules",
                Change::Delete { .. } => "shall not be there",
            };
            lines.push(format!("{} {table}: chain {name} {what}", tool(*ethertype)));
        }
        lines
    }

    /// Makes the kernel's chains as they shall be; says how many came, were changed and went.
    ///
    /// # Errors
    /// A tool does not run or refuses: what it was to do is to be read back.
    pub(super) fn put_in_force(&mut self) -> Result<[usize; 3], Failure> {
        let mut places: BTreeMap<Place, Vec<Change<ChainKey, Chain>>> = BTreeMap::new();
        for change in self.chains.pending() {
            let key = change.key();
            places.entry((key.ethertype, key.table)).or_default().push(change);
        }
        let mut counts = [0; 3];
        let order = FAMILIES.map(|family| in_order(family, &places));
        for place in order.into_iter().flatten() {
            let changes = places.remove(&place).unwrap_or_default();
            let read = self.read.get(&place);
            let is_as_read = read.is_some_and(|read| read.is_hooked && read.strays.is_empty());
            if changes.is_empty() && is_as_read {
                continue;
            }
            let text = transaction(place, &changes, read.unwrap_or(&Read::default()));
            self.run(place.0, "restore", &["--noflush", "-w", "10"], Some(&text))?;
            for change in &changes {
                match change {
                    Change::Add { .. } => counts[0] += 1,
                    Change::Modify { .. } => counts[1] += 1,
                    Change::Delete { .. } => counts[2] += 1,
                }
            }
            self.read.insert(place, Read { is_hooked: true, strays: Vec::new() });
            self.chains.confirm(changes);
        }
        Ok(counts)
    }

    fn read_table(
        &self,
        ethertype: Ethertype,
        table: Table,
        text: &str,
        chains: &mut BTreeMap<ChainKey, Chain>,
    ) -> Read {
        let key = |name: &str| ChainKey { ethertype, table, name: name.to_owned() };
        let hook = hook(table);
        let own = format!("-j {PREFIX}{}", hook.to);
        let (mut read, mut is_first) = (Read::default(), true);
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix(':') {
                let name = declared.split(' ').next().unwrap_or_default();
                if name.starts_with(PREFIX) {
                    chains.entry(key(name)).or_default();
                }
                continue;
            }
            let Some((name, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            if name.starts_with(PREFIX) {
                let chain = chains.entry(key(name)).or_default();
                if !(self.overlooks_samples && is_sample(rule)) {
                    chain.push(self.usual(rule));
                }
            } else if name == hook.chain && rule == own && is_first {
                read.is_hooked = true;
            } else if leads_to_ours(rule) {
                read.strays.push(format!("{name} {rule}"));
            }
            is_first &= name != hook.chain;
        }
        read
    }

    /// A rule with the protocol by its number: iptables-save looks names up in /etc/protocols, if that is there.
    fn usual(&self, rule: &str) -> String {
        let mut words = rule.splitn(3, ' ').collect::<Vec<_>>();
        let mut head = String::new();
        // `-s` and `-d` may stand before it.
        while let [option @ ("-s" | "-d"), value, rest] = words[..] {
            _ = write!(head, "{option} {value} ");
            words = rest.splitn(3, ' ').collect();
        }
        if let ["-p", name, ..] = words[..]
            && let Some(number) = self.protocols.get(name)
        {
            let rest = words.get(2).map(|rest| format!(" {rest}")).unwrap_or_default();
            return format!("{head}-p {number}{rest}");
        }
        head + &words.join(" ")
    }

    fn run(
        &self,
        ethertype: Ethertype,
        what: &str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<String, Failure> {
        let tool = tool(ethertype, self.variant, what);
        let failed = |reason: std::io::Error| Failure::other(&tool, reason);
        let mut command = program::command(&tool);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = program::start(&mut command).map_err(failed)?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // A tool that ends before it has read everything says why.
            _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            return Err(Failure::other(&tool, String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn is_sample(rule: &str) -> bool {
    rule.contains("-j NFLOG ")
}

fn tool(ethertype: Ethertype, variant: Variant, what: &str) -> String {
    let family = match ethertype {
        Ethertype::Ipv4 => "iptables",
        Ethertype::Ipv6 => "ip6tables",
    };
    match variant {
        Variant::OfHost => format!("{family}-{what}"),
        Variant::Nft => format!("{family}-nft-{what}"),
        Variant::Legacy => format!("{family}-legacy-{what}"),
    }
}

/// Which table of a family is changed first: a group that becomes stateless is in `raw` before it goes from `filter`, and one that is stateful
/// again is in `filter` before it goes from `raw`. Nothing is refused in between that both admit.
fn in_order(family: Ethertype, places: &BTreeMap<Place, Vec<Change<ChainKey, Chain>>>) -> [Place; 2] {
    let is_loss = |change: &Change<ChainKey, Chain>| {
        let new = change.new_value();
        change.old_value().into_iter().flatten().any(|rule| new.is_none_or(|new| !new.contains(rule)))
    };
    let raw_loses = places.get(&(family, Table::Raw)).is_some_and(|changes| changes.iter().any(is_loss));
    let [raw, filter] = TABLES.map(|table| (family, table));
    if raw_loses { [filter, raw] } else { [raw, filter] }
}

fn hook(table: Table) -> Hook {
    HOOKS.into_iter().find(|hook| hook.table == table).expect("every table has one")
}

fn leads_to_ours(rule: &str) -> bool {
    let mut words = rule.split(' ').skip_while(|word| !["-j", "-g"].contains(word)).skip(1);
    words.next().is_some_and(|target| target.starts_with(PREFIX))
}

/// What iptables-restore is told. All chains that are to be filled are there before the first rule leads to one, and those that are to go
/// are empty before.
fn transaction((_, table): Place, changes: &[Change<ChainKey, Chain>], read: &Read) -> String {
    let mut text = format!("*{table}\n");
    let mut gone = BTreeSet::new();
    for change in changes {
        let name = &change.key().name;
        _ = writeln!(text, ":{name} - [0:0]");
        if change.new_value().is_none() {
            gone.insert(name);
        }
    }
    for stray in &read.strays {
        _ = writeln!(text, "-D {stray}");
    }
    if !read.is_hooked {
        let hook = hook(table);
        _ = writeln!(text, "-I {} 1 -j {PREFIX}{}", hook.chain, hook.to);
    }
    for change in changes {
        let name = &change.key().name;
        for rule in change.new_value().into_iter().flatten() {
            _ = writeln!(text, "-A {name} {rule}");
        }
    }
    for name in gone {
        _ = writeln!(text, "-X {name}");
    }
    text.push_str("COMMIT\n");
    text
}

/// Names of protocols (protocols(5)), and those that iptables knows by itself (iptables/xtables.c: `xtables_chain_protos`).
fn protocols() -> BTreeMap<String, u8> {
    let known = [
        ("tcp", 6),
        ("sctp", 132),
        ("udp", 17),
        ("udplite", 136),
        ("icmp", 1),
        ("icmpv6", 58),
        ("ipv6-icmp", 58),
        ("esp", 50),
        ("ah", 51),
        ("ipv6-mh", 135),
        ("mh", 135),
        ("dccp", 33),
        ("gre", 47),
        ("ipcomp", 108),
    ];
    let mut protocols: BTreeMap<String, u8> = BTreeMap::new();
    for line in std::fs::read_to_string("/etc/protocols").unwrap_or_default().lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(name), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) else { continue };
        protocols.insert(name.to_owned(), number);
    }
    protocols.extend(known.map(|(name, number)| (name.to_owned(), number)));
    protocols
}
