//! The comments of `proto/`, as written beside each element.

use prost_reflect::prost_types::FileDescriptorProto;

/// The comment before the element at `path` of a file, on one line per paragraph.
pub(crate) fn of(file: &FileDescriptorProto, path: &[i32]) -> String {
    file.source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .find(|location| location.path == path)
        .map(|location| tidy(location.leading_comments()))
        .unwrap_or_default()
}

fn tidy(comment: &str) -> String {
    let lines: Vec<&str> = comment.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}
