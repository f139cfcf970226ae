//! What a delivery means for what is known of its pull request: pure.

use super::read::{Action, PullRequest};

/// What is known, by the newest delivery so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) is_open: bool,
    pub(super) head: String,
    /// What it was at before; empty when that was not said.
    pub(super) before: String,
    /// By GitHub's clock, in seconds.
    pub(super) updated_at: i64,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is at this head, and open.
    Open {
        /// It was closed as far as was known.
        again: bool,
    },
    Close,
    /// The pull request is closed, by a newer delivery or by the same one before.
    IsClosed,
    /// A newer delivery said something else.
    Older,
}

/// Decides. What changes no content is not asked about.
pub(super) fn judge(known: Option<&Known>, told: &PullRequest) -> Follows {
    let Some(known) = known else {
        return if told.is_open {
            Follows::Open { again: false }
        } else {
            Follows::Close
        };
    };
    if told.updated_at < known.updated_at {
        return if known.is_open {
            Follows::Older
        } else {
            Follows::IsClosed
        };
    }
    let same_second = told.updated_at == known.updated_at;
    match (known.is_open, told.is_open) {
        (true, false) => Follows::Close,
        (false, false) => Follows::IsClosed,
        // Within a second a close comes last, unless somebody says that it was opened after it.
        (false, true) if same_second && told.action != Action::Reopened => Follows::IsClosed,
        (false, true) => Follows::Open { again: true },
        (true, true) if same_second && comes_before(told, known) => Follows::Older,
        (true, true) => Follows::Open { again: false },
    }
}

/// Of two heads that were told of the same second.
fn comes_before(told: &PullRequest, known: &Known) -> bool {
    if told.head == known.head || (!told.before.is_empty() && told.before == known.head) {
        return false;
    }
    // Nothing comes before it was opened, and what the known head replaced is older.
    told.action == Action::Opened || told.head == known.before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(action: Action, head: &str, before: &str, updated_at: i64) -> PullRequest {
        PullRequest {
            repository: "example/docs".to_owned(),
            number: 12,
            is_open: action != Action::Closed,
            action,
            merged: false,
            is_fork: false,
            branch: "changes".to_owned(),
            base: "main".to_owned(),
            head: head.to_owned(),
            before: before.to_owned(),
            updated_at,
            title: String::new(),
            author: String::new(),
            sender: String::new(),
        }
    }

    fn after(told: &PullRequest) -> Known {
        Known {
            is_open: told.is_open,
            head: told.head.clone(),
            before: told.before.clone(),
            updated_at: told.updated_at,
        }
    }

    fn follow(known: Option<Known>, told: &PullRequest) -> Option<Known> {
        match judge(known.as_ref(), told) {
            Follows::Open { .. } | Follows::Close => Some(after(told)),
            Follows::IsClosed | Follows::Older => known,
        }
    }

    /// Every order of these.
    fn orders(left: &[PullRequest]) -> Vec<Vec<PullRequest>> {
        if left.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (place, first) in left.iter().enumerate() {
            let mut rest = left.to_vec();
            rest.remove(place);
            for mut order in orders(&rest) {
                order.insert(0, first.clone());
                all.push(order);
            }
        }
        all
    }

    #[test]
    fn in_whatever_order_deliveries_come_the_newest_is_what_is_known() {
        use Action::{Closed, Opened, Ready, Reopened, Synchronized};
        let all = [
            told(Opened, "a", "", 1),
            told(Ready, "a", "", 2),
            told(Synchronized, "b", "a", 3),
            told(Closed, "b", "", 4),
            told(Reopened, "b", "", 5),
            told(Synchronized, "c", "b", 6),
        ];
        for count in 1..=all.len() {
            let newest = after(&all[count - 1]);
            for order in orders(&all[..count]) {
                let mut known = None;
                for one in &order {
                    known = follow(known, one);
                    // The same once more changes nothing.
                    assert_eq!(follow(known.clone(), one), known);
                }
                let known = known.unwrap();
                assert_eq!(
                    (known.is_open, &known.head),
                    (newest.is_open, &newest.head),
                    "{order:?}"
                );
            }
        }
    }

    #[test]
    fn within_one_second_heads_are_ordered_by_what_they_replaced() {
        use Action::{Closed, Opened, Reopened, Synchronized};
        for all in [
            vec![told(Opened, "a", "", 1), told(Synchronized, "b", "a", 1)],
            vec![
                told(Synchronized, "b", "a", 1),
                told(Synchronized, "c", "b", 1),
            ],
            vec![told(Synchronized, "b", "a", 1), told(Closed, "b", "", 1)],
        ] {
            let newest = after(all.last().unwrap());
            for order in orders(&all) {
                let known = order.iter().fold(None, follow).unwrap();
                assert_eq!(
                    (known.is_open, &known.head),
                    (newest.is_open, &newest.head),
                    "{order:?}"
                );
            }
        }
        let closed = after(&told(Closed, "b", "", 1));
        let again = judge(Some(&closed), &told(Reopened, "b", "", 1));
        assert_eq!(again, Follows::Open { again: true });
    }

    #[test]
    fn what_is_late_says_which_way() {
        let open = after(&told(Action::Synchronized, "b", "a", 5));
        let closed = Known {
            is_open: false,
            ..open.clone()
        };
        let late = told(Action::Synchronized, "a", "", 4);
        assert_eq!(judge(Some(&open), &late), Follows::Older);
        assert_eq!(judge(Some(&closed), &late), Follows::IsClosed);
        let opened = told(Action::Opened, "a", "", 4);
        assert_eq!(judge(Some(&closed), &opened), Follows::IsClosed);
        let late_close = told(Action::Closed, "a", "", 4);
        assert_eq!(judge(Some(&open), &late_close), Follows::Older);
        assert_eq!(judge(None, &late_close), Follows::Close);
    }
}
