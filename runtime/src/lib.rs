//! Run code inside a Linux network namespace.
