//! What the engine counts.

use std::collections::BTreeMap;

use super::{Engine, Sent};

/// What a driver has done since it began, and the numbers that are in use. Costs nothing that grows with the policy or its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the datapath has taken.
    pub sent: Sent,
    /// Bundles, or transactions, that the datapath refused.
    pub bundles_refused: u64,
    /// Those of which nobody knows what became of them.
    pub bundles_unknown: u64,
    /// Connections to the switch that ended.
    pub switch_losses: u64,
    /// Connections to the database that ended.
    pub database_losses: u64,
    /// How often it was read what the datapath holds.
    pub read_backs: u64,
    /// Conntrack zones that were emptied for another port.
    pub zones_flushed: u64,
    /// Connections that were cut as nothing admits them any more; with `openvswitch` the flows do that.
    pub cut: u64,
    /// Connections that were let pass again.
    pub revived: u64,
    /// Objects that the datapath does not take: rules, flows, ports that are closed for one.
    pub refused: usize,
    /// How many numbers are in use, by what they stand for.
    pub ids: BTreeMap<&'static str, u64>,
    /// Flows that are wanted, by the name of their table; none of a driver that has no flows.
    pub flows_by_table: BTreeMap<&'static str, u64>,
    /// How many of the kernel's sets others had changed, apart from what [`super::Report::Drifted`] tells.
    pub sets_mended: u64,
    /// When the last one was put right, in seconds of Unix.
    pub sets_mended_at: Option<u64>,
}

/// What has happened so often since the engine began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) bundles_refused: u64,
    pub(super) bundles_unknown: u64,
    pub(super) switch_losses: u64,
    pub(super) database_losses: u64,
    pub(super) read_backs: u64,
    pub(super) zones_flushed: u64,
}

impl Engine {
    /// What has been done so far.
    pub fn facts(&self) -> Facts {
        let counts = self.counts;
        let refused_rules: usize = self.refused_rules.values().map(BTreeMap::len).sum();
        let withheld = self.flows.as_ref().map_or(0, |flows| flows.withheld_count());
        let of_renderer = |count: fn(&pipeline::Renderer) -> usize| {
            self.flows.as_ref().map_or(0, |flows| count(&flows.renderer)) as u64
        };
        let generation = self.ledger.pool.as_ref().map_or(0, |pool| u64::from(pool.next_number()) - 1);
        Facts {
            sent: self.progress.total,
            bundles_refused: counts.bundles_refused,
            bundles_unknown: counts.bundles_unknown,
            switch_losses: counts.switch_losses,
            database_losses: counts.database_losses,
            read_backs: counts.read_backs,
            zones_flushed: counts.zones_flushed,
            refused: self.quarantine.len() + refused_rules + withheld,
            ids: [
                ("set", of_renderer(pipeline::Renderer::set_count)),
                ("remote", of_renderer(pipeline::Renderer::remote_count)),
                ("zone", self.ledger.zones.len() as u64),
                ("generation", generation),
            ]
            .into(),
            flows_by_table: self.flows.as_ref().map(|flows| flows.by_table()).unwrap_or_default(),
            ..Facts::default()
        }
    }
}
