//! `weft-control-plane`: see the library beside this.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    weft_control_plane::main().await
}
