//! Looks of many callers in one command.
//!
//! A caller puts its look into the batch that is open and a task sends that as soon as it has its turn: behind
//! everybody who was ready to run when the batch was opened. So a lone look is sent at once, and a busy process
//! sends one command where it had many looks. Nobody waits for a timer or for another answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Value};
use tokio::sync::oneshot;

use super::{failed, unwrap_entry};
use crate::cache::tier::{Look, TierError};
use crate::redis::{Link, LinkError};

/// The most looks of one command: its answer is read as a whole, and an entry may be
/// [large](crate::cache::tier::MAX_ENTRY_BYTES).
const MAX_LOOKS: usize = 32;

/// Room for a lone look; more is made when others come.
const FIRST_NAMES: usize = 4;
const FIRST_BYTES: usize = 256;

type Answer = oneshot::Sender<Result<Look, TierError>>;

#[derive(Debug)]
pub(super) struct Looks {
    link: Link,
    mark: Arc<str>,
    open: Mutex<Option<Batch>>,
}

/// An `MGET`: the mark first, then for each look its entry, and before the first of each cache that cache's
/// generation.
#[derive(Debug)]
struct Batch {
    command: Cmd,
    names: usize,
    /// Names of generations, and where they are.
    generations: Vec<(Box<str>, usize)>,
    looks: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    generation: usize,
    entry: usize,
    answer: Answer,
}

impl Looks {
    pub(super) fn new(link: Link, mark: Arc<str>) -> Self {
        Self { link, mark, open: Mutex::new(None) }
    }

    /// What is at the key `entry`, of a cache whose generation is at the key `generation`.
    ///
    /// # Cancel safety
    /// Dropped half way, the keys may be read all the same.
    pub(super) async fn look(self: &Arc<Self>, entry: &str, generation: &str) -> Result<Look, TierError> {
        let (answer, answered) = oneshot::channel();
        self.enter(entry, generation, answer);
        // Without an answer only if the runtime ends.
        answered.await.unwrap_or(Err(TierError::Away))
    }

    fn enter(self: &Arc<Self>, entry: &str, generation: &str, answer: Answer) {
        let mut open = self.open();
        let is_first = open.is_none();
        let batch = open.get_or_insert_with(|| Batch::new(&self.mark));
        batch.add(entry, generation, answer);
        let full = if batch.looks.len() >= MAX_LOOKS { open.take() } else { None };
        drop(open);
        if let Some(full) = full {
            let looks = Arc::clone(self);
            tokio::spawn(async move { looks.send(full).await });
        } else if is_first {
            let turn = Turn { looks: Some(Arc::clone(self)) };
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                turn.send().await;
            });
        }
    }

    async fn send(&self, batch: Batch) {
        let Batch { command, looks, .. } = batch;
        let found: Result<Vec<Value>, LinkError> =
            self.link.run(async |connection| command.query_async(connection).await).await;
        let mut found = found.and_then(Found::new);
        for look in looks {
            let answer = match &mut found {
                Ok(found) => Ok(found.take(&look)),
                Err(error) => Err(failed("look", error.clone())),
            };
            // Who went away needs no answer.
            let _ = look.answer.send(answer);
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Batch>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to send the open batch. Should the runtime end before, the batch goes with it: nobody else would
/// ever send it.
struct Turn {
    looks: Option<Arc<Looks>>,
}

impl Turn {
    async fn send(mut self) {
        let Some(looks) = self.looks.take() else { return };
        // If it was filled meanwhile, it is on its way, and another may be open: who opened that one finds none.
        let batch = looks.open().take();
        if let Some(batch) = batch {
            looks.send(batch).await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(looks) = &self.looks {
            drop(looks.open().take());
        }
    }
}

impl Batch {
    fn new(mark: &str) -> Self {
        let mut command = Cmd::with_capacity(FIRST_NAMES, FIRST_BYTES);
        command.arg("MGET").arg(mark);
        Self { command, names: 1, generations: Vec::new(), looks: Vec::new() }
    }

    fn add(&mut self, entry: &str, generation: &str, answer: Answer) {
        let known = self.generations.iter().find(|(known, _)| **known == *generation);
        let generation = match known {
            Some((_, at)) => *at,
            None => {
                let at = self.name(generation);
                self.generations.push((generation.into(), at));
                at
            }
        };
        let entry = self.name(entry);
        self.looks.push(Waiting { generation, entry, answer });
    }

    /// Asks for one more key; where it stands in the answer.
    fn name(&mut self, name: &str) -> usize {
        self.command.arg(name);
        self.names += 1;
        self.names - 1
    }
}

/// What came back: all of it read at one moment.
#[derive(Debug)]
struct Found {
    values: Vec<Value>,
    applied: Option<i64>,
}

impl Found {
    fn new(mut values: Vec<Value>) -> Result<Self, LinkError> {
        let mark = values.first_mut().map_or(Value::Nil, |mark| std::mem::replace(mark, Value::Nil));
        let applied = redis::from_redis_value(mark).map_err(|error| LinkError::Redis(error.into()))?;
        Ok(Self { values, applied })
    }

    fn take(&mut self, look: &Waiting) -> Look {
        let entry = self.values.get_mut(look.entry).map(|value| std::mem::replace(value, Value::Nil));
        let bytes = match (entry, self.values.get(look.generation)) {
            (Some(Value::BulkString(entry)), Some(Value::BulkString(generation))) => unwrap_entry(entry, generation),
            _ => None,
        };
        Look { bytes, applied: self.applied }
    }
}
