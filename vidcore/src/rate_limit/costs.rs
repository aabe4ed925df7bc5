//! Calls that count for more than one.

use crate::platform::settings::CostSettings;
use crate::rate_limit::RouteClass;

/// A kind of call whose cost the settings name; every other call costs 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostlyCall {
    /// Asks for a video to be processed again: minutes of a worker.
    ProcessVideo,
    /// Asks for a later page of a search: all pages before it are found again.
    SearchFurther,
}

impl CostlyCall {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::ProcessVideo, Self::SearchFurther];

    /// The name of its setting in `rate_limits.costs`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProcessVideo => "process_video",
            Self::SearchFurther => "search_further",
        }
    }

    /// The class whose budgets it takes from.
    pub fn class(self) -> RouteClass {
        match self {
            Self::ProcessVideo => RouteClass::Write,
            Self::SearchFurther => RouteClass::Search,
        }
    }

    /// What it costs by `settings`.
    pub fn cost(self, settings: &CostSettings) -> u32 {
        match self {
            Self::ProcessVideo => settings.process_video,
            Self::SearchFurther => settings.search_further,
        }
    }
}
