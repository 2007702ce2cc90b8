use in_netns::in_netns;

#[in_netns("blue")]
fn without_semicolon() {
    let _text = "text"
}

fn main() {
    without_semicolon();
}
