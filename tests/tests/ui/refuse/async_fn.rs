use in_netns::in_netns;

#[in_netns("blue")]
pub async fn f() -> u8 {
    1
}

#[in_netns(new)]
#[tokio::test]
async fn below_tokio_test() {}

fn main() {
    let _ = f();
}
