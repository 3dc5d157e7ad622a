//! Waiting for the datapath's caches (docs/decisions/0009).
//!
//! After a barrier the flow tables are as told, but cached megaflows live on until the revalidators come round.
//! `revalidator/wait` answers at the end of a round (ofproto/ofproto-dpif-upcall.c, OVS 3.1: when `dump_seq` has
//! changed since it was asked). That is worth something only
//!
//! - after the revalidators were told of the change, which ovs-vswitchd does in the next turn of its main loop, after it
//!   has answered who waits for a round (ofproto/ofproto-dpif.c: `type_run`). A command to its control socket, and then a
//!   barrier, make it go through a turn;
//! - of a round that began after that: not of the first one to end, which may have been under way;
//! - of a round that saw all flows. In the userspace datapath one that takes so many away that their table shrinks under its
//!   hands (lib/cmap.c) passes over what it had not come to, unless a round had seen that before (`revalidator_sweep`).
//!   What is left is halved by each further round, so we ask for rounds until one takes nothing away;
//! - of a round that changed the flows which it meant. The userspace datapath before 3.1.3 looks for the flow to be changed by
//!   a packet, and finds another that the packet matches too; what should have been changed is never looked at again. There
//!   we have all cached flows taken away. `revalidator/purge` passes over one that a revalidator is looking at, hence twice.
//!
//! Rounds come every `max-revalidator` (500 ms) when nothing happens, and at once after any flow-mod, even one that
//! changes nothing. Such a round may be over before a question that follows it arrives, which then waits for the next:
//! so the question goes first, a barrier makes sure that it has been read (ovs-vswitchd serves both in one loop), then the
//! flow-mod that begins the round, and another barrier for the turn in which the revalidators are told of it.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rust_openflow::client::{Client, ClientError};
use rust_openflow::{Field, FlowKey, FlowMod, Match, Message, PortNo};
use tracing::warn;

use crate::engine::Revalidation;
use crate::unixctl::{Control, UnixctlError, vswitchd_socket};

const ROUND: &str = "revalidator/wait";
/// Says which datapath it is, first of all: `system@ovs-system:`; and how many flows each revalidator looks after:
/// `  5: (keys 4000)`.
const CACHED: &str = "upcall/show";
const KERNEL: &str = "system@";
const PURGE: &str = "revalidator/purge";
/// `ovs-vswitchd (Open vSwitch) 3.1.0`.
const VERSION: &str = "version";
/// The first releases with "dpif-netdev: Fix dpif_netdev_flow_put" of the series that ever were without.
const MENDED: [(u32, u32, u32); 3] = [(2, 17, 8), (3, 0, 5), (3, 1, 3)];
/// A round may take long on a loaded machine; beyond this something else is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rounds that must have ended: one that was under way, one that sees the change, and one more for what a thread had
/// looked up before and put into the cache behind it.
const FEWEST_ROUNDS: usize = 3;
/// Where flows go all the time for other reasons: halved so often, nothing is left of as many flows as `flow-limit` admits,
/// 200,000.
const MOST_ROUNDS: usize = FEWEST_ROUNDS + 18;

/// The caches of one ovs-vswitchd.
#[derive(Debug)]
pub(super) struct Caches {
    /// The directory of its control socket; `None` if it is on another host.
    rundir: Option<PathBuf>,
    switchd: Option<Switchd>,
}

impl Caches {
    /// Those of the ovs-vswitchd with its control socket in `rundir`, if it is on this host.
    pub(super) fn new(rundir: Option<PathBuf>) -> Self {
        Caches { rundir, switchd: None }
    }

    /// Returns when the caches hold nothing that the tables do not say; an error is one of the connection.
    pub(super) async fn follow(
        &mut self,
        client: &Client,
        max_revalidator: Duration,
    ) -> Result<Revalidation, ClientError> {
        let reason = match &self.rundir {
            None => "the switch is on another host".to_owned(),
            Some(rundir) => match follow(client, rundir, self.switchd.take()).await {
                Ok(switchd) => {
                    self.switchd = Some(switchd);
                    return Ok(Revalidation::Confirmed);
                }
                Err(Failure::Switch(error)) => return Err(error),
                Err(Failure::Control(error)) => error.to_string(),
            },
        };
        // One round begins after `max_revalidator` at the latest, after the one that may have been under way.
        let time = 2 * max_revalidator;
        tokio::time::sleep(time).await;
        Ok(Revalidation::Waited { reason, time })
    }
}

enum Failure {
    Switch(ClientError),
    Control(UnixctlError),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Switch(error)
    }
}

