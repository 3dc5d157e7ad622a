//! Saved dumps: what `ovs-ofctl dump-flows` prints in any version of OpenFlow, with and without names and statistics, and
//! what `ovs-appctl bridge/dump-flows` prints.
//!
//! With `--names` interfaces stand in place of numbers, and a dump says of some which number they have: the flow that
//! takes their frames loads it into `reg5`, in our tables as in Neutron's. An interface of which it does not say so gets a
//! number that no other port of the dump has, and that is shown to nobody ([`Dump::interfaces`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use pipeline::TABLE_PREFIXES;
use rust_openflow::{Action, Field, Flow, FlowStats, PortNo};

use super::look::{loads, whole};

/// The first number above those that ovs-vswitchd gives to ports (`OFPP_MAX` of OpenFlow 1.0).
const BEYOND_PORTS: u16 = 0xff00;
/// Table 254 is ovs-vswitchd's own (ofproto/ofproto-provider.h: `TBL_INTERNAL`); `bridge/dump-flows` shows it.
const INTERNAL: &str = "table_id=254,";

/// A dump, line by line.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// The flows, in the order of the lines.
    pub flows: Vec<Line>,
    /// Lines that are no flows that can be read.
    pub unread: Vec<Unread>,
    /// Interfaces by port number, where the dump has names.
    pub interfaces: BTreeMap<u16, NamedPort>,
}

/// A flow, and where it came from.
#[derive(Clone, Debug)]
pub struct Line {
    /// The line, from 1; without a dump, the place in the order in which the switch told of it.
    pub number: usize,
    /// As it stood there.
    pub text: String,
    /// What it says; of a flow that cannot be put in place (table 254), nothing.
    pub flow: Flow,
    /// Its counters, where they stand there.
    pub counters: Option<FlowStats>,
    /// Whether its cookie stands there. Without one nobody can say whose it is but by its table.
    pub has_cookie: bool,
    /// Whether ovs-vswitchd keeps it for itself.
    pub is_internal: bool,
}

/// A line that is no flow, or not one that can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    /// The line, from 1.
    pub number: usize,
    /// As it stood there.
    pub text: String,
    /// Why it cannot be read.
    pub reason: String,
}

/// An interface that a dump names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Whether its number is told anywhere; else it is made up.
    pub has_number: bool,
}

impl Dump {
    /// Reads the text of a dump. Headers of replies, blank lines and comments (`#`) are no flows, and nothing is said of
    /// them; any other line that is none is in [`Dump::unread`].
    #[must_use]
    pub fn read(text: &str) -> Dump {
        let lines: Vec<(usize, &str)> =
            text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())).collect();
        let numbers = Interfaces::of(lines.iter().map(|(_, line)| *line));
        let mut dump = Dump::default();
        for (number, line) in lines {
            if line.is_empty() || line.starts_with('#') || is_header(line) {
                continue;
            }
            match read_line(number, line, &numbers) {
                Ok(line) => dump.flows.push(line),
                Err(reason) => dump.unread.push(Unread { number, text: line.to_owned(), reason }),
            }
        }
        dump.interfaces = numbers.named();
        dump
    }
}

impl Line {
    /// A flow as the switch itself tells it.
    #[must_use]
    pub fn of(number: usize, flow: Flow, counters: FlowStats) -> Line {
        let flow = flow.canonical();
        let text = flow.to_string();
        Line { number, text, flow, counters: Some(counters), has_cookie: true, is_internal: false }
    }
}

/// `NXST_FLOW reply (xid=0x4):` and `OFPST_FLOW reply (OF1.3) (xid=0x2):`, which say nothing of any flow.
fn is_header(line: &str) -> bool {
    line.contains("_FLOW reply") && line.ends_with(':')
}

