//! One port, two servers, no conflict: each in a namespace of its own, each reached by its own client.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use in_netns::{NetNs, in_netns};

const ADDRESS: &str = "127.0.0.1:80";

/// A socket keeps the namespace in which it was created, so any thread can serve the listener.
#[in_netns(ns)]
fn listen(ns: &NetNs) -> Result<TcpListener, Box<dyn Error + Send + Sync>> {
    Ok(TcpListener::bind(ADDRESS)?)
}

#[in_netns(ns)]
fn ask(ns: &NetNs) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut heard = String::new();
    TcpStream::connect(ADDRESS)?.read_to_string(&mut heard)?;
    Ok(heard)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    in_netns::rootless::enter()?;

    let (blue, red) = (NetNs::new()?, NetNs::new()?);
    let servers = [("blue", listen(&blue)?), ("red", listen(&red)?)];
    println!("two servers on {ADDRESS}: blue in {blue}, red in {red}");

    thread::scope(|scope| {
        for (colour, server) in servers {
            scope.spawn(move || server.accept()?.0.write_all(colour.as_bytes()));
        }
        for (colour, ns) in [("blue", &blue), ("red", &red)] {
            let answer = ask(ns)?;
            println!("the client in {ns} reached: {answer}");
            assert_eq!(answer, colour);
        }
        Ok(())
    })
}
