use in_netns::in_netns;

#[in_netns("blue")]
struct Struct;

/// Documented.
#[derive(Debug)]
#[in_netns("blue")]
pub(crate) enum Enum {}

#[in_netns("blue")]
unsafe trait Trait {}

#[in_netns("blue")]
impl Struct {
    fn f() {}
}

#[in_netns("blue")]
mod module {}

#[in_netns("blue")]
const CONST: u8 = 1;

#[in_netns("blue")]
static STATIC: u8 = 1;

#[in_netns("blue")]
type Alias = u8;

#[in_netns("blue")]
use std::fmt;

#[in_netns("blue")]
extern crate core as other;

#[in_netns("blue")]
macro_rules! rules {
    () => {};
}

fn main() {
    let _ = Struct;
    Struct::f();
}
