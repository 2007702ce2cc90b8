//! The cost of an async call, compared with the same work by hand: `spawn_blocking`, and a runtime built there (as in
//! kata-containers).
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench asynchronous
//! ```
//!
//! It needs root and about two minutes. At the end it prints the table of medians, and writes it to `bench/results/`.

use std::fmt::Write as _;
use std::future::{Future, pending, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use in_netns::{NetNs, with_netns_async};
use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::sleep;

const GROUP: &str = "asynchronous";

/// A piece of work, and the project's bars for the borrowed and the owned form, as multiples of the work by hand, if
/// there are any.
const BARS: &[(&str, Option<[f64; 2]>)] = &[
    ("ready at once", Some([1.2, 1.2])),
    ("1000 yields", Some([4.0, 1.1])),
    ("1000 sockets", Some([4.0, 1.1])),
    ("1000 awaits", Some([4.0, 1.1])),
    // The scheduler's choice of CPUs decides this measure, also for the work by hand.
    ("1000 questions", None),
];

/// The hand-over of one poll, which the other ways do not need.
const ONE_POLL: &str = "one poll hand-over";

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let outer = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let ns = NetNs::new().expect("root, or a user namespace (in_netns::rootless)");
    let mut group = criterion.benchmark_group(GROUP);
    work(&mut group, &outer, &ns, "ready at once", || async {});
    one_poll(&mut group, &outer, &ns);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    work(&mut group, &outer, &ns, "1000 yields", || yields(1_000));
    work(&mut group, &outer, &ns, "1000 sockets", || sockets(1_000));
    work(&mut group, &outer, &ns, "1000 awaits", || async {
        for _ in 0..10 {
            yields(50).await;
            sockets(49).await;
            sleep(Duration::from_millis(1)).await;
        }
    });
    questions(&mut group, &outer, &ns, 1_000);
    group.finish();
    criterion.final_summary();
    report();
}

async fn yields(count: usize) {
    for _ in 0..count {
        task::yield_now().await;
    }
}

/// Reads that wait: each byte is written after its read has started to wait.
async fn sockets(count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (mut client, (mut server, _)) = (client.expect("connect"), server.expect("accept"));
    client.set_nodelay(true).expect("nodelay");
    server.set_nodelay(true).expect("nodelay");
    let echo = task::spawn(async move {
        let mut byte = [0];
        while server.read_exact(&mut byte).await.is_ok() {
            server.write_all(&byte).await.expect("write");
        }
    });
    let mut byte = [0];
    for _ in 0..count {
        client.write_all(&byte).await.expect("write");
        client.read_exact(&mut byte).await.expect("read");
    }
    drop(client);
    echo.await.expect("echo");
}

/// Does what kata-containers does.
async fn by_hand<F, Fut>(ns: NetNs, body: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    task::spawn_blocking(move || {
        let home = NetNs::current().expect("home");
        setns(&ns, CloneFlags::CLONE_NEWNET).expect("setns");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(body());
        drop(runtime);
        setns(&home, CloneFlags::CLONE_NEWNET).expect("setns");
    })
    .await
    .expect("joined");
}

async fn borrowed<F, Fut>(ns: NetNs, body: F)
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = ()>,
{
    with_netns_async(&ns, body).await.expect("inside");
}

async fn owned<F, Fut>(ns: NetNs, body: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    ns.spawn_async(body).await.expect("inside");
}

/// Measures a piece of work in each way.
fn work<F, Fut>(group: &mut BenchmarkGroup<'_, WallTime>, outer: &Runtime, ns: &NetNs, name: &str, body: F)
where
    F: Fn() -> Fut + Copy + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    measure(group, outer, ns, &format!("{name}, by hand"), move |ns| by_hand(ns, body));
    measure(group, outer, ns, &format!("{name}, borrowed"), move |ns| borrowed(ns, body));
    measure(group, outer, ns, &format!("{name}, owned"), move |ns| owned(ns, body));
}

/// Measures questions to a body. A task outside asks each one after the answer to the one before: it wakes the body,
/// which wakes the task.
fn questions(group: &mut BenchmarkGroup<'_, WallTime>, outer: &Runtime, ns: &NetNs, count: usize) {
    async fn ask(count: usize, ask: mpsc::Sender<()>, mut told: mpsc::Receiver<()>) {
        for _ in 0..count {
            ask.send(()).await.expect("heard");
            told.recv().await.expect("told");
        }
    }
    async fn answer(mut asked: mpsc::Receiver<()>, tell: mpsc::Sender<()>) {
        while let Some(()) = asked.recv().await {
            tell.send(()).await.expect("heard");
        }
    }
    macro_rules! way {
        ($way:ident, $name:literal) => {
            measure(group, outer, ns, &format!("{count} questions, {}", $name), move |ns| async move {
                let ((question, asked), (tell, told)) = (mpsc::channel(1), mpsc::channel(1));
                let asking = task::spawn(ask(count, question, told));
                $way(ns, move || answer(asked, tell)).await;
                asking.await.expect("asked");
            });
        };
    }
    way!(by_hand, "by hand");
    way!(borrowed, "borrowed");
    way!(owned, "owned");
}

/// Measures a poll of a call whose body waits for an unrelated event.
fn one_poll(group: &mut BenchmarkGroup<'_, WallTime>, outer: &Runtime, ns: &NetNs) {
    group.bench_function(ONE_POLL, |bencher| {
        bencher.iter_custom(|iterations| {
            let ns = ns.clone();
            let task = outer.spawn(async move {
                let mut call = pin!(with_netns_async(&ns, pending::<()>));
                let mut poll = async || poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
                poll().await;
                let start = Instant::now();
                for _ in 0..iterations {
                    assert!(!poll().await, "it is pending");
                }
                start.elapsed()
            });
            outer.block_on(task).expect("measured")
        });
    });
}

/// A task on a worker of the outer runtime awaits one call after another.
fn measure<C, Fut>(group: &mut BenchmarkGroup<'_, WallTime>, outer: &Runtime, ns: &NetNs, name: &str, call: C)
where
    C: Fn(NetNs) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let ns = ns.clone();
            let task = outer.spawn(async move {
                let start = Instant::now();
                for _ in 0..iterations {
                    call(ns.clone()).await;
                }
                start.elapsed()
            });
            outer.block_on(task).expect("measured")
        });
    });
}

fn median(row: &str) -> Option<f64> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("target"), PathBuf::from);
    let file = target.join("criterion").join(GROUP).join(row).join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

/// The table, from the medians that criterion has just written.
fn report() {
    let mut table = String::from("| work | by hand, µs | way | µs | ratio | bar |\n|---|---|---|---|---|---|\n");
    for (work, bars) in BARS {
        for (at, way) in ["borrowed", "owned"].into_iter().enumerate() {
            let (Some(by_hand), Some(ours)) = (median(&format!("{work}, by hand")), median(&format!("{work}, {way}")))
            else {
                continue;
            };
            let (hand, us, ratio) = (by_hand / 1e3, ours / 1e3, ours / by_hand);
            let bar = bars.map_or_else(|| "–".to_owned(), |bars| bars[at].to_string());
            let _ = writeln!(table, "| {work} | {hand:.1} | {way} | {us:.1} | {ratio:.2} | {bar} |");
        }
    }
    if let Some(poll) = median(ONE_POLL) {
        let _ = writeln!(table, "\nOne poll hand-over, of a body that stays pending: {:.1} µs.", poll / 1e3);
    }
    println!("{table}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/asynchronous.md");
    std::fs::write(&file, table).expect("results");
}
