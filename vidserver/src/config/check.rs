//! Rules a value must keep beyond its type.

use std::sync::Arc;

use axum::http::Uri;
use tracing_subscriber::EnvFilter;
use vidcore::entropy::SystemEntropy;
use vidcore::platform::settings::{DeliveryChoice, DispatcherChoice, LimitsChoice, RateLimitSettings, StorageChoice};
use vidcore::rate_limit::{CostlyCall, Policies};
use vidcore::redis::RedisServer;

use super::load::ConfigProblem;
use super::{Config, HttpSettings, ServerSettings};

/// The least size hyper takes for its buffers.
const MIN_HEADER_BYTES: u32 = 8192;

/// The most reader threads: each is a thread and an open database, and no machine gains by more.
const MAX_READER_THREADS: u16 = 256;

/// The longest a thing may be kept, in seconds: a date beyond the calendar's end cannot be shown.
const LONGEST_S: u64 = 100 * 365 * 86_400;

/// Every rule that is broken.
pub(super) fn check(config: &Config) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    platform(config, &mut problems);
    server(&config.server, &mut problems);
    http(&config.http, &mut problems);
    if EnvFilter::builder().parse(&config.log.level).is_err() {
        problems.push(ConfigProblem::new("log.level", "expected a level or directives, such as `info`"));
    }
    problems
}

fn platform(config: &Config, problems: &mut Vec<ConfigProblem>) {
    let settings = &config.platform;
    let mut refuse = |wrong: bool, key: &str, message: &str| {
        if wrong {
            problems.push(ConfigProblem::new(key, message));
        }
    };
    refuse(
        !is_public_url(&settings.public_url),
        "public_url",
        "expected http:// or https:// with a host, and no query",
    );
    refuse(settings.data_dir.as_os_str().is_empty(), "data_dir", "expected a folder");
    refuse(
        settings.sqlite.reader_threads > MAX_READER_THREADS,
        "sqlite.reader_threads",
        "expected at most 256, or 0 for as many as there are cores",
    );
    refuse(settings.sqlite.queue_depth == 0, "sqlite.queue_depth", "expected at least 1");
    refuse(settings.auth.access_ttl_s == 0, "auth.access_ttl_s", "expected at least 1");
    refuse(settings.auth.issuer.is_empty(), "auth.issuer", "expected a name");
    refuse(settings.auth.audience.is_empty(), "auth.audience", "expected a name");
    refuse(settings.uploads.max_size_bytes == 0, "uploads.max_size_bytes", "expected at least 1");
    refuse(
        settings.playback.token_ttl_s > settings.playback.max_token_ttl_s,
        "playback.token_ttl_s",
        "expected at most playback.max_token_ttl_s",
    );
    refuse(settings.worker.concurrency == 0, "worker.concurrency", "expected at least 1");
    refuse(settings.worker.short_concurrency == 0, "worker.short_concurrency", "expected at least 1");
    refuse(
        settings.worker.heartbeat_ms.saturating_mul(3) > settings.worker.lease_ms,
        "worker.heartbeat_ms",
        "expected at most a third of worker.lease_ms",
    );
    refuse(
        settings.worker.dispatcher == DispatcherChoice::Redis && settings.redis.url.is_empty(),
        "worker.dispatcher",
        "expected redis.url to be set for `redis`",
    );
    refuse(
        settings.rate_limits.back_end == LimitsChoice::Redis && settings.redis.url.is_empty(),
        "rate_limits.back_end",
        "expected redis.url to be set for `redis`",
    );
    refuse(settings.uploads.verify_attempts == 0, "uploads.verify_attempts", "expected at least 1");
    refuse(settings.worker.lease_ms > 3_600_000, "worker.lease_ms", "expected at most 3600000, an hour");
    refuse(settings.worker.max_attempts == 0, "worker.max_attempts", "expected at least 1");
    refuse(settings.housekeeping.collect_every_s == 0, "housekeeping.collect_every_s", "expected at least 1");
    refuse(
        settings.uploads.direct && settings.storage.back_end != StorageChoice::S3,
        "uploads.direct",
        "expected storage.back_end = \"s3\" beside it",
    );
    refuse(
        settings.playback.delivery == DeliveryChoice::Redirect && settings.storage.back_end != StorageChoice::S3,
        "playback.delivery",
        "expected storage.back_end = \"s3\" for `redirect`",
    );
    refuse(
        !(1..=604_800).contains(&settings.playback.redirect_ttl_s),
        "playback.redirect_ttl_s",
        "expected 1 to 604800, seven days",
    );
    refuse(
        !(5 << 20..=5 << 30).contains(&settings.uploads.part_size_bytes),
        "uploads.part_size_bytes",
        "expected 5242880 to 5368709120, 5 MiB to 5 GiB",
    );
    refuse(
        !(1..=604_800).contains(&settings.uploads.part_url_ttl_s),
        "uploads.part_url_ttl_s",
        "expected 1 to 604800, seven days",
    );
    for (key, message) in settings.storage.problems() {
        refuse(true, key, message);
    }
    for (key, seconds) in [
        ("auth.access_ttl_s", settings.auth.access_ttl_s),
        ("auth.refresh_ttl_s", settings.auth.refresh_ttl_s),
        ("catalog.trash_keep_s", settings.catalog.trash_keep_s),
        ("catalog.idempotency_keep_s", settings.catalog.idempotency_keep_s),
        ("storage.originals_keep_s", settings.storage.originals_keep_s),
        ("uploads.ttl_s", settings.uploads.ttl_s),
        ("playback.max_token_ttl_s", settings.playback.max_token_ttl_s),
        ("jobs.keep_done_s", settings.jobs.keep_done_s),
        ("jobs.keep_dead_s", settings.jobs.keep_dead_s),
        ("housekeeping.collect_every_s", settings.housekeeping.collect_every_s),
    ] {
        refuse(seconds > LONGEST_S, key, "expected at most 3153600000, a hundred years");
    }
    if !settings.redis.url.is_empty()
        && let Err(error) = RedisServer::new(&settings.redis, Arc::new(SystemEntropy))
    {
        refuse(true, error.setting, error.message);
    }
    rate_limits(&settings.rate_limits, problems);
}

