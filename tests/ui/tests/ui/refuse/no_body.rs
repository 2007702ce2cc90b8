use in_netns::in_netns;

trait Probe {
    #[in_netns("blue")]
    fn probe(&self) -> u8;
}

unsafe extern "C" {
    #[in_netns("blue")]
    fn getpid() -> i32;
}

struct Pod;

impl Probe for Pod {
    fn probe(&self) -> u8 {
        1
    }
}

fn main() {
    Pod.probe();
}
