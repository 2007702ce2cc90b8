//! Measures namespaces themselves: how long it takes to have one, to remember and find them, and to be rid of them.
//!
//! ```sh
//! cargo run --release --manifest-path bench/Cargo.toml --bin namespaces
//! cargo run --release --manifest-path bench/Cargo.toml --bin namespaces -- all 10000
//! ```

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{NetNs, NetNsPool, WeakNetNs};
use nix::sys::resource::{Resource, setrlimit};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    match arguments.first().map(String::as_str) {
        None => having_one(),
        Some("all") => finding_all(count(1, 10_000)),
        Some("new") => parts_of_new(count(1, 500)),
        Some(other) => panic!("not known: {other}"),
    }
}

/// Median, the slowest hundredth's fastest, and the sum.
fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let sum: Duration = times.iter().sum();
    println!("| {what} | {} | {:.1?} | {:.1?} | {:.1?} |", times.len(), at(50), at(99), sum);
}

fn timed<R>(times: &mut Vec<Duration>, run: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = run();
    times.push(start.elapsed());
    result
}

fn having_one() {
    const COUNT: usize = 1_000;
    // The threads are started before.
    drop(NetNs::new().expect("a namespace"));
    println!("| what | times | median | 99 % | in all |\n|---|---:|---:|---:|---:|");

    let mut times = Vec::new();
    for _ in 0..COUNT {
        timed(&mut times, || NetNs::new().expect("a namespace"));
    }
    row("`NetNs::new`", times);

    let pool = |ready| NetNsPool::builder().ready(ready).build().expect("a pool");
    let filled = |pool: &NetNsPool, ready| {
        while pool.stats().ready < ready {
            thread::sleep(Duration::from_millis(1));
        }
    };

    let many = pool(COUNT);
    filled(&many, COUNT);
    let mut times = Vec::new();
    let mut cookies = HashSet::new();
    let taken: Vec<NetNs> = (0..COUNT).map(|_| timed(&mut times, || many.take().expect("one"))).collect();
    row("`take`, as many as are ready, back to back", times);
    cookies.extend(taken.iter().map(NetNs::cookie));
    assert_eq!(cookies.len(), COUNT);
    drop((many, taken));

    let few = pool(16);
    filled(&few, 16);
    let mut times = Vec::new();
    for _ in 0..COUNT {
        black_box(timed(&mut times, || few.take().expect("one")));
        thread::sleep(Duration::from_millis(3));
    }
    row("`take`, one every 3 ms, 16 ready", times);

    filled(&few, 16);
    let mut times = Vec::new();
    for _ in 0..COUNT {
        black_box(timed(&mut times, || few.take().expect("one")));
    }
    row("`take`, faster than they are made", times);
    drop(few);

    let mut times = Vec::new();
    for _ in 0..100 {
        let ns = NetNs::new().expect("a namespace");
        let gone = timed(&mut times, || ns.wait_until_gone(Duration::from_secs(20)).expect("it can be seen"));
        assert!(gone);
    }
    row("`wait_until_gone`", times);

    let ns = NetNs::new().expect("a namespace");
    let mut times = Vec::new();
    let weak: Vec<WeakNetNs> = (0..10_000).map(|_| timed(&mut times, || ns.downgrade().expect("it"))).collect();
    row("`downgrade`", times);
    let mut times = Vec::new();
    for weak in &weak {
        timed(&mut times, || weak.upgrade().expect("it")).expect("it is there");
    }
    row("`WeakNetNs::upgrade`", times);
    assert!(ns.wait_until_gone(Duration::from_secs(20)).expect("it can be seen"));
    let mut times = Vec::new();
    for weak in &weak {
        assert_eq!(timed(&mut times, || weak.upgrade().expect("it")), None);
    }
    row("`WeakNetNs::upgrade`, gone", times);
}

/// What `NetNs::new` does, step by step on a thread of this benchmark, and then the whole.
fn parts_of_new(count: usize) {
    println!("| what | times | median | 99 % | in all |\n|---|---:|---:|---:|---:|");
    let steps = || {
        let [mut unshare, mut loopback, mut open, mut back] = [const { Vec::new() }; 4];
        let home = NetNs::current().expect("home");
        for _ in 0..count {
            timed(&mut unshare, || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)).expect("root");
            timed(&mut loopback, loopback_up);
            let ns = timed(&mut open, || NetNs::current().expect("it"));
            timed(&mut back, || nix::sched::setns(&home, nix::sched::CloneFlags::CLONE_NEWNET)).expect("root");
            drop(ns);
        }
        [("`unshare`", unshare), ("loopback up", loopback), ("open and check", open), ("`setns` home", back)]
    };
    let steps = thread::spawn(steps).join().expect("root may make namespaces");
    for (what, times) in steps {
        row(what, times);
    }
    drop(NetNs::new().expect("a namespace"));
    let mut times = Vec::new();
    for _ in 0..count {
        timed(&mut times, || NetNs::new().expect("a namespace"));
    }
    row("`NetNs::new`", times);
    let mut times = Vec::new();
    for _ in 0..count {
        let ns = NetNs::new().expect("a namespace");
        timed(&mut times, || drop(ns));
    }
    row("drop of a `NetNs`", times);
}

/// As the library does it: `SIOCSIFFLAGS` for `lo`.
#[allow(unsafe_code)]
fn loopback_up() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: all zeros are a valid request.
    let mut request: nix::libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as nix::libc::c_char;
    }
    request.ifr_ifru.ifru_flags = nix::libc::IFF_UP as nix::libc::c_short;
    // SAFETY: the kernel reads the request, which outlives the call.
    let result = unsafe { nix::libc::ioctl(socket.as_raw_fd(), nix::libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// In KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn finding_all(count: usize) {
    // One descriptor each for the benchmark and for the inventory.
    let descriptors = 2 * count as u64 + 1_000;
    setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors).expect("root may raise the limit");
    let start = Instant::now();
    let held: Vec<NetNs> = (0..count).map(|_| NetNs::new().expect("a namespace")).collect();
    println!("{count} namespaces were made in {:.1?}", start.elapsed());

    let before = resident();
    let start = Instant::now();
    let inventory = NetNs::all().expect("all of them");
    let time = start.elapsed();
    let memory = resident() - before;
    let ours: HashSet<_> = held.iter().map(NetNs::id).collect();
    let found = inventory.namespaces.iter().filter(|found| ours.contains(&found.netns.id())).count();
    println!("`NetNs::all`: {} of them, of {} in all, in {time:.1?}, {memory} KiB", found, inventory.namespaces.len());
    drop(inventory);

    let start = Instant::now();
    let output = Command::new("lsns").args(["-t", "net", "--noheadings", "-o", "NS"]).output().expect("lsns");
    let listed = String::from_utf8_lossy(&output.stdout);
    let listed: HashSet<u64> = listed.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let found = ours.iter().filter(|id| listed.contains(&id.inode())).count();
    println!("`lsns -t net`: {found} of them, of {} in all, in {:.1?}", listed.len(), start.elapsed());
}