fn rate_limits(limits: &RateLimitSettings, problems: &mut Vec<ConfigProblem>) {
    let mut refuse = |wrong: bool, key: &str, message: &str| {
        if wrong {
            problems.push(ConfigProblem::new(key, message));
        }
    };
    refuse(limits.redis_timeout_ms == 0, "rate_limits.redis_timeout_ms", "expected at least 1");
    for (key, percent) in [
        ("rate_limits.away_percent", limits.away_percent),
        ("rate_limits.away_login_percent", limits.away_login_percent),
    ] {
        refuse(!(1..=100).contains(&percent), key, "expected 1 to 100");
    }
    let policies = match Policies::new(limits) {
        Ok(policies) => policies,
        Err(wrong) => {
            for problem in wrong {
                refuse(true, &format!("rate_limits.policies.{}", problem.name), &problem.message);
            }
            return;
        }
    };
    for call in CostlyCall::ALL {
        let of_class = policies.iter().filter(|(class, ..)| *class == call.class());
        let most = of_class.map(|(.., policy)| policy.burst()).min().unwrap_or(u32::MAX);
        let key = format!("rate_limits.costs.{}", call.as_str());
        let message = format!("expected 1 to {most}, the smallest burst of its class");
        refuse(!(1..=most).contains(&call.cost(&limits.costs)), &key, &message);
    }
}

fn server(server: &ServerSettings, problems: &mut Vec<ConfigProblem>) {
    for (key, value) in [
        ("server.max_connections", server.max_connections as u64),
        ("server.first_byte_timeout_ms", server.first_byte_timeout_ms),
        ("server.header_read_timeout_ms", server.header_read_timeout_ms),
        ("server.keep_alive_idle_ms", server.keep_alive_idle_ms),
        ("server.write_stall_timeout_ms", server.write_stall_timeout_ms),
        ("server.http2_max_streams", server.http2_max_streams.into()),
        ("server.http2_ping_interval_ms", server.http2_ping_interval_ms),
        ("server.http2_ping_timeout_ms", server.http2_ping_timeout_ms),
    ] {
        if value == 0 {
            problems.push(ConfigProblem::new(key, "expected at least 1"));
        }
    }
    if server.max_header_bytes < MIN_HEADER_BYTES {
        problems.push(ConfigProblem::new("server.max_header_bytes", format!("expected at least {MIN_HEADER_BYTES}")));
    }
    let same = server.metrics_enabled && server.listen.port() != 0 && server.listen == server.metrics_listen;
    if same {
        problems.push(ConfigProblem::new("server.metrics_listen", "expected another address than server.listen"));
    }
}

