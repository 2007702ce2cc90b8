//! Programs of the shape of published bugs: what was reported, and the cure. They are built and searched, not run.

mod kata;
mod netavark;
mod nydus;
mod ztunnel;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("kata") => kata::main(),
        Some("nydus") => nydus::main(),
        Some("ztunnel") => ztunnel::main(),
        Some("netavark") => netavark::main(),
        _ => {}
    }
}
