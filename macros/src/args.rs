//! What stands between the parentheses of `#[in_netns(…)]`: the namespace, then options.
//!
//! An option is read in two steps: its shape first (`word`, `name = value`, `name(list)`), its meaning after. So a
//! mistake in one option does not hide the mistakes in the others, and a new option is one more arm in
//! [`Args::accept`].

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, LitStr, Path, Result, Token};

/// Where the options are listed for the user; kept next to the arms of [`Args::accept`].
const OPTIONS: &str = "`fresh`, `owned`, `audit`, `audit = \"panic\"`, `audit = \"off\"`, `allow(handover)`, \
                       `error = \"panic\"`, `error = \"return\"`, `crate = path`";

/// The arguments of the attribute.
pub(crate) struct Args {
    pub(crate) target: Target,
    pub(crate) fresh: bool,
    pub(crate) audit: Option<Audit>,
    /// Hand-overs in the body are the user's own affair.
    pub(crate) allow_handover: bool,
    /// Where `owned` is written.
    pub(crate) owned: Option<Span>,
    pub(crate) error: Option<OnError>,
    pub(crate) krate: Option<Path>,
}

/// The namespace that the body runs in.
pub(crate) enum Target {
    /// `new`: made for this call, gone after it.
    New,
    /// Any expression of a type that is `IntoNetNs`.
    Given(Box<Expr>),
}

/// Whether to look for threads that outlive the call, and what becomes of a finding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audit {
    Off,
    Report,
    Panic,
}

/// What becomes of a failure to enter the namespace, as the user wrote it.
pub(crate) struct OnError {
    pub(crate) action: ErrorAction,
    pub(crate) span: Span,
}

/// What becomes of a failure to enter the namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorAction {
    Panic,
    Return,
}

impl Args {
    /// Reads all of it and reports every mistake at once.
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        Self::parse_stream.parse2(tokens)
    }

    fn parse_stream(input: ParseStream) -> Result<Self> {
        let mut args = Self {
            target: Target::New,
            fresh: false,
            audit: None,
            allow_handover: false,
            owned: None,
            error: None,
            krate: None,
        };
        let mut mistakes = Mistakes::default();

        if input.is_empty() {
            return Err(missing_namespace(Span::call_site()));
        }
        if let Some(option) = leading_option(input) {
            mistakes.add(missing_namespace(option.span()));
        } else {
            args.target = input.parse()?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }

        let options = Punctuated::<RawOption, Token![,]>::parse_terminated(input)?;
        let mut seen: Vec<Ident> = Vec::new();
        for option in options {
            if seen.contains(&option.name) {
                mistakes.add(Error::new(option.name.span(), format!("option `{}` is given twice", option.name)));
                continue;
            }
            seen.push(option.name.clone());
            if let Err(mistake) = args.accept(option) {
                mistakes.add(mistake);
            }
        }
        mistakes.into_result().map(|()| args)
    }

    /// Takes one option into account.
    fn accept(&mut self, option: RawOption) -> Result<()> {
        let RawOption { name, value } = option;
        match name.to_string().as_str() {
            "fresh" => {
                value.none(&name)?;
                self.fresh = true;
            }
            "audit" => {
                self.audit = Some(match value {
                    RawValue::None => Audit::Report,
                    value => value.equals(&name, "\"panic\"` or `audit = \"off\"")?,
                });
            }
            "allow" => {
                value.list(&name)?;
                self.allow_handover = true;
            }
            "owned" => {
                value.none(&name)?;
                self.owned = Some(name.span());
            }
            "error" => self.error = Some(value.equals(&name, "\"panic\"` or `error = \"return\"")?),
            "crate" => self.krate = Some(value.equals::<CratePath>(&name, "path")?.0),
            "new" => {
                return Err(Error::new(name.span(), "`new` stands in place of a namespace: `#[in_netns(new)]`"));
            }
            _ => {
                return Err(Error::new(name.span(), format!("unknown option `{name}`; the options are {OPTIONS}")));
            }
        }
        Ok(())
    }
}

impl Parse for Target {
    fn parse(input: ParseStream) -> Result<Self> {
        let ahead = input.fork();
        if ahead.call(Ident::parse_any).is_ok_and(|word| word == "new") && (ahead.is_empty() || ahead.peek(Token![,])) {
            input.call(Ident::parse_any)?;
            return Ok(Self::New);
        }
        input.parse().map(|expr| Self::Given(Box::new(expr)))
    }
}

