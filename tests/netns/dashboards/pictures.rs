//! Panels as pictures, drawn by `cargo xtask dash render` of what this mesh does. Those in docs/images are made here, too:
//! `WEIR_PICTURES=docs/images cargo test -p weir-tests --test dashboards panel`.

use std::env;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use weir_testbed::{binary, run_to_end};
use weir_tests::{PATIENCE, eventually};

use crate::prometheus::{POD, PORT, deploy};
use crate::scene::Scene;

/// The panels that docs show, and the files they are drawn to.
const SHOWN: [(&str, &str); 2] = [
    ("service: incoming requests by source and", "service-incoming-requests-by-source-and-response-code.png"),
    ("agent: refused connections", "agent-refused-connections.png"),
];
/// How long a mesh is watched for the pictures in docs.
const WATCHED: Duration = Duration::from_secs(240);
/// The seconds of it in which not all is well.
const BAD: Range<u64> = 80..130;
/// The largest picture that docs take, in bytes.
const LARGEST: usize = 200_000;
/// How wide and how high a picture is at least, in pixels.
const LEAST: (u32, u32) = (1_720, 600);

pub(crate) fn are_drawn(scene: &Scene) {
    let wanted = env::var_os("WEIR_PICTURES").map(|dir| deploy().parent().unwrap().join(dir));
    if wanted.is_some() {
        busy(scene).unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    }
    let dir = wanted.unwrap_or_else(|| scene.topology.work_dir().join("pictures"));
    for (panel, file) in SHOWN {
        let (mut text, mut picture) = (String::new(), Vec::new());
        // A line begins with the second scrape that saw something.
        let done = eventually("a panel has something to draw", || {
            draw(scene, &dir, panel, &["--png"])?;
            picture = fs::read(dir.join(file)).with_context(|| file.to_owned())?;
            let drawing = scene.topology.work_dir().join("drawings");
            draw(scene, &drawing, panel, &[])?;
            text = fs::read_to_string(drawing.join(file).with_extension("svg")).with_context(|| file.to_owned())?;
            Ok(true)
        });
        done.unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
        let lines: Vec<&str> = text.split("<polyline points=\"").skip(1).collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(',')), "no line in {file}: {text}");
        assert!(picture.len() < LARGEST, "{file} has {} bytes", picture.len());
        let (width, height) = size(&picture).unwrap_or_else(|| panic!("{file} is no PNG"));
        assert!(width >= LEAST.0 && height >= LEAST.1, "{file} is of {width} by {height} pixels");
    }
}

/// Two clients that ask for more and less, some of it in vain; and a while in which a service fails and a policy refuses.
fn busy(scene: &Scene) -> anyhow::Result<()> {
    let start = Instant::now();
    for round in 0u64.. {
        let second = start.elapsed().as_secs();
        if second > WATCHED.as_secs() {
            break;
        }
        scene.request("client", "/", 200)?;
        if round % 3 == second / 60 % 3 {
            scene.request("web", "/", 200)?;
        }
        if round % 20 == 0 {
            scene.request("client", "/missing", 404)?;
        }
        if BAD.contains(&second) && round % 4 == 0 {
            scene.request("web", "/broken", 503)?;
            scene.refused()?;
        }
    }
    Ok(())
}

/// The width and the height that a PNG's header says (PNG specification, 11.2.2).
fn size(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?))
}

fn draw(scene: &Scene, dir: &Path, panel: &str, how: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(binary("xtask")?);
    command.args(["dash", "render", "--only", panel, "--set", "service=web.default.svc.cluster.local"]);
    command.args(["--seconds", &WATCHED.as_secs().to_string(), "--prometheus", &format!("http://[::1]:{PORT}")]);
    command.args(how).arg("--out").arg(dir);
    run_to_end(scene.topology.pod(POD).netns(), command, PATIENCE).map(drop)
}
