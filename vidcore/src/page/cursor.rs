//! Cursors: where a page ended, as opaque text that only the same list accepts.
//!
//! A cursor is base64url without padding of kind (1 byte), key id (4), position (24; 4 for an offset,
//! 12 for a rank) and the first 16 bytes of an HMAC-SHA-256 over kind, binding and position. It is
//! authenticated, not encrypted: it says no more than the item it was made from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::keys::{KeyId, KeyRing, Purpose};
use crate::page::{Position, Rank};

/// Bytes kept of the MAC.
const MAC_LEN: usize = 16;

/// No cursor is longer than this many characters; longer text is refused before it is decoded.
const MAX_LEN: usize = 60;

/// The first byte of a keyset cursor; with [`OFFSET`] also the version of the format.
const KEYSET: u8 = 1;

/// The first byte of an offset cursor.
const OFFSET: u8 = 2;

/// The first byte of a cursor into a snapshot.
const RANK: u8 = 3;

/// A cursor that was changed, made for another list, filter, scope or kind, or whose key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor does not belong to this list")]
pub struct BadCursor;

/// Makes and reads the cursors of every list.
///
/// `binding` names what the cursor belongs to: the list, its filter and sort, and its scope (public,
/// or the owner), for example `videos?owner=user_…&scope=own`. A cursor opens only under the very
/// binding it was sealed with; it grants nothing, so rights are checked again on each page.
#[derive(Debug, Clone)]
pub struct CursorCodec {
    keys: KeyRing,
}

impl CursorCodec {
    /// A codec over the keys of [`Purpose::Cursor`].
    pub fn new(keys: KeyRing) -> Self {
        Self { keys }
    }

    /// The cursor for the page after `position`: 60 characters of the base64url alphabet.
    pub fn seal(&self, binding: &str, position: &Position) -> String {
        let mut body = [0; 24];
        body[..8].copy_from_slice(&position.sort.to_be_bytes());
        body[8..].copy_from_slice(&position.id);
        self.seal_kind(KEYSET, binding, &body)
    }

    /// Where the page that `cursor` was handed out with ended.
    ///
    /// # Errors
    /// [`BadCursor`] for any text that [`seal`](Self::seal) did not make under this binding.
    pub fn open(&self, binding: &str, cursor: &str) -> Result<Position, BadCursor> {
        let body: [u8; 24] = self.open_kind(KEYSET, binding, cursor)?;
        let (sort, id) = body.split_first_chunk::<8>().ok_or(BadCursor)?;
        Ok(Position { sort: i64::from_be_bytes(*sort), id: id.try_into().map_err(|_| BadCursor)? })
    }

    /// A cursor that counts items instead, for lists ranked by relevance: the next page starts after
    /// `offset` items. Never accepted where a keyset cursor is wanted.
    pub fn seal_offset(&self, binding: &str, offset: u32) -> String {
        self.seal_kind(OFFSET, binding, &offset.to_be_bytes())
    }

    /// How many items come before the next page.
    ///
    /// # Errors
    /// [`BadCursor`] for any text that [`seal_offset`](Self::seal_offset) did not make under this binding.
    pub fn open_offset(&self, binding: &str, cursor: &str) -> Result<u32, BadCursor> {
        self.open_kind(OFFSET, binding, cursor).map(u32::from_be_bytes)
    }

    /// A cursor into a list that was put in order once and is kept so: the next page starts at `rank`.
    pub fn seal_rank(&self, binding: &str, rank: &Rank) -> String {
        let mut body = [0; 12];
        body[..8].copy_from_slice(&rank.snapshot.to_be_bytes());
        body[8..].copy_from_slice(&rank.rank.to_be_bytes());
        self.seal_kind(RANK, binding, &body)
    }

    /// Where the next page of a snapshot starts.
    ///
    /// # Errors
    /// [`BadCursor`] for any text that [`seal_rank`](Self::seal_rank) did not make under this binding.
    pub fn open_rank(&self, binding: &str, cursor: &str) -> Result<Rank, BadCursor> {
        let body: [u8; 12] = self.open_kind(RANK, binding, cursor)?;
        let (snapshot, rank) = body.split_first_chunk::<8>().ok_or(BadCursor)?;
        let rank = u32::from_be_bytes(rank.try_into().map_err(|_| BadCursor)?);
        Ok(Rank { snapshot: i64::from_be_bytes(*snapshot), rank })
    }

