use candlefish_testkit::Database;

use super::*;

#[tokio::test]
async fn an_app_that_asks_on_is_woken_by_nobody_before_its_pause() {
    let pool = Database::migrated(&sqlx::migrate!()).await.pool();
    let mut conn = pool.acquire().await.unwrap();
    note_app(&mut conn).await.unwrap();
    for (rounds, is_due) in [(0, true), (2, false)] {
        // It is being swept, by which round ever, when another one finds news.
        sqlx::query("UPDATE github_repository SET attempts = 1, rounds = $1, then_due_at = NULL")
            .bind((rounds - 1_i32).max(0))
            .execute(&mut *conn)
            .await
            .unwrap();
        wake_app(&mut conn).await.unwrap();
        let finished = Finished {
            pause: Duration::from_mins(3),
            note: "",
            looked: false,
            then: None,
            rounds,
        };
        finish_repository(&mut conn, "", finished).await.unwrap();
        let found: bool = sqlx::query_scalar("SELECT due_at <= clock() FROM github_repository")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(found, is_due, "{rounds}");
    }
}

/// An App that asks on, and a repository of which a sweep left something, which is due in so many minutes. The one
/// after that would have been so many ago.
async fn leave(conn: &mut PgConnection, due_in: i32, then_ago: i32) {
    sqlx::query("DELETE FROM github_repository")
        .execute(&mut *conn)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO github_repository (repository, due_at, rounds, then_due_at) VALUES
         ('', clock() + interval '1 hour', 3, NULL),
         ('example/docs', clock() + make_interval(mins => $1), 0,
          clock() - make_interval(mins => $2))",
    )
    .bind(due_in)
    .bind(then_ago)
    .execute(conn)
    .await
    .unwrap();
}

/// Whether what was left is due in so many minutes or more.
async fn waits(conn: &mut PgConnection, minutes: i32) -> bool {
    sqlx::query_scalar(
        "SELECT due_at >= clock() + make_interval(mins => $1) FROM github_repository
         WHERE repository <> ''",
    )
    .bind(minutes)
    .fetch_one(conn)
    .await
    .unwrap()
}

#[tokio::test]
async fn what_was_left_is_taken_in_the_end_though_an_app_asks_on_and_on() {
    let pool = Database::migrated(&sqlx::migrate!()).await.pool();
    let mut conn = pool.acquire().await.unwrap();
    let minutes = Duration::from_mins;
    let in_all = minutes(120);
    for (then_ago, is_taken) in [(90, false), (121, true)] {
        leave(&mut conn, 0, then_ago).await;
        put_repositories_off(&mut conn, minutes(60), minutes(60), in_all)
            .await
            .unwrap();
        assert_eq!(waits(&mut conn, 30).await, !is_taken, "{then_ago}");
        // The time comes to which it was put off.
        leave(&mut conn, 0, then_ago).await;
        let due = claim_repository(&mut conn, minutes(5), minutes(60), in_all).await;
        let due = due.unwrap().map(|due| due.repository);
        let expected = is_taken.then(|| "example/docs".to_owned());
        assert_eq!(due, expected, "{then_ago}");
    }
}

#[tokio::test]
async fn what_is_not_due_soon_is_not_put_off_again() {
    let pool = Database::migrated(&sqlx::migrate!()).await.pool();
    let mut conn = pool.acquire().await.unwrap();
    let minutes = Duration::from_mins;
    for (due_in, is_put_off) in [(45, false), (15, true)] {
        leave(&mut conn, due_in, 0).await;
        put_repositories_off(&mut conn, minutes(60), minutes(30), minutes(120))
            .await
            .unwrap();
        assert_eq!(waits(&mut conn, 50).await, is_put_off, "{due_in}");
    }
}

#[tokio::test]
async fn a_sweep_that_leaves_something_neither_counts_as_failed_nor_ends_those_that_did() {
    let pool = Database::migrated(&sqlx::migrate!()).await.pool();
    let mut conn = pool.acquire().await.unwrap();
    note_app(&mut conn).await.unwrap();
    for (attempts, note, leaves, rounds, expected) in [
        (3_i32, "", true, 0, 2_i32),
        (3, "failed", true, 0, 2),
        (3, "", false, 1, 2),
        (3, "failed", false, 1, 3),
        (3, "failed", false, 0, 3),
        (3, "", false, 0, 0),
        // Another one went through meanwhile.
        (0, "", true, 0, 0),
        (0, "", false, 1, 0),
    ] {
        sqlx::query("UPDATE github_repository SET attempts = $1")
            .bind(attempts)
            .execute(&mut *conn)
            .await
            .unwrap();
        let finished = Finished {
            pause: Duration::from_secs(10),
            note,
            looked: false,
            then: leaves.then_some(Duration::from_mins(5)),
            rounds,
        };
        finish_repository(&mut conn, "", finished).await.unwrap();
        let found: i32 = sqlx::query_scalar("SELECT attempts FROM github_repository")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        let case = (attempts, note, leaves, rounds);
        assert_eq!(found, expected, "{case:?}");
    }
}

#[tokio::test]
async fn a_push_whose_branch_is_deleted_within_its_second_is_where_the_branch_was() {
    let pool = Database::migrated(&sqlx::migrate!()).await.pool();
    let mut conn = pool.acquire().await.unwrap();
    let id = EnvironmentId::new();
    for statement in [
        "WITH s AS (
             INSERT INTO site (id, slug, name, repository, created_at, created_by)
             VALUES ($1, 'docs', '', 'example/docs', clock(), 'test') RETURNING id)
         INSERT INTO environment (id, site_id, slug, kind, policy, push_branch, created_at, created_by)
         SELECT $1, id, 'production', 'standard', '{}', 'main', clock(), 'test' FROM s",
        // The one that was replaced has the later id: it was decided last.
        "INSERT INTO trigger (id, delivery_id, repository, branch, commit, before_commit, pushed_at,
             sender, site_id, environment_id, outcome, reason, message, received_at, created_at)
         SELECT lpad(n::text, 32, '0')::uuid, lpad(n::text, 32, '0')::uuid, 'example/docs', 'main',
             commit, before, at, '', $1, $1, 'ignored', 'paths', '', clock(), clock()
         FROM (VALUES (3, 'a', '', 5), (2, 'b', 'a', 5), (1, '', 'b', 5)) AS t (n, commit, before, at)",
    ] {
        let done = sqlx::query(statement).bind(id.uuid());
        done.execute(&mut *conn).await.unwrap();
    }
    let followed = list_followed(&mut conn, "example/docs").await.unwrap();
    let pushed: Vec<_> = followed.into_iter().map(|one| one.pushed).collect();
    assert_eq!(pushed, [Some("b".to_owned())]);
    sqlx::query(
        "INSERT INTO trigger (id, delivery_id, repository, branch, commit, before_commit, pushed_at,
             sender, site_id, environment_id, outcome, reason, message, received_at, created_at)
         VALUES (gen_random_uuid(), gen_random_uuid(), 'example/docs', 'main', 'd', 'c', 6, '', $1, $1,
             'ignored', 'paths', '', clock(), clock())",
    )
    .bind(id.uuid())
    .execute(&mut *conn)
    .await
    .unwrap();
    let gaps = list_gaps(&mut conn, "example/docs").await.unwrap();
    let gaps: Vec<_> = gaps
        .into_iter()
        .map(|gap| (gap.commit, gap.followed.pushed))
        .collect();
    assert_eq!(gaps, [("c".to_owned(), Some("b".to_owned()))]);
}
