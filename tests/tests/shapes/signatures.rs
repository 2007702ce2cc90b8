//! Generics, qualifiers, visibility, attributes, nesting.

use std::fmt::{Debug, Display};

use in_netns::{NetNs, in_netns};

use super::Caller;

#[test]
fn type_parameters_and_a_where_clause_are_kept() {
    #[in_netns(new)]
    fn f<R, F>(caller: Caller, body: F, value: R) -> Vec<R>
    where
        F: Fn(&R) -> R + Send,
        R: Send,
    {
        caller.is_elsewhere();
        let other: R = body(&value);
        vec![value, other]
    }
    assert_eq!(f(Caller::here(), |number| number + 1, 1), [1, 2]);
}

#[test]
fn lifetime_parameters_are_kept() {
    #[in_netns(new)]
    fn f<'a, 'b: 'a>(caller: Caller, short: &'a str, long: &'b str) -> (&'a str, &'b str) {
        caller.is_elsewhere();
        (if short.is_empty() { long } else { short }, long)
    }
    assert_eq!(f(Caller::here(), "", "long"), ("long", "long"));
}

#[test]
fn const_parameters_are_kept() {
    #[in_netns(new)]
    fn f<const N: usize>(caller: Caller, list: [u8; N]) -> [u8; N] {
        caller.is_elsewhere();
        let mut doubled = [0; N];
        for (to, from) in doubled.iter_mut().zip(list) {
            *to = from * 2;
        }
        doubled
    }
    assert_eq!(f(Caller::here(), [1, 2, 3]), [2, 4, 6]);
}

#[test]
fn impl_trait_arguments_are_accepted() {
    #[in_netns(new)]
    fn f(caller: Caller, mut next: impl FnMut() -> u8 + Send, shown: &(impl Display + Sync)) -> String {
        caller.is_elsewhere();
        format!("{} {} {shown}", next(), next())
    }
    let mut number = 0;
    let next = || {
        number += 1;
        number
    };
    assert_eq!(f(Caller::here(), next, &"x"), "1 2 x");
}

#[test]
fn trait_objects_are_accepted() {
    #[in_netns(new)]
    fn f(caller: Caller, shown: &(dyn Debug + Sync), make: Box<dyn FnOnce() -> u8 + Send>) -> String {
        caller.is_elsewhere();
        format!("{shown:?} {}", make())
    }
    assert_eq!(f(Caller::here(), &Some(1), Box::new(|| 2)), "Some(1) 2");
}

/// # Safety
///
/// `index` is less than the length of `list`.
#[allow(unsafe_code)]
#[in_netns(new)]
unsafe fn at(caller: Caller, list: &[u8], index: usize) -> u8 {
    caller.is_elsewhere();
    // SAFETY: the caller guarantees it.
    #[allow(unused_unsafe)]
    unsafe {
        *list.get_unchecked(index)
    }
}

#[test]
#[allow(unsafe_code)]
fn unsafe_functions_are_accepted() {
    let _: unsafe fn(Caller, &[u8], usize) -> u8 = at;
    // SAFETY: one is less than two.
    assert_eq!(unsafe { at(Caller::here(), &[1, 2], 1) }, 2);
}

#[test]
#[allow(unsafe_code)]
fn the_body_of_an_unsafe_function_is_an_unsafe_context() {
    #[allow(unsafe_op_in_unsafe_fn)]
    #[in_netns(new)]
    unsafe fn f(caller: Caller, list: &[u8]) -> u8 {
        caller.is_elsewhere();
        *list.get_unchecked(1)
    }
    // SAFETY: the list has a second element.
    assert_eq!(unsafe { f(Caller::here(), &[1, 2]) }, 2);
}

#[test]
fn extern_functions_are_accepted() {
    #[allow(improper_ctypes_definitions)]
    #[in_netns(new)]
    extern "C" fn f(caller: Caller, number: u32) -> u32 {
        caller.is_elsewhere();
        number + 1
    }
    let pointer: extern "C" fn(Caller, u32) -> u32 = f;
    assert_eq!(pointer(Caller::here(), 1), 2);
}

#[test]
fn nested_functions_and_closures_are_accepted() {
    #[in_netns(new)]
    fn f(caller: Caller, list: Vec<u8>) -> u8 {
        const STEP: u8 = 2;
        struct Local(u8);
        #[in_netns(new)]
        fn inner(outer: Caller, number: u8) -> u8 {
            outer.is_elsewhere();
            number + STEP
        }
        fn plain(caller: Caller) -> Local {
            caller.is_elsewhere();
            Local(1)
        }
        caller.is_elsewhere();
        let here = Caller::here();
        let add = |number: &u8| {
            if *number == 0 {
                return 0;
            }
            inner(here, *number)
        };
        list.iter().map(add).sum::<u8>() + plain(caller).0
    }
    assert_eq!(f(Caller::here(), vec![0, 1, 2]), 8);
}

#[test]
fn a_function_calls_itself() {
    #[in_netns(ns)]
    fn f(ns: &NetNs, outer: Caller, depth: u32) -> u32 {
        outer.is_elsewhere();
        if depth == 0 {
            return 0;
        }
        1 + f(ns, Caller::here(), depth - 1)
    }
    let ns = NetNs::new().unwrap();
    assert_eq!(f(&ns, Caller::here(), 4), 4);
}

mod visible {
    use super::*;

    #[in_netns(new)]
    pub(in super::super) fn scoped(caller: Caller) {
        caller.is_elsewhere();
    }

    #[in_netns(new)]
    pub(super) fn parent(caller: Caller) {
        caller.is_elsewhere();
        hidden(caller);
    }

    #[in_netns(new)]
    fn hidden(caller: Caller) {
        caller.is_elsewhere();
    }
}

#[test]
fn visibility_is_kept() {
    visible::scoped(Caller::here());
    visible::parent(Caller::here());
}

#[test]
fn attributes_are_kept() {
    #[must_use = "kept"]
    #[in_netns(new)]
    #[deprecated = "kept"]
    #[inline]
    fn f(caller: Caller) -> u8 {
        caller.is_elsewhere();
        1
    }
    #[expect(deprecated, unused_must_use)]
    {
        f(Caller::here());
    }
}

#[test]
fn inner_attributes_of_the_body_are_kept() {
    #[in_netns(new)]
    fn f(caller: Caller, Number: u8) -> u8 {
        #![allow(non_snake_case)]
        #![expect(unused_variables)]
        //! Documentation may be written here too.
        caller.is_elsewhere();
        let unused = 1;
        Number
    }
    assert_eq!(f(Caller::here(), 3), 3);
}

#[test]
fn a_function_is_used_as_a_pointer_and_a_value() {
    #[in_netns(new)]
    fn f(number: u8) -> u8 {
        number + 1
    }
    let pointer: fn(u8) -> u8 = f;
    assert_eq!(pointer(1), 2);
    assert_eq!([1, 2].map(f), [2, 3]);
}
