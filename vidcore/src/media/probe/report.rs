//! ffprobe's answer, and what it means.

use serde::Deserialize;

use super::refuse;
use crate::media::sniff::Sniffed;
use crate::media::{MediaError, MediaInfo};

/// ffprobe's answer. Every field may be absent, and most numbers are text.
#[derive(Debug, Default, Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, Deserialize)]
struct Format {
    format_name: Option<String>,
    duration: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stream {
    codec_type: Option<String>,
    codec_name: Option<String>,
    width: Option<Number>,
    height: Option<Number>,
    sample_aspect_ratio: Option<String>,
    duration: Option<Number>,
    disposition: Disposition,
    tags: Tags,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
struct Disposition {
    attached_pic: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
struct Tags {
    rotate: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
struct SideData {
    rotation: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(f64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<f64> {
        let value = match self {
            Self::Plain(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
        };
        value.filter(|value| value.is_finite())
    }

    fn positive(number: Option<&Self>) -> Option<f64> {
        number.and_then(Self::value).filter(|value| *value > 0.0)
    }
}

impl Stream {
    fn is(&self, kind: &str) -> bool {
        self.codec_type.as_deref() == Some(kind)
    }

    /// Cover art is stored as a video stream of one picture; it is none.
    fn is_cover(&self) -> bool {
        Number::positive(self.disposition.attached_pic.as_ref()).is_some()
    }

    fn is_turned(&self) -> bool {
        let matrix = self.side_data_list.iter().find_map(|data| data.rotation.as_ref());
        let degrees = matrix.or(self.tags.rotate.as_ref()).and_then(Number::value).unwrap_or(0.0);
        (degrees.rem_euclid(180.0) - 90.0).abs() < 1.0
    }

    /// Width over height of one pixel; 1 where it is not stated, or makes no sense.
    fn pixel_shape(&self) -> f64 {
        let ratio = self.sample_aspect_ratio.as_deref().and_then(|text| text.split_once(':'));
        let parts = ratio.and_then(|(width, height)| Some((width.parse::<f64>().ok()?, height.parse::<f64>().ok()?)));
        let shape = parts.map(|(width, height)| width / height);
        shape.filter(|shape| (0.1..=10.0).contains(shape)).unwrap_or(1.0)
    }

    /// Width and height as shown.
    fn shown_size(&self) -> Option<(u32, u32)> {
        let width = Number::positive(self.width.as_ref())? * self.pixel_shape();
        let height = Number::positive(self.height.as_ref())?;
        // The casts saturate, and what is too large is refused by the limits.
        let (width, height) = (width.round() as u32, height.round() as u32);
        Some(if self.is_turned() { (height, width) } else { (width, height) })
    }
}

/// What the answer says, with what only the bytes tell.
pub(super) fn info(report: &[u8], sniffed: Sniffed) -> Result<MediaInfo, MediaError> {
    let report: Report = serde_json::from_slice(report).map_err(|error| MediaError::Failed {
        message: "ffprobe's answer cannot be read".to_owned(),
        source: Some(Box::new(error)),
    })?;
    let Some(video) = report.streams.iter().find(|stream| stream.is("video") && !stream.is_cover()) else {
        return refuse("The file has no video in it.");
    };
    let Some(codec) = video.codec_name.clone().filter(|name| name != "unknown") else {
        return refuse("The video in the file is of a kind this server cannot read.");
    };
    let Some((width, height)) = video.shown_size() else {
        return refuse("The video in the file cannot be read.");
    };
    let seconds = Number::positive(report.format.duration.as_ref()).or(Number::positive(video.duration.as_ref()));
    let audio = report.streams.iter().find(|stream| stream.is("audio"));
    Ok(MediaInfo {
        container: report.format.format_name.unwrap_or(sniffed.info.container),
        content_type: sniffed.info.content_type,
        duration_ms: seconds.map(|seconds| (seconds * 1000.0).round() as u64),
        width: Some(width),
        height: Some(height),
        video_codec: Some(codec),
        audio_codec: audio.map(|stream| stream.codec_name.clone().unwrap_or_else(|| "unknown".to_owned())),
    })
}
