//! The claims about staging over every back end of objects.

use vidcore::testkit::objects::ObjectHarness;

vidcore::staging_contract!(files, super::ObjectHarness::local());
vidcore::staging_contract!(objects_in_memory, super::ObjectHarness::memory());
#[cfg(feature = "s3")]
vidcore::staging_contract!(s3, super::ObjectHarness::s3());
