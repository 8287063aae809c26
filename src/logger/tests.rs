//! The logger against pipes that are read, stalled, slow and closed.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _, pipe};
use std::sync::mpsc::{Receiver, channel};

use wylis_harness::bounds::worst_case;
use wylis_harness::wait_until;

use super::queue::LAST_WORDS;
use super::*;

/// Longest wait for what must happen: a machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of one place that are not summed up.
const BURST: u32 = limiter::SITE_BURST;

fn logger() -> (Logger, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    (Logger::new("info", Box::new(writer)), reader)
}

/// A logger whose pipe is full.
fn stalled() -> (Logger, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    fill(&writer);
    (Logger::new("info", Box::new(writer)), reader)
}

/// Fills a pipe to the last byte.
fn fill(mut writer: &PipeWriter) {
    rustix::io::ioctl_fionbio(writer, true).unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    rustix::io::ioctl_fionbio(writer, false).unwrap();
}

/// Reads the lines of a pipe, on a thread.
fn read(reader: PipeReader) -> Receiver<String> {
    let (lines, received) = channel();
    thread::spawn(move || {
        let all = BufReader::new(reader).lines().map_while(Result::ok);
        all.for_each(|line| drop(lines.send(line.trim_start_matches('.').to_owned())));
    });
    received
}

fn next(lines: &Receiver<String>) -> String {
    lines.recv_timeout(TIMEOUT).unwrap()
}

fn write(logger: &Logger, line: u32, message: fmt::Arguments<'_>) {
    let mut record = Record::builder();
    record.level(Level::Warn).target("wylis::test").module_path_static(Some("wylis::test"));
    logger.log(&record.file(Some("test.rs")).line(Some(line)).args(message).build());
}

/// Writes so many different lines, from as many places as they need.
fn write_many(logger: &Logger, lines: u32, from: u32) {
    for number in 0..lines {
        write(logger, from + number / BURST, format_args!("line {from} {number}"));
    }
}

fn lost(logger: &Logger, reason: Loss) -> u64 {
    logger.0.queue.losses().counts().find(|(known, _)| *known == reason).unwrap().1
}

#[expect(clippy::cast_precision_loss, reason = "small")]
fn units(number: usize) -> f64 {
    number as f64
}

#[test]
fn a_line_has_time_level_and_module_and_is_written_at_once() {
    let (logger, reader) = logger();
    let lines = read(reader);
    write(&logger, 1, format_args!("peer {:?} is down", "n1"));
    let line = next(&lines);
    let (time, rest) = line.split_once("Z ").unwrap();
    assert_eq!(rest, "WARN  wylis::test] peer \"n1\" is down");
    assert!(time.starts_with("[20") && time.len() == "[2026-11-30T06:00:00".len(), "{time}");
}

#[test]
fn a_stalled_log_delays_no_thread_and_holds_a_bounded_number_of_bytes() {
    let (logger, _reader) = stalled();
    let begun = Instant::now();
    thread::scope(|scope| {
        for number in 0..4 {
            let logger = &logger;
            scope.spawn(move || write_many(logger, 2000, number * 100));
        }
    });
    let took = begun.elapsed();
    let bytes = logger.0.queue.bytes();
    println!("8,000 lines to a stalled log: {took:?}, {bytes} bytes wait");
    assert!(took < TIMEOUT, "{took:?}");
    assert!(lost(&logger, Loss::QueueFull) > 7000);
    assert_eq!(lost(&logger, Loss::Repeated), 0);
    assert!(units(bytes) <= worst_case("CAPACITY"), "{bytes}");
}

#[test]
fn a_log_that_flows_again_says_how_many_lines_were_lost() {
    let (logger, reader) = stalled();
    write_many(&logger, 2000, 0);
    let lost = lost(&logger, Loss::QueueFull);
    let lines = read(reader);
    let (mut whole, mut last) = (0, None);
    let line = loop {
        let line = next(&lines);
        if line.contains("dropped") {
            break line;
        }
        // The line that the writer holds makes room for a later one.
        let number: Option<u32> = line.rsplit(' ').next().and_then(|number| number.parse().ok());
        assert!(number.is_some() && number > last, "{line} after {last:?}");
        (whole, last) = (whole + 1, number);
    };
    let text = format!("{lost} log lines were dropped: standard error did not take them");
    assert!(line.ends_with(&text) && line.contains("WARN  wylis::logger"), "{line}");
    assert_eq!(whole + lost, 2000);
    write(&logger, 90, format_args!("after"));
    assert!(next(&lines).ends_with("after"));
}

#[test]
fn the_last_words_reach_a_log_that_is_read() {
    for round in 0..50 {
        let (logger, reader) = logger();
        write_many(&logger, round, 0);
        write(&logger, 90, format_args!("last words"));
        logger.flush();
        // The process ends here: what is not in the pipe is lost.
        let mut bytes = vec![0; 64 * 1024];
        let read = rustix::io::read(&reader, &mut bytes[..]).unwrap();
        let text = String::from_utf8_lossy(&bytes[..read]);
        assert!(text.ends_with("last words\n"), "{round}: {text}");
    }
}

