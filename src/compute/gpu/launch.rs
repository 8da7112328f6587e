//! Hand-written WGSL in burn's own stream.
//!
//! A kernel's text goes to cubecl as it stands, so that its launches queue up with those of burn's operations: nothing waits,
//! nothing is flushed, and burn's tensors are what it works on. Texts are not checked for bounds by the driver; every kernel
//! looks at its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cubecl::{
    CubeKernel, PrecompiledSource,
    client::Client,
    ir::{UIntKind, metadata::Info},
    logging::{LaunchObservation, LaunchObserver},
    prelude::*,
    server::{Handle, KernelArguments, MetadataBindingInfo},
};

/// A shader of `shaders/`.
#[derive(Debug)]
pub struct Shader {
    /// Its file's name.
    pub name: &'static str,
    /// Its text, behind that which it has in common with others.
    pub text: &'static str,
}

/// Names a shader by its file, and the files that stand before it.
macro_rules! shader {
    ($name:ident, $file:literal $(, $before:literal)*) => {
        static $name: $crate::compute::gpu::launch::Shader = $crate::compute::gpu::launch::Shader {
            name: $file,
            text: concat!(
                $(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $before, ".wgsl")),)*
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file, ".wgsl")),
            ),
        };
    };
}
pub(in crate::compute) use shader;

/// A shader with the constants that stand before it.
struct Written {
    shader: &'static Shader,
    constants: String,
}

impl KernelMetadata for Written {
    fn name(&self) -> &'static str {
        self.shader.name
    }

    fn id(&self) -> KernelId {
        // A name has one text, and this is asked for at every launch.
        let mut id = KernelId::new::<Self>().info((self.shader.name, self.constants.clone()));
        id.mode = ExecutionMode::Unchecked;
        id
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Written {
    /// Only keys caches: the text stands for it.
    fn define(&self) -> KernelDefinition {
        let settings = KernelSettings::new(CubeDim::new_single().0, ExecutionMode::Unchecked, AddressType::U32);
        KernelDefinition {
            body: Scope::root(settings.clone()),
            settings,
            info: Info::default(),
        }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: format!("{}{}", self.constants, self.shader.text),
            entrypoint_name: "main".to_string(),
            lang: "wgsl",
        })
    }
}

/// One dispatch, short of its buffers.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The shader.
    pub shader: &'static Shader,
    /// Constants before its text.
    pub constants: String,
    /// Workgroups in each direction.
    pub groups: [u32; 3],
    /// Its uniform, word by word.
    pub words: &'a [u32],
}

/// Workgroups of a dispatch in one direction at most.
pub const MOST_GROUPS: u32 = 65_535;

/// `count` workgroups as rows of a plane.
pub fn in_rows(count: usize) -> [u32; 3] {
    let count = count as u32;
    let columns = count.clamp(1, MOST_GROUPS);
    [columns, count.div_ceil(columns), 1]
}

impl Launch<'_> {
    /// Queues the dispatch over these buffers.
    pub fn over(self, client: &Client, buffers: &[&Handle]) {
        let [x, y, z] = self.groups;
        if x == 0 || y == 0 || z == 0 {
            return;
        }
        let kernel = Written {
            shader: self.shader,
            constants: self.constants,
        };
        // A uniform is padded to 16 bytes, and cubecl counts its words in pairs.
        let mut words = self.words.to_vec();
        words.resize(words.len().next_multiple_of(4), 0);
        let (pairs, _) = words.as_chunks::<2>();
        let data = pairs
            .iter()
            .map(|[low, high]| u64::from(*low) | u64::from(*high) << 32)
            .collect();
        let arguments = buffers
            .iter()
            .fold(KernelArguments::new(), |arguments, buffer| {
                arguments.with_buffer((*buffer).clone().binding())
            })
            .with_info(MetadataBindingInfo::custom(data));
        client.launch(Box::new(kernel), CubeCount::Static(x, y, z), arguments);
    }
}

/// What `work` gives, and how often each kernel was launched on GPUs meanwhile, ours and burn's, by any thread.
pub fn counting<T>(work: impl FnOnce() -> T) -> (T, BTreeMap<String, usize>) {
    #[derive(Default)]
    struct Tally(Mutex<BTreeMap<String, usize>>);
    impl Tally {
        fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
            // Plain counts: a panic elsewhere cannot leave them half-written.
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
    impl LaunchObserver for Tally {
        fn launched(&self, name: &'static str) {
            *self.counts().entry(name.to_string()).or_default() += 1;
        }
    }
    let tally = Arc::new(Tally::default());
    let watching = LaunchObservation::new(tally.clone());
    let result = work();
    drop(watching);
    let counts = std::mem::take(&mut *tally.counts());
    (result, counts)
}
