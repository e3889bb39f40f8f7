//! The kernel's clock, by which admissions end, and the wall's, by which people tell it.

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Both clocks at one time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The wall's, which may be set at any time.
    pub wall: Timestamp,
    /// Nanoseconds of the kernel's monotonic one, which begins anew with each boot.
    pub monotonic: u64,
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        // Linux always has this clock.
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |time| time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs());
        Self { wall: Timestamp::now(), monotonic }
    }

    /// A time of the wall's clock by the kernel's; 0 is any that has passed.
    #[must_use]
    pub fn to_monotonic(&self, time: Timestamp) -> u64 {
        let left = u64::try_from(time.duration_since(self.wall).as_nanos()).unwrap_or(0);
        if left == 0 { 0 } else { self.monotonic.saturating_add(left) }
    }

    /// A time of the kernel's clock by the wall's.
    #[must_use]
    pub fn to_wall(&self, time: u64) -> Timestamp {
        let left = i64::try_from(i128::from(time) - i128::from(self.monotonic)).unwrap_or(0);
        self.wall.saturating_add(SignedDuration::from_nanos(left)).unwrap_or(self.wall)
    }

    /// Whether the wall's clock was set since an earlier time, or went on while the kernel's stood still, as when a machine
    /// sleeps; both are slewed alike. By a second at least: less is no matter here.
    #[must_use]
    pub fn was_set_since(&self, earlier: &Self) -> bool {
        self.wall.duration_since(earlier.to_wall(self.monotonic)).abs() >= SignedDuration::from_secs(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn the_clocks_agree_on_how_much_is_left() {
        let clock = Clock { wall: at(1_000), monotonic: 5_000_000_000 };
        assert_eq!(clock.to_monotonic(at(1_002)), 7_000_000_000);
        assert_eq!([clock.to_monotonic(at(1_000)), clock.to_monotonic(at(900))], [0, 0]);
        assert_eq!(clock.to_wall(7_000_000_000), at(1_002));
        assert_eq!(clock.to_wall(0), at(995));
        assert_eq!(clock.to_wall(u64::MAX), at(1_000));
        assert!(Clock::now().monotonic > 0);
    }

    #[test]
    fn a_clock_that_goes_on_was_not_set() {
        let earlier = Clock { wall: at(1_000), monotonic: 5_000_000_000 };
        for (wall, was_set) in [(1_010, false), (1_011, true), (1_008, true), (0, true)] {
            let clock = Clock { wall: at(wall), monotonic: 15_000_000_000 };
            assert_eq!(clock.was_set_since(&earlier), was_set, "{wall}");
        }
        let clock = Clock { wall: at(1_010), monotonic: 15_400_000_000 };
        assert!(!clock.was_set_since(&earlier));
    }
}