fn http(http: &HttpSettings, problems: &mut Vec<ConfigProblem>) {
    for (key, value) in [
        ("http.request_timeout_ms", http.request_timeout_ms),
        ("http.max_body_bytes", http.max_body_bytes as u64),
        ("http.body_idle_timeout_ms", http.body_idle_timeout_ms),
        ("http.max_in_flight", http.max_in_flight as u64),
    ] {
        if value == 0 {
            problems.push(ConfigProblem::new(key, "expected at least 1"));
        }
    }
    if !http.cors_origins.iter().all(|origin| is_origin(origin)) {
        problems.push(ConfigProblem::new(
            "http.cors_origins",
            "expected exact origins, such as `https://app.example`, without a path and without `*`",
        ));
    }
}

fn is_public_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|h| !h.is_empty())
        && uri.query().is_none()
}

/// An origin as browsers serialize it (RFC 6454 §6.2): scheme, host and port, nothing after.
fn is_origin(text: &str) -> bool {
    is_public_url(text)
        && !text.contains('*')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        && text.splitn(4, '/').count() == 3
        && !text.contains('@')
}

#[cfg(test)]
mod tests {
    use vidcore::platform::settings::Secret;

    use super::*;

    fn keys(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config).into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn each_rule_names_its_key() {
        assert_eq!(vec!["public_url"], keys(|c| c.platform.public_url = "ftp://x".into()));
        assert_eq!(vec!["public_url"], keys(|c| c.platform.public_url = "https://x/?a".into()));
        assert_eq!(vec!["sqlite.reader_threads"], keys(|c| c.platform.sqlite.reader_threads = 257));
        assert_eq!(vec!["uploads.ttl_s"], keys(|c| c.platform.uploads.ttl_s = LONGEST_S + 1));
        assert_eq!(vec!["jobs.keep_done_s"], keys(|c| c.platform.jobs.keep_done_s = LONGEST_S + 1));
        assert_eq!(vec!["housekeeping.collect_every_s"], keys(|c| c.platform.housekeeping.collect_every_s = 0));
        assert_eq!(vec!["worker.heartbeat_ms"], keys(|c| c.platform.worker.heartbeat_ms = 7000));
        assert_eq!(vec!["worker.lease_ms"], keys(|c| c.platform.worker.lease_ms = 3_600_001));
        assert_eq!(vec!["uploads.verify_attempts"], keys(|c| c.platform.uploads.verify_attempts = 0));
        assert_eq!(vec!["worker.dispatcher"], keys(|c| c.platform.worker.dispatcher = DispatcherChoice::Redis));
        assert_eq!(vec!["rate_limits.back_end"], keys(|c| c.platform.rate_limits.back_end = LimitsChoice::Redis));
        assert_eq!(vec!["rate_limits.away_percent"], keys(|c| c.platform.rate_limits.away_percent = 0));
        assert_eq!(vec!["rate_limits.away_login_percent"], keys(|c| c.platform.rate_limits.away_login_percent = 101));
        assert_eq!(vec!["rate_limits.costs.process_video"], keys(|c| c.platform.rate_limits.costs.process_video = 21));
        assert_eq!(vec!["rate_limits.costs.search_further"], keys(|c| c.platform.rate_limits.costs.search_further = 0));
        assert_eq!(vec!["http.max_in_flight"], keys(|c| c.http.max_in_flight = 0));
        assert_eq!(vec!["redis.url"], keys(|c| c.platform.redis.url = Secret::new("127.0.0.1:6379")));
        assert_eq!(
            vec!["redis.prefix"],
            keys(|c| {
                c.platform.redis.url = Secret::new("redis://127.0.0.1");
                c.platform.redis.prefix.clear();
            })
        );
        assert_eq!(vec!["server.max_header_bytes"], keys(|c| c.server.max_header_bytes = 8191));
        assert_eq!(vec!["server.metrics_listen"], keys(|c| c.server.metrics_listen = c.server.listen));
        assert_eq!(vec!["log.level"], keys(|c| c.log.level = "vidserver=loud".into()));
        assert_eq!(vec!["http.request_timeout_ms"], keys(|c| c.http.request_timeout_ms = 0));
    }

    #[test]
    fn origins_are_exact() {
        for good in ["https://app.example", "http://localhost:5173", "https://[::1]:8443"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["*", "https://*.example", "https://app.example/", "app.example", "null", "https://a@b", "HTTPS://a"]
        {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
