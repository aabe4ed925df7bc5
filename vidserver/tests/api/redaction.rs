//! What differs from run to run, replaced by what it is.

use serde_json::Value;

/// Members whose text is drawn at random or holds what is.
const RANDOM: [&str; 6] = ["access_token", "refresh_token", "request_id", "kid", "x", "next_cursor"];

/// The prefixes of ids.
const IDS: [&str; 7] = ["user_", "session_", "video_", "source_", "rendition_", "upload_", "job_"];

/// Characters of an id behind its prefix.
const ID_LEN: usize = 26;

pub(crate) fn redacted(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(_) if RANDOM.contains(&name.as_str()) => {
                    let value = Value::String(format!("[{name}]"));
                    (name, value)
                }
                value => (name, redacted(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        Value::String(text) => Value::String(without_grants(without_ids(text))),
        value => value,
    }
}

fn without_ids(mut text: String) -> String {
    for prefix in IDS {
        let mut from = 0;
        while let Some(start) = text[from..].find(prefix).map(|start| start + from) {
            let end = start + prefix.len() + ID_LEN;
            let is_id = text.get(start + prefix.len()..end);
            if is_id.is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())) {
                text.replace_range(start..end, &format!("[{}]", prefix.trim_end_matches('_')));
            }
            from = start + 1;
        }
    }
    text
}

/// Signed queries of uploads and tokens of playback paths.
fn without_grants(text: String) -> String {
    if let Some((path, _)) = text.split_once("/bytes?") {
        return format!("{path}/bytes?[signature]");
    }
    match text.split_once("/playback/") {
        Some((base, rest)) if !rest.starts_with("public/") => {
            let file = rest.split_once('/').map_or("", |(_, file)| file);
            format!("{base}/playback/[token]/{file}")
        }
        _ => text,
    }
}
