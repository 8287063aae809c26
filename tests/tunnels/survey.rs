//! Surveys of paths that go cold by rule: found gap against true gap, each direction apart, over both overlays.
//!
//! `paths` lays the paths, and `control` shows with a plain TCP client that each one does what it is said to do.
//! Slow ones are ignored: `make test-long` runs them. Those that wait for WireGuard's own timers are in `long`, for
//! `make lab-long`.

mod breaks;
mod control;
mod found;
mod long;
mod paths;
mod run;
mod silence;
