//! Archives that others were broken by, and some that must work.

use super::{
    Limits,
    build::{TOP, Tar, gz, header, octal, record, sum},
};

pub(super) enum Expected {
    Files(&'static [&'static str]),
    /// With these words.
    Refused(&'static str),
}

pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) packed: Vec<u8>,
    pub(super) folder: &'static str,
    pub(super) expected: Expected,
}

/// Small ones, so that every one of them is reached.
pub(super) fn limits() -> Limits {
    Limits {
        files: 20,
        total_bytes: 64 * 1024,
        file_bytes: 32 * 1024,
        path_bytes: 200,
        depth: 6,
        ..Limits::default()
    }
}

fn reads(what: &'static str, tar: Tar, files: &'static [&'static str]) -> Case {
    Case {
        what,
        packed: gz(&tar.end()),
        folder: "site",
        expected: Expected::Files(files),
    }
}

fn refuses(what: &'static str, tar: Tar, words: &'static str) -> Case {
    packed(what, gz(&tar.end()), words)
}

fn packed(what: &'static str, packed: Vec<u8>, words: &'static str) -> Case {
    Case {
        what,
        packed,
        folder: "site",
        expected: Expected::Refused(words),
    }
}

fn tar() -> Tar {
    Tar::of_github()
        .folder("site")
        .file("site/index.html", b"home")
}

/// A file with this name in its header.
fn named(name: &[u8]) -> Tar {
    tar().block(&header(name, b'0', &octal(0)))
}

fn below(name: &str) -> Tar {
    named(format!("{TOP}/{name}").as_bytes())
}

fn sized(size: &[u8]) -> Tar {
    let name = format!("{TOP}/site/a");
    tar().block(&header(name.as_bytes(), b'0', size))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(good());
    all.extend(paths());
    all.extend(kinds());
    all.extend(headers());
    all.extend(extended());
    all.extend(ends());
    all.extend(limited());
    all
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn good() -> Vec<Case> {
    let long = format!("site/{}/page.html", "d".repeat(120));
    let whole = format!("{TOP}/site/long.html");
    let split = {
        let mut block = header(b"split.html", b'0', &octal(0));
        let prefix = format!("{TOP}/site");
        block[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
        sum(&mut block);
        block
    };
    let gnu = {
        let mut block = header(format!("{TOP}/site/gnu").as_bytes(), b'0', &octal(0));
        block[257..265].copy_from_slice(b"ustar  \0");
        sum(&mut block);
        block
    };
    let root = Case {
        what: "the root",
        packed: gz(&tar().file("README.md", b"x").end()),
        folder: "",
        expected: Expected::Files(&["README.md", "site/index.html"]),
    };
    let deeper = Case {
        what: "a folder in a folder",
        packed: gz(&Tar::of_github()
            .file("site/out/a", b"x")
            .file("site/b", b"x")
            .end()),
        folder: "site/out",
        expected: Expected::Files(&["a"]),
    };
    vec![
        root,
        deeper,
        reads("as GitHub packs", tar(), &["index.html"]),
        reads(
            "elsewhere is elsewhere",
            tar().file("sites/a", b"x").file("a", b"x"),
            &["index.html"],
        ),
        reads(
            "another case is elsewhere",
            tar().file("Site/a", b"x"),
            &["index.html"],
        ),
        reads(
            "no folders of their own",
            Tar::of_github().file("site/a/b", b"x"),
            &["a/b"],
        ),
        reads(
            "an empty file",
            tar().file("site/empty", b""),
            &["empty", "index.html"],
        ),
        reads(
            "a file of whole blocks",
            tar().file("site/k", &[b'k'; 1024]),
            &["index.html", "k"],
        ),
        reads(
            "an old header",
            tar().below("site/old", 0, b"x"),
            &["index.html", "old"],
        ),
        reads(
            "a prefix",
            tar().block(&split),
            &["index.html", "split.html"],
        ),
        reads("GNU's magic", tar().block(&gnu), &["gnu", "index.html"]),
        reads(
            "a long name by pax",
            Tar::of_github().file(&long, b"x"),
            &[
                "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/page.html",
            ],
        ),
        reads(
            "a long name by GNU",
            tar().long(b'L', &whole).entry("cut", b'0', b"x"),
            &["index.html", "long.html"],
        ),
        reads(
            "text beyond ASCII",
            tar().file("site/größe.html", b"x"),
            &["größe.html", "index.html"],
        ),
        reads(
            "the same size twice",
            tar().pax(&[("size", "1")]).file("site/a", b"x"),
            &["a", "index.html"],
        ),
        reads(
            "times and owners",
            tar()
                .pax(&[("mtime", "1.5"), ("uname", "ada")])
                .file("site/a", b"x"),
            &["a", "index.html"],
        ),
        reads(
            "a link elsewhere",
            tar().below("docs/latest", b'2', b""),
            &["index.html"],
        ),
        reads(
            "a long link elsewhere",
            tar()
                .long(b'K', &"../".repeat(60))
                .below("latest", b'2', b""),
            &["index.html"],
        ),
        reads(
            "a broken name elsewhere",
            named(format!("{TOP}/test/\u{1}").as_bytes()),
            &["index.html"],
        ),
        reads(
            "no text elsewhere",
            named(&[TOP.as_bytes(), b"/test/\xff"].concat()),
            &["index.html"],
        ),
        reads(
            "a collision elsewhere",
            tar().file("a/B", b"x").file("a/b", b"x"),
            &["index.html"],
        ),
        reads(
            "a folder twice",
            tar().folder("site").folder("site/a").folder("site/a"),
            &["index.html"],
        ),
        reads(
            "an empty folder, as of a submodule",
            tar().folder("site/themes"),
            &["index.html"],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn paths() -> Vec<Case> {
    let pax = |path: &str| tar().pax(&[("path", path)]).entry("x", b'0', b"");
    let long = |path: &str| tar().long(b'L', path).entry("x", b'0', b"");
    vec![
        refuses(
            "absolute",
            named(b"/etc/passwd"),
            "must not begin with a slash",
        ),
        refuses(
            "absolute by pax",
            pax("/etc/passwd"),
            "must not begin with a slash",
        ),
        refuses(
            "absolute by GNU",
            long("/etc/passwd"),
            "must not begin with a slash",
        ),
        refuses("absolute below", below("/site/a"), "empty segment"),
        refuses("up and out", named(b"../a"), "points elsewhere"),
        refuses("up and out of the top", below("../a"), "points elsewhere"),
        refuses(
            "up and out of the site",
            below("site/../../a"),
            "points elsewhere",
        ),
        refuses(
            "up and in again",
            below("docs/../site/a"),
            "points elsewhere",
        ),
        refuses("up by pax", pax(&format!("{TOP}/../a")), "points elsewhere"),
        refuses(
            "up by GNU",
            long(&format!("{TOP}/site/../../a")),
            "points elsewhere",
        ),
        refuses("up at the end", below("site/.."), "points elsewhere"),
        refuses("up elsewhere", below("docs/../../a"), "points elsewhere"),
        refuses("here", below("site/./a"), "points elsewhere"),
        refuses(
            "here at the beginning",
            named(format!("./{TOP}/site/a").as_bytes()),
            "points elsewhere",
        ),
        refuses("two slashes", below("site//a"), "empty segment"),
        refuses(
            "a file with a slash at its end",
            below("site/a/"),
            "empty segment",
        ),
        refuses("a backslash", below("site/..\\a"), "backslash"),
        refuses("a drive", below("site/C:\\a"), "backslash"),
        refuses(
            "NUL by pax",
            pax(&format!("{TOP}/site/a\0b")),
            "control character U+0000",
        ),
        refuses(
            "NUL by GNU",
            long(&format!("{TOP}/site/a\0b")),
            "is not one name",
        ),
        refuses(
            "bytes behind a NUL",
            named(&[TOP.as_bytes(), b"/site/a\0.png"].concat()),
            "after the end of its name",
        ),
        refuses(
            "a control character",
            below("site/a\u{7}"),
            "control character",
        ),
        refuses("a line's end", below("site/a\nb"), "control character"),
        refuses(
            "a turned name",
            below("site/a\u{202e}b"),
            "control character",
        ),
        refuses(
            "no text",
            named(&[TOP.as_bytes(), b"/site/\xff"].concat()),
            "not UTF-8",
        ),
        refuses("another form", below("site/e\u{301}"), "normal form C"),
        refuses("case", tar().file("site/INDEX.html", b"x"), "in case alone"),
        refuses(
            "case of a folder",
            tar().file("site/a/b", b"x").file("site/A/b", b"x"),
            "in case alone",
        ),
        refuses(
            "case beyond ASCII",
            tar().file("site/straße", b"x").file("site/STRASSE", b"x"),
            "in case alone",
        ),
        refuses(
            "twice",
            tar().file("site/index.html", b"other"),
            "there twice",
        ),
        refuses(
            "a file and a folder of files",
            tar().file("site/a", b"x").file("site/a/b", b"x"),
            "needs a folder",
        ),
        refuses(
            "a file and an empty folder",
            tar().file("site/a", b"x").folder("site/a"),
            "needs a folder",
        ),
        refuses("no name", named(b""), "empty"),
        refuses("a name of a slash", named(b"/"), "slash"),
        refuses(
            "beside the top",
            named(b"other/a"),
            "not below the one folder",
        ),
        refuses(
            "a top of another case",
            named(TOP.to_uppercase().as_bytes()),
            "not below the one folder",
        ),
        refuses(
            "a file instead of the top",
            named(TOP.as_bytes()),
            "not below the one folder",
        ),
    ]
}

fn kinds() -> Vec<Case> {
    let other = |kind| tar().below("site/a", kind, b"");
    vec![
        refuses("a link", other(b'2'), "is a link"),
        refuses(
            "a link instead of the site",
            Tar::of_github().below("site", b'2', b""),
            "no folder",
        ),
        refuses(
            "a file instead of the site",
            Tar::of_github().file("site", b"x"),
            "no folder",
        ),
        refuses(
            "a link, then a file through it",
            Tar::of_github()
                .below("site/a", b'2', b"")
                .file("site/a/b", b"x"),
            "is a link",
        ),
        refuses("a hard link", other(b'1'), "a hard link"),
        refuses(
            "a hard link elsewhere",
            tar().below("docs/a", b'1', b""),
            "a hard link",
        ),
        refuses("a character device", other(b'3'), "a device"),
        refuses(
            "a block device elsewhere",
            tar().below("docs/a", b'4', b""),
            "a device",
        ),
        refuses("a pipe", other(b'6'), "a pipe"),
        refuses("a sparse file", other(b'S'), "a sparse file"),
        refuses(
            "a sparse file by pax",
            tar().pax(&[("GNU.sparse.major", "1")]).file("site/a", b""),
            "sparse",
        ),
        refuses("a volume", other(b'V'), "not known"),
        refuses("a dumped folder", other(b'D'), "not known"),
        refuses("contiguous", other(b'7'), "not known"),
        refuses("solaris' extended header", other(b'X'), "not known"),
        refuses(
            "nothing of the site",
            Tar::of_github().file("a", b"x"),
            "no file below \"site\"",
        ),
        refuses(
            "folders alone",
            Tar::of_github().folder("site").folder("site/a"),
            "no file below",
        ),
        refuses(
            "git alone",
            Tar::of_github().file("site/.git/config", b"x"),
            "no file below",
        ),
        refuses("nothing at all", Tar::default(), "no file below"),
    ]
}

fn headers() -> Vec<Case> {
    let folder = header(format!("{TOP}/site/a/").as_bytes(), b'5', &octal(512));
    let link = header(format!("{TOP}/docs/a").as_bytes(), b'2', &octal(512));
    let mut false_sum = header(format!("{TOP}/site/a").as_bytes(), b'0', &octal(0));
    false_sum[0] ^= 1;
    let mut huge = [0xff; 12];
    huge[0] = 0x80;
    let mut binary = [0; 12];
    binary[0] = 0x80;
    vec![
        refuses(
            "a folder with content",
            tar().block(&folder).content(&[0; 512]),
            "is no file",
        ),
        refuses(
            "a link with content",
            tar().block(&link).content(&[0; 512]),
            "is no file",
        ),
        refuses("a false sum", tar().block(&false_sum), "checksum"),
        refuses("a size of words", sized(b"many"), "broken"),
        refuses(
            "a size with a sign",
            sized(b"+0000000001\0"),
            "size that is not one",
        ),
        refuses("a negative size", sized(b"-0000000001\0"), "broken"),
        refuses("no size", sized(b"           \0"), "broken"),
        refuses(
            "two numbers for a size",
            sized(b"0001\x0000002\0"),
            "size that is not one",
        ),
        refuses("a size in bits", sized(&binary), "size that is not one"),
        refuses("a size beyond all", sized(&huge), "broken"),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn extended() -> Vec<Case> {
    let raw = |kind, text: &[u8]| tar().entry("x", kind, text).file("site/a", b"x");
    let path = format!("{TOP}/site/b");
    let twice = [record("path", &path), record("path", "other")].concat();
    vec![
        refuses(
            "another size by pax",
            tar().pax(&[("size", "2")]).file("site/a", b"x"),
            "two sizes",
        ),
        refuses(
            "a size of words by pax",
            tar().pax(&[("size", "x")]).file("site/a", b"x"),
            "two sizes",
        ),
        refuses(
            "pax, twice the same key",
            raw(b'x', twice.as_bytes()),
            "same thing twice",
        ),
        refuses(
            "pax twice",
            tar()
                .pax(&[("path", &path)])
                .pax(&[("path", &path)])
                .file("site/a", b"x"),
            "follows another",
        ),
        refuses(
            "pax and GNU",
            tar()
                .pax(&[("path", &path)])
                .long(b'L', &path)
                .file("site/a", b"x"),
            "two names",
        ),
        refuses(
            "GNU twice",
            tar()
                .long(b'L', &path)
                .long(b'L', &path)
                .file("site/a", b"x"),
            "follows another",
        ),
        refuses(
            "GNU's link twice",
            tar().long(b'K', "a").long(b'K', "a").file("site/a", b"x"),
            "follows another",
        ),
        refuses(
            "pax without a number",
            raw(b'x', b"path=a\n"),
            "not a list of records",
        ),
        refuses(
            "pax that is too short",
            raw(b'x', b"99 path=a\n"),
            "not a list of records",
        ),
        refuses(
            "pax without an end",
            raw(b'x', b"9 path=a"),
            "not a list of records",
        ),
        refuses(
            "pax without a value",
            raw(b'x', b"7 path\n"),
            "not a list of records",
        ),
        refuses(
            "pax of no length",
            raw(b'x', b"0 path=a\n"),
            "not a list of records",
        ),
        refuses(
            "pax of a length beyond all",
            raw(b'x', b"99999999999999999999 path=a\n"),
            "not a list of records",
        ),
        refuses(
            "pax for all names a file",
            raw(b'g', record("path", &path).as_bytes()),
            "every file",
        ),
        refuses(
            "pax for all measures",
            raw(b'g', record("size", "9").as_bytes()),
            "every file",
        ),
        refuses(
            "pax for all in between",
            tar()
                .pax(&[("path", &path)])
                .entry("g", b'g', record("comment", "x").as_bytes())
                .file("site/a", b"x"),
            "between another",
        ),
        refuses("pax of nothing", tar().pax(&[("path", &path)]), "broken"),
        refuses("GNU of nothing", tar().long(b'L', &path), "broken"),
        refuses("GNU without a name", raw(b'L', b"\0"), "not one name"),
        refuses(
            "pax that is a file",
            raw(b'x', &[b'x'; 70_000]),
            "longer than any path",
        ),
        refuses(
            "GNU that is a file",
            raw(b'L', &[b'x'; 70_000]),
            "longer than any path",
        ),
        refuses(
            "GNU that promises all memory",
            tar().header_of("x", b'L', 8_589_934_591),
            "longer than any path",
        ),
    ]
}

fn ends() -> Vec<Case> {
    let whole = tar().end();
    let unended = tar().bytes();
    let mut smuggled = tar().end();
    smuggled.extend_from_slice(&Tar::of_github().file("site/b", b"x").end());
    let mut two = gz(&whole);
    two.extend_from_slice(&gz(&whole));
    let mut followed = gz(&whole);
    followed.extend_from_slice(b"#!/bin/sh");
    let mut false_sum = gz(&whole);
    let place = false_sum.len() - 8;
    false_sum[place] ^= 1;
    let mut false_length = gz(&whole);
    let place = false_length.len() - 1;
    false_length[place] ^= 1;
    let short = tar().header_of("site/a", b'0', 600).content(b"x").bytes();
    vec![
        packed("no archive", b"<!doctype html>".to_vec(), "broken"),
        packed("nothing", Vec::new(), "broken"),
        packed("a plain tar", whole, "broken"),
        packed("packed noise", gz(&[b'x'; 2048]), "broken"),
        packed("no end", gz(&unended), "ends in the middle"),
        packed(
            "half a block",
            gz(&unended[..unended.len() - 100]),
            "broken",
        ),
        packed("a file that ends early", gz(&short), "broken"),
        packed(
            "an archive behind the archive",
            gz(&smuggled),
            "follows the end",
        ),
        packed("two members", two, "follows the end"),
        packed("bytes behind the archive", followed, "follows the end"),
        packed("a false sum of all", false_sum, "broken"),
        packed("a false length of all", false_length, "broken"),
    ]
}

fn limited() -> Vec<Case> {
    let many = (0..21).fold(Tar::of_github(), |tar, place| {
        tar.file(&format!("site/{place}"), b"x")
    });
    let entries = (0..90).fold(tar(), |tar, place| tar.folder(&format!("other/{place}")));
    let full = (0..3).fold(tar(), |tar, place| {
        tar.file(&format!("site/{place}"), &vec![0; 30_000])
    });
    let elsewhere = tar().header_of("other/huge", b'0', 8_000_000_000);
    let room = (0..70).fold(tar(), |tar, place| {
        tar.file(&format!("other/{place}"), &noise(place))
    });
    let deep = below("site/a/b/c/d/e/f/g");
    let long = tar().file(&format!("site/{}", "l".repeat(201)), b"x");
    vec![
        refuses("too many files", many, "21 files, more than 20"),
        refuses("too many entries", entries, "more than 76 entries"),
        refuses(
            "a large file",
            tar().file("site/a", &[0; 32_769]),
            "32769 bytes, more than 32768",
        ),
        refuses(
            "a file that says it is large",
            tar().header_of("site/a", b'0', 1 << 32),
            "more than 32768",
        ),
        refuses("too much of the site", full, "more than 65536 bytes in all"),
        refuses("huge elsewhere", elsewhere, "broken"),
        refuses(
            "too much elsewhere",
            room,
            "unpacks to more than 65536 bytes",
        ),
        refuses("too deep", deep, "7 segments, more than 6"),
        refuses("too long", long, "201 bytes, more than 200"),
        packed(
            "zeros behind the end",
            gz(&[tar().end(), vec![0; 4 << 20]].concat()),
            "unpacks to more",
        ),
    ]
}

/// Bytes that do not pack well, so that no ratio is met before the limit.
fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut bytes = Vec::with_capacity(25_000);
    for _byte in 0..25_000 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.push(state.to_le_bytes()[0]);
    }
    bytes
}
