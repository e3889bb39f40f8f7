//! The Debian package. These tests are of the second tier: `cargo xtask test --full=package`.

mod install;
mod systemd;
