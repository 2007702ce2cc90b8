//! A library whose thread is three functions down.

use std::thread;

/// The first of three.
pub fn load_settings() -> usize {
    read_cached()
}

fn read_cached() -> usize {
    refresh_in_background();
    7
}

fn refresh_in_background() {
    drop(thread::spawn(|| ()));
}
