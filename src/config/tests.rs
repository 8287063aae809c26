//! Defaults, wrong settings and their errors.

use super::*;
use crate::wire;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn run(arguments: &[&str], pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    read(&arguments, env(pairs)).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The required settings.
const REQUIRED: &[(&str, &str)] = &[("WYLIS_NODE_NAME", "n1"), ("WYLIS_PEERS", "n2=10.0.0.2:9050")];

#[test]
fn defaults_are_those_of_the_table() {
    let config = run(&[], REQUIRED).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((config.interval, config.timeout), (seconds(10), seconds(5)));
    assert_eq!((config.refresh_interval, config.drain), (seconds(30), seconds(5)));
    assert_eq!((config.listen, config.peer_port), (None, 9050));
    assert_eq!((config.failure_threshold, config.log.as_str()), (3, "info"));
    let table = |variable: &str| {
        SETTINGS.iter().find(|setting| setting.variable == variable).unwrap().default
    };
    let shown: Vec<String> = config.buckets.iter().map(ToString::to_string).collect();
    assert_eq!(table("WYLIS_BUCKETS"), shown.join(","));
    for (variable, value) in [
        ("WYLIS_INTERVAL", config.interval),
        ("WYLIS_TIMEOUT", config.timeout),
        ("WYLIS_REFRESH_INTERVAL", config.refresh_interval),
        ("WYLIS_DRAIN", config.drain),
    ] {
        assert_eq!(table(variable), parse::format_duration(value), "{variable}");
    }
    assert!(!config.instance_is_pod_uid);
    assert_ne!(
        config.instance,
        run(&[], REQUIRED).unwrap().instance,
        "a random instance is new for each process"
    );
}

#[test]
fn hosts_are_asked_at_the_port_of_peers_or_another_one_or_not() {
    for (value, port) in [("on", Some(9060)), ("off", None), ("9", Some(9)), ("65535", Some(65535))]
    {
        let config = run(&["--peer-port", "9060", "--host-probe", value], REQUIRED).unwrap();
        assert_eq!(config.host_port, port, "{value}");
    }
    assert_eq!(run(&["--listen", "[::]:81"], REQUIRED).unwrap().host_port, Some(81), "default");
    for value in ["0", "65536", "yes", "ON", "10.0.0.1:9"] {
        let errors = run(&["--host-probe", value], REQUIRED).unwrap_err();
        let expected =
            format!("--host-probe = {value:?}: must be on, off, or a port from 1 to 65535");
        assert_eq!(errors, [expected]);
    }
}

#[test]
fn a_flag_wins_over_its_variable() {
    let mut pairs = REQUIRED.to_vec();
    pairs.push(("WYLIS_INTERVAL", "20s"));
    assert_eq!(run(&["--interval", "1s"], &pairs).unwrap().interval, Duration::from_secs(1));
    assert_eq!(run(&["--interval=2s"], &pairs).unwrap().interval, Duration::from_secs(2));
}

#[test]
fn all_wrong_settings_are_reported_together_with_name_value_and_bound() {
    let errors = run(
        &["--timeout", "5", "--colour=red"],
        &[
            ("WYLIS_NODE_NAME", "a b"),
            ("WYLIS_PEERS", "n2=10.0.0.2:9050"),
            ("WYLIS_INTERVAL", "1ms"),
            ("WYLIS_INTERVALL", "1s"),
            ("WYLIS_BUCKETS", "2,1"),
            ("WYLIS_LOG", "wylis=loud"),
        ],
    )
    .unwrap_err();
    let has = |text: &str| {
        assert!(errors.iter().any(|error| error.contains(text)), "{text}: {errors:#?}")
    };
    has("--timeout = \"5\": must be a duration with its unit, such as 5s, from 10ms to 1m");
    has("--colour = \"red\": unknown flag; see wylis --help");
    has("WYLIS_NODE_NAME = \"a b\"");
    has(
        "WYLIS_INTERVAL = \"1ms\": must be a duration with its unit, such as 10s, from 100ms to 1h",
    );
    has("WYLIS_INTERVALL = \"1s\": unknown setting");
    has("WYLIS_BUCKETS = \"2,1\"");
    has("WYLIS_LOG = \"wylis=loud\"");
    assert_eq!(errors.len(), 7, "{errors:#?}");
}

#[test]
fn a_duration_with_a_space_or_two_units_is_told_to_have_neither() {
    let bounds = "must be a duration with its unit, such as 10s, from 100ms to 1h";
    let large = "must be 0s for none, or a duration with its unit from 1s to 24h";
    for (flag, expected) in [("--interval", bounds), ("--large-interval", large)] {
        for (text, hint) in [
            ("1 s", ": one number and one unit, without a space"),
            ("1h30m", ": one number and one unit, without a space"),
            ("100h", ""),
            ("10", ""),
            ("1d", ""),
        ] {
            let errors = run(&[&format!("{flag}={text}")], REQUIRED).unwrap_err();
            assert_eq!(errors, [format!("{flag} = {text:?}: {expected}{hint}")]);
        }
    }
}

#[test]
fn a_misspelt_log_level_is_refused() {
    for (arguments, name) in [(&["--log", "inof"][..], "--log"), (&[], "WYLIS_LOG")] {
        let mut pairs = REQUIRED.to_vec();
        pairs.push(("WYLIS_LOG", "wylis=debug,inof"));
        let errors = run(arguments, &pairs).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].starts_with(name), "{errors:#?}");
        assert!(errors[0].ends_with("begin with wylis, rustls, tiny_http, ureq, ureq_proto"));
    }
    assert_eq!(
        run(&["--log=wylis::gate=debug,warn"], REQUIRED).unwrap().log,
        "wylis::gate=debug,warn"
    );
    assert_eq!(run(&["--log", " trace "], REQUIRED).unwrap().log, "trace");
}

