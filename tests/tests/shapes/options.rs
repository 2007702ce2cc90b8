//! The namespace expression and the options.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::executor::block_on;
use in_netns::{Error, IntoNetNs, NetNs, View, in_netns};

use super::Caller;

const MISSING: &str = "in-netns-shapes-no-such-namespace";

#[test]
fn the_namespace_is_evaluated_once_and_on_the_calling_thread() {
    static EVALUATED: AtomicUsize = AtomicUsize::new(0);

    fn target(caller: Caller) -> NetNs {
        caller.is_here();
        EVALUATED.fetch_add(1, Ordering::Relaxed);
        NetNs::new().unwrap()
    }
    #[in_netns(target(caller))]
    fn f(caller: Caller) -> usize {
        caller.is_elsewhere();
        EVALUATED.load(Ordering::Relaxed)
    }
    assert_eq!(f(Caller::here()), 1);
    assert_eq!(EVALUATED.load(Ordering::Relaxed), 1);
}

#[test]
fn the_namespace_may_be_a_parameter_taken_by_value() {
    #[in_netns(ns)]
    fn owned(ns: NetNs, caller: Caller) {
        caller.is_elsewhere();
    }
    #[in_netns(ns)]
    fn generic<N: IntoNetNs>(ns: N, caller: Caller) {
        caller.is_elsewhere();
    }
    #[in_netns(ns)]
    fn unnamed_type(ns: impl IntoNetNs, caller: Caller) {
        caller.is_elsewhere();
    }
    let ns = NetNs::new().unwrap();
    generic(&ns, Caller::here());
    unnamed_type(&ns, Caller::here());
    owned(ns, Caller::here());
}

#[test]
fn the_namespace_may_borrow_what_the_body_moves() {
    struct Pod {
        ns: NetNs,
        name: String,
    }
    impl Pod {
        fn ns(&self) -> &NetNs {
            &self.ns
        }
    }
    #[in_netns(&pod.ns)]
    fn place(pod: Pod, caller: Caller) -> Pod {
        caller.is_elsewhere();
        pod
    }
    #[in_netns(pod.ns())]
    fn method(pod: Pod, caller: Caller) -> String {
        caller.is_elsewhere();
        pod.name
    }
    #[in_netns(ns)]
    fn part_of_a_pattern(Pod { ns, mut name }: Pod, caller: Caller) -> String {
        caller.is_elsewhere();
        name.push('!');
        name
    }
    #[in_netns(&(pod).ns)]
    fn in_parentheses(mut pod: Pod, caller: Caller) -> Pod {
        caller.is_elsewhere();
        pod.name.push('?');
        pod
    }
    let pod = Pod { ns: NetNs::new().unwrap(), name: "a".to_owned() };
    let pod = in_parentheses(place(pod, Caller::here()), Caller::here());
    let again = Pod { ns: pod.ns.clone(), name: part_of_a_pattern(pod, Caller::here()) };
    assert_eq!(method(again, Caller::here()), "a?!");
}

#[test]
fn the_namespace_may_be_of_a_type_that_is_not_send() {
    struct Lazy(Cell<Option<NetNs>>);

    impl IntoNetNs for Lazy {
        fn into_netns(self) -> Result<NetNs, Error> {
            self.0.take().map_or_else(NetNs::new, Ok)
        }
    }
    #[in_netns(lazy)]
    fn f(lazy: Lazy, caller: Caller) {
        caller.is_elsewhere();
    }
    f(Lazy(Cell::new(None)), Caller::here());
}

#[test]
fn the_namespace_may_use_a_name_inside_a_text() {
    #[in_netns(format!("{MISSING}-{name}"))]
    fn f(name: &str) -> io::Result<()> {
        Ok(())
    }
    #[in_netns(format!("{MISSING}-{left}"))]
    fn g((left, _): (String, u8)) -> io::Result<()> {
        Ok(())
    }
    assert!(f("a").unwrap_err().to_string().contains("namespace-a"));
    assert!(g(("b".to_owned(), 1)).unwrap_err().to_string().contains("namespace-b"));
}

