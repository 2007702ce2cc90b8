//! The annotated function: its signature parsed, its body left as the user's own tokens.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Block, Error, Expr, FnArg, GenericArgument, Item, Pat, PatIdent, PatType, Path, PathArguments, Result,
    ReturnType, Signature, Stmt, Token, Type, TypeParamBound, TypeTraitObject, Visibility, braced, token,
};

use crate::args::{ErrorAction, Target};
use crate::tokens::{is_punct, macro_name};

/// A function with a body.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) brace: token::Brace,
    /// `#![…]` at the head of the body. They apply to the whole body, and only a function's own block may have them.
    pub(crate) inner_attrs: Vec<Attribute>,
    /// The body without its braces.
    pub(crate) statements: TokenStream,
    /// The body in its braces.
    pub(crate) block: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        if !is_function(input) {
            return Err(not_a_function(input));
        }
        let sig: Signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(Error::new(
                sig.ident.span(),
                format!("`{}` has no body here: put `#[in_netns]` on the functions that implement it", sig.ident),
            ));
        }
        let written = input.fork().parse::<TokenTree>()?;
        let content;
        let brace = braced!(content in input);
        let inner_attrs = content.call(Attribute::parse_inner)?;
        let statements: TokenStream = content.parse()?;
        let block = match written {
            // A group that is made again has one place for both of its braces. An error at one of them would be
            // reported twice: for the function, and for the expansion.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && inner_attrs.is_empty() => {
                group.into_token_stream()
            }
            _ => {
                let mut block = TokenStream::new();
                brace.surround(&mut block, |tokens| tokens.extend(statements.clone()));
                block
            }
        };
        Ok(Self { attrs, vis, sig, brace, inner_attrs, statements, block })
    }
}

impl Function {
    pub(crate) fn asyncness(&self) -> Asyncness {
        match &self.sig.output {
            _ if self.sig.asyncness.is_some() => Asyncness::Async,
            ReturnType::Type(_, ty) if is_opaque(ty) && future_output(ty).is_some() => Asyncness::ImplFuture,
            ReturnType::Type(_, ty) if future_output(ty).is_some() => Asyncness::BoxedFuture,
            _ => Asyncness::Sync,
        }
    }

    /// The type of the body's value: the return type, or the output of the returned future.
    pub(crate) fn value(&self) -> ReturnType {
        match &self.sig.output {
            ReturnType::Type(arrow, ty)
                if matches!(self.asyncness(), Asyncness::BoxedFuture | Asyncness::ImplFuture) =>
            {
                future_output(ty).map_or(ReturnType::Default, |value| ReturnType::Type(*arrow, Box::new(value.clone())))
            }
            output => output.clone(),
        }
    }

    /// What a failure to enter becomes without the option `error`.
    ///
    /// It is returned where the return type is written `Result<…>`. Another path may be an alias of a `Result`, as
    /// `fmt::Result` is, which only the compiler knows. No other type can be a `Result`, so there a failure is a panic.
    pub(crate) fn default_error_action(&self) -> ErrorAction {
        match &self.value() {
            ReturnType::Type(_, ty) if is_result(ty) => ErrorAction::Return,
            ReturnType::Type(_, ty) if may_be_alias(ty) => ErrorAction::ByType,
            _ => ErrorAction::Panic,
        }
    }

    /// Whether the value of a synchronous body may be a future, or a `Result` or list of futures, which only the
    /// compiler knows: its type is written as a path, a macro call or an `impl` type.
    pub(crate) fn may_return_future(&self) -> bool {
        match &self.sig.output {
            ReturnType::Type(_, ty) => self.asyncness() == Asyncness::Sync && (is_opaque(ty) || may_be_alias(ty)),
            ReturnType::Default => false,
        }
    }

    /// Whether the body is `todo!()` or another panic, after any statements, and its value has no type of its own. The
    /// compiler decides on that type last, and would report it for not being a future.
    pub(crate) fn is_unfinished(&self) -> bool {
        const PANICS: [&str; 4] = ["panic", "todo", "unimplemented", "unreachable"];
        let body: Vec<TokenTree> = self.statements.clone().into_iter().collect();
        let body = match &body[..] {
            [body @ .., end] if is_punct(end, ';') => body,
            body => body,
        };
        let [before @ .., TokenTree::Group(_)] = body else { return false };
        macro_name(before).is_some_and(|name| PANICS.contains(&name.as_str()))
            && !mentions(&self.statements, &|word| word == "return")
    }

