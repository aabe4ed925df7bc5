//! ffmpeg: its contract, what it makes of good files, and what hostile ones get.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use m3u8_rs::MediaPlaylistType;
use tokio_util::sync::CancellationToken;
use vidcore::clock::SystemClock;
use vidcore::media::ffmpeg::FfmpegTranscoder;
use vidcore::media::hls::{self, HlsError};
use vidcore::media::{Encoded, MediaError, MediaInfo, RenditionPlan};
use vidcore::platform::settings::MediaSettings;
use vidcore::testkit::media::{GOOD, MediaHarness, fixture};

vidcore::transcoder_contract!(ffmpeg, MediaHarness::ffmpeg());

/// One rendition as made, and where its files are.
struct Made {
    plan: RenditionPlan,
    encoded: Encoded,
    folder: PathBuf,
}

async fn make_all(h: &MediaHarness, input: &Path, info: &MediaInfo) -> Vec<Made> {
    let mut made = Vec::new();
    for plan in h.transcoder.plan(info) {
        let request = h.request(input, info, &plan);
        let folder = request.output.clone();
        let encoded = h.transcoder.encode(request).await.unwrap_or_else(|error| panic!("{}: {error:?}", plan.name));
        made.push(Made { plan, encoded, folder });
    }
    made
}

/// What ffprobe says of a file this test wrote, one field.
fn field(of: &Path, entries: &str) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", entries])
        .arg(of)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // For a playlist the stream is told twice: within its program, then as such.
    let text = String::from_utf8(output.stdout).expect("ffprobe writes text");
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().trim_end_matches(',').to_owned()
}

/// Makes a source with ffmpeg; `arguments` end before the output's name.
fn make_source(h: &MediaHarness, name: &str, arguments: &str) -> PathBuf {
    let path = h.folder.path().join(name);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success(), "{arguments}");
    path
}

/// A valid rendition: the playlist parses, is finished and whole, and plays as long as its source.
fn check_hls(made: &Made, seconds: f64) {
    let text = fs::read(made.folder.join("index.m3u8")).expect("the playlist is there");
    let playlist = m3u8_rs::parse_media_playlist_res(&text).expect("the playlist is valid");
    assert_eq!(Some(MediaPlaylistType::Vod), playlist.playlist_type);
    assert!(playlist.end_list && playlist.independent_segments);
    for (index, segment) in playlist.segments.iter().enumerate() {
        assert_eq!(format!("seg_{index:05}.m4s"), segment.uri);
        assert!(segment.duration <= 4.5, "{}", segment.duration);
    }
    let played: f64 = field(&made.folder.join("index.m3u8"), "format=duration").parse().expect("a number");
    assert!((played - seconds).abs() < 0.3, "{played} is not {seconds}");
    check_measures(made, seconds);
}

fn check_measures(made: &Made, seconds: f64) {
    let Made { plan, encoded, folder } = made;
    assert_eq!((plan.width, plan.height), (encoded.width, encoded.height));
    let shown = field(&folder.join("index.m3u8"), "stream=width,height,pix_fmt,profile");
    assert_eq!(format!("High,{},{},yuv420p", plan.width, plan.height), shown);
    let codecs = encoded.codecs.as_deref().expect("codecs are stated");
    // High profile is 0x64 without constraints; two more digits are the level.
    let (video, audio) = codecs.split_once(',').unwrap_or((codecs, ""));
    let level = video.strip_prefix("avc1.6400").expect("the profile is high");
    assert!(level.len() == 2 && level.chars().all(|c| c.is_ascii_hexdigit()), "{codecs}");
    assert_eq!(if plan.audio_bitrate > 0 { "mp4a.40.2" } else { "" }, audio);
    let segments = encoded.files.iter().filter(|file| file.name.starts_with("seg_"));
    let bytes: u64 = segments.map(|file| folder.join(&file.name).metadata().expect("it is there").len()).sum();
    let bandwidth = u64::from(encoded.bandwidth.expect("bandwidth is measured"));
    // At least the average of the whole; at most everything within the shortest source's 0.04 s.
    let average = bytes as f64 * 8.0 / seconds * 0.9;
    assert!(bandwidth as f64 > average && bandwidth <= bytes * 8 * 25, "{bandwidth} of {bytes} bytes");
    assert!(encoded.files.iter().all(|file| {
        let expected = if file.name.ends_with(".m3u8") { "application/vnd.apple.mpegurl" } else { "video/mp4" };
        file.content_type == expected
    }));
}

