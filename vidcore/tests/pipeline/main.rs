//! From bytes to a video that plays, through the services, the worker and every crash in between.

mod arriving;
mod crashing;
mod pinning;
mod playing;
mod processing;
mod sharing;
mod studio;
