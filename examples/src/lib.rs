//! Runnable programs, one per use: see the folder `examples/`.
