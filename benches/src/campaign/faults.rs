//! Stub.
use crate::Failure;
use clap::Args;
/// Stub
#[derive(Debug, Clone, Args)]
pub struct FaultOptions {}
/// Stub
pub fn run(_: &FaultOptions) -> Result<bool, Failure> {
    Ok(true)
}