#[tokio::test]
async fn every_good_fixture_becomes_playable_hls() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    for (name, ..) in GOOD {
        let case = MediaHarness::new(h.transcoder.clone());
        let input = case.input(name);
        let info = case.probe(&input).await.expect("the fixture is a video");
        let seconds = info.duration_ms.expect("the fixture says how long it is") as f64 / 1000.0;
        let made = make_all(&case, &input, &info).await;
        assert_eq!(if name == "demo.mp4" { 2 } else { 1 }, made.len(), "{name}");
        made.iter().for_each(|made| check_hls(made, seconds));
    }
}

#[tokio::test]
async fn a_probe_tells_length_and_codecs() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    for (name, millis, video, audio) in [
        ("demo.mp4", 8000, "h264", Some("aac")),
        ("landscape.mp4", 5000, "h264", Some("aac")),
        ("portrait-rotated.mp4", 5000, "h264", Some("aac")),
        ("vp9-opus.webm", 4000, "vp9", Some("opus")),
        ("no-audio.mp4", 3000, "h264", None),
    ] {
        let info = h.probe(&h.input(name)).await.expect("the fixture is a video");
        assert!(info.duration_ms.is_some_and(|duration| duration.abs_diff(millis) < 50), "{name}: {info:?}");
        assert_eq!((Some(video), audio), (info.video_codec.as_deref(), info.audio_codec.as_deref()), "{name}");
    }
}

#[tokio::test]
async fn a_rotated_source_comes_out_upright() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let input = h.input("portrait-rotated.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let made = make_all(&h, &input, &info).await.remove(0);
    assert_eq!((360, 640), (made.encoded.width, made.encoded.height));
    assert_eq!("", field(&made.folder.join("index.m3u8"), "stream_side_data=rotation"));
}

