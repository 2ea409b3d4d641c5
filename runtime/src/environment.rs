//! The command's environment and argument list, from the caller's, the image's, the user's and the site's wishes.
//!
//! Pure, and called after the drop only: until then the environment is data that nobody looks at.
#![forbid(unsafe_code)]

use crate::request::{Entrypoint, Run};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use image_ref::Sidecar;
use udiroot_conf::EnvRules;

/// Merges the environment; later wins: caller, Gantry's own, image, `--env`, modules, site.
///
/// The loader's variables (`LD_*`) of the caller stay behind, as they do with Shifter: they name the host's libraries.
pub fn compose(caller: &[&[u8]], image: &Sidecar, run: &Run, rules: &[&EnvRules]) -> Vec<Vec<u8>> {
    let mut variables = Variables::default();
    let kept = caller.iter().filter(|item| !run.clear_environment && !item.starts_with(b"LD_"));
    kept.for_each(|item| variables.put(item));
    let request = run.request.as_deref().unwrap_or_default();
    let hex = image.digest.hex();
    for item in [
        format!("GANTRY_IMAGE=sha256:{hex}"),
        format!("GANTRY_IMAGE_REQUEST={request}"),
        "GANTRY_RUNTIME=1".into(),
        format!("SHIFTER_IMAGE={hex}"),
        format!("SHIFTER_IMAGEREQUEST={request}"),
        "SHIFTER_IMAGETYPE=id".into(),
        "SHIFTER_RUNTIME=1".into(),
    ] {
        variables.put(item.as_bytes());
    }
    image.env.iter().chain(&run.env).for_each(|item| variables.put(item));
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

/// Puts the image's shell in front, which runs the hooks and then becomes the command; nothing where there is no hook.
pub fn behind_hooks(hooks: &[&str], command: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if hooks.is_empty() {
        return command;
    }
    let front = ["/bin/sh", "-c", RUN_HOOKS, "gantry"].iter().chain(hooks).chain(&["--"]);
    front.map(|word| word.as_bytes().to_vec()).chain(command).collect()
}

const RUN_HOOKS: &str = r#"while [ "$1" != -- ]; do
/bin/sh "$1" || { echo "gantry: the module's hook $1 failed, the command was not run" >&2; exit 125; }
shift; done; shift; exec "$@""#;

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
            let (name, _) = item.split_at(end);
            match self.0.iter_mut().find(|other| value_of(other, name).is_some()) {
                Some(slot) => *slot = item.to_vec(),
                None => self.0.push(item.to_vec()),
            }
        }
    }

    /// Joins a value with the present one by `:`, in front of it or behind it.
    fn join(&mut self, name: &str, value: &str, in_front: bool) {
        let present = self.0.iter().find_map(|item| value_of(item, name.as_bytes()));
        let (present, value) = (present.unwrap_or_default(), value.as_bytes());
        let mut parts = if in_front { vec![value, present] } else { vec![present, value] };
        parts.retain(|part| !part.is_empty());
        self.put(&[name.as_bytes(), b"=", &parts.join(&b':')].concat());
    }

    fn apply(&mut self, rules: &EnvRules) {
        for (name, value) in &rules.set {
            self.put(format!("{name}={value}").as_bytes());
        }
        for (name, value) in &rules.append {
            self.join(name, value, false);
        }
        for (name, value) in &rules.prepend {
            self.join(name, value, true);
        }
        for name in &rules.unset {
            self.0.retain(|item| value_of(item, name.as_bytes()).is_none());
        }
    }
}

/// The value in an item of this name.
fn value_of<'a>(item: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    item.strip_prefix(name)?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests;
