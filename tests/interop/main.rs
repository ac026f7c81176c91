//! Real cloudflared against our edge.
