#!/bin/bash
# package.sh PROFILE: makes the Debian package of what cargo builds with that profile, `release` or `dev`, in debian/ of the target
# directory, and prints its name last.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=$1
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$target
built=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")

scripts/install-packages.sh dpkg-dev
cargo_deb=$(command -v cargo-deb || echo "$target/tools/bin/cargo-deb")
if [ ! -x "$cargo_deb" ]; then
  # As quick to build as may be: it runs for a second.
  CARGO_PROFILE_RELEASE_LTO=off cargo install --quiet cargo-deb --version "^3" --locked --root "$target/tools" --target-dir "$target/tools/build"
  rm -rf "$target/tools/build"
fi

cargo build --profile "$profile" -p sgflow --bin sgflow
cargo build -p sgflow --example pages

# cargo-deb takes what is packed from the target directory of a release; here that is one of copies.
staged=$target/package/staged
rm -rf "$staged"
mkdir -p "$staged/release/pages" "$target/debian"
cp "$built/sgflow" "$staged/release/"
"$target/debug/examples/pages" "$staged/release/pages"
gzip --best --no-name "$staged"/release/pages/man/*
CARGO_TARGET_DIR=$staged "$cargo_deb" -p sgflow --no-build --strip --output "$target/debian"
