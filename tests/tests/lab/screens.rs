//! What operators see, in a real terminal.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::net::UnixListener,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use enforcer_tests::lab::{self, Lab, POLICY, probe, product::Enforcer, server::Servers};
use serde_json::Value;

/// A program in a terminal of its own, in the lab's gateway; dropping it ends both.
struct Screen {
    socket: String,
}

impl Screen {
    /// Runs a command line of words without quotes.
    fn of(lab: &Lab, name: &str, size: (u16, u16), line: &str) -> Result<Self> {
        let screen = Self { socket: lab.path(name).display().to_string() };
        let (width, height) = (size.0.to_string(), size.1.to_string());
        // What the pane said stays to be read when the command has ended.
        let line = format!("ip netns exec {} {line}; echo code $?; sleep 60", lab.gateway.name());
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &line])?;
        Ok(screen)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(arguments).env("TERM", "xterm-256color").env_remove("TMUX");
        command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        let output = command.output().context("cannot run tmux: `cargo xtask setup` installs it")?;
        if !output.status.success() {
            bail!("tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What is to be seen, as soon as it is what is waited for.
    fn wait(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<String> {
        let start = Instant::now();
        loop {
            let seen = self.tmux(&["capture-pane", "-p"])?;
            if is(&seen) {
                return Ok(seen);
            }
            ensure!(start.elapsed() < Duration::from_secs(15), "{what} is not to be seen:\n{seen}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

/// Runs code while a client sends what is allowed and what is denied.
fn under_traffic(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = probe::udp_flood(&lab.client, "17.253.4.5", 123, 50);
                let _ = probe::udp_flood(&lab.client, "203.0.113.9", 9, 5);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn command(lab: &Lab, words: &str) -> Result<String> {
    let program = lab::enforcer_binary()?;
    Ok(format!("{} {words} --socket {}", program.display(), lab.path("socket").display()))
}

/// The line that begins with a word, without what has been counted in all: the figure behind the word.
fn figure(seen: &str, word: &str) -> Option<f64> {
    let line = seen.lines().find(|line| line.split_whitespace().next() == Some(word))?;
    line.split_whitespace().find_map(|cell| cell.replace(',', "").parse().ok())
}

#[test]
fn status_fits_a_screen_and_tells_rates() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    let _enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    under_traffic(&lab, || {
        for size in [(80, 24), (120, 40)] {
            let screen = Screen::of(&lab, &format!("tmux-{}", size.0), size, &command(&lab, "status")?)?;
            let seen = screen.wait("the end of status", |seen| seen.contains("code 0"))?;
            println!("{seen}");
            assert!(seen.starts_with("version"), "{seen}");
            for line in ["lan0 by native XDP and TCX egress", "wan0 by TCX ingress and TCX egress"] {
                assert!(seen.contains(line), "no {line:?} in\n{seen}");
            }
            assert!(figure(&seen, "allowed").is_some_and(|rate| rate > 10.0), "{seen}");
            assert!(figure(&seen, "denied").is_some_and(|rate| rate > 1.0), "{seen}");
            let colours = screen.tmux(&["capture-pane", "-p", "-e"])?;
            assert!(colours.contains("\u{1b}["), "no colours on a terminal");
        }
        Ok(())
    })
}

#[test]
fn top_shows_services_and_denied_clients_and_gives_the_terminal_back() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    under_traffic(&lab, || {
        let screen = Screen::of(&lab, "tmux", (80, 24), &command(&lab, "top")?)?;
        let seen = screen.wait("traffic", |seen| {
            figure(seen, "time").is_some_and(|rate| rate > 10.0) && seen.contains("10.1.0.2")
        })?;
        println!("{seen}");
        assert!(seen.starts_with("enforcer   policy.toml "), "{seen}");
        assert!(seen.lines().any(|line| line.starts_with("10.1.0.2") && line.contains("203.0.113.9:9 udp, default")));
        screen.press(&["Tab"])?;
        screen.wait("the rules", |seen| seen.contains("apple time"))?;
        screen.press(&["/", "d", "e", "f", "Enter"])?;
        let seen = screen.wait("the filter", |seen| seen.contains("[default]") && !seen.contains("apple time"))?;
        assert!(seen.contains("/def"), "{seen}");
        screen.tmux(&["resize-window", "-x", "120", "-y", "40"])?;
        let seen =
            screen.wait("the larger screen", |seen| seen.lines().nth(39).is_some_and(|line| line.contains("/def")))?;
        println!("{seen}");
        screen.press(&["q"])?;
        // The screen that was there before is there again, with the shell's line.
        screen.wait("the end", |seen| seen.contains("code 0") && !seen.contains("BITS/S"))?;
        let ended = Screen::of(&lab, "tmux2", (80, 24), &command(&lab, "top")?)?;
        ended.wait("top again", |seen| seen.contains("DENIED CLIENT"))?;
        enforcer.stop()?;
        ended.wait("that the controller has gone", |seen| seen.contains("asking again"))?;
        ended.press(&["C-c"])?;
        ended.wait("the end", |seen| seen.contains("code 0"))?;
        let none = Screen::of(&lab, "tmux3", (80, 24), &command(&lab, "top")?)?;
        none.wait("that there is no controller", |seen| seen.contains("no controller on") && seen.contains("code 6"))
            .map(drop)
    })
}

/// What a command that needs no controller says, and its exit code.
fn said(lab: &Lab, words: &str) -> Result<(i32, String)> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", lab.gateway.name()]).arg(lab::enforcer_binary()?).args(words.split_whitespace());
    let output = command.output()?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    Ok((output.status.code().context("no code")?, text))
}

#[test]
fn doctor_tells_what_is_on_interfaces_and_what_is_wrong() -> Result<()> {
    let lab = Lab::new()?;
    let (code, text) = said(&lab, "doctor --lan lan0 --wan wan0")?;
    println!("{text}");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("has TCX, ring buffers"), "{text}");
    assert!(text.contains("lan0\n  ok       a virtual device has native XDP\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours in a file");
    // enforcer's own programs are no others.
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let own = format!("--pins {} --socket {}", lab.pins()?.display(), lab.path("socket").display());
    let (code, text) = said(&lab, &format!("doctor --lan lan0 --wan wan0 {own}"))?;
    assert!(code == 0 && !text.contains("other") && text.contains("a controller answers"), "{text}");
    // But those of one with other pins are.
    let (code, text) = said(&lab, "doctor --lan lan0 --wan wan0")?;
    assert!(
        code == 5 && text.contains("another enforcer is there, with other pins than /sys/fs/bpf/enforcer"),
        "{text}"
    );
    enforcer.stop()?;
    let (code, text) = said(&lab, &format!("doctor --lan lan0 --wan wan0 {own}"))?;
    assert!(code == 0 && text.contains("programs go on enforcing, but nothing follows"), "{text}");
    lab.gateway.run("sysctl -qw net.ipv4.ip_forward=0")?;
    let (code, text) = said(&lab, &format!("doctor --json --lan lan0 --wan wan0 {own}"))?;
    assert_eq!(code, 0, "{text}");
    let findings: Vec<Value> = serde_json::from_str(&text)?;
    let told = |level: &str, subject: &str, word: &str| {
        let is = |finding: &&Value| {
            finding["level"] == level
                && finding["subject"] == subject
                && finding["message"].as_str().is_some_and(|text| text.contains(word))
        };
        findings.iter().find(is).with_context(|| format!("no {level} of {word} in {text}")).map(drop)
    };
    told("warning", "system", "net.ipv4.ip_forward is 0")?;
    let (code, text) = said(&lab, "doctor --lan lan9")?;
    assert!(code == 0 && text.contains("lan9\n  warning  there is no such interface"), "{text}");
    Ok(())
}

#[test]
fn commands_without_a_controller_say_so() -> Result<()> {
    let lab = Lab::new()?;
    for command in ["status", "counters", "names", "events --follow", "explain 17.1.2.3 tcp/443"] {
        let (code, text) = said(&lab, &format!("{command} --socket {}", lab.path("none").display()))?;
        assert!(code == 6, "{command}: {code} {text}");
    }
    let (code, text) = said(&lab, "top")?;
    assert!(code == 1 && text.contains("top needs a terminal"), "{text}");
    Ok(())
}

#[test]
fn what_is_not_known_of_a_policy_when_the_controller_goes_is_said() -> Result<()> {
    let lab = Lab::new()?;
    let socket = lab.path("socket");
    let listener = UnixListener::bind(&socket)?;
    // It ends when it has been asked.
    let controller = thread::spawn(move || -> Result<()> {
        for _ in 0..3 {
            listener.accept()?.0.read_exact(&mut [0; 16])?;
        }
        Ok(())
    });
    let policy = lab.file("policy.toml", POLICY)?;
    for words in [&format!("apply {}", policy.display()), "confirm", "rollback"] {
        let (code, text) = said(&lab, &format!("{words} --socket {}", socket.display()))?;
        let told = "ended before it had answered; whether that is done is not known: see `enforcer status` and `enforcer history`";
        assert!(code == 6 && text.contains(told), "{words}: {code} {text}");
    }
    controller.join().ok().context("no controller")?
}

#[test]
fn a_policy_that_is_not_sent_in_full_is_no_success() -> Result<()> {
    let lab = Lab::new()?;
    let socket = lab.path("socket");
    let listener = UnixListener::bind(&socket)?;
    let large = |comments: usize| format!("{POLICY}\n{}", "# nobody reads all of this\n".repeat(comments));
    let policy = lab.file("policy.toml", &large(100_000))?;
    // While it is being sent.
    let controller = thread::spawn(move || (0..20).try_for_each(|_| listener.accept().map(drop)));
    for _ in 0..20 {
        let (code, text) = said(&lab, &format!("apply {} --socket {}", policy.display(), socket.display()))?;
        assert!(code == 6 && text.contains("ended before it had answered"), "{code} {text}");
    }
    controller.join().ok().context("no controller")??;
    let policy = lab.file("policy.toml", &large(2_500_000))?;
    let (code, text) = said(&lab, &format!("apply {} --socket {}", policy.display(), socket.display()))?;
    assert!(code == 1 && text.contains("the API takes 67108864"), "{code} {text}");
    Ok(())
}

#[test]
fn top_tells_programs_what_it_shows_people() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    under_traffic(&lab, || {
        let mut top = enforcer.command("top --json").stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(top.stdout.take().context("no output")?).lines().take(3);
        let samples: Vec<Value> = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
        top.kill()?;
        top.wait()?;
        let last = samples.last().context("nothing")?;
        let services = last["services"].as_array().context("no services")?;
        let time = services.iter().find(|line| line["name"] == "time").with_context(|| format!("no time in {last}"))?;
        assert!(time["packets_per_second"].as_f64().is_some_and(|rate| rate > 10.0), "{last}");
        assert_eq!(last["clients"][0]["address"], "10.1.0.2", "{last}");
        Ok(())
    })?;
    enforcer.stop()
}

#[test]
fn the_manual_has_a_page_for_each_command_and_man_reads_them() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.path("man");
    let (code, text) = said(&lab, &format!("man {}", folder.display()))?;
    assert_eq!(code, 0, "{text}");
    for page in ["enforcer.1", "enforcer-run.1", "enforcer-status.1", "enforcer-top.1", "enforcer-doctor.1"] {
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(folder.join(page))
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80");
        let output = man.output().context("cannot run man: `cargo xtask setup` installs it")?;
        let (text, complaints) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        assert!(output.status.success() && complaints.is_empty(), "{page}: {complaints}");
        assert!(text.contains("SYNOPSIS"), "{page}: {text}");
    }
    let main = std::fs::read_to_string(folder.join("enforcer.1"))?;
    assert!(main.contains("no controller answers"), "no exit codes in the manual");
    for shell in ["bash", "zsh", "fish"] {
        let (code, script) = said(&lab, &format!("completions {shell}"))?;
        assert!(code == 0 && script.contains("dns-listen") && script.contains("doctor"), "{shell}");
    }
    Ok(())
}
