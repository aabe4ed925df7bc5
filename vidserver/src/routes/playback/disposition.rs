//! `Content-Disposition` (RFC 6266) for a file that is called like a video: safe whatever the title is.

use http::HeaderValue;

/// Characters of a title that a file's name keeps.
const MAX_CHARS: usize = 100;

/// What a file is called if nothing of its title is left.
const UNNAMED: &str = "video";

/// `attachment`, with a name for clients that read UTF-8 and one for those that do not.
pub(crate) fn attachment(title: &str, media_type: Option<&str>) -> HeaderValue {
    let ending = format!(".{}", extension(media_type));
    let stem = stem(title);
    // Drafts are named after files.
    let name = format!("{}{ending}", stem.strip_suffix(&ending).filter(|stem| !stem.is_empty()).unwrap_or(&stem));
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let encoded: String = name.bytes().map(encode).collect();
    let text = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"))
}

/// Without what a file system, a shell, a reader or a header could take for something else.
fn stem(title: &str) -> String {
    let kept = title.chars().map(|c| if is_harmless(c) { c } else { ' ' });
    let words: Vec<String> = kept.take(MAX_CHARS).collect::<String>().split_whitespace().map(str::to_owned).collect();
    let name = words.join(" ");
    let name = name.trim_matches(['.', ' ', '-']);
    if name.is_empty() { UNNAMED.to_owned() } else { name.to_owned() }
}

fn is_harmless(c: char) -> bool {
    let is_reserved =
        matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '%' | ';' | '\'' | '`' | '$' | '~');
    // Marks that turn text around hide what a name ends with.
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !is_reserved && !turns
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-' | '_' | '(' | ')' | ',' | '!' | '+')
}

/// `attr-char` of RFC 8187 §3.2.1 as it is, everything else in percent.
fn encode(byte: u8) -> String {
    let is_plain = byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte);
    if is_plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// By the type that was found in the bytes, never by what somebody called the file.
fn extension(media_type: Option<&str>) -> &'static str {
    match media_type.unwrap_or_default() {
        "video/quicktime" => "mov",
        "video/x-matroska" => "mkv",
        "video/webm" => "webm",
        "video/x-msvideo" => "avi",
        "video/mp2t" => "ts",
        "video/x-flv" => "flv",
        "video/mp4" => "mp4",
        _ => "bin",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(title: &str) -> String {
        attachment(title, Some("video/mp4")).to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn a_title_becomes_a_name_in_two_spellings() {
        assert_eq!("attachment; filename=\"A film.mp4\"; filename*=UTF-8''A%20film.mp4", text("A film"));
        assert_eq!("attachment; filename=\"a.mp4\"; filename*=UTF-8''a.mp4", text("a.mp4"));
        assert_eq!("attachment; filename=\"_t_.mp4\"; filename*=UTF-8''%C3%A9t%C3%A9.mp4", text("été"));
    }

    #[test]
    fn nothing_of_a_title_breaks_out_of_its_place() {
        for (title, name) in [
            ("", "video.mp4"),
            ("...", "video.mp4"),
            ("../../etc/passwd", "etc passwd.mp4"),
            ("a\"; filename=\"b.exe", "a filename= b.exe.mp4"),
            ("a\r\nset-cookie: x=1", "a set-cookie x=1.mp4"),
            ("movie\u{202e}4pm.exe", "movie 4pm.exe.mp4"),
            ("-rf", "rf.mp4"),
        ] {
            assert_eq!(name, format!("{}.mp4", stem(title)), "{title}");
        }
    }

    proptest! {
        #[test]
        fn any_title_gives_a_header_of_two_names(title in any::<String>()) {
            let text = text(&title);
            prop_assert!(text.starts_with("attachment; filename=\""), "{text}");
            prop_assert_eq!(2, text.matches('"').count());
            prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert!(text.len() < 1500);
        }
    }
}
