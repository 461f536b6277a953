//! The load tools of the field, and what they print.

use serde_json::Value;

use super::statistics::quantile;

/// What `wrk` measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HttpLoad {
    /// Finished requests.
    pub(crate) requests: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Median latency in microseconds.
    pub(crate) p50: f64,
    /// Requests that failed: socket errors and answers other than 2xx and 3xx.
    pub(crate) errors: f64,
}

/// Reads what `wrk --latency` prints; `None` when it isn't that.
pub(crate) fn parse_wrk(output: &str) -> Option<HttpLoad> {
    let line = |start: &str| {
        output
            .lines()
            .map(str::trim)
            .find_map(|line| line.strip_prefix(start))
            .map(str::trim)
    };
    let requests = output.lines().find(|line| line.contains(" requests in "))?;
    let errors = line("Socket errors:")
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit());
    let refused = line("Non-2xx or 3xx responses:").unwrap_or("0");
    Some(HttpLoad {
        requests: requests.split_whitespace().next()?.parse().ok()?,
        rate: line("Requests/sec:")?.parse().ok()?,
        p50: microseconds(line("50%")?)?,
        errors: errors.filter_map(|n| n.parse::<f64>().ok()).sum::<f64>()
            + refused.parse::<f64>().ok()?,
    })
}

/// A duration as wrk writes it: `345.00us`, `1.20ms`, `2.00s`.
fn microseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

/// Reads what `h2load` prints at its end; it has no median.
pub(crate) fn parse_h2load(output: &str) -> Option<HttpLoad> {
    let line = |start: &str| output.lines().find_map(|line| line.strip_prefix(start));
    let rate = line("finished in ")?.split(", ").nth(1)?;
    let counts = line("requests: ")?;
    let count = |name: &str| -> Option<f64> {
        let count = counts
            .split(", ")
            .find_map(|count| count.strip_suffix(name));
        count?.trim().parse().ok()
    };
    let refused = line("status codes: ")?.split(", ").skip(2);
    let refused = refused.filter_map(|count| count.split(' ').next()?.parse::<f64>().ok());
    Some(HttpLoad {
        requests: count(" done")?,
        rate: rate.strip_suffix(" req/s")?.parse().ok()?,
        p50: f64::NAN,
        errors: count(" failed")?.max(refused.sum()),
    })
}

/// Latencies at a fixed rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FixedRate {
    /// Answered requests.
    pub(crate) requests: f64,
    /// Median latency in microseconds.
    pub(crate) p50: f64,
    /// 99th percentile in microseconds.
    pub(crate) p99: f64,
}

/// Reads what `h2load --log-file` writes: start time, status and latency in
/// microseconds, tab separated, a line per request.
pub(crate) fn parse_h2load_log(log: &str) -> Option<FixedRate> {
    let latency = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == "200").then(|| fields.next()?.parse::<f64>().ok())?
    };
    let mut latencies: Vec<f64> = log.lines().filter_map(latency).collect();
    latencies.sort_by(f64::total_cmp);
    Some(FixedRate {
        requests: latencies.len() as f64,
        p50: quantile(&latencies, 0.5)?,
        p99: quantile(&latencies, 0.99)?,
    })
}

/// Received throughput in Gbit/s and gigabytes, from `iperf3 --json`.
pub(crate) fn parse_iperf3(output: &str) -> Option<(f64, f64)> {
    let report: Value = serde_json::from_str(output).ok()?;
    let received = &report["end"]["sum_received"];
    Some((
        received["bits_per_second"].as_f64()? / 1e9,
        received["bytes"].as_f64()? / 1e9,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 2s test @ http://10.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.10ms  100.00us   9.00ms   90.00%
    Req/Sec    20.00k     1.00k   22.00k    70.00%
  Latency Distribution
     50%    1.05ms
     75%    1.20ms
     90%    1.30ms
     99%    2.00ms
  40000 requests in 2.00s, 50.00MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
Requests/sec:  20000.50
Transfer/sec:     25.00MB
";

    #[test]
    fn wrk_is_read_with_its_errors() {
        let load = parse_wrk(WRK).unwrap();
        let expected = HttpLoad {
            requests: 40000.0,
            rate: 20000.5,
            p50: 1050.0,
            errors: 4.0,
        };
        assert_eq!(load, expected);
        let refused = format!("{WRK}  Non-2xx or 3xx responses: 7\n");
        assert_eq!(parse_wrk(&refused).unwrap().errors, 11.0);
        assert_eq!(parse_wrk("unable to connect"), None);
    }

    #[test]
    fn h2load_is_read_with_its_errors() {
        let output = "starting benchmark...\n\nfinished in 2.00s, 24600.50 req/s, 26.04MB/s\n\
             requests: 49201 total, 49265 started, 49201 done, 49201 succeeded, 3 failed, 0 errored, 0 timeout\n\
             status codes: 49194 2xx, 0 3xx, 0 4xx, 7 5xx\n";
        let load = parse_h2load(output).unwrap();
        assert_eq!(
            (load.requests, load.rate, load.errors),
            (49201.0, 24600.5, 7.0)
        );
        assert_eq!(parse_h2load("could not connect"), None);
    }

    #[test]
    fn a_request_log_gives_percentiles_of_what_was_answered() {
        let log = "1\t200\t100\n2\t200\t300\n3\t503\t9\n4\t200\t200\n";
        let rate = parse_h2load_log(log).unwrap();
        assert_eq!((rate.requests, rate.p50), (3.0, 200.0));
        assert_eq!(parse_h2load_log(""), None);
    }

    #[test]
    fn iperf3_is_read_at_the_receiver() {
        let json = r#"{"end":{"sum_received":{"bits_per_second":4e9,"bytes":1e9}}}"#;
        assert_eq!(parse_iperf3(json), Some((4.0, 1.0)));
        assert_eq!(parse_iperf3(r#"{"error":"unable to connect"}"#), None);
    }
}
