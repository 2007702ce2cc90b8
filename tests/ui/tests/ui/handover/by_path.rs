//! Every executor that is known by path. `tokio` and `rayon` are the real ones.

use in_netns::in_netns;

mod stand_ins {
    pub mod smol {
        pub fn spawn<F>(_: F) {}
        pub fn unblock<F>(_: F) {}
    }
    pub mod blocking {
        pub fn unblock<F>(_: F) {}
        pub struct Unblock;
    }
    pub mod async_std {
        pub mod task {
            pub fn spawn<F>(_: F) {}
            pub fn spawn_blocking<F>(_: F) {}
            pub struct Builder;
        }
    }
    pub mod async_global_executor {
        pub fn spawn<F>(_: F) {}
        pub fn spawn_blocking<F>(_: F) {}
    }
    pub mod futures {
        pub mod executor {
            pub struct ThreadPool;
            pub struct ThreadPoolBuilder;
        }
    }
    pub use futures::executor as futures_executor;
    pub mod threadpool {
        pub struct ThreadPool;
    }
    pub mod rayon_core {
        pub fn spawn<F>(_: F) {}
    }
}
use stand_ins::{
    async_global_executor, async_std, blocking, futures, futures_executor, rayon_core, smol, threadpool,
};

#[in_netns("blue")]
fn tokios() {
    tokio::spawn(async {});
    tokio::task::spawn(async {});
    tokio::task::spawn_blocking(|| {});
    ::tokio::spawn(async {});
}

#[in_netns("blue")]
fn rayons() {
    rayon::join(|| {}, || {});
    rayon::spawn(|| {});
    rayon::scope(|_| {});
    let _pool: Option<rayon::ThreadPool> = None;
    rayon_core::spawn(|| {});
}

#[in_netns("blue")]
fn others() {
    smol::spawn(async {});
    smol::unblock(|| {});
    blocking::unblock(|| {});
    let _file = blocking::Unblock;
    async_std::task::spawn(async {});
    async_std::task::spawn_blocking(|| {});
    let _named = async_std::task::Builder;
    async_global_executor::spawn(async {});
    async_global_executor::spawn_blocking(|| {});
    let _pool = futures::executor::ThreadPool;
    let _pool = futures::executor::ThreadPoolBuilder;
    let _pool = futures_executor::ThreadPool;
    let _pool = futures_executor::ThreadPoolBuilder;
    let _pool = threadpool::ThreadPool;
}

fn main() {}
