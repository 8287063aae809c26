//! Agents in pods of their own, at sites around a router that can break paths between them.
//!
//! | element | addresses |
//! |---|---|
//! | the API server, on the router | 10.77.0.1 |
//! | the network of pod N, and the pod | 10.77.N.1, 10.77.N.2 |
//! | the link of far site N | the router at 10.78.N.1, the site's own router at 10.78.N.2 |

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use wylis_harness::TempDir;
use wylis_harness::device::Cable;
use wylis_harness::mesh::{Mesh, PORT};
use wylis_harness::netns::Namespace;

use super::binary;

/// Every agent, ten times faster than by default.
const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "3s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
    ("WYLIS_DRAIN", "1s"),
    ("WYLIS_LARGE_INTERVAL", "5s"),
];
const API: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A site: the one-way delay of its link to the router, if it has one, and the names of its nodes.
pub(crate) type Site<'a> = (Option<Duration>, &'a [&'a str]);

/// The pods by the names of their nodes, and their network; removed when dropped.
pub(crate) struct Pods {
    pub(crate) mesh: Mesh,
    names: Vec<String>,
    cables: Vec<Cable>,
    namespaces: Vec<Namespace>,
    pub(crate) router: Namespace,
    dir: TempDir,
}

fn address(pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, pod, 2)
}

impl Pods {
    /// Starts an agent on each node and waits until every pair was probed. `None`, with the reason
    /// printed, where no namespaces can be created.
    pub(crate) fn start(sites: &[Site<'_>]) -> Option<Self> {
        Self::start_with(sites, |_| None)
    }

    /// As [`Pods::start`], with the file `history` that the agent of a node finds.
    pub(crate) fn start_with(
        sites: &[Site<'_>],
        history: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Option<Self> {
        let router = Namespace::new("router")?;
        router.ip(&format!("addr add {API}/32 dev lo\n"));
        router.sysctl("ipv4/ip_forward", "1");
        let dir = TempDir::new("pods");
        let api = (router.entrance(), API.into());
        let mesh = Mesh::with_api_at(api, &reachable(&dir), FAST);
        let mut pods = Self {
            mesh,
            names: Vec::new(),
            cables: Vec::new(),
            namespaces: Vec::new(),
            router,
            dir,
        };
        for (number, (delay, nodes)) in (1..).zip(sites) {
            let site = match delay {
                Some(delay) => Some(pods.far_site(number, *delay)?),
                None => None,
            };
            for node in *nodes {
                if let Some(history) = history(node) {
                    let state = reachable_dir(&pods.dir, node);
                    std::fs::write(state.join("history"), history).expect("a history");
                    let state = state.display().to_string();
                    pods.mesh.set_environment(node, &[("WYLIS_STATE_DIR", &state)]);
                }
                pods.add(node, site.as_ref().map(|site| (number, site)))?;
            }
            pods.namespaces.extend(site);
        }
        pods.mesh.wait_for_all_pairs();
        Some(pods)
    }

    /// A router at the other end of a slow link.
    fn far_site(&mut self, number: u8, delay: Duration) -> Option<Namespace> {
        let site = Namespace::new(&format!("site{number}"))?;
        let link = format!("s{number}");
        let cable = Cable::plug((&site, "eth0"), (&self.router, &link));
        cable.set_delay(delay);
        self.cables.push(cable);
        self.router.ip(&format!("addr add 10.78.{number}.1/24 dev {link}\nlink set {link} up\n"));
        site.ip(&format!(
            "addr add 10.78.{number}.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.78.{number}.1\n"
        ));
        site.sysctl("ipv4/ip_forward", "1");
        Some(site)
    }

    /// A node, at the router or at a site.
    fn add(&mut self, node: &str, site: Option<(u8, &Namespace)>) -> Option<()> {
        self.names.push(node.to_owned());
        let number = u8::try_from(self.names.len()).expect("few pods");
        let pod = Namespace::new(&format!("pod{number}"))?;
        let gateway = site.map_or(&self.router, |(_, site)| site);
        gateway.ip(&format!(
            "link add p{number} type veth peer name eth0 netns {}\n\
             addr add 10.77.{number}.1/24 dev p{number}\nlink set p{number} up\n",
            pod.name()
        ));
        let own = address(number);
        pod.ip(&format!(
            "addr add {own}/24 dev eth0\nlink set eth0 up\nroute add default via 10.77.{number}.1\n"
        ));
        if let Some((site, _)) = site {
            self.router.ip(&format!("route add 10.77.{number}.0/24 via 10.78.{site}.2\n"));
        }
        self.mesh.add_at(node, &pod, own.into());
        self.namespaces.push(pod);
        Some(())
    }

    /// The page of a node, as seen from the router.
    pub(crate) fn url(&self, node: &str) -> String {
        format!("http://{}:{PORT}/", self.mesh.agent(node).address.ip())
    }

    fn between(&self, source: &str, target: &str) -> String {
        let at = |node| {
            let number =
                (1..).zip(&self.names).find_map(|(number, name)| (name == node).then_some(number));
            address(number.expect("a known node"))
        };
        format!("ip saddr {} ip daddr {}", at(source), at(target))
    }

    /// Drops all packets from one node to the other from now on.
    pub(crate) fn cut(&self, source: &str, target: &str) {
        self.rule(&format!("{} drop", self.between(source, target)));
    }

    /// Drops every fourth SYN from one node to the other from now on.
    pub(crate) fn lose(&self, source: &str, target: &str) {
        let opening = "tcp flags & (syn | ack) == syn numgen inc mod 4 == 0";
        self.rule(&format!("{} {opening} drop", self.between(source, target)));
    }

    fn rule(&self, rule: &str) {
        self.router.nft(&format!(
            "table inet faults {{
  chain path {{
    type filter hook forward priority filter; policy accept;
    {rule}
  }}
}}
"
        ));
    }
}

/// A folder that the agents' user may write.
fn reachable_dir(dir: &TempDir, name: &str) -> PathBuf {
    const NOBODY: u32 = 65_534;
    let path = dir.path().join(name);
    std::fs::create_dir(&path).expect("a folder");
    std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("it is root's");
    path
}

/// Copies the agent to a folder that its user may enter. Another process copies: a descriptor open for
/// writing that a child inherits would make the file busy.
fn reachable(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("wylis");
    let copied = Command::new("cp").arg(binary()).arg(&path).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy the agent");
    path
}
