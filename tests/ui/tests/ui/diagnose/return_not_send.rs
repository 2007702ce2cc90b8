use std::error::Error;
use std::io;
use std::rc::Rc;

use in_netns::in_netns;

#[in_netns("blue")]
fn value() -> Rc<u8> {
    Rc::new(1)
}

#[in_netns("blue")]
fn in_a_result() -> io::Result<Option<Rc<u8>>> {
    Ok(None)
}

#[in_netns("blue")]
fn boxed_error() -> Result<u8, Box<dyn Error>> {
    Ok(1)
}

#[in_netns("blue")]
fn impl_trait() -> impl Iterator<Item = Rc<u8>> {
    Some(Rc::new(1)).into_iter()
}

#[in_netns("blue", error = "return")]
async fn boxed_error_of_an_async_function() -> Result<u8, Box<dyn Error>> {
    Ok(1)
}

#[in_netns("blue")]
fn boxed_error_of_an_impl_future() -> impl Future<Output = Result<u8, Box<dyn Error>>> {
    async { Ok(1) }
}

fn main() {}
