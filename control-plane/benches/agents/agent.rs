//! An agent as the control plane sees it: one connection, one stream, everything
//! acknowledged. What it is told is counted, not kept.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};
use weft_testing::agent::{FakeAgent, connect};

/// What happened to an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// It has everything: so many resources.
    Synchronized { resources: usize },
    /// It was told of the endpoint that changes.
    Told { at: Instant },
}

/// Where the control plane is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) root: Vec<u8>,
    /// Turns to connect: they all have one address, of which only so many may be strangers.
    pub(crate) turns: Arc<Semaphore>,
}

/// Whom an agent speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) node: String,
    pub(crate) token: String,
}

/// Connects, subscribes and reports until the stream ends.
pub(crate) async fn run(
    target: Target,
    identity: Identity,
    watched: String,
    events: mpsc::UnboundedSender<Event>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let turn = target.turns.acquire().await?;
    let channel = connect(&target.address, "weft-control-plane", &target.root).await?;
    let agent = FakeAgent::new(channel, &identity.node, Some(&identity.token));
    let mut stream = agent.subscribe().await?;
    drop(turn);
    let (mut resources, mut synchronized) = (0, false);
    while let Some(response) = stream.receive_patiently().await? {
        let at = Instant::now();
        resources += response.changed.len();
        if synchronized && response.changed.iter().any(|one| one.name == watched) {
            events.send(Event::Told { at })?;
        }
        if response.synchronized {
            synchronized = true;
            events.send(Event::Synchronized { resources })?;
        }
        stream.acknowledge(response.sequence, Vec::new()).await;
    }
    Ok(())
}
