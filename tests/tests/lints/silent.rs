//! The expansion raises no lint, and hides none in the user's code.
//!
//! `cargo clippy --all-targets` checks the lints of Clippy. This file must compile without a warning there; an expected
//! lint that does not fire is a warning.

#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
#![allow(clippy::redundant_pub_crate, reason = "the opposite of `unreachable_pub`")]
#![deny(unused, rust_2018_idioms)]
#![deny(clippy::shadow_reuse, clippy::shadow_same, clippy::shadow_unrelated)]
#![deny(missing_docs, unused_qualifications, unused_results, unused_lifetimes)]
#![forbid(unused_imports)]
#![deny(single_use_lifetimes, trivial_casts, trivial_numeric_casts, let_underscore_drop)]
#![forbid(unsafe_code, dead_code, non_snake_case, unused_variables, unused_mut)]

/// The expansion must not raise a lint here.
mod clean {
    use std::io;

    use in_netns::{NetNs, in_netns};

    /// Documented.
    pub(crate) struct Pod {
        pub(crate) ns: NetNs,
        pub(crate) name: String,
    }

    impl Pod {
        /// Documented.
        ///
        /// # Errors
        ///
        /// If the namespace cannot be entered.
        #[in_netns(&self.ns)]
        pub(crate) fn name(&self) -> io::Result<&str> {
            if self.name.is_empty() {
                return Err(io::Error::other("empty"));
            }
            Ok(&self.name)
        }

        #[in_netns(&self.ns)]
        pub(crate) fn into_name(self) -> String {
            self.name
        }

        #[in_netns(&self.ns)]
        pub(crate) fn rename(&mut self, name: &str) {
            name.clone_into(&mut self.name);
        }
    }

    #[in_netns(new)]
    pub(crate) fn nothing() {}

    #[in_netns(new)]
    pub(crate) fn ignores(_: u8, _unused: u8, _list: Vec<u8>) -> u8 {
        1
    }

    #[in_netns(new)]
    pub(crate) fn mutable_references((ref mut a, _): (u8, u8), (&mut ref mut b, c): (&mut u8, u8)) -> u8 {
        *a += 1;
        *b += *a;
        *b + c
    }

    #[in_netns(new)]
    pub(crate) fn diverges() -> ! {
        panic!("on purpose")
    }

    #[in_netns(new)]
    pub(crate) fn counts(mut from: u32, (step, _): (u32, u32)) -> u32 {
        while from < 100 {
            from += step;
        }
        from
    }

    #[in_netns(&pod.ns)]
    pub(crate) fn names_only_its_namespace(pod: Pod) -> bool {
        true
    }

    #[in_netns(new)]
    pub(crate) fn writes_alone(mut list: Vec<u8>) {
        list.push(1);
    }

    #[in_netns(new, fresh)]
    pub(crate) fn lists(end: u8) -> io::Result<impl Iterator<Item = u8>> {
        if end == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(0..end)
    }

    pub(crate) type Reply = io::Result<u8>;

    #[in_netns(new)]
    pub(crate) fn replies() -> Reply {
        Ok(1)
    }

    #[in_netns(new)]
    pub(crate) fn names() -> String {
        "name".to_owned()
    }

    #[in_netns(ns)]
    pub(crate) fn generic<T>(ns: &NetNs, value: &T) -> [T; 2]
    where
        T: Clone + Send + Sync,
    {
        [value.clone(), value.clone()]
    }
}

/// The expansion allows no lint of a group that a crate may forbid.
mod strict {
    #![forbid(clippy::all, clippy::pedantic)]

    use std::io;

    #[in_netns::in_netns(new)]
    pub(crate) fn adds(mut list: Vec<u8>, (byte, _): (u8, u8)) -> io::Result<Vec<u8>> {
        list.push(byte);
        Ok(list)
    }
}

#[test]
fn the_expansion_is_clean() {
    use clean::Pod;

    let mut pod = Pod { ns: in_netns::NetNs::new().unwrap(), name: String::new() };
    pod.rename("a");
    assert_eq!(pod.name().unwrap(), "a");
    clean::nothing();
    assert_eq!(clean::ignores(1, 2, vec![]), 1);
    assert_eq!(clean::counts(90, (3, 0)), 102);
    clean::writes_alone(vec![]);
    assert_eq!(strict::adds(vec![], (1, 2)).unwrap(), [1]);
    assert_eq!(clean::lists(2).unwrap().count(), 2);
    assert_eq!(clean::replies().unwrap(), 1);
    assert_eq!(clean::names(), "name");
    assert_eq!(clean::generic(&pod.ns, &1), [1, 1]);
    let copy = Pod { ns: pod.ns.clone(), name: pod.into_name() };
    assert!(clean::names_only_its_namespace(copy));
    assert_eq!(clean::mutable_references((1, 0), (&mut 2, 3)), 7);
    let panicked = std::panic::catch_unwind(|| clean::diverges());
    assert!(panicked.is_err());
}
