//! The crate moves its threads between processors, and no body sees that. The tests take turns, because one of them
//! moves threads too.
#![allow(missing_docs)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use in_netns::{NetNs, Worker, with_netns};
use in_netns_tests::{alone, thread_named};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, gettid, sysconf};

in_netns::rootless!();

fn affinity() -> Vec<usize> {
    affinity_of(Pid::from_raw(0))
}

fn affinity_of(thread: Pid) -> Vec<usize> {
    let affinity = sched_getaffinity(thread).unwrap();
    (0..CpuSet::count()).filter(|cpu| affinity.is_set(*cpu).unwrap()).collect()
}

/// Has the calling thread run on one processor alone.
fn stay_on(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// Calls from each processor in turn, until a body has run beside its caller on each. Each pause has the thread sleep.
fn calls_from_each_cpu(cpus: &[usize], pause: Duration, call: impl Fn(&dyn Fn(usize)) + Sync) {
    let seen = std::sync::Mutex::new(Vec::new());
    for _ in 0..200 {
        for cpu in cpus {
            thread::scope(|scope| {
                scope.spawn(|| {
                    stay_on(*cpu);
                    for _ in 0..3 {
                        thread::sleep(pause);
                        call(&|body| {
                            if body == *cpu {
                                seen.lock().unwrap().push(body);
                            }
                        });
                    }
                });
            });
        }
        if cpus.iter().all(|cpu| seen.lock().unwrap().contains(cpu)) {
            return;
        }
    }
    panic!("bodies ran beside their callers on {:?} of {cpus:?} alone", seen.lock().unwrap());
}

#[test]
fn bodies_and_what_they_start_have_the_affinity_of_the_process_wherever_their_threads_wake() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    with_netns(&ns, || ()).unwrap();
    let cpus = affinity();
    calls_from_each_cpu(&cpus, Duration::from_millis(1), |report| {
        let (cpu, mine, of_thread, of_child) = with_netns(&ns, || {
            // The body may be moved while it waits for what it starts.
            let cpu = sched_getcpu().unwrap();
            let mine = affinity();
            let of_thread = thread::spawn(affinity).join().unwrap();
            let status = Command::new("cat").arg("/proc/self/status").output().unwrap();
            let status = String::from_utf8(status.stdout).unwrap();
            let of_child = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).map(str::to_owned);
            (cpu, mine, of_thread, of_child)
        })
        .unwrap();
        assert_eq!((&mine, &of_thread), (&cpus, &cpus));
        assert_eq!(of_child, allowed_list());
        report(cpu);
    });
}

/// Of the main thread.
fn allowed_list() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).map(str::to_owned)
}

#[test]
fn a_sleeping_thread_wakes_on_the_processor_of_its_caller() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker: Worker = ns.worker();
    worker.run(|| ()).unwrap();
    let cpus = affinity();
    calls_from_each_cpu(&cpus, Duration::from_millis(1), |report| {
        report(worker.run(|| sched_getcpu().unwrap()).unwrap());
    });
}

/// Gives a thread a real-time priority. Not without `CAP_SYS_NICE`.
fn make_real_time(thread: Pid, priority: u32) -> bool {
    let (priority, thread) = (priority.to_string(), thread.to_string());
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", &priority, &thread]).stderr(Stdio::null());
    command.status().expect("chrt is of util-linux").success()
}

