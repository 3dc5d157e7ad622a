//! What the kernel's tables hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use lab::NetNs;
use nftables::{Data, Expr, Family, Nftables, SetFlags, TableId, Value, ranges};

type Named = (Family, String);
/// Key, or first key of a range; last key, or first one behind a range; what it is mapped to.
type Element = (Value, Option<Value>, Option<Data>);

/// A rule's expressions, and what is kept at it.
type Rule = (Vec<Expr>, Vec<u8>);
/// A set's flags, type of key, whether it maps, and what is in it.
type Set = (SetFlags, u32, bool, BTreeSet<Element>);

/// Our tables, less the chain that says what was made.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) chains: BTreeMap<Named, Vec<Rule>>,
    pub(crate) sets: BTreeMap<Named, Set>,
}

impl Snapshot {
    pub(crate) fn of(netns: &NetNs) -> Self {
        netns.enter(Self::here).expect("it can be entered")
    }

    fn here() -> Self {
        let mut kernel = Nftables::open().expect("netlink");
        let mut snapshot = Snapshot::default();
        for family in [Family::Bridge, Family::Inet] {
            let table = TableId { family, name: "sgflow".parse().expect("a name") };
            let named = |name: &nftables::Name| (family, name.as_str().to_owned());
            for chain in kernel.chains(&table).expect("chains") {
                if !["made-", "since-"].iter().any(|begin| chain.id.name.as_str().starts_with(begin)) {
                    snapshot.chains.insert(named(&chain.id.name), Vec::new());
                }
            }
            // How much is looked at is no matter of what is rendered.
            let enforces =
                |rule: &nftables::Rule| !rule.chain.name.as_str().starts_with(hybrid::samples::CHAIN);
            for rule in kernel.rules_of_table(&table).expect("rules").into_iter().filter(enforces) {
                let chain = snapshot.chains.get_mut(&named(&rule.chain.name)).expect("its chain");
                chain.push((rule.expressions, rule.user_data));
            }
            for set in kernel.sets(&table).unwrap_or_default() {
                let elements = kernel.elements(&set.id).expect("elements");
                let is_of_ranges = set.flags.has(SetFlags::INTERVAL) && !set.flags.has(SetFlags::CONCAT);
                let elements: BTreeSet<Element> = match is_of_ranges {
                    true => ranges(elements).into_iter().collect(),
                    false => elements.into_iter().map(|one| (one.key, one.key_end, one.data)).collect(),
                };
                let kind = (set.flags, set.key_type, set.data.is_some(), elements);
                snapshot.sets.insert(named(&set.id.name), kind);
            }
        }
        snapshot
    }

    /// The zones of ports, by their guests' devices.
    pub(crate) fn zones(&self) -> BTreeMap<String, u16> {
        let marks = &self.sets[&(Family::Bridge, "marks".to_owned())].3;
        let zone = |(key, _, data): &Element| {
            let device = String::from_utf8_lossy(key.octets()).trim_end_matches('\0').to_owned();
            let Some(Data::Value(mark)) = data else { panic!("a mark") };
            let mark = u32::from_ne_bytes(mark.octets().try_into().expect("four octets"));
            (device, u16::try_from(mark & hybrid::mark::ZONE).expect("sixteen bits"))
        };
        marks.iter().map(zone).collect()
    }
}

/// The number of the last change of anybody's tables.
pub(crate) fn generation(netns: &NetNs) -> u32 {
    netns.enter(|| Nftables::open().expect("netlink").generation().expect("a number")).expect("entered")
}

/// What nft(8) says to a text.
pub(crate) fn nft(netns: &NetNs, text: &str) -> String {
    let output = netns.enter(|| {
        let mut command = Command::new("nft");
        command.args(["-a", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nft(8)");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    });
    let output = output.expect("it can be entered");
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
