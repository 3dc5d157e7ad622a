//! A case against the evaluator.

use std::collections::{BTreeMap, BTreeSet};

use policy::PortId;
use policy::evaluator::{Host, Judgement, Model, Verdict};

use crate::case::{Binding, Case, PacketLine, Step};
use crate::sketch::{CUSTOMER_TAG, Sketch};
use crate::verdict::{Expected, Ground, Said};

/// What became of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The verdict at the sender; none for a frame from the network.
    pub sender: Option<Judgement>,
    /// The verdict at every local port that it came to.
    pub ports: BTreeMap<PortId, Judgement>,
    /// The network ports that it left by.
    pub network: BTreeSet<String>,
}

/// Runs a case from its first step to its last through the evaluator's model of a host.
///
/// # Errors
/// One text for each frame of which something else becomes than the page says.
pub fn run(case: &Case) -> Result<(), Vec<String>> {
    let mut differences = Vec::new();
    let mut model: Option<Model> = None;
    for step in &case.steps {
        let model = match &mut model {
            Some(model) => {
                model.set_policy(&step.policy);
                model
            }
            None => model.insert(Model::new(&step.policy, step.config.settings(), host(step))),
        };
        for packet in &step.packets {
            let difference = match send(model, step, packet) {
                Ok(seen) => seen.difference(&packet.expected),
                Err(reason) => Some(reason),
            };
            differences
                .extend(difference.map(|text| format!("line {}: {}\n    {text}", packet.line, packet.text)));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

fn host(step: &Step) -> Host {
    let bound = |binding: &Binding| Some((PortId::from(binding.port_id.as_deref()?), binding.tag?));
    Host { bindings: step.bindings.iter().filter_map(bound).collect() }
}

/// Sends the frame of a line through the model.
fn send(model: &mut Model, step: &Step, packet: &PacketLine) -> Result<Seen, String> {
    let from = step.bindings.iter().find(|binding| binding.name() == packet.from);
    let from = from.ok_or_else(|| format!("no interface or port {:?}", packet.from))?;
    if from.port_id.is_some() {
        let outcome = model.send(&PortId::from(packet.from.as_str()), &packet.frame);
        let leads_there = |port: &&Binding| port.uplink && (port.tag.is_none() || port.tag == from.tag);
        let network = step.bindings.iter().filter(leads_there).filter(|_| outcome.to_network);
        return Ok(Seen {
            sender: Some(outcome.egress),
            ports: outcome.delivered.into_iter().collect(),
            network: network.map(|port| port.interface.clone()).collect(),
        });
    }
    let mut inner: Sketch = packet.sketch.clone();
    let vlan = match (from.tag, inner.tags.first().copied()) {
        (Some(tag), None) => tag,
        (None, Some(tag)) if tag.ethertype == CUSTOMER_TAG => {
            inner.tags.remove(0);
            tag.vid
        }
        _ => return Err("a frame from a trunk has a VLAN tag, one from an access port has none".to_owned()),
    };
    let ports = model.receive(vlan, &inner.frame()).into_iter().collect();
    Ok(Seen { sender: None, ports, network: BTreeSet::new() })
}

impl Seen {
    /// How this differs from what was expected.
    fn difference(&self, expected: &Expected) -> Option<String> {
        let agrees = self.agrees_with_sender(expected)
            && self.agrees_with_deliveries(expected)
            && self
                .dropped()
                .eq(expected.dropped.iter().map(|(port, reason)| (port, Verdict::Drop(*reason))));
        (!agrees).then(|| format!("seen: {}", self.as_expected()))
    }

    fn agrees_with_sender(&self, expected: &Expected) -> bool {
        match (&self.sender, &expected.sender) {
            (None, said) => said.is_none(),
            (Some(judgement), None) => judgement.accepted(),
            (Some(judgement), Some(Said::Accept(ground))) => is_on_ground(judgement, ground),
            (Some(judgement), Some(Said::Drop(reason))) => judgement.verdict == Verdict::Drop(*reason),
        }
    }

    fn agrees_with_deliveries(&self, expected: &Expected) -> bool {
        let seen = self.receivers();
        let names: BTreeSet<&str> = expected.delivered.keys().map(String::as_str).collect();
        seen.keys().copied().eq(names)
            && expected.delivered.iter().all(|(name, ground)| {
                match seen.get(name.as_str()).copied().flatten() {
                    Some(judgement) => is_on_ground(judgement, ground),
                    // The network judges nothing.
                    None => *ground == Ground::Any,
                }
            })
    }

    /// Who received the frame, local ports with their judgement.
    fn receivers(&self) -> BTreeMap<&str, Option<&Judgement>> {
        let ports = self.ports.iter().filter(|(_, judgement)| judgement.accepted());
        let ports = ports.map(|(id, judgement)| (id.as_str(), Some(judgement)));
        ports.chain(self.network.iter().map(|name| (name.as_str(), None))).collect()
    }

    fn dropped(&self) -> impl Iterator<Item = (&PortId, Verdict)> {
        self.ports
            .iter()
            .filter(|(_, judgement)| !judgement.accepted())
            .map(|(id, judgement)| (id, judgement.verdict))
    }

    /// The same in the words of a page.
    fn as_expected(&self) -> Expected {
        let mut expected = Expected { sender: self.sender.as_ref().map(said), ..Expected::default() };
        for (name, judgement) in self.receivers() {
            let ground = judgement.map_or(Ground::Any, ground_of);
            expected.delivered.insert(name.to_owned(), ground);
        }
        for (port, judgement) in &self.ports {
            if let Said::Drop(reason) = said(judgement) {
                expected.dropped.insert(port.clone(), reason);
            }
        }
        expected
    }
}

fn said(judgement: &Judgement) -> Said {
    match judgement.verdict {
        Verdict::Drop(reason) => Said::Drop(reason),
        Verdict::Accept(_) => Said::Accept(ground_of(judgement)),
    }
}

fn ground_of(judgement: &Judgement) -> Ground {
    match judgement.verdict {
        Verdict::Accept(basis) if judgement.rules.is_empty() => Ground::Basis(basis),
        _ => Ground::Rules(judgement.rules.iter().map(|(_, rule)| rule.clone()).collect()),
    }
}

fn is_on_ground(judgement: &Judgement, ground: &Ground) -> bool {
    judgement.accepted() && (*ground == Ground::Any || ground_of(judgement) == *ground)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# Page
```yaml policy
security_groups:
- {id: sg-1, name: a, security_group_rules: [{id: r1, direction: ingress, ethertype: IPv4, protocol: tcp}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-1]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [sg-1]}
```
```packets
p-1: arp request spa=10.0.0.1 tpa=10.0.0.2 => VERDICT
```
"#;

    /// What is said of a wrong verdict; nothing of a right one.
    fn difference(verdict: &str) -> Option<String> {
        let case = Case::parse(&PAGE.replace("VERDICT", verdict)).expect("a page");
        run(&case).err().map(|differences| differences.join("\n"))
    }

    #[test]
    fn a_verdict_that_is_not_the_evaluators_is_told_with_what_was_seen() {
        for right in ["deliver p-2 uplink", "egress as arp; deliver p-2 as arp; deliver uplink"] {
            assert_eq!(difference(right), None);
        }
        for wrong in [
            "deliver p-2",
            "deliver uplink; ingress p-2 drop no-rule",
            "deliver p-2 uplink; ingress p-1 drop no-rule",
            "egress drop spoofed-arp",
            "egress as trusted; deliver p-2 uplink",
            "deliver p-2 by r1; deliver uplink",
            "deliver p-2 uplink as arp",
            "deliver nowhere",
        ] {
            let difference = difference(wrong).unwrap_or_else(|| panic!("{wrong} is not what is seen"));
            assert!(difference.starts_with("line 10: p-1: arp"), "{difference}");
            assert!(
                difference.ends_with("seen: egress as arp; deliver p-2 as arp; deliver uplink"),
                "{difference}"
            );
        }
    }

    #[test]
    fn a_sender_that_is_not_bound_is_told() {
        let case =
            Case::parse(&PAGE.replace("p-1: arp", "p-3: arp").replace("VERDICT", "deliver p-2 uplink"));
        assert!(run(&case.unwrap()).unwrap_err()[0].ends_with("no interface or port \"p-3\""));
    }
}