    /// Whether a test of this shape can be skipped by returning at once: its return type is `()` or can be `Ok(())`.
    /// For [`ErrorAction::ByType`] the compiler decides that. A method is no test.
    pub(crate) fn can_be_skipped(&self, action: ErrorAction) -> bool {
        match (&self.value(), action) {
            _ if self.sig.receiver().is_some() => false,
            (ReturnType::Default, ErrorAction::Panic) | (_, ErrorAction::ByType) => true,
            (ReturnType::Type(_, ty), ErrorAction::Panic) => is_unit(ty),
            (ReturnType::Type(_, ty), ErrorAction::Return) => is_result_of_unit(ty),
            _ => false,
        }
    }

    /// Whether the body names `self`, also inside a macro call. An item in the body has a `self` of its own.
    pub(crate) fn body_mentions_self(&self) -> bool {
        mentions(&without_items(&self.statements), &|word| word == "self")
    }

    /// Whether `#[track_caller]` may be added, and is not there already.
    ///
    /// The compiler refuses it on `main` and on ABIs other than Rust's. On an exported symbol it would add a hidden
    /// parameter that a foreign caller does not pass.
    pub(crate) fn can_track_caller(&self) -> bool {
        let rust_abi =
            self.sig.abi.as_ref().is_none_or(|abi| abi.name.as_ref().is_some_and(|name| name.value() == "Rust"));
        let excluded = ["track_caller", "no_mangle", "export_name", "naked"];
        rust_abi
            && self.asyncness() == Asyncness::Sync
            && self.sig.ident != "main"
            && !self
                .attrs
                .iter()
                .any(|attr| mentions(&attr.to_token_stream(), &|word| excluded.iter().any(|name| word == name)))
    }
}

/// Whether a function is asynchronous, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asyncness {
    Sync,
    /// An `async fn`.
    Async,
    /// A function that returns `Pin<Box<dyn Future<Output = T>>>`: `async_trait` makes it of an `async fn`.
    BoxedFuture,
    /// A function that returns `impl Future<Output = T>`.
    ImplFuture,
}

/// The `T` of `impl Future<Output = T>` and `Pin<Box<dyn Future<Output = T>>>`.
pub(crate) fn future_output(ty: &Type) -> Option<&Type> {
    let bounds = match ungrouped(ty) {
        Type::ImplTrait(ty) => &ty.bounds,
        Type::Path(_) => match ungrouped(only_argument(only_argument(ty, "Pin")?, "Box")?) {
            Type::TraitObject(ty) => &ty.bounds,
            _ => return None,
        },
        _ => return None,
    };
    bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let last = bound.path.segments.last()?;
        let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
        (last.ident == "Future").then_some(())?;
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(assoc) if assoc.ident == "Output" => Some(&assoc.ty),
            _ => None,
        })
    })
}

/// The return type with a boxed future that need not be `Send`: the body's future is made and polled on one thread.
pub(crate) fn future_made_inside(output: &ReturnType) -> ReturnType {
    struct Strip;

    impl VisitMut for Strip {
        /// Visits the outermost trait object alone.
        fn visit_type_trait_object_mut(&mut self, object: &mut TypeTraitObject) {
            let is_send = |bound: &TypeParamBound| match bound {
                TypeParamBound::Trait(bound) => last_segment_is(&bound.path, "Send"),
                _ => false,
            };
            object.bounds = std::mem::take(&mut object.bounds).into_iter().filter(|bound| !is_send(bound)).collect();
        }
    }

    let mut output = output.clone();
    Strip.visit_return_type_mut(&mut output);
    output
}

/// The `T` of `Name<T>`, with any path before `Name`.
fn only_argument<'ty>(ty: &'ty Type, name: &str) -> Option<&'ty Type> {
    let Type::Path(path) = ungrouped(ty) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(ty)) => Some(ty),
        _ => None,
    }
}

/// How an argument is transferred to the body's thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgTransfer {
    /// As a whole, even if the body uses a part of it, so that the rest is dropped inside too.
    Moved,
    /// As [`ArgTransfer::Moved`]. The namespace expression borrows it, so it counts as used even if the body ignores
    /// it.
    Borrowed,
    /// By the closure's capture alone, because a reference has nothing to drop.
    Reference,
    /// By the closure's capture, as far as the body uses it. The namespace expression, which comes first, may consume
    /// it.
    Captured,
}

