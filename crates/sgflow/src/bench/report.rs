//! Figures as a table for people: medians, and what they are of the floor.

use std::fmt::Write as _;

use serde_json::Value;

use super::subject::Cost;
use super::{Figures, Step};

/// The table of a scenario.
pub(super) fn table(figures: &Figures) -> String {
    let floor_cpu = median(figures.floor.iter().map(|floor| floor.ofctl_cpu + floor.switch_cpu));
    let mut text = format!("{}: {} flows\n\n", figures.scenario, figures.flows);
    let mut line = |cells: [String; 9]| {
        let [name, numbers @ ..] = cells;
        let numbers: Vec<String> = numbers.iter().map(|cell| format!("{cell:>9}")).collect();
        writeln!(text, "| {name:<29} | {} |", numbers.join(" | ")).expect("a String takes any text");
    };
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

/// Every figure of all scenarios, a scenario a line; times to the microsecond.
pub(super) fn json(figures: &[Figures]) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(figures)?;
    round(&mut value);
    let lines: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn round(value: &mut Value) {
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

fn milliseconds(seconds: f64) -> String {
    format!("{:.2}", seconds * 1000.0)
}

#[allow(clippy::cast_precision_loss, reason = "megabytes to one digit")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
