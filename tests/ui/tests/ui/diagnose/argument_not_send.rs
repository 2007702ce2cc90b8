use std::cell::Cell;
use std::fmt::Debug;
use std::rc::Rc;

use in_netns::{NetNs, in_netns};

#[in_netns("blue")]
fn value(first: u8, second: Rc<u8>) -> u8 {
    first + *second
}

#[in_netns("blue")]
fn reference(cell: &Cell<u8>) -> u8 {
    cell.get()
}

#[in_netns("blue")]
fn pattern((rc, _): (Rc<u8>, u8)) -> u8 {
    *rc
}

#[in_netns("blue")]
fn pointer(_pointer: *const u8) {}

#[in_netns("blue")]
fn type_parameter<T>(_value: T) {}

#[in_netns("blue")]
fn impl_trait(call: impl Fn()) {
    call();
}

struct Pod(NetNs, Cell<u8>);

#[in_netns(pod.ns())]
fn also_in_the_namespace(pod: Rc<Pod>) -> u8 {
    pod.1.get()
}

#[in_netns(&pod.0)]
fn reference_also_in_the_namespace(pod: &Pod) -> u8 {
    pod.1.get()
}

#[in_netns(&pod.0)]
fn reference_only_in_the_namespace(pod: &Pod) -> u8 {
    1
}

impl Pod {
    fn ns(&self) -> &NetNs {
        &self.0
    }

    #[in_netns(&self.0)]
    fn receiver(&self) -> u8 {
        self.1.get()
    }
}

#[in_netns("blue")]
fn trait_object(_value: Box<dyn Debug>) {}

#[in_netns("blue")]
fn reference_to_trait_object(_value: &dyn Debug) {}

fn main() {}
