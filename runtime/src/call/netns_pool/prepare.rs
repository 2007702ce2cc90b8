//! What the closure that prepares a namespace may return.

use std::error::Error as StdError;

use crate::netns::NetNs;

pub(super) type Failure = Box<dyn StdError + Send + Sync>;

pub(super) type Prepare = Box<dyn Fn(&NetNs) -> Result<(), Failure> + Send + Sync>;

/// What the closure of [`NetNsPoolBuilder::prepare`](crate::NetNsPoolBuilder::prepare) may return: `()`, a
/// `Result<(), E>` with any error that converts into a boxed one, or `!`.
pub trait PrepareResult: sealed::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result<(), Failure>;
}

impl PrepareResult for () {
    fn into_result(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> PrepareResult for Result<(), E> {
    fn into_result(self) -> Result<(), Failure> {
        self.map_err(Into::into)
    }
}

/// A closure that only panics returns this, from the edition 2024 on.
impl PrepareResult for sealed::Never {
    fn into_result(self) -> Result<(), Failure> {
        self
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
    impl Sealed for Never {}

    /// `!` has no name of its own yet.
    #[allow(unreachable_pub)]
    pub type Never = <fn() -> ! as Function>::Output;

    pub trait Function {
        type Output;
    }

    impl<R> Function for fn() -> R {
        type Output = R;
    }
}
