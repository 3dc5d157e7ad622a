//! `sgflow policy` at a store of one server.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use common::policy_store::{alone, by_hand, document, get, policy, policy_command, put, status, told};
use common::{POLICY, sgflow, stderr, stdout};
use policy::document::parse;
use serde_json::json;

/// As sgflow understands it.
fn meaning(text: &str) -> policy::Policy {
    let parsed = parse(&[("p", text)], None);
    assert_eq!(parsed.diagnostics, []);
    parsed.policy
}

#[test]
fn what_was_put_is_what_is_got_and_is_not_written_twice() {
    let databases = alone();
    let text = r#"
security_groups:
- {id: g, name: "yes", stateful: false, security_group_rules: [
    {id: r1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 22, port_range_max: 23, remote_group_id: g},
    {id: r2, direction: egress, ethertype: IPv6, protocol: icmpv6, remote_ip_prefix: "2001:db8::/32"},
    {id: "3", direction: egress, ethertype: IPv4, remote_address_group_id: "1e3"}]}
address_groups: [{id: "1e3", name: "null", addresses: [192.0.2.0/24]}]
ports:
- {id: "0x10", network_id: "12:30", mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [g],
   allowed_address_pairs: [{ip_address: 10.0.0.9, mac_address: "fa:16:3e:00:00:02"}], "binding:host_id": "~"}
"#;
    let path = document(&databases, "p.yaml", text);
    let dry = policy(&databases, &["put", &path, "--dry-run"]);
    assert!(stdout(&dry).contains("port 0x10\n"), "{}", stdout(&dry));
    assert_eq!(status(&databases)["revision"], json!(null), "nothing was written");
    assert_eq!(told(&databases, &["put", &path]), (Some(0), "wrote 3 rows in 1 transaction\n".into()));
    assert_eq!(told(&databases, &["put", &path]), (Some(0), "the store was so already\n".into()));

    let yaml = policy(&databases, &["get"]);
    assert_eq!((yaml.status.code(), stderr(&yaml)), (Some(0), String::new()));
    assert_eq!(meaning(&stdout(&yaml)), meaning(text));
    assert_eq!(meaning(&get(&databases).to_string()), meaning(text));
    let one = policy(&databases, &["get", "--json", "--port", "0x10"]);
    assert!(stdout(&one).contains("\"0x10\"") && !stdout(&one).contains("r1"), "{}", stdout(&one));
    assert_eq!(told(&databases, &["get", "1e3", "g"]).0, Some(0));
    assert_eq!(told(&databases, &["get", "nobody"]), (Some(2), "nobody: not in the store\n".into()));
    let told = status(&databases);
    assert_eq!((&told["revision"], &told["sequence"], &told["ports"]), (&json!(1), &json!(1), &json!(1)));
}

#[test]
fn what_is_refused_keeps_the_store_as_it_is_unless_it_may_go_on() {
    let databases = alone();
    put(&databases, POLICY, &[]);
    let before = get(&databases);
    let bad = POLICY.replace("10.0.0.1}", "10.0.0.256}").replace("10.0.0.2}", "10.0.0.22}");
    let path = document(&databases, "bad.yaml", &bad);
    let (code, said) = told(&databases, &["put", &path]);
    assert_eq!(code, Some(2));
    assert!(said.contains("bad.yaml:8: port p-1: fixed_ips[0].ip_address"), "{said}");
    assert!(said.ends_with("refused: port p-1\nnothing was written\n"), "{said}");
    assert_eq!(get(&databases), before);
    let (code, said) = told(&databases, &["put", &path, "--keep-going"]);
    assert_eq!(code, Some(2), "{said}");
    let expected = POLICY.replace("10.0.0.2}", "10.0.0.22}");
    assert_eq!(meaning(&get(&databases).to_string()), meaning(&expected), "p-1 as it was, p-2 as it is now");
}

