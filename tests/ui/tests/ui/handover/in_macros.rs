//! In the arguments of macros, in closures and in nested functions.

use in_netns::in_netns;

#[in_netns("blue")]
fn in_macros() {
    println!("{:?}", rayon::join(|| 1, || 2));
    let _list = vec![tokio::spawn(async {}), tokio::spawn(async {})];
    let _later = || rayon::current_num_threads();
    fn nested() {
        rayon::spawn(|| {});
    }
    nested();
}

#[in_netns("blue")]
fn in_a_body_that_does_not_parse() {
    rayon::spawn(|| {});
    let = 1;
}

fn main() {}
