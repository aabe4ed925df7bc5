//! The library with no HTTP: sign up, create a video, bring its file, wait until it plays, and copy
//! out what a player would fetch.
//!
//! ```text
//! cargo run -p examples --bin embed [FILE [FOLDER]]
//! ```
//!
//! `FILE` defaults to a clip that is compiled in. What plays is written to `FOLDER`, which is made;
//! without one it is read and counted. The platform lives in a temporary folder and goes with it.

use std::error::Error;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use vidcore::Platform;
use vidcore::auth::{Actor, RegisterInput};
use vidcore::catalog::view::PlaybackLinks;
use vidcore::catalog::{CreateVideo, VideoStatus, Visibility};
use vidcore::id::{UploadId, VideoId};
use vidcore::media::RenditionKind;
use vidcore::media::playback::{Grant, PlayableObject};
use vidcore::storage::{OpenUpload, UploadStatus, Visitor};

/// Eight seconds of H.264 and AAC.
const CLIP: &[u8] = include_bytes!("../../../fixtures/demo.mp4");

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (file, folder) = (arguments.next(), arguments.next());
    let data = tempfile::tempdir()?;
    let (size, bytes) = open(file.as_deref()).await?;
    let (platform, video, links) = publish(data.path(), size, ReaderStream::new(bytes)).await?;
    println!("{video} plays by {} at {}", links.kind.as_str(), links.url);
    let copied = copy_out(&platform, video, folder.as_deref()).await?;
    println!("{copied} bytes of it were {}", if folder.is_some() { "copied" } else { "read" });
    platform.shutdown().await;
    Ok(())
}

/// From nothing to a video that plays.
async fn publish(
    data_dir: &Path,
    size: OpenUpload,
    bytes: ReaderStream<Bytes>,
) -> Result<(Platform, VideoId, PlaybackLinks), Failure> {
    let bytes = bytes.map(|chunk| chunk.map_err(Failure::from));
    // README: begin
    let platform = Platform::embedded(data_dir).await?;
    let signed_in = platform.auth().register(person(), None).await?.into_inner();
    let actor = platform.auth().authenticate(signed_in.access_token.expose()).await?;

    let video = platform.catalog().create(&actor, about(), None).await?.into_inner();
    let upload = platform.uploads().open(&actor, video.id, size, None).await?.into_inner();
    let admitted = platform.uploads().admit_own(&actor, upload.id).await?;
    platform.uploads().receive(admitted, bytes).await?;
    platform.uploads().complete(&actor, upload.id, None).await?;

    let links = until_it_plays(&platform, &actor, video.id, upload.id).await?;
    // README: end
    Ok((platform, video.id, links))
}

fn person() -> RegisterInput {
    RegisterInput {
        email: "ada@example.org".to_owned(),
        handle: "ada".to_owned(),
        display_name: Some("Ada".to_owned()),
        password: "correct horse battery staple".into(),
    }
}

fn about() -> CreateVideo {
    CreateVideo {
        title: "My first video".to_owned(),
        description: String::new(),
        tags: vec!["example".to_owned()],
        visibility: Visibility::Public,
    }
}

/// Looks ten times a second: the work is done by the worker that runs inside the platform.
async fn until_it_plays(
    platform: &Platform,
    actor: &Actor,
    video: VideoId,
    upload: UploadId,
) -> Result<PlaybackLinks, Failure> {
    loop {
        let upload = platform.uploads().read(actor, upload).await?;
        if upload.status == UploadStatus::Rejected {
            return Err(upload.reason.unwrap_or_default().into());
        }
        let status = platform.catalog().status(Some(actor), video).await?;
        if status.status == VideoStatus::Failed {
            return Err(status.failure.unwrap_or_default().into());
        }
        // The first rendition is enough to play; all of them are there when the status says so.
        if status.status == VideoStatus::Ready && status.progress == 1000 {
            let video = platform.catalog().read(Some(actor), video).await?;
            return video.value.playback.clone().ok_or_else(|| "the video was hidden meanwhile".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

type Bytes = Box<dyn AsyncRead + Send + Unpin>;

async fn open(file: Option<&Path>) -> Result<(OpenUpload, Bytes), Failure> {
    let (size_bytes, bytes): (u64, Bytes) = match file {
        Some(path) => {
            let file = tokio::fs::File::open(path).await?;
            (file.metadata().await?.len(), Box::new(file))
        }
        None => (CLIP.len() as u64, Box::new(Cursor::new(CLIP))),
    };
    Ok((OpenUpload { size_bytes, sha256: None }, bytes))
}

/// Everything a player would fetch, laid out as it is addressed; returns how many bytes it was.
async fn copy_out(platform: &Platform, id: VideoId, folder: Option<&Path>) -> Result<u64, Failure> {
    let playback = platform.playback();
    let video = platform.store().video(id).await?.ok_or("the video is gone")?;
    let playable =
        playback.open(&Grant::Public { video: id, epoch: video.playback_epoch }, &Visitor::default()).await?;
    if video.playback_kind == Some(RenditionKind::File) {
        let file = playback.file(&playable).await?;
        return write(folder, "file.mp4", read(platform, &file).await?).await;
    }
    let master = playback.master_playlist(&playable).await?;
    let variants = m3u8_rs::parse_master_playlist_res(master.as_bytes()).map_err(|error| error.to_string())?.variants;
    let mut copied = write(folder, "master.m3u8", master.into_bytes()).await?;
    for variant in variants {
        let (name, playlist_file) = variant.uri.split_once('/').ok_or("a variant stands in a folder")?;
        let object = playback.rendition_object(&playable, name, playlist_file).await?;
        let text = read(platform, &object).await?;
        let playlist = m3u8_rs::parse_media_playlist_res(&text).map_err(|error| error.to_string())?;
        copied += write(folder, &variant.uri, text).await?;
        let init = playlist.segments.first().and_then(|segment| segment.map.as_ref()).map(|map| map.uri.clone());
        for file in init.into_iter().chain(playlist.segments.into_iter().map(|segment| segment.uri)) {
            let object = playback.rendition_object(&playable, name, &file).await?;
            copied += write(folder, &format!("{name}/{file}"), read(platform, &object).await?).await?;
        }
    }
    Ok(copied)
}

/// One object in memory; a server would pass the stream on instead.
async fn read(platform: &Platform, object: &PlayableObject) -> Result<Vec<u8>, Failure> {
    let mut chunks = platform.playback().bytes(object, None).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

async fn write(folder: Option<&Path>, name: &str, bytes: Vec<u8>) -> Result<u64, Failure> {
    if let Some(folder) = folder {
        let path = folder.join(name);
        tokio::fs::create_dir_all(path.parent().unwrap_or(folder)).await?;
        let mut file = tokio::fs::File::create(path).await?;
        file.write_all(&bytes).await?;
        file.flush().await?;
    }
    Ok(bytes.len() as u64)
}
