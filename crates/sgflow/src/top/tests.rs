//! What stands on a terminal of 80 columns and 24 rows, and what keys do.

#[path = "../../tests/terminal/mod.rs"]
mod terminal;

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agent::api::{
    Changes, ClientError, Condition, Drift, DropSample, Drops, FaultDocument, GroupEntry, LatencyBucket,
    PageQuery, PortDrops, PortEntry, PortPage, PortState, ReasonDrops, SourceStatus, StageLatency, Status,
    Totals,
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use expect_test::{Expect, expect};
use policy::document;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;

use super::app::{App, View, Wish};
use super::ask::{Answers, Questions};
use super::draw::draw;
use super::screen::Screen;
use terminal::Pty;

/// What stands on a terminal of this size, without the spaces at the ends of lines. Behind a bar, where its edge is: an expectation that
/// is indented throughout would lose that.
fn screen(app: &App, size: Size) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.width, size.height)).expect("a terminal");
    terminal.draw(|frame| draw(app, frame)).expect("drawn");
    let cells = terminal.backend().buffer();
    let line = |row: u16| -> String { (0..size.width).map(|column| cells[(column, row)].symbol()).collect() };
    (0..size.height).map(|row| format!("|{}\n", line(row).trim_end())).collect()
}

fn check(app: &App, expected: &Expect) {
    expected.assert_eq(&screen(app, app.size));
}

/// Some of the rows.
fn check_rows(app: &App, rows: Range<usize>, expected: &Expect) {
    let shown = screen(app, app.size);
    let shown: String =
        shown.lines().skip(rows.start).take(rows.len()).map(|line| format!("{line}\n")).collect();
    expected.assert_eq(&shown);
}

fn latency(counts: [[u64; 4]; 3]) -> Vec<StageLatency> {
    let ends = [Some(500), Some(2_500), Some(1_000_000), None];
    let stage = |(stage, counts): (&str, [u64; 4])| {
        let buckets = ends.into_iter().zip(counts).map(|(most_us, count)| LatencyBucket { most_us, count });
        StageLatency {
            stage: stage.into(),
            count: counts.iter().sum(),
            sum_us: 0,
            buckets: buckets.collect(),
        }
    };
    ["rendered", "acknowledged", "applied"].into_iter().zip(counts).map(stage).collect()
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        firewall_driver: "openvswitch".into(),
        condition: Condition::Converged,
        waiting: None,
        faults: Vec::new(),
        enforced: Totals { ports: 3, sets: 2, flows: 131, flow_mods: 133 },
        refused: 0,
        changes: Changes {
            added: 131,
            modified: 2,
            bundles: 4,
            latency: latency([[4, 0, 0, 0], [1, 3, 0, 0], [0, 2, 2, 0]]),
            ..Changes::default()
        },
        drift: Drift::default(),
        source: SourceStatus {
            kind: "file".into(),
            changed: Some("2026-11-29T05:18:45Z".into()),
            ..SourceStatus::default()
        },
        kernel_sets: None,
        ids: [("set".into(), 2)].into(),
    }
}

/// Sixty flow-mods and a change later.
fn busy(mut status: Status) -> Status {
    status.changes.added += 60;
    status.changes.bundles += 2;
    status.changes.latency = latency([[5, 0, 0, 0], [1, 4, 0, 0], [0, 2, 2, 1]]);
    status
}

fn ports() -> Vec<PortEntry> {
    let port = |number: u32, state| PortEntry {
        interface: Some(format!("tap{number}")),
        mac: Some(format!("fa:16:3e:00:00:0{number}")),
        addresses: vec![format!("10.0.0.{number}")],
        groups: vec!["d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11".into(), "ssh".into()],
        ..PortEntry::new(&format!("1a2b3c4d-5e6f-4a7b-8c9d-00000000000{number}"), state)
    };
    let closed = PortEntry {
        reason: Some("no policy knows it".into()),
        groups: Vec::new(),
        ..port(2, PortState::Closed)
    };
    vec![port(1, PortState::Filtered), closed, port(3, PortState::Trusted)]
}

