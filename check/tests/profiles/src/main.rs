//! A function that starts a thread.

fn starts() {
    std::thread::spawn(|| println!("elsewhere")).join().unwrap();
}

fn main() {
    starts();
}
