//! What is written to GitHub, and how it is found again.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Credentials, Error,
    calls::of_repository,
    client::{Call, GitHub, read},
    error::VISIBLE,
    heads::encoded,
};

/// Of a page.
const PAGE: usize = 100;

/// A deployment to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDeployment<'a> {
    pub(crate) commit: &'a str,
    pub(crate) environment: &'a str,
    /// By which it is found again.
    pub(crate) ours: &'a str,
    pub(crate) is_production: bool,
    pub(crate) is_transient: bool,
}

/// A status of a deployment to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewStatus<'a> {
    pub(crate) state: &'a str,
    pub(crate) log_url: Option<&'a str>,
    pub(crate) environment_url: Option<&'a str>,
    pub(crate) description: &'a str,
}

#[derive(Deserialize)]
struct Id {
    id: u64,
}

impl GitHub {
    /// Asks for one of a list of a repository (`/pulls`): GitHub answers 404 to who may not see the repository.
    /// Who may not read that list may see the rest.
    pub(crate) async fn sees(&self, repository: &str, list: &str) -> Result<(), Error> {
        let path = format!("{list}?per_page=1");
        let seen = self.get::<Value>(VISIBLE, repository, &path).await;
        match seen {
            Ok(_) | Err(Error::Refused { status: 403, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The deployment that carries our word, if GitHub has it.
    pub(crate) async fn find_deployment(
        &self,
        repository: &str,
        new: &NewDeployment<'_>,
    ) -> Result<Option<u64>, Error> {
        #[derive(Deserialize)]
        struct Deployment {
            id: u64,
            #[serde(default)]
            payload: Value,
        }
        let environment = encoded(new.environment);
        let commit = new.commit;
        for page in 1_u32.. {
            let path = format!(
                "/deployments?sha={commit}&environment={environment}&per_page={PAGE}&page={page}"
            );
            let listed: Vec<Deployment> = self.get("deployments", repository, &path).await?;
            let ours = listed.iter().find(|one| ours(&one.payload) == new.ours);
            if ours.is_some() || listed.len() < PAGE {
                return Ok(ours.map(|one| one.id));
            }
        }
        Ok(None)
    }

    /// Writes a deployment; answers GitHub's number of it.
    pub(crate) async fn create_deployment(
        &self,
        repository: &str,
        new: &NewDeployment<'_>,
    ) -> Result<u64, Error> {
        let body = json!({
            "ref": new.commit,
            "environment": new.environment,
            "payload": {"candlefish": new.ours},
            "description": "by Candlefish",
            // It would merge the default branch, or refuse for checks that are none of ours.
            "auto_merge": false,
            "required_contexts": [],
            "production_environment": new.is_production,
            "transient_environment": new.is_transient,
        });
        let call = post("create_deployment", repository, "/deployments", Some(&body))?;
        let made: Id = read("create_deployment", self.ask(repository, call).await?.body)?;
        Ok(made.id)
    }

    /// Whether the newest status of a deployment is this state: an older one may be from before it
    /// changed back and forth.
    pub(crate) async fn has_status(
        &self,
        repository: &str,
        deployment: u64,
        state: &str,
    ) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Status {
            id: u64,
            #[serde(default)]
            state: String,
        }
        let path = format!("/deployments/{deployment}/statuses?per_page={PAGE}");
        let listed: Vec<Status> = self.get("statuses", repository, &path).await?;
        let newest = listed.iter().max_by_key(|one| one.id);
        Ok(newest.is_some_and(|one| one.state == state))
    }

    /// Writes a status of a deployment.
    pub(crate) async fn create_status(
        &self,
        repository: &str,
        deployment: u64,
        new: &NewStatus<'_>,
    ) -> Result<(), Error> {
        let mut body = json!({
            "state": new.state,
            "description": new.description,
            // We say ourselves what is no longer live, production too.
            "auto_inactive": false,
        });
        for (name, url) in [
            ("log_url", new.log_url),
            ("environment_url", new.environment_url),
        ] {
            if let (Some(url), Some(fields)) = (url, body.as_object_mut()) {
                fields.insert(name.to_owned(), json!(url));
            }
        }
        let path = format!("/deployments/{deployment}/statuses");
        let call = post("create_status", repository, &path, Some(&body))?;
        self.ask(repository, call).await?;
        Ok(())
    }
}

/// Who writes with our credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// The App of this number.
    App(u64),
    /// The user of this number, who has the token.
    User(u64),
}

#[derive(Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<Id>,
    #[serde(default)]
    performed_via_github_app: Option<Id>,
}

impl Comment {
    fn has(&self, mark: &str) -> bool {
        let body = self.body.as_deref().unwrap_or_default();
        body.starts_with(mark)
    }

