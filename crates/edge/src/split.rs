//! Which release a visitor gets.
//!
//! Pure. A visitor draws a number from 0 to 99 once; the cookie keeps it, with the release that was
//! served and the route's generation. The newest release gets the lowest numbers, so when its share
//! grows, visitors move to it and none moves away. One who saw the newer release keeps it whatever
//! becomes of the weights, until the generation rises (traffic was sent back) or it gets no traffic
//! at all any more.
//!
//! At a switch one edge is first, and a visitor's next request may go to another. So a split may give
//! everybody the newest release, and only say so in the cookie; and a rolling one may give it to those
//! alone who have that cookie.
//!
//! An edge that starts without some of the content gives a visitor an older share in place of one that is
//! not there; each share has traffic, and the visitor moves on once the other one is there. It gives no
//! newer one, which would be tried on more visitors than it was to be, and none that is older than what
//! the visitor saw: for these there is nothing here.
//!
//! The number is turned by the newest release's id, or the same visitors would try every release.

use std::fmt;

use candlefish_ids::ReleaseId;

/// The cookie's name.
pub(crate) const COOKIE: &str = "candlefish";

/// What a visitor's cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) generation: i32,
    pub(crate) draw: u8,
    pub(crate) release: ReleaseId,
}

impl Cookie {
    /// Reads the value of a `cookie` header; one that is not ours is none. Another site of the same domain
    /// may have set one of this name, and it may come first.
    pub(crate) fn read(header: &str) -> Option<Self> {
        header
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| name.trim() == COOKIE)
            .find_map(|(_, value)| Self::parse(value.trim()))
    }

    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.splitn(3, '.');
        let generation = parts.next()?.parse().ok()?;
        let draw = parts.next()?.parse().ok().filter(|draw| *draw < 100)?;
        let release = ReleaseId::from_suffix(parts.next()?).ok()?;
        Some(Self {
            generation,
            draw,
            release,
        })
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            self.generation,
            self.draw,
            self.release.suffix()
        )
    }
}

/// What a visitor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The share that is served.
    pub(crate) share: usize,
    /// The cookie to set, when the visitor has another one.
    pub(crate) cookie: Option<Cookie>,
    /// The one that the visitor has already, to be set anew now and then: it ends while a split lasts.
    pub(crate) kept: Option<Cookie>,
}

/// A release of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) release: ReleaseId,
    /// Percent.
    pub(crate) weight: u8,
    /// Its place among the shares that this edge has the content of; none without.
    pub(crate) share: Option<usize>,
}

/// A split: two or more releases, oldest first, whether their content is here or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) generation: i32,
    pub(crate) releases: Vec<Part>,
    /// Rolling: this edge serves one of them alone, and the other edges may serve the newest
    /// already, or will before this one does; who saw it there keeps it here.
    pub(crate) rolling: bool,
}

impl Split {
    /// Chooses for a visitor with this cookie, or with this draw (any number) when it has none; nothing
    /// when what this visitor may get is not here.
    pub(crate) fn choose(&self, cookie: Option<Cookie>, draw: u64) -> Option<Choice> {
        let seen = cookie.filter(|c| c.generation == self.generation);
        let draw = seen.map_or_else(|| u8::try_from(draw % 100).unwrap_or_default(), |c| c.draw);
        // Later in the list is newer.
        let kept = seen.and_then(|cookie| self.place_kept(cookie.release));
        let oldest = kept.unwrap_or_default();
        let wanted = self.place_of(draw).max(oldest);
        let (place, share, release) = (oldest..=wanted).rev().find_map(|place| {
            let part = self.releases.get(place)?;
            let may_be = place == wanted || part.weight > 0;
            let share = part.share.filter(|_| may_be)?;
            Some((place, share, part.release))
        })?;
        let newest = place + 1 == self.releases.len();
        let cookie = Cookie {
            generation: self.generation,
            draw,
            release,
        };
        // While rolling there is nothing to remember of the older release.
        let remembered = (newest || !self.rolling).then_some(cookie);
        let is_kept = seen == Some(cookie);
        Some(Choice {
            share,
            cookie: remembered.filter(|_| !is_kept),
            kept: remembered.filter(|_| is_kept),
        })
    }

    fn place_kept(&self, release: ReleaseId) -> Option<usize> {
        self.releases
            .iter()
            .position(|part| part.release == release && (part.weight > 0 || self.rolling))
    }

    fn place_of(&self, draw: u8) -> usize {
        let turned = (u32::from(draw) + self.turn()) % 100;
        let mut below = 0;
        for (place, part) in self.releases.iter().enumerate().rev() {
            below += u32::from(part.weight);
            if turned < below {
                return place;
            }
        }
        // Weights that do not reach 100: the oldest takes the rest.
        self.releases
            .iter()
            .position(|part| part.weight > 0)
            .unwrap_or_default()
    }

    /// The same on every edge.
    fn turn(&self) -> u32 {
        let newest = self
            .releases
            .last()
            .map(|part| part.release.uuid().as_u128());
        let low = newest.unwrap_or_default() % 100;
        u32::try_from(low).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
