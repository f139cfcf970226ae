//! Each service's role reads and writes its own schema and nothing else.

use candlefish_testkit::{Database, poll_until};
use deploy_orchestrator::migrate;
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use crate::sandbox::{SOON, Sandbox};

/// A role with its schema, as a stack makes them: it owns that, and may enter the database.
async fn make_role(database: &Database, role: &str) -> PgConnectOptions {
    let name = database.options().get_database().unwrap().to_owned();
    let mut conn = PgConnection::connect_with(&database.options())
        .await
        .unwrap();
    let script = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'one';
         REVOKE ALL ON DATABASE {name} FROM PUBLIC;
         REVOKE ALL ON SCHEMA public FROM PUBLIC;
         GRANT CONNECT ON DATABASE {name} TO {role};
         CREATE SCHEMA {role} AUTHORIZATION {role};
         ALTER ROLE {role} IN DATABASE {name} SET search_path = {role};"
    );
    conn.execute(sqlx::AssertSqlSafe(script)).await.unwrap();
    database.options().username(role).password("one")
}

async fn drop_roles(database: &Database, roles: &[&str]) {
    let mut conn = PgConnection::connect_with(&database.options())
        .await
        .unwrap();
    for role in roles {
        let script = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
        conn.execute(sqlx::AssertSqlSafe(script)).await.unwrap();
    }
}

fn url_as(database: &Database, role: &str) -> String {
    let url = database.url();
    let (_, rest) = url.split_once('@').unwrap();
    format!("postgres://{role}:one@{rest}")
}

async fn refused(conn: &mut PgConnection, statement: &str) -> bool {
    let done = conn
        .execute(sqlx::AssertSqlSafe(statement.to_owned()))
        .await;
    let Err(sqlx::Error::Database(error)) = done else {
        return false;
    };
    // Insufficient privilege, of the schema or of the table.
    error.code().is_some_and(|code| code == "42501")
}

#[tokio::test]
async fn a_role_reads_and_writes_its_own_schema_alone() {
    let sandbox = Sandbox::new().await;
    let database = Database::fresh(&[]).await;
    let run = std::process::id();
    let (ours, theirs) = (format!("deploy_{run}"), format!("gateway_{run}"));
    make_role(&database, &ours).await;
    let neighbour = make_role(&database, &theirs).await;
    // The role needs no more than its schema to migrate and to work.
    let url = url_as(&database, &ours);
    migrate(&sandbox.config(&url)).await.unwrap();
    let orchestrator = sandbox.start_on(&url).await;
    let api = sandbox.api(orchestrator.running.address);
    api.create_site("docs").await;
    let _edge = crate::edge::Edge::start(&sandbox, "edge-1", orchestrator.running.address).await;
    api.wait_for_live_edges(1).await;
    api.create_environment("production", crate::api::policy())
        .await;
    let release = sandbox.release(&api, "one").await;
    api.deploy_whole("production", &release).await;
    orchestrator.stop().await;

    let mut conn = PgConnection::connect_with(&neighbour).await.unwrap();
    conn.execute("CREATE TABLE token (hash text)")
        .await
        .unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace($1)",
    )
    .bind(&ours)
    .fetch_all(&mut PgConnection::connect_with(&database.options()).await.unwrap())
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    for table in &tables {
        for statement in [
            format!("SELECT * FROM {ours}.{table} LIMIT 1"),
            format!("DELETE FROM {ours}.{table}"),
            format!("TRUNCATE {ours}.{table}"),
        ] {
            assert!(refused(&mut conn, &statement).await, "{statement}");
        }
    }
    assert!(refused(&mut conn, &format!("CREATE TABLE {ours}.mine (a int)")).await);
    assert!(refused(&mut conn, "CREATE TABLE public.mine (a int)").await);
    conn.close().await.unwrap();
    let our_own = database.options().username(&ours).password("one");
    let mut conn = PgConnection::connect_with(&our_own).await.unwrap();
    assert!(refused(&mut conn, &format!("SELECT * FROM {theirs}.token")).await);
    assert!(refused(&mut conn, &format!("CREATE ROLE more_{run}")).await);
    conn.close().await.unwrap();
    // Roles are the server's, not the database's: none is left behind.
    poll_until(SOON, "the sessions to end", async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE '%\\_' || ";
        match sandbox.number(&format!("{open}'{run}'")).await {
            0 => Ok(()),
            open => Err(open),
        }
    })
    .await;
    drop_roles(&database, &[&ours, &theirs]).await;
}
