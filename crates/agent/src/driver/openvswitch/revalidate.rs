//! Waiting for the datapath's caches.
//!
//! After a barrier the flow tables are as told, but cached megaflows live on until the revalidators come round.
//! `revalidator/wait` answers at the end of a round (ofproto/ofproto-dpif-upcall.c, OVS 3.1: when `dump_seq` has
//! changed since it was asked). The first round to end may have begun before the change; the second to end began after
//! the first had ended, so it has seen everything: we ask twice, the second time after the first answer.
//!
//! Rounds come every `max-revalidator` (500 ms) when nothing happens, and at once after any flow-mod, even one that
//! changes nothing. Such a round may be over before a question that follows it arrives, which then waits for the next:
//! so the question goes first, a barrier makes sure that it has been read (ovs-vswitchd serves both in one loop), and
//! then the flow-mod that begins the round.

use std::path::Path;
use std::time::Duration;

use rust_openflow::client::{Client, ClientError};
use rust_openflow::{Field, FlowKey, FlowMod, Match, Message, PortNo};

use crate::engine::Revalidation;
use crate::unixctl::{self, UnixctlError};

const COMMAND: &str = "revalidator/wait";
/// A round may take long on a loaded machine; beyond this something else is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns when the caches hold nothing that the tables do not say; an error is one of the connection.
pub(super) async fn caches(
    client: &Client,
    rundir: Option<&Path>,
    max_revalidator: Duration,
) -> Result<Revalidation, ClientError> {
    let reason = match rundir {
        None => "the switch is on another host".to_owned(),
        Some(rundir) => match two_rounds(client, rundir).await {
            Ok(()) => return Ok(Revalidation::Confirmed),
            Err(Failure::Switch(error)) => return Err(error),
            Err(Failure::Control(error)) => error.to_string(),
        },
    };
    // One round begins after `max_revalidator` at the latest, after the one that may have been under way.
    let time = 2 * max_revalidator;
    tokio::time::sleep(time).await;
    Ok(Revalidation::Waited { reason, time })
}

enum Failure {
    Switch(ClientError),
    Control(UnixctlError),
}

async fn two_rounds(client: &Client, rundir: &Path) -> Result<(), Failure> {
    let socket = unixctl::vswitchd_socket(rundir).await.map_err(Failure::Control)?;
    for _ in 0..2 {
        let question = unixctl::send(&socket, COMMAND).await.map_err(Failure::Control)?;
        client.barrier().await.map_err(Failure::Switch)?;
        client.confirmed(&Message::FlowMod(no_op())).await.map_err(Failure::Switch)?;
        question.answer(PATIENCE).await.map_err(Failure::Control)?;
    }
    Ok(())
}

/// Deletes a flow that nobody has: one of ours from a port that is none.
fn no_op() -> FlowMod {
    let matches = Match::new().with(Field::InPort, PortNo::ANY.0);
    FlowMod::delete_strict(&FlowKey { table: pipeline::layout::names::TABLE, priority: 0, matches })
        .with_cookie_filter(pipeline::OURS_MASK, pipeline::OURS_MASK)
}
