//! What is done to whom and when, drawn from a seed: the same seed draws the same plan. When exactly a
//! signal meets a process is up to the machine.

use std::time::Duration;

use fastrand::Rng;

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves the API and runs no jobs.
    Server,
    /// Serves the API and runs jobs.
    ServerAndWorker,
    /// Runs jobs.
    Worker,
    /// Carries hints and notices: it is no program of ours, and loses everything whenever it is killed.
    Redis,
}

impl Role {
    /// Whether it serves the API.
    pub fn serves(self) -> bool {
        matches!(self, Self::Server | Self::ServerAndWorker)
    }

    /// Whether it runs jobs.
    pub fn works(self) -> bool {
        matches!(self, Self::Worker | Self::ServerAndWorker)
    }
}

/// A point of the programs, and who passes it.
struct Point {
    name: &'static str,
    serving: bool,
    working: bool,
    /// How many passes at most come before the one that counts: more where it is passed often.
    most_passes: u32,
}

static POINTS: [Point; 15] = [
    Point { name: "upload-half-way", serving: true, working: false, most_passes: 2 },
    Point { name: "received-before-commit", serving: true, working: false, most_passes: 2 },
    Point { name: "after-claim", serving: false, working: true, most_passes: 2 },
    Point { name: "before-heartbeat", serving: false, working: true, most_passes: 3 },
    Point { name: "after-heartbeat", serving: false, working: true, most_passes: 3 },
    Point { name: "before-pin", serving: false, working: true, most_passes: 2 },
    Point { name: "after-pin", serving: false, working: true, most_passes: 2 },
    Point { name: "verified-before-commit", serving: false, working: true, most_passes: 2 },
    Point { name: "before-put", serving: false, working: true, most_passes: 2 },
    Point { name: "after-put", serving: false, working: true, most_passes: 2 },
    Point { name: "mid-encode", serving: false, working: true, most_passes: 12 },
    Point { name: "before-publish", serving: false, working: true, most_passes: 2 },
    Point { name: "published-before-done", serving: false, working: true, most_passes: 2 },
    Point { name: "holding-lock", serving: true, working: true, most_passes: 20 },
    Point { name: "committed-before-answer", serving: true, working: true, most_passes: 20 },
];

/// Passed by a worker that was asked to stop.
pub const MID_DRAIN: &str = "mid-drain";

/// What a process does at the point it is armed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtPoint {
    /// Dies as by SIGKILL.
    Die,
    /// Stands still as by SIGSTOP, once, for that long.
    Freeze(Duration),
    /// Stands still every time it comes by, until it is continued.
    FreezeEachTime,
}

/// What a process is armed with when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armament {
    /// The point's name.
    pub point: &'static str,
    /// What happens there.
    pub action: AtPoint,
    /// How often the point is passed before that.
    pub passes: u32,
}

impl Armament {
    /// The variable `FAILPOINTS` that says so.
    pub fn variable(&self) -> String {
        let action = match self.action {
            AtPoint::Die => "return",
            AtPoint::Freeze(_) => "1*return(stop)",
            AtPoint::FreezeEachTime => "return(stop)",
        };
        match self.passes {
            0 => format!("{}={action}", self.point),
            passes => format!("{}={passes}*off->{action}", self.point),
        }
    }
}

/// Points that are still to come, for each role: each comes once before any comes again.
#[derive(Debug, Clone, Default)]
pub struct Deck {
    serving: Vec<usize>,
    working: Vec<usize>,
    both: Vec<usize>,
}

impl Deck {
    /// The next point that a process of this role passes. Where attempts put objects (`puts`), half of
    /// the workers' points are around that; elsewhere nobody passes them.
    pub fn draw(&mut self, rng: &mut Rng, role: Role, puts: bool, lease: Duration) -> Armament {
        let put_next = puts && role.works() && rng.bool();
        let point = if put_next { put_point(rng) } else { &POINTS[self.next(rng, role)] };
        let passes = rng.u32(0..=point.most_passes);
        let action = if rng.u8(0..4) == 0 { AtPoint::Freeze(frozen_for(rng, lease)) } else { AtPoint::Die };
        Armament { point: point.name, action, passes }
    }

