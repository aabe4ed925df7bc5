//! The renditions' claims over every back end.

use vidcore::testkit::videos::VideoHarness;

vidcore::rendition_store_contract!(sqlite, super::VideoHarness::sqlite());
