//! Guards that futures hold across an await, and what only looks so.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::task::{Context, Waker};

unsafe extern "C" {
    fn setns(namespace: i32, kind: i32) -> i32;
}

struct Guard(u32);

impl Guard {
    fn enter() -> Self {
        unsafe { setns(0, 0) };
        Self(1)
    }

    fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        unsafe { setns(0, 0) };
    }
}

async fn nap() {
    std::future::pending().await
}

async fn holds() {
    let guard = Guard::enter();
    nap().await;
    println!("{}", guard.number());
}

async fn holds_a_list() {
    let guards = vec![Some(Guard::enter())];
    nap().await;
    println!("{}", guards.len());
}

struct Pod {
    guard: Option<Guard>,
}

async fn holds_a_map_of_lists() {
    let pods = Rc::new(RefCell::new(BTreeMap::from([(1, vec![Pod { guard: Some(Guard::enter()) }])])));
    nap().await;
    println!("{}", pods.borrow()[&1][0].guard.is_some());
}

async fn holds_a_shared_map() {
    let pods = Arc::new(RwLock::new(HashMap::from([(1, Arc::new(Pod { guard: Some(Guard::enter()) }))])));
    nap().await;
    println!("{}", pods.read().unwrap()[&1].guard.is_some());
}

struct Pods;

impl Pods {
    async fn holds_a_guard_of_a_method(&self) {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                unsafe { setns(0, 0) };
            }
        }
        let _restore = Restore;
        nap().await;
    }
}

async fn holds_a_guard_of_its_own() {
    struct Restore<T>(T);
    impl<T> Drop for Restore<T> {
        fn drop(&mut self) {
            unsafe { setns(0, 0) };
        }
    }
    let _restore = Restore(1);
    nap().await;
}

async fn drops_before() {
    let guard = Guard::enter();
    println!("{}", guard.number());
    drop(guard);
    nap().await;
}

async fn drops_between(twice: bool) {
    let guard = Guard::enter();
    println!("{}", guard.number());
    nap().await;
    drop(guard);
    if twice {
        nap().await;
    }
}

async fn drops_perhaps(early: bool) {
    let guard = Guard::enter();
    println!("{}", guard.number());
    if early {
        drop(guard);
    }
    nap().await;
}

#[derive(Debug)]
struct NetnsSwitchError(u32);

async fn holds_an_error() {
    let error = NetnsSwitchError(1);
    nap().await;
    println!("{error:?}");
}

/// Known by its name: what its `drop` does is behind a trait object.
struct NetnsEntered(Box<dyn Fn()>);

impl Drop for NetnsEntered {
    fn drop(&mut self) {
        self.0();
    }
}

async fn holds_what_is_named_so() {
    let entered = NetnsEntered(Box::new(|| ()));
    nap().await;
    drop(entered);
}

fn poll(future: impl Future) {
    println!("{}", pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

fn main() {
    poll(holds());
    poll(holds_a_list());
    poll(holds_a_map_of_lists());
    poll(holds_a_shared_map());
    poll(Pods.holds_a_guard_of_a_method());
    poll(holds_a_guard_of_its_own());
    poll(drops_before());
    poll(drops_between(true));
    poll(drops_perhaps(true));
    poll(holds_an_error());
    poll(holds_what_is_named_so());
}