    fn next(&mut self, rng: &mut Rng, role: Role) -> usize {
        let (left, passed): (_, fn(&Point) -> bool) = match role {
            Role::Server => (&mut self.serving, |point| point.serving),
            Role::Worker => (&mut self.working, |point| point.working),
            // Redis has no points and is never armed.
            Role::ServerAndWorker | Role::Redis => (&mut self.both, |_| true),
        };
        if left.is_empty() {
            left.extend((0..POINTS.len()).filter(|&at| passed(&POINTS[at]) && !is_put(&POINTS[at])));
            rng.shuffle(left);
        }
        left.pop().expect("every role passes some point")
    }
}

fn is_put(point: &Point) -> bool {
    point.name.ends_with("-put")
}

fn put_point(rng: &mut Rng) -> &'static Point {
    let points: Vec<&Point> = POINTS.iter().filter(|point| is_put(point)).collect();
    rng.choice(points).expect("there are such points")
}

/// How a process is treated at a random moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after that long.
    Stop(Duration),
    /// SIGTERM, and time to end well.
    Terminate,
    /// SIGTERM, and SIGKILL that much later if it is still there.
    KillDraining(Duration),
}

impl Deed {
    /// Half of the deeds are kills.
    pub fn draw(rng: &mut Rng, lease: Duration) -> Self {
        match rng.u8(0..12) {
            0..6 => Self::Kill,
            6..9 => Self::Stop(frozen_for(rng, lease)),
            9 => Self::Terminate,
            _ => Self::KillDraining(Duration::from_millis(rng.u64(0..150))),
        }
    }
}

/// Shorter than a lease as often as longer.
fn frozen_for(rng: &mut Rng, lease: Duration) -> Duration {
    if rng.bool() { lease.mul_f64(0.1 + 0.5 * rng.f64()) } else { lease.mul_f64(1.4 + rng.f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uploads of several requests are killed by the server's own tests, where a client follows the offset.
    const ELSEWHERE: [&str; 2] = ["appended-before-commit", "mid-join"];

    #[test]
    fn every_point_the_programs_have_is_used() {
        let known = POINTS.iter().map(|point| point.name).chain([MID_DRAIN]).chain(ELSEWHERE);
        let mut known: Vec<_> = known.collect();
        let mut there = vidcore::failpoints::NAMES.to_vec();
        known.sort_unstable();
        there.sort_unstable();
        assert_eq!(there, known);
    }

    #[test]
    fn one_seed_is_one_plan() {
        let lease = Duration::from_millis(900);
        let plan = |seed| {
            let mut rng = Rng::with_seed(seed);
            let mut deck = Deck::default();
            (0..50)
                .map(|_| (Deed::draw(&mut rng, lease), deck.draw(&mut rng, Role::Worker, true, lease)))
                .collect::<Vec<_>>()
        };
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn every_point_of_a_role_comes_before_any_comes_again() {
        let (mut rng, mut deck) = (Rng::with_seed(1), Deck::default());
        let expected = POINTS.iter().filter(|point| point.working && !is_put(point)).count();
        let drawn: std::collections::BTreeSet<_> =
            (0..expected).map(|_| deck.draw(&mut rng, Role::Worker, false, Duration::from_millis(900)).point).collect();
        assert_eq!(expected, drawn.len());
    }

    #[test]
    fn an_armament_is_written_as_the_programs_read_it() {
        let armament = Armament { point: "after-claim", action: AtPoint::Die, passes: 0 };
        assert_eq!("after-claim=return", armament.variable());
        let frozen = Armament { action: AtPoint::Freeze(Duration::ZERO), passes: 2, ..armament };
        assert_eq!("after-claim=2*off->1*return(stop)", frozen.variable());
    }
}
