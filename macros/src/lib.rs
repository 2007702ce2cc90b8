//! The `#[in_netns]` attribute.
//!
//! Depend on the crate `in-netns`, which re-exports it: what the attribute expands to calls into that crate.
//!
//! A use of the attribute passes through the modules in the order in which they are listed.

#![forbid(unsafe_code)]

mod args;
mod expand;
mod model;
mod refuse;

use proc_macro::TokenStream;

/// Runs a function's body inside a Linux network namespace.
#[proc_macro_attribute]
pub fn in_netns(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = args::Mistakes::default();
    let args = args::Args::parse(args.into()).map_err(|error| mistakes.add(error));
    let function = syn::parse::<model::Function>(item.clone())
        .and_then(|function| refuse::check(&function).map(|()| function))
        .map_err(|error| mistakes.add(error));

    match (args, function, mistakes.into_result()) {
        (Ok(args), Ok(function), Ok(())) => expand::expand(&args, function).into(),
        (_, _, mistakes) => {
            // The function stays, so that its uses and its own errors are reported as they are.
            let mut tokens =
                mistakes.err().map_or_else(proc_macro::TokenStream::new, |error| error.into_compile_error().into());
            tokens.extend(item);
            tokens
        }
    }
}