    fn is_by(&self, writer: Writer) -> bool {
        let (wrote, id) = match writer {
            Writer::App(id) => (&self.performed_via_github_app, id),
            Writer::User(id) => (&self.user, id),
        };
        wrote.as_ref().is_some_and(|one| one.id == id)
    }
}

impl GitHub {
    /// The comment of a pull request that has our mark and that we wrote, if GitHub has it: anybody may write
    /// our mark. None where GitHub does not say who we are: a second comment does less harm than one that
    /// somebody else may change.
    pub(crate) async fn find_comment(
        &self,
        repository: &str,
        number: i32,
        mark: &str,
    ) -> Result<Option<u64>, Error> {
        let mut writer = None;
        for page in 1_u32.. {
            let path = format!("/issues/{number}/comments?per_page={PAGE}&page={page}");
            let mut listed: Vec<Comment> = self.get("comments", repository, &path).await?;
            let is_last = listed.len() < PAGE;
            listed.retain(|one| one.has(mark));
            if writer.is_none() && !listed.is_empty() {
                writer = self.writer(repository).await?;
                if writer.is_none() {
                    return Ok(None);
                }
            }
            let ours = writer.and_then(|writer| listed.iter().find(|one| one.is_by(writer)));
            if ours.is_some() || is_last {
                return Ok(ours.map(|one| one.id));
            }
        }
        Ok(None)
    }

    /// Who writes with our credentials; none where GitHub does not say. An App may not ask, and need not.
    async fn writer(&self, repository: &str) -> Result<Option<Writer>, Error> {
        const CALL: &str = "user";
        if let Credentials::App { id, .. } = self.settings().credentials {
            return Ok(Some(Writer::App(id)));
        }
        let call = Call {
            name: CALL,
            method: Method::GET,
            path: "/user".to_owned(),
            body: None,
        };
        match self.ask(repository, call).await {
            Ok(answer) => {
                let user: Id = read(CALL, answer.body)?;
                Ok(Some(Writer::User(user.id)))
            }
            // A token of no user.
            Err(Error::Refused {
                status: 403 | 404, ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a comment at a pull request; answers GitHub's number of it.
    pub(crate) async fn create_comment(
        &self,
        repository: &str,
        number: i32,
        text: &str,
    ) -> Result<u64, Error> {
        let body = json!({ "body": text });
        let path = format!("/issues/{number}/comments");
        let call = post("create_comment", repository, &path, Some(&body))?;
        let made: Id = read("create_comment", self.ask(repository, call).await?.body)?;
        Ok(made.id)
    }

    /// Replaces what a comment says.
    pub(crate) async fn update_comment(
        &self,
        repository: &str,
        comment: u64,
        text: &str,
    ) -> Result<(), Error> {
        let body = json!({ "body": text });
        let call = Call {
            name: "update_comment",
            method: Method::PATCH,
            path: of_repository(repository, &format!("/issues/comments/{comment}"))?,
            body: Some(&body),
        };
        self.ask(repository, call).await?;
        Ok(())
    }
}

fn post<'a>(
    name: &'static str,
    repository: &str,
    path: &str,
    body: Option<&'a Value>,
) -> Result<Call<'a>, Error> {
    Ok(Call {
        name,
        method: Method::POST,
        path: of_repository(repository, path)?,
        body,
    })
}

/// Our word in a payload, which GitHub gives back as it was sent, or as text.
fn ours(payload: &Value) -> String {
    let parsed = payload
        .as_str()
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    let payload = parsed.as_ref().unwrap_or(payload);
    let word = payload.get("candlefish").and_then(Value::as_str);
    word.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_ours_by_who_wrote_it() {
        let comment = |user: Value, app: Value| -> Comment {
            let said = json!({"id": 7, "user": user, "performed_via_github_app": app});
            serde_json::from_value(said).unwrap()
        };
        let (app, user) = (Writer::App(1), Writer::User(2));
        let by_app = comment(
            json!({"id": 3, "login": "candlefish[bot]"}),
            json!({"id": 1}),
        );
        assert!(by_app.is_by(app) && !by_app.is_by(user));
        let by_user = comment(json!({"id": 2}), Value::Null);
        assert!(by_user.is_by(user) && !by_user.is_by(app));
        // The numbers of Apps and of users are two things.
        for other in [
            comment(json!({"id": 1}), json!({"id": 2})),
            comment(Value::Null, Value::Null),
        ] {
            assert!(!other.is_by(app) && !other.is_by(user));
        }
    }

    #[test]
    fn our_word_is_found_in_a_payload_of_either_form() {
        assert_eq!(ours(&json!({"candlefish": "dep_1"})), "dep_1");
        assert_eq!(ours(&json!("{\"candlefish\":\"dep_1\"}")), "dep_1");
        for other in [json!(null), json!(""), json!({"else": 1}), json!("text")] {
            assert_eq!(ours(&other), "");
        }
    }
}
