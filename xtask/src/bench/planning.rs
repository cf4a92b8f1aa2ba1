//! What a plan costs: the time of its Job beside fetching the chart, and that of the rehearsal beside helm's own upgrade.

use std::time::Duration;

use coder_upgrade_operator::api::Phase;
use jiff::Timestamp;
use serde_json::json;
use testbed::Cluster;

use super::audit::AuditLog;
use super::recovery::Recovery;
use super::report::{Line, Report, median};
use crate::Result;

/// Version of Coder Classic that is installed before.
const FROM: &str = "1.16.1";
/// Version that is planned.
const TO: &str = "1.16.2";

/// Durations, in seconds.
#[derive(Default)]
pub struct Plannings {
    plan: Vec<f64>,
    rehearsal: Vec<f64>,
    helm: Vec<f64>,
    objects: usize,
}

impl Plannings {
    /// Plans as many upgrades of Coder Classic as that, and makes each with bare helm afterwards, without a wait.
    pub async fn measure(cluster: &Cluster, audit: &AuditLog, rounds: usize) -> Result<Self> {
        let mut seen = Self::default();
        for round in 1..=rounds {
            let place = Recovery::new(cluster, format!("planned-{round}"));
            let helm = place.planned(FROM, TO).await?;
            let (plan, rehearsal) = audit.planning(&place.namespace)?;
            seen.objects = place.objects().await?;
            seen.plan.push(plan.as_secs_f64());
            seen.rehearsal.push(rehearsal.as_secs_f64());
            seen.helm.push(audit.helm_span(helm.0, helm.1)?.as_secs_f64());
            eprintln!("plan {round} of {rounds}: {:.2} s", plan.as_secs_f64());
        }
        Ok(seen)
    }

    /// Adds the lines.
    pub fn report(&self, report: &mut Report) {
        if self.plan.is_empty() {
            return;
        }
        let what = format!("plan of Coder Classic ({} objects), the chart at hand, median", self.objects);
        report.add(Line::new(what, format!("{:.2} s", median(&self.plan)), "≤ 3 s"));
        let (rehearsal, helm) = (median(&self.rehearsal), median(&self.helm));
        let measured = format!("{rehearsal:.2} s against {helm:.2} s: {:.2} ×", rehearsal / helm);
        report.add(Line::new("rehearsal against `helm upgrade` without wait, medians", measured, "≤ 1.5 ×"));
    }
}

impl Recovery<'_> {
    /// Plans an upgrade of Coder Classic from a chart that lies in the cluster, and makes it with bare helm afterwards:
    /// when that began and ended.
    async fn planned(&self, from: &str, to: &str) -> Result<(Timestamp, Timestamp)> {
        self.cluster.allow_runner(&self.namespace).await?;
        let repository = &self.cluster.repositories()?.v1;
        self.helm("install", repository, from, "coder-v1-values.yaml", &["--wait"]).await?;
        let directory = tempfile::tempdir()?;
        let target = directory.path().to_string_lossy();
        self.cluster.helm(&["pull", "coder", "--repo", repository, "--version", to, "--destination", &target]).await?;
        let archive = format!("--from-file=coder.tgz={target}/coder-{to}.tgz");
        self.kubectl(&["create", "secret", "generic", "chart", &archive]).await?;
        let chart = json!({"archive": {"secretKeyRef": {"name": "chart", "key": "coder.tgz"}}});
        self.declare(&json!({"version": to, "chart": chart, "approval": "Manual"})).await?;
        self.until(Phase::AwaitingApproval).await?;
        let began = Timestamp::now();
        self.helm("upgrade", repository, to, "coder-v1-values.yaml", &[]).await?;
        Ok((began, Timestamp::now()))
    }

    /// How many objects the release has.
    async fn objects(&self) -> Result<usize> {
        let manifest = self.cluster.helm(&["get", "manifest", "coder", "--namespace", &self.namespace]).await?;
        Ok(manifest.lines().filter(|line| line.starts_with("kind: ")).count())
    }
}

impl AuditLog {
    /// How long the runner of a namespace worked on its plan, and how much of that helm was busy with the rehearsal: from
    /// the first to the last request each.
    fn planning(&self, namespace: &str) -> Result<(Duration, Duration)> {
        let runner = format!("system:serviceaccount:{namespace}:coder-upgrade-runner");
        let plan = self.span(|event| event.user.username == runner && !event.is_helm())?;
        let rehearsal = self.span(|event| event.user.username == runner && event.is_helm())?;
        Ok((plan, rehearsal))
    }

    /// How long an administrator's helm was busy in a span of time, from its first to its last request.
    fn helm_span(&self, from: Timestamp, to: Timestamp) -> Result<Duration> {
        let during = from..=to;
        self.span(|event| event.is_helm() && during.contains(&event.request_received_timestamp))
    }
}
