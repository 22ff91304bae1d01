//! Log lines: how they are written as text, and how they leave.
//!
//! A call has several lines, so both are on its path. [`Plain`] writes what the subscriber's own
//! format does, without its machinery for colours and spans. [`Batched`] gathers lines and writes
//! many at a time; WARN and ERROR take those before them along at once.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::OnceLock;
use std::thread::Thread;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// How long a line may wait for others.
const PATIENCE: Duration = Duration::from_millis(50);
/// So many bytes wait for no others.
const ENOUGH: usize = 32 * 1024;

/// Lines for files and journals.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// For what is rare: records of other libraries, lines within spans, and whole messages, which
    /// keep their line ends.
    full: Format,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        if matches!(about.target(), "log" | "sip::wire") || context.lookup_current().is_some() {
            return self.full.format_event(context, out, event);
        }
        #[expect(clippy::disallowed_methods, reason = "a line says when it was written")]
        let now = SystemTime::now();
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        put_time(&mut out, now.unwrap_or_default())?;
        out.write_str(match *about.level() {
            Level::ERROR => " ERROR ",
            Level::WARN => "  WARN ",
            Level::INFO => "  INFO ",
            Level::DEBUG => " DEBUG ",
            Level::TRACE => " TRACE ",
        })?;
        out.write_str(about.target())?;
        out.write_str(":")?;
        let mut fields = Fields {
            out: out.by_ref(),
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        out.write_str("\n")
    }
}

/// Writes each field as it comes; the message has no name.
struct Fields<'w> {
    out: Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let mut put = || {
            self.out.write_str(" ")?;
            let name = field.name();
            if name != "message" {
                self.out
                    .write_str(name.strip_prefix("r#").unwrap_or(name))?;
                self.out.write_str("=")?;
            }
            Ok(())
        };
        if self.result.is_ok() {
            self.result = put();
        }
        if self.result.is_ok() {
            self.result = value(&mut self.out);
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if field.name() != "message" && value.bytes().all(is_plain) {
            self.put(field, |out| {
                out.write_str("\"")?;
                out.write_str(value)?;
                out.write_str("\"")
            });
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let mut digits = [0_u8; 20];
        self.put(field, |out| out.write_str(decimal(value, 1, &mut digits)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, |out| write!(Escaped(out), "{value:?}"));
    }
}

/// Lets no control character through: a line is one line, and colours no terminal, whatever
/// somebody sent.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|char| match char {
            '\0'..='\x1f' | '\x7f' => write!(self.0, "\\x{:02x}", u32::from(char)),
            '\u{80}'..='\u{9f}' => write!(self.0, "\\u{{{:x}}}", u32::from(char)),
            _ => self.0.write_char(char),
        })
    }
}

thread_local! {
    /// The second of the last line, and how it is written.
    static SECOND: Cell<(u64, [u8; 19])> = const { Cell::new((u64::MAX, [0; 19])) };
}

/// Writes a time since the epoch: `2026-11-22T20:05:49.982482Z`.
fn put_time(out: &mut Writer<'_>, now: Duration) -> fmt::Result {
    let (mut second, mut text) = SECOND.get();
    if second != now.as_secs() {
        second = now.as_secs();
        text = date_and_time(second);
        SECOND.set((second, text));
    }
    let mut digits = [0_u8; 20];
    out.write_str(std::str::from_utf8(&text).unwrap_or_default())?;
    out.write_str(".")?;
    out.write_str(decimal(now.subsec_micros().into(), 6, &mut digits))?;
    out.write_str("Z")
}

/// A second since the epoch in the Gregorian calendar: once a second, so it may count.
fn date_and_time(second: u64) -> [u8; 19] {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut days = second / 86_400;
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (day, hour) = (days + 1, second / 3600 % 24);
    let (minute, second) = (second / 60 % 60, second % 60);
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    let mut bytes = [b'?'; 19];
    for (place, byte) in bytes.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    bytes
}

/// Decimal digits, at least so many.
fn decimal(mut number: u64, least: usize, digits: &mut [u8; 20]) -> &str {
    let mut from = digits.len();
    for place in digits.iter_mut().rev() {
        if number == 0 && digits_len(from) >= least {
            break;
        }
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        from -= 1;
    }
    let written = digits.get(from..).unwrap_or_default();
    std::str::from_utf8(written).unwrap_or_default()
}

/// How many of the twenty places are taken.
const fn digits_len(from: usize) -> usize {
    20 - from
}

/// Lines on their way.
#[derive(Debug)]
pub(super) struct Batched<W> {
    waiting: Mutex<Waiting<W>>,
    /// Who writes them.
    writer: OnceLock<Thread>,
}

#[derive(Debug)]
struct Waiting<W> {
    lines: Vec<u8>,
    out: W,
}

/// Takes one line.
#[derive(Debug)]
pub(super) struct Line<W: 'static> {
    batch: &'static Batched<W>,
    is_urgent: bool,
}

impl<W: io::Write> Batched<W> {
    /// Lines that are written by whoever says them, until somebody starts.
    pub(super) const fn new(out: W) -> Self {
        let lines = Vec::new();
        Self {
            waiting: Mutex::new(Waiting { lines, out }),
            writer: OnceLock::new(),
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&self) {
        let Waiting { lines, out } = &mut *self.waiting.lock();
        if !lines.is_empty() {
            // dropped: nobody can be told that the log cannot be written.
            out.write_all(lines).unwrap_or_default();
            lines.clear();
        }
    }

    fn take(&self, line: &[u8], is_urgent: bool) {
        let mut waiting = self.waiting.lock();
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        let is_enough = waiting.lines.len() >= ENOUGH;
        drop(waiting);
        match self.writer.get() {
            Some(writer) if !is_urgent && !is_enough => {
                if is_first {
                    writer.unpark();
                }
            }
            Some(_) | None => self.flush(),
        }
    }
}

impl<W: io::Write + Send> Batched<W> {
    /// Starts to gather lines; without a thread to write them nothing changes.
    pub(super) fn start(&'static self) {
        let thread = std::thread::Builder::new().name("log".to_owned());
        if let Ok(writer) = thread.spawn(|| self.write_for_ever()) {
            self.writer.get_or_init(|| writer.thread().clone());
        }
    }

