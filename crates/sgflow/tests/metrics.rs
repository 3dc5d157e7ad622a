//! What an agent tells Prometheus, held against what `docs/operations` says of it; and what it logs, changed while it runs.

mod common;
mod documented;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use std::time::Duration;

use common::neutron_driver::{applied, ask, port, serving};
use common::policy_store;
use common::{
    Agent, POLICY, bridge, document, eventually, flows, ovs, sgflow, socket, status, stderr, stdout,
};
use documented::is_documented;
use lab::{FailMode, HybridHost, HybridSpec, Ovs};
use serde_json::{Value, json};

const METRICS: &str = include_str!("../../../docs/operations/metrics.md");
const DASHBOARD: &str = include_str!("../../../docs/operations/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../../docs/operations/alerts.yaml");

/// Where an agent says that it is scraped; the system has chosen the port.
fn address(agent: &Agent) -> SocketAddr {
    agent.wait_for("this agent can be scraped", 1);
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("this agent can be scraped")).expect("the line");
    let address = line.split("address=").nth(1).expect("an address").trim_matches(|c| c == '"' || c == ' ');
    address.parse().expect("an address and a port")
}

/// One request; the status and the body.
fn request(stream: &mut TcpStream, text: &str) -> (u16, String) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

/// Series with labels and values.
type Scrape = BTreeMap<String, f64>;

fn parse(text: &str) -> Scrape {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let series = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(series).collect()
}

