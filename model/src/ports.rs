//! Ports on a workload's addresses that belong to the mesh itself.

/// HBONE port: where peers reach a workload's proxy, with mutual TLS.
pub const HBONE_PORT: u16 = 15008;
/// Listener for an enrolled pod's captured outbound connections, inside that pod.
pub const OUTBOUND_PORT: u16 = 15001;
/// Listener for plaintext that arrives for an enrolled pod, inside that pod.
pub const INBOUND_PLAINTEXT_PORT: u16 = 15006;

/// Whether the mesh's own proxy listens on that port of a workload.
pub fn is_mesh_port(port: u16) -> bool {
    matches!(port, HBONE_PORT | OUTBOUND_PORT | INBOUND_PLAINTEXT_PORT)
}
