//! A name server of one name, for a loopback: enough to see where the questions of a resolver go.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers every question of type A with `address`, and others with nothing, for ever. Counts what it hears.
///
/// # Errors
///
/// What the socket says.
pub fn answer(socket: &UdpSocket, address: Ipv4Addr, heard: &AtomicUsize) -> io::Result<()> {
    let mut packet = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut packet)?;
        heard.fetch_add(1, Ordering::SeqCst);
        if let Some(reply) = reply(&packet[..length], address) {
            socket.send_to(&reply, from)?;
        }
    }
}

/// `None` for what is no question.
fn reply(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    // The name's end, its type and its class.
    let end = HEADER + query.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 5;
    let question = query.get(HEADER..end)?;
    let is_a = query[end - 4..end - 2] == [0, 1];
    // Id; response, recursion; one question, perhaps one answer (RFC 1035, 4.1).
    let mut reply = vec![query[0], query[1], 0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
    reply.extend_from_slice(question);
    if is_a {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    Some(reply)
}
