//! The function that replaces the user's.
//!
//! Everything of the user's keeps the user's spans, so that errors and lints point at the user's text. Everything
//! else has mixed-site spans: its local names are invisible to the body, and the body's to it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote_spanned};
use syn::spanned::Spanned as _;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{Attribute, Pat, PatType, Receiver, ReceiverKind, ReturnType, Signature, Type};

use crate::args::{Args, ErrorAction, Target};
use crate::model::{self, Function, Passage};

/// Rewrites the function to run its body in the namespace.
///
/// ```ignore (shows tokens, not a program)
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
///     ::in_netns::__private::call_or_return(
///         __ns,
///         ::in_netns::__private::Options::new().fresh(::core::cfg!(test)),
///         move || {
///             __in_netns_body_probe(move || -> io::Result<Report> {
///                 ::in_netns::__private::receiver(&self);
///                 let mut tries = ::in_netns::__private::argument(tries);
///                 match () {
///                     () => { body }
///                 }
///             })
///         },
///     )
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
    let helper = format_ident!("__in_netns_body_{}", function.sig.ident, span = site);
    let namespace = namespace(&args.target, &krate);
    let options = options(args, &krate);
    let call = call(action, args, &function.sig, &krate);
    let output = closure_output(&function.sig.output);
    let receiver = receiver(&function, &krate);

    let Function { attrs, vis, mut sig, brace, inner_attrs, statements } = function;
    let bindings = take_bindings(&mut sig, &args.target, &krate);
    let in_braces = |content: TokenStream| {
        let mut block = TokenStream::new();
        brace.surround(&mut block, |tokens| tokens.extend(content));
        block
    };
    let body = in_braces(statements);
    let closure_block = in_braces(quote_spanned! {site=>
        #receiver
        #bindings
        match () { () => #body }
    });
    let open = brace.span.open();
    let closure = quote_spanned!(open=> move || #output #closure_block);
    let block = in_braces(quote_spanned! {site=>
        #(#inner_attrs)*
        #[inline(never)]
        fn #helper<R>(__body: impl ::core::ops::FnOnce() -> R) -> R {
            __body()
        }
        let __ns = #krate::IntoNetNs::into_netns(#namespace);
        #call(__ns, #options, move || #helper(#closure))
    });

    quote_spanned! {site=>
        #(#attrs)*
        #track_caller
        #vis #sig #block
    }
}

fn namespace(target: &Target, krate: &TokenStream) -> TokenStream {
    match target {
        Target::New => quote_spanned!(Span::mixed_site()=> #krate::__private::NewNetNs),
        Target::Given(expr) => expr.to_token_stream(),
    }
}

/// `new` and `fresh` ask for a thread of the call's own. So does a test build of the user's crate, which the expansion
/// finds out where it stands: the attribute itself cannot see it.
fn options(args: &Args, krate: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let fresh = if args.fresh || matches!(args.target, Target::New) {
        quote_spanned!(site=> true)
    } else {
        quote_spanned!(site=> ::core::cfg!(test))
    };
    quote_spanned!(site=> #krate::__private::Options::new().fresh(#fresh))
}

/// The path of the runtime's function, placed on the return type: the bounds on what the body returns are bounds of that
/// function, so this is where the compiler points when they do not hold.
fn call(action: ErrorAction, args: &Args, sig: &Signature, krate: &TokenStream) -> TokenStream {
    let name = match action {
        ErrorAction::Panic => "call_or_panic",
        ErrorAction::Return => "call_or_return",
    };
    let (start, end) = match (&sig.output, &args.error) {
        (ReturnType::Type(_, ty), _) => ends(ty),
        (ReturnType::Default, Some(error)) => (error.span, error.span),
        (ReturnType::Default, None) => (sig.ident.span(), sig.ident.span()),
    };
    let name = Ident::new(name, at(end));
    let krate = relocate(krate.clone(), start);
    quote_spanned!(at(start)=> #krate::__private::#name)
}

/// The return type of the body's closure: the user's, with `_` for every `impl Trait`, which only a function may return.
///
/// ```ignore (shows tokens, not a program)
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
/// ```ignore (shows tokens, not a program)
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
    let span = at(self_token.span);
    Some(quote_spanned!(span=> #krate::__private::receiver(&#self_token);))
}

/// Moves the patterns of the parameters from the signature into the closure.
///
/// ```ignore (shows tokens, not a program)
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
fn take_bindings(sig: &mut Signature, target: &Target, krate: &TokenStream) -> TokenStream {
    let mut bindings = TokenStream::new();
    for (index, parameter) in model::parameters(&mut sig.inputs).enumerate() {
        let passage = Passage::of(parameter, target);
        if passage == Passage::Captured && matches!(*parameter.ty, Type::Reference(_)) {
            bindings.extend(check_reference(parameter, krate));
        }
        if passage != Passage::Captured {
            bindings.extend(take_binding(parameter, passage, index, krate));
        }
    }
    bindings
}

fn take_binding(parameter: &mut PatType, passage: Passage, index: usize, krate: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let span = at(type_name(&parameter.ty));
    let attrs = binding_attrs(parameter);
    let argument = quote_spanned!(span=> #krate::__private::argument);

    if let Pat::Ident(name) = &mut *parameter.pat
        && model::is_plain(name)
    {
        let mutability = name.mutability.take();
        let passed = &mut name.ident;
        let name = passed.clone();
        if passage == Passage::Moved && name.to_string().starts_with('_') {
            // Using such a name would be the user's fault, were the parameter still the user's.
            passed.set_span(at(name.span()));
        }
        let mut value = passed.clone();
        value.set_span(type_name(&parameter.ty).resolved_at(passed.span()));
        let used = (passage == Passage::Lent).then(|| quote_spanned!(site=> #(#attrs)* let _ = &#name;));
        return quote_spanned! {site=>
            #(#attrs)*
            let #mutability #name = #argument(#value);
            #used
        };
    }

    // Whole first: a pattern alone would capture only what it binds.
    let name = format_ident!("__arg{}", index, span = at(parameter.pat.span()));
    let pattern = std::mem::replace(&mut *parameter.pat, Pat::Verbatim(name.to_token_stream()));
    let mut value = name.clone();
    value.set_span(span);
    quote_spanned! {site=>
        #(#attrs)*
        let #name = #argument(#value);
        #(#attrs)*
        let #pattern = #name;
    }
}

/// Has the compiler point at a reference that may not go into the closure. It goes there by itself, so that the lints
/// about what the body does with it still see that.
///
/// ```ignore (shows tokens, not a program)
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
    let cfgs = attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    Some(quote_spanned!(at(type_name(ty))=> #(#cfgs)* let _ = #krate::__private::receiver::<#ty>;))
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

fn relocate(tokens: TokenStream, place: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut token| {
            token.set_span(token.span().located_at(place));
            token
        })
        .collect()
}

/// The first and the last token of a type. Stable Rust cannot join them into one span, but the compiler does so itself
/// for a path that begins at the one and ends at the other.
fn ends(ty: &Type) -> (Span, Span) {
    let mut spans = ty.to_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    (first, spans.last().unwrap_or(first))
}

/// The one token that says most about a type: the last name of a path, else the first token.
fn type_name(ty: &Type) -> Span {
    match ty {
        Type::Group(group) => type_name(&group.elem),
        Type::Paren(paren) => type_name(&paren.elem),
        Type::Path(path) => path.path.segments.last().map_or_else(|| ty.span(), |segment| segment.ident.span()),
        _ => ty.span(),
    }
}
