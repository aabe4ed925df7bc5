//! Which transcoder processes videos on this machine.

use std::sync::Arc;

use crate::clock::Clock;
use crate::media::ffmpeg::FfmpegTranscoder;
use crate::media::simulated::SimulatedTranscoder;
use crate::media::{MediaError, Transcoder};
use crate::platform::settings::{MediaSettings, TranscoderChoice};

/// ffmpeg where the settings want it or leave the choice and it works; else the simulated one. The
/// log says which and why.
pub(crate) async fn choose(
    settings: &MediaSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Transcoder>, MediaError> {
    if settings.transcoder != TranscoderChoice::Simulated {
        match FfmpegTranscoder::detect(settings, Arc::clone(clock)).await {
            Ok(ffmpeg) => return Ok(Arc::new(ffmpeg)),
            Err(error) if settings.transcoder == TranscoderChoice::Ffmpeg => return Err(error),
            Err(error) => tracing::warn!(%error, "ffmpeg cannot be used: originals are published as they are"),
        }
    }
    Ok(Arc::new(SimulatedTranscoder::new(Arc::clone(clock))))
}
