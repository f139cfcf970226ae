use std::time::Duration;

use candlefish_testkit::Database;

use super::*;
use crate::trigger::pull_request::read::Action;

const REPOSITORY: &str = "example/docs";

/// A site with a preview of its own for each of these pull requests, of which nothing is owed.
async fn previews(conn: &mut PgConnection, numbers: &[i32]) -> SiteId {
    let site = SiteId::new();
    sqlx::query(
        "INSERT INTO site (id, slug, name, repository, created_at, created_by)
         VALUES ($1, 'docs', '', 'example/docs', clock(), 'test')",
    )
    .bind(site.uuid())
    .execute(&mut *conn)
    .await
    .unwrap();
    for number in numbers {
        let id = EnvironmentId::new();
        sqlx::query(
            "INSERT INTO environment (id, site_id, slug, kind, policy, pull_request, created_at, created_by)
             VALUES ($1, $2, 'pr-' || $3::int::text, 'preview', '{}', $3, clock(), 'test')",
        )
        .bind(id.uuid())
        .bind(site.uuid())
        .bind(number)
        .execute(&mut *conn)
        .await
        .unwrap();
        let told = told(*number, REPOSITORY, "main");
        save(conn, site, &told, Some(id)).await.unwrap();
    }
    site
}

fn told(number: i32, repository: &str, base: &str) -> PullRequest {
    PullRequest {
        repository: repository.to_owned(),
        number,
        action: Action::Synchronized,
        is_open: true,
        merged: false,
        is_fork: false,
        branch: "changes".to_owned(),
        base: base.to_owned(),
        head: "a".to_owned(),
        before: String::new(),
        updated_at: 1,
        title: String::new(),
        author: String::new(),
        sender: String::new(),
    }
}

async fn now(conn: &mut PgConnection) -> Moment {
    let now = sqlx::query_scalar::<_, Timestamp>("SELECT clock()");
    read(now.fetch_one(conn).await.unwrap())
}

#[tokio::test]
async fn those_that_were_asked_for_longest_ago_are_asked_for_first_and_never_all_at_once() {
    let pool = Database::migrated(&sqlx::migrate!()).await.pool();
    let mut conn = pool.acquire().await.unwrap();
    let site = previews(&mut conn, &[1, 2, 3, 4]).await;
    let asked = now(&mut conn).await;
    let hour = Duration::from_hours(1);
    for number in 1..=3 {
        let until = if number == 2 { asked } else { asked.plus(hour) };
        let told = told(number, REPOSITORY, "main");
        let saved = save_unanswered(&mut conn, site, &told, (asked, until)).await;
        saved.unwrap();
    }
    let owed = |number, is_over| Owed { number, is_over };
    let listed = list_unanswered(&mut conn, REPOSITORY, 2).await.unwrap();
    assert_eq!(listed, [owed(1, false), owed(2, true)]);
    note_asked(&mut conn, REPOSITORY, 1).await.unwrap();
    let listed = list_unanswered(&mut conn, REPOSITORY, 2).await.unwrap();
    assert_eq!(listed, [owed(2, true), owed(3, false)]);
    clear_unanswered(&mut conn, site, 2).await.unwrap();
    let listed = list_unanswered(&mut conn, REPOSITORY, 9).await.unwrap();
    assert_eq!(listed, [owed(3, false), owed(1, false)]);
}

#[tokio::test]
async fn what_is_owed_follows_the_base_branch_and_ends_with_the_pull_request() {
    let pool = Database::migrated(&sqlx::migrate!()).await.pool();
    let mut conn = pool.acquire().await.unwrap();
    let site = previews(&mut conn, &[12]).await;
    let asked = now(&mut conn).await;
    let closed = PullRequest {
        is_open: false,
        ..told(12, REPOSITORY, "main")
    };
    for (then, expected) in [
        (told(12, "Example/Docs", "next"), Some("next")),
        (closed, None),
        (told(12, "acme/docs", "main"), None),
    ] {
        let before = told(12, REPOSITORY, "main");
        save(&mut conn, site, &before, None).await.unwrap();
        let saved = save_unanswered(&mut conn, site, &before, (asked, asked)).await;
        saved.unwrap();
        save(&mut conn, site, &then, None).await.unwrap();
        // As often as it is said.
        save(&mut conn, site, &then, None).await.unwrap();
        let debt = find_unanswered(&mut conn, site, &then.repository, 12).await;
        let base = debt.unwrap().map(|debt| debt.base);
        assert_eq!(base.as_deref(), expected, "{then:?}");
    }
}
