//! The whole API inside an axum application of your own, beside its own routes.
//!
//! ```text
//! cargo run -p examples --bin nest [DATA_FOLDER [ADDRESS]]
//! ```
//!
//! `DATA_FOLDER` defaults to `vid-data`, `ADDRESS` to `127.0.0.1:3000`; port 0 takes a free one. The
//! API stands under `/media`, its pages at `/media/docs/`; `/` is this program's own. Ctrl-C ends it.

use std::error::Error;
use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use vidcore::Platform;
use vidcore::page::PageLimit;
use vidcore::platform::Settings;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let data_dir = arguments.next().unwrap_or_else(|| "vid-data".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let home = format!("http://{}", listener.local_addr()?);

    // The path of `public_url` is where the router is nested: URLs in bodies begin with it.
    let settings = Settings { data_dir: data_dir.into(), public_url: format!("{home}/media"), ..Settings::default() };
    let platform = Platform::open(settings).await?;
    let app = Router::new()
        .route("/", get(newest_titles))
        .with_state(platform.clone())
        .nest("/media", vidserver::router(platform.clone()));

    // Listened for from here on: who has read the line below may interrupt.
    let mut interrupt = signal(SignalKind::interrupt())?;
    println!("{home} is yours, {home}/media/docs/ shows the API");
    // With the peer's address, limits count each caller by itself; without, all share one.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            interrupt.recv().await;
        })
        .await?;
    platform.shutdown().await;
    Ok(())
}

/// A route of this program's own, over the same platform: no HTTP call to itself.
async fn newest_titles(State(platform): State<Platform>) -> Result<Json<Vec<String>>, StatusCode> {
    let page = platform.catalog().public(None, PageLimit::default()).await;
    let videos = page.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?.items;
    Ok(Json(videos.into_iter().map(|video| video.title).collect()))
}
