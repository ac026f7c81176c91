@0xdd42d43300e17294;
# The link between one edge and control. Two-party Cap'n Proto RPC, level 1, unpacked, over a Unix socket
# or over TCP with mutual TLS. The edge dials and keeps one link; control serves EdgeGate as bootstrap.
#
#   edge                                control
#    | attach(edge, receiver) ------------> |      once, at once after connecting
#    | <------------------- snapshot part*  |      always first: the whole snapshot, in order
#    | reportConnections part* -----------> |      everything that lives on this edge
#    | register / unregister / ... -------> |
#    | <-------------- delta | snapshot | disconnect | ping
#    | <------------------------- replaced  |      at most once, and then the link ends
#
# UUIDs are 16 bytes in text order; digests are 32 bytes of SHA-256; times are milliseconds since 1970 UTC.
# Snapshots and deltas are the JSON of control-api's `snapshot` module: they are one contract with the file
# that an edge keeps on its disk.

interface EdgeGate {
  attach @0 (edge :EdgeInfo, receiver :EdgeReceiver) -> (session :EdgeSession);
  # Fails when the name does not match the TLS identity or a limit is reached. A second attach of the same
  # edge name ends the first session; if it is of another run, the first is told who replaced it.
}

struct EdgeInfo {
  name @0 :Text;
  colo @1 :Text;
  region @2 :Text;
  run @3 :Data;
  # UUID made at start of the edge process: tells a restarted edge from a reconnected one.
  generation @4 :UInt64;
  # The newest generation the edge holds (0 = none).
  version @5 :Text;
}

interface EdgeReceiver {
  snapshot @0 (part :SnapshotPart);
  # Parts of one snapshot come in order, `index` 0 to `count` - 1, and never interleave with another's.

  delta @1 (body :Data);

  disconnect @2 (target :Disconnect);
  # Close the named connections: their tunnel is gone, or they live elsewhere.

  ping @3 ();

  replaced @4 (by :EdgeInfo, address :Text);
  # Another process has attached under this edge's name, from `address` (for the log). The link ends after
  # the reply. An edge that comes back does so late, since it replaces the other in turn.
}

struct SnapshotPart {
  generation @0 :UInt64;
  index @1 :UInt32;
  count @2 :UInt32;
  body @3 :Data;
}

struct Disconnect {
  tunnel @0 :Data;
  connector @1 :Data;
  # Empty: every replica of the tunnel.
  connection @2 :Data;
  # Empty: every connection of the replica.
  reason @3 :Text;
}

interface EdgeSession {
  register @0 (connection :Connection, secretDigest :Data) -> (outcome :RegisterOutcome);

  unregister @1 (connection :ConnectionKey) -> ();
  # Unknown connections are accepted in silence: a later one has replaced them.

  reportConnections @2 (connections :List(Connection), first :Bool, last :Bool) -> (rejected :List(Rejection));
  # The full list of living connections in parts. What control knew of this edge and is not in the list is
  # forgotten after the last part. The reply names those that must be closed.

  localConfiguration @3 (tunnel :Data, connector :Data, config :Data) -> ();

  configuration @4 (tunnel :Data) -> (version :Int32, config :Data);
  # The stored remote configuration; version -1 and empty data when the tunnel has none.

  resync @5 (generation :UInt64) -> ();
  # Asks for a full snapshot because a delta did not fit `generation`.

  issueTunnelCertificate @6 (request :Data) -> (certificate :IssuedCertificate);
  # `request` is a PKCS #10 request in DER. Only its public key is used.

  configurationTold @7 (tunnel :Data, connector :Data, state :ConfigurationState) -> ();
  # What became of the remote configuration at one replica. The latest word counts; told again after an attach.
}

struct ConfigurationState {
  applied @0 :Int32;
  # The version in force; -1 for the replica's own.
  refused @1 :Int32;
  # The version it would not take; -1 for none.
  error @2 :Text;
  # Why it would not.
}

struct ConnectionKey {
  tunnel @0 :Data;
  connector @1 :Data;
  index @2 :UInt8;
  connection @3 :Data;
  # UUID of this one QUIC connection, chosen by the edge.
}

struct Connection {
  key @0 :ConnectionKey;
  account @1 :Text;
  version @2 :Text;
  arch @3 :Text;
  features @4 :List(Text);
  originAddress @5 :Text;
  # Address the connector dialled from, without port.
  openedAtMs @6 :UInt64;
}

struct RegisterOutcome {
  union {
    accepted @0 :Accepted;
    refused @1 :Refused;
  }
}

struct Accepted {
  remotelyManaged @0 :Bool;
  configVersion @1 :Int32;
}

struct Refused {
  cause @0 :Text;
  code @1 :Text;
  shouldRetry @2 :Bool;
  retryAfterMs @3 :UInt64;
}

struct Rejection {
  key @0 :ConnectionKey;
  refused @1 :Refused;
}

struct IssuedCertificate {
  chainPem @0 :Text;
  # Leaf first, without the root.
  rootPem @1 :Text;
  notAfterMs @2 :UInt64;
}
