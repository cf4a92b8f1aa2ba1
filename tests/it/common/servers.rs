//! The same Coder twice: the stand-in, and real servers for those who have them. What a story does to it, it does to both.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::charts::{Repository, Row};
use testbed::servers::{CoderServers, POSTGRES_VARIABLE, REPOSITORY, SERVERS_VARIABLE};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::{Client, Config};

use super::World;

/// The claim of the stand-in's database.
const CLAIM: &str = "data-database-0";

/// Which Coder a story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    StandIn,
    Real,
}

/// A namespace with Coder v2, and what may happen to its database.
pub struct Servers {
    pub world: World,
    pub from: String,
    pub to: String,
    repository: String,
    database: Database,
}

enum Database {
    StandIn,
    Real(Box<RealDatabase>),
}

pub struct RealDatabase {
    /// As the superuser, past the passage.
    session: Client,
    passage: Passage,
    url: Config,
    name: String,
}

impl Servers {
    /// Coder as an administrator installs it: the oldest version there is, with a database.
    pub async fn installed(name: &str, kind: Kind, settings: &[&str]) -> Self {
        let world = World::new(&format!("{name}-{kind:?}").to_lowercase()).await;
        let servers = match kind {
            Kind::StandIn => {
                world.database().await;
                let (repository, database) = (world.repositories().v2.clone(), Database::StandIn);
                Self { world, from: "2.30.0".into(), to: "2.31.7".into(), repository, database }
            }
            Kind::Real => Self::real(world).await,
        };
        let image = format!("coder.image.repo={REPOSITORY}");
        let image = (kind == Kind::Real).then_some(image.as_str());
        let settings: Vec<&str> = settings.iter().copied().chain(image).collect();
        servers.world.install("coder", &servers.repository, &servers.from, "coder-v2-values.yaml", &settings).await;
        servers
    }

    async fn real(world: World) -> Self {
        let programs = programs();
        let (from, to) = programs.ends();
        let (from, to) = (from.to_string(), to.to_string());
        let repository = world.repositories().extra(&world.namespace);
        for version in [&from, &to] {
            publish(&world, &repository, version).await;
        }
        let database = RealDatabase::create(&world.namespace, world.machine()).await;
        world.create_secret("coder-db-url", json!({"url": database.url("")})).await;
        let repository = repository.url().to_owned();
        Self { world, from, to, repository, database: Database::Real(Box::new(database)) }
    }

    /// Declares the newest version there is. Nothing is retried and helm waits for long, unless the spec says otherwise.
    pub async fn upgrade(&self, more: Value) {
        let mut spec = json!({
            "version": self.to, "chart": {"repository": self.repository}, "helm": {"timeout": "10m"}, "retry": {"limit": 0},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.world.declare("coder", spec).await;
    }

    /// The next migration takes that long: something else holds what it needs.
    pub async fn hold_migration(&self, time: Duration) {
        match &self.database {
            Database::StandIn => {
                let fault = format!("CODER_SIM_MIGRATION@{}", self.to);
                self.fault(&[(&fault, &format!("{}s", time.as_secs()))]).await;
            }
            Database::Real(database) => database.hold(time).await,
        }
    }

    /// Each migration to the newer version fails with this error of the database, as often as given.
    pub async fn break_migration(&self, error: &str, times: u32) {
        match &self.database {
            Database::StandIn => {
                let fault = format!("CODER_SIM_MIGRATION_ERROR@{}", self.to);
                self.fault(&[(&fault, &format!("{times} {error}"))]).await;
            }
            Database::Real(database) => database.refuse_changes(error, times).await,
        }
    }

    /// Somebody has migrated the database with a version that nobody here knows.
    pub async fn migrate_beyond(&self) {
        match &self.database {
            Database::StandIn => {
                let (cluster, namespace) = (self.world.cluster, &self.world.namespace);
                cluster.edit_database(namespace, CLAIM, |record| record.schema = 9999).await.unwrap();
            }
            Database::Real(database) => {
                database.session.execute("UPDATE schema_migrations SET version = 9999", &[]).await.unwrap();
            }
        }
    }

    /// The Secret with the database's URL has another password from now on; what runs goes on.
    pub async fn change_password(&self) {
        let url = match &self.database {
            Database::StandIn => "postgres://coder:wrong@database:5432/coder?sslmode=disable".to_owned(),
            Database::Real(database) => database.url("wrong"),
        };
        let secret = json!({"stringData": {"url": url}}).to_string();
        self.world.kubectl(&["patch", "secret", "coder-db-url", "--type", "merge", "--patch", &secret]).await;
    }

    /// Nobody reaches the database any more.
    pub async fn cut_database(&self) {
        match &self.database {
            Database::StandIn => self.scale_database(0).await,
            Database::Real(database) => database.passage.close().await,
        }
    }

    /// Everybody reaches it again.
    pub async fn restore_database(&self) {
        match &self.database {
            Database::StandIn => self.scale_database(1).await,
            Database::Real(database) => database.passage.open().await,
        }
    }

    async fn scale_database(&self, replicas: u32) {
        let replicas = format!("--replicas={replicas}");
        self.world.kubectl(&["scale", "statefulset/database", &replicas]).await;
        self.world.kubectl(&["rollout", "status", "statefulset/database", "--timeout=60s"]).await;
    }

    async fn fault(&self, faults: &[(&str, &str)]) {
        self.world.cluster.fault(&self.world.namespace, CLAIM, faults).await.unwrap();
    }

    /// The name of a Secret with the session token of an owner.
    pub async fn token_secret_key_ref(&self) -> &'static str {
        let token = match &self.database {
            Database::StandIn => testbed::sim::owner::TOKEN.to_owned(),
            Database::Real(_) => self.first_user().await,
        };
        self.world.create_secret("owner", json!({"token": token})).await;
        "owner"
    }

    async fn first_user(&self) -> String {
        let address = self
            .world
            .kubectl(&["get", "pods", "-l", "app.kubernetes.io/name=coder", "-o", "jsonpath={.items[0].status.podIP}"])
            .await;
        first_user(&format!("http://{address}:8080")).await
    }
}

/// Creates the first user of a real server, who is an owner, and signs in.
pub async fn first_user(server: &str) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (email, password) = ("owner@example.com", "correct-horse-battery-1");
    let post = async |path: &str, body: Value| -> Value {
        let answer = http.post(format!("{server}/api/v2/{path}")).json(&body).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    };
    post("users/first", json!({"email": email, "username": "owner", "password": password})).await;
    let login = post("users/login", json!({"email": email, "password": password})).await;
    login["session_token"].as_str().unwrap().to_owned()
}

