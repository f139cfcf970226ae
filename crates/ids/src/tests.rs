use proptest::prelude::*;

use super::*;

#[test]
fn the_specifications_own_examples_hold() {
    for (uuid, suffix) in [
        (
            "00000000-0000-0000-0000-000000000000",
            "00000000000000000000000000",
        ),
        (
            "00000000-0000-0000-0000-000000000001",
            "00000000000000000000000001",
        ),
        (
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "7zzzzzzzzzzzzzzzzzzzzzzzzz",
        ),
        (
            "01890a5d-ac96-774b-bcce-b302099a8057",
            "01h455vb4pex5vsknk084sn02q",
        ),
    ] {
        let id = DeploymentId::from_uuid(uuid.parse().unwrap());
        assert_eq!(id.suffix(), suffix);
        assert_eq!(DeploymentId::from_suffix(suffix), Ok(id));
    }
}

#[test]
fn what_is_not_an_id_is_refused_with_its_reason() {
    let parse = |text: &str| text.parse::<ReleaseId>();
    assert_eq!(
        parse("dep_01h455vb4pex5vsknk084sn02q"),
        Err(ParseError::Prefix { expected: "rel" })
    );
    assert_eq!(
        parse("rel_01h455vb4pex5vsknk084sn02"),
        Err(ParseError::Length)
    );
    assert_eq!(
        parse("rel_01h455vb4pex5vsknk084sn02u"),
        Err(ParseError::Character)
    );
    assert_eq!(
        parse("rel_01H455VB4PEX5VSKNK084SN02Q"),
        Err(ParseError::Character)
    );
    assert_eq!(
        parse("rel_8zzzzzzzzzzzzzzzzzzzzzzzzz"),
        Err(ParseError::Character)
    );
}

#[test]
fn later_ids_sort_after_earlier_ones_as_text() {
    let earlier = DeploymentId::new();
    let later = DeploymentId::new();
    assert!(earlier.to_string() < later.to_string());
}

proptest! {
    #[test]
    fn text_and_uuid_say_the_same(bits: u128) {
        let id = StepId::from_uuid(Uuid::from_u128(bits));
        prop_assert_eq!(id.to_string().parse::<StepId>(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<StepId>(&json).unwrap(), id);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        drop(text.parse::<DeploymentId>());
    }
}
