//! Many calls, after which the process is as it was. The tests count what the whole process has, so they take turns.
#![allow(missing_docs)]

in_netns::rootless!();

mod hostile;
mod leaks;
mod stress;
