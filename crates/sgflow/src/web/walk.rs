//! A packet's way, and what its flows count from then on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agent::config::Config;
use anyhow::{Context as _, bail};
use policy::Policy;
use rust_openflow::Flow;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::counters;
use super::data::Refused;
use crate::explain::{self, PacketOptions, State, find_port};

/// Walks that are remembered, for what their flows count.
const REMEMBERED: usize = 32;
/// How long switch and database may take for a walk, in seconds.
const LOOK_S: f64 = 8.0;
/// How long the switch may take to tell what it has counted.
const COUNTS: Duration = Duration::from_secs(5);

/// A packet from one end to another, one of which is a port of the policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WalkQuery {
    from: String,
    to: String,
    proto: String,
    dport: Option<u16>,
    sport: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    #[serde(default)]
    state: State,
}

/// The flows of each half of a way, in the order of its steps.
type Flows = Vec<Vec<Option<Flow>>>;

/// Walks, one at a time: each reads the bridge, whoever asks.
pub(super) struct Walks {
    place: Semaphore,
    remembered: Mutex<(u64, VecDeque<(u64, Flows)>)>,
}

impl Default for Walks {
    fn default() -> Self {
        Walks { place: Semaphore::new(1), remembered: Mutex::default() }
    }
}

impl WalkQuery {
    /// The port that `sgflow explain` would be asked about, and the packet.
    fn packet(self, policy: &Policy) -> anyhow::Result<(String, PacketOptions)> {
        let WalkQuery { from, to, proto, dport, sport, icmp_type, icmp_code, state } = self;
        let [from, to] = [from, to].map(|end| end.trim().to_owned());
        if from.is_empty() || to.is_empty() {
            bail!("say where the packet comes from and where it goes");
        }
        let packet =
            PacketOptions { proto, dport, sport, icmp_type, icmp_code, state, ..PacketOptions::default() };
        Ok(match find_port(policy, &from) {
            Ok(_) => (from, PacketOptions { to: Some(to), ..packet }),
            Err(unknown) => {
                find_port(policy, &to)
                    .with_context(|| format!("one of the ends has to be a port: {unknown}"))?;
                (to, PacketOptions { from: Some(from), ..packet })
            }
        })
    }
}

impl Walks {
    /// What `sgflow explain` says, with what the flows have counted.
    pub(super) async fn walk(
        &self,
        config: &Config,
        policy: &Policy,
        query: WalkQuery,
    ) -> Result<Value, Refused> {
        let (port, packet) = query.packet(policy).map_err(refused)?;
        let questions = packet.questions(policy, &port).map_err(refused)?;
        let asked = explain::Asked { config, policy, questions: &questions, timeout: LOOK_S };
        let _place = self.place.acquire().await.map_err(Refused::late)?;
        // What is wrong with the policy the agent has told of already.
        let told = asked.told(true).with_subscriber(NoSubscriber::default()).await.map_err(refused)?;
        let flows: Flows = told.flows().collect();
        let counts = counts(config, &flows).await.unwrap_or_default();
        let mut answer = told.json();
        answer["counts"] = counts;
        answer["walk"] = self.remember(flows).into();
        answer["command"] = packet.command(&port).into();
        Ok(answer)
    }

    /// What the flows of a walk have counted.
    pub(super) async fn counts(&self, config: &Config, number: u64) -> Result<Value, Refused> {
        let flows = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.1.iter().find(|(known, _)| *known == number).map(|(_, flows)| flows.clone())
        };
        let flows =
            flows.ok_or_else(|| Refused::missing("this way is not remembered any more: walk it again"))?;
        let counts = counts(config, &flows).await.map_err(|reason| Refused::late(format!("{reason:#}")))?;
        Ok(json!({ "counts": counts }))
    }

    fn remember(&self, flows: Flows) -> u64 {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, walks) = &mut *remembered;
        *last += 1;
        walks.truncate(REMEMBERED - 1);
        walks.push_front((*last, flows));
        *last
    }
}

fn refused(reason: anyhow::Error) -> Refused {
    Refused::bad(format!("{reason:#}"))
}

/// Packets of each step; null where there is no flow, or where it is gone.
async fn counts(config: &Config, flows: &Flows) -> anyhow::Result<Value> {
    let all: Vec<&Flow> = flows.iter().flatten().flatten().collect();
    let counters = match all.is_empty() {
        true => HashMap::new(),
        false => timeout(COUNTS, counters::read(config, all)).await.context("no answer in time")??,
    };
    let packets = |flow: &Option<Flow>| counters.get(&flow.as_ref()?.key()).map(|stats| stats.packets);
    Ok(flows.iter().map(|half| half.iter().map(packets).collect::<Value>()).collect())
}
