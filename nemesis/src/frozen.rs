//! Processes that freeze at the worst of moments, and go on when it is too late.

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::campaign::{Campaign, say};
use crate::client::{Call, FIXTURES, Reply};
use crate::oracle::Attempt;
use crate::plan::{Armament, AtPoint};
use crate::site::LEASE;
use crate::{BOUND, Failure};

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// How long the other worker may take to publish in place of a frozen one: some leases, and a bit.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// How often it is looked at where a few milliseconds decide what is tried.
const SHORT_LOOK: Duration = Duration::from_millis(1);

/// The job that publishes.
const PROCESS: &str = "process_video";

/// Attempts that may go to the other worker for each that is frozen.
const MISSES: u32 = 10;

/// Freezes a worker right before it publishes, `times` times, each until its lease is over and, where
/// there is another worker, until that one holds the job or has published. Then it goes on: its own
/// publishing must be fenced, and must change nothing.
///
/// # Errors
/// The site does not do what it takes to get there.
pub async fn workers(campaign: &mut Campaign, times: u32) -> Result<(), Failure> {
    if times == 0 {
        return Ok(());
    }
    let victim = campaign.site.slots.len().min(2) - 1;
    let armed = Armament { point: "before-publish", action: AtPoint::FreezeEachTime, passes: 0 };
    campaign.rearm(victim, armed).await?;
    let begun = Instant::now();
    let mut tries = 0;
    while campaign.figures.frozen_workers < times && campaign.findings.count() == 0 {
        tries += 1;
        if tries > times * MISSES + MISSES {
            return Err("the armed worker gets no job".into());
        }
        if freeze_one(campaign, victim).await? {
            campaign.figures.frozen_workers += 1;
        }
    }
    say(&format!(
        "{} frozen past the lease and fenced, of {tries} published, {:.1} s",
        campaign.figures.frozen_workers,
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Publishes one video; `true` if the victim was the one to freeze over it.
async fn freeze_one(campaign: &mut Campaign, victim: usize) -> Result<bool, Failure> {
    let user = campaign.rng.usize(0..campaign.users.len());
    let video = campaign.users[user].publish(FIXTURES[1]).await?;
    let rows = campaign.oracle.rows()?;
    let begun = Instant::now();
    // Ready by the hand of the other worker, or frozen.
    while !stopped(campaign, victim) {
        if rows.is_ready(&video)? {
            return Ok(false);
        }
        if begun.elapsed() > BOUND {
            return Err(format!("nobody processes {video}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
    let Some(held) = rows.holder(&video, PROCESS)? else {
        return Err(format!("{video} is about to be published and nobody holds its job").into());
    };
    wait_until_late(campaign, user, &video, &held).await?;
    campaign.signal(victim, Signal::CONT);
    let process = campaign.site.slots[victim].process.as_mut().ok_or("the frozen worker is gone")?;
    let fenced = process.line(BOUND, |line| line.fences(&held.job, held.token).then_some(())).await?;
    campaign.findings.demand(fenced.is_some(), || format!("the late write of {held:?} was not logged as fenced"));
    settle(campaign, victim, &video).await?;
    let tokens = campaign.oracle.rows()?.publishers(&video)?;
    let others = !tokens.is_empty() && tokens.iter().all(|&token| token > held.token);
    campaign.findings.demand(others, || format!("{video} shows {tokens:?} after the late write of {held:?}"));
    Ok(true)
}

/// Waits until the frozen attempt has lost its lease: until another worker holds the job, or until that
/// one has published. Where there is no other, for as long as the lease holds.
async fn wait_until_late(campaign: &mut Campaign, user: usize, video: &str, held: &Attempt) -> Result<(), Failure> {
    if campaign.site.slots.len() == 1 {
        tokio::time::sleep(LEASE.mul_f64(1.3)).await;
        return Ok(());
    }
    let rows = campaign.oracle.rows()?;
    let (begun, until_published) = (Instant::now(), campaign.rng.bool());
    while !rows.is_ready(video)? {
        let taken_over = rows.holder(video, PROCESS)?.is_some_and(|holder| holder.token > held.token);
        if taken_over && !until_published {
            return Ok(());
        }
        if begun.elapsed() > TAKE_OVER {
            // The whole process froze, and now and then another of its threads is in the middle of a
            // write. Then nobody can write; if somebody can, somebody should have taken over.
            let writable = rename(campaign, user, "Nobody").await;
            let locked = matches!(writable, Reply::Lost(_));
            campaign.findings.demand(locked, || format!("nobody takes {video} over from a frozen worker"));
            return Ok(());
        }
        tokio::time::sleep(SHORT_LOOK).await;
    }
    Ok(())
}

/// Waits until the video is ready; alone, the victim freezes over it once more, which is not too late.
async fn settle(campaign: &mut Campaign, victim: usize, video: &str) -> Result<(), Failure> {
    let rows = campaign.oracle.rows()?;
    let begun = Instant::now();
    while !rows.is_ready(video)? {
        if stopped(campaign, victim) {
            campaign.signal(victim, Signal::CONT);
        }
        if begun.elapsed() > BOUND {
            campaign.findings.add(format!("{video} stays unpublished after its worker was frozen"));
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn stopped(campaign: &Campaign, index: usize) -> bool {
    campaign.site.slots[index].process.as_ref().is_some_and(|process| process.is_stopped())
}

/// Freezes a worker while it holds the database's lock, `times` times. Meanwhile reads are answered and
/// writes are refused with 503 before a client loses its patience; once the worker goes on or is killed,
/// the same write is carried out.
///
/// # Errors
/// The site does not do what it takes to get there.
pub async fn lock_holders(campaign: &mut Campaign, times: u32) -> Result<(), Failure> {
    for round in 0..times {
        let victim = 1;
        let passes = campaign.rng.u32(3..15);
        let armed = Armament { point: "holding-lock", action: AtPoint::Freeze(Duration::ZERO), passes };
        campaign.rearm(victim, armed).await?;
        let begun = Instant::now();
        while !stopped(campaign, victim) {
            if begun.elapsed() > BOUND {
                return Err("the armed worker takes no lock".into());
            }
            tokio::time::sleep(LOOK).await;
        }
        meet_lock(campaign, victim, round).await?;
        campaign.figures.frozen_holders += 1;
    }
    if times > 0 {
        say(&format!("{times} frozen while they held the database's lock"));
    }
    Ok(())
}

async fn meet_lock(campaign: &mut Campaign, victim: usize, round: u32) -> Result<(), Failure> {
    let me = campaign.users[0].caller.read("/api/v1/users/me").await?;
    campaign.findings.demand(me.status == 200, || format!("a read against a held lock got {}", me.status));
    let name = format!("Locked out {round}");
    let refused = rename(campaign, 0, &name).await;
    let at_once = refused == Reply::Lost(Some(503));
    campaign.findings.demand(at_once, || format!("a write against a held lock got {refused:?}, not 503"));
    if campaign.rng.bool() {
        campaign.signal(victim, Signal::CONT);
        campaign.site.slots[victim].armed = None;
    } else {
        campaign.renew(victim).await?;
    }
    let done = campaign.users[0].caller.persist(&renaming(&name), |_| None).await?;
    campaign.findings.demand(done.status == 200, || format!("the lock is free and a write gets {done:?}"));
    Ok(())
}

/// The smallest write there is.
async fn rename(campaign: &Campaign, user: usize, name: &str) -> Reply {
    campaign.users[user].caller.once(&renaming(name), |_| None).await
}

fn renaming(name: &str) -> Call {
    Call::new("rename", Method::PATCH, "/api/v1/users/me", "").body(json!({"display_name": name}))
}
