//! Small files that others may have put in place: read within a bound and without waiting, replaced as a
//! whole. A pipe or a device at the path is an error, never a wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The user that owns what the system itself puts in place.
const ROOT: u32 = 0;

/// The content of a regular file of at most `max` bytes. Links are followed: the kubelet replaces the
/// files of a volume through one.
///
/// # Errors
/// When it cannot be read, is longer, or is no regular file.
fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read(&open(path, 0)?, max)
}

/// As [`read_bounded`], for text. No error contains any of it.
pub(crate) fn read_text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(read_bounded(path, max)?).map_err(|_| invalid("is not UTF-8"))
}

/// As [`read_bounded`], for a file that only this process writes: it is no link, and belongs to this
/// process's user or to root.
pub(crate) fn read_own(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = open(path, libc::O_NOFOLLOW).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => invalid("is a symbolic link"),
        _ => error,
    })?;
    let owner = file.metadata()?.uid();
    if owner != ROOT && owner != rustix::process::geteuid().as_raw() {
        return Err(invalid("belongs to another user"));
    }
    read(&file, max)
}

/// Writes `temporary` anew and renames it to `path`, in the same directory. Neither follows what lies
/// there: the new file must not exist, and a rename replaces a link itself. `write` writes the content.
pub(crate) fn replace(
    path: &Path,
    temporary: &Path,
    write: &mut dyn FnMut(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    // Before the rename: after a power cut an empty file would be worse than the old one.
    let written = write(&mut file).and_then(|()| file.sync_all());
    let result = written.and_then(|()| std::fs::rename(temporary, path));
    if result.is_err() {
        // What is left of it would take space on a full disk.
        let _ = std::fs::remove_file(temporary);
    }
    result
}

/// Opens a regular file. `O_NONBLOCK` returns at once where a pipe waits for a writer, and has no effect
/// on a regular file (open(2)).
fn open(path: &Path, flags: i32) -> io::Result<File> {
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(invalid("is not a regular file")) }
}

/// The file's length only sizes the buffer: it may grow meanwhile, and is 0 for a file of the kernel.
fn read(file: &File, max: u64) -> io::Result<Vec<u8>> {
    let too_long = || invalid(format!("is longer than {max} bytes"));
    let length = file.metadata()?.len();
    if length > max {
        return Err(too_long());
    }
    // One byte above the limit shows a longer file.
    let mut content = Vec::with_capacity(usize::try_from(length + 1).unwrap_or(0));
    file.take(max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max { Err(too_long()) } else { Ok(content) }
}

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use wylis_harness::{TempDir, skip};

    #[test]
    fn the_bound_of_a_file_is_exact() {
        let dir = TempDir::new("file");
        let path = dir.path().join("file");
        for (length, fits) in [(0, true), (9, true), (10, true), (11, false), (100_000, false)] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            for read in [read_bounded, read_own] {
                let content = read(&path, 10).ok().map(|content| content.len());
                assert_eq!(content, fits.then_some(length), "{length}");
            }
        }
    }

    #[test]
    fn a_file_of_the_kernel_without_a_length_is_read_and_bounded() {
        let path = Path::new("/proc/self/status");
        assert!(!read_bounded(path, 1 << 20).unwrap().is_empty());
        let error = read_bounded(path, 10).unwrap_err().to_string();
        assert_eq!(error, "is longer than 10 bytes");
    }

    #[test]
    fn a_link_is_followed_only_where_others_write() {
        let dir = TempDir::new("file");
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&path, "x").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_bounded(&link, 10).unwrap(), b"x");
        assert_eq!(read_own(&link, 10).unwrap_err().to_string(), "is a symbolic link");
    }

    #[test]
    fn a_file_of_another_user_is_not_read_as_our_own() {
        let dir = TempDir::new("file");
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        if !rustix::process::geteuid().is_root() {
            return skip("no file of another user: needs root");
        }
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert_eq!(read_own(&path, 10).unwrap_err().to_string(), "belongs to another user");
        assert_eq!(read_bounded(&path, 10).unwrap(), b"x");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = TempDir::new("file");
        let (path, temporary) = (dir.path().join("file"), dir.path().join("new"));
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, &temporary, &mut |file| file.write_all(b"x")).is_err());
        assert!(path.is_dir() && !temporary.exists());
        std::fs::remove_dir(&path).unwrap();
        replace(&path, &temporary, &mut |file| file.write_all(b"x")).unwrap();
        std::fs::create_dir(&temporary).unwrap();
        assert!(replace(&path, &temporary, &mut |file| file.write_all(b"y")).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
