//! Bodies that are given something to call.

use std::fmt::Write;
use std::sync::Arc;
use std::thread;

use in_netns::with_netns;

trait Probe: Send + Sync {
    fn probe(&self) -> bool;

    fn twice(&self) -> bool {
        self.probe() && self.probe()
    }
}

struct Ping;

impl Probe for Ping {
    fn probe(&self) -> bool {
        true
    }
}

struct Hooks {
    before: fn(),
    name: &'static str,
}

struct Monitor {
    probe: Box<dyn Probe>,
    rounds: u32,
}

impl Monitor {
    fn shared_trait_in_self(&self) {
        println!("{:?}", with_netns("holdout", || self.probe.twice()));
    }

    fn number_in_self(&self) {
        println!("{:?}", with_netns("holdout", || self.rounds + 1));
    }
}

fn shared_trait(probe: Arc<dyn Probe>) {
    println!("{:?}", with_netns("holdout", move || probe.probe()));
}

fn hook_in_struct(hooks: &Hooks) {
    println!("{:?}", with_netns("holdout", || (hooks.before)()));
}

fn name_in_struct(hooks: &Hooks) {
    println!("{:?}", with_netns("holdout", || hooks.name.len()));
}

fn list_of_closures(jobs: Vec<Box<dyn Fn() + Send>>) {
    println!(
        "{:?}",
        with_netns("holdout", move || jobs.iter().for_each(|job| job()))
    );
}

fn writer(out: &mut (dyn Write + Send)) {
    println!("{:?}", with_netns("holdout", || write!(out, "{}", 1)));
}

fn generic_spawns(work: impl Fn() + Sync) {
    println!("{:?}", with_netns("holdout", || work()));
}

fn generic_stays<T: Probe>(probe: &T) {
    println!("{:?}", with_netns("holdout", || probe.twice()));
}

pub fn all() {
    shared_trait(Arc::new(Ping));
    let hooks = Hooks {
        before: || (),
        name: "hooks",
    };
    hook_in_struct(&hooks);
    name_in_struct(&hooks);
    list_of_closures(vec![Box::new(|| ())]);
    writer(&mut String::new());
    generic_spawns(|| drop(thread::spawn(|| ())));
    generic_stays(&Ping);
    let monitor = Monitor {
        probe: Box::new(Ping),
        rounds: 1,
    };
    monitor.shared_trait_in_self();
    monitor.number_in_self();
}
