//! Three processes before one tier, whose every step can come before or after every other one: nobody ever
//! reads what is older than a change that its process had heard of before.
//!
//! `VID_ORACLE_STEPS` says how many steps each seed takes (`VID_ORACLE_REDIS_STEPS` before Redis),
//! `VID_ORACLE_SEED` which one is tried alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use vidcore::cache::{
    CacheOptions, CacheParts, CacheTier, Caches, EVERY_KEY, MAX_SILENCE, MemoryCache, ReadThrough, SharedTier,
};
use vidcore::clock::ManualClock;
use vidcore::entropy::{EntropyExt, SeededEntropy};
use vidcore::events::Change;
use vidcore::store::{CommitObserver, Committed};
use vidcore::testkit::cache::{Hearing, OriginError};
use vidcore::testkit::changes::ChangeLog;
use vidcore::testkit::stepped::{SteppedChanges, SteppedTier, Steps};

const CACHE: &str = "oracle";
const NODES: usize = 3;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// Reads under way at most; above it one call after the other is let go.
const READS: usize = 24;

/// Steps of a run whose length nobody says.
const STEPS: u64 = 20_000;

/// Makes an empty tier.
type Empty = Box<dyn Fn(&ManualClock) -> Arc<dyn CacheTier>>;

/// One process.
struct Node {
    cache: ReadThrough<u64, OriginError>,
    caches: Arc<Caches>,
    hearing: Arc<Hearing>,
    /// Committed elsewhere, and not heard of yet.
    unheard: VecDeque<Change>,
    /// The version of each key that it has heard of.
    heard: [u64; KEYS.len()],
    following: Option<JoinHandle<()>>,
}

struct World {
    draws: SeededEntropy,
    steps: Steps,
    tier: Arc<SteppedTier>,
    empty: Empty,
    /// A tier that was replaced: an older state, which may come back.
    older: Option<Arc<dyn CacheTier>>,
    log: Arc<ChangeLog>,
    clock: ManualClock,
    truth: Arc<[AtomicU64; KEYS.len()]>,
    /// The versions of all keys after each change; the first stands for none.
    history: Vec<[u64; KEYS.len()]>,
    nodes: Vec<Node>,
    reads: JoinSet<()>,
    violation: Arc<Mutex<Option<String>>>,
    done: Arc<Tally>,
}

/// What came of it, so that a run that tries nothing is seen.
#[derive(Debug, Default)]
struct Tally {
    reads: AtomicU64,
    failed: AtomicU64,
    loads: AtomicU64,
    shared_hits: AtomicU64,
}

impl World {
    fn new(seed: u64, empty: Empty) -> Self {
        let (clock, steps) = (ManualClock::default(), Steps::default());
        let mut world = Self {
            draws: SeededEntropy::new(seed),
            tier: Arc::new(SteppedTier::new(empty(&clock), steps.clone())),
            steps,
            empty,
            older: None,
            log: Arc::new(ChangeLog::new()),
            clock,
            truth: Arc::default(),
            history: vec![[0; KEYS.len()]],
            nodes: Vec::new(),
            reads: JoinSet::new(),
            violation: Arc::default(),
            done: Arc::default(),
        };
        for _ in 0..NODES {
            let node = world.start();
            world.nodes.push(node);
        }
        world
    }

    fn draw(&self, below: u64) -> u64 {
        u64::from_le_bytes(self.draws.bytes()) % below
    }

    fn draw_usize(&self, below: usize) -> usize {
        self.draw(below as u64) as usize
    }

