//! Real folders, changed the ways people and machines change them.

use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Longer than any update should take, and far shorter than the poll, so that what arrives came from the watch.
const DEADLINE: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(3600);

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: Some("n1".parse().unwrap()),
        cluster_domain: Default::default(),
        root_namespace: "istio-system".parse().unwrap(),
    }
}

fn pod(name: &str, octet: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: n1, containers: [{{name: app}}]}}\n\
         status: {{phase: Running, podIPs: [{{ip: 10.0.0.{octet}}}, {{ip: 'fd00::{octet}'}}]}}\n---\n"
    )
}

fn open(folder: &Path, poll: Duration) -> (Arc<World>, FolderSource) {
    let timing = Timing { poll, ..Timing::default() };
    FolderSource::open_with(folder, settings(), timing).expect("the folder is good")
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.workloads().map(|workload| workload.name.to_string()).collect();
    names.sort();
    names
}

async fn next(source: &mut FolderSource) -> Update {
    timeout(DEADLINE, source.next()).await.expect("an update in time")
}

async fn next_names(source: &mut FolderSource) -> Vec<String> {
    match next(source).await {
        Update::World(world) => names(&world),
        Update::Rejected(errors) => panic!("{errors:?}"),
    }
}

async fn next_errors(source: &mut FolderSource) -> Vec<String> {
    match next(source).await {
        Update::World(world) => panic!("taken: {:?}", names(&world)),
        Update::Rejected(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test]
async fn files_edited_added_and_removed_are_followed() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a.yaml"), pod("a", 1)).unwrap();
    fs::write(path(".hidden.yaml"), pod("hidden", 2)).unwrap();
    fs::write(path("notes.txt"), "no manifest").unwrap();
    let (world, mut source) = open(dir.path(), NEVER);
    assert_eq!(names(&world), ["a"]);
    assert_eq!(world.local_pods().len(), 1);

    fs::write(path("a.yaml"), pod("a", 1) + &pod("b", 2)).unwrap();
    assert_eq!(next_names(&mut source).await, ["a", "b"]);
    fs::write(path("c.yml"), pod("c", 3)).unwrap();
    assert_eq!(next_names(&mut source).await, ["a", "b", "c"]);
    fs::remove_file(path("a.yaml")).unwrap();
    assert_eq!(next_names(&mut source).await, ["c"]);
    fs::write(path("d.tmp"), pod("d", 4)).unwrap();
    fs::rename(path("d.tmp"), path("d.yaml")).unwrap();
    assert_eq!(next_names(&mut source).await, ["c", "d"]);
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"x\"}}";
    fs::write(path("e.json"), json).unwrap();
    assert_eq!(next_names(&mut source).await, ["c", "d"]);
}

#[tokio::test]
async fn a_config_map_mount_is_followed_through_its_links() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let swap = |version: &str, text: String| {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("app.yaml"), text).unwrap();
        symlink(version, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    swap("..2026_1", pod("one", 1));
    symlink("..data/app.yaml", path("app.yaml")).unwrap();
    let (world, mut source) = open(dir.path(), NEVER);
    assert_eq!(names(&world), ["one"]);

    swap("..2026_2", pod("two", 2));
    fs::remove_dir_all(path("..2026_1")).unwrap();
    assert_eq!(next_names(&mut source).await, ["two"]);
    swap("..2026_3", pod("three", 3));
    assert_eq!(next_names(&mut source).await, ["three"]);
    // What the link leads to is edited where it is.
    fs::write(path("..2026_3/app.yaml"), pod("four", 4)).unwrap();
    assert_eq!(next_names(&mut source).await, ["four"]);
}

#[tokio::test]
async fn a_bad_file_is_reported_once_and_its_repair_is_a_new_world() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let good = pod("a", 1);
    fs::write(path("a.yaml"), &good).unwrap();
    fs::write(path("b.yaml"), pod("b", 2)).unwrap();
    let (_, mut source) = open(dir.path(), Duration::from_millis(100));

    fs::write(path("b.yaml"), pod("b", 2).replace("nodeName", "nodename")).unwrap();
    let errors = next_errors(&mut source).await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    for part in ["b.yaml:4", "Pod default/b", "spec.nodename", "did you mean \"nodeName\""] {
        assert!(errors[0].contains(part), "{part} is not in {}", errors[0]);
    }
    let again = timeout(Duration::from_millis(600), source.next()).await;
    assert!(again.is_err(), "told again: {again:?}");
    fs::write(path("b.yaml"), pod("b", 2)).unwrap();
    assert_eq!(next_names(&mut source).await, ["a", "b"]);
}