fn read_line(number: usize, line: &str, numbers: &Interfaces) -> Result<Line, String> {
    if line.starts_with(INTERNAL) {
        let flow = Flow::new(254, 0, rust_openflow::Match::new(), Vec::new());
        let counters = Some(counters_of(line));
        return Ok(Line {
            number,
            text: line.to_owned(),
            flow,
            counters,
            has_cookie: false,
            is_internal: true,
        });
    }
    if !line.contains("actions=") {
        return Err("not a flow: it has no actions".to_owned());
    }
    let plain = numbers.in_place_of_names(line);
    let plain = match plain.strip_prefix("table_id=") {
        Some(rest) => format!("table={rest}").into(),
        None => plain,
    };
    let (flow, stats) = Flow::parse_with_stats(&plain).map_err(|error| error.to_string())?;
    let counters = line.contains("n_packets=").then_some(stats);
    let has_cookie = line.contains("cookie=");
    Ok(Line {
        number,
        text: line.to_owned(),
        flow: flow.canonical(),
        counters,
        has_cookie,
        is_internal: false,
    })
}

/// Of a line whose match this crate has no business with.
fn counters_of(line: &str) -> FlowStats {
    let number = |key: &str| {
        let (_, rest) = line.split_once(key)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    FlowStats {
        packets: number("n_packets=").unwrap_or_default(),
        bytes: number("n_bytes=").unwrap_or_default(),
        ..FlowStats::default()
    }
}

/// Numbers for the interfaces that a dump names.
struct Interfaces {
    numbers: BTreeMap<String, u16>,
    made_up: BTreeSet<u16>,
}

impl Interfaces {
    fn of<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Self {
        let names: BTreeSet<&str> = lines.clone().flat_map(names_in).map(|(_, name)| name).collect();
        let mut guess = Interfaces { numbers: BTreeMap::new(), made_up: BTreeSet::new() };
        if names.is_empty() {
            return guess;
        }
        // First all are made up; then what the flows say of them takes their place.
        let made_up = (1..BEYOND_PORTS).rev().zip(&names).map(|(number, name)| ((*name).to_owned(), number));
        guess.numbers = made_up.collect();
        let by_number: BTreeMap<u16, &str> =
            guess.numbers.iter().map(|(name, number)| (*number, name.as_str())).collect();
        let mut told: BTreeMap<String, u16> = BTreeMap::new();
        for line in lines {
            let Ok((flow, _)) = Flow::parse_with_stats(&guess.in_place_of_names(line)) else { continue };
            let flow = flow.canonical();
            if let Some((port, number)) = told_by(&flow)
                && let Some(name) = by_number.get(&port)
            {
                told.insert((*name).to_owned(), number);
            }
        }
        guess.made_up =
            names.iter().filter(|name| !told.contains_key(**name)).map(|name| guess.numbers[*name]).collect();
        guess.numbers.extend(told);
        guess
    }

    fn named(self) -> BTreeMap<u16, NamedPort> {
        let Interfaces { numbers, made_up } = self;
        let named = |(name, number): (String, u16)| {
            (number, NamedPort { name, has_number: !made_up.contains(&number) })
        };
        numbers.into_iter().map(named).collect()
    }

    /// The line with numbers for interfaces, and for our tables where those are named.
    fn in_place_of_names<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let mut plain = String::new();
        let mut rest_at = 0;
        for (at, name) in names_in(line) {
            let Some(number) = self.numbers.get(name) else { continue };
            // The quotes, if there are any, go as well.
            let quotes = usize::from(line[..at].ends_with('"'));
            plain += &line[rest_at..at - quotes];
            plain += &number.to_string();
            rest_at = at + name.len() + quotes;
        }
        plain += &line[rest_at..];
        let plain = if rest_at == 0 { Cow::Borrowed(line) } else { Cow::Owned(plain) };
        without_old_actions(without_table_names(plain))
    }
}