#[test]
fn the_callee_of_a_real_time_thread_does_not_wait_for_others_on_that_processor() {
    let _alone = alone();
    let cpus = affinity();
    let ns = NetNs::new().unwrap();
    let worker: Worker = ns.worker();
    let callee = worker.run(gettid).unwrap();
    for cpu in cpus.iter().filter(|_| cpus.len() > 1) {
        let is_served = AtomicBool::new(false);
        // Keeps all ordinary threads from the processor. Returns whether the callee may run elsewhere all that time.
        let busy = || {
            stay_on(*cpu);
            while !is_served.load(Ordering::Relaxed) {
                if affinity_of(callee) != cpus {
                    return false;
                }
            }
            true
        };
        let calls = || {
            stay_on(*cpu);
            if !make_real_time(gettid(), 20) {
                // Without the capability no thread of this process is a real-time thread.
                return;
            }
            let ((to_tell, told), (to_start, start)) = (mpsc::channel(), mpsc::channel());
            thread::scope(|scope| {
                let other = scope.spawn(move || {
                    to_tell.send(gettid()).unwrap();
                    start.recv().unwrap();
                    busy()
                });
                // It has inherited the priority, with which it would keep its creator from the processor.
                assert!(make_real_time(told.recv().unwrap(), 10));
                to_start.send(()).unwrap();
                let results = (0..10).map(|_| {
                    // The callee sleeps, and the other thread takes the processor.
                    thread::sleep(Duration::from_millis(2));
                    worker.run(|| ())
                });
                let results: Vec<_> = results.collect();
                is_served.store(true, Ordering::Relaxed);
                assert!(results.iter().all(Result::is_ok), "{results:?}");
                assert!(other.join().unwrap(), "the callee may not run on another processor than {cpu}");
            });
        };
        thread::scope(|scope| scope.spawn(calls).join().unwrap());
    }
}

#[test]
fn back_to_back_bodies_have_the_affinity_of_the_process() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let cpus = affinity();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(1));
        for _ in 0..100 {
            assert_eq!(with_netns(&ns, affinity).unwrap(), cpus);
        }
    }
}

/// The thread that starts the pinned ones.
fn template() -> Pid {
    let template = thread_named("in-netns-tmpl").expect("a template");
    Pid::from_raw(template.try_into().expect("the id of a thread"))
}

/// As by `taskset -a`, which changes one thread after the other, in the order in which they were started.
#[test]
fn a_change_of_the_affinity_of_all_threads_is_not_undone() {
    let _alone = alone();
    let cpus = affinity();
    if cpus.len() == 1 {
        return;
    }
    // Else no thread is confined.
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).unwrap().unwrap();
    let is_whole = i64::try_from(cpus.len()).unwrap() >= online;
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    worker.run(|| ()).unwrap();
    let template = template();
    let is_over = AtomicBool::new(false);
    let calls = || {
        // The callee sleeps on another processor than its caller's.
        for cpu in cpus.iter().cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
            stay_on(*cpu);
            worker.run(|| ()).unwrap();
            // It sleeps before the next call.
            thread::sleep(Duration::from_micros(50));
        }
    };
    let is_seen_confined = |callee| {
        let whole = sched_getaffinity(template).unwrap();
        (0..10_000).any(|_| sched_getaffinity(callee).is_ok_and(|narrowed| narrowed != whole))
    };
    let move_threads = |cpus: &[usize]| {
        let callee = worker.run(gettid).unwrap();
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.set(*cpu).unwrap();
        }
        // The best moment is one at which the callee is confined.
        is_seen_confined(callee);
        sched_setaffinity(template, &set).unwrap();
        // It may have exited meanwhile: another one takes its place.
        let _ = sched_setaffinity(callee, &set);
    };
    thread::scope(|scope| {
        let _over = scopeguard::guard((), |()| is_over.store(true, Ordering::Relaxed));
        scope.spawn(calls);
        for cpu in cpus.iter().cycle().take(200) {
            move_threads(&[*cpu]);
            for _ in 0..3 {
                assert_eq!(worker.run(affinity).unwrap(), [*cpu]);
            }
            move_threads(&cpus);
        }
        // It was started while the affinity was narrow, if an earlier one has noticed a change.
        let callee = worker.run(gettid).unwrap();
        assert!(!is_whole || (0..1_000).any(|_| is_seen_confined(callee)), "the callee is not confined any more");
    });
}
