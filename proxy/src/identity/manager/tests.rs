use super::*;
use crate::fixtures::client_of;
use weft_testing::control_plane::{FakeControlPlane, Signing};
use weft_testing::wait::{in_time, wait_until};

struct Fixture {
    server: FakeControlPlane,
    store: Arc<CertificateStore>,
    manager: Arc<CertificateManager>,
    identity: SpiffeId,
}

async fn fixture(signing: Signing) -> Fixture {
    let server = FakeControlPlane::start().await;
    server.set_signing(signing);
    let store = Arc::new(CertificateStore::default());
    let runtime = tokio::runtime::Handle::current();
    let manager = CertificateManager::new(client_of(&server), Arc::clone(&store), runtime);
    let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    Fixture {
        server,
        store,
        manager,
        identity,
    }
}

async fn certificate(in_use: &IdentityInUse) -> Arc<Certificate> {
    in_time(in_use.certificate()).await
}

#[tokio::test]
async fn obtains_a_certificate_once_for_all_users_and_forgets_it_after_the_last() {
    let test = fixture(Signing::Correctly(3600)).await;
    let first = test.manager.use_identity(&test.identity);
    let second = test.manager.use_identity(&test.identity);
    let current = certificate(&first).await;
    assert_eq!(current.identity, test.identity);
    assert!(Arc::ptr_eq(&current, &certificate(&second).await));
    assert_eq!(test.server.sign_requests(), 1);
    assert_eq!(
        test.manager.expiries(),
        [(test.identity.clone(), Some(current.not_after))]
    );

    drop(first);
    assert!(test.store.current(&test.identity).is_some());
    drop(second);
    assert!(test.store.current(&test.identity).is_none());
    assert!(test.manager.expiries().is_empty());
}

#[tokio::test]
async fn renews_with_a_new_key_before_the_certificate_expires() {
    let test = fixture(Signing::Correctly(2)).await;
    let in_use = test.manager.use_identity(&test.identity);
    let first = certificate(&in_use).await;
    let mut live = test.store.subscribe(&test.identity);
    live.mark_unchanged();
    in_time(live.changed()).await.unwrap();
    assert!(SystemTime::now() < first.not_after, "renewed too late");
    let second = certificate(&in_use).await;
    assert_ne!(first.serial, second.serial);
    assert_ne!(first.key.key.public_key(), second.key.key.public_key());
}

#[tokio::test]
async fn keeps_the_live_certificate_while_the_authority_is_away() {
    let mut test = fixture(Signing::Correctly(2)).await;
    let in_use = test.manager.use_identity(&test.identity);
    let first = certificate(&in_use).await;
    test.server.kill();
    wait_until("a failed renewal", || in_use.last_error().is_some()).await;
    assert!(Arc::ptr_eq(
        &first,
        &test.store.current(&test.identity).unwrap()
    ));
    test.server.serve().await;
    wait_until("a renewal", || in_use.last_error().is_none()).await;
    assert_ne!(
        first.serial,
        test.store.current(&test.identity).unwrap().serial
    );
}

#[tokio::test]
async fn what_must_not_be_used_is_not_published_and_the_reason_is_kept() {
    for (signing, reason) in [
        (Signing::ForAnotherIdentity, "sa/admin, not for spiffe"),
        (Signing::ForAnotherKey, "not for the key"),
        (Signing::ByAnotherRoot, "doesn't verify"),
        (Signing::Correctly(-60), "set the clock"),
        (Signing::Garbage, "not an X.509 certificate"),
        (Signing::Empty, "holds no certificate"),
        (Signing::Unavailable, "try again later"),
    ] {
        let test = fixture(signing).await;
        let in_use = test.manager.use_identity(&test.identity);
        wait_until("a refusal", || in_use.last_error().is_some()).await;
        let error = in_use.last_error().unwrap();
        assert!(error.contains(reason), "{signing:?}: {error}");
        assert!(test.store.current(&test.identity).is_none(), "{signing:?}");

        test.server.set_signing(Signing::Correctly(3600));
        assert_eq!(certificate(&in_use).await.identity, test.identity);
    }
}

#[test]
fn renewal_falls_between_half_and_four_fifths_of_life() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let not_after = now + Duration::from_secs(1000);
    assert_eq!(
        renewal_time(now, not_after, 0.0),
        now + Duration::from_secs(500)
    );
    assert_eq!(
        renewal_time(now, not_after, 1.0),
        now + Duration::from_secs(800)
    );
    assert_eq!(
        renewal_time(not_after, now, 0.7),
        not_after,
        "already expired: at once"
    );
}
