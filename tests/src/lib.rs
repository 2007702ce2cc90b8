//! What several integration tests share.
#![allow(missing_docs)]

mod kernel;
mod processes;

pub use kernel::*;
pub use processes::*;
