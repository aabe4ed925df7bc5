//! The server as clients meet it: over real sockets, status and whole body compared.

mod app;
mod auth;
mod cli;
mod cli_jobs;
mod connections;
mod contract;
mod doctor;
mod documents;
mod edge;
mod faults;
mod http2;
mod jobs;
mod limits;
mod lists;
mod load;
mod nested;
mod openapi;
mod playback;
mod problems;
mod queues;
mod redaction;
mod shutdown;
mod support;
mod uploads;
mod users;
mod videos;