#[test]
fn a_view_is_any_expression() {
    fn view_of<A, B>(ns: &NetNs) -> View
    where
        (A, B): Default,
    {
        ns.view().unwrap()
    }
    #[in_netns(view = view_of::<u8, Vec<u16>>(ns), fresh)]
    fn generic(ns: &NetNs, caller: Caller) -> NetNs {
        let _ = ns;
        caller.is_elsewhere();
        NetNs::current().unwrap()
    }
    #[in_netns(view = if 1 < 2 { views.0 } else { views.1 })]
    fn compared(views: (View, View), caller: Caller) -> NetNs {
        caller.is_elsewhere();
        NetNs::current().unwrap()
    }
    let ns = NetNs::new().unwrap();
    assert_eq!(generic(&ns, Caller::here()), ns);
    let view = ns.view().unwrap();
    assert_eq!(compared((view.clone(), view), Caller::here()), ns);
}

#[test]
fn the_namespace_may_leave_the_function() {
    #[in_netns(made?)]
    fn f(made: Result<NetNs, io::Error>, caller: Caller) -> io::Result<()> {
        caller.is_elsewhere();
        Ok(())
    }
    f(NetNs::new().map_err(io::Error::from), Caller::here()).unwrap();
    let error = f(Err(io::Error::other("early")), Caller::here()).unwrap_err();
    assert_eq!(error.to_string(), "early");
}

