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
