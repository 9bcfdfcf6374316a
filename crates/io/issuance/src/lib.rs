//! Certificates over gRPC: IstioCertificateService, server and client.
