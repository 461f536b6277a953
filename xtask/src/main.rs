//! The project's own commands: `cargo xtask help`.

mod bench;
mod codegen;

fn main() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    if let Err(error) = codegen::run(root) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
