//! `ofproto/trace`: a switch that answers, packets to ask about, and the answers read.

pub(crate) mod probe;
pub(crate) mod switch;
pub(crate) mod trail;
