//! The cost of a call, compared with the floor and with the published peers, in one run:
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml
//! ```
//!
//! It needs root, about six minutes and three gigabytes (for ten thousand namespaces). At the end it prints the table
//! of medians, and writes it to `bench/results/`, as Markdown and as a picture.

mod report;

use std::collections::VecDeque;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use in_netns::{Call, NetNs, par_walk, walk, with_netns};
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The namespace that the peers find by name.
const NAME: &str = "in-netns-bench";

/// The number of namespaces that a walk visits.
const WALK: usize = 1_000;

/// The number of namespaces in the measure with many.
const MANY: usize = 10_000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(100_000), hard).expect("enough descriptors");

    let _ = NetNs::delete_named(NAME);
    let ns = NetNs::create_named(NAME).expect("root, or a user namespace (in_netns::rootless)");
    let mut group = criterion.benchmark_group(report::GROUP);
    calls(&mut group, &ns);
    peers(&mut group, &ns);
    concurrent(&mut group, &ns);
    walks(&mut group);
    scale(&mut group);
    group.finish();
    criterion.final_summary();
    NetNs::delete_named(NAME).expect("it was made above");
    report::write();
}

fn there_and_back(there: &NetNs, back: &NetNs) {
    setns(there, CloneFlags::CLONE_NEWNET).expect("setns");
    setns(back, CloneFlags::CLONE_NEWNET).expect("setns");
}

fn calls(group: &mut BenchmarkGroup<'_, WallTime>, ns: &NetNs) {
    let home = NetNs::current().expect("home");
    let other = NetNs::new().expect("another namespace");

    group.bench_function("floor", |bencher| bencher.iter(|| there_and_back(ns, &home)));
    group.bench_function("with_netns", |bencher| bencher.iter(|| with_netns(ns, || ())));
    group.bench_function("with_netns, asleep", |bencher| {
        bencher.iter_custom(|times| rested(times, || with_netns(ns, || ())))
    });
    group.bench_function("with_netns, by name", |bencher| bencher.iter(|| with_netns(NAME, || ())));
    group.bench_function("with_netns, nested", |bencher| bencher.iter(|| with_netns(ns, || with_netns(&other, || ()))));
    group.bench_function("Call::outcome", |bencher| bencher.iter(|| Call::new(ns).outcome(|| ())));
    group.bench_function("Call::fresh", |bencher| bencher.iter(|| Call::new(ns).fresh().run(|| ())));
    let worker = ns.worker();
    group.bench_function("Worker::run", |bencher| bencher.iter(|| worker.run(|| ())));
}

/// Times `call`, each time after all threads have parked.
fn rested<R>(times: u64, mut call: impl FnMut() -> R) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..times {
        thread::sleep(Duration::from_micros(300));
        let start = Instant::now();
        black_box(call());
        total += start.elapsed();
    }
    total
}

fn peers(group: &mut BenchmarkGroup<'_, WallTime>, ns: &NetNs) {
    group.bench_function("thread::scope by hand", |bencher| {
        bencher.iter(|| {
            thread::scope(|scope| {
                scope.spawn(|| setns(ns, CloneFlags::CLONE_NEWNET).expect("setns")).join().expect("no panic");
            });
        });
    });
    let held = netns_rs::NetNs::get(NAME).expect("the name");
    group.bench_function("netns-rs run", |bencher| bencher.iter(|| held.run(|_| ()).expect("run")));
    group.bench_function("nlink execute_in", |bencher| {
        bencher.iter(|| nlink::netlink::namespace::execute_in(NAME, || ()).expect("execute_in"));
    });
    let path = format!("--net=/run/netns/{NAME}");
    for (label, program) in [
        ("nsenter … true", &["nsenter", &path, "true"][..]),
        ("ip netns exec … true", &["ip", "netns", "exec", NAME, "true"][..]),
    ] {
        let run = || Command::new(program[0]).args(&program[1..]).stderr(Stdio::null()).status();
        if run().is_ok_and(|status| status.success()) {
            group.bench_function(label, |bencher| bencher.iter(|| run().expect("it ran above")));
        }
    }
}

/// The time of one call while several callers call at once: the total time divided by the number of calls.
fn concurrent(group: &mut BenchmarkGroup<'_, WallTime>, ns: &NetNs) {
    for callers in [2, 8, 64] {
        group.bench_function(format!("with_netns, {callers} callers"), |bencher| {
            bencher.iter_custom(|times| {
                let each = times.div_ceil(callers);
                let begin = Barrier::new(usize::try_from(callers).expect("few") + 1);
                let start = thread::scope(|scope| {
                    for _ in 0..callers {
                        scope.spawn(|| {
                            begin.wait();
                            for _ in 0..each {
                                with_netns(ns, || ()).expect("a call");
                            }
                        });
                    }
                    begin.wait();
                    Instant::now()
                });
                start.elapsed()
            });
        });
    }
}

fn namespaces(count: usize) -> Vec<NetNs> {
    (0..count).map(|_| NetNs::new().expect("a namespace")).collect()
}

/// The time of a whole walk, in which each namespace counts as one iteration.
fn by_namespace(times: u64, spaces: &[NetNs], walk_all: impl Fn(&[NetNs])) -> Duration {
    let mut left = usize::try_from(times).expect("a count");
    let start = Instant::now();
    while left > 0 {
        let part = left.min(spaces.len());
        walk_all(&spaces[..part]);
        left -= part;
    }
    start.elapsed()
}

fn walks(group: &mut BenchmarkGroup<'_, WallTime>) {
    let spaces = namespaces(WALK);
    let home = NetNs::current().expect("home");
    group.bench_function("bare setns loop, a namespace", |bencher| {
        bencher.iter_custom(|times| {
            by_namespace(times, &spaces, |part| {
                for ns in part {
                    setns(ns, CloneFlags::CLONE_NEWNET).expect("setns");
                }
                setns(&home, CloneFlags::CLONE_NEWNET).expect("setns");
            })
        });
    });
    group.bench_function("walk, a namespace", |bencher| {
        bencher.iter_custom(|times| by_namespace(times, &spaces, |part| drop(walk(part, |_| ()).expect("a walk"))));
    });
    group.bench_function("par_walk, a namespace", |bencher| {
        bencher.iter_custom(|times| {
            by_namespace(times, &spaces, |part| drop(par_walk(part, None, |_| ()).expect("a walk")))
        });
    });
}

/// Calls into one namespace after another, with few and with many of them alive.
fn scale(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut spaces: VecDeque<_> = namespaces(10).into();
    let visit_all = |group: &mut BenchmarkGroup<'_, WallTime>, spaces: &VecDeque<NetNs>, label: String| {
        for ns in spaces {
            assert_eq!(&with_netns(ns, NetNs::current).expect("a call").expect("a namespace"), ns, "each is visited");
        }
        let mut around = spaces.iter().cycle();
        group.bench_function(label, |bencher| {
            bencher.iter(|| with_netns(around.next().expect("a cycle has no end"), || ()));
        });
    };
    visit_all(group, &spaces, "with_netns, 10 namespaces".into());
    spaces.extend(namespaces(MANY - 10));
    visit_all(group, &spaces, format!("with_netns, {MANY} namespaces"));
}
