//! The simulated transcoder: its contract, and what tests program into it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use vidcore::clock::{Clock, ManualClock, Sleep, Timestamp};
use vidcore::media::probe::SourceLimits;
use vidcore::media::simulated::SimulatedTranscoder;
use vidcore::media::{MediaError, RenditionKind};
use vidcore::testkit::media::{MediaHarness, ProgressLog};

vidcore::transcoder_contract!(simulated, async { Some(MediaHarness::simulated()) });

/// A harness around a programmed transcoder.
fn programmed(transcoder: SimulatedTranscoder) -> MediaHarness {
    MediaHarness::new(Arc::new(transcoder))
}

async fn encode(h: &MediaHarness, attempt: &str) -> Result<vidcore::media::Encoded, MediaError> {
    let input = h.input("landscape.mp4");
    let info = h.probe(&input).await?;
    let mut plan = h.transcoder.plan(&info).remove(0);
    plan.name = attempt.to_owned();
    h.transcoder.encode(h.request(&input, &info, &plan)).await
}

fn instant() -> vidcore::media::simulated::SimulatedTranscoderBuilder {
    SimulatedTranscoder::builder(Arc::new(ManualClock::default())).encode_time(Duration::ZERO)
}

#[tokio::test]
async fn the_original_is_the_only_rendition_and_no_file_is_made() {
    let h = programmed(instant().build());
    let info = h.probe(&h.input("portrait-rotated.mp4")).await.expect("the fixture is a video");
    let plans = h.transcoder.plan(&info);
    let [plan] = plans.as_slice() else { panic!("one plan, not {plans:?}") };
    assert_eq!(("original", RenditionKind::File), (plan.name.as_str(), plan.kind));
    assert_eq!((360, 640), (plan.width, plan.height));
    let encoded = encode(&h, "first").await.expect("nothing was programmed to fail");
    assert!(encoded.files.is_empty());
}

#[tokio::test]
async fn what_the_walk_reads_matches_the_file() {
    let h = programmed(instant().build());
    let mp4 = h.probe(&h.input("landscape.mp4")).await.expect("the fixture is a video");
    assert_eq!(
        (Some(5000), Some("h264"), Some("aac")),
        (mp4.duration_ms, mp4.video_codec.as_deref(), mp4.audio_codec.as_deref())
    );
    let webm = h.probe(&h.input("vp9-opus.webm")).await.expect("the fixture is a video");
    assert_eq!((Some("vp9"), Some("opus")), (webm.video_codec.as_deref(), webm.audio_codec.as_deref()));
    assert!(webm.duration_ms.is_some_and(|duration| duration.abs_diff(4000) < 100));
    let silent = h.probe(&h.input("no-audio.mp4")).await.expect("the fixture is a video");
    assert_eq!(None, silent.audio_codec);
}

/// A clock that stands still and tells whenever someone falls asleep by it.
#[derive(Debug)]
struct WatchedClock {
    clock: ManualClock,
    sleeps: mpsc::UnboundedSender<Duration>,
}

impl Clock for WatchedClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let sleep = self.clock.sleep(duration);
        self.sleeps.send(duration).expect("the test listens");
        sleep
    }
}

#[tokio::test]
async fn an_encoding_takes_the_programmed_time_in_equal_steps() {
    let clock = ManualClock::default();
    let (sleeps, mut slept) = mpsc::unbounded_channel();
    let watched = Arc::new(WatchedClock { clock: clock.clone(), sleeps });
    let h = programmed(SimulatedTranscoder::builder(watched).encode_time(Duration::from_secs(8)).steps(4).build());
    let input = h.input("landscape.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let log = ProgressLog::default();
    let mut request = h.request(&input, &info, &h.transcoder.plan(&info)[0]);
    request.progress = log.progress();
    let transcoder = h.transcoder.clone();
    let encoding = tokio::spawn(async move { transcoder.encode(request).await });
    for steps_done in 0..4 {
        assert_eq!(Some(Duration::from_secs(2)), slept.recv().await);
        assert_eq!(steps_done, log.shares().len());
        clock.advance(Duration::from_secs(2));
    }
    encoding.await.expect("no panic").expect("nothing was programmed to fail");
    assert_eq!(vec![0.25, 0.5, 0.75, 1.0], log.shares());
}

#[tokio::test]
async fn the_first_encodings_fail_as_programmed_and_the_next_succeeds() {
    let h = programmed(instant().fail_first(2).build());
    for attempt in ["first", "second"] {
        assert!(encode(&h, attempt).await.is_err_and(|error| error.is_retryable()));
    }
    assert!(encode(&h, "third").await.is_ok());
}

#[tokio::test]
async fn a_programmed_rejection_is_for_good_and_carries_its_reason() {
    let h = programmed(instant().reject_with("The picture is upside down.").build());
    let error = encode(&h, "first").await.expect_err("the rejection was programmed");
    assert!(!error.is_retryable());
    assert_eq!("The picture is upside down.", error.to_string());
}

#[tokio::test]
async fn a_source_beyond_the_limits_is_refused() {
    let limits = |millis, max_pixels| SourceLimits { max_duration: Duration::from_millis(millis), max_pixels };
    for (limits, accepted) in
        [(limits(5000, 640 * 360), true), (limits(4999, 640 * 360), false), (limits(5000, 640 * 360 - 1), false)]
    {
        let h = programmed(instant().limits(limits).build());
        assert_eq!(accepted, h.probe(&h.input("landscape.mp4")).await.is_ok());
    }
}
