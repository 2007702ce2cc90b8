//! Measures namespaces themselves: how long it takes to have one, to remember and find them, and to be rid of them.
//!
//! ```sh
//! cargo run --release --manifest-path bench/Cargo.toml --bin namespaces
//! cargo run --release --manifest-path bench/Cargo.toml --bin namespaces -- new
//! cargo run --release --manifest-path bench/Cargo.toml --bin namespaces -- kinds
//! cargo run --release --manifest-path bench/Cargo.toml --bin namespaces -- all 10000
//! ```

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{NetNs, NetNsPool, WeakNetNs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    match arguments.first().map(String::as_str) {
        None => having_one(),
        Some("all") => finding_all(count(1, 10_000)),
        Some("hold") => holding(count(1, 1)),
        Some("kinds") => kinds(),
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
    let steps = move || {
        let [mut unshare, mut loopback, mut open, mut ask, mut back] = [const { Vec::new() }; 5];
        let home = NetNs::current().expect("home");
        for turn in 0..2 * count {
            timed(&mut unshare, || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)).expect("root");
            let socket = timed(&mut loopback, loopback_up);
            // The first of the two makes the inode of the namespace.
            let [ns, same] = if turn % 2 == 0 {
                let ns = timed(&mut open, || NetNs::current().expect("it"));
                [ns, NetNs::of_socket(&socket).expect("it")]
            } else {
                let ns = timed(&mut ask, || NetNs::of_socket(&socket).expect("it"));
                [ns, NetNs::current().expect("it")]
            };
            assert_eq!(ns, same);
            timed(&mut back, || nix::sched::setns(&home, nix::sched::CloneFlags::CLONE_NEWNET)).expect("root");
            drop(ns);
        }
        [
            ("`unshare`", unshare),
            ("socket, loopback up", loopback),
            ("open `/proc/thread-self/ns/net`", open),
            ("or ask the socket (`SIOCGSKNS`)", ask),
            ("`setns` home", back),
        ]
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
fn loopback_up() -> std::net::UdpSocket {
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
    socket
}

/// In KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// In a process of its own, so that each has the descriptors that it needs.
fn holding(count: usize) {
    raise_limit_of_descriptors();
    let start = Instant::now();
    let held: Vec<NetNs> = (0..count).map(|_| NetNs::new().expect("a namespace")).collect();
    eprintln!("{count} namespaces were made in {:.1?}", start.elapsed());
    for ns in &held {
        println!("{}", ns.id().inode());
    }
    println!("ready");
    io::stdin().read_line(&mut String::new()).expect("the end of the input");
}

fn raise_limit_of_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
}

fn finding_all(count: usize) {
    raise_limit_of_descriptors();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["hold", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    let held: HashSet<u64> = lines.take_while(|line| line != "ready").map(|id| id.parse().expect("a number")).collect();

    drop(NetNs::all().expect("all of them"));
    let before = resident();
    let start = Instant::now();
    let inventory = NetNs::all().expect("all of them");
    let time = start.elapsed();
    let memory = resident().saturating_sub(before);
    let found = inventory.namespaces.iter().filter(|found| held.contains(&found.netns.id().inode())).count();
    println!("`NetNs::all`: {found} of them, of {} in all, in {time:.1?}, {memory} KiB", inventory.namespaces.len());
    drop(inventory);

    let start = Instant::now();
    let listed = lsns();
    let found = held.iter().filter(|id| listed.contains(id)).count();
    println!("`lsns -t net`: {found} of them, of {} in all, in {:.1?}", listed.len(), start.elapsed());
    drop(child.stdin.take());
    child.wait().expect("the child ends");
}

fn lsns() -> HashSet<u64> {
    let output = Command::new("lsns").args(["-t", "net", "--noheadings", "-o", "NS"]).output().expect("lsns");
    let listed = String::from_utf8_lossy(&output.stdout);
    listed.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// One namespace of each kind, and who finds it.
fn kinds() {
    let name = format!("in-netns-bench-{}", std::process::id());
    let named = NetNs::create_named(&name).expect("a name").id();
    let ns = NetNs::new().expect("a namespace");
    let mut child = ns.run(|| Command::new("cat").stdin(Stdio::piped()).spawn()).expect("a call").expect("cat runs");
    let process = ns.id();
    drop(ns);
    let descriptor = NetNs::new().expect("a namespace");
    let ns = NetNs::new().expect("a namespace");
    let point = std::env::temp_dir().join(&name);
    fs::write(&point, "").expect("a file");
    let source = format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd());
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(source.as_str()), &point, None::<&str>, bind, None::<&str>).expect("a mount");
    let mount = ns.id();
    drop(ns);
    let ns = NetNs::new().expect("a namespace");
    let socket = ns.run(|| std::net::UdpSocket::bind("127.0.0.1:0")).expect("a call").expect("a socket");
    let of_socket = ns.id();
    drop(ns);
    let ns = NetNs::new().expect("a namespace");
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let thread = ns.run(|| thread::spawn(move || wait.recv())).expect("a call");
    let of_thread = ns.id();
    drop(ns);

    let inventory = NetNs::all().expect("all of them");
    let listed = lsns();
    println!("| held by | `NetNs::all` | `lsns -t net` |\n|---|---|---|");
    let kinds = [
        ("a process", process),
        ("a name in `/run/netns`", named),
        ("a bind mount elsewhere", mount),
        ("a descriptor", descriptor.id()),
        ("a socket", of_socket),
        ("a thread that is not the leader of its process", of_thread),
    ];
    for (kind, id) in kinds {
        let found = inventory.namespaces.iter().any(|found| found.netns.id() == id);
        let [found, listed] = [found, listed.contains(&id.inode())].map(|yes| if yes { "yes" } else { "no" });
        println!("| {kind} | {found} | {listed} |");
    }
    drop((socket, end, inventory));
    thread.join().expect("the thread ends").expect_err("no value");
    child.kill().expect("cat runs");
    child.wait().expect("cat ends");
    nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH).expect("the mount is there");
    fs::remove_file(&point).expect("the file is there");
    NetNs::delete_named(&name).expect("the name is there");
}
