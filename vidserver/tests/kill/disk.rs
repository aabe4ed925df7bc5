//! The disks of a program under test, seen from outside: filled, given room again, and copied.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::process::Program;

/// What takes up the room.
const BALLAST: &str = "ballast";

/// A folder that only the program sees. It outlives the program.
pub(crate) struct Disk {
    folder: File,
}

impl Disk {
    /// That at `path` as `server` sees it.
    pub(crate) fn of(server: &Program, path: &Path) -> Self {
        Self { folder: File::open(server.sees(path)).expect("it is mounted") }
    }

    /// A path by way of the open folder: the mount has no name here, and none anywhere once the program has ended.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    /// Takes up all the room there is.
    pub(crate) fn fill(&self) {
        let ballast = File::options().create(true).append(true).open(self.path().join(BALLAST));
        let mut ballast = ballast.expect("a name needs no room");
        let error = loop {
            if let Err(error) = ballast.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(ErrorKind::StorageFull, error.kind());
    }

    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.path().join(BALLAST)).expect("it was filled");
    }

    /// Puts everything that is on it into a folder that is there. Nothing may be writing.
    pub(crate) fn copy_to(&self, folder: &Path) {
        copy_into(folder, &self.path());
    }
}

fn copy_into(to: &Path, from: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).expect("a new folder");
            // Keys are refused that others may read.
            let mode = entry.metadata().expect("it is there").permissions();
            std::fs::set_permissions(&to, mode).expect("it is ours");
            copy_into(&to, &from);
        } else if entry.file_name() != BALLAST {
            std::fs::copy(&from, &to).expect("a file");
        }
    }
}
