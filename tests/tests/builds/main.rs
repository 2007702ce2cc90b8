//! Separate crates that the tests build with cargo, so they need the toolchain.
#![allow(missing_docs)]

mod abort;
mod failing;
mod features;