/// Which number the port of this number has, as far as the flow says so.
fn told_by(flow: &Flow) -> Option<(u16, u16)> {
    let small = |number: u128| u16::try_from(number).ok();
    let port = Field::Reg(5);
    let from = whole(&flow.matches, Field::InPort).and_then(small);
    let matched = whole(&flow.matches, port).and_then(small);
    if let (Some(from), Some(number)) = (from, matched) {
        return Some((from, number));
    }
    if let Some(from) = from {
        return loads(&flow.actions, port).and_then(small).map(|number| (from, number));
    }
    let to = flow.actions.iter().find_map(|action| match action {
        Action::Output(PortNo(to)) => u16::try_from(*to).ok(),
        _ => None,
    });
    to.zip(matched)
}

/// The names of interfaces in a line, and where each stands: `in_port="tap-a"`, `output:vm1`, `resubmit("a",2)`.
fn names_in(line: &str) -> impl Iterator<Item = (usize, &str)> + Clone {
    const BEFORE: [&str; 4] = ["in_port=", "output:", "resubmit(", "port="];
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = line.get(from..)?;
            let (at, word) = BEFORE
                .iter()
                .filter_map(|word| Some((rest.find(word)?, *word)))
                .min_by_key(|(at, word)| (*at, word.len()))?;
            let start = from + at + word.len();
            from = start;
            let value = &line[start..];
            if let Some(quoted) = value.strip_prefix('"') {
                let name = &quoted[..quoted.find('"')?];
                from = start + name.len() + 2;
                return Some((start + 1, name));
            }
            let end = value.find([',', ' ', ')', '\t']).unwrap_or(value.len());
            let name = &value[..end];
            from = start + end;
            let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            // No field, as in `output:NXM_NX_REG5[]`, no number and no reserved port.
            if is_word && name.starts_with(|c: char| c.is_ascii_alphabetic()) && PortNo::parse(name).is_err()
            {
                return Some((start, name));
            }
        }
    })
}

