//! One connection to the switch, and the jobs that it does for the engine. A job is a task; with the connection all of
//! its tasks end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pipeline::{FlowKind, Hook, Zone, decode_cookie};
use reconcile::Change;
use rust_openflow::client::{BundleError, BundleOutcome, Client, EventStream, FailedFlow, News, Target};
use rust_openflow::connection::{ConnectionConfig, Event as OpenFlowEvent};
use rust_openflow::message::{FlowMonitor, FlowUpdate, FlowUpdateEvent, FragMode, MonitorFlags, Xid};
use rust_openflow::{Flow, FlowFilter, FlowMod, Message};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::Answer;
use super::revalidate::Caches;
use crate::engine::{BundleFailure, Event, FlowChange, LinkId, Refusal, SwitchEvent, concerns_us, join};

/// The number of our flow monitor; it means something on this connection only.
const MONITOR: u32 = 1;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Switch {
    link: LinkId,
    client: Client,
    /// Of the ovs-vswitchd at the other end, for as long as the connection lasts.
    caches: Arc<Mutex<Caches>>,
    tasks: JoinSet<()>,
}

impl Switch {
    /// Connects, has fragments matched as the flows need it, and is told what others do to our flows (each connection
    /// has to ask anew). That, and the loss of the connection, are told as events.
    pub(super) async fn connect(
        link: LinkId,
        target: &Target,
        rundir: Option<PathBuf>,
        hook: Hook,
        answers: mpsc::Sender<Answer>,
    ) -> Result<Self, String> {
        let connected = Client::connect_with(target, ConnectionConfig::default()).await;
        let (client, events) = connected.map_err(|error| error.to_string())?;
        client.set_config(FragMode::NxMatch).await.map_err(|error| error.to_string())?;
        let monitored = client.monitor_flows(&FlowMonitor::all(MONITOR, changes_of_flows())).await;
        monitored.map_err(|error| format!("the switch does not tell of changes of its flows: {error}"))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(link, hook, events, answers));
        let caches = Arc::new(Mutex::new(Caches::new(rundir)));
        Ok(Switch { link, client, caches, tasks })
    }

    pub(super) fn link(&self) -> LinkId {
        self.link
    }

    pub(super) fn bytes_written(&self) -> u64 {
        self.client.bytes_written()
    }

    pub(super) fn read_back(&mut self, answers: mpsc::Sender<Answer>) {
        self.run(answers, async |client| {
            let flows = client.dump_flows(&FlowFilter::default()).await.map_err(|error| error.to_string())?;
            Ok(SwitchEvent::Flows(flows.into_iter().map(|entry| entry.flow).collect()))
        });
    }

    pub(super) fn flush(&mut self, zones: Vec<Zone>, answers: mpsc::Sender<Answer>) {
        self.run(answers, async move |client| {
            for zone in zones {
                client.ct_flush_zone(zone.0).await.map_err(|error| error.to_string())?;
            }
            Ok(SwitchEvent::ZonesFlushed(Ok(())))
        });
    }

    pub(super) fn bundle(&mut self, changes: &Arc<[FlowChange]>, answers: mpsc::Sender<Answer>) {
        let changes = Arc::clone(changes);
        self.run(answers, async move |client| {
            let sent = client.send_bundle_of(changes.len(), |index| flow_mod(&changes[index])).await;
            Ok(SwitchEvent::Bundled(sent.map_err(|error| failure(error, &changes))))
        });
    }

    pub(super) fn revalidate(&mut self, max_revalidator: Duration, answers: mpsc::Sender<Answer>) {
        let caches = Arc::clone(&self.caches);
        self.run(answers, async move |client| {
            let revalidation = caches.lock().await.follow(&client, max_revalidator).await;
            revalidation.map(SwitchEvent::Revalidated).map_err(|error| error.to_string())
        });
    }

    /// Runs a job; its error means that the connection is of no more use.
    fn run<F, J>(&mut self, answers: mpsc::Sender<Answer>, job: J)
    where
        J: FnOnce(Client) -> F,
        F: Future<Output = Result<SwitchEvent, String>> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        let (link, work) = (self.link, job(self.client.clone()));
        self.tasks.spawn(async move {
            let event = work.await.unwrap_or_else(|reason| SwitchEvent::Lost { reason });
            // Without a receiver the driver is gone.
            _ = answers.send(Answer::Event(Event::Switch(link, event))).await;
        });
    }
}

