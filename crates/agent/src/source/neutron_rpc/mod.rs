//! The policy source that is neutron-server itself, over RabbitMQ: the shell around [`neutron::rpc::Mirror`].
//!
//! It needs no daemon: whoever wants to know what the cloud's policy is [follows](follow) it.

mod link;
#[cfg(test)]
mod tests;
mod url;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use neutron::rpc::{Effect, Event, Mirror, Now, Options};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

pub use link::{Broker, Tls};
pub use neutron::rpc::{Options as RpcOptions, Update as RpcUpdate};
pub use url::{Host, TransportUrl, UrlError};

use link::{Link, unsent};

/// After a connection was lost another is tried so much later, then twice that.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Everything that it takes to have a connection; more is a broker that hangs.
const OPEN: Duration = Duration::from_secs(30);

/// Updates that wait for whoever takes them; then the broker waits, too.
const UPDATES: usize = 16;

/// Follows neutron-server until the receiver is dropped. The brokers of the URL are tried in turn, for ever; what is wrong is in the updates. `options.seed` is to be
/// another in each run.
///
/// To be called inside a tokio runtime.
pub fn follow(broker: Broker, options: Options) -> mpsc::Receiver<RpcUpdate> {
    let (sender, updates) = mpsc::channel(UPDATES);
    let follower = Follower {
        seed: options.seed.clone(),
        mirror: Some(Mirror::new(options)),
        broker,
        sender,
        began: Instant::now(),
    };
    tokio::spawn(follower.run());
    updates
}

/// What the mirror is told, with its message if there is one.
enum Input {
    Message(Vec<u8>),
    Event(Event<'static>),
}

/// The receiver was dropped.
struct NobodyListens;

struct Follower {
    broker: Broker,
    seed: String,
    /// Away while it works.
    mirror: Option<Mirror>,
    sender: mpsc::Sender<RpcUpdate>,
    began: Instant,
}

impl Follower {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        for attempt in 0_usize.. {
            let hosts = &self.broker.url.hosts;
            let host = hosts[attempt % hosts.len()].clone();
            let opening = Link::open(&self.broker, &host, format!("sgflow_{}_{attempt}", self.seed));
            let opened = tokio::select! {
                opened = timeout(OPEN, opening) => opened,
                () = self.sender.closed() => return,
            };
            let reason = match opened {
                Ok(Ok(mut link)) => {
                    info!(broker = %host, "following neutron-server");
                    pause = FIRST_PAUSE;
                    match self.serve(&mut link).await {
                        Ok(reason) => reason,
                        Err(NobodyListens) => return,
                    }
                }
                Ok(Err(reason)) => reason.to_string(),
                Err(_) => format!("no connection within {} s", OPEN.as_secs()),
            };
            let reason = format!("{host}: {reason}");
            warn!(reason, "no connection to RabbitMQ; the policy stays as it is");
            if self.take(None, Input::Event(Event::Lost(reason))).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.sender.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Until the connection is lost, for the reason that is given.
    async fn serve(&mut self, link: &mut Link) -> Result<String, NobodyListens> {
        let (went_nowhere, mut unsent_calls) = mpsc::unbounded_channel();
        let connected = Event::Connected { reply_queue: link.queue.clone() };
        let mut input = Input::Event(connected);
        loop {
            for (id, call) in self.take(Some(link), input).await? {
                let went_nowhere = went_nowhere.clone();
                match call {
                    Ok(confirm) => {
                        _ = tokio::spawn(async move {
                            if let Some(reason) = unsent(confirm).await {
                                // Nobody listens when the connection is gone.
                                _ = went_nowhere.send((id, reason));
                            }
                        })
                    }
                    Err(reason) => return Ok(reason.to_string()),
                }
            }
            let wakeup = self.mirror.as_ref().and_then(Mirror::wakeup).map(|at| self.began + at);
            input = tokio::select! {
                delivery = link.consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        // What is lost with us is asked for again.
                        if let Err(reason) = delivery.acker.ack(lapin::options::BasicAckOptions::default()).await {
                            return Ok(reason.to_string());
                        }
                        Input::Message(delivery.data)
                    }
                    Some(Err(reason)) => return Ok(reason.to_string()),
                    None => return Ok("the broker ended it".to_owned()),
                },
                Some((id, reason)) = unsent_calls.recv() => Input::Event(Event::Unsent { id, reason }),
                () = until(wakeup) => Input::Event(Event::Time),
                () = self.sender.closed() => return Err(NobodyListens),
            };
        }
    }

    /// Tells the mirror, and does what it says; gives the calls as the broker has them.
    async fn take(
        &mut self,
        link: Option<&Link>,
        input: Input,
    ) -> Result<Vec<(String, Result<lapin::PublisherConfirm, link::LinkError>)>, NobodyListens> {
        let now = self.now();
        let Some(mut mirror) = self.mirror.take() else { return Err(NobodyListens) };
        // All of a cloud is much to read: it is done where nobody is kept waiting.
        let work = tokio::task::spawn_blocking(move || {
            let effects = match input {
                Input::Message(body) => mirror.handle(Event::Message(&body), now),
                Input::Event(event) => mirror.handle(event, now),
            };
            (mirror, effects)
        });
        let Ok((mirror, effects)) = work.await else { return Err(NobodyListens) };
        self.mirror = Some(mirror);
        let mut calls = Vec::new();
        for effect in effects {
            match effect {
                Effect::Update(update) => self.sender.send(update).await.map_err(|_| NobodyListens)?,
                Effect::Call { topic, id, body } => {
                    if let Some(link) = link {
                        calls.push((id, link.call(topic, &body).await));
                    }
                }
            }
        }
        Ok(calls)
    }

    fn now(&self) -> Now {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.began.elapsed(), utc }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