fn scrape_at(address: SocketAddr) -> Scrape {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let (code, body) = request(&mut stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(code, 200, "{body}");
    parse(&body)
}

/// The names of series without labels, and without what a histogram adds.
fn names(scrape: &Scrape) -> BTreeSet<String> {
    let name = |series: &str| {
        let name = series.split('{').next().unwrap_or(series);
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    scrape.keys().map(|series| name(series)).collect()
}

/// Everything that looks like a series of ours.
fn named_in(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_name(c)).filter(|word| word.starts_with("sgflow_"));
    let plain = |word: &str| word.strip_suffix("_bucket").unwrap_or(word).to_owned();
    words.map(plain).collect()
}

fn converged(ovs: &Ovs) {
    eventually("converged", || stdout(&status(ovs, &[])).starts_with("converged"));
}

/// In the switch's own namespace, for the kernel's sets; scraped from there.
fn on_open_vswitch() -> BTreeSet<String> {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start_at_home(&ovs, &["--ipset-mirror", "--api-metrics", "127.0.0.1:0"]);
    converged(&ovs);
    let address = address(&agent);
    let scrape = || ovs.netns().enter(|| scrape_at(address)).expect("the switch's namespace");
    eventually("the set is filled", || {
        scrape().get("sgflow_kernel_set_members{set=\"NIPv4g\"}") == Some(&3.0)
    });
    let first = scrape();
    let value = |series: &str| *first.get(series).unwrap_or_else(|| panic!("no {series} in {first:#?}"));
    assert_eq!(value("sgflow_condition{condition=\"converged\"}"), 1.0);
    assert_eq!(value("sgflow_condition{condition=\"degraded\"}"), 0.0);
    assert_eq!((value("sgflow_ports"), value("sgflow_source_lag_seconds")), (2.0, 0.0));
    assert_eq!(value("sgflow_ids_in_use{kind=\"zone\"}"), 2.0);
    assert_eq!(value("sgflow_kernel_set_members_max{set=\"NIPv4g\"}"), 65_536.0);
    let by_table: f64 =
        first.iter().filter(|(name, _)| name.starts_with("sgflow_flows{")).map(|(_, count)| count).sum();
    assert_eq!(by_table, flows(&ovs).len() as f64, "no flow but ours is on this bridge");
    assert_eq!(value("sgflow_flow_mods_total{kind=\"added\"}"), by_table);
    assert_eq!(value("sgflow_conntrack_operations_total{operation=\"flush-zone\"}"), 2.0);
    let written = value("sgflow_source_written_timestamp_seconds");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!((now - 300.0..=now).contains(&written), "{written}");
    let stage = |scrape: &Scrape, stage: &str| {
        scrape
            .get(&format!("sgflow_change_latency_seconds_count{{stage=\"{stage}\"}}"))
            .copied()
            .unwrap_or(0.0)
    };
    let before = ["rendered", "acknowledged", "applied"].map(|name| stage(&first, name));

    // One change is one of each stage, one after the other.
    document(&ovs, &POLICY.replace("10.1.0.3", "10.1.0.4"));
    eventually("one more", || stage(&scrape(), "applied") == before[2] + 1.0);
    let second = scrape();
    assert_eq!(
        ["rendered", "acknowledged", "applied"].map(|name| stage(&second, name)),
        before.map(|count| count + 1.0)
    );
    let sum = |name: &str| second[&format!("sgflow_change_latency_seconds_sum{{stage=\"{name}\"}}")];
    assert!(sum("rendered") <= sum("acknowledged") && sum("acknowledged") <= sum("applied"), "{second:#?}");

    // Frames of somebody else's, dropped and counted: since the first scrape that there was something to tell.
    let drops = |reason: &str| scrape().get(&format!("sgflow_drops_total{{reason=\"{reason}\"}}")).copied();
    let spoofed = "in_port(1),eth(src=fa:16:3e:00:00:66,dst=fa:16:3e:00:00:02),eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.2,op=1,sha=fa:16:3e:00:00:66,tha=00:00:00:00:00:00)";
    let drop_three = |counted: u64| {
        for _ in 0..3 {
            ovs.appctl("netdev-dummy/receive", &["tap1", spoofed]).expect("received");
        }
        let told = || sgflow().args(["drops", "--json", "--api-socket"]).arg(socket(&ovs)).output();
        eventually("three more are read", || {
            let told: Value = serde_json::from_slice(&told().expect("sgflow runs").stdout).expect("JSON");
            told["reasons"][0]["packets"] == counted
        });
    };
    drop_three(3);
    let begun = drops("spoofed-mac").expect("it is counted");
    drop_three(6);
    assert_eq!((drops("spoofed-mac"), drops("no-rule")), (Some(begun + 3.0), Some(0.0)));
    assert!(scrape()["sgflow_drops_sampled_total"] <= 6.0);

    // Somebody else takes all of our flows away.
    ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int"]).expect("flows go");
    eventually("it is counted", || scrape()["sgflow_drift_total"] >= by_table);
    eventually("it is told", || {
        stdout(&status(&ovs, &[])).contains("put right that others had changed, last 20")
    });
    // Documents that cannot be read.
    document(&ovs, "ports: [");
    eventually("it lags", || scrape()["sgflow_source_lag_seconds"] >= 1.0);
    document(&ovs, &POLICY.replace("ip_address: 10.0.0.2}", "ip_address: 10.0.0.300}"));
    eventually("it does not, and refuses one", || {
        let scrape = scrape();
        scrape["sgflow_source_lag_seconds"] == 0.0 && scrape["sgflow_refused_objects"] == 1.0
    });
    assert_eq!(scrape()["sgflow_faults{effect=\"kept\"}"], 1.0);
    names(&scrape())
}

fn on_a_hybrid_host() -> BTreeSet<String> {
    let specs = [HybridSpec::new("p-1", 10)];
    let host = HybridHost::start(&specs).expect("a host");
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    drop(ovs.add_dummy_ports("br-int", specs.iter().map(HybridSpec::on_switch).collect()).expect("ports"));
    document(&ovs, POLICY);
    let options = ["--driver", "nftables", "--api-metrics", "127.0.0.1:0"];
    let agent = Agent::start_on_host(&ovs, host.netns(), &options);
    converged(&ovs);
    let address = address(&agent);
    let scrape = || host.netns().enter(|| scrape_at(address)).expect("the host's namespace");
    let first = scrape();
    assert!(
        first["sgflow_rules"] > 0.0 && first["sgflow_change_latency_seconds_count{stage=\"applied\"}"] >= 1.0,
        "{first:#?}"
    );
    assert_eq!(first["sgflow_kernel_members"], 3.0);
    eventually("drops are counted", || scrape().contains_key("sgflow_drops_total{reason=\"no-rule\"}"));
    // Somebody else takes our table away.
    let delete = || std::process::Command::new("nft").args(["delete", "table", "inet", "sgflow"]).status();
    assert!(host.netns().enter(delete).expect("the host's namespace").expect("nft(8)").success());
    eventually("it is put right, and counted", || scrape()["sgflow_drift_total"] > 0.0);
    names(&scrape())
}

fn told_by_neutrons_agent() -> BTreeSet<String> {
    let ovs = ovs();
    bridge(&ovs);
    let agent = serving(&ovs, &["--api-metrics", "127.0.0.1:0"]);
    let change = json!({"rules": {"g": [{"direction": "egress", "ethertype": "IPv4"}]}, "ports": {"p-1": port(1, &["g"])}});
    applied(&ovs, "s", 1, change);
    let scrape = scrape_at(address(&agent));
    assert_eq!(scrape["sgflow_source_sequence"], 1.0);
    names(&scrape)
}

#[test]
fn every_series_is_documented_and_every_documented_series_is_told() {
    let told: BTreeSet<String> =
        [on_open_vswitch(), on_a_hybrid_host(), told_by_neutrons_agent()].into_iter().flatten().collect();
    let in_table = METRICS.lines().filter(|line| line.starts_with("| `sgflow_"));
    let documented: BTreeSet<String> =
        in_table.flat_map(|line| named_in(line.split('|').nth(1).expect("a cell"))).collect();
    assert_eq!(documented, told, "the table of docs/operations/metrics.md, and the scrapes");
    for (file, text) in
        [("metrics.md", METRICS), ("grafana-dashboard.json", DASHBOARD), ("alerts.yaml", ALERTS)]
    {
        let strange: Vec<String> = named_in(text).difference(&told).cloned().collect();
        assert!(strange.is_empty(), "{file} names what no agent tells: {strange:?}");
    }
}

#[test]
fn the_dashboard_and_the_rules_are_well_formed() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: an id of its own");
        let place = &panel["gridPos"];
        let [x, w] = ["x", "w"].map(|key| place[key].as_u64().expect("a place"));
        assert!(x + w <= 24, "{title} is outside of the grid");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(
            targets
                .iter()
                .all(|target| !named_in(target["expr"].as_str().expect("an expression")).is_empty()),
            "{title}"
        );
    }
    let rules: Value = serde_saphyr::from_str(ALERTS).expect("YAML");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        let expression = rule["expr"].as_str().expect("an expression");
        // Of an agent that does not answer there is nothing but that.
        let is_of_ours = !named_in(expression).is_empty() || expression == r#"up{job="sgflow"} == 0"#;
        assert!(is_of_ours, "{name}: {expression}");
        assert!(
            rule["labels"]["severity"].is_string() && rule["annotations"]["summary"].is_string(),
            "{name}"
        );
        assert!(METRICS.contains(&format!("`{name}`")), "what to do at {name} is not in metrics.md");
    }
}

