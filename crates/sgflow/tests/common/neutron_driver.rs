//! The API's socket as the driver of Neutron's agent uses it, and the tables of that agent.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lab::Ovs;
use serde_json::{Value, json};

use super::{Agent, eventually, flows, socket};

/// What Neutron's agent has in the tables before those of a firewall driver, and the cookie of its process.
pub fn tables_of_neutron(ovs: &Ovs, cookie: u64) {
    for flow in [
        "table=0,priority=0,actions=resubmit(,58)",
        "table=0,priority=65535,dl_vlan=4095,actions=drop",
        "table=58,priority=0,actions=resubmit(,59)",
        "table=59,priority=0,actions=resubmit(,60)",
        "table=60,priority=1,actions=NORMAL",
    ] {
        add_flow(ovs, &format!("cookie={cookie:#x},{flow}"));
    }
}

/// What the driver adds, under the cookie that the agent gave it.
pub fn hook(ovs: &Ovs, cookie: u64) {
    add_flow(ovs, &format!("cookie={cookie:#x},table=60,priority=65000,actions=resubmit(,100)"));
}

pub fn add_flow(ovs: &Ovs, flow: &str) {
    ovs.ofctl(&["-O", "OpenFlow14", "add-flow", "br-int", flow]).expect("a flow");
}

/// What the agent does at the end of its first round: of its tables, only flows of its own cookies stay.
pub fn clean_up(ovs: &Ovs, cookie: u64) {
    for flow in flows(ovs) {
        let field =
            |name: &str| flow.split(&[',', ' ']).find_map(|part| part.strip_prefix(name)).map(str::to_owned);
        let table: u8 = field("table=").map_or(0, |table| table.parse().expect("a number"));
        let held = field("cookie=").expect("a cookie");
        if table < 94 && held != format!("{cookie:#x}") {
            let all = format!("cookie={held}/-1,table={table}");
            ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int", &all]).expect("flows go");
        }
    }
}

/// One request by the agent's socket; the answer's status and body.
pub fn ask(ovs: &Ovs, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket(ovs)).expect("the agent's socket");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: sgflow\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("a request");
    // Whoever refuses a request may not read all of it.
    _ = stream.write_all(body.as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (code, serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)))
}

pub fn tell(ovs: &Ovs, session: &str, sequence: u64, mut change: Value) -> (u16, Value) {
    change["session"] = json!(session);
    change["sequence"] = json!(sequence);
    ask(ovs, "POST", "/v1/neutron-driver?wait=10", &change.to_string())
}

/// It is in force.
pub fn applied(ovs: &Ovs, session: &str, sequence: u64, change: Value) -> Value {
    let (code, answer) = tell(ovs, session, sequence, change);
    assert_eq!((code, &answer["state"]), (200, &json!("applied")), "{answer}");
    answer
}

pub fn port(number: u16, groups: &[&str]) -> Value {
    json!({"network_id": "n", "mac_address": format!("fa:16:3e:00:00:{number:02x}"),
           "fixed_ips": [format!("10.0.0.{number}")], "security_groups": groups, "device_owner": "compute:nova"})
}

/// An agent that is told by its socket, which answers.
pub fn serving(ovs: &Ovs, more: &[&str]) -> Agent {
    let agent = Agent::start_with(ovs, &[&["--policy-source", "neutron-driver"], more].concat());
    eventually("the socket answers", || UnixStream::connect(socket(ovs)).is_ok());
    agent
}