#[tokio::test]
async fn both_renditions_are_cut_at_the_same_moments() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let input = h.input("demo.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let made = make_all(&h, &input, &info).await;
    let cuts = |made: &Made| {
        let text = fs::read_to_string(made.folder.join("index.m3u8")).expect("the playlist is there");
        text.lines().filter(|line| line.starts_with("#EXTINF")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(2, cuts(&made[0]).len());
    assert_eq!(cuts(&made[0]), cuts(&made[1]));
    assert!(made[0].encoded.bandwidth > made[1].encoded.bandwidth);
}

#[tokio::test]
async fn a_poster_is_a_small_jpeg_of_the_right_shape() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    for (name, width, height) in GOOD {
        let case = MediaHarness::new(h.transcoder.clone());
        let input = case.input(name);
        let info = case.probe(&input).await.expect("the fixture is a video");
        let output = case.output("poster");
        let made = case.transcoder.poster(&input, &info, &output, &CancellationToken::new()).await;
        let file = made.expect("the fixture has a picture").expect("this transcoder makes posters");
        assert_eq!(("poster.jpg", "image/jpeg"), (file.name.as_str(), file.content_type));
        assert_eq!(
            format!("mjpeg,{width},{height}"),
            field(&output.join(&file.name), "stream=codec_name,width,height")
        );
    }
}

/// A cue of a storyboard: from, to, the sheet and the part of it.
#[derive(Debug)]
struct Cue {
    from: f64,
    to: f64,
    sheet: String,
    part: [u32; 4],
}

/// Reads a WebVTT file of nothing but such cues; panics where it is not one (W3C WebVTT §4, Media Fragments §4.2.2).
fn cues(text: &str) -> Vec<Cue> {
    let body = text.strip_prefix("WEBVTT\n\n").expect("a header and a blank line");
    let read = |block: &str| {
        let (times, address) = block.trim_end().split_once('\n').expect("times, then a payload");
        let (from, to) = times.split_once(" --> ").expect("an arrow between the times");
        let (sheet, part) = address.split_once("#xywh=").expect("a spatial fragment in pixels");
        let part: Vec<u32> = part.split(',').map(|number| number.parse().expect("a number")).collect();
        Cue { from: moment(from), to: moment(to), sheet: sheet.to_owned(), part: part.try_into().expect("four") }
    };
    body.split("\n\n").map(read).collect()
}

/// `hh:mm:ss.ttt` in seconds.
fn moment(text: &str) -> f64 {
    assert_eq!(12, text.len(), "{text}");
    text.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

#[tokio::test]
async fn a_storyboard_names_parts_that_lie_within_its_sheets_from_begin_to_end() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    for (name, ..) in GOOD {
        let case = MediaHarness::new(h.transcoder.clone());
        let input = case.input(name);
        let info = case.probe(&input).await.expect("the fixture is a video");
        let seconds = info.duration_ms.expect("the fixture says how long it is") as f64 / 1000.0;
        let output = case.output("storyboard");
        let made = case.transcoder.storyboard(&input, &info, &output, &CancellationToken::new()).await;
        let files = made.expect("the fixture has pictures");
        let types: Vec<_> = files.iter().map(|file| file.content_type).collect();
        assert_eq!(["text/vtt", "image/jpeg"], *types, "{name}");
        let text = fs::read_to_string(output.join(&files[0].name)).expect("the index is there");
        check_cues(&cues(&text), seconds, &files[1].name, &output);
    }
}

fn check_cues(cues: &[Cue], seconds: f64, sheet: &str, folder: &Path) {
    let size = field(&folder.join(sheet), "stream=width,height");
    let (width, height) = size.split_once(',').expect("two numbers");
    let (width, height): (u32, u32) = (width.parse().expect("a number"), height.parse().expect("a number"));
    assert!(cues.len() as f64 >= seconds - 1.0, "{cues:?}");
    assert!(cues[0].from == 0.0 && cues.windows(2).all(|pair| pair[0].to == pair[1].from), "{cues:?}");
    assert!(cues.iter().all(|cue| cue.from < cue.to && cue.sheet == sheet), "{cues:?}");
    let end = cues.last().expect("there is a cue").to;
    assert!((seconds - end).abs() < 1.0, "{end} is not {seconds}");
    let mut parts: Vec<_> = cues.iter().map(|cue| cue.part).collect();
    for [x, y, w, h] in &parts {
        assert!(*w > 0 && *h > 0 && x + w <= width && y + h <= height, "{x},{y},{w},{h} of {size}");
    }
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(cues.len(), parts.len(), "each has a part of its own");
}

#[tokio::test]
async fn the_pictures_of_a_storyboard_show_the_moments_their_cues_name() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    // Three seconds of black, then three of white.
    let colours = "-f lavfi -i color=black:s=320x240:r=25:d=3 -f lavfi -i color=white:s=320x240:r=25:d=3 \
                   -filter_complex [0][1]concat=n=2:v=1 -c:v libx264 -preset ultrafast";
    let input = make_source(&h, "colours.mp4", colours);
    let info = h.probe(&input).await.expect("it is a video");
    let output = h.output("storyboard");
    let made = h.transcoder.storyboard(&input, &info, &output, &CancellationToken::new()).await;
    let files = made.expect("it has pictures");
    let text = fs::read_to_string(output.join(&files[0].name)).expect("the index is there");
    for cue in cues(&text) {
        let shown = brightness(&output.join(&cue.sheet), cue.part);
        // A frame to either side of the cut belongs to either.
        if cue.to <= 2.9 || cue.from >= 3.1 {
            assert_eq!(cue.from >= 3.0, shown > 128, "{cue:?} shows {shown}");
        }
    }
}

