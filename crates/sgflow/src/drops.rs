//! `sgflow drops`: what is dropped at which port and why, as it was counted, and as it happens.

use std::path::Path;
use std::time::Duration;

use agent::api::{self, ClientError, DropSample, Drops, DropsQuery};
use anyhow::Context as _;
use clap::Args;

use crate::exit::Exit;
use crate::options::SettingsOptions;
use crate::text::{is_read, printable, wrap};

/// How often the agent is asked.
const EVERY: Duration = Duration::from_secs(1);
/// So many of the latest samples are shown at once.
const LATEST: usize = 10;

/// What is dropped, by reason and by port, and the latest dropped packets
#[derive(Args, Debug)]
pub(crate) struct DropsCommand {
    /// Of this port alone, by its id, the beginning of its id (four characters or more) or the name of its interface
    #[arg(long)]
    port: Option<String>,

    /// Go on with each sample as it comes, until interrupted, also over restarts of the agent; how many more were dropped is told every
    /// second in which there were some
    #[arg(long)]
    follow: bool,

    /// Print JSON: the answer of GET /v1/drops; with --follow an object a line, a sample or {"limited": N}
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl DropsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let socket = self.settings.config()?.api_socket;
        let query = DropsQuery { port: self.port.clone(), ..DropsQuery::default() };
        let drops = api::drops(&socket, &query).await?;
        if self.follow {
            return follow(&socket, query, drops, self.json).await;
        }
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&drops).context("drops")?),
            false => print!("{}", text(&drops, self.port.as_deref())),
        }
        Ok(Exit::Done)
    }
}

/// Prints what is new, again and again, also of an agent that comes after this one. What was before is not: who wants it asks without `--follow`.
async fn follow(socket: &Path, query: DropsQuery, first: Drops, as_json: bool) -> anyhow::Result<Exit> {
    if let Some(reason) = &first.not_sampled {
        eprintln!("sgflow: no samples: {reason}");
    }
    let mut after = first.samples.last().map_or(0, |sample| sample.number);
    let mut limited = first.limited;
    let mut is_away = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            ended = tokio::signal::ctrl_c() => return ended.map(|()| Exit::Done).context("signals"),
        }
        if !is_read() {
            return Ok(Exit::Done);
        }
        let drops = match api::drops(socket, &DropsQuery { after: Some(after), ..query.clone() }).await {
            Ok(drops) => drops,
            // It is upgraded, or the port is plugged in elsewhere and may come back.
            Err(error) => {
                if !is_away {
                    eprintln!("sgflow: {error}; it is asked again each second");
                }
                is_away = true;
                if matches!(error, ClientError::Unreachable { .. }) {
                    (after, limited) = (0, 0);
                }
                continue;
            }
        };
        is_away = false;
        // An agent that was started anew counts from 1.
        if drops.sampled < after {
            (after, limited) = (0, 0);
            continue;
        }
        for sample in &drops.samples {
            match as_json {
                true => println!("{}", serde_json::to_string(sample).context("sample")?),
                false => println!("{}", sample_text(sample)),
            }
            after = after.max(sample.number);
        }
        let more = drops.limited.saturating_sub(limited);
        limited = limited.max(drops.limited);
        match (more, as_json) {
            (0, _) => {}
            (more, true) => println!("{}", serde_json::json!({ "limited": more })),
            (more, false) => println!("          and {more} more, of all ports, that were not sampled"),
        }
    }
}

/// `port` is who is asked about; else it is all.
fn text(drops: &Drops, port: Option<&str>) -> String {
    let packets: u64 = drops.reasons.iter().map(|reason| reason.packets).sum();
    let at = port.map(|port| format!(" at {}", printable(port))).unwrap_or_default();
    let mut text = format!("{packets} packets dropped{at} since {}\n", drops.since);
    let count = |what: &str, packets: u64, bytes: u64| {
        format!("  {what:22} {packets:>12} packets {bytes:>14} bytes\n")
    };
    for reason in &drops.reasons {
        text += &count(&reason.reason, reason.packets, reason.bytes);
    }
    let mut last = None;
    // Of one port alone the reasons say it.
    for port in drops.ports.iter().filter(|_| port.is_none()) {
        if last != Some(&port.port) {
            text += &format!("port {}\n", printable(&port.port));
        }
        last = Some(&port.port);
        text += &count(&port.reason, port.packets, port.bytes);
    }
    if let Some(reason) = &drops.not_sampled {
        text += &wrap(&format!("no samples: {reason}"), 2);
        text.push('\n');
        return text;
    }
    let latest = &drops.samples[drops.samples.len().saturating_sub(LATEST)..];
    if !latest.is_empty() {
        text += "the latest\n";
    }
    for sample in latest {
        text += &format!("  {}\n", sample_text(sample));
    }
    if drops.limited > 0 {
        let whose = if port.is_some() { "all that this host dropped" } else { "them" };
        let line = format!(
            "{} of {whose} were sampled, {} were not: drops.samples lets no more through, or nobody looked",
            drops.sampled, drops.limited
        );
        text += &wrap(&line, 2);
        text.push('\n');
    }
    text
}

