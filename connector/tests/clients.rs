//! Clients on a runtime at home reach the servers of sixteen namespaces.
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::thread;

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use in_netns::NetNs;
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
