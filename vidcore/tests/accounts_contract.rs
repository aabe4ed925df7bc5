//! Every account store keeps its contract: one line per back end.

#![cfg(all(feature = "testkit", feature = "sqlite"))]

use vidcore::account_store_contract;
use vidcore::testkit::accounts::AccountHarness;

account_store_contract!(sqlite, AccountHarness::sqlite());
