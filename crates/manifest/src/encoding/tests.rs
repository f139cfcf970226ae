use proptest::prelude::*;

use super::*;

fn entry(path: &str, size: u64) -> Entry {
    Entry {
        path: path.to_owned(),
        digest: digest_of(format!("{path} {size}").as_bytes()),
        size,
        content_type: "text/html; charset=utf-8".to_owned(),
    }
}

fn build(entries: Vec<Entry>) -> Result<Manifest, Error> {
    Manifest::build(entries, &Limits::default())
}

fn decode(text: &str) -> Result<Manifest, Error> {
    Manifest::decode(text.as_bytes(), &Limits::default())
}

#[test]
fn the_text_form_stays_what_it_is() {
    let manifest = build(vec![entry("b.html", 5), entry("a/x.html", 0)]).unwrap();
    let text = String::from_utf8(manifest.encode()).unwrap();
    assert_eq!(
        text,
        "candlefish-manifest 1\n\
         a660e601935c51580f3c355bbdd7092252332c4b3a394f9cd36d051a5c1f9676\t0\ttext/html; charset=utf-8\ta/x.html\n\
         8c8360d1223547a52018695dcac6c5d09596553d621ebf0f7e5ba5b7695ab97c\t5\ttext/html; charset=utf-8\tb.html\n"
    );
    assert_eq!(manifest.digest(), digest_of(text.as_bytes()));
    assert_eq!(manifest.byte_count(), 5);
    assert_eq!(manifest.get("b.html").map(|e| e.size), Some(5));
    assert_eq!(manifest.get("b"), None);
}

#[test]
fn an_empty_manifest_has_a_head_only() {
    let manifest = build(vec![]).unwrap();
    assert_eq!(manifest.encode(), b"candlefish-manifest 1\n");
    assert_eq!(decode("candlefish-manifest 1\n"), Ok(manifest));
}

#[test]
fn what_is_not_canonical_is_refused() {
    let good = String::from_utf8(
        build(vec![entry("a.html", 1), entry("b.html", 2)])
            .unwrap()
            .encode(),
    )
    .unwrap();
    assert!(decode(&good).is_ok());
    let lines: Vec<&str> = good.lines().collect();
    let line = |index: usize, why| Err(Error::Line { line: index, why });
    assert_eq!(decode(""), Err(Error::Head));
    assert_eq!(decode(&good.replace(" 1\n", " 2\n")), Err(Error::Head));
    assert_eq!(decode(good.trim_end()), line(3, "has no end"));
    assert_eq!(decode(&format!("{good}\n")), line(4, "has not four fields"));
    assert_eq!(
        decode(&format!("{}\n{}\n{}\n", lines[0], lines[2], lines[1])),
        line(3, "is not in the order of paths")
    );
    assert_eq!(
        decode(&format!("{good}{}\n", lines[2])),
        line(4, "is not in the order of paths")
    );
    assert_eq!(
        decode(&good.replace("\t1\t", "\t01\t")),
        line(2, "has a size that is not one")
    );
    assert_eq!(
        decode(&good.replace("\t1\t", "\t+1\t")),
        line(2, "has a size that is not one")
    );
    let upper = format!("{}\n{}\n", lines[0], lines[1].to_uppercase());
    assert_eq!(decode(&upper), line(2, "does not begin with a digest"));
    assert!(matches!(
        decode(&good.replace("a.html", "../a.html")),
        Err(Error::Path(PathError::Dots { .. }))
    ));
    let mut bytes = good.into_bytes();
    let last = bytes.len() - 2;
    bytes[last] = 0xff;
    assert!(matches!(
        Manifest::decode(&bytes, &Limits::default()),
        Err(Error::Path(PathError::NotUtf8 { .. }))
    ));
}

#[test]
fn limits_are_kept_and_name_the_path() {
    let limits = Limits {
        files: 2,
        total_bytes: 10,
        file_bytes: 8,
        manifest_bytes: 400,
        ..Limits::default()
    };
    let build = |entries| Manifest::build(entries, &limits);
    let full = build(vec![entry("a", 8), entry("b", 2)]).unwrap();
    assert!(matches!(
        build(vec![entry("a", 0), entry("b", 0), entry("c", 0)]),
        Err(Error::Files { files: 3, limit: 2 })
    ));
    assert!(
        matches!(build(vec![entry("big", 9)]), Err(Error::FileBytes { path, .. }) if path == "big")
    );
    assert!(
        matches!(build(vec![entry("a", 8), entry("b", 3)]), Err(Error::TotalBytes { path, .. }) if path == "b")
    );
    let tight = Limits {
        manifest_bytes: full.encode().len() - 1,
        ..limits.clone()
    };
    assert!(matches!(
        Manifest::decode(&full.encode(), &tight),
        Err(Error::ManifestBytes { .. })
    ));
    let mut odd = entry("b", 2);
    odd.digest = entry("a", 1).digest;
    assert!(matches!(
        build(vec![entry("a", 1), odd]),
        Err(Error::Sizes { .. })
    ));
    let mut typed = entry("a", 1);
    typed.content_type = "text/html\r\nset-cookie: x".to_owned();
    assert!(matches!(build(vec![typed]), Err(Error::ContentType { .. })));
}

prop_compose! {
    fn entries()(map in proptest::collection::btree_map(
        "[a-z]{1,6}(/[a-zé0-9 .]{1,5}x){0,3}\\.html", (any::<[u8; 32]>(), 0_u64..1000), 0..20,
    )) -> Vec<Entry> {
        map.into_iter().map(|(path, (bytes, size))| Entry {
            path,
            digest: Digest::from_bytes(bytes),
            size,
            content_type: "text/css".to_owned(),
        }).collect()
    }
}

proptest! {
    #[test]
    fn a_manifest_reads_back_and_order_does_not_matter(entries in entries(), seed: u64) {
        let manifest = build(entries.clone());
        prop_assume!(manifest.is_ok());
        let manifest = manifest.unwrap();
        prop_assert_eq!(Manifest::decode(&manifest.encode(), &Limits::default()), Ok(manifest.clone()));
        let mut shuffled = entries;
        let places = shuffled.len().max(1);
        shuffled.rotate_left(usize::try_from(seed).unwrap_or(0) % places);
        shuffled.reverse();
        prop_assert_eq!(build(shuffled).unwrap().digest(), manifest.digest());
    }

    #[test]
    fn one_changed_byte_is_refused_or_names_other_content(entries in entries(), place: usize, byte: u8) {
        let manifest = build(entries);
        prop_assume!(manifest.is_ok());
        let bytes = manifest.unwrap().encode();
        let mut changed = bytes.clone();
        let place = place % changed.len();
        changed[place] = byte;
        prop_assume!(changed != bytes);
        if let Ok(other) = Manifest::decode(&changed, &Limits::default()) {
            prop_assert_eq!(other.encode(), changed);
        }
    }
}
