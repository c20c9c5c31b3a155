//! The log where brokers want to know who comes, and must show who they are: on a real broker with such listeners
//! (docker/engines names them).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eventlog::conformance::{Harness, appending, conclusion, everything};
use eventlog::kafka::{Access, Kafka, Mechanism, Options, Sasl, Tls};
use eventlog::{Checkpoint, Clock, EventLog, Limit, LogError, ManualClock, Output, Stored, SystemClock, Topic, Work};
use tokio::time::Instant;

use super::kafka::{OnKafka, fresh, options};

fn given(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: run under docker/engines/engines run"))
}

fn secret(name: &str) -> PathBuf {
    Path::new(&given("ENGINES_KAFKA_SECRETS")).join(name)
}

fn authority(name: &str) -> Option<Tls> {
    Some(Tls {
        ca: Some(secret(name)),
        own: None,
    })
}

fn at(address: &str, access: Access) -> Options {
    Options {
        brokers: address.to_owned(),
        access,
        ..options()
    }
}

fn user(mechanism: Mechanism, password: PathBuf) -> Option<Sasl> {
    Some(Sasl::Password {
        mechanism,
        user: "fajma".to_owned(),
        password,
    })
}

fn named(sasl: Option<Sasl>) -> Options {
    let tls = authority("ca.pem");
    at(&given("ENGINES_KAFKA_NAMED"), Access { tls, sasl })
}

fn mutual(own: Option<(PathBuf, PathBuf)>) -> Options {
    let tls = authority("ca.pem").map(|tls| Tls { own, ..tls });
    at(&given("ENGINES_KAFKA_MUTUAL"), Access { tls, sasl: None })
}

/// A token as the test broker takes it, good for so long.
fn token(subject: &str, lifetime: Duration) -> String {
    let now = SystemClock.now().0 / 1_000_000;
    let ends = now + i64::try_from(lifetime.as_secs()).expect("a short time");
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"{subject}","iat":{now},"exp":{ends}}}"#);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// Puts another token in the place of the last, as whoever renews it does.
fn renew(file: &Path, lifetime: Duration) {
    let next = file.with_extension("next");
    std::fs::write(&next, token("ward", lifetime)).expect("written");
    std::fs::rename(next, file).expect("renamed");
}

/// Makes topics, however long it takes.
async fn made(options: &Options, file: &Path) {
    renew(file, Duration::from_secs(600));
    drop(fresh(options).await);
}

/// The whole suite, over TLS and with a password that never leaves us.
struct Secured(OnKafka);

#[async_trait]
impl Harness for Secured {
    async fn fresh() -> Self {
        Self(OnKafka::with(named(user(Mechanism::Scram512, secret("password")))).await)
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.0.log()
    }

    async fn restart(&mut self) {
        self.0.restart().await;
    }

    fn clock(&self) -> &ManualClock {
        self.0.clock()
    }

    fn keeps_time(&self) -> bool {
        false
    }
}

eventlog::conformance_suite!(over_tls, Secured);

/// Every client of the home: topics are made, records come and go, a place concludes and saves, a group hands out.
async fn everything_works(options: Options) {
    let log = fresh(&options).await;
    let offsets = log.append(Topic::Journal, vec![appending(0, "p", "a"), appending(1, "p", "b")]);
    assert_eq!(offsets.await.expect("appended"), [0, 0]);
    let mut place = log.claim("suite@1", Topic::Alerts, 0).await.expect("claimed");
    let work = Work {
        outputs: vec![said(&log, 0)],
        reached: 1,
        checkpoint: Some(Checkpoint {
            states: vec![(
                "k".into(),
                Stored {
                    applied: 0,
                    value: Some("v".into()),
                },
            )],
            position: 1,
            context: bytes::Bytes::new(),
        }),
    };
    place.commit(work).await.expect("committed");
    let other = Kafka::open(Options {
        tail_bytes: 0,
        history_bytes: 0,
        ..options
    })
    .await;
    let other = other.expect("another process");
    assert_eq!(everything(&*other, Topic::Alerts, 0).await.len(), 1);
    assert_eq!(
        other
            .claim("suite@1", Topic::Alerts, 0)
            .await
            .expect("claimed")
            .position(),
        1
    );
    let mut share = other.share("process", true).expect("a group");
    let handed = share.partitions.wait_for(|mine| mine.len() == 2);
    let handed = tokio::time::timeout(Duration::from_secs(60), handed).await;
    handed.expect("handed out in time").expect("a member");
}

