//! A name server for tests: it answers every name with one address, and counts the queries that arrive.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, ResourceRecord, TYPE};

/// Answers each query of type A with `address`, and each other query with no record, until the socket fails.
///
/// `heard` counts the datagrams that arrived.
///
/// # Errors
///
/// The error of the socket.
pub fn answer(socket: &UdpSocket, address: Ipv4Addr, heard: &AtomicUsize) -> io::Result<()> {
    let mut datagram = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut datagram)?;
        heard.fetch_add(1, Ordering::SeqCst);
        if let Some(reply) = reply(&datagram[..length], address) {
            socket.send_to(&reply, from)?;
        }
    }
}

/// `None` if the datagram is not a query.
fn reply(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut packet = Packet::parse(query).ok().filter(|packet| !packet.has_flags(PacketFlag::RESPONSE))?.into_reply();
    packet.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
    // The answer has no EDNS record.
    *packet.opt_mut() = None;
    for question in &packet.questions {
        if question.qtype == QTYPE::TYPE(TYPE::A) {
            let record = RData::A(A { address: address.to_bits() });
            packet.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, record));
        }
    }
    packet.build_bytes_vec_compressed().ok()
}
