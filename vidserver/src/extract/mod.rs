//! What routes take from a request. Only these extractors appear in routes, so that every refusal
//! is a [`Problem`](crate::problem::Problem) and nothing is read without a bound.

pub mod body;
pub mod caller;
pub mod conditional;
pub mod idempotency;
mod json;
pub mod params;

pub use body::{Empty, FromBody, Json, MaxBody, MergePatch, present};
pub use caller::{Caller, CallerAddress, MaybeCaller};
pub use conditional::{EntityTag, IfMatch, IfNoneMatch};
pub use idempotency::{Keyed, PresentedKey, RequestFingerprint};
pub use params::{Path, Query};
