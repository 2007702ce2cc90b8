//! The function that replaces the user's.
//!
//! Everything of the user's keeps the user's spans, so that errors and lints point at the user's text. Everything
//! else has mixed-site spans: its local names are invisible to the body, and the body's to it.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{Attribute, Pat, PatType, Receiver, ReceiverKind, ReturnType, Signature, Type};

use crate::args::{Args, Audit, ErrorAction, Target};
use crate::model::{self, Function, Passage, Way};

/// Rewrites the function to run its body in the namespace.
///
/// ```text
/// // Input:
/// #[in_netns(&self.netns)]
/// fn probe(&self, mut tries: u32) -> io::Result<Report> {
///     body
/// }
///
/// // Output:
/// fn probe(&self, tries: u32) -> io::Result<Report> {
///     #[inline(never)]
///     fn __in_netns_body_probe<R>(__body: impl ::core::ops::FnOnce() -> R) -> R {
///         __body()
///     }
///     let __ns = ::in_netns::IntoNetNs::into_netns(&self.netns);
///     ::in_netns::__private::or_return(::in_netns::__private::call(
///         __ns,
///         ::in_netns::__private::Options::new().fresh(::core::cfg!(test)).audit(::core::cfg!(test)),
///         move || {
///             __in_netns_body_probe(move || -> io::Result<Report> {
///                 ::in_netns::__private::receiver(&self);
///                 let mut tries = ::in_netns::__private::argument(tries);
///                 match () {
///                     () => { body }
///                 }
///             })
///         },
///     ))
/// }
/// ```
///
/// An `async fn` is rewritten alike, with an `async move ||` closure, an `async fn` around it, and `.await` behind `call_async`. A function that
/// returns a future does so at once, and its body is made and awaited inside:
///
/// ```text
/// // Input:
/// fn probe<'a>(&'a self) -> Pin<Box<dyn Future<Output = u8> + Send + 'a>> {
///     body
/// }
///
/// // Output, without what is as above:
/// fn probe<'a>(&'a self) -> Pin<Box<dyn Future<Output = u8> + Send + 'a>> {
///     ::std::boxed::Box::pin(async move {
///         let __ns = …;
///         ::in_netns::__private::or_panic(::in_netns::__private::call_async(
///             __ns,
///             …,
///             move || {
///                 __in_netns_body_probe(async move || -> u8 {
///                     (move || -> Pin<Box<dyn Future<Output = u8> + 'a>> { body })().await
///                 })
///             },
///         ).await)
///     })
/// }
/// ```
///
/// The body is a closure because an inner function would lose `self` and the generics. A closure has no name, so it is
/// called through a function that has one: the symbol of its instance leads from the name to the body.
///
/// The body is the arm of a `match` because the temporaries of an arm's final expression are dropped before the
/// arguments, as those of a function's are. In a plain block of edition 2021 they outlive them, and so may not borrow them.
/// Names of the expansion begin with two underscores, because hygiene does not cover the user's constants and statics.
pub(crate) fn expand(args: &Args, function: Function) -> TokenStream {
    let site = Span::mixed_site();
    let krate = args.krate.as_ref().map_or_else(|| quote_spanned!(site=> ::in_netns), quote::ToTokens::to_token_stream);
    let action = args.error.as_ref().map_or_else(|| function.default_error_action(), |error| error.action);

    let track_caller =
        (action == ErrorAction::Panic && function.can_track_caller()).then(|| quote_spanned!(site=> #[track_caller]));
    let helper = format_ident!("__in_netns_body_{}", function.sig.ident, span = at(function.sig.ident.span()));
    let namespace = namespace(&args.target, &krate);
    let can_be_skipped = matches!(args.target, Target::New) && function.can_be_skipped(action);
    let options = options(args, can_be_skipped.then_some(&function.sig.ident), &krate);
    let way = function.way();
    let output = closure_output(&function.value());
    let receiver = receiver(&function, &krate);

    let Function { attrs, vis, mut sig, brace, inner_attrs, statements } = function;
    let bindings = take_bindings(&mut sig, &args.target, &statements, &krate);
    let in_braces = |content: TokenStream| {
        let mut block = TokenStream::new();
        brace.surround(&mut block, |tokens| tokens.extend(content));
        block
    };
    let body = in_braces(statements);
    let open = brace.span.open();
    let body = match way {
        Way::Sync | Way::Async => quote_spanned!(site=> match () { () => #body }),
        Way::Boxed | Way::Unnamed => {
            // What `return` leaves is the user's function, which makes a future, and not the closure that awaits it.
            let output = closure_output(&model::future_made_inside(&sig.output));
            let make = quote_spanned!(open=> move || #output #body);
            quote_spanned!(site=> (#make)().await)
        }
    };
    let closure_block = in_braces(quote_spanned! {site=>
        #receiver
        #bindings
        #body
    });
    let r#async = (way != Way::Sync).then(|| quote_spanned!(site=> async));
    let closure = quote_spanned!(open=> #r#async move || #output #closure_block);
    // Where the compiler points when something else than an argument may not go into the closure.
    let name = at(sig.ident.span());
    let closure = quote_spanned!(name=> move || #helper(#closure));
    let arguments = quote_spanned!(site=> __ns, #options, #closure);
    let place = place_of_value(args, &sig);
    let at_value = |name, arguments| call_at(place, &krate, name, arguments);
    let mut work = at_value(if args.owned.is_some() { "call_owned" } else { way.entrance() }, arguments);
    if way != Way::Sync {
        work = quote_spanned!(site=> #work.await);
    }
    if can_be_skipped {
        work = at_value("or_skip", work);
    }
    work = at_value(action.settlement(), work);
    work = quote_spanned! {site=>
        let __ns = #krate::IntoNetNs::into_netns(#namespace);
        #work
    };
    match way {
        Way::Sync | Way::Async => {}
        Way::Boxed => work = quote_spanned!(site=> ::std::boxed::Box::pin(async move { #work })),
        Way::Unnamed => work = quote_spanned!(site=> async move { #work }),
    }
    let helper = match way {
        Way::Sync => quote_spanned! {site=>
            fn #helper<R>(__body: impl ::core::ops::FnOnce() -> R) -> R {
                __body()
            }
        },
        Way::Async | Way::Boxed | Way::Unnamed => quote_spanned! {site=>
            async fn #helper<R>(__body: impl ::core::ops::AsyncFnOnce() -> R) -> R {
                __body().await
            }
        },
    };
    let block = in_braces(quote_spanned! {site=>
        #(#inner_attrs)*
        #[inline(never)]
        #helper
        #work
    });

    quote_spanned! {site=>
        #(#attrs)*
        #track_caller
        #vis #sig #block
    }
}

impl Way {
    /// The runtime's function that runs the body, but for `owned`.
    fn entrance(self) -> &'static str {
        match self {
            Way::Sync => "call",
            Way::Async | Way::Boxed | Way::Unnamed => "call_async",
        }
    }
}

impl ErrorAction {
    /// The runtime's function that makes the annotated function's value of how the call went.
    fn settlement(self) -> &'static str {
        match self {
            ErrorAction::Panic => "or_panic",
            ErrorAction::Return => "or_return",
        }
    }
}

fn namespace(target: &Target, krate: &TokenStream) -> TokenStream {
    match target {
        Target::New => quote_spanned!(Span::mixed_site()=> #krate::__private::NewNetNs),
        Target::Given(expr) => expr.to_token_stream(),
    }
}

/// `new` and `fresh` ask for a thread of the call's own. So does a test build of the user's crate, which the expansion
/// finds out where it stands: the attribute itself cannot see it. A test build also asks for the audit, unless told otherwise.
///
/// A test that makes its own namespace can be skipped where that is not allowed, if it returns what a test returns.
fn options(args: &Args, test: Option<&Ident>, krate: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let fresh = if args.fresh || matches!(args.target, Target::New) {
        quote_spanned!(site=> true)
    } else {
        quote_spanned!(site=> ::core::cfg!(test))
    };
    let audit = match args.audit {
        None => quote_spanned!(site=> .audit(::core::cfg!(test))),
        Some(Audit::Off) => TokenStream::new(),
        Some(Audit::Report) => quote_spanned!(site=> .audit(true)),
        Some(Audit::Panic) => quote_spanned!(site=> .audit(true).panic_on_strays(true)),
    };
    let test = test.map(|name| {
        let name = name.unraw().to_string();
        quote_spanned!(site=> .test(::core::cfg!(test), ::core::concat!(::core::module_path!(), "::", #name)))
    });
    quote_spanned!(site=> #krate::__private::Options::new().fresh(#fresh) #audit #test)
}

/// Where the runtime's functions are called that run the body and settle: at the return type. The bounds on what the body
/// returns are theirs, so this is where the compiler points when they do not hold; and where an async function panics.
fn place_of_value(args: &Args, sig: &Signature) -> (Span, Span) {
    match (&sig.output, &args.error) {
        (ReturnType::Type(_, ty), _) => ends(ty),
        (ReturnType::Default, Some(error)) => (error.span, error.span),
        (ReturnType::Default, None) => (sig.ident.span(), sig.ident.span()),
    }
}

/// A call of a function in `__private` that the compiler finds between the two places, which must be in this order.
///
/// Stable Rust cannot join two spans into one, but the compiler does so itself for a call: from the first token to the
/// parentheses.
fn call_at((start, end): (Span, Span), krate: &TokenStream, name: &str, arguments: TokenStream) -> TokenStream {
    let name = Ident::new(name, at(start));
    let mut parentheses = Group::new(Delimiter::Parenthesis, arguments);
    parentheses.set_span(at(end));
    let krate = krate.clone().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(start));
        token
    });
    quote_spanned!(at(start)=> #(#krate)*::__private::#name #parentheses)
}

/// The return type of the body's closure: the user's, with `_` for every `impl Trait`, which only a function may return.
///
/// ```text
/// // Input:
/// -> Result<impl Iterator<Item = u8>, Error>
///
/// // Output:
/// -> Result<_, Error>
/// ```
fn closure_output(output: &ReturnType) -> TokenStream {
    struct Infer;

    impl VisitMut for Infer {
        fn visit_type_mut(&mut self, ty: &mut Type) {
            if matches!(ty, Type::ImplTrait(_)) {
                *ty = Type::Verbatim(quote_spanned!(at(ty.span())=> _));
            } else {
                syn::visit_mut::visit_type_mut(self, ty);
            }
        }
    }

    match output {
        ReturnType::Default => quote_spanned!(Span::mixed_site()=> -> ()),
        ReturnType::Type(arrow, ty) => {
            let mut ty = ty.clone();
            Infer.visit_type_mut(&mut ty);
            quote_spanned!(Span::mixed_site()=> #arrow #ty)
        }
    }
}

/// Takes `self` into the closure as a whole, and has the compiler point at it where it may not go.
///
/// A reference that the body does not use stays behind: it has nothing to drop, and need not be `Send`.
///
/// ```text
/// // Input:
/// fn close(self) { drop(self.socket) }
///
/// // Output, in the closure:
/// ::in_netns::__private::receiver(&self);
/// ```
fn receiver(function: &Function, krate: &TokenStream) -> Option<TokenStream> {
    let Receiver { self_token, kind, .. } = function.sig.receiver()?;
    if matches!(kind, ReceiverKind::Reference(..)) && !function.body_mentions_self() {
        return None;
    }
    let span = self_token.span;
    let check = call_at((span, span), krate, "receiver", quote_spanned!(at(span)=> &#self_token));
    Some(quote_spanned!(at(span)=> #check;))
}

/// Moves the patterns of the parameters from the signature into the closure.
///
/// ```text
/// // Input:
/// fn f(a: A, mut b: B, (c, _): (C, D), _: E)
///
/// // Output, the signature:
/// fn f(a: A, b: B, __arg2: (C, D), __arg3: E)
///
/// // Output, in the closure:
/// let a = ::in_netns::__private::argument(a);
/// let mut b = ::in_netns::__private::argument(b);
/// let __arg2 = ::in_netns::__private::argument(__arg2);
/// let (c, _) = __arg2;
/// let __arg3 = ::in_netns::__private::argument(__arg3);
/// let _ = __arg3;
/// ```
///
/// So an argument goes inside as a whole and is dropped there, also where the body uses a part of it or nothing.
/// The order of drops is that of a function: the body's own locals, then the arguments from last to first.
fn take_bindings(sig: &mut Signature, target: &Target, body: &TokenStream, krate: &TokenStream) -> TokenStream {
    let mut bindings = TokenStream::new();
    for (index, parameter) in model::parameters(&mut sig.inputs).enumerate() {
        match Passage::of(parameter, target, body) {
            passage @ (Passage::Moved | Passage::Lent) => {
                bindings.extend(take_binding(parameter, passage, index, krate));
            }
            Passage::Reference => bindings.extend(check_reference(parameter, krate)),
            Passage::Captured => {}
        }
    }
    bindings
}

fn take_binding(parameter: &mut PatType, passage: Passage, index: usize, krate: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let place = ends(&parameter.ty);
    let attrs = binding_attrs(parameter);
    let argument = |mut value: Ident| {
        value.set_span(place.0.resolved_at(value.span()));
        call_at(place, krate, "argument", value.into_token_stream())
    };

    match &mut *parameter.pat {
        Pat::Ident(pattern) if model::is_plain(pattern) => {
            let mutability = pattern.mutability.take();
            let name = pattern.ident.clone();
            if passage == Passage::Moved && name.to_string().starts_with('_') {
                // Using such a name would be the user's fault, were the parameter still the user's.
                pattern.ident.set_span(at(name.span()));
            }
            let value = argument(pattern.ident.clone());
            let used = (passage == Passage::Lent).then(|| quote_spanned!(site=> #(#attrs)* let _ = &#name;));
            quote_spanned! {site=>
                #(#attrs)*
                let #mutability #name = #value;
                #used
            }
        }
        pattern => {
            // Whole first: a pattern alone would capture only what it binds.
            let name = format_ident!("__arg{}", index, span = at(pattern.span()));
            let value = argument(name.clone());
            let pattern = std::mem::replace(pattern, Pat::Verbatim(name.to_token_stream()));
            quote_spanned! {site=>
                #(#attrs)*
                let #name = #value;
                #(#attrs)*
                let #pattern = #name;
            }
        }
    }
}

/// Has the compiler point at a reference that may not go into the closure. It goes there by itself, so that the lints
/// about what the body does with it still see that.
///
/// ```text
/// // Input:
/// fn f(a: &A)
///
/// // Output, in the closure:
/// let _ = ::in_netns::__private::receiver::<&A>;
/// ```
fn check_reference(parameter: &PatType, krate: &TokenStream) -> Option<TokenStream> {
    let PatType { attrs, ty, .. } = parameter;
    if ImplTraits::of(ty) {
        // Such a type cannot be written here. The error, if there is one, is then at the closure.
        return None;
    }
    let cfgs = attrs.iter().filter(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr"));
    Some(quote_spanned!(at(ends(ty).0)=> #(#cfgs)* let _ = #krate::__private::receiver::<#ty>;))
}

/// Whether there is an `impl Trait` in a type.
struct ImplTraits(bool);

impl ImplTraits {
    fn of(ty: &Type) -> bool {
        let mut found = Self(false);
        found.visit_type(ty);
        found.0
    }
}

impl<'ast> Visit<'ast> for ImplTraits {
    fn visit_type_impl_trait(&mut self, _: &'ast syn::TypeImplTrait) {
        self.0 = true;
    }
}

/// The attributes that hold for the binding as they do for the parameter. An expected lint is expected of the binding
/// alone: the parameter is always used.
fn binding_attrs(parameter: &mut PatType) -> Vec<Attribute> {
    const BOTH: [&str; 6] = ["cfg", "cfg_attr", "allow", "warn", "deny", "forbid"];
    let is = |attr: &Attribute, name: &str| attr.path().is_ident(name);
    let shared = parameter
        .attrs
        .iter()
        .filter(|attr| is(attr, "expect") || BOTH.iter().any(|name| is(attr, name)))
        .cloned()
        .collect();
    parameter.attrs.retain(|attr| !is(attr, "expect"));
    shared
}

/// A span that is found at the user's text, and is the macro's by hygiene.
fn at(place: Span) -> Span {
    Span::mixed_site().located_at(place)
}

/// The first and the last token of a type.
fn ends(ty: &Type) -> (Span, Span) {
    let mut spans = ty.to_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    (first, spans.last().unwrap_or(first))
}
