//! Journeys through the whole platform, as its users make them: real processes, real Postgres, real
//! NATS, real edges.
#![expect(
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a journey is one story, which ends where it cannot go on; its servers are named by the environment"
)]

mod canary;
mod chaos;
mod doors;
mod every_door;
mod goes_live;
mod lanes;
mod previews;
mod pushes;
mod rolls_back;
mod surfaces;
mod survives;
mod tour;
mod traces;
mod verbs;
