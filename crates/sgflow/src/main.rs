//! The sgflow command.
fn main() {}
