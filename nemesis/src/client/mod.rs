//! The load: users who do what users do, and remember every answer.

mod acts;
mod call;
mod model;
mod user;

pub use call::{Answer, Call, Caller, Reply};
pub use model::{FIXTURES, Fixture, UploadModel, VideoModel};
pub use user::{Load, User};
