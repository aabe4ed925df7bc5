//! What every transcoder promises, one claim per function.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::media::ffmpeg::FfmpegTranscoder;
use crate::media::simulated::SimulatedTranscoder;
use crate::media::storyboard::INDEX;
use crate::media::{EncodeRequest, MediaError, MediaInfo, Progress, RenditionKind, RenditionPlan, Transcoder};
use crate::platform::settings::MediaSettings;
use crate::testkit::require;

/// Fixtures every transcoder accepts, with their sizes as shown.
pub const GOOD: [(&str, u32, u32); 5] = [
    ("demo.mp4", 1280, 720),
    ("landscape.mp4", 640, 360),
    ("portrait-rotated.mp4", 360, 640),
    ("vp9-opus.webm", 426, 240),
    ("no-audio.mp4", 320, 240),
];

/// Fixtures every transcoder refuses.
pub const HOSTILE: [&str; 6] =
    ["audio-only.mp4", "truncated.mp4", "no-index.mp4", "playlist.mp4", "text.mp4", "empty.mp4"];

/// A fixture's path.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// A transcoder under test, on the machine's clock, with a folder of its own.
#[derive(Debug)]
pub struct MediaHarness {
    /// The transcoder.
    pub transcoder: Arc<dyn Transcoder>,
    /// Holds inputs and outputs; removed with the harness.
    pub folder: TempDir,
}

impl MediaHarness {
    /// Around `transcoder`.
    pub fn new(transcoder: Arc<dyn Transcoder>) -> Self {
        Self { transcoder, folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    /// The simulated transcoder with its defaults.
    pub fn simulated() -> Self {
        Self::new(Arc::new(SimulatedTranscoder::new(Arc::new(SystemClock::new()))))
    }

    /// ffmpeg, or `None` where it is missing, which is then said on standard error.
    ///
    /// # Panics
    /// Where it is missing and `VID_TEST_REQUIRE` is `all`.
    pub async fn ffmpeg() -> Option<Self> {
        let detected = FfmpegTranscoder::detect(&MediaSettings::default(), Arc::new(SystemClock::new())).await;
        require("ffmpeg", detected.is_ok()).then_some(())?;
        detected.ok().map(|ffmpeg| Self::new(Arc::new(ffmpeg)))
    }

    /// A copy of a fixture under a name the server would choose.
    pub fn input(&self, name: &str) -> PathBuf {
        let input = self.folder.path().join("source");
        fs::copy(fixture(name), &input).expect("the fixture is there");
        input
    }

    /// A new, empty output folder.
    pub fn output(&self, name: &str) -> PathBuf {
        let output = self.folder.path().join(name);
        fs::create_dir(&output).expect("the folder is new");
        output
    }

    /// What the transcoder says the file is.
    ///
    /// # Errors
    /// The transcoder's.
    pub async fn probe(&self, input: &Path) -> Result<MediaInfo, MediaError> {
        self.transcoder.probe(input, &CancellationToken::new()).await
    }

    /// A request for `plan` of `input` into a new folder of the plan's name; its progress goes nowhere.
    pub fn request(&self, input: &Path, info: &MediaInfo, plan: &RenditionPlan) -> EncodeRequest {
        EncodeRequest {
            input: input.to_owned(),
            info: info.clone(),
            output: self.output(&plan.name),
            plan: plan.clone(),
            progress: Arc::new(|_| {}),
            cancel: CancellationToken::new(),
        }
    }
}

/// A [`Progress`] that remembers what it was told.
#[derive(Debug, Clone, Default)]
pub struct ProgressLog(Arc<Mutex<Vec<f32>>>);

impl ProgressLog {
    /// The function that writes it.
    pub fn progress(&self) -> Progress {
        let log = self.clone();
        Arc::new(move |share| log.0.lock().unwrap_or_else(PoisonError::into_inner).push(share))
    }

    /// What was told so far.
    pub fn shares(&self) -> Vec<f32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes a module with one test per claim. `$harness` is a future of `Option<MediaHarness>`; `None`
/// means that a tool is missing and that this was said.
#[macro_export]
macro_rules! transcoder_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a harness may need nothing from its file")]
            use super::*;

            $crate::transcoder_contract! { @claims $harness;
                a_good_file_is_probed_as_it_is_shown,
                plans_are_distinct_best_first_and_within_the_source,
                an_encoding_makes_exactly_the_files_it_names,
                progress_never_goes_back_and_ends_at_one,
                pictures_are_made_where_they_are_promised_and_nowhere_else,
                what_is_no_video_is_refused_with_a_sentence,
                any_cut_of_a_file_is_judged_without_a_panic,
                a_missing_original_is_not_the_files_fault,
                a_cancelled_probe_and_encoding_say_so,
                only_the_output_folder_is_written,
            }
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(harness) = $harness.await {
                $crate::testkit::media::$claim(&harness).await;
            }
        }
    )+ };
}

