//! Mutual TLS modes of workloads and their ports.

use weft_model::mtls::{InvalidPortModes, MtlsMode, PortModes};
use weft_model::workload::Workload;

use crate::v1;

/// The reason why a message has no mutual TLS modes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidMtlsModes {
    /// A mode that isn't said.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// A mode that this version doesn't know.
    #[error("field {0} has a value that this version doesn't know: {1}")]
    Unknown(&'static str, i32),
    /// The modes of ports.
    #[error("field mtls_modes: {0}")]
    Ports(#[from] InvalidPortModes),
}

/// The mode of a workload, and those of its ports. An unknown value is refused: taking it for the
/// nearest known one could let plaintext through where a newer control plane meant otherwise.
pub(crate) fn modes(message: &v1::Workload) -> Result<(MtlsMode, PortModes), InvalidMtlsModes> {
    // Who says nothing of ports means no port, and can't mean `disabled` either.
    let Some(modes) = &message.mtls_modes else {
        return match mode("mtls_mode", message.mtls_mode)? {
            MtlsMode::Disabled => Err(InvalidMtlsModes::Unknown("mtls_mode", message.mtls_mode)),
            known => Ok((known, PortModes::default())),
        };
    };
    let ports = modes.ports.iter().map(|port| {
        let number = u16::try_from(port.port).map_err(|_| InvalidPortModes::Port(port.port))?;
        Ok((number, mode("mtls_modes.ports.mode", port.mode)?))
    });
    let ports = ports.collect::<Result<Vec<_>, InvalidMtlsModes>>()?;
    let others = mode("mtls_modes.other_ports", modes.other_ports)?;
    Ok((others, PortModes::new(ports)?))
}

fn mode(field: &'static str, value: i32) -> Result<MtlsMode, InvalidMtlsModes> {
    match v1::MtlsMode::try_from(value) {
        Ok(v1::MtlsMode::Disabled) => Ok(MtlsMode::Disabled),
        Ok(v1::MtlsMode::Permissive) => Ok(MtlsMode::Permissive),
        Ok(v1::MtlsMode::Strict) => Ok(MtlsMode::Strict),
        Ok(v1::MtlsMode::Unspecified) => Err(InvalidMtlsModes::Missing(field)),
        Err(_) => Err(InvalidMtlsModes::Unknown(field, value)),
    }
}

/// The one mode that agents read which know no modes of ports: the strictest.
pub(crate) fn strictest(workload: &Workload) -> i32 {
    let mode = workload.strictest_mtls_mode().max(MtlsMode::Permissive);
    mode_message(mode).into()
}

/// The modes, where the one mode doesn't say them.
pub(crate) fn modes_message(workload: &Workload) -> Option<v1::MtlsModes> {
    let is_one = workload.port_modes.is_empty() && workload.mtls_mode != MtlsMode::Disabled;
    (!is_one).then(|| v1::MtlsModes {
        other_ports: mode_message(workload.mtls_mode).into(),
        ports: (workload.port_modes.iter())
            .map(|(port, mode)| v1::PortMtlsMode {
                port: u32::from(port),
                mode: mode_message(mode).into(),
            })
            .collect(),
    })
}

fn mode_message(mode: MtlsMode) -> v1::MtlsMode {
    match mode {
        MtlsMode::Disabled => v1::MtlsMode::Disabled,
        MtlsMode::Permissive => v1::MtlsMode::Permissive,
        MtlsMode::Strict => v1::MtlsMode::Strict,
    }
}

#[cfg(test)]
mod tests {
    use weft_model::workload::WorkloadUid;

    use super::*;

    fn pod(mtls_mode: MtlsMode, ports: &str) -> Workload {
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        Workload {
            mtls_mode,
            port_modes: ports.parse().unwrap(),
            ..Workload::new(WorkloadUid::from("web"), identity, "node-1")
        }
    }

    #[test]
    fn modes_of_ports_come_back_and_older_agents_read_the_strictest() {
        use MtlsMode::{Disabled, Permissive, Strict};
        for (mode, ports, older) in [
            (Permissive, "", v1::MtlsMode::Permissive),
            (Strict, "", v1::MtlsMode::Strict),
            (Disabled, "", v1::MtlsMode::Permissive),
            (Permissive, "80=strict,81=disabled", v1::MtlsMode::Strict),
            (Strict, "80=permissive", v1::MtlsMode::Strict),
            (Permissive, "80=disabled", v1::MtlsMode::Permissive),
        ] {
            let pod = pod(mode, ports);
            let message = v1::Workload::from(&pod);
            assert_eq!(message.mtls_mode, i32::from(older), "{mode} {ports}");
            assert_eq!(Workload::try_from(message), Ok(pod));
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let good = v1::Workload::from(&pod(MtlsMode::Strict, "80=permissive"));
        let refused = |change: fn(&mut v1::Workload)| {
            let mut message = good.clone();
            change(&mut message);
            Workload::try_from(message).unwrap_err().to_string()
        };
        let error = refused(|message| message.mtls_modes.as_mut().unwrap().ports[0].mode = 9);
        assert!(error.contains("mtls_modes.ports.mode"), "{error}");
        let error = refused(|message| message.mtls_modes.as_mut().unwrap().ports[0].port = 70_000);
        assert!(error.contains("70000"), "{error}");
        let error = refused(|message| message.mtls_modes.as_mut().unwrap().other_ports = 0);
        assert!(error.contains("mtls_modes.other_ports"), "{error}");
        let error = refused(|message| (message.mtls_modes, message.mtls_mode) = (None, 3));
        assert!(error.contains("mtls_mode"), "{error}");
    }
}
