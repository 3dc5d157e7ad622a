//! Who is at the other end of the socket.

use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::unix::UCred;

/// The group whose members may ask.
pub const GROUP: &str = "sgflow";
/// The group whose members may change the policy, where it comes by the socket.
pub const POLICY_GROUP: &str = "sgflow-policy";

/// Whether the peer may read: root, the daemon's own user, or a member of [`GROUP`] or [`POLICY_GROUP`]. Asks the system's user database,
/// which may take its time.
pub(super) fn may_read(peer: UCred) -> bool {
    is_of(peer, GROUP) || may_write(peer)
}

/// Whether the peer may change the policy: root, the daemon's own user, or a member of [`POLICY_GROUP`].
pub(super) fn may_write(peer: UCred) -> bool {
    is_of(peer, POLICY_GROUP)
}

fn is_of(peer: UCred, group: &str) -> bool {
    let user = Uid::from_raw(peer.uid());
    if user.is_root() || user == Uid::effective() {
        return true;
    }
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    let is_primary = group.gid == Gid::from_raw(peer.gid());
    is_primary || User::from_uid(user).ok().flatten().is_some_and(|user| group.mem.contains(&user.name))
}
