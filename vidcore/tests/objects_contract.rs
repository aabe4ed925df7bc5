//! The objects' claims over every back end.

use vidcore::testkit::objects::ObjectHarness;

vidcore::objects_contract!(local, super::ObjectHarness::local());
vidcore::objects_contract!(memory, super::ObjectHarness::memory());
