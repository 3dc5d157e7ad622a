//! A case: a page of Markdown with policies, frames and verdicts.

use std::collections::{BTreeMap, BTreeSet};

use policy::evaluator::{Datapath, Frame, Settings};
use policy::{Policy, PortId, document};
use serde::Deserialize;

use crate::frame_text::Names;
use crate::sketch::Sketch;
use crate::verdict::Expected;

/// The VLAN of the first network in order of ids, where the page does not say; the next has twice that.
const FIRST_VLAN: u16 = 10;
/// The name and OpenFlow port of the trunk to the network, where the page does not say.
const UPLINK: (&str, u32) = ("uplink", 100);

/// A page of `flows/cases`.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    /// Its heading.
    pub title: String,
    /// What happens, in order, over one set of connection tables.
    pub steps: Vec<Step>,
}

/// A policy that comes into force, and frames after it.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The document as it stands on the page.
    pub policy_text: String,
    /// The policy in force: what the document says, or said before where an object of it is refused.
    pub policy: Policy,
    /// The interfaces of the bridge.
    pub bindings: Vec<Binding>,
    /// What else verdicts depend on.
    pub config: Config,
    /// The frames, in order.
    pub packets: Vec<PacketLine>,
    /// The flows of this policy, if the page has them.
    pub flows: Option<FlowsBlock>,
}

/// What a page shows of the flows that its policy is rendered to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowsBlock {
    /// Of which tables, in the order shown.
    pub tables: Vec<ShownTable>,
    /// The flows, one a line, in ovs-ofctl's text without cookies.
    pub text: String,
}

/// A table of the pipeline on a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShownTable {
    /// Its name in `flows/pipeline.toml`.
    pub name: String,
    /// Which of its flows.
    pub kinds: ShownKinds,
}

/// Kinds of flows, by the names that `flows/pipeline.toml` gives to kinds of cookies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShownKinds {
    /// Those of the page's ports, networks, rules and members.
    Particular,
    /// One kind.
    One(String),
    /// Every flow of the table.
    All,
}

/// What OVSDB would say of an interface.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The Neutron port; none for a port of the network.
    pub port_id: Option<PortIdText>,
    /// The interface's name.
    pub interface: String,
    /// Its OpenFlow port number.
    pub ofport: u32,
    /// The VLAN of an access port; none for a trunk.
    pub tag: Option<u16>,
    /// Whether it leads to the network.
    #[serde(default)]
    pub uplink: bool,
}

/// A port's id as the page gives it.
type PortIdText = String;

/// The part of the daemon's configuration that verdicts depend on.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Ethertypes beside ARP, RARP and IP that filtered ports may use.
    pub permitted_ethertypes: BTreeSet<u16>,
}

/// One line of a `packets` block.
#[derive(Clone, PartialEq, Debug)]
pub struct PacketLine {
    /// Its line on the page, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// Who sends the frame: a port's id, or the interface of a network port.
    pub from: String,
    /// The frame with everything that its bytes need.
    pub sketch: Sketch,
    /// The frame as the evaluator sees it.
    pub frame: Frame,
    /// The frame on the wire.
    pub bytes: Vec<u8>,
    /// What is to become of it.
    pub expected: Expected,
}

/// What is wrong with a page.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct CaseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl Binding {
    /// The name that it has in a packet line: the port's id, or the interface of a port without one.
    pub fn name(&self) -> &str {
        self.port_id.as_deref().unwrap_or(&self.interface)
    }
}

impl Config {
    /// As the evaluator takes it, for Open vSwitch's userspace datapath.
    pub fn settings(&self) -> Settings {
        Settings { permitted_ethertypes: self.permitted_ethertypes.clone(), datapath: Datapath::default() }
    }
}

impl Case {
    /// Reads a page.
    ///
    /// # Errors
    /// The first thing on it that cannot be meant.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        let page = Page::parse(text)?;
        let drafts = draft_steps(page.blocks)?;
        let title = page.title.ok_or_else(|| CaseError { line: 1, reason: "no heading".to_owned() })?;
        let mut steps: Vec<Step> = Vec::new();
        for draft in drafts {
            let step = draft.read(steps.last())?;
            steps.push(step);
        }
        let unbound: Vec<usize> =
            (0..steps.len()).filter(|index| steps[*index].bindings.is_empty()).collect();
        if !unbound.is_empty() {
            let bindings = usual_bindings(&steps)?;
            for index in unbound {
                steps[index].bindings.clone_from(&bindings);
            }
        }
        match steps.is_empty() {
            true => Err(CaseError { line: 1, reason: "no policy block".to_owned() }),
            false => Ok(Self { title, steps }),
        }
    }
}

/// The blocks of a page, each with the line where its content begins.
struct Page {
    title: Option<String>,
    blocks: Vec<Block>,
}

struct Block {
    kind: Kind,
    /// What stands behind the kind on the block's first line.
    arguments: Vec<String>,
    line: usize,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Policy,
    Bindings,
    Config,
    Refused,
    Packets,
    /// With tables behind it: see [`FlowsBlock`].
    Flows,
}

