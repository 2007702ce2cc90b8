//! What `#[in_netns]` refuses, each at the token that is the reason.

use syn::visit::Visit;
use syn::{Error, ReturnType, TraitBound};

use crate::args::{Allow, Args, Target};
use crate::errors::Errors;
use crate::model::{Asyncness, Function, last_segment_is};

const FUTURE: &str = if cfg!(feature = "tokio") {
    "`#[in_netns]` does not take a function that returns a future in this form: the future would be polled outside the \
     namespace; write an `async fn`, or return `impl Future<Output = T>` or `Pin<Box<dyn Future<Output = T>>>`"
} else {
    "`#[in_netns]` does not take a function that returns a future: the future would be polled outside the namespace; \
     enable the feature `tokio` of the crate `in-netns`, or put the part that must be inside into a `fn`"
};

/// Reports every reason at once. Without arguments (they have an error of their own), what depends on them is left out.
pub(crate) fn validate(args: Option<&Args>, function: &Function, errors: &mut Errors) {
    validate_signature(args, function, errors);
    if let Some(args) = args {
        validate_body(args, function, errors);
    }
}

fn validate_signature(args: Option<&Args>, function: &Function, errors: &mut Errors) {
    let sig = &function.sig;

    if let Some(word) = &sig.constness {
        errors.push(Error::new(
            word.span,
            "`#[in_netns]` does not take a `const fn`: entering a namespace happens at run time",
        ));
    }
    if let (Some(word), false) = (&sig.asyncness, cfg!(feature = "tokio")) {
        errors.push(Error::new(
            word.span,
            "`#[in_netns]` takes an `async fn` with the feature `tokio` of the crate `in-netns`; without it, \
             put the part that must be inside into a `fn`",
        ));
    }
    if let (Some(word), Asyncness::Sync) = (args.and_then(|args| args.owned), function.asyncness()) {
        errors.push(Error::new(word, "option `owned` is for async functions: there is nothing to poll here"));
    }
    if let Some(variadic) = &sig.variadic {
        errors.push(Error::new_spanned(
            variadic.dots,
            "`#[in_netns]` does not take a variadic function: its arguments cannot be moved to another thread",
        ));
    }
    let returns_accepted_future =
        cfg!(feature = "tokio") && matches!(function.asyncness(), Asyncness::BoxedFuture | Asyncness::ImplFuture);
    if let (ReturnType::Type(_, ty), false) = (&sig.output, returns_accepted_future) {
        let mut futures = Futures(Vec::new());
        futures.visit_type(ty);
        for bound in futures.0 {
            errors.push(Error::new_spanned(bound, FUTURE));
        }
    }
}

fn validate_body(args: &Args, function: &Function, errors: &mut Errors) {
    let Allow { handover, process_network } = args.allow;
    if !handover {
        let contained = function.asyncness() != Asyncness::Sync;
        crate::handover::validate(&function.statements, contained, errors);
    }
    if !process_network {
        crate::process_network::validate(&function.statements, matches!(args.target, Target::View(_)), errors);
    }
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
