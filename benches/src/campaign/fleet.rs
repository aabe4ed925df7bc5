//! Node processes of one campaign, and what they say.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Failure;
use crate::campaign::PATIENCE;
use crate::campaign::node::{NodeOptions, Order};

/// Lines that may wait to be read. All come from few loads and from nodes that are asked one thing at a time.
const LINES: usize = 1024;

/// What a node said; `None` when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which node.
    pub node: usize,
    /// Its words.
    pub words: Option<Vec<String>>,
}

/// Processes that run this program's hidden command `node`. Dropping them kills them.
#[derive(Debug)]
pub struct Fleet {
    options: NodeOptions,
    nodes: Vec<Option<Running>>,
    said: mpsc::Receiver<Said>,
    says: mpsc::Sender<Said>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    orders: ChildStdin,
}

impl Fleet {
    /// Starts as many nodes and waits until each has read something by way of Redis.
    ///
    /// # Errors
    /// One does not come up.
    pub async fn start(nodes: usize, options: NodeOptions) -> Result<Self, Failure> {
        let (says, said) = mpsc::channel(LINES);
        let mut fleet = Self { options, nodes: (0..nodes).map(|_| None).collect(), said, says };
        fleet.start_missing().await?;
        Ok(fleet)
    }

    /// Starts a node wherever there is none.
    ///
    /// # Errors
    /// One does not come up.
    pub async fn start_missing(&mut self) -> Result<(), Failure> {
        let missing: Vec<_> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_none()).collect();
        for node in &missing {
            self.nodes[*node] = Some(self.launch(*node)?);
        }
        for _ in missing {
            match self.said().await? {
                Said { words: Some(words), .. } if words[..] == ["ready"] => {}
                other => return Err(format!("a node at its start: {other:?}").into()),
            }
        }
        Ok(())
    }

    /// Nodes that live.
    pub fn living(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_some()).collect()
    }

    /// Gives a node an order.
    ///
    /// # Errors
    /// It has ended.
    pub async fn order(&mut self, node: usize, order: &Order) -> Result<(), Failure> {
        let running = self.nodes[node].as_mut().ok_or("a node that has ended was asked")?;
        running.orders.write_all(order.line().as_bytes()).await?;
        Ok(())
    }

    /// The next words of anybody.
    ///
    /// # Errors
    /// Nobody says anything for half a minute.
    pub async fn said(&mut self) -> Result<Said, Failure> {
        self.said_within(PATIENCE).await
    }

    /// The same within another time.
    ///
    /// # Errors
    /// Nobody says anything.
    pub async fn said_within(&mut self, bound: std::time::Duration) -> Result<Said, Failure> {
        let said = timeout(bound, self.said.recv()).await.map_err(|_| "the nodes say nothing")?;
        said.ok_or_else(|| "there are no nodes".into())
    }

    /// Kills a node as by `kill -9`, and reaps it.
    ///
    /// # Errors
    /// The operating system's own.
    pub async fn kill(&mut self, node: usize) -> Result<(), Failure> {
        if let Some(mut running) = self.nodes[node].take() {
            running.child.kill().await?;
        }
        Ok(())
    }

    fn launch(&self, node: usize) -> Result<Running, Failure> {
        let NodeOptions { redis, prefix, load_ms, ttl_ms, stale_ms } = &self.options;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", "--redis", redis, "--prefix", prefix]);
        for (name, value) in [("--load-ms", load_ms), ("--ttl-ms", ttl_ms), ("--stale-ms", stale_ms)] {
            command.arg(name).arg(value.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let orders = child.stdin.take().ok_or("a node without an input")?;
        let output = child.stdout.take().ok_or("a node without an output")?;
        let says = self.says.clone();
        // Ends with the node's output, or with the fleet.
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            loop {
                let line = lines.next_line().await.ok().flatten();
                let words = line.map(|line| line.split_whitespace().map(str::to_owned).collect());
                let is_over = words.is_none();
                if says.send(Said { node, words }).await.is_err() || is_over {
                    return;
                }
            }
        });
        Ok(Running { child, orders })
    }
}
