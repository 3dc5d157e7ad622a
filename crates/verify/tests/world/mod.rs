//! Small worlds in which much happens: policies whose objects overlap, and frames that hit them.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod frames;
pub(crate) mod host;
pub(crate) mod play;
pub(crate) mod policies;
pub(crate) mod routers;
