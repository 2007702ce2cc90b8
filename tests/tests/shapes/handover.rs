//! Code that resembles a hand-over and is none: each compiles and runs.

use std::process::Command;
use std::thread;

use in_netns::in_netns;

#[test]
fn children_of_the_body_are_inside() {
    #[in_netns(new)]
    fn f() -> u32 {
        use std::thread::spawn;
        let one = spawn(|| 1).join().unwrap() + thread::spawn(|| 1).join().unwrap();
        let two = thread::scope(|scope| scope.spawn(|| 1).join().unwrap());
        let mut child = Command::new("true").spawn().unwrap();
        assert!(child.wait().unwrap().success());
        let built = thread::Builder::new().spawn(|| 1).unwrap().join().unwrap();
        one + two + built
    }
    assert_eq!(f(), 4);
}

struct Crew(u32);

impl Crew {
    fn spawn(&self, number: u32) -> u32 {
        number * self.0
    }

    fn par_total(&self, number: u32) -> u32 {
        self.spawn(number)
    }

    #[in_netns(new)]
    fn hires(&self) -> u32 {
        let spawn = |number: u32| number;
        self.spawn(1) + self.par_total(2) + Self::spawn(self, 3) + spawn(4)
    }
}

#[test]
fn methods_and_closures_of_the_name_are_accepted() {
    assert_eq!(Crew(1).hires(), 10);
}

#[test]
fn functions_and_modules_of_the_name_are_accepted() {
    #[in_netns(new)]
    fn f() -> u32 {
        mod rayon {
            pub(super) fn join(number: u32) -> u32 {
                number
            }
        }
        mod tokio {
            pub(super) mod task {
                pub(in super::super) fn spawn(number: u32) -> u32 {
                    number
                }
            }
        }
        fn spawn(number: u32) -> u32 {
            number
        }
        use tokio::task;
        spawn(1) + self::spawn_blocking(2) + rayon::join(3) + task::spawn(4) + super::handover::spawn_blocking(5)
    }
    assert_eq!(f(), 15);
}

fn spawn_blocking(number: u32) -> u32 {
    number
}

struct Fields {
    rayon: usize,
    par_iter: usize,
    spawn: fn(usize) -> usize,
}

#[test]
fn fields_and_variables_of_the_name_are_accepted() {
    #[in_netns(new)]
    fn f(fields: &Fields) -> usize {
        let rayon = fields.rayon;
        let tokio = fields.par_iter;
        let threadpool: Vec<usize> = (rayon..tokio).collect();
        let again = Fields { rayon, par_iter: tokio, spawn: fields.spawn };
        (again.spawn)(again.rayon) + threadpool.len()
    }
    assert_eq!(f(&Fields { rayon: 1, par_iter: 3, spawn: std::convert::identity }), 3);
}

#[test]
fn what_else_the_executors_offer_is_accepted() {
    #[in_netns(new)]
    fn f() -> u32 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            use tokio::task::*;
            yield_now().await;
            let local = LocalSet::new();
            local.run_until(async { spawn_local(async { 7 }).await.unwrap() }).await
        })
    }
    assert_eq!(f(), 7);
}

#[test]
fn the_runtime_that_the_body_makes_is_inside() {
    #[in_netns(new)]
    fn f() -> u32 {
        use tokio::runtime;
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { tokio::spawn(async { 7 }).await.unwrap() })
    }
    #[in_netns(new)]
    fn g() -> u32 {
        use tokio::runtime::{Builder, Runtime};
        let runtime: Runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { tokio::task::spawn_blocking(|| 7).await.unwrap() })
    }
    assert_eq!(f() + g(), 14);
}

/// In an async function, tokio's own functions can only find the call's runtime.
mod in_async_functions {
    use std::future::Future;
    use std::pin::Pin;

    use in_netns::in_netns;
    use tokio::runtime::Runtime;
    use tokio::task::JoinSet;

    use crate::Caller;

    #[in_netns(new)]
    async fn borrowed(caller: &Caller) -> u32 {
        let caller = *caller;
        let elsewhere = move || caller.is_elsewhere();
        elsewhere();
        let task = tokio::spawn(async move { elsewhere() });
        let other = tokio::task::spawn(async move { elsewhere() });
        let blocking = tokio::task::spawn_blocking(elsewhere);
        let mut set = JoinSet::new();
        set.spawn(async move { elsewhere() });
        set.spawn_blocking(elsewhere);
        task.await.unwrap();
        other.await.unwrap();
        blocking.await.unwrap();
        let done = set.join_all().await;
        assert!(tokio::fs::read("/proc/thread-self/comm").await.is_ok());
        assert!(tokio::net::lookup_host("127.0.0.1:80").await.is_ok());
        u32::try_from(done.len()).unwrap()
    }

    #[in_netns(new, owned)]
    async fn owned() -> u32 {
        use tokio::task;
        let blocking = task::spawn_blocking(|| 1);
        tokio::spawn(async { 1 }).await.unwrap() + blocking.await.unwrap()
    }

    #[in_netns(new)]
    fn boxed<'a>(one: &'a u32) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>> {
        let task = tokio::spawn(async { 1 });
        Box::pin(async move { task.await.unwrap() + one })
    }

    #[in_netns(new)]
    fn unnamed() -> impl Future<Output = u32> {
        async { tokio::task::spawn_blocking(|| 2).await.unwrap() }
    }

    #[async_trait::async_trait]
    trait Probe {
        async fn probe(&self) -> u32;
    }

    #[async_trait::async_trait]
    impl Probe for u32 {
        #[in_netns(new)]
        async fn probe(&self) -> u32 {
            let number = *self;
            tokio::spawn(async move { number }).await.unwrap()
        }
    }

    #[test]
    fn tokios_own_are_inside() {
        let caller = Caller::here();
        let all =
            async { borrowed(&caller).await + owned().await + boxed(&1).await + unnamed().await + 2.probe().await };
        assert_eq!(Runtime::new().unwrap().block_on(all), 10);
    }
}

#[test]
fn the_check_is_overridden() {
    #[in_netns(new, allow(handover))]
    fn f() -> usize {
        rayon::max_num_threads()
    }
    assert!(f() > 0);
}

#[test]
fn paths_in_attributes_and_text_are_accepted() {
    #[in_netns(new)]
    fn f() -> &'static str {
        /// A local function with the name of `rayon::join`.
        #[allow(clippy::items_after_statements)]
        #[cfg_attr(any(), tokio::spawn)]
        fn inner() -> &'static str {
            "tokio::spawn(rayon::join())"
        }
        inner()
    }
    assert_eq!(f(), "tokio::spawn(rayon::join())");
}