    fn seal_kind(&self, kind: u8, binding: &str, body: &[u8]) -> String {
        let (key, mac) = self.keys.mac(Purpose::Cursor, &[&[kind], binding.as_bytes(), body]);
        URL_SAFE_NO_PAD.encode([&[kind], &key.as_bytes()[..], body, &mac[..MAC_LEN]].concat())
    }

    fn open_kind<const N: usize>(&self, kind: u8, binding: &str, cursor: &str) -> Result<[u8; N], BadCursor> {
        if cursor.len() > MAX_LEN {
            return Err(BadCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| BadCursor)?;
        let (first, rest) = bytes.split_first().ok_or(BadCursor)?;
        let (key, rest) = rest.split_first_chunk::<{ KeyId::LEN }>().ok_or(BadCursor)?;
        let (body, mac) = rest.split_first_chunk::<N>().ok_or(BadCursor)?;
        let parts: [&[u8]; 3] = [&[kind], binding.as_bytes(), body];
        let is_ours = *first == kind
            && mac.len() == MAC_LEN
            && self.keys.verify_mac(Purpose::Cursor, KeyId::from_bytes(*key), &parts, mac);
        if is_ours { Ok(*body) } else { Err(BadCursor) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SeededEntropy;

    fn codec() -> CursorCodec {
        CursorCodec::new(KeyRing::ephemeral(Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1))))
    }

    #[test]
    fn a_cursor_of_one_kind_is_refused_as_the_other() {
        let codec = codec();
        let position = Position { sort: 1, id: [2; 16] };
        assert_eq!(Err(BadCursor), codec.open_offset("list", &codec.seal("list", &position)));
        assert_eq!(Err(BadCursor), codec.open("list", &codec.seal_offset("list", 20)));
        let ranked = codec.seal_rank("list", &Rank { snapshot: 1, rank: 20 });
        assert_eq!(Err(BadCursor), codec.open("list", &ranked));
        assert_eq!(Err(BadCursor), codec.open_offset("list", &ranked));
        assert_eq!(Err(BadCursor), codec.open_rank("list", &codec.seal_offset("list", 20)));
    }

    #[test]
    fn a_cursor_opens_under_its_own_binding_alone() {
        let codec = codec();
        let cursor = codec.seal_offset("search?q=cat", 20);
        assert_eq!(Ok(20), codec.open_offset("search?q=cat", &cursor));
        for other in ["search?q=dog", "search?q=ca", "", "search?q=cat "] {
            assert_eq!(Err(BadCursor), codec.open_offset(other, &cursor), "{other}");
        }
    }

    #[test]
    fn a_cursor_outlives_one_rotation_and_not_two() {
        let codec = codec();
        let cursor = codec.seal_offset("list", 20);
        codec.keys.rotate(Purpose::Cursor).expect("rotates");
        assert_eq!(Ok(20), codec.open_offset("list", &cursor));
        codec.keys.rotate(Purpose::Cursor).expect("rotates");
        assert_eq!(Err(BadCursor), codec.open_offset("list", &cursor));
    }

    proptest! {
        #[test]
        fn any_position_is_read_back(sort: i64, id: [u8; 16], offset: u32, binding: String) {
            let codec = codec();
            let position = Position { sort, id };
            prop_assert_eq!(Ok(position), codec.open(&binding, &codec.seal(&binding, &position)));
            prop_assert_eq!(Ok(offset), codec.open_offset(&binding, &codec.seal_offset(&binding, offset)));
            let rank = Rank { snapshot: sort, rank: offset };
            prop_assert_eq!(Ok(rank), codec.open_rank(&binding, &codec.seal_rank(&binding, &rank)));
        }

        #[test]
        fn a_cursor_with_any_character_changed_is_refused(
            at in 0_usize..60, with in proptest::char::range('!', '~'), sort: i64,
        ) {
            let codec = codec();
            let cursor = codec.seal("list", &Position { sort, id: [3; 16] });
            prop_assert_eq!(MAX_LEN, cursor.len());
            let mut changed: Vec<char> = cursor.chars().collect();
            prop_assume!(changed[at] != with);
            changed[at] = with;
            prop_assert_eq!(Err(BadCursor), codec.open("list", &changed.into_iter().collect::<String>()));
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let codec = codec();
            for text in [text, URL_SAFE_NO_PAD.encode(bytes)] {
                prop_assert_eq!(Err(BadCursor), codec.open("list", &text));
                prop_assert_eq!(Err(BadCursor), codec.open_offset("list", &text));
                prop_assert_eq!(Err(BadCursor), codec.open_rank("list", &text));
            }
        }
    }
}
