//! A snapshot as text.

use std::fmt;
use std::time::Duration;

use pipeline::DropReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::Snapshot;
use crate::api::{Condition, SetFill, Totals};
use crate::engine::Sent;

/// Begins the name of every series.
const PREFIX: &str = "sgflow";

impl Snapshot {
    /// In Prometheus' text format, 0.0.4.
    ///
    /// # Errors
    /// None that is known of: the text is written to memory.
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.condition(&mut out)?;
        self.changes(&mut out)?;
        self.numbers(&mut out)?;
        self.source(&mut out)?;
        self.sets(&mut out)?;
        self.drops(&mut out)
    }
}

impl Snapshot {
    fn condition(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.status;
        let labels = [
            ("version", status.version.as_str()),
            ("driver", status.firewall_driver.as_str()),
            ("source", status.source.kind.as_str()),
        ];
        let mut build = out.metric("build_info", "What runs", MetricType::Gauge)?;
        ConstGauge::new(1u64).encode(build.encode_family(&labels)?)?;
        let conditions = Condition::ALL.map(|condition| {
            let name = condition.to_string();
            ("condition", name, u64::from(condition == status.condition))
        });
        out.gauges("condition", "1 for the condition that the daemon is in", conditions)?;
        let faults = ["closed", "left-out", "kept", "open", "unseen"].map(|effect| {
            let count = status.faults.iter().filter(|fault| fault.effect == effect).count();
            ("effect", effect.to_owned(), count as u64)
        });
        out.gauges("faults", "Objects that are not as the policy wants, by what that means", faults)?;
        out.gauge("refused_objects", "Objects that source or driver refuse", status.refused as u64)?;
        out.gauge("ports", "Local ports", status.enforced.ports as u64)
    }

    fn changes(&self, out: &mut Out<'_>) -> fmt::Result {
        let help = "From an event to the stage of the change that follows from it";
        let mut latency = out.metric("change_latency_seconds", help, MetricType::Histogram)?;
        for (stage, histogram) in self.latency.stages() {
            let seconds = |end_us| Duration::from_micros(end_us).as_secs_f64();
            let buckets = histogram.buckets().map(|(end, count)| (end.map_or(f64::INFINITY, seconds), count));
            let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
            let labels = [("stage", stage.name())];
            let mut series = latency.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets.collect::<Vec<_>>(), None)?;
        }
        let facts = &self.facts;
        let Sent { added, modified, deleted, bundles } = facts.sent;
        let kinds = [("added", added), ("modified", modified), ("deleted", deleted)];
        let kinds = kinds.map(|(kind, count)| ("kind", kind.to_owned(), count as u64));
        out.counters("flow_mods", "Flows, rules and elements that the datapath was told to change", kinds)?;
        let results = [
            ("taken", bundles as u64),
            ("refused", facts.bundles_refused),
            ("unknown", facts.bundles_unknown),
        ];
        let results = results.map(|(result, count)| ("result", result.to_owned(), count));
        out.counters("bundles", "Bundles and transactions, by what became of them", results)?;
        let peers = [("switch", facts.switch_losses), ("database", facts.database_losses)];
        let peers = peers.map(|(peer, count)| ("peer", peer.to_owned(), count));
        out.counters("connections_lost", "Connections that ended and were begun anew", peers)?;
        out.counter("read_backs", "How often it was read what the datapath holds", facts.read_backs)?;
        out.counter("drift", "What others had changed and was put right", self.drift)?;
        let operations = [("flush-zone", facts.zones_flushed), ("cut", facts.cut), ("revive", facts.revived)];
        let operations = operations.map(|(operation, count)| ("operation", operation.to_owned(), count));
        out.counters("conntrack_operations", "Zones emptied, connections cut and let pass again", operations)
    }

    fn numbers(&self, out: &mut Out<'_>) -> fmt::Result {
        let facts = &self.facts;
        let ids = facts.ids.iter().map(|(kind, count)| ("kind", (*kind).to_owned(), *count));
        out.gauges("ids_in_use", "Numbers in use, by what they stand for", ids)?;
        let Totals { flows, .. } = self.status.enforced;
        match self.status.firewall_driver != "openvswitch" {
            true => out.gauge("rules", "Rules of iptables or nftables that are wanted", flows as u64),
            false => {
                let tables = facts.flows_by_table.iter();
                let tables = tables.map(|(table, count)| ("table", (*table).to_owned(), *count));
                out.gauges("flows", "Flows that are wanted, by table", tables)
            }
        }
    }

    fn source(&self, out: &mut Out<'_>) -> fmt::Result {
        let source = &self.source;
        let help = "How long the policy has not been what the source says; 0 if it is";
        out.gauge("source_lag_seconds", help, source.lag_s)?;
        let times = [
            ("source_heard_timestamp_seconds", "When the source was heard of last", source.heard),
            ("source_changed_timestamp_seconds", "When the source changed the policy last", source.changed),
            ("source_written_timestamp_seconds", "When the newest document was written", source.written),
            ("source_sequence", "Number of the last change that was taken", source.sequence),
        ];
        for (name, help, value) in times {
            if let Some(value) = value {
                out.gauge(name, help, value)?;
            }
        }
        Ok(())
    }

    fn drops(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(drops) = &self.drops else { return Ok(()) };
        let of = |name: &str| drops.reasons.iter().find(|drops| drops.reason == name);
        let reasons = DropReason::ALL.iter().map(|reason| reason.name());
        let packets =
            |name: &'static str| ("reason", name.to_owned(), of(name).map_or(0, |drops| drops.packets));
        out.counters("drops", "Packets that the firewall dropped, by reason", reasons.map(packets))?;
        out.counter("drops_sampled", "Dropped packets of which a sample came", drops.sampled)
    }

    fn sets(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(sets) = &self.status.kernel_sets else { return Ok(()) };
        out.gauge("kernel_sets", "Sets of members in the kernel", sets.sets as u64)?;
        out.gauge("kernel_members", "Members in all of these", sets.members as u64)?;
        if sets.max_members == 0 {
            return Ok(());
        }
        out.gauge("kernel_members_max", "Members that all of these have room for", sets.max_members)?;
        let of_set = |count: fn(&SetFill) -> u64| {
            self.fills.iter().map(move |fill| ("set", fill.name.clone(), count(fill)))
        };
        let members = of_set(|fill| fill.members as u64);
        out.gauges("kernel_set_members", "Members of one of the fullest sets", members)?;
        let room = of_set(|fill| fill.max_members.map_or(0, u64::from));
        out.gauges("kernel_set_members_max", "Members that it has room for", room)
    }
}

/// Where series are written.
struct Out<'a>(DescriptorEncoder<'a>);

/// A label, its value, and the number.
type Labelled = (&'static str, String, u64);

impl Out<'_> {
    fn metric<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstGauge::new(value).encode(self.metric(name, help, ConstGauge::<u64>::TYPE)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.metric(name, help, ConstCounter::<u64>::TYPE)?)
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = Labelled>) -> fmt::Result {
        let mut metric = self.metric(name, help, ConstGauge::<u64>::TYPE)?;
        for (label, value, count) in values {
            ConstGauge::new(count).encode(metric.encode_family(&[(label, value.as_str())])?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = Labelled>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, ConstCounter::<u64>::TYPE)?;
        for (label, value, count) in values {
            ConstCounter::new(count).encode(metric.encode_family(&[(label, value.as_str())])?)?;
        }
        Ok(())
    }
}
