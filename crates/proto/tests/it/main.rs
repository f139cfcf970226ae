//! The contract against what is stored of it.

mod baseline;
mod samples;