impl Kind {
    fn of(info: &str) -> Option<Self> {
        Some(match info {
            "yaml policy" => Self::Policy,
            "yaml bindings" => Self::Bindings,
            "yaml config" => Self::Config,
            "refused" => Self::Refused,
            "packets" => Self::Packets,
            _ => return None,
        })
    }
}

impl Page {
    fn parse(text: &str) -> Result<Self, CaseError> {
        let mut page = Self { title: None, blocks: Vec::new() };
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        while let Some((number, line)) = lines.next() {
            if let Some(title) = line.strip_prefix("# ") {
                page.title.get_or_insert_with(|| title.trim().to_owned());
            }
            let Some(info) = line.strip_prefix("```") else { continue };
            let unknown = || CaseError { line: number, reason: format!("a case has no block {info:?}") };
            let (kind, arguments) = match info.strip_prefix("flows ") {
                Some(tables) => (Kind::Flows, tables.split_whitespace().map(str::to_owned).collect()),
                None => (Kind::of(info.trim()).ok_or_else(unknown)?, Vec::new()),
            };
            let mut block = Block { kind, arguments, line: number + 1, text: String::new() };
            loop {
                match lines.next() {
                    Some((_, "```")) => break,
                    Some((_, line)) => block.text.extend([line, "\n"]),
                    None => {
                        return Err(CaseError { line: number, reason: "the block has no end".to_owned() });
                    }
                }
            }
            page.blocks.push(block);
        }
        Ok(page)
    }
}

/// The blocks of one step; each policy block begins one.
struct Draft {
    policy: Block,
    others: Vec<Block>,
}

fn draft_steps(blocks: Vec<Block>) -> Result<Vec<Draft>, CaseError> {
    let mut drafts: Vec<Draft> = Vec::new();
    for block in blocks {
        if block.kind == Kind::Policy {
            drafts.push(Draft { policy: block, others: Vec::new() });
            continue;
        }
        let Some(draft) = drafts.last_mut() else {
            return Err(CaseError { line: block.line, reason: "the first block is no policy".to_owned() });
        };
        if draft.others.iter().any(|other| other.kind == block.kind) {
            let reason = format!("a second block of kind {:?} for one policy", block.kind);
            return Err(CaseError { line: block.line, reason });
        }
        draft.others.push(block);
    }
    Ok(drafts)
}

impl Draft {
    fn block(&self, kind: Kind) -> Option<&Block> {
        self.others.iter().find(|block| block.kind == kind)
    }

    /// Bindings and configuration stay as they were before unless the page says otherwise.
    fn read(&self, before: Option<&Step>) -> Result<Step, CaseError> {
        let policy = self.read_policy(before.map(|step| &step.policy))?;
        let bindings = match self.block(Kind::Bindings) {
            Some(block) => block.yaml()?,
            None => before.map(|step| step.bindings.clone()).unwrap_or_default(),
        };
        let config = match self.block(Kind::Config) {
            Some(block) => block.yaml()?,
            None => before.map(|step| step.config.clone()).unwrap_or_default(),
        };
        let names = Names::new(&policy);
        let packets = match self.block(Kind::Packets) {
            Some(block) => block.packets(&names)?,
            None => Vec::new(),
        };
        let flows = self.block(Kind::Flows).map(|block| FlowsBlock {
            tables: block.arguments.iter().map(|argument| ShownTable::new(argument)).collect(),
            text: block.text.clone(),
        });
        Ok(Step { policy_text: self.policy.text.clone(), policy, bindings, config, packets, flows })
    }

    /// Reads the document; what is wrong with it must be what the `refused` block says, as `object: field`.
    fn read_policy(&self, before: Option<&Policy>) -> Result<Policy, CaseError> {
        let parsed = document::parse(&[("policy", &self.policy.text)], before);
        let mut announced: BTreeMap<String, usize> = BTreeMap::new();
        if let Some(block) = self.block(Kind::Refused) {
            announced.extend(block.lines().map(|(number, line)| (line.to_owned(), number)));
        }
        for diagnostic in &parsed.diagnostics {
            let line = self.policy.line + usize::try_from(diagnostic.line).unwrap_or(1).saturating_sub(1);
            let name = format!("{}: {}", diagnostic.object, diagnostic.field);
            if announced.remove(&name).is_none() {
                return Err(CaseError { line, reason: format!("{name}: {}", diagnostic.reason) });
            }
        }
        match announced.pop_first() {
            Some((name, line)) => Err(CaseError { line, reason: format!("{name} is not refused") }),
            None => Ok(parsed.policy),
        }
    }
}

impl ShownTable {
    /// `NAME`, `NAME:KIND` or, for the whole table, `NAME+`.
    fn new(text: &str) -> Self {
        let (name, kinds) = match (text.strip_suffix('+'), text.split_once(':')) {
            (Some(name), _) => (name, ShownKinds::All),
            (None, Some((name, kind))) => (name, ShownKinds::One(kind.to_owned())),
            (None, None) => (text, ShownKinds::Particular),
        };
        Self { name: name.to_owned(), kinds }
    }
}

