//! Rate limits: the contract on every back end, the limiter's choice of policies, client addresses.

#![cfg(feature = "testkit")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use vidcore::clock::ManualClock;
use vidcore::id::UserId;
use vidcore::platform::settings::{CostSettings, LimitSettings, RateLimitSettings};
use vidcore::rate_limit::{
    AccountSubject, CostlyCall, IpSubject, LimitConfigError, LimitError, Limiter, MemoryRateLimit, RateLimit,
    RouteClass, Subject, SubjectKind, TrustedProxies,
};
use vidcore::testkit::rate_limit::{RateLimitHarness, budget, policy, replay, user};

vidcore::rate_limit_contract!(memory, async { Some(memory_harness()) });
vidcore::rate_limit_contract!(fallback_to_all_of_memory, async { Some(fallback::harness(&fallback::away())) });

mod client_address;
mod fallback;
#[cfg(all(feature = "sqlite", feature = "redis"))]
mod redis;

fn memory_harness() -> RateLimitHarness {
    RateLimitHarness::of_one_process(|clock| Arc::new(MemoryRateLimit::new(clock)))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn address(n: u32) -> Subject {
    Subject::Address(IpSubject::from(IpAddr::from(n.to_be_bytes())))
}

proptest! {
    #[test]
    fn any_traffic_is_decided_as_by_the_slow_reference(
        (limit, burst) in (2_u32..50).prop_flat_map(|limit| (Just(limit), 1..limit)),
        window_s in 1_u64..100,
        calls in proptest::collection::vec((0_u64..5_000_000_000, any::<prop::sample::Index>()), 1..120),
    ) {
        let policy = policy("write.user", limit, window_s, burst);
        let schedule: Vec<_> = calls
            .iter()
            .map(|(nanos, cost)| (Duration::from_nanos(*nanos), 1 + cost.index(burst as usize) as u32))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(replay(&memory_harness(), &policy, &user(1), &schedule));
    }
}

#[tokio::test]
async fn subjects_whose_budget_is_full_are_forgotten() {
    let clock = ManualClock::default();
    let limits = MemoryRateLimit::new(Arc::new(clock.clone()));
    let policy = policy("read.address", 100, 60, 50);
    for round in 0..20 {
        for n in 0..1000 {
            limits.check(&[budget(&address(round * 1000 + n), &policy)], 1).await.expect("answers");
        }
        clock.advance(Duration::from_secs(60));
    }
    assert!(limits.subjects(&policy) < 4000, "{} of 20,000 are kept", limits.subjects(&policy));
}

#[tokio::test]
async fn a_flood_of_subjects_does_not_grow_memory_without_bound_or_lift_a_limit() {
    let clock = ManualClock::default();
    let limits = MemoryRateLimit::with_max_subjects(Arc::new(clock.clone()), 1000);
    let policy = policy("read.address", 10, 3600, 5);
    let veteran = address(u32::MAX);
    limits.check(&[budget(&veteran, &policy)], 1).await.expect("answers");
    for n in 0..10_000 {
        limits.check(&[budget(&address(n), &policy)], 1).await.expect("answers");
    }
    // 256 checks may pass between two looks at the number, and 256 budgets are shared.
    assert!(limits.subjects(&policy) <= 1000 + 256 + 256);
    assert_eq!(4, limits.state(&[budget(&veteran, &policy)]).await.expect("answers")[0].remaining);
    assert!(!limits.check(&[budget(&address(20_000), &policy)], 5).await.expect("answers").allowed);
}

#[tokio::test]
async fn a_subject_that_had_to_share_does_not_get_a_fresh_burst_afterwards() {
    let clock = ManualClock::default();
    let limits = MemoryRateLimit::with_max_subjects(Arc::new(clock.clone()), 1000);
    let policy = policy("read.address", 10, 3600, 5);
    for n in 0..3000 {
        limits.check(&[budget(&address(n), &policy)], 1).await.expect("answers");
    }
    // A budget goes one period after it is whole again: what took one call has gone, what was shared
    // was taken from often and has not.
    clock.advance(Duration::from_secs(2 * 720));
    for _ in 0..512 {
        limits.state(&[budget(&address(0), &policy)]).await.expect("answers");
        limits.check(&[budget(&address(1), &policy)], 1).await.expect("answers");
    }
    assert!(limits.subjects(&policy) < 1000);
    let late = limits.state(&[budget(&address(2999), &policy)]).await.expect("answers");
    assert!(late[0].remaining < 5, "a newcomer starts with what its shared budget has left");
}

#[test]
fn addresses_are_counted_by_network() {
    let same = [("192.0.2.7", "::ffff:192.0.2.7"), ("2001:db8::1", "2001:db8::ffff:1:2:3")];
    for (a, b) in same {
        assert_eq!(IpSubject::from(ip(a)), IpSubject::from(ip(b)));
    }
    assert_ne!(IpSubject::from(ip("192.0.2.7")), IpSubject::from(ip("192.0.2.8")));
    assert_ne!(IpSubject::from(ip("2001:db8::1")), IpSubject::from(ip("2001:db8:0:1::1")));
}

/// These policies, where every call costs 1; the others are written to be unlimited.
fn settings(policies: &[(&str, u32, u64, u32)]) -> RateLimitSettings {
    let mut settings = RateLimitSettings::unlimited();
    settings.costs = CostSettings { process_video: 1, search_further: 1 };
    settings.policies.extend(policies.iter().map(|(name, limit, window_s, burst)| {
        let limit = LimitSettings { limit: *limit, window_s: *window_s, burst: *burst };
        ((*name).to_owned(), limit.into())
    }));
    settings
}

fn limiter(policies: &[(&str, u32, u64, u32)]) -> Limiter {
    let limits = MemoryRateLimit::new(Arc::new(ManualClock::default()));
    Limiter::new(Arc::new(limits), &settings(policies)).expect("valid settings")
}

fn ada() -> Option<UserId> {
    Some(UserId::from_bytes([1; 16]))
}

#[test]
fn the_default_settings_are_valid_and_hold_a_hundred_writes_an_hour() {
    let limits = MemoryRateLimit::new(Arc::new(ManualClock::default()));
    let limiter = Limiter::new(Arc::new(limits), &RateLimitSettings::default()).expect("the defaults are valid");
    let write = limiter.policies().find(|(class, kind, _)| (*class, *kind) == (RouteClass::Write, SubjectKind::User));
    let (_, _, write) = write.expect("there is a policy for writes");
    assert_eq!((100, 3600, 20), (write.limit(), write.window().as_secs(), write.burst()));
}

#[test]
fn every_problem_of_the_settings_is_named_at_once() {
    let wrong = ["wrote.user", "read.robot", "read", "login.user", "write.account"].map(|name| (name, 5, 60, 1));
    let mut settings = settings(&[wrong.as_slice(), &[("write.user", 5, 60, 9)]].concat());
    settings.trusted_proxies = vec!["10.0.0.0/33".to_owned(), "10.0.0.0/8".to_owned()];
    let error = Limiter::new(Arc::new(MemoryRateLimit::new(Arc::new(ManualClock::default()))), &settings);
    let Err(LimitConfigError { problems }) = error else { panic!("the settings are refused") };
    assert_eq!(7, problems.len(), "{problems:?}");
    for name in ["write.user", "wrote.user", "read.robot", "read", "login.user", "write.account", "10.0.0.0/33"] {
        assert!(problems.iter().any(|problem| problem.contains(name)), "{name}: {problems:?}");
    }
}

#[test]
fn a_cost_no_policy_of_the_class_can_admit_is_refused_at_start() {
    let limiter = limiter(&[("write.user", 10, 60, 5), ("write.address", 100, 60, 50)]);
    assert!(limiter.require_cost(RouteClass::Write, 5).is_ok());
    assert!(matches!(limiter.require_cost(RouteClass::Write, 6), Err(LimitError::CostAboveBurst { burst: 5, .. })));
    assert!(limiter.require_cost(RouteClass::Read, 1000).is_ok());
    assert_eq!(1, limiter.cost(CostlyCall::ProcessVideo));

    for (process_video, wrong) in [(1, false), (5, false), (0, true), (6, true)] {
        let mut settings = settings(&[("write.user", 10, 60, 5)]);
        settings.costs.process_video = process_video;
        let limits = Arc::new(MemoryRateLimit::new(Arc::new(ManualClock::default())));
        let problems = Limiter::new(limits, &settings).err().map(|error| error.problems).unwrap_or_default();
        assert_eq!(wrong, problems.iter().any(|problem| problem.starts_with("costs.process_video: ")), "{problems:?}");
    }
}

#[tokio::test]
async fn only_what_is_written_to_be_unlimited_is_not_limited() {
    let limiter = limiter(&[("write.user", 10, 60, 5)]);
    assert_eq!(None, limiter.check(RouteClass::Read, ada(), ip("192.0.2.1"), 1).await.expect("answers"));
    assert_eq!(None, limiter.check(RouteClass::Write, None, ip("192.0.2.1"), 1).await.expect("answers"));

    let silent = RateLimitSettings { policies: BTreeMap::new(), ..RateLimitSettings::default() };
    let limits = Arc::new(MemoryRateLimit::new(Arc::new(ManualClock::default())));
    let limiter = Limiter::new(limits, &silent).expect("valid settings");
    let decision = limiter.check(RouteClass::Write, ada(), ip("192.0.2.1"), 1).await.expect("answers");
    assert_eq!(Some(100), decision.map(|decision| decision.limit()));
}

#[tokio::test]
async fn a_user_over_the_limit_takes_nothing_from_a_shared_address() {
    let limiter = limiter(&[("write.user", 10, 60, 2), ("write.address", 100, 60, 50)]);
    for round in 0..10 {
        let decision =
            limiter.check(RouteClass::Write, ada(), ip("192.0.2.1"), 1).await.expect("answers").expect("limited");
        assert_eq!(round < 2, decision.allowed);
        assert_eq!("write.user", decision.policy.name());
    }
    let state = limiter.state(None, ip("192.0.2.1")).await.expect("answers");
    assert_eq!(48, state[0].remaining);
}

#[tokio::test]
async fn many_users_of_one_address_share_its_limit() {
    let limiter = limiter(&[("write.user", 10, 60, 5), ("write.address", 100, 60, 8)]);
    let mut admitted = 0;
    for n in 0..20 {
        let user = Some(UserId::from_bytes([n; 16]));
        let decision = limiter.check(RouteClass::Write, user, ip("192.0.2.1"), 1).await.expect("answers");
        admitted += u32::from(decision.expect("limited").allowed);
    }
    assert_eq!(8, admitted);
}

#[tokio::test]
async fn the_state_names_every_policy_of_the_caller() {
    let limiter = limiter(&[("write.user", 10, 60, 5), ("read.address", 10, 60, 5), ("upload.user", 10, 60, 5)]);
    limiter.check(RouteClass::Write, ada(), ip("192.0.2.1"), 2).await.expect("answers");
    let state = limiter.state(ada(), ip("192.0.2.1")).await.expect("answers");
    let numbers: Vec<_> = state.iter().map(|state| (state.policy.name(), state.remaining)).collect();
    assert_eq!(vec![("read.address", 5), ("upload.user", 5), ("write.user", 3)], numbers);
}

fn account(n: u8) -> AccountSubject {
    AccountSubject::from_hash([n; 16])
}

async fn may_sign_in(limiter: &Limiter, account: AccountSubject, address: &str) -> bool {
    let decision = limiter.check_login(account, ip(address)).await.expect("answers");
    decision.is_none_or(|decision| decision.allowed)
}

#[tokio::test]
async fn guesses_at_one_account_are_counted_together_wherever_they_come_from() {
    let limiter = limiter(&[("login.account", 10, 600, 5)]);
    for n in 0..10 {
        assert_eq!(n < 5, may_sign_in(&limiter, account(1), &format!("198.51.100.{n}")).await);
    }
    assert!(may_sign_in(&limiter, account(2), "198.51.100.0").await);
}

#[tokio::test]
async fn an_attacker_cannot_lock_the_owner_out_of_a_familiar_address() {
    let limiter = limiter(&[("login.account", 10, 600, 5), ("login.familiar", 10, 600, 5)]);
    limiter.remember_login(account(1), ip("2001:db8::1")).await;
    for n in 0..100 {
        may_sign_in(&limiter, account(1), &format!("198.51.100.{n}")).await;
    }
    // Anywhere in the owner's network, and nowhere else; and what the owner may is bounded as well.
    assert!(!may_sign_in(&limiter, account(1), "2001:db8:0:1::1").await);
    for n in 0..10 {
        assert_eq!(n < 5, may_sign_in(&limiter, account(1), &format!("2001:db8::{n}")).await);
    }
}

#[tokio::test]
async fn a_locked_account_opens_again_within_minutes() {
    let clock = ManualClock::default();
    let limits = Arc::new(MemoryRateLimit::new(Arc::new(clock.clone())));
    let limiter = Limiter::new(limits, &RateLimitSettings::default()).expect("the defaults are valid");
    for _ in 0..100 {
        may_sign_in(&limiter, account(1), "198.51.100.1").await;
    }
    let refused = limiter.check_login(account(1), ip("198.51.100.2")).await.expect("answers").expect("limited");
    let wait = refused.retry_after.expect("a refusal says when");
    assert!(!refused.allowed && wait <= Duration::from_secs(120), "{wait:?}");
    clock.advance(wait);
    assert!(may_sign_in(&limiter, account(1), "198.51.100.2").await);
}

#[tokio::test]
async fn an_address_stays_familiar_for_ninety_days() {
    let clock = ManualClock::default();
    let limits = Arc::new(MemoryRateLimit::new(Arc::new(clock.clone())));
    let limiter = Limiter::new(limits, &settings(&[("login.account", 2, 60, 1), ("login.familiar", 50, 60, 5)]));
    let limiter = limiter.expect("valid settings");
    limiter.remember_login(account(1), ip("192.0.2.1")).await;
    limiter.remember_login(account(1), ip("192.0.2.1")).await;
    clock.advance(Duration::from_secs(90 * 86_400 - 1));
    for _ in 0..5 {
        assert!(may_sign_in(&limiter, account(1), "192.0.2.1").await);
    }
    clock.advance(Duration::from_secs(1));
    assert!(may_sign_in(&limiter, account(1), "192.0.2.1").await);
    assert!(!may_sign_in(&limiter, account(1), "192.0.2.1").await);
}

#[tokio::test]
async fn registrations_of_one_account_are_counted_together() {
    let limiter = limiter(&[("register.account", 10, 600, 5)]);
    for n in 0..10 {
        let decision = limiter.check_register(account(1)).await.expect("answers").expect("limited");
        assert_eq!((n < 5, "register.account"), (decision.allowed, decision.policy.name()));
    }
}

fn proxies(texts: &[&str]) -> TrustedProxies {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let (proxies, problems) = TrustedProxies::parse_all(&texts);
    assert!(problems.is_empty(), "{problems:?}");
    proxies
}

#[test]
fn headers_from_an_untrusted_peer_are_ignored() {
    let peer = ip("203.0.113.9");
    for trusted in [TrustedProxies::default(), proxies(&["10.0.0.0/8"])] {
        assert_eq!(peer, trusted.client_address(peer, &["for=1.1.1.1"], &["1.1.1.1"]));
    }
}

#[test]
fn an_address_the_client_made_up_on_the_left_is_not_reached() {
    let trusted = proxies(&["10.0.0.0/8", "fd00::/8"]);
    let client = |forwarded: &[&str], custom: &[&str]| trusted.client_address(ip("10.0.0.1"), forwarded, custom);
    assert_eq!(ip("198.51.100.7"), client(&[], &["1.1.1.1, 198.51.100.7, 10.0.0.2"]));
    assert_eq!(ip("198.51.100.7"), client(&[], &["1.1.1.1", "198.51.100.7", "10.0.0.2"]));
    assert_eq!(ip("198.51.100.7"), client(&["for=1.1.1.1, for=198.51.100.7;proto=https, For=\"[fd00::1]:80\""], &[]));
}

#[test]
fn every_spelling_of_an_address_is_understood() {
    let trusted = proxies(&["10.0.0.1"]);
    let v6 = ip("2001:db8::17");
    for (text, expected) in [
        ("198.51.100.7", ip("198.51.100.7")),
        ("198.51.100.7:4711", ip("198.51.100.7")),
        ("::ffff:198.51.100.7", ip("198.51.100.7")),
        ("[::ffff:198.51.100.7]:1", ip("198.51.100.7")),
        ("2001:db8::17", v6),
        ("[2001:db8::17]", v6),
        ("[2001:db8::17]:4711", v6),
        (" \t2001:DB8::17 ", v6),
    ] {
        assert_eq!(expected, trusted.client_address(ip("::ffff:10.0.0.1"), &[], &[text]), "{text}");
        let quoted = format!("proto=http;by=x;FOR=\"{}\"", text.trim());
        assert_eq!(expected, trusted.client_address(ip("10.0.0.1"), &[&quoted], &[]), "{quoted}");
    }
}

#[test]
fn an_entry_that_names_no_address_ends_the_walk() {
    let trusted = proxies(&["10.0.0.0/8"]);
    for bad in ["unknown", "_hidden", "", "1.2.3", "1.2.3.4.5", "[::1", "198.51.100.7:99999", "é", "for=1.1.1.1"] {
        let line = format!("198.51.100.7, {bad}, 10.0.0.2");
        assert_eq!(ip("10.0.0.2"), trusted.client_address(ip("10.0.0.1"), &[], &[&line]), "{line}");
    }
    for bad in ["for=unknown", "proto=http", "for", "for=1.1.1.1;for=2.2.2.2", "for=\"1.1.1.1\"x", "for=\"", "=", ""] {
        let line = format!("for=198.51.100.7, {bad}");
        assert_eq!(ip("10.0.0.1"), trusted.client_address(ip("10.0.0.1"), &[&line], &[]), "{line}");
    }
}

#[test]
fn a_quote_the_client_left_open_swallows_no_proxy() {
    let trusted = proxies(&["10.0.0.0/8"]);
    for spoofed in ["for=\"1.1.1.1, for=198.51.100.7", "for=\"1.1.1.1, for=\"198.51.100.7\"", "for=\"\\\", for=1.1.1.1"]
    {
        assert_eq!(ip("10.0.0.1"), trusted.client_address(ip("10.0.0.1"), &[spoofed], &[]), "{spoofed}");
    }
}

#[test]
fn headers_that_contradict_each_other_are_both_ignored() {
    let trusted = proxies(&["10.0.0.0/8"]);
    let client = |forwarded, custom| trusted.client_address(ip("10.0.0.1"), &[forwarded], &[custom]);
    assert_eq!(ip("10.0.0.1"), client("for=1.1.1.1", "198.51.100.7"));
    assert_eq!(ip("198.51.100.7"), client("for=198.51.100.7", "1.1.1.1, 198.51.100.7"));
}

#[test]
fn a_block_holds_its_first_and_last_address_and_no_neighbour() {
    for (block, inside, outside) in [
        ("192.0.2.128/25", ["192.0.2.128", "192.0.2.255"], ["192.0.2.127", "192.0.3.0"]),
        ("192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
        ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db7:ffff::", "2001:db9::"]),
        ("::ffff:10.0.0.0/104", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
        ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::1", "2001:db8::1"]),
    ] {
        let trusted = proxies(&[block]);
        assert!(inside.iter().all(|text| trusted.contains(ip(text))), "{block}");
        assert!(outside.iter().all(|text| !trusted.contains(ip(text))), "{block}");
    }
    assert!(proxies(&["::/0"]).contains(ip("192.0.2.1")) && proxies(&["::/0"]).contains(ip("::1")));
    for bad in ["", "/", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/33", "::/129", "10.0.0/8", "proxy.example"] {
        assert_eq!(1, TrustedProxies::parse_all(&[bad.to_owned()]).1.len(), "{bad}");
    }
}

/// Few addresses, so that trusted ones are common.
fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u8..4).prop_map(|n| IpAddr::from([10, 0, 0, n])),
        (0_u8..4).prop_map(|n| IpAddr::from([198, 51, 100, n])),
        (0_u16..4).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])),
        (0_u16..4).prop_map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])),
    ]
}

