//! What stands around a tool that reads hostile bytes: a chain of small programs, each of which
//! restricts itself and then becomes the next.
//!
//! Every layer is tried when the transcoder is made, and used only where the trial shows that it
//! works; what is absent is reported. None of them replaces the forced demuxer and the whitelists of
//! the command line itself.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

use crate::clock::Clock;
use crate::media::probe;

/// How long one trial of a layer may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// One restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// The tool is killed when the process that started it dies, and can gain no privilege
    /// (`setpriv --pdeathsig KILL --no-new-privs`).
    DiesWithParent,
    /// Address space, processor time and file size are limited, core files off (`prlimit`).
    Limits,
    /// No network but an empty one (`unshare --user --map-current-user --net`).
    NoNetwork,
}

impl Layer {
    /// All layers, outermost first.
    ///
    /// The signal of parent death outlives the later `exec`s: none of the programs is setuid, and a
    /// user namespace that maps the current user keeps its credentials.
    pub const ALL: [Self; 3] = [Self::DiesWithParent, Self::Limits, Self::NoNetwork];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiesWithParent => "dies_with_parent",
            Self::Limits => "limits",
            Self::NoNetwork => "no_network",
        })
    }
}

/// What [`Layer::Limits`] allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Address space in bytes; 0 sets no limit.
    pub address_space_bytes: u64,
    /// Largest file it may write, in bytes. Default 1 GiB, far above any segment of four seconds.
    pub file_bytes: u64,
    /// Processor time over all threads; the end of a tool nobody watches any more.
    pub processor_time: Duration,
}

/// The layers in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    layers: Vec<Layer>,
    limits: ResourceLimits,
}

impl Sandbox {
    /// A sandbox of these layers, without trying them.
    pub fn new(layers: &[Layer], limits: ResourceLimits) -> Self {
        let layers = Layer::ALL.into_iter().filter(|layer| layers.contains(layer)).collect();
        Self { layers, limits }
    }

    /// The layers that work here, found by running `program -version` inside each and then inside
    /// all of them.
    pub(crate) async fn detect(program: &OsString, limits: ResourceLimits, clock: &dyn Clock) -> Self {
        let trials = Layer::ALL.map(|layer| async move {
            let alone = Self::new(&[layer], limits);
            probe::version(&alone, program, TRIAL_LIMIT, clock).await.is_ok().then_some(layer)
        });
        let working = futures_util::future::join_all(trials).await;
        let mut sandbox = Self::new(&working.into_iter().flatten().collect::<Vec<_>>(), limits);
        while !sandbox.layers.is_empty() && probe::version(&sandbox, program, TRIAL_LIMIT, clock).await.is_err() {
            sandbox.layers.pop();
        }
        sandbox
    }

    /// The same layers with another allowance of processor time.
    pub(crate) fn with_processor_time(&self, processor_time: Duration) -> Self {
        Self { layers: self.layers.clone(), limits: ResourceLimits { processor_time, ..self.limits } }
    }

    /// The layers in force, outermost first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What [`Layer::Limits`] allows.
    pub fn limits(&self) -> ResourceLimits {
        self.limits
    }

    /// The layers that do not work here.
    pub fn absent(&self) -> Vec<Layer> {
        Layer::ALL.into_iter().filter(|layer| !self.layers.contains(layer)).collect()
    }

    /// The whole command line, program first, that runs `program` with `arguments` inside.
    pub fn command_line(&self, program: &OsStr, arguments: Vec<OsString>) -> Vec<OsString> {
        let mut line: Vec<OsString> = self.layers.iter().flat_map(|layer| self.prefix(*layer)).collect();
        line.push(program.to_owned());
        line.extend(arguments);
        line
    }

    fn prefix(&self, layer: Layer) -> Vec<OsString> {
        let words: Vec<String> = match layer {
            Layer::DiesWithParent => {
                ["setpriv", "--pdeathsig", "KILL", "--no-new-privs", "--"].map(String::from).into()
            }
            Layer::Limits => self.prlimit(),
            Layer::NoNetwork => ["unshare", "--user", "--map-current-user", "--net", "--"].map(String::from).into(),
        };
        words.into_iter().map(OsString::from).collect()
    }

    fn prlimit(&self) -> Vec<String> {
        let ResourceLimits { address_space_bytes, file_bytes, processor_time } = self.limits;
        let mut words = vec!["prlimit".to_owned(), "--core=0".to_owned(), format!("--fsize={file_bytes}")];
        words.push(format!("--cpu={}", processor_time.as_secs().max(1)));
        if address_space_bytes > 0 {
            words.push(format!("--as={address_space_bytes}"));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ResourceLimits =
        ResourceLimits { address_space_bytes: 4 << 30, file_bytes: 1 << 30, processor_time: Duration::from_secs(60) };

    fn line(layers: &[Layer], limits: ResourceLimits) -> String {
        let words = Sandbox::new(layers, limits).command_line("ffmpeg".as_ref(), vec!["-version".into()]);
        words.join(" ".as_ref()).into_string().expect("all words are ASCII")
    }

    #[test]
    fn layers_stand_in_one_order_however_they_are_named() {
        let expected = "setpriv --pdeathsig KILL --no-new-privs -- \
                        prlimit --core=0 --fsize=1073741824 --cpu=60 --as=4294967296 \
                        unshare --user --map-current-user --net -- ffmpeg -version";
        assert_eq!(expected, line(&[Layer::NoNetwork, Layer::Limits, Layer::DiesWithParent], LIMITS));
    }

    #[test]
    fn without_layers_the_tool_stands_alone_and_all_are_reported_absent() {
        assert_eq!("ffmpeg -version", line(&[], LIMITS));
        assert_eq!(Layer::ALL.to_vec(), Sandbox::new(&[], LIMITS).absent());
    }

    #[test]
    fn no_memory_limit_is_set_when_none_is_wanted() {
        let unlimited = ResourceLimits { address_space_bytes: 0, ..LIMITS };
        assert!(!line(&[Layer::Limits], unlimited).contains("--as"));
    }
}