impl ArgTransfer {
    pub(crate) fn of(parameter: &PatType, target: &Target, body: &TokenStream) -> Self {
        let namespace = match target {
            Target::New => TokenStream::new(),
            Target::Given(expr) | Target::View(expr) => expr.to_token_stream(),
        };
        let names = Bindings::of(&parameter.pat).0;
        let in_namespace = mentions_in_text(&namespace, &names);

        if matches!(ungrouped(&parameter.ty), Type::Reference(_)) {
            return if in_namespace && !mentions_in_text(body, &names) { Self::Captured } else { Self::Reference };
        }
        if !in_namespace {
            return Self::Moved;
        }
        match (&*parameter.pat, target) {
            (Pat::Ident(name), Target::Given(expr) | Target::View(expr))
                if is_plain(name) && (borrows(expr) || !mentions_as_token(&namespace, &names)) =>
            {
                Self::Borrowed
            }
            // A pattern must stay in the signature, so that the namespace expression sees the names that it binds.
            _ => Self::Captured,
        }
    }
}

/// Whether the pattern is `name` or `mut name`.
pub(crate) fn is_plain(name: &PatIdent) -> bool {
    name.by_ref.is_none() && name.subpat.is_none()
}

/// Whether the pattern has a `ref mut`.
pub(crate) fn borrows_mutably(pattern: &Pat) -> bool {
    struct Finder(bool);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_pat_ident(&mut self, name: &'ast PatIdent) {
            self.0 |= name.by_ref.is_some() && name.mutability.is_some();
            syn::visit::visit_pat_ident(self, name);
        }
    }
    let mut found = Finder(false);
    found.visit_pat(pattern);
    found.0
}

/// The parameters other than `self`.
pub(crate) fn parameters(inputs: &mut Punctuated<FnArg, Token![,]>) -> impl Iterator<Item = &mut PatType> {
    inputs.iter_mut().filter_map(|input| match input {
        FnArg::Typed(parameter) => Some(parameter),
        FnArg::Receiver(_) => None,
    })
}

/// The type without parentheses around it, and without the invisible ones that `macro_rules` puts around a `$ty:ty`.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        ty => ty,
    }
}

/// Whether the type is written `Result<…>`, with any path before it.
fn is_result(ty: &Type) -> bool {
    let Type::Path(path) = ungrouped(ty) else { return false };
    let last = path.path.segments.last();
    last.is_some_and(|last| last.ident == "Result" && matches!(last.arguments, PathArguments::AngleBracketed(_)))
}

/// Whether the type is written `impl Trait`.
pub(crate) fn is_opaque(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::ImplTrait(_))
}

/// Whether the type is written in such a way that it may be an alias of another one: as a path or a macro call.
fn may_be_alias(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::Path(_) | Type::Macro(_))
}

/// Whether the type is written `Result<(), …>`, with any path before it.
fn is_result_of_unit(ty: &Type) -> bool {
    let Type::Path(path) = ungrouped(ty) else { return false };
    let Some(last) = path.path.segments.last() else { return false };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return false };
    let Some(GenericArgument::Type(value)) = arguments.args.first() else { return false };
    last.ident == "Result" && is_unit(value)
}

fn is_unit(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::Tuple(unit) if unit.elems.is_empty())
}

pub(crate) fn last_segment_is(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == name)
}

/// Whether the expression is `&place`, which consumes nothing: `&pod.path`, `&self.netns`, `&list[0]`.
fn borrows(namespace: &Expr) -> bool {
    fn is_place(expr: &Expr) -> bool {
        match expr {
            Expr::Path(_) => true,
            Expr::Field(field) => is_place(&field.base),
            Expr::Index(index) => is_place(&index.expr) && matches!(*index.index, Expr::Lit(_)),
            Expr::Paren(paren) => is_place(&paren.expr),
            Expr::Group(group) => is_place(&group.expr),
            _ => false,
        }
    }
    match namespace {
        Expr::Reference(reference) => reference.mutability.is_none() && is_place(&reference.expr),
        Expr::Paren(paren) => borrows(&paren.expr),
        Expr::Group(group) => borrows(&group.expr),
        _ => false,
    }
}

/// Whether the namespace expression may consume `self`, or a part of it.
pub(crate) fn may_consume_self(target: &Target) -> bool {
    match target {
        Target::New => false,
        Target::Given(expr) | Target::View(expr) => {
            !borrows(expr) && mentions(&expr.to_token_stream(), &|word| word == "self")
        }
    }
}

