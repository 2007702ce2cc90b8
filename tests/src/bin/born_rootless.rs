//! A program that becomes rootless before `main` and prints its state: first `KEY=VALUE` lines, then the output that
//! its arguments ask for.
//!
//! - `facts`: prints nothing more
//! - `named NAME`: creates a namespace of that name, prints its identity, and waits for the end of its standard input
//! - `show`: prints the content of some files in `/run`
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use in_netns::{Call, NetNs, ThreadFate};

in_netns::rootless!();

mod another_file {
    in_netns::rootless!();
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    in_netns_tests::print_namespaces();
    match arguments[..] {
        ["facts"] => facts(),
        ["named", name] => {
            println!("anonymous={}", NetNs::new().map_or_else(|error| error.to_string(), |_| "made".to_owned()));
            println!("made={}", NetNs::create_named(name)?);
            println!("listed={:?}", NetNs::list_named()?);
            std::io::stdin().read_to_end(&mut Vec::new())?;
            Ok(())
        }
        ["show"] => {
            let contents = ["open/file", "file", "link", "open/mount/file"]
                .map(|file| std::fs::read_to_string(Path::new("/run").join(file)));
            let contents: Vec<String> = contents.into_iter().collect::<Result<_, _>>()?;
            println!("content={}", contents.concat().split_whitespace().collect::<Vec<_>>().join(" "));
            Ok(())
        }
        _ => Err("facts | named NAME | show".into()),
    }
}

fn facts() -> Result<(), Box<dyn Error>> {
    println!("entry={:?}", in_netns::rootless::enter());
    println!("privileges={}", in_netns::privileges());
    // The new home has its loopback up, and its low ports can be bound.
    for address in ["127.0.0.1:80", "[::1]:80"] {
        let listener = TcpListener::bind(address)?;
        UdpSocket::bind(address)?;
        TcpStream::connect(listener.local_addr()?)?;
    }
    let outcome = Call::new(NetNs::new()?).outcome(|| ())?;
    println!("restored={}", matches!(outcome.thread, ThreadFate::Reusable));
    println!("poisoned={}", in_netns::pool_stats().poisoned_total);
    let mut run: Vec<String> = Vec::new();
    for entry in Path::new("/run").read_dir()? {
        let entry = entry?;
        run.push(format!(
            "{}:{}",
            entry.file_name().to_string_lossy(),
            if entry.file_type()?.is_dir() { "dir" } else { "other" }
        ));
    }
    run.sort_unstable();
    println!("run={}", run.join(" "));
    let blue = NetNs::create_named("blue")?;
    println!("named={}", NetNs::from_name("blue")? == blue && NetNs::list_named()? == ["blue"]);
    NetNs::delete_named("blue")?;
    println!("unnamed={}", NetNs::list_named()?.is_empty());
    Ok(())
}
