//! "Did you mean": the nearest of the names that exist.

/// The known name nearest to a mistyped one, when one is near enough to be meant.
pub(crate) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    // A third of the letters may be wrong; a beginning ("prod") always counts.
    let limit = typed.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|name| {
            let begins = typed.chars().count() >= 3 && name.starts_with(&typed);
            (if begins { 0 } else { distance(&typed, name) }, name)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// How many letters to insert, delete, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (i, letter) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let at =
                |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX / 2);
            let change = at(&row, j) + usize::from(letter != *other);
            let mut best = change.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = j > 0 && last_a == Some(*other) && b.get(j - 1) == Some(&letter);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last_a = Some(letter);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_the_letters_to_change() {
        for (a, b, expected) in [
            ("", "", 0),
            ("docs", "docs", 0),
            ("doc", "docs", 1),
            ("dosc", "docs", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_near_name_is_meant_and_a_far_one_is_not() {
        let known = ["docs", "partners", "production", "staging"];
        for (typed, expected) in [
            ("doc", Some("docs")),
            ("Docs", Some("docs")),
            ("prod", Some("production")),
            ("stagin", Some("staging")),
            ("shop", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, known), expected, "{typed}");
        }
    }
}
