//! Names that come and go: what `NetNs::watch` and nlink's `NamespaceWatcher` report of the same changes.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench watch
//! ```
//!
//! It takes root, `ip` and a minute. Three processes add and delete names at the same time. Each name that a watcher
//! reports as created is opened at once.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use in_netns::{ErrorKind, NetNs, WatchEvent};
use nlink::netlink::namespace_watcher::{NamespaceEvent, NamespaceWatcher};

/// How many names each of the three processes adds.
const EACH: usize = 334;

/// A name is deleted two turns after it was added, and added again ten turns after.
const SCRIPT: &str = "n=0; while [ $n -lt $2 ]; do ip netns add $1$((n % 10)) || exit 1
    [ $n -lt 2 ] || ip netns del $1$(((n - 2) % 10)) || exit 1; n=$((n + 1)); done
    n=0; while [ $n -lt 10 ]; do ip netns del $1$n 2>/dev/null; n=$((n + 1)); done; true";

const PREFIX: &str = "in-netns-watch-";

/// What a watcher reported.
#[derive(Default)]
struct Report {
    /// Names that could be opened when they were reported as created.
    opened: usize,
    /// Names that were an empty file, or not there yet, at that moment.
    not_yet: usize,
    /// Names that were not there at that moment, and were deleted next.
    gone: usize,
    deleted: usize,
    /// Names that were created twice in a row, or deleted twice in a row.
    out_of_order: usize,
    there: HashSet<String>,
}

impl Report {
    fn created(&mut self, name: String) {
        match NetNs::from_name(&name) {
            Ok(_) => self.opened += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => self.gone += 1,
            Err(_) => self.not_yet += 1,
        }
        self.out_of_order += usize::from(!self.there.insert(name));
    }

    fn deleted(&mut self, name: &str) {
        self.deleted += 1;
        self.out_of_order += usize::from(!self.there.remove(name));
    }

    fn row(&self, what: &str) {
        let Report { opened, not_yet, gone, deleted, out_of_order, there } = self;
        let left = there.len();
        println!("| {what} | {opened} | {not_yet} | {gone} | {deleted} | {out_of_order} | {left} |");
    }
}

/// A watcher stops when the changes are over and it has reported none for this time.
const QUIET: Duration = Duration::from_millis(500);

fn ours(is_over: &AtomicBool) -> Report {
    let (_, mut watch) = NetNs::watch().expect("a watch");
    let mut report = Report::default();
    loop {
        match watch.next_within(QUIET).expect("a watch goes on") {
            Some(WatchEvent::Created { name, .. }) if name.starts_with(PREFIX) => report.created(name),
            Some(WatchEvent::Deleted { name, .. }) if name.starts_with(PREFIX) => report.deleted(&name),
            None if is_over.load(Ordering::Relaxed) => return report,
            _ => {}
        }
    }
}

fn nlinks(is_over: &AtomicBool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (_, mut watcher) = NamespaceWatcher::list_and_watch().await.expect("a watcher");
        let mut report = Report::default();
        loop {
            match tokio::time::timeout(QUIET, watcher.recv()).await {
                Ok(event) => match event.expect("a watcher goes on") {
                    Some(NamespaceEvent::Created { name }) if name.starts_with(PREFIX) => report.created(name),
                    Some(NamespaceEvent::Deleted { name }) if name.starts_with(PREFIX) => report.deleted(&name),
                    Some(_) => {}
                    None => return report,
                },
                Err(_) if is_over.load(Ordering::Relaxed) => return report,
                Err(_) => {}
            }
        }
    })
}

fn main() {
    let _ = NetNs::create_named(&format!("{PREFIX}first")).and_then(|_| NetNs::delete_named(&format!("{PREFIX}first")));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ours = scope.spawn(|| ours(&is_over));
        let nlinks = scope.spawn(|| nlinks(&is_over));
        // Both watchers have begun after this time.
        thread::sleep(QUIET);
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let arguments = ["-c", SCRIPT, "sh", &format!("{PREFIX}{worker}-"), &EACH.to_string()];
                Command::new("sh").args(arguments).spawn().expect("sh runs")
            })
            .collect();
        for mut worker in workers {
            assert!(worker.wait().expect("it ends").success());
        }
        is_over.store(true, Ordering::Relaxed);
        println!("{} names were added and deleted.\n", 3 * EACH);
        println!(
            "| watcher | opened at once | not yet a namespace | gone again | deleted | out of order | left over |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|");
        ours.join().expect("ours").row("`NetNs::watch`");
        nlinks.join().expect("nlink's").row("nlink's `NamespaceWatcher`");
    });
}
