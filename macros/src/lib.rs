//! The `#[in_netns]` attribute.
