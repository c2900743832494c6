//! A value that must not be seen: masked in every print, wiped when dropped, exposed only by name.

use std::fmt;

use zeroize::Zeroize;

/// A secret value. `Debug` masks it, there is no `Display` and no `Serialize`, and the memory is wiped on drop.
///
/// The one way in is [`Secret::expose_secret`], so that every place where plaintext is handled can be found
/// by searching for that name.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a value into custody.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The plaintext. Keep the borrow as short as possible and never copy it into a log or an error.
    pub const fn expose_secret(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_never_shows_the_value() {
        let shown = format!("{:?}", Secret::new(String::from("xoxb-real")));
        assert_eq!(shown, "Secret(…)");
    }
}
