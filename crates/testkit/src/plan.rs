//! How Postgres carries out what is asked of it: the plan of every statement of a session, with what it
//! read, kept and threw away.
//!
//! A session whose address is [`telling`] loads `auto_explain`, which tells the plan of each statement
//! as a notice once it is done; so the plans are of real statements with real parameters. sqlx logs
//! notices, and [`Plans`] hears them. What is a fault in a plan is each test's own matter.

use std::{
    fmt::{self, Debug},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

const EXPLAIN: &str = "session_preload_libraries=auto_explain auto_explain.log_min_duration=0 \
    auto_explain.log_analyze=on auto_explain.log_timing=off auto_explain.log_level=notice \
    auto_explain.log_format=json";

/// The address of a database, which has no query yet, at which sessions tell their plans. The user must
/// be a superuser.
pub fn telling(url: &str) -> String {
    let options = EXPLAIN
        .split(' ')
        .map(|one| format!("-c%20{}", one.replace('=', "%3D")));
    let options = options.collect::<Vec<_>>().join("%20");
    format!("{url}?options={options}")
}

/// The plans that sessions of this process told; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Plans {
    told: Arc<Mutex<Vec<Plan>>>,
}

impl Plans {
    /// Hears all that is told from now on. It takes the process's log, so that one test in a process
    /// can; a second one panics.
    pub fn hear() -> Self {
        let plans = Self::default();
        let registry = tracing_subscriber::registry().with(Notices(plans.clone()));
        tracing::subscriber::set_global_default(registry)
            .expect("one test in this process reads plans");
        plans
    }

    /// What was told since the last time, in that order.
    pub fn take(&self) -> Vec<Plan> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// How many were told, and not taken yet, of statements that contain these words.
    pub fn count(&self, words: &str) -> usize {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter(|plan| plan.query().contains(words))
            .count()
    }

    fn read(&self, notice: &str) {
        let Some((_, plan)) = notice.split_once("plan:") else {
            return;
        };
        let plan: Value = serde_json::from_str(plan.trim()).unwrap();
        self.told.lock().unwrap().push(Plan::from(plan));
    }
}

struct Notices(Plans);

impl<S: Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == "sqlx::postgres::notice" {
            event.record(&mut Notice(&self.0));
        }
    }
}

struct Notice<'a>(&'a Plans);

impl tracing::field::Visit for Notice<'_> {
    fn record_debug(&mut self, _field: &Field, value: &dyn Debug) {
        self.0.read(&format!("{value:?}"));
    }

    fn record_str(&mut self, _field: &Field, value: &str) {
        self.0.read(value);
    }
}

/// How one statement was carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan(Value);

/// From the JSON of `auto_explain`: `{"Query Text": …, "Plan": {"Node Type": …, "Plans": […], …}}`.
impl From<Value> for Plan {
    fn from(told: Value) -> Self {
        Self(told)
    }
}

impl Plan {
    /// The statement.
    pub fn query(&self) -> &str {
        self.0["Query Text"].as_str().unwrap()
    }

    /// The node that gives the statement's rows.
    pub fn root(&self) -> Node<'_> {
        Node(&self.0["Plan"])
    }

    /// Every node, each before those that it draws from.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        let mut all = Vec::new();
        collect(self.root(), &mut all);
        all
    }
}

fn collect<'a>(node: Node<'a>, all: &mut Vec<Node<'a>>) {
    all.push(node);
    for source in node.sources() {
        collect(source, all);
    }
}

/// One node of a plan. Counts are of rows; what was never carried out counts none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node<'a>(&'a Value);

