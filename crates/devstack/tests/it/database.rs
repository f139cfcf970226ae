//! Each role owns its schema, and has rights on nothing else.

use candlefish_devstack::Stack;

#[tokio::test]
async fn a_role_writes_in_its_own_schema_and_reads_no_other() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let postgres = stack.postgres();
    let as_role = |role: &str, sql: &str| format!("SET SESSION AUTHORIZATION {role}; {sql}");
    let run = async |role: &str, sql: &str| {
        // The search path belongs to the login, which the superuser does not repeat.
        let sql = as_role(role, &format!("SET search_path = {role}; {sql}"));
        postgres.sql("candlefish", &sql).await
    };
    run(
        "deploy",
        "CREATE TABLE thing (id int); INSERT INTO thing VALUES (1);",
    )
    .await
    .unwrap();
    for refused in [
        "SELECT * FROM deploy.thing",
        "INSERT INTO deploy.thing VALUES (2)",
        "CREATE TABLE deploy.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE DATABASE mine",
    ] {
        let error = run("gateway", refused).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{refused}: {error}");
    }
}

#[tokio::test]
async fn a_login_finds_its_own_schema_first_and_needs_its_password() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let url = stack.database_url("deploy").unwrap();
    let right = psql(&url, "SHOW search_path").await;
    assert_eq!(right.unwrap().trim(), "deploy");
    let password = url.split([':', '@']).nth(2).unwrap();
    let wrong = psql(&url.replace(password, "guess"), "SELECT 1").await;
    let error = wrong.unwrap_err();
    assert!(error.contains("password authentication failed"), "{error}");
}

async fn psql(url: &str, sql: &str) -> Result<String, String> {
    let programs = candlefish_devstack::install::Programs::find().unwrap();
    let out = tokio::process::Command::new(programs.postgres.join("psql"))
        .args(["-X", "-A", "-t", "-c", sql, url])
        .output()
        .await
        .unwrap();
    if out.status.success() {
        return Ok(String::from_utf8(out.stdout).unwrap());
    }
    Err(String::from_utf8(out.stderr).unwrap())
}
