//! Hosts with hybrid bridges, looked at: the counters of sets and rules that drop ([`hybrid::drops`]), read when somebody asks, and the
//! kernel's log, to which they send samples.
//!
//! What counts belongs to the driver's tables, so that nothing is written here. A thread of its own does it, in the network namespace in which
//! it was started, and another one reads the log.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use hybrid::Devices;
use hybrid::admitted;
use hybrid::bridge::Family;
use hybrid::drops::{By, COUNTED, reasons};
use hybrid::mark::{FROM_PORT, SIGNATURE, SIGNATURE_MASK, ZONE};
use hybrid::samples::{self, GROUP, Samples};
use nfnetlink::{Log, LogEnd, Logged};
use nftables::{Data, Nftables, TableId, Value};
use policy::evaluator::Settings;
use policy::{Direction, PolicyDelta, PortId};
use rustix::net::netdevice;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::book::{Book, Count, Fate, Sighting};
use super::rule_counters::RuleCounters;
use super::security_log::{SecurityLog, Unsampled};
use super::troubles::Troubles;
use super::{Options, frame, since_epoch};
use crate::api::{Drops, DropsQuery};
use crate::driver::SINCE;

/// A question is answered with counters that are no older.
const FRESH: Duration = Duration::from_millis(500);
/// The same of a scrape: with iptables all rules are read for it.
const OLD: Duration = Duration::from_secs(60);
/// How often the counters are read where there is a security-group log: it tells of what was limited.
const READ: Duration = Duration::from_secs(10);
/// How often the log is told of the time, and listened to if that failed.
const TICK: Duration = Duration::from_secs(1);
/// So many bytes of a dropped packet are asked for.
const SAMPLE: u32 = 128;
/// So many reads of the kernel's log may wait to be taken in, while counters are read; of more it is as if nobody had read them in time.
const WAITING: usize = 1024;
/// The addresses and the ethertype of a frame, which the kernel does not count.
const LINK_HEADER: u64 = 14;

/// Reads what the rules of iptables have counted, where they count.
pub(crate) type RuleReader = Box<dyn FnMut() -> Result<Vec<String>, String> + Send>;

/// What is looked at, and how.
pub(crate) struct Sources {
    /// The settings.
    pub(crate) options: Options,
    /// Why nothing is sampled, if that is known by now.
    pub(crate) not_sampled: Option<String>,
    /// The same, if it turns out later.
    pub(crate) unsampled: Arc<OnceLock<String>>,
    /// Where rules are in iptables.
    pub(crate) rules: Option<RuleReader>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Policy(PolicyDelta),
    Local(PortId, Option<Devices>),
    Drops(DropsQuery, oneshot::Sender<Drops>),
    /// Packets of the log, and one of [`WAITING`] places until they are taken in.
    Seen(Vec<Logged>, Arc<()>),
    /// The host is ours to look at, or somebody else's.
    Look(bool),
    /// Nothing is heard of the log any more.
    Deaf,
    End,
}

/// A host's filter, looked at; it ends when dropped.
#[derive(Debug)]
pub(crate) struct HostObserver {
    orders: Sender<Order>,
    has_log: bool,
    troubles: Troubles,
}

impl HostObserver {
    /// Must be called in the network namespace of the bridges.
    ///
    /// # Errors
    /// The kernel's tables cannot be reached, or there is no thread.
    pub(crate) fn start(sources: Sources) -> io::Result<Self> {
        let Sources { options, not_sampled, unsampled, rules } = sources;
        let (orders, ordered) = channel();
        let troubles = Troubles::default();
        let has_log = options.log.is_some();
        let log = options.log.clone().map(|choice| {
            let permitted_ethertypes = options.permitted_ethertypes.clone();
            SecurityLog::start(
                choice,
                troubles.clone(),
                Settings { permitted_ethertypes, ..Settings::default() },
            )
        });
        let samples = options.kernel_samples();
        let never = not_sampled.or((samples == Samples::default()).then(no_samples));
        let watcher = Watcher {
            nft: Nftables::open().map_err(io::Error::other)?,
            rules,
            unsampled,
            samples,
            listening: Listening { never, orders: orders.clone(), end: None },
            book: Book::default(),
            log: log.transpose()?,
            devices: HashMap::new(),
            zones: HashMap::new(),
            admitted: Admitted::default(),
            ledger: BTreeMap::new(),
            retired: BTreeMap::new(),
            before: None,
            since: None,
            limited: Unsampled::default(),
            looks: false,
            read_at: None,
        };
        thread::Builder::new().name("drops".to_owned()).spawn(move || watcher.work(&ordered))?;
        Ok(HostObserver { orders, has_log, troubles })
    }

