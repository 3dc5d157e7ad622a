//! Figures as a table for people: medians, and what they are of the floor.

use std::fmt::Write as _;

use serde_json::Value;

use super::peers::{PeerCost, PeerFigures};
use super::subject::Cost;
use super::{Figures, Step};

/// The table of a scenario.
pub(super) fn table(figures: &Figures) -> String {
    let floor_cpu = median(figures.floor.iter().map(|floor| floor.ofctl_cpu + floor.switch_cpu));
    let mut text = format!("{}: {} flows\n\n", figures.scenario, figures.flows);
    let mut line = |cells: [String; 9]| text.push_str(&row(&cells));
    let heads =
        ["step", "flow-mods", "bundles", "bytes", "agent ms", "switch ms", "of floor", "taken ms", "all ms"];
    line(heads.map(str::to_owned));
    line(heads.map(|head| "-".repeat(head.len().min(9))));
    let floor = |part: fn(&super::Floor) -> f64| milliseconds(median(figures.floor.iter().map(part)));
    line([
        "the floor: ovs-ofctl --bundle".to_owned(),
        figures.flows.to_string(),
        "1".to_owned(),
        String::new(),
        floor(|floor| floor.ofctl_cpu),
        floor(|floor| floor.switch_cpu),
        "1.00".to_owned(),
        floor(|floor| floor.wall),
        String::new(),
    ]);
    for step in &figures.steps {
        let of = |part: fn(&Cost) -> f64| median(step.costs.iter().map(part));
        line([
            step.name.to_owned(),
            most(step, |cost| cost.flow_mods).to_string(),
            most(step, |cost| cost.bundles).to_string(),
            step.costs.iter().map(|cost| cost.bytes).max().unwrap_or_default().to_string(),
            milliseconds(of(|cost| cost.agent_cpu)),
            milliseconds(of(|cost| cost.switch_cpu)),
            format!("{:.3}", of(|cost| cost.agent_cpu + cost.switch_cpu) / floor_cpu),
            milliseconds(of(|cost| cost.taken)),
            milliseconds(of(|cost| cost.applied)),
        ]);
    }
    let latency = &figures.member_latency;
    writeln!(
        text,
        "\n+1 member, {} times: taken p50 {} ms, p99 {} ms; applied p50 {} ms, p99 {} ms. Agent's memory at most {:.1} MB.",
        latency.count,
        milliseconds(latency.taken_p50),
        milliseconds(latency.taken_p99),
        milliseconds(latency.applied_p50),
        milliseconds(latency.applied_p99),
        megabytes(figures.agent_peak_rss_bytes),
    )
    .expect("a String takes any text");
    text
}

/// The table of a peer in a scenario, with what sgflow took of its processor time on the host.
pub(super) fn peer_table(peer: &PeerFigures, figures: &Figures) -> String {
    let mut text = format!("{}, {} {}: {}\n\n", figures.scenario, peer.name, peer.version, measured(peer));
    let heads = ["step", "flow-mods", "flows", "central ms", "agent ms", "switch ms", "sgflow", "taken ms"];
    text.push_str(&row(&heads.map(str::to_owned)));
    text.push_str(&row(&heads.map(|head| "-".repeat(head.len().min(9)))));
    for step in &peer.steps {
        let of = |part: fn(&PeerCost) -> f64| median(step.costs.iter().map(part));
        let ours = figures.steps.iter().find(|ours| ours.name == step.name);
        let ours = ours.map(|ours| median(ours.costs.iter().map(|cost| cost.agent_cpu + cost.switch_cpu)));
        let most = |part: fn(&PeerCost) -> usize| step.costs.iter().map(part).max().unwrap_or_default();
        let flow_mods = step.costs.iter().filter_map(|cost| cost.flow_mods).max();
        text.push_str(&row(&[
            step.name.to_owned(),
            flow_mods.map(|count| count.to_string()).unwrap_or_default(),
            most(|cost| cost.flows).to_string(),
            milliseconds(of(|cost| cost.central_cpu)),
            milliseconds(of(|cost| cost.agent_cpu)),
            milliseconds(of(|cost| cost.switch_cpu)),
            ours.map(|ours| share(ours, of(|cost| cost.agent_cpu + cost.switch_cpu))).unwrap_or_default(),
            milliseconds(of(|cost| cost.taken)),
        ]));
    }
    if let Some(step) = peer.given_up {
        writeln!(text, "\n{step}: given up, and what follows it.").expect("a String takes any text");
    }
    text
}

/// How often a peer was measured.
pub(super) fn measured(peer: &PeerFigures) -> String {
    match peer.steps.iter().map(|step| step.costs.len()).max() {
        Some(1) => "once".to_owned(),
        times => format!("medians of {}", times.unwrap_or_default()),
    }
}

/// A part as people say it: 1/240.
pub(super) fn share(part: f64, whole: f64) -> String {
    match whole / part {
        times if times >= 10.0 => format!("1/{times:.0}"),
        times if times >= 1.0 => format!("1/{times:.1}"),
        times => format!("{:.2}", 1.0 / times),
    }
}

/// A line of a table: a name, then numbers.
pub(super) fn row(cells: &[String]) -> String {
    let numbers: Vec<String> = cells.iter().skip(1).map(|cell| format!("{cell:>9}")).collect();
    let name = cells.first().map(String::as_str).unwrap_or_default();
    format!("| {name:<29} | {} |\n", numbers.join(" | "))
}

/// Every figure of all scenarios, a scenario a line; times to the microsecond.
pub(super) fn json<F: serde::Serialize>(figures: &[F]) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(figures)?;
    round(&mut value);
    let lines: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// Numbers that are no integers, to the millionth.
pub(super) fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let seconds = number.as_f64().unwrap_or_default();
            *value = ((seconds * 1e6).round() / 1e6).into();
        }
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        _ => {}
    }
}

fn most(step: &Step, part: fn(&Cost) -> usize) -> usize {
    step.costs.iter().map(part).max().unwrap_or_default()
}

/// The middle one.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(super) fn milliseconds(seconds: f64) -> String {
    format!("{:.2}", seconds * 1000.0)
}

#[allow(clippy::cast_precision_loss, reason = "megabytes to one digit")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_share_is_a_fraction_as_long_as_it_is_one() {
        let shares = [(0.004, 0.96), (1.0, 1.5), (3.0, 2.0)].map(|(part, whole)| super::share(part, whole));
        assert_eq!(shares, ["1/240", "1/1.5", "1.50"]);
    }
}
