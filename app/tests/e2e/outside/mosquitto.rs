//! A real Mosquitto of a test's own, where there is one or one may be installed; and who publishes there.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::e2e::house::PATIENCE;

pub(super) struct Mosquitto {
    program: PathBuf,
    dir: PathBuf,
    pub(super) port: u16,
    child: Option<Child>,
}

/// The program; installed first where that may be done.
fn program() -> Option<PathBuf> {
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
        places.push("/usr/sbin".into());
        places
            .into_iter()
            .map(|place| place.join("mosquitto"))
            .find(|program| program.is_file())
    };
    find().or_else(|| {
        let install = "apt-get update -q && apt-get install -y -q --no-install-recommends mosquitto";
        let _ = Command::new("sh").args(["-c", install]).output();
        find()
    })
}

impl Mosquitto {
    /// `None`, said plainly, where there is none.
    pub(super) fn start(dir: &Path, what: &str) -> Option<Self> {
        let Some(program) = program() else {
            println!("NOT RUN: {what} (mosquitto is not installed: sudo apt-get install -y mosquitto)");
            return None;
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut broker = Self {
            program,
            dir: dir.join("mosquitto"),
            port: free.local_addr().unwrap().port(),
            child: None,
        };
        std::fs::create_dir(&broker.dir).unwrap();
        let settings = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {}/\n\
             max_inflight_messages 100\nmax_queued_messages 0\n",
            broker.port,
            broker.dir.display()
        );
        std::fs::write(broker.dir.join("conf"), settings).unwrap();
        drop(free);
        broker.again();
        Some(broker)
    }

    /// Starts it on what it left.
    pub(super) fn again(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.dir.join("conf"));
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "mosquitto does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM: it saves its sessions.
    pub(super) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// Publishes what comes through the channel with QoS 1, until all of it is acknowledged.
    pub(super) fn publisher(&self) -> (mpsc::Sender<(String, String)>, tokio::task::JoinHandle<()>) {
        let mut options = MqttOptions::new("devices", "127.0.0.1", self.port);
        options.set_clean_start(false).set_keep_alive(Duration::from_secs(5));
        let (client, mut events) = AsyncClient::new(options, 16);
        let (messages, mut coming) = mpsc::channel::<(String, String)>(16_384);
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while let Some((topic, payload)) = coming.recv().await {
                client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
                sent += 1;
            }
            (client, sent)
        });
        let all = tokio::spawn(async move {
            let (mut acknowledged, mut sending, mut sent) = (0, Some(sending), None);
            while sent.as_ref().is_none_or(|(_, sent)| *sent > acknowledged) {
                tokio::select! {
                    event = events.poll() => match event {
                        Ok(Event::Incoming(Packet::PubAck(_))) => acknowledged += 1,
                        Ok(_) => {}
                        Err(_) => sleep(Duration::from_millis(50)).await,
                    },
                    done = async { sending.as_mut().unwrap().await }, if sending.is_some() => {
                        sent = Some(done.unwrap());
                        sending = None;
                    }
                }
            }
        });
        (messages, all)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