/// A job is written for each that is promised; a storyboard's index comes before its sheets.
pub async fn pictures_are_made_where_they_are_promised_and_nowhere_else(h: &MediaHarness) {
    let input = h.input("landscape.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let cancel = CancellationToken::new();
    let poster = h.transcoder.poster(&input, &info, &h.output("poster"), &cancel).await.expect("a poster or none");
    let output = h.output("storyboard");
    let storyboard = h.transcoder.storyboard(&input, &info, &output, &cancel).await.expect("pictures or none");
    let promised = h.transcoder.makes_pictures();
    assert_eq!((promised, promised), (poster.is_some(), storyboard.len() > 1));
    assert_eq!(promised.then_some(INDEX), storyboard.first().map(|file| file.name.as_str()));
    assert!(storyboard.iter().all(|file| output.join(&file.name).is_file()));
}

/// Sizes are as shown, after rotation, and the media type is by content.
pub async fn a_good_file_is_probed_as_it_is_shown(h: &MediaHarness) {
    for (name, width, height) in GOOD {
        let info = h.probe(&h.input(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((Some(width), Some(height)), (info.width, info.height), "{name}");
        let content_type = if name.ends_with("webm") { "video/webm" } else { "video/mp4" };
        assert_eq!(content_type, info.content_type, "{name}");
    }
}

/// One to eight plans, none larger than the source.
pub async fn plans_are_distinct_best_first_and_within_the_source(h: &MediaHarness) {
    for (name, width, height) in GOOD {
        let info = h.probe(&h.input(name)).await.expect("the fixture is a video");
        let plans = h.transcoder.plan(&info);
        assert!((1..=8).contains(&plans.len()), "{name}");
        assert!(plans.iter().all(|plan| plan.width <= width && plan.height <= height), "{name}");
        assert!(plans.windows(2).all(|pair| pair[0].height >= pair[1].height), "{name}");
        let names: BTreeSet<_> = plans.iter().map(|plan| &plan.name).collect();
        assert_eq!(plans.len(), names.len(), "{name}");
        assert_eq!(plans, h.transcoder.plan(&info), "{name}");
    }
}

/// The output folder holds what is named, under plain names, and nothing else.
pub async fn an_encoding_makes_exactly_the_files_it_names(h: &MediaHarness) {
    let input = h.input("landscape.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    for plan in h.transcoder.plan(&info) {
        let request = h.request(&input, &info, &plan);
        let output = request.output.clone();
        let encoded = h.transcoder.encode(request).await.expect("the fixture encodes");
        let named: BTreeSet<_> = encoded.files.iter().map(|file| file.name.clone()).collect();
        assert_eq!(named, names_in(&output));
        assert_eq!((plan.width, plan.height), (encoded.width, encoded.height));
        assert_eq!(plan.kind == RenditionKind::Hls, named.contains("index.m3u8"));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        assert!(named.iter().all(|name| name.chars().all(plain)));
    }
}

/// The last share told is 1.0.
pub async fn progress_never_goes_back_and_ends_at_one(h: &MediaHarness) {
    let input = h.input("landscape.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let plan = h.transcoder.plan(&info).remove(0);
    let log = ProgressLog::default();
    let request = EncodeRequest { progress: log.progress(), ..h.request(&input, &info, &plan) };
    h.transcoder.encode(request).await.expect("the fixture encodes");
    let shares = log.shares();
    assert_eq!(Some(&1.0), shares.last());
    assert!(shares.len() > 1 && shares.windows(2).all(|pair| pair[0] <= pair[1]), "{shares:?}");
}

/// The reason is a sentence, and names no path.
pub async fn what_is_no_video_is_refused_with_a_sentence(h: &MediaHarness) {
    for name in HOSTILE {
        match h.probe(&h.input(name)).await {
            Err(MediaError::Unacceptable { reason }) => {
                assert!(reason.starts_with("The ") && reason.ends_with('.'), "{name}: {reason}");
                assert!(!reason.contains('/') && !reason.contains("source"), "{name}: {reason}");
            }
            other => panic!("{name} is no video, but {other:?}"),
        }
    }
}

/// Cut anywhere, a file is a video or it is refused; it never breaks the transcoder.
pub async fn any_cut_of_a_file_is_judged_without_a_panic(h: &MediaHarness) {
    for name in ["no-audio.mp4", "vp9-opus.webm"] {
        let whole = fs::read(fixture(name)).expect("the fixture is there");
        for part in [1, 9, 40, 100, 500, 1500, whole.len() / 2, whole.len() - 1] {
            let input = h.folder.path().join("source");
            fs::write(&input, &whole[..part]).expect("the folder is writable");
            let probed = h.probe(&input).await;
            assert!(matches!(probed, Err(MediaError::Unacceptable { .. })), "{name} cut to {part}: {probed:?}");
        }
    }
}

/// Another attempt may find it.
pub async fn a_missing_original_is_not_the_files_fault(h: &MediaHarness) {
    let probed = h.probe(&h.folder.path().join("absent")).await;
    assert!(probed.is_err_and(|error| error.is_retryable()));
}

/// Cancelling before the call starts nothing; cancelling within it ends it.
pub async fn a_cancelled_probe_and_encoding_say_so(h: &MediaHarness) {
    let input = h.input("demo.mp4");
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert!(matches!(h.transcoder.probe(&input, &cancelled).await, Err(MediaError::Cancelled)));

    let info = h.probe(&input).await.expect("the fixture is a video");
    let plan = h.transcoder.plan(&info).remove(0);
    let cancel = CancellationToken::new();
    let at_first_report = cancel.clone();
    let progress: Progress = Arc::new(move |_| at_first_report.cancel());
    let request = EncodeRequest { progress, cancel, ..h.request(&input, &info, &plan) };
    assert!(matches!(h.transcoder.encode(request).await, Err(MediaError::Cancelled)));
}

/// The original stays as it is, and nothing appears beside the output folders.
pub async fn only_the_output_folder_is_written(h: &MediaHarness) {
    let input = h.input("no-audio.mp4");
    let before = fs::read(&input).expect("the copy is there");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let plan = h.transcoder.plan(&info).remove(0);
    h.transcoder.encode(h.request(&input, &info, &plan)).await.expect("the fixture encodes");
    let poster = h.output("poster");
    let made = h.transcoder.poster(&input, &info, &poster, &CancellationToken::new()).await.expect("a poster or none");
    let named: BTreeSet<_> = made.into_iter().map(|file| file.name).collect();
    assert_eq!(named, names_in(&poster));
    let storyboard = h.output("storyboard");
    h.transcoder.storyboard(&input, &info, &storyboard, &CancellationToken::new()).await.expect("pictures or none");
    assert_eq!(before, fs::read(&input).expect("the copy is there"));
    let expected = BTreeSet::from(["source".to_owned(), plan.name, "poster".to_owned(), "storyboard".to_owned()]);
    assert_eq!(expected, names_in(h.folder.path()));
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.expect("the folder is readable").file_name().to_string_lossy().into_owned()).collect()
}
