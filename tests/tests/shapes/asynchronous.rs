//! `#[in_netns]` on async functions, in every position.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use futures::executor::block_on;
use in_netns::{ErrorKind, NetNs, in_netns};
use in_netns_tests::{here, key, threads_in, tid, wait_until};
use tokio::task::yield_now;

type Place = (u64, u64);

/// The namespaces of an await and of a spawned task.
async fn everywhere() -> Place {
    let on = tid();
    let local = Rc::new(here());
    yield_now().await;
    assert_eq!((tid(), here()), (on, *local));
    assert_eq!(tokio::spawn(async { here() }).await.unwrap(), *local);
    assert_eq!(tokio::task::spawn_blocking(here).await.unwrap(), *local);
    *local
}

#[in_netns(ns)]
async fn free(ns: &NetNs) -> Place {
    everywhere().await
}

#[in_netns(ns)]
async fn borrows<'a>(ns: &NetNs, text: &'a str, into: &mut Vec<Place>) -> &'a str {
    into.push(everywhere().await);
    text.trim()
}

#[in_netns(ns)]
async fn fallible(ns: &str, fail: bool) -> io::Result<Place> {
    if fail {
        return Err(io::Error::other("the body's own"));
    }
    yield_now().await;
    let place = Ok::<_, io::Error>(everywhere().await)?;
    Ok(place)
}

#[in_netns(ns)]
async fn generic<T, const N: usize>(ns: NetNs, values: [T; N], (a, _): (u8, u8)) -> String
where
    T: Clone + Display + Send,
{
    yield_now().await;
    format!("{} {a}", values[N - 1].clone())
}

#[in_netns(ns)]
async fn unnamed(ns: &NetNs) -> impl Iterator<Item = Place> + use<> {
    let place = everywhere().await;
    std::iter::once(place)
}

#[in_netns(&ns, owned)]
async fn owned(ns: NetNs, text: String) -> (Place, String) {
    (everywhere().await, text)
}

#[in_netns(ns)]
fn returns_impl(ns: &NetNs) -> impl Future<Output = Place> + Send + use<'_> {
    let made = here();
    async move {
        assert_eq!(made, everywhere().await);
        made
    }
}

#[in_netns(ns)]
fn returns_boxed<'a>(ns: &'a NetNs, early: bool) -> Pin<Box<dyn Future<Output = io::Result<Place>> + Send + 'a>> {
    if early {
        return Box::pin(async { Err(io::Error::other("early")) });
    }
    Box::pin(async { Ok(everywhere().await) })
}

struct Pod {
    ns: NetNs,
    count: u32,
}

impl Pod {
    #[in_netns(&self.ns)]
    async fn by_ref(&self) -> (&NetNs, Place) {
        (&self.ns, everywhere().await)
    }

    #[in_netns(&self.ns)]
    async fn by_mut(&mut self, by: u32) -> u32 {
        yield_now().await;
        self.count += by;
        self.count
    }

    #[in_netns(&self.ns)]
    async fn by_value(self) -> Place {
        everywhere().await
    }
}

/// Values that become the function's by coercion, as in an async function without the attribute.
mod coerced {
    use std::error::Error;
    use std::fmt::Display;

    use in_netns::{NetNs, in_netns};

    pub(super) struct Pod {
        pub(super) ns: NetNs,
        pub(super) name: String,
        pub(super) list: Vec<u8>,
    }

    type Reply<T> = Result<T, Box<dyn Error + Send + Sync>>;

    impl Pod {
        #[in_netns(&self.ns)]
        pub(super) async fn name(&self) -> &str {
            &self.name
        }

        #[in_netns(&self.ns)]
        pub(super) async fn list(&mut self, early: bool) -> &mut [u8] {
            if early {
                return &mut self.list;
            }
            &mut self.list
        }

        #[in_netns(&self.ns)]
        pub(super) async fn shown(&self, number: Option<u8>) -> Box<dyn Display + Send> {
            match number {
                Some(number) => Box::new(number),
                None => Box::new("none"),
            }
        }

        #[in_netns(&self.ns)]
        pub(super) async fn parsed(&self) -> Reply<Box<dyn Display + Send>> {
            let number: u8 = self.name.parse()?;
            Ok(Box::new(number))
        }

        #[in_netns(&self.ns)]
        pub(super) async fn double(&self) -> fn(u8) -> u8 {
            |number| 2 * number
        }
    }

    #[in_netns(&ns, owned)]
    pub(super) async fn owned(ns: NetNs) -> Box<dyn Display + Send> {
        Box::new(1)
    }

    #[in_netns(new)]
    pub(super) async fn within() -> Option<Box<dyn Iterator<Item = impl Display> + Send>> {
        Some(Box::new(0..2))
    }

    #[in_netns(new)]
    pub(super) async fn never() -> ! {
        panic!("never returns")
    }
}

#[test]
fn a_value_is_coerced_to_the_return_type() {
    let mut pod = coerced::Pod { ns: NetNs::new().unwrap(), name: "7".into(), list: vec![1] };
    assert_eq!(block_on(pod.name()), "7");
    assert_eq!(block_on(pod.list(true)), [1]);
    assert_eq!(block_on(pod.list(false)), [1]);
    assert_eq!(block_on(pod.shown(Some(2))).to_string(), "2");
    assert_eq!(block_on(pod.shown(None)).to_string(), "none");
    assert_eq!(block_on(pod.parsed()).unwrap().to_string(), "7");
    assert_eq!(block_on(pod.double())(2), 4);
    assert_eq!(block_on(coerced::owned(pod.ns.clone())).to_string(), "1");
    assert_eq!(block_on(coerced::within()).unwrap().count(), 2);
    let never = std::panic::catch_unwind(|| block_on(coerced::never()));
    assert_eq!(*never.unwrap_err().downcast_ref::<&str>().unwrap(), "never returns");
}

