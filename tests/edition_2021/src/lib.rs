//! The function shapes of `in-netns-tests`, compiled as edition 2021: see the tests.
