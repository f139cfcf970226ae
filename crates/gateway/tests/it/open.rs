//! What answers without a token.

use reqwest::Method;

use crate::stand::Stand;

#[tokio::test]
async fn the_description_of_the_api_needs_no_token() {
    let stand = Stand::start().await;
    let answer = stand.get("/openapi.json", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["openapi"], "3.1.0");
    assert_eq!(answer.body["servers"][0]["url"], stand.api.as_str());
    let post = stand.ask(Method::POST, "/openapi.json", "");
    stand.send(post).await.is_problem(405);
}
