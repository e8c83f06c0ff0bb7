//! Clients of DynamoDB and of its streams, with one manner of time-outs and retries.
//!
//! The SDK retries nothing by itself: who scans wants to see each throttling, to slow down by it, and who follows a stream
//! has to know of each failure what it means. [`retry`] is for the calls in between.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use backon::{ExponentialBuilder, Retryable as _};

use crate::source::{Error, Fault};

/// A server that takes no connection for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for one answer; a page of a scan is a megabyte.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of [`retry`] after the first: with the waits between them, about ten seconds.
const RETRIES_MAX: usize = 6;

/// Where DynamoDB is and how to get in; what is left out comes from where AWS's own command line takes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// Another endpoint than the region's, such as that of a local server.
    pub endpoint_url: Option<String>,
    /// Region; `None` takes the configured one.
    pub region: Option<String>,
    /// Profile in the shared configuration files; `None` takes the configured one.
    pub profile: Option<String>,
    /// Where credentials come from.
    pub credentials: Access,
}

/// Where credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// The usual chain: variables, profile, single sign-on, container, instance.
    #[default]
    Chain,
    /// Made up, for a local server, which takes any.
    MadeUp,
}

impl Address {
    /// A local server: any credentials, any region.
    pub fn local(endpoint_url: impl Into<String>) -> Self {
        Self {
            endpoint_url: Some(endpoint_url.into()),
            region: Some("us-east-1".into()),
            profile: None,
            credentials: Access::MadeUp,
        }
    }
}

/// Clients of one account and region.
#[derive(Debug, Clone)]
pub struct Server {
    /// Tables.
    tables: aws_sdk_dynamodb::Client,
    /// Their streams.
    streams: aws_sdk_dynamodbstreams::Client,
}

impl Server {
    /// Makes the clients. Nothing is asked of the service yet.
    ///
    /// # Errors
    /// [`Error::Address`] for an endpoint that is no URL.
    pub async fn new(address: &Address) -> Result<Self, Error> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(url) = &address.endpoint_url {
            if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
                return Err(Error::Address { reason: "the endpoint does not begin with http:// or https://".into() });
            }
            loader = loader.endpoint_url(url);
        }
        if let Some(region) = &address.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &address.profile {
            loader = loader.profile_name(profile);
        }
        if address.credentials == Access::MadeUp {
            let made_up = Credentials::new("local", "local", None, None, "made up");
            loader = loader.credentials_provider(SharedCredentialsProvider::new(made_up));
        }
        let config = loader.load().await;
        Ok(Self {
            tables: aws_sdk_dynamodb::Client::new(&config),
            streams: aws_sdk_dynamodbstreams::Client::new(&config),
        })
    }

    /// The tables' client, for those who make or write tables.
    pub fn tables(&self) -> &aws_sdk_dynamodb::Client {
        &self.tables
    }

    /// The streams' client.
    pub fn streams(&self) -> &aws_sdk_dynamodbstreams::Client {
        &self.streams
    }
}

/// Tries again after what may pass by itself, a few times with growing waits.
///
/// # Errors
/// The last one.
pub(super) async fn retry<T, F>(attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(4))
        .with_max_times(RETRIES_MAX)
        .with_jitter();
    attempt.retry(waits).when(|error: &Error| error.fault() == Fault::Transient).await
}
