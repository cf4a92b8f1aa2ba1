//! Whether a Service could be used, measured all the time.
//!
//! Services have no endpoints on the process node (see `docs/test-bed.md`), so the pods that would be behind one are asked
//! themselves: those that its selector matches now, that are ready and not being deleted.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Cluster, ClusterError};

/// Pause between two rounds: an outage that is shorter may be missed.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a pod may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What was seen of a Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Availability {
    /// How often its pods were asked.
    pub rounds: u32,
    /// How long nobody answered, in all.
    pub outage: Duration,
    /// The longest time without an answer.
    pub longest: Duration,
}

/// A Service that is being asked; see [`Cluster::watch_service`]. Dropped, it is not asked any more.
#[derive(Debug)]
pub struct ServiceWatch {
    stop: CancellationToken,
    task: JoinHandle<Availability>,
}

impl Cluster {
    /// Asks the pods behind a Service, again and again, for `/healthz`, until [`ServiceWatch::end`].
    ///
    /// # Errors
    /// When there is no client for the cluster.
    pub async fn watch_service(&self, namespace: &str, service: &str) -> Result<ServiceWatch, ClusterError> {
        self.watch(Way::Pods, namespace, service).await
    }

    /// As [`Cluster::watch_service`], at the Service's own address, with a connection for each request. That is what clients see,
    /// but Services have one on a real node only.
    ///
    /// # Errors
    /// When there is no client for the cluster.
    pub async fn watch_service_address(&self, namespace: &str, service: &str) -> Result<ServiceWatch, ClusterError> {
        self.watch(Way::Address, namespace, service).await
    }

    async fn watch(&self, way: Way, namespace: &str, service: &str) -> Result<ServiceWatch, ClusterError> {
        let (client, stop) = (self.client().await?, CancellationToken::new());
        // An error says that there is a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).pool_max_idle_per_host(0).build();
        let http = http.map_err(|error| ClusterError::Start(std::io::Error::other(error)))?;
        let target = Target { way, client, http, namespace: namespace.to_owned(), service: service.to_owned() };
        let task = tokio::spawn(target.ask_until(stop.clone()));
        Ok(ServiceWatch { stop, task })
    }
}

impl ServiceWatch {
    /// Stops, and tells what was seen.
    pub async fn end(mut self) -> Availability {
        self.stop.cancel();
        (&mut self.task).await.unwrap_or_default()
    }
}

impl Drop for ServiceWatch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Who is asked.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The pods that would be behind the Service.
    Pods,
    /// The Service itself.
    Address,
}

struct Target {
    way: Way,
    client: Client,
    http: reqwest::Client,
    namespace: String,
    service: String,
}

impl Target {
    async fn ask_until(self, stop: CancellationToken) -> Availability {
        let mut seen = Availability::default();
        let mut down_since: Option<Instant> = None;
        while !stop.is_cancelled() {
            let asked = Instant::now();
            let answered = self.answers().await;
            seen.rounds += 1;
            sleep(PAUSE).await;
            if answered {
                down_since = None;
            } else {
                let began = *down_since.get_or_insert(asked);
                seen.outage += asked.elapsed();
                seen.longest = seen.longest.max(began.elapsed());
            }
        }
        seen
    }

    /// Whether a pod behind the Service answers now. Pods that were listed a moment ago say nothing: if the selector or the
    /// endpoints have changed meanwhile, those of now are asked.
    async fn answers(&self) -> bool {
        // The API server's outage is none of the Service.
        let asked = match self.way {
            Way::Pods => self.asked_pods().await,
            Way::Address => self.asked_at_its_address().await,
        };
        asked.inspect_err(|error| tracing::warn!(%error, "asking for pods")).unwrap_or(true)
    }

    async fn asked_at_its_address(&self) -> Result<bool, kube::Error> {
        let services = Api::<Service>::namespaced(self.client.clone(), &self.namespace);
        let Some(spec) = services.get_opt(&self.service).await?.and_then(|service| service.spec) else {
            return Ok(false);
        };
        let port = spec.ports.iter().flatten().map(|port| port.port).next();
        let (Some(address), Some(port)) = (spec.cluster_ip, port) else { return Ok(false) };
        Ok(self.is_well(format!("http://{address}:{port}/healthz")).await)
    }

    async fn asked_pods(&self) -> Result<bool, kube::Error> {
        let mut before = None;
        loop {
            // A Service that does not exist has no pods.
            let Some(labels) = self.selector().await? else { return Ok(false) };
            let mut pods = self.pods(&labels).await?;
            pods.retain(is_endpoint);
            if self.answered(&pods).await {
                return Ok(true);
            }
            let names: Vec<_> = pods.into_iter().map(|pod| pod.metadata.name).collect();
            let now = Some((labels, names));
            if now == before {
                return Ok(false);
            }
            before = now;
        }
    }

    async fn answered(&self, pods: &[Pod]) -> bool {
        for url in pods.iter().filter_map(url) {
            if self.is_well(url).await {
                return true;
            }
        }
        false
    }

    async fn is_well(&self, url: String) -> bool {
        self.http.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// The labels that the Service selects pods by; none if it does not exist.
    async fn selector(&self) -> Result<Option<String>, kube::Error> {
        let services = Api::<Service>::namespaced(self.client.clone(), &self.namespace);
        let Some(service) = services.get_opt(&self.service).await? else { return Ok(None) };
        let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
        Ok(Some(selector.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")))
    }

    async fn pods(&self, labels: &str) -> Result<Vec<Pod>, kube::Error> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        Ok(pods.list(&ListParams::default().labels(labels)).await?.items)
    }
}

/// Whether a Service would send requests to the pod.
fn is_endpoint(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_ready && pod.metadata.deletion_timestamp.is_none()
}

fn url(pod: &Pod) -> Option<String> {
    let address = pod.status.as_ref()?.pod_ip.as_deref()?;
    let port = pod.spec.as_ref()?.containers.first()?.ports.as_ref()?.first()?.container_port;
    Some(format!("http://{address}:{port}/healthz"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: &Value, ready: &str) -> Pod {
        let container = json!({"name": "coder", "ports": [{"containerPort": 8080}]});
        let status = json!({"podIP": "127.5.0.10", "conditions": [{"type": "Ready", "status": ready}]});
        let pod = json!({"metadata": metadata, "spec": {"containers": [container]}, "status": status});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn pods_behind_a_service_are_ready_and_stay() {
        assert!(is_endpoint(&pod(&json!({}), "True")));
        assert!(!is_endpoint(&pod(&json!({}), "False")));
        assert!(!is_endpoint(&pod(&json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "True")));
        assert_eq!(url(&pod(&json!({}), "True")).as_deref(), Some("http://127.5.0.10:8080/healthz"));
    }
}
