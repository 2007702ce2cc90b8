//! What needs the toolchain or the tree: crates that the tests build with cargo, and the sources of the library.
#![allow(missing_docs)]

mod abort;
mod failing;
mod features;
mod layers;
mod per_body;
