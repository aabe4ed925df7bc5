//! What a user was told, against what the API says now.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Failure;
use crate::client::{FIXTURES, UploadModel, User, VideoModel};
use crate::findings::Findings;
use crate::ledger::Ledger;

/// Videos of a user that are played after each round, newest first.
const PLAYED: usize = 3;

/// Every video, every upload and the quota of a user.
pub(super) async fn check(user: &User, ledger: &Ledger, findings: &Findings) -> Result<(), Failure> {
    let listed = listed(user).await?;
    let known: BTreeSet<String> = user.videos.iter().map(|video| video.id.clone()).collect();
    findings.demand(listed == known, || {
        let (missing, extra) = (known.difference(&listed), listed.difference(&known));
        let (missing, extra): (Vec<_>, Vec<_>) = (missing.collect(), extra.collect());
        format!("user {}: {missing:?} were acknowledged and are gone, {extra:?} nobody asked for", user.number)
    });
    let mut usage = Usage::default();
    for (age, video) in user.videos.iter().rev().enumerate() {
        let mut has_source = false;
        for upload in &video.uploads {
            let status = check_upload(user, video, upload, findings).await?;
            usage.add(upload, &status);
            has_source |= status == "complete";
        }
        let view = check_video(user, video, has_source, ledger, findings).await?;
        if age < PLAYED && view["status"] == "ready" && !video.trashed {
            play(user, video, &view, findings).await?;
        }
    }
    let told = user.caller.read("/api/v1/users/me/usage").await?.body;
    let same = told["stored_bytes"] == usage.stored && told["reserved_bytes"] == usage.reserved;
    findings.demand(same, || format!("user {}: uploads come to {usage:?}, the usage is {told}", user.number));
    Ok(())
}

/// What the user's uploads take up, by their own statuses.
#[derive(Debug, Default)]
struct Usage {
    stored: u64,
    reserved: u64,
}

impl Usage {
    fn add(&mut self, upload: &UploadModel, status: &str) {
        let size = upload.fixture.bytes.len() as u64;
        match status {
            "complete" => self.stored += size,
            "open" | "verifying" => self.reserved += size,
            _ => {}
        }
    }
}

/// Ids of all the user's videos, those in the trash included.
async fn listed(user: &User) -> Result<BTreeSet<String>, Failure> {
    let mut ids = BTreeSet::new();
    for trash in ["false", "true"] {
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/users/me/videos?limit=100&trash={trash}{cursor}");
            let page = user.caller.read(&path).await?.body;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            ids.extend(items.iter().filter_map(|item| item["id"].as_str()).map(str::to_owned));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
    }
    Ok(ids)
}

async fn check_upload(
    user: &User,
    video: &VideoModel,
    upload: &UploadModel,
    findings: &Findings,
) -> Result<String, Failure> {
    let UploadModel { id, fixture, received, completed, aborted, .. } = upload;
    let view = user.caller.read(&format!("/api/v1/uploads/{id}")).await?.body;
    let status = view["status"].as_str().unwrap_or_default().to_owned();
    let expected: &[&str] = match (aborted, completed, fixture.good) {
        (true, _, _) => &["aborted"],
        // Whoever cancels the check of an upload has it rejected.
        (false, true, true) if user.gives_up || video.may_be_cancelled => &["complete", "rejected"],
        (false, true, true) => &["complete"],
        (false, true, false) => &["rejected"],
        (false, false, _) => &["open"],
    };
    findings.demand(expected.contains(&status.as_str()), || format!("{id} must be {expected:?} and is {view}"));
    let reasoned = status != "rejected" || view["reason"].as_str().is_some_and(|reason| !reason.is_empty());
    findings.demand(reasoned, || format!("{id} was rejected without a reason"));
    let kept = !received || view["received"] == true;
    findings.demand(kept, || format!("the bytes of {id} were acknowledged and are gone: {view}"));
    Ok(status)
}

async fn check_video(
    user: &User,
    video: &VideoModel,
    has_source: bool,
    ledger: &Ledger,
    findings: &Findings,
) -> Result<Value, Failure> {
    let id = &video.id;
    let view = user.caller.read(&format!("/api/v1/videos/{id}")).await?.body;
    let title = view["title"].as_str().unwrap_or_default();
    findings.demand(video.titles.contains(title), || format!("{id} must have one of {:?}: {view}", video.titles));
    let in_trash = !view["deleted_at"].is_null();
    findings.demand(in_trash == video.trashed, || format!("{id} in the trash must be {}: {view}", video.trashed));
    let status = view["status"].as_str().unwrap_or_default();
    let settled = match (has_source, status) {
        (false, "draft") | (true, "ready") => true,
        (true, "failed") => (video.may_be_cancelled || user.gives_up) && view["failure"].is_string(),
        (true, "uploaded") => video.trashed,
        _ => false,
    };
    findings.demand(settled, || format!("{id} is stuck or failed without a cause: {view}"));
    let now = user.caller.read(&format!("/api/v1/videos/{id}/status")).await?.body;
    ledger.seen(id, &now["renditions"], findings);
    Ok(view)
}

/// Plays a video to its end: the original itself, or every segment of every rendition.
async fn play(user: &User, video: &VideoModel, view: &Value, findings: &Findings) -> Result<(), Failure> {
    let url = view["playback"]["url"].as_str().unwrap_or_default();
    let (status, bytes) = user.caller.fetch(url).await?;
    let whole = match view["playback"]["type"].as_str() {
        Some("file") => FIXTURES.iter().any(|fixture| fixture.good && fixture.bytes == bytes),
        _ => status == 200 && bytes.starts_with(b"#EXTM3U") && plays(user, url, &bytes).await?,
    };
    findings.demand(whole, || format!("{} is ready and cannot be played: {status} at {url}", video.id));
    Ok(())
}

/// Whether everything a master playlist leads to is there.
async fn plays(user: &User, master: &str, playlist: &[u8]) -> Result<bool, Failure> {
    for variant in uris(master, playlist) {
        let (status, bytes) = user.caller.fetch(&variant).await?;
        let segments = uris(&variant, &bytes);
        if status != 200 || segments.is_empty() {
            return Ok(false);
        }
        for segment in segments {
            if user.caller.fetch(&segment).await?.0 != 200 {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The URIs of a playlist, as paths: its lines and the map of its initialization segment.
fn uris(playlist_path: &str, playlist: &[u8]) -> Vec<String> {
    let folder = playlist_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let text = String::from_utf8_lossy(playlist).into_owned();
    let uri = |line: &str| match line.strip_prefix("#EXT-X-MAP:") {
        Some(map) => map.split("URI=\"").nth(1)?.split('"').next().map(str::to_owned),
        None => (!line.starts_with('#') && !line.is_empty()).then(|| line.to_owned()),
    };
    text.lines().filter_map(uri).map(|uri| format!("{folder}/{uri}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_leads_to_its_map_and_its_segments() {
        let playlist = b"#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2.0,\n0.m4s\n";
        assert_eq!(vec!["/p/360p/init.mp4", "/p/360p/0.m4s"], uris("/p/360p/index.m3u8", playlist));
    }
}
