//! The program as it was linked: its functions and data, who refers to whom, and what the debug information says.

mod aarch64;
pub(crate) mod architecture;
pub(crate) mod debug;
pub(crate) mod graph;
pub(crate) mod image;
pub(crate) mod names;
pub(crate) mod split;
mod x86_64;
