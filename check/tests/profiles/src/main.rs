//! Functions that start a thread, one of them as the profile says.

fn starts() {
    std::thread::spawn(|| println!("elsewhere")).join().unwrap();
}

#[cfg(debug_assertions)]
fn in_debug_only() {
    starts();
}

#[cfg(not(debug_assertions))]
fn in_release_only() {
    starts();
}

fn main() {
    #[cfg(debug_assertions)]
    in_debug_only();
    #[cfg(not(debug_assertions))]
    in_release_only();
}
