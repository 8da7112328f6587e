//! A whole network as one operation with gradients.
//!
//! To automatic differentiation a network is a single node with two parents, images and the flat vector of parameters; what
//! lies between is the device's own affair. The processor carries a [`Graph`] out by [`super::processor`], a GPU by
//! [`super::gpu`]; everything else by [`super::reference::network`], in composed operations.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use burn::{
    backend::{
        Autodiff, Backend, Cube, Dispatch, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        flex::FlexTensor,
        tensor::FloatTensor,
        wgpu::CubeTensor,
    },
    tensor::{DType, Tensor, TensorData},
};

use super::{
    adapters,
    gpu::{self, Products},
    graph::Graph,
    pooled::tensor,
    processor::{Cache, Pass, Tape},
    stages::{Operation, Program},
    together::Exchange,
};
use crate::shapes::{ImageShape, Images, Logits};

/// A convolution or a linear layer, which is one whose kernel is its whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Its stage in the network's program.
    pub stage: usize,
    /// What it reads.
    pub input: ImageShape,
    /// What it gives.
    pub output: ImageShape,
    /// Rows and columns of its kernel.
    pub kernel: [usize; 2],
    /// Its stride.
    pub stride: usize,
    /// Products and sums for one image and one direction.
    pub operations: usize,
}

/// A network with what devices have prepared for it.
#[derive(Debug)]
pub struct Network {
    graph: Graph,
    /// The program as it stands, and with BatchNorm folded and no dropout.
    programs: OnceLock<[Option<Program>; 2]>,
    packed: Cache,
    on_gpu: gpu::Cache,
}

impl Network {
    /// Nothing is prepared yet.
    pub fn new(graph: Graph) -> Self {
        Self {
            graph,
            programs: OnceLock::new(),
            packed: Cache::default(),
            on_gpu: gpu::Cache::default(),
        }
    }

    /// What it computes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn program(&self, folded: bool) -> Option<&Program> {
        let programs = self
            .programs
            .get_or_init(|| [false, true].map(|folded| Program::compile(&self.graph, folded)));
        programs[usize::from(folded)].as_ref()
    }

    /// The convolutions and linear layers of its program, as a profile's stages count.
    pub fn convolutions(&self) -> Vec<Convolution> {
        let stages = self.program(false).map_or(&[][..], |program| &program.stages);
        let found = stages
            .iter()
            .enumerate()
            .filter_map(|(stage, made)| match made.operation {
                Operation::Stem(layer) | Operation::Convolution(layer) => Some(Convolution {
                    stage,
                    input: layer.input,
                    output: layer.output,
                    kernel: layer.kernel,
                    stride: layer.stride,
                    operations: 2 * layer.weights().len() * layer.output.height * layer.output.width,
                }),
                _ => None,
            });
        found.collect()
    }

    /// Whether the processor has a program of its own for it.
    pub fn has_program(&self) -> bool {
        self.program(false).is_some() && self.program(true).is_some()
    }
}

/// How a network is to be carried out.
#[derive(Debug, Clone)]
pub struct Run {
    /// The network.
    pub network: Arc<Network>,
    /// BatchNorm takes its statistics from the images, and moves the running ones.
    pub batch_statistics: bool,
    /// The images are so many equal parts, each with statistics of its own, as if they had come one after the other.
    pub parts: usize,
    /// The factors of each dropout, `[N, values]`; empty where nothing is dropped.
    pub factors: Arc<Vec<Vec<f32>>>,
    /// The way to the processes whose images count for the statistics too. Then the network is carried out in composed operations.
    pub exchange: Option<Exchange>,
    /// How the factors of convolutions are multiplied, on a GPU.
    pub products: Products,
}

impl Run {
    /// Whether the folded program will do: neither weights nor statistics are looked at, and nothing is dropped.
    fn folds(&self, records_parameters: bool) -> bool {
        !self.batch_statistics && !records_parameters && self.factors.is_empty()
    }
}

/// Carries a network out: its logits, and the running statistics as they are afterwards.
///
/// # Shapes
/// `[N, C, H, W]`, `[parameters]`, `[statistics]` → `[N, K]`, `[statistics]`.
pub fn execute(images: Images, parameters: Tensor<1>, statistics: Tensor<1>, run: Run) -> (Logits, Tensor<1>) {
    let known = adapters::is_at_home(&images.device());
    #[cfg(feature = "remote")]
    let known = known || super::remote::is_remote(&images.device());
    let at_home = known
        && images.dtype() == DType::F32
        && parameters.dtype() == DType::F32
        && images.dims()[0] > 0
        && run.exchange.is_none()
        && run.network.has_program();
    if !at_home {
        return super::reference::network(images, parameters, statistics, &run);
    }
    let call = Call { run };
    let (logits, statistics) = <Dispatch as Execute>::execute(
        images.into_dispatch(),
        parameters.into_dispatch(),
        statistics.into_dispatch(),
        call,
    );
    let statistics: Tensor<1> = Tensor::from_dispatch(statistics);
    (Tensor::from_dispatch(logits), statistics.inner())
}

/// What travels through the dispatch beside tensors.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    run: Run,
}

