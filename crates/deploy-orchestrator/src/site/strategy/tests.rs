use pb::strategy::Kind;
use proptest::prelude::{prop_assert_eq, proptest};

use super::*;

const fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// What was read, and the refused fields.
fn read(kind: Option<Kind>) -> (Option<Strategy>, Vec<String>) {
    let mut faults = Faults::default();
    let given = pb::Strategy { kind };
    let strategy = Strategy::read(&mut faults, "strategy", Some(&given));
    let fields = match faults.finish() {
        Ok(()) => Vec::new(),
        Err(refusal) => refusal
            .violations()
            .iter()
            .map(|fault| fault.field.clone())
            .collect(),
    };
    (strategy, fields)
}

fn canary(weights: &[i32]) -> Kind {
    Kind::Canary(pb::Canary {
        weights: weights.to_vec(),
        ..Default::default()
    })
}

#[test]
fn what_is_unset_takes_its_default() {
    let half_a_minute = Duration::from_secs(30);
    let cases = [
        (Kind::Recreate(pb::Recreate {}), Strategy::Recreate),
        (
            Kind::Rolling(pb::Rolling::default()),
            Strategy::Rolling {
                batch: 1,
                bake: Duration::ZERO,
            },
        ),
        (
            Kind::BlueGreen(pb::BlueGreen::default()),
            Strategy::BlueGreen {
                bake: Duration::ZERO,
            },
        ),
        (
            Kind::Canary(pb::Canary::default()),
            Strategy::Canary {
                weights: vec![10, 50],
                interval: half_a_minute,
                bake: Duration::ZERO,
            },
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(read(Some(given)), (Some(expected), vec![]));
    }
}

#[test]
fn an_unset_strategy_is_none_and_an_empty_one_is_a_fault() {
    let mut faults = Faults::default();
    assert_eq!(Strategy::read(&mut faults, "strategy", None), None);
    assert!(faults.finish().is_ok());
    assert_eq!(read(None), (None, vec!["strategy".to_owned()]));
}

#[test]
fn weights_rise_between_1_and_99() {
    for good in [&[1][..], &[99], &[10, 50], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]] {
        assert_eq!(read(Some(canary(good))).1, Vec::<String>::new(), "{good:?}");
    }
    for (bad, fields) in [
        (&[0][..], vec!["strategy.canary.weights[0]"]),
        (&[100], vec!["strategy.canary.weights[0]"]),
        (&[60, 50], vec!["strategy.canary.weights[1]"]),
        (
            &[50, 50, -1],
            vec!["strategy.canary.weights[1]", "strategy.canary.weights[2]"],
        ),
        (
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
            vec!["strategy.canary.weights"],
        ),
    ] {
        assert_eq!(read(Some(canary(bad))).1, fields, "{bad:?}");
    }
}

#[test]
fn a_falling_weight_is_named_with_the_one_before_it() {
    let mut faults = Faults::default();
    let given = pb::Strategy {
        kind: Some(canary(&[60, 50])),
    };
    Strategy::read(&mut faults, "strategy", Some(&given));
    let refusal = faults.finish().unwrap_err();
    assert_eq!(
        refusal.violations()[0].description,
        "must rise: 50 comes after 60"
    );
}

#[test]
fn times_and_batches_keep_their_limits() {
    let day = 86_400;
    for (kind, field) in [
        (
            Kind::Rolling(pb::Rolling {
                batch: -1,
                bake: Some(seconds(day)),
            }),
            "strategy.rolling.batch",
        ),
        (
            Kind::Rolling(pb::Rolling {
                batch: 0,
                bake: Some(seconds(day + 1)),
            }),
            "strategy.rolling.bake",
        ),
        (
            Kind::BlueGreen(pb::BlueGreen {
                bake: Some(seconds(-1)),
            }),
            "strategy.blue_green.bake",
        ),
        (
            Kind::Canary(pb::Canary {
                interval: Some(seconds(0)),
                ..Default::default()
            }),
            "strategy.canary.interval",
        ),
        (
            Kind::Canary(pb::Canary {
                bake: Some(seconds(day + 1)),
                ..Default::default()
            }),
            "strategy.canary.bake",
        ),
    ] {
        assert_eq!(read(Some(kind)).1, [field]);
    }
}

#[test]
fn the_stored_form_is_fixed() {
    let strategy = Strategy::Canary {
        weights: vec![10, 50],
        interval: Duration::from_secs(30),
        bake: Duration::from_mins(2),
    };
    let stored = serde_json::json!({
        "kind": "canary", "weights": [10, 50], "interval_ms": 30_000, "bake_ms": 120_000,
    });
    assert_eq!(serde_json::to_value(&strategy).unwrap(), stored);
    assert_eq!(
        serde_json::from_value::<Strategy>(stored).unwrap(),
        strategy
    );
    let recreate = serde_json::json!({"kind": "recreate"});
    assert_eq!(serde_json::to_value(Strategy::Recreate).unwrap(), recreate);
}

proptest! {
    #[test]
    fn what_is_accepted_comes_back_from_message_and_database(
        weights in proptest::collection::vec(-5_i32..120, 0..13),
        interval in proptest::option::of(-5_i64..100_000),
        bake in proptest::option::of(-5_i64..100_000),
    ) {
        let given = Kind::Canary(pb::Canary {
            weights: weights.clone(),
            interval: interval.map(seconds),
            bake: bake.map(seconds),
        });
        let (strategy, fields) = read(Some(given));
        let strategy = strategy.unwrap();
        let rises = weights.windows(2).all(|pair| pair[0] < pair[1]);
        let in_range = weights.iter().all(|weight| (1..=99).contains(weight));
        let good = rises && in_range && weights.len() <= 10
            && interval.is_none_or(|s| (1..=86_400).contains(&s))
            && bake.is_none_or(|s| (0..=86_400).contains(&s));
        prop_assert_eq!(fields.is_empty(), good);
        if good {
            let shown = pb::Strategy::from(&strategy);
            prop_assert_eq!(read(shown.kind), (Some(strategy.clone()), vec![]));
            let stored = serde_json::to_value(&strategy).unwrap();
            prop_assert_eq!(serde_json::from_value::<Strategy>(stored).unwrap(), strategy);
        }
    }
}
