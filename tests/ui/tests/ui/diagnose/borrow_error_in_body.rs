use in_netns::in_netns;

#[in_netns("blue")]
fn used_after_move(list: Vec<u8>) -> usize {
    drop(list);
    list.len()
}

#[in_netns("blue")]
fn not_mutable(list: Vec<u8>) {
    list.push(1);
}

#[in_netns("blue")]
fn local_returned() -> &'static str {
    let local = String::new();
    &local
}

#[in_netns("blue")]
fn lifetimes<'a, 'b>(_: &'a str, long: &'b str) -> &'a str {
    long
}

fn main() {}
