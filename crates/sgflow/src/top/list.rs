//! The ports that are listed: the page in sight, or what a search has found.
//!
//! In the order of their ids, only the page in sight is asked for. A search, and any other order, needs all ports: they are gathered, a page a
//! second, and gathered anew after a rest. What is looked for as an id or the name of an interface is asked for at once.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use agent::api::{LARGEST_PAGE, PageQuery, PortEntry, PortPage};

use super::drops::DropsSeen;

/// Of no more ports than this is gathered.
pub(super) const MOST: usize = 20 * LARGEST_PAGE;
/// Seconds from all that were gathered to the next begin.
const REST: u32 = 10;

/// What ports are listed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Order {
    #[default]
    Id,
    DropRate,
    Drops,
    State,
    Interface,
}

impl Order {
    pub(super) fn name(self) -> &'static str {
        match self {
            Order::Id => "id",
            Order::DropRate => "drops/s",
            Order::Drops => "drops",
            Order::State => "state",
            Order::Interface => "interface",
        }
    }

    fn next(self) -> Self {
        match self {
            Order::Id => Order::DropRate,
            Order::DropRate => Order::Drops,
            Order::Drops => Order::State,
            Order::State => Order::Interface,
            Order::Interface => Order::Id,
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) order: Order,
    /// The other way round; of ports in the order of their ids only when they are gathered.
    pub(super) is_reversed: bool,
    /// What is looked for.
    pub(super) search: Option<String>,
    /// Rows that the terminal has for ports.
    room: usize,
    /// Of these rows the one that is marked.
    pub(super) marked: usize,
    /// Why there are none.
    pub(super) unlisted: Option<String>,
    /// Names of groups, by their ids; empty of those that have none.
    pub(super) names: BTreeMap<String, String>,
    sight: Sight,
    gathered: Gathered,
}

/// The page in sight, in the order of ids.
#[derive(Debug, Default)]
struct Sight {
    /// Behind what the pages before it begin, and how many ports stand above each.
    before: Vec<(Option<String>, usize)>,
    /// Behind what it begins.
    after: Option<String>,
    /// How many ports stand above it.
    above: usize,
    ports: Vec<PortEntry>,
    next: Option<String>,
    /// It has been asked for and is not there yet.
    is_awaited: bool,
    /// So many pages on as soon as it is there: who strikes keys does not wait.
    turns: u32,
}

/// What was gathered.
#[derive(Debug, Default)]
struct Gathered {
    ports: BTreeMap<String, Vec<PortEntry>>,
    /// Behind what it goes on.
    after: Option<String>,
    /// How many of this round.
    seen: usize,
    /// All ports were seen once.
    is_whole: bool,
    /// Seconds to go before it begins again.
    rest: u32,
    /// Rows above the first one in sight.
    above: usize,
}

impl List {
    /// The terminal has so many rows for ports now.
    pub(super) fn resize(&mut self, room: usize) {
        self.room = room.max(1);
    }

    /// Whether ports have to be gathered.
    pub(super) fn is_gathered(&self) -> bool {
        self.search.is_some() || self.order != Order::Id || self.is_reversed
    }

    /// A second has gone by.
    pub(super) fn tick(&mut self) {
        self.gathered.rest = self.gathered.rest.saturating_sub(1);
    }

    /// The page to ask for.
    pub(super) fn page(&self) -> Option<PageQuery> {
        let query =
            PageQuery { id: None, after: self.sight.after.clone(), limit: Some(self.room.min(LARGEST_PAGE)) };
        (!self.is_gathered()).then_some(query)
    }

    /// The page to gather.
    pub(super) fn walk(&self) -> Option<PageQuery> {
        let query = PageQuery { id: None, after: self.gathered.after.clone(), limit: Some(LARGEST_PAGE) };
        (self.is_gathered() && self.gathered.rest == 0).then_some(query)
    }

    /// The page that was asked for; whether another is to be asked for at once.
    pub(super) fn take_page(&mut self, query: &PageQuery, page: PortPage) -> bool {
        self.unlisted = None;
        if query.after != self.sight.after {
            return false;
        }
        self.sight.ports = page.ports;
        self.sight.next = page.next;
        self.sight.is_awaited = false;
        if self.sight.turns > 0 {
            self.sight.turns = if self.go_on() { self.sight.turns - 1 } else { 0 };
            return self.sight.is_awaited;
        }
        // All that stood there have gone.
        let is_empty = self.sight.ports.is_empty() && self.go_back();
        if is_empty {
            self.marked = self.room - 1;
        }
        is_empty
    }

    /// The page that was gathered.
    pub(super) fn take_walk(&mut self, query: &PageQuery, page: PortPage) {
        self.unlisted = None;
        let gathered = &mut self.gathered;
        if query.after != gathered.after {
            return;
        }
        let from = query.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let to = page.next.clone().map_or(Bound::Unbounded, Bound::Included);
        let gone: Vec<String> = gathered.ports.range((from, to)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            gathered.ports.remove(&id);
        }
        gathered.seen += page.ports.len();
        for port in page.ports {
            gathered.ports.entry(port.id.clone()).or_default().push(port);
        }
        gathered.after = page.next.filter(|_| gathered.seen < MOST);
        if gathered.after.is_none() {
            (gathered.seen, gathered.is_whole, gathered.rest) = (0, true, REST);
        }
    }

    /// A port that was looked for by its id or its interface, or asked for alone.
    pub(super) fn take_port(&mut self, ports: Vec<PortEntry>) {
        if self.is_gathered() {
            let Some(id) = ports.first().map(|port| port.id.clone()) else { return };
            self.gathered.ports.insert(id, ports);
        }
    }

