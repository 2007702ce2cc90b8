//! The hand-overs of `in-netns` with the types of loom: see the tests.
