//! `vidserver demo`: the whole way of a video, as a client over real HTTP against a server of its own.

mod client;
mod play;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use vidcore::Platform;
use vidcore::auth::SignedIn;
use vidcore::catalog::VideoStatus;
use vidcore::catalog::view::{StatusView, VideoView};
use vidcore::entropy::{EntropyExt, SystemEntropy};
use vidcore::storage::{UploadStatus, UploadView};

use super::CommandError;
use crate::config::Config;
use crate::logging;
use crate::running::RunningServer;
use crate::server::Stop;
use client::{ApiClient, Source};

/// Eight seconds of moving colours and a chord, made by ffmpeg's own sources.
const CLIP: &[u8] = include_bytes!("../../../../fixtures/demo.mp4");

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(100);

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoFlags {
    /// Video to upload; a short clip from the program itself by default
    file: Option<PathBuf>,
    /// Folder to keep everything in; a fresh temporary one, removed at the end, by default
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End after the proof instead of serving on
    #[arg(long)]
    exit: bool,
}

pub(super) async fn run(mut config: Config, flags: DemoFlags) -> Result<(), CommandError> {
    logging::init(&config.log)?;
    let source = source(flags.file.as_deref()).await?;
    // Kept until the end of this function: dropping it removes the folder.
    let temporary = match &flags.data {
        Some(folder) => {
            config.platform.data_dir.clone_from(folder);
            None
        }
        None => Some(tempfile::Builder::new().prefix("vidserver-demo-").tempdir()?),
    };
    if let Some(folder) = &temporary {
        folder.path().clone_into(&mut config.platform.data_dir);
    }
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (config.server.listen, config.server.metrics_listen) = (any_port, any_port);
    config.server.metrics_enabled = true;

    let stop = Stop::new();
    stop.ask_on_signals()?;
    let platform = Platform::open(config.platform.clone()).await?;
    say(&format!("data folder      {}", config.platform.data_dir.display()));
    let (transcoder, reason) = platform.transcoder().await;
    say(&format!("transcoder       {transcoder} ({reason})"));
    let server = RunningServer::start(&config, platform, stop.clone()).await?;
    let origin = format!("http://{}", server.api);
    say(&format!("listening on     {origin}"));
    let metrics = server.metrics.map(|address| format!("http://{address}/metrics"));

    let shown = tokio::select! {
        shown = show(&origin, &config, source) => shown,
        () = stop.drain_asked() => Err("stopped before the video was playable".into()),
    };
    let keep_serving = shown.is_ok() && !flags.exit;
    if let Ok(shown) = &shown {
        shown.print(&origin, metrics.as_deref(), keep_serving);
    }
    if !keep_serving {
        stop.ask();
    }
    server.finished().await;
    drop(temporary);
    shown.map(|_| ())
}

/// What the walk leaves to be looked at.
struct Shown {
    video: VideoView,
    access_token: String,
}

impl Shown {
    fn print(&self, origin: &str, metrics: Option<&str>, keep_serving: bool) {
        let playback = self.video.playback.as_ref().map_or("", |links| links.url.as_str());
        let id = self.video.id;
        say(&format!("\nplayback  {origin}{playback}\ndocs      {origin}/docs"));
        if let Some(metrics) = metrics {
            say(&format!("metrics   {metrics}"));
        }
        if keep_serving {
            let token = &self.access_token;
            say(&format!(
                "\nTry:\n  curl {origin}/api/v1/videos/popular\n  curl '{origin}/api/v1/search?q=demo'\n  \
                 curl -H 'Authorization: Bearer {token}' {origin}/api/v1/videos/{id}/renditions\n\n\
                 Serving until Ctrl-C."
            ));
        }
    }
}

