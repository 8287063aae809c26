//! Certificates of an API server that this agent cannot verify, as openssl makes them: the reason, and what the
//! log says of them.

use std::path::Path;
use std::process::{Command, Stdio};

use wylis_harness::api::write_file;
use wylis_harness::pki::Identity;
use wylis_harness::skip;

use crate::fixture::Fixture;

/// Runs openssl in a folder; the arguments are separated by single spaces.
fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments.split(' ')).stdin(Stdio::null());
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {errors}");
}

fn is_installed() -> bool {
    let found = Command::new("openssl").arg("version").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        skip("no openssl");
    }
    found
}

/// An authority `ca.pem` with a key of this curve, and a certificate `server.pem` of it, with a key of P-256.
fn issue(folder: &Path, curve: &str, digest: &str, ip: &str) {
    let key = |curve: &str| format!("-newkey ec -pkeyopt ec_paramgen_curve:{curve} -nodes");
    let subject = "-subj /CN=kubernetes -days 9999";
    openssl(
        folder,
        &format!("req -x509 {} -keyout ca.key -out ca.pem {subject} -{digest}", key(curve)),
    );
    openssl(
        folder,
        &format!("req {} -keyout server.key -out server.csr -subj /CN=server", key("P-256")),
    );
    write_file(folder, "extensions", &format!("subjectAltName=IP:{ip}\n"));
    openssl(
        folder,
        &format!(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 1 -days 9999 -{digest} \
             -extfile extensions -out server.pem"
        ),
    );
}

/// What the agent says of a server with `server.pem`, when this file is `ca.crt`.
fn refusal(ip: &str, reason: &str, authority: &str, make: impl FnOnce(&Path)) -> Option<String> {
    if !is_installed() {
        return None;
    }
    let mut fixture = Fixture::new(ip);
    let folder = fixture.dir.path().to_owned();
    make(&folder);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    fixture.server.set_identity(&Identity::from_pem(&read("server.pem"), &read("server.key")));
    write_file(&folder, "ca.crt", &read(authority));
    fixture.fails_from_the_start(reason);
    assert_eq!(fixture.server.requests(), 0, "no token is sent");
    Some(fixture.running().log().join("\n"))
}

#[test]
fn an_authority_of_p_521_is_named_as_the_cause() {
    let make = |folder: &Path| issue(folder, "P-521", "sha512", "127.61.40.1");
    let log = refusal("127.61.40.1", "certificate_unsupported", "ca.pem", make);
    assert!(log.is_none_or(|log| log.contains("neither P-521 nor SHA-512 with P-256")));
}

#[test]
fn a_signature_with_sha_512_by_p_256_is_named_as_the_cause() {
    let make = |folder: &Path| issue(folder, "P-256", "sha512", "127.61.41.1");
    let log = refusal("127.61.41.1", "certificate_unsupported", "ca.pem", make);
    assert!(log.is_none_or(|log| log.contains("neither P-521 nor SHA-512 with P-256")));
}

#[test]
fn a_ca_file_with_the_servers_own_certificate_is_explained() {
    let make = |folder: &Path| issue(folder, "P-256", "sha256", "127.61.42.1");
    let log = refusal("127.61.42.1", "tls", "server.pem", make);
    assert!(log.is_none_or(|log| log.contains("ca.crt must hold the authority that issued")));
}

#[test]
fn a_server_that_presents_an_authority_is_explained() {
    let make = |folder: &Path| {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key";
        openssl(
            folder,
            &format!(
                "req -x509 {key} -out server.pem -subj /CN=server -days 9999 \
                 -addext subjectAltName=IP:127.61.43.1"
            ),
        );
    };
    let log = refusal("127.61.43.1", "certificate_unsupported", "server.pem", make);
    assert!(log.is_none_or(|log| log.contains("let it issue a certificate for the server")));
}

#[test]
fn a_supported_certificate_of_openssl_is_accepted() {
    if !is_installed() {
        return;
    }
    let mut fixture = Fixture::new("127.61.44.1");
    let folder = fixture.dir.path().to_owned();
    issue(&folder, "P-384", "sha384", "127.61.44.1");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    fixture.server.set_identity(&Identity::from_pem(&read("server.pem"), &read("server.key")));
    write_file(&folder, "ca.crt", &read("ca.pem"));
    fixture.run_to_first_list();
}
