//! Handles, and how a namespace is found, named, listed, remembered and created.
//!
//! Before it execs, a child process of one test holds the descriptors of all, so all take turns.
#![allow(missing_docs)]

in_netns::rootless!();

mod bad_input;
mod by_process;
mod holders;
mod identity;
mod inventory;
mod named;
mod pool;
mod remembered;
