//! A node as folders.

use super::*;

const CHAIN: &str = r#"{"zeta": 1, "cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge", "mtu": 1450, "a": 0}, {"type": "portmap"}], "more": [1.5]}"#;
const SINGLE: &str = r#"{"cniVersion": "0.3.1", "name": "net", "type": "bridge", "mtu": 1450}"#;

struct Node {
    folder: tempfile::TempDir,
    folders: CniFolders,
}

impl Node {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (conf_dir, bin_dir) = (folder.path().join("net.d"), folder.path().join("bin"));
        fs::create_dir(&conf_dir).unwrap();
        fs::write(folder.path().join("plugin"), "the plugin").unwrap();
        for (name, text) in files {
            fs::write(conf_dir.join(name), text).unwrap();
        }
        Self { folder, folders: CniFolders { conf_dir, bin_dir } }
    }

    fn install(&self) -> Result<String, String> {
        let chain = install(&self.folders, &self.folder.path().join("plugin"), "/s");
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        chain.map(name).map_err(|error| crate::enrol::chain(&error))
    }

    fn uninstall(&self) -> Result<usize, String> {
        uninstall(&self.folders).map_err(|error| crate::enrol::chain(&error))
    }

    /// The files of the configuration, and what is in them.
    fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(&self.folders.conf_dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folders.conf_dir.join(name)).unwrap()
    }

    fn plugin(&self) -> PathBuf {
        self.folders.bin_dir.join(PLUGIN)
    }
}

/// As it is written, order included.
fn written(text: &str) -> String {
    format!("{:#}\n", serde_json::from_str::<Value>(text).unwrap())
}

