//! The side that asks.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use burn::{
    backend::{
        DispatchDevice, Remote,
        ir::{CustomOpIr, TensorIr},
    },
    remote::{ConnectError, CustomOpClient, EndpointId, IrohHost, IrohRelays, RemoteHost},
    tensor::{DType, Shape, Tensor},
};

use super::{ABOUT, ANSWER, About, token, unavailable};
use crate::compute::{Device, DeviceClass, DeviceError, DeviceInfo, guarded, read};

/// Sessions that were begun: a server that is asked again after its session broke must be asked for a new one.
static SESSIONS: AtomicU32 = AtomicU32::new(0);
/// The devices that are open.
static OPENED: Mutex<Vec<Device>> = Mutex::new(Vec::new());

/// Whether tensors of this device live on another machine.
pub fn is_remote(device: &burn::tensor::Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Remote(_))
}

/// Whether nobody on the way to `address` can read along: it names a key, or is this machine itself, as the near end of a tunnel is.
pub fn is_private(address: &str) -> bool {
    if address.contains('@') {
        return true;
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The device that is served at `address`: `HOST:PORT`, or `KEY@HOST:PORT` over the encrypted transport, where `KEY` is the server's public
/// one. An open device is given as it is while its session lasts.
///
/// # Errors
/// [`DeviceError::Remote`] says why there is none.
pub fn open(address: &str) -> Result<Device, DeviceError> {
    let (key, place) = match address.split_once('@') {
        Some((key, place)) => (Some(key), place),
        None => (None, address),
    };
    let key: Option<EndpointId> = key.map(str::parse).transpose().map_err(|error| {
        unavailable(
            address,
            format!("expected the key that `martlet serve --identity` shows before the @: {error}"),
        )
    })?;
    let places: Vec<SocketAddr> = place
        .to_socket_addrs()
        .map_err(|error| {
            unavailable(
                address,
                format!("expected HOST:PORT of a machine that runs `martlet serve`: {error}"),
            )
        })?
        .collect();
    if places.is_empty() {
        return Err(unavailable(address, "this name leads to no machine"));
    }
    let selector = format!("remote:{address}");
    let find = || {
        let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().find(|device| device.info.selector == selector).cloned()
    };
    // Asked without the lock: an answer may take as long as the work that is queued.
    if let Some(device) = find().filter(|device| device.sync().is_ok()) {
        return Ok(device);
    }
    let host = match key {
        None => RemoteHost::websocket(&format!("ws://{address}")),
        // Direct connections only: nobody else is asked where the server is.
        Some(key) => RemoteHost::iroh(places.into_iter().fold(
            IrohHost::new(key).with_relays(IrohRelays::Disabled),
            IrohHost::with_address,
        )),
    };
    let device = connect(address, host, selector)?;
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.retain(|open| open.info.selector != device.info.selector);
    opened.push(device.clone());
    Ok(device)
}

fn connect(address: &str, host: RemoteHost, selector: String) -> Result<Device, DeviceError> {
    let token = token().map_err(|reason| unavailable(address, reason))?;
    let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
    let host = host.with_credential(format!("{token}\n{number}"));
    let connected = guarded(|| Ok(burn::tensor::Device::remote_options(&host).init()));
    let tensors = connected
        .map_err(|error| unavailable(address, error.reason()))?
        .map_err(|error| unavailable(address, in_words(&error)))?;
    let about = guarded(|| about(&tensors)).map_err(|error| {
        unavailable(
            address,
            format!(
                "what answers there is no `martlet serve` of this release: {}",
                error.reason()
            ),
        )
    })?;
    if about.version != env!("CARGO_PKG_VERSION") {
        let reason = format!(
            "it runs Martlet {}, this is {}: use the same release at both ends",
            about.version,
            env!("CARGO_PKG_VERSION")
        );
        return Err(unavailable(address, reason));
    }
    let DeviceInfo {
        name,
        api,
        driver,
        memory_bytes,
        ..
    } = about.device;
    let info = DeviceInfo {
        selector,
        name: format!("{name} at {address}"),
        api: format!("{api}, remote"),
        kind: DeviceClass::Remote,
        driver,
        memory_bytes,
    };
    Ok(Device {
        tensors,
        info: Arc::new(info),
    })
}

fn in_words(error: &ConnectError) -> String {
    match error {
        ConnectError::Unreachable { reason } => {
            format!("nothing answers there ({reason}); is `martlet serve` running, and the tunnel open?")
        }
        ConnectError::Unauthorized => "it refuses this token: both ends need a file with the same one".to_string(),
        ConnectError::IncompatibleProtocol {
            client_version,
            server_version,
        } => format!(
            "it speaks version {server_version} of the protocol, this program {client_version}: use the same release of Martlet at both ends"
        ),
        ConnectError::Handshake { reason } => {
            format!("it does not answer as `martlet serve` of this release does ({reason})")
        }
        other => other.to_string(),
    }
}

/// Sends an operation with a form of its own to the device of `client`, and gives its results.
pub(super) fn register(
    client: &CustomOpClient,
    operation: &'static str,
    inputs: &[TensorIr],
    outputs: &[Shape],
    scalars: Vec<burn::backend::ir::ScalarIr>,
) -> Vec<burn::backend::tensor::FloatTensor<Remote>> {
    let outputs: Vec<TensorIr> = outputs
        .iter()
        .map(|shape| TensorIr::uninit(client.create_empty_handle(), shape.clone(), DType::F32))
        .collect();
    client.register(CustomOpIr::with_scalars(operation, inputs, &outputs, scalars))
}

fn about(tensors: &burn::tensor::Device) -> Result<About, DeviceError> {
    let DispatchDevice::Remote(device) = tensors.as_dispatch() else {
        return Err(DeviceError::Failed("it is not on another machine".to_string()));
    };
    let client = CustomOpClient::new(device);
    let mut told = register(&client, ABOUT, &[], &[Shape::new([ANSWER])], Vec::new());
    let told = told
        .pop()
        .ok_or_else(|| DeviceError::Failed("it says nothing of itself".to_string()))?;
    let values = read(Tensor::<1>::from_primitive::<Remote>(told))?;
    About::read(&values).ok_or_else(|| DeviceError::Failed("what it says of itself cannot be read".to_string()))
}
