use std::io;

use in_netns::in_netns;

#[in_netns("blue")]
fn final_expression() -> u8 {
    "text"
}

#[in_netns("blue")]
fn early_return() -> u8 {
    if true {
        return "text";
    }
    1
}

#[in_netns("blue")]
fn no_final_expression() -> io::Result<u8> {
    let _ = 1;
}

#[in_netns("blue")]
fn statement() {
    let _: u8 = "text";
}

#[in_netns("blue")]
fn a_value_for_nothing() {
    1
}

#[in_netns("blue")]
fn question_mark(text: &str) -> u8 {
    text.parse()?
}

#[in_netns("blue")]
fn unknown_name() -> u8 {
    unknown
}

fn main() {}