#[test]
fn the_end_hardly_waits_for_a_stalled_log() {
    let took = |logger: &Logger| {
        let begun = Instant::now();
        logger.flush();
        begun.elapsed().as_secs_f64()
    };
    let at_once = || {
        let (logger, _reader) = stalled();
        write(&logger, 1, format_args!("the writer stalls with this line"));
        write(&logger, 1, format_args!("last words"));
        took(&logger)
    };
    let without_a_writer = || {
        let (logger, _reader) = stalled();
        logger.0.write(Level::Error, "test", &format_args!("last words"));
        took(&logger)
    };
    // A busy machine may delay one of them.
    let best = |took: &dyn Fn() -> f64| (0..3).map(|_| took()).fold(f64::MAX, f64::min);
    let (with, without) = (best(&at_once), best(&without_a_writer));
    println!("the end with a stalled log: {with:.3} s, without a writer: {without:.3} s");
    assert!(with.max(without) <= worst_case("LAST_WORDS"), "{with} s, {without} s");
    let (logger, _reader) = stalled();
    write(&logger, 1, format_args!("the writer stalls with this line"));
    write(&logger, 1, format_args!("last words"));
    wait_until(TIMEOUT, "once it has stalled for long, the end waits no more", || {
        took(&logger) < 0.01
    });
}

#[test]
fn the_end_gives_a_slow_reader_a_bounded_time() {
    let (logger, reader) = stalled();
    thread::spawn(move || {
        let mut page = [0; 4096];
        while rustix::io::read(&reader, &mut page).is_ok_and(|read| read > 0) {
            thread::sleep(Duration::from_millis(60));
        }
    });
    for number in 0..BURST {
        write(&logger, 1, format_args!("{number:400}"));
    }
    let begun = Instant::now();
    logger.flush();
    let took = begun.elapsed();
    println!("the end with a slow reader: {took:?}");
    assert!(logger.0.queue.bytes() > 0, "it was not slow");
    // A busy machine may take its time.
    assert!(took < LAST_WORDS * 5, "{took:?}");
}

#[test]
fn without_a_thread_lines_are_written_when_that_does_not_block() {
    let (logger, reader) = stalled();
    let line = |text: &str| logger.0.write(Level::Warn, "test", &format_args!("{text}"));
    (0..1000).for_each(|_| line("one"));
    logger.0.write_ready();
    let lost = lost(&logger, Loss::QueueFull);
    assert!(lost > 0, "it waits, and does not block");
    let (lines, mut written) = (read(reader), Vec::new());
    // The pipe may be full again after any line, the one about the others included.
    wait_until(TIMEOUT, "the lines and what was lost are written", || {
        logger.0.write_ready();
        written.extend(lines.try_iter());
        written.last().is_some_and(|line| line.contains("log lines were dropped"))
    });
    let told = written.pop().unwrap();
    assert!(told.contains(&format!("{lost} log lines were dropped")), "{told}");
    assert!(written.iter().all(|line| line.ends_with("one")));
    assert_eq!(written.len() as u64, 1000 - lost);
}

#[test]
fn a_write_that_fails_loses_its_line_alone() {
    let (logger, reader) = logger();
    drop(reader);
    for number in 1..=20 {
        write(&logger, 1, format_args!("line {number}"));
    }
    wait_until(TIMEOUT, "each line fails", || lost(&logger, Loss::WriteFailed) == 20);
    let begun = Instant::now();
    logger.flush();
    assert!(begun.elapsed() < TIMEOUT);
    // No line says so to a log that takes none.
    assert_eq!((lost(&logger, Loss::WriteFailed), logger.0.queue.bytes()), (20, 0));
}

#[test]
fn a_descriptor_that_does_not_block_loses_no_line() {
    let (reader, writer) = pipe().unwrap();
    fill(&writer);
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let logger = Logger::new("info", Box::new(writer));
    write(&logger, 1, format_args!("the writer waits with this line"));
    wait_until(TIMEOUT, "the writer has it", || logger.0.queue.bytes() == 0);
    write_many(&logger, 300, 10);
    let lines = read(reader);
    (0..301).for_each(|_| drop(next(&lines)));
    assert!(logger.0.queue.losses().counts().all(|(_, lines)| lines == 0));
}

#[test]
fn a_flood_is_summed_up_with_an_example() {
    let (logger, reader) = logger();
    let lines = read(reader);
    for number in 0..1000 {
        // So long that the example is cut; the lines before it fit into the queue.
        let long = if number < BURST { 1 } else { 200 };
        write(&logger, 1, format_args!("peer {number} is up{}", "!".repeat(long)));
    }
    (0..BURST).for_each(|_| assert!(next(&lines).contains(" is up!")));
    assert_eq!(lost(&logger, Loss::Repeated), 1000 - u64::from(BURST));
    assert_eq!(
        lines.recv_timeout(Duration::from_millis(50)),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout)
    );
    let due = logger.0.report(Instant::now());
    assert!(due.is_some_and(|due| due > Instant::now()));
    logger.0.report(Instant::now() + limiter::WINDOW);
    logger.0.start_writer();
    let line = next(&lines);
    let text = format!(
        "WARN  wylis::test] … and {} more lines like it in the last 60 s: peer {BURST} is up!!!",
        1000 - BURST
    );
    assert!(line.contains(&text) && line.ends_with("!… (cut)"), "{line}");
    assert!(line.len() < 300, "{line}");
}

#[test]
fn a_long_message_is_cut_and_its_lines_are_indented() {
    let (logger, reader) = logger();
    let lines = read(reader);
    write(&logger, 1, format_args!("two\nlines"));
    assert!(next(&lines).ends_with("two"));
    assert_eq!(next(&lines), "    lines");
    let mut longest = 0;
    for text in ["x".repeat(100_000), "ü".repeat(1000), "\n".repeat(5000)] {
        let message = Cut(&format_args!("{text}"), MAX_MESSAGE).to_string();
        let indented = message.replace('\n', "\n    ").len();
        assert!(message.ends_with("… (cut)"), "{message}");
        longest = longest.max(indented);
    }
    assert!(units(longest) <= worst_case("MAX_MESSAGE"), "{longest}");
    let whole = "x".repeat(900);
    assert_eq!(Cut(&format_args!("{whole}"), MAX_MESSAGE).to_string(), whole);
}
