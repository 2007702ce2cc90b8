//! Code that the runnable programs in the folder `examples/` share.

pub mod dns;
pub mod netlink;
