//! `sgflow ports` and `sgflow groups`, of a real agent with each driver.

mod common;
mod documented;

use std::process::Output;

use common::neutron_driver::ask;
use common::{Agent, POLICY, bridge, document, eventually, ovs, sgflow, socket, status, stderr, stdout};
use documented::is_documented;
use lab::{DummySpec, FailMode, HybridHost, HybridSpec, Ovs};
use serde_json::{Value, json};

fn list(ovs: &Ovs, words: &[&str]) -> Output {
    sgflow().args(words).arg("--api-socket").arg(socket(ovs)).output().expect("sgflow runs")
}

fn as_json(ovs: &Ovs, words: &[&str]) -> Vec<Value> {
    let output = list(ovs, &[words, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words:?}: {}", stderr(&output)))
}

fn converged(ovs: &Ovs) {
    eventually("converged", || stdout(&status(ovs, &[])).starts_with("converged"));
}

/// Of each port its id, its state and why.
fn states(ports: &[Value]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ports.iter().map(|port| (text(&port["id"]), text(&port["state"]), text(&port["reason"]))).collect()
}

fn fits(output: &Output) {
    let text = stdout(output);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn ports_and_groups_on_open_vswitch() {
    let ovs = ovs();
    bridge(&ovs);
    for (name, id) in [("tap3", "p-3"), ("tap9", "p-9"), ("tap8", "p-8"), ("twin", "p-8")] {
        let spec = DummySpec { port_id: Some(id.into()), tag: Some(20), ..DummySpec::new(name) };
        ovs.add_dummy_port("br-int", spec).expect("a port");
    }
    let text = POLICY.replace("id: p-3, ", "id: p-3, port_security_enabled: false, ");
    document(
        &ovs,
        &(text + "address_groups: [{id: ag, name: offices, addresses: [192.0.2.0/24, '2001:db8::/32']}]\n"),
    );
    let _agent = Agent::start_at_home(&ovs, &["--ipset-mirror"]);
    eventually("all are known", || status(&ovs, &[]).status.code() == Some(2));
    eventually("all are rendered", || {
        let twins = "another interface has the same external_ids:iface-id p-8; both are closed until one of them goes";
        let wanted = [
            ("p-1", "filtered", ""),
            ("p-2", "filtered", ""),
            ("p-3", "trusted", ""),
            ("p-8", "closed", twins),
            ("p-9", "closed", "no policy knows it"),
        ];
        let states = states(&as_json(&ovs, &["ports"]));
        states.iter().map(|(id, state, why)| (id.as_str(), state.as_str(), why.as_str())).eq(wanted)
    });
    let port = &as_json(&ovs, &["ports", "tap1"])[0];
    assert!(port["zone"].as_u64().is_some_and(|zone| zone >= 4096) && port["set"].is_u64(), "{port}");
    let known = json!([
        port["id"],
        port["interface"],
        port["ofport"],
        port["vlan"],
        port["mac"],
        port["addresses"],
        port["groups"]
    ]);
    assert_eq!(known, json!(["p-1", "tap1", 1, 10, "fa:16:3e:00:00:01", ["10.0.0.1"], ["g"]]));

    let groups = as_json(&ovs, &["groups"]);
    let (group, offices) = (&groups[0], &groups[1]);
    let known = json!([
        group["id"],
        group["rules"],
        group["members_ipv4"],
        group["members_ipv6"],
        group["local_ports"]
    ]);
    assert_eq!(known, json!(["g", 3, 3, 0, ["p-1", "p-2"]]), "p-3 is a member and is not filtered");
    assert_eq!(json!([group["remote_of_sets"], group["stateful"]]), json!([[port["set"]], true]));
    assert!(group["conjunction_id"].is_u64());
    assert_eq!(group["kernel_sets"], json!([{"name": "NIPv4g", "members": 3, "max_members": 65536}]));
    let known = json!([
        offices["id"],
        offices["kind"],
        offices["members_ipv4"],
        offices["members_ipv6"],
        offices["conjunction_id"]
    ]);
    assert_eq!(known, json!(["ag", "address-group", 1, 1, null]), "no rule names it");
    assert_eq!(as_json(&ovs, &["groups", "offices"]), std::slice::from_ref(offices), "by its name");

    let wide = |words: &[&str]| {
        let mut command = sgflow();
        command.args(words).arg("--api-socket").arg(socket(&ovs)).env_remove("COLUMNS");
        stdout(&command.output().expect("sgflow runs"))
    };
    assert!(
        wide(&["ports", "p-8"])
            .contains("the same external_ids:iface-id p-8; both are closed until one of them goes\n")
    );
    for words in [&["ports"][..], &["ports", "p-8"], &["groups"], &["groups", "g"]] {
        fits(&list(&ovs, words));
    }
    for (words, told) in
        [(["ports", "p-7"], "no interface of the bridge"), (["groups", "h"], "the policy has no group h")]
    {
        let output = list(&ovs, &words);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
}

#[test]
fn what_a_document_says_wrong_is_told_with_the_object() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let _agent = Agent::start(&ovs);
    converged(&ovs);
    let text = POLICY.replace("ip_address: 10.0.0.2}", "ip_address: 10.0.0.300}");
    document(&ovs, &text.replace("direction: ingress", "direction: sideways"));
    eventually("the port is as it was, and why is told", || {
        let port = &as_json(&ovs, &["ports", "p-2"])[0];
        let refused =
            port["refused"].as_str().is_some_and(|why| why.starts_with("fixed_ips[0].ip_address: "));
        refused && port["state"] == "filtered" && port["addresses"] == json!(["10.0.0.2"])
    });
    let group = &as_json(&ovs, &["groups", "g"])[0];
    let refused = &group["refused"]["rule i4 of security group g"];
    assert!(refused.as_str().is_some_and(|why| why.starts_with("direction: ")), "{group}");
}

#[test]
fn pages_follow_on_each_other_and_are_as_the_document_says() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    converged(&ovs);
    let get = |path: &str| ask(&ovs, "GET", path, "");
    let (code, first) = get("/v1/ports?limit=1");
    assert_eq!((code, &first["next"], &first["ports"][0]["id"]), (200, &json!("p-1"), &json!("p-1")));
    let (_, second) = get("/v1/ports?limit=1&after=p-1");
    assert_eq!((&second["next"], &second["ports"][0]["id"]), (&Value::Null, &json!("p-2")));
    is_documented("PortPage", &first);
    is_documented("GroupPage", &get("/v1/groups").1);
    for bad in ["/v1/ports?limit=0", "/v1/ports?limit=1025", "/v1/groups?after=g", "/v1/groups?what=x"] {
        let (code, answer) = get(bad);
        assert_eq!(code, 400, "{bad}: {answer}");
        is_documented("Error", &answer);
    }
    drop(agent);
}

/// A host with hybrid bridges for p-1 and p-2, and p-3 plugged in without one.
fn hybrid(kind: &[&str]) -> (HybridHost, Ovs, Agent) {
    let specs = [HybridSpec::new("p-1", 10), HybridSpec::new("p-2", 10)];
    let host = HybridHost::start(&specs).expect("a host");
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    drop(ovs.add_dummy_ports("br-int", specs.iter().map(HybridSpec::on_switch).collect()).expect("ports"));
    let spec = DummySpec { port_id: Some("p-3".into()), tag: Some(10), ..DummySpec::new("tap3") };
    drop(ovs.add_dummy_port("br-int", spec).expect("a port"));
    document(&ovs, POLICY);
    let agent = Agent::start_on_host(&ovs, host.netns(), kind);
    eventually("it answers", || status(&ovs, &[]).status.code() != Some(1));
    (host, ovs, agent)
}

fn of_hybrid(ovs: &Ovs) -> Value {
    eventually("all are known", || {
        let states = states(&as_json(ovs, &["ports"]));
        let states: Vec<_> = states.iter().map(|(id, state, _)| (id.as_str(), state.as_str())).collect();
        states == [("p-1", "filtered"), ("p-2", "filtered"), ("p-3", "unfiltered")]
    });
    let ports = as_json(ovs, &["ports"]);
    assert_eq!(ports[2]["reason"], "tap3 is on no hybrid bridge: this driver does not filter it");
    assert!(ports[0]["interface"].as_str().is_some_and(|name| name.starts_with("qvo")), "{}", ports[0]);
    assert!(ports[0]["zone"].as_u64().is_some_and(|zone| zone >= 32768), "{}", ports[0]);
    assert_eq!(json!([ports[0]["vlan"], ports[0]["groups"]]), json!([10, ["g"]]));
    let groups = as_json(ovs, &["groups"]);
    let group = &groups[0];
    let known = json!([group["members_ipv4"], group["local_ports"], group["remote_of_groups"]]);
    assert_eq!(known, json!([3, ["p-1", "p-2"], ["g"]]), "{group}");
    group["kernel_sets"].clone()
}

#[test]
fn ports_and_groups_with_iptables() {
    let (_host, ovs, _agent) = hybrid(&["--driver", "iptables_hybrid"]);
    assert_eq!(of_hybrid(&ovs), json!([{"name": "NIPv4g", "members": 3, "max_members": 65536}]));
}

#[test]
fn ports_and_groups_with_nftables() {
    let (_host, ovs, _agent) = hybrid(&["--driver", "nftables"]);
    let sets = of_hybrid(&ovs);
    assert_eq!(
        sets,
        json!([{"name": "NIPv4g", "members": 3, "max_members": null}, {"name": "NIPv4g/wide", "members": 0, "max_members": null}])
    );
}