    fn write_for_ever(&self) {
        loop {
            std::thread::park();
            std::thread::sleep(PATIENCE);
            self.flush();
        }
    }
}

impl<W: io::Write> MakeWriter<'_> for &'static Batched<W> {
    type Writer = Line<W>;

    fn make_writer(&self) -> Line<W> {
        Line {
            batch: self,
            is_urgent: true,
        }
    }

    fn make_writer_for(&self, about: &Metadata<'_>) -> Line<W> {
        Line {
            batch: self,
            is_urgent: *about.level() <= Level::WARN,
        }
    }
}

impl<W: io::Write> io::Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.batch.take(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Captured {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn say_all() {
        let (text, error) = ("1001@pbx", io::Error::other("no \"such\" file"));
        tracing::info!(call_id = text, aor = %text, count = 3_usize, "call received");
        tracing::warn!(%error, left = -1, is_so = true, ratio = 0.5, "call \x1b[31m failed");
        tracing::error!(
            odd = "say \"so\" \\ \n é",
            none = None::<u16>,
            some = Some(4_u16),
            "odd"
        );
        tracing::debug!(after = ?Duration::from_millis(5), "no more than this");
        tracing::trace!("nothing");
        let _span = tracing::info_span!("call", number = 7).entered();
        tracing::info!("within");
    }

    fn without_times(captured: &Captured) -> Vec<String> {
        let text = String::from_utf8(captured.0.lock().clone()).unwrap();
        let line = |line: &str| line.split_once("Z ").unwrap().1.to_owned();
        text.lines().map(line).collect()
    }

    #[test]
    fn lines_look_as_the_subscribers_own() {
        let (ours, theirs) = (Captured::default(), Captured::default());
        let base = || {
            tracing_subscriber::fmt()
                .with_max_level(Level::TRACE)
                .with_ansi(false)
        };
        let plain = base()
            .event_format(Plain::default())
            .with_writer(ours.clone());
        tracing::subscriber::with_default(plain.finish(), say_all);
        let full = base().with_writer(theirs.clone());
        tracing::subscriber::with_default(full.finish(), say_all);
        assert_eq!(without_times(&ours), without_times(&theirs));
        assert_eq!(without_times(&ours).len(), 6);
    }

    #[test]
    fn a_line_stays_one_line_whatever_was_sent() {
        let ours = Captured::default();
        let plain = tracing_subscriber::fmt().with_ansi(false);
        let plain = plain.event_format(Plain::default());
        let plain = plain.with_writer(ours.clone());
        let sent = "x\r\n1970-01-01T00:00:00Z  INFO rouse: forged \u{9b}31m";
        tracing::subscriber::with_default(plain.finish(), || {
            tracing::info!(shown = %sent, text = sent, "{sent}");
        });
        let written = String::from_utf8(ours.0.lock().clone()).unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
        assert!(!written.trim_end().contains(char::is_control), "{written}");
    }

    #[test]
    fn a_message_on_the_wire_keeps_its_lines_and_nothing_else_that_controls() {
        let ours = Captured::default();
        let plain = tracing_subscriber::fmt().with_ansi(false);
        let plain = plain.with_max_level(Level::TRACE);
        let plain = plain.event_format(Plain::default());
        let plain = plain.with_writer(ours.clone());
        tracing::subscriber::with_default(plain.finish(), || {
            tracing::trace!(target: "sip::wire", "{}", "OPTIONS sip:a SIP/2.0\r\nX: \u{1b}[31m\r\n");
        });
        let written = String::from_utf8(ours.0.lock().clone()).unwrap();
        assert!(written.contains("SIP/2.0\r\nX: "), "{written:?}");
        assert!(!written.contains('\u{1b}'), "{written:?}");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |second, micros: u32| {
            let mut text = String::new();
            let now = Duration::new(second, micros * 1000);
            put_time(&mut Writer::new(&mut text), now).unwrap();
            text
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.000007Z");
        assert_eq!(at(1_767_225_599, 999_999), "2025-12-31T23:59:59.999999Z");
        assert_eq!(at(1_767_225_600, 0), "2026-01-01T00:00:00.000000Z");
        assert_eq!(at(1_795_374_349, 982_482), "2026-11-22T19:05:49.982482Z");
        assert_eq!(at(4_107_542_400, 1), "2100-03-01T00:00:00.000001Z");
    }

    #[test]
    fn a_warning_takes_the_lines_before_it_along() {
        let out = Captured::default();
        let batch = Batched::new(out.clone());
        let written = || String::from_utf8(out.0.lock().clone()).unwrap();
        batch.take(b"nobody gathers\n", false);
        assert_eq!(written(), "nobody gathers\n");
        batch.writer.get_or_init(std::thread::current);
        batch.take(b"one\n", false);
        batch.take(b"two\n", false);
        assert_eq!(written(), "nobody gathers\n");
        batch.take(b"warning\n", true);
        assert_eq!(written(), "nobody gathers\none\ntwo\nwarning\n");
        batch.take(&[b'x'; ENOUGH], false);
        assert!(written().ends_with("xx"));
    }
}
