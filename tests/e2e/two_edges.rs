//! Two edges of one control, and replicas that are connected to both.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::site::edge::{Edge, EdgeSettings};
use adit_tests::site::{HOST, Site, is_error_page};
use adit_tests::visitor::curl::Curl;

/// Visits of one edge: a choice between two replicas by chance would not be right so often.
const VISITS: usize = 30;

/// A replica tells over one connection per edge what it serves, whichever edge its first connection is at.
fn each_edge_knows_which_replica_serves_a_hostname(io: IoMode) {
    let site = Site::start(io);
    let second = Edge::start(EdgeSettings {
        folder: site.folder().join("second"),
        name: "second".to_owned(),
        ..site.edge.settings().clone()
    });
    let edges = [&site.edge, &second];
    let tunnel = site.tunnel("lab");
    let replicas = [HOST, "other.test"].map(|host| {
        let rules =
            format!("  - {{hostname: {host}, service: 'http_status:204'}}\n  - service: http_status:404\n");
        let mut settings = site.connector(&tunnel).ingress(&rules);
        settings.edges = edges.map(|edge| edge.addresses.tunnel).to_vec();
        let replica = settings.start();
        replica.wait_connections(2);
        replica
    });
    let visit = |edge: &Edge| {
        Curl::get(&format!("http://{HOST}/"))
            .connect_to(edge.http())
            .run()
    };
    for edge in edges {
        deadline::until_true("the edge to serve the hostname", deadline::STEP, || {
            let answer = visit(edge);
            !is_error_page(&answer) && answer.status == 204
        });
    }
    for replica in &replicas {
        deadline::until_true("both edges to be told", deadline::STEP, || {
            replica
                .metrics()
                .sum("cloudflared_config_local_config_pushes", &[])
                > 1.5
        });
    }
    for edge in edges {
        let statuses = (0..VISITS).map(|_| visit(edge).status);
        assert_eq!(
            statuses.collect::<Vec<_>>(),
            [204; VISITS],
            "{}",
            edge.settings().name
        );
    }
}

adit_tests::in_both_modes!(each_edge_knows_which_replica_serves_a_hostname);
