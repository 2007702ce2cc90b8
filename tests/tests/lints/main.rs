//! Lints, in the user's code and in the expansion of the attribute.
// The level of these can be set for a whole crate only.
#![deny(rust_2024_compatibility, future_incompatible)]

in_netns::rootless!();

mod expected;
mod silent;