fn spelled(address: IpAddr, style: u8) -> String {
    match (address, style % 3) {
        (IpAddr::V4(v4), 0) => format!("{v4}:8080"),
        (IpAddr::V4(v4), 1) => format!("[{}]:80", v4.to_ipv6_mapped()),
        (IpAddr::V6(v6), 0) => format!("[{v6}]:8080"),
        (IpAddr::V6(v6), 1) => format!("[{v6}]"),
        (plain, _) => plain.to_string(),
    }
}

proptest! {
    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy(
        peer in any_address(), hops in proptest::collection::vec((any_address(), any::<u8>(), any::<bool>()), 0..6),
    ) {
        let trusted = proxies(&["10.0.0.0/30", "fd00::/126"]);
        let is_trusted = |address: &IpAddr| matches!(address.to_string(), text if text.starts_with("10.") || text.starts_with("fd00"));
        let chain: Vec<IpAddr> = hops.iter().map(|(address, ..)| *address).chain([peer]).collect();
        let expected = chain.iter().rev().find(|address| !is_trusted(address)).unwrap_or(&chain[0]);

        // A hop is joined to the line before it, or begins a line of its own.
        let (mut custom, mut standard): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for (address, style, is_new_line) in &hops {
            let (plain, quoted) = (spelled(*address, *style), format!("for=\"{}\";proto=https", spelled(*address, *style)));
            match (custom.last_mut(), standard.last_mut()) {
                (Some(custom), Some(standard)) if !is_new_line => {
                    custom.push_str(&format!(", {plain}"));
                    standard.push_str(&format!(" ,{quoted}"));
                }
                _ => {
                    custom.push(plain);
                    standard.push(quoted);
                }
            }
        }
        let custom: Vec<&str> = custom.iter().map(String::as_str).collect();
        let standard: Vec<&str> = standard.iter().map(String::as_str).collect();
        prop_assert_eq!(*expected, trusted.client_address(peer, &[], &custom));
        prop_assert_eq!(*expected, trusted.client_address(peer, &standard, &[]));
        prop_assert_eq!(*expected, trusted.client_address(peer, &standard, &custom));
    }

    #[test]
    fn any_header_is_read_without_a_panic(lines in proptest::collection::vec("[ -~é]{0,40}|(for=|\"|\\\\|[,;=.:\\[\\]0-9]){0,20}", 0..4)) {
        let trusted = proxies(&["10.0.0.0/8", "0.0.0.0/0", "::/0"]);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        trusted.client_address(ip("10.0.0.1"), &lines, &[]);
        trusted.client_address(ip("10.0.0.1"), &[], &lines);
    }
}
