//! What a reinstall leaves in place, because it cannot be made again as it was: data, addresses, generated Secrets.

use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::repair::disposable::{is_data, is_disposable};

/// Whether helm shall leave this object of the installed release in place until the plan's install takes it back.
///
/// Data always is. Otherwise only what the new chart has, too, is kept: nobody would ever remove the rest. What may own data
/// and is not kept must not be uninstalled at all.
pub fn is_kept(plan: &Plan, addresses: bool, name: &ObjectRef) -> bool {
    if is_data(name) {
        return true;
    }
    if !is_disposable(name) {
        return stays(plan, name);
    }
    let has_address = match name.kind.as_str() {
        "Secret" => return stays(plan, name),
        // A Service of any type has something that the cluster assigned: a cluster IP, node ports, an address outside.
        "Ingress" | "Service" => true,
        _ => false,
    };
    has_address && addresses && stays(plan, name)
}

fn stays(plan: &Plan, name: &ObjectRef) -> bool {
    plan.objects.iter().any(|object| object.same(name))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::plan::sample;

    fn name(api_version: &str, kind: &str, name: &str) -> ObjectRef {
        ObjectRef {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: Some("ns".into()),
            name: name.into(),
        }
    }

    #[rstest]
    #[case::same_service("v1", "Service", "coder", true, true)]
    #[case::addresses_may_go("v1", "Service", "coder", false, false)]
    #[case::renamed_service("v1", "Service", "ingress-nginx", true, false)]
    #[case::ingress_of_an_older_group("extensions/v1beta1", "Ingress", "web", true, true)]
    #[case::secret("v1", "Secret", "key", false, true)]
    #[case::secret_that_the_new_chart_has_not("v1", "Secret", "token", true, false)]
    #[case::claim("v1", "PersistentVolumeClaim", "data", false, true)]
    #[case::deployment("apps/v1", "Deployment", "coder", true, false)]
    #[case::custom("pg.example.com/v1", "Cluster", "database", false, true)]
    #[case::custom_that_the_new_chart_has_not("pg.example.com/v1", "Cluster", "other", false, false)]
    fn what_cannot_be_made_again_is_kept(
        #[case] version: &str,
        #[case] kind: &str,
        #[case] called: &str,
        #[case] addresses: bool,
        #[case] expected: bool,
    ) {
        let objects = vec![
            name("v1", "Service", "coder"),
            name("networking.k8s.io/v1", "Ingress", "web"),
            name("v1", "Secret", "key"),
            name("apps/v1", "Deployment", "coder"),
            name("pg.example.com/v1", "Cluster", "database"),
        ];
        let plan = Plan { objects, ..sample() };
        assert_eq!(is_kept(&plan, addresses, &name(version, kind, called)), expected);
    }
}
