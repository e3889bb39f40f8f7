//! Programs that a client runs, such as curl and a browser.

use std::process::Command;

use anyhow::Result;

use super::Lab;

/// Runs a program at the client, which resolves names at the product. Returns whether it succeeded, and its output.
pub fn run(lab: &Lab, command: &[&str]) -> Result<(bool, String)> {
    let file = lab.file("resolv.conf", "nameserver 10.1.0.1\noptions attempts:1 timeout:5\n")?;
    // In a mount namespace of its own, no other process sees the file, and nothing is left.
    let mounted = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", file.display());
    let output = Command::new("ip")
        .args(["netns", "exec", lab.client.name(), "unshare", "--mount", "sh", "-c", &mounted, "sh"])
        .args(command)
        .output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}
