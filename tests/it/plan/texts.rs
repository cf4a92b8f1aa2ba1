//! What the real helm 3 and helm 4 say about the failures of a real API server is understood: class, object, field, owner.
//!
//! All refused objects of a kind of failure stand in one chart, so that one run of helm tells about all of them.

use std::process::Stdio;

use crate::common::{World, steps::HelmMajor};
use FailureClass::*;
use coder_upgrade_operator::api::FailureClass;
use coder_upgrade_operator::core::helm::failures::{Cause, causes, helm_error, worst};
use tempfile::TempDir;
use tokio::process::Command;

const BOTH: [HelmMajor; 2] = [HelmMajor::Three, HelmMajor::Four];

/// A namespace, and a chart whose objects are a value: a template that is rendered.
struct Texts {
    world: World,
    dir: TempDir,
}

impl Texts {
    async fn new(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir_all(dir.path().join("chart/templates")).unwrap();
        std::fs::write(dir.path().join("chart/Chart.yaml"), "{apiVersion: v2, name: texts, version: 1.0.0}").unwrap();
        std::fs::write(dir.path().join("chart/templates/objects.yaml"), "{{ tpl .Values.objects . }}").unwrap();
        Self { world: World::new(name).await, dir }
    }

    async fn command(&self, helm: HelmMajor, arguments: &str, objects: &str) -> Command {
        let values = self.dir.path().join(format!("{helm:?}-{}.yaml", arguments.replace([' ', '/'], "-")));
        std::fs::write(&values, serde_json::json!({"objects": objects}).to_string()).unwrap();
        let mut command = match helm {
            HelmMajor::Three => self.world.cluster.helm3_command().await.unwrap(),
            HelmMajor::Four => self.world.cluster.helm_command(),
        };
        command.args(arguments.split(' ')).args(["--namespace", &self.world.namespace]).current_dir(self.dir.path());
        if arguments.contains(" chart") {
            command.arg("--values").arg(values);
        }
        command
    }

    /// Runs helm; gives its words if it failed.
    async fn helm(&self, helm: HelmMajor, arguments: &str, objects: &str) -> Result<(), String> {
        let output = self.command(helm, arguments, objects).await.output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(helm_error(&stderr).to_owned()) }
    }

    async fn installed(&self, helm: HelmMajor, release: &str, objects: &str) {
        self.helm(helm, &format!("install {release} chart"), objects).await.unwrap();
    }

    async fn refused(&self, helm: HelmMajor, arguments: &str, objects: &str) -> String {
        match self.helm(helm, arguments, objects).await {
            Err(text) => text,
            Ok(()) => panic!("helm {helm:?} {arguments} is not refused"),
        }
    }

    /// Runs helm, which fails for one cause.
    async fn fails(&self, helm: HelmMajor, arguments: &str, objects: &str, expected: (FailureClass, &str, &str)) {
        let text = self.refused(helm, arguments, objects).await;
        assert_eq!(told(&worst(&text)), known(expected), "helm {helm:?} {arguments}: {text}\n{:#?}", causes(&text));
    }

    async fn apply(&self, objects: &str) {
        let namespace = ["apply", "--namespace", &self.world.namespace, "-f", "-"];
        self.world.cluster.kubectl_with_input(&namespace, objects).await.unwrap();
    }
}

/// What a test compares: class, Kind/name and field; the latter are empty if a text names none.
type Told = (Option<FailureClass>, String, String);

fn told(cause: &Cause) -> Told {
    (
        cause.class,
        cause.object.as_ref().map(ToString::to_string).unwrap_or_default(),
        cause.field.clone().unwrap_or_default(),
    )
}

fn known((class, object, field): (FailureClass, &str, &str)) -> Told {
    (Some(class), object.into(), field.into())
}

/// Every cause of a text, in the order of its objects' names.
fn all_told(text: &str) -> Vec<Told> {
    sorted(causes(text).iter().map(told).collect())
}

fn sorted(mut all: Vec<Told>) -> Vec<Told> {
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

fn documents<'a>(objects: impl IntoIterator<Item = &'a str>) -> String {
    objects.into_iter().collect::<Vec<_>>().join("\n---\n")
}

