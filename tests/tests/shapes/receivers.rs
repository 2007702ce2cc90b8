//! Methods: every form of `self`, in every place where a method can be defined.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use in_netns::{NetNs, in_netns};

use super::Caller;

struct Pod {
    ns: NetNs,
    name: String,
    calls: AtomicUsize,
}

impl Pod {
    fn new(name: &str) -> Self {
        Self { ns: NetNs::new().unwrap(), name: name.to_owned(), calls: AtomicUsize::new(0) }
    }

    fn ns(&self) -> &NetNs {
        &self.ns
    }

    fn into_ns(self) -> NetNs {
        self.ns
    }

    #[in_netns(&self.ns)]
    fn by_reference(&self, caller: Caller) -> &str {
        caller.is_elsewhere();
        self.calls.fetch_add(1, Ordering::Relaxed);
        &self.name
    }

    #[in_netns(self.ns())]
    fn by_method(&self, caller: Caller) -> usize {
        caller.is_elsewhere();
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    #[in_netns(&self.ns)]
    fn by_mutable_reference(&mut self, caller: Caller, suffix: &str) -> &mut String {
        caller.is_elsewhere();
        self.name.push_str(suffix);
        &mut self.name
    }

    #[in_netns(&self.ns)]
    fn by_value(self, caller: Caller) -> String {
        caller.is_elsewhere();
        self.name
    }

    #[in_netns(self.ns)]
    fn by_value_of_which_the_namespace_consumes_a_part(self, caller: Caller) -> String {
        caller.is_elsewhere();
        self.name
    }

    #[in_netns(self.into_ns())]
    fn by_value_that_the_namespace_consumes(self, caller: Caller) {
        caller.is_elsewhere();
    }

    #[in_netns(&self.ns)]
    fn by_mutable_value(mut self, caller: Caller) -> Self {
        caller.is_elsewhere();
        self.name += "!";
        self
    }

    #[in_netns(&self.ns)]
    fn by_arc(self: Arc<Self>, caller: Caller) -> Arc<Self> {
        caller.is_elsewhere();
        self
    }

    #[in_netns(&self.ns)]
    fn by_box(self: Box<Self>, caller: Caller) -> String {
        caller.is_elsewhere();
        self.name
    }

    #[allow(clippy::needless_arbitrary_self_type)]
    #[in_netns(&self.ns)]
    fn by_typed_reference(self: &Self, caller: Caller) -> &str {
        caller.is_elsewhere();
        &self.name
    }

    #[in_netns(new)]
    fn without(caller: Caller, other: &Self) -> Self {
        caller.is_elsewhere();
        Self { name: Self::shout(&other.name), ..Self::new("") }
    }

    fn shout(text: &str) -> String {
        text.to_uppercase()
    }

    #[in_netns(&self.ns)]
    fn inside_a_macro_call(&self, caller: Caller) -> String {
        caller.is_elsewhere();
        assert!(!self.name.is_empty(), "{}", self.name);
        format!("{}-{}", self.name, Self::shout(&self.name))
    }

    #[in_netns(&self.ns)]
    fn in_a_closure(&self, caller: Caller) -> Vec<String> {
        caller.is_elsewhere();
        (0..2).map(|number| format!("{}{number}", self.name)).collect()
    }
}

#[test]
fn self_is_taken_by_reference() {
    let pod = Pod::new("a");
    assert_eq!(pod.by_reference(Caller::here()), "a");
    assert_eq!(pod.by_method(Caller::here()), 2);
}

#[test]
fn self_is_taken_by_mutable_reference() {
    let mut pod = Pod::new("a");
    pod.by_mutable_reference(Caller::here(), "b").push('c');
    assert_eq!(pod.name, "abc");
}

#[test]
fn self_is_taken_by_value() {
    assert_eq!(Pod::new("a").by_value(Caller::here()), "a");
    assert_eq!(Pod::new("a").by_value_of_which_the_namespace_consumes_a_part(Caller::here()), "a");
    Pod::new("a").by_value_that_the_namespace_consumes(Caller::here());
    assert_eq!(Pod::new("a").by_mutable_value(Caller::here()).name, "a!");
}

#[test]
fn self_is_taken_by_smart_pointer() {
    let pod = Arc::new(Pod::new("a"));
    assert!(Arc::ptr_eq(&Arc::clone(&pod).by_arc(Caller::here()), &pod));
    assert_eq!(Box::new(Pod::new("b")).by_box(Caller::here()), "b");
}

#[test]
fn self_is_taken_by_typed_reference() {
    assert_eq!(Pod::new("a").by_typed_reference(Caller::here()), "a");
}

#[test]
fn a_receiver_may_be_missing() {
    assert_eq!(Pod::without(Caller::here(), &Pod::new("a")).name, "A");
}

#[test]
fn self_is_used_inside_a_macro_call() {
    assert_eq!(Pod::new("a").inside_a_macro_call(Caller::here()), "a-A");
}

#[test]
fn self_is_used_in_a_closure() {
    assert_eq!(Pod::new("a").in_a_closure(Caller::here()), ["a0", "a1"]);
}

trait Probe {
    fn target(&self) -> &NetNs;

