use proptest::prelude::*;

use super::*;

fn filter() -> Filter {
    Filter::of("ListSites").with("docs")
}

fn read<K: PageKey>(
    size: i32,
    token: &str,
) -> Result<Page<K>, candlefish_runtime::refusal::Refusal> {
    let mut faults = Faults::default();
    let page = Page::read(&mut faults, &filter(), size, token, SIZES);
    faults.finish_with(Some(page))
}

#[test]
fn a_page_has_50_unless_it_is_said_and_200_at_most() {
    assert_eq!(read::<String>(0, "").unwrap().size(), 50);
    assert_eq!(read::<String>(200, "").unwrap().size(), 200);
    assert!(read::<String>(201, "").is_err());
    assert!(read::<String>(-1, "").is_err());
}

#[test]
fn the_row_too_many_becomes_the_next_page() {
    let page = read::<i64>(2, "").unwrap();
    assert_eq!(page.limit(), 3);
    let (rows, next) = page.cut(vec![10, 20, 30], |row| *row);
    assert_eq!(rows, [10, 20]);
    assert_eq!(read::<i64>(2, &next).unwrap().after(), Some(&20));
    let (rows, next) = page.cut(vec![30], |row| *row);
    assert_eq!((rows.as_slice(), next.as_str()), ([30].as_slice(), ""));
}

#[test]
fn a_token_of_another_question_is_refused() {
    let token = read::<String>(0, "").unwrap().token(&"docs".to_owned());
    let mut faults = Faults::default();
    let other = Filter::of("ListSites").with("api");
    let page = Page::<String>::read(&mut faults, &other, 0, &token, SIZES);
    assert_eq!(page.after(), None);
    assert!(faults.finish().is_err());
}

#[test]
fn the_parts_of_a_filter_do_not_run_together() {
    let hash = |a, b| Filter::of("x").with(a).with(b).hash();
    assert_ne!(hash("ab", "c"), hash("a", "bc"));
    assert_ne!(hash("a", ""), hash("", "a"));
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let token = read::<i64>(0, "").unwrap().token(&7);
    assert!(read::<Uuid>(0, &token).is_err());
    let token = read::<String>(0, "").unwrap().token(&"a\0b".to_owned());
    assert!(read::<String>(0, &token).is_err());
}

proptest! {
    #[test]
    fn what_a_token_says_comes_back(text in "[^\0]{0,80}", bits: u128, number: i64) {
        let uuid = Uuid::from_u128(bits);
        let token = read::<String>(0, "").unwrap().token(&text);
        prop_assert_eq!(read::<String>(0, &token).unwrap().after, Some(text));
        let token = read::<Uuid>(0, "").unwrap().token(&uuid);
        prop_assert_eq!(read::<Uuid>(0, &token).unwrap().after, Some(uuid));
        let token = read::<i64>(0, "").unwrap().token(&number);
        prop_assert_eq!(read::<i64>(0, &token).unwrap().after, Some(number));
    }

    #[test]
    fn no_token_panics(token in ".{0,600}") {
        let mut faults = Faults::default();
        Page::<Uuid>::read(&mut faults, &filter(), 0, &token, SIZES);
        prop_assert_eq!(token.is_empty(), faults.finish().is_ok());
    }
}
