//! The log: lines on standard error, for a person or for the journal.
//!
//! The journal gets levels by the `<N>` that it takes off each line (sd-daemon(3)), not by its own socket: what comes through the stream that systemd
//! gave the service is the service's, also the last words of a controller that does not start. A datagram's sender is looked up when it is read, and then may be
//! gone.

use std::{
    fmt,
    io::stderr,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// Begins the log with what is at least as grave as `level`; once in a process. Libraries' own messages are not among it.
pub fn begin(level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines { journal: to_journal() })
        .fmt_fields(DefaultFields::new())
        .with_ansi(false)
        .with_writer(stderr)
        // A standard error that is gone is no reason to stop.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(Targets::new().with_target("enforcer", level)).init();
}

/// Whether standard error is the journal: systemd says which file that is, as a child may have another.
fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = stderr().as_fd().try_clone_to_owned().map(std::fs::File::from) else { return false };
    file.metadata().is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// One message: `enforcer: …` for a person, `<4>…` for the journal.
struct Lines {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        self.write(&mut out, *event.metadata().level(), &text)
    }
}

impl Lines {
    fn write(&self, out: &mut impl fmt::Write, level: Level, text: &str) -> fmt::Result {
        if !self.journal {
            return writeln!(out, "enforcer: {text}");
        }
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        text.lines().try_for_each(|line| writeln!(out, "<{priority}>{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(journal: bool, level: Level, text: &str) -> String {
        let mut out = String::new();
        Lines { journal }.write(&mut out, level, text).unwrap();
        out
    }

    #[test]
    fn a_person_reads_who_speaks_and_the_journal_how_grave_each_line_is() {
        let text = "eth0 is gone\n  because: it was unplugged";
        assert_eq!(written(false, Level::WARN, text), format!("enforcer: {text}\n"));
        assert_eq!(written(true, Level::WARN, text), "<4>eth0 is gone\n<4>  because: it was unplugged\n");
        assert_eq!(written(true, Level::ERROR, "no"), "<3>no\n");
        assert_eq!(written(true, Level::INFO, "yes"), "<6>yes\n");
    }
}
