//! Types as bytes: no padding, native byte order, every bit pattern is a value.

/// A type whose bytes are its fields one after the other.
pub trait Plain: Copy {
    const BYTES: usize;

    /// Writes the bytes; `out` has `BYTES` of them.
    fn put(&self, out: &mut [u8]);

    /// Reads the bytes; `from` has `BYTES` of them.
    fn get(from: &[u8]) -> Self;
}

macro_rules! number {
    ($type:ty) => {
        impl Plain for $type {
            const BYTES: usize = size_of::<$type>();

            fn put(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_ne_bytes());
            }

            fn get(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<$type>()];
                bytes.copy_from_slice(from);
                Self::from_ne_bytes(bytes)
            }
        }
    };
}

number!(u32);
number!(u64);

impl<T: Plain + Default, const N: usize> Plain for [T; N] {
    const BYTES: usize = N * T::BYTES;

    fn put(&self, out: &mut [u8]) {
        assert_eq!(out.len(), Self::BYTES, "room for other than the value");
        for (value, out) in self.iter().zip(out.chunks_exact_mut(T::BYTES)) {
            value.put(out);
        }
    }

    fn get(from: &[u8]) -> Self {
        assert_eq!(from.len(), Self::BYTES, "bytes of other than the value");
        let mut values = [T::default(); N];
        for (value, from) in values.iter_mut().zip(from.chunks_exact(T::BYTES)) {
            *value = T::get(from);
        }
        values
    }
}

/// Declares a struct of plain fields; padding between or behind them does not compile.
macro_rules! plain {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(C)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }

        const _: () = assert!(
            size_of::<$name>() == <$name as $crate::plain::Plain>::BYTES,
            "padding in a type that the kernel shares"
        );

        impl $crate::plain::Plain for $name {
            const BYTES: usize = 0 $(+ <$type as $crate::plain::Plain>::BYTES)*;

            fn put(&self, out: &mut [u8]) {
                assert_eq!(out.len(), Self::BYTES, "room for other than the value");
                $(
                    let (field, out) = out.split_at_mut(<$type as $crate::plain::Plain>::BYTES);
                    self.$field.put(field);
                )*
                assert!(out.is_empty(), "bytes without a field");
            }

            fn get(from: &[u8]) -> Self {
                assert_eq!(from.len(), Self::BYTES, "bytes of other than the value");
                $(
                    let (field, from) = from.split_at(<$type as $crate::plain::Plain>::BYTES);
                    let $field = <$type as $crate::plain::Plain>::get(field);
                )*
                assert!(from.is_empty(), "bytes without a field");
                Self { $($field,)* }
            }
        }
    };
}
pub(crate) use plain;

#[cfg(test)]
mod tests {
    use super::*;

    plain! {
        /// A pair and more.
        struct Sample {
            first: u32,
            second: u32,
            rest: [u64; 2],
        }
    }

    #[test]
    fn bytes_are_the_fields_in_order() {
        let sample = Sample {
            first: 1,
            second: 2,
            rest: [3, 4],
        };
        let mut bytes = [0; 24];
        sample.put(&mut bytes);
        assert_eq!(bytes[..4], 1u32.to_ne_bytes());
        assert_eq!(bytes[4..8], 2u32.to_ne_bytes());
        assert_eq!(bytes[16..], 4u64.to_ne_bytes());
        assert_eq!(Sample::get(&bytes), sample);
        assert_eq!(core::mem::offset_of!(Sample, rest), 8);
    }
}
