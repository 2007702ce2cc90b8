//! Bodies that use other libraries than the sample's.

use std::io::Write;
use std::time::Duration;

use in_netns::with_netns;

pub fn ctrlc_handler() {
    println!(
        "{:?}",
        with_netns("holdout", || ctrlc::set_handler(|| ()).is_ok())
    );
}

pub fn indicatif_tick() {
    let done = with_netns("holdout", || {
        let bar = indicatif::ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
    });
    println!("{done:?}");
}

pub fn tracing_appender_writer() {
    let done = with_netns("holdout", || {
        let (mut writer, _guard) = tracing_appender::non_blocking(std::io::sink());
        writer.write_all(b"hello").is_ok()
    });
    println!("{done:?}");
}

pub fn scheduled_pool() {
    let done = with_netns("holdout", || {
        let pool = scheduled_thread_pool::ScheduledThreadPool::new(1);
        pool.execute_after(Duration::from_secs(1), || ());
    });
    println!("{done:?}");
}

pub fn signal_iterator() {
    let done = with_netns("holdout", || {
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1])
            .map(|mut signals| signals.pending().count())
            .ok()
    });
    println!("{done:?}");
}

pub fn ignore_parallel() {
    let done = with_netns("holdout", || {
        ignore::WalkBuilder::new("/etc")
            .build_parallel()
            .run(|| Box::new(|_| ignore::WalkState::Continue));
    });
    println!("{done:?}");
}

pub fn jwalk_walk() {
    println!(
        "{:?}",
        with_netns("holdout", || jwalk::WalkDir::new("/etc")
            .into_iter()
            .count())
    );
}

pub fn minreq_get() {
    println!(
        "{:?}",
        with_netns("holdout", || minreq::get("http://localhost:1/")
            .send()
            .is_ok())
    );
}

pub fn tungstenite_connect() {
    println!(
        "{:?}",
        with_netns("holdout", || tungstenite::connect("ws://localhost:1/")
            .is_ok())
    );
}

pub fn dashmap_and_json() {
    let text = with_netns("holdout", || {
        let map = dashmap::DashMap::new();
        map.insert("a", serde_json::json!({"b": [1, 2, 3]}));
        map.get("a").map(|value| value.to_string())
    });
    println!("{text:?}");
}

pub fn flate_compress() {
    let bytes = with_netns("holdout", || {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"hello")?;
        encoder.finish()
    });
    println!("{bytes:?}");
}

pub fn socket2_bind() {
    let socket = with_netns("holdout", || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        socket.set_reuse_address(true)?;
        Ok::<_, std::io::Error>(socket)
    });
    println!("{socket:?}");
}

pub fn async_io_timer() {
    let done = with_netns("holdout", || {
        futures::executor::block_on(async_io::Timer::after(Duration::from_millis(1)));
    });
    println!("{done:?}");
}

pub fn pollster_ready() {
    println!(
        "{:?}",
        with_netns("holdout", || pollster::block_on(async { 1 }))
    );
}

pub fn rusty_pool_execute() {
    let pool = rusty_pool::ThreadPool::default();
    println!("{:?}", with_netns("holdout", || pool.execute(|| ())));
}

/// Other code sets the logger.
pub fn log_message() {
    println!("{:?}", with_netns("holdout", || log::info!("hello")));
}