/// The average brightness of a part of a picture, 0 to 255.
fn brightness(picture: &Path, [x, y, w, h]: [u32; 4]) -> u8 {
    let filter = format!("crop={w}:{h}:{x}:{y},scale=1:1:flags=area,format=gray");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(picture)
        .args(["-vf", &filter, "-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout[0]
}

#[tokio::test]
async fn a_long_video_gets_two_sheets_and_no_more() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let input =
        make_source(&h, "long.mp4", "-f lavfi -i testsrc=s=64x64:r=5:d=600 -c:v libx264 -preset ultrafast -g 25");
    let info = h.probe(&input).await.expect("it is a video");
    let output = h.output("storyboard");
    let made = h.transcoder.storyboard(&input, &info, &output, &CancellationToken::new()).await;
    let files = made.expect("it has pictures");
    assert_eq!(3, files.len(), "{files:?}");
    let text = fs::read_to_string(output.join(&files[0].name)).expect("the index is there");
    let cues = cues(&text);
    assert!((195..=200).contains(&cues.len()), "{}", cues.len());
    let sheets: Vec<_> = files[1..].iter().map(|file| file.name.as_str()).collect();
    assert!(
        cues[..100].iter().all(|cue| cue.sheet == sheets[0]) && cues[100..].iter().all(|cue| cue.sheet == sheets[1])
    );
}

#[tokio::test]
async fn odd_sources_are_made_playable() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let sources = [
        (
            "odd-sides.mkv",
            "-f lavfi -i testsrc=s=321x241:r=25:d=2 -c:v libx264 -preset ultrafast -pix_fmt yuv444p",
            (321, 241),
        ),
        (
            "ten-bits.mp4",
            "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264 -preset ultrafast -pix_fmt yuv420p10le",
            (320, 240),
        ),
        (
            "varying-rate.mp4",
            "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -vf select=not(mod(n\\,3))+gt(n\\,30) -fps_mode vfr \
          -video_track_timescale 90000 -c:v libx264 -preset ultrafast",
            (320, 240),
        ),
        (
            "oblong-pixels.mp4",
            "-f lavfi -i testsrc2=s=240x240:r=25:d=2,setsar=4/3 -c:v libx264 -preset ultrafast",
            (320, 240),
        ),
        (
            "stream.ts",
            "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -f lavfi -i sine=d=2 -c:v libx264 -preset ultrafast -c:a aac",
            (320, 240),
        ),
        ("old.avi", "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -f lavfi -i sine=d=2 -c:v mpeg4 -c:a mp2", (320, 240)),
        ("old.flv", "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v flv1", (320, 240)),
        ("phone.mov", "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264 -preset ultrafast", (320, 240)),
        (
            "fragments.mp4",
            "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264 -preset ultrafast -movflags empty_moov+frag_keyframe",
            (320, 240),
        ),
        ("live.webm", "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libvpx -deadline realtime -live 1", (320, 240)),
        ("many-frames.mp4", "-f lavfi -i testsrc2=s=320x240:r=240:d=2 -c:v libx264 -preset ultrafast", (320, 240)),
        ("one-frame.mp4", "-f lavfi -i testsrc2=s=320x240:r=25 -frames:v 1 -c:v libx264 -preset ultrafast", (320, 240)),
    ];
    for (name, arguments, (width, height)) in sources {
        let case = MediaHarness::new(h.transcoder.clone());
        let input = make_source(&case, name, arguments);
        let info = case.probe(&input).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((Some(width), Some(height)), (info.width, info.height), "{name}");
        let made = make_all(&case, &input, &info).await.remove(0);
        check_hls(&made, if name == "one-frame.mp4" { 0.04 } else { 2.0 });
        let rate = field(&made.folder.join("index.m3u8"), "stream=avg_frame_rate");
        assert_ne!("240/1", rate, "{name}");
    }
}

#[tokio::test]
async fn cover_art_is_neither_video_nor_taken_for_it() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let cover = make_source(&h, "cover.jpg", "-f lavfi -i testsrc2=s=64x64 -frames:v 1");
    let cover = cover.to_str().expect("the folder's name is text");
    let (sound, video) = (fixture("audio-only.mp4"), fixture("landscape.mp4"));
    let attach = |first: &Path| format!("-i {} -i {cover} -map 0 -map 1 -c copy -disposition:v:", first.display());

    let song = make_source(&h, "song.mp4", &format!("{}0 attached_pic", attach(&sound)));
    assert!(matches!(h.probe(&song).await, Err(MediaError::Unacceptable { .. })));

    let film = make_source(&h, "film.mp4", &format!("{}1 attached_pic", attach(&video)));
    let info = h.probe(&film).await.expect("there is a video beside the cover");
    assert_eq!((Some(640), Some(360)), (info.width, info.height));
    check_hls(&make_all(&h, &film, &info).await.remove(0), 5.0);
}

#[tokio::test]
async fn a_source_beyond_the_limits_is_refused_before_it_is_decoded() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let bomb = make_source(&h, "bomb.mov", "-f lavfi -i color=s=8000x8000:d=0.04:r=25 -c:v png -pix_fmt gray");
    assert!(bomb.metadata().expect("it was made").len() < 200_000);
    let refused = h.probe(&bomb).await.expect_err("64 million pixels are too many");
    assert_eq!("The picture of 8000x8000 pixels is larger than this server accepts.", refused.to_string());

    let settings = MediaSettings { max_duration_s: 4, ..MediaSettings::default() };
    let strict = FfmpegTranscoder::detect(&settings, Arc::new(SystemClock::new())).await.expect("ffmpeg was found");
    let strict = MediaHarness::new(Arc::new(strict));
    assert!(strict.probe(&strict.input("no-audio.mp4")).await.is_ok());
    assert!(matches!(strict.probe(&strict.input("landscape.mp4")).await, Err(MediaError::Unacceptable { .. })));

    // One that does not say how long it is shows it while it is encoded.
    let live = make_source(
        &strict,
        "live.webm",
        "-f lavfi -i testsrc2=s=64x64:r=25:d=9 -c:v libvpx -deadline realtime -live 1",
    );
    let info = strict.probe(&live).await.expect("its length is not known");
    assert_eq!(None, info.duration_ms);
    let plan = strict.transcoder.plan(&info).remove(0);
    let encoded = strict.transcoder.encode(strict.request(&live, &info, &plan)).await;
    assert!(matches!(encoded, Err(MediaError::Unacceptable { .. })), "{encoded:?}");
}

