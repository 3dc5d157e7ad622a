//! The agent's web page in a real browser, with a real switch behind it; and who is not answered.
//!
//! `UPDATE_EXPECT=1` takes the pictures of docs/operations/web.md anew.

mod browser;
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use browser::{Browser, request};
use common::{Agent, document, eventually, ovs, sgflow, status, stderr, stdout};
use etherparse::PacketBuilder;
use lab::{DummyPort, DummySpec, FailMode, HybridHost, HybridSpec, Ovs};
use serde_json::Value;

/// The policy of the demo.
const POLICY: &str = include_str!("../../../docs/examples/demo.yaml");
const PAGE: &str = include_str!("../../../docs/operations/web.md");
const PICTURES: &str = "../../docs/operations/web";
/// Each view by its name and what is behind the `#`.
const VIEWS: [(&str, &str); 5] = [
    ("overview", "overview"),
    ("groups", "graph"),
    ("matrix", "matrix"),
    ("packet", "walk?from=web-1&to=db&proto=tcp&dport=5432"),
    ("drops", "drops"),
];
const WIDE: (u32, u32) = (1280, 860);
const NARROW: (u32, u32) = (390, 844);

/// Where an agent says that its page is; the system has chosen the port.
fn address(agent: &Agent) -> SocketAddr {
    agent.wait_for("the web page is there", 1);
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("the web page is there")).expect("the line");
    line.split("address=").nth(1).and_then(|address| address.trim().parse().ok()).expect("an address")
}

fn converged(ovs: &Ovs) {
    eventually("converged", || stdout(&status(ovs, &[])).starts_with("converged"));
}

/// The virtual machines of the demo, in the order of their OpenFlow numbers.
struct Demo {
    agent: Agent,
    web: DummyPort,
    _ovs: Ovs,
}

impl Demo {
    fn start() -> Self {
        let ovs = ovs();
        ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
        let plug = |(index, id): (usize, &str)| {
            let tag = if id.starts_with("batch") { 20 } else { 10 };
            let spec = DummySpec {
                port_id: Some(id.to_owned()),
                tag: Some(tag),
                ofport: u16::try_from(index + 1).ok(),
                ..DummySpec::new(&format!("tap-{id}"))
            };
            ovs.add_dummy_port("br-int", spec).expect("a port")
        };
        let ids = ["web-1", "bastion", "web-2", "db", "batch-1", "batch-2"];
        let mut ports: Vec<DummyPort> = ids.into_iter().enumerate().map(plug).collect();
        document(&ovs, POLICY);
        let agent = Agent::start_with(&ovs, &["--host", "compute-1", "--api-web", "127.0.0.1:0"]);
        converged(&ovs);
        Demo { agent, web: ports.swap_remove(0), _ovs: ovs }
    }

    /// First packets of connections from web-1 to the database.
    fn send(&self, port: u16, count: u16) {
        self.send_from([10, 0, 0, 11], port, count);
    }

    fn send_from(&self, source: [u8; 4], port: u16, count: u16) {
        let frame = |number: u16| {
            let ethernet = PacketBuilder::ethernet2(
                [0xfa, 0x16, 0x3e, 0, 0x10, 0x11],
                [0xfa, 0x16, 0x3e, 0, 0x10, 0x21],
            );
            let builder = ethernet.ipv4(source, [10, 0, 0, 21], 64).tcp(40_000 + number, port, 1, 1024).syn();
            let mut frame = Vec::new();
            builder.write(&mut frame, &[]).expect("a frame");
            frame
        };
        let frames: Vec<Vec<u8>> = (0..count).map(frame).collect();
        self.web.receive_all(&frames).expect("the switch takes them");
    }
}

fn groups(browser: &Browser) {
    let names = || browser.texts("#graph-body .node .name").into_iter().collect::<BTreeSet<_>>();
    let all = ["administrators", "anywhere", "batch workers", "database", "web"];
    eventually("the groups are drawn", || all.iter().all(|name| names().contains(*name)));
    assert!(browser.texts("#graph-body").concat().contains("named by none: bastion"));
    browser.click("#graph-body summary");
    let rows = browser.texts("#graph-body tbody tr");
    assert!(rows.contains(&"web\ttcp/5432\tdatabase\tingress".to_owned()), "{rows:?}");
    assert!(!rows.iter().any(|row| row.ends_with("egress")), "{rows:?}");
    // A group is a link: its neighbourhood.
    browser.click("#graph-body a[aria-label^='database,']");
    browser.sees("#graph-body h2", "Around database");
    assert_eq!(names(), ["database".to_owned(), "web".to_owned()].into());
    browser.click("#graph-all");
    eventually("all are back", || names().len() > 4);
}

