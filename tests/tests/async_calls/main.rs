//! Async calls. The tests count threads, so they take turns.
#![allow(missing_docs)]

in_netns::rootless!();

mod basics;
mod descriptors;
mod executors;
mod inline_wakers;
mod owned;
mod service;
