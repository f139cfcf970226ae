//! A report in messages that are small enough to be sent.

use candlefish_proto::deploy as pb;
use prost::{Message, length_delimiter_len};

/// What one message tells of a report.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Page {
    pub(crate) held: Vec<pb::HeldRoute>,
    pub(crate) staged: Vec<pb::StagedRelease>,
}

/// Shares a report out over pages whose entries take at most so many bytes; an entry that is larger
/// has a page of its own. A report of nothing is one empty page.
pub(crate) fn pages(
    held: Vec<pb::HeldRoute>,
    staged: Vec<pb::StagedRelease>,
    most_bytes: usize,
) -> Vec<Page> {
    let mut pages = Pages {
        most_bytes,
        full: Vec::new(),
        last: Page::default(),
        bytes: 0,
    };
    for route in held {
        pages.page_for(&route).held.push(route);
    }
    for release in staged {
        pages.page_for(&release).staged.push(release);
    }
    pages.full.push(pages.last);
    pages.full
}

/// Pages as they fill.
struct Pages {
    most_bytes: usize,
    full: Vec<Page>,
    last: Page,
    /// Of the last one.
    bytes: usize,
}

impl Pages {
    /// The page that has room for one more entry.
    fn page_for(&mut self, entry: &impl Message) -> &mut Page {
        let length = entry.encoded_len();
        // Behind the number of its field and its length.
        let bytes = 1 + length_delimiter_len(length) + length;
        if self.bytes > 0 && self.bytes + bytes > self.most_bytes {
            self.full.push(std::mem::take(&mut self.last));
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(count: i64) -> Vec<pb::HeldRoute> {
        let route = |version| pb::HeldRoute {
            host: format!("host-{version}.localhost"),
            epoch: 1,
            version,
            ..pb::HeldRoute::default()
        };
        (1..=count).map(route).collect()
    }

    fn release(error: &str) -> pb::StagedRelease {
        pb::StagedRelease {
            release_id: "rel_x".to_owned(),
            error: error.to_owned(),
            ..pb::StagedRelease::default()
        }
    }

    #[test]
    fn all_is_told_in_order_on_pages_that_keep_the_bound() {
        let (held, staged) = (routes(1_000), vec![release("corrupt"), release("")]);
        for most_bytes in [100, 1_000, 10_000] {
            let pages = pages(held.clone(), staged.clone(), most_bytes);
            assert!(pages.len() > 1, "{most_bytes}");
            for page in &pages {
                let message = pb::WatchRoutesRequest {
                    held: page.held.clone(),
                    staged: page.staged.clone(),
                    ..pb::WatchRoutesRequest::default()
                };
                let bytes = message.encoded_len();
                assert!((1..=most_bytes).contains(&bytes), "{bytes} of {most_bytes}");
            }
            let told = pages.iter().flat_map(|page| page.held.clone());
            assert_eq!(told.collect::<Vec<_>>(), held);
            let told = pages.iter().flat_map(|page| page.staged.clone());
            assert_eq!(told.collect::<Vec<_>>(), staged);
        }
    }

    #[test]
    fn what_is_small_or_nothing_takes_one_page_and_what_is_too_large_one_of_its_own() {
        assert_eq!(pages(Vec::new(), Vec::new(), 100), [Page::default()]);
        let one = pages(routes(2), vec![release("")], 10_000);
        assert_eq!(
            (one.len(), one[0].held.len(), one[0].staged.len()),
            (1, 2, 1)
        );
        let large = release(&"x".repeat(1_000));
        let pages = pages(routes(1), vec![large, release("")], 100);
        let counts = pages.iter().map(|page| page.held.len() + page.staged.len());
        assert_eq!(counts.collect::<Vec<_>>(), [1, 1, 1]);
    }
}
