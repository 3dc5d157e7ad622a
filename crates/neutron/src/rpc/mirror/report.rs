//! What is reported to be taken for an agent (`PluginReportStateAPI`, `neutron/agent/rpc.py`).

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::rpc::object::Kind;

/// As Neutron's agents do (`report_interval`); one that is silent for 75 s is taken for dead, and nothing is pushed in its versions any more.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);

/// After a report everything is asked for again so much later each time. Servers look in the database once a minute which versions are wanted (`VERSIONS_TTL`,
/// `neutron/api/rpc/callbacks/version_manager.py`), if the word of another server has not reached them, and until then do not push in ours. A server that had us for alive has looked before.
pub(super) const AGAIN: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(75)];

/// The arguments of `report_state`. `started` says that it is the first report, so that the server looks at the clocks.
pub(super) fn arguments(agent_type: &str, binary: &str, host: &str, started: bool, utc: Duration) -> Value {
    let versions: Map<String, Value> =
        Kind::ALL.iter().map(|kind| (kind.name().to_owned(), kind.version().into())).collect();
    let mut state = json!({
        "agent_type": agent_type,
        "binary": binary,
        "host": host,
        "topic": "N/A",
        "configurations": {},
        "resource_versions": versions,
    });
    if started {
        state["start_flag"] = true.into();
    }
    json!({"agent_state": {"agent_state": state}, "time": timestamp(utc)})
}

/// Time since 1970 as `oslo_utils.timeutils.parse_strtime` reads it: `%Y-%m-%dT%H:%M:%S.%f`.
fn timestamp(utc: Duration) -> String {
    let (mut days, seconds) = (utc.as_secs() / 86_400, utc.as_secs() % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = utc.subsec_micros();
    format!("{year:04}-{month:02}-{:02}T{hours:02}:{minutes:02}:{rest:02}.{micros:06}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // As `date -u -d @… +%FT%T` says.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (1_795_914_061, "2026-11-29T01:01:01"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(timestamp(Duration::new(seconds, 1_000)), format!("{text}.000001"));
        }
    }

    #[test]
    fn a_report_has_what_a_captured_one_takes() {
        let sample = include_str!("../../../tests/data/rpc/minimal_report_state_agent_state.json");
        let sample: Map<String, Value> = serde_json::from_str(sample).unwrap();
        let ours = arguments("a", "b", "c", true, Duration::ZERO);
        let state = ours["agent_state"]["agent_state"].as_object().unwrap();
        let names = |of: &Map<String, Value>| {
            let mut names: Vec<String> = of.keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(state), names(&sample));
        let versions = |of: &Map<String, Value>| names(of["resource_versions"].as_object().unwrap());
        assert_eq!(versions(state), versions(&sample));
    }
}