impl From<UnixctlError> for Failure {
    fn from(error: UnixctlError) -> Self {
        Failure::Control(error)
    }
}

/// A process of ovs-vswitchd: what it says of itself is asked once.
#[derive(Debug)]
struct Switchd {
    control: Control,
    is_kernel: bool,
    mixes_up: bool,
}

/// Has the caches follow, by the connection there was or a new one, which then is good for the next time.
async fn follow(client: &Client, rundir: &Path, known: Option<Switchd>) -> Result<Switchd, Failure> {
    let mut switchd = match known {
        Some(switchd) => switchd,
        None => Switchd::connect(vswitchd_socket(rundir).await?).await?,
    };
    if switchd.mixes_up {
        switchd.purged_rounds(client).await?;
    } else {
        switchd.rounds(client).await?;
    }
    Ok(switchd)
}

impl Switchd {
    async fn connect(socket: PathBuf) -> Result<Self, UnixctlError> {
        let mut control = Control::connect(socket).await?;
        let is_kernel = control.ask(CACHED, PATIENCE).await?.starts_with(KERNEL);
        let mixes_up = !is_kernel && mixes_up_flows(&control.ask(VERSION, PATIENCE).await?);
        if mixes_up {
            tell_of_the_purge();
        }
        Ok(Switchd { control, is_kernel, mixes_up })
    }

    async fn purged_rounds(&mut self, client: &Client) -> Result<(), Failure> {
        self.command_in_a_turn(client, PURGE).await?;
        for _ in 0..FEWEST_ROUNDS {
            self.round(client).await?;
        }
        self.control.ask(PURGE, PATIENCE).await?;
        Ok(())
    }

    async fn rounds(&mut self, client: &Client) -> Result<(), Failure> {
        let cached = self.command_in_a_turn(client, CACHED).await?;
        let (mut before, mut between) = (0, flows(&cached));
        for asked in 1..=MOST_ROUNDS {
            self.round(client).await?;
            let now =
                if self.is_kernel { between } else { flows(&self.control.ask(CACHED, PATIENCE).await?) };
            // The round that ended last began after the one before it had ended, and that was asked for after `before`.
            if asked >= FEWEST_ROUNDS && now >= before {
                break;
            }
            (before, between) = (between, now);
        }
        Ok(())
    }

    /// After it, the revalidators know of what was changed before it.
    async fn command_in_a_turn(&mut self, client: &Client, command: &'static str) -> Result<String, Failure> {
        let answer = self.control.ask(command, PATIENCE).await?;
        client.barrier().await?;
        Ok(answer)
    }

    async fn round(&mut self, client: &Client) -> Result<(), Failure> {
        self.control.send(ROUND).await?;
        client.barrier().await?;
        client.confirmed(&Message::FlowMod(no_op())).await?;
        // The revalidators are told in the turn after that of the flow-mod, and a switch that has nothing to do takes its time for it.
        client.barrier().await?;
        self.control.answer(PATIENCE).await?;
        Ok(())
    }
}

fn tell_of_the_purge() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (since, reason) = ("3.1.3, 3.0.5 or 2.17.8", "this version may leave a cached flow unchanged");
        warn!(
            reason,
            since, "all cached flows are taken away after each change; a newer Open vSwitch needs not"
        );
    });
}

/// Whether the userspace datapath of this version of Open vSwitch may change another flow than is meant. A version that cannot
/// be read is one of these.
fn mixes_up_flows(version: &str) -> bool {
    let mut parts = version.trim().rsplit(' ').next().unwrap_or("").split(['.', '-', '+']);
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor), Some(patch)) = (number(), number(), number()) else { return true };
    let of_its_series = MENDED.iter().find(|mended| (mended.0, mended.1) == (major, minor));
    match of_its_series {
        Some(mended) => (major, minor, patch) < *mended,
        None => (major, minor) < (3, 2),
    }
}

