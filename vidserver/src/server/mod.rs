//! Sockets and connections: hyper under the program's own accept loop.
//!
//! Every wait for a client has a bound: its first byte, a request head, the next request, and the
//! reading of an answer. Connections are counted and capped, and at the end they are drained.
//!
//! The bounds here go by the runtime's timer, as hyper's own do, and not by the platform's clock:
//! they are about sockets, and no decision of the platform depends on them.

mod accept;
mod connection;
mod door;
mod framing;
mod shutdown;
mod streams;
mod wire;

pub use accept::{Drained, Server};
pub use shutdown::Stop;