/// The servers that the command line names.
pub fn programs() -> CoderServers {
    CoderServers::open(variable(SERVERS_VARIABLE).as_ref()).unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by cargo xtask test --coder-binaries DIR"))
}

/// Adds our chart at the version of a server to a repository.
async fn publish(world: &World, repository: &Repository, version: &str) {
    let row = Row { chart: "coder-v2".into(), version: version.to_owned(), overlay: None };
    let helm = tokio::task::spawn_blocking(|| super::program(testbed::components::Component::Helm)).await.unwrap();
    repository.publish(&helm, &row).await.unwrap_or_else(|error| panic!("{}: {error}", world.namespace));
}

impl RealDatabase {
    /// An empty database for one story.
    /// `machine` is where pods reach what the test serves.
    pub async fn create(name: &str, machine: Ipv4Addr) -> Self {
        let mut url: Config = variable(POSTGRES_VARIABLE).parse().unwrap();
        let quoted = format!("\"{name}\"");
        connect(&url).await.batch_execute(&format!("CREATE DATABASE {quoted}")).await.unwrap();
        url.dbname(name);
        let tokio_postgres::config::Host::Tcp(host) = url.get_hosts()[0].clone() else { panic!("a host") };
        let passage =
            Passage::to(format!("{host}:{}", url.get_ports().first().copied().unwrap_or(5432)), machine).await;
        Self { session: connect(&url).await, passage, url, name: name.to_owned() }
    }

    /// The URL for Coder, through the passage; with something added to the password.
    fn url(&self, more: &str) -> String {
        let user = self.url.get_user().unwrap();
        let password = String::from_utf8(self.url.get_password().unwrap().to_vec()).unwrap();
        format!("postgres://{user}:{password}{more}@{}/{}?sslmode=disable", self.passage.address, self.name)
    }

    /// The URL past the passage, which ends with this value.
    pub fn direct_url(&self) -> String {
        self.url("").replace(&format!("{}/", self.passage.address), &format!("{}/", self.passage.target))
    }

    /// Holds the table that each start reads first.
    async fn hold(&self, time: Duration) {
        let other = connect(&self.url).await;
        other.batch_execute("BEGIN; LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE").await.unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            other.batch_execute("COMMIT").await.unwrap();
        });
    }

    /// Has the database refuse to alter any table, as migrations do and the start before them does not. A sequence counts, because a transaction that is rolled back does not undo it.
    async fn refuse_changes(&self, error: &str, times: u32) {
        let sql = format!(
            "CREATE SEQUENCE refusals;
             CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('refusals') <= {times} THEN RAISE EXCEPTION '{error}'; END IF;
             END $$;
             CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION refuse()"
        );
        self.session.batch_execute(&sql).await.unwrap();
    }
}

async fn connect(url: &Config) -> Client {
    testbed::servers::connect(url).await.expect("the PostgreSQL for tests")
}

/// A way to a server that can be closed, as by a failover: what was connected is cut, what comes is refused.
struct Passage {
    address: SocketAddr,
    target: String,
    open: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Passage {
    /// `listen` is where pods reach it.
    async fn to(target: String, listen: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((listen, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Some(Self::pass(listener, target.clone())).into();
        Self { address, target, open }
    }

    /// Aborting the task ends all connections.
    fn pass(listener: TcpListener, target: String) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let target = target.clone();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
                while connections.try_join_next().is_some() {}
            }
        })
    }

    async fn close(&self) {
        if let Some(task) = self.open.lock().await.take() {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }

    async fn open(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.open.lock().await = Some(Self::pass(listener, self.target.clone()));
    }
}