fn matrix(browser: &Browser) {
    browser.fill("#matrix-form [name=dport]", "5432");
    browser.click("#matrix-form button");
    browser.sees("#matrix-body caption", "tcp/5432");
    let says = |pair: &str| {
        let script = format!(
            "return document.querySelector(`.cell[aria-label^=\"{pair}: \"]`).getAttribute('aria-label')"
        );
        browser.run(&script).as_str().expect("a cell").to_owned()
    };
    assert_eq!(says("web to database"), "web to database: yes (rule)");
    assert_eq!(says("bastion to database"), "bastion to database: no: no-rule at the receiver");
    assert_eq!(says("database to web"), "database to web: no: no-rule at the sender");
    assert_eq!(says("database to database"), "database to database: no pair to judge");
    assert_eq!(
        says("ssh from the administrators to database"),
        "ssh from the administrators to database: yes (rule)"
    );
    assert_eq!(says("outside 203.0.113.1 to web"), "outside 203.0.113.1 to web: no: no-rule at the receiver");
    let sign = browser.texts(".cell[aria-label^='web to database: ']");
    assert_eq!(sign, ["✓"], "it is known without its colour");
    browser.click(".cell[aria-label^='bastion to database: ']");
    browser.sees("#matrix-detail", "For example bastion → db: not allowed (no-rule)");
    // By keys alone: to the right of it, and what is there.
    browser.press("ArrowRight");
    browser.press("Enter");
    browser.sees("#matrix-detail h2", "bastion → ssh from the administrators, tcp/5432");
}

fn walk(browser: &Browser, demo: &Demo) {
    browser.fill("#walk-form [name=from]", "web-1");
    browser.fill("#walk-form [name=to]", "db");
    browser.fill("#walk-form [name=dport]", "5432");
    browser.click("#walk-form button");
    browser.sees(".verdict", "It passes");
    let tables = browser.texts(".half:first-child .table-name");
    let wanted = [
        "0 hook",
        "100 classify",
        "101 egress_base",
        "102 egress_source",
        "103 egress_ip",
        "105 egress_state",
    ];
    assert_eq!(tables[..6], wanted);
    assert!(browser.texts(".half:last-child .table-name").contains(&"123 ingress_policy".to_owned()));
    assert!(browser.texts(".half:last-child .rules").concat().contains("db-sql-4 of database"));
    assert!(browser.texts(".halves").concat().contains("so does the switch’s own trace"));
    // Its counters are live.
    demo.send(5432, 3);
    let counted = || browser.texts(".step .counter").iter().all(|text| text.contains("+3"));
    eventually("each flow has counted three more", counted);

    browser.fill("#walk-form [name=dport]", "23");
    browser.click("#walk-form button");
    browser.sees(".verdict", "It is dropped");
    browser.sees(".half:last-child", "Nearest misses");
    browser.sees(".half:last-child .rules", "the port is 23");
    assert_eq!(browser.texts(".half:last-child .step:last-child .table-name"), ["128 drop"]);
    // A verdict says nothing of a way between networks; who asks is told where one is needed.
    let apart = || browser.texts("#walk-body .notice").iter().any(|text| text.contains("only a router"));
    assert!(!apart(), "both are on one network");
    browser.fill("#walk-form [name=to]", "batch-1");
    browser.click("#walk-form button");
    let told = "The sender is on network net-blue, the receiver on net-green: only a router joins them.";
    browser.sees("#walk-body .notice", told);
    browser.fill("#walk-form [name=to]", "db");
    browser.fill("#walk-form [name=from]", "nobody");
    browser.click("#walk-form button");
    browser.sees("#walk-body .notice", "the policy does not know it");
}

fn drops(browser: &Browser, demo: &Demo) {
    demo.send(23, 7);
    browser.sees("#drops-body table", "no-rule");
    let row = || browser.texts("#drops-body tbody tr").into_iter().find(|row| row.contains("no-rule"));
    eventually("seven are counted", || row().is_some_and(|row| row.split('\t').nth(1) == Some("7")));
    browser.sees("figcaption", "Dropped packets a second");
    // At whom, and what they looked like; from there it is one step to the walk.
    browser.sees(".columns > div:last-child tbody tr", "db");
    browser.sees(".samples li", "-> 10.0.0.21:23");
    let walk = browser.run("return document.querySelector('.samples a').hash");
    assert_eq!(walk, "#walk?from=10.0.0.11&to=db&proto=tcp&dport=23");
    // The window has seen them come.
    demo.send(23, 7);
    eventually("a line is drawn", || {
        browser.run("return document.querySelectorAll('.chart path.series').length") == 1
    });
}

