//! A test whose body stays where it is, whatever the test does beside it.

use std::thread;

use in_netns::with_netns;

#[test]
fn starts_a_thread_beside_its_body() {
    let thread = thread::spawn(|| ());
    println!("{:?}", with_netns("small", || 1));
    thread.join().unwrap();
}
