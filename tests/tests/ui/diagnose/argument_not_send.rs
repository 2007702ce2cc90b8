use std::cell::Cell;
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

impl Pod {
    #[in_netns(&self.0)]
    fn receiver(&self) -> u8 {
        self.1.get()
    }
}

fn main() {}