/// What the panic hook received: the message and the line.
fn panic_of(f: impl FnOnce()) -> String {
    panic::catch_unwind(AssertUnwindSafe(f)).unwrap_err().downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_failure_is_returned_where_the_type_is_written_result() {
    #[in_netns(MISSING)]
    fn io_result(ran: &mut bool) -> io::Result<u8> {
        *ran = true;
        Ok(1)
    }
    #[in_netns(MISSING)]
    fn own_error() -> Result<u8, Error> {
        Ok(1)
    }
    #[in_netns(MISSING)]
    fn boxed() -> std::result::Result<u8, Box<dyn std::error::Error + Send + Sync>> {
        Ok(1)
    }
    let mut ran = false;
    let error = io_result(&mut ran).unwrap_err();
    assert!(!ran);
    assert!(error.to_string().contains(MISSING), "{error}");
    assert!(own_error().unwrap_err().to_string().contains(MISSING));
    assert!(boxed().unwrap_err().to_string().contains(MISSING));
}

#[test]
fn a_failure_panics_elsewhere_with_the_error_as_message() {
    #[in_netns(MISSING)]
    fn f(ran: &mut bool) -> Option<u8> {
        *ran = true;
        None
    }
    let mut ran = false;
    let message = panic_of(|| {
        f(&mut ran);
    });
    assert!(!ran);
    assert!(message.contains(MISSING), "{message}");
}

#[test]
fn a_failure_panics_where_asked() {
    type Alias = io::Result<u8>;
    type WithoutFrom = Result<u8, std::num::ParseIntError>;

    #[in_netns(MISSING, error = "panic")]
    fn result() -> io::Result<u8> {
        Ok(1)
    }
    #[in_netns(MISSING, error = "panic")]
    fn without_from() -> Result<u8, std::num::ParseIntError> {
        "1".parse()
    }
    #[in_netns(MISSING, error = "panic")]
    fn alias() -> Alias {
        Ok(1)
    }
    #[in_netns(MISSING, error = "panic")]
    fn alias_without_from() -> WithoutFrom {
        "1".parse()
    }
    assert!(panic_of(|| _ = result()).contains(MISSING));
    assert!(panic_of(|| _ = without_from()).contains(MISSING));
    assert!(panic_of(|| _ = alias()).contains(MISSING));
    assert!(panic_of(|| _ = alias_without_from()).contains(MISSING));
}

#[test]
fn a_failure_is_returned_where_asked() {
    type Alias = io::Result<u8>;

    #[in_netns(MISSING, error = "return")]
    fn f() -> Alias {
        Ok(1)
    }
    assert!(f().unwrap_err().to_string().contains(MISSING));
}

/// For a path with a name other than `Result`, the type itself decides, not the way in which it is written.
mod by_type {
    use std::error::Error;
    use std::fmt::Debug;
    use std::future::Future;
    use std::io;
    use std::pin::Pin;
    use std::result::Result as StdResult;

    use in_netns::{NetNs, in_netns};

    use super::{Caller, MISSING, panic_of};

    type Reply = io::Result<u8>;
    type Nested = Reply;
    type Generic<T, E = in_netns::Error> = Result<T, E>;
    type TestResult = Result<(), Box<dyn Error + Send + Sync>>;
    type Maybe = Option<Reply>;

    #[track_caller]
    fn is_returned<T, E: ToString>(result: Result<T, E>) {
        let message = result.err().unwrap().to_string();
        assert!(message.contains(MISSING), "{message}");
    }

    #[test]
    fn an_alias_of_a_result_returns_a_failure() {
        #[in_netns(MISSING)]
        fn alias() -> Reply {
            Ok(1)
        }
        #[in_netns(MISSING)]
        fn alias_of_an_alias() -> Nested {
            Ok(1)
        }
        #[allow(unused_parens)]
        #[in_netns(MISSING)]
        fn in_parentheses() -> (self::Reply) {
            Ok(1)
        }
        #[in_netns(MISSING)]
        fn of_unit() -> TestResult {
            Ok(())
        }
        #[in_netns(MISSING)]
        fn default_parameter() -> Generic<u8> {
            Ok(1)
        }
        #[in_netns(MISSING)]
        fn renamed() -> StdResult<u8, io::Error> {
            Ok(1)
        }
        #[in_netns(MISSING)]
        fn of_an_unnamed_type() -> Generic<impl Debug, io::Error> {
            Ok(1)
        }
        is_returned(alias());
        is_returned(alias_of_an_alias());
        is_returned(in_parentheses());
        is_returned(of_unit());
        is_returned(default_parameter());
        is_returned(renamed());
        is_returned(of_an_unnamed_type());
    }

    #[test]
    fn an_associated_type_that_is_a_result_returns_a_failure() {
        trait Probe {
            type Reply;
            fn probe(&self) -> Self::Reply;
            fn new() -> Self;
        }
        impl Probe for Reply {
            type Reply = Reply;
            #[in_netns(MISSING)]
            fn probe(&self) -> Self::Reply {
                Ok(1)
            }
            #[in_netns(MISSING)]
            fn new() -> Self {
                Ok(1)
            }
        }
        is_returned(Reply::new());
        is_returned(Ok(1).probe());
    }

    #[test]
    fn a_generic_function_returns_a_failure_if_its_bounds_show_a_result() {
        #[in_netns(MISSING)]
        fn any_value<T: Send>(value: T) -> Generic<T> {
            Ok(value)
        }
        #[in_netns(MISSING)]
        fn any_error<E: Send + From<in_netns::Error>>() -> Generic<u8, E> {
            Ok(1)
        }
        #[in_netns(MISSING)]
        fn projection<T>() -> T::Item
        where
            T: Iterator<Item = Reply>,
        {
            Ok(1)
        }
        // Only the caller knows that it is a `Result`.
        #[in_netns(MISSING)]
        fn parameter<T: Send>(value: T) -> T {
            value
        }
        #[in_netns(MISSING)]
        fn unknown_projection<T: Iterator<Item: Send> + Send>(mut list: T) -> T::Item {
            list.next().unwrap()
        }
        is_returned(any_value(1));
        is_returned(any_error::<io::Error>());
        is_returned(projection::<std::vec::IntoIter<Reply>>());
        assert!(panic_of(|| _ = parameter::<Reply>(Ok(1))).contains(MISSING));
        assert!(panic_of(|| _ = unknown_projection(vec![Reply::Ok(1)].into_iter())).contains(MISSING));
    }

    #[test]
    fn an_async_function_returns_a_failure_through_an_alias() {
        #[in_netns(MISSING)]
        async fn borrowed(_: &u8) -> Reply {
            Ok(1)
        }
        #[in_netns(MISSING, owned)]
        async fn owned() -> Reply {
            Ok(1)
        }
        #[in_netns(MISSING)]
        fn boxed() -> Pin<Box<dyn Future<Output = Reply> + Send>> {
            Box::pin(async { Ok(1) })
        }
        #[in_netns(MISSING)]
        fn unnamed() -> impl Future<Output = Reply> {
            async { Ok(1) }
        }
        #[in_netns(MISSING)]
        async fn panics() -> Maybe {
            None
        }
        futures::executor::block_on(async {
            is_returned(borrowed(&1).await);
            is_returned(owned().await);
            is_returned(boxed().await);
            is_returned(unnamed().await);
        });
        assert!(panic_of(|| _ = futures::executor::block_on(panics())).contains(MISSING));
    }

    #[test]
    fn other_types_panic() {
        #[in_netns(MISSING)]
        fn option() -> Maybe {
            None
        }
        #[in_netns(MISSING)]
        fn string() -> String {
            String::new()
        }
        #[in_netns(MISSING)]
        fn pair() -> (Reply, Reply) {
            (Ok(1), Ok(1))
        }
        #[in_netns(MISSING)]
        fn boxed() -> Box<Reply> {
            Box::new(Ok(1))
        }
        assert!(panic_of(|| _ = option()).contains(MISSING));
        assert!(panic_of(|| _ = string()).contains(MISSING));
        assert!(panic_of(|| _ = pair()).contains(MISSING));
        assert!(panic_of(|| _ = boxed()).contains(MISSING));
    }

    /// The body does not see the imports of the expansion.
    #[test]
    fn a_method_of_the_same_name_in_the_body() {
        trait Own {
            fn or_return_else_panic(&self) -> u8;
            fn or_skip(&self) -> u8;
        }
        impl Own for u8 {
            fn or_return_else_panic(&self) -> u8 {
                *self
            }
            fn or_skip(&self) -> u8 {
                *self
            }
        }
        #[in_netns(new)]
        fn f(caller: Caller) -> Reply {
            caller.is_elsewhere();
            let __outcome = 1_u8;
            Ok(__outcome.or_return_else_panic() + __outcome.or_skip())
        }
        #[in_netns(NetNs::new()?)]
        fn g() -> Reply {
            Ok(3)
        }
        assert_eq!(f(Caller::here()).unwrap(), 2);
        assert_eq!(g().unwrap(), 3);
    }
}

/// The file and line of the panic, as the panic hook receives them.
fn place_of_panic(f: impl FnOnce() + Send + 'static) -> (String, u32) {
    use std::sync::{Arc, Mutex};
    use std::thread;

    let place = Arc::new(Mutex::new(None));
    let told = Arc::clone(&place);
    let worker = thread::Builder::new().name("panics".to_owned());
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some("panics") {
            let location = info.location().unwrap();
            *told.lock().unwrap() = Some((location.file().to_owned(), location.line()));
        } else {
            before(info);
        }
    }));
    worker.spawn(f).unwrap().join().unwrap_err();
    drop(panic::take_hook());
    let place = place.lock().unwrap().take();
    place.unwrap()
}

