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

type Parsed = Result<u8, ParseIntError>;

#[in_netns("blue")]
fn alias() -> Parsed {
    "1".parse()
}

#[in_netns("blue")]
async fn alias_in_async() -> Parsed {
    "1".parse()
}

type Any<E> = Result<u8, E>;

#[in_netns("blue")]
fn any_error<E: Send>() -> Any<E> {
    Ok(1)
}

#[in_netns("blue", error = "panic")]
fn alias_that_panics() -> Parsed {
    "1".parse()
}

fn main() {}
