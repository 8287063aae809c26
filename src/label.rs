//! Closed sets of labels: enums that list all values of a metric label, a JSON field or an argument.

/// Defines such an enum from variants and their texts, with `ALL`, `as_str` and `Display`.
macro_rules! label_set {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// All values, in the order of definition.
            $visibility const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// The text of the value.
            #[must_use]
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use label_set;

#[cfg(test)]
mod tests {
    label_set! {
        /// A set for this test.
        enum Fruit {
            /// One.
            Apple = "apple",
            /// Another.
            BlackBerry = "black_berry",
        }
    }

    #[test]
    fn a_set_lists_its_values_and_their_texts() {
        assert_eq!(Fruit::ALL.map(Fruit::as_str), ["apple", "black_berry"]);
        assert_eq!(Fruit::BlackBerry.to_string(), "black_berry");
    }
}
