//! Which addresses an upgrade has changed, and whose DNS must follow.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::api::{AddressChange, Exposure};
use crate::core::helm::documents::Documents;

/// The addresses that are not what they were. An object that had none outside of the cluster before does not count there: no
/// DNS points to it. Cluster IPs and node ports of a Service count if it still exists: others may have been told these.
pub fn changes(before: &[Exposure], after: &[Exposure], hosts: &Hosts) -> Vec<AddressChange> {
    let change = |old: &Exposure| {
        let new = successor(old, before, after);
        let none = Exposure { addresses: Vec::new(), assigned: Vec::new(), ..old.clone() };
        let new = new.unwrap_or(&none);
        let moved = !old.addresses.is_empty() && sorted(&old.addresses) != sorted(&new.addresses);
        let gone = |old: &&String| !new.assigned.contains(old);
        let lost: Vec<&String> = old.assigned.iter().filter(gone).filter(|_| !new.assigned.is_empty()).collect();
        if !moved && lost.is_empty() {
            return None;
        }
        let addresses = |exposure: &Exposure| if moved { exposure.addresses.clone() } else { Vec::new() };
        let (mut was, mut now) = (addresses(old), addresses(new));
        if !lost.is_empty() {
            was.extend(lost.into_iter().cloned());
            now.extend(new.assigned.iter().filter(|new| !old.assigned.contains(new)).cloned());
        }
        Some(AddressChange {
            hosts: if moved { hosts.of(&old.kind, &new.name) } else { Vec::new() },
            kind: old.kind.clone(),
            name: new.name.clone(),
            before: was,
            after: now,
        })
    };
    before.iter().filter_map(change).collect()
}

fn sorted(addresses: &[String]) -> Vec<&String> {
    let mut sorted: Vec<_> = addresses.iter().collect();
    sorted.sort();
    sorted
}

/// The objects whose address is still to come: they take the place of one that had an address.
pub fn awaited<'a>(before: &[Exposure], after: &'a [Exposure]) -> Vec<&'a Exposure> {
    let had = before.iter().filter(|old| !old.addresses.is_empty());
    had.filter_map(|old| successor(old, before, after)).filter(|new| new.addresses.is_empty()).collect()
}

/// What took the place of an object: its namesake; or, if one object of the kind is gone and one is new, that: Coder
/// Classic 1.21 calls `coderd` what was `ingress-nginx` before.
fn successor<'a>(old: &Exposure, before: &[Exposure], after: &'a [Exposure]) -> Option<&'a Exposure> {
    let same = |a: &Exposure, b: &Exposure| a.kind == b.kind && a.name == b.name;
    if let Some(namesake) = after.iter().find(|new| same(new, old)) {
        return Some(namesake);
    }
    let of_kind = |exposure: &&Exposure| exposure.kind == old.kind;
    let gone = before.iter().filter(of_kind).filter(|one| !after.iter().any(|new| same(new, one)));
    let mut new = after.iter().filter(of_kind).filter(|one| !before.iter().any(|old| same(old, one)));
    match (gone.count(), new.next(), new.next()) {
        (1, Some(only), None) => Some(only),
        _ => None,
    }
}

/// The host names under which people reach Coder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    all: Vec<String>,
    ingresses: Vec<(String, Vec<String>)>,
}

impl Hosts {
    /// From the values of a release and the Ingresses that it renders. Of the values only names of hosts are read.
    pub fn new(values: &Map<String, Value>, manifest: &Documents) -> Self {
        let at = |path: &[&str]| {
            let first = values.get(path[0])?;
            path[1..].iter().try_fold(first, |value, key| value.get(key))?.as_str()
        };
        let settings = [&["ingress", "host"][..], &["devurls", "host"], &["coderd", "devurlsHost"]];
        let mut all: Vec<String> = settings.into_iter().filter_map(at).filter_map(host).collect();
        let variables = values.get("coder").and_then(|coder| coder.get("env")).and_then(Value::as_array);
        let urls = variables.into_iter().flatten().filter(|variable| {
            matches!(variable["name"].as_str(), Some("CODER_ACCESS_URL" | "CODER_WILDCARD_ACCESS_URL"))
        });
        all.extend(urls.filter_map(|variable| host(variable["value"].as_str()?)));
        let ingresses: Vec<(String, Vec<String>)> = manifest.of_kind("Ingress").filter_map(ingress).collect();
        all.extend(ingresses.iter().flat_map(|(_, hosts)| hosts.clone()));
        all.sort();
        all.dedup();
        Self { all, ingresses }
    }

    /// The hosts that an object serves: those of an Ingress are its own, a Service may serve all.
    fn of(&self, kind: &str, name: &str) -> Vec<String> {
        let own =
            self.ingresses.iter().find(|(ingress, hosts)| kind == "Ingress" && ingress == name && !hosts.is_empty());
        own.map_or(&self.all, |(_, hosts)| hosts).clone()
    }
}

fn ingress(object: &Value) -> Option<(String, Vec<String>)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let rules = list(&object["spec"]["rules"]).into_iter().map(|rule| rule["host"].clone());
    let certified = list(&object["spec"]["tls"]).into_iter().flat_map(|tls| list(&tls["hosts"]));
    let mut hosts: Vec<String> = rules.chain(certified).filter_map(|name| host(name.as_str()?)).collect();
    hosts.sort();
    hosts.dedup();
    Some((object["metadata"]["name"].as_str()?.to_owned(), hosts))
}

