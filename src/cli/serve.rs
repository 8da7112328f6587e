//! `martlet serve`: this machine's device for a person at another one.

use std::path::PathBuf;

use anyhow::Result;

use super::DeviceOption;

/// Arguments of `martlet serve`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  openssl rand -hex 32 > token; chmod 600 token\n  martlet serve --listen 127.0.0.1:7447 --token-file token --device gpu:0\n\nOn the other machine, with a copy of the token's file:\n  ssh -N -L 7447:127.0.0.1:7447 gpu-machine &\n  martlet train --device remote:127.0.0.1:7447 --token-file token --recipe glyphs-mart"
)]
pub struct ServeArguments {
    /// Where to listen: this machine itself alone (127.0.0.1), or one of its addresses.
    #[arg(long, default_value = "127.0.0.1:7447", value_name = "ADDRESS:PORT")]
    listen: String,
    /// Encrypt the link: this file holds the server's key, and is made where it is not there. Then the port of --listen counts, by UDP
    /// and at every address of the machine.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceOption,
}

pub(super) fn run(arguments: ServeArguments) -> Result<()> {
    #[cfg(feature = "remote")]
    return at_work::run(arguments);
    #[cfg(not(feature = "remote"))]
    {
        let ServeArguments {
            listen: _,
            identity: _,
            device: _,
        } = arguments;
        Err(super::WrongUse(crate::compute::WITHOUT_REMOTE.to_string()).into())
    }
}

#[cfg(feature = "remote")]
mod at_work {
    use std::{
        net::{SocketAddr, TcpListener, ToSocketAddrs},
        time::Duration,
    };

    use anyhow::{Context, Result};

    use super::{
        super::{WrongUse, open_device, stop_on_interrupt, terminal},
        ServeArguments,
    };
    use crate::compute::remote::{self, Way};

    /// How often a stop is looked for.
    const GLANCE: Duration = Duration::from_millis(100);

    pub fn run(arguments: ServeArguments) -> Result<()> {
        let token = remote::token().map_err(WrongUse)?;
        let addresses: Vec<SocketAddr> = arguments
            .listen
            .to_socket_addrs()
            .map_err(|error| {
                WrongUse(format!(
                    "--listen {}: expected ADDRESS:PORT, such as 127.0.0.1:7447: {error}",
                    arguments.listen
                ))
            })?
            .collect();
        let control = stop_on_interrupt();
        let (device, _) = open_device(&arguments.device.device, false)?;
        anyhow::ensure!(
            !remote::is_remote(device.tensors()),
            "a device of another machine cannot be served again: serve it where it is"
        );
        let way = match arguments.identity {
            Some(identity) => match addresses.first().map_or(0, SocketAddr::port) {
                0 => {
                    let wrong = "--identity: expected a port of its own in --listen, such as 0.0.0.0:7447, got 0";
                    return Err(WrongUse(wrong.to_string()).into());
                }
                port => Way::Encrypted { identity, port },
            },
            None => Way::Plain(
                TcpListener::bind(addresses.as_slice())
                    .with_context(|| format!("cannot listen at {}; another port may be free", arguments.listen))?,
            ),
        };
        let mut served = remote::serve(&device, way, &token, terminal::note).map_err(anyhow::Error::msg)?;
        if !remote::is_private(&served.address) {
            terminal::complain(format!(
                "warning: the link {}. Where that is not your own network, use --identity, or listen at 127.0.0.1 and let `ssh -L` carry it",
                remote::READABLE
            ));
        }
        // A port that is taken is told a moment later where the link is encrypted.
        std::thread::sleep(GLANCE);
        if let Some(reason) = served.ended() {
            anyhow::bail!("cannot listen at {}: {reason}", arguments.listen);
        }
        terminal::say(format!(
            "serving {} at {}: --device remote:{} on the other machine",
            device.info().name,
            served.address,
            served.address
        ));
        while !control.is_stopped() {
            if let Some(reason) = served.ended() {
                anyhow::bail!("the server ended: {reason}");
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }
}
