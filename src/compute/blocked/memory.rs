//! Memory that outlives a pass, so that a step allocates nothing: fresh memory costs a page fault for every 4 KiB.

use std::{
    cell::RefCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use crate::compute::vector::Block;

/// Buffers that a thread keeps at most: more than a step of the deepest network uses.
const KEPT: usize = 1024;

thread_local! {
    /// Buffers nobody uses, the last one given back at the end: the one most likely still in the cache.
    static POOL: RefCell<Vec<Vec<Block>>> = const { RefCell::new(Vec::new()) };
}

/// Blocks from the thread's pool, and back to it when dropped. What they hold at first is what the last owner left.
#[derive(Debug)]
pub struct Buffer {
    blocks: Vec<Block>,
    length: usize,
}

impl Buffer {
    /// `length` blocks of any content.
    pub fn new(length: usize) -> Self {
        let found = POOL
            .try_with(|pool| {
                let mut pool = pool.borrow_mut();
                // A buffer more than twice as large would be missed where it is needed.
                let fits = |buffer: &Vec<Block>| (length..=2 * length + 64).contains(&buffer.len());
                let place = pool.iter().rposition(fits)?;
                Some(pool.remove(place))
            })
            .ok()
            .flatten();
        let blocks = found.unwrap_or_else(|| vec![Block::ZERO; length]);
        Self { blocks, length }
    }

    /// `length` blocks of zeros.
    pub fn zeros(length: usize) -> Self {
        let mut buffer = Self::new(length);
        buffer.fill(Block::ZERO);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        // A thread that is ending has no pool any more.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() == KEPT {
                pool.remove(0);
            }
            pool.push(blocks);
        });
    }
}

impl Deref for Buffer {
    type Target = [Block];
    fn deref(&self) -> &[Block] {
        &self.blocks[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [Block] {
        &mut self.blocks[..self.length]
    }
}

/// What a block can be read as: numbers without padding, of which every pattern of bits is one.
pub trait Number: Copy + Send + Sync + 'static {}
impl Number for f32 {}
impl Number for u16 {}

/// Numbers in a buffer.
#[derive(Debug)]
pub struct Pooled<T> {
    blocks: Buffer,
    length: usize,
    number: PhantomData<T>,
}

impl<T: Number> Pooled<T> {
    /// `length` numbers of any value.
    pub fn new(length: usize) -> Self {
        Self {
            blocks: Buffer::new(length.div_ceil(size_of::<Block>() / size_of::<T>())),
            length,
            number: PhantomData,
        }
    }

    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let mut numbers = Self::new(length);
        numbers.blocks.fill(Block::ZERO);
        numbers
    }
}

impl<T: Number> Deref for Pooled<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: blocks are numbers and nothing else, and there are enough of them.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.length) }
    }
}

impl<T: Number> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.length) }
    }
}

/// Gives the pools of this thread and of the workers back to the system.
pub fn clear_pools() {
    let clear = || {
        let _ = POOL.try_with(|pool| pool.borrow_mut().clear());
    };
    clear();
    rayon::broadcast(|_| clear());
}

/// A slice whose elements are written by several threads, each element by one at most.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable borrow whose users promise to keep to their own elements.
unsafe impl<T: Send> Send for Parts<'_, T> {}
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Borrows a slice for the parts of a task.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            borrowed: PhantomData,
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Some of the elements.
    ///
    /// # Panics
    /// When they are not all there.
    ///
    /// # Safety
    /// While the result lives nobody else may have any of these elements.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn get(&self, first: usize, count: usize) -> &'a mut [T] {
        assert!(
            first <= self.length && count <= self.length - first,
            "outside the slice"
        );
        // SAFETY: inside the slice, as asserted; the caller keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }
}
