//! Choosing and opening devices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use martlet::compute::{self, DeviceClass, DeviceError};

#[test]
fn the_processor_is_always_there_and_last() {
    let devices = compute::devices();
    let last = devices.last().unwrap();
    assert_eq!(
        (last.selector.as_str(), last.kind, last.api.as_str()),
        ("cpu", DeviceClass::Cpu, "CPU")
    );
    assert!(last.name.contains("thread"), "{}", last.name);
    assert_eq!(
        devices.iter().filter(|device| device.kind == DeviceClass::Cpu).count(),
        1
    );
}

#[test]
fn selectors_are_unique_and_open_what_they_name() {
    let devices = compute::devices();
    for (index, device) in devices.iter().enumerate() {
        assert!(
            !devices[..index].iter().any(|other| other.selector == device.selector),
            "{}",
            device.selector
        );
        // GL drivers differ too much in what they can compute for opening to be promised.
        if device.api != "GL" {
            let open = compute::open(&device.selector).unwrap();
            assert_eq!(open.info(), device);
            assert_eq!(open.is_cpu(), device.selector == "cpu");
        }
    }
}

#[test]
fn a_software_rasteriser_opens_when_it_is_named() {
    let listed = compute::devices();
    let Some(software) = listed
        .iter()
        .find(|device| device.kind == DeviceClass::Software && device.api == "Vulkan")
    else {
        eprintln!("SKIPPED: no software rasteriser here");
        return;
    };
    if software.name.contains("llvmpipe") {
        for choice in ["llvmpipe", "lavapipe", "LLVMpipe (llvm"] {
            assert_eq!(compute::open(choice).unwrap().info(), software);
        }
    }
}

#[test]
fn auto_is_never_a_software_rasteriser() {
    let device = compute::open("auto").unwrap();
    assert!(
        device.is_cpu() || device.info().kind.is_gpu(),
        "auto chose {:?}",
        device.info()
    );
    let any_gpu = compute::devices().iter().any(|device| device.kind.is_gpu());
    assert_eq!(device.is_cpu(), !any_gpu);
}

#[test]
fn an_unknown_choice_is_an_error_that_lists_what_there_is() {
    for choice in [
        "no such device",
        "gpu:99",
        "vulkan:99",
        "vulkan:",
        "vulkan:x",
        "metal:99",
        "",
        "x",
        "gpu:",
    ] {
        let error = compute::open(choice).unwrap_err();
        assert!(matches!(error, DeviceError::NotFound { .. }), "{choice:?}: {error:?}");
        let said = error.to_string();
        assert!(
            said.contains("cpu (") && said.contains("auto, cpu, gpu:N"),
            "{choice:?}: {said}"
        );
    }
}

#[test]
fn a_device_opens_once_and_works_from_every_thread() {
    for info in compute::devices().into_iter().filter(|device| device.api != "GL") {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let selector = info.selector.clone();
                std::thread::spawn(move || {
                    let device = compute::open(&selector).unwrap();
                    let tensor = burn::tensor::Tensor::<1>::full([5], number as f32, device.tensors());
                    (device.tensors().clone(), compute::read(tensor).unwrap())
                })
            })
            .collect();
        let opened: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (number, (tensors, values)) in opened.iter().enumerate() {
            assert_eq!(*tensors, opened[0].0, "{} was opened twice", info.selector);
            assert_eq!(*values, [number as f32; 5]);
        }
    }
}

#[test]
fn devices_serialise_for_the_terminal() {
    let json = serde_json::to_value(compute::devices()).unwrap();
    let cpu = json.as_array().unwrap().last().unwrap();
    assert_eq!(cpu["kind"], "cpu");
    for key in ["selector", "name", "api", "driver", "memory_bytes"] {
        assert!(cpu.get(key).is_some(), "{key} is missing");
    }
}

/// What the feature `remote` does is tested in `tests/remote.rs`.
#[cfg(not(feature = "remote"))]
#[test]
fn another_machines_device_is_refused_in_words_without_the_feature() {
    let error = martlet::compute::open("remote:127.0.0.1:7447").unwrap_err().to_string();
    assert!(error.contains("--features remote"), "{error}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_martlet"))
        .arg("serve")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--features remote"), "{said}");
}
