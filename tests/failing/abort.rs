//! A body that panics in a program with `panic = "abort"`: `builds/abort.rs` makes a crate of this file and runs it.

use in_netns::{Call, NetNs};

in_netns::rootless!();

fn main() {
    let fresh = std::env::args().nth(1).as_deref() == Some("fresh");
    let ns = NetNs::new().expect("a namespace");
    let call = || if fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
    println!("a call that does not panic returns {}", call().run(|| 42).expect("a call"));
    println!("{ns}");
    let _ = call().run(|| panic!("the body's own words"));
    println!("not reached");
}