    /// The policy changed.
    pub(crate) fn policy(&self, delta: &PolicyDelta) {
        if self.has_log {
            self.order(Order::Policy(delta.clone()));
        }
    }

    /// A port has these devices now, or none.
    pub(crate) fn local(&self, port: PortId, devices: Option<Devices>) {
        self.order(Order::Local(port, devices));
    }

    /// The host is ours to look at, from now on, or somebody else's.
    pub(crate) fn look(&self, is_ours: bool) {
        self.order(Order::Look(is_ours));
    }

    /// What the security-group log cannot tell of, and why.
    pub(crate) fn troubles(&self) -> Vec<(String, String)> {
        self.troubles.all()
    }

    /// Answers with what is dropped.
    pub(crate) fn drops(&self, query: DropsQuery, answer: oneshot::Sender<Drops>) {
        self.order(Order::Drops(query, answer));
    }

    fn order(&self, order: Order) {
        // Without a receiver the thread has ended, and who asked gets no answer.
        _ = self.orders.send(order);
    }
}

impl Drop for HostObserver {
    fn drop(&mut self) {
        self.order(Order::End);
    }
}

/// The kernel's log, listened to as soon as nobody else does.
#[derive(Debug)]
struct Listening {
    /// Why it never is.
    never: Option<String>,
    orders: Sender<Order>,
    end: Option<LogEnd>,
}

impl Listening {
    /// Listens from now on; why not, if not.
    fn begin(&mut self) -> Option<String> {
        if self.never.is_none() && self.end.is_none() {
            return match self.try_to() {
                Ok(end) => {
                    self.end = Some(end);
                    None
                }
                Err(reason) if reason.is_not_permitted() => {
                    Some(format!("group {GROUP} of the kernel's log: another program listens to it"))
                }
                Err(reason) => Some(format!("group {GROUP} of the kernel's log: {reason}")),
            };
        }
        self.never.clone()
    }

    fn try_to(&self) -> Result<LogEnd, nfnetlink::Error> {
        let log = Log::listen(GROUP, SAMPLE)?;
        let (end, orders) = (log.end()?, self.orders.clone());
        thread::Builder::new().name("drops-log".to_owned()).spawn(move || listen(log, &orders))?;
        Ok(end)
    }
}

/// Hands on what comes, until it ends or nobody takes it.
fn listen(mut log: Log, orders: &Sender<Order>) {
    let places = Arc::new(());
    loop {
        let mut seen = Vec::new();
        let read = log.read(|logged| seen.push(logged));
        let is_room = Arc::strong_count(&places) <= WAITING;
        if !seen.is_empty() && is_room && orders.send(Order::Seen(seen, Arc::clone(&places))).is_err() {
            return;
        }
        match read {
            Ok(true) => {}
            Ok(false) => break,
            // Those that nobody read in time are limited, too.
            Err(error) if error.is_overrun() => {}
            Err(error) => {
                warn!(%error, "the kernel's log cannot be read; it is opened anew");
                break;
            }
        }
    }
    // Without a receiver nobody wants to hear of it.
    _ = orders.send(Order::Deaf);
}