impl Block {
    fn yaml<T: for<'de> Deserialize<'de>>(&self) -> Result<T, CaseError> {
        serde_saphyr::from_str(&self.text)
            .map_err(|error| CaseError { line: self.line, reason: format!("{:?} block: {error}", self.kind) })
    }

    /// The lines that are neither empty nor comments, with their numbers on the page.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (self.line + index, line.trim()));
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }

    fn packets(&self, names: &Names) -> Result<Vec<PacketLine>, CaseError> {
        let read = |(number, line): (usize, &str)| {
            read_packet(number, line, names).map_err(|reason| CaseError { line: number, reason })
        };
        self.lines().map(read).collect()
    }
}

/// `FROM: FRAME => VERDICT`
fn read_packet(line: usize, text: &str, names: &Names) -> Result<PacketLine, String> {
    let (what, verdict) = text.split_once("=>").ok_or("no => before the verdict")?;
    let (from, frame) = what.split_once(": ").ok_or("no sender before the frame")?;
    let sketch = names.read(from.trim(), frame).map_err(|error| error.to_string())?;
    let bytes = sketch.bytes().map_err(|error| error.to_string())?;
    let expected = Expected::parse(verdict).map_err(|error| error.to_string())?;
    let (from, frame) = (from.trim().to_owned(), sketch.frame());
    Ok(PacketLine { line, text: text.to_owned(), from, sketch, frame, bytes, expected })
}

/// The bindings of a page that does not give any: every port without a host of its own is bound, `p-1` as `tap1` with
/// OpenFlow port 1, on its network's VLAN; and a trunk leads to the network.
fn usual_bindings(steps: &[Step]) -> Result<Vec<Binding>, CaseError> {
    let ports: BTreeMap<&PortId, &policy::Port> = steps
        .iter()
        .flat_map(|step| step.policy.ports.iter())
        .filter(|(_, port)| port.host.is_none())
        .map(|(id, port)| (id, &**port))
        .collect();
    let networks: BTreeSet<_> = ports.values().map(|port| &port.network_id).collect();
    let tags: BTreeMap<_, u16> = networks.into_iter().zip((1..).map(|n: u16| n * FIRST_VLAN)).collect();
    let mut bindings = Vec::new();
    for (id, port) in ports {
        let number = id.as_str().strip_prefix("p-").and_then(|number| number.parse::<u32>().ok());
        let reason = || format!("port {id} is not named like p-1: say where it is bound");
        let ofport = number.ok_or_else(|| CaseError { line: 1, reason: reason() })?;
        bindings.push(Binding {
            port_id: Some(id.to_string()),
            interface: format!("tap{ofport}"),
            ofport,
            tag: tags.get(&port.network_id).copied(),
            uplink: false,
        });
    }
    let (interface, ofport) = UPLINK;
    bindings.push(Binding {
        port_id: None,
        interface: interface.to_owned(),
        ofport,
        tag: None,
        uplink: true,
    });
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# Ping

Prose.

```yaml policy
security_groups:
- {id: sg-1, name: a, security_group_rules: [{id: r1, direction: egress, ethertype: IPv4}]}
ports:
- {id: p-1, network_id: net-1, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-1]}
```
```packets
# a comment
p-1: icmp 10.0.0.1>10.0.0.9 echo-request => egress by r1; deliver uplink
```

```yaml policy
ports: []
```
"#;

    #[test]
    fn a_page_is_steps_with_their_usual_bindings() {
        let case = Case::parse(PAGE).unwrap();
        assert_eq!((case.title.as_str(), case.steps.len()), ("Ping", 2));
        let packet = &case.steps[0].packets[0];
        assert_eq!((packet.line, packet.from.as_str()), (13, "p-1"));
        let names: Vec<_> =
            case.steps[1].bindings.iter().map(|b| (b.interface.as_str(), b.ofport, b.tag)).collect();
        assert_eq!(names, [("tap1", 1, Some(10)), ("uplink", 100, None)]);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_with_its_line() {
        let line_of = |text: &str| Case::parse(text).unwrap_err().line;
        assert_eq!(line_of(&PAGE.replace("echo-request", "echo")), 13);
        assert_eq!(line_of(&PAGE.replace("sg-1]}", "sg-2]}")), 9, "a port with an undefined group");
        assert_eq!(line_of(&PAGE.replace("```packets", "```packet")), 11);
        assert_eq!(line_of(&PAGE.replace("ports: []\n```", "ports: []")), 16);
        let refused = PAGE.replace("```packets", "```refused\nport p-1: security_groups\n```\n```packets");
        assert_eq!(line_of(&refused), 12, "it is not refused");
        assert_eq!(Case::parse("# Nothing\n").unwrap_err().reason, "no policy block");
    }
}
