//! The contract of news between processes, over every back end there is.

#![cfg(all(feature = "sqlite", feature = "testkit"))]

use vidcore::notify_contract;
use vidcore::testkit::notify::NotifyHarness;

notify_contract!(local, NotifyHarness::local());
notify_contract!(sqlite_change_check, NotifyHarness::sqlite_change_check());
#[cfg(feature = "redis")]
notify_contract!(redis, NotifyHarness::redis());
#[cfg(feature = "redis")]
notify_contract!(sqlite_beside_redis, NotifyHarness::sqlite_beside_redis());
