//! Load in requests, and the server that answers it.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;

use super::bed::{Bed, Measured, Mode, measure};
use super::error::{BenchError, Result};
use super::load::{HttpLoad, parse_h2load, parse_h2load_log, parse_wrk};

/// Requests per second of the fixed rate, over this many connections.
const FIXED_RATE: u32 = 2000;
const FIXED_CONNECTIONS: u32 = 16;

/// As many requests as go.
pub(crate) fn saturation(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let load = without_failures(mode, wrk(bed, mode, seconds, "-c32", false)?)?;
    Ok(Measured {
        values: vec![(measure("saturation_requests", "1/s"), load.rate)],
        work: load.requests,
        cpu: (measure("saturation_cpu", "us/req"), 1e6),
    })
}

/// Latencies at a rate that all modes can bear.
pub(crate) fn fixed_rate(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let log = bed.folder.join("h2load.log");
    let _ = fs::remove_file(&log);
    let (rate, clients) = (
        format!("--rps={}", FIXED_RATE / FIXED_CONNECTIONS),
        format!("-c{FIXED_CONNECTIONS}"),
    );
    let (duration, url) = (format!("-D{seconds}"), format!("http://{}/", mode.http));
    let file = format!("--log-file={}", log.display());
    bed.output(
        mode,
        &["h2load", "--h1", &clients, &rate, &duration, &file, &url],
        seconds,
    )?;
    let text = fs::read_to_string(&log).map_err(|error| BenchError::File(log, error))?;
    let load = parse_h2load_log(&text).ok_or(BenchError::Unreadable("h2load", text))?;
    Ok(Measured {
        values: vec![
            (measure("fixed_rate_p50", "us"), load.p50),
            (measure("fixed_rate_p99", "us"), load.p99),
        ],
        work: load.requests,
        cpu: (measure("fixed_rate_cpu", "us/req"), 1e6),
    })
}

/// As many requests as go over HTTP/2: four connections with sixteen at a time each.
pub(crate) fn http2_saturation(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let (duration, url) = (format!("-D{seconds}"), format!("http://{}/", mode.other));
    let line = ["h2load", "-c4", "-m16", &duration, &url];
    let output = bed.output(mode, &line, seconds)?;
    let load = parse_h2load(&output).ok_or(BenchError::Unreadable("h2load", output))?;
    let load = without_failures(mode, load)?;
    Ok(Measured {
        values: vec![(measure("http2_saturation_requests", "1/s"), load.rate)],
        work: load.requests,
        cpu: (measure("http2_saturation_cpu", "us/req"), 1e6),
    })
}

/// The median times from the second part of a request to its answer.
pub(crate) fn two_part(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let mut values = Vec::new();
    for (name, to) in &mode.two_part {
        let median = two_part_median(bed, mode, *to, seconds)?;
        values.push((measure(name, "us"), median));
    }
    Ok(Measured::without_work(values))
}

fn two_part_median(bed: &Bed, mode: &Mode, to: SocketAddr, seconds: u32) -> Result<f64> {
    let (to, duration) = (to.to_string(), (seconds * 1000).to_string());
    let program = bed.test_app.display().to_string();
    let line = [
        &program,
        "two-part",
        "--to",
        &to,
        "--milliseconds",
        &duration,
    ];
    let output = bed.output(mode, &line, seconds)?;
    let report: Value = serde_json::from_str(&output).unwrap_or_default();
    let number = |name: &str| report[name].as_f64();
    let (Some(median), Some(failed)) = (number("p50_us"), number("failed")) else {
        return Err(BenchError::Unreadable("weft-test-app", output));
    };
    let requests = number("requests").unwrap_or_default();
    if failed > 0.0 {
        return Err(BenchError::Failed {
            mode: mode.name,
            failed,
            requests,
        });
    }
    Ok(median)
}

/// Runs wrk.
pub(crate) fn wrk(
    bed: &Bed,
    mode: &Mode,
    seconds: u32,
    connections: &str,
    close: bool,
) -> Result<HttpLoad> {
    let (duration, url) = (format!("-d{seconds}s"), format!("http://{}/", mode.http));
    let mut line = vec!["wrk", "-t1", connections, &duration, "--latency"];
    if close {
        line.extend(["-H", "Connection: close"]);
    }
    line.push(&url);
    let output = bed.output(mode, &line, seconds)?;
    parse_wrk(&output).ok_or(BenchError::Unreadable("wrk", output))
}

/// Refusing is faster than answering: a rate with failures in it says nothing.
fn without_failures(mode: &Mode, load: HttpLoad) -> Result<HttpLoad> {
    if load.errors > 0.0 {
        return Err(BenchError::Failed {
            mode: mode.name,
            failed: load.errors,
            requests: load.requests,
        });
    }
    Ok(load)
}
