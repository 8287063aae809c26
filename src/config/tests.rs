//! What a user can get wrong, and what they are told.

use super::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn run(arguments: &[&str], pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    match read(arguments.iter().map(|text| (*text).to_owned()), env(pairs)) {
        Ok(Command::Run(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

const LEAST: &[(&str, &str)] = &[("WYLIS_NODE_NAME", "n1"), ("WYLIS_PEERS", "n2=10.0.0.2:9050")];

#[test]
fn the_defaults_are_those_of_the_table() {
    let config = run(&[], LEAST).unwrap();
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
        assert_eq!(table(variable), parse::shown(value), "{variable}");
    }
    assert!(!config.instance_is_pod_uid);
    assert_ne!(config.instance, run(&[], LEAST).unwrap().instance, "an instance is one life");
}

#[test]
fn a_flag_wins_over_its_variable() {
    let mut pairs = LEAST.to_vec();
    pairs.push(("WYLIS_INTERVAL", "20s"));
    assert_eq!(run(&["--interval", "1s"], &pairs).unwrap().interval, Duration::from_secs(1));
    assert_eq!(run(&["--interval=2s"], &pairs).unwrap().interval, Duration::from_secs(2));
}

#[test]
fn all_wrong_settings_are_told_at_once_with_name_value_and_bound() {
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
    has("--colour = \"red\": is no flag of Wylis");
    has("WYLIS_NODE_NAME = \"a b\"");
    has(
        "WYLIS_INTERVAL = \"1ms\": must be a duration with its unit, such as 10s, from 100ms to 1h",
    );
    has("WYLIS_INTERVALL = \"1s\": is no setting");
    has("WYLIS_BUCKETS = \"2,1\"");
    has("WYLIS_LOG = \"wylis=loud\"");
    assert_eq!(errors.len(), 7, "{errors:#?}");
}

#[test]
fn a_misspelt_level_is_not_taken_for_a_module() {
    for (arguments, name) in [(&["--log", "inof"][..], "--log"), (&[], "WYLIS_LOG")] {
        let mut pairs = LEAST.to_vec();
        pairs.push(("WYLIS_LOG", "wylis=debug,inof"));
        let errors = run(arguments, &pairs).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].starts_with(name), "{errors:#?}");
        assert!(errors[0].ends_with("begin with wylis, rustls, tiny_http, ureq, ureq_proto"));
    }
    assert_eq!(
        run(&["--log=wylis::gate=debug,warn"], LEAST).unwrap().log,
        "wylis::gate=debug,warn"
    );
    assert_eq!(run(&["--log", " trace "], LEAST).unwrap().log, "trace");
}

#[test]
fn a_flag_that_is_given_twice_is_refused() {
    let errors = run(&["--interval", "1s", "--drain=2s", "--interval=2s"], LEAST).unwrap_err();
    assert_eq!(errors, ["--interval = \"2s\": is given more than once"]);
    let errors = run(&["--interval", "1", "--interval", "1s"], LEAST).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:#?}");
}

#[test]
fn an_unknown_flag_and_its_value_are_one_error() {
    let errors = run(&["--colour", "red", "--drain", "1s", "more"], LEAST).unwrap_err();
    let expected = ["--colour = \"red\"", "more"];
    let expected = expected.map(|what| format!("{what}: is no flag of Wylis; see --help"));
    assert_eq!(errors, expected);
    assert_eq!(run(&["--colour"], LEAST).unwrap_err().len(), 1);
}

#[test]
fn a_flag_is_not_the_value_of_another() {
    let errors = run(&["--interval", "--drain", "1s", "--timeout"], LEAST).unwrap_err();
    assert_eq!(errors, ["--interval: needs a value", "--timeout: needs a value"]);
    assert_eq!(run(&["--drain", "-1s"], LEAST).unwrap_err().len(), 1);
}

#[test]
fn what_kubernetes_injects_for_a_service_called_wylis_is_ignored() {
    let mut pairs = LEAST.to_vec();
    pairs.extend([
        ("WYLIS_SERVICE_HOST", "10.96.0.7"),
        ("WYLIS_SERVICE_PORT_HTTP", "9050"),
        ("WYLIS_PORT", "tcp://10.96.0.7:9050"),
        ("WYLIS_PORT_9050_TCP_ADDR", "10.96.0.7"),
    ]);
    assert!(run(&[], &pairs).is_ok());
}

#[test]
fn outside_a_cluster_and_without_a_list_the_user_is_told_both_ways() {
    let errors = run(&[], &[("WYLIS_NODE_NAME", "n1")]).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("WYLIS_PEERS_FILE"), "{errors:#?}");
}

#[test]
fn in_a_cluster_the_namespace_is_the_service_accounts() {
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
fn the_list_and_the_file_exclude_each_other() {
    let mut pairs = LEAST.to_vec();
    pairs.push(("WYLIS_PEERS_FILE", "/etc/peers"));
    let errors = run(&[], &pairs).unwrap_err();
    assert!(errors[0].contains("cannot be used together"), "{errors:#?}");
}

#[test]
fn help_names_every_setting() {
    let help = help();
    for setting in SETTINGS {
        assert!(help.contains(setting.variable) && help.contains(&setting.flag()));
    }
}
