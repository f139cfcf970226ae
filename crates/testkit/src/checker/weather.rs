//! When something was down that work needs. Who judges how long something lasts leaves that out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The faults of a run, as far as they keep work from being taken up; one at a time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Weather(Arc<Mutex<Vec<Spell>>>);

#[derive(Debug, Clone, Copy)]
struct Spell {
    began: Instant,
    /// None while it lasts.
    over: Option<Instant>,
}

/// A fault that lasts until this is dropped.
#[derive(Debug)]
#[must_use = "a fault is over when this is dropped"]
pub struct Storm {
    weather: Weather,
    place: usize,
}

impl Weather {
    /// A fault begins.
    pub fn storm(&self) -> Storm {
        let mut spells = self.spells();
        spells.push(Spell {
            began: Instant::now(),
            over: None,
        });
        Storm {
            weather: self.clone(),
            place: spells.len() - 1,
        }
    }

    /// For how long of the `last` time nothing was down.
    pub fn calm_of(&self, last: Duration) -> Duration {
        calm(&self.spells(), Instant::now(), last)
    }

    fn spells(&self) -> MutexGuard<'_, Vec<Spell>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        if let Some(spell) = self.weather.spells().get_mut(self.place) {
            spell.over = Some(Instant::now());
        }
    }
}

fn calm(spells: &[Spell], now: Instant, last: Duration) -> Duration {
    let ago = |then: Instant| now.saturating_duration_since(then);
    let within = |spell: &Spell| {
        let over = spell.over.map_or(Duration::ZERO, ago);
        ago(spell.began).min(last).saturating_sub(over)
    };
    last.saturating_sub(spells.iter().map(within).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many of the last ten seconds were calm, with faults that began and ended so many seconds
    /// after a moment; now is 100.
    fn calm_of_ten(faults: &[(u32, Option<u32>)]) -> u64 {
        let zero = Instant::now();
        let at = |second: u32| zero + SECOND * second;
        let spells: Vec<Spell> = faults
            .iter()
            .map(|&(began, over)| Spell {
                began: at(began),
                over: over.map(at),
            })
            .collect();
        calm(&spells, at(100), SECOND * 10).as_secs()
    }

    #[test]
    fn only_what_was_down_meanwhile_is_left_out() {
        assert_eq!(calm_of_ten(&[]), 10);
        // Long over; over just then; within; into it.
        assert_eq!(calm_of_ten(&[(10, Some(20))]), 10);
        assert_eq!(calm_of_ten(&[(80, Some(90))]), 10);
        assert_eq!(calm_of_ten(&[(92, Some(95))]), 7);
        assert_eq!(calm_of_ten(&[(80, Some(93))]), 7);
        // Several; one that lasts yet; one that lasts since before.
        let several = [(80, Some(91)), (93, Some(95)), (99, None)];
        assert_eq!(calm_of_ten(&several), 6);
        assert_eq!(calm_of_ten(&[(80, None)]), 0);
    }

    #[test]
    fn a_fault_lasts_until_it_is_dropped() {
        let weather = Weather::default();
        let lasts = || -> Vec<bool> {
            let spells = weather.spells();
            spells.iter().map(|spell| spell.over.is_none()).collect()
        };
        drop(weather.storm());
        let storm = weather.storm();
        assert_eq!(lasts(), vec![false, true]);
        drop(storm);
        assert_eq!(lasts(), vec![false, false]);
    }
}