/// Tables of ours in place of the names that they have in the database (`Flow_Table`, column `name`). Those hold a hyphen, so
/// that they are quoted wherever they stand.
fn without_table_names(line: Cow<'_, str>) -> Cow<'_, str> {
    let mut line = line;
    for (number, name, _) in TABLE_PREFIXES {
        let quoted = format!("\"{name}\"");
        if line.contains(&quoted) {
            line = line.replace(&quoted, &number.to_string()).into();
        }
    }
    line
}

/// Actions of OpenFlow 1.0 in the words of later versions. What is lost is that `mod_vlan_vid` also adds a tag where there is
/// none (ovs-actions(7)), which makes no other flow of it.
fn without_old_actions(line: Cow<'_, str>) -> Cow<'_, str> {
    const OLD: [(&str, &str, &str); 7] = [
        ("mod_vlan_vid:", "set_vlan_vid:", ""),
        ("mod_vlan_pcp:", "set_vlan_pcp:", ""),
        ("mod_dl_src:", "set_field:", "->eth_src"),
        ("mod_dl_dst:", "set_field:", "->eth_dst"),
        ("mod_nw_src:", "set_field:", "->ip_src"),
        ("mod_nw_dst:", "set_field:", "->ip_dst"),
        ("set_tunnel:", "set_field:", "->tun_id"),
    ];
    let mut line = line;
    for (old, new, tail) in OLD {
        while let Some(at) = line.find(old) {
            let value = at + old.len();
            let end = line[value..].find([',', ')', ' ']).map_or(line.len(), |length| value + length);
            line = format!("{}{new}{}{tail}{}", &line[..at], &line[value..end], &line[end..]).into();
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Line {
        let dump = Dump::read(text);
        assert_eq!(dump.unread, []);
        dump.flows.into_iter().next().expect("a flow")
    }

    #[test]
    fn every_form_of_a_line_is_the_same_flow() {
        let forms = [
            " cookie=0x7, duration=1.5s, table=60, n_packets=3, n_bytes=4, priority=1,in_port=2 actions=resubmit(,71)",
            " cookie=0x7, duration=1.5s, table=60, n_packets=3, n_bytes=4, idle_age=5, hard_age=9, priority=1,in_port=2 actions=resubmit(,71)",
            " cookie=0x7, duration=1.5s, table=60, n_packets=3, n_bytes=4, reset_counts priority=1,in_port=2 actions=resubmit(,71)",
            "cookie=0x7, table=60, priority=1,in_port=2 actions=resubmit(,71)",
            "table_id=60, duration=1s, n_packets=3, n_bytes=4, priority=1,in_port=2,actions=resubmit(,71)",
        ];
        let keys: BTreeSet<_> = forms.map(|form| only(form).flow.key()).into();
        assert_eq!(keys.len(), 1);
        assert_eq!(
            forms.map(|form| only(form).counters.map(|counters| counters.packets)),
            [Some(3), Some(3), Some(3), None, Some(3)]
        );
        assert_eq!(forms.map(|form| only(form).has_cookie), [true, true, true, true, false]);
    }

    #[test]
    fn headers_and_comments_are_no_flows_and_nothing_else_is_lost() {
        let dump = Dump::read(
            "NXST_FLOW reply (xid=0x4):\n\n# saved at three\n$ ovs-ofctl dump-flows br-int\ntable=1 actions=fly\nOFPST_FLOW reply (OF1.3) (xid=0x2):\n",
        );
        let unread: Vec<_> = dump.unread.iter().map(|line| (line.number, line.reason.as_str())).collect();
        assert_eq!(unread, [(4, "not a flow: it has no actions"), (5, "action 'fly': unknown action")]);
        assert!(dump.flows.is_empty());
    }

    #[test]
    fn interfaces_have_the_numbers_that_the_flows_tell() {
        let text = "\
            table=60, priority=100,in_port=\"tap-a\" actions=set_field:0x4->reg5,resubmit(,71)\n\
            table=82, priority=77,reg5=0x7 actions=output:vm1\n\
            table=0, priority=2,in_port=\"int-br-phys\" actions=drop\n\
            table=71, reg5=0x4,in_port=\"tap-a\" actions=output:NXM_NX_REG5[],resubmit(\"int-br-phys\",3),LOCAL\n";
        let dump = Dump::read(text);
        assert_eq!(dump.unread, []);
        let named: Vec<_> =
            dump.interfaces.values().map(|port| (port.name.as_str(), port.has_number)).collect();
        assert_eq!(named, [("tap-a", true), ("vm1", true), ("int-br-phys", false)]);
        assert_eq!(dump.interfaces.keys().take(2).copied().collect::<Vec<_>>(), [4, 7]);
    }

    #[test]
    fn tables_of_ours_may_go_by_their_names() {
        let line = only(
            "table=\"sgflow-egress-packet\", priority=1,ip actions=ct(table=\"sgflow-ingress-policy\",zone=1),resubmit(,\"sgflow-egress-policy\")",
        );
        assert_eq!(line.flow.table, 104);
        assert_eq!(line.flow.actions.last(), Some(&Action::resubmit(106)));
    }

    #[test]
    fn actions_of_openflow_1_0_are_read() {
        let line = only(
            "priority=20,dl_vlan=2 actions=mod_dl_src:fa:16:3e:00:00:01,mod_vlan_vid:11,set_tunnel:0x7,resubmit(,60)",
        );
        let now = "set_field:fa:16:3e:00:00:01->eth_src,set_vlan_vid:11,set_field:0x7->tun_id,resubmit(,60)";
        assert_eq!(Action::print_list(&line.flow.actions), now);
        assert!(line.text.contains("mod_vlan_vid"), "as it stood there");
    }

    #[test]
    fn what_ovs_vswitchd_keeps_for_itself_is_known_as_such() {
        let line =
            only("table_id=254, duration=4s, n_packets=8, n_bytes=9, priority=2,recirc_id=0,actions=drop");
        assert!(line.is_internal);
        assert_eq!(line.counters.map(|counters| (counters.packets, counters.bytes)), Some((8, 9)));
    }
}
