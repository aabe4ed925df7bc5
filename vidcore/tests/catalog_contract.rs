//! The catalog's claims over every back end.

use vidcore::testkit::videos::VideoHarness;

vidcore::catalog_store_contract!(sqlite, super::VideoHarness::sqlite());
