//! The attribute together with other attributes, above and below it.

use std::future::Future;
use std::io;
use std::pin::Pin;

use futures::executor::block_on;
use in_netns::{NetNs, in_netns};

use super::Caller;

mod test {
    use super::*;

    #[test]
    #[in_netns(new)]
    fn it_stands_above() {
        not_on_the_thread_of_the_test();
    }

    #[in_netns(new)]
    #[test]
    fn it_stands_below() {
        not_on_the_thread_of_the_test();
    }

    /// The thread that libtest starts for a test is not pinned.
    #[track_caller]
    fn not_on_the_thread_of_the_test() {
        assert!(in_netns::retire_current_thread());
    }

    #[test]
    #[in_netns(new)]
    fn a_test_returns_a_result() -> io::Result<()> {
        let number: u8 = "1".parse().map_err(io::Error::other)?;
        assert_eq!(number, 1);
        Ok(())
    }

    #[test]
    #[should_panic(expected = "left == right")]
    #[in_netns(new)]
    fn a_test_should_panic() {
        assert_eq!(1, 2, "left == right");
    }

    #[in_netns(new)]
    #[test]
    #[should_panic(expected = "from below")]
    fn a_test_should_panic_below() {
        panic!("from below");
    }

    #[test]
    #[should_panic(expected = "in-netns-shapes-no-such-namespace")]
    #[in_netns("in-netns-shapes-no-such-namespace")]
    fn a_missing_namespace_fails_the_test() {}

    #[test]
    #[ignore = "shows that the attribute is kept"]
    #[in_netns(new)]
    fn ignore_is_kept() {
        unreachable!("`#[ignore]` was lost, or ignored tests were asked for");
    }

    #[in_netns(new)]
    #[test]
    #[ignore = "shows that the attribute is kept"]
    fn ignore_is_kept_below() {
        unreachable!("`#[ignore]` was lost, or ignored tests were asked for");
    }
}

mod tokio_test {
    use super::*;

    #[tokio::test]
    #[in_netns(new)]
    async fn it_stands_above() {
        tokio::task::yield_now().await;
        let here = Caller::here();
        tokio::spawn(async move { here.is_here() }).await.unwrap();
    }

    #[tokio::test]
    #[in_netns(new)]
    async fn it_stands_above_a_result() -> io::Result<()> {
        tokio::task::yield_now().await;
        Ok(())
    }
}

mod tokio_options {
    use super::*;

    /// The runtime of the test is made inside, with the options of its attribute.
    #[tokio::test(start_paused = true)]
    #[in_netns(new)]
    async fn the_clock_of_a_test_is_paused_below_its_attribute() {
        tokio::time::sleep(std::time::Duration::from_secs(100_000)).await;
        assert!(in_netns::retire_current_thread());
    }
}

mod tracing_instrument {
    use super::*;

    #[tracing::instrument(skip(caller), fields(number))]
    #[in_netns(new)]
    fn above(caller: Caller, number: u8, text: &str) -> io::Result<usize> {
        caller.is_elsewhere();
        Ok(text.len() + usize::from(number))
    }

    #[in_netns(new)]
    #[tracing::instrument(skip(caller), ret, err)]
    fn below(caller: Caller, mut number: u8, (left, _): (u8, u8)) -> io::Result<u8> {
        caller.is_elsewhere();
        number += left;
        Ok(number)
    }

    struct Pod(NetNs);

    impl Pod {
        #[tracing::instrument(skip_all)]
        #[in_netns(&self.0)]
        fn method(&self, caller: Caller) -> &NetNs {
            caller.is_elsewhere();
            &self.0
        }
    }

    #[in_netns(new)]
    #[tracing::instrument(err)]
    fn below_an_unnamed_future(number: u8) -> impl Future<Output = io::Result<u8>> {
        async move { Ok(number) }
    }

    #[in_netns(new)]
    #[tracing::instrument(ret, err)]
    fn below_a_boxed_future(number: u8) -> Pin<Box<dyn Future<Output = io::Result<u8>>>> {
        Box::pin(async move { Ok(number) })
    }

    #[test]
    fn it_works_below_where_a_future_is_returned() {
        assert_eq!(block_on(below_an_unnamed_future(1)).unwrap(), 1);
        assert_eq!(block_on(below_a_boxed_future(2)).unwrap(), 2);
    }

    #[test]
    fn it_works_above_and_below() {
        let pod = Pod(NetNs::new().unwrap());
        assert_eq!(above(Caller::here(), 1, "ab").unwrap(), 3);
        assert_eq!(below(Caller::here(), 1, (2, 0)).unwrap(), 3);
        assert!(*pod.method(Caller::here()) == pod.0);
    }
}

mod async_trait_impl {
    use super::*;

    #[async_trait::async_trait]
    trait Probe {
        async fn asynchronous(&self) -> u8;

        fn synchronous(&self, caller: Caller) -> u8;

        #[in_netns(new)]
        fn provided(&self, caller: Caller) -> u8 {
            caller.is_elsewhere();
            1
        }
    }

    struct Pod(NetNs);

    #[async_trait::async_trait]
    impl Probe for Pod {
        async fn asynchronous(&self) -> u8 {
            self.synchronous(Caller::here())
        }

        #[in_netns(&self.0)]
        fn synchronous(&self, caller: Caller) -> u8 {
            caller.is_elsewhere();
            2
        }
    }

    #[tokio::test]
    async fn synchronous_methods_run_inside() {
        let pod = Pod(NetNs::new().unwrap());
        assert_eq!(pod.asynchronous().await, 2);
        assert_eq!(pod.provided(Caller::here()), 1);
    }
}

mod rstest_cases {
    use super::*;
    use rstest::{fixture, rstest};

    #[fixture]
    fn step() -> u8 {
        2
    }

    #[rstest]
    #[case(1, 3)]
    #[case::named(2, 4)]
    #[in_netns(new)]
    fn it_stands_above(#[case] number: u8, step: u8, #[case] expected: u8) {
        assert_eq!(number + step, expected);
    }

    #[in_netns(new)]
    #[rstest]
    #[case((1, 2))]
    fn it_stands_below(#[case] (left, right): (u8, u8), step: u8) {
        assert_eq!(left + right, step + 1);
    }

    #[fixture]
    fn ns() -> NetNs {
        NetNs::new().unwrap()
    }

    #[in_netns(&ns)]
    #[rstest]
    #[case(1)]
    #[case(2)]
    fn a_fixture_is_the_namespace_of_an_attribute_above(#[case] number: u8, ns: NetNs) {
        assert!(ns.is_current().unwrap());
        assert!(number < 3);
    }

    #[rstest]
    #[in_netns(new)]
    fn values_are_passed(#[values("1", "2")] number: &str) -> io::Result<()> {
        let number: u8 = number.parse().map_err(io::Error::other)?;
        assert!(number < 3);
        Ok(())
    }
}

mod serial {
    use super::*;
    use serial_test::serial;

    #[test]
    #[serial]
    #[in_netns(new)]
    fn it_stands_above() -> io::Result<()> {
        Ok(())
    }

    #[in_netns(new)]
    #[test]
    #[serial(key)]
    fn it_stands_below() {}

    #[test]
    #[in_netns(new)]
    #[serial(key)]
    fn it_stands_between() {}
}
