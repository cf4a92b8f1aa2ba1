//! The client of the API server, with what it does to each request and answer.

use http::Response;
use http_body_util::BodyExt;
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
};
use tower::util::MapResponseLayer;

use super::metrics::{CountRequests, OwnMetrics};
use crate::core::text::nesting::Shallow;

/// Makes the client. Its requests are counted.
pub fn client(mut config: Config, metrics: &OwnMetrics) -> kube::Result<Client> {
    // A request that sleeps before its retry would hold up its object; the next pass is the retry.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?.with_layer(&MapResponseLayer::new(shallow));
    Ok(builder.with_layer(&CountRequests(metrics.clone())).build())
}

/// An answer without what is nested too deep to be read: one such object must not keep all others from being seen.
fn shallow(answer: Response<Box<DynBody>>) -> Response<Box<DynBody>> {
    let mut shallow = Shallow::default();
    answer.map(|body| -> Box<DynBody> {
        Box::new(body.map_frame(move |frame| frame.map_data(|piece| shallow.pass(piece))))
    })
}
