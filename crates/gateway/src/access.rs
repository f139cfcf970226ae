//! `AccessService`: requests to commands, nothing else.

use std::sync::Arc;

use candlefish_ids::TokenId;
use candlefish_proto::access::{
    CreatePrincipalRequest, CreateTokenRequest, CreateTokenResponse, ListPrincipalsRequest,
    ListPrincipalsResponse, ListTokensRequest, ListTokensResponse, Principal, RevokeTokenRequest,
    Token, WhoAmIRequest, WhoAmIResponse, access_service_server::AccessService,
};
use candlefish_runtime::{
    identity::{self, Caller},
    refusal::{Code, Refusal},
    tasks::Tasks,
};
use sqlx::PgPool;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    auth::{self, Auth, Verified},
    principal,
    rehearsal::Rehearsal,
    token,
};

/// Answers about principals and tokens.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub(crate) pool: PgPool,
    pub(crate) auth: Auth,
    pub(crate) tasks: Tasks,
}

type Answer<T> = Result<Response<T>, Status>;

fn parts<T>(request: Request<T>) -> Result<(MetadataMap, Caller, Rehearsal, T), Status> {
    let caller = identity::caller(&request)?;
    let (metadata, extensions, message) = request.into_parts();
    let rehearsal = extensions.get::<Rehearsal>().copied();
    Ok((metadata, caller, rehearsal.unwrap_or_default(), message))
}

#[tonic::async_trait]
impl AccessService for Rpc {
    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        let verified = request.extensions().get::<Arc<Verified>>();
        let verified = verified.ok_or_else(|| {
            Status::from(Refusal::new(
                Code::Unauthenticated,
                "token-missing",
                "send a token",
            ))
        })?;
        Ok(Response::new(auth::who_am_i(verified)))
    }

    async fn create_principal(
        &self,
        request: Request<CreatePrincipalRequest>,
    ) -> Answer<Principal> {
        let (metadata, caller, rehearsal, message) = parts(request)?;
        if self.tasks.only_judge() {
            principal::judge(message.clone())?;
        }
        let pool = self.pool.clone();
        // A command that has begun ends, whatever becomes of its caller.
        let work =
            async move { principal::create(&pool, &metadata, &caller, message, rehearsal).await };
        let answer = self.tasks.command("create principal", work).await?;
        Ok(rehearsal.marked(answer))
    }

    async fn list_principals(
        &self,
        request: Request<ListPrincipalsRequest>,
    ) -> Answer<ListPrincipalsResponse> {
        Ok(Response::new(
            principal::list(&self.pool, request.into_inner()).await?,
        ))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Answer<CreateTokenResponse> {
        let (metadata, caller, rehearsal, message) = parts(request)?;
        if self.tasks.only_judge() {
            token::create::judge(&self.pool, &caller, &message).await?;
        }
        let pool = self.pool.clone();
        let work = async move {
            token::create::create(&pool, &metadata, &caller, message, rehearsal).await
        };
        let answer = self.tasks.command("create token", work).await?;
        Ok(rehearsal.marked(answer))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        let (_, caller, _, message) = parts(request)?;
        Ok(Response::new(
            token::list::list(&self.pool, &caller, message).await?,
        ))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<Token> {
        let (metadata, caller, rehearsal, message) = parts(request)?;
        if self.tasks.only_judge() {
            token::revoke::judge(&message)?;
        }
        let (pool, auth) = (self.pool.clone(), self.auth.clone());
        let work = async move {
            let revoked = token::revoke::revoke(&pool, &metadata, &caller, message, rehearsal);
            let answer = revoked.await?;
            if let Ok(id) = answer.get_ref().id.parse::<TokenId>() {
                auth.forget(id);
            }
            Ok::<_, Refusal>(answer)
        };
        let answer = self.tasks.command("revoke token", work).await?;
        Ok(rehearsal.marked(answer))
    }
}
