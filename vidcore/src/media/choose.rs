//! Which transcoder processes videos on this machine, and why.
//!
//! Looking for ffmpeg starts it several times, which takes longer than everything else at start. So
//! where the settings leave the choice, the search runs beside the start, and whoever needs the
//! transcoder first waits for its end.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::media::ffmpeg::FfmpegTranscoder;
use crate::media::probe::SourceLimits;
use crate::media::simulated::SimulatedTranscoder;
use crate::media::{EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile, RenditionPlan, Transcoder};
use crate::platform::settings::{MediaSettings, TranscoderChoice};

/// The name shown while the search runs.
pub const DETECTING: &str = "detecting";

/// A transcoder and, in one sentence, why it was chosen.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) transcoder: Arc<dyn Transcoder>,
    pub(crate) reason: String,
}

/// A choice that is made, or is being made.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    found: watch::Receiver<Option<Chosen>>,
    /// Ends the search when the platform goes.
    _search: Option<Arc<Search>>,
}

#[derive(Debug)]
struct Search(JoinHandle<()>);

impl Drop for Search {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Choice {
    /// The program's own transcoder.
    pub(crate) fn made(transcoder: Arc<dyn Transcoder>, reason: &str) -> Self {
        let chosen = Chosen { transcoder, reason: reason.to_owned() };
        Self { found: watch::channel(Some(chosen)).1, _search: None }
    }

    /// What was found so far.
    pub(crate) fn now(&self) -> Option<Chosen> {
        self.found.borrow().clone()
    }

    /// What was found, once the search has ended.
    pub(crate) async fn known(&self) -> Chosen {
        let mut found = self.found.clone();
        let known = found.wait_for(Option::is_some).await.map(|chosen| chosen.clone());
        // The search ends without an answer only when the platform's runtime does.
        known.ok().flatten().expect("the search for a transcoder ends with one")
    }
}

/// ffmpeg where the settings want it or leave the choice and it works; else the simulated one.
///
/// # Errors
/// [`MediaError`] if ffmpeg is wanted and does not work.
pub(crate) async fn choose(settings: &MediaSettings, clock: &Arc<dyn Clock>) -> Result<Choice, MediaError> {
    let (settings, clock) = (settings.clone(), Arc::clone(clock));
    match settings.transcoder {
        TranscoderChoice::Simulated => {
            let chosen = simulated(&settings, &clock, "the settings ask for it".to_owned());
            Ok(Choice { found: watch::channel(Some(chosen)).1, _search: None })
        }
        TranscoderChoice::Ffmpeg => {
            let chosen = ffmpeg(&settings, &clock).await?;
            Ok(Choice { found: watch::channel(Some(chosen)).1, _search: None })
        }
        TranscoderChoice::Auto => {
            let (tell, found) = watch::channel(None);
            let search = tokio::spawn(async move {
                let chosen = match ffmpeg(&settings, &clock).await {
                    Ok(chosen) => chosen,
                    Err(error) => simulated(&settings, &clock, explain(&error)),
                };
                tell.send_replace(Some(chosen));
            });
            Ok(Choice { found, _search: Some(Arc::new(Search(search))) })
        }
    }
}

async fn ffmpeg(settings: &MediaSettings, clock: &Arc<dyn Clock>) -> Result<Chosen, MediaError> {
    let ffmpeg = FfmpegTranscoder::detect(settings, Arc::clone(clock)).await?;
    let reason = ffmpeg.version().to_owned();
    Ok(Chosen { transcoder: Arc::new(ffmpeg), reason })
}

/// Why ffmpeg is not used, for whoever could change it.
fn explain(error: &MediaError) -> String {
    let cause = std::error::Error::source(error);
    match cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
        Some(io) if io.kind() == std::io::ErrorKind::NotFound => "ffmpeg and ffprobe were not found".to_owned(),
        Some(io) => format!("ffmpeg cannot be used: {error}: {io}"),
        None => format!("ffmpeg cannot be used: {error}"),
    }
}

fn simulated(settings: &MediaSettings, clock: &Arc<dyn Clock>, reason: String) -> Chosen {
    tracing::warn!(reason, "originals are published as they are");
    let simulated = SimulatedTranscoder::builder(Arc::clone(clock)).limits(SourceLimits::of(settings)).build();
    Chosen { transcoder: Arc::new(simulated), reason }
}

#[async_trait]
impl Transcoder for Choice {
    fn name(&self) -> &'static str {
        self.now().map_or(DETECTING, |chosen| chosen.transcoder.name())
    }

    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        self.known().await.transcoder.probe(input, cancel).await
    }

    fn plan(&self, info: &MediaInfo) -> Vec<RenditionPlan> {
        // There is an info only once a probe has waited for the search.
        self.now().map(|chosen| chosen.transcoder.plan(info)).unwrap_or_default()
    }

    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError> {
        self.known().await.transcoder.encode(request).await
    }

    fn makes_pictures(&self) -> bool {
        self.now().is_some_and(|chosen| chosen.transcoder.makes_pictures())
    }

    async fn poster(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Option<OutputFile>, MediaError> {
        self.known().await.transcoder.poster(input, info, output, cancel).await
    }

    async fn storyboard(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Vec<OutputFile>, MediaError> {
        self.known().await.transcoder.storyboard(input, info, output, cancel).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn without_ffmpeg_the_choice_says_so_and_simulates() {
        let nowhere = "/nowhere/at/all".into();
        let settings = MediaSettings { ffprobe: nowhere, ..MediaSettings::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let chosen = choose(&settings, &clock).await.expect("there is always one").known().await;
        assert_eq!(("simulated", "ffmpeg and ffprobe were not found"), (chosen.transcoder.name(), &*chosen.reason));
        let demanded = MediaSettings { transcoder: TranscoderChoice::Ffmpeg, ..settings };
        assert!(choose(&demanded, &clock).await.is_err());
    }
}
