//! Which of how many steps a command is at, and what each took: for a person who waits.
//!
//! A command may go on in another program (`xtask` builds, `weft-lab` acts); the steps are
//! then counted on there, by way of an environment variable.

// What it says is its work.
#![allow(clippy::print_stderr)]

use std::process::Command;
use std::time::{Duration, Instant};

/// Names where the calling program was: `NUMBER/ALL/MILLISECONDS`.
const VARIABLE: &str = "WEFT_STEPS";

/// The steps of a command.
#[derive(Debug)]
pub struct Steps {
    all: u32,
    number: u32,
    /// What they took before this program was started.
    before: Duration,
    start: Instant,
    /// When the step that is under way began.
    begun: Option<Instant>,
}

impl Steps {
    /// Before the first of so many.
    pub fn new(all: u32) -> Self {
        Self {
            all,
            number: 0,
            before: Duration::ZERO,
            start: Instant::now(),
            begun: None,
        }
    }

    /// Where the program that called this one was; a program of its own has `all` steps.
    pub fn go_on(all: u32) -> Self {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        Self::read(&text).unwrap_or_else(|| Self::new(all))
    }

    fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split('/');
        let mut next = || numbers.next()?.parse::<u32>().ok();
        let (number, all, milliseconds) = (next()?, next()?, next()?);
        Some(Self {
            number,
            before: Duration::from_millis(milliseconds.into()),
            ..Self::new(all)
        })
    }

    /// Lets a program that is called next count on.
    pub fn hand_over(&mut self, command: &mut Command) {
        self.end();
        let milliseconds = self.elapsed().as_millis();
        command.env(
            VARIABLE,
            format!("{}/{}/{milliseconds}", self.number, self.all),
        );
    }

    /// The next step begins; says so.
    pub fn next(&mut self, what: &str) {
        self.end();
        self.number += 1;
        self.begun = Some(Instant::now());
        let (number, all, elapsed) = (self.number, self.all, clock(self.elapsed()));
        eprintln!("[{number}/{all} {elapsed:>6}] {what}");
    }

    /// The last step is over; says what it took, when that was worth a mention.
    pub fn end(&mut self) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        let took = begun.elapsed();
        if took >= Duration::from_secs(1) {
            eprintln!("             took {}", clock(took));
        }
    }

    fn elapsed(&self) -> Duration {
        self.before + self.start.elapsed()
    }
}

/// Minutes and seconds.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(59_999)), "0:59");
        assert_eq!(clock(Duration::from_secs(83)), "1:23");
        assert_eq!(clock(Duration::from_secs(3600)), "60:00");
    }

    #[test]
    fn another_program_counts_on() {
        let mut steps = Steps::read("2/6/83000").unwrap();
        let mut command = Command::new("true");
        steps.next("more");
        steps.hand_over(&mut command);
        let value = command.get_envs().next().unwrap().1.unwrap();
        let value = value.to_str().unwrap();
        assert!(value.starts_with("3/6/83"), "{value}");
        assert!(Steps::read("").is_none());
    }
}
