//! What was found, for people: whose flows are wrong, then each of them with its evidence, what opens first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use agent::audit::{Audit, Deviation, Evidence, Finding, Way, is_passage};
use explain::decode::Sources;
use explain::readable::Readable;
use pipeline::{is_enforcing, is_ours};
use policy::Policy;
use rust_openflow::Flow;
use verify::symbolic::Fault;

use super::Look;
use crate::text::printable;

/// So many flows have their evidence shown, unless all are asked for.
const SHOWN: usize = 10;

/// All that is said of a look at a bridge.
pub(super) fn text_of(bridge: &str, look: &Look, policy: &Policy, shows_all: bool) -> String {
    let Look { audit, found, took, .. } = look;
    let of = format!(
        "{} flows, {} ports, all packets: {:.1} s",
        found.held.iter().filter(|flow| is_enforcing(flow)).count(),
        found.ports.len(),
        took.as_secs_f32()
    );
    if audit.is_exact() {
        return format!("{bridge}: the switch is exactly the policy ({of})\n");
    }
    let mut text = format!("{bridge}: the switch is not the policy: {} ({of})\n", counts(audit));
    let sources = Sources { policy: Some(policy), ..Sources::default() };
    if Readable::new(&found.held, sources).is_neutrons() {
        text += "  no flow is sgflow's: Neutron's own driver filters here\n";
    }
    let readable = Readable::new(&flows_of(look), sources);
    if audit.findings.len() > 1 {
        for (owner, findings) in by_owner(audit, &readable) {
            let opening = findings.iter().filter(|finding| opens(finding)).count();
            let more = match opening {
                0 => String::new(),
                1 => "; 1 of them opens".to_owned(),
                many => format!("; {many} of them open"),
            };
            let line = format!("  {owner}: {}{more}", in_words(findings.iter().copied()));
            _ = writeln!(text, "{}", printable(&line));
        }
    }
    let shown = if shows_all { audit.findings.len() } else { SHOWN };
    let mut findings: Vec<&Finding> = audit.findings.iter().collect();
    findings.sort_by_key(|finding| !opens(finding));
    for finding in findings.iter().take(shown) {
        text += &finding_text(finding, &readable);
    }
    for difference in &audit.unexplained {
        _ = writeln!(text, "\nwith all flows as they should be: {difference}");
    }
    if let Some(reason) = &audit.unproven {
        _ = writeln!(text, "\nno proof for the rest: {reason}");
    }
    if findings.len() > shown {
        _ = writeln!(text, "\n{} more flows are wrong: --all shows them", findings.len() - shown);
    }
    text
}

/// What there is, and what there should be in its place, which knows more names.
fn flows_of(look: &Look) -> Vec<Flow> {
    let wanted = look.audit.findings.iter().filter_map(|finding| match &finding.deviation {
        Deviation::Missing(wanted) | Deviation::Altered { wanted, .. } => Some(wanted.clone()),
        Deviation::Extra(_) => None,
    });
    look.found.held.iter().cloned().map(Flow::canonical).chain(wanted).collect()
}

/// Whether something passes by it that should not.
fn opens(finding: &Finding) -> bool {
    let fault = finding.evidence.as_ref().and_then(|evidence| evidence.difference.as_ref());
    finding.unfollowed.is_some() || fault.is_some_and(|difference| difference.fault != Fault::Closes)
}

/// Whose flows they are, as cookies say.
fn by_owner<'a>(audit: &'a Audit, readable: &Readable) -> BTreeMap<String, Vec<&'a Finding>> {
    let mut owners: BTreeMap<String, Vec<&Finding>> = BTreeMap::new();
    for finding in &audit.findings {
        let means = readable.of(finding.deviation.flow()).and_then(|decoded| decoded.cookie_means.clone());
        let owner = match means {
            _ if word_for(finding) == "foreign" => "others".to_owned(),
            // Sets and remotes say what they are, ports and networks do not.
            Some((_, Some(object))) if ["set ", "remote "].iter().any(|kind| object.starts_with(kind)) => {
                object
            }
            Some((kind, Some(object))) => format!("{kind} {object}"),
            Some((kind, None)) => format!("{kind} flows"),
            None => "flows that nobody knows".to_owned(),
        };
        owners.entry(owner).or_default().push(finding);
    }
    owners
}

