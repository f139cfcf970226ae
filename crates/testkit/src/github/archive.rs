//! A commit as GitHub packs it.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

/// The archive of a commit with these files, below the one folder that GitHub puts at the top.
pub fn archive(commit: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let comment = format!("52 comment={commit}\n");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XGlobalHeader);
    header.set_size(u64::try_from(comment.len()).unwrap());
    let named = tar.append_data(&mut header, "pax_global_header", comment.as_bytes());
    named.unwrap();
    let top = format!("example-docs-{}", &commit[..7]);
    let mut folder = tar::Header::new_ustar();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_mode(0o775);
    folder.set_size(0);
    tar.append_data(&mut folder, format!("{top}/"), std::io::empty())
        .unwrap();
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o664);
        header.set_size(u64::try_from(content.len()).unwrap());
        tar.append_data(&mut header, format!("{top}/{path}"), *content)
            .unwrap();
    }
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&tar.into_inner().unwrap()).unwrap();
    gz.finish().unwrap()
}
