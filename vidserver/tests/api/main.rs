//! The server as clients meet it: over real sockets, status and whole body compared.

mod app;
mod auth;
mod cli;
mod connections;
mod contract;
mod documents;
mod edge;
mod http2;
mod lists;
mod problems;
mod redaction;
mod shutdown;
mod support;
mod uploads;
mod users;
mod videos;
