use candlefish_testkit::Database;

use super::*;

/// One deployment acts and one ended, each with an address that the live edge does not hold.
const ADDRESSES: &str = "
    INSERT INTO site (id, slug, name, repository, created_at, created_by)
    VALUES ('01900000-0000-7000-8000-00000000000a', 'docs', 'Docs', '', clock(), 'erin');
    INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
    VALUES ('01900000-0000-7000-8000-00000000000b', '01900000-0000-7000-8000-00000000000a',
            'production', 'standard', '{}', clock(), 'erin');
    INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message, author,
                         author_email, dirty, created_at, created_by)
    VALUES ('01900000-0000-7000-8000-00000000000c', '01900000-0000-7000-8000-00000000000a',
            decode(repeat('00', 32), 'hex'), 1, 'draft', '', '', '', '', false, clock(), 'erin');
    INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy, state,
                            created_at, created_by, started_at, finished_at, trace_id, span_id)
    SELECT id::uuid, '01900000-0000-7000-8000-00000000000a', '01900000-0000-7000-8000-00000000000b',
           '01900000-0000-7000-8000-00000000000c', 'standard', '{}', '{}', state, clock(), 'erin',
           clock(), CASE WHEN state = 'failed' THEN clock() END, replace(id, '-', ''),
           '8000000000000001'
    FROM (VALUES ('01900000-0000-7000-8000-000000000001', 'failed'),
                 ('01900000-0000-7000-8000-000000000002', 'waiting')) d (id, state);
    INSERT INTO route (host, site, environment, epoch, version, releases, noindex, deployment_id)
    SELECT state || '.localhost', 'docs', 'production', 1, 2, '[{}]', true, id FROM deployment;
    INSERT INTO edge (id, boot, address, heard_at, joined_at)
    VALUES ('edge-1', 'boot', '127.0.0.1:1', clock(), clock());
    INSERT INTO edge_route (edge_id, host, epoch, version)
    SELECT 'edge-1', host, 1, 1 FROM route;";

/// The hosts looked at, and the edges that are behind on them.
async fn looked_at(database: &Database) -> Vec<(String, Vec<String>)> {
    let mut conn = database.pool().acquire().await.unwrap();
    let own = list_own(&mut conn, None, 10).await.unwrap();
    own.into_iter().map(|one| (one.host, one.behind)).collect()
}

#[tokio::test]
async fn of_own_addresses_those_of_deployments_that_act_are_looked_at() {
    let database = Database::migrated(&sqlx::migrate!()).await;
    database.run(&[ADDRESSES]).await;
    let host = "waiting.localhost".to_owned();
    let behind = vec!["edge-1".to_owned()];
    assert_eq!(looked_at(&database).await, [(host.clone(), behind)]);
    // Who cannot stage the release is not waited for.
    database
        .run(&[
            "INSERT INTO edge_release (edge_id, release_id, staged, error, at)
                SELECT 'edge-1', id, false, 'its disk is full', clock() FROM release",
        ])
        .await;
    assert_eq!(looked_at(&database).await, [(host, Vec::new())]);
}
