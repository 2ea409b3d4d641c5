//! The paths of the gateway's routes.
//!
//! References are percent-encoded into one segment, as Shifter's client does; the gateway also takes them with
//! plain slashes and with or without a slash at the end.

use image_ref::ImageRef;

use crate::ImportRequest;

/// Liveness and readiness; needs no credential.
pub const HEALTH: &str = "/api/health/";
/// Version of the gateway; needs no credential.
pub const VERSION: &str = "/api/version/";

/// The images that the caller may see.
pub fn list(system: &str) -> String {
    format!("/api/list/{system}/")
}

/// The pulls that run or failed.
pub fn queue(system: &str) -> String {
    format!("/api/queue/{system}/")
}

/// Who the caller is.
pub fn whoami(system: &str) -> String {
    format!("/api/whoami/{system}/")
}

/// What a reference stands for.
pub fn lookup(system: &str, reference: &ImageRef) -> String {
    on_image("lookup", system, reference)
}

/// Asks for an image to be pulled.
pub fn pull(system: &str, reference: &ImageRef) -> String {
    on_image("pull", system, reference)
}

/// Takes a file as an image; its bytes are the body.
pub fn import(system: &str, reference: &ImageRef, request: &ImportRequest) -> String {
    let ImportRequest { public, allowed_uids, allowed_gids, image } = request;
    let texts = [("allowed_uids", allowed_uids), ("allowed_gids", allowed_gids), ("image", image)];
    let mut query: Vec<String> = texts
        .into_iter()
        .filter_map(|(key, text)| Some(format!("{key}={}", escape(text.as_ref()?))))
        .collect();
    if *public {
        query.push("public=true".to_string());
    }
    let route = on_image("import", system, reference);
    if query.is_empty() { route } else { format!("{route}?{}", query.join("&")) }
}

/// The event stream of a pull.
pub fn events(system: &str, reference: &ImageRef) -> String {
    on_image("events", system, reference)
}

/// Everything that is known of an image.
pub fn inspect(system: &str, reference: &ImageRef) -> String {
    on_image("inspect", system, reference)
}

/// An image, to be deleted.
pub fn image(system: &str, reference: &ImageRef) -> String {
    on_image("image", system, reference)
}

/// Asks for an image to be expired (admins).
pub fn expire(system: &str, reference: &ImageRef) -> String {
    on_image("expire", system, reference)
}

fn on_image(verb: &str, system: &str, reference: &ImageRef) -> String {
    format!("/api/{verb}/{system}/{}/{}/", reference.kind(), escape(&reference.tag_text()))
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3).
fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_becomes_one_segment() {
        let reference = "docker:host:5000/org/app:v1".parse().unwrap();
        assert_eq!(lookup("c1", &reference), "/api/lookup/c1/docker/host%3A5000%2Forg%2Fapp%3Av1/");
    }

    #[test]
    fn an_import_carries_its_wishes_in_the_query() {
        let reference = "custom:org/app:v1".parse().unwrap();
        let plain = import("c1", &reference, &ImportRequest::default());
        assert_eq!(plain, "/api/import/c1/custom/org%2Fapp%3Av1/");
        let request = ImportRequest {
            public: true,
            allowed_uids: Some("1,2".into()),
            allowed_gids: None,
            image: Some("a&b".into()),
        };
        let route = import("c1", &reference, &request);
        assert_eq!(route, format!("{plain}?allowed_uids=1%2C2&image=a%26b&public=true"));
    }
}
