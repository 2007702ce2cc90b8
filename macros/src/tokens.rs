//! Questions about tokens, for the checks that read a body as tokens.

use proc_macro2::{Delimiter, Group, Ident, TokenTree};
use syn::ext::IdentExt as _;

pub(crate) fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

/// Whether the group follows the `#` or `#!` of an attribute.
pub(crate) fn is_attribute(before: &[TokenTree], group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket
        && match before {
            [.., hash, bang] if is_punct(hash, '#') && is_punct(bang, '!') => true,
            [.., hash] => is_punct(hash, '#'),
            [] => false,
        }
}

/// The name of the macro, if the tokens before its arguments are `name!`.
pub(crate) fn macro_name(before: &[TokenTree]) -> Option<String> {
    match before {
        [.., TokenTree::Ident(name), bang] if is_punct(bang, '!') => Some(plain(name)),
        _ => None,
    }
}

/// The name of the method, if the tokens before its arguments are `.name`.
pub(crate) fn method_name(before: &[TokenTree]) -> Option<String> {
    match before {
        [.., dot, TokenTree::Ident(name)] if is_punct(dot, '.') => Some(plain(name)),
        _ => None,
    }
}

/// The name without `r#`.
pub(crate) fn plain(name: &Ident) -> String {
    name.unraw().to_string()
}
