//! The side that answers.

use std::{net::TcpListener, path::PathBuf};

use burn::{
    backend::{Cube, Flex, ir::BackendIr, ops::FloatTensorOps},
    server::{
        AuthorizationRequest, Credential, IrohIdentity, IrohRelays, IrohTransport, PeerAuthorizer, RemoteServer,
        TokenAuthorizer, Transport, WebSocketTransport,
    },
    tensor::TensorData,
};

use super::{ABOUT, ANSWER, About, network::with_networks};
use crate::compute::{Device, execute::Record};

/// How clients come.
#[derive(Debug)]
pub enum Way {
    /// In plain text, to this listener.
    Plain(TcpListener),
    /// Encrypted, to this UDP port of every interface.
    Encrypted {
        /// The file of the server's key, which is made where it is not there.
        identity: PathBuf,
        /// The port.
        port: u16,
    },
}

impl Way {
    /// The transport, and what clients call it.
    fn transport(self) -> Result<(Transport, String), String> {
        match self {
            Self::Plain(listener) => {
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                Ok((WebSocketTransport::from_listener(listener).into(), address.to_string()))
            }
            Self::Encrypted { identity, port } => {
                let key = IrohIdentity::load_or_create(&identity)
                    .map_err(|error| format!("the key's file {}: {error}", identity.display()))?;
                let transport = IrohTransport::new(key)
                    .with_relays(IrohRelays::Disabled)
                    .with_port(port);
                let address = format!("{}@HOST:{port}", transport.id());
                Ok((transport.into(), address))
            }
        }
    }
}

/// A server at work; it ends with this.
pub struct Served {
    runtime: Option<tokio::runtime::Runtime>,
    work: tokio::task::JoinHandle<Result<(), String>>,
    /// What stands behind `remote:` where it is used: for an encrypted link the key, and the port on whatever the machine is called.
    pub address: String,
}

impl Served {
    /// Why it ended by itself, where it did.
    pub fn ended(&mut self) -> Option<String> {
        let runtime = self.runtime.as_ref().filter(|_| self.work.is_finished())?;
        Some(match runtime.block_on(&mut self.work) {
            Ok(Ok(())) => "it stopped listening".to_string(),
            Ok(Err(error)) => error,
            Err(error) => error.to_string(),
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.work.abort();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Who may use the device.
struct Door<T> {
    token: TokenAuthorizer,
    tell: T,
}

impl<T: Fn(String) + Send + Sync + 'static> PeerAuthorizer for Door<T> {
    fn authorize(&self, request: AuthorizationRequest<'_>) -> Result<(), String> {
        let shown = request.credential.as_bytes();
        let token = shown.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let client = request.client;
        let answer = self.token.authorize(AuthorizationRequest {
            client,
            device_index: request.device_index,
            credential: &Credential::from(token),
        });
        (self.tell)(match &answer {
            Ok(()) => format!("{client} opened a session"),
            Err(reason) => format!("refused: {reason}"),
        });
        answer
    }
}

/// Lets whoever shows `token` compute on `device`; `tell` hears who came.
///
/// # Errors
/// Where the device cannot be served or nobody can be listened to.
pub fn serve(
    device: &Device,
    way: Way,
    token: &str,
    tell: impl Fn(String) + Send + Sync + 'static,
) -> Result<Served, String> {
    serve_as(About::of(device.info()), device, way, token, tell)
}

/// [`serve`] by who says so of itself.
pub(super) fn serve_as(
    about: About,
    device: &Device,
    way: Way,
    token: &str,
    tell: impl Fn(String) + Send + Sync + 'static,
) -> Result<Served, String> {
    let (transport, address) = way.transport()?;
    let token = TokenAuthorizer::new(token).map_err(|error| error.to_string())?;
    let server = RemoteServer::new([device.tensors().clone()]).with_authorizer(Door { token, tell });
    let server = if device.is_cpu() {
        with_operations::<Flex>(server, about)
    } else {
        with_operations::<Cube>(server, about)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build()
        .map_err(|error| error.to_string())?;
    let serving = server.serve_async(transport);
    let work = runtime.spawn(async move { serving.await.map_err(|error| error.to_string()) });
    Ok(Served {
        runtime: Some(runtime),
        work,
        address,
    })
}

fn with_operations<B: Record + BackendIr>(server: RemoteServer, about: About) -> RemoteServer {
    with_networks::<B>(server).with_custom_op::<B, _>(ABOUT, move |handles, operation, device| {
        for output in &operation.outputs {
            let told = TensorData::new(about.values(), [ANSWER]);
            let told = <B as FloatTensorOps<B>>::float_from_data(told, device);
            handles.register_float_tensor::<B>(&output.id, told);
        }
    })
}