/// How many flows are cached, in the words of the switch.
fn flows(cached: &str) -> u64 {
    let counts = cached.lines().filter_map(|line| line.split_once("(keys ")?.1.strip_suffix(')'));
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// Deletes a flow that nobody has: one of ours from a port that is none.
fn no_op() -> FlowMod {
    let matches = Match::new().with(Field::InPort, PortNo::ANY.0);
    FlowMod::delete_strict(&FlowKey { table: pipeline::layout::names::TABLE, priority: 0, matches })
        .with_cookie_filter(pipeline::OURS_MASK, pipeline::OURS_MASK)
}

#[cfg(test)]
mod tests {

    use bytes::BytesMut;
    use rust_openflow::message::{Framer, Header};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    /// Longer than a message takes from one task to the other: one that comes later misses its turn, and the model is
    /// kinder than it could be.
    const A_MOMENT: Duration = Duration::from_millis(20);

    const STALE: u32 = 4000;

    /// The main loop of ovs-vswitchd and its revalidators, as unkind as they may be: what is sent as an answer to one part
    /// of the loop is there for the next part, and a round ends, and the next one begins, whenever that is too early.
    struct Model {
        datapath: &'static str,
        version: &'static str,
        openflow: UnixListener,
        peer: Option<(UnixStream, Framer)>,
        control: UnixListener,
        /// What reads the next command, and what waits for the end of a round.
        controls: Vec<UnixStream>,
        questions: Vec<UnixStream>,
        accepted: u32,
        /// Changes of the flow tables that were made, and that the revalidators know of; and the one that is waited for.
        made: u32,
        told: u32,
        change: u32,
        /// What the round under way began with.
        known: u32,
        /// Cached flows that are not as the tables say.
        stale: u32,
        rounds: u32,
    }

    impl Model {
        fn new(datapath: &'static str, version: &'static str, rundir: &Path) -> Self {
            std::fs::write(rundir.join("ovs-vswitchd.pid"), "1\n").unwrap();
            let openflow = UnixListener::bind(rundir.join("br-int.mgmt")).unwrap();
            let control = UnixListener::bind(rundir.join("ovs-vswitchd.1.ctl")).unwrap();
            let (peer, controls, questions) = (None, Vec::new(), Vec::new());
            let (accepted, made, told, change, known, stale, rounds) = (0, 0, 0, 0, 0, 0, 0);
            Model {
                datapath,
                version,
                openflow,
                peer,
                control,
                controls,
                questions,
                accepted,
                made,
                told,
                change,
                known,
                stale,
                rounds,
            }
        }

        /// One turn of `main` (vswitchd/ovs-vswitchd.c, 3.1).
        async fn turn(&mut self) {
            self.type_run().await;
            self.ofproto_run().await;
            self.unixctl_server_run().await;
        }

        /// Answers come before the revalidators are told (ofproto/ofproto-dpif.c: `udpif_run`, `udpif_revalidate`).
        async fn type_run(&mut self) {
            for mut question in self.questions.drain(..) {
                question.write_all(answer("").as_bytes()).await.unwrap();
                self.controls.push(question);
            }
            self.told = self.made;
        }

        async fn ofproto_run(&mut self) {
            if self.peer.is_none() {
                let (stream, _) = self.openflow.accept().await.unwrap();
                self.peer = Some((stream, Framer::default()));
            }
            let Some((stream, framer)) = &mut self.peer else { return };
            let mut bytes = [0; 4096];
            while let Ok(Ok(length @ 1..)) = tokio::time::timeout(A_MOMENT, stream.read(&mut bytes)).await {
                framer.push(&bytes[..length]);
                let mut answers = BytesMut::new();
                while let Some(message) = framer.next_message().unwrap() {
                    let (Header { xid, .. }, message) = Message::decode(&message).unwrap();
                    match message {
                        Message::Hello(versions) => {
                            Message::Hello(versions).encode(xid, &mut answers).unwrap()
                        }
                        Message::BarrierRequest => Message::BarrierReply.encode(xid, &mut answers).unwrap(),
                        Message::FlowMod(_) => self.made += 1,
                        other => panic!("{other:?}"),
                    }
                }
                stream.write_all(&answers).await.unwrap();
            }
        }

        async fn unixctl_server_run(&mut self) {
            while let Ok(accepted) = tokio::time::timeout(A_MOMENT, self.control.accept()).await {
                self.controls.push(accepted.unwrap().0);
                self.accepted += 1;
            }
            for mut stream in std::mem::take(&mut self.controls) {
                let mut request = [0; 256];
                let asked = tokio::time::timeout(A_MOMENT, stream.read(&mut request)).await;
                let length = match asked {
                    Ok(Ok(length @ 1..)) => length,
                    Ok(_) => continue,
                    Err(_) => {
                        self.controls.push(stream);
                        continue;
                    }
                };
                let request: Value = serde_json::from_slice(&request[..length]).unwrap();
                match request["method"].as_str().unwrap() {
                    ROUND => {
                        self.round_ends();
                        self.questions.push(stream);
                    }
                    command => {
                        stream.write_all(answer(&self.command(command)).as_bytes()).await.unwrap();
                        self.controls.push(stream);
                    }
                }
            }
        }

        fn command(&mut self, command: &str) -> String {
            match command {
                CACHED => {
                    let (datapath, one, other) = (self.datapath, self.stale / 3, self.stale - self.stale / 3);
                    format!(
                        "{datapath}:\n  flows         : (current 9) (avg 9) (max 9) (limit 10000)\n\n  \
                         4: (keys {one})\n  5: (keys {other})\n"
                    )
                }
                VERSION => format!("ovs-vswitchd (Open vSwitch) {}\n", self.version),
                PURGE => {
                    self.stale = if self.stale == STALE { 1 } else { 0 };
                    String::new()
                }
                other => panic!("{other}"),
            }
        }

        /// A round is over, and the next one begins.
        fn round_ends(&mut self) {
            self.rounds += 1;
            if self.known >= self.change && self.stale > 0 {
                // As measured (docs/decisions/0009).
                self.stale = match self.datapath.starts_with(KERNEL) {
                    true => 0,
                    false if self.stale == STALE => STALE / 4,
                    false => self.stale / 2,
                };
            }
            self.known = self.told;
        }
    }

    fn answer(result: &str) -> String {
        json!({"id": 0, "result": result, "error": null}).to_string()
    }

    /// Two changes of the tables that the caches follow; what was stale in the end, and how many rounds it took, of each.
    async fn waited_for(datapath: &'static str, version: &'static str) -> [(u32, u32); 2] {
        let rundir = tempfile::tempdir().unwrap();
        let mut switchd = Model::new(datapath, version, rundir.path());
        let target = format!("unix:{}", rundir.path().join("br-int.mgmt").display());
        let mut caches = Caches::new(Some(rundir.path().to_owned()));
        let mut connected = tokio::spawn(async move { Client::connect(&target).await.unwrap() });
        while !connected.is_finished() {
            switchd.turn().await;
        }
        let (client, _events) = (&mut connected).await.unwrap();
        let mut results = [(0, 0); 2];
        for result in &mut results {
            (switchd.change, switchd.stale, switchd.rounds) = (switchd.made + 1, STALE, 0);
            let client = client.clone();
            let mut changed_and_waited = tokio::spawn(async move {
                client.confirmed(&Message::FlowMod(no_op())).await.unwrap();
                let followed = caches.follow(&client, Duration::ZERO).await.unwrap();
                (followed, caches)
            });
            while !changed_and_waited.is_finished() {
                switchd.turn().await;
            }
            let followed;
            (followed, caches) = (&mut changed_and_waited).await.unwrap();
            assert_eq!(followed, Revalidation::Confirmed);
            *result = (switchd.stale, switchd.rounds);
        }
        assert_eq!(switchd.accepted, 1, "a connection to the control socket is kept");
        results
    }

    #[tokio::test]
    async fn a_round_that_has_not_heard_of_the_change_is_not_waited_for() {
        let each_costs_time = (0, 3);
        assert_eq!(waited_for("system@ovs-system", "3.1.0").await, [each_costs_time; 2]);
    }

    #[tokio::test]
    async fn flows_that_rounds_passed_over_are_waited_for() {
        let eleven_halve_them_to_nothing_and_in_two_nothing_happens = (0, 1 + 11 + 2);
        let expected = [eleven_halve_them_to_nothing_and_in_two_nothing_happens; 2];
        assert_eq!(waited_for("netdev@ovs-netdev", "3.1.3").await, expected);
    }

    #[tokio::test]
    async fn flows_that_may_have_been_mixed_up_are_taken_away() {
        let between_the_first_time_and_the_last = (0, 3);
        assert_eq!(waited_for("netdev@ovs-netdev", "3.1.0").await, [between_the_first_time_and_the_last; 2]);
    }

    #[test]
    fn versions_that_mix_up_flows_are_known() {
        for version in
            ["2.10.0", "2.16.9", "2.17.7", "3.0.0", "3.0.4", "3.1.0", "3.1.2", "3.1.0-2+deb12u1", "3.1", ""]
        {
            assert!(mixes_up_flows(&format!("ovs-vswitchd (Open vSwitch) {version}\n")), "{version}");
        }
        for version in
            ["2.17.8", "2.17.12", "3.0.5", "3.1.3", "3.1.7", "3.2.0", "3.5.0", "4.0.0", "3.3.0-7ubuntu0.1"]
        {
            assert!(!mixes_up_flows(&format!("ovs-vswitchd (Open vSwitch) {version}\n")), "{version}");
        }
    }
}