fn drops(packets: u64) -> Drops {
    let port = &ports()[0].id;
    let of_port =
        |reason: &str, packets| PortDrops { port: port.clone(), reason: reason.into(), packets, bytes: 0 };
    let of_bridge = |reason: &str, packets| ReasonDrops { reason: reason.into(), packets, bytes: 0 };
    let sample = |number: u64, time: &str, packet: &str| DropSample {
        number,
        time: format!("2026-11-29T{time}.120Z"),
        port: Some(port.clone()),
        interface: None,
        direction: Some("ingress".into()),
        reason: "no-rule".into(),
        packet: packet.into(),
    };
    Drops {
        since: "2026-11-29T05:00:00Z".into(),
        reasons: vec![of_bridge("spoofed-mac", 3), of_bridge("no-rule", packets), of_bridge("vlan", 0)],
        ports: vec![of_port("no-rule", packets), of_port("spoofed-mac", 3)],
        samples: vec![
            sample(1, "05:20:01", "tcp 10.0.0.9:40000 -> 10.0.0.1:22"),
            sample(2, "05:20:02", "tcp 10.0.0.9:40001 -> 10.0.0.1:22"),
            DropSample { port: None, direction: None, ..sample(3, "05:20:03", "ethertype 0x88cc") },
        ],
        sampled: 3,
        limited: 103,
        not_sampled: None,
    }
}

/// What a daemon answers that has these ports.
fn answer(questions: &Questions, status: Status, drops: Option<Drops>, ports: &[PortEntry]) -> Answers {
    let page = |query: &PageQuery| {
        let behind = ports.iter().filter(|port| query.after.as_ref().is_none_or(|after| port.id > *after));
        let mut page: Vec<PortEntry> = behind.take(query.room() + 1).cloned().collect();
        let has_more = page.len() > query.room();
        page.truncate(query.room());
        let next = page.last().filter(|_| has_more).map(|port| port.id.clone());
        Ok(PortPage { ports: page, next })
    };
    let one = |asked: &String| {
        let is = |port: &&PortEntry| port.id == *asked || port.interface.as_ref() == Some(asked);
        Ok(ports.iter().filter(is).cloned().collect())
    };
    let unknown = || ClientError::Refused {
        path: "/s".into(),
        code: "404".parse().expect("a code"),
        text: String::new(),
    };
    let text = "security_groups: [{id: d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11, name: web, security_group_rules: []}, {id: ssh, security_group_rules: []}]";
    let policy = document::parse(&[("p.yaml", text)], None).policy;
    let groups = policy.groups.values().map(|group| GroupEntry::of_security_group(group));
    let is_asked =
        |group: &GroupEntry| questions.groups.contains(&group.id) || questions.groups.contains(&group.name);
    Answers {
        status: questions.numbers.map(|_| Ok(status)),
        drops: questions.numbers.map(|_| drops.ok_or_else(unknown)),
        page: questions.page.as_ref().map(page),
        walk: questions.walk.as_ref().map(page),
        port: questions.port.as_ref().map(one),
        groups: groups.filter(is_asked).collect(),
    }
}

/// A daemon with these ports, and who looks at it.
struct Looked {
    app: App,
    status: Status,
    drops: Option<Drops>,
    ports: Vec<PortEntry>,
    second: u64,
    /// Ports that were told of, since the count was taken last.
    told: usize,
}

impl Looked {
    fn at(status: Status, ports: Vec<PortEntry>) -> Self {
        let mut app = App::new(Path::new("/run/sgflow/sgflow.sock"));
        app.resize(Size::new(80, 24));
        Looked { app, status, drops: None, ports, second: 0, told: 0 }
    }

    fn second(&mut self) {
        self.second += 1;
        self.app.tick(Duration::from_secs(self.second));
        self.exchange(self.app.questions());
    }