fn deployment(name: &str, label: &str, pod: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{selector: {{matchLabels: {{app: {label}}}}}, \
         template: {{metadata: {{labels: {{app: {label}}} }}, spec: {{containers: [{{name: c, image: 'pause:1'}}]{pod}}} }} }} }}"
    )
}

fn config_map(name: &str, metadata: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}{metadata}}}, data: {{a: b}} }}")
}

/// Objects that refuse to become another: class, object and field; the object before and after. By the names' order.
const REFUSED: &[(FailureClass, &str, &str, &str, &str)] = &[
    (
        Immutable,
        "ConfigMap/fixed",
        "data",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed}, immutable: true, data: {a: b}}",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed}, immutable: true, data: {a: c}}",
    ),
    (
        Immutable,
        "Deployment/selector",
        "spec.selector",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: selector}, spec: {replicas: 0, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: pause}]}}}}",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: selector}, spec: {replicas: 0, selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c, image: pause}]}}}}",
    ),
    (
        Immutable,
        "Job/template",
        "spec.template",
        "{apiVersion: batch/v1, kind: Job, metadata: {name: template}, spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}}",
        "{apiVersion: batch/v1, kind: Job, metadata: {name: template}, spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: b, env: [{name: TOKEN, value: planted && planted}]}]}}}}",
    ),
    (
        ImmutableData,
        "PersistentVolumeClaim/class",
        "spec",
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: class}, spec: {accessModes: [ReadWriteOnce], storageClassName: hostpath, resources: {requests: {storage: 1Gi}}}}",
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: class}, spec: {accessModes: [ReadWriteOnce], storageClassName: other, resources: {requests: {storage: 1Gi}}}}",
    ),
    (
        Immutable,
        "RoleBinding/role",
        "roleRef",
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: role}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: a}}",
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: role}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: b}}",
    ),
    (
        Immutable,
        "Secret/fixed",
        "data",
        "{apiVersion: v1, kind: Secret, metadata: {name: fixed}, immutable: true, stringData: {a: b}}",
        "{apiVersion: v1, kind: Secret, metadata: {name: fixed}, immutable: true, stringData: {a: c}}",
    ),
    (
        Immutable,
        "Service/address",
        "spec.clusterIPs[0]",
        "{apiVersion: v1, kind: Service, metadata: {name: address}, spec: {ports: [{port: 80}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: address}, spec: {ports: [{port: 80}], clusterIP: None}}",
    ),
    (
        Immutable,
        "Service/balancer",
        "spec.loadBalancerClass",
        "{apiVersion: v1, kind: Service, metadata: {name: balancer}, spec: {ports: [{port: 80}], type: LoadBalancer, loadBalancerClass: a/b}}",
        "{apiVersion: v1, kind: Service, metadata: {name: balancer}, spec: {ports: [{port: 80}], type: LoadBalancer, loadBalancerClass: a/c}}",
    ),
    (
        Immutable,
        "StatefulSet/volume",
        "spec",
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: volume}, spec: {serviceName: x, replicas: 0, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: pause}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: volume}, spec: {serviceName: x, replicas: 0, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: pause}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}]}}",
    ),
];

#[tokio::test]
async fn objects_that_refuse_the_change() {
    use HelmMajor::{Four, Three};
    let expected: Vec<_> = REFUSED.iter().map(|(class, object, field, ..)| known((*class, object, field))).collect();
    let (before, after) = (documents(REFUSED.iter().map(|row| row.3)), documents(REFUSED.iter().map(|row| row.4)));
    // Who made the release decides how helm 4 applies the change.
    for (made_by, ways) in [(Three, [(Three, ""), (Four, "")]), (Four, [(Four, ""), (Four, " --server-side=false")])] {
        let texts = Texts::new("texts-refused").await;
        texts.installed(made_by, "coder", &before).await;
        for (helm, flags) in ways {
            let text = texts.refused(helm, &format!("upgrade coder chart{flags}"), &after).await;
            assert_eq!(all_told(&text), expected, "made by helm {made_by:?}, {helm:?}{flags}: {text}");
            let silent = causes(&text).iter().all(|cause| !cause.message.contains("planted"));
            assert!(silent, "the variables of the Job are repeated: {:#?}", causes(&text));
        }
        texts.world.finish().await;
    }
}