    /// Ports found so far, the rows in sight, and how many stand above them; no number of found where only a page is known.
    pub(super) fn rows(&self, drops: &DropsSeen) -> Rows<'_> {
        if !self.is_gathered() {
            let ports = self.sight.ports.iter().take(self.room).collect();
            return Rows { ports, above: self.sight.above, found: None };
        }
        let found = self.found(drops);
        let above = self.gathered.above.min(found.len().saturating_sub(self.room));
        let count = found.len();
        Rows { ports: found.into_iter().skip(above).take(self.room).collect(), above, found: Some(count) }
    }

    fn found(&self, drops: &DropsSeen) -> Vec<&PortEntry> {
        let needle = self.search.as_deref().map(str::to_lowercase);
        let ports = self.gathered.ports.values().flatten();
        let mut found: Vec<&PortEntry> =
            ports.filter(|port| needle.as_deref().is_none_or(|needle| self.has(port, needle))).collect();
        let count = |port: &PortEntry| drops.sum_of_port(&port.id).unwrap_or_default();
        match self.order {
            Order::Id => {}
            // A rate is compared by the packet in a thousand seconds.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
            Order::DropRate => found.sort_by_cached_key(|port| {
                let count = count(port);
                Reverse(((count.per_second * 1000.0) as u64, count.packets))
            }),
            Order::Drops => found.sort_by_cached_key(|port| Reverse(count(port).packets)),
            // What does not filter as it should stands first.
            Order::State => found.sort_by_key(|port| Reverse(port.state)),
            Order::Interface => found.sort_by_key(|port| &port.interface),
        }
        if self.is_reversed {
            found.reverse();
        }
        found
    }

    /// Whether a port is what is looked for, in small letters.
    fn has(&self, port: &PortEntry, needle: &str) -> bool {
        let PortEntry { id, interface, mac, addresses, groups, state, reason, refused, .. } = port;
        let state = state.to_string();
        let texts =
            [Some(id), interface.as_ref(), mac.as_ref(), Some(&state), reason.as_ref(), refused.as_ref()];
        let names = groups.iter().filter_map(|group| self.names.get(group));
        let mut texts = texts.into_iter().flatten().chain(addresses).chain(groups).chain(names);
        texts.any(|text| text.to_lowercase().contains(needle))
    }

    /// How many ports were looked at in the round that is under way, unless all have been once.
    pub(super) fn looked_at(&self) -> Option<usize> {
        (!self.gathered.is_whole).then_some(self.gathered.seen)
    }

    /// One row up or down; whether another page is to be asked for.
    pub(super) fn step(&mut self, down: bool, drops: &DropsSeen) -> bool {
        let rows = self.rows(drops).ports.len();
        match down {
            false if self.marked > 0 => self.marked = self.marked.min(rows) - 1,
            true if self.marked + 1 < rows => self.marked += 1,
            _ if self.is_gathered() => self.scroll(down, 1, drops),
            true if !self.sight.is_awaited && self.go_on() => {
                self.marked = 0;
                return true;
            }
            false if self.go_back() => {
                self.marked = self.room - 1;
                return true;
            }
            _ => {}
        }
        false
    }

    /// One page up or down; whether it is to be asked for.
    pub(super) fn turn(&mut self, down: bool, drops: &DropsSeen) -> bool {
        if self.is_gathered() {
            self.scroll(down, self.room, drops);
            return false;
        }
        let is_turned = if down { self.go_on() } else { self.go_back() };
        if !is_turned && !self.sight.is_awaited {
            self.marked = if down { self.sight.ports.len().saturating_sub(1) } else { 0 };
        }
        is_turned
    }

    /// To the first row.
    pub(super) fn begin(&mut self) {
        self.marked = 0;
        self.gathered.above = 0;
        let ports = std::mem::take(&mut self.sight.ports);
        self.sight = Sight { ports, is_awaited: true, ..Sight::default() };
    }

    /// Looks for something, or for nothing any more.
    pub(super) fn look_for(&mut self, search: Option<String>) {
        self.search = search;
        self.begin();
        self.gather();
    }

    /// By something else.
    pub(super) fn reorder(&mut self) {
        self.order = self.order.next();
        self.begin();
        self.gather();
    }

    /// The other way round.
    pub(super) fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
        self.begin();
        self.gather();
    }

    /// What was gathered for one search is good for the next; when it rests it need not.
    fn gather(&mut self) {
        self.gathered.rest = 0;
    }

    fn scroll(&mut self, down: bool, rows: usize, drops: &DropsSeen) {
        let Rows { above, found, .. } = self.rows(drops);
        let last = found.unwrap_or(0).saturating_sub(self.room);
        let above = if down { (above + rows).min(last) } else { above.saturating_sub(rows) };
        if above == self.gathered.above && rows > 1 {
            self.marked = if down { self.room.min(found.unwrap_or(0)).saturating_sub(1) } else { 0 };
        }
        self.gathered.above = above;
    }

    fn go_on(&mut self) -> bool {
        if self.sight.is_awaited {
            self.sight.turns += 1;
            return false;
        }
        let Some(next) = self.sight.next.take() else { return false };
        self.sight.before.push((self.sight.after.replace(next), self.sight.above));
        self.sight.above += self.sight.ports.len();
        self.sight.is_awaited = true;
        true
    }

    fn go_back(&mut self) -> bool {
        let Some(before) = self.sight.before.pop() else { return false };
        (self.sight.after, self.sight.above) = before;
        (self.sight.next, self.sight.is_awaited, self.sight.turns) = (None, true, 0);
        true
    }
}

/// What is in sight.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub(super) ports: Vec<&'a PortEntry>,
    /// Rows above them.
    pub(super) above: usize,
    /// How many were found, where they are gathered.
    pub(super) found: Option<usize>,
}
