//! The project's own commands: `cargo xtask help`.

mod bench;
mod build_ebpf;
mod codegen;

#[allow(clippy::print_stderr)]
fn main() -> std::process::ExitCode {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    let result = match std::env::args().nth(1).as_deref() {
        Some("build-ebpf") => {
            let force = std::env::args().any(|argument| argument == "--force");
            build_ebpf::run(&build_ebpf::Options { force })
                .map(drop)
                .map_err(|error| error.to_string())
        }
        _ => codegen::run(root).map_err(|error| error.to_string()),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        return std::process::ExitCode::FAILURE;
    }
    std::process::ExitCode::SUCCESS
}
