#!/usr/bin/env bash
# Takes the screenshots in docs/ of a real mesh in a real browser. Needs root (the mesh runs in network
# namespaces) and what setup.sh installs; pngquant shrinks the files.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v pngquant >/dev/null || { echo "screenshots: no pngquant; scripts/setup.sh installs it" >&2; exit 1; }
export WYLIS_SCREENSHOTS=$PWD/build/screenshots
rm -rf "$WYLIS_SCREENSHOTS"
mkdir -p "$WYLIS_SCREENSHOTS"
WYLIS_BINARY=$(realpath "$(scripts/build.sh --path)")
export WYLIS_BINARY
cargo test --locked --test page -- --ignored write_the_screenshots
for name in page page-dark pair night; do
    pngquant --strip --speed 1 --force --output "docs/$name.png" 128 "$WYLIS_SCREENSHOTS/$name.png"
done
ls -l docs/*.png