/// What is to be told: additions, removals and modifications. With actions, which say whether a flow only looks; what this
/// connection changes comes without.
fn changes_of_flows() -> MonitorFlags {
    MonitorFlags::ADD.with(MonitorFlags::REMOVED).with(MonitorFlags::MODIFY).with(MonitorFlags::INSTRUCTIONS)
}

/// Tells what others do to flows that concern us, and the end of a connection.
async fn watch(link: LinkId, hook: Hook, mut events: EventStream, answers: mpsc::Sender<Answer>) {
    let reason = loop {
        match events.next().await {
            Ok(news) if is_drift(&news, hook) => {
                _ = answers.send(Answer::Event(Event::Switch(link, SwitchEvent::Drift))).await;
            }
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    _ = answers.send(Answer::Event(Event::Switch(link, SwitchEvent::Lost { reason }))).await;
}

/// Whether flows that concern us were, or may have been, changed by others. What this connection changed comes
/// abbreviated, or not at all.
fn is_drift(news: &News, hook: Hook) -> bool {
    match news {
        News::Missed(_) => true,
        News::Event(OpenFlowEvent::FlowUpdates(updates)) => updates.iter().any(|update| match update {
            // Of what is gone the actions are not told. Had it stood in the place of one of ours, its coming would have been drift.
            FlowUpdate::Flow { event: FlowUpdateEvent::Removed(_), flow } if is_observer(flow) => false,
            FlowUpdate::Flow { flow, .. } => concerns_us(flow, hook),
            FlowUpdate::Abbreviated(_) => false,
            FlowUpdate::Paused | FlowUpdate::Resumed => true,
        }),
        // A flow that we cannot read may stand in the place of one of ours.
        News::Event(OpenFlowEvent::Other { message, .. }) => message.is_err(),
        News::Event(_) => false,
    }
}

fn is_observer(flow: &Flow) -> bool {
    matches!(decode_cookie(flow.cookie), Some((FlowKind::Observe, _)))
}

/// The change as OpenFlow says it.
///
/// A modification leaves the cookie as it is (OpenFlow 1.4, 7.3.4.1): where that is to change too, the flow is added
/// in the place of the old one, and its counters begin anew.
pub(super) fn flow_mod(change: &FlowChange) -> FlowMod {
    match change {
        Change::Modify { key, old, new } if old.cookie == new.cookie => {
            FlowMod::modify_strict(&join(key, new))
        }
        Change::Add { key, new } | Change::Modify { key, new, .. } => FlowMod::add(&join(key, new)),
        Change::Delete { key, .. } => FlowMod::delete_strict(key),
    }
}

/// Flow-mods that cannot be said in OpenFlow, such as those larger than a message.
fn unsendable(changes: &[FlowChange]) -> Vec<Refusal> {
    let mut buffer = BytesMut::new();
    let mut refusals = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        buffer.clear();
        if let Err(error) = Message::FlowMod(flow_mod(change)).encode(Xid(0), &mut buffer) {
            refusals.push(Refusal { index: Some(index), error: error.to_string() });
        }
    }
    refusals
}

/// What is to blame. A refusal that blames no flow leaves nothing to leave out: as with an answer that never came, the
/// connection is begun anew.
fn failure(error: BundleError, changes: &[FlowChange]) -> BundleFailure {
    let mut refusals: Vec<Refusal> = error.failed.iter().map(refusal).collect();
    if error.outcome == BundleOutcome::Refused && refusals.is_empty() {
        refusals = unsendable(changes);
    }
    if error.outcome == BundleOutcome::Unknown || refusals.is_empty() {
        return BundleFailure::Unknown { reason: error.to_string() };
    }
    BundleFailure::Refused(refusals)
}

fn refusal(failed: &FailedFlow) -> Refusal {
    Refusal { index: Some(failed.index), error: failed.error.to_string() }
}
