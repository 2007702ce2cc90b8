use std::fmt::Display;

use in_netns::in_netns;

#[in_netns("blue")]
async fn final_expression() -> u8 {
    "text"
}

#[in_netns("blue")]
async fn early_return() -> u8 {
    if true {
        return "text";
    }
    1
}

#[in_netns("blue")]
async fn no_final_expression() -> Vec<u8> {
    let _ = 1;
}

#[in_netns("blue")]
async fn not_coerced(list: Vec<u8>) -> Box<dyn Display + Send> {
    Box::new(list)
}

#[in_netns("blue")]
async fn unknown_type() -> Unknown {
    unreachable!()
}

fn main() {}