/// The host of a URL or of a bare name; none if DNS has no part in it.
fn host(text: &str) -> Option<String> {
    let rest = text.trim().split_once("://").map_or(text.trim(), |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => authority,
    };
    let named = !name.is_empty() && name != "localhost" && name.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
    named.then(|| name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn exposure(kind: &str, name: &str, addresses: &[&str]) -> Exposure {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Exposure { kind: kind.into(), name: name.into(), uid: String::new(), addresses, assigned: Vec::new() }
    }

    fn hosts() -> Hosts {
        Hosts {
            all: vec!["*.dev.example.com".into(), "coder.example.com".into()],
            ingresses: vec![("web".into(), vec!["coder.example.com".into()])],
        }
    }

    fn changed(before: &[Exposure], after: &[Exposure]) -> Vec<String> {
        let changes = changes(before, after, &hosts());
        let line = |c: AddressChange| format!("{}/{} {:?} {:?} {}", c.kind, c.name, c.before, c.after, c.hosts.len());
        changes.into_iter().map(line).collect()
    }

    #[test]
    fn only_what_had_an_address_can_lose_it() {
        let before = [exposure("Service", "coder", &["1.1.1.1", "2.2.2.2"]), exposure("Ingress", "new", &[])];
        let same = [exposure("Service", "coder", &["2.2.2.2", "1.1.1.1"]), exposure("Ingress", "new", &["3.3.3.3"])];
        assert_eq!(changed(&before, &same), [] as [String; 0]);
        let other = [exposure("Service", "coder", &["4.4.4.4"])];
        assert_eq!(changed(&before, &other), [r#"Service/coder ["1.1.1.1", "2.2.2.2"] ["4.4.4.4"] 2"#]);
        assert_eq!(changed(&before, &[]), [r#"Service/coder ["1.1.1.1", "2.2.2.2"] [] 2"#]);
    }

    #[test]
    fn another_node_port_or_cluster_ip_is_told_and_needs_no_dns() {
        let with = |addresses: &[&str], assigned: &[&str]| {
            let assigned = assigned.iter().map(ToString::to_string).collect();
            [Exposure { assigned, ..exposure("Service", "coder", addresses) }]
        };
        let before = with(&["1.1.1.1"], &["cluster IP 10.0.0.7", "node port 30001"]);
        assert_eq!(changed(&before, &before.clone()), [] as [String; 0]);
        assert_eq!(
            changed(&before, &with(&["1.1.1.1"], &["cluster IP 10.0.0.7", "node port 30002"])),
            [r#"Service/coder ["node port 30001"] ["node port 30002"] 0"#]
        );
        assert_eq!(
            changed(&before, &with(&["2.2.2.2"], &["cluster IP 10.0.0.8"])),
            [
                r#"Service/coder ["1.1.1.1", "cluster IP 10.0.0.7", "node port 30001"] ["2.2.2.2", "cluster IP 10.0.0.8"] 2"#
            ]
        );
        let inner = with(&[], &["cluster IP 10.0.0.7"]);
        assert_eq!(changed(&inner, &[]), [] as [String; 0], "the chart has it no more");
    }

    #[test]
    fn an_ingress_serves_its_own_hosts() {
        let before = [exposure("Ingress", "web", &["1.1.1.1"])];
        assert_eq!(
            changed(&before, &[exposure("Ingress", "web", &["2.2.2.2"])]),
            [r#"Ingress/web ["1.1.1.1"] ["2.2.2.2"] 1"#]
        );
    }

    #[test]
    fn a_renamed_service_is_recognised_by_its_part() {
        let before = [exposure("Service", "ingress-nginx", &["1.1.1.1"])];
        let after = |addresses| [exposure("Service", "coderd", addresses), exposure("Ingress", "web", &[])];
        assert_eq!(changed(&before, &after(&["2.2.2.2"])), [r#"Service/coderd ["1.1.1.1"] ["2.2.2.2"] 2"#]);
        assert_eq!(changed(&before, &after(&["1.1.1.1"])), [] as [String; 0], "the address was pinned");
        assert_eq!(awaited(&before, &after(&[])).iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["coderd"]);
        let two = [exposure("Service", "a", &["2.2.2.2"]), exposure("Service", "b", &["3.3.3.3"])];
        assert_eq!(changed(&before, &two), [r#"Service/ingress-nginx ["1.1.1.1"] [] 2"#], "nobody knows which");
    }

    #[rstest]
    #[case("https://coder.example.com:8443/path?x#y", Some("coder.example.com"))]
    #[case("*.Coder.example.com", Some("*.coder.example.com"))]
    #[case("http://user@coder.internal", Some("coder.internal"))]
    #[case("http://10.0.0.1:3000", None)]
    #[case("http://[::1]:3000", None)]
    #[case("http://localhost:3000", None)]
    #[case("", None)]
    fn hosts_are_names(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(host(text).as_deref(), expected);
    }

    #[test]
    fn hosts_come_from_values_and_ingresses() {
        let manifest = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\n\
                        spec: {rules: [{host: c.example.com}, {}], tls: [{hosts: [d.example.com]}]}\n";
        let manifest = Documents::parse(manifest, "ns").unwrap();
        let values = json!({
            "coder": {"env": [
                {"name": "CODER_ACCESS_URL", "value": "https://a.example.com"},
                {"name": "CODER_PG_CONNECTION_URL", "value": "postgres://secret.example.com"},
                {"name": "CODER_WILDCARD_ACCESS_URL", "valueFrom": {}},
            ]},
            "devurls": {"host": "*.b.example.com"},
        });
        let hosts = Hosts::new(values.as_object().unwrap(), &manifest);
        assert_eq!(
            hosts.of("Service", "coder"),
            ["*.b.example.com", "a.example.com", "c.example.com", "d.example.com"]
        );
        assert_eq!(hosts.of("Ingress", "web"), ["c.example.com", "d.example.com"]);
    }
}