    fn exchange(&mut self, questions: Questions) {
        let answers = answer(&questions, self.status.clone(), self.drops.clone(), &self.ports);
        let pages = [&answers.page, &answers.walk];
        self.told += pages.into_iter().flatten().flatten().map(|page| page.ports.len()).sum::<usize>();
        if self.app.take(&questions, answers, Duration::from_secs(self.second)) == Wish::Ask {
            self.exchange(self.app.questions_of_list());
        }
    }

    fn key(&mut self, code: KeyCode) -> Wish {
        let wish = self.app.key(KeyEvent::new(code, KeyModifiers::NONE));
        if wish == Wish::Ask {
            self.exchange(self.app.questions_of_list());
        }
        wish
    }

    fn keys(&mut self, text: &str) {
        for letter in text.chars() {
            self.key(if letter == '\n' { KeyCode::Enter } else { KeyCode::Char(letter) });
        }
    }

    /// The ids of the ports in sight.
    fn in_sight(&self) -> Vec<&str> {
        self.app.list.rows(&self.app.drops).ports.iter().map(|port| port.id.as_str()).collect()
    }

    fn marked(&self) -> &str {
        self.in_sight()[self.app.list.marked]
    }
}

fn many(count: usize) -> Vec<PortEntry> {
    let port = |number| PortEntry {
        interface: Some(format!("tap{number:04}")),
        groups: vec![if number % 10 == 7 { "database" } else { "web" }.into()],
        ..PortEntry::new(&format!("p-{number:04}"), PortState::Filtered)
    };
    (0..count).map(port).collect()
}