impl<'a> Node<'a> {
    /// `Seq Scan`, `Hash Join`, …
    pub fn kind(self) -> &'a str {
        self.0["Node Type"].as_str().unwrap()
    }

    /// The nodes that it draws from.
    pub fn sources(self) -> impl Iterator<Item = Node<'a>> {
        self.0["Plans"].as_array().into_iter().flatten().map(Node)
    }

    /// What it gave in one go, on average.
    pub fn rows(self) -> f64 {
        self.number("Actual Rows")
    }

    /// What it gave in all goes.
    pub fn kept(self) -> f64 {
        self.rows() * self.loops()
    }

    /// What it read and threw away in all goes.
    pub fn removed(self) -> f64 {
        let keys = ["Rows Removed by Filter", "Rows Removed by Index Recheck"];
        keys.iter().map(|key| self.number(key)).sum::<f64>() * self.loops()
    }

    /// The pairs that a join looked at and threw away in all goes.
    pub fn unpaired(self) -> f64 {
        self.number("Rows Removed by Join Filter") * self.loops()
    }

    fn loops(self) -> f64 {
        self.number("Actual Loops")
    }

    fn number(self, key: &str) -> f64 {
        self.0[key].as_f64().unwrap_or(0.0)
    }
}

/// Its kind, table and index, for a test's words.
impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, index) = (&self.0["Relation Name"], &self.0["Index Name"]);
        write!(f, "{} on {table} {index}", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Postgres words it.
    const NOTICE: &str = r#"duration: 0.042 ms  plan:
{
  "Query Text": "SELECT id FROM token WHERE role = 'admin'",
  "Plan": {
    "Node Type": "Limit", "Actual Rows": 3.00, "Actual Loops": 1,
    "Plans": [
      {
        "Node Type": "Nested Loop", "Actual Rows": 3, "Actual Loops": 1,
        "Rows Removed by Join Filter": 7,
        "Plans": [
          {
            "Node Type": "Seq Scan", "Relation Name": "token", "Actual Rows": 2,
            "Actual Loops": 5, "Rows Removed by Filter": 10
          },
          {
            "Node Type": "Bitmap Heap Scan", "Relation Name": "principal",
            "Actual Rows": 0, "Actual Loops": 0
          }
        ]
      }
    ]
  }
}"#;

    fn told() -> Plans {
        let plans = Plans::default();
        plans.read("relation \"token\" already exists, skipping");
        plans.read(NOTICE);
        plans
    }

    #[test]
    fn of_all_notices_those_with_a_plan_are_kept_until_they_are_taken() {
        let plans = told();
        assert_eq!(plans.count("FROM token"), 1);
        assert_eq!(plans.count("FROM principal"), 0);
        let taken = plans.take();
        let queries: Vec<&str> = taken.iter().map(Plan::query).collect();
        assert_eq!(queries, ["SELECT id FROM token WHERE role = 'admin'"]);
        assert_eq!(plans.count("FROM token"), 0);
        assert!(plans.take().is_empty());
    }

    #[test]
    fn a_plan_tells_of_each_node_what_it_kept_and_threw_away_in_all_goes() {
        let plan = told().take().remove(0);
        let counts = plan.nodes().into_iter().map(|node| {
            let counts = [node.rows(), node.kept(), node.removed(), node.unpaired()];
            (node.kind(), counts)
        });
        assert_eq!(
            counts.collect::<Vec<_>>(),
            [
                ("Limit", [3.0, 3.0, 0.0, 0.0]),
                ("Nested Loop", [3.0, 3.0, 0.0, 7.0]),
                ("Seq Scan", [2.0, 10.0, 50.0, 0.0]),
                ("Bitmap Heap Scan", [0.0; 4]),
            ]
        );
        assert_eq!(plan.root(), plan.nodes()[0]);
        let words = plan.nodes()[2].to_string();
        assert_eq!(words, r#"Seq Scan on "token" null"#);
    }

    #[test]
    fn a_session_is_asked_to_tell_in_its_address() {
        let url = telling("postgres://candlefish@127.0.0.1:5432/test");
        let (base, options) = url.split_once("?options=").unwrap();
        assert_eq!(base, "postgres://candlefish@127.0.0.1:5432/test");
        assert!(options.starts_with("-c%20session_preload_libraries%3Dauto_explain%20-c%20"));
        assert!(!options.contains(['=', ' ', '?']), "{options}");
    }
}
