//! Calls that must end, and programs that must end in time.
#![allow(missing_docs)]

in_netns::rootless!();

mod liveness;
