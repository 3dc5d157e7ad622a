//! `sgflow policy` at a cluster, with agents that follow it.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::policy_store::{StoreAgent, by_hand, cluster, document, get, policy_command, put, status, told};
use common::{POLICY, eventually, stderr, stdout};
use lab::Databases;
use serde_json::json;
use store::schema::{DATABASE, TEXT};

fn has_hosts(databases: &Databases, count: usize) {
    eventually("hosts have it", || {
        let status = status(databases);
        status["hosts"].as_array().map(Vec::len) == Some(count) && status["behind"] == json!([])
    });
}

#[test]
fn hosts_are_waited_for_and_those_that_lag_or_refuse_are_named() {
    let databases = cluster();
    let nobody = told(&databases, &["wait"]);
    assert_eq!((nobody.0, nobody.1.contains("nobody has written a policy")), (Some(1), true), "{}", nobody.1);
    let agents = ["h1", "h2"].map(|host| StoreAgent::start(&databases, host));
    let path = document(&databases, "none.yaml", "{}");
    assert_eq!(told(&databases, &["put", &path]), (Some(0), "wrote 0 rows in 1 transaction\n".into()));
    has_hosts(&databases, 2);
    put(&databases, POLICY, &[]);
    let changed = POLICY.replace("10.0.0.1}", "10.0.0.7}");
    let path = document(&databases, "changed.yaml", &changed);
    let (code, said) = told(&databases, &["put", &path, "--wait"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("2 of 2 hosts have it in force\n"), "{said}");
    assert_eq!(told(&databases, &["wait", "--hosts", "h2"]).0, Some(0));

    let (code, said) = told(&databases, &["wait", "--hosts", "h1,elsewhere", "--timeout", "1"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("not in time: elsewhere"), "{said}");

    let bound = POLICY.replace("10.0.0.1}], ", "10.0.0.1}], \"binding:host_id\": h1, ");
    put(&databases, &bound, &["--wait=h1,h2"]);
    by_hand(
        &databases,
        &json!([{"op": "mutate", "table": "Security_Group", "where": [], "mutations": [["rules", "insert", ["map", [["odd", "ingress nonsense"]]]]]}]),
    );
    let (code, said) = told(&databases, &["wait"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("h1 refuses rule odd of security group g: "), "{said}");
    let (code, said) = told(&databases, &["status"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = told(&databases, &["get"]);
    assert!(code == Some(2) && said.contains("rule odd of security group g: "), "{said}");
    put(&databases, &bound, &["--wait"]);
    assert_eq!(told(&databases, &["wait"]).0, Some(0));
    drop(agents);
    let (code, said) = told(&databases, &["wait", "--timeout", "1"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("not in time: h1, h2"), "{said}");
}

#[test]
fn the_status_names_the_servers() {
    let mut databases = cluster();
    put(&databases, POLICY, &[]);
    let told = status(&databases);
    let servers = told["servers"].as_array().expect("servers");
    assert_eq!(servers.len(), 3);
    assert_eq!(servers.iter().filter(|server| server["leader"] == true).count(), 1, "{told}");
    assert!(servers.iter().all(|server| server["model"] == "clustered"), "{told}");
    assert_eq!((&told["security_groups"], &told["ports"]), (&json!(1), &json!(3)));
    databases.kill("1");
    let output = policy_command(&databases, &["status"]).output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stdout(&output).contains("1.sock: "), "{}", stdout(&output));
    ["0", "2"].into_iter().for_each(|name| databases.kill(name));
    assert_eq!(common::policy_store::told(&databases, &["status"]).0, Some(5));
}

/// So many groups, each with one port.
fn many(count: usize) -> String {
    let group = |number: usize| json!({"id": format!("g-{number}")});
    let port = |number: usize| {
        json!({"id": format!("p-{number}"), "network_id": "n", "mac_address": format!("fa:16:3e:00:{:02x}:{:02x}", number / 256, number % 256),
            "fixed_ips": [{"ip_address": format!("10.0.{}.{}", number / 256, number % 256)}], "security_groups": [format!("g-{number}")]})
    };
    let groups: serde_json::Value = (0..count).map(group).collect();
    json!({"security_groups": groups, "ports": (0..count).map(port).collect::<serde_json::Value>()})
        .to_string()
}

#[test]
fn a_leader_that_dies_in_the_middle_of_a_put_leaves_it_whole() {
    let mut databases = cluster();
    let text = many(1500);
    let path = document(&databases, "many.json", &text);
    let leader = databases.leader().expect("a leader");
    let mut put = policy_command(&databases, &["put", &path, "--batch", "5", "--json"]);
    let put = put.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sgflow runs");
    eventually("it writes", || status(&databases)["revision"].as_i64() > Some(20));
    databases.kill(&leader);
    std::thread::sleep(Duration::from_millis(10));
    let output = put.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let written: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("a summary");
    let told = status(&databases);
    assert_eq!((&written["rows"], &told["ports"]), (&json!(3000), &json!(1500)));
    assert_eq!(written["transactions"], told["revision"], "each was made once");
    let parse = |text: &str| policy::document::parse(&[("p", text)], None).policy;
    assert_eq!(parse(&get(&databases).to_string()), parse(&text));
}

#[test]
fn a_schema_is_made_newer_while_hosts_are_connected() {
    let mut older: serde_json::Value = serde_json::from_str(TEXT).expect("the schema");
    older["version"] = json!("0.9.0");
    older["tables"]["SSL"]["columns"].as_object_mut().expect("columns").shift_remove("ssl_ciphers");
    let older = older.to_string();
    let three = Databases::cluster(&older, DATABASE, 3).expect("three ovsdb-servers");
    schema_is_made_newer(&three, &["0", "1", "2"]);
    let one = Databases::alone(&older, DATABASE).expect("an ovsdb-server");
    schema_is_made_newer(&one, &["0"]);
}

fn schema_is_made_newer(databases: &Databases, servers: &[&str]) {
    put(databases, POLICY, &[]);
    let agent = StoreAgent::start(databases, "h1");
    has_hosts(databases, 1);
    let (code, said) = told(databases, &["init"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the schema was \"0.9.0\" and is 1.1.0 now"), "{said}");
    for name in servers {
        let version = || databases.client(&["get-schema-version", &databases.remote(name), DATABASE]);
        eventually("each server has it", || version().expect("a version").trim() == "1.1.0");
    }
    put(databases, &POLICY.replace("10.0.0.1}", "10.0.0.7}"), &["--wait=h1"]);
    assert!(told(databases, &["init"]).1.starts_with("prepared: 1 security groups"));
    drop(agent);
}

/// As a program of schema 1.0.0 had it: no rows of Members, so that a group of any size is one row. `count` ports, of which the first is on host h1.
fn put_as_before(databases: &Databases, count: usize) {
    let members: Vec<String> = (0..count).map(address).collect();
    by_hand(
        databases,
        &json!([
            {"op": "insert", "table": "Global", "row": {"revision": 1, "sequence": 1}},
            {"op": "insert", "table": "Security_Group", "row": {"id": "g", "members_ipv4": ["set", members],
                "rules": ["map", [["r", "ingress IPv4 from own group"]]]}}
        ]),
    );
    let port = |number: usize| {
        json!({"op": "insert", "table": "Port", "row": {"id": format!("p-{number}"), "network_id": "n", "mac_address": mac(number),
            "fixed_ips": address(number), "security_groups": "g", "hosts": if number == 0 { "h1" } else { "other" }}})
    };
    let ports: Vec<_> = (0..count).map(port).collect();
    // As much as an argument of a program may be.
    ports.chunks(300).for_each(|ports| by_hand(databases, &ports.into()));
}

fn address(number: usize) -> String {
    format!("10.0.{}.{}", number / 256, number % 256)
}

fn mac(number: usize) -> String {
    format!("fa:16:3e:00:{:02x}:{:02x}", number / 256, number % 256)
}

/// The same as a document.
fn one_large_group(count: usize) -> String {
    let port = |number: usize| {
        json!({"id": format!("p-{number}"), "network_id": "n", "mac_address": mac(number), "security_groups": ["g"],
            "fixed_ips": [{"ip_address": address(number)}], "binding:host_id": if number == 0 { "h1" } else { "other" }})
    };
    let rule = json!({"id": "r", "direction": "ingress", "ethertype": "IPv4", "remote_group_id": "g"});
    let ports: serde_json::Value = (0..count).map(port).collect();
    json!({"security_groups": [{"id": "g", "security_group_rules": [rule]}], "ports": ports}).to_string()
}

#[test]
fn a_group_of_a_store_from_before_is_made_several_rows_and_hosts_are_told_nothing() {
    const COUNT: usize = 2500;
    let mut before: serde_json::Value = serde_json::from_str(TEXT).expect("the schema");
    before["version"] = json!("1.0.0");
    before["tables"].as_object_mut().expect("tables").shift_remove("Members");
    let databases = Databases::cluster(&before.to_string(), DATABASE, 3).expect("three ovsdb-servers");
    put_as_before(&databases, COUNT);
    let needs = "the database sgflow has schema 1.0.0, this program needs 1.1.0: no table Members";
    let agent = StoreAgent::start(&databases, "h1");
    agent.wait_for(needs);
    let (code, said) = told(&databases, &["get", "--timeout", "1"]);
    assert!(code == Some(3) && said.contains(needs), "{said}");

    let (code, said) = told(&databases, &["init"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the schema was \"1.0.0\" and is 1.1.0 now"), "{said}");
    has_hosts(&databases, 1);
    get(&databases);
    assert_eq!(told(&databases, &["wait", "--hosts", "h1"]).0, Some(0));
    let changes = || agent.log().matches(" applied ").count();
    let before = changes();
    let path = document(&databases, "same.json", &one_large_group(COUNT));
    let (code, said) = told(&databases, &["put", &path, "--dry-run"]);
    assert_eq!((code, said.as_str()), (Some(0), "would write 3 rows\n"), "nothing of the policy");
    assert_eq!(told(&databases, &["put", &path]), (Some(0), "wrote 3 rows in 1 transaction\n".into()));
    assert_eq!(told(&databases, &["put", &path]), (Some(0), "the store was so already\n".into()));
    let rows = databases.client(&["dump", &databases.remotes(), DATABASE, "Members", "part", "-f", "csv"]);
    assert_eq!(rows.expect("a dump"), "Members table\npart\n1\n2\n");
    assert_eq!(told(&databases, &["wait", "--hosts", "h1"]).0, Some(0));
    assert_eq!(changes(), before, "{}", agent.log());
    let changed = one_large_group(COUNT).replace("10.0.9.195", "10.0.9.250");
    put(&databases, &changed, &["--wait=h1"]);
    assert_eq!(changes(), before + 1, "{}", agent.log());
    let (read, wrote) = (get(&databases).to_string(), &changed);
    let parse = |text: &str| policy::document::parse(&[("p", text)], None).policy;
    assert_eq!(parse(&read), parse(wrote));
}

#[test]
fn a_store_of_a_newer_program_is_left_alone() {
    let mut newer: serde_json::Value = serde_json::from_str(TEXT).expect("the schema");
    newer["version"] = json!("2.0.0");
    newer["tables"]["Port"]["columns"].as_object_mut().expect("columns").shift_remove("hosts");
    let databases = Databases::alone(&newer.to_string(), DATABASE).expect("an ovsdb-server");
    let (code, said) = told(&databases, &["init"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("has schema 2.0.0, this program has 1.1.0: use a newer sgflow; nothing was changed"),
        "{said}"
    );
    let (code, said) = told(&databases, &["get", "--timeout", "1"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains(
            "the database sgflow has schema 2.0.0, this program needs 1.1.0: no column hosts in table Port"
        ),
        "{said}"
    );
}