    /// A process that starts now, as the platform starts one.
    fn start(&self) -> Node {
        let shared = SharedTier::new(Arc::clone(&self.tier) as _, 2);
        let hearing = Arc::new(Hearing::default());
        let parts = CacheParts {
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(self.draw(u64::MAX))),
            notify: Arc::clone(&hearing) as _,
            shared: Some(shared.clone()),
        };
        let options = CacheOptions {
            name: CACHE,
            max_bytes: 1 << 20,
            ttl: Duration::from_secs(3),
            stale: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(1),
        };
        let cache = ReadThrough::new(options, parts);
        let caches = Arc::new(Caches::new(Some(shared)));
        caches.register(CACHE, &cache);
        caches.drop_all(self.log.last());
        let heard = self.history[self.log.last() as usize];
        let mut node = Node { cache, caches, hearing, unheard: VecDeque::new(), heard, following: None };
        self.follow(&mut node);
        node
    }

    fn follow(&self, node: &mut Node) {
        let shared = node.caches.shared().expect("it has one").clone();
        let changes = SteppedChanges { log: Arc::clone(&self.log), steps: self.steps.clone() };
        node.following = Some(tokio::spawn(async move { shared.follow(&changes).await }));
    }

    fn read(&mut self) {
        let (node, key) = (self.draw_usize(NODES), self.draw_usize(KEYS.len()));
        let (fails, steps, truth) = (self.draw(10) == 0, self.steps.clone(), Arc::clone(&self.truth));
        let (done, violation) = (Arc::clone(&self.done), Arc::clone(&self.violation));
        let (cache, least) = (self.nodes[node].cache.clone(), self.nodes[node].heard[key]);
        let loads = Arc::clone(&self.done);
        let load = async move {
            loads.loads.fetch_add(1, Ordering::Relaxed);
            steps.pause().await;
            let version = truth[key].load(Ordering::SeqCst);
            steps.pause().await;
            if fails { Err(OriginError("the draw says so")) } else { Ok(Some(version)) }
        };
        self.reads.spawn(async move {
            done.reads.fetch_add(1, Ordering::Relaxed);
            match cache.get_or_load(KEYS[key], load).await {
                Ok(found) => {
                    let found = found.expect("there is always a value").value;
                    if found < least {
                        let mut violation = violation.lock().unwrap_or_else(PoisonError::into_inner);
                        let text = format!("process {node} read {} in version {found}, knowing of {least}", KEYS[key]);
                        violation.get_or_insert(text);
                    }
                }
                Err(_) => drop(done.failed.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }

    /// Commits a change, which no process has heard of.
    fn commit(&mut self) -> Change {
        let mut versions = *self.history.last().expect("it begins with one");
        let key = match self.draw(20) {
            0 => EVERY_KEY,
            1 => "of another cache",
            _ => KEYS[self.draw_usize(KEYS.len())],
        };
        for (at, version) in versions.iter_mut().enumerate() {
            if key == EVERY_KEY || key == KEYS[at] {
                *version += 1;
                self.truth[at].store(*version, Ordering::SeqCst);
            }
        }
        self.history.push(versions);
        let topic = if key == "of another cache" { "other" } else { CACHE };
        self.log.commit(topic, key)
    }

    fn hear(&mut self, node: usize, change: Change) {
        let (node, id) = (&mut self.nodes[node], change.id as usize);
        for (at, key) in KEYS.iter().enumerate() {
            if change.topic == CACHE && (change.key == EVERY_KEY || change.key == *key) {
                node.heard[at] = node.heard[at].max(self.history[id][at]);
            }
        }
        node.caches.committed(&Committed { changes: vec![change], jobs: Vec::new() });
    }

    fn write(&mut self) {
        let (change, own) = (self.commit(), self.draw_usize(NODES));
        for (at, node) in self.nodes.iter_mut().enumerate().filter(|(at, _)| *at != own) {
            debug_assert_ne!(at, own);
            node.unheard.push_back(change.clone());
        }
        self.hear(own, change);
    }

    fn hear_next(&mut self) {
        let node = self.draw_usize(NODES);
        if let Some(change) = self.nodes[node].unheard.pop_front() {
            self.hear(node, change);
        }
    }

    /// Ends a process, perhaps between a commit and what is to be done after it, and starts another one. Its
    /// loads go on, as those of a process that hangs.
    fn crash(&mut self) {
        if self.draw(2) == 0 {
            let change = self.commit();
            self.nodes.iter_mut().for_each(|node| node.unheard.push_back(change.clone()));
        }
        let at = self.draw_usize(NODES);
        self.retire(at);
        self.nodes[at] = self.start();
    }

    fn retire(&mut self, at: usize) {
        self.done.shared_hits.fetch_add(self.nodes[at].cache.stats().shared_hits, Ordering::Relaxed);
        if let Some(following) = self.nodes[at].following.take() {
            following.abort();
        }
    }

    fn toggle_following(&mut self) {
        let at = self.draw_usize(NODES);
        match self.nodes[at].following.take() {
            Some(following) => following.abort(),
            None => {
                let shared = self.nodes[at].caches.shared().expect("it has one").clone();
                let changes = SteppedChanges { log: Arc::clone(&self.log), steps: self.steps.clone() };
                self.nodes[at].following = Some(tokio::spawn(async move { shared.follow(&changes).await }));
            }
        }
    }

    /// News are cut off from a process, or come again: then it hears that some were missed.
    fn toggle_hearing(&mut self) {
        use vidcore::notify::Notify as _;

        let (at, last) = (self.draw_usize(NODES), self.log.last());
        let node = &mut self.nodes[at];
        if node.hearing.silence() > MAX_SILENCE {
            node.unheard.clear();
            node.caches.drop_all(last);
            node.heard = self.history[last as usize];
            node.hearing.set_silence(Duration::ZERO);
        } else {
            node.hearing.set_silence(MAX_SILENCE * 2);
        }
    }

    /// The tier loses everything, or comes back with an older state.
    fn replace_tier(&mut self) {
        let next = match self.older.take() {
            Some(older) if self.draw(2) == 0 => older,
            _ => (self.empty)(&self.clock),
        };
        self.older = Some(self.tier.replace(next));
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }

    async fn step(&mut self) {
        if self.reads.len() >= READS {
            self.steps.let_go(self.draw_usize(usize::MAX >> 1));
        }
        match self.draw(1000) {
            0..700 => self.steps.let_go(self.draw_usize(usize::MAX >> 1)),
            700..880 if self.reads.len() < READS => self.read(),
            880..900 => self.write(),
            900..940 => self.hear_next(),
            940..944 => self.toggle_following(),
            944..946 => self.replace_tier(),
            946..950 => self.tier.set_away(self.draw(8) == 0),
            950..953 => self.crash(),
            953..955 => self.log.prune(self.log.last() - self.draw(4) as i64),
            955..958 => self.toggle_hearing(),
            958..980 => self.pass(Duration::from_millis(1 + self.draw(30))).await,
            980..990 => self.pass(Duration::from_millis(100 + self.draw(1100))).await,
            990..995 => self.pass(Duration::from_millis(2000 + self.draw(10_000))).await,
            _ => {}
        }
        for _ in 0..1 + self.draw(3) {
            tokio::task::yield_now().await;
        }
        // A server takes its time, in which nothing else happens: so that a run tries as much before one.
        let given_up = Instant::now() + Duration::from_secs(20);
        while self.tier.is_at_work() {
            assert!(Instant::now() < given_up, "the tier does not answer");
            tokio::task::yield_now().await;
        }
        while let Some(read) = self.reads.try_join_next() {
            read.expect("no read panics");
        }
    }

    fn check(&self, seed: u64, step: u64) {
        let violation = self.violation.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(violation.is_none(), "seed {seed}, step {step}: {}", violation.as_deref().unwrap_or_default());
    }

    /// Everything that was begun ends once nothing is held any more.
    async fn drain(&mut self, seed: u64) {
        self.tier.set_away(false);
        for round in 0.. {
            assert!(round < 20_000, "seed {seed}: {} reads never end", self.reads.len());
            while self.steps.held_calls() > 0 {
                self.steps.let_go(0);
            }
            self.pass(Duration::from_millis(10)).await;
            while let Some(read) = self.reads.try_join_next() {
                read.expect("no read panics");
            }
            if self.reads.is_empty() {
                break;
            }
        }
        (0..NODES).for_each(|at| self.retire(at));
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, steps: u64, empty: Empty) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new(seed, empty);
        for step in 0..steps {
            world.step().await;
            world.check(seed, step);
        }
        world.drain(seed).await;
        world.check(seed, steps);
        let tally = format!("{:?}", world.done);
        eprintln!("seed {seed}, {steps} steps: {tally}");
        assert!(world.done.reads.load(Ordering::Relaxed) > steps / 20, "{tally}");
        assert!(world.done.shared_hits.load(Ordering::Relaxed) > steps / 5000, "{tally}");
    });
}

fn memory() -> Empty {
    Box::new(|clock| Arc::new(MemoryCache::new(1 << 20, Arc::new(clock.clone()))))
}

#[test]
fn nobody_reads_behind_what_their_process_had_heard_of() {
    let steps = setting("VID_ORACLE_STEPS").unwrap_or(STEPS);
    match setting("VID_ORACLE_SEED") {
        Some(seed) => run(seed, steps, memory()),
        None => (1..=4).for_each(|seed| run(seed, steps, memory())),
    }
}

#[cfg(all(feature = "sqlite", feature = "redis"))]
#[test]
fn nobody_reads_behind_what_their_process_had_heard_of_before_redis() {
    use vidcore::cache::RedisCache;
    use vidcore::clock::SystemClock;
    use vidcore::testkit::TestRedis;

    let Some(redis) = TestRedis::start() else { return };
    let redis = Arc::new(redis);
    for seed in 1..=2 {
        let (server, emptied) = (TestRedis::server(&redis.settings()), Arc::clone(&redis));
        let empty = move |_: &_| {
            emptied.flush();
            // Time is the run's, and passes by hours.
            let tier = RedisCache::new(&server, Duration::from_secs(1 << 20), Arc::new(SystemClock::new()));
            Arc::new(tier.expect("the tier opens")) as Arc<dyn CacheTier>
        };
        run(seed, setting("VID_ORACLE_REDIS_STEPS").unwrap_or(STEPS / 2), Box::new(empty));
    }
}
