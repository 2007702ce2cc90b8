//! Clients on a runtime at home reach the servers of sixteen namespaces.
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use in_netns::{Holder, NetNs};
use in_netns_connector::Connector;

in_netns::rootless!();

/// An HTTP server on port 80 that answers with its name, on a thread at home.
fn serve(ns: &NetNs, name: usize) {
    let listener = ns.tcp_listen("[::]:80").unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let body = name.to_string();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
                .unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_reaches_the_server_of_its_namespace() {
    let spaces: Vec<NetNs> = (0..16).map(|_| NetNs::new().unwrap()).collect();
    for (name, ns) in spaces.iter().enumerate() {
        serve(ns, name);
        let client = Client::builder(TokioExecutor::new()).build::<_, Empty<&'static [u8]>>(Connector::new(ns.clone()));
        for uri in ["http://127.0.0.1/", "http://[::1]/", "http://localhost/"] {
            let response = client.get(uri.parse().unwrap()).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, name.to_string().as_bytes(), "{uri}");
        }
    }
}

#[tokio::test]
async fn a_refused_connection_is_an_error_of_the_client() {
    let ns = NetNs::new().unwrap();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<&'static [u8]>>(Connector::new(ns));
    assert!(client.get("http://127.0.0.1:1/".parse().unwrap()).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn https_is_not_sent_in_the_clear() {
    let ns = NetNs::new().unwrap();
    serve(&ns, 5);
    let get = |connector: Connector| {
        let client = Client::builder(TokioExecutor::new()).build::<_, Empty<&'static [u8]>>(connector);
        async move { client.get("https://127.0.0.1:80/".parse().unwrap()).await }
    };
    let mut connector = Connector::new(ns);
    let error = get(connector.clone()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.is_connect() && cause.contains("TLS") && cause.contains("enforce_http(false)"), "{cause}");
    // What adds TLS to the connector gets connections.
    connector.enforce_http(false);
    get(connector).await.unwrap();
}

#[tokio::test]
async fn an_error_of_the_client_names_the_address_and_the_namespace() {
    let ns = NetNs::new().unwrap();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<&'static [u8]>>(Connector::new(ns.clone()));
    let error = client.get("http://127.0.0.1:1/".parse().unwrap()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with(&format!("cannot connect to 127.0.0.1:1 from {ns}: ")), "{cause}");
}

#[tokio::test]
async fn a_request_that_is_dropped_while_it_connects_leaves_no_socket() {
    let ns = NetNs::new().unwrap();
    // The queue is full, so that the kernel drops further connections without an answer.
    let listener = ns.tcp_listen("127.0.0.1:80").unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), ns.tcp_connect_async(address)).await {
        held.push(stream);
    }
    let sockets = || {
        let holders = ns.holders().unwrap();
        holders.into_iter().filter(|holder| matches!(holder, Holder::Socket { .. })).count()
    };
    let before = sockets();
    let mut connector = Connector::new(ns.clone());
    let connect = tower_service::Service::call(&mut connector, "http://127.0.0.1/".parse().unwrap());
    assert!(tokio::time::timeout(Duration::from_millis(100), connect).await.is_err());
    assert_eq!(sockets(), before);
}

/// tonic without generated code: a method that takes and returns bytes.
mod grpc {
    use std::convert::Infallible;

    use bytes::{Buf, BufMut, Bytes};
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
    use tonic::transport::Endpoint;
    use tonic::{Request, Response, Status};

    use super::*;

    const METHOD: &str = "/in_netns.Test/Name";

    #[derive(Clone, Copy)]
    struct AsBytes;

    impl Codec for AsBytes {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = AsBytes;
        type Decoder = AsBytes;

        fn encoder(&mut self) -> AsBytes {
            AsBytes
        }

        fn decoder(&mut self) -> AsBytes {
            AsBytes
        }
    }

    impl Encoder for AsBytes {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(item);
            Ok(())
        }
    }

    impl Decoder for AsBytes {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
        }
    }

    /// A gRPC server on port 50051 that answers with its name.
    async fn serve(ns: &NetNs, name: usize) {
        let listener = ns.tcp_listen_async("127.0.0.1:50051").await.unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = move |request: http::Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), METHOD);
                    let name = move |_: Request<Bytes>| async move {
                        Ok::<_, Status>(Response::new(Bytes::from(name.to_string())))
                    };
                    Ok::<_, Infallible>(tonic::server::Grpc::new(AsBytes).unary(tower::service_fn(name), request).await)
                };
                let service = TowerToHyperService::new(tower::service_fn(answer));
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_channel_reaches_the_server_of_its_namespace() {
        let spaces: Vec<NetNs> = (0..16).map(|_| NetNs::new().unwrap()).collect();
        for (name, ns) in spaces.iter().enumerate() {
            serve(ns, name).await;
        }
        for (name, ns) in spaces.iter().enumerate() {
            let endpoint = Endpoint::from_static("http://127.0.0.1:50051");
            let channel = endpoint.connect_with_connector(Connector::new(ns.clone())).await.unwrap();
            let mut client = tonic::client::Grpc::new(channel);
            client.ready().await.unwrap();
            let path = http::uri::PathAndQuery::from_static(METHOD);
            let answer = client.unary(Request::new(Bytes::new()), path, AsBytes).await.unwrap();
            assert_eq!(answer.into_inner(), name.to_string());
        }
    }
}
