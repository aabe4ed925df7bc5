//! The twin on Redis: BullMQ, which is what many would use instead, with its jobs as durable as ours.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;

/// Its program and what it needs, for `npm`.
const FILES: [(&str, &str); 2] =
    [("package.json", include_str!("../../bullmq/package.json")), ("run.mjs", include_str!("../../bullmq/run.mjs"))];

/// Jobs per second of `workers` BullMQ workers of `slots` slots each, in one process, on the Redis at `port`; or
/// why it cannot be had.
///
/// # Errors
/// It is there, and fails.
pub fn rate(folder: &Path, port: u16, jobs: usize, slots: u16, workers: usize) -> Result<Result<f64, String>, Failure> {
    if let Err(reason) = install(folder) {
        return Ok(Err(reason));
    }
    let output = Command::new("node")
        .args(["run.mjs", &port.to_string(), &jobs.to_string(), &slots.to_string(), &workers.to_string()])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("BullMQ ended with {}", output.status).into());
    }
    Ok(Ok(String::from_utf8(output.stdout)?.trim().parse()?))
}

/// Installs it into `folder`, once.
fn install(folder: &Path) -> Result<(), String> {
    if folder.join("node_modules").is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).map_err(|error| error.to_string())?;
    }
    let installed = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match installed {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("npm could not install it ({status})")),
        Err(_) => Err("there is no npm".to_owned()),
    }
}
