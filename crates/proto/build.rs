//! Compiles `proto/` with protox: Rust code for tonic, and the descriptor set with comments and options.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message;

#[allow(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by the environment"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = proto_files(&root)?;
    println!("cargo:rerun-if-changed={}", root.display());

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;
    // This encoding keeps custom options; the typed set below drops them.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    let set = prost_types::FileDescriptorSet::decode(
        compiler.file_descriptor_set().encode_to_vec().as_slice(),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".google.protobuf.Timestamp", "::prost_types::Timestamp")
        .compile_fds(set)?;
    Ok(())
}

fn proto_files(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
