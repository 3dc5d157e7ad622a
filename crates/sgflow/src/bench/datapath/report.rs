//! Figures of packets as a table for people: medians, and what they are of sgflow's in the same turn.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Cost, Figures};
use crate::bench::report::{median, round};

/// What stands above the lines.
pub(super) const HEAD: &str = "\
| traffic | table | flows | tried | admitted | megaflows | upcalls | switch µs each | of sgflow's | each a second | of sgflow's |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

/// A line a table, for one kind of traffic; with the first table the others are compared.
pub(super) fn lines(all: &[Figures]) -> String {
    let mut text = String::new();
    for figures in all {
        let of = |part: fn(&Cost) -> f64| median(figures.costs.iter().map(part));
        let ratio = |part: fn(&Cost) -> f64| {
            median(figures.costs.iter().zip(&all[0].costs).map(|(cost, first)| part(cost) / part(first)))
        };
        let most = |part: fn(&Cost) -> u64| figures.costs.iter().map(part).max().unwrap_or_default();
        let (tried, admitted) = figures.costs.first().map_or((0, 0), |cost| (cost.tried, cost.admitted));
        writeln!(
            text,
            "| {} | {} | {} | {tried} | {admitted} | {} | {} | {:.2} | {:.2} | {:.0} | {:.2} |",
            figures.traffic,
            figures.table,
            figures.flows,
            most(|cost| cost.megaflows),
            most(|cost| cost.upcalls),
            of(cpu_each) * 1e6,
            ratio(cpu_each),
            of(rate),
            ratio(rate),
        )
        .expect("a String takes any text");
    }
    text
}

/// Every figure, a line a kind of traffic and table; times to the microsecond.
pub(super) fn json(all: &[Figures]) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(all)?;
    round(&mut value);
    let lines: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

#[allow(clippy::cast_precision_loss, reason = "some thousands")]
fn cpu_each(cost: &Cost) -> f64 {
    cost.switch_cpu / cost.tried as f64
}

#[allow(clippy::cast_precision_loss, reason = "some thousands")]
fn rate(cost: &Cost) -> f64 {
    cost.tried as f64 / cost.wall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_turn() {
        let figures = |table: &str, cpu: [f64; 3]| Figures {
            traffic: "scan",
            table: table.to_owned(),
            flows: 7,
            costs: cpu
                .map(|switch_cpu| Cost {
                    tried: 100,
                    admitted: 50,
                    megaflows: 9,
                    upcalls: 11,
                    switch_cpu,
                    wall: 2.0,
                })
                .into(),
        };
        let text = lines(&[figures("sgflow", [0.1, 0.2, 0.4]), figures("other", [0.3, 0.3, 0.3])]);
        assert!(
            text.contains("| scan | sgflow | 7 | 100 | 50 | 9 | 11 | 2000.00 | 1.00 | 50 | 1.00 |"),
            "{text}"
        );
        assert!(
            text.contains("| scan | other | 7 | 100 | 50 | 9 | 11 | 3000.00 | 1.50 | 50 | 1.00 |"),
            "{text}"
        );
    }
}
