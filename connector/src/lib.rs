//! Connects clients of hyper-util and tonic from inside a network namespace.
//!
//! The client stays on its own runtime. The [`Connector`] gives it connections whose sockets were created in the
//! namespace, and names that were looked up there.
//!
//! ```no_run
//! use http_body_util::Empty;
//! use hyper_util::client::legacy::Client;
//! use hyper_util::rt::TokioExecutor;
//! use in_netns::NetNs;
//! use in_netns_connector::Connector;
//!
//! # async fn get() -> Result<(), Box<dyn std::error::Error>> {
//! let connector = Connector::new(NetNs::from_name("blue")?);
//! let client = Client::builder(TokioExecutor::new()).build::<_, Empty<&'static [u8]>>(connector);
//! let response = client.get("http://10.0.0.1/".parse()?).await?;
//! # drop(response);
//! # Ok(())
//! # }
//! ```
//!
//! For tonic, pass it to `Endpoint::connect_with_connector`.
//!
//! # TLS
//!
//! The connector has no TLS, and refuses `https`. For TLS, allow that scheme and wrap the connector in that of
//! [hyper-rustls](https://docs.rs/hyper-rustls) or hyper-tls:
//!
//! ```text
//! let mut connector = Connector::new(NetNs::from_name("blue")?);
//! connector.enforce_http(false);
//! let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_only().enable_http1();
//! let client = Client::builder(TokioExecutor::new()).build(tls.wrap_connector(connector));
//! ```
//!
//! tonic adds TLS itself (`Endpoint::tls_config`), after `enforce_http(false)` too.
//!
//! # Pools
//!
//! A client pools its connections. They belong to the namespace for as long as they live: use one client for each
//! namespace.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use in_netns::NetNs;
use tokio::net::TcpStream;
use tower_service::Service;

/// Runs the example of README.md as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// A service from a [`Uri`] to a TCP connection in a network namespace.
#[derive(Clone, Debug)]
pub struct Connector {
    ns: NetNs,
    enforces_http: bool,
}

impl Connector {
    /// A connector for a namespace, which it keeps alive.
    #[must_use]
    pub fn new(ns: NetNs) -> Connector {
        Connector { ns, enforces_http: true }
    }

    /// Sets whether a URI with a scheme other than `http` is an error. It is one by default, as by
    /// [`HttpConnector::enforce_http`](hyper_util::client::legacy::connect::HttpConnector::enforce_http).
    ///
    /// Without that, a client that has no TLS would send an `https` request in the clear. A connector that adds TLS to
    /// this one takes `enforce_http(false)`.
    pub fn enforce_http(&mut self, is_enforced: bool) {
        self.enforces_http = is_enforced;
    }

    /// The namespace that it connects from.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.ns
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Connects as [`NetNs::tcp_connect_async`] does. A URI without a port has that of its scheme, `http` or `https`.
    /// The zone of a link-local address is that of the namespace: `http://[fe80::1%25eth0]/`.
    fn call(&mut self, uri: Uri) -> Self::Future {
        let Connector { ns, enforces_http } = self.clone();
        Box::pin(async move {
            let (host, port) = host_and_port(&uri, enforces_http)?;
            let stream = ns.tcp_connect_async((&*host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn host_and_port(uri: &Uri, enforces_http: bool) -> io::Result<(Cow<'_, str>, u16)> {
    let authority = uri.authority().map_or("", Authority::as_str);
    let (user, after_user) = authority.rsplit_once('@').map_or((None, authority), |(user, after)| (Some(user), after));
    let invalid = |why: &str| {
        // Errors are logged, and a log must not contain the password.
        let shown = match user {
            Some(user) => uri.to_string().replacen(&format!("{user}@"), "", 1),
            None => uri.to_string(),
        };
        io::Error::new(io::ErrorKind::InvalidInput, format!("cannot connect to `{shown}`: {why}"))
    };
    // In a URI that was parsed it is in lower case, but not in one that was built (`uri::Builder`).
    let scheme = uri.scheme_str().map(str::to_ascii_lowercase);
    match scheme.as_deref() {
        None | Some("http") => {}
        Some("https") if enforces_http => {
            return Err(invalid(
                "this connector has no TLS; wrap it in a connector that has, such as that of hyper-rustls, after \
                 `Connector::enforce_http(false)`",
            ));
        }
        Some(_) if enforces_http => return Err(invalid("its scheme is not `http`")),
        Some(_) => {}
    }
    let host = uri.host().ok_or_else(|| invalid("it has no host"))?;
    // A port that is no number of 16 bits looks like none.
    if uri.port().is_none() && !matches!(after_user.strip_prefix(host), Some("" | ":")) {
        return Err(invalid("its port is not a number from 0 to 65535"));
    }
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // In a URI the percent sign before the zone is encoded (RFC 6874).
        Some(address) => match address.split_once("%25") {
            Some((address, zone)) => Cow::Owned(format!("{address}%{zone}")),
            None => Cow::Borrowed(address),
        },
        None => Cow::Borrowed(host),
    };
    let port = match (uri.port_u16(), scheme.as_deref()) {
        (Some(port), _) => port,
        (None, Some("http") | None) => 80,
        (None, Some("https")) => 443,
        (None, Some(_)) => return Err(invalid("it has no port, and its scheme implies none")),
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_implies_the_port() {
        let found =
            |uri: &str| host_and_port(&uri.parse().unwrap(), false).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(found("http://blue/").unwrap(), "blue 80");
        assert_eq!(found("https://blue").unwrap(), "blue 443");
        for (scheme, host_port) in [("HTTP", "blue 80"), ("Https", "blue 443")] {
            let uri = Uri::builder().scheme(scheme).authority("blue").path_and_query("/").build().unwrap();
            assert_eq!(host_and_port(&uri, false).map(|(host, port)| format!("{host} {port}")).unwrap(), host_port);
            let error = host_and_port(&uri, true).map(drop).err().map(|error| error.to_string());
            assert_eq!(error.map(|text| text.contains("TLS")), (scheme != "HTTP").then_some(true));
        }
        assert_eq!(found("http://[::1]:8080/").unwrap(), "::1 8080");
        assert!(found("unix://blue").unwrap_err().to_string().contains("unix://blue"));
        assert!(found("/path").is_err());
        assert_eq!(found("http://user:secret@blue:/").unwrap(), "blue 80");
        assert_eq!(found("blue:8080").unwrap(), "blue 8080");
    }

    #[test]
    fn a_port_that_is_no_port_is_an_error() {
        for uri in ["http://blue:99999/", "https://[::1]:65536", "http://user@blue:123456/", "http://1:99991"] {
            let uri: Uri = uri.parse().unwrap();
            let error = host_and_port(&uri, false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("port"), "{error}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_user_and_password() {
        for uri in ["http://user:secret@blue:99999/path", "unix://user:secret@blue/"] {
            let text = host_and_port(&uri.parse().unwrap(), false).unwrap_err().to_string();
            assert!(text.contains("://blue") && !text.contains("user") && !text.contains("secret"), "{text}");
        }
        let text = host_and_port(&"unix://blue/a@b".parse().unwrap(), false).unwrap_err().to_string();
        assert!(text.contains("unix://blue/a@b"), "{text}");
    }

    #[test]
    fn the_zone_of_an_address_is_decoded() {
        let uri: Uri = "http://[fe80::1%25eth0]:8080/".parse().unwrap();
        assert_eq!(host_and_port(&uri, false).unwrap(), ("fe80::1%eth0".into(), 8080));
    }
}