#[tokio::test]
async fn every_way_to_ask_for_it() {
    let texts = Texts::new("texts-ways").await;
    for (helm, flags) in [
        (HelmMajor::Three, "--force"),
        (HelmMajor::Three, "--atomic --timeout 20s"),
        (HelmMajor::Four, "--force-replace --server-side=false"),
        (HelmMajor::Four, "--rollback-on-failure --timeout 20s"),
    ] {
        let name = format!("ways-{helm:?}{}", flags.split(' ').next().unwrap()).to_lowercase();
        texts.installed(helm, &name, &deployment(&name, "a", "")).await;
        let arguments = format!("upgrade {name} chart {flags}");
        let object = format!("Deployment/{name}");
        texts.fails(helm, &arguments, &deployment(&name, "b", ""), (Immutable, &object, "spec.selector")).await;
    }
    texts.world.finish().await;
}

#[tokio::test]
async fn volumes_neither_shrink_nor_grow_by_themselves() {
    let texts = Texts::new("texts-volume").await;
    let claim = |name: &str, class: &str, size: &str| {
        format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{accessModes: [ReadWriteOnce], storageClassName: {class}, resources: {{requests: {{storage: {size}}} }} }} }}"
        )
    };
    for helm in BOTH {
        let name = format!("shrink-{helm:?}").to_lowercase();
        texts.installed(helm, &name, &claim(&name, "hostpath", "2Gi")).await;
        let object = format!("PersistentVolumeClaim/{name}");
        let bound = ["wait", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s", &format!("pvc/{name}")]
            .map(str::to_owned);
        texts.world.kubectl(&bound.each_ref().map(String::as_str)).await;
        let expected = (ImmutableData, object.as_str(), "spec.resources.requests.storage");
        texts.fails(helm, &format!("upgrade {name} chart"), &claim(&name, "hostpath", "1Gi"), expected).await;
    }
    texts.world.finish().await;
}

/// What must be there so that the objects below cannot be made. The policies act on this namespace only.
const OBSTACLES: &str = "
{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {count/replicationcontrollers: 0}}}
---
{apiVersion: v1, kind: Service, metadata: {name: first}, spec: {type: NodePort, ports: [{port: 80, nodePort: PORT}]}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: NAMESPACE}, spec: {
  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [configmaps]}]},
  validations: [{expression: \"!object.metadata.name.startsWith('denied')\", message: field is immutable}]}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: NAMESPACE}, spec: {
  policyName: NAMESPACE, validationActions: [Deny],
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}}}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: NAMESPACE}, webhooks: [{
  name: texts.example.com, admissionReviewVersions: [v1], sideEffects: None, failurePolicy: Fail, timeoutSeconds: 1,
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}, objectSelector: {matchLabels: {webhook: asked}},
  clientConfig: {url: 'https://127.0.0.1:1/x'},
  rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}]}
";

/// Objects that cannot be made: class, object and field; the object. By the names' order.
const IMPOSSIBLE: &[(FailureClass, &str, &str, &str)] = &[
    (
        WebhookUnavailable,
        "ConfigMap/asked",
        "",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: asked, labels: {webhook: asked}}}",
    ),
    (PolicyDenied, "ConfigMap/denied", "", "{apiVersion: v1, kind: ConfigMap, metadata: {name: denied}}"),
    (
        ReferenceMissing,
        "ConfigMap/elsewhere",
        "",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: elsewhere, namespace: no-such-namespace}}",
    ),
    (
        ObjectInvalid,
        "Deployment/labels",
        "spec.template.metadata.labels",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: labels}, spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c, image: pause}]}}}}",
    ),
    (
        QuotaExceeded,
        "ReplicationController/quota",
        "",
        "{apiVersion: v1, kind: ReplicationController, metadata: {name: quota}, spec: {replicas: 0, selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: pause}]}}}}",
    ),
    (
        AddressTaken,
        "Service/address",
        "spec.clusterIPs",
        "{apiVersion: v1, kind: Service, metadata: {name: address}, spec: {clusterIP: ADDRESS, ports: [{port: 80}]}}",
    ),
    (
        PortTaken,
        "Service/port",
        "spec.ports[0].nodePort",
        "{apiVersion: v1, kind: Service, metadata: {name: port}, spec: {type: NodePort, ports: [{port: 80, nodePort: PORT}]}}",
    ),
];

