//! The table form, which shows at a fraction of the cost that nothing has changed.

use std::time::{Duration, SystemTime};

use wylis::discovery::PeerSource;
use wylis::discovery::kubernetes::KubernetesSource;
use wylis_harness::api::{Behaviour, Request, TestPod, uid_of};

use crate::fixture::{Fixture, listed};

/// Unchanged tables before the pods are read again.
const MAX_TABLES: usize = 20;

fn is_unchanged(source: &mut KubernetesSource) -> bool {
    source.list(SystemTime::now()).unwrap().is_none()
}

#[test]
fn while_nothing_changes_the_pods_are_read_every_20th_time() {
    let fixture = Fixture::new("127.64.1.1");
    let mut source = fixture.source();
    assert_eq!(listed(&mut source).len(), 2);
    assert_eq!((fixture.server.requests(), fixture.server.whole_lists()), (2, 1));
    for _ in 1..MAX_TABLES {
        assert!(is_unchanged(&mut source));
    }
    assert_eq!(fixture.server.whole_lists(), 1);
    assert_eq!(listed(&mut source).len(), 2, "the pods again");
    assert_eq!((fixture.server.requests(), fixture.server.whole_lists()), (MAX_TABLES + 3, 2));
    assert!(is_unchanged(&mut source));
}

#[test]
fn a_table_is_a_fraction_of_the_pods() {
    let fixture = Fixture::new("127.64.2.1");
    for number in 0..98_u8 {
        let name = format!("w{number}");
        fixture.server.pods().put(TestPod::new(
            &name,
            &format!("n{number}"),
            &format!("10.2.0.{number}"),
        ));
    }
    let mut source = fixture.source();
    assert_eq!(listed(&mut source).len(), 100);
    let both = fixture.server.bytes_sent();
    assert!(is_unchanged(&mut source));
    let rows = fixture.server.bytes_sent() - both;
    assert!(rows * 20 < both - rows, "{rows} of {both}");
}

#[test]
fn every_change_of_a_peer_shows_in_its_row() {
    let fixture = Fixture::new("127.64.3.1");
    let pods = fixture.server.pods();
    let mut source = fixture.source();
    listed(&mut source);
    let changes: [&dyn Fn(); 5] = [
        &|| pods.set_ready("wylis-a", false),
        &|| pods.edit("wylis-a", |pod| pod.ips = vec!["10.1.0.77".to_owned()]),
        &|| pods.terminate("wylis-a", i64::from(u32::MAX)),
        &|| pods.remove("wylis-a"),
        &|| pods.put(TestPod::new("wylis-a2", "node-a", "10.1.0.77")),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        change();
        let set = listed(&mut source);
        assert!(is_unchanged(&mut source), "{number}");
        let a = set.iter().find(|peer| peer.node.as_str() == "node-a");
        let found = a.map(|peer| (peer.address.ip().to_string(), peer.ready));
        let expected = match number {
            0 => Some(("10.1.0.2", false)),
            1 => Some(("10.1.0.77", false)),
            2 | 3 => None,
            _ => Some(("10.1.0.77", true)),
        };
        assert_eq!(found, expected.map(|(ip, ready)| (ip.to_owned(), Some(ready))), "{number}");
    }
    let set = fixture.source().list(SystemTime::now()).unwrap().unwrap();
    let instances: Vec<_> = set.iter().filter_map(|peer| peer.instance.clone()).collect();
    assert!(instances.iter().any(|instance| instance.as_str() == uid_of("wylis-a2")));
}

#[test]
fn a_pod_becomes_abandoned_while_its_row_stays_the_same() {
    let fixture = Fixture::new("127.64.4.1");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    fixture.server.pods().terminate("wylis-a", i64::try_from(now).unwrap() + 3600);
    let mut source = fixture.source();
    assert_eq!(listed(&mut source).len(), 1);
    fixture.server.set_clock_ahead(Duration::from_secs(3600));
    assert!(is_unchanged(&mut source), "past its deadline, but not for long enough");
    fixture.server.set_clock_ahead(Duration::from_secs(3700));
    assert_eq!(listed(&mut source).len(), 2, "its node is probably dead");
    assert!(is_unchanged(&mut source));
}