/// The names that a pattern binds. A constant in it is counted too, which does no harm.
struct Bindings(Vec<Ident>);

impl Bindings {
    fn of(pattern: &Pat) -> Self {
        let mut names = Self(Vec::new());
        names.visit_pat(pattern);
        names
    }
}

impl<'ast> Visit<'ast> for Bindings {
    fn visit_pat_ident(&mut self, name: &'ast PatIdent) {
        self.0.push(name.ident.clone());
        syn::visit::visit_pat_ident(self, name);
    }

    /// A pattern macro may bind any name among its arguments.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        names_in(&call.tokens, &mut self.0);
    }
}

fn names_in(tokens: &TokenStream, names: &mut Vec<Ident>) {
    for token in tokens.clone() {
        match token {
            TokenTree::Ident(name) => names.push(name),
            TokenTree::Group(group) => names_in(&group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn mentions(tokens: &TokenStream, wanted: &dyn Fn(&Ident) -> bool) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(word) => wanted(&word),
        TokenTree::Group(group) => mentions(&group.stream(), wanted),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// The statements without the items among them, except definitions of macros. All statements if they cannot be parsed.
fn without_items(statements: &TokenStream) -> TokenStream {
    struct RemoveItems;

    impl VisitMut for RemoveItems {
        fn visit_block_mut(&mut self, block: &mut Block) {
            block.stmts.retain(|statement| !matches!(statement, Stmt::Item(item) if !matches!(item, Item::Macro(_))));
            syn::visit_mut::visit_block_mut(self, block);
        }
    }

    let Ok(stmts) = Block::parse_within.parse2(statements.clone()) else { return statements.clone() };
    let mut block = Block { brace_token: token::Brace::default(), stmts };
    RemoveItems.visit_block_mut(&mut block);
    block.into_token_stream()
}

fn mentions_as_token(tokens: &TokenStream, names: &[Ident]) -> bool {
    mentions(tokens, &|word| names.contains(word))
}

/// As [`mentions_as_token`], also inside literals: `format!("{name}")` names a variable in its text.
fn mentions_in_text(tokens: &TokenStream, names: &[Ident]) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(word) => names.contains(&word),
        TokenTree::Group(group) => mentions_in_text(&group.stream(), names),
        TokenTree::Literal(literal) => {
            let text = literal.to_string();
            names.iter().any(|name| text.contains(&name.unraw().to_string()))
        }
        TokenTree::Punct(_) => false,
    })
}

fn is_function(input: ParseStream) -> bool {
    fn qualifiers(input: ParseStream) -> Result<()> {
        input.parse::<Option<Token![const]>>()?;
        input.parse::<Option<Token![async]>>()?;
        input.parse::<Option<Token![unsafe]>>()?;
        input.parse::<Option<syn::Abi>>()?;
        input.parse::<Token![fn]>()?;
        Ok(())
    }
    qualifiers(&input.fork()).is_ok()
}

/// Whether the tokens are a closure, a block or another expression. A macro call may also be an item.
pub(crate) fn is_expression(tokens: TokenStream) -> bool {
    syn::parse2::<Expr>(tokens).is_ok_and(|expr| !matches!(expr, Expr::Macro(_)))
}

/// The error for another item than a function, at the item's keyword.
fn not_a_function(input: ParseStream) -> Error {
    const ITEMS: [&str; 13] = [
        "struct",
        "enum",
        "union",
        "trait",
        "impl",
        "mod",
        "const",
        "static",
        "type",
        "use",
        "extern",
        "macro_rules",
        "macro",
    ];
    let expected = "`#[in_netns]` goes on a function with a body";
    let instead = "a closure or a block is run by `in_netns::with_netns(ns, || …)`";
    let words = |input: ParseStream| {
        let mut words = Vec::new();
        while let Ok(word) = input.call(Ident::parse_any) {
            words.push(word);
        }
        input.parse::<TokenStream>()?;
        Ok(words)
    };
    let rest: TokenStream = input.fork().parse().unwrap_or_default();
    let leading = words.parse2(rest).unwrap_or_default();
    match leading.iter().find(|word| ITEMS.iter().any(|item| word == item)) {
        Some(word) => Error::new(word.span(), format!("{expected}, not on `{word}`")),
        None => input.error(format!("{expected}; {instead}")),
    }
}