/// Signs up, uploads, waits, plays.
async fn show(origin: &str, config: &Config, source: Source) -> Result<Shown, CommandError> {
    let prefix = vidcore::platform::Links::new(&config.platform.public_url).base().to_owned();
    let mut api = ApiClient::new(origin, &prefix)?;
    let name = format!("demo_{}", hex::encode(SystemEntropy.bytes::<4>()));
    let account = serde_json::json!({
        "email": format!("{name}@example.org"),
        "handle": name,
        "password": hex::encode(SystemEntropy.bytes::<16>()),
    });
    let signed_in: SignedIn = api.post("/auth/register", &account).await?;
    api.authorize(signed_in.access_token.expose());
    say(&format!("signed up        {} ({})", signed_in.user.handle, signed_in.user.id));

    let draft = serde_json::json!({ "title": "A demo video", "tags": ["demo"], "visibility": "public" });
    let video: VideoView = api.post("/videos", &draft).await?;
    say(&format!("created          {}", video.id));

    upload(&api, &video, source).await?;
    processed(&api, &video).await?;
    let video: VideoView = api.get(&format!("/videos/{}", video.id)).await?;
    let proof = play::prove(&api, &video).await?;
    say(&format!("played           {proof}"));
    Ok(Shown { video, access_token: signed_in.access_token.expose().to_owned() })
}

async fn upload(api: &ApiClient, video: &VideoView, source: Source) -> Result<(), CommandError> {
    let size_bytes = source.size_bytes();
    let wanted = serde_json::json!({ "size_bytes": size_bytes });
    let upload: UploadView = api.post(&format!("/videos/{}/uploads", video.id), &wanted).await?;
    let url = upload.upload_url.ok_or("the server named no URL for the bytes")?;
    let bar = bar(size_bytes, "uploading        {bar:30} {bytes}/{total_bytes}");
    api.put(&url, source, &bar).await?;
    bar.finish_and_clear();
    say(&format!("uploaded         {size_bytes} bytes"));
    api.post_empty(&format!("/uploads/{}/complete", upload.id)).await?;
    loop {
        let upload: UploadView = api.get(&format!("/uploads/{}", upload.id)).await?;
        match upload.status {
            UploadStatus::Complete => return Ok(()),
            UploadStatus::Open | UploadStatus::Verifying => tokio::time::sleep(POLL).await,
            status => {
                let reason = upload.reason.unwrap_or_default();
                return Err(format!("the upload is {status}: {reason}").into());
            }
        }
    }
}

async fn processed(api: &ApiClient, video: &VideoView) -> Result<(), CommandError> {
    let bar = bar(1000, "processing       {bar:30} {percent} %");
    loop {
        let now: StatusView = api.get(&format!("/videos/{}/status", video.id)).await?;
        bar.set_position(now.progress.into());
        let settled = now.renditions.iter().all(|rendition| {
            use vidcore::media::RenditionStatus::{Failed, Ready};
            matches!(rendition.status, Ready | Failed)
        });
        match now.status {
            VideoStatus::Ready if settled => {
                bar.finish_and_clear();
                let names: Vec<_> = now.renditions.iter().map(|rendition| rendition.name.as_str()).collect();
                say(&format!("processed        {} by {}", names.join(", "), now.transcoder));
                return Ok(());
            }
            VideoStatus::Failed => {
                let reason = now.failure.unwrap_or_default();
                return Err(format!("the video could not be processed: {reason}").into());
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

async fn source(file: Option<&Path>) -> Result<Source, CommandError> {
    match file {
        None => Ok(Source::Memory(Bytes::from_static(CLIP))),
        Some(path) => {
            let describe = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
            let file = tokio::fs::File::open(path).await.map_err(describe)?;
            let about = file.metadata().await.map_err(describe)?;
            if !about.is_file() {
                return Err(format!("{} is not a file", path.display()).into());
            }
            Ok(Source::File { path: path.to_owned(), size_bytes: about.len() })
        }
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Progress is for whoever looks; nothing is left to tell if standard output is closed.
fn say(line: &str) {
    let _ = super::say(line);
}