#[test]
fn the_first_chain_gets_the_plugin_as_its_last_and_nothing_else_changes() {
    let node = Node::new(&[("10-net.conflist", CHAIN), ("20-other.conflist", CHAIN), ("05-notes.txt", "no")]);
    assert_eq!(node.install(), Ok("10-net.conflist".to_owned()));
    let want =
        CHAIN.replace(r#"{"type": "portmap"}"#, r#"{"type": "portmap"}, {"type": "weir-cni", "agentSocket": "/s"}"#);
    assert_eq!(node.file("10-net.conflist"), written(&want));
    assert_eq!(node.file("20-other.conflist"), CHAIN);
    assert_eq!(fs::read_to_string(node.plugin()).unwrap(), "the plugin");
    assert_eq!(fs::metadata(node.plugin()).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(&node.folders.bin_dir).unwrap().count(), 1, "something unfinished is left");

    let files = node.files();
    assert_eq!(node.install(), Ok("10-net.conflist".to_owned()));
    assert_eq!(node.files(), files, "a second time changes something");

    assert_eq!(node.uninstall(), Ok(1));
    assert_eq!(node.file("10-net.conflist"), written(CHAIN));
    assert!(!node.plugin().exists());
    assert_eq!(node.uninstall(), Ok(0));
}

#[test]
fn an_entry_that_is_there_keeps_what_people_wrote_and_becomes_the_last() {
    let node = Node::new(&[(
        "10-net.conflist",
        r#"{"cniVersion": "1.1.0", "plugins": [{"type": "weir-cni", "timeout": 5, "agentSocket": "/old"}, {"type": "a"}]}"#,
    )]);
    node.install().unwrap();
    let want = r#"{"cniVersion": "1.1.0", "plugins": [{"type": "a"}, {"type": "weir-cni", "timeout": 5, "agentSocket": "/s"}]}"#;
    assert_eq!(node.file("10-net.conflist"), written(want));
}

#[test]
fn a_configuration_that_is_no_chain_gets_one_that_comes_first() {
    let node = Node::new(&[("10-net.conf", SINGLE)]);
    assert_eq!(node.install(), Ok(OWN_CHAIN.to_owned()));
    let want = |inner: &str, version: &str| {
        let ours = r#"{"type": "weir-cni", "agentSocket": "/s"}"#;
        written(&format!(r#"{{"cniVersion": "{version}", "name": "net", "plugins": [{inner}, {ours}]}}"#))
    };
    assert_eq!(node.file(OWN_CHAIN), want(SINGLE, "0.3.1"));
    let files = node.files();
    node.install().unwrap();
    assert_eq!(node.files(), files, "a second time changes something");

    // The network's own configuration changes later.
    let newer = SINGLE.replace("0.3.1", "0.4.0");
    fs::write(node.folders.conf_dir.join("10-net.conf"), &newer).unwrap();
    node.install().unwrap();
    assert_eq!(node.file(OWN_CHAIN), want(&newer, "0.4.0"));

    assert_eq!(node.uninstall(), Ok(1));
    assert_eq!(node.files(), [("10-net.conf".to_owned(), newer)]);
}

#[test]
fn a_network_that_gets_a_chain_of_its_own_is_joined_there() {
    let node = Node::new(&[("10-net.conf", SINGLE)]);
    node.install().unwrap();
    fs::rename(node.folders.conf_dir.join("10-net.conf"), node.folders.conf_dir.join("old")).unwrap();
    fs::write(node.folders.conf_dir.join("10-net.conflist"), CHAIN).unwrap();
    assert_eq!(node.install(), Ok("10-net.conflist".to_owned()));
    assert!(!node.folders.conf_dir.join(OWN_CHAIN).exists());
}

#[test]
fn what_cannot_be_joined_is_named_and_left_alone() {
    let large = " ".repeat((1 << 20) + 1);
    for (name, text, says) in [
        ("10-net.conflist", "{", "is not JSON"),
        ("10-net.conflist", "[]", "cniVersion"),
        ("10-net.conflist", r#"{"cniVersion": "0.2.0", "plugins": [{}]}"#, "cniVersion"),
        ("10-net.conflist", r#"{"cniVersion": "1.0.0"}"#, "an array plugins"),
        ("10-net.conflist", r#"{"cniVersion": "1.0.0", "plugins": [{"type": "weir-cni"}]}"#, "a plugin before"),
        ("10-net.conf", "[]", "an object"),
        ("10-net.conf", r#"{"cniVersion": "1.0.0", "name": "n"}"#, "type"),
        ("10-net.conf", r#"{"cniVersion": "1.0.0", "type": "t"}"#, "name"),
        ("10-net.conf", r#"{"name": "n", "type": "t"}"#, "cniVersion"),
        ("00-net.conf", SINGLE, "rename it"),
        ("10-net.conflist", &large, "larger than"),
    ] {
        let node = Node::new(&[(name, text)]);
        let error = node.install().unwrap_err();
        assert!(error.contains(name) && error.contains(says), "{text:.60}: {error}");
        assert_eq!(node.files(), [(name.to_owned(), text.to_owned())], "{text:.60}");
        assert!(!node.plugin().exists(), "{text:.60}");
    }
    assert!(Node::new(&[]).install().unwrap_err().contains("no network configuration"));
}

#[test]
fn what_cannot_be_written_leaves_the_chain_as_it_was() {
    // A folder where the unfinished file would be: root, too, cannot write there.
    let node = Node::new(&[("10-net.conflist", CHAIN)]);
    fs::create_dir(node.folders.conf_dir.join(UNFINISHED)).unwrap();
    assert!(node.install().unwrap_err().contains(UNFINISHED));
    assert_eq!(node.file("10-net.conflist"), CHAIN);

    // Nobody can make a file in /proc; and no chain may name a plugin that is not there.
    let mut node = Node::new(&[("10-net.conflist", CHAIN)]);
    node.folders.bin_dir = PathBuf::from("/proc/self");
    assert!(node.install().unwrap_err().contains("/proc/self/weir-cni"));
    assert_eq!(node.file("10-net.conflist"), CHAIN);

    let node = Node::new(&[("10-net.conflist", CHAIN)]);
    fs::remove_file(node.folder.path().join("plugin")).unwrap();
    assert!(node.install().unwrap_err().contains("plugin"));
    assert_eq!(node.file("10-net.conflist"), CHAIN);
}

#[test]
fn uninstalling_passes_by_what_others_broke_but_not_what_names_us() {
    let node = Node::new(&[("05-broken.conflist", "{"), ("10-net.conflist", CHAIN)]);
    assert_eq!(node.uninstall(), Ok(0));
    let node = Node::new(&[("10-net.conflist", r#"{"plugins": [{"type": "weir-cni"}"#)]);
    assert!(node.uninstall().unwrap_err().contains("10-net.conflist"));
}

#[test]
fn a_link_to_a_chain_stays_one_and_its_mode_too() {
    let node = Node::new(&[]);
    let real = node.folder.path().join("real");
    fs::write(&real, CHAIN).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink(&real, node.folders.conf_dir.join("10-net.conflist")).unwrap();
    node.install().unwrap();
    assert!(fs::symlink_metadata(node.folders.conf_dir.join("10-net.conflist")).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains(PLUGIN));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o644);
}

impl Node {
    /// A look, and how often anything was put back so far.
    fn look(&self, repair: &mut Repair, next: repair::Next) -> (repair::Next, u64) {
        (repair.look(next), repair.count())
    }

    fn repair(&self) -> Repair {
        Repair::new(self.folders.clone(), self.folder.path().join("plugin"), "/s".to_owned(), Repairs::default())
    }
}

#[test]
fn what_others_take_out_is_put_back_until_it_is_uninstalled() {
    use repair::Next;
    let node = Node::new(&[]);
    let mut repair = node.repair();
    // A node without a network yet is waited for.
    assert_eq!(node.look(&mut repair, Next::Install), (Next::Install, 0));
    fs::write(node.folders.conf_dir.join("10-net.conflist"), CHAIN).unwrap();
    assert_eq!(node.look(&mut repair, Next::Install), (Next::PutBack, 0));
    let joined = node.file("10-net.conflist");
    assert!(joined.contains(PLUGIN) && node.plugin().exists());
    assert_eq!(node.look(&mut repair, Next::PutBack), (Next::PutBack, 0), "nothing to do");
    // Its network's agent writes it anew.
    fs::write(node.folders.conf_dir.join("10-net.conflist"), CHAIN).unwrap();
    assert_eq!(node.look(&mut repair, Next::PutBack), (Next::PutBack, 1));
    assert_eq!(node.file("10-net.conflist"), joined);
    // Half of it is there: it is tried again, and the old one stays.
    fs::write(node.folders.conf_dir.join("10-net.conflist"), &CHAIN[..40]).unwrap();
    assert_eq!(node.look(&mut repair, Next::PutBack), (Next::PutBack, 1));
    assert_eq!(node.file("10-net.conflist"), &CHAIN[..40]);
    fs::write(node.folders.conf_dir.join("10-net.conflist"), CHAIN).unwrap();
    assert_eq!(node.look(&mut repair, Next::PutBack), (Next::PutBack, 2));
    // Another network's comes first.
    fs::write(node.folders.conf_dir.join("05-other.conflist"), CHAIN).unwrap();
    assert_eq!(node.look(&mut repair, Next::PutBack), (Next::PutBack, 3));
    assert!(node.file("05-other.conflist").contains(PLUGIN));

    node.uninstall().unwrap();
    assert_eq!(node.look(&mut repair, Next::PutBack), (Next::Nothing, 3));
    assert!(node.files().iter().all(|(_, text)| !text.contains(PLUGIN)));
}

#[test]
fn a_chain_of_our_own_goes_when_the_network_has_one_that_names_us() {
    let node = Node::new(&[("10-net.conf", SINGLE)]);
    let mut repair = node.repair();
    assert_eq!(node.look(&mut repair, repair::Next::Install), (repair::Next::PutBack, 0));
    assert!(node.file(OWN_CHAIN).contains(PLUGIN));
    // The network's new chain, in which somebody installed us already.
    let other = Node::new(&[("05-net.conflist", CHAIN)]);
    other.install().unwrap();
    fs::write(node.folders.conf_dir.join("05-net.conflist"), other.file("05-net.conflist")).unwrap();
    assert_eq!(node.look(&mut repair, repair::Next::PutBack), (repair::Next::PutBack, 1));
    assert!(node.files().iter().all(|(name, _)| name != OWN_CHAIN));
}

#[tokio::test]
async fn a_change_of_the_folder_is_seen_and_the_end_of_the_agent_is_not_waited_for() {
    let node = Node::new(&[("10-net.conflist", CHAIN)]);
    let (repairs, stop) = (Repairs::default(), tokio::sync::Notify::new());
    let repair = Repair::new(node.folders.clone(), node.folder.path().join("plugin"), "/s".to_owned(), repairs.clone());
    let meddle = async {
        for count in 1..3 {
            while !node.file("10-net.conflist").contains(PLUGIN) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            fs::write(node.folders.conf_dir.join("10-net.conflist"), CHAIN).unwrap();
            while repairs.count() < count {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        stop.notify_one();
    };
    let both = async { tokio::join!(repair.run(stop.notified()), meddle) };
    tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
}