#[test]
fn pods_are_no_older_than_the_table_before_them() {
    let fixture = Fixture::new("127.64.5.1");
    let mut source = fixture.source();
    listed(&mut source);
    fixture.server.pods().set_ready("wylis-a", false);
    listed(&mut source);
    let [.., table, pods] = &fixture.server.log()[..] else { panic!("two requests") };
    assert!(table.wants_table() && !pods.wants_table());
    assert_eq!(table.query("includeObject").as_deref(), Some("None"));
    assert_eq!(pods.query("includeObject"), None);
    let version = fixture.server.pods().version().to_string();
    assert_eq!(pods.query("resourceVersion"), Some(version));
    assert_eq!(pods.query("resourceVersionMatch").as_deref(), Some("NotOlderThan"));
}

#[test]
fn a_change_is_not_lost_when_reading_the_pods_fails() {
    let fixture = Fixture::new("127.64.6.1");
    let mut source = fixture.source();
    listed(&mut source);
    fixture.server.pods().set_ready("wylis-a", false);
    fixture.server.next(1, &Behaviour::Proper);
    fixture.server.next(1, &Behaviour::status(500));
    assert_eq!(source.list(SystemTime::now()).unwrap_err().reason().as_str(), "server_error");
    let set = listed(&mut source);
    assert!(set.iter().any(|peer| peer.ready == Some(false)));
}

#[test]
fn a_server_without_tables_sends_the_pods_at_once() {
    let fixture = Fixture::new("127.64.7.1");
    fixture.server.know_no_tables();
    let mut source = fixture.source();
    for requests in 1..4 {
        assert_eq!(listed(&mut source).len(), 2);
        assert_eq!(fixture.server.requests(), requests);
    }
    assert!(fixture.server.log().iter().all(Request::wants_table), "it may support them later");
}

#[test]
fn an_unreadable_table_costs_one_more_request() {
    let fixture = Fixture::new("127.64.8.1");
    let mut source = fixture.source();
    let strange = [
        Behaviour::garbage(),
        Behaviour::status(406),
        Behaviour::Truncated,
        Behaviour::Body(table("[{\"name\":\"Name\"},{\"name\":\"Node\"}]", "[]")),
        Behaviour::Body(table(COLUMNS, "[{\"cells\":[\"a\",\"1/1\",\"Running\"]}]")),
        Behaviour::Body(table(COLUMNS, "[{\"cells\":[\"a\",7,\"Running\",\"10.0.0.1\",\"n\"]}]")),
        Behaviour::Body(table(COLUMNS, "[7]")),
    ];
    for (number, behaviour) in strange.into_iter().enumerate() {
        fixture.server.next(1, &behaviour);
        assert_eq!(listed(&mut source).len(), 2, "{number}");
        assert_eq!(fixture.server.whole_lists(), number + 1);
    }
    // Other failures would happen to the pods as well.
    for (behaviour, reason) in
        [(Behaviour::status(403), "forbidden"), (Behaviour::Close, "network")]
    {
        let seen = fixture.server.requests();
        fixture.server.next(1, &behaviour);
        assert_eq!(source.list(SystemTime::now()).unwrap_err().reason().as_str(), reason);
        assert_eq!(fixture.server.requests(), seen + 1);
    }
}

#[test]
fn a_table_with_too_many_rows_is_too_large() {
    let fixture = Fixture::new("127.64.9.1");
    let row = "{\"cells\":[\"a\",\"1/1\",\"Running\",\"10.0.0.1\",\"n\"]},";
    let rows = format!("[{}]", row.repeat(10_001).trim_end_matches(','));
    fixture.server.always(Behaviour::Body(table(COLUMNS, &rows)));
    let error = fixture.source().list(SystemTime::now()).unwrap_err();
    assert_eq!(error.reason().as_str(), "too_large");
    assert_eq!(fixture.server.requests(), 1);
}

const COLUMNS: &str = "[{\"name\":\"Name\"},{\"name\":\"Ready\"},{\"name\":\"Status\"},\
                       {\"name\":\"IP\"},{\"name\":\"Node\"}]";

fn table(columns: &str, rows: &str) -> String {
    format!(
        "{{\"kind\":\"Table\",\"metadata\":{{\"resourceVersion\":\"7\"}},\
         \"columnDefinitions\":{columns},\"rows\":{rows}}}"
    )
}
