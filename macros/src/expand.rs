//! The function that replaces the user's.
//!
//! The user's tokens keep the user's spans, so that errors and lints point at the user's text. All other tokens have
//! mixed-site spans: the body does not see their local names, nor they the body's.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{Attribute, Meta, Pat, PatType, Receiver, ReceiverKind, ReturnType, Signature, Type};

use crate::args::{Args, Audit, ErrorAction, Target};
use crate::model::{self, ArgTransfer, Asyncness, Function};

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
///     use ::in_netns::__private as __in_netns;
///     #[inline(never)]
///     fn __in_netns_body_probe<R>(__body: impl ::core::ops::FnOnce() -> R) -> R {
///         __body()
///     }
///     let __ns = __in_netns::IntoNetNs::into_place(&self.netns);
///     __in_netns::or_return(__in_netns::call(
///         __ns,
///         __in_netns::Options::new().fresh(::core::cfg!(test)).audit(::core::cfg!(test)),
///         move || {
///             __in_netns_body_probe(move || -> io::Result<Report> {
///                 __in_netns::receiver(&self);
///                 let mut tries = __in_netns::argument(tries);
///                 match () {
///                     () => { body }
///                 }
///             })
///         },
///     ))
/// }
/// ```
///
/// Where the return type is a path of another name than `Result`, the compiler decides what a failure becomes:
///
/// ```text
/// // Input:
/// fn probe() -> Reply {
///     body
/// }
///
/// // Output, without what is as above:
/// fn probe() -> Reply {
///     let __outcome = __in_netns::call(…);
///     {
///         use __in_netns::ByType as _;
///         __outcome.or_return_else_panic()
///     }
/// }
/// ```
///
/// For every path and `impl` type, the compiler also decides whether the value is a future, which is refused:
///
/// ```text
/// // Output, without what is as above:
/// let __outcome = __in_netns::call(…);
/// {
///     use __in_netns::NoFuture as _;
///     __in_netns::or_return(__outcome.refuse_future().refuse_futures_within())
/// }
/// ```
///
/// An `async fn` is rewritten in the same way, with an `async move ||` closure, and `.await` after `call_async`. The
/// named function makes the closure's future in a place of its own, and returns one that polls it: in an `async fn`,
/// closure, future and output would be in one frame several times. A function that returns a future returns it at once.
/// The user's future is made and awaited inside:
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
///         __in_netns::or_panic(__in_netns::call_async(
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
/// The body is a closure because an inner function would lose `self` and the generics. A closure has no name, so a
/// named function calls it: tools find the body in the binary through the symbol of that function's instance.
///
/// The body is the arm of a `match` because the temporaries of an arm's final expression are dropped before the
/// arguments, as those of a function's are. In a plain block of edition 2021 they outlive the arguments, and so may not
/// borrow from them.
///
/// The library is named once, in a `use`: the compiler reports each path to a crate that it does not find.
///
/// Names of the expansion begin with two underscores, because hygiene does not cover the user's constants and statics.
pub(crate) fn expand(args: &Args, function: Function) -> TokenStream {
    let site = Span::mixed_site();
    let krate = args.krate.as_ref().map_or_else(|| quote_spanned!(site=> ::in_netns), quote::ToTokens::to_token_stream);
    let runtime = Ident::new("__in_netns", site);
    let action = args.error.as_ref().map_or_else(|| function.default_error_action(), |error| error.action);

    let track_caller =
        (action != ErrorAction::Return && function.can_track_caller()).then(|| quote_spanned!(site=> #[track_caller]));
    let helper = format_ident!("__in_netns_body_{}", function.sig.ident, span = at(function.sig.ident.span()));
    let target = place(&args.target, &runtime);
    let can_be_skipped = matches!(args.target, Target::New) && function.can_be_skipped(action);
    let options = options(args, can_be_skipped.then_some(&function.sig.ident), &runtime);
    let asyncness = function.asyncness();
    let function_output = function.value();
    let output = closure_output(&function_output);
    let refuses_futures = function.may_return_future() && !args.allow.handover && !function.is_unfinished();
    let receiver = receiver(&function, &args.target, &runtime);
    let place = place_of_value(args, &function.sig, asyncness);

    let Function { attrs, vis, mut sig, brace, inner_attrs, statements, block: body } = function;
    let bindings = take_bindings(&mut sig, &args.target, &statements, &runtime);
    let in_braces = |content: TokenStream| {
        let mut block = TokenStream::new();
        brace.surround(&mut block, |tokens| tokens.extend(content));
        block
    };
    let open = brace.span.open();
    let body = match asyncness {
        Asyncness::Sync => quote_spanned!(site=> match () { () => #body }),
        Asyncness::Async => {
            let expected = expected_value(&function_output);
            quote_spanned!(site=> #expected match () { () => #body })
        }
        Asyncness::BoxedFuture | Asyncness::ImplFuture => {
            // A `return` must leave the user's function, which makes a future, and not the closure that awaits it.
            let output = closure_output(&model::future_made_inside(&sig.output));
            let make = quote_spanned!(open=> move || #output #body);
            // The compiler points here when the value is not a future.
            quote_spanned!(at(place.0)=> (#make)().await)
        }
    };
    let closure_block = in_braces(quote_spanned! {site=>
        #receiver
        #bindings
        #body
    });
    let r#async = (asyncness != Asyncness::Sync).then(|| quote_spanned!(site=> async));
    let closure = quote_spanned!(open=> #r#async move || #output #closure_block);
    // The compiler points here when something other than an argument may not go into the closure.
    let name = at(sig.ident.span());
    let closure = quote_spanned!(name=> move || #helper(#closure));
    let arguments = quote_spanned!(site=> __ns, #options, #closure);
    let at_value = |name, arguments| call_at(place, &runtime, name, arguments);
    let mut work = at_value(asyncness.runtime_fn(args.owned.is_some()), arguments);
    if asyncness != Asyncness::Sync {
        work = quote_spanned!(at(place.0)=> #work.await);
    }
    let outcome = refuses_futures.then(|| {
        // The compiler may not know the type behind an `impl` type yet, and would report an error for its items.
        let is_opaque = matches!(&sig.output, ReturnType::Type(_, ty) if model::is_opaque(ty));
        std::mem::replace(&mut work, without_futures(is_opaque, place))
    });
    if let Some(finish_fn) = action.finish_fn() {
        if can_be_skipped {
            work = at_value("or_skip", work);
        }
        work = at_value(finish_fn, work);
    } else {
        work = finish_by_type(&work, can_be_skipped, place, &runtime);
    }
    if let Some(outcome) = outcome {
        // The body is outside of the block that imports the trait.
        work = quote_spanned! {site=>
            let __outcome = #outcome;
            {
                use #runtime::NoFuture as _;
                #work
            }
        };
    }
    work = quote_spanned! {site=>
        let __ns = #target;
        #work
    };
    match asyncness {
        Asyncness::Sync | Asyncness::Async => {}
        Asyncness::BoxedFuture | Asyncness::ImplFuture => {
            // An attribute below may take this block for the body, and give its own tokens the place and hygiene of the
            // braces: `tracing::instrument` does.
            let block = in_braces(work);
            work = quote_spanned!(site=> async move #block);
            if asyncness == Asyncness::BoxedFuture {
                work = quote_spanned!(site=> ::std::boxed::Box::pin(#work));
            }
        }
    }
    let helper = named_function(asyncness, &helper, &runtime);
    let block = in_braces(quote_spanned! {site=>
        #(#inner_attrs)*
        use #krate::__private as #runtime;
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

/// The function that calls the body: see [`expand`].
fn named_function(asyncness: Asyncness, name: &Ident, runtime: &Ident) -> TokenStream {
    let site = Span::mixed_site();
    match asyncness {
        Asyncness::Sync => quote_spanned! {site=>
            fn #name<R>(__body: impl ::core::ops::FnOnce() -> R) -> R {
                __body()
            }
        },
        Asyncness::Async | Asyncness::BoxedFuture | Asyncness::ImplFuture => quote_spanned! {site=>
            fn #name<R>(
                __body: impl ::core::ops::AsyncFnOnce() -> R,
            ) -> impl ::core::future::Future<Output = R> {
                let mut __body = #runtime::make(__body);
                ::core::future::poll_fn(move |__cx| ::core::future::Future::poll(__body.as_mut(), __cx))
            }
        },
    }
}

impl Asyncness {
    /// The runtime's function that runs the body.
    fn runtime_fn(self, owned: bool) -> &'static str {
        match self {
            Asyncness::Sync => "call",
            _ if owned => "call_owned",
            Asyncness::Async | Asyncness::BoxedFuture | Asyncness::ImplFuture => "call_async",
        }
    }
}

impl ErrorAction {
    /// The runtime's function that turns the outcome of the call into the value of the annotated function.
    ///
    /// `None` for [`ErrorAction::ByType`]: see [`finish_by_type`].
    fn finish_fn(self) -> Option<&'static str> {
        match self {
            ErrorAction::Panic => Some("or_panic"),
            ErrorAction::Return => Some("or_return"),
            ErrorAction::ByType => None,
        }
    }
}

/// The outcome of the call, by methods that the compiler refuses where the value is a future.
fn without_futures(is_opaque: bool, place: (Span, Span)) -> TokenStream {
    let start = at(place.0);
    let end = empty_parentheses(place.1);
    let within = (!is_opaque).then(|| quote_spanned!(start=> .refuse_futures_within #end));
    quote_spanned!(start=> __outcome.refuse_future #end #within)
}

fn empty_parentheses(place: Span) -> Group {
    let mut parentheses = Group::new(Delimiter::Parenthesis, TokenStream::new());
    parentheses.set_span(at(place));
    parentheses
}

/// Turns the outcome of the call into the value of the annotated function by methods: for a `Result` the compiler finds
/// those that return a failure, for every other type those of a trait, which panic.
///
/// The body is outside of the block that imports the trait.
fn finish_by_type(call: &TokenStream, can_be_skipped: bool, place: (Span, Span), runtime: &Ident) -> TokenStream {
    let site = Span::mixed_site();
    let start = at(place.0);
    let or_skip = can_be_skipped.then(|| quote_spanned!(start=> .or_skip()));
    let parentheses = empty_parentheses(place.1);
    let value = quote_spanned!(start=> __outcome #or_skip.or_return_else_panic #parentheses);
    quote_spanned! {site=>
        let __outcome = #call;
        {
            use #runtime::ByType as _;
            #value
        }
    }
}

/// The place of the body, or why it cannot be found.
fn place(target: &Target, runtime: &Ident) -> TokenStream {
    let site = Span::mixed_site();
    match target {
        Target::New => quote_spanned!(site=> #runtime::IntoNetNs::into_place(#runtime::NewNetNs)),
        Target::Given(expr) => quote_spanned!(site=> #runtime::IntoNetNs::into_place(#expr)),
        Target::View(expr) => quote_spanned!(site=> #runtime::view_place(#expr)),
    }
}

/// `new` and `fresh` ask for a thread of the call's own. So does a test build of the user's crate, which the expansion
/// asks `cfg!` about, because the attribute cannot see it. A test build also asks for the audit, unless `audit` says
/// otherwise.
///
/// A test that makes its own namespace can be skipped where that is not permitted, if its return type has a value for
/// it.
fn options(args: &Args, test: Option<&Ident>, runtime: &Ident) -> TokenStream {
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
    quote_spanned!(site=> #runtime::Options::new().fresh(#fresh) #audit #test)
}

/// The place of the calls to the runtime's functions: the return type. These functions have the bounds on the body's
/// value, so the compiler points here when a bound does not hold. An async function panics here.
///
/// Where the call is awaited, the compiler checks the bounds again at `.await`. It drops the second error only if it is
/// at the same place, and one token has no place from the first to the last of a type.
fn place_of_value(args: &Args, sig: &Signature, asyncness: Asyncness) -> (Span, Span) {
    match (&sig.output, &args.error) {
        (ReturnType::Type(_, ty), _) if asyncness == Asyncness::Sync => ends(ty),
        (ReturnType::Type(_, ty), _) => (ends(ty).0, ends(ty).0),
        (ReturnType::Default, Some(error)) => (error.span, error.span),
        (ReturnType::Default, None) => (sig.ident.span(), sig.ident.span()),
    }
}

/// A call of a function in `__private` whose span reaches from the first place to the second.
///
/// Stable Rust cannot join two spans into one, but the compiler does so for a call: from the first token to the
/// parentheses.
fn call_at((start, end): (Span, Span), runtime: &Ident, name: &str, arguments: TokenStream) -> TokenStream {
    let name = Ident::new(name, at(start));
    let mut parentheses = Group::new(Delimiter::Parenthesis, arguments);
    parentheses.set_span(at(end));
    let runtime = Ident::new(&runtime.to_string(), at(start));
    quote_spanned!(at(start)=> #runtime::#name #parentheses)
}

/// The return type of the body's closure: the user's, with `_` for every `impl Trait`, which only a function may
/// return.
///
/// ```text
/// // Input:
/// -> Result<impl Iterator<Item = u8>, Error>
///
/// // Output:
/// -> Result<_, Error>
/// ```
fn closure_output(output: &ReturnType) -> TokenStream {
    match output {
        ReturnType::Default => quote_spanned!(Span::mixed_site()=> -> ()),
        ReturnType::Type(arrow, ty) => {
            let ty = without_impl_types(ty);
            quote_spanned!(Span::mixed_site()=> #arrow #ty)
        }
    }
}

/// The type with `_` for every `impl Trait`.
fn without_impl_types(ty: &Type) -> Type {
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

    let mut ty = ty.clone();
    Infer.visit_type_mut(&mut ty);
    ty
}

/// Tells the compiler the type of an async body's value.
///
/// The return type of an async closure is compared with the value's type, but is not its expected type. So no value
/// would coerce to it as in an async function: `&String` to `&str`, `Box<T>` to `Box<dyn Trait>`.
///
/// ```text
/// // Input:
/// async fn probe(&self) -> &str { &self.name }
///
/// // Output, in the closure:
/// if let ::core::option::Option::Some(__value) = ::core::option::Option::None::<&str> {
///     return __value;
/// }
/// ```
fn expected_value(output: &ReturnType) -> Option<TokenStream> {
    let ReturnType::Type(_, ty) = output else { return None };
    if matches!(model::ungrouped(ty), Type::ImplTrait(_) | Type::Never(_)) {
        // The first says nothing of the type, and the second is not the type of an expression.
        return None;
    }
    // The compiler points here where the value is of another type.
    let value = quote_spanned!(at(ends(ty).0)=> return __value;);
    let ty = without_impl_types(ty);
    Some(quote_spanned! {Span::mixed_site()=>
        if let ::core::option::Option::Some(__value) = ::core::option::Option::None::<#ty> {
            #value
        }
    })
}

/// Captures `self` as a whole, and makes the compiler point at it if it is not `Send`.
///
/// A reference that the body does not use is not captured: it has nothing to drop, and need not be `Send`. A value that
/// the namespace expression may consume is captured as far as the body uses it.
///
/// ```text
/// // Input:
/// fn close(self) { drop(self.socket) }
///
/// // Output, in the closure:
/// __in_netns::receiver(&self);
/// ```
fn receiver(function: &Function, target: &Target, runtime: &Ident) -> Option<TokenStream> {
    let Receiver { self_token, kind, .. } = function.sig.receiver()?;
    let stays = match kind {
        ReceiverKind::Reference(..) => !function.body_mentions_self(),
        _ => model::may_consume_self(target),
    };
    if stays {
        return None;
    }
    let span = self_token.span;
    let check = call_at((span, span), runtime, "receiver", quote_spanned!(at(span)=> &#self_token));
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
/// let a = __in_netns::argument(a);
/// let mut b = __in_netns::argument(b);
/// let __arg2 = __in_netns::argument(__arg2);
/// let (c, _) = __arg2;
/// let __arg3 = __in_netns::argument(__arg3);
/// let _ = __arg3;
/// ```
///
/// So an argument is moved inside as a whole and is dropped there, even if the body uses a part of it or nothing.
/// The order of drops is that of a function: the body's locals, then the arguments from last to first.
fn take_bindings(sig: &mut Signature, target: &Target, body: &TokenStream, runtime: &Ident) -> TokenStream {
    let mut bindings = TokenStream::new();
    for (index, parameter) in model::parameters(&mut sig.inputs).enumerate() {
        match ArgTransfer::of(parameter, target, body) {
            transfer @ (ArgTransfer::Moved | ArgTransfer::Borrowed) => {
                bindings.extend(take_binding(parameter, transfer, index, runtime));
            }
            ArgTransfer::Reference => bindings.extend(check_reference(parameter, runtime)),
            ArgTransfer::Captured => {}
        }
    }
    bindings
}

fn take_binding(parameter: &mut PatType, transfer: ArgTransfer, index: usize, runtime: &Ident) -> TokenStream {
    let site = Span::mixed_site();
    let place = ends(&parameter.ty);
    let [attrs, without_expect] = binding_attrs(parameter);
    let argument = |mut value: Ident| {
        value.set_span(place.0.resolved_at(value.span()));
        call_at(place, runtime, "argument", value.into_token_stream())
    };
    // The user did not write the first binding of an argument.
    let silent = quote_spanned!(site=> #[allow(clippy::collection_is_never_read, clippy::shadow_reuse)]);

    match &mut *parameter.pat {
        Pat::Ident(pattern) if model::is_plain(pattern) => {
            let mutability = pattern.mutability.take();
            let name = pattern.ident.clone();
            if transfer == ArgTransfer::Moved && name.to_string().starts_with('_') {
                // The expansion uses the parameter. With the user's span, that would raise a lint at the user's name.
                let site = at(name.span());
                if name.to_string().starts_with("__") {
                    // It may be a name of the expansion.
                    pattern.ident = format_ident!("__arg{}", index, span = site);
                } else {
                    pattern.ident.set_span(site);
                }
            }
            let value = argument(pattern.ident.clone());
            let used =
                (transfer == ArgTransfer::Borrowed).then(|| quote_spanned!(site=> #(#without_expect)* let _ = &#name;));
            // Only there: a crate may forbid this lint, with the group that it is in.
            let underscore = name.to_string().starts_with('_');
            let silent_use = underscore.then(|| quote_spanned!(site=> #[allow(clippy::used_underscore_binding)]));
            quote_spanned! {site=>
                #(#attrs)*
                #silent
                #silent_use
                let #mutability #name = #value;
                #used
            }
        }
        pattern => {
            // The whole value first: a pattern alone would capture only the parts that it binds.
            let name = format_ident!("__arg{}", index, span = at(pattern.span()));
            let value = argument(name.clone());
            let mutability = model::borrows_mutably(pattern).then(|| quote_spanned!(site=> mut));
            let pattern = std::mem::replace(pattern, Pat::Verbatim(name.to_token_stream()));
            quote_spanned! {site=>
                #(#without_expect)*
                #silent
                let #mutability #name = #value;
                #(#attrs)*
                let #pattern = #name;
            }
        }
    }
}

/// Makes the compiler point at a reference that is not `Send`. The closure captures the reference by itself, so that
/// the lints about its use in the body still work.
///
/// ```text
/// // Input:
/// fn f(a: &A)
///
/// // Output, in the closure:
/// let _ = __in_netns::receiver::<&A>;
/// ```
fn check_reference(parameter: &PatType, runtime: &Ident) -> Option<TokenStream> {
    let PatType { attrs, ty, .. } = parameter;
    if ImplTraits::of(ty) {
        // Such a type cannot be written here. An error is then reported at the closure.
        return None;
    }
    let cfgs = attrs.iter().filter(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr"));
    Some(quote_spanned!(at(ends(ty).0)=> #(#cfgs)* let _ = #runtime::receiver::<#ty>;))
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

/// The attributes that apply to the binding as they do to the parameter; and the same with `allow` in place of
/// `expect`, as the parameter has them from then on. A lint is expected once, where the pattern binds its names.
fn binding_attrs(parameter: &mut PatType) -> [Vec<Attribute>; 2] {
    const BOTH: [&str; 7] = ["cfg", "cfg_attr", "allow", "expect", "warn", "deny", "forbid"];
    let is_shared = |attr: &&mut Attribute| BOTH.iter().any(|name| attr.path().is_ident(name));
    let shared: Vec<&mut Attribute> = parameter.attrs.iter_mut().filter(is_shared).collect();
    let as_written = shared.iter().map(|attr| Attribute::clone(attr)).collect();
    let without_expect = shared.into_iter().map(allow_instead_of_expect).collect();
    [as_written, without_expect]
}

/// `#[expect(lint)]` -> `#[allow(lint)]`, also within `#[cfg_attr(…)]`
fn allow_instead_of_expect(attr: &mut Attribute) -> Attribute {
    let rename = |name: &mut Ident| {
        if name == "expect" {
            *name = Ident::new("allow", at(name.span()));
        }
    };
    match &mut attr.meta {
        Meta::List(list) if list.path.is_ident("cfg_attr") => {
            let tokens = std::mem::take(&mut list.tokens).into_iter().map(|mut token| {
                if let TokenTree::Ident(name) = &mut token {
                    rename(name);
                }
                token
            });
            list.tokens = tokens.collect();
        }
        Meta::List(list) => list.path.segments.iter_mut().for_each(|segment| rename(&mut segment.ident)),
        Meta::Path(_) | Meta::NameValue(_) => {}
    }
    attr.clone()
}

/// A span that points at the user's text and has the macro's hygiene.
fn at(place: Span) -> Span {
    Span::mixed_site().located_at(place)
}

/// The first and the last token of a type.
fn ends(ty: &Type) -> (Span, Span) {
    let mut spans = ty.to_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    (first, spans.last().unwrap_or(first))
}
