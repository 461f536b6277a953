//! `weft-test-app`: the applications that run in pods under test. Servers write
//! `listening` once they do; clients write one line of JSON, and exit with a failure
//! only when they can't do their work at all.

mod address;
mod connections;
mod destinations;
mod exchange;
mod grpc;
mod half_close;
mod http;
mod load;
mod rate;
mod report;
mod requests;
mod servers;
mod two_part;
mod web;
mod websocket;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Applications for pods under test.
#[derive(Debug, Parser)]
#[command(name = "weft-test-app", version)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Serves TCP: sends everything back.
    Echo(servers::Listen),
    /// Serves HTTP/1.1: says who it is and whom it saw.
    Http(http::Arguments),
    /// Serves HTTP/1.1, HTTP/2, WebSocket and gRPC, and does what requests ask for.
    Web(web::Arguments),
    /// Makes many HTTP requests and counts who answered.
    Load(load::Arguments),
    /// Has a web server echo WebSocket messages.
    Websocket(websocket::Arguments),
    /// Calls a web server's gRPC service.
    Grpc(grpc::client::Arguments),
    /// Serves TCP: writes its own and the peer's address, then closes.
    Identify(servers::Listen),
    /// Serves TCP: speaks first, then sends everything back.
    TalkFirst(servers::Listen),
    /// Serves TCP: sends as many bytes as it gets, both ways at once, with checksums.
    ExchangeServer(servers::Listen),
    /// Sends and gets bytes, both ways at once, and compares checksums.
    Exchange(exchange::Arguments),
    /// Serves TCP: reads to the end, then says how much it was.
    CountServer(servers::Listen),
    /// Serves TCP: closes its side first, then reads to the end and logs how much.
    FarewellServer(servers::Listen),
    /// Sends, closes its side, then reads the answer to the end.
    HalfClose(half_close::Arguments),
    /// Reads to the end first, then sends and closes.
    SendAfterEnd(half_close::Arguments),
    /// Reads what the server says before anything was sent, then has it echoed.
    Listen(connections::ListenArguments),
    /// Has an echo server send one text back.
    Call(connections::CallArguments),
    /// Opens many connections to an echo server, holds all, and checks each.
    Hold(connections::HoldArguments),
    /// Connects to many destinations at once and checks who answered.
    Destinations(destinations::Arguments),
    /// Makes HTTP requests at a rate until its input ends.
    Requests(requests::Arguments),
    /// Makes new connections as fast as it can for a while.
    ConnectRate(rate::Arguments),
    /// Makes HTTP requests in two writes each for a while.
    TwoPart(two_part::Arguments),
    /// Is a node of a cluster under test.
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Debug, clap::Args)]
struct NodeArguments {
    /// The node's description.
    description: PathBuf,
    /// Be its process 1; what makes its namespaces starts this one.
    #[arg(long)]
    inside: bool,
}

impl NodeArguments {
    fn run(&self) -> io::Result<()> {
        let result = if self.inside {
            weft_tests::cluster::be_process_1(&self.description)
        } else {
            weft_tests::cluster::run_node(&self.description)
        };
        result.map_err(io::Error::other)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(run(arguments.mode))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Echo(listen) => servers::serve(listen, servers::echo).await,
        Mode::Http(arguments) => http::serve(arguments).await,
        Mode::Web(arguments) => web::serve(arguments).await,
        Mode::Load(arguments) => load::run(arguments).await,
        Mode::Websocket(arguments) => websocket::run(arguments).await,
        Mode::Grpc(arguments) => grpc::client::run(arguments).await,
        Mode::Identify(listen) => servers::serve(listen, servers::identify).await,
        Mode::TalkFirst(listen) => servers::serve(listen, servers::talk_first).await,
        Mode::ExchangeServer(listen) => servers::serve(listen, exchange::answer).await,
        Mode::Exchange(arguments) => exchange::run(arguments).await,
        Mode::CountServer(listen) => servers::serve(listen, half_close::count).await,
        Mode::FarewellServer(listen) => servers::serve(listen, half_close::farewell).await,
        Mode::HalfClose(arguments) => half_close::send_and_close(arguments).await,
        Mode::SendAfterEnd(arguments) => half_close::send_after_end(arguments).await,
        Mode::Listen(arguments) => connections::listen(arguments).await,
        Mode::Call(arguments) => connections::call(arguments).await,
        Mode::Hold(arguments) => connections::hold(arguments).await,
        Mode::Destinations(arguments) => destinations::run(arguments).await,
        Mode::Requests(arguments) => requests::run(arguments).await,
        Mode::ConnectRate(arguments) => rate::run(arguments).await,
        Mode::TwoPart(arguments) => two_part::run(arguments).await,
        // Namespaces are of threads: no other thread may be there yet.
        Mode::Node(arguments) => arguments.run(),
    }
}
