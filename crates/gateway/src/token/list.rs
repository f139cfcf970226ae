//! Lists tokens, newest first, without their secrets: those that reach no further than the caller's.

use candlefish_proto::access;
use candlefish_runtime::{database, identity::Caller, refusal::Refusal};
use sqlx::PgPool;
use uuid::Uuid;

use super::store;
use crate::{field::Faults, page::Page, principal};

pub(crate) async fn list(
    pool: &PgPool,
    caller: &Caller,
    request: access::ListTokensRequest,
) -> Result<access::ListTokensResponse, Refusal> {
    let mut faults = Faults::default();
    let filter = ["ListTokens", request.principal.as_str()];
    let page = Page::read(&mut faults, &filter, request.page_size, &request.page_token);
    let before = page.after().map(Uuid::from_slice);
    if matches!(before, Some(Err(_))) {
        faults.add("page_token", "is not one that this API gave");
    }
    if !request.principal.is_empty() && !principal::is_name(&request.principal) {
        faults.add("principal", "must be the name of a principal");
    }
    faults.finish()?;
    let before = before.and_then(Result::ok);
    let failed = |source: sqlx::Error| database::refuse("list tokens", &source);
    let mut conn = pool.acquire().await.map_err(failed)?;
    let within = &caller.sites;
    let rows = if request.principal.is_empty() {
        store::list_all(&mut conn, within, before, page.limit())
            .await
            .map_err(failed)?
    } else {
        let owner = principal::store::find_by_name(&mut conn, &request.principal);
        match owner.await.map_err(failed)? {
            Some(owner) => {
                let of = owner.id.uuid();
                store::list_of(&mut conn, of, within, before, page.limit())
                    .await
                    .map_err(failed)?
            }
            None => Vec::new(),
        }
    };
    let (rows, next_page_token) = page.cut(rows, |row| row.id.uuid().as_bytes().to_vec());
    Ok(access::ListTokensResponse {
        tokens: rows.into_iter().map(Into::into).collect(),
        next_page_token,
    })
}
