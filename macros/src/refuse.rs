//! Functions that `#[in_netns]` does not take, each refused at the token that is the reason.

use syn::visit::Visit;
use syn::{Error, Result, ReturnType, TraitBound};

use crate::args::{Args, Mistakes};
use crate::model::{Function, Way, last_segment_is};

const FUTURE: &str = if cfg!(feature = "tokio") {
    "`#[in_netns]` does not take a function that returns a future in this form: the future would be polled outside the \
     namespace; write an `async fn`, or return `impl Future<Output = T>` or `Pin<Box<dyn Future<Output = T>>>`"
} else {
    "`#[in_netns]` does not take a function that returns a future: the future would be polled outside the namespace; enable \
     the feature `tokio` of the crate `in-netns`, or put the part that must be inside into a `fn`"
};

/// Reports every reason at once.
pub(crate) fn check(args: Option<&Args>, function: &Function) -> Result<()> {
    let sig = &function.sig;
    let mut mistakes = Mistakes::default();

    if let Some(word) = &sig.constness {
        mistakes.add(Error::new(
            word.span,
            "`#[in_netns]` does not take a `const fn`: entering a namespace happens at run time",
        ));
    }
    if let (Some(word), false) = (&sig.asyncness, cfg!(feature = "tokio")) {
        mistakes.add(Error::new(
            word.span,
            "`#[in_netns]` takes an `async fn` with the feature `tokio` of the crate `in-netns`; without it, \
             put the part that must be inside into a `fn`",
        ));
    }
    if let (Some(word), Way::Sync) = (args.and_then(|args| args.owned), function.way()) {
        mistakes.add(Error::new(word, "option `owned` is for async functions: there is nothing to poll here"));
    }
    if let Some(variadic) = &sig.variadic {
        mistakes.add(Error::new_spanned(
            variadic.dots,
            "`#[in_netns]` does not take a variadic function: its arguments cannot be moved to another thread",
        ));
    }
    let taken = cfg!(feature = "tokio") && matches!(function.way(), Way::Boxed | Way::Unnamed);
    if let (ReturnType::Type(_, ty), false) = (&sig.output, taken) {
        let mut futures = Futures(Vec::new());
        futures.visit_type(ty);
        for bound in futures.0 {
            mistakes.add(Error::new_spanned(bound, FUTURE));
        }
    }
    mistakes.into_result()
}

/// Every `Future` among the bounds of an `impl` or `dyn` type. This is also how an `async fn` looks once another
/// macro, such as `async_trait`, has rewritten it.
struct Futures<'ast>(Vec<&'ast TraitBound>);

impl<'ast> Visit<'ast> for Futures<'ast> {
    fn visit_trait_bound(&mut self, bound: &'ast TraitBound) {
        if last_segment_is(&bound.path, "Future") {
            self.0.push(bound);
        }
        syn::visit::visit_trait_bound(self, bound);
    }
}
