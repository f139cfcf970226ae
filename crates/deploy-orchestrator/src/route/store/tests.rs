use candlefish_testkit::Database;

use super::*;

/// Nobody's.
const PLACE: Place<'_> = Place {
    environment_id: None,
    deployment_id: None,
    site: "docs",
    environment: "production",
    noindex: false,
};

#[tokio::test]
async fn what_is_written_in_a_database_that_moved_is_of_a_new_epoch() {
    let database = Database::migrated(&sqlx::migrate!()).await;
    let pool = database.pool();
    let mut tx = pool.begin().await.unwrap();
    let empty = changed_since(&mut tx, None).await.unwrap();
    assert!(empty.rows.is_empty() && !empty.moved);
    let hosts = ["a.localhost", "b.localhost"].map(str::to_owned);
    let spec = Spec::default();
    let old = write(&mut tx, &hosts, PLACE, &spec).await.unwrap();
    assert_eq!(old.len(), 2);
    assert!(old.iter().all(|one| one.epoch == empty.epoch));

    // As after a promotion: the server's timeline is not the one that the row knows.
    sqlx::query("UPDATE relay SET timeline = '000000FF'")
        .execute(&mut *tx)
        .await
        .unwrap();
    assert!(changed_since(&mut tx, None).await.unwrap().moved);
    let new = write(&mut tx, &hosts, PLACE, &spec).await.unwrap();
    let epoch = epoch::current(&mut tx).await.unwrap();
    assert!(epoch > empty.epoch);
    let expected = hosts.map(|host| Written {
        host,
        epoch,
        version: 2,
    });
    assert_eq!(new, expected);
    let found = changed_since(&mut tx, None).await.unwrap();
    assert_eq!(
        (found.rows.len(), found.epoch, found.moved),
        (2, epoch, false)
    );
}

/// What these hosts' routes are to be one version later.
async fn next(conn: &mut PgConnection, hosts: &[String], spec: &Spec) -> Vec<Note> {
    let current = list_current(conn, hosts).await.unwrap();
    let next = hosts.iter().map(|host| {
        let (epoch, version) = current.held.get(host).copied().unwrap_or((0, 0));
        let written = Written {
            host: host.clone(),
            epoch: epoch.max(current.epoch),
            version: version + 1,
        };
        Note::new(&written, PLACE, spec)
    });
    next.collect()
}

#[tokio::test]
async fn what_is_written_for_many_is_what_is_written_for_one() {
    let database = Database::migrated(&sqlx::migrate!()).await;
    let mut tx = database.pool().begin().await.unwrap();
    let alone = ["alone.localhost".to_owned()];
    let hosts = ["a.localhost", "b.localhost"].map(str::to_owned);
    let release = ReleaseId::new();
    for (forgets, rolling) in [(true, false), (true, true), (false, false)] {
        let manifest = "5a".repeat(32);
        let spec = Spec {
            releases: vec![Weighted {
                release,
                manifest: manifest.clone(),
                weight: 100,
            }],
            assets_of: vec![Assets { release, manifest }],
            rolling,
            rolled_edges: vec!["edge-1".to_owned()],
            waiting_edges: vec!["edge-2".to_owned(), "edge-3".to_owned()],
            forgets,
        };
        write(&mut tx, &alone, PLACE, &spec).await.unwrap();
        let notes = next(&mut tx, &hosts, &spec).await;
        write_each(&mut tx, &notes).await.unwrap();
        let found = changed_since(&mut tx, None).await.unwrap().rows;
        assert_eq!(found.len(), 3);
        let like = |row: &Row| Row {
            host: String::new(),
            ..row.clone()
        };
        assert!(
            found.iter().all(|row| like(row) == like(&found[0])),
            "{found:#?}"
        );
        // What was read is not what is there any more.
        write_each(&mut tx, &notes).await.unwrap_err();
    }
}
