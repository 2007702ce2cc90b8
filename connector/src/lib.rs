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
//! For tonic, pass it to `Endpoint::connect_with_connector`. For TLS, wrap it in the connector of `hyper-rustls` or
//! `hyper-tls`.
//!
//! A client pools its connections. They belong to the namespace for as long as they live: use one client for each
//! namespace.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use in_netns::NetNs;
use tokio::net::TcpStream;
use tower_service::Service;

/// A service from a [`Uri`] to a TCP connection in a network namespace.
#[derive(Clone, Debug)]
pub struct Connector {
    ns: NetNs,
}

impl Connector {
    /// A connector for a namespace, which it keeps alive.
    #[must_use]
    pub fn new(ns: NetNs) -> Connector {
        Connector { ns }
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
    fn call(&mut self, uri: Uri) -> Self::Future {
        let ns = self.ns.clone();
        Box::pin(async move {
            let (host, port) = host_and_port(&uri)?;
            let stream = ns.tcp_connect_async((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn host_and_port(uri: &Uri) -> io::Result<(&str, u16)> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("cannot connect to `{uri}`: {why}"));
    let host = uri.host().ok_or_else(|| invalid("it has no host"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = match (uri.port_u16(), uri.scheme_str()) {
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
        let found = |uri: &str| host_and_port(&uri.parse().unwrap()).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(found("http://blue/").unwrap(), "blue 80");
        assert_eq!(found("https://blue").unwrap(), "blue 443");
        assert_eq!(found("http://[::1]:8080/").unwrap(), "::1 8080");
        assert!(found("unix://blue").unwrap_err().to_string().contains("unix://blue"));
        assert!(found("/path").is_err());
    }
}
