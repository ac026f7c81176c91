//! The SDK that Cloudflare publishes for Python, unchanged, against the API of control.

use std::path::PathBuf;

use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::process::command;
use adit_tests::site::connector::Credentials;
use adit_tests::site::{HOST, Site};

/// What somebody writes who automates tunnels: every object of the SDK that control has.
const SCRIPT: &str = "
import base64, sys, cloudflare
api, account, token = sys.argv[1:4]
client = cloudflare.Cloudflare(base_url=api, api_token=token, max_retries=0)
tunnels = client.zero_trust.tunnels.cloudflared
step = sys.argv[4]
if step == 'make':
    made = tunnels.create(account_id=account, name='by-sdk', config_src='cloudflare')
    given = base64.b64encode(bytes(range(32))).decode()
    own = tunnels.create(account_id=account, name='own-secret', tunnel_secret=given)
    assert [tunnel.name for tunnel in tunnels.list(account_id=account, is_deleted=False)] == ['by-sdk', 'own-secret']
    assert [tunnel.id for tunnel in tunnels.list(account_id=account, include_prefix='by-')] == [made.id]
    assert [tunnel.name for tunnel in tunnels.list(account_id=account, per_page=1)] == ['by-sdk', 'own-secret']
    try:
        list(tunnels.list(account_id=account, status='down'))
        raise AssertionError('a filter that is not known was taken')
    except cloudflare.BadRequestError as error:
        assert 'unknown field' in str(error), error
    rules = [{'hostname': sys.argv[5], 'service': 'http_status:204'}, {'service': 'http_status:404'}]
    stored = tunnels.configurations.update(tunnel_id=made.id, account_id=account, config={'ingress': rules})
    assert stored.version == 1, stored
    read = tunnels.configurations.get(tunnel_id=made.id, account_id=account)
    assert read.config.ingress[0].service == 'http_status:204', read
    assert tunnels.management.create(tunnel_id=made.id, account_id=account, resources=['logs']).count('.') == 2
    tunnels.delete(tunnel_id=own.id, account_id=account)
    print(made.id, tunnels.token.get(tunnel_id=made.id, account_id=account))
else:
    made = next(iter(tunnels.list(account_id=account, name='by-sdk')))
    clients = list(tunnels.connections.get(tunnel_id=made.id, account_id=account))
    assert sum(len(client.conns) for client in clients) == int(sys.argv[5]), clients
    tunnels.connections.delete(tunnel_id=made.id, account_id=account)
";

/// The interpreter that has the SDK, if there is one.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("PYTHON_PROGRAMS")?).join("bin/python3");
    let mut asked = std::process::Command::new(&python);
    let has_sdk = asked.args(["-c", "import cloudflare"]).output();
    has_sdk.is_ok_and(|done| done.status.success()).then_some(python)
}

fn tunnels_are_made_and_looked_after_by_the_sdk(io: IoMode) {
    let Some(python) = python() else {
        return binary::skipped(
            "tunnels_are_made_and_looked_after_by_the_sdk",
            "PYTHON_PROGRAMS has no package cloudflare",
        );
    };
    let site = Site::start(io);
    let credential = site.control.credential();
    let field = |name: &str| credential[name].as_str().expect("a text").to_owned();
    let run = |arguments: [&str; 2]| {
        let mut script = command(&python);
        script.args(["-c", SCRIPT, site.control.api()]);
        binary::succeed(
            script
                .args([field("accountID"), field("apiToken")])
                .args(arguments),
        )
    };
    let made = run(["make", HOST]);
    let (id, token) = made.trim().split_once(' ').expect("an id and a token");
    let tunnel = adit_tests::site::control::Tunnel {
        id: id.parse().expect("an id"),
        name: "by-sdk".to_owned(),
        credentials: PathBuf::new(),
    };
    site.control.route(&tunnel, HOST);
    let connector = site
        .connector(&tunnel)
        .credentials(Credentials::Token(token.to_owned()))
        .start();
    connector.wait_connections(4);
    deadline::until_true("the rules of the SDK to serve", deadline::STEP, || {
        site.visit("/").run().status == 204
    });
    run(["close", "4"]);
    connector.wait_connections(4);
}

adit_tests::in_both_modes!(tunnels_are_made_and_looked_after_by_the_sdk);