#[test]
fn converged() {
    let mut looked = Looked::at(status(), ports());
    check(
        &looked.app,
        &expect![[r#"
            | asking the agent at /run/sgflow/sgflow.sock …
            |
            |
            |
            | flow-mods/s -       bundles/s -      changes, since begin count    half    99 %
            |
            |
            |
            | ports, by id ──────────────────────────────────────────────────────────────────
            | none
            |
            |
            |
            |
            |
            |
            |
            |
            | drops ─────────────────────────────────────────────────────────────────────────
            |
            |
            |
            |
            | q quit   ? help   / search   s order   r reverse   Enter port   f faults
        "#]],
    );
    looked.drops = Some(drops(100));
    looked.second();
    looked.status = busy(status());
    looked.drops = Some(drops(120));
    looked.second();
    check(
        &looked.app,
        &expect![[r#"
            | CONVERGED for 1 s at least                           openvswitch, sgflow 0.1.0
            | source file, changed 2026-11-29T05:18:45Z, followed
            | 3 ports, 2 sets, 131 flows; no drift
            | no faults
            | flow-mods/s 60      bundles/s 2.0    changes, last minute count    half    99 %
            |                                   █    rendered               1 ≤0.5 ms ≤0.5 ms
            |                                   █    acknowledged           1 ≤2.5 ms ≤2.5 ms
            | 193 in 6 bundles; at most 60/s         applied                1  longer  longer
            | ports 1–3 of 3, by id ─────────────────────────────────────────────────────────
            | PORT                INTERFACE       GROUPS, OR WHY    STATE      DROPS/S  DROPS
            | 1a2b3c4d-5e6f-4a7b… tap1            web, ssh          filtered        20    123
            | 1a2b3c4d-5e6f-4a7b… tap2            no policy knows i closed           0      0
            | 1a2b3c4d-5e6f-4a7b… tap3            web, ssh          trusted          0      0
            |
            |
            |
            |
            |
            | drops 20/s, 123 since 2026-11-29T05:00:00Z; 103 of them in no sample ──────────
            | no-rule 120, 20/s   spoofed-mac 3
            | 05:20:03 -               -       no-rule ethertype 0x88cc
            | 05:20:02 1a2b3c4d-5e6f-… ingress no-rule tcp 10.0.0.9:40001 -> 10.0.0.1:22
            | 05:20:01 1a2b3c4d-5e6f-… ingress no-rule tcp 10.0.0.9:40000 -> 10.0.0.1:22
            | q quit   ? help   / search   s order   r reverse   Enter port   f faults
        "#]],
    );
}

/// The page has a picture of it.
#[test]
fn the_page_shows_what_is_drawn() {
    const PAGE: &str = "../../docs/operations/top.md";
    let mut looked = Looked::at(status(), ports());
    looked.drops = Some(drops(100));
    looked.second();
    looked.status = busy(status());
    looked.drops = Some(drops(120));
    looked.second();
    let picture: String =
        screen(&looked.app, looked.app.size).lines().map(|line| line[1..].to_owned() + "\n").collect();
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let (before, rest) = page.split_once("```text\n").expect("a picture");
    let (_, after) = rest.split_once("```").expect("its end");
    let drawn = format!("{before}```text\n{picture}```{after}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(PAGE, &drawn).expect("the page");
    }
    assert!(page == drawn, "docs/operations/top.md shows another picture: UPDATE_EXPECT=1 draws it");
}

#[test]
fn degraded_with_faults() {
    let fault = |object: &str, reason: &str, effect: &str| FaultDocument {
        object: object.into(),
        reason: reason.into(),
        effect: effect.into(),
    };
    let mut looked = Looked::at(status(), ports());
    looked.second();
    looked.status.condition = Condition::Degraded;
    looked.status.refused = 1;
    looked.status.drift = Drift { mended: 3, last: Some("2026-11-29T05:20:02Z".into()) };
    looked.status.source =
        SourceStatus { kind: "store".into(), lag_s: 7, sequence: Some(41), ..SourceStatus::default() };
    looked.status.faults = vec![
        fault("port p-2", "no policy knows it", "closed"),
        fault(
            "bridge br-int",
            "2 of others stand among or before ours, such as priority=0 actions=NORMAL",
            "open",
        ),
    ];
    looked.second();
    looked.second();
    check(
        &looked.app,
        &expect![[r#"
            | DEGRADED for 1 s                                     openvswitch, sgflow 0.1.0
            | source store, change 41; not followed for 7 s
            | 3 ports, 2 sets, 131 flows; 1 refused; drift 3, last 2026-11-29T05:20:02Z
            | 2 faults (f); open bridge br-int: 2 of others stand among or before ours, such
            | flow-mods/s 0       bundles/s 0      changes, since begin count    half    99 %
            |                                        rendered               4 ≤0.5 ms ≤0.5 ms
            |                                        acknowledged           4 ≤2.5 ms ≤2.5 ms
            | 133 in 4 bundles                       applied                4 ≤2.5 ms    ≤1 s
            | ports 1–3 of 3, by id ─────────────────────────────────────────────────────────
            | PORT                INTERFACE       GROUPS, OR WHY    STATE      DROPS/S  DROPS
            | 1a2b3c4d-5e6f-4a7b… tap1            web, ssh          filtered         -      -
            | 1a2b3c4d-5e6f-4a7b… tap2            no policy knows i closed           -      -
            | 1a2b3c4d-5e6f-4a7b… tap3            web, ssh          trusted          -      -
            |
            |
            |
            |
            |
            | drops ─────────────────────────────────────────────────────────────────────────
            | this agent does not tell of drops
            |
            |
            |
            | q quit   ? help   / search   s order   r reverse   Enter port   f faults
        "#]],
    );
    looked.keys("f");
    check(
        &looked.app,
        &expect![[r#"
            | faults, from 1 of 2 ───────────────────────────────────────────────────────────
            |  closed   port p-2: no policy knows it
            |  open     bridge br-int: 2 of others stand among or before ours, such as
            |           priority=0 actions=NORMAL
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            | Esc back   ↑ ↓ scroll   ? help
        "#]],
    );
    looked.key(KeyCode::Down);
    looked.key(KeyCode::Down);
    assert_eq!(looked.app.view, View::Faults(1), "the last one stays in sight");
    looked.key(KeyCode::Esc);
    assert_eq!(looked.app.view, View::Ports);
}

#[test]
fn disconnected() {
    let unreachable = || ClientError::Unreachable {
        path: "/run/sgflow/sgflow.sock".into(),
        reason: std::io::Error::from(std::io::ErrorKind::NotFound),
    };
    let lost = |looked: &mut Looked, second| {
        let answers = Answers { status: Some(Err(unreachable())), ..Answers::default() };
        looked.app.take(&Questions::default(), answers, Duration::from_secs(second));
    };
    let mut looked = Looked::at(status(), ports());
    lost(&mut looked, 1);
    check(
        &looked.app,
        &expect![[r#"
            | NO ANSWER for 0 s, asked again each second
            | no sgflow agent answers at /run/sgflow/sgflow.sock: entity not found
            |
            |
            | flow-mods/s -       bundles/s -      changes, since begin count    half    99 %
            |
            |
            |
            | ports, by id ──────────────────────────────────────────────────────────────────
            | none
            |
            |
            |
            |
            |
            |
            |
            |
            | drops ─────────────────────────────────────────────────────────────────────────
            |
            |
            |
            |
            | q quit   ? help   / search   s order   r reverse   Enter port   f faults
        "#]],
    );
    looked.second = 1;
    looked.status.condition = Condition::Disconnected;
    looked.status.waiting = Some("a bridge called br-int".into());
    looked.second();
    check_rows(
        &looked.app,
        0..12,
        &expect![[r#"
        | DISCONNECTED for 0 s at least                        openvswitch, sgflow 0.1.0
        | source file, changed 2026-11-29T05:18:45Z, followed
        | 3 ports, 2 sets, 131 flows; no drift
        | waiting for a bridge called br-int
        | flow-mods/s -       bundles/s -      changes, since begin count    half    99 %
        |                                        rendered               4 ≤0.5 ms ≤0.5 ms
        |                                        acknowledged           4 ≤2.5 ms ≤2.5 ms
        | 133 in 4 bundles                       applied                4 ≤2.5 ms    ≤1 s
        | ports 1–3 of 3, by id ─────────────────────────────────────────────────────────
        | PORT                INTERFACE       GROUPS, OR WHY    STATE      DROPS/S  DROPS
        | 1a2b3c4d-5e6f-4a7b… tap1            d9d9fd5a-5f23-4d4 filtered         -      -
        | 1a2b3c4d-5e6f-4a7b… tap2            no policy knows i closed           -      -
    "#]],
    );
    lost(&mut looked, 5);
    lost(&mut looked, 17);
    check_rows(
        &looked.app,
        0..12,
        &expect![[r#"
        | NO ANSWER for 12 s, asked again each second; what stands below is from before
        | no sgflow agent answers at /run/sgflow/sgflow.sock: entity not found
        |
        |
        | flow-mods/s -       bundles/s -      changes, since begin count    half    99 %
        |                                        rendered               4 ≤0.5 ms ≤0.5 ms
        |                                        acknowledged           4 ≤2.5 ms ≤2.5 ms
        | 133 in 4 bundles                       applied                4 ≤2.5 ms    ≤1 s
        | ports 1–3 of 3, by id ─────────────────────────────────────────────────────────
        | PORT                INTERFACE       GROUPS, OR WHY    STATE      DROPS/S  DROPS
        | 1a2b3c4d-5e6f-4a7b… tap1            d9d9fd5a-5f23-4d4 filtered         -      -
        | 1a2b3c4d-5e6f-4a7b… tap2            no policy knows i closed           -      -
    "#]],
    );
    looked.keys("?");
    assert!(screen(&looked.app, looked.app.size).contains("the agent does not answer"));
    looked.keys("q");
    looked.second = 17;
    looked.second();
    assert!(!screen(&looked.app, looked.app.size).contains("ANSWER"), "it is back");
}

#[test]
fn of_five_thousand_ports_the_page_in_sight_is_read() {
    let mut looked = Looked::at(status(), many(5000));
    looked.status.enforced.ports = 5000;
    for _ in 0..10 {
        looked.second();
    }
    let rows = looked.in_sight().len();
    assert_eq!((rows, looked.told), (8, 80), "eight ports a second");
    looked.key(KeyCode::PageDown);
    looked.key(KeyCode::PageDown);
    looked.key(KeyCode::Down);
    check(
        &looked.app,
        &expect![[r#"
            | CONVERGED for 9 s at least                           openvswitch, sgflow 0.1.0
            | source file, changed 2026-11-29T05:18:45Z, followed
            | 5000 ports, 2 sets, 131 flows; no drift
            | no faults
            | flow-mods/s 0       bundles/s 0      changes, since begin count    half    99 %
            |                                        rendered               4 ≤0.5 ms ≤0.5 ms
            |                                        acknowledged           4 ≤2.5 ms ≤2.5 ms
            | 133 in 4 bundles                       applied                4 ≤2.5 ms    ≤1 s
            | ports 17–24 of 5000, by id ────────────────────────────────────────────────────
            | PORT                INTERFACE       GROUPS, OR WHY    STATE      DROPS/S  DROPS
            | p-0016              tap0016         web               filtered         -      -
            | p-0017              tap0017         database          filtered         -      -
            | p-0018              tap0018         web               filtered         -      -
            | p-0019              tap0019         web               filtered         -      -
            | p-0020              tap0020         web               filtered         -      -
            | p-0021              tap0021         web               filtered         -      -
            | p-0022              tap0022         web               filtered         -      -
            | p-0023              tap0023         web               filtered         -      -
            | drops ─────────────────────────────────────────────────────────────────────────
            | this agent does not tell of drops
            |
            |
            |
            | q quit   ? help   / search   s order   r reverse   Enter port   f faults
        "#]],
    );
    for _ in 0..7 {
        looked.key(KeyCode::Down);
    }
    assert_eq!(looked.marked(), "p-0024", "a step leads to the next page");
    looked.key(KeyCode::Up);
    assert_eq!(looked.marked(), "p-0023", "and back");
    looked.key(KeyCode::PageUp);
    looked.key(KeyCode::PageUp);
    looked.key(KeyCode::PageUp);
    assert_eq!(looked.marked(), "p-0000");
    looked.told = 0;
    looked.app.resize(Size::new(200, 60));
    looked.second();
    assert_eq!(looked.told, looked.in_sight().len(), "what a larger terminal shows");
    assert!(looked.told > 30, "{}", looked.told);
}

#[test]
fn a_search_shows_at_once_what_is_named_and_gathers_the_rest() {
    let mut looked = Looked::at(status(), many(5000));
    looked.status.enforced.ports = 5000;
    looked.second();
    looked.keys("/tap4321");
    check_rows(
        &looked.app,
        22..24,
        &expect![[r#"
        |
        |/tap4321                                              Enter looks, Esc does not
    "#]],
    );
    looked.keys("\n");
    assert_eq!(looked.in_sight(), ["p-4321"], "though it is far from the begin");
    looked.keys("/");
    for _ in "tap4321".chars() {
        looked.key(KeyCode::Backspace);
    }
    looked.keys("DataBase\n");
    looked.second();
    check_rows(
        &looked.app,
        8..20,
        &expect![[r#"
        | ports with "DataBase" 1–8 of 307, by id; 3072 looked at ───────────────────────
        | PORT                INTERFACE       GROUPS, OR WHY    STATE      DROPS/S  DROPS
        | p-0007              tap0007         database          filtered         -      -
        | p-0017              tap0017         database          filtered         -      -
        | p-0027              tap0027         database          filtered         -      -
        | p-0037              tap0037         database          filtered         -      -
        | p-0047              tap0047         database          filtered         -      -
        | p-0057              tap0057         database          filtered         -      -
        | p-0067              tap0067         database          filtered         -      -
        | p-0077              tap0077         database          filtered         -      -
        | drops ─────────────────────────────────────────────────────────────────────────
        | this agent does not tell of drops
    "#]],
    );
    looked.told = 0;
    for _ in 0..10 {
        looked.second();
    }
    assert!(looked.told <= 5000, "{} ports: gathered once, and then it rests", looked.told);
    let shown = screen(&looked.app, looked.app.size);
    assert!(shown.contains("ports with \"DataBase\" 1–8 of 500, by id"), "{shown}");
    looked.key(KeyCode::PageDown);
    assert_eq!(looked.in_sight()[0], "p-0087");
    looked.keys("/");
    for _ in 0..8 {
        looked.key(KeyCode::Backspace);
    }
    looked.keys("nowhere\n");
    check_rows(
        &looked.app,
        8..12,
        &expect![[r#"
        | ports with "nowhere", by id ───────────────────────────────────────────────────
        | none; Esc lists all
        |
        |
    "#]],
    );
    looked.key(KeyCode::Esc);
    assert_eq!(looked.in_sight()[0], "p-0000");
}

#[test]
fn ports_are_found_by_the_name_of_a_group() {
    let mut looked = Looked::at(status(), ports());
    // Not in sight, so that nobody has asked for the names of its groups.
    looked.app.key(KeyEvent::new(KeyCode::Char('/'), KeyModifiers::NONE));
    looked.keys("web\n");
    looked.second();
    assert_eq!(looked.in_sight(), [ports()[0].id.as_str(), ports()[2].id.as_str()]);
}

#[test]
fn keys_are_not_lost_while_a_page_is_awaited() {
    let mut looked = Looked::at(status(), many(100));
    looked.second();
    let next = KeyEvent::new(KeyCode::PageDown, KeyModifiers::NONE);
    for _ in 0..3 {
        looked.app.key(next);
    }
    looked.exchange(looked.app.questions_of_list());
    assert_eq!(looked.in_sight()[0], "p-0024", "three pages on");
    for _ in 0..50 {
        looked.app.key(next);
    }
    looked.exchange(looked.app.questions_of_list());
    assert_eq!(looked.in_sight(), ["p-0096", "p-0097", "p-0098", "p-0099"], "and no further than there are");
    looked.key(KeyCode::PageUp);
    assert_eq!(looked.in_sight()[0], "p-0088");
    for _ in 0..30 {
        looked.app.key(KeyEvent::new(KeyCode::Up, KeyModifiers::NONE));
    }
    looked.exchange(looked.app.questions_of_list());
    assert_eq!(looked.marked(), "p-0058", "thirty up");
}

#[test]
fn ports_are_listed_by_drops_and_by_state() {
    let mut looked = Looked::at(status(), many(30));
    looked.ports[17].state = PortState::Unfiltered;
    let of =
        |port: &str, packets| PortDrops { port: port.into(), reason: "no-rule".into(), packets, bytes: 0 };
    looked.drops = Some(Drops { ports: vec![of("p-0020", 9), of("p-0025", 90)], ..drops(99) });
    looked.second();
    looked.drops = Some(Drops { ports: vec![of("p-0020", 19), of("p-0025", 90)], ..drops(109) });
    looked.second();
    looked.keys("s");
    assert_eq!(looked.in_sight()[..2], ["p-0020", "p-0025"], "by drops/s");
    looked.keys("s");
    assert_eq!(looked.in_sight()[..2], ["p-0025", "p-0020"], "by drops");
    looked.keys("s");
    assert_eq!(looked.in_sight()[0], "p-0017", "what is not filtered first");
    looked.keys("s");
    looked.keys("r");
    assert_eq!(looked.in_sight()[0], "p-0029", "by interface, reversed");
    looked.keys("sr");
    assert_eq!(looked.in_sight()[0], "p-0000");
    assert!(!looked.app.list.is_gathered());
}

#[test]
fn a_port_alone() {
    let mut looked = Looked::at(status(), ports());
    looked.drops = Some(drops(100));
    looked.second();
    looked.keys("\n");
    looked.second();
    check(
        &looked.app,
        &expect![[r#"
            | port 1a2b3c4d-5e6f-4a7b-8c9d-000000000001 ─────────────────────────────────────
            |  state       filtered
            |  interface   tap1
            |  MAC         fa:16:3e:00:00:01
            |  addresses   10.0.0.1
            |  groups      web, ssh
            |
            |  drops       no-rule 100   spoofed-mac 3
            | 05:20:02 ingress no-rule tcp 10.0.0.9:40001 -> 10.0.0.1:22
            | 05:20:01 ingress no-rule tcp 10.0.0.9:40000 -> 10.0.0.1:22
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            |
            | Esc back   f faults   ? help
        "#]],
    );
    let id = looked.ports.remove(0).id;
    looked.second();
    assert!(
        screen(&looked.app, looked.app.size)
            .contains("no interface of the bridge says that it is this port any more")
    );
    assert_eq!(looked.app.view, View::Port(id));
    looked.keys("q");
    assert_eq!(looked.app.view, View::Ports, "q leaves the page, not the program");
}

#[test]
fn help_and_the_end() {
    let mut looked = Looked::at(status(), ports());
    looked.keys("?");
    check(
        &looked.app,
        &expect![[r#"
            | keys ──────────────────────────────────────────────────────────────────────────
            |  ↑ ↓  k j   one port up, down
            |  PgUp PgDn  one page (also b and the space bar)
            |  Home  g    to the first port
            |  /          look for part of an id, interface, address, MAC, group, state
            |  Esc        all ports again; back from a page
            |  s          order: id, drops/s, drops, state, interface
            |  r          the other way round
            |  Enter      all that is known of the marked port, and what it is denied
            |  f          faults: what is not as the policy wants
            |  q  Ctrl-C  quit
            |
            |  A search, and any other order than id, reads all ports once, a page a second.
            |  changes: from what happened to what is to be sent (rendered), to what the
            |  switch has taken (acknowledged), to its caches (applied): half, and 99 of a
            |  hundred, took no longer. The same as text: sgflow status, sgflow ports.
            |
            |
            |
            |
            |
            |
            |
            | Esc back   f faults   ? help
        "#]],
    );
    looked.key(KeyCode::Esc);
    looked.keys("/q");
    assert_eq!(looked.app.typed.as_deref(), Some("q"), "a letter to look for");
    looked.key(KeyCode::Esc);
    assert_eq!(looked.key(KeyCode::Char('q')), Wish::Quit);
    looked.keys("?");
    assert_eq!(looked.app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
}

/// Nothing is drawn beyond a terminal, however small, and on every page.
#[test]
fn every_size_is_drawn() {
    let mut looked = Looked::at(busy(status()), ports());
    looked.drops = Some(drops(100));
    looked.second();
    for view in [View::Ports, View::Port(looked.ports[0].id.clone()), View::Faults(0), View::Help] {
        looked.app.view = view;
        for (width, height) in [(1, 1), (20, 5), (60, 18), (61, 19), (100, 30), (300, 100)] {
            looked.app.resize(Size::new(width, height));
            screen(&looked.app, looked.app.size);
        }
    }
    looked.app.resize(Size::new(50, 10));
    looked.app.view = View::Ports;
    assert!(screen(&looked.app, looked.app.size).starts_with("|This terminal has 50 columns and 10 rows;"));
}

#[test]
#[ignore = "run by the test below, on a terminal"]
fn panics_on_a_terminal() {
    let mut screen = Screen::take().expect("a terminal");
    screen.draw(&App::new(Path::new("/run/sgflow/sgflow.sock"))).expect("drawn");
    panic!("for a reason");
}

#[test]
fn a_panic_is_read_on_a_terminal_that_is_as_it_was() {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "top::tests::panics_on_a_terminal", "--ignored", "--nocapture"]);
    // The reason is to stay in sight.
    command.env("RUST_BACKTRACE", "0");
    let mut pty = Pty::run(&command, 24, 80);
    assert!(!pty.wait().success());
    pty.is_given_back();
    let screen = pty.screen();
    assert!(screen.contains("for a reason"), "{screen}");
}
