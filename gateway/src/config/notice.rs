//! Notices about keys that are read but mean nothing, or that nobody knows.

use super::Config;

/// One sentence for each key that does not do what a reader of the file would think.
pub fn notices(config: &Config) -> Vec<String> {
    let mut out = Vec::new();
    notice_keys("", config.rest.keys(), TOP, &mut out);
    for (name, location) in &config.locations {
        notice_keys(&format!("Locations.{name}."), location.rest.keys(), LOCATION, &mut out);
    }
    for (name, platform) in &config.platforms {
        notice_keys(&format!("Platforms.{name}."), platform.rest.keys(), PLATFORM, &mut out);
    }
    if config.default_image_location.is_none() {
        out.push(
            "DefaultImageLocation is not set: references without a registry cannot be pulled"
                .into(),
        );
    }
    out
}

fn notice_keys<'a>(
    prefix: &str,
    keys: impl Iterator<Item = &'a String>,
    known: &[(&str, &str)],
    out: &mut Vec<String>,
) {
    for key in keys {
        let why = known
            .iter()
            .find(|(name, _)| name == key)
            .map_or("is unknown and ignored", |(_, why)| *why);
        out.push(format!("{prefix}{} {why}", key.escape_debug()));
    }
}

const UNUSED: &str = "is Shifter's and has no meaning here";

const TOP: &[(&str, &str)] = &[
    ("DefaultImageRemote", UNUSED),
    ("PullUpdateTime", UNUSED),
    ("ImageExpirationTimeout", "is not acted upon: images stay until they are deleted"),
    ("MongoDBURI", "is not used: images are remembered in the file that StorePath names"),
    ("MongoDB", "is not used: images are remembered in the file that StorePath names"),
    ("CacheDirectory", "is not needed: layers go straight into the image"),
    ("ExpandDirectory", "is not needed: layers go straight into the image"),
    ("Metrics", UNUSED),
    ("examiner", "is not acted upon: no program is run on images"),
    ("ConverterOptions", "is not needed: no program is run to make images"),
    ("ConvertOptions", UNUSED),
    ("DefaultLustreReplication", UNUSED),
    ("DefaultOstCount", UNUSED),
];

const LOCATION: &[(&str, &str)] = &[("authentication", UNUSED)];

const PLATFORM: &[(&str, &str)] = &[
    ("usergroupService", UNUSED),
    ("mountCommand", UNUSED),
    ("use_external", "is not needed: registries are spoken to directly"),
    ("policy_file", "is not acted upon: no other program is used to pull"),
    ("host", "is not used with accesstype local"),
    ("ssh", "is not used with accesstype local"),
];
