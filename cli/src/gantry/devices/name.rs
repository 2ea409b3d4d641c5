//! `vendor.com/class=name`: what a device is called, in the words and by the rules of CDI.
//!
//! Grammar: SPEC.md of cncf-tags/container-device-interface, "CDI JSON Specification", `kind` and `devices.name`.

use std::fmt;

/// One device, fully qualified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gantry) struct DeviceName {
    /// `vendor.com/class`.
    pub(super) kind: String,
    /// What stands behind `=`; `all` is a name like any other.
    pub(super) device: String,
}

/// Parses lists with commas between; `none` on its own is no device at all.
///
/// # Errors
/// The first item that is not a device's full name.
pub(in crate::gantry) fn parse_lists(lists: &[String]) -> Result<Vec<DeviceName>, NameError> {
    if let [only] = lists
        && only == "none"
    {
        return Ok(Vec::new());
    }
    let items: Vec<&str> = lists.iter().flat_map(|list| list.split(',')).collect();
    if items.len() > DEVICES_MOST {
        return Err(NameError::TooMany(items.len()));
    }
    let mut names = Vec::new();
    for item in items {
        let name = parse(item).ok_or_else(|| NameError::Form(item.chars().take(120).collect()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn parse(item: &str) -> Option<DeviceName> {
    let (kind, device) = item.split_once('=')?;
    let is_fit = is_kind(kind) && is_device(device);
    is_fit.then(|| DeviceName { kind: kind.into(), device: device.into() })
}

/// Whether a text is a vendor and a class with `/` between.
pub(super) fn is_kind(text: &str) -> bool {
    let is_part = |part: &str, begins: fn(&u8) -> bool| {
        part.as_bytes().first().is_some_and(begins) && is_word(part, b"_-.")
    };
    text.split_once('/').is_some_and(|(vendor, class)| {
        is_part(vendor, u8::is_ascii_alphabetic) && is_part(class, u8::is_ascii_alphabetic)
    })
}

/// Whether a text can name a device of a kind. It may begin with a digit, as `0` does.
pub(super) fn is_device(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && is_word(text, b"_-.:")
}

/// Letters and digits with `others` between; ends with one of the former.
fn is_word(text: &str, others: &[u8]) -> bool {
    text.len() <= PART_LIMIT
        && text.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

/// A list of devices that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gantry) enum NameError {
    /// Not of the form.
    Form(String),
    /// More than [`DEVICES_MOST`].
    TooMany(usize),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(item) => write!(
                f,
                "--device: `{}` is not a device's full name, such as nvidia.com/gpu=0",
                item.escape_debug()
            ),
            Self::TooMany(count) => {
                write!(f, "--device names {count} devices, more than the {DEVICES_MOST} allowed")
            }
        }
    }
}

/// More devices than any node has.
const DEVICES_MOST: usize = 64;

/// The longest vendor, class or device.
const PART_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lists: &[&str]) -> Result<Vec<String>, NameError> {
        let lists: Vec<String> = lists.iter().map(ToString::to_string).collect();
        Ok(parse_lists(&lists)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn full_names_are_taken_once_each_in_their_order() {
        let lists = ["nvidia.com/gpu=1,nvidia.com/gpu=0", "amd.com/gpu=all", "nvidia.com/gpu=1"];
        assert_eq!(
            names(&lists).unwrap(),
            ["nvidia.com/gpu=1", "nvidia.com/gpu=0", "amd.com/gpu=all"]
        );
        assert_eq!(names(&["nvidia.com/gpu=1:0"]).unwrap(), ["nvidia.com/gpu=1:0"]);
        assert!(names(&["none"]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_full_name_is_refused() {
        for bad in [
            "",
            "gpu",
            "nvidia.com/gpu",
            "nvidia.com/gpu=",
            "=0",
            "nvidia.com=0",
            "/gpu=0",
            "a/b=../c",
            "a/b/c=d",
            "a/b=c=d",
            "a/b=c-",
            "1a/b=c",
            "a/b=c\n",
            "none,a/b=c",
        ] {
            assert!(matches!(names(&[bad]), Err(NameError::Form(_))), "{bad:?}");
        }
        let many = vec!["a/b=c"; 65].join(",");
        assert_eq!(names(&[&many]), Err(NameError::TooMany(65)));
    }
}