    fn probe(&self, caller: Caller) -> String;

    #[in_netns(self.target())]
    fn default_method(&self, caller: Caller) -> Caller
    where
        Self: Sync,
    {
        caller.is_elsewhere();
        let _ = self.target();
        Caller::here()
    }

    #[in_netns(self.target())]
    fn default_method_that_leaves_self(&self, caller: Caller) {
        caller.is_elsewhere();
    }

    #[in_netns(new)]
    fn default_function(caller: Caller) -> Option<Self>
    where
        Self: Sized + Send,
    {
        caller.is_elsewhere();
        None
    }
}

impl Probe for Pod {
    fn target(&self) -> &NetNs {
        &self.ns
    }

    #[in_netns(self.target())]
    fn probe(&self, caller: Caller) -> String {
        caller.is_elsewhere();
        self.name.clone()
    }
}

#[test]
fn a_trait_impl_runs_inside() {
    assert_eq!(Pod::new("a").probe(Caller::here()), "a");
}

#[test]
fn trait_default_methods_run_inside() {
    let pod = Pod::new("a");
    pod.default_method(Caller::here()).is_elsewhere();
    pod.default_method_that_leaves_self(Caller::here());
    assert!(Pod::default_function(Caller::here()).is_none());
}

#[test]
fn a_trait_object_is_called() {
    let pod: Box<dyn Probe> = Box::new(Pod::new("a"));
    assert_eq!(pod.probe(Caller::here()), "a");
    pod.default_method_that_leaves_self(Caller::here());
}

/// A type that may not be shared between threads.
struct Unshared {
    ns: NetNs,
    cell: std::cell::Cell<u8>,
}

impl Unshared {
    #[in_netns(&self.ns)]
    fn body_without_self(&self, caller: Caller) {
        caller.is_elsewhere();
    }

    #[in_netns(&self.ns)]
    fn sent_by_value(self, caller: Caller) -> u8 {
        caller.is_elsewhere();
        self.cell.get()
    }

    #[in_netns(&self.ns)]
    fn sent_by_mutable_reference(&mut self, caller: Caller) -> &u8 {
        caller.is_elsewhere();
        self.cell.get_mut()
    }
}

#[test]
fn a_receiver_may_be_not_sync() {
    let mut unshared = Unshared { ns: NetNs::new().unwrap(), cell: 4.into() };
    unshared.body_without_self(Caller::here());
    assert_eq!(*unshared.sent_by_mutable_reference(Caller::here()), 4);
    assert_eq!(unshared.sent_by_value(Caller::here()), 4);
}

struct Wrapper<'a, T, const N: usize>([&'a T; N], NetNs);

impl<'a, T: Sync + PartialEq, const N: usize> Wrapper<'a, T, N> {
    #[in_netns(&self.1)]
    fn find<U>(&self, caller: Caller, wanted: &U) -> Option<&'a T>
    where
        T: PartialEq<U>,
        U: Sync + ?Sized,
    {
        caller.is_elsewhere();
        let list: &[&'a T; N] = &self.0;
        list.iter().copied().find(|item| *item == wanted)
    }
}

#[test]
fn a_generic_impl_runs_inside() {
    let list = ["a".to_owned(), "b".to_owned()];
    let wrapper = Wrapper([&list[0], &list[1]], NetNs::new().unwrap());
    assert_eq!(wrapper.find(Caller::here(), "b"), Some(&list[1]));
}

/// Cannot be shared between threads.
struct Alone {
    ns: NetNs,
    _alone: std::cell::Cell<u8>,
}

impl Alone {
    /// The items in the body have a `self` of their own.
    #[in_netns(&self.ns)]
    fn with_items(&self, caller: Caller) -> u8 {
        struct Local(u8);
        impl Local {
            fn get(&self) -> u8 {
                self.0
            }
        }
        caller.is_elsewhere();
        {
            fn nested(local: &Local) -> u8 {
                trait Twice {
                    fn twice(&self) -> u8;
                }
                impl Twice for Local {
                    fn twice(&self) -> u8 {
                        2 * self.get()
                    }
                }
                local.twice()
            }
            nested(&Local(4))
        }
    }
}

#[test]
fn a_self_that_only_items_in_the_body_name_stays_behind() {
    let alone = Alone { ns: NetNs::new().unwrap(), _alone: std::cell::Cell::new(0) };
    assert_eq!(alone.with_items(Caller::here()), 8);
}