/// A counter of the kernel's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Source {
    /// Of a table, by a device's name.
    Device(&'static str, String),
    /// Of the tables, by zone and way.
    Zone(Family, &'static str, u16, Direction),
    /// Of iptables: a reason's end, of the nth family.
    End(usize, &'static str),
    /// Of iptables: what a port's rules have left, by the guest's device.
    Rules(usize, String, Direction),
}

impl Source {
    /// What iptables counts by port is in its end already.
    fn is_of_a_sum(&self) -> bool {
        !matches!(self, Source::Rules(..))
    }

    fn reason(&self) -> &'static str {
        match self {
            Source::Device(reason, _) | Source::Zone(_, reason, ..) | Source::End(_, reason) => reason,
            Source::Rules(..) => "no-rule",
        }
    }
}

/// What a counter has counted: it may begin anew, and for somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    last: Count,
    /// Before it began anew.
    kept: Count,
}

impl Account {
    fn read(&mut self, now: Count) {
        if now.packets < self.last.packets {
            self.kept = self.value();
        }
        self.last = now;
    }

    fn value(&self) -> Count {
        Count { packets: self.kept.packets + self.last.packets, bytes: self.kept.bytes + self.last.bytes }
    }

    /// What it counts from now on is another's, and from 0: the driver takes the counter away with its owner.
    fn retire(&mut self) -> Count {
        std::mem::take(self).value()
    }
}

/// First packets that were admitted where the log asks for them.
#[derive(Debug, Default)]
struct Admitted {
    counted: Account,
    /// What had been counted before any was sampled.
    before: Option<u64>,
    /// What could be sampled since then.
    could_be: u64,
    sampled: u64,
}

impl Admitted {
    fn read(&mut self, now: Count) {
        self.counted.read(now);
        let counted = self.counted.value().packets;
        let before = *self.before.get_or_insert_with(|| counted.saturating_sub(self.could_be));
        self.could_be = counted.saturating_sub(before);
    }

    /// Of which no sample has come, as they were counted last.
    fn limited(&self) -> u64 {
        self.could_be.saturating_sub(self.sampled)
    }
}

struct Watcher {
    samples: Samples,
    nft: Nftables,
    rules: Option<RuleReader>,
    unsampled: Arc<OnceLock<String>>,
    listening: Listening,
    book: Book,
    log: Option<SecurityLog>,
    /// By the end of their names.
    devices: HashMap<String, PortId>,
    /// The ends of the names of devices, by their zone.
    zones: HashMap<u16, String>,
    ledger: BTreeMap<Source, Account>,
    admitted: Admitted,
    /// What was dropped at the owners of before of zones.
    retired: BTreeMap<&'static str, Count>,
    /// What had been dropped before anything was sampled.
    before: Option<u64>,
    /// When the eldest tables were made of those that have counted, in seconds of Unix.
    since: Option<u64>,
    /// What was limited when the counters were read last but one: what they counted then has come by now, if it comes.
    limited: Unsampled,
    /// The host is ours.
    looks: bool,
    read_at: Option<Instant>,
}

