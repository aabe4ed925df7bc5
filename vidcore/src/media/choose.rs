//! Which transcoder processes videos on this machine, and why.

use std::sync::Arc;

use crate::clock::Clock;
use crate::media::ffmpeg::FfmpegTranscoder;
use crate::media::probe::SourceLimits;
use crate::media::simulated::SimulatedTranscoder;
use crate::media::{MediaError, Transcoder};
use crate::platform::settings::{MediaSettings, TranscoderChoice};

/// A transcoder and, in one sentence, why it was chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) transcoder: Arc<dyn Transcoder>,
    pub(crate) reason: String,
}

/// ffmpeg where the settings want it or leave the choice and it works; else the simulated one.
pub(crate) async fn choose(settings: &MediaSettings, clock: &Arc<dyn Clock>) -> Result<Chosen, MediaError> {
    let reason = if settings.transcoder == TranscoderChoice::Simulated {
        "the settings ask for it".to_owned()
    } else {
        match FfmpegTranscoder::detect(settings, Arc::clone(clock)).await {
            Ok(ffmpeg) => {
                let reason = ffmpeg.version().to_owned();
                return Ok(Chosen { transcoder: Arc::new(ffmpeg), reason });
            }
            Err(error) if settings.transcoder == TranscoderChoice::Ffmpeg => return Err(error),
            Err(error) => format!("ffmpeg cannot be used: {error}"),
        }
    };
    tracing::warn!(reason, "originals are published as they are");
    let simulated = SimulatedTranscoder::builder(Arc::clone(clock)).limits(SourceLimits::of(settings)).build();
    Ok(Chosen { transcoder: Arc::new(simulated), reason })
}
