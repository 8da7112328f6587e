//! Reads the pickles that CIFAR's python batches are, and nothing more.
//!
//! A pickle is a program for a small stack machine that may call any function by name. This reader runs only the
//! instructions that dictionaries, lists, strings, numbers and numpy's byte arrays need; of functions it knows the three
//! that such arrays are written with, and imitates them. Every other name is refused, so nothing is ever executed.
//! Each instruction makes at most one object, so the file's length bounds the work; what the objects take is counted.

use std::{borrow::Cow, collections::HashMap};

use crate::memory::{Budget, OverBudget};

/// Axes of the largest array that numpy has.
const MOST_AXES: usize = 64;

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickleError {
    /// Where the offending instruction begins.
    pub offset: usize,
    /// What would have been taken.
    pub expected: String,
    /// What stands there.
    pub got: String,
    /// Where it asks for more memory than is allowed: how much.
    pub over: Option<OverBudget>,
}

/// Number of an object among all that were made; lists and dictionaries hold numbers, so that sharing costs nothing.
type Id = usize;

/// A value in a pickle.
#[derive(Debug, Clone)]
enum Object<'a> {
    None,
    Integer(i64),
    /// Bytes, and the strings of Python 2, which are the same.
    Bytes(Cow<'a, [u8]>),
    Text(&'a str),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    Name(Function),
    /// The element type's name, such as `u1`, and whether a state was set that names a big-endian order.
    ElementType {
        name: &'a str,
        big_endian: bool,
    },
    Array {
        shape: Vec<usize>,
        element: Id,
        bytes: Id,
    },
    /// An array before its state is set.
    EmptyArray,
    Mark,
}

/// The functions that may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    /// `numpy.core.multiarray._reconstruct`: an empty array.
    Reconstruct,
    /// `numpy.ndarray`: the class that `_reconstruct` is told to make.
    ArrayClass,
    /// `numpy.dtype`.
    ElementType,
    /// `_codecs.encode`: how Python 3 writes bytes for Python 2.
    Encode,
    /// `numpy.core.numeric._frombuffer`: arrays since protocol 5.
    FromBuffer,
}

fn function(module: &str, name: &str) -> Option<Function> {
    // numpy 2 moved `numpy.core` to `numpy._core`.
    Some(match (module.replace("_core", "core").as_str(), name) {
        ("numpy.core.multiarray", "_reconstruct") => Function::Reconstruct,
        ("numpy", "ndarray") => Function::ArrayClass,
        ("numpy", "dtype") => Function::ElementType,
        ("_codecs", "encode") => Function::Encode,
        ("numpy.core.numeric", "_frombuffer") => Function::FromBuffer,
        _ => return None,
    })
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Id,
}

/// A two-dimensional array of bytes.
#[derive(Debug)]
pub struct ByteTable<'p> {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Row after row.
    pub bytes: &'p [u8],
}