#[tokio::test]
async fn objects_that_cannot_be_made() {
    let texts = Texts::new("texts-impossible").await;
    let namespace = texts.world.namespace.clone();
    // A run of this test on the same cluster has another port.
    let port = 31_000 + u32::from_str_radix(&namespace[namespace.len() - 3..], 16).unwrap() % 1_000;
    texts.apply(&OBSTACLES.replace("NAMESPACE", &namespace).replace("PORT", &port.to_string())).await;
    let address = texts.world.kubectl(&["get", "service", "first", "-o", "jsonpath={.spec.clusterIP}"]).await;
    // The policy acts when the API server has read it.
    texts
        .world
        .eventually("policy that denies", || async {
            let create = ["create", "configmap", "denied-yet", "--dry-run=server", "--namespace", &namespace];
            texts.world.cluster.kubectl(&create).await.err()
        })
        .await;
    let object = |row: &str| row.replace("ADDRESS", &address).replace("PORT", &port.to_string());
    let all: Vec<_> = IMPOSSIBLE.iter().map(|row| object(row.3)).collect();
    let expected = |helm: HelmMajor| -> Vec<_> {
        // helm 3 repeats what the API server says, and that does not always name the object.
        let named = |class: FailureClass, object: &'static str| match (helm, class) {
            (HelmMajor::Three, WebhookUnavailable) => "",
            (HelmMajor::Three, ReferenceMissing) => "Namespace/no-such-namespace",
            _ => object,
        };
        let all = IMPOSSIBLE.iter().map(|(class, object, field, _)| known((*class, named(*class, object), field)));
        sorted(all.collect())
    };
    for helm in BOTH {
        let text = texts
            .refused(
                helm,
                &format!("upgrade --install all-{helm:?} chart").to_lowercase(),
                &documents(all.iter().map(String::as_str)),
            )
            .await;
        assert_eq!(all_told(&text), expected(helm), "install by helm {helm:?}: {text}");
        // An upgrade ends at the first object that cannot be made.
        let release = format!("one-{helm:?}").to_lowercase();
        texts.installed(helm, &release, &config_map(&release, "")).await;
        for (class, object, field, _) in IMPOSSIBLE.iter().filter(|row| matches!(row.0, PortTaken | QuotaExceeded)) {
            let at = IMPOSSIBLE.iter().position(|row| row.1 == *object).unwrap();
            texts.fails(helm, &format!("upgrade {release} chart"), &all[at], (*class, object, field)).await;
        }
    }
    texts
        .world
        .kubectl(&[
            "delete",
            "validatingwebhookconfiguration,validatingadmissionpolicy,validatingadmissionpolicybinding",
            &namespace,
        ])
        .await;
    texts.world.finish().await;
}

#[tokio::test]
async fn objects_that_have_no_owner_or_another() {
    let texts = Texts::new("texts-owner").await;
    texts.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: coder}}").await;
    let free = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: coder}}";
    for helm in BOTH {
        texts.fails(helm, "upgrade --install free chart", free, (OwnershipMissing, "ServiceAccount/coder", "")).await;
        let [owner, other] = ["owner", "other"].map(|name| format!("{name}-{helm:?}").to_lowercase());
        texts.installed(helm, &owner, &config_map(&owner, "")).await;
        texts.installed(helm, &other, &config_map(&other, "")).await;
        texts
            .fails(helm, &format!("upgrade {other} chart"), free, (OwnershipMissing, "ServiceAccount/coder", ""))
            .await;
        let text = texts.refused(helm, &format!("upgrade {other} chart"), &config_map(&owner, "")).await;
        assert_eq!(told(&worst(&text)), known((OwnedByOther, &format!("ConfigMap/{owner}"), "")), "{text}");
    }
    texts.world.finish().await;
}

