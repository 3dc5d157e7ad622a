//! `sgflow flows`: what it says of our flows and of Neutron's own driver's, as text and as JSON, of dumps and of a real
//! switch. After a change of the words: `UPDATE_EXPECT=1 cargo test -p sgflow --test flows`.

mod common;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::{
    Agent, POLICY, apply, bridge, document, eventually, flows, ovs, sgflow, socket, status, stderr, stdout,
};
use expect_test::{expect, expect_file};
use lab::Ovs;
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/flows-command.md");

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name)
}

fn neutrons(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../explain/tests/dumps").join(name)
}

/// `sgflow flows` of a dump, given by the standard input so that no path of this machine is in what it says.
fn of_dump(dump: &Path, more: &[&str]) -> Output {
    of_dump_in(Some("80"), dump, more)
}

/// The same in so many columns, if somebody says how many.
fn of_dump_in(columns: Option<&str>, dump: &Path, more: &[&str]) -> Output {
    let mut command = sgflow();
    command.args(["flows", "--from-dump", "-"]).args(more);
    command.env_remove("COLUMNS").envs(columns.map(|columns| ("COLUMNS", columns)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("sgflow starts");
    let text = std::fs::read(dump).expect("a dump");
    child.stdin.take().expect("a pipe").write_all(&text).expect("it reads");
    child.wait_with_output().expect("sgflow ends")
}

fn page(dump: &Path, more: &[&str]) -> String {
    let output = of_dump(dump, more);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    // A word that is longer than a line stays whole: our longest is an IPv6 address.
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    text
}

fn json(dump: &Path, more: &[&str]) -> Value {
    let output = of_dump(dump, &[&["--json"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What an ovs-ofctl that failed leaves is not a switch without flows.
#[test]
fn what_has_no_flow_in_it_is_no_dump() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = |content: &[u8]| {
        let file = directory.path().join("some.file");
        std::fs::write(&file, content).expect("a file");
        let output = of_dump(&file, &[]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
        stderr(&output)
    };
    for nothing in ["", "\n# nothing\n", "NXST_FLOW reply (xid=0x4):\n"] {
        assert_eq!(refused(nothing.as_bytes()), "sgflow: standard input: there is no flow in it\n");
    }
    assert_eq!(
        refused(b"\x1f\x8b\x08\x00some"),
        "sgflow: standard input: it is compressed (gzip): zcat FILE | sgflow flows --from-dump -\n"
    );
}

#[test]
fn what_is_no_dump_neither_fills_the_terminal_nor_gives_it_orders() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("some.file");
    let long = "x".repeat(1 << 20);
    std::fs::write(&file, format!(" table=0, \u{1b}[31mred\u{7f}\u{9b}2J actions=drop\n{long}\n"))
        .expect("a file");
    let output = of_dump(&file, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains(r"\u001b[31mred\u007f\u009b2J") && text.len() < 2000,
        "{}: {text:.2000}",
        text.len()
    );
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let unread: Value = serde_json::from_slice(&of_dump(&file, &["--json"]).stdout).expect("JSON");
    assert_eq!(unread["unread"][0]["text"], "table=0, \u{1b}[31mred\u{7f}\u{9b}2J actions=drop");
}

/// Lines in a pipe are for programs: grep finds all of what is said of a flow.
#[test]
fn without_a_terminal_lines_are_whole() {
    let brief = |columns| stdout(&of_dump_in(columns, &example("demo.flows"), &["--brief"]));
    assert!(brief(Some("60")).lines().all(|line| line.chars().count() <= 60));
    let whole = brief(None);
    assert!(whole.lines().any(|line| line.chars().count() > 80), "{whole}");
    // That is no width.
    assert_eq!(brief(Some("5")), whole);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&brief(Some("60"))), words(&whole));
}

#[test]
fn a_port_of_ours() {
    expect_file!["flows/demo-web-1.txt"].assert_eq(&page(&example("demo.flows"), &["web-1"]));
}

#[test]
fn rules_of_ours_by_the_policy() {
    let policy = example("demo.yaml");
    let policy = policy.to_str().expect("UTF-8");
    let text = page(&example("demo.flows"), &["--brief", "--by", "rule", "sg-database", "--policy", policy]);
    expect_file!["flows/demo-database-rules.txt"].assert_eq(&text);
}

#[test]
fn all_of_ours_in_short() {
    expect_file!["flows/demo-brief.txt"].assert_eq(&page(&example("demo.flows"), &["--brief"]));
}

#[test]
fn a_port_of_neutrons_driver() {
    let policy = neutrons("driver-policy.json");
    let policy = policy.to_str().expect("UTF-8");
    let text = page(&neutrons("driver-names.txt"), &["tap-a", "--policy", policy]);
    expect_file!["flows/neutron-tap-a.txt"].assert_eq(&text);
}

#[test]
fn rules_of_neutrons_driver_by_the_policy() {
    let policy = neutrons("driver-policy.json");
    let policy = policy.to_str().expect("UTF-8");
    let text =
        page(&neutrons("driver-names.txt"), &["--brief", "--by", "rule", "offices", "--policy", policy]);
    expect_file!["flows/neutron-offices-rules.txt"].assert_eq(&text);
}

/// Of each list the first alone.
fn sample(mut value: Value) -> String {
    for list in value.as_object_mut().expect("an object").values_mut().filter_map(Value::as_array_mut) {
        list.truncate(1);
    }
    serde_json::to_string_pretty(&value).expect("JSON") + "\n"
}

#[test]
fn a_rule_of_ours_as_json() {
    let policy = example("demo.yaml");
    let value = json(&example("demo.flows"), &["db-sql-4", "--policy", policy.to_str().expect("UTF-8")]);
    expect_file!["flows/demo-rule.json"].assert_eq(&sample(value));
}

#[test]
fn a_group_of_neutrons_driver_as_json() {
    let policy = neutrons("driver-policy.json");
    let value =
        json(&neutrons("driver-names.txt"), &["offices", "--policy", policy.to_str().expect("UTF-8")]);
    expect_file!["flows/neutron-group.json"].assert_eq(&sample(value));
}

/// The names of a page's table of fields, in the order in which they stand there.
fn documented(after: &str) -> BTreeSet<String> {
    let (_, rest) = PAGE.split_once(after).expect("a table");
    let rows =
        rest.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    let first = rows.filter_map(|row| row.split('|').nth(1));
    first.flat_map(|cell| cell.split(',')).map(|name| name.trim().trim_matches('`').to_owned()).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

/// Every object has the fields that docs/flows-command.md lists, and no others.
#[test]
fn json_is_as_documented() {
    let (of_page, of_flow) = (documented("One object."), documented("Each of `flows`:"));
    assert!(of_page.len() > 8 && of_flow.len() > 15, "{of_page:?} {of_flow:?}");
    let policy = neutrons("driver-policy.json");
    let policy = policy.to_str().expect("UTF-8");
    for value in [
        json(&example("demo.flows"), &[]),
        json(&example("demo.flows"), &["web-1"]),
        json(&neutrons("driver-names.txt"), &["--policy", policy]),
        json(&neutrons("driver-appctl.txt"), &[]),
        json(&neutrons("driver-no-stats.txt"), &[]),
    ] {
        assert_eq!(keys(&value), of_page);
        for count in value["counts"].as_object().expect("counts").values() {
            assert!(count.is_u64());
        }
        for flow in value["flows"].as_array().expect("flows") {
            assert_eq!(keys(flow), of_flow);
            is_sound(flow);
        }
        let fields = |list: &str, wanted: &[&str]| {
            let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            for each in value[list].as_array().expect("a list") {
                assert_eq!(keys(each), wanted, "{list}");
            }
        };
        let of_port = [
            "ofport",
            "id",
            "interface",
            "macs",
            "addresses",
            "vlan",
            "set",
            "zone",
            "groups",
            "trusted",
            "network",
        ];
        fields("ports", &of_port);
        fields("sets", &["number", "groups", "stateless"]);
        fields("remotes", &["number", "kind", "group"]);
        fields("generations", &["number", "stamped_by", "in_force_for"]);
        fields(
            "conjunctions",
            &["first", "direction", "ethertype", "members", "services", "ports", "remote"],
        );
    }
}

/// Its fields are of the kinds that they are documented to be.
fn is_sound(flow: &Value) {
    let is = |field: &str, right: fn(&Value) -> bool| assert!(right(&flow[field]), "{field}: {flow}");
    for field in ["line", "table", "priority"] {
        is(field, Value::is_u64);
    }
    for field in ["packets", "bytes", "seconds"] {
        is(field, |value| value.is_u64() || value.is_null());
    }
    for field in ["table_name", "slot", "purpose"] {
        is(field, |value| value.is_string() || value.is_null());
    }
    for field in ["unnamed", "match", "actions", "ports", "groups", "rules"] {
        is(field, Value::is_array);
    }
    is("named", Value::is_boolean);
    is("text", Value::is_string);
    is("writer", |value| {
        ["sgflow", "neutron", "openvswitch", "other"].contains(&value.as_str().unwrap_or_default())
    });
    is("cookie", |value| {
        value.is_null() || value["value"].as_str().is_some_and(|text| text.starts_with("0x"))
    });
    for term in
        [&flow["match"], &flow["actions"]].into_iter().flat_map(|terms| terms.as_array().expect("terms"))
    {
        assert!(term["text"].is_string() && (term["means"].is_string() || term["means"].is_null()));
    }
}

#[test]
fn what_cannot_be_read_is_shown_and_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("dump");
    std::fs::write(
        &path,
        "NXST_FLOW reply (xid=0x4):\n$ date\n table=0, priority=1 actions=learn(table=1)\n",
    )
    .expect("a file");
    let output = of_dump(&path, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "line 2 cannot be read: not a flow",
        "  $ date\n",
        "line 3 cannot be read: action 'learn'",
        "2 lines could not be read",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    for (arguments, reason) in [
        (
            &["web-9"][..],
            "standard input: there is no port, group or rule web-9; groups by name and rules are known with --policy",
        ),
        (&["web"], "web may be port web-1, or port web-2: say more of its id"),
    ] {
        let output = of_dump(&example("demo.flows"), arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
    let output = sgflow().args(["flows", "--from-dump", "/nowhere/dump"]).output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere/dump"), "{}", stderr(&output));
    let output = sgflow().args(["flows", "--ovsdb", "unix:/nowhere/db.sock"]).output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

/// `sgflow flows` of a switch, and of the agent that answers beside it, if one does.
fn live(ovs: &Ovs, more: &[&str]) -> Output {
    let mut command = sgflow();
    command.arg("flows").arg("--ovsdb").arg(ovs.db_remote()).arg("--api-socket").arg(socket(ovs));
    command.args(more).output().expect("sgflow runs")
}

/// A real switch: all of it is named, by what the switch and its database say alone, and nothing is changed there.
#[test]
fn a_switch_is_read_and_left_as_it_is() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, POLICY);
    let applied = apply(&ovs, &policy, &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    let before = flows(&ovs);
    let live = |more: &[&str]| {
        let output = live(&ovs, more);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let all: Value = serde_json::from_str(&live(&["--json"])).expect("JSON");
    let count = before.len();
    let counts = |value: &Value, of: &str| value["counts"][of].as_u64().expect("a count");
    assert_eq!(["all", "flows", "named", "sgflow"].map(|of| counts(&all, of)), [count as u64; 4]);
    assert!(all["flows"].as_array().expect("flows").iter().all(|flow| flow["packets"].is_u64()));

    let port: Value = serde_json::from_str(&live(&["tap1", "--json"])).expect("JSON");
    assert_eq!(port["subject"]["port"]["id"], "p-1");
    let of_port = counts(&port, "flows");
    assert!(of_port > 10 && of_port < count as u64, "{of_port}");
    let names_other = |flow: &Value| flow["text"].as_str().is_some_and(|text| text.contains("in_port=2"));
    assert!(!port["flows"].as_array().expect("flows").iter().any(names_other));

    let text = live(&["p-1", "--by", "port"]);
    assert!(text.contains("port p-1, tap1, OpenFlow port 1, VLAN 10, set 1 (g), 10.0.0.1"), "{text}");
    assert!(
        text.contains(&format!(
            "br-int: {of_port} of {count} flows concern port p-1: {of_port} sgflow; all named"
        )),
        "{text}"
    );
    let rule = live(&["i4", "--brief", "--policy", policy.to_str().expect("UTF-8")]);
    assert!(rule.contains("ingress rule of set 1 (g): IPv4 from remote 1 (g)"), "{rule}");

    // The same saved, with names for interfaces, and for the tables that we name in the database.
    let names = ovs.ofctl(&["-O", "OpenFlow14", "--names", "dump-flows", "br-int"]).expect("a dump");
    assert!(names.contains("in_port=tap1") && names.contains("\"sgflow-egress-policy\""), "{names}");
    let saved = ovs.rundir().join("dump");
    std::fs::write(&saved, names).expect("a file");
    let text = page(&saved, &[]);
    assert!(text.ends_with(&format!("standard input: {count} flows: {count} sgflow; all named\n")), "{text}");
    assert_eq!(flows(&ovs), before);
}

/// A rule by its id and a group by its name, as the agent has them that put the flows there: not the settings' document, and
/// not where flows are those of a dump.
#[test]
fn rules_and_groups_are_named_as_the_agent_has_them() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, &POLICY.replace("{id: g, ", "{id: g, name: friends, "));
    let agent = Agent::start(&ovs);
    eventually("converged", || stdout(&status(&ovs, &[])).starts_with("converged"));
    // What the daemon was started with is no concern of who looks: these settings name a document that says less.
    let (settings, other) = (ovs.rundir().join("sgflow.toml"), ovs.rundir().join("other.yaml"));
    std::fs::write(&other, "security_groups: []\nports: []\n").expect("a document");
    std::fs::write(&settings, format!("[policy]\npath = {other:?}\n")).expect("settings");
    let settings = settings.to_str().expect("UTF-8");
    let rule = live(&ovs, &["i4", "--brief", "--by", "rule", "--config", settings]);
    assert_eq!(rule.status.code(), Some(0), "{}", stderr(&rule));
    expect![[r#"
        rule i4: ingress IPv4 from friends: 11 flows, 0 packets
               0  121: ingress rule of set 1 (friends), packet by packet: IPv4 from
                  remote 1 (friends)
               0  121: ingress rules about remote 1 (friends): both clauses hold,
                  admitted
               0  121: ingress: 10.0.0.1 is a member of remote 1 (friends)
               0  121: ingress: 10.0.0.2 is a member of remote 1 (friends)
               0  121: ingress: 10.1.0.3 is a member of remote 1 (friends)
               0  123: ingress rule of set 1 (friends): IPv4 from remote 1 (friends)
               0  123: ingress rules about remote 1 (friends): both clauses hold,
                  admitted
               0  123: ingress: 10.0.0.1 is a member of remote 1 (friends)
               0  123: ingress: 10.0.0.2 is a member of remote 1 (friends)
               0  123: ingress: 10.1.0.3 is a member of remote 1 (friends)
               0  130: ingress rules of set 1 (friends) ask for IPv4
    "#]]
    .assert_eq(stdout(&rule).split_once("\nbr-int: 11 of ").expect("a sum").0);
    let group: Value = serde_json::from_slice(&live(&ovs, &["friends", "--json"]).stdout).expect("JSON");
    assert_eq!((&group["subject"]["id"], &group["subject"]["name"]), (&"g".into(), &"friends".into()));

    // The document that is given is asked before the agent.
    let given = live(&ovs, &["i4", "--policy", other.to_str().expect("UTF-8")]);
    assert_eq!(given.status.code(), Some(1), "{}", stdout(&given));
    let saved = ovs.rundir().join("dump");
    let dump = ovs.ofctl(&["-O", "OpenFlow14", "dump-flows", "br-int"]).expect("a dump");
    std::fs::write(&saved, dump).expect("a file");
    let socket = socket(&ovs);
    let of_file = of_dump(&saved, &["i4", "--api-socket", socket.to_str().expect("UTF-8")]);
    assert_eq!((of_file.status.code(), stdout(&of_file)), (Some(1), String::new()));

    drop(agent);
    let output = live(&ovs, &["p-1", "--brief"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let unknown = live(&ovs, &["i4"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", stdout(&unknown));
    let reason = stderr(&unknown).replace(socket.to_str().expect("UTF-8"), "SOCKET");
    expect![[r#"
        sgflow: br-int: there is no port, group or rule i4; groups by name and rules are known with --policy, or from the agent: no sgflow agent answers at SOCKET: Connection refused (os error 111)
    "#]].assert_eq(&reason);
    let unknown = live(&ovs, &["i4", "--config", settings]);
    assert_eq!(unknown.status.code(), Some(1), "{}", stdout(&unknown));
    expect![[r#"
        sgflow: br-int: there is no port, group or rule i4
    "#]]
    .assert_eq(&stderr(&unknown));
}

/// Somebody else's flow on our bridge is told as such, and what of it is not known.
#[test]
fn flows_of_others_are_not_taken_for_ours() {
    let ovs = ovs();
    bridge(&ovs);
    ovs.ofctl(&["add-flow", "br-int", "cookie=0x77,table=7,priority=3,reg1=0x5 actions=output:1"])
        .expect("a flow");
    let output = live(&ovs, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "table 7: 1 flow",
        "not known here (other flow)",
        "? nothing says what this is: reg1=0x5",
        "> output to p-1",
        "1 not named",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
