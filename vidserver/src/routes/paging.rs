//! The query parameters of every list.

use garde::Validate;
use serde::Deserialize;
use utoipa::IntoParams;
use vidcore::page::PageLimit;

/// `limit` and `cursor`.
#[derive(Debug, Clone, Default, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Items per page, 1 to 100; 20 by default.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    #[garde(length(max = 200))]
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// The limit a request names, or 20.
pub fn limit(asked: Option<u16>) -> PageLimit {
    asked.and_then(PageLimit::new).unwrap_or_default()
}
