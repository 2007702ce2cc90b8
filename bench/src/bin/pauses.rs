//! Calls as programs make them: after a pause, in bursts, beside a busy CPU; this crate, netns-rs and the bare `setns`
//! pair in turn.
//!
//! ```sh
//! cargo run --release --manifest-path bench/Cargo.toml --bin pauses           # the table
//! cargo run --release --manifest-path bench/Cargo.toml --bin pauses -- tight  # back to back, in ten new processes
//! cargo run --release --manifest-path bench/Cargo.toml --bin pauses -- each   # the same, each call timed by itself
//! ```
//!
//! It takes root, and about a minute. Each cell is the median time of one call. `tight` divides the time of 2,000
//! calls, with what else the processors do meanwhile; `each` leaves that out, and includes a read of the clock.

use std::hint::spin_loop;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{NetNs, with_netns};
use nix::sched::{CloneFlags, setns};

const NAME: &str = "in-netns-pauses";
const BURSTS: [u32; 6] = [1, 2, 5, 20, 100, 1000];

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => table(),
        Some("tight") => in_new_processes("tight-here"),
        Some("tight-here") => tight_here(),
        Some("each") => in_new_processes("each-here"),
        Some("each-here") => each_here(),
        Some(other) => panic!("no measure {other}"),
    }
}

/// The contenders, in the order of the columns.
struct Contenders {
    ns: NetNs,
    home: NetNs,
    peer: netns_rs::NetNs,
}

impl Contenders {
    fn new() -> Contenders {
        let _ = NetNs::delete_named(NAME);
        let ns = NetNs::create_named(NAME).expect("root");
        let peer = netns_rs::NetNs::get(NAME).expect("the name");
        Contenders { ns, home: NetNs::current().expect("home"), peer }
    }

    fn calls(&self) -> [Box<dyn FnMut() + '_>; 3] {
        [
            Box::new(|| with_netns(&self.ns, || ()).expect("a call")),
            Box::new(|| self.peer.run(|_| ()).expect("a run")),
            Box::new(|| {
                setns(&self.ns, CloneFlags::CLONE_NEWNET).expect("setns");
                setns(&self.home, CloneFlags::CLONE_NEWNET).expect("setns");
            }),
        ]
    }
}

impl Drop for Contenders {
    fn drop(&mut self) {
        NetNs::delete_named(NAME).expect("it was made in `new`");
    }
}

/// The medians of the contenders' time for one call, in microseconds: in turn, each after a pause.
fn cell<const N: usize>(
    calls: &mut [Box<dyn FnMut() + '_>; N],
    burst: u32,
    pause: Duration,
    rounds: usize,
) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (call, times) in calls.iter_mut().zip(&mut times) {
            thread::sleep(pause);
            let start = Instant::now();
            for _ in 0..burst {
                call();
            }
            times.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(burst));
        }
    }
    times.map(median)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Runs `body` beside a thread that keeps one CPU busy.
fn beside_busy<R>(body: impl FnOnce() -> R) -> R {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                spin_loop();
            }
        });
        let result = body();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn table() {
    let contenders = Contenders::new();
    let mut calls = contenders.calls();
    let milliseconds = Duration::from_millis;
    let mut ratios = Vec::new();
    println!("| calls in a row | pause | `with_netns` | netns-rs | floor | : netns-rs |");
    println!("|---:|---|---:|---:|---:|---:|");
    for (pause, label, busy, rounds) in [
        (milliseconds(1), "1 ms", false, 150),
        (milliseconds(20), "20 ms", false, 30),
        (milliseconds(1), "1 ms, beside a busy CPU", true, 100),
    ] {
        for burst in BURSTS {
            let rounds = if burst == 1000 { rounds / 4 } else { rounds };
            let mut measure = || cell(&mut calls, burst, pause, rounds);
            let [ours, peer, floor] = if busy { beside_busy(measure) } else { measure() };
            ratios.push(ours / peer);
            println!("| {burst} | {label} | {ours:.1} µs | {peer:.1} µs | {floor:.1} µs | {:.2} |", ours / peer);
        }
    }
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    println!("\ngeometric mean of the ratios {mean:.2}, the worst {worst:.2}");

    let worker = contenders.ns.worker();
    let mut runs: [Box<dyn FnMut()>; 2] = [
        Box::new(|| worker.run(|| ()).expect("a run")),
        Box::new(|| with_netns(&contenders.ns, || ()).expect("a call")),
    ];
    let [run, call] = cell(&mut runs, 1, milliseconds(1), 300);
    println!("after 1 ms: `Worker::run` {run:.1} µs, `with_netns` {call:.1} µs");
    drop(runs);
    drop(calls);
}

/// Back to back, from the first call of the process on.
fn tight_here() {
    let contenders = Contenders::new();
    let [ours, peer, floor] = cell(&mut contenders.calls(), 2_000, Duration::ZERO, 9);
    println!("{ours} {peer} {floor}");
}

/// As [`tight_here`], with the times of single calls.
fn each_here() {
    let contenders = Contenders::new();
    let mut calls = contenders.calls();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..9 {
        for (call, times) in calls.iter_mut().zip(&mut times) {
            times.extend((0..2_000).map(|_| {
                let start = Instant::now();
                call();
                start.elapsed().as_secs_f64() * 1e6
            }));
        }
    }
    let [ours, peer, floor] = times.map(median);
    println!("{ours} {peer} {floor}");
}

fn in_new_processes(measure: &str) {
    println!("| `with_netns` | netns-rs | floor | : floor | : netns-rs |");
    println!("|---:|---:|---:|---:|---:|");
    for _ in 0..10 {
        let program = std::env::current_exe().expect("this program");
        let output = Command::new(program).arg(measure).output().expect("this program runs");
        let output = String::from_utf8(output.stdout).expect("text");
        let times: Vec<f64> = output.split_whitespace().map(|time| time.parse().expect("a number")).collect();
        let [ours, peer, floor] = times[..] else { panic!("{output}") };
        println!("| {ours:.2} µs | {peer:.2} µs | {floor:.2} µs | {:.2} | {:.2} |", ours / floor, ours / peer);
    }
}
