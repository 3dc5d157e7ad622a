//! Dumps that were cut, pasted or mistyped: nothing of them is lost, and nothing breaks.

use explain::decode::{Dump, Sources, decode};
use proptest::prelude::*;

const DUMPS: [&str; 4] = [
    include_str!("../../../docs/examples/demo.flows"),
    include_str!("dumps/driver-names.txt"),
    include_str!("dumps/driver-appctl.txt"),
    include_str!("dumps/agent-names.txt"),
];

/// Some lines of a dump with a piece of one put in the place of a piece of another.
fn damaged() -> impl Strategy<Value = String> {
    let pieces =
        prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..12), 0..6);
    (prop::sample::select(&DUMPS[..]), any::<prop::sample::Index>(), 1usize..30, pieces).prop_map(
        |(dump, first, count, pieces)| {
            let lines: Vec<&str> = dump.lines().collect();
            let first = first.index(lines.len());
            let mut text: Vec<char> =
                lines[first..lines.len().min(first + count)].join("\n").chars().collect();
            for (from, to, length) in pieces {
                let (from, to) = (from.index(text.len()), to.index(text.len()));
                let piece: Vec<char> = text[from..text.len().min(from + length)].to_vec();
                let end = text.len().min(to + length / 2);
                text.splice(to..end, piece);
                if text.is_empty() {
                    text.push('"');
                }
            }
            text.into_iter().collect()
        },
    )
}

fn is_counted(line: &str) -> bool {
    let line = line.trim();
    let is_header = line.contains("_FLOW reply") && line.ends_with(':');
    !(line.is_empty() || line.starts_with('#') || is_header)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_is_a_flow_or_told(text in prop_oneof![damaged(), "\\PC{0,80}", "(in_port=|output:|table=|\"|ä|,| actions=|mod_dl_src:){0,12}"]) {
        let dump = Dump::read(&text);
        let lines = text.lines().filter(|line| is_counted(line)).count();
        prop_assert_eq!(dump.flows.len() + dump.unread.len(), lines);
        let decoding = decode(&dump.flows, Sources { named: Some(&dump.interfaces), ..Sources::default() });
        prop_assert_eq!(decoding.flows.len(), dump.flows.len());
    }
}
