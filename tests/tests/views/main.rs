//! Views of a network namespace, and of a process.
#![allow(missing_docs)]

in_netns::rootless!();

mod basics;
mod of_process;
