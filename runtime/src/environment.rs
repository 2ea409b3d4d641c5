//! The command's environment and argument list, from the caller's, the image's, the user's and the site's wishes.
//!
//! Pure, and called after the drop only: until then the environment is data that nobody looks at.
#![forbid(unsafe_code)]

use crate::request::{Entrypoint, Run};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use image_ref::Sidecar;
use udiroot_conf::EnvRules;

/// Merges the environment; later wins: caller, Gantry's own, image, `--env`, modules, site.
///
/// The loader's variables (`LD_*`) of the caller stay behind, as they do with Shifter: they name the host's libraries.
pub fn compose(caller: &[&[u8]], image: &Sidecar, run: &Run, rules: &[&EnvRules]) -> Vec<Vec<u8>> {
    let mut variables = Variables::default();
    if !run.clear_environment {
        for item in caller.iter().filter(|item| !item.starts_with(b"LD_")) {
            variables.put(item);
        }
    }
    let request = run.request.as_deref().unwrap_or_default();
    let hex = image.digest.hex().to_string();
    for (name, value) in [
        ("GANTRY_IMAGE", &*format!("sha256:{hex}")),
        ("GANTRY_IMAGE_REQUEST", request),
        ("GANTRY_RUNTIME", "1"),
        ("SHIFTER_IMAGE", &hex),
        ("SHIFTER_IMAGEREQUEST", request),
        ("SHIFTER_IMAGETYPE", "id"),
        ("SHIFTER_RUNTIME", "1"),
    ] {
        variables.set(name, value.as_bytes());
    }
    for item in image.env.iter().chain(&run.env) {
        variables.put(item);
    }
    rules.iter().for_each(|rules| variables.apply(rules));
    variables.0
}

/// Decides the command as Shifter does: the given one, behind the entrypoint if that is asked for; without one
/// the image's entrypoint and its arguments if asked for, else a shell. `None` where the image has no entrypoint.
pub fn command(run: &Run, image: &Sidecar) -> Option<Vec<Vec<u8>>> {
    let front = match &run.entrypoint {
        Entrypoint::Image if image.entrypoint.is_empty() => return None,
        Entrypoint::Image => image.entrypoint.clone(),
        Entrypoint::Program(program) => vec![program.clone()],
        Entrypoint::None if run.command.is_empty() => return Some(vec![b"/bin/sh".to_vec()]),
        Entrypoint::None => vec![],
    };
    let default = if run.entrypoint == Entrypoint::Image { image.cmd.as_slice() } else { &[] };
    let rest = if run.command.is_empty() { default } else { &run.command };
    Some(front.into_iter().chain(rest.iter().cloned()).collect())
}

/// Where the command may be: itself if it names a path, else below each directory of PATH.
pub fn candidates(program: &[u8], environment: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if program.is_empty() || program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = environment.iter().find_map(|item| item.strip_prefix(b"PATH="));
    path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin")
        .split(|&byte| byte == b':')
        // An empty element means the working directory, which nobody wants to run commands from by accident.
        .filter(|directory| !directory.is_empty())
        .map(|directory| [directory, b"/", program].concat())
        .collect()
}

/// `NAME=value` items in the order in which they first came.
#[derive(Default)]
struct Variables(Vec<Vec<u8>>);

impl Variables {
    /// Takes an item as it is; one without `=` cannot be a variable and is dropped.
    fn put(&mut self, item: &[u8]) {
        if let Some(end) = item.iter().position(|&byte| byte == b'=').filter(|&end| end > 0) {
            let (name, value) = item.split_at(end);
            self.replace(name, value.get(1..).unwrap_or_default().to_vec());
        }
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.replace(name.as_bytes(), value.to_vec());
    }

    fn replace(&mut self, name: &[u8], value: Vec<u8>) {
        let item = [name, b"=", &value].concat();
        match self.slot(name) {
            Some(slot) => *slot = item,
            None => self.0.push(item),
        }
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Vec<u8>> {
        self.0
            .iter_mut()
            .find(|item| item.strip_prefix(name).is_some_and(|behind| behind.starts_with(b"=")))
    }

    fn value(&mut self, name: &str) -> Vec<u8> {
        let length = name.len() + 1;
        self.slot(name.as_bytes())
            .and_then(|item| item.get(length..).map(<[u8]>::to_vec))
            .unwrap_or_default()
    }

    fn apply(&mut self, rules: &EnvRules) {
        for (name, value) in &rules.set {
            self.set(name, value.as_bytes());
        }
        for (name, value) in &rules.append {
            let before = self.value(name);
            self.set(name, &join(&before, value.as_bytes()));
        }
        for (name, value) in &rules.prepend {
            let before = self.value(name);
            self.set(name, &join(value.as_bytes(), &before));
        }
        for name in &rules.unset {
            let item = [name.as_bytes(), b"="].concat();
            self.0.retain(|variable| !variable.starts_with(&item));
        }
    }
}

fn join(one: &[u8], other: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = [one, other].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(&b':')
}

#[cfg(test)]
mod tests;
