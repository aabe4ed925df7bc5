//! The contract of job stores, over every pairing of store and dispatcher there is.

#![cfg(all(feature = "sqlite", feature = "testkit"))]

use vidcore::testkit::jobs::{Dispatch, JobHarness};
use vidcore::{job_fleet_contract, job_store_contract};

job_store_contract!(sqlite_local, JobHarness::sqlite(Dispatch::Local));
job_store_contract!(sqlite_change_check, JobHarness::sqlite(Dispatch::ChangeCheck));
#[cfg(feature = "redis")]
job_store_contract!(sqlite_redis, JobHarness::sqlite(Dispatch::Redis));

mod between_processes {
    use super::*;

    job_fleet_contract!(sqlite_change_check, JobHarness::sqlite(Dispatch::ChangeCheck));
    #[cfg(feature = "redis")]
    job_fleet_contract!(sqlite_redis, JobHarness::sqlite(Dispatch::Redis));
}
