//! A hundred sandboxes: namespaces from a pool, each linked with a hub, a process in each, and all of them gone.
//!
//! ```text
//! sandbox 0   eth0 10.0.0.2/24 ── 10.0.0.1/24 veth0
//! sandbox 1   eth0 10.0.1.2/24 ── 10.0.1.1/24 veth1   hub, port 80
//! …
//! ```
//!
//! Needs neither root nor `ip`. `cargo run --example sandbox -- 20` makes twenty.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{NetNs, NetNsPool};
use in_netns_examples::netlink::Netlink;

in_netns::rootless!();

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["inside", number] => work_inside(number.parse()?),
        [] => run(100),
        [count] => run(count.parse()?),
        _ => Err("at most one argument: how many, up to 250".into()),
    }
}

/// The addresses of a hub and a sandbox, on the link between them.
fn addresses(number: u8) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 0, number, 1), Ipv4Addr::new(10, 0, number, 2))
}

/// The process in a sandbox: it greets the hub.
fn work_inside(number: u8) -> Result<()> {
    let mut stream = TcpStream::connect((addresses(number).0, 80))?;
    Ok(write!(stream, "{number} from {}", stream.local_addr()?.ip())?)
}

fn run(count: u8) -> Result<()> {
    let all = usize::from(count);
    let hub = NetNs::new()?;
    let listener = hub.tcp_listen("0.0.0.0:80")?;

    let mut step = Step::new("made ahead", all);
    let pool = NetNsPool::builder().ready(all).at_most(all).build()?;
    while pool.stats().ready < all {
        step.at(pool.stats().ready);
        thread::sleep(Duration::from_millis(5));
    }
    step.end();

    let mut sandboxes = Vec::new();
    Step::each("taken", 0..count, |_| {
        sandboxes.push(pool.take()?);
        Ok(())
    })?;

    Step::each("linked", (0..count).zip(&sandboxes), |(number, sandbox)| {
        let (address_of_hub, address) = addresses(number);
        let name = format!("veth{number}");
        hub.run(|| {
            let netlink = Netlink::connect()?;
            netlink.add_veth(&name, (sandbox, "eth0"))?;
            netlink.set_up(&name, address_of_hub, 24)
        })??;
        Ok(sandbox.run(|| Netlink::connect()?.set_up("eth0", address, 24))??)
    })?;

    let program = std::env::current_exe()?;
    let mut processes: Vec<Child> = Vec::new();
    Step::each("a process started in each", (0..count).zip(&sandboxes), |(number, sandbox)| {
        let start = || Command::new(&program).args(["inside", &number.to_string()]).spawn();
        processes.push(sandbox.run(start)??);
        Ok(())
    })?;

    let mut heard = Vec::new();
    Step::each("heard of", 0..count, |_| {
        let mut text = String::new();
        listener.accept()?.0.read_to_string(&mut text)?;
        heard.push(text);
        Ok(())
    })?;
    for number in 0..count {
        assert!(heard.contains(&format!("{number} from {}", addresses(number).1)), "{heard:?}");
    }

    Step::each("ended", &mut processes, |process| {
        let status = process.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}").into()) }
    })?;
    // So that the pool makes no others when these are gone.
    drop(pool);
    // All at once: the kernel dismantles in batches.
    let waits: Vec<_> = sandboxes
        .into_iter()
        .map(|sandbox| thread::spawn(move || sandbox.wait_until_gone(Duration::from_secs(20))))
        .collect();
    Step::each("gone", waits, |wait| match wait.join() {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("something holds a sandbox".into()),
        Ok(Err(error)) => Err(error.into()),
        Err(payload) => std::panic::resume_unwind(payload),
    })
}

/// A step, with a progress bar on stderr and its time on stdout.
struct Step {
    name: &'static str,
    count: usize,
    start: Instant,
}

impl Step {
    fn new(name: &'static str, count: usize) -> Step {
        Step { name, count, start: Instant::now() }
    }

    fn each<I: IntoIterator>(name: &'static str, items: I, mut run: impl FnMut(I::Item) -> Result<()>) -> Result<()>
    where
        I::IntoIter: ExactSizeIterator,
    {
        let items = items.into_iter();
        let mut step = Step::new(name, items.len());
        for (done, item) in items.enumerate() {
            run(item)?;
            // The terminal takes longer than some of the steps.
            if done % 16 == 0 {
                step.at(done);
            }
        }
        step.end();
        Ok(())
    }

    fn at(&mut self, done: usize) {
        const WIDTH: usize = 40;
        let bar = "#".repeat(done * WIDTH / self.count.max(1));
        eprint!("\r[{bar:WIDTH$}] {done:>3} of {} {}\x1b[K", self.count, self.name);
    }

    fn end(self) {
        let Step { name, count, start } = self;
        let time = start.elapsed();
        eprint!("\r\x1b[K");
        println!("{count:>4} {name:28} {time:>10.2?} {:>10.2?} each", time / u32::try_from(count.max(1)).unwrap_or(1));
    }
}
