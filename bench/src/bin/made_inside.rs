//! Measures sockets and processes that are made inside and used outside, the same made at home, and the usual ways to
//! start a process inside.
//!
//! ```sh
//! cargo run --release --manifest-path bench/Cargo.toml --bin made_inside
//! ```
//!
//! It takes root, `ip`, and half a minute. Each figure is a median. The compared operations take turns.

use std::hint::black_box;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use in_netns::NetNs;
use nix::sched::{CloneFlags, setns};

const NAME: &str = "in-netns-made-inside";

fn main() {
    let _ = NetNs::delete_named(NAME);
    let ns = NetNs::create_named(NAME).expect("root");
    sockets(&ns);
    println!();
    println!("| resident | `NetNs::command` | std inside a call | std at home | `ip netns exec` | `pre_exec(setns)` |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for megabytes in [10, 500] {
        processes(&ns, megabytes);
    }
    NetNs::delete_named(NAME).expect("it was made above");
}

/// The median time of each operation, in microseconds. They take turns, each `row` times in a row.
fn medians<const N: usize>(
    rounds: usize,
    row: usize,
    pause: Duration,
    work: &mut [Box<dyn FnMut() -> Duration + '_>; N],
) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..rounds + rounds / 10 {
        for (work, times) in work.iter_mut().zip(&mut times) {
            for _ in 0..row {
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
                let time = work();
                // The first rounds warm up.
                if round >= rounds / 10 {
                    times.push(time.as_secs_f64() * 1e6);
                }
            }
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let made = black_box(work());
    (start.elapsed(), made)
}

fn sockets(ns: &NetNs) {
    let home = NetNs::current().expect("home");
    let inside = ns.tcp_listen("127.0.0.1:0").expect("a listener");
    let at_home = TcpListener::bind("127.0.0.1:0").expect("a listener");
    // A plain connection inside, which tells the cost of the loopback of another namespace.
    let resident = |connect: &mut dyn FnMut() -> Duration| {
        setns(ns, CloneFlags::CLONE_NEWNET).expect("setns");
        let time = connect();
        setns(&home, CloneFlags::CLONE_NEWNET).expect("setns");
        time
    };
    let connection = |listener: &TcpListener, connect: &dyn Fn() -> TcpStream| {
        let (time, stream) = timed(connect);
        drop((listener.accept().expect("the connection"), stream));
        time
    };
    let (to_inside, to_home) = (inside.local_addr().expect("bound"), at_home.local_addr().expect("bound"));
    let mut work: [Box<dyn FnMut() -> Duration + '_>; 7] = [
        Box::new(|| {
            timed(|| {
                setns(ns, CloneFlags::CLONE_NEWNET).expect("setns");
                setns(&home, CloneFlags::CLONE_NEWNET).expect("setns");
            })
            .0
        }),
        Box::new(|| connection(&at_home, &|| TcpStream::connect(to_home).expect("a connection"))),
        Box::new(|| resident(&mut || connection(&inside, &|| TcpStream::connect(to_inside).expect("a connection")))),
        Box::new(|| connection(&inside, &|| ns.tcp_connect(to_inside).expect("a connection"))),
        Box::new(|| timed(|| UdpSocket::bind("127.0.0.1:0").expect("a socket")).0),
        Box::new(|| resident(&mut || timed(|| UdpSocket::bind("127.0.0.1:0").expect("a socket")).0)),
        Box::new(|| timed(|| ns.udp_bind("127.0.0.1:0").expect("a socket")).0),
    ];
    println!(
        "| | floor | `connect` at home | `connect` inside | `tcp_connect` | more, × floor | `bind` at home \
         | `bind` inside | `udp_bind` | more, × floor |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let cases = [
        ("back to back", 10, 300, Duration::ZERO),
        ("in turn", 3_000, 1, Duration::ZERO),
        ("after 1 ms", 400, 1, Duration::from_millis(1)),
    ];
    for (label, rounds, row, pause) in cases {
        let [floor, connect, connect_inside, ours, bind, bind_inside, our_bind] =
            medians(rounds, row, pause, &mut work);
        println!(
            "| {label} | {floor:.2} µs | {connect:.1} µs | {connect_inside:.1} µs | {ours:.1} µs | {:.2} \
             | {bind:.1} µs | {bind_inside:.1} µs | {our_bind:.1} µs | {:.2} |",
            (ours - connect) / floor,
            (our_bind - bind) / floor
        );
    }
}

fn processes(ns: &NetNs, megabytes: usize) {
    // The memory is written to, so that it is resident.
    let ballast = black_box(vec![1_u8; megabytes << 20]);
    let descriptor = std::os::fd::AsFd::as_fd(ns).as_raw_fd();
    let run = |mut command: Command| assert!(command.status().expect("it starts").success());
    let mut work: [Box<dyn FnMut() -> Duration + '_>; 5] = [
        Box::new(|| timed(|| assert!(ns.command("true").status().expect("it starts").success())).0),
        Box::new(|| timed(|| ns.run(|| run(Command::new("true"))).expect("a call")).0),
        Box::new(|| timed(|| run(Command::new("true"))).0),
        Box::new(|| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", NAME, "true"]);
            timed(|| run(command)).0
        }),
        Box::new(|| {
            let mut command = Command::new("true");
            // SAFETY: the closure makes one system call, and allocates nothing.
            unsafe {
                command.pre_exec(move || {
                    let there = std::os::fd::BorrowedFd::borrow_raw(descriptor);
                    Ok(setns(there, CloneFlags::CLONE_NEWNET)?)
                });
            }
            timed(|| run(command)).0
        }),
    ];
    let times = medians(40, 1, Duration::ZERO, &mut work).map(|micros| format!(" {:.2} ms |", micros / 1000.0));
    println!("| {megabytes} MB |{}", times.concat());
    drop(work);
    drop(ballast);
}
