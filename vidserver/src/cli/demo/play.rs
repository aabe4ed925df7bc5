//! The proof that a video plays: the bytes a player would ask for first are there.

use http::StatusCode;
use vidcore::catalog::view::VideoView;
use vidcore::media::RenditionKind;

use super::client::ApiClient;
use crate::cli::CommandError;

/// Bytes of a file asked for at first.
const FIRST_BYTES: &str = "bytes=0-65535";

/// Fetches what a player fetches, and says what it got.
pub(super) async fn prove(api: &ApiClient, video: &VideoView) -> Result<String, CommandError> {
    let links = video.playback.as_ref().ok_or("the video names no playback URL")?;
    match links.kind {
        RenditionKind::Hls => prove_hls(api, &links.url).await,
        RenditionKind::File => prove_file(api, &links.url).await,
    }
}

async fn prove_hls(api: &ApiClient, master_url: &str) -> Result<String, CommandError> {
    let master = playlist(api, master_url).await?;
    let variants: Vec<String> = uris(&master).collect();
    let media_url = beside(master_url, variants.first().ok_or("the master playlist names no rendition")?);
    let media = playlist(api, &media_url).await?;
    let first = uris(&media).next().ok_or("the media playlist names no segment")?;
    let mut size = 0;
    // The init segment stands in a tag, the segments on lines of their own (RFC 8216 §4.3.2.5).
    for name in map_uri(&media).into_iter().chain([first]) {
        let (status, bytes) = api.fetch(&beside(&media_url, &name), None).await?;
        if status != StatusCode::OK || bytes.is_empty() {
            return Err(format!("{name} was answered {status} with {} bytes", bytes.len()).into());
        }
        size += bytes.len();
    }
    Ok(format!("{} HLS rendition(s), {size} bytes of the first segment", variants.len()))
}

async fn prove_file(api: &ApiClient, url: &str) -> Result<String, CommandError> {
    let (status, bytes) = api.fetch(url, Some(FIRST_BYTES)).await?;
    if status != StatusCode::PARTIAL_CONTENT || bytes.is_empty() {
        return Err(format!("a byte range was answered {status} with {} bytes", bytes.len()).into());
    }
    Ok(format!("the original by byte ranges, {} bytes of it", bytes.len()))
}

async fn playlist(api: &ApiClient, url: &str) -> Result<String, CommandError> {
    let (_, bytes) = api.fetch(url, None).await?;
    let text = String::from_utf8(bytes.into())?;
    if text.starts_with("#EXTM3U") { Ok(text) } else { Err("the playlist is not one".into()) }
}

fn uris(playlist: &str) -> impl Iterator<Item = String> {
    playlist.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

fn map_uri(playlist: &str) -> Option<String> {
    let line = playlist.lines().find(|line| line.starts_with("#EXT-X-MAP:"))?;
    line.split("URI=\"").nth(1)?.split('"').next().map(str::to_owned)
}

/// A relative URI against the URL of its playlist.
fn beside(playlist_url: &str, uri: &str) -> String {
    let folder = playlist_url.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{uri}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_found_in_lines_and_tags() {
        let playlist = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:4,\nseg_00000.m4s\n";
        assert_eq!(Some("init.mp4".to_owned()), map_uri(playlist));
        assert_eq!(vec!["seg_00000.m4s"], uris(playlist).collect::<Vec<_>>());
        assert_eq!("/a/b/init.mp4", beside("/a/b/index.m3u8", "init.mp4"));
    }
}
