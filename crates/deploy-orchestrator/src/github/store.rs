//! Every SQL string of this room.

mod archive;
mod budget;
mod comment;
mod comparison;
mod deployment;
mod sweep;

pub(super) use archive::{
    claim_archive, forget_archive, keep_archive, note_archives, prolong_content, put_archive_off,
};
pub(super) use budget::{find_budget, save_budget, take_turn};
pub(super) use comment::{
    claim_comment, mark_comment, note_comments, open_comment, put_comment_off,
};
pub(super) use comparison::{
    claim_pair, forget_unanswered, list_lanes_to_choose, note_unrelated, put_pair_off,
    save_relation,
};
pub(super) use deployment::{
    claim_deployment, mark_deployment, note_deployments, put_deployment_off, tell_live_again,
};
pub(super) use sweep::{
    claim_repository, finish_repository, forget_pulls_since, forget_repository, has_previews,
    list_followed, list_gaps, note_app, note_gap, note_redelivery, note_repositories,
    put_repositories_off, save_pulls_at, save_seen, wake_app, was_asked_lately,
};
