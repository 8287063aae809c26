#!/usr/bin/env bash
# Builds the static release binary: `build.sh [--path] [amd64|arm64]`, by default for this machine's
# architecture. `make build` and the builder stage of the image share this recipe. --path only prints the
# path of the binary. Architectures have the names that container images use.
set -euo pipefail
cd "$(dirname "$0")/.."

only_path=false
if [ "${1:-}" = --path ]; then only_path=true; shift; fi
host=$(uname -m)
case "${1:-$host}" in
    amd64 | x86_64) machine=x86_64 ;;
    arm64 | aarch64) machine=aarch64 ;;
    *) echo "build: no recipe for the architecture ${1:-$host}" >&2; exit 2 ;;
esac
target=$machine-unknown-linux-musl
binary=${CARGO_TARGET_DIR:-target}/$target/release/wylis
if $only_path; then echo "$binary"; exit; fi

if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$target"; then
    rustup target add "$target"
fi

# ring has C code. Debian has no cross compiler for musl, but the one for glibc works: the code calls
# only memcpy and the like. The linker and musl itself come with Rust.
variable=${target//-/_}
if [ "$machine" = "$host" ]; then
    export "CC_$variable=musl-gcc"
else
    export "CC_$variable=$machine-linux-gnu-gcc"
fi
# Size: identical functions merged, ends of strings shared, relocations packed (needs the musl 1.2.5 of Rust
# 1.93), no unwinding. Repeated machine code outlined into functions: 50 KB less, all of it resident.
size="-C link-arg=--icf=all -C link-arg=-O2 -C link-arg=--pack-dyn-relocs=relr"
size+=" -C link-arg=-T$PWD/scripts/release.ld -C llvm-args=-enable-machine-outliner=always"
export "CARGO_TARGET_${variable^^}_LINKER=rust-lld"
export "CARGO_TARGET_${variable^^}_RUSTFLAGS=-C link-self-contained=yes $size"
cargo build --release --locked --package wylis --bin wylis --target "$target"
