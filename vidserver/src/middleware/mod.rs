//! What stands around the routes: the envelope every request passes, and the layers of each stack.

pub mod admission;
pub mod body_guard;
pub mod client;
mod codings;
mod compression;
mod cors;
pub mod envelope;
pub mod load;
mod panics;
pub mod rate_limit;
pub mod request_id;
mod security;
mod stacks;
pub(crate) mod tus;

pub(crate) use compression::compression;
pub(crate) use cors::cors;
pub(crate) use panics::PanicProblem;
pub(crate) use stacks::{api_stack, bytes_stack};