#[cfg(feature = "remote")]
impl Call {
    /// How the network is to be carried out.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// The operation, as burn dispatches it.
#[backend_extension(Cube, Flex, Autodiff, Remote: cfg(feature = "remote"))]
pub(crate) trait Execute: Backend {
    fn execute(
        images: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        call: Call,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// A way to carry networks out that can go back.
pub(crate) trait Record: Backend {
    /// What the way back needs.
    type Tape: fmt::Debug + Send + 'static;

    /// Logits, statistics, and the tape where gradients of images or of parameters are wanted.
    fn forward(
        images: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        run: &Run,
        records: [bool; 2],
    ) -> (FloatTensor<Self>, FloatTensor<Self>, Option<Self::Tape>);

    /// Gradients of images and parameters, where they are wanted.
    fn backward(
        gradient: FloatTensor<Self>,
        run: &Run,
        tape: Self::Tape,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2];
}

impl Execute for Flex {
    fn execute(
        images: FlexTensor,
        parameters: FlexTensor,
        statistics: FlexTensor,
        call: Call,
    ) -> (FlexTensor, FlexTensor) {
        let (logits, statistics, _) = Self::forward(images, parameters, statistics, &call.run, [false; 2]);
        (logits, statistics)
    }
}

impl Execute for Cube {
    fn execute(
        images: CubeTensor,
        parameters: CubeTensor,
        statistics: CubeTensor,
        call: Call,
    ) -> (CubeTensor, CubeTensor) {
        let (logits, statistics, _) = Self::forward(images, parameters, statistics, &call.run, [false; 2]);
        (logits, statistics)
    }
}

impl Record for Cube {
    type Tape = gpu::Tape;

    fn forward(
        images: CubeTensor,
        parameters: CubeTensor,
        statistics: CubeTensor,
        run: &Run,
        records: [bool; 2],
    ) -> (CubeTensor, CubeTensor, Option<gpu::Tape>) {
        let folded = run.folds(records[1]);
        let Some(program) = run.network.program(folded) else {
            unreachable!("networks without a program go another way");
        };
        let pass = gpu::Pass {
            graph: &run.network.graph,
            program,
            folded,
            cache: &run.network.on_gpu,
            batch_statistics: run.batch_statistics,
            halves: run.parts,
            factors: &run.factors,
            records,
            products: run.products,
        };
        pass.run(images, parameters, statistics)
    }

    fn backward(gradient: CubeTensor, run: &Run, tape: gpu::Tape, wanted: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let network = &run.network;
        let Some(program) = network.program(tape.is_folded()) else {
            unreachable!("networks without a program go another way");
        };
        tape.gradients(&network.graph, program, gradient, wanted)
    }
}

impl Record for Flex {
    type Tape = Tape;

    fn forward(
        images: FlexTensor,
        parameters: FlexTensor,
        statistics: FlexTensor,
        run: &Run,
        [records_images, records_parameters]: [bool; 2],
    ) -> (FlexTensor, FlexTensor, Option<Tape>) {
        let [images, parameters, statistics] = [images, parameters, statistics].map(|tensor| tensor.to_contiguous());
        let folded = run.folds(records_parameters);
        let Some(program) = run.network.program(folded) else {
            unreachable!("networks without a program go another way");
        };
        let pass = Pass {
            graph: &run.network.graph,
            program,
            folded,
            cache: &run.network.packed,
            batch_statistics: run.batch_statistics,
            parts: run.parts,
            factors: &run.factors,
            records_images,
            records_parameters,
        };
        let outcome = pass.run(&images, &parameters, &statistics);
        let examples = images.layout().shape()[0];
        let logits = tensor(outcome.logits, [examples, run.network.graph.classes()]);
        let statistics = match outcome.statistics {
            Some(values) => {
                let length = values.len();
                FlexTensor::from_data(TensorData::new(values, [length]))
            }
            None => statistics,
        };
        (logits, statistics, outcome.tape)
    }

    fn backward(gradient: FlexTensor, run: &Run, tape: Tape, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let network = &run.network;
        let Some(program) = network.program(tape.is_folded()) else {
            unreachable!("networks without a program go another way");
        };
        let gradient = gradient.to_contiguous();
        let found = tape.gradients(&network.graph, program, gradient.storage(), wanted);
        let shape = tape.shape();
        let images = found.images.map(|values| tensor(values, shape));
        let parameters = found.parameters.map(|values| {
            let length = values.len();
            tensor(values, [length])
        });
        [images, parameters]
    }
}

/// What a recorded node keeps: the way back is gone once.
#[derive(Debug)]
struct Kept<T> {
    run: Run,
    tape: Arc<Mutex<Option<T>>>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self {
            run: self.run.clone(),
            tape: self.tape.clone(),
        }
    }
}

#[derive(Debug)]
struct Recorded;

impl<B: Record> Backward<B, 2> for Recorded {
    type State = Kept<B::Tape>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let Kept { run, tape } = ops.state;
        let tape = tape.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(tape) = tape else {
            unreachable!("a node is gone back through once");
        };
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = B::backward(gradient, &run, tape, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: Execute + Record, C: CheckpointStrategy> Execute for Autodiff<B, C> {
    fn execute(
        images: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        call: Call,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let records = [images.is_tracked(), parameters.is_tracked()];
        let nodes = [images.node(), parameters.node()];
        let [images, parameters, statistics] = [images, parameters, statistics].map(|tensor| tensor.into_primitive());
        let (logits, statistics, tape) = B::forward(images, parameters, statistics, &call.run, records);
        let logits = match (Recorded.prepare::<C>(nodes).compute_bound().stateful(), tape) {
            (OpsKind::Tracked(preparation), tape) => {
                let kept = Kept {
                    run: call.run,
                    tape: Arc::new(Mutex::new(tape)),
                };
                preparation.finish(kept, logits)
            }
            (OpsKind::UnTracked(preparation), _) => preparation.finish(logits),
        };
        (logits, FloatTensor::<Self>::new(statistics))
    }
}