#[tokio::test]
async fn media_that_cannot_be_decoded_is_refused_by_the_encoding() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let input = h.input("no-audio.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let mut bytes = fs::read(&input).expect("the copy is there");
    let media = bytes.windows(4).position(|word| word == b"mdat").expect("there is media") + 4;
    bytes[media..].fill(0xff);
    fs::write(&input, bytes).expect("the copy is writable");
    let plan = h.transcoder.plan(&info).remove(0);
    let encoded = h.transcoder.encode(h.request(&input, &info, &plan)).await;
    assert!(matches!(&encoded, Err(MediaError::Unacceptable { reason }) if reason.ends_with('.')), "{encoded:?}");
}

#[tokio::test]
async fn a_rendition_with_a_cut_or_missing_segment_is_not_taken_for_whole() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let input = h.input("landscape.mp4");
    let info = h.probe(&input).await.expect("the fixture is a video");
    let made = make_all(&h, &input, &info).await.remove(0);
    let (read_back, _) = hls::read_back(&made.folder).expect("it is whole");
    assert_eq!(made.encoded, read_back);

    let segment = made.folder.join("seg_00000.m4s");
    let bytes = fs::read(&segment).expect("the segment is there");
    fs::write(&segment, &bytes[..bytes.len() - 1]).expect("writable");
    assert!(matches!(hls::read_back(&made.folder), Err(HlsError::Cut(name)) if name == "seg_00000.m4s"));
    fs::remove_file(&segment).expect("it is there");
    assert!(matches!(hls::read_back(&made.folder), Err(HlsError::Missing(name)) if name == "seg_00000.m4s"));
}

#[tokio::test]
async fn a_playlist_under_a_videos_name_opens_no_file_and_no_socket() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    let address = listener.local_addr().expect("a bound port");
    let canary = h.folder.path().join("canary.ts");
    fs::rename(make_source(&h, "made.ts", "-f lavfi -i testsrc2=s=64x64:d=2 -c:v libx264"), &canary)
        .expect("one folder");
    let entries =
        [format!("file:{}", canary.display()), canary.display().to_string(), format!("http://{address}/x.ts")];
    let playlist = entries.iter().map(|entry| format!("#EXTINF:2.0,\n{entry}\n")).collect::<String>();
    let input = h.folder.path().join("source.mp4");
    fs::write(&input, format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{playlist}#EXT-X-ENDLIST\n")).expect("writable");

    assert!(matches!(h.probe(&input).await, Err(MediaError::Unacceptable { .. })));
    let info = h.probe(&h.input("no-audio.mp4")).await.expect("the fixture is a video");
    let plan = h.transcoder.plan(&info).remove(0);
    let request = h.request(&input, &info, &plan);
    let output = request.output.clone();
    assert!(matches!(h.transcoder.encode(request).await, Err(MediaError::Unacceptable { .. })));
    assert_eq!(0, fs::read_dir(output).expect("the folder is there").count());
    assert!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn a_program_that_is_not_ffmpeg_is_not_taken_for_it() {
    for program in ["/no/such/program", "false"] {
        let settings = MediaSettings { ffmpeg: program.into(), ffprobe: program.into(), ..MediaSettings::default() };
        let detected = FfmpegTranscoder::detect(&settings, Arc::new(SystemClock::new())).await;
        assert!(matches!(detected, Err(MediaError::Failed { .. })), "{program}");
    }
}

#[tokio::test]
async fn every_sandbox_layer_is_either_active_or_reported_absent() {
    let Some(_) = MediaHarness::ffmpeg().await else { return };
    let settings = MediaSettings::default();
    let ffmpeg = FfmpegTranscoder::detect(&settings, Arc::new(SystemClock::new())).await.expect("ffmpeg was found");
    let sandbox = ffmpeg.sandbox();
    assert_eq!(3, sandbox.layers().len() + sandbox.absent().len());
    assert!(sandbox.absent().iter().all(|layer| !sandbox.layers().contains(layer)));
    assert_eq!(
        Some(OsStr::new("x")),
        sandbox.command_line("x".as_ref(), Vec::new()).last().map(|word| word.as_os_str())
    );
    assert!(ffmpeg.version().starts_with("ffmpeg version"));
}
