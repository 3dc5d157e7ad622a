//! A real switch that traces.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use lab::{Datapath, DummyPort, DummySpec, FailMode, Ovs, OvsOptions, UnixCtl};
use rust_openflow::{Action, Field, Flow, Match};

use super::probe::Probe;

const BRIDGE: &str = "br-int";
/// Ports of the tried hosts and their trunk.
const OFPORTS: [u16; 8] = [1, 2, 3, 4, 5, 6, 7, 100];
/// None of them.
const NO_PORT: u16 = 0xfe00;
/// Above the pipeline's own flow of table 0.
const ENTRY_PRIORITY: u16 = 65535;

pub(crate) struct Switch {
    ctl: RefCell<UnixCtl>,
    /// OpenFlow port by port of the datapath.
    ports: BTreeMap<u32, u32>,
    _ports: Vec<DummyPort>,
    ovs: Ovs,
}

impl Switch {
    pub(crate) fn start() -> Self {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None }).unwrap();
        ovs.add_bridge(BRIDGE, FailMode::Secure).unwrap();
        let spec = |n: u16| DummySpec { ofport: Some(n), ..DummySpec::new(&format!("d{n}")) };
        let plugged = ovs.add_dummy_ports(BRIDGE, OFPORTS.map(spec).to_vec()).unwrap();
        let ports = datapath_ports(&ovs.appctl("dpif/show", &[]).unwrap());
        // As the agent does; else no fragment has ports (ovs-ofctl(8), "set-frags").
        ovs.ofctl(&["set-frags", BRIDGE, "nx-match"]).unwrap();
        let ctl = RefCell::new(ovs.connect_ctl().unwrap());
        Switch { ctl, ports, _ports: plugged, ovs }
    }

    /// Flows that let a packet in at the table that its metadata name.
    pub(crate) fn entries() -> impl Iterator<Item = Flow> {
        (1..=254u8).map(|table| {
            let matches = Match::new().with(Field::Metadata, table);
            Flow::new(0, ENTRY_PRIORITY, matches, vec![Action::resubmit(table)])
        })
    }

    /// Holds these flows and the entries, and nothing else.
    pub(crate) fn replace_flows(&self, flows: &[Flow]) {
        let mut text = String::new();
        for flow in Self::entries().chain(flows.iter().cloned()) {
            // The text of ovs-ofctl has no truncated output to TABLE, which the switch takes; to a port that is not there does
            // as little.
            let flow = flow.to_string().replace("output(port=TABLE,", &format!("output(port={NO_PORT},"));
            writeln!(text, "{flow}").unwrap();
        }
        let file = self.ovs.rundir().join("flows");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        self.ovs.ofctl(&["-O", "OpenFlow14", "replace-flows", BRIDGE, &file]).unwrap();
    }

    /// What becomes of each packet, in the switch's own words.
    pub(crate) fn traces(&self, probes: &[Probe]) -> Vec<String> {
        let words: Vec<_> = probes.iter().map(|probe| (probe.next_state_text(), probe.text())).collect();
        let calls: Vec<_> = words.iter().map(trace).collect();
        self.ctl.borrow_mut().call_all(&calls).unwrap_or_else(|error| panic!("{error}: {words:#?}"))
    }

    pub(crate) fn ports(&self) -> &BTreeMap<u32, u32> {
        &self.ports
    }
}

/// A trace of a packet in this state.
fn trace((next_state, flow): &(String, String)) -> (&'static str, Vec<&str>) {
    let mut arguments = ["--ct-next", next_state.as_str()].repeat(8);
    arguments.extend([BRIDGE, flow]);
    ("ofproto/trace", arguments)
}

/// OpenFlow ports by those of the datapath, from lines like `    d1 1/6: (dummy)`.
fn datapath_ports(text: &str) -> BTreeMap<u32, u32> {
    let pair = |line: &str| {
        let (numbers, _) = line.trim().split_once(' ')?.1.split_once(':')?;
        let (openflow, datapath) = numbers.split_once('/')?;
        Some((datapath.parse().ok()?, openflow.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}