impl<'a> Pickle<'a> {
    /// Runs the pickle.
    ///
    /// # Errors
    /// Where it is cut short, damaged, asks for anything beyond plain data, or for more memory than `budget` has.
    pub fn read(bytes: &'a [u8], budget: &'a Budget) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            begin: 0,
            objects: Vec::new(),
            stack: Vec::new(),
            memo: Vec::new(),
            encoded: HashMap::new(),
            budget,
        };
        let root = machine.run()?;
        Ok(Self {
            objects: machine.objects,
            root,
        })
    }

    /// The value under a key of the dictionary that the pickle holds; keys may be text or bytes.
    fn entry(&self, key: &str) -> Option<&Object<'a>> {
        let Object::Dictionary(pairs) = &self.objects[self.root] else {
            return None;
        };
        let value = pairs.iter().rev().find(|(name, _)| match &self.objects[*name] {
            Object::Bytes(bytes) => bytes.as_ref() == key.as_bytes(),
            Object::Text(text) => *text == key,
            _ => false,
        });
        value.map(|(_, value)| &self.objects[*value])
    }

    /// The shape and the bytes of the array of bytes under a key; `None` where there is none of that kind.
    pub fn byte_array(&self, key: &str) -> Option<(&[usize], &[u8])> {
        let Object::Array { shape, element, bytes } = self.entry(key)? else {
            return None;
        };
        match (&self.objects[*element], &self.objects[*bytes]) {
            (Object::ElementType { name: "u1", .. }, Object::Bytes(bytes)) => Some((shape, bytes)),
            _ => None,
        }
    }

    /// The two-dimensional array of bytes under a key; `None` where there is none of that kind.
    pub fn table(&self, key: &str) -> Option<ByteTable<'_>> {
        let (&[rows, columns], bytes) = self.byte_array(key)? else {
            return None;
        };
        Some(ByteTable {
            shape: [rows, columns],
            bytes,
        })
    }

    /// The whole numbers under a key, from a list or an array; `None` where there are none.
    pub fn integers(&self, key: &str) -> Option<Vec<i64>> {
        match self.entry(key)? {
            Object::List(items) | Object::Tuple(items) => {
                let integer = |id: &Id| {
                    if let Object::Integer(value) = self.objects[*id] {
                        Some(value)
                    } else {
                        None
                    }
                };
                items.iter().map(integer).collect()
            }
            Object::Array { shape, element, bytes } if shape.len() == 1 => {
                let (
                    Object::ElementType {
                        name,
                        big_endian: false,
                    },
                    Object::Bytes(bytes),
                ) = (&self.objects[*element], &self.objects[*bytes])
                else {
                    return None;
                };
                let wide = |size: usize| bytes.chunks_exact(size);
                Some(match *name {
                    "u1" => bytes.iter().map(|byte| i64::from(*byte)).collect(),
                    "i4" => wide(4)
                        .map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                        .collect(),
                    "i8" => wide(8)
                        .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                        .collect(),
                    _ => return None,
                })
            }
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the current instruction begins, for messages.
    begin: usize,
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    memo: Vec<Option<Id>>,
    /// The bytes that a text was encoded to: bytes never change, so that every call for it gives the same.
    encoded: HashMap<Id, Id>,
    budget: &'a Budget,
}

type Step<T> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    fn refuse<T>(&self, expected: impl Into<String>, got: impl Into<String>) -> Step<T> {
        Err(PickleError {
            offset: self.begin,
            expected: expected.into(),
            got: got.into(),
            over: None,
        })
    }

    /// Counts bytes that are about to be taken.
    fn charge(&self, bytes: usize) -> Step<()> {
        self.budget.take(bytes as u64).map_err(|over| PickleError {
            offset: self.begin,
            expected: String::new(),
            got: String::new(),
            over: Some(over),
        })
    }

    fn run(&mut self) -> Step<Id> {
        loop {
            self.begin = self.at;
            let instruction = self.take(1)?[0];
            if instruction == b'.' {
                return self.pop();
            }
            self.step(instruction)?;
        }
    }

    /// One instruction, by the names of Python's `pickletools`.
    fn step(&mut self, instruction: u8) -> Step<()> {
        match instruction {
            // PROTO, FRAME: what follows is the same for all protocols read here.
            0x80 => {
                let version = self.take(1)?[0];
                if !(2..=5).contains(&version) {
                    return self.refuse("a pickle of protocol 2 to 5", format!("protocol {version}"));
                }
            }
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.push(Object::Mark)?,
            b'N' => self.push(Object::None)?,
            0x88 => self.push(Object::Integer(1))?,
            0x89 => self.push(Object::Integer(0))?,
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = self.integer(4)?;
                self.push(Object::Integer(i64::from(value as u32 as i32)))?;
            }
            b'K' => {
                let value = self.integer(1)?;
                self.push(Object::Integer(value as i64))?;
            }
            b'M' => {
                let value = self.integer(2)?;
                self.push(Object::Integer(value as i64))?;
            }
            0x8a => self.long()?,
            // SHORT_BINSTRING, BINSTRING, SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'U' | b'C' => self.byte_string(1)?,
            b'T' | b'B' => self.byte_string(4)?,
            0x8e | 0x96 => self.byte_string(8)?,
            // SHORT_BINUNICODE, BINUNICODE
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            b']' => self.push(Object::List(Vec::new()))?,
            b'}' => self.push(Object::Dictionary(Vec::new()))?,
            b')' => self.push(Object::Tuple(Vec::new()))?,
            // TUPLE1, TUPLE2, TUPLE3, TUPLE
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..=(instruction - 0x85) {
                    items.insert(0, self.pop()?);
                }
                self.push(Object::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items))?;
            }
            // APPEND, APPENDS
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            // SETITEM, SETITEMS
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let slot = self.integer(1)? as usize;
                self.memoize(slot)?;
            }
            b'r' => {
                let slot = self.integer(4)? as usize;
                self.memoize(slot)?;
            }
            0x94 => self.memoize(self.memo.len())?,
            b'h' => {
                let slot = self.integer(1)? as usize;
                self.recall(slot)?;
            }
            b'j' => {
                let slot = self.integer(4)? as usize;
                self.recall(slot)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Object::Text(module), Object::Text(name)) = (&self.objects[module], &self.objects[name]) else {
                    return self.refuse("a function's module and name", "other values");
                };
                self.name(module, name)?;
            }
            b'R' => self.call()?,
            b'b' => self.build()?,
            other => {
                return self.refuse(
                    "plain data (numbers, strings, lists, arrays)",
                    format!("instruction 0x{other:02x}"),
                );
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        match self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => {
                let got = format!("the end of the pickle after {} bytes", self.bytes.len());
                self.refuse(format!("{count} more bytes at byte {}", self.at), got)
            }
        }
    }

    /// A little-endian number of at most eight bytes.
    fn integer(&mut self, size: usize) -> Step<u64> {
        Ok(self
            .take(size)?
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// LONG1: a signed number of as many bytes as its first byte says.
    fn long(&mut self) -> Step<()> {
        let size = self.integer(1)? as usize;
        if size > 8 {
            return self.refuse("a whole number of at most 8 bytes", format!("one of {size} bytes"));
        }
        let value = self.integer(size)?;
        let unused = 64 - 8 * size as u32;
        let value = if size == 0 {
            0
        } else {
            (value << unused) as i64 >> unused
        };
        self.push(Object::Integer(value))?;
        Ok(())
    }

    fn byte_string(&mut self, size_of_length: usize) -> Step<()> {
        let length = self.integer(size_of_length)?;
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        self.push(Object::Bytes(Cow::Borrowed(bytes)))?;
        Ok(())
    }

    fn text(&mut self, size_of_length: usize) -> Step<()> {
        let length = self.integer(size_of_length)? as usize;
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                self.push(Object::Text(text))?;
                Ok(())
            }
            Err(error) => self.refuse("text in UTF-8", error.to_string()),
        }
    }

    /// The text up to the next line end.
    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).or_else(|error| self.refuse("text in UTF-8", error.to_string()))
    }

    fn push(&mut self, object: Object<'a>) -> Step<()> {
        // Itself, its place on the stack, and one in the list that may take it up; lists grow by doubling.
        self.charge(size_of::<Object>() + 3 * size_of::<Id>())?;
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    fn pop(&mut self) -> Step<Id> {
        match self.stack.pop() {
            Some(id) if !matches!(self.objects[id], Object::Mark) => Ok(id),
            _ => self.refuse("a value on the stack", "none"),
        }
    }

    fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(id) if !matches!(self.objects[*id], Object::Mark) => Ok(*id),
            _ => self.refuse("a value on the stack", "none"),
        }
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        match self
            .stack
            .iter()
            .rposition(|id| matches!(self.objects[*id], Object::Mark))
        {
            Some(mark) => {
                let items = self.stack.split_off(mark + 1);
                self.stack.pop();
                Ok(items)
            }
            None => self.refuse("a mark on the stack", "none"),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let list = self.top()?;
        match &mut self.objects[list] {
            Object::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => self.refuse("a list to append to", "another value"),
        }
    }

    fn set_items(&mut self, items: Vec<Id>) -> Step<()> {
        let dictionary = self.top()?;
        match &mut self.objects[dictionary] {
            Object::Dictionary(pairs) if items.len().is_multiple_of(2) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => self.refuse("a dictionary and pairs for it", "other values"),
        }
    }

    fn memoize(&mut self, slot: usize) -> Step<()> {
        let id = self.top()?;
        // Python numbers the slots upwards one by one; a leap would ask for memory that no data needs.
        if slot > self.memo.len() + 1 {
            return self.refuse(
                format!("memo slots in order, at most {}", self.memo.len() + 1),
                format!("slot {slot}"),
            );
        }
        if slot >= self.memo.len() {
            self.charge(2 * size_of::<Option<Id>>())?;
            self.memo.resize(slot + 1, None);
        }
        self.memo[slot] = Some(id);
        Ok(())
    }

    fn recall(&mut self, slot: usize) -> Step<()> {
        match self.memo.get(slot) {
            Some(Some(id)) => {
                let id = *id;
                self.charge(3 * size_of::<Id>())?;
                self.stack.push(id);
                Ok(())
            }
            _ => self.refuse("a memo slot that was filled", format!("slot {slot}")),
        }
    }

    fn name(&mut self, module: &str, name: &str) -> Step<()> {
        match function(module, name) {
            Some(function) => {
                self.push(Object::Name(function))?;
                Ok(())
            }
            None => self.refuse(
                "plain data and numpy arrays",
                format!("a request to run {module}.{name}"),
            ),
        }
    }

    fn tuple(&self, id: Id) -> Step<&[Id]> {
        match &self.objects[id] {
            Object::Tuple(items) => Ok(items),
            _ => self.refuse("a tuple", "another value"),
        }
    }

    /// REDUCE: imitates a call of one of the known functions.
    fn call(&mut self) -> Step<()> {
        let (arguments, called) = (self.pop()?, self.pop()?);
        let Object::Name(function) = self.objects[called] else {
            return self.refuse("a known function to call", "another value");
        };
        let arguments = self.tuple(arguments)?;
        let encoded = arguments.first().copied();
        if let (Function::Encode, Some(text)) = (function, encoded)
            && let Some(known) = self.encoded.get(&text)
        {
            let known = *known;
            self.charge(3 * size_of::<Id>())?;
            self.stack.push(known);
            return Ok(());
        }
        let of = |position: usize| arguments.get(position).map_or(&Object::None, |id| &self.objects[*id]);
        let made = match (function, of(0), of(1)) {
            (Function::Reconstruct, Object::Name(Function::ArrayClass), _) => Object::EmptyArray,
            (Function::ElementType, Object::Text(name), _) => Object::ElementType {
                name,
                big_endian: false,
            },
            (Function::ElementType, Object::Bytes(Cow::Borrowed(name)), _) => match std::str::from_utf8(name) {
                Ok(name) => Object::ElementType {
                    name,
                    big_endian: false,
                },
                Err(_) => return self.refuse("an element type's name", "bytes that are no text"),
            },
            (Function::Encode, Object::Text(text), Object::Text("latin1" | "latin-1")) => {
                self.charge(text.len())?;
                match text.chars().map(|c| u8::try_from(u32::from(c))).collect() {
                    Ok(bytes) => Object::Bytes(Cow::Owned(bytes)),
                    Err(_) => return self.refuse("text in Latin-1", "other characters"),
                }
            }
            (Function::FromBuffer, Object::Bytes(_), Object::ElementType { .. }) => {
                let (&[bytes, element, shape, ..], Object::Text("C")) = (arguments, of(3)) else {
                    return self.refuse("an array in C order", "another array");
                };
                self.array(shape, element, bytes)?
            }
            _ => {
                return self.refuse(
                    "a call that makes a numpy array",
                    format!("{function:?} with other arguments"),
                );
            }
        };
        if let (Function::Encode, Some(text)) = (function, encoded) {
            self.encoded.insert(text, self.objects.len());
        }
        self.push(made)
    }

    /// BUILD: sets the state of an array or an element type.
    fn build(&mut self) -> Step<()> {
        let (state, built) = (self.pop()?, self.top()?);
        let state = self.tuple(state)?;
        match (&self.objects[built], state) {
            // (version, shape, element type, Fortran order, bytes)
            (Object::EmptyArray, &[_, shape, element, fortran, bytes]) => {
                if !matches!(self.objects[fortran], Object::Integer(0)) {
                    return self.refuse("an array in C order", "one in Fortran order");
                }
                self.objects[built] = self.array(shape, element, bytes)?;
            }
            // (version, byte order, ...)
            (Object::ElementType { name, .. }, &[_, order, ..]) => {
                let big_endian = match &self.objects[order] {
                    Object::Text(order) => *order == ">",
                    Object::Bytes(order) => order.as_ref() == b">",
                    _ => return self.refuse("a byte order", "another value"),
                };
                self.objects[built] = Object::ElementType { name, big_endian };
            }
            _ => return self.refuse("the state of an array", "another state"),
        }
        Ok(())
    }

    /// An array whose bytes are as many as its shape says.
    fn array(&self, shape: Id, element: Id, bytes: Id) -> Step<Object<'a>> {
        let size = |id: &Id| match self.objects[*id] {
            Object::Integer(size) => usize::try_from(size).ok(),
            _ => None,
        };
        let axes = self.tuple(shape)?;
        if axes.len() > MOST_AXES {
            return self.refuse(format!("an array of at most {MOST_AXES} axes"), axes.len().to_string());
        }
        let Some(shape) = axes.iter().map(size).collect::<Option<Vec<usize>>>() else {
            return self.refuse("an array's shape", "other values");
        };
        let (Object::ElementType { name, .. }, Object::Bytes(content)) = (&self.objects[element], &self.objects[bytes])
        else {
            return self.refuse("an array's element type and bytes", "other values");
        };
        let width = name
            .get(1..)
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|width| *width > 0);
        let expected = shape
            .iter()
            .try_fold(width.unwrap_or(1), |product, size| product.checked_mul(*size));
        if expected != Some(content.len()) {
            let expected = expected.map_or("fewer".into(), |bytes| bytes.to_string());
            return self.refuse(
                format!("{expected} bytes in an array {shape:?}"),
                format!("{} bytes", content.len()),
            );
        }
        Ok(Object::Array { shape, element, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pickle_that_asks_for_a_command_is_refused() {
        for evil in [
            &b"\x80\x02cos\nsystem\nU\x04true\x85R."[..],
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        ] {
            let error = Pickle::read(evil, &Budget::default()).unwrap_err();
            assert_eq!(error.got, "a request to run os.system");
        }
    }

    #[test]
    fn numbers_keep_their_sign_and_lists_their_order() {
        // {"n": [255, -2, 300, -1]}
        let budget = Budget::default();
        let bytes = b"\x80\x02}U\x01n](K\xffJ\xfe\xff\xff\xffM\x2c\x01\x8a\x01\xffes.";
        assert_eq!(
            Pickle::read(bytes, &budget).unwrap().integers("n"),
            Some(vec![255, -2, 300, -1])
        );
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let budget = Budget::default();
        let whole = b"\x80\x02}q\x00(U\x01nq\x01](K\x01K\x02eU\x01mh\x01u.";
        assert!(Pickle::read(whole, &budget).is_ok());
        for end in 0..whole.len() {
            assert!(Pickle::read(&whole[..end], &budget).is_err());
        }
        // Every byte replaced by every other: errors are fine, panics are not.
        let mut damaged = whole.to_vec();
        for position in 0..whole.len() {
            for byte in 0..=255 {
                damaged[position] = byte;
                let _ = Pickle::read(&damaged, &budget);
            }
            damaged[position] = whole[position];
        }
    }

    /// The function `encode` and a text of `size` letters in the memo, `calls` calls of the one with the other, all in a list.
    fn encoded(size: usize, calls: usize) -> Vec<u8> {
        let mut pickle = b"\x80\x02c_codecs\nencode\nq\x00X".to_vec();
        pickle.extend((size as u32).to_le_bytes());
        pickle.extend(vec![b'x'; size]);
        pickle.extend(b"q\x01X\x06\0\0\0latin1\x86q\x02](");
        pickle.extend(b"h\x00h\x02R".repeat(calls));
        pickle.extend(b"e.");
        pickle
    }

    #[test]
    fn a_text_that_is_encoded_again_and_again_takes_its_memory_once() {
        use crate::memory::Size;
        let (bomb, budget) = (encoded(200_000, 20_000), Budget::of(Size(4 << 20)));
        assert!(Pickle::read(&bomb, &budget).is_ok(), "20,000 × 200 kB would be 4 GB");
    }

    #[test]
    fn objects_are_counted() {
        use crate::memory::Size;
        let many = [b"\x80\x02](".to_vec(), b"K\x01".repeat(50_000), b"e.".to_vec()].concat();
        let budget = Budget::of(Size(1 << 20));
        assert!(Pickle::read(&many, &budget).unwrap_err().over.is_some());
        assert!(Pickle::read(&many, &Budget::of(Size(64 << 20))).is_ok());
        // A shape of 100,000 axes would be copied for each of as many arrays.
        let array = |axes: usize| {
            let shape = [&b"("[..], &b"K\x01".repeat(axes), b"t"].concat();
            let function = &b"\x80\x02cnumpy.core.numeric\n_frombuffer\n(C\x01bcnumpy\ndtype\nX\x02\0\0\0u1\x85R"[..];
            [function, &shape, b"X\x01\0\0\0CtR."].concat()
        };
        assert!(Pickle::read(&array(3), &Budget::default()).is_ok());
        let error = Pickle::read(&array(65), &Budget::default()).unwrap_err();
        assert_eq!(
            (error.expected.as_str(), error.got.as_str()),
            ("an array of at most 64 axes", "65")
        );
    }
}
