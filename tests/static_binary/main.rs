//! The release binary is static, stripped and small, and runs in an empty file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The budget of the binary, and so of the image: 2.13 MB.
const MAX_BYTES: usize = 2_130_000;
/// Program header: the path of an interpreter, which a static program does not have.
const PT_INTERP: u64 = 3;
/// Program header: the table that names shared libraries, if there are any.
const PT_DYNAMIC: u64 = 2;
/// Entry of that table: one shared library.
const DT_NEEDED: u64 = 1;
/// Section header: the symbols that stripping removes.
const SHT_SYMTAB: u64 = 2;

/// The properties of a 64-bit little-endian ELF file.
#[derive(Debug, PartialEq)]
struct Elf {
    machine: u64,
    interpreter: bool,
    libraries: usize,
    symbols: bool,
}

/// The little-endian number of `size` bytes at `at`.
fn number(bytes: &[u8], at: u64, size: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Reads the headers; offsets as in elf(5).
fn elf(bytes: &[u8]) -> Option<Elf> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let mut found =
        Elf { machine: number(bytes, 0x12, 2)?, interpreter: false, libraries: 0, symbols: false };
    let (programs, size, count) =
        (number(bytes, 0x20, 8)?, number(bytes, 0x36, 2)?, number(bytes, 0x38, 2)?);
    for header in (0..count).map(|index| programs + index * size) {
        match number(bytes, header, 4)? {
            PT_INTERP => found.interpreter = true,
            PT_DYNAMIC => {
                let (start, length) =
                    (number(bytes, header + 0x08, 8)?, number(bytes, header + 0x20, 8)?);
                for entry in (0..length / 16).map(|index| start + index * 16) {
                    found.libraries += usize::from(number(bytes, entry, 8)? == DT_NEEDED);
                }
            }
            _ => {}
        }
    }
    let (sections, size, count) =
        (number(bytes, 0x28, 8)?, number(bytes, 0x3a, 2)?, number(bytes, 0x3c, 2)?);
    for header in (0..count).map(|index| sections + index * size) {
        found.symbols |= number(bytes, header + 0x04, 4)? == SHT_SYMTAB;
    }
    Some(found)
}

/// The release binary that `variable` names; skips the test without one.
fn binary(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        wylis_harness::skip(&format!(
            "{variable} names no release binary (scripts/build.sh builds it)"
        ));
    }
    path
}

fn check_static_stripped_and_small(path: &Path, machine: u64) {
    let bytes = fs::read(path).expect("the release binary can be read");
    let found = elf(&bytes).expect("an ELF file");
    assert_eq!(found, Elf { machine, interpreter: false, libraries: 0, symbols: false });
    assert!(bytes.len() <= MAX_BYTES, "{} is {} bytes", path.display(), bytes.len());
}

#[test]
fn the_binary_is_static_stripped_and_small() {
    let Some(path) = binary("WYLIS_BINARY") else { return };
    let machine = if cfg!(target_arch = "aarch64") { 0xb7 } else { 0x3e };
    check_static_stripped_and_small(&path, machine);
}

#[test]
fn the_arm64_binary_is_static_stripped_and_small() {
    let Some(path) = binary("WYLIS_BINARY_ARM64") else { return };
    check_static_stripped_and_small(&path, 0xb7);
}

#[test]
fn a_dynamic_unstripped_program_is_recognised() {
    // This test program is dynamic when it is built for glibc.
    let this = elf(&fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap();
    if cfg!(target_env = "gnu") {
        assert!(this.interpreter && this.libraries > 0, "{this:?}");
    }
    assert!(this.symbols, "{this:?}");
    assert_eq!(elf(b"#!/bin/sh\n"), None);
}

fn assert_prints_version(command: &mut Command) {
    let output = command.output().expect("the program starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {output:?}", output.status);
    assert_eq!(printed.trim(), concat!("wylis ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_binary_runs_in_an_empty_file_system() {
    let Some(path) = binary("WYLIS_BINARY") else { return };
    let root = Command::new("id").arg("-u").output().unwrap();
    if root.stdout != b"0\n" {
        return wylis_harness::skip("only root may change the root directory");
    }
    let empty =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("empty-{}", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    fs::copy(&path, empty.join("wylis")).unwrap();
    assert_prints_version(Command::new("chroot").arg(&empty).args(["/wylis", "--version"]));
    fs::remove_dir_all(&empty).unwrap();
}

#[test]
fn the_arm64_binary_runs() {
    let Some(path) = binary("WYLIS_BINARY_ARM64") else { return };
    if Command::new("qemu-aarch64-static").arg("--version").output().is_err() {
        return wylis_harness::skip("no qemu-aarch64-static (Debian package qemu-user-static)");
    }
    assert_prints_version(Command::new("qemu-aarch64-static").arg(path).arg("--version"));
}