/// The view, ready to be looked at.
fn show(browser: &Browser, url: &str, hash: &str) {
    browser.open("about:blank");
    browser.open(&format!("{url}#{hash}"));
    browser.sees("#condition", "converged");
    let ready = match hash.split('?').next() {
        Some("graph") => ".node",
        Some("matrix") => ".cell.yes",
        Some("walk") => ".step",
        Some("drops") => ".chart",
        _ => ".fact",
    };
    eventually(&format!("{hash} is there"), || {
        browser.run(&format!("return document.querySelectorAll('{ready}').length > 0")) == true
    });
}

#[test]
fn people_see_what_the_agent_knows() {
    let demo = Demo::start();
    let address = address(&demo.agent);
    let url = format!("http://{address}/");
    let browser = Browser::start();
    browser.resize(WIDE.0, WIDE.1);
    show(&browser, &url, "overview");
    let facts = browser.texts(".fact");
    for fact in [
        "Driver\nopenvswitch\non br-int",
        "Ports of this host\n6",
        "Groups of the policy\n5\n1 address group",
    ] {
        assert!(facts.iter().any(|shown| shown.starts_with(fact)), "{fact:?} in {facts:?}");
    }
    browser.sees("#overview-body", "every object is as the policy wants");
    show(&browser, &url, "graph");
    groups(&browser);
    show(&browser, &url, "matrix");
    matrix(&browser);
    show(&browser, &url, "walk?from=web-1&to=db&proto=tcp&dport=22");
    walk(&browser, &demo);
    show(&browser, &url, "drops");
    drops(&browser, &demo);
    // One refused walk above was answered as such, which a browser notes.
    let complaints = browser.complaints();
    let is_the_refusal =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("from=nobody"));
    assert!(complaints.iter().all(is_the_refusal) && complaints.len() == 1, "{complaints:#?}");

    for (width, height) in [WIDE, NARROW] {
        browser.resize(width, height);
        for (name, hash) in VIEWS {
            show(&browser, &url, hash);
            let extent = browser.run("return document.documentElement.scrollWidth");
            assert_eq!(extent, width, "{name} is as wide as the window");
            pose(&browser, &demo, name);
            picture(&browser, &format!("{name}-{width}.png"));
        }
    }
    assert_eq!(browser.complaints(), Vec::<Value>::new());
    let requests = browser.requests();
    let is_ours =
        |asked: &String| asked.starts_with(&url) || asked == "about:blank" || asked.starts_with("data:");
    assert!(requests.len() > 20, "{requests:?}");
    assert!(requests.iter().all(is_ours), "{requests:?}");
}

fn takes_pictures() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// For a picture there is something to be seen.
fn pose(browser: &Browser, demo: &Demo, name: &str) {
    match name {
        "matrix" => browser.click(".cell[aria-label^='ssh from the administrators to batch workers: ']"),
        "drops" if takes_pictures() => {
            let looks = "return document.querySelector('.chart path.series')?.getAttribute('d').match(/L/g)?.length >= 9";
            let mut round = 0;
            eventually("nine looks at what is dropped", || {
                round += 1;
                demo.send(23, 2 + round % 7);
                demo.send_from([10, 0, 0, 66], 53, (round / 9) % 4);
                browser.run(looks) == true
            });
        }
        _ => {}
    }
}

/// A picture of the documentation: taken anew where that is wanted.
fn picture(browser: &Browser, name: &str) {
    assert!(PAGE.contains(&format!("web/{name}")), "{name} is not in docs/operations/web.md");
    let path = Path::new(PICTURES).join(name);
    if takes_pictures() {
        fs::create_dir_all(PICTURES).expect("a directory");
        fs::write(&path, browser.screenshot()).expect("a picture");
    }
    let size = fs::metadata(&path).map(|file| file.len()).unwrap_or_default();
    assert!((1..150_000).contains(&size), "{}: {size} bytes: UPDATE_EXPECT=1 takes it", path.display());
}