impl Parse for OnError {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        let action = match input.parse::<LitStr>().map(|text| text.value()).as_deref() {
            Ok("panic") => ErrorAction::Panic,
            Ok("return") => ErrorAction::Return,
            _ => {
                return Err(Error::new(span, "expected `error = \"panic\"` or `error = \"return\"`"));
            }
        };
        Ok(Self { action, span })
    }
}

impl Parse for Audit {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        match input.parse::<LitStr>().map(|text| text.value()).as_deref() {
            Ok("panic") => Ok(Self::Panic),
            Ok("off") => Ok(Self::Off),
            _ => Err(Error::new(span, "expected `audit`, `audit = \"panic\"` or `audit = \"off\"`")),
        }
    }
}

/// The path after `crate =`: `::renamed`, `crate::reexport::in_netns`.
struct CratePath(Path);

impl Parse for CratePath {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        match input.call(Path::parse_mod_style) {
            Ok(path) => Ok(Self(path)),
            Err(_) => Err(Error::new(span, "expected a path: `crate = path`")),
        }
    }
}

/// An option before its name is looked at.
struct RawOption {
    name: Ident,
    value: RawValue,
}

enum RawValue {
    None,
    Equals(TokenStream),
    List(TokenStream),
}

impl Parse for RawOption {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        let Ok(name) = input.call(Ident::parse_any) else {
            return Err(Error::new(span, format!("expected an option: the options are {OPTIONS}")));
        };
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            RawValue::Equals(until_comma(input)?)
        } else if input.peek(syn::token::Paren) {
            let list = input.parse::<Group>()?;
            RawValue::List(list.stream())
        } else {
            RawValue::None
        };
        Ok(Self { name, value })
    }
}

impl RawValue {
    /// For an option that is a word alone.
    fn none(self, name: &Ident) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Equals(_) | Self::List(_) => Err(Error::new(name.span(), format!("option `{name}` takes no value"))),
        }
    }

    /// For an option that is written `name = value`; `value` is how the message spells it.
    fn equals<T: Parse>(self, name: &Ident, value: &str) -> Result<T> {
        match self {
            Self::Equals(tokens) if !tokens.is_empty() => syn::parse2(tokens),
            Self::None | Self::Equals(_) | Self::List(_) => {
                Err(Error::new(name.span(), format!("option `{name}` takes a value: `{name} = {value}`")))
            }
        }
    }
}

impl RawValue {
    /// For `allow(…)`, of which there is one so far.
    fn list(self, name: &Ident) -> Result<()> {
        let expected = |span| Err(Error::new(span, "expected `allow(handover)`"));
        let Self::List(list) = self else { return expected(name.span()) };
        let span = list.clone().into_iter().next().map_or_else(|| name.span(), |token| token.span());
        match syn::parse2::<Ident>(list) {
            Ok(word) if word == "handover" => Ok(()),
            _ => expected(span),
        }
    }
}

/// The errors found so far, to be reported together.
#[derive(Default)]
pub(crate) struct Mistakes(Option<Error>);

impl Mistakes {
    pub(crate) fn add(&mut self, mistake: Error) {
        match &mut self.0 {
            Some(first) => first.combine(mistake),
            None => self.0 = Some(mistake),
        }
    }

    pub(crate) fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

fn missing_namespace(span: Span) -> Error {
    Error::new(
        span,
        "missing namespace: the first argument is an expression for it, such as `#[in_netns(\"blue\")]`, \
         or `new` for a new one",
    )
}

/// The first argument's name, where it is an option and so no namespace: `fresh`, or anything followed by `=`.
fn leading_option(input: ParseStream) -> Option<Ident> {
    let ahead = input.fork();
    let word = ahead.call(Ident::parse_any).ok()?;
    let ends = ahead.is_empty() || ahead.peek(Token![,]);
    let assigns = ahead.peek(Token![=]) && !ahead.peek(Token![==]);
    let lists = word == "allow" && ahead.peek(syn::token::Paren);
    let stands_alone = ends && (word == "fresh" || word == "audit" || word == "owned");
    (assigns || lists || stands_alone).then_some(word)
}

fn until_comma(input: ParseStream) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}