fn said(log: &Kafka, offset: i64) -> Output {
    conclusion(log.layout().incarnation, offset, "p", 0, "s")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_taken_however_it_is_proved() {
    for mechanism in [Mechanism::Plain, Mechanism::Scram256, Mechanism::Scram512] {
        everything_works(named(user(mechanism, secret("password")))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_taken() {
    everything_works(mutual(Some((secret("client.crt"), secret("client.key"))))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    renew(&file, Duration::from_secs(600));
    everything_works(named(Some(Sasl::Token { file }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_hears_why_and_what_to_look_at() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let good = || user(Mechanism::Scram256, secret("password"));
    let as_token = |name: &str, text: &str| Some(Sasl::Token { file: file(name, text) });
    let stranger = Access {
        tls: authority("stranger.pem"),
        sasl: good(),
    };
    let here = Access {
        tls: authority("ca.pem"),
        sasl: good(),
    };
    let other_name = given("ENGINES_KAFKA_NAMED").replace("localhost", "127.0.0.1");
    let ended = token("ward", Duration::ZERO);
    for (what, options, words) in [
        (
            "another password",
            named(user(Mechanism::Scram512, file("wrong", "wrong"))),
            "log.password_file",
        ),
        (
            "the same, as it is",
            named(user(Mechanism::Plain, file("wrong", "wrong"))),
            "log.password_file",
        ),
        (
            "no password",
            named(user(Mechanism::Plain, dir.path().join("none"))),
            "none: No such file",
        ),
        (
            "another authority",
            at(&given("ENGINES_KAFKA_NAMED"), stranger),
            "log.tls_ca",
        ),
        (
            "another name",
            at(&other_name, here.clone()),
            "another name than log.url",
        ),
        ("no certificate", mutual(None), "log.tls_certificate"),
        ("nobody", named(None), "log.tls and log.sasl"),
        (
            "no TLS",
            at(&given("ENGINES_KAFKA_NAMED"), Access::default()),
            "log.tls and log.sasl",
        ),
        (
            "TLS where there is none",
            at(&given("FAJMA_TEST_KAFKA"), here.clone()),
            "log.tls, or the port",
        ),
        ("no such host", at("nobody.invalid:9092", here), "no such host: log.url"),
        (
            "a token that ended",
            named(as_token("ended", &ended)),
            "and nobody has renewed it",
        ),
        (
            "a token that nobody takes",
            named(as_token("false", "false")),
            "log.token_file",
        ),
    ] {
        let opening = tokio::time::timeout(Duration::from_secs(60), Kafka::open(options)).await;
        let opened = opening.unwrap_or_else(|_| panic!("{what}: nothing is said"));
        let refused = opened.expect_err(what).to_string();
        assert!(refused.contains(words), "{what}: {refused}");
        for secret in ["wrong", ended.as_str()] {
            assert!(!refused.contains(&format!("={secret}")), "{refused}");
        }
    }
}

/// Appends numbers until it is told to stop; returns how many were acknowledged. What fails is tried again.
async fn count(log: Arc<Kafka>, stop: Arc<AtomicBool>) -> (u64, u64) {
    let (mut done, mut failed) = (0, 0);
    while !stop.load(Ordering::Acquire) {
        match log
            .append(Topic::Journal, vec![appending(0, "p", format!("{done}"))])
            .await
        {
            Ok(_) => done += 1,
            Err(LogError::Unavailable(_)) => failed += 1,
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (done, failed)
}

/// Reads what comes until all `count` numbers have been seen.
async fn follow(log: Arc<Kafka>, until: impl Fn() -> Option<u64>) -> Vec<String> {
    let (mut seen, mut from) = (Vec::new(), 0);
    while until().is_none_or(|count| (seen.len() as u64) < count) {
        let came = tokio::time::timeout(Duration::from_secs(1), log.wait(Topic::Journal, 0, from)).await;
        if came.is_err() {
            continue;
        }
        let batch = log.read(Topic::Journal, 0, from, Limit::default()).await;
        // A client whose token is just being renewed may have to be asked again.
        let Ok(batch) = batch else { continue };
        seen.extend(
            batch
                .entries()
                .iter()
                .map(|entry| String::from_utf8_lossy(&entry.value).into_owned()),
        );
        from = batch.next().unwrap_or(from);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_while_running_is_renewed_and_nothing_is_lost() {
    const LIFE: Duration = Duration::from_secs(8);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    // A machine that does much else may stand still longer than a place is waited for usually.
    let options = Options {
        commit_timeout: Duration::from_secs(60),
        append_timeout: Duration::from_secs(60),
        ..named(Some(Sasl::Token { file: file.clone() }))
    };
    made(&options, &file).await;
    renew(&file, LIFE);
    let writer = Kafka::open(options.clone()).await.expect("the log opens");
    let reader = Kafka::open(options.clone()).await.expect("another process");
    let (stop, total) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::OnceLock::new()));
    let counting = tokio::spawn(count(Arc::clone(&writer), Arc::clone(&stop)));
    let known = Arc::clone(&total);
    let following = tokio::spawn(follow(Arc::clone(&reader), move || known.get().copied()));
    // Four lives of a token, renewed at half of each.
    let until = Instant::now() + 4 * LIFE;
    let mut place = writer.claim("suite@1", Topic::Alerts, 0).await.expect("claimed");
    let mut concluded = 0;
    while Instant::now() < until {
        tokio::time::sleep(LIFE / 2).await;
        renew(&file, LIFE);
        let work = Work {
            outputs: vec![said(&writer, concluded)],
            reached: concluded + 1,
            ..Work::default()
        };
        place.commit(work).await.expect("a place goes on");
        concluded += 1;
        reader
            .bounds(Topic::Journal, 1)
            .await
            .expect("a client that only asks goes on");
    }
    stop.store(true, Ordering::Release);
    let (done, failed) = counting.await.expect("counted");
    assert_eq!(failed, 0, "of {done}");
    total.set(done).expect("once");
    let seen = tokio::time::timeout(Duration::from_secs(60), following)
        .await
        .expect("in time")
        .expect("followed");
    let all: Vec<String> = (0..done).map(|n| n.to_string()).collect();
    assert_eq!(seen, all, "each once, in order");
    let conclusions = everything(&*reader, Topic::Alerts, 0).await.len();
    assert_eq!(conclusions as i64, concluded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_nobody_renews_ends_and_work_goes_on_with_the_next() {
    const LIFE: Duration = Duration::from_secs(5);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    let options = Options {
        append_timeout: Duration::from_secs(3),
        ..named(Some(Sasl::Token { file: file.clone() }))
    };
    made(&options, &file).await;
    renew(&file, LIFE);
    let log = Kafka::open(options).await.expect("the log opens");
    let append = async |n: u32| {
        log.append(Topic::Journal, vec![appending(0, "p", format!("{n}"))])
            .await
    };
    append(0).await.expect("appended");
    let refused = async {
        while append(1).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), refused).await;
    refused.expect("nobody may write with a token that has ended");
    renew(&file, Duration::from_secs(600));
    let taken = async {
        while append(2).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let taken = tokio::time::timeout(Duration::from_secs(60), taken).await;
    taken.expect("with the next token it goes on");
}
