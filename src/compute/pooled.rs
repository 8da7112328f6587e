//! Tensors of the processor's in memory that outlives them.
//!
//! A tensor of burn's takes fresh memory from the system and gives it back: for the gradient of eleven million parameters that
//! is eleven thousand page faults a step. These take theirs from the pools that kernels use.

use std::mem::MaybeUninit;

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{DType, Shape},
};
use cubecl::bytes::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

use super::blocked::Pooled;

struct Memory(Pooled<f32>);

impl AllocationController for Memory {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes = size_of_val::<[f32]>(&self.0);
        // SAFETY: floats are so many bytes, all of them initialised; the caller keeps them so.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), bytes) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes = size_of_val::<[f32]>(&self.0);
        // SAFETY: floats are so many bytes.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), bytes) })
    }
}

/// A tensor of these values.
pub(super) fn tensor<const D: usize>(values: Pooled<f32>, shape: [usize; D]) -> FlexTensor {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "values of another shape");
    let length = size_of_val::<[f32]>(&values);
    // SAFETY: all of the memory is initialised.
    let bytes = unsafe { Bytes::from_controller(Box::new(Memory(values)), length) };
    FlexTensor::new(bytes, Layout::contiguous(Shape::new(shape)), DType::F32)
}
