# RPC spoken between edge and connector: registration on the control stream, UDP sessions and
# configuration on streams of their own.
#
# Compatible with cloudflared: file, type and interface ids, ordinals and sizes are those of its
# tunnelrpc/proto/tunnelrpc.capnp; they are wire format and never change here. What is ours says so.
@0xdb8274f9144abc7e;

# ---- Registration -------------------------------------------------------------------------------

struct TunnelAuth @0x9496331ab9cd463f {
  accountTag @0 :Text;
  tunnelSecret @1 :Data;
}

struct ClientInfo @0x83ced0145b2f114b {
  # 16 bytes: one random UUID per connector process.
  clientId @0 :Data;
  # A set; the order means nothing.
  features @1 :List(Text);
  version @2 :Text;
  # "<os>_<architecture>", in Go's words.
  arch @3 :Text;
}

struct ConnectionOptions @0xb4bf9861fe035d04 {
  client @0 :ClientInfo;
  # 4 or 16 bytes, informational.
  originLocalIp @1 :Data;
  replaceExisting @2 :Bool;
  compressionQuality @3 :UInt8;
  numPreviousAttempts @4 :UInt8;
}

struct ConnectionResponse @0xdbaa9d03d52b62dc {
  result :union {
    error @0 :ConnectionError;
    connectionDetails @1 :ConnectionDetails;
  }
}

struct ConnectionError @0xf5f383d2785edb86 {
  cause @0 :Text;
  # Nanoseconds.
  retryAfter @1 :Int64;
  shouldRetry @2 :Bool;
}

struct ConnectionDetails @0xb5f39f082b9ac18a {
  # Exactly 16 bytes.
  uuid @0 :Data;
  locationName @1 :Text;
  tunnelIsRemotelyManaged @2 :Bool;
}

interface RegistrationServer @0xf71695ec7fe85497 {
  registerConnection @0 (auth :TunnelAuth, tunnelId :Data, connIndex :UInt8, options :ConnectionOptions)
      -> (result :ConnectionResponse);
  unregisterConnection @1 () -> ();
  # JSON of the configuration that the connector runs with.
  updateLocalConfiguration @2 (config :Data) -> ();
}

# ---- Ours: served by an edge of ours beside RegistrationServer, on the same capability -------------

struct RuleHealth @0xb590f5243e54d39a {
  # As in the rule; empty for every name.
  hostname @0 :Text;
  # Whether the rule takes only some paths of the name.
  hasPath @1 :Bool;
  # Whether checks of every address of its origin fail.
  isDown @2 :Bool;
  # The expression for these paths; empty where the connector does not say, or it is too long.
  path @3 :Text = "";
}

interface OriginHealthServer @0xcd818d64d83c2b75 extends (RegistrationServer) {
  # Rules in the order of the ingress, up to the last one that is down; a revision that is not above the last is old.
  updateOriginHealth @0 (revision :UInt64, rules :List(RuleHealth)) -> ();
}

# ---- UDP sessions (datagram v2) and remote configuration ----------------------------------------

struct RegisterUdpSessionResponse @0xab6d5210c1f26687 {
  err @0 :Text;
  spans @1 :Data;
}

interface SessionManager @0x839445a59fb01686 {
  # sessionId: 16 bytes; dstIp: 4 or 16 bytes; closeAfterIdleHint: nanoseconds.
  registerUdpSession @0 (sessionId :Data, dstIp :Data, dstPort :UInt16, closeAfterIdleHint :Int64,
      traceContext :Text = "") -> (result :RegisterUdpSessionResponse);
  unregisterUdpSession @1 (sessionId :Data, message :Text) -> ();
}

struct UpdateConfigurationResponse @0xdb58ff694ba05cf9 {
  latestAppliedVersion @0 :Int32;
  err @1 :Text;
}

interface ConfigurationManager @0xb48edfbdaa25db04 {
  updateConfiguration @0 (version :Int32, config :Data) -> (result :UpdateConfigurationResponse);
}

# What a connector serves on RPC streams that the edge opens.
interface CloudflaredServer @0xf548cef9dea2a4a1 extends (SessionManager, ConfigurationManager) {}

# ---- Legacy: no current connector calls these ---------------------------------------------------

struct Authentication @0xc082ef6e0d42ed1d {
  key @0 :Text;
  email @1 :Text;
  originCAKey @2 :Text;
}

struct TunnelRegistration @0xf41a0f001ad49e46 {
  err @0 :Text;
  url @1 :Text;
  logLines @2 :List(Text);
  permanentFailure @3 :Bool;
  tunnelID @4 :Text;
  retryAfterSeconds @5 :UInt16;
  eventDigest @6 :Data;
  connDigest @7 :Data;
}

struct RegistrationOptions @0xc793e50592935b4a {
  clientId @0 :Text;
  version @1 :Text;
  os @2 :Text;
  existingTunnelPolicy @3 :ExistingTunnelPolicy;
  poolName @4 :Text;
  tags @5 :List(Tag);
  connectionId @6 :UInt8;
  originLocalIp @7 :Text;
  isAutoupdated @8 :Bool;
  runFromTerminal @9 :Bool;
  compressionQuality @10 :UInt64;
  uuid @11 :Text;
  numPreviousAttempts @12 :UInt8;
  features @13 :List(Text);
}

enum ExistingTunnelPolicy @0x84cb9536a2cf6d3c {
  ignore @0;
  disconnect @1;
  balance @2;
}

struct ServerInfo @0xf2c68e2547ec3866 {
  locationName @0 :Text;
}

struct AuthenticateResponse @0x82c325a07ad22a65 {
  permanentErr @0 :Text;
  retryableErr @1 :Text;
  jwt @2 :Data;
  hoursUntilRefresh @3 :UInt8;
}

struct Tag @0xcbd96442ae3bb01a {
  name @0 :Text;
  value @1 :Text;
}

interface TunnelServer @0xea58385c65416035 extends (RegistrationServer) {
  registerTunnel @0 (originCert :Data, hostname :Text, options :RegistrationOptions)
      -> (result :TunnelRegistration);
  getServerInfo @1 () -> (result :ServerInfo);
  unregisterTunnel @2 (gracePeriodNanoSec :Int64) -> ();
  obsoleteDeclarativeTunnelConnect @3 () -> ();
  authenticate @4 (originCert :Data, hostname :Text, options :RegistrationOptions)
      -> (result :AuthenticateResponse);
  reconnectTunnel @5 (jwt :Data, eventDigest :Data, connDigest :Data, hostname :Text,
      options :RegistrationOptions) -> (result :TunnelRegistration);
}
