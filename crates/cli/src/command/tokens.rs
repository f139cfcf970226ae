//! `tokens`: who may call, as whom.

use candlefish_ids::TokenId;
use candlefish_proto::access::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Role};
use clap::{Subcommand, ValueEnum};
use jiff::Span;

use super::{dry::Dry, sure::Sure};
use crate::{
    api::Api,
    app::App,
    clock,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `tokens`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish tokens list
  candlefish tokens create --principal ci-docs --name github --role deployer --site docs --expires 90d
  candlefish tokens revoke tok_01k8qx…")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List tokens, newest first
    #[command(before_help = "\
Examples:
  candlefish tokens list
  candlefish tokens list --principal ci-docs")]
    List {
        /// Only those of this principal
        #[arg(long, default_value = "", hide_default_value = true)]
        principal: String,
    },
    /// Make a token; its secret is shown once
    #[command(before_help = "\
Examples:
  candlefish tokens create --principal ci-docs --name github --role deployer --site docs --expires 90d
  candlefish tokens create --principal ada --name laptop --role approver")]
    Create {
        /// The principal it speaks for, by name
        #[arg(long)]
        principal: String,
        /// What it is for
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long, value_enum)]
        role: Named,
        /// A site it may touch; may be given again; else all
        #[arg(long = "site", value_name = "SITE")]
        sites: Vec<String>,
        /// How long it works, such as 90d; else without end
        #[arg(long, value_name = "DURATION")]
        expires: Option<Span>,
        #[command(flatten)]
        dry: Dry,
    },
    /// End a token at once
    #[command(before_help = "\
Examples:
  candlefish tokens revoke tok_01k8qx…
  candlefish tokens revoke tok_01k8qx… --dry-run")]
    Revoke {
        /// The token's id
        token: TokenId,
        #[command(flatten)]
        sure: Sure,
    },
}

/// A role.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Named {
    /// May read
    Viewer,
    /// May deploy, too
    Deployer,
    /// May lift holds, too
    Approver,
    /// May manage sites and tokens, too
    Admin,
}

impl From<Named> for Role {
    fn from(role: Named) -> Self {
        match role {
            Named::Viewer => Self::Viewer,
            Named::Deployer => Self::Deployer,
            Named::Approver => Self::Approver,
            Named::Admin => Self::Admin,
        }
    }
}

/// Lists, makes or revokes.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    match args.command {
        Command::List { principal } => {
            let all = principal.is_empty();
            let request = ListTokensRequest {
                principal,
                ..Default::default()
            };
            let answer = api.list(request, usize::MAX).await?;
            app.show(&answer, |answer| {
                render::access::tokens(answer, all, &app.output.look_out())
            });
        }
        Command::Create {
            principal,
            name,
            role,
            sites,
            expires,
            dry,
        } => {
            let ends = expires.map(|length| clock::end(length, "--expires", "90d"));
            let (expires_at, lasts) = ends.transpose()?.map(|[at, lasts]| (at, lasts)).unzip();
            let message = CreateTokenRequest {
                principal,
                name,
                role: Role::from(role).into(),
                sites,
                expires_at,
            };
            if dry.dry_run {
                let answer = dry.of(&api).act(message).await?;
                app.show(&answer, |answer| {
                    let token = answer.token.as_ref();
                    token.map(would::token).unwrap_or_default()
                });
                return Ok(Exit::Done);
            }
            // The same asked again is the same token, although it would end a little later.
            let asked = CreateTokenRequest {
                expires_at: lasts,
                ..message.clone()
            };
            let (answer, _) = api.act_as(&asked, message).await?;
            app.output.note("The secret is shown this once:");
            app.show(&answer, |answer| answer.secret.clone());
        }
        Command::Revoke { token, sure } => {
            return revoke(app, &api, token, &sure).await;
        }
    }
    Ok(Exit::Done)
}

/// Asks, naming the token as people know it, and ends it.
async fn revoke(app: &App, api: &Api, token: TokenId, sure: &Sure) -> Result<Exit, Error> {
    let id = token.to_string();
    // There is no call for one of them, and who is not asked need not know more.
    let known = if sure.yes {
        None
    } else {
        let all = api.list(ListTokensRequest::default(), usize::MAX).await;
        // Who may not list them may end one all the same.
        let tokens = all.map(|all| all.tokens).unwrap_or_default();
        tokens.into_iter().find(|one| one.id == id)
    };
    let question = render::access::revokes(&id, known.as_ref());
    let message = RevokeTokenRequest { id };
    let decided = sure.decides(app, api, &question, &message, would::revoked);
    if let Some(exit) = decided.await? {
        return Ok(exit);
    }
    let token = api.act(message).await?;
    app.show(&token, |token| format!("{} is revoked.", token.id));
    Ok(Exit::Done)
}