fn counts(audit: &Audit) -> String {
    let flows = match in_words(audit.findings.iter()) {
        none if none.is_empty() => "no flow is wrong".to_owned(),
        words => format!("flows {words}"),
    };
    format!("{flows}; {} kinds of packets are treated otherwise", audit.differences)
}

/// `3 missing, 1 altered`.
fn in_words<'a>(findings: impl Iterator<Item = &'a Finding> + Clone) -> String {
    let count = |word: &str| findings.clone().filter(|finding| word_for(finding) == word).count();
    let words = ["missing", "altered", "extra", "foreign"].map(|word| (count(word), word));
    let counts = words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// What is wrong with a flow, in a word.
pub(super) fn word_for(finding: &Finding) -> &'static str {
    match &finding.deviation {
        Deviation::Missing(_) => "missing",
        Deviation::Altered { .. } => "altered",
        Deviation::Extra(flow) if is_ours(flow.cookie) => "extra",
        Deviation::Extra(_) => "foreign",
    }
}

fn finding_text(finding: &Finding, readable: &Readable) -> String {
    let word = word_for(finding);
    let mut text = format!("\n{word:8} {}\n", finding.deviation.flow());
    if let Deviation::Altered { wanted, .. } = &finding.deviation {
        _ = writeln!(text, "  wanted {wanted}");
    }
    // Of one that was altered, what it is there for.
    let decoded = readable.of(finding.deviation.flow());
    if let Some(purpose) = decoded.and_then(|decoded| decoded.purpose.as_deref()) {
        _ = writeln!(text, "  means  {}", printable(purpose));
    }
    if word == "foreign" {
        text += "  advice not ours, never touched: remove it with ovs-ofctl --strict del-flows, or whoever put it there\n";
    }
    if let Some(fault) = finding.unfollowed {
        _ = writeln!(text, "  unsafe {fault}: take it to let everything pass");
    }
    match &finding.evidence {
        Some(evidence) => text += &evidence_text(evidence, readable),
        None => text += "  packet none was found that it treats otherwise\n",
    }
    text
}

fn evidence_text(evidence: &Evidence, readable: &Readable) -> String {
    let Evidence { packet, difference, held, wanted } = evidence;
    let mut text = match difference {
        Some(difference) => format!("  packet {difference}\n"),
        None => format!("  packet {packet}, once it is there\n"),
    };
    let same = held.steps.iter().zip(&wanted.steps).take_while(|(held, wanted)| held == wanted).count();
    let tables: Vec<String> = held.steps[..same].iter().map(|(table, _)| readable.table(*table)).collect();
    if !tables.is_empty() {
        _ = writeln!(text, "  way    {}", tables.join(", "));
    }
    for (who, way) in [("switch", held), ("policy", wanted)] {
        text += &way_text(who, way, same, readable);
    }
    text
}

fn way_text(who: &str, way: &Way, from: usize, readable: &Readable) -> String {
    let mut text = String::new();
    for (number, (table, flow)) in way.steps[from..].iter().enumerate() {
        let who = if number == 0 { who } else { "" };
        let flow = match flow {
            Some(flow) if is_passage(flow) => "the flows of others, taken to let everything pass".to_owned(),
            Some(flow) => flow_text(flow),
            None => "no flow".to_owned(),
        };
        _ = writeln!(text, "  {who:6} {}: {flow}", readable.table(*table));
    }
    if way.steps.len() <= from {
        _ = writeln!(text, "  {who:6} the end");
    }
    if let Some(reason) = &way.broken {
        _ = writeln!(text, "  {who:6} {reason}");
    }
    text
}

/// A flow without its table, which stands before it.
pub(crate) fn flow_text(flow: &Flow) -> String {
    let text = flow.to_string();
    match text.split_once("priority=") {
        Some((_, rest)) => format!("priority={rest}"),
        None => text,
    }
}