#[test]
fn what_no_document_says_is_left_alone_or_told_of() {
    let databases = alone();
    put(&databases, POLICY, &[]);
    by_hand(
        &databases,
        &json!([
            {"op": "insert", "table": "Connection", "row": {"target": "punix:more.sock"}, "uuid-name": "c"},
            {"op": "mutate", "table": "Global", "where": [], "mutations": [["connections", "insert", ["named-uuid", "c"]],
                ["external_ids", "insert", ["map", [["by", "hand"]]]]]},
            {"op": "insert", "table": "Host", "row": {"name": "h", "applied": 1}},
            {"op": "update", "table": "Port", "where": [["id", "==", "p-1"]], "row": {"hosts": ["set", ["h1", "h2"]]}},
            {"op": "mutate", "table": "Security_Group", "where": [], "mutations": [["members_ipv4", "insert", ["set", ["10.9.9.9"]]]]}
        ]),
    );
    let (code, said) = told(&databases, &["get"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(2), "member 10.9.9.9 of security group g: no document says this of it\n")
    );
    let mut edit = policy_command(&databases, &["edit"]);
    let refused = edit.env("EDITOR", "true").output().expect("sgflow runs");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));

    let moving = POLICY.replace("10.0.0.1}], ", "10.0.0.1}], \"binding:host_id\": h2, device_owner: moved, ");
    put(&databases, &moving, &[]);
    let dump = |table: &str, column: &str| {
        let remote = databases.remotes();
        databases
            .client(&["dump", &remote, "sgflow", table, column, "-f", "csv", "--no-headings"])
            .expect("a dump")
    };
    assert!(dump("Port", "hosts").contains("h1, h2"), "a live migration goes on: {}", dump("Port", "hosts"));
    assert!(
        dump("Global", "external_ids").contains("hand") && dump("Connection", "target").contains("more.sock")
    );
    assert!(
        dump("Host", "name").contains('h') && !dump("Security_Group", "members_ipv4").contains("10.9.9.9")
    );
    put(&databases, &moving.replace("h2", "h3"), &[]);
    assert!(!dump("Port", "hosts").contains("h1"), "it is somewhere else: {}", dump("Port", "hosts"));
}

#[test]
fn an_editor_changes_the_policy_unless_somebody_else_did() {
    let databases = alone();
    put(&databases, POLICY, &[]);
    let script = |name: &str, text: &str| {
        let path = databases.rundir().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a program");
        path
    };
    let edit = |script: &std::path::Path| {
        let mut command = policy_command(&databases, &["edit"]);
        command.env_remove("VISUAL").env("EDITOR", script).env("TMPDIR", databases.rundir());
        let output = command.stdin(Stdio::null()).output().expect("sgflow runs");
        (output.status.code(), stderr(&output))
    };
    let nothing = script("nothing", "true");
    assert_eq!(edit(&nothing), (Some(0), "nothing was changed\n".into()));
    let change = script("change", "sed -i s/10.0.0.1/10.0.0.7/ \"$1\"");
    assert_eq!(edit(&change), (Some(0), "wrote 2 rows in 1 transaction\n".into()));
    assert!(get(&databases).to_string().contains("10.0.0.7"));

    let (code, said) = edit(&script("bad", "sed -i s/10.0.0.7/10.0.0.300/ \"$1\""));
    assert!(code == Some(2) && said.contains("port p-1: fixed_ips[0].ip_address"), "{said}");
    let kept = said.rsplit(' ').next().expect("a path").trim();
    assert!(fs::read_to_string(kept).expect("what was edited").contains("10.0.0.300"));
    assert_eq!(fs::metadata(kept).expect("a file").permissions().mode() & 0o777, 0o600);

    let other = document(&databases, "other.yaml", &POLICY.replace("10.0.0.2}", "10.0.0.8}"));
    let program = sgflow().get_program().to_owned();
    let meanwhile = format!(
        "{} policy put {other} --store {} && sed -i s/10.0.0.7/10.0.0.6/ \"$1\"",
        program.display(),
        databases.remotes()
    );
    let (code, said) = edit(&script("meanwhile", &meanwhile));
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("somebody else wrote to the policy store meanwhile"), "{said}");
    assert!(said.contains("nothing was written"), "{said}");
    let now = get(&databases).to_string();
    assert!(now.contains("10.0.0.8") && !now.contains("10.0.0.6"), "{now}");
}

