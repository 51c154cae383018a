//! One server or a cluster.

use std::fmt;

use futures::future::try_join_all;
use kbqueue_core::StoreError;
use kbqueue_core::store::Result;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Client, Cmd, FromRedisValue, InfoDict, Pipeline, RedisResult, Value};

use crate::error::{failed, unavailable};
use crate::options::RedisOptions;
use crate::schema::MOST_ARGUMENTS;

/// A connection that all calls share, and that comes back by itself. Cloning is cheap.
#[derive(Clone)]
pub(crate) enum Connection {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Connection {
    /// Connects to the first server of the list that answers, or to the cluster that it belongs to.
    pub(crate) async fn open(options: &RedisOptions) -> Result<Self> {
        let mut last = None;
        for url in &options.urls {
            match Self::server(url, options).await {
                Ok(Self::Server(mut server)) => {
                    let info: InfoDict = redis::cmd("INFO")
                        .arg("server")
                        .query_async(&mut server)
                        .await
                        .map_err(failed)?;
                    let mode: Option<String> = info.get("redis_mode");
                    return match mode.as_deref() {
                        Some("cluster") => Self::cluster(options).await,
                        _ => Ok(Self::Server(server)),
                    };
                }
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Unusable("no Redis server was named".to_owned())))
    }

    async fn server(url: &str, options: &RedisOptions) -> Result<Self> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(2)
            .set_connection_timeout(Some(options.patience))
            .set_response_timeout(Some(options.patience));
        let client = Client::open(url).map_err(|error| unusable_url(&error))?;
        ConnectionManager::new_with_config(client, config)
            .await
            .map(Self::Server)
            .map_err(failed)
    }

    async fn cluster(options: &RedisOptions) -> Result<Self> {
        let client = ClusterClient::builder(options.urls.iter().map(String::as_str))
            .connection_timeout(options.patience)
            .response_timeout(options.patience)
            .build()
            .map_err(|error| unusable_url(&error))?;
        let connection = client.get_async_connection().await.map_err(failed)?;
        Ok(Self::Cluster(connection))
    }

    /// Sends one command to where its key is.
    ///
    /// Once more where the connection broke: it may have come through, and only its answer been lost. To
    /// repeat a command of this store does no harm; of what is removed, it may answer that nothing was there.
    pub(crate) async fn call<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(server) => {
                let answer = command.query_async(&mut server.clone()).await;
                match answer {
                    Err(error) if error.is_connection_dropped() => {
                        command.query_async(&mut server.clone()).await
                    }
                    answer => answer,
                }
            }
            // It repeats by itself.
            Self::Cluster(cluster) => command.query_async(&mut cluster.clone()).await,
        }
    }

    /// Sends commands that need not be together, each to where its key is. Answers in their order.
    pub(crate) async fn call_all<T: FromRedisValue>(&self, commands: &[Cmd]) -> Result<Vec<T>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Server(server) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                match pipeline.query_async(&mut server.clone()).await {
                    Err(error) if error.is_connection_dropped() => {
                        pipeline.query_async(&mut server.clone()).await
                    }
                    answer => answer,
                }
            }
            Self::Cluster(_) => {
                try_join_all(commands.iter().map(|command| self.call(command))).await
            }
        }
        .map_err(failed)
    }

    /// Sends `along`, and sets these keys unless one of them is there; `false` where one is, and then others
    /// may be set.
    pub(crate) async fn set_new(&self, entries: &[(String, &str)], along: Cmd) -> Result<bool> {
        let mut commands = vec![along];
        match self {
            Self::Server(_) => commands.extend(entries.chunks(MOST_ARGUMENTS).map(|some| {
                let mut set = redis::cmd("MSETNX");
                for (key, value) in some {
                    set.arg(key).arg(*value);
                }
                set
            })),
            Self::Cluster(_) => commands.extend(entries.iter().map(|(key, value)| {
                let mut set = redis::cmd("SET");
                set.arg(key).arg(*value).arg("NX");
                set
            })),
        }
        let answers: Vec<Value> = self.call_all(&commands).await?;
        let mut set = answers.iter().skip(1);
        Ok(set.all(|answer| !matches!(answer, Value::Nil | Value::Int(0))))
    }

    /// What each server says of itself, replicas apart.
    pub(crate) async fn info(&self) -> Result<Vec<InfoDict>> {
        let info = redis::cmd("INFO");
        match self {
            Self::Server(_) => Ok(vec![self.call(&info).await.map_err(failed)?]),
            Self::Cluster(cluster) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answer = cluster.clone().route_command(info, all).await;
                let Value::Map(nodes) = answer.map_err(failed)? else {
                    return Err(unavailable("INFO was not answered by each node"));
                };
                nodes
                    .into_iter()
                    .map(|(_, text)| {
                        redis::from_redis_value(text).map_err(|error| failed(error.into()))
                    })
                    .collect()
            }
        }
    }
}

fn unusable_url(error: &redis::RedisError) -> StoreError {
    // The URL itself is left out: it may hold a password.
    StoreError::Unusable(format!(
        "a Redis store is named redis://HOST:PORT, several servers separated by commas ({error})"
    ))
}
