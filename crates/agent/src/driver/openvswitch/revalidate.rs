//! Waiting for the datapath's caches.
//!
//! After a barrier the flow tables are as told, but cached megaflows live on until the revalidators come round.
//! `revalidator/wait` (ovs-vswitchd(8)) answers when a round is over, be it one that began before the change: so it is
//! asked twice, and in between a flow-mod that changes nothing makes the next round begin at once instead of after
//! half a second of idleness.

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
        Some(rundir) => match rounds(client, rundir).await? {
            Ok(()) => return Ok(Revalidation::Confirmed),
            Err(error) => error.to_string(),
        },
    };
    // One round begins after `max_revalidator` at the latest; the second is for the one that was under way.
    let time = 2 * max_revalidator;
    tokio::time::sleep(time).await;
    Ok(Revalidation::Waited { reason, time })
}

async fn rounds(client: &Client, rundir: &Path) -> Result<Result<(), UnixctlError>, ClientError> {
    let socket = match unixctl::vswitchd_socket(rundir).await {
        Ok(socket) => socket,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = unixctl::call(&socket, COMMAND, PATIENCE).await {
        return Ok(Err(error));
    }
    client.confirmed(&Message::FlowMod(no_op())).await?;
    Ok(unixctl::call(&socket, COMMAND, PATIENCE).await.map(drop))
}

/// Deletes a flow that nobody has: in the last table before the hidden one, from a port that is none.
fn no_op() -> FlowMod {
    let matches = Match::new().with(Field::InPort, PortNo::ANY.0);
    FlowMod::delete_strict(&FlowKey { table: pipeline::layout::names::TABLE, priority: 0, matches })
        .with_cookie_filter(pipeline::OURS_MASK, pipeline::OURS_MASK)
}
