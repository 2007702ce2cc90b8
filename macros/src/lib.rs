//! The `#[in_netns]` attribute.
//!
//! Depend on the crate `in-netns`, which re-exports and documents it: the expansion calls into that crate.
//!
//! A use of the attribute is parsed (`args`, `model`), validated (`validate`, `handover`, `process_network`) and
//! expanded (`expand`).

#![forbid(unsafe_code)]

mod args;
mod errors;
mod expand;
mod handover;
mod model;
mod process_network;
mod tokens;
mod validate;

use proc_macro::TokenStream;

use args::Args;
use errors::Errors;
use model::Function;

/// Runs a function's body inside a Linux network namespace.
///
/// The crate `in-netns` re-exports this attribute and documents it: see
/// [`in_netns::in_netns`](https://docs.rs/in-netns/latest/in_netns/attr.in_netns.html). Depend on that crate alone,
/// because the expansion calls into it.
#[proc_macro_attribute]
pub fn in_netns(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = Args::parse(args.into()).map_err(|error| errors.push(error));
    let function = syn::parse::<Function>(item.clone()).map_err(|error| errors.push(error));
    if let Ok(function) = &function {
        validate::validate(args.as_ref().ok(), function, &mut errors);
    }

    match (args, function, errors.into_result()) {
        (Ok(args), Ok(function), Ok(())) => expand::expand(&args, function).into(),
        (_, _, errors) => {
            // The function stays, so that its uses and its own errors are reported as they are. An expression would be
            // parsed as a part of a larger one.
            let mut tokens = errors.err().map_or_else(TokenStream::new, |error| error.into_compile_error().into());
            if !model::is_expression(item.clone().into()) {
                tokens.extend(item);
            }
            tokens
        }
    }
}