#[test]
fn who_is_not_the_page_is_not_answered() {
    let ovs = ovs();
    common::bridge(&ovs);
    document(&ovs, common::POLICY);
    let agent = Agent::start_with(&ovs, &["--api-web", "127.0.0.1:0"]);
    converged(&ovs);
    let address = address(&agent);
    let host = format!("Host: {address}\r\n");
    let code = |method: &str, path: &str, headers: &str| request(address, method, path, headers, "").code;
    let page = request(address, "GET", "/", &host, "");
    assert_eq!(page.code, 200);
    let head = page.head.to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(head.contains(header), "{header:?} in {head}");
    }
    assert_eq!(code("GET", "/data/status", "Host: localhost:1\r\n"), 200, "the near end of a tunnel");
    assert_eq!(code("GET", "/data/status", "Host: attacker.example\r\n"), 421);
    assert_eq!(code("GET", "/data/status", &format!("{host}Sec-Fetch-Site: cross-site\r\n")), 403);
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        assert_eq!(code(method, "/data/status", &host), 405, "{method}");
    }
    assert_eq!(code("GET", "/v1/status", &host), 404, "that is the API's");
    assert_eq!(code("GET", "/data/graph?group=nobody", &host), 404);
    assert_eq!(code("GET", "/data/drops?port=nobody", &host), 404);
    assert_eq!(code("GET", "/data/matrix?proto=tcp", &host), 400);
    assert_eq!(code("GET", "/data/walk?from=1.2.3.4&to=1.2.3.5&proto=udp&dport=1", &host), 400);
    assert_eq!(code("GET", "/data/walk/7", &host), 404);

    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let refused = sgflow().args(["agent", "--api-web", open]).output().expect("sgflow runs");
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("is no loopback address"), "{}", stderr(&refused));
    }
    drop(agent);
    let fresh = || fs::remove_file(ovs.rundir().join("agent.log")).expect("a log");
    fresh();
    // A driver without a datapath keeps no policy to be shown.
    let agent = Agent::start_with(&ovs, &["--driver", "noop", "--api-web", "127.0.0.1:0"]);
    let address = self::address(&agent);
    let host = format!("Host: {address}\r\n");
    let ask = |path: &str| request(address, "GET", path, &host, "");
    assert_eq!(ask("/data/status").code, 200);
    for path in
        ["/data/graph", "/data/matrix?proto=tcp&dport=1", "/data/walk?from=p-1&to=p-2&proto=tcp&dport=1"]
    {
        let answer = ask(path);
        assert_eq!(
            (answer.code, answer.body.as_str()),
            (404, r#"{"error":"driver noop keeps no policy"}"#),
            "{path}"
        );
    }
    drop(agent);
    // Nobody has asked for it.
    fresh();
    let agent = Agent::start(&ovs);
    converged(&ovs);
    assert_eq!(agent.count("the web page"), 0);
}

/// Under drivers without flow tables the page says what there is instead.
fn is_shown_on_a_hybrid_host(driver: &str) {
    let specs = [HybridSpec::new("p-1", 10), HybridSpec::new("p-2", 10)];
    let host = HybridHost::start(&specs).expect("a host");
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    drop(ovs.add_dummy_ports("br-int", specs.iter().map(HybridSpec::on_switch).collect()).expect("ports"));
    document(&ovs, common::POLICY);
    let agent = Agent::start_on_host(&ovs, host.netns(), &["--driver", driver, "--api-web", "127.0.0.1:0"]);
    converged(&ovs);
    let url = format!("http://{}/", address(&agent));
    let look = || {
        let browser = Browser::start();
        browser.resize(NARROW.0, NARROW.1);
        show(&browser, &url, "graph");
        browser.sees(".node .name", "g");
        show(&browser, &url, "matrix");
        browser.open("about:blank");
        browser.open(&format!("{url}#walk?from=p-1&to=p-2&proto=tcp&dport=22"));
        browser.sees(".verdict", "It passes");
        browser.sees(".half:last-child .notice", "The kernel holds exactly this policy.");
        browser.sees(".half:last-child", "there are no flow tables to walk through");
        browser.open(&format!("{url}#drops"));
        browser.sees("#drops-body", "Counted since");
        assert_eq!(browser.run("return document.documentElement.scrollWidth"), NARROW.0);
    };
    host.netns().enter(look).expect("the host's namespace");
}

#[test]
fn under_iptables() {
    is_shown_on_a_hybrid_host("iptables_hybrid");
}

#[test]
fn under_nftables() {
    is_shown_on_a_hybrid_host("nftables");
}