trait Native {
    async fn probe(&self, text: &str) -> (Place, usize);
    fn sendable(&self) -> impl Future<Output = Place> + Send;
}

impl Native for Pod {
    #[in_netns(&self.ns)]
    async fn probe(&self, text: &str) -> (Place, usize) {
        (everywhere().await, text.len())
    }

    #[in_netns(&self.ns)]
    async fn sendable(&self) -> Place {
        everywhere().await
    }
}

#[async_trait::async_trait]
trait Boxed {
    async fn probe(&self, text: &str) -> io::Result<(Place, usize)>;
    async fn nothing(&mut self);
    #[in_netns(new)]
    async fn provided(&self) -> Place {
        everywhere().await
    }
}

#[async_trait::async_trait]
impl Boxed for Pod {
    #[in_netns(&self.ns)]
    async fn probe(&self, text: &str) -> io::Result<(Place, usize)> {
        if text.is_empty() {
            return Err(io::Error::other("empty"));
        }
        Ok((everywhere().await, text.len()))
    }

    #[in_netns(&self.ns)]
    async fn nothing(&mut self) {
        yield_now().await;
        self.count += 1;
    }
}

fn sendable<T: Send>(future: T) -> T {
    future
}

#[test]
fn free_functions_run_inside() {
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    assert_eq!(block_on(sendable(free(&ns))), inside);
    let mut places = Vec::new();
    assert_eq!(block_on(sendable(borrows(&ns, " text ", &mut places))), "text");
    assert_eq!(places, [inside]);
    assert_eq!(block_on(sendable(generic(ns.clone(), ["a", "b"], (1, 2)))), "b 1");
    assert_eq!(block_on(unnamed(&ns)).collect::<Vec<_>>(), [inside]);
    assert_eq!(block_on(sendable(owned(ns.clone(), "text".into()))), (inside, "text".into()));
    assert_eq!(block_on(sendable(returns_impl(&ns))), inside);
    assert_eq!(block_on(sendable(returns_boxed(&ns, false))).unwrap(), inside);
    assert_eq!(block_on(returns_boxed(&ns, true)).unwrap_err().to_string(), "early");
}

#[test]
fn errors_are_returned() {
    assert_eq!(block_on(fallible("no-such-name", false)).unwrap_err().kind(), io::ErrorKind::NotFound);
    let name = &format!("in-netns-async-attribute-{}", std::process::id());
    let ns = NetNs::create_named(name).unwrap();
    let outcome = (block_on(fallible(name, true)), block_on(fallible(name, false)));
    NetNs::delete_named(name).unwrap();
    assert_eq!(outcome.0.unwrap_err().to_string(), "the body's own");
    assert_eq!(outcome.1.unwrap(), key(ns.id()));
    assert_eq!(NetNs::from_name(name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn methods_run_inside() {
    let mut pod = Pod { ns: NetNs::new().unwrap(), count: 1 };
    let inside = key(pod.ns.id());
    assert_eq!(block_on(sendable(pod.by_ref())).1, inside);
    assert_eq!(block_on(sendable(pod.by_mut(2))), 3);
    assert_eq!(block_on(sendable(pod.by_value())), inside);
}

#[test]
fn trait_methods_run_inside() {
    let mut pod = Pod { ns: NetNs::new().unwrap(), count: 1 };
    let inside = key(pod.ns.id());
    assert_eq!(block_on(sendable(Native::probe(&pod, "text"))), (inside, 4));
    assert_eq!(block_on(sendable(pod.sendable())), inside);
    assert_eq!(block_on(sendable(Boxed::probe(&pod, "text"))).unwrap(), (inside, 4));
    assert_eq!(block_on(Boxed::probe(&pod, "")).unwrap_err().to_string(), "empty");
    block_on(pod.nothing());
    assert_eq!(pod.count, 2);
    assert_ne!(block_on(pod.provided()), inside);
}

#[tokio::test]
#[in_netns(new)]
async fn a_test_attribute_may_stand_above() {
    everywhere().await;
}

#[in_netns(new)]
#[tokio::test]
async fn a_test_attribute_may_stand_below() {
    assert_ne!(everywhere().await, in_netns_tests::home());
}

#[in_netns(new)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_that_returns_a_result_runs_inside() -> io::Result<()> {
    assert_ne!(everywhere().await, in_netns_tests::home());
    Ok(())
}

#[in_netns(new)]
#[tokio::test]
#[should_panic(expected = "inside")]
async fn below_should_panic() {
    panic!("inside");
}

#[in_netns(ns, owned)]
async fn never_ends(ns: NetNs) {
    std::future::pending::<()>().await;
}

#[test]
fn an_owned_call_is_aborted_when_it_is_dropped() {
    let ns = NetNs::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let task = runtime.spawn(never_ends(ns.clone()));
    wait_until("it is inside", || threads_in(&ns).len() == 1);
    task.abort();
    wait_until("it has left", || threads_in(&ns).is_empty());
}
