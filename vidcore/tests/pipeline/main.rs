//! From bytes to a video that plays, through the services, the worker and every crash in between.

mod appending;
mod arriving;
mod crashing;
mod ending;
mod giving_up;
mod housekeeping;
mod interrupted;
mod ladder;
mod pinning;
mod playing;
mod processing;
mod repairing;
mod sharing;
mod studio;
mod workflow;
