//! The way to repositories and registries: the proxy and the authorities that the controller has told the runner of.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder, NoProxy, Proxy, Url};
use tokio::process::Command;

use crate::api::FailureClass;
use crate::core::allowed::Address;
use crate::core::outbound::{INSIDE, Outbound, variable};
use crate::core::report::Problem;
use crate::runner::error::Error;
use crate::runner::io;

/// Where Go looks for certificates beside those of the file of the system.
const SYSTEM: &str = "/etc/ssl/certs:/etc/pki/tls/certs";
/// Directory of the certificates below that of helm.
const DIRECTORY: &str = "authorities";

/// What the environment of this process says.
pub fn told() -> Outbound {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    Outbound {
        http: variable(variable::HTTP),
        https: variable(variable::HTTPS),
        none: variable(variable::NONE),
        secret: None,
        authorities: variable(variable::AUTHORITIES),
    }
}

/// The passwords of the proxies.
pub fn secrets(outbound: &Outbound) -> Vec<String> {
    let proxies = [&outbound.http, &outbound.https].into_iter().flatten();
    let passwords = proxies.filter_map(|proxy| Url::parse(proxy).ok()?.password().map(ToOwned::to_owned));
    passwords.collect()
}

/// Writes the certificates where a helm process can read them.
pub async fn write_authorities(outbound: &Outbound, home: &Path) -> Result<(), Error> {
    let Some(pem) = &outbound.authorities else { return Ok(()) };
    let directory = home.join(DIRECTORY);
    io::create_dir(&directory).await?;
    io::write_private(&directory.join("extra.crt"), pem.as_bytes()).await
}

/// Tells a helm process that asks a registry. Nobody has told this process of a proxy: helm takes what it inherits.
pub fn tell(outbound: &Outbound, home: &Path, command: &mut Command) {
    if outbound.http.is_some() || outbound.https.is_some() {
        for (name, value) in [("HTTP_PROXY", &outbound.http), ("HTTPS_PROXY", &outbound.https)] {
            command.env_remove(name.to_lowercase());
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_remove("no_proxy").env("NO_PROXY", exceptions(outbound));
    }
    if outbound.authorities.is_some() {
        command.env("SSL_CERT_DIR", format!("{SYSTEM}:{}", home.join(DIRECTORY).display()));
    }
}

/// The same for requests of this program.
pub fn client(outbound: &Outbound, mut builder: ClientBuilder) -> Result<ClientBuilder, Box<Problem>> {
    let unusable = |what: &str| {
        let message = format!("the {what} that the controller has given to this runner cannot be used");
        Problem::new(FailureClass::RepositoryUnreachable, message).field("spec.chart.repository").boxed()
    };
    if outbound.http.is_some() || outbound.https.is_some() {
        builder = builder.no_proxy();
        let except = NoProxy::from_string(&exceptions(outbound));
        let (http, https) = (outbound.http.as_deref().map(Proxy::http), outbound.https.as_deref().map(Proxy::https));
        for proxy in [http, https].into_iter().flatten() {
            builder = builder.proxy(proxy.map_err(|_| unusable("proxy"))?.no_proxy(except.clone()));
        }
    }
    Ok(builder)
}

/// Certificates that are trusted beside others.
pub fn authorities(outbound: &Outbound) -> Vec<Certificate> {
    let pem = outbound.authorities.as_deref().unwrap_or_default();
    Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default()
}

/// By which proxy an address may be asked, for messages: without user and password.
pub fn by_way_of(outbound: &Outbound, address: &Address) -> String {
    let proxy = if address.is_unencrypted() { &outbound.http } else { &outbound.https };
    let shown = proxy.as_ref().map(|proxy| {
        let host = Url::parse(proxy).ok().and_then(|url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
        });
        format!(" (through the proxy {})", host.as_deref().unwrap_or("of the controller's flags"))
    });
    shown.unwrap_or_default()
}

fn exceptions(outbound: &Outbound) -> String {
    outbound.none.as_ref().map_or_else(|| INSIDE.to_owned(), |none| format!("{none},{INSIDE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound() -> Outbound {
        Outbound {
            https: Some("http://user:hunter2word@proxy.example.com:3128".into()),
            none: Some("10.0.0.0/8".into()),
            ..Outbound::default()
        }
    }

    #[test]
    fn a_helm_process_that_asks_a_registry_is_told_and_the_password_is_in_no_message() {
        let mut command = Command::new("helm");
        tell(&outbound(), Path::new("/work/helm"), &mut command);
        let told: Vec<(String, Option<String>)> = command
            .as_std()
            .get_envs()
            .map(|(name, value)| (name.to_string_lossy().into(), value.map(|value| value.to_string_lossy().into())))
            .collect();
        assert!(told.contains(&("HTTPS_PROXY".into(), outbound().https)));
        assert!(told.contains(&("NO_PROXY".into(), Some("10.0.0.0/8,.svc,.cluster.local,localhost".into()))));
        assert!(told.contains(&("HTTP_PROXY".into(), None)) && told.contains(&("https_proxy".into(), None)));
        assert!(!told.iter().any(|(name, _)| name == "SSL_CERT_DIR"));
        let address = Address::parse("https://charts.example.com").unwrap();
        assert_eq!(by_way_of(&outbound(), &address), " (through the proxy http://proxy.example.com:3128)");
        assert_eq!(by_way_of(&outbound(), &Address::parse("http://charts.example.com").unwrap()), "");
        assert_eq!(secrets(&outbound()), ["hunter2word"]);
    }
}
