use in_netns::in_netns;

fn main() {
    // The first two errors of each are the compiler's own.
    let _closure = #[in_netns("blue")]
    |number: u8| number;

    #[in_netns("blue")]
    {
        let _ = 1;
    }
}