#[test]
fn two_writers_notice_each_other() {
    let databases = alone();
    let ports = |count: usize| {
        let port = |number: usize| json!({"id": format!("p-{number}"), "network_id": "n", "mac_address": format!("fa:16:3e:00:{:02x}:{:02x}", number / 256, number % 256)});
        json!({"ports": (0..count).map(port).collect::<serde_json::Value>()}).to_string()
    };
    let many = document(&databases, "many.json", &ports(2000));
    let mut slow = policy_command(&databases, &["put", &many, "--batch", "1"]);
    let slow = slow.stderr(Stdio::piped()).spawn().expect("sgflow runs");
    common::eventually("it writes", || status(&databases)["revision"].as_i64() > Some(0));
    put(&databases, POLICY, &["--retry"]);
    let slow = slow.wait_with_output().expect("it ends");
    assert_eq!(slow.status.code(), Some(4), "{}", stderr(&slow));
    let said = stderr(&slow);
    assert!(said.contains("not in one transaction") && said.contains("the rest was not"), "{said}");
    assert_eq!(meaning(&get(&databases).to_string()), meaning(POLICY), "who wrote last has written");
}

#[test]
fn a_watcher_sees_what_comes_and_goes() {
    let databases = alone();
    put(&databases, POLICY, &[]);
    let mut watch = policy_command(&databases, &["watch"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sgflow runs");
    let mut errors = BufReader::new(watch.stderr.take().expect("a pipe"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a line");
    assert_eq!(line, "watching 4 objects\n");
    put(&databases, &POLICY.replace("10.0.0.1}", "10.0.0.7}").replace("- {id: p-3", "- {id: p-4"), &[]);
    let lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines().take(4);
    let mut lines: Vec<String> = lines.collect::<Result<_, _>>().expect("lines");
    lines.sort();
    assert_eq!(lines[0], "port p-1 changed: fixed_ips +10.0.0.7 -10.0.0.1");
    assert!(lines[1].starts_with("port p-3 went: "), "{}", lines[1]);
    assert!(
        lines[2].starts_with("port p-4 came: fixed_ips +10.1.0.3; mac_address +fa:16:3e:00:00:03"),
        "{}",
        lines[2]
    );
    assert_eq!(lines[3], "security group g changed: members_ipv4 +10.0.0.7 -10.0.0.1");
    let interrupt = Command::new("kill").args(["-INT", &watch.id().to_string()]).status().expect("kill runs");
    assert!(interrupt.success());
    assert_eq!(watch.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_watcher_whom_nobody_reads_ends() {
    let databases = alone();
    let mut watch = policy_command(&databases, &["watch"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sgflow runs");
    drop(watch.stdout.take());
    common::eventually("it ends", || watch.try_wait().expect("its state").is_some());
    assert_eq!(watch.wait().expect("it has ended").code(), Some(0));
}

#[test]
fn a_watcher_sees_a_group_of_several_rows_as_one() {
    let databases = alone();
    let large = |members: usize| {
        let pair = |member: usize| json!({"ip_address": format!("10.0.{}.{}", member / 256, member % 256)});
        let pairs: serde_json::Value = (0..members).map(pair).collect();
        let port = json!({"id": "p", "network_id": "n", "mac_address": "fa:16:3e:00:00:01", "security_groups": ["g"], "allowed_address_pairs": pairs});
        json!({"security_groups": [{"id": "g"}], "ports": [port]}).to_string()
    };
    put(&databases, &large(1001), &[]);
    let mut watch = policy_command(&databases, &["watch"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sgflow runs");
    let mut errors = BufReader::new(watch.stderr.take().expect("a pipe"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a line");
    assert_eq!(line, "watching 2 objects\n");
    // What moves is as it was: only the port changes, and then the group.
    by_hand(
        &databases,
        &json!([
            {"op": "mutate", "table": "Members", "where": [], "mutations": [["members_ipv4", "insert", "10.0.0.0"]]},
            {"op": "mutate", "table": "Security_Group", "where": [], "mutations": [["members_ipv4", "delete", "10.0.0.0"]]}
        ]),
    );
    put(&databases, &large(1002), &[]);
    let lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines().take(2);
    let lines: Vec<String> = lines.collect::<Result<_, _>>().expect("lines");
    assert_eq!(
        lines,
        [
            "port p changed: allowed_address_pairs +10.0.3.233",
            "security group g changed: members_ipv4 +10.0.3.233"
        ]
    );
    watch.kill().expect("it ends");
    watch.wait().expect("it ends");
}

#[test]
fn a_store_is_made_and_said_to_be_away_by_each_of_its_addresses() {
    let databases = alone();
    let directory = databases.rundir();
    let make = |words: &[&str]| {
        sgflow().args(["policy", "init"]).args(words).current_dir(directory).output().expect("sgflow runs")
    };
    let made = make(&["--database", "one.db"]);
    assert!(stdout(&made).contains("ovsdb-server --remote=punix:one.db.sock"), "{}", stderr(&made));
    assert!(!stdout(&made).contains("election"));
    let again = make(&["--database", "one.db"]);
    assert_eq!((again.status.code(), stderr(&again).contains("is there already")), (Some(1), true));
    let first = make(&["--database", "m1.db", "--cluster", "unix:m1.raft"]);
    assert!(stdout(&first).contains("change-election-timer sgflow 2000"), "{}", stderr(&first));
    let second = make(&["--database", "m2.db", "--join", "unix:m1.raft", "--cluster", "unix:m2.raft"]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    let wrong = make(&["--database", "m3.db", "--cluster", "nonsense"]);
    assert_eq!((wrong.status.code(), stderr(&wrong).contains("ovsdb-tool: ")), (Some(1), true));
    assert_eq!(make(&["--database", "m3.db", "--join", "unix:m1.raft"]).status.code(), Some(64));

    let nowhere = ["policy", "get", "--timeout", "1", "--store", "unix:a.sock,tcp:127.0.0.1:1"];
    let output = sgflow().args(nowhere).current_dir(directory).output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    assert!(said.contains("cannot connect to unix:a.sock: No such file"), "{said}");
    assert!(said.contains("cannot connect to tcp:127.0.0.1:1: Connection refused"), "{said}");
    let unsaid = sgflow().args(["policy", "get"]).output().expect("sgflow runs");
    assert!(stderr(&unsaid).contains("it is not said where the policy store is"), "{}", stderr(&unsaid));
}

/// Ends with the test, however that ends.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_store_whose_disk_is_full_says_so_and_keeps_what_it_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    fs::create_dir(at("disk")).expect("where the disk will be");
    // In a mount namespace of its own: the disk goes with the server.
    let script = "mount -t tmpfs -o size=100k tmpfs disk && \"$0\" policy init --database disk/db >&2 && \
         exec ovsdb-server --remote=punix:$PWD/sock --unixctl=$PWD/ctl --no-chdir -vconsole:off disk/db";
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", script])
        .arg(sgflow().get_program());
    let child = command.current_dir(directory.path()).stderr(Stdio::null()).spawn().expect("a server");
    let _server = Server(child);
    let store = format!("unix:{}", at("sock"));
    let ports = |count: usize| {
        let port = |number: usize| json!({"id": format!("p{number}"), "network_id": "n", "mac_address": format!("fa:16:3e:00:{:02x}:{:02x}", number >> 8, number & 0xff)});
        let path = at("p.json");
        fs::write(&path, json!({"ports": (0..count).map(port).collect::<Vec<_>>()}).to_string())
            .expect("a document");
        path
    };
    let put = |path: String| {
        let output =
            sgflow().args(["policy", "put", "--store", &store, &path]).output().expect("sgflow runs");
        (output.status.code(), stderr(&output))
    };
    let few = ports(5);
    common::eventually("the server is there", || std::path::Path::new(&at("sock")).exists());
    assert_eq!(put(few), (Some(0), "wrote 5 rows in 1 transaction\n".into()));
    let (code, reason) = put(ports(2000));
    assert_eq!(code, Some(1), "{reason}");
    assert!(reason.contains("I/O error") && reason.contains("disk/db"), "{reason}");
    assert_eq!(put(ports(5)), (Some(0), "the store was so already\n".into()));
}
