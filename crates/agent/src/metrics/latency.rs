//! How long it takes from an event to the datapath.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use crate::engine::Stage;

/// Upper ends of what is counted together, in seconds: from what a change of one flow takes to what is no change any more but an outage.
const BUCKETS_S: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Histograms by stage. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Latency {
    stages: [Histogram; 3],
}

impl Default for Latency {
    fn default() -> Self {
        Latency { stages: Stage::ALL.map(|_| Histogram::new(BUCKETS_S)) }
    }
}

impl Latency {
    /// A change has come to this stage, so long after it was received.
    pub(crate) fn observe(&self, stage: Stage, time: Duration) {
        self.stages[stage as usize].observe(time.as_secs_f64());
    }

    /// Each stage with its histogram.
    pub(super) fn stages(&self) -> impl Iterator<Item = (Stage, &Histogram)> {
        Stage::ALL.into_iter().zip(&self.stages)
    }
}
