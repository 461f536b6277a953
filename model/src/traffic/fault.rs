//! Fault injection: requests that wait or fail on purpose.

use std::time::Duration;

use http::StatusCode;

/// Fault of a TrafficPolicy: something that is made to fail on purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Share of the requests that it hits, in percent, 0 to 100.
    pub percent: f64,
}

/// Kind of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// The request waits before it is sent.
    Delay(Duration),
    /// The request is answered with this HTTP status.
    Abort(StatusCode),
    /// The request is answered with this gRPC status.
    AbortGrpc(u16),
}

/// Faults that hit one request: it waits first, and is answered then.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InjectedFault {
    /// Time that it waits for before anything else happens.
    pub delay: Option<Duration>,
    /// Status that it is answered with instead of being sent.
    pub abort: Option<InjectedAbort>,
}

/// Status that a request is answered with on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InjectedAbort {
    /// An HTTP status.
    Http(StatusCode),
    /// A gRPC status.
    Grpc(u16),
}

/// Draws the faults that hit one request. `draw` gives a number from 0 up to 1 for each
/// fault; of several delays, and of several aborts, the first that is drawn counts.
pub fn draw_faults(faults: &[Fault], mut draw: impl FnMut() -> f64) -> InjectedFault {
    let mut injected = InjectedFault::default();
    for fault in faults {
        if draw() * 100.0 >= fault.percent {
            continue;
        }
        match fault.kind {
            FaultKind::Delay(delay) => injected.delay = injected.delay.or(Some(delay)),
            FaultKind::Abort(status) => {
                injected.abort = injected.abort.or(Some(InjectedAbort::Http(status)));
            }
            FaultKind::AbortGrpc(status) => {
                injected.abort = injected.abort.or(Some(InjectedAbort::Grpc(status)));
            }
        }
    }
    injected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(faults: &[(FaultKind, f64)]) -> Vec<Fault> {
        let fault = |(kind, percent): &(FaultKind, f64)| Fault {
            kind: *kind,
            percent: *percent,
        };
        faults.iter().map(fault).collect()
    }

    #[test]
    fn a_fault_hits_its_share_of_the_requests() {
        let policy = faults(&[(FaultKind::Abort(StatusCode::IM_A_TEAPOT), 25.0)]);
        let hit = |draw: f64| draw_faults(&policy, || draw).abort.is_some();
        assert!(hit(0.0) && hit(0.249));
        assert!(!hit(0.25) && !hit(0.99));
        let never = faults(&[(FaultKind::AbortGrpc(14), 0.0)]);
        assert_eq!(draw_faults(&never, || 0.0), InjectedFault::default());
        let always = faults(&[(FaultKind::AbortGrpc(14), 100.0)]);
        assert_eq!(
            draw_faults(&always, || 0.999_999).abort,
            Some(InjectedAbort::Grpc(14))
        );
    }

    #[test]
    fn a_request_may_wait_and_be_answered_then() {
        let second = Duration::from_secs(1);
        let policy = faults(&[
            (FaultKind::Delay(second), 100.0),
            (FaultKind::Delay(second * 2), 100.0),
            (FaultKind::AbortGrpc(14), 100.0),
            (FaultKind::Abort(StatusCode::BAD_GATEWAY), 100.0),
        ]);
        let injected = draw_faults(&policy, || 0.5);
        assert_eq!(injected.delay, Some(second));
        assert_eq!(injected.abort, Some(InjectedAbort::Grpc(14)));
    }
}
