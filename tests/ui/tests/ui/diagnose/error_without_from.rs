use std::num::ParseIntError;

use in_netns::in_netns;

#[derive(Debug)]
struct OwnError;

#[in_netns("blue")]
fn foreign() -> Result<u8, ParseIntError> {
    "1".parse()
}

#[in_netns("blue")]
fn own() -> Result<(), OwnError> {
    Err(OwnError)
}

#[in_netns("blue", error = "return")]
fn option() -> Option<u8> {
    None
}

#[in_netns("blue", error = "return")]
fn nothing() {}

#[in_netns("blue", error = "panic")]
fn panics_instead() -> Result<(), OwnError> {
    Err(OwnError)
}

fn main() {}
