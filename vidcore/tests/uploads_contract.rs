//! The uploads' claims over every back end.

use vidcore::testkit::videos::VideoHarness;

vidcore::upload_store_contract!(sqlite, super::VideoHarness::sqlite());