#[test]
fn only_get_is_served_and_who_says_nothing_takes_nothing_from_others() {
    let databases = policy_store::alone();
    let directory = databases.rundir().to_owned();
    let agent = policy_store::StoreAgent::start_with(
        &directory,
        &[],
        "h",
        &["--store", &databases.remotes(), "--api-metrics", "127.0.0.1:0"],
    );
    agent.wait_for("this agent can be scraped");
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("this agent can be scraped")).expect("the line");
    let address: SocketAddr =
        line.split("address=").nth(1).expect("an address").trim_matches('"').parse().expect("one");
    let scrape = scrape_at(address);
    let is_build =
        |series: &String| series.starts_with("sgflow_build_info{") && series.contains("source=\"store\"");
    assert!(scrape.keys().any(is_build), "{scrape:#?}");
    for (text, code) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("\0\0\r\n\r\n", 400),
    ] {
        let mut stream = TcpStream::connect(address).expect("somebody listens");
        assert_eq!(request(&mut stream, text).0, code, "{text:?}");
    }
    let silent: Vec<TcpStream> = (0..7).map(|_| TcpStream::connect(address).expect("accepted")).collect();
    scrape_at(address);
    drop(silent);
}

fn log_level(ovs: &Ovs, words: &[&str]) -> Output {
    sgflow().arg("log-level").args(words).arg("--api-socket").arg(socket(ovs)).output().expect("sgflow runs")
}

#[test]
fn what_is_logged_is_changed_while_the_agent_runs() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    converged(&ovs);
    assert_eq!(stdout(&log_level(&ovs, &[])), "info,lapin=off\n");
    assert_eq!(agent.count("the switch has taken a bundle"), 0);
    let output = log_level(&ovs, &["info,agent=debug"]);
    assert_eq!(stdout(&output), "info,agent=debug (begun with info,lapin=off)\n", "{}", stderr(&output));
    document(&ovs, &POLICY.replace("10.1.0.3", "10.1.0.4"));
    agent.wait_for("the switch has taken a bundle", 1);

    // What is asked for besides is besides.
    let output = log_level(&ovs, &["agent::observe=trace"]);
    assert_eq!(stdout(&output), "info,lapin=off,agent::observe=trace (begun with info,lapin=off)\n");
    let changed = agent.count("what is logged is changed");
    let output = log_level(&ovs, &["agent=loud"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("refuses (400 Bad Request)"), "{}", stderr(&output));
    assert_eq!(
        agent.count("what is logged is changed"),
        changed,
        "what is refused changes nothing: {}",
        agent.log()
    );
    // Told before it is so: the new one lets through nothing.
    assert_eq!(stdout(&log_level(&ovs, &["off"])), "off (begun with info,lapin=off)\n");
    assert_eq!(agent.count("what is logged is changed"), changed + 1);
    assert_eq!(stdout(&log_level(&ovs, &["--reset"])), "info,lapin=off\n");
    let applied = agent.count("applied added");
    let taken = agent.count("the switch has taken a bundle");
    document(&ovs, POLICY);
    agent.wait_for("applied added", applied + 1);
    assert_eq!(agent.count("the switch has taken a bundle"), taken);

    is_documented("LogState", &ask(&ovs, "GET", "/v1/log", "").1);
    assert_eq!(ask(&ovs, "PUT", "/v1/log", r#"{"filter": "warn", "for": 5}"#).0, 400);
}
