//! The server as clients meet it: over real sockets, status and whole body compared.

mod cli;
mod connections;
mod documents;
mod edge;
mod http2;
mod problems;
mod shutdown;
mod support;