#[tokio::test]
async fn what_would_lose_objects_by_accident_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a.yaml"), pod("a", 1)).unwrap();
    let (_, mut source) = open(dir.path(), NEVER);

    fs::write(path("a.yaml"), "").unwrap();
    assert!(next_errors(&mut source).await[0].contains("the file is empty"));
    fs::write(path("a.yaml"), b"a: \xff").unwrap();
    assert!(next_errors(&mut source).await[0].contains("not UTF-8 at byte 3"));
    symlink("nowhere", path("b.yaml")).unwrap();
    assert!(next_errors(&mut source).await.iter().any(|error| error.contains("b.yaml: cannot be read")));
    fs::remove_file(path("b.yaml")).unwrap();
    fs::write(path("a.yaml"), pod("a", 1)).unwrap();
    assert_eq!(next_names(&mut source).await, ["a"]);

    let moved = dir.path().with_extension("moved");
    fs::rename(dir.path(), &moved).unwrap();
    assert!(next_errors(&mut source).await[0].contains("cannot list the folder"));
    fs::rename(&moved, dir.path()).unwrap();
    assert_eq!(next_names(&mut source).await, ["a"]);
    // The watch is on the folder that came back.
    fs::write(path("b.yaml"), pod("b", 2)).unwrap();
    assert_eq!(next_names(&mut source).await, ["a", "b"]);
}

#[tokio::test]
async fn a_file_is_not_read_while_its_writer_is_in_the_middle_of_it() {
    use std::io::Write;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.yaml");
    fs::write(&path, pod("a", 1) + &pod("b", 2)).unwrap();
    let (_, mut source) = open(dir.path(), NEVER);
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(pod("a", 1).as_bytes()).unwrap();
    // Five times the quiet that would otherwise be enough.
    let early = timeout(Duration::from_millis(250), source.next()).await;
    assert!(early.is_err(), "half a file was read: {early:?}");
    file.write_all(pod("c", 3).as_bytes()).unwrap();
    drop(file);
    assert_eq!(next_names(&mut source).await, ["a", "c"]);
}

#[tokio::test]
async fn a_change_that_no_event_told_of_is_found_by_polling() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.yaml"), pod("a", 1)).unwrap();
    let (_, mut source) = open(dir.path(), Duration::from_millis(100));
    source.watch = Watch::deaf();
    fs::write(dir.path().join("a.yaml"), pod("b", 1)).unwrap();
    assert_eq!(next_names(&mut source).await, ["b"]);
}

#[tokio::test]
async fn a_cancelled_wait_loses_no_change() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.yaml"), pod("a", 1)).unwrap();
    let (_, mut source) = open(dir.path(), NEVER);
    fs::write(dir.path().join("a.yaml"), pod("b", 1)).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let update = loop {
        assert!(Instant::now() < deadline, "the change was lost");
        // Long enough to settle only now and then.
        if let Ok(update) = timeout(Duration::from_millis(60), source.next()).await {
            break update;
        }
    };
    assert!(matches!(update, Update::World(world) if names(&world) == ["b"]));
}

/// As an agent does that also looks at other things all the time.
async fn impatient(source: &mut FolderSource) -> Vec<String> {
    let taken = async {
        loop {
            if let Ok(update) = timeout(Duration::from_millis(100), source.next()).await {
                return update;
            }
        }
    };
    match timeout(DEADLINE, taken).await.expect("an update in time, however often the wait for it is cancelled") {
        Update::World(world) => names(&world),
        Update::Rejected(errors) => panic!("{errors:?}"),
    }
}

#[tokio::test]
async fn who_cancels_all_the_time_still_gets_each_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, pod("a", 1)).unwrap();
    // A writer that never closes its file is waited for as long as patience lasts.
    let (_, mut source) = open(folder.path(), NEVER);
    let mut writer = fs::File::options().append(true).open(&file).unwrap();
    std::io::Write::write_all(&mut writer, pod("b", 2).as_bytes()).unwrap();
    assert_eq!(impatient(&mut source).await, ["a", "b"]);
    drop(writer);
    // What no event told of.
    let (_, mut source) = open(folder.path(), Duration::from_millis(500));
    source.watch = Watch::deaf();
    fs::write(&file, pod("c", 3)).unwrap();
    assert_eq!(impatient(&mut source).await, ["c"]);
    // A reading that takes longer than anybody waits.
    let timing = Timing { poll: NEVER, ..Timing::default() };
    let (_silent, never) = std::sync::mpsc::channel::<()>();
    let never = std::sync::Mutex::new(never);
    let slow = move |objects| {
        let _late = never.lock().unwrap().recv_timeout(Duration::from_millis(300));
        Arc::new(World::new(compile(objects, &settings())))
    };
    let (_, mut source) = FolderSource::open_as(folder.path(), timing, slow).expect("the folder is good");
    fs::write(&file, pod("d", 4)).unwrap();
    assert_eq!(impatient(&mut source).await, ["d"]);
}

#[test]
fn a_folder_that_cannot_be_taken_is_not_opened() {
    let dir = TempDir::new().unwrap();
    let missing = FolderSource::open(&dir.path().join("missing"), settings()).map(|_| ()).unwrap_err();
    assert!(matches!(missing.as_slice(), [SourceError::Folder { .. }]));
    let policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict}\nspec: {mtls: {mode: strict}}\n";
    fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    fs::write(dir.path().join("pod.yaml"), pod("a", 1)).unwrap();
    let errors = FolderSource::open(dir.path(), settings()).map(|_| ()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().contains("PeerAuthentication default/strict: spec.mtls.mode: expected"),
        "{}",
        errors[0]
    );
}
