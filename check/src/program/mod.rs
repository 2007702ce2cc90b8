//! The program as it was linked: its functions and data, the references between them, and its debug information.

use std::thread;

mod aarch64;
pub(crate) mod architecture;
pub(crate) mod crates;
pub(crate) mod debug;
pub(crate) mod graph;
pub(crate) mod image;
pub(crate) mod instruction;
pub(crate) mod names;
pub(crate) mod split;
mod x86_64;

/// The number of threads that share work.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
