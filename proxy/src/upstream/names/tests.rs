use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);
const ADDRESS: &str = "192.0.2.1";

/// A resolver that counts, and takes that long for an answer.
#[derive(Clone, Debug, Default)]
struct Resolver {
    asked: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    most_running: Arc<AtomicUsize>,
    takes: Duration,
    fails: bool,
}

impl Resolver {
    fn that_takes(takes: Duration) -> Self {
        Self {
            takes,
            ..Self::default()
        }
    }

    async fn look_up(self, _: String) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        match self.fails {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(vec![ADDRESS.parse().unwrap()]),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn ask(&self, names: &Names, name: &str) -> io::Result<Arc<[IpAddr]>> {
        let resolver = self.clone();
        let name = name.into();
        let asked = names.addresses_by(&name, LIMIT, |name| resolver.look_up(name));
        asked.await
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_name_wait_for_one_look_up_and_its_answer_serves_for_a_moment() {
    let (names, resolver) = (
        Arc::new(Names::default()),
        Resolver::that_takes(Duration::from_secs(1)),
    );
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let (names, resolver) = (Arc::clone(&names), resolver.clone());
        asking.spawn(async move { resolver.ask(&names, "db.example").await.unwrap() });
    }
    for found in asking.join_all().await {
        assert_eq!(found[0].to_string(), ADDRESS);
    }
    assert_eq!(resolver.asked(), 1);
    tokio::time::advance(FRESH - Duration::from_secs(1)).await;
    resolver.ask(&names, "db.example").await.unwrap();
    assert_eq!(resolver.asked(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    resolver.ask(&names, "db.example").await.unwrap();
    assert_eq!(resolver.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_serves_for_a_shorter_moment() {
    let (names, mut resolver) = (Names::default(), Resolver::default());
    resolver.fails = true;
    for _ in 0..10 {
        let error = resolver.ask(&names, "db.example").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
    assert_eq!(resolver.asked(), 1);
    tokio::time::advance(FAILURE_FRESH).await;
    resolver.fails = false;
    resolver.ask(&names, "db.example").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_so_many_look_ups_run_at_once_also_when_nobody_waits_for_them() {
    let (names, slow) = (
        Arc::new(Names::default()),
        Resolver::that_takes(Duration::from_secs(60)),
    );
    for round in 0..4 {
        let mut asking = JoinSet::new();
        for number in 0..100 {
            let (names, slow) = (Arc::clone(&names), slow.clone());
            asking.spawn(async move {
                let name = format!("{round}-{number}.example");
                slow.ask(&names, &name).await.unwrap_err().kind()
            });
        }
        // Those of the first round go on when their clients have gone.
        for kind in asking.join_all().await {
            assert_eq!(kind, io::ErrorKind::TimedOut);
        }
    }
    assert_eq!(slow.most_running.load(Ordering::Relaxed), MOST_LOOK_UPS);
    assert_eq!(slow.asked(), MOST_LOOK_UPS);
    // Another pod's are its own.
    let another = Names::default();
    Resolver::default()
        .ask(&another, "a.example")
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn as_many_names_as_a_wildcard_matches_take_no_more_than_their_room() {
    let (names, resolver) = (Names::default(), Resolver::default());
    for number in 0..3 * MOST_NAMES {
        let name = format!("{number}.example");
        resolver.ask(&names, &name).await.unwrap();
    }
    assert_eq!(lock(&names.known).len(), MOST_NAMES);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_ends_without_an_answer_is_made_again() {
    let names = Names::default();
    let name = "a.example".into();
    let broken = names.addresses_by(&name, LIMIT, |_| async { panic!("broken") });
    broken.await.unwrap_err();
    Resolver::default().ask(&names, "a.example").await.unwrap();
}

#[tokio::test]
async fn names_are_looked_up_from_the_root() {
    let asked = |name: &'static str| async move {
        let asked = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&asked);
        let look_up = |name| async move {
            *lock(&seen) = name;
            Ok(vec![])
        };
        let names = Names::default();
        names
            .addresses_by(&name.into(), LIMIT, look_up)
            .await
            .unwrap();
        lock(&asked).clone()
    };
    assert_eq!(asked("pay.example").await, "pay.example.");
    assert_eq!(asked("pay").await, "pay.");
    assert_eq!(asked("pay.example.").await, "pay.example.");
    assert_eq!(asked("localhost").await, "localhost");
    let found = Names::default().addresses(&"localhost".into(), LIMIT).await;
    assert!(found.unwrap().iter().any(IpAddr::is_loopback));
}