#[test]
fn a_failure_panics_at_the_place_of_the_call_or_of_the_async_function() {
    #[in_netns(MISSING)]
    fn f() {}

    // A future does not know who made it: the location is that of the function.
    #[in_netns(MISSING)]
    async fn g() {}
    #[in_netns(MISSING, owned)]
    async fn h() {}

    let (file, line) = place_of_panic(|| f());
    assert_eq!((file.as_str(), line), (file!(), line!() - 1));
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(place_of_panic(move || runtime().block_on(g())), (file!().to_owned(), line!() - 8));
    assert_eq!(place_of_panic(move || runtime().block_on(h())), (file!().to_owned(), line!() - 7));
}

#[test]
fn fresh_is_taken_alone_and_with_others() {
    #[in_netns(new, fresh)]
    fn new(caller: Caller) {
        caller.is_elsewhere();
    }
    #[in_netns(ns, error = "panic", fresh)]
    fn given(ns: &NetNs, caller: Caller) {
        caller.is_elsewhere();
    }
    new(Caller::here());
    given(&NetNs::new().unwrap(), Caller::here());
}

mod renamed {
    pub(super) mod reexport {
        pub(crate) use in_netns as another_name;
    }

    /// Shadows the crate, for paths that are not written from the root.
    #[allow(dead_code)]
    mod in_netns {}

