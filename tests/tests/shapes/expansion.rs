//! What the expansion does not change, and what it adds.

use std::backtrace::Backtrace;

use in_netns::in_netns;

use super::Caller;

/// Names that must not confuse the expansion.
#[allow(dead_code, clippy::upper_case_acronyms)]
mod shadowed {
    mod core {}
    mod std {}
    mod alloc {}
    mod in_netns {}
    pub(super) struct Result;
    struct Ok;
    struct Err;
    struct Option;
    struct Some;
    struct None;
    struct Box;
    struct String;
    trait FnOnce {}
    trait Send {}
    trait From {}
    trait Into {}
    trait IntoNetNs {}
    #[allow(unused_macros)]
    macro_rules! cfg {
        ($($tokens:tt)*) => {
            compile_error!("the wrong cfg!")
        };
    }

    use super::Caller;

    #[::in_netns::in_netns(new)]
    pub(super) fn value(caller: Caller, _: u8, mut number: u8) -> u8 {
        caller.is_elsewhere();
        number += 1;
        number
    }

    #[::in_netns::in_netns(new)]
    pub(super) fn of_the_name(caller: Caller) -> Result {
        caller.is_elsewhere();
        Result
    }

    #[::in_netns::in_netns("in-netns-shapes-no-such-namespace")]
    pub(super) fn fails() -> ::std::io::Result<()> {
        ::core::result::Result::Ok(())
    }
}

#[test]
fn it_compiles_in_a_module_that_shadows_the_prelude() {
    assert_eq!(shadowed::value(Caller::here(), 0, 1), 2);
    assert!(shadowed::fails().is_err());
    let _: shadowed::Result = shadowed::of_the_name(Caller::here());
}

#[test]
fn the_expansion_binds_no_name_that_a_constant_may_have() {
    #![allow(non_upper_case_globals)]
    const ns: u8 = 1;
    const body: u8 = 2;
    static options: u8 = 4;
    static arg0: u8 = 8;

    #[in_netns(new)]
    fn f(_: u8) -> u8 {
        ns + body + options + arg0
    }
    assert_eq!(f(0), 15);
}

/// The functions on the stack, as far as the binary contains their names.
fn stack() -> String {
    Backtrace::force_capture().to_string()
}

#[test]
fn the_body_is_found_by_name() {
    struct Pod;
    impl Pod {
        #[in_netns(new)]
        fn method(&self) -> String {
            let Self = self;
            stack()
        }
    }
    #[in_netns(new)]
    fn function<T: Send>(value: T) -> (T, String) {
        (value, stack())
    }
    #[in_netns(new)]
    fn r#move() -> String {
        stack()
    }
    for (stack, segment) in [
        (Pod.method(), "method::__in_netns_body_method"),
        (function(1).1, "function::__in_netns_body_function"),
        (r#move(), "::__in_netns_body_move"),
    ] {
        assert!(stack.contains(segment), "no {segment} in\n{stack}");
    }
}
