//! What tests of resumable uploads share: an account, files that are videos, a small client, and a network that cuts.

pub(crate) mod account;
pub(crate) mod cutting;
pub(crate) mod file;
pub(crate) mod tus;
