# Heads of data streams: one framed message each way before the bytes of the exchange.
#
# Compatible with cloudflared: ids, ordinals and sizes are those of its
# tunnelrpc/proto/quic_metadata_protocol.capnp; they are wire format and never change here.
@0xb29021ef7421cc32;

struct ConnectRequest @0xc47116a1045e4061 {
  # URL for http and websocket, "ip:port" for tcp.
  dest @0 :Text;
  type @1 :ConnectionType;
  metadata @2 :List(Metadata);
}

enum ConnectionType @0xc52e1bac26d379c8 {
  http @0;
  websocket @1;
  tcp @2;
}

# Text by type, raw bytes in truth: header values are not always valid UTF-8.
struct Metadata @0xe1446b97bfd1cd37 {
  key @0 :Text;
  val @1 :Text;
}

struct ConnectResponse @0xb1032ec91cef8727 {
  error @0 :Text;
  metadata @1 :List(Metadata);
}