#[tokio::test]
async fn fields_of_another_manager() {
    let texts = Texts::new("texts-manager").await;
    let replicas = |replicas: u8| {
        deployment("shared", "a", "").replace("spec: {selector", &format!("spec: {{replicas: {replicas}, selector"))
    };
    texts.installed(HelmMajor::Four, "shared", &replicas(0)).await;
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=other",
        "--namespace",
        &texts.world.namespace,
        "-f",
        "-",
    ];
    texts.world.cluster.kubectl_with_input(&apply, &replicas(1)).await.unwrap();
    let text = texts.refused(HelmMajor::Four, "upgrade shared chart", &replicas(2)).await;
    assert_eq!(told(&worst(&text)), known((FieldConflict, "Deployment/shared", "spec.replicas")), "{text}");
    assert!(worst(&text).message.contains("\"other\""), "the manager is named: {text}");
    texts.world.finish().await;
}

#[tokio::test]
async fn rights_that_are_missing() {
    let texts = Texts::new("texts-rights").await;
    texts
        .apply(
            "
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: weak}, rules: [
  {apiGroups: [''], resources: [secrets], verbs: ['*']},
  {apiGroups: [''], resources: [configmaps], verbs: [get, list, watch, create]},
  {apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: ['get', 'create', 'patch', 'update']}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: weak}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: weak},
  subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: weak}]}
",
        )
        .await;
    let service = "{apiVersion: v1, kind: Service, metadata: {name: unseen}, spec: {ports: [{port: 80}]}}";
    let role = "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: strong}, rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}";
    for helm in BOTH {
        let release = format!("weak-{helm:?}").to_lowercase();
        let object = config_map(&release, "");
        texts.installed(helm, &release, &object).await;
        let upgrade = format!("upgrade {release} chart --kube-as-user weak");
        let named = format!("ConfigMap/{release}");
        texts.fails(helm, &upgrade, &object.replace("a: b", "a: c"), (Forbidden, &named, "")).await;
        texts.fails(helm, &upgrade, &documents([object.as_str(), service]), (Forbidden, "Service/unseen", "")).await;
        texts.fails(helm, &upgrade, &documents([object.as_str(), role]), (Forbidden, "Role/strong", "")).await;
        let nobody = format!("upgrade {release} chart --kube-as-user nobody");
        texts.fails(helm, &nobody, &object, (Forbidden, "", "")).await;
        let unreachable = format!("upgrade {release} chart --kube-apiserver https://127.0.0.1:1");
        texts.fails(helm, &unreachable, &object, (ApiUnavailable, "", "")).await;
    }
    // helm 4 tells when an object that left the chart cannot be deleted; helm 3 only logs it.
    let text = texts.refused(HelmMajor::Four, "upgrade weak-four chart --kube-as-user weak", service).await;
    assert_eq!(worst(&text).class, Some(Forbidden), "{text}");
    texts.world.finish().await;
}

#[tokio::test]
async fn records_of_helm() {
    let texts = Texts::new("texts-records").await;
    // A hook that does not end, in which helm is killed.
    let hook = |name: &str, hook: &str| {
        format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}, annotations: {{helm.sh/hook: {hook}}} }}, spec: {{suspend: true, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: pause}}]}} }} }} }}"
        )
    };
    for helm in BOTH {
        let name = |what: &str| format!("{what}-{helm:?}").to_lowercase();
        let (locked, removing, absent, kept) = (name("locked"), name("removing"), name("absent"), name("kept"));

        texts.installed(helm, &locked, &config_map(&locked, "")).await;
        killed(&texts, helm, &format!("upgrade {locked} chart"), &hook(&locked, "pre-upgrade"), &locked).await;
        let (upgrade, object) = (format!("upgrade --install {locked} chart"), config_map(&locked, ""));
        texts.fails(helm, &upgrade, &object, (ReleaseLocked, "", "")).await;
        texts.fails(helm, &format!("install {locked} chart"), &object, (ReleaseLocked, "", "")).await;

        texts.installed(helm, &removing, &hook(&removing, "pre-delete")).await;
        killed(&texts, helm, &format!("uninstall {removing}"), "", &removing).await;
        texts.fails(helm, &format!("upgrade --install {removing} chart"), "", (HistoryBroken, "", "")).await;

        texts.fails(helm, &format!("get values {absent}"), "", (ReleaseMissing, "", "")).await;
        texts.fails(helm, &format!("uninstall {absent}"), "", (ReleaseMissing, "", "")).await;
        texts.fails(helm, &format!("rollback {locked} 9"), "", (RollbackFailed, "", "")).await;

        texts.installed(helm, &kept, &config_map(&kept, "")).await;
        let uninstall = format!("uninstall {kept} --keep-history");
        texts.helm(helm, &uninstall, "").await.unwrap();
        texts.fails(helm, &uninstall, "", (ReleaseMissing, "", "")).await;
    }
    texts.world.finish().await;
}

