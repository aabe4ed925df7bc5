//! The contract of job stores, over every back end there is.

#![cfg(all(feature = "sqlite", feature = "testkit"))]

use vidcore::job_store_contract;
use vidcore::testkit::jobs::{Dispatch, JobHarness};

job_store_contract!(sqlite_local, JobHarness::sqlite(Dispatch::Local));
