//! The switch, looked at over an OpenFlow connection of its own: the flows of [`pipeline::Observed`], their counters, and the samples that they
//! send.
//!
//! A port and reason of which a sample comes gets a flow of its own, which counts it from then on. The meters bound what comes: those of the
//! unknown do not compete with those of the known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use pipeline::{
    CONTROLLER, DropReason, METER_ADMITTED, METER_DROPS, METER_PORT_DROPS, Observed, OfPort, Onwards, Owner,
    layout,
};
use policy::evaluator::Settings;
use policy::{Direction, PolicyDelta, PortId};
use rust_openflow::client::{Client, ClientError, EventStream, News, Target};
use rust_openflow::connection::{ConnectionConfig, Event};
use rust_openflow::message::{
    DropBand, FragMode, METER_BURST, METER_PACKETS, METER_STATS, MeterCommand, MeterConfig, MeterMod,
    PacketIn,
};
use rust_openflow::{CT_NEW, Field, FlowEntry, FlowFilter, FlowKey, FlowMod};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::book::{Book, Count, Fate, Sighting};
use super::ledger::Ledger;
use super::security_log::{SecurityLog, Unsampled};
use super::troubles::Troubles;
use super::{Options, Order, Place, frame, since_epoch};
use crate::api::{Drops, DropsQuery};

/// How often the counters are read while somebody asks, and the log's.
const READ: Duration = Duration::from_secs(2);
/// How often they are read when nobody asks: for what is left over.
const READ_IDLE: Duration = Duration::from_secs(60);
/// For so long after a question somebody is taken to ask.
const ASKED: Duration = Duration::from_secs(30);
/// A question is answered with counters that are no older.
const FRESH: Duration = Duration::from_millis(500);
/// How long the switch may take to tell.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_secs(2);
/// That doubles up to this: a switch without meters has none the next time.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Ports and reasons that are counted at most: what a switch bears easily.
const PAIRS: usize = 4096;
/// A port and reason without a packet for so long is counted no more.
const IDLE: Duration = Duration::from_secs(3600);
/// Samples a second of ports and reasons that no flow counts yet: each takes a few until its flow is there.
const UNKNOWN_RATE: u32 = 100;
/// So many samples are taken in at once, if they do not wait for longer than `LONGEST_REST` for that: waking up for each was most of what
/// samples cost here. What finds no room in the socket meanwhile is not sampled, and counted as the others that are not.
const AT_ONCE: u32 = 20;
/// What nobody has seen yet waits as long to be counted by itself.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// A port, by its number, 0 for none, and a reason.
type Pair = (OfPort, DropReason);

/// What a flow counts by port and reason.
#[derive(Clone, Copy, Debug)]
struct Counted {
    owner: Owner,
    count: Count,
    grown_at: Instant,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Eye {
    options: Options,
    book: Book,
    log: Option<SecurityLog>,
    places: BTreeMap<PortId, Place>,
    ports: HashMap<OfPort, PortId>,
    /// What is counted by port.
    pairs: BTreeMap<Pair, Counted>,
    /// What flows have counted, also those that are gone.
    ledger: Ledger<FlowKey, Class>,
    /// What the switch is to hold.
    wanted: BTreeSet<Observed>,
    /// What is to be sent for it.
    changes: Vec<FlowMod>,
    /// What the sampling flows had counted before any sample came.
    base: Option<Sum>,
    /// Of admitted first packets: counted by the flows when this began to look, and samples since.
    admitted: u64,
    asked_at: Option<Instant>,
    read_at: Option<Instant>,
}

/// What a flow counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Class {
    /// Drops for a reason, of which samples are taken or not.
    Dropped { reason: &'static str, is_sampled: bool },
    /// First packets.
    Admitted,
}

/// What flows of both purposes have counted.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    drops: u64,
    admitted: u64,
}

/// A connection, and what the switch holds of ours.
struct Sight {
    client: Client,
    events: EventStream,
}