fn sample_text(sample: &DropSample) -> String {
    let time =
        sample.time.split_once('T').map_or(sample.time.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let port = sample.port.as_deref().unwrap_or("no port of this host");
    let direction = sample.direction.as_deref().unwrap_or("");
    let first = format!("{time}  {port} {direction}: {}", sample.reason);
    format!("{}\n    {}", printable(&first), printable(&sample.packet))
}

#[cfg(test)]
mod tests {
    use agent::api::{PortDrops, ReasonDrops};

    use super::*;
    use crate::text::COLUMNS;

    const PORT: &str = "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d";

    fn sample(number: u64, reason: &str, packet: &str) -> DropSample {
        DropSample {
            number,
            time: "2026-11-29T05:18:45Z".into(),
            port: Some(PORT.into()),
            interface: Some("tap1a2b3c4d-5e".into()),
            direction: Some("ingress".into()),
            reason: reason.into(),
            packet: packet.into(),
        }
    }

    fn drops() -> Drops {
        let reason =
            |reason: &str, packets| ReasonDrops { reason: reason.into(), packets, bytes: packets * 74 };
        let port = |reason: &str, packets| PortDrops {
            port: PORT.into(),
            reason: reason.into(),
            packets,
            bytes: packets * 74,
        };
        let ends = "[2001:db8:0:0:1234:5678:9abc:1]:40000 -> [2001:db8:0:0:1234:5678:9abc:2]:22";
        Drops {
            since: "2026-11-29T05:00:00Z".into(),
            reasons: vec![reason("no-rule", 10_000), reason("router-advertisement", 3)],
            ports: vec![port("no-rule", 9_990), port("router-advertisement", 3)],
            samples: vec![
                sample(1, "router-advertisement", "icmpv6 type 134 code 0 fe80::1 -> ff02::1"),
                sample(2, "no-rule", &format!("tcp {ends}")),
            ],
            sampled: 2,
            limited: 10_001,
            not_sampled: None,
        }
    }

    #[test]
    fn drops_by_reason_and_port_in_80_columns() {
        let text = text(&drops(), None);
        expect_test::expect![[r#"
            10003 packets dropped since 2026-11-29T05:00:00Z
              no-rule                       10000 packets         740000 bytes
              router-advertisement              3 packets            222 bytes
            port 1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d
              no-rule                        9990 packets         739260 bytes
              router-advertisement              3 packets            222 bytes
            the latest
              05:18:45  1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d ingress: router-advertisement
                icmpv6 type 134 code 0 fe80::1 -> ff02::1
              05:18:45  1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d ingress: no-rule
                tcp [2001:db8:0:0:1234:5678:9abc:1]:40000 -> [2001:db8:0:0:1234:5678:9abc:2]:22
            2 of them were sampled, 10001 were not: drops.samples lets no more through, or
              nobody looked
        "#]]
        .assert_eq(&text);
        let is_packet = |line: &&str| line.contains(" -> ");
        assert!(text.lines().filter(|line| !is_packet(line)).all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn of_one_port_nothing_of_others_is_told() {
        let own = Drops {
            reasons: vec![drops().reasons.remove(1)],
            ports: vec![drops().ports.remove(1)],
            samples: vec![drops().samples.remove(0)],
            ..drops()
        };
        expect_test::expect![[r#"
            3 packets dropped at tap1a2b3c4d-5e since 2026-11-29T05:00:00Z
              router-advertisement              3 packets            222 bytes
            the latest
              05:18:45  1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d ingress: router-advertisement
                icmpv6 type 134 code 0 fe80::1 -> ff02::1
            2 of all that this host dropped were sampled, 10001 were not: drops.samples lets
              no more through, or nobody looked
        "#]]
        .assert_eq(&text(&own, Some("tap1a2b3c4d-5e")));
    }

    #[test]
    fn without_samples_it_is_said_why() {
        let reason = "the switch: OFPMMFC_UNKNOWN_METER".to_owned();
        let blind =
            Drops { samples: vec![], ports: vec![], limited: 0, not_sampled: Some(reason), ..drops() };
        expect_test::expect![[r#"
            10003 packets dropped since 2026-11-29T05:00:00Z
              no-rule                       10000 packets         740000 bytes
              router-advertisement              3 packets            222 bytes
            no samples: the switch: OFPMMFC_UNKNOWN_METER
        "#]]
        .assert_eq(&text(&blind, None));
        expect_test::expect![[r#"
            0 packets dropped since 2026-11-29T05:00:00Z
        "#]]
        .assert_eq(&text(&Drops { since: blind.since.clone(), ..Drops::default() }, None));
    }
}
