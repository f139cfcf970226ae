//! Journeys through the whole platform, as its users make them: real processes, real Postgres, real
//! NATS, real edges.
#![expect(
    clippy::too_many_lines,
    reason = "a journey is one story, read from top to bottom"
)]

mod canary;
mod goes_live;
mod lanes;
mod rolls_back;
mod survives;
