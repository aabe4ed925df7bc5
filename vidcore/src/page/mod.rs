//! Keyset pages: a bounded slice of a sorted list and an opaque cursor to the next one.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

pub mod cursor;

pub use cursor::{BadCursor, CursorCodec};

/// The most items one page may hold.
pub const MAX_PAGE: u16 = 100;

/// One page of a list.
///
/// `next_cursor` is `None` on the last page. Cursors are opaque, authenticated and bound to the
/// list, its filter and its scope; a cursor of one list is refused by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items, in the list's order; between 0 and the limit asked for.
    pub items: Vec<T>,
    /// Pass this as `cursor` for the next page; `null` at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The same page with every item turned into another form.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

/// How many items a page may hold: 1 to [`MAX_PAGE`], 20 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(NonZeroU16);

impl PageLimit {
    /// A limit of `items`; `None` if that is 0 or above [`MAX_PAGE`].
    pub fn new(items: u16) -> Option<Self> {
        NonZeroU16::new(items).filter(|n| n.get() <= MAX_PAGE).map(Self)
    }

    /// The number of items.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(NonZeroU16::new(20).expect("20 is not zero"))
    }
}

/// Where a page ended in a list sorted by a number and, for equal numbers, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The sort column of the last item, for example `published_at` in milliseconds.
    pub sort: i64,
    /// The id of the last item, which breaks ties.
    pub id: [u8; 16],
}

/// Where a page of a list starts that was put in order once and is kept so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// The list as it was at one moment.
    pub snapshot: i64,
    /// How many of its places come before.
    pub rank: u32,
}
