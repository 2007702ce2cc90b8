//! Followed through the `use` items of the body.

use in_netns::in_netns;

#[in_netns("blue")]
fn module() {
    use tokio::task;
    task::spawn(async {});
}

#[in_netns("blue")]
fn module_itself() {
    use tokio::task::{self};
    task::spawn_blocking(|| {});
}

#[in_netns("blue")]
fn renamed() {
    use rayon as r;
    use tokio::task as t;
    r::join(|| {}, || {});
    t::spawn(async {});
}

#[in_netns("blue")]
fn imported_by_name() {
    use tokio::{spawn, task::spawn_blocking as blocking};
    // Not once more here.
    spawn(async {});
    blocking(|| {});
}

#[in_netns("blue")]
fn everything() {
    use tokio::task::*;
    use tokio::*;
    spawn_blocking(|| {});
    task::spawn(async {});
    let _ = yield_now();
}

#[in_netns("blue")]
fn step_by_step() {
    use tokio as runtime;
    if true {
        use runtime::task as tasks;
        tasks::spawn(async {});
    }
}

#[in_netns("blue")]
fn used_before() {
    let _ = tasks::spawn(async {});
    use tokio::task as tasks;
}

#[in_netns("blue")]
fn prelude() -> u32 {
    use rayon::prelude::*;
    let sum: Vec<u32> = Vec::new();
    sum.iter().sum()
}

fn main() {}
