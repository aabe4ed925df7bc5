//! Identifiers: UUIDv7 (RFC 9562 §5.7) with fresh randomness, shown as [TypeID] text.
//!
//! In memory and in tables an id is 16 bytes; in JSON, URLs and logs it is a prefix that names the
//! kind of thing, an underscore and 26 characters of Crockford base32, for example
//! `video_01k2q0m3v5f3k8w4r6t2y9a7bc`. An id of one kind never parses as another.
//!
//! [TypeID]: https://github.com/jetify-com/typeid/tree/main/spec

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::entropy::Entropy;

/// Crockford's base32 alphabet in lower case, as the TypeID specification fixes it.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Length of the base32 part of an id: 26 characters carry 130 bits, the first two always zero.
const SUFFIX_LEN: usize = 26;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {expected} id")]
pub struct ParseIdError {
    /// The prefix that was wanted, such as `video`.
    pub expected: &'static str,
}

/// Draws a UUIDv7 whose time part is `now` and whose other 74 bits come from `entropy`.
pub fn new_uuid(now: Timestamp, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

fn encode(uuid: Uuid) -> String {
    let mut rest = uuid.as_u128();
    let mut text = [0; SUFFIX_LEN];
    for slot in text.iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    text.iter().copied().map(char::from).collect()
}

fn decode(text: &str) -> Option<Uuid> {
    // The first character carries only three bits: anything above '7' would overflow 128 bits.
    if text.len() != SUFFIX_LEN || !(b'0'..=b'7').contains(&text.as_bytes()[0]) {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|&c| c == byte)?;
        value = (value << 5) | digit as u128;
    }
    Some(Uuid::from_u128(value))
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The text before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id made at `now`.
            pub fn new(now: Timestamp, entropy: &dyn Entropy) -> Self {
                Self(new_uuid(now, entropy))
            }

            /// The 16 bytes of the id, most significant first: what tables store.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these 16 bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(|rest| rest.strip_prefix('_'))
                    .and_then(decode)
                    .map(Self)
                    .ok_or(ParseIdError { expected: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .examples([concat!($prefix, "_01k2q0m3v5f3k8w4r6t2y9a7bc")])
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    };
}

typed_id!(
    /// A user account, `user_…`.
    UserId, "user"
);
typed_id!(
    /// A refresh family: one sign-in on one device, `session_…`.
    SessionId, "session"
);
typed_id!(
    /// A video in the catalog, `video_…`.
    VideoId, "video"
);
typed_id!(
    /// One file a video was made from, `source_…`.
    SourceId, "source"
);
typed_id!(
    /// One playable form of a source, `rendition_…`.
    RenditionId, "rendition"
);
typed_id!(
    /// One attempt of a client to bring bytes, `upload_…`.
    UploadId, "upload"
);
typed_id!(
    /// A background job, `job_…`.
    JobId, "job"
);
typed_id!(
    /// Jobs whose last to end is followed by another, `group_…`.
    JobGroupId, "group"
);

#[cfg(test)]
mod tests {
    use super::*;

    // From the "valid" vectors of the TypeID specification.
    #[test]
    fn base32_agrees_with_the_typeid_vectors() {
        for (text, uuid) in [
            ("00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
            ("0000000000000000000000000a", "00000000-0000-0000-0000-00000000000a"),
            ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            ("0123456789abcdefghjkmnpqrs", "0110c853-1d09-52d8-d73e-1194e95b5f19"),
            ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ] {
            let uuid: Uuid = uuid.parse().expect("a vector is a uuid");
            assert_eq!(text, encode(uuid));
            assert_eq!(Some(uuid), decode(text));
        }
    }

    #[test]
    fn an_id_of_another_kind_or_shape_is_refused() {
        let id = VideoId::from_bytes([7; 16]).to_string();
        assert!(id.parse::<VideoId>().is_ok());
        assert!(id.parse::<UserId>().is_err());
        for bad in ["", "video", "video_", "video_8zzzzzzzzzzzzzzzzzzzzzzzzz", "video_00000000000000000000000000\n"] {
            assert!(bad.parse::<VideoId>().is_err(), "{bad:?}");
        }
        assert!(id.to_uppercase().parse::<VideoId>().is_err());
        assert!("video_0é000000000000000000000000".parse::<VideoId>().is_err());
    }
}
