//! Calls, guards, walks and workers. Many of the tests count what the whole process has, so all take turns.
#![allow(missing_docs)]

in_netns::rootless!();

mod basics;
mod context;
mod documented;
mod exit_seen_elsewhere;
mod inspection;
mod io_uring;
mod pristine;
mod restore_failure;
mod walks;
mod workers;
