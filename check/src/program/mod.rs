//! The program as it was linked: its functions and data, who refers to whom, and what the debug information says.

pub(crate) mod debug;
pub(crate) mod graph;
pub(crate) mod image;
pub(crate) mod names;
