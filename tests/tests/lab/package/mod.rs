//! The Debian package. These tests are of the second tier: `cargo xtask test --full=package`.

mod life;
mod systemd;
