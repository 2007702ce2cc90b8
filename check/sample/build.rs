//! Compiles the C library that one body calls.

fn main() {
    println!("cargo::rerun-if-changed=clib/watcher.c");
    cc::Build::new().file("clib/watcher.c").compile("watcher");
}