impl Watcher {
    fn work(mut self, orders: &Receiver<Order>) {
        loop {
            let order = match &self.log {
                Some(_) => orders.recv_timeout(TICK),
                None => orders.recv().map_err(RecvTimeoutError::from),
            };
            match order {
                Ok(Order::Policy(delta)) => {
                    if let Some(log) = &mut self.log {
                        log.policy(delta);
                    }
                }
                Ok(Order::Local(port, devices)) => self.local(port, devices),
                Ok(Order::Drops(query, answer)) => self.answer(&query, answer),
                Ok(Order::Seen(seen, _place)) => seen.into_iter().for_each(|logged| self.see(&logged)),
                Ok(Order::Deaf) => self.listening.end = None,
                Ok(Order::Look(is_ours)) => self.look(is_ours),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also while samples come without a pause.
            if self.looks && self.log.is_some() {
                self.hear();
                if self.read_at.is_none_or(|at| at.elapsed() >= READ) {
                    self.read();
                }
            }
            if let Some(log) = &mut self.log {
                log.tick(self.limited);
            }
        }
    }

    /// Whoever looks at the host hears what is sampled, and nobody else can.
    fn look(&mut self, is_ours: bool) {
        self.looks = is_ours;
        if is_ours {
            self.read();
        } else {
            self.listening.end = None;
            // What is sampled from now on another takes.
            (self.before, self.admitted.before) = (None, None);
        }
    }

    /// Listens to what is sampled, if it is not listened to.
    fn hear(&mut self) {
        let of_rules = || self.unsampled.get().map(|reason| format!("what iptables drops: {reason}"));
        let not_heard = self.listening.begin();
        if let Some(log) = &mut self.log {
            log.unheard(not_heard.clone().or_else(of_rules));
        }
        self.book.not_sampled = match self.samples.dropped {
            0 => Some(no_samples()),
            _ => not_heard.or_else(of_rules),
        };
    }

    fn local(&mut self, port: PortId, devices: Option<Devices>) {
        self.devices.retain(|_, known| *known != port);
        if let Some(devices) = devices {
            self.devices.insert(devices.end().to_owned(), port);
        }
    }

    fn answer(&mut self, query: &DropsQuery, answer: oneshot::Sender<Drops>) {
        let old = if query.is_scrape { OLD } else { FRESH };
        match self.read_at {
            _ if !self.looks => self.book.not_sampled = Some("the policy is not in force yet".to_owned()),
            // Ports may have come since.
            Some(at) if at.elapsed() < old => self.reckon(),
            _ => self.read(),
        }
        self.book.tell(query, answer);
    }

    /// Reads all counters.
    fn read(&mut self) {
        self.read_at = Some(Instant::now());
        self.limited = Unsampled { dropped: self.book.limited(), accepted: self.admitted.limited() };
        if let Err(error) = self.read_tables() {
            debug!(%error, "the tables' counters cannot be read");
        }
        if let Some(read) = &mut self.rules {
            match read() {
                Ok(texts) => self.take_rules(&texts),
                Err(reason) => debug!(reason, "the rules' counters cannot be read"),
            }
        }
        self.reckon();
        self.hear();
    }

    fn read_tables(&mut self) -> Result<(), nftables::Error> {
        self.read_zones()?;
        for family in [Family::Bridge, Family::Inet] {
            let table = table(family);
            for (reason, by) in reasons(family) {
                let set = table.set(&format!("{COUNTED}{reason}")).expect("a short name");
                let counters = match self.nft.counters(&set) {
                    // It is another driver's, or nobody's yet.
                    Err(error) if error.is_not_found() => continue,
                    counters => counters?,
                };
                for (key, counter) in counters {
                    let Some(source) = source(family, reason, *by, &key) else { continue };
                    let count = Count {
                        packets: counter.packets,
                        bytes: counter.bytes + LINK_HEADER * counter.packets,
                    };
                    self.ledger.entry(source).or_default().read(count);
                }
            }
        }
        if self.samples.admitted.is_some() {
            let looks =
                TableId { name: samples::TABLE.parse().expect("a short name"), ..table(Family::Inet) };
            let set = looks.set(admitted::COUNTED).expect("a short name");
            let packets = match self.nft.counters(&set) {
                // Nobody has made it yet.
                Err(error) if error.is_not_found() => 0,
                counters => counters?.iter().map(|(_, counter)| counter.packets).sum(),
            };
            self.admitted.read(Count { packets, bytes: 0 });
        }
        let mut since = Vec::new();
        for family in [Family::Bridge, Family::Inet] {
            let chains = self.nft.chains(&table(family))?;
            let made = chains
                .iter()
                .filter_map(|chain| chain.id.name.as_str().strip_prefix(SINCE)?.parse::<u64>().ok());
            since.extend(made);
        }
        // What was counted before they were made anew is not forgotten.
        self.since = self.since.into_iter().chain(since.into_iter().max()).min();
        self.book.counts.since = self.since.unwrap_or_else(|| since_epoch().as_secs());
        Ok(())
    }

    /// Whose zone is which. What has been counted for one goes with its owner.
    fn read_zones(&mut self) -> Result<(), nftables::Error> {
        let marks = table(Family::Bridge).set("marks").expect("a short name");
        let elements = match self.nft.elements(&marks) {
            Err(error) if error.is_not_found() => Vec::new(),
            elements => elements?,
        };
        let owner = |element: &nftables::Element| {
            let Some(Data::Value(mark)) = &element.data else { return None };
            let name = device(&element.key)?;
            let (end, _) = end_of(&name)?;
            Some((zone_of(number(mark)?)?.0, end.to_owned()))
        };
        let zones: HashMap<u16, String> = elements.iter().filter_map(owner).collect();
        let before = std::mem::replace(&mut self.zones, zones);
        let is_anothers = |zone: &u16| before.get(zone).is_some_and(|end| self.zones.get(zone) != Some(end));
        for (source, account) in &mut self.ledger {
            if matches!(source, Source::Zone(_, _, zone, _) if is_anothers(zone)) {
                *self.retired.entry(source.reason()).or_default() += account.retire();
            }
        }
        Ok(())
    }

    fn take_rules(&mut self, texts: &[String]) {
        for (family, text) in texts.iter().enumerate() {
            let RuleCounters { reasons, devices } = RuleCounters::read(text);
            let whole = |count: Count| Count { bytes: count.bytes + LINK_HEADER * count.packets, ..count };
            for (reason, count) in reasons {
                self.ledger.entry(Source::End(family, reason)).or_default().read(whole(count));
            }
            for ((device, way), count) in devices {
                let source = Source::Rules(family, device, way);
                self.ledger.entry(source).or_default().read(whole(count));
            }
        }
    }

    /// Makes sums of what was read.
    fn reckon(&mut self) {
        let (mut sums, mut ports) = (self.retired.clone(), BTreeMap::<_, Count>::new());
        for (source, account) in &self.ledger {
            let count = account.value();
            if source.is_of_a_sum() {
                *sums.entry(source.reason()).or_default() += count;
            }
            if let Some(port) = self.port_of(source) {
                *ports.entry((port.clone(), source.reason())).or_default() += count;
            }
        }
        let total: u64 = sums.values().map(|count| count.packets).sum();
        let counts = &mut self.book.counts;
        // What is sampled while another looks is no loss of ours.
        let before = *self.before.get_or_insert_with(|| total.saturating_sub(counts.could_be_sampled));
        (counts.reasons, counts.ports) = (sums, ports);
        counts.could_be_sampled = total.saturating_sub(before);
    }

    fn port_of(&self, source: &Source) -> Option<&PortId> {
        match source {
            Source::Device(_, name) | Source::Rules(_, name, _) => self.devices.get(end_of(name)?.0),
            Source::Zone(_, _, zone, _) => self.devices.get(self.zones.get(zone)?),
            Source::End(..) => None,
        }
    }

    /// A sample.
    fn see(&mut self, logged: &Logged) {
        let mut all = [Family::Bridge, Family::Inet].into_iter().flat_map(reasons);
        let fate = match all.find(|(reason, _)| *reason == logged.prefix) {
            Some((reason, _)) => Fate::Dropped(reason),
            None if logged.prefix == admitted::PREFIX => Fate::Admitted,
            None => return,
        };
        let Some(read) = frame::read(&logged.frame) else { return };
        let (end, direction) = match self.whose(logged) {
            Some((end, direction)) => (Some(end), Some(direction)),
            None => (None, None),
        };
        let port = end.as_ref().and_then(|end| self.devices.get(end)).cloned();
        let seen = Sighting {
            interface: end.filter(|_| port.is_some()).map(|end| format!("tap{end}")),
            port,
            direction,
            fate,
            frame: read,
            length: length(&logged.frame),
        };
        let unix = since_epoch();
        match fate {
            Fate::Dropped(reason) => self.book.take(&seen, reason, unix.as_secs()),
            Fate::Admitted => self.admitted.sampled += 1,
        }
        if let Some(log) = &mut self.log {
            log.write(&seen, unix);
        }
    }

    /// By its mark where it has one, else by the device that it came in by: the end of the devices' names, and the way.
    fn whose(&mut self, logged: &Logged) -> Option<(String, Direction)> {
        let Some((zone, direction)) = zone_of(logged.mark) else {
            let name = name_of(logged.device_in?)?;
            return end_of(&name).map(|(end, direction)| (end.to_owned(), direction));
        };
        let is_known = self.zones.get(&zone).is_some_and(|end| self.devices.contains_key(end));
        if !is_known && let Err(error) = self.read_zones() {
            debug!(%error, "whose zone it is cannot be asked");
        }
        Some((self.zones.get(&zone)?.clone(), direction))
    }
}

fn no_samples() -> String {
    "drops.samples is 0".to_owned()
}

fn table(family: Family) -> TableId {
    let family = match family {
        Family::Bridge => nftables::Family::Bridge,
        Family::Inet => nftables::Family::Inet,
    };
    TableId { family, name: "sgflow".parse().expect("a short name") }
}

fn source(family: Family, reason: &'static str, by: By, key: &Value) -> Option<Source> {
    match by {
        By::Device => Some(Source::Device(reason, device(key)?)),
        By::Mark => zone_of(number(key)?).map(|(zone, way)| Source::Zone(family, reason, zone, way)),
    }
}

/// The name of a device, as a set has it.
fn device(key: &Value) -> Option<String> {
    let name = key.octets().split(|octet| *octet == 0).next()?;
    std::str::from_utf8(name).ok().map(str::to_owned)
}

fn number(value: &Value) -> Option<u32> {
    value.octets().try_into().ok().map(u32::from_ne_bytes)
}

/// The zone that a mark of ours says, and the way.
fn zone_of(mark: u32) -> Option<(u16, Direction)> {
    let zone = u16::try_from(mark & ZONE).ok().filter(|_| mark & SIGNATURE_MASK == SIGNATURE)?;
    let direction = if mark & FROM_PORT == 0 { Direction::Ingress } else { Direction::Egress };
    Some((zone, direction))
}

/// What the names of all devices of a port end in, and whether it sends what comes in by this one.
fn end_of(device: &str) -> Option<(&str, Direction)> {
    let from = |prefix, direction| device.strip_prefix(prefix).map(|end| (end, direction));
    from("tap", Direction::Egress)
        .or_else(|| from("qvb", Direction::Ingress))
        .or_else(|| from("qvo", Direction::Egress))
}

/// The name of the device of a number, if it is still there.
fn name_of(number: u32) -> Option<String> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::index_to_name(&any, number).ok()
}

