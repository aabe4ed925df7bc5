//! No more at once than the machine can carry.
//!
//! Two layers, both apart from rate limits, which bound callers and not the sum of them. `shed` bounds
//! all JSON requests together and turns away at once what comes above. `gated` gives a costly kind of
//! request a smaller bound and a short queue: what it keeps back waits no longer than a client does, so
//! that the work that is done is done for somebody who is still there. Health and metrics pass neither.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa_axum::router::OpenApiRouter;
use vidcore::platform::Settings;

use crate::config::HttpSettings;
use crate::extract::body;
use crate::problem::{Problem, code};
use crate::routes::ApiState;

/// Seconds after which a request that found no room is worth another try.
const RETRY_S: u32 = 1;

/// A bound on requests of one kind. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate {
    name: &'static str,
    running: Arc<Semaphore>,
    /// One ticket for each that waits.
    waiting: Arc<Semaphore>,
    patience: Duration,
}

impl Gate {
    /// Lets `at_once` requests run, and `places` more wait for `patience` at most, in the order they
    /// came. `name` is what metrics call it.
    pub fn new(name: &'static str, at_once: usize, places: usize, patience: Duration) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { name, running: semaphore(at_once), waiting: semaphore(places), patience }
    }

    /// Room for one request, for as long as the permit is held.
    ///
    /// # Errors
    /// [`code::OVERLOADED`] if every place is taken, or no room came free in time.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Err(self.refuse()) };
        match tokio::time::timeout(self.patience, Arc::clone(&self.running).acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(self.refuse()),
        }
    }

    fn refuse(&self) -> Problem {
        metrics::counter!("vid_http_shed_total", "gate" => self.name).increment(1);
        Problem::new(code::OVERLOADED).retry_after(RETRY_S)
    }
}

/// Which costly kind of request a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Costly {
    /// Hashes a password: sign-in and sign-up.
    Password,
    /// Searches.
    Search,
}

/// The gates of the costly kinds.
#[derive(Debug, Clone)]
pub struct Gates {
    password: Gate,
    search: Gate,
}

impl Gates {
    /// Gates as wide as the settings say, or as the machine is.
    pub fn new(http: &HttpSettings, platform: &Settings) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let or = |set: usize, else_: usize| if set == 0 { else_ } else { set };
        // One more than are hashed, so that the next stands ready while an account is looked up.
        let hashed = or(platform.auth.hash_permits, cores.saturating_sub(1).max(1));
        let readers = or(platform.sqlite.reader_threads.into(), cores.max(2));
        let gate = |name, at_once: usize| {
            let places = at_once.saturating_mul(http.waiting_per_place);
            Gate::new(name, at_once, places, Duration::from_millis(http.costly_wait_ms))
        };
        Self {
            password: gate("password", or(http.passwords_at_once, hashed + 1)),
            search: gate("search", or(http.searches_at_once, readers)),
        }
    }

    fn of(&self, kind: Costly) -> &Gate {
        match kind {
            Costly::Password => &self.password,
            Costly::Search => &self.search,
        }
    }
}

/// Puts the routes of `router` behind the gate of their kind. A body is read before the gate, so that
/// nobody holds a place by sending slowly. Stands within admission: who is over a limit takes no place.
pub(crate) fn gated(router: OpenApiRouter<ApiState>, kind: Costly) -> OpenApiRouter<ApiState> {
    router.route_layer(from_fn(move |Extension(state): Extension<ApiState>, request: Request, next: Next| async move {
        match pass(state.gates.of(kind), request).await {
            Ok((_permit, request)) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    }))
}

async fn pass(gate: &Gate, request: Request) -> Result<(OwnedSemaphorePermit, Request), Problem> {
    let (head, bytes) = body::read(request).await?;
    Ok((gate.enter().await?, Request::from_parts(head, Body::from(bytes))))
}

/// Turns away what comes above the bound of `gate`.
pub(crate) async fn shed(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate.enter().await {
        Ok(_permit) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The bound on all JSON requests: nothing waits at it.
pub(crate) fn everything(http: &HttpSettings) -> Gate {
    Gate::new("api", http.max_in_flight, 0, Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(at_once: usize, places: usize) -> Gate {
        Gate::new("test", at_once, places, Duration::from_secs(1))
    }

    fn is_overloaded(outcome: Result<OwnedSemaphorePermit, Problem>) -> bool {
        outcome.is_err_and(|problem| problem.code() == code::OVERLOADED)
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_run_as_may_and_the_next_waits_its_patience() {
        let gate = gate(2, 1);
        let _running = (gate.enter().await.expect("room"), gate.enter().await.expect("room"));
        let before = tokio::time::Instant::now();
        assert!(is_overloaded(gate.enter().await));
        assert_eq!(Duration::from_secs(1), before.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_place_to_wait_the_next_is_turned_away_at_once() {
        for places in [0, 3] {
            let gate = gate(1, places);
            let _running = gate.enter().await.expect("room");
            let mut waiting: Vec<_> = (0..places).map(|_| Box::pin(gate.enter())).collect();
            for one in &mut waiting {
                assert!(futures_util::poll!(one).is_pending());
            }
            let before = tokio::time::Instant::now();
            assert!(is_overloaded(gate.enter().await));
            assert_eq!(Duration::ZERO, before.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn room_goes_to_the_first_that_waits_and_to_nobody_who_has_left() {
        let gate = gate(1, 3);
        let running = gate.enter().await.expect("room");
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(gate.enter())).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        drop(waiting.remove(0));
        drop(running);
        assert!(futures_util::poll!(&mut waiting[1]).is_pending());
        assert!(futures_util::poll!(&mut waiting[0]).is_ready());
        assert!(futures_util::poll!(&mut waiting[1]).is_ready());
    }

    #[test]
    fn gates_are_as_wide_as_they_are_set() {
        let http =
            HttpSettings { passwords_at_once: 7, searches_at_once: 9, waiting_per_place: 2, ..Default::default() };
        let gates = Gates::new(&http, &Settings::default());
        for (kind, at_once) in [(Costly::Password, 7), (Costly::Search, 9)] {
            let gate = gates.of(kind);
            assert_eq!((at_once, 2 * at_once), (gate.running.available_permits(), gate.waiting.available_permits()));
        }
        let gates = Gates::new(&HttpSettings::default(), &Settings::default());
        assert!(gates.of(Costly::Password).running.available_permits() >= 2);
    }
}
