//! Processes that freeze at the worst of moments, and go on when it is too late.

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::battle::Battle;
use crate::campaign::say;
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

/// Attempts that may go to the other worker for each that is frozen.
const MISSES: u32 = 10;

/// Freezes a worker right before it publishes, `times` times, each until its lease is over and, where
/// there is another worker, until that one holds the job or has published. Then it goes on: its own
/// publishing must be fenced, and must change nothing.
///
/// # Errors
/// The site does not do what it takes to get there.
pub async fn workers(battle: &mut Battle, times: u32) -> Result<(), Failure> {
    if times == 0 {
        return Ok(());
    }
    let victim = battle.site.slots.len().min(2) - 1;
    let armed = Armament { point: "before-publish", action: AtPoint::FreezeEachTime, passes: 0 };
    battle.rearm(victim, armed).await?;
    let begun = Instant::now();
    let mut tries = 0;
    while battle.figures.frozen_workers < times && battle.findings.count() == 0 {
        tries += 1;
        if tries > times * MISSES + MISSES {
            return Err("the armed worker gets no job".into());
        }
        if freeze_one(battle, victim).await? {
            battle.figures.frozen_workers += 1;
        }
    }
    say(&format!(
        "{} frozen past the lease and fenced, of {tries} published, {:.1} s",
        battle.figures.frozen_workers,
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Publishes one video; `true` if the victim was the one to freeze over it.
async fn freeze_one(battle: &mut Battle, victim: usize) -> Result<bool, Failure> {
    let user = battle.rng.usize(0..battle.users.len());
    let video = publish(battle, user, victim).await?;
    let rows = battle.oracle.rows()?;
    let begun = Instant::now();
    // Ready by the hand of the other worker, or frozen.
    while !stopped(battle, victim) {
        if rows.is_ready(&video)? {
            return Ok(false);
        }
        if begun.elapsed() > BOUND {
            return Err(format!("nobody processes {video}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
    let process = battle.site.slots[victim].process.as_ref().ok_or("the frozen worker is gone")?;
    let worker = format!("pid-{}", process.id());
    let held: Vec<Attempt> = rows.holders(&video)?.into_iter().filter(|attempt| attempt.worker == worker).collect();
    if held.is_empty() {
        // Somebody looked away for so long that the job is another's already.
        battle.signal(victim, Signal::CONT);
        settle(battle, victim, &video).await?;
        return Ok(false);
    }
    wait_until_late(battle, user, &video, &held).await?;
    battle.signal(victim, Signal::CONT);
    let process = battle.site.slots[victim].process.as_mut().ok_or("the frozen worker is gone")?;
    for late in &held {
        let fenced = process.line(BOUND, |line| line.fences(&late.job, late.token).then_some(())).await?;
        battle.findings.demand(fenced.is_some(), || format!("the late write of {late:?} was not logged as fenced"));
    }
    settle(battle, victim, &video).await?;
    let shown = battle.oracle.rows()?.publishers(&video)?;
    let by_others = !shown.is_empty() && held.iter().all(|late| !shown.contains(&late.token));
    battle.findings.demand(by_others, || format!("{video} shows {shown:?} after the late writes of {held:?}"));
    Ok(true)
}

/// Uploads a video. On a busy machine a process that stops itself may stand still only after it has gone on and
/// published what it was to freeze over, and then answers nobody: it is continued.
async fn publish(battle: &mut Battle, user: usize, victim: usize) -> Result<String, Failure> {
    let process = battle.site.slots[victim].process.as_ref().ok_or("the armed worker is gone")?;
    let mut publishing = std::pin::pin!(battle.users[user].publish(FIXTURES[1]));
    loop {
        tokio::select! {
            published = &mut publishing => return published,
            () = tokio::time::sleep(LEASE) => {
                if process.is_stopped() {
                    process.signal(Signal::CONT);
                }
            }
        }
    }
}

/// Waits until the frozen attempt has lost its lease: until another worker holds the job, or until that
/// one has published. Where there is no other, for as long as the lease holds.
async fn wait_until_late(battle: &mut Battle, user: usize, video: &str, held: &[Attempt]) -> Result<(), Failure> {
    if battle.site.slots.len() == 1 {
        tokio::time::sleep(LEASE.mul_f64(1.3)).await;
        return Ok(());
    }
    let rows = battle.oracle.rows()?;
    let (begun, until_published) = (Instant::now(), battle.rng.bool());
    while !rows.is_ready(video)? {
        let newest = held.iter().map(|attempt| attempt.token).max();
        let taken_over = rows.holders(video)?.iter().any(|holder| Some(holder.token) > newest);
        if taken_over && !until_published {
            return Ok(());
        }
        if begun.elapsed() > TAKE_OVER {
            // The whole process froze, and now and then another of its threads is in the middle of a
            // write. Then nobody can write; if somebody can, somebody should have taken over.
            let writable = rename(battle, user, "Nobody").await;
            let locked = matches!(writable, Reply::Lost(_));
            battle.findings.demand(locked, || format!("nobody takes {video} over from a frozen worker"));
            return Ok(());
        }
        tokio::time::sleep(SHORT_LOOK).await;
    }
    Ok(())
}

/// Waits until the video is ready; alone, the victim freezes over it once more, which is not too late.
async fn settle(battle: &mut Battle, victim: usize, video: &str) -> Result<(), Failure> {
    let rows = battle.oracle.rows()?;
    let begun = Instant::now();
    while !rows.is_ready(video)? {
        if stopped(battle, victim) {
            battle.signal(victim, Signal::CONT);
        }
        if begun.elapsed() > BOUND {
            battle.findings.add(format!("{video} stays unpublished after its worker was frozen"));
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn stopped(battle: &Battle, index: usize) -> bool {
    battle.site.slots[index].process.as_ref().is_some_and(|process| process.is_stopped())
}

/// Freezes a worker while it holds the database's lock, `times` times. Meanwhile reads are answered and
/// writes are refused with 503 before a client loses its patience; once the worker goes on or is killed,
/// the same write is carried out.
///
/// # Errors
/// The site does not do what it takes to get there.
pub async fn lock_holders(battle: &mut Battle, times: u32) -> Result<(), Failure> {
    for round in 0..times {
        let victim = 1;
        let passes = battle.rng.u32(3..15);
        let armed = Armament { point: "holding-lock", action: AtPoint::Freeze(Duration::ZERO), passes };
        battle.rearm(victim, armed).await?;
        let begun = Instant::now();
        while !stopped(battle, victim) {
            if begun.elapsed() > BOUND {
                return Err("the armed worker takes no lock".into());
            }
            tokio::time::sleep(LOOK).await;
        }
        meet_lock(battle, victim, round).await?;
        battle.figures.frozen_holders += 1;
    }
    if times > 0 {
        say(&format!("{times} frozen while they held the database's lock"));
    }
    Ok(())
}

async fn meet_lock(battle: &mut Battle, victim: usize, round: u32) -> Result<(), Failure> {
    // Every other time the server is killed too, and has to come up against the lock.
    if round % 2 == 1 {
        battle.renew(0).await?;
    }
    let me = battle.users[0].caller.read("/api/v1/users/me").await?;
    battle.findings.demand(me.status == 200, || format!("a read against a held lock got {}", me.status));
    let name = format!("Locked out {round}");
    let refused = rename(battle, 0, &name).await;
    let at_once = refused == Reply::Lost(Some(503));
    battle.findings.demand(at_once, || format!("a write against a held lock got {refused:?}, not 503"));
    if battle.rng.bool() {
        battle.signal(victim, Signal::CONT);
        battle.site.slots[victim].armed = None;
    } else {
        battle.renew(victim).await?;
    }
    let done = battle.users[0].caller.persist(&renaming(&name), |_| None).await?;
    battle.findings.demand(done.status == 200, || format!("the lock is free and a write gets {done:?}"));
    Ok(())
}

/// The smallest write there is.
async fn rename(battle: &Battle, user: usize, name: &str) -> Reply {
    battle.users[user].caller.once(&renaming(name), |_| None).await
}

fn renaming(name: &str) -> Call {
    Call::new("rename", Method::PATCH, "/api/v1/users/me", "").body(json!({"display_name": name}))
}
