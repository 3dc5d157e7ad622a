//! `sgflow demo`: the main job, embedded. A private Open vSwitch, namespaces as VMs, the agent, real traffic for every
//! pair and service held against the evaluator, and a live edit that cuts one connection and leaves another alone.

mod agent_process;
mod guests;
mod live_edit;
mod matrix;
mod probes;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use lab::{FailMode, Ovs, OvsOptions};
use rust_openflow::Flow;

use agent_process::AgentProcess;
use guests::Guests;

/// What is enforced, as it stands in the repository.
const POLICY: &str = include_str!("../../../../docs/examples/demo.yaml");
const BRIDGE: &str = "br-int";
/// Namespaces and run directory of `--keep`.
const KEPT: &str = "sgflow-demo";

/// Options of `sgflow demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Leave everything running, in namespaces sgflow-demo-VM and /run/sgflow-demo; the next demo takes it down.
    #[arg(long)]
    keep: bool,
    /// Only take down what an earlier `--keep` left.
    #[arg(long, conflicts_with = "keep")]
    teardown: bool,
}

/// Runs the demo; an error when anything was not as expected.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    lab::teardown(KEPT).context("taking down an earlier demo")?;
    if args.teardown {
        return Ok(());
    }
    step("Starting a private Open vSwitch (userspace datapath) in a network namespace of its own");
    let named = args.keep.then(|| KEPT.to_owned());
    let mut ovs = Ovs::start(OvsOptions { named, ..OvsOptions::default() })?;
    ovs.add_bridge(BRIDGE, FailMode::Secure)?;

    let policy = parse(POLICY)?;
    let guests = Guests::plug(&ovs, &policy)?;
    step(&format!("{} VMs on {} networks: {}", guests.len(), guests.networks(), guests.describe()));

    let document = ovs.rundir().join("policy.yaml");
    fs::write(&document, POLICY).with_context(|| format!("writing {}", document.display()))?;
    let agent = AgentProcess::start(&mut ovs, &document)?;
    agent.wait_for_applied(0)?;
    step(&format!("sgflow agent enforces docs/examples/demo.yaml: {} flows on {BRIDGE}", dump(&ovs)?.len()));

    let services = guests.serve()?;
    step("Sending real traffic: every pair, every service, IPv4 and IPv6");
    let seen = probes::send(&guests)?;
    let expected = probes::expected(&guests, &policy);
    drop(services);
    println!("{}", matrix::render(&guests, &expected, &seen));
    let wrong = matrix::differences(&expected, &seen);
    ensure!(wrong.is_empty(), "not as the policy says:\n{}", wrong.join("\n"));
    println!("  {} verdicts, every one as the evaluator says.", seen.len());
    let (sent, crossed) = probes::crossing(&guests)?;
    ensure!(crossed == 0, "{crossed} of {sent} frames got from one network into another");
    println!("  {sent} frames towards the other network, by MAC and broadcast: none crossed.\n");

    live_edit::run(&guests, &document, &agent)?;

    further(&ovs, &document, args.keep);
    if args.keep {
        drop(guests);
        ovs.keep()?;
    }
    Ok(())
}

fn parse(text: &str) -> anyhow::Result<policy::Policy> {
    let parsed = policy::document::parse(&[("docs/examples/demo.yaml", text)], None);
    if let Some(diagnostic) = parsed.diagnostics.first() {
        bail!("{diagnostic}");
    }
    Ok(parsed.policy)
}

fn dump(ovs: &Ovs) -> anyhow::Result<Vec<Flow>> {
    let text = ovs.ofctl(&["--no-names", "--no-stats", "dump-flows", &mgmt(ovs)])?;
    let flows = text.lines().filter(|line| line.contains("actions="));
    flows.map(|line| line.parse().with_context(|| format!("reading {line}"))).collect()
}

fn mgmt(ovs: &Ovs) -> String {
    format!("unix:{}", ovs.mgmt(BRIDGE).display())
}

fn further(ovs: &Ovs, document: &Path, kept: bool) {
    if !kept {
        println!("To look around yourself: make demo DEMO_ARGS=--keep");
        return;
    }
    let rundir = ovs.rundir().display();
    println!(
        "Left running. To look further:\n  \
           sgflow top --api-socket {rundir}/sgflow.sock        (also status, ports, groups)\n  \
           ovs-ofctl --no-stats dump-flows {mgmt}        (docs/pipeline.md tells how to read it)\n  \
           ovs-appctl -t {rundir}/ovs-vswitchd.*.ctl dpctl/dump-conntrack\n  \
           ip netns exec {KEPT}-bastion ping -c1 10.0.0.12\n  \
           $EDITOR {document}        (the agent follows)\n\
         To end it: make demo DEMO_ARGS=--teardown",
        mgmt = mgmt(ovs),
        document = document.display(),
    );
}

fn step(text: &str) {
    println!("── {text}");
}