/// Kills helm when the Job of its hook is there.
async fn killed(texts: &Texts, helm: HelmMajor, arguments: &str, objects: &str, job: &str) {
    let mut command = texts.command(helm, arguments, objects).await;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    texts
        .world
        .eventually("Job of the hook", || async {
            texts.world.cluster.kubectl(&["get", "job", job, "--namespace", &texts.world.namespace]).await.ok()
        })
        .await;
    child.kill().await.unwrap();
}

#[tokio::test]
async fn apis_that_are_gone_or_not_there_yet() {
    let texts = Texts::new("texts-apis").await;
    for helm in BOTH {
        let group = format!("{}.{helm:?}.example.com", texts.world.namespace).to_lowercase();
        let definition = format!(
            "{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{name: gateways.{group}}}, spec: {{group: {group}, scope: Namespaced, names: {{kind: Gateway, plural: gateways}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}} }} }}]}} }}"
        );
        let object = format!("{{apiVersion: {group}/v1, kind: Gateway, metadata: {{name: gone}} }}");
        texts.fails(helm, "upgrade --install early chart", &object, (DefinitionMissing, "Gateway/gone", "")).await;
        texts.apply(&definition).await;
        texts
            .world
            .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &format!("crd/gateways.{group}")])
            .await;
        let release = format!("apis-{helm:?}").to_lowercase();
        texts
            .world
            .eventually("API of the definition", || async {
                texts.helm(helm, &format!("upgrade --install {release} chart"), &object).await.ok()
            })
            .await;
        texts.world.kubectl(&["delete", "crd", &format!("gateways.{group}")]).await;
        let upgrade = format!("upgrade {release} chart");
        let text = texts
            .world
            .eventually("API that is gone", || async {
                texts.helm(helm, &upgrade, &config_map(&release, "")).await.err()
            })
            .await;
        assert_eq!(told(&worst(&text)), known((ApiRemoved, "Gateway/gone", "")), "{text}");
        texts.fails(helm, &format!("uninstall {release}"), "", (UninstallFailed, "", "")).await;
    }
    texts.world.finish().await;
}

