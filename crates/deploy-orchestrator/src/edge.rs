//! The edge: who serves, and what it holds.
//!
//! An edge keeps one stream to any replica. It tells what it staged and applied, at once and every
//! second; it gets every route that differs from what it holds, now and later. It *joins* once it
//! applied every environment route that was current when its stream began, and those that changed
//! until then; joined, it is *live* while heard within 5 s by the database's clock. One that does not
//! follow in time is set aside, and joins again the same way. One that holds what this database never
//! gave outlived it: a new epoch of the routes begins, and it joins with what is told in that. This room
//! moves no traffic; it only knows who follows.

pub(crate) mod rpc;
pub(crate) mod store;
pub(crate) mod stream;
