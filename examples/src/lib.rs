//! Runnable programs, one per use: see the folder `examples/`. What they share is here.

pub mod dns;
pub mod netlink;