/// Of the whole frame: IP says how long it is.
fn length(frame: &[u8]) -> u32 {
    let half =
        |at: usize| frame.get(at..at + 2).map(|octets| u32::from(u16::from_be_bytes([octets[0], octets[1]])));
    let of_ip = match half(12) {
        Some(0x0800) => half(16).map(|length| 14 + length),
        Some(0x86dd) => half(18).map(|length| 14 + 40 + length),
        _ => None,
    };
    of_ip.unwrap_or_default().max(u32::try_from(frame.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_may_begin_anew_and_for_somebody_else() {
        let count = |packets| Count { packets, bytes: packets * 60 };
        let mut account = Account::default();
        account.read(count(5));
        account.read(count(7));
        assert_eq!(account.value(), count(7));
        // Its table was made anew.
        account.read(count(2));
        assert_eq!(account.value(), count(9));
        assert_eq!(account.retire(), count(9));
        assert_eq!(account.value(), count(0));
        account.read(count(3));
        assert_eq!(account.value(), count(3));
        account.read(count(1));
        assert_eq!(account.value(), count(4));
    }

    #[test]
    fn frames_are_as_long_as_ip_says() {
        let mut frame = vec![0; 60];
        assert_eq!(length(&frame), 60);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[16..18].copy_from_slice(&1000_u16.to_be_bytes());
        assert_eq!(length(&frame), 1014);
        assert_eq!(length(&frame[..13]), 13);
    }

    #[test]
    fn what_another_samples_is_no_loss_of_ours() {
        let count = |packets| Count { packets, bytes: 0 };
        let mut admitted = Admitted::default();
        admitted.read(count(100));
        assert_eq!(admitted.limited(), 0);
        admitted.read(count(110));
        admitted.sampled = 7;
        assert_eq!(admitted.limited(), 3);
        // Another looks, while forty more are counted; and then it is our turn again.
        admitted.before = None;
        admitted.read(count(150));
        assert_eq!(admitted.limited(), 3);
        admitted.read(count(152));
        assert_eq!(admitted.limited(), 5);
    }
}
