//! Lists tokens, newest first, without their secrets: those that reach no further than the caller's.

use candlefish_proto::access;
use candlefish_runtime::{
    database,
    identity::Caller,
    refusal::{Code, Refusal},
};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Token, is_within, store};
use crate::{field::Faults, page::Page, principal};

/// Tokens that one call sees, at most, for each site of a caller of some: any number of those that are for
/// one of them may be for others too, and are not told. More than a page has.
const LOOK: i64 = 500;

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
    let within = caller.sites.as_slice();
    let limit = if within.is_empty() {
        page.limit()
    } else {
        LOOK
    };
    let rows = match (request.principal.as_str(), within) {
        ("", []) => store::list_all(&mut conn, before, limit).await,
        ("", sites) => store::list_on(&mut conn, sites, before, limit).await,
        (name, _) => {
            let owner = principal::store::find_by_name(&mut conn, name).await;
            let owner = owner.map_err(failed)?.ok_or_else(|| nobody(name))?;
            store::list_of(&mut conn, owner.id.uuid(), before, limit).await
        }
    };
    let (rows, next_page_token) = cut(&page, rows.map_err(failed)?, within);
    Ok(access::ListTokensResponse {
        tokens: rows.into_iter().map(Into::into).collect(),
        next_page_token,
    })
}

fn nobody(name: &str) -> Refusal {
    let words = format!("there is no principal {name:?}");
    Refusal::new(Code::NotFound, "principal-not-found", words).field(
        "principal",
        "is nobody's name; GET /v1/principals lists all",
    )
}

/// One page of those that reach no further than `within`. A look that ended by its limit goes on
/// there, however few of what it saw may be told.
///
/// So the page's token may hold the id of one that is not told. That says that it is there and when it
/// was made, and no more: an id is no secret (the secret is 192 random bits beside it), and no call ends
/// or shows by its id what reaches further. That there is more than is told follows from a page that is
/// not full and goes on, and any id, also one made up, is taken as a place. To name only what is told,
/// a look would need to be without an end; to seal the place, the replicas would have to share a key.
fn cut(page: &Page, rows: Vec<Token>, within: &[String]) -> (Vec<Token>, String) {
    let key = |row: &Token| row.id.uuid().as_bytes().to_vec();
    let is_full = i64::try_from(rows.len()).is_ok_and(|seen| seen >= LOOK);
    let ended = rows.last().filter(|_| is_full).map(key);
    let told = rows.into_iter();
    let told: Vec<Token> = told.filter(|row| is_within(&row.sites, within)).collect();
    page.cut_look(told, key, ended)
}

#[cfg(test)]
mod tests {
    use candlefish_ids::TokenId;
    use candlefish_proto::access::Role;

    use super::*;

    fn token(sites: &[&str]) -> Token {
        Token {
            id: TokenId::new(),
            principal: "ada".to_owned(),
            name: "test".to_owned(),
            role: Role::Viewer,
            sites: sites.iter().map(|site| (*site).to_owned()).collect(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            revoked_at: None,
        }
    }

    /// A look of as many tokens as it may have, of which only these are for one site.
    fn look(ours: &[usize], most: i64) -> Vec<Token> {
        let sites = |place: usize| -> &'static [&'static str] {
            if ours.contains(&place) {
                &["docs"]
            } else {
                &["docs", "shop"]
            }
        };
        let most = usize::try_from(most).unwrap();
        (0..most).map(|place| token(sites(place))).collect()
    }

    #[test]
    fn a_look_that_ends_before_the_page_is_full_goes_on_where_it_ended() {
        let page = |token: &str| {
            let mut faults = Faults::default();
            let page = Page::read(&mut faults, &["ListTokens", ""], 2, token);
            assert!(faults.names().is_empty());
            page
        };
        let within = ["docs".to_owned()];
        let after = |token: &str| Uuid::from_slice(page(token).after().unwrap()).unwrap();
        // (which may be told, how many were seen) to (how many are told, after which the next page is)
        let last = usize::try_from(LOOK).unwrap() - 1;
        let table: [(&[usize], i64, usize, Option<usize>); 6] = [
            (&[], LOOK, 0, Some(last)),
            (&[3], LOOK, 1, Some(last)),
            (&[3, 5], LOOK, 2, Some(last)),
            (&[3, 5, 9], LOOK, 2, Some(5)),
            (&[3, 5, 9], LOOK - 1, 2, Some(5)),
            (&[3, 5], LOOK - 1, 2, None),
        ];
        for (ours, seen, told, next) in table {
            let rows = look(ours, seen);
            let next = next.map(|place| rows[place].id.uuid());
            let (rows, token) = cut(&page(""), rows, &within);
            assert_eq!(rows.len(), told, "{ours:?} of {seen}");
            assert!(rows.iter().all(|row| row.sites == ["docs"]));
            let goes_on = (!token.is_empty()).then(|| after(&token));
            assert_eq!(goes_on, next, "{ours:?} of {seen}");
        }
    }
}
