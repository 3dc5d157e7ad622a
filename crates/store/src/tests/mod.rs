//! What a host sees of the store, against the policy that was written to it: through the in-memory server, byte by byte.

mod history;
mod kills;
mod parts;
mod rows;
mod world;
mod writer;