#[test]
fn a_repeated_flag_is_refused() {
    let errors = run(&["--interval", "1s", "--drain=2s", "--interval=2s"], REQUIRED).unwrap_err();
    assert_eq!(errors, ["--interval = \"2s\": is given more than once"]);
    let errors = run(&["--interval", "1", "--interval", "1s"], REQUIRED).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:#?}");
}

#[test]
fn an_unknown_flag_and_its_value_are_one_error() {
    let errors = run(&["--colour", "red", "--drain", "1s", "more"], REQUIRED).unwrap_err();
    let expected = [
        "--colour = \"red\": unknown flag; see wylis --help",
        "more: unexpected argument; see wylis --help",
    ];
    assert_eq!(errors, expected);
    assert_eq!(run(&["--colour"], REQUIRED).unwrap_err().len(), 1);
}

#[test]
fn a_flag_is_not_the_value_of_another() {
    let errors = run(&["--interval", "--drain", "1s", "--timeout"], REQUIRED).unwrap_err();
    assert_eq!(errors, ["--interval: needs a value", "--timeout: needs a value"]);
    let errors = run(&["--drain", "-1s"], REQUIRED).unwrap_err();
    assert_eq!(errors, ["--drain: needs a value", "-1s: unknown flag; see wylis --help"]);
    assert_eq!(run(&["--drain=-1s"], REQUIRED).unwrap_err().len(), 1);
}

#[test]
fn variables_of_a_kubernetes_service_called_wylis_are_ignored() {
    let mut pairs = REQUIRED.to_vec();
    pairs.extend([
        ("WYLIS_SERVICE_HOST", "10.96.0.7"),
        ("WYLIS_SERVICE_PORT_HTTP", "9050"),
        ("WYLIS_PORT", "tcp://10.96.0.7:9050"),
        ("WYLIS_PORT_9050_TCP_ADDR", "10.96.0.7"),
    ]);
    assert!(run(&[], &pairs).is_ok());
}

#[test]
fn without_kubernetes_and_without_a_list_the_error_names_both() {
    let errors = run(&[], &[("WYLIS_NODE_NAME", "n1")]).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("WYLIS_PEERS_FILE"), "{errors:#?}");
}

#[test]
fn the_namespace_defaults_to_that_of_the_service_account() {
    let dir = std::env::temp_dir().join(format!("wylis-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("namespace"), "mesh\n").unwrap();
    let pairs = [
        ("WYLIS_NODE_NAME", "n1"),
        ("WYLIS_SERVICE_ACCOUNT_DIR", dir.to_str().unwrap()),
        ("KUBERNETES_SERVICE_HOST", "fd00::1"),
        ("KUBERNETES_SERVICE_PORT", "6443"),
    ];
    let config = run(&[], &pairs);
    std::fs::remove_dir_all(&dir).unwrap();
    let DiscoveryConfig::Kubernetes { host, port, namespace, label_selector, .. } =
        config.unwrap().discovery
    else {
        panic!("not Kubernetes")
    };
    assert_eq!((host.as_str(), port, namespace.as_str()), ("fd00::1", 6443, "mesh"));
    assert_eq!(label_selector, "app.kubernetes.io/name=wylis");
}

#[test]
fn a_peer_list_and_a_peers_file_exclude_each_other() {
    let mut pairs = REQUIRED.to_vec();
    pairs.push(("WYLIS_PEERS_FILE", "/etc/peers"));
    let errors = run(&[], &pairs).unwrap_err();
    assert!(errors[0].contains("cannot be used together"), "{errors:#?}");
}

#[test]
fn a_peer_list_names_hosts_and_no_groups_of_them() {
    for (address, class) in
        [("224.0.0.1", "multicast"), ("255.255.255.255", "broadcast"), ("0.0.0.0", "unspecified")]
    {
        let list = format!("a={address}:9050");
        let pairs = [("WYLIS_NODE_NAME", "n1"), ("WYLIS_PEERS", list.as_str())];
        let expected = format!(
            "WYLIS_PEERS = {list:?}: line 1, {list:?}: the address is {class}, which no peer can have"
        );
        assert_eq!(run(&[], &pairs).unwrap_err(), [expected]);
    }
    let pairs =
        [("WYLIS_NODE_NAME", "n1"), ("WYLIS_PEERS", "a=127.0.0.2:9050,b=[fe80::1%lo]:9050")];
    assert!(run(&[], &pairs).is_ok());
}

#[test]
fn help_lists_every_setting() {
    let help = help();
    for setting in SETTINGS {
        assert!(help.contains(setting.variable) && help.contains(&setting.flag()));
    }
    assert!(help.contains(" [required]\n") && help.contains(" [default: 10s]\n"), "{help}");
}

#[test]
fn peers_believe_every_interval_that_an_agent_can_have() {
    const STEP: Duration = Duration::from_millis(1);
    let (min, max) = (wire::MIN_INTERVAL, wire::MAX_INTERVAL);
    for (interval, is_valid) in [(min, true), (min - STEP, false), (max, true), (max + STEP, false)]
    {
        let interval = format!("{}ms", interval.as_millis());
        assert_eq!(run(&["--interval", &interval], REQUIRED).is_ok(), is_valid, "{interval}");
    }
}
