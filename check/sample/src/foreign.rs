//! Bodies that call a C library.

use std::ffi::c_int;

use in_netns::with_netns;

unsafe extern "C" {
    fn watcher_start(which: usize) -> c_int;
    fn watcher_version() -> c_int;
}

pub fn c_library_spawns() {
    // SAFETY: the table of the library has an entry 1.
    let done = with_netns("sample", || unsafe { watcher_start(1) });
    println!("{done:?}");
}

pub fn c_library_clean() {
    // SAFETY: it takes nothing and returns a number.
    let version = with_netns("sample", || unsafe { watcher_version() });
    println!("{version:?}");
}
