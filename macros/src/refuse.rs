//! Functions that `#[in_netns]` does not take, each refused at the token that is the reason.

use syn::visit::Visit;
use syn::{Error, Result, ReturnType, TraitBound};

use crate::args::Mistakes;
use crate::model::{Function, last_segment_is};

/// Reports every reason at once.
pub(crate) fn check(function: &Function) -> Result<()> {
    let sig = &function.sig;
    let mut mistakes = Mistakes::default();

    if let Some(word) = &sig.constness {
        mistakes.add(Error::new(
            word.span,
            "`#[in_netns]` does not take a `const fn`: entering a namespace happens at run time",
        ));
    }
    if let Some(word) = &sig.asyncness {
        mistakes.add(Error::new(
            word.span,
            "`#[in_netns]` does not take an `async fn` yet: its body would be polled outside the namespace; \
             put the part that must be inside into a `fn`",
        ));
    }
    if let Some(variadic) = &sig.variadic {
        mistakes.add(Error::new_spanned(
            variadic.dots,
            "`#[in_netns]` does not take a variadic function: its arguments cannot be moved to another thread",
        ));
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        let mut futures = Futures(Vec::new());
        futures.visit_type(ty);
        for bound in futures.0 {
            mistakes.add(Error::new_spanned(
                bound,
                "`#[in_netns]` does not take a function that returns a future: the future would be polled outside \
                 the namespace; put the part that must be inside into a `fn`",
            ));
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
