//! Desired and actual state as one type.
//!
//! A driver wants some objects (flows, set elements, rules) and a datapath holds some. [`Tracker`] keeps both
//! maps and knows at every moment the keys where they differ; start, reconnect, drift and an ordinary change
//! are then the same operation: say what is wanted, say what was seen, apply the difference.
//!
//! The law, property-tested below: after [`Tracker::confirm`] of everything [`Tracker::pending`] returned, and
//! nothing else having been said, nothing is pending and the actual map equals the desired one.
#![forbid(unsafe_code)]

mod tracker;

pub use tracker::{Change, Tracker};
