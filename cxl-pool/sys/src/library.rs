//! Shared libraries that drivers bring and that this host may lack.

use std::ffi::{CStr, CString};

/// Loads the library `name` as the dynamic linker finds it, and lets it go again.
///
/// Errors: what the linker says, such as that there is no such file.
pub fn try_load(name: &str) -> Result<(), String> {
    let Ok(name) = CString::new(name) else {
        return Err("a name with a zero byte".to_owned());
    };
    // SAFETY: the name ends with a zero byte. Loading runs the initialisers of the library: callers
    // name libraries of the system's own drivers, as linking against them would.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
    if handle.is_null() {
        // SAFETY: after a failure the text is there, and this thread's until its next call.
        let text = unsafe { libc::dlerror() };
        if text.is_null() {
            return Err("it does not load".to_owned());
        }
        // SAFETY: checked above; the linker ends it with a zero byte.
        let text = unsafe { CStr::from_ptr(text) };
        return Err(text.to_string_lossy().into_owned());
    }
    // SAFETY: the handle is open, and closed here only; nothing of the library is kept.
    unsafe { libc::dlclose(handle) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::try_load;

    #[test]
    fn a_library_loads_or_the_linker_says_why() {
        assert_eq!(try_load("libc.so.6"), Ok(()));
        let error = try_load("libnone-of-these.so.1").expect_err("there is none");
        assert!(error.contains("libnone-of-these"), "{error}");
        assert!(try_load("a\0b").is_err());
    }
}
