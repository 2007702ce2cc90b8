//! Bodies that use a library.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use in_netns::with_netns;

pub fn arc_swap_load() {
    let value = arc_swap::ArcSwap::from_pointee(1);
    println!("{:?}", with_netns("holdout", || **value.load()));
}

pub fn backoff_retry() {
    let done = with_netns("holdout", || {
        backoff::retry(backoff::ExponentialBackoff::default(), || {
            std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).map_err(backoff::Error::transient)
        })
        .is_ok()
    });
    println!("{done:?}");
}

pub fn duct_read() {
    println!("{:?}", with_netns("holdout", || duct::cmd("true", [""; 0]).read().is_ok()));
}

pub fn event_listener_notify() {
    let event = event_listener::Event::<()>::new();
    println!("{:?}", with_netns("holdout", || event.notify(1)));
}

pub fn futures_lite_block_on() {
    println!("{:?}", with_netns("holdout", || futures_lite::future::block_on(async { 1 })));
}

pub fn glob_paths() {
    println!("{:?}", with_netns("holdout", || glob::glob("/etc/*.conf").map(|paths| paths.count()).is_ok()));
}

pub fn inotify_watch() {
    let done = with_netns("holdout", || {
        let watcher = inotify::Inotify::init()?;
        watcher.watches().add("/etc", inotify::WatchMask::MODIFY)?;
        Ok::<_, std::io::Error>(())
    });
    println!("{done:?}");
}

pub fn libloading_open() {
    // SAFETY: the library has no initialisers that matter.
    println!("{:?}", with_netns("holdout", || unsafe { libloading::Library::new("libm.so.6").is_ok() }));
}

pub fn lru_put() {
    let done = with_netns("holdout", || {
        let mut cache = lru::LruCache::unbounded();
        cache.put("name", 1)
    });
    println!("{done:?}");
}

pub fn os_pipe_read() {
    let done = with_netns("holdout", || {
        let (mut reader, mut writer) = os_pipe::pipe()?;
        writer.write_all(b"text")?;
        drop(writer);
        reader.read_to_end(&mut Vec::new())
    });
    println!("{done:?}");
}

pub fn parking_lot_lock() {
    let value = parking_lot::Mutex::new(1);
    println!("{:?}", with_netns("holdout", || *value.lock()));
}

pub fn slog_async_drain() {
    let done = with_netns("holdout", || drop(slog_async::Async::new(slog::Discard).build()));
    println!("{done:?}");
}

pub fn spinner() {
    let done = with_netns("holdout", || {
        spinners::Spinner::new(spinners::Spinners::Dots, "wait".to_owned()).stop();
    });
    println!("{done:?}");
}

pub fn stacker_grow() {
    println!("{:?}", with_netns("holdout", || stacker::grow(1 << 20, || 1)));
}

pub fn subprocess_capture() {
    println!("{:?}", with_netns("holdout", || subprocess::Exec::cmd("true").capture().is_ok()));
}

pub fn tempfile_write() {
    println!("{:?}", with_netns("holdout", || tempfile::tempfile()?.write(b"text")));
}

pub fn tiny_http_server() {
    println!("{:?}", with_netns("holdout", || tiny_http::Server::http("127.0.0.1:0").is_ok()));
}

pub fn wait_timeout_child() {
    use wait_timeout::ChildExt as _;
    let done = with_netns("holdout", || Command::new("true").spawn()?.wait_timeout(Duration::from_secs(1)));
    println!("{done:?}");
}

pub fn walkdir_count() {
    println!("{:?}", with_netns("holdout", || walkdir::WalkDir::new("/etc").into_iter().count()));
}