    use self::reexport::another_name::in_netns as attribute;
    use super::{Caller, MISSING};

    #[attribute(new, crate = self::reexport::another_name)]
    pub(super) fn new(caller: Caller) {
        caller.is_elsewhere();
    }

    #[attribute(MISSING, crate = reexport::another_name)]
    pub(super) fn fails() -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_crate_may_be_renamed() {
    renamed::new(Caller::here());
    assert!(renamed::fails().is_err());
}

macro_rules! with_fragments {
    ($name:ident, $ns:expr, $output:ty, $body:block, $krate:path) => {
        #[in_netns($ns, crate = $krate)]
        fn $name(_caller: Caller) -> $output $body
    };
    ($(#[$attr:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),*) $(-> $output:ty)? { $($body:tt)* }) => {
        $(#[$attr])*
        #[in_netns(new)]
        $vis fn $name($($arg: $ty),*) $(-> $output)? { $($body)* }
    };
    (item $item:item) => {
        #[in_netns(new)]
        $item
    };
    (methods $self:ident, $body:expr) => {
        #[in_netns(&$self.0)]
        fn method(&$self, caller: Caller) -> u8 {
            caller.is_elsewhere();
            $body
        }
    };
    (hygienic $ns:expr, $arg:ident) => {
        #[in_netns($ns)]
        fn hygienic(number: u8, $arg: u8, mut other: u8) -> u8 {
            other += 1;
            number + $arg + other
        }
    };
}

#[test]
fn it_works_inside_macro_rules() {
    struct Target(NetNs);

    with_fragments!(blocks, NetNs::new().unwrap(), Option<u8>, { Some(1) }, ::in_netns);
    with_fragments!(fails, MISSING, io::Result<u8>, { Ok(1) }, in_netns);
    with_fragments! {
        /// Documented.
        #[must_use]
        pub(crate) fn tokens(number: u8, caller: Caller) -> u8 {
            caller.is_elsewhere();
            number
        }
    }
    with_fragments!(item fn item(caller: Caller) { caller.is_elsewhere() });
    impl Target {
        with_fragments!(methods self, { let _ = self; 5 });
    }
    with_fragments!(hygienic NetNs::new().unwrap(), number2);

    assert_eq!(blocks(Caller::here()), Some(1));
    assert!(fails(Caller::here()).is_err());
    assert_eq!(tokens(2, Caller::here()), 2);
    item(Caller::here());
    assert_eq!(Target(NetNs::new().unwrap()).method(Caller::here()), 5);
    assert_eq!(hygienic(1, 2, 3), 7);
}

/// What `macro_rules` passes on as a type stands in invisible parentheses.
macro_rules! of_types {
    ($text:ty, $future:ty, $boxed:ty, $result:ty, $unit:ty) => {
        #[in_netns(new)]
        fn unnamed_future(text: $text) -> $future {
            async move { text.len() }
        }

        #[in_netns(new)]
        fn boxed_future(caller: Caller) -> $boxed {
            Box::pin(async move { caller.is_elsewhere() })
        }

        #[in_netns(new)]
        async fn borrows(text: $text) -> $text {
            text
        }

        #[in_netns(MISSING)]
        fn fails() -> $result {
            Ok(())
        }

        #[in_netns(new)]
        fn unit() -> $unit {}
    };
}

#[test]
fn types_may_be_fragments_of_macro_rules() {
    of_types!(
        &'static str,
        impl Future<Output = usize>,
        Pin<Box<dyn Future<Output = ()> + Send>>,
        Result<(), in_netns::Error>,
        ()
    );

    assert_eq!(block_on(unnamed_future("ab")), 2);
    block_on(boxed_future(Caller::here()));
    assert_eq!(block_on(borrows("ab")), "ab");
    assert!(fails().is_err());
    unit();
}
