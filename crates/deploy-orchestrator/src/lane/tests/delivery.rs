//! What GitHub tells of `main` and of the pull request: late, twice or out of order; and who builds
//! and uploads what was pushed. What nobody uploads never comes.

use candlefish_ids::DeliveryId;
use candlefish_runtime::refusal::Refusal;
use candlefish_testkit::github;
use serde_json::Value;

use super::{
    REPOSITORY,
    world::{BEGUN, Dice, LINE, World, broken, commit},
};
use crate::trigger::{self, Delivery};

/// Of the pull request whose preview is `PREVIEW`.
const NUMBER: u32 = 12;
/// Deliveries are late by so many at the most.
const LATE: usize = 3;
/// Any second that is after the commits.
const EPOCH: i64 = 1_800_000_000;

/// What happened at GitHub.
#[derive(Debug)]
pub(super) struct GitHub {
    /// The number of the next commit.
    next: usize,
    /// Commits that nobody built before they were pushed.
    pushed: Vec<usize>,
    /// What `main` is at.
    main: usize,
    /// The pull request, once it was opened.
    pull: Option<Pull>,
    /// By its clock.
    second: u32,
    /// Oldest first.
    happened: Vec<Happened>,
}

/// A pull request.
#[derive(Debug, Clone, Copy)]
struct Pull {
    head: usize,
    is_open: bool,
}

/// Something that a delivery tells of.
#[derive(Debug, Clone)]
struct Happened {
    id: DeliveryId,
    event: &'static str,
    body: String,
    words: String,
}

impl GitHub {
    pub(super) const fn new() -> Self {
        Self {
            next: BEGUN,
            pushed: Vec::new(),
            main: 0,
            pull: None,
            second: 0,
            happened: Vec::new(),
        }
    }

    /// A commit that is new, or now and then one that was built long since.
    fn commits(&mut self, dice: &mut Dice) -> usize {
        if dice.below(4) == 0 {
            return dice.below(BEGUN - 1);
        }
        let number = self.next;
        self.next += 1;
        self.pushed.push(number);
        number
    }

    /// Much may happen within a second.
    fn goes_on(&mut self, dice: &mut Dice) -> u32 {
        self.second += u32::try_from(dice.below(2)).unwrap();
        self.second
    }

    /// `main` is pushed to: by what descends from it, or its history is rewritten.
    fn push(&mut self, dice: &mut Dice) {
        let (before, after) = (self.main, self.commits(dice));
        if before == after {
            return;
        }
        let descends = if after < BEGUN {
            before < after && after < LINE
        } else {
            dice.below(4) > 0
        };
        self.main = after;
        let (was, is) = (commit(before), commit(after));
        let pushed = github::Push {
            repository: REPOSITORY,
            branch: "main",
            before: was.as_str(),
            commits: &[is.as_str()],
            changes: &["index.html"],
            pushed_at: EPOCH + i64::from(self.goes_on(dice)),
        };
        let mut body = pushed.example().body;
        body["forced"] = Value::from(!descends);
        let words = format!("main goes from {before} to {after}, descends: {descends}");
        self.happens("push", &body, words);
    }

    /// The pull request is opened, its head moves, it is closed or reopened.
    fn pull(&mut self, dice: &mut Dice) {
        let (action, before) = match self.pull {
            None => ("opened", None),
            Some(pull) if !pull.is_open => ("reopened", None),
            Some(_) if dice.below(4) == 0 => ("closed", None),
            Some(pull) => ("synchronize", Some(pull.head)),
        };
        let head = match self.pull {
            Some(pull) if action != "synchronize" => pull.head,
            _ => self.commits(dice),
        };
        if before == Some(head) {
            return;
        }
        let is_open = action != "closed";
        self.pull = Some(Pull { head, is_open });
        let (was, is) = (before.map(commit).unwrap_or_default(), commit(head));
        let pull = github::PullRequest {
            repository: REPOSITORY,
            number: NUMBER,
            action,
            before: &was,
            head: &is,
            updated_at: self.goes_on(dice),
        };
        let words = format!("the pull request, at {head}: {action}");
        self.happens("pull_request", &pull.example().body, words);
    }

    fn happens(&mut self, event: &'static str, body: &Value, words: String) {
        self.happened.push(Happened {
            id: DeliveryId::new(),
            event,
            body: body.to_string(),
            words,
        });
    }
}

impl World {
    pub(super) async fn push(&mut self) -> Result<(), Refusal> {
        if self.dice.below(3) > 0 {
            self.github.push(&mut self.dice);
        }
        self.deliver("push").await
    }

    pub(super) async fn pull(&mut self) -> Result<(), Refusal> {
        if self.dice.below(3) > 0 {
            self.github.pull(&mut self.dice);
        }
        self.deliver("pull_request").await
    }

    /// One of the last that happened, perhaps not for the first time.
    async fn deliver(&mut self, event: &str) -> Result<(), Refusal> {
        let happened = self.github.happened.iter().rev();
        let lately = happened.filter(|one| one.event == event).take(LATE);
        let lately: Vec<Happened> = lately.cloned().collect();
        let Some(told) = self.dice.of(&lately) else {
            return Ok(());
        };
        // By the same delivery, or by another hook of the repository.
        let id = match self.dice.below(4) {
            0 => DeliveryId::new(),
            _ => told.id,
        };
        self.say(format!("{id} tells: {}", told.words));
        let delivery = Delivery {
            id,
            event: told.event.to_owned(),
            received_at: self.ctx.now().await.unwrap().timestamp(),
            attempts: 0,
            traceparent: String::new(),
        };
        let body = told.body.as_bytes();
        let decided = Box::pin(trigger::decided(&self.ctx, None, &delivery, body)).await;
        decided.map(drop).map_err(broken)
    }

    /// Somebody builds what was pushed, and uploads it; not always whole.
    pub(super) async fn upload(&mut self) -> Result<(), Refusal> {
        let Some(number) = self.dice.of(&self.github.pushed) else {
            return Ok(());
        };
        let is_whole = self.dice.below(4) > 0;
        self.say(format!("upload {number}, whole: {is_whole}"));
        let release = self.begin(number).await?;
        if is_whole {
            self.seal(release).await?;
        }
        Ok(())
    }
}
