//! Discovery on Istio's wire format: delta ADS, server and client.
