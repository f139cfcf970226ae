//! Lists that come in pages, joined up to a limit.

use candlefish_proto::{access, deploy};

use super::{Api, calls::Call};
use crate::error::Error;

/// The largest page that every list gives.
const PAGE: usize = 200;

/// A request that is answered in pages.
pub(crate) trait Paged: Call {
    /// Asks for a page of this size, after this token.
    fn page(&mut self, size: i32, token: String);
    /// The token of the page after it; empty on the last.
    fn next(answer: &mut Self::Answer) -> &mut String;
    /// How many it holds.
    fn count(answer: &Self::Answer) -> usize;
    /// Puts what a later page holds to what this one does, in the order of the list.
    fn join(answer: &mut Self::Answer, later: Self::Answer);
}

macro_rules! paged {
    ($($package:ident::$request:ident, $items:ident;)+) => {
        $(impl Paged for $package::$request {
            fn page(&mut self, size: i32, token: String) {
                self.page_size = size;
                self.page_token = token;
            }

            fn next(answer: &mut Self::Answer) -> &mut String {
                &mut answer.next_page_token
            }

            fn count(answer: &Self::Answer) -> usize {
                answer.$items.len()
            }

            fn join(answer: &mut Self::Answer, later: Self::Answer) {
                answer.$items.extend(later.$items);
                answer.next_page_token = later.next_page_token;
            }
        })+
    };
}

paged! {
    deploy::ListSitesRequest, sites;
    deploy::ListEnvironmentsRequest, environments;
    deploy::ListReleasesRequest, releases;
    deploy::ListDeploymentsRequest, deployments;
    deploy::ListEdgesRequest, edges;
    deploy::ListQueueItemsRequest, items;
    deploy::ListTriggersRequest, triggers;
    deploy::ListStopsRequest, stops;
    deploy::ListHistoryRequest, records;
    access::ListPrincipalsRequest, principals;
    access::ListTokensRequest, tokens;
}

impl Paged for deploy::ListBlockersRequest {
    fn page(&mut self, size: i32, token: String) {
        self.page_size = size;
        self.page_token = token;
    }

    fn next(answer: &mut Self::Answer) -> &mut String {
        &mut answer.next_page_token
    }

    fn count(answer: &Self::Answer) -> usize {
        answer.blockers.len()
    }

    /// Puts them before: later pages have older ones. The sums stay those of the first page.
    fn join(answer: &mut Self::Answer, later: Self::Answer) {
        let mut blockers = later.blockers;
        blockers.append(&mut answer.blockers);
        answer.blockers = blockers;
        answer.next_page_token = later.next_page_token;
    }
}

impl Api {
    /// As many of the list as the limit allows; a token in the answer says that there are more.
    pub(crate) async fn list<C: Paged>(
        &self,
        mut request: C,
        limit: usize,
    ) -> Result<C::Answer, Error> {
        let size = |left: usize| i32::try_from(left.clamp(1, PAGE)).unwrap_or(1);
        request.page(size(limit), String::new());
        let mut answer = self.read(request.clone()).await?;
        loop {
            let left = limit.saturating_sub(C::count(&answer));
            let token = C::next(&mut answer).clone();
            if token.is_empty() || left == 0 {
                return Ok(answer);
            }
            request.page(size(left), token);
            C::join(&mut answer, self.read(request.clone()).await?);
        }
    }
}