impl Eye {
    pub(super) fn new(options: Options, troubles: Troubles, settings: Settings) -> io::Result<Self> {
        let log = options.log.clone().map(|choice| SecurityLog::start(choice, troubles, settings));
        let mut eye = Eye {
            book: Book::default(),
            log: log.transpose()?,
            options,
            places: BTreeMap::new(),
            ports: HashMap::new(),
            pairs: BTreeMap::new(),
            ledger: Ledger::new(),
            wanted: BTreeSet::new(),
            changes: Vec::new(),
            base: None,
            admitted: 0,
            asked_at: None,
            read_at: None,
        };
        if eye.wants_dropped() {
            eye.wanted.extend(DropReason::ALL.iter().map(|reason| Observed::Drops(*reason)));
        }
        if eye.log.as_ref().is_some_and(|log| log.log.wants_all_admitted()) {
            eye.wanted.extend(Onwards::ALL.map(|onwards| Observed::Admitted(None, onwards)));
        }
        Ok(eye)
    }

    /// Looks, until nobody gives orders any more.
    pub(super) async fn watch(mut self, mut orders: mpsc::UnboundedReceiver<Order>, target: Target) {
        // Whoever has not the lock, or not read the bridge, has nothing to write there.
        self.book.not_sampled = Some("the policy is not in force yet".to_owned());
        loop {
            match orders.recv().await {
                Some(Order::Begin) => break,
                Some(order) => self.hear_blind(order),
                None => return,
            }
        }
        let mut wait = RETRY;
        loop {
            let lost = match self.open(&target).await {
                Ok(sight) => {
                    wait = RETRY;
                    match self.look(sight, &mut orders).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            debug!(reason = %lost, "what is dropped cannot be looked at");
            let reason = format!("the switch: {lost}");
            if let Some(log) = &mut self.log {
                log.unheard(Some(reason.clone()));
            }
            self.book.not_sampled = Some(reason);
            let retry = sleep(wait);
            // Where nobody listens, somebody does in a moment, and has flows whose meters are gone perhaps.
            wait = if lost.of_error().is_some() { (wait * 2).min(LONGEST_RETRY) } else { RETRY };
            tokio::pin!(retry);
            loop {
                tokio::select! {
                    () = &mut retry => break,
                    order = orders.recv() => match order {
                        // What is to be changed is seen when there is a switch again.
                        Some(order) => {
                            self.hear_blind(order);
                            self.changes.clear();
                        }
                        None => return,
                    },
                }
            }
        }
    }

    /// Connects, and makes the switch hold what is wanted of it.
    async fn open(&mut self, target: &Target) -> Result<Sight, ClientError> {
        let config = ConnectionConfig { rest: self.rest(), ..ConnectionConfig::default() };
        let (client, events) = Client::connect_with(target, config).await?;
        client.set_packet_in2().await?;
        // The switch has one way to treat fragments, whoever says it: as the flows need it.
        client.set_config_async(FragMode::NxMatch, u16::MAX).await?;
        client.set_controller_id(CONTROLLER).await?;
        let is_bound = self.set_meters(&client).await?;
        let sight = Sight { client, events };
        let entries = sight.read().await?;
        let mut held = sight.held(&entries);
        // Later what is not known is what was given up in between.
        if self.wants_dropped() && self.read_at.is_none() {
            entries.iter().for_each(|entry| self.adopt(entry));
        }
        self.reckon(&entries);
        if !is_bound {
            sight.forget(&mut held).await?;
        }
        self.mend(&held);
        self.settle(&sight).await?;
        self.reckon(&sight.read().await?);
        if let Some(log) = &mut self.log {
            log.unheard(None);
        }
        self.book.not_sampled = match self.options.samples {
            0 if !self.wants_dropped() => Some("drops.samples is 0".to_owned()),
            _ => None,
        };
        Ok(sight)
    }

    /// Goes on with what a flow counts by port, unless another port has the number by now.
    fn adopt(&mut self, FlowEntry { flow, .. }: &FlowEntry) {
        let Some(observed @ Observed::PortDrops(port, owner, reason)) = Observed::read(flow) else { return };
        if owner == self.owner(port) {
            let counted = Counted { owner, count: Count::default(), grown_at: Instant::now() };
            self.pairs.entry((port, reason)).or_insert(counted);
            self.wanted.insert(observed);
        }
    }

    fn owner(&self, port: OfPort) -> Owner {
        self.ports.get(&port).map_or(Owner::NOBODY, Owner::of)
    }

    /// Has the meters be as they should; whether they were.
    async fn set_meters(&self, client: &Client) -> Result<bool, ClientError> {
        let held: BTreeMap<u32, MeterConfig> =
            client.meters().await?.into_iter().map(|meter| (meter.id, meter)).collect();
        let wanted = self.meters();
        let mut is_bound = true;
        for id in [METER_DROPS, METER_PORT_DROPS, METER_ADMITTED] {
            let (command, meter) = match (held.get(&id), wanted.iter().find(|meter| meter.id == id)) {
                (Some(held), Some(wanted)) if held == wanted => continue,
                (Some(_), Some(wanted)) => (MeterCommand::Modify, wanted.clone()),
                (None, Some(wanted)) => {
                    is_bound = false;
                    (MeterCommand::Add, wanted.clone())
                }
                // One that no flow names costs nothing.
                (Some(_), None) | (None, None) => continue,
            };
            client.meter_mod(&MeterMod { command, meter }).await?;
        }
        Ok(is_bound)
    }

    fn meters(&self) -> Vec<MeterConfig> {
        let meter = |id, rate: u32| MeterConfig {
            id,
            flags: METER_PACKETS | METER_BURST | METER_STATS,
            bands: vec![DropBand { rate, burst: rate.saturating_mul(2).max(1) }],
        };
        let logged = self.options.log.as_ref();
        let mut meters = Vec::new();
        let rate = self.options.drop_rate();
        if rate > 0 {
            meters.push(meter(METER_DROPS, rate.max(UNKNOWN_RATE)));
            meters.push(meter(METER_PORT_DROPS, rate));
        }
        if let Some(log) = logged.filter(|log| log.events.accepts()) {
            meters.push(meter(METER_ADMITTED, log.rate));
        }
        meters
    }

    /// How long samples wait for others; those of the unknown are few, or are not unknown for long.
    fn rest(&self) -> Duration {
        let meters = self.meters();
        let known = meters.iter().filter(|meter| meter.id != METER_DROPS).flat_map(|meter| &meter.bands);
        let rate: u32 = known.map(|band| band.rate).sum();
        if rate == 0 {
            Duration::ZERO
        } else {
            (Duration::from_secs(AT_ONCE.into()) / rate).min(LONGEST_REST)
        }
    }

    fn wants_dropped(&self) -> bool {
        self.options.drop_rate() > 0
    }

    fn want(&mut self, observed: Observed) {
        if self.wanted.insert(observed) {
            self.changes.push(FlowMod::add(&observed.flow()));
        }
    }

    fn forgo(&mut self, observed: Observed) {
        if self.wanted.remove(&observed) {
            self.changes.push(FlowMod::delete_strict(&observed.flow().key()));
        }
    }

    /// The switch holds these: the changes are what is missing and what is left over.
    fn mend(&mut self, held: &BTreeSet<Observed>) {
        let gone = held.difference(&self.wanted).map(|held| FlowMod::delete_strict(&held.flow().key()));
        let new = self.wanted.difference(held).map(|wanted| FlowMod::add(&wanted.flow()));
        self.changes = gone.chain(new).collect();
    }

    /// Sends the changes.
    async fn settle(&mut self, sight: &Sight) -> Result<(), ClientError> {
        sight.send(&std::mem::take(&mut self.changes)).await
    }

    /// Has the connections of a port be sampled if the log is about them.
    fn log_port(&mut self, port: &PortId) {
        let Some(log) = self.log.as_ref().map(|log| &log.log).filter(|log| !log.is_of_all()) else { return };
        let Some(ofport) = self.places.get(port).map(|place| place.ofport) else { return };
        let is_wanted = log.wants_admitted(port);
        for onwards in Onwards::ALL {
            let observed = Observed::Admitted(Some(ofport), onwards);
            if is_wanted { self.want(observed) } else { self.forgo(observed) }
        }
    }

    /// Looks until nobody gives orders any more; an error is the end of the connection.
    async fn look(
        &mut self,
        mut sight: Sight,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Result<(), ClientError> {
        loop {
            let read_next =
                self.read_at.map_or(Duration::ZERO, |at| self.pace().saturating_sub(at.elapsed()));
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.hear(order, &mut sight).await?,
                    None => return Ok(()),
                },
                news = sight.events.next() => self.see(news?, &sight).await?,
                () = sleep(read_next) => self.read(&mut sight).await?,
            }
            let unsampled = Unsampled {
                dropped: self.book.limited(),
                accepted: self.book.counts.could_be_logged.saturating_sub(self.admitted),
            };
            if let Some(log) = &mut self.log {
                log.tick(unsampled);
            }
        }
    }

    fn pace(&self) -> Duration {
        let is_asked = self.asked_at.is_some_and(|at| at.elapsed() < ASKED);
        if is_asked || self.log.is_some() { READ } else { READ_IDLE }
    }

    async fn hear(&mut self, order: Order, sight: &mut Sight) -> Result<(), ClientError> {
        let Order::Drops(query, answer) = order else {
            self.hear_blind(order);
            return self.settle(sight).await;
        };
        // It comes again and again, and takes what is read anyhow.
        if query.is_scrape {
            self.answer(&query, answer);
            return Ok(());
        }
        self.asked_at = Some(Instant::now());
        let read = match self.read_at {
            Some(at) if at.elapsed() < FRESH => Ok(()),
            _ => self.read(sight).await,
        };
        self.answer(&query, answer);
        read
    }

    /// Without a switch to look at.
    fn hear_blind(&mut self, order: Order) {
        match order {
            Order::Policy(delta) => self.take_policy(delta),
            Order::Local(port, place) => self.take_local(port, place),
            Order::Begin => {}
            Order::Drops(query, answer) => self.answer(&query, answer),
        }
    }

    fn answer(&mut self, query: &DropsQuery, answer: oneshot::Sender<Drops>) {
        self.book.tell(query, answer);
    }

    fn take_policy(&mut self, delta: PolicyDelta) {
        let Some(log) = &mut self.log else { return };
        let mut concerned: BTreeSet<PortId> = delta.ports.iter().map(|(port, _)| port.clone()).collect();
        if log.log.goes_by_rules() && !delta.groups.is_empty() {
            // Which group a rule stands in may have changed.
            concerned.extend(self.places.keys().cloned());
        }
        log.policy(delta);
        for port in concerned {
            self.log_port(&port);
        }
    }

    fn take_local(&mut self, port: PortId, place: Option<Place>) {
        let before = match &place {
            Some(place) => self.places.insert(port.clone(), place.clone()),
            None => self.places.remove(&port),
        };
        let ofport = place.map(|place| place.ofport);
        if let Some(before) = before.map(|before| before.ofport).filter(|before| Some(*before) != ofport)
            && self.ports.get(&before) == Some(&port)
        {
            self.ports.remove(&before);
            // The number may be another's next.
            self.retire(|(number, _)| number == before);
            self.forgo(Observed::Echo(before));
            for onwards in Onwards::ALL {
                self.forgo(Observed::Admitted(Some(before), onwards));
            }
        }
        if let Some(ofport) = ofport {
            self.ports.insert(ofport, port.clone());
            if self.wants_dropped() {
                self.want(Observed::Echo(ofport));
            }
            self.log_port(&port);
        }
    }

    /// Counts no more by port what is so; what was counted stays in the sums.
    fn retire(&mut self, is_gone: impl Fn(Pair) -> bool) {
        let gone: Vec<Pair> = self.pairs.keys().copied().filter(|pair| is_gone(*pair)).collect();
        for (ofport, reason) in gone {
            let Some(Counted { owner, .. }) = self.pairs.remove(&(ofport, reason)) else { continue };
            self.forgo(Observed::PortDrops(ofport, owner, reason));
        }
    }

    /// Something that the switch says unasked.
    async fn see(&mut self, news: News, sight: &Sight) -> Result<(), ClientError> {
        let packet = match news {
            News::Event(Event::PacketIn(packet)) => packet,
            // A sample that nobody took in time is one that did not come.
            News::Missed(_) | News::Event(_) => return Ok(()),
        };
        match packet.table {
            // Nobody asked for it: of a flow that went just now, or of somebody else's. Its own flow would have no meter.
            layout::drop::TABLE if !self.wants_dropped() => Ok(()),
            layout::drop::TABLE => self.see_dropped(&packet, sight).await,
            layout::next::TABLE => {
                self.see_admitted(&packet);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn see_dropped(&mut self, packet: &PacketIn, sight: &Sight) -> Result<(), ClientError> {
        let register = |field| packet.metadata.get(field).map_or(0, |(value, _)| value);
        let number = register(layout::register::REASON);
        let Some(reason) = DropReason::ALL.iter().copied().find(|known| u128::from(*known as u8) == number)
        else {
            return Ok(());
        };
        let in_port = packet.in_port().and_then(|port| u16::try_from(port.0).ok()).map(OfPort);
        let own = match reason {
            DropReason::NoPolicy => in_port,
            _ => u16::try_from(register(layout::register::OFPORT)).ok().map(OfPort),
        };
        let own = own.unwrap_or(OfPort(0));
        if let Some(frame) = frame::read(&packet.data) {
            let direction = match own {
                OfPort(0) => None,
                own if in_port == Some(own) => Some(Direction::Egress),
                _ => Some(Direction::Ingress),
            };
            let seen = self.sighting(own, direction, Fate::Dropped(reason.name()), frame, packet.total_len);
            let unix = since_epoch();
            self.book.take(&seen, reason.name(), unix.as_secs());
            self.write(&seen, unix);
        }
        let pair = (own, reason);
        if !self.pairs.contains_key(&pair) && self.pairs.len() < PAIRS {
            let owner = self.owner(own);
            self.pairs.insert(pair, Counted { owner, count: Count::default(), grown_at: Instant::now() });
            self.want(Observed::PortDrops(own, owner, reason));
        }
        self.settle(sight).await
    }

    fn see_admitted(&mut self, packet: &PacketIn) {
        let register = |field| packet.metadata.get(field).map_or(0, |(value, _)| value);
        self.admitted += 1;
        let state = u32::try_from(register(Field::CtState)).unwrap_or(0);
        let (own, next) = (register(layout::register::OFPORT), register(layout::register::NEXT));
        let (Ok(own), Some(frame)) = (u16::try_from(own), frame::read(&packet.data)) else { return };
        if state & CT_NEW == 0 {
            return;
        }
        let direction = match next {
            1 => Direction::Egress,
            _ => Direction::Ingress,
        };
        let seen = self.sighting(OfPort(own), Some(direction), Fate::Admitted, frame, packet.total_len);
        self.write(&seen, since_epoch());
    }

    fn sighting(
        &self,
        own: OfPort,
        direction: Option<Direction>,
        fate: Fate,
        frame: policy::evaluator::Frame,
        length: u32,
    ) -> Sighting {
        let port = self.ports.get(&own).cloned();
        let interface =
            port.as_ref().and_then(|port| self.places.get(port)).map(|place| place.interface.clone());
        Sighting { port, interface, direction, fate, frame, length }
    }

    fn write(&mut self, seen: &Sighting, unix: Duration) {
        if let Some(log) = &mut self.log {
            log.write(seen, unix);
        }
    }

    /// Reads the counters, puts back what others have taken away, and lets go of what is idle.
    async fn read(&mut self, sight: &mut Sight) -> Result<(), ClientError> {
        let entries = sight.read().await?;
        // Of what is counted now, all samples have come: one that waits to be taken in is none that was limited.
        while let Some(news) = sight.events.waiting() {
            self.see(news, sight).await?;
        }
        self.reckon(&entries);
        let now = Instant::now();
        let idle: BTreeSet<Pair> = self
            .pairs
            .iter()
            .filter(|(_, counted)| now.duration_since(counted.grown_at) >= IDLE)
            .map(|(pair, _)| *pair)
            .collect();
        self.retire(|pair| idle.contains(&pair));
        let mut held = sight.held(&entries);
        if !self.set_meters(&sight.client).await? {
            sight.forget(&mut held).await?;
        }
        self.mend(&held);
        self.settle(sight).await?;
        Ok(())
    }

    /// Takes in what the switch has counted.
    fn reckon(&mut self, entries: &[FlowEntry]) {
        let now = Instant::now();
        self.read_at = Some(now);
        let (mut oldest, mut counted_now) = (0, Vec::new());
        let mut ports: BTreeMap<(PortId, &'static str), Count> = BTreeMap::new();
        for FlowEntry { flow, stats } in entries {
            let count = Count { packets: stats.packets, bytes: stats.bytes };
            let observed = Observed::read(flow);
            if let Some(Observed::Admitted(..)) = observed {
                counted_now.push((flow.key(), Class::Admitted, count));
                continue;
            }
            let number = flow.matches.get(layout::register::REASON).map(|(value, _)| value);
            let known = |reason: &&DropReason| number == Some(u128::from(**reason as u8));
            let Some(reason) =
                DropReason::ALL.iter().find(known).filter(|_| flow.table == layout::drop::TABLE)
            else {
                continue;
            };
            oldest = oldest.max(u64::from(stats.duration_s));
            let class = Class::Dropped { reason: reason.name(), is_sampled: observed.is_some() };
            counted_now.push((flow.key(), class, count));
            let Some(Observed::PortDrops(port, owner, reason)) = observed else { continue };
            let Some(counted) = self.pairs.get_mut(&(port, reason)).filter(|counted| counted.owner == owner)
            else {
                continue;
            };
            if counted.count != count {
                counted.grown_at = now;
            }
            counted.count = count;
            if let Some(id) = self.ports.get(&port) {
                *ports.entry((id.clone(), reason.name())).or_default() += count;
            }
        }
        self.ledger.read(counted_now);
        let (mut reasons, mut sum) = (BTreeMap::<_, Count>::new(), Sum::default());
        for (class, count) in self.ledger.sums() {
            match class {
                Class::Admitted => sum.admitted += count.packets,
                Class::Dropped { reason, is_sampled } => {
                    *reasons.entry(reason).or_default() += count;
                    sum.drops += if is_sampled { count.packets } else { 0 };
                }
            }
        }
        let base = *self.base.get_or_insert(sum);
        let since = since_epoch().as_secs().saturating_sub(oldest);
        let counts = &mut self.book.counts;
        counts.reasons = reasons;
        counts.ports = ports;
        // What was counted before the flows came anew is not forgotten; and two clocks are cut to seconds.
        if counts.since == 0 || since + 2 < counts.since {
            counts.since = since;
        }
        counts.could_be_sampled = sum.drops - base.drops;
        counts.could_be_logged = sum.admitted - base.admitted;
    }
}

impl Sight {
    /// Takes away what is held. A flow is bound to its meter when it comes: what came without it is not limited, and is to come anew (ovs-vswitchd
    /// 3.1).
    async fn forget(&self, held: &mut BTreeSet<Observed>) -> Result<(), ClientError> {
        let gone =
            std::mem::take(held).into_iter().map(|observed| FlowMod::delete_strict(&observed.flow().key()));
        self.send(&gone.collect::<Vec<_>>()).await
    }

    /// What is looked at, by these flows.
    fn held(&self, entries: &[FlowEntry]) -> BTreeSet<Observed> {
        entries.iter().filter_map(|entry| Observed::read(&entry.flow)).collect()
    }

    /// The flows of the tables where anything is looked at, with their counters.
    async fn read(&self) -> Result<Vec<FlowEntry>, ClientError> {
        let mut entries = Vec::new();
        for table in [layout::drop::TABLE, layout::next::TABLE] {
            let filter = FlowFilter { table: Some(table), ..FlowFilter::default() };
            let flows = timeout(PATIENCE, self.client.dump_flows(&filter)).await;
            let late = |_| ClientError::Timeout { target: "the flows' counters".to_owned() };
            entries.extend(flows.map_err(late)??);
        }
        Ok(entries)
    }

    async fn send(&self, changes: &[FlowMod]) -> Result<(), ClientError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.client.send_bundle(changes).await.map_err(|error| {
            warn!(reason = %error, "the switch does not take a flow that only looks");
            ClientError::Protocol(error.to_string())
        })
    }
}
