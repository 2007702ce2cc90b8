//! Benchmarks: see `benches/calls.rs`.