#[tokio::test]
async fn charts_that_do_not_fit_the_values() {
    let texts = Texts::new("texts-charts").await;
    let chart = |name: &str, metadata: &str| {
        let dir = texts.dir.path().join(format!("chart-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("Chart.yaml"), format!("{{apiVersion: v2, name: texts, version: 1.0.0{metadata}}}"))
            .unwrap();
        dir
    };
    let schema = chart("schema", "");
    std::fs::write(schema.join("values.schema.json"), r#"{"properties": {"objects": {"type": "object"}}}"#).unwrap();
    chart("new", ", kubeVersion: '>=1.99.0'");
    chart("incomplete", ", dependencies: [{name: missing, version: 1.0.0, repository: 'https://127.0.0.1:1'}]");
    for helm in BOTH {
        let fails =
            |arguments: &'static str,
             objects: &'static str,
             class: FailureClass,
             object: &'static str,
             field: &'static str| { texts.fails(helm, arguments, objects, (class, object, field)) };
        fails("upgrade --install x chart-schema", "", ValuesInvalid, "", "objects").await;
        fails("upgrade --install x chart-new", "", Incompatible, "", "").await;
        fails("upgrade --install x chart-incomplete", "", ChartInvalid, "", "").await;
        let chart = "upgrade --install x chart";
        fails(chart, "{{ fail \"field is immutable\" }}", RenderFailed, "", "").await;
        fails(chart, "{{ .Values.a.b.c }}", RenderFailed, "", "").await;
        fails(chart, "{{ .Values.a ", RenderFailed, "", "").await;
        fails(chart, "a: b: c", RenderFailed, "", "").await;
        fails(chart, "{apiVersion: v1, kind: ConfigMap, metadata: {}}", ObjectInvalid, "", "").await;
        fails(
            chart,
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: Bad_Name}}",
            ObjectInvalid,
            "ConfigMap/Bad_Name",
            "metadata.name",
        )
        .await;
    }
    let typed = "{apiVersion: v1, kind: Service, metadata: {name: typed}, spec: {ports: [{port: eighty}]}}";
    let (three, four) = ("spec.ports.port", "spec.ports[port=\"eighty\",protocol=\"TCP\"].port");
    texts.fails(HelmMajor::Three, "upgrade --install y chart", typed, (ObjectInvalid, "", three)).await;
    texts.fails(HelmMajor::Four, "upgrade --install z chart", typed, (ObjectInvalid, "Service/typed", four)).await;
    texts.world.finish().await;
}

#[tokio::test]
async fn waits_that_end_in_vain() {
    let texts = Texts::new("texts-waits").await;
    let wait = "--wait --timeout 1s";
    for (helm, atomic) in BOTH.into_iter().zip(["--atomic", "--rollback-on-failure"]) {
        let three = matches!(helm, HelmMajor::Three);
        let name = |what: &str| format!("{what}-{helm:?}").to_lowercase();
        // helm 4 names the object, helm 3 does not.
        let object = |kind: &str, name: &str| if three { String::new() } else { format!("{kind}/{name}") };
        let (slow, back, held, hook) = (name("slow"), name("back"), name("held"), name("hook"));

        let pending = |name: &str| deployment(name, "a", ", nodeSelector: {no: such}");
        let waited = object("Deployment", &slow);
        texts
            .fails(
                helm,
                &format!("upgrade --install {slow} chart {wait}"),
                &pending(&slow),
                (RolloutTimedOut, &waited, ""),
            )
            .await;
        texts.installed(helm, &back, &config_map(&back, "")).await;
        let waited = object("Deployment", &back);
        texts
            .fails(
                helm,
                &format!("upgrade {back} chart {wait} {atomic}"),
                &pending(&back),
                (RolloutTimedOut, &waited, ""),
            )
            .await;

        let job = format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {hook}, annotations: {{helm.sh/hook: pre-upgrade}} }}, spec: {{suspend: true, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: pause}}]}} }} }} }}"
        );
        let waited = object("Job", &hook);
        texts.fails(helm, &format!("upgrade {back} chart --timeout 1s"), &job, (HookFailed, &waited, "")).await;

        texts.installed(helm, &held, &config_map(&held, ", finalizers: [example.com/held]")).await;
        let waited = object("ConfigMap", &held);
        texts.fails(helm, &format!("uninstall {held} --keep-history {wait}"), "", (UninstallFailed, &waited, "")).await;
        texts
            .world
            .kubectl(&["patch", "configmap", &held, "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#])
            .await;
    }
    texts.world.finish().await;
}

#[tokio::test]
async fn a_rollback_that_fails_too() {
    let texts = Texts::new("texts-rollback").await;
    let binding = |role: &str| {
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: role}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {role}}} }}"
        )
    };
    let dropped = config_map("dropped", "");
    texts.installed(HelmMajor::Three, "coder", &documents([dropped.as_str(), &binding("a")])).await;
    let text = texts.refused(HelmMajor::Three, "upgrade coder chart --atomic --timeout 5s", &binding("b")).await;
    let expected = [(Immutable, "RoleBinding/role", "roleRef"), (RollbackFailed, "ConfigMap/dropped", "")].map(known);
    assert_eq!(causes(&text).iter().map(told).collect::<Vec<_>>(), expected, "{text}");
    assert_eq!(worst(&text).class, Some(RollbackFailed));
    texts.world.finish().await;
}

#[tokio::test]
async fn a_namespace_that_is_being_deleted() {
    let texts = Texts::new("texts-ending").await;
    texts.apply(&config_map("held", ", finalizers: [example.com/held]")).await;
    texts.world.cluster.kubectl(&["delete", "namespace", &texts.world.namespace, "--wait=false"]).await.unwrap();
    for helm in BOTH {
        let text = texts.refused(helm, "upgrade --install late chart", &config_map("late", "")).await;
        assert_eq!(worst(&text).class, Some(NamespaceTerminating), "{text}");
    }
    texts
        .world
        .kubectl(&["patch", "configmap", "held", "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#])
        .await;
}
